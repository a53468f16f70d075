"""`langadapt corpus preview`: what a corpus is and how its documents look, before anything is made of it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from langadapt.cli import cli
from langadapt.errors import UserError
from langadapt.plugins import registry


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["corpus", "preview", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("name", sorted(n for n in registry().corpora if registry().corpora[n].sample))
def test_every_registered_corpus_shows_examples(name):
    seen = json.loads(run(name, "--json", "--count", "2"))
    assert len(seen["documents"]) == 2 and seen["refused"] == {}
    assert seen["where"] == "sample" and seen["licence"] and seen["description"]


def test_a_task_shows_what_is_asked_and_what_is_right():
    text = run("evalita-2023/nermud", "--count", "1")
    assert "nermud/ADG_train" in text and "assistant:" in text
    assert "asked by nermud (test)" in text and "right:" in text
    assert "github.com/dhfbk/KIND" in text.replace("\n", "")


def test_choices_are_shown_by_the_number_that_the_right_one_has():
    text = run("grammar-it", "--count", "1")
    assert {"0: ", "1: "} <= {line.strip()[:3] for line in text.splitlines()}


def test_files_of_ones_own_are_shown_with_what_is_refused(write):
    path = write("mine.jsonl", '{"text": "Una casa."}\n{"txt": 1}\n{"text": "Due case."}\n')
    seen = json.loads(run(str(path), "--json"))
    assert [d["text"] for d in seen["documents"]] == ["Una casa.", "Due case."]
    assert seen["refused"] == {"no text": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clean-mc4-ti"], 'did you mean "clean-mc4-it"?'),
        (["nowhere/*.jsonl"], "no such file"),
        (["clean-mc4-it", "--config", "smal"], 'has no config "smal"; did you mean "small"?'),
    ],
)
def test_what_is_not_there_is_said(arguments, said):
    with pytest.raises(UserError) as error:
        CliRunner().invoke(cli, ["corpus", "preview", *arguments], catch_exceptions=False)
    assert said in str(error.value)
