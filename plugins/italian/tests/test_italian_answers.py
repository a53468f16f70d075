"""Free text in Italian: what is asked, and what the prompts of the Language Confusion Benchmark are read from."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from langadapt import Answer, Document, Item, Rejected
from langadapt.inputs import find_input
from langadapt.plugins import registry
from langadapt.recipe import CorpusRef
from langadapt_italian import corpora, evaluations, language_confusion
from langadapt_italian.language import FUNCTION_WORDS

BY_NAME = {corpus.name: corpus for corpus in corpora.CORPORA}
FREE = {e.name: e for e in evaluations.EVALUATIONS if e.method == "generate"}
ASKED = {
    name: [*evaluation.items(BY_NAME[evaluation.corpus].sample)]
    for name, evaluation in FREE.items()
    if BY_NAME[evaluation.corpus].sample
}


@pytest.mark.parametrize(("name", "count"), [("answers-it", 40), ("answers-en-it", 24), ("translation-en-it", 24)])
def test_samples_are_read_whole(name: str, count: int) -> None:
    items = ASKED[name]
    assert len(items) == count == len({item.id for item in items}) and all(isinstance(i, Item) for i in items)
    assert all(item.gold.strip() and item.messages[-1].role == "user" for item in items)
    assert len({item.messages[0].context or item.messages[0].content for item in items}) == count


@pytest.mark.parametrize("name", ASKED)
def test_what_is_bundled_is_asked_in_real_runs_too(name: str, tmp_path: Path) -> None:
    ref, known = CorpusRef(name=FREE[name].corpus, held_out=0), registry()
    bundled = find_input(ref, known, language="it", data={}, rehearsal=False, pinned={})
    assert not bundled.in_the_way(FREE[name]) and bundled.path == BY_NAME[ref.name].sample
    own = find_input(ref, known, language="it", data={ref.name: str(tmp_path)}, rehearsal=False, pinned={})
    assert own.path == tmp_path


@pytest.mark.parametrize("name", ASKED)
def test_what_people_wrote_is_italian_and_sound(name: str) -> None:
    people = [Answer(item=item, text=item.gold, prediction=item.gold) for item in ASKED[name]]
    values = FREE[name].score(people)
    assert values["line_pass_rate"] == values["line_accuracy"] == values["word_pass_rate"] == 1
    assert values["skipped"] < 0.1 and values["rep_4"] < 0.02 and values["zlib_ratio"] > 0.45
    assert values["mojibake"] == values["empty"] == values["unfinished"] == values["repeated_lines"] == 0
    assert values["chrf2"] == values["chrf2++"] == pytest.approx(100) == values["bleu"]


@pytest.mark.parametrize("name", ["answers-en-it", "translation-en-it"])
def test_english_in_the_place_of_italian_fails(name: str) -> None:
    english = [i for i in ASKED[name] if len(i.messages[0].context.split()) >= 9]
    values = FREE[name].score([Answer(item=i, text=i.messages[0].context, prediction="") for i in english])
    assert len(english) > 5 and values["line_pass_rate"] < 0.1 and values["chrf2"] < 35


def test_words_that_tell_english_are_in_lower_case_and_no_italian_ones() -> None:
    words = evaluations.ENGLISH_WORDS
    assert set(words).isdisjoint({*FUNCTION_WORDS, "a", "an", "do", "i", "in", "me", "no", "or", "so", "come", "per"})
    assert len(set(words)) == len(words) and all(word == word.lower() for word in words)


ROWS = {
    "monolingual/okapi": ["Spiegare un comune equivoco.\nArgomento: l'energia", "Quali sono i vantaggi?"],
    "crosslingual/okapi": ['Reply in Italian. What does "Gini" mean?'],
    "crosslingual/sharegpt": ["What is rain. Write in Italian.", ""],
}


@pytest.fixture
def test_sets(tmp_path: Path) -> Path:
    for place, prompts in ROWS.items():
        folder = tmp_path / "test_sets" / place
        folder.mkdir(parents=True)
        for tag in ("it", "fr"):
            with (folder / f"{tag}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([["prompt", "source", "language"], *([p, "x", tag] for p in prompts)])
    return tmp_path / "test_sets"


@pytest.mark.parametrize("task", language_confusion.TASKS)
def test_prompts_of_the_benchmark_are_asked_as_they_are(test_sets: Path, task: str) -> None:
    items = [*FREE[f"language-confusion-it-{task}"].items(test_sets / task)]
    asked = {i.id.rpartition("/")[0]: i.messages[0].content for i in items if isinstance(i, Item)}
    wanted = {place: prompts[-1] or prompts[0] for place, prompts in ROWS.items() if task in place}
    assert asked == wanted and all(i.gold == "" for i in items if isinstance(i, Item))
    refused = [i for i in items if isinstance(i, Rejected)]
    assert [i.where for i in refused] == (["it.csv:3"] if task == "crosslingual" else [])


def test_both_tasks_are_read_from_the_whole(test_sets: Path) -> None:
    found = [*language_confusion.read(test_sets)]
    assert (
        sum(isinstance(d, Document) for d in found) == 4 and len({d.id for d in found if isinstance(d, Document)}) == 4
    )


def test_figures_of_the_benchmark_are_means_over_its_sources() -> None:
    texts = {
        "okapi/2": "The weather is very nice here today.",
        "okapi/3": "The weather is very nice here today.",
        "okapi/4": "Il tempo oggi qui è davvero molto bello.",
        "sharegpt/2": "Il tempo oggi qui è davvero molto bello.",
    }
    answers = [Answer(item=Item(id=id, messages=(), gold=""), text=t, prediction=t) for id, t in texts.items()]
    values = FREE["language-confusion-it-crosslingual"].score(answers)
    assert values["line_pass_rate"] == pytest.approx((1 / 3 + 1) / 2) and "chrf2" not in values
