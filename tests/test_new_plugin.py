"""`langadapt new-plugin` writes a plugin that passes every check and can be rehearsed, or nothing at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from test_conformance import own_path

from langadapt import Recipe
from langadapt.corpus.reading import read_documents
from langadapt.errors import UserError
from langadapt.new_plugin import LEAST, Wish, sample_of, write
from langadapt.testing.conformance import conform
from langadapt.testing.finding import find

PYTHON = [sys.executable, "-m", "langadapt"]

# Sentences of parts whose numbers have no common divisor, so that neighbours share none and no sentence comes twice.
SUBJECTS = (
    "Der Bäcker", "Die Lehrerin", "Mein Nachbar", "Das alte Schiff", "Ihre Schwester", "Der kleine Hund", "Die Köchin",
    "Ein Fremder", "Unser Arzt", "Die Gärtnerin", "Der Wind", "Das Kind", "Eine Katze",
)  # fmt: skip
VERBS = ("wartet", "arbeitet", "schläft", "singt", "ruht", "bleibt", "lacht", "schweigt", "sitzt", "friert", "träumt")
PLACES = (
    "am Ufer", "hinter dem Haus", "auf dem Markt", "neben der Mühle", "in der Stadt", "unter den Bäumen", "vor dem Tor",
    "im Garten", "an der Brücke", "zwischen zwei Feldern", "über dem Tal", "bei den Ziegen", "im Keller", "auf der Treppe",
    "gegenüber der Schule", "am Brunnen", "im Schatten",
)  # fmt: skip
ENDS = (
    "bis der Regen nachlässt", "wenn alle gehen", "ohne ein Wort", "obwohl es kalt wird", "weil niemand fragt",
    "und zählt die Wolken", "seit dem frühen Morgen", "trotz der Müdigkeit", "als wäre nichts geschehen", "mit einem Korb",
    "und denkt an gestern", "während die Glocken läuten", "fast jeden Abend", "so lange es geht", "und hofft auf Post",
    "wie im letzten Jahr", "aus reiner Freude", "damit es still bleibt", "kurz vor der Ernte", "bei offenem Fenster",
    "nach einer langen Reise", "und niemand weiß warum", "zum ersten Mal",
)  # fmt: skip


def sentences(number: int = 420) -> list[str]:
    parts = (SUBJECTS, VERBS, PLACES, ENDS)
    chosen = ([part[n % len(part)] for part in parts] for n in range(number))
    return [f"{subject} {verb} {place}, {end}." for subject, verb, place, end in chosen]


@pytest.fixture
def german(tmp_path: Path) -> Path:
    """A text, hard-wrapped as a person may have it."""
    file = tmp_path / "text.txt"
    file.write_text(textwrap.fill(" ".join(sentences()), 80), encoding="utf-8")
    return file


def wish(**fields) -> Wish:
    return Wish(**{"plugin": "german", "language": "de", "name": "German", "autonym": "Deutsch"} | fields)


def test_a_plugin_of_an_authors_text_passes_every_check(german: Path, tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(text=german, licence="CC0-1.0"), folder)
    with own_path():
        (subject,) = find(folder)
        result = conform(subject)
    assert [str(fault) for fault in result.faults] == []
    assert not [case for case in result.left_out if "sample" in case], "the text's language and script are checked"
    assert result.checked > 90


def test_a_plugin_without_a_text_passes_too_and_says_that_its_samples_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(), folder)
    with own_path():
        (subject,) = find(folder)
        result = conform(subject)
    assert [str(fault) for fault in result.faults] == []
    reasons = {reason for case, reason in result.left_out.items() if case.startswith("corpus-sample-language")}
    assert reasons == {"the sample is a placeholder (zxx): put text in de in its place"}


def test_its_own_tests_pass_and_its_code_is_formatted(tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-swiss-german"
    write(wish(plugin="swiss-german", language="gsw"), folder)
    site = tmp_path / "site" / "langadapt_swiss_german-0.1.0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: langadapt-swiss-german\nVersion: 0.1.0\nRequires-Dist: langadapt>=0.1\n"
    )
    (site / "entry_points.txt").write_text("[langadapt]\nswiss-german = langadapt_swiss_german\n")
    path = f"{site.parent}:{folder / 'src'}"
    done = python("pytest", "-q", "-p", "no:cacheprovider", "tests", folder=folder, path=path)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout and "failed" not in done.stdout
    for arguments in (("check",), ("format", "--check")):
        done = python("ruff", *arguments, "--no-cache", ".", folder=folder)
        assert done.returncode == 0, done.stdout


def python(module: str, *arguments: str, folder: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    known = os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"PYTHONPATH": f"{path}:{known}" if path else known, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.nightly
def test_it_is_rehearsed(german: Path, tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(text=german), folder)
    with own_path():
        find(folder)
        run = Recipe.load("german/small").rehearse().execute(tmp_path / "run")
    assert run.state["status"] == "done"
    pairs = [row for row in run.rows if row["task"] == "german-word-order" and row["metric"] == "acc"]
    assert pairs and all(row["value"] is not None for row in pairs)


# --- what is made of a text ---


def test_a_text_is_cut_into_samples_that_have_no_sentence_in_common(german: Path) -> None:
    sample = sample_of(wish(text=german))
    known = set(sentences())
    prose = [s for row in sample.prose for s in split(row["text"])]
    asked = [s for row in sample.instructions for s in split(f"{row['instruction']} {row['output']}")]
    right = [row["text"] for row in sample.pairs]
    assert set(prose) | set(asked) | set(right) <= known
    assert not set(prose) & set(asked) and not set(prose) & set(right) and not set(asked) & set(right)
    assert all(len(row["text"].split()) >= 30 for row in sample.prose)


def split(text: str) -> list[str]:
    return [f"{part.strip()}." for part in text.split(".") if part.strip()]


def test_pairs_differ_in_the_order_of_two_words_alone(german: Path) -> None:
    pairs = sample_of(wish(text=german)).pairs
    assert len(pairs) > 20
    for row in pairs:
        right, wrong = row["text"].split(), row["wrong"].split()
        places = [n for n, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b]
        assert len(places) == 2 and places[1] == places[0] + 1
        assert (right[places[0]], right[places[1]]) == (wrong[places[1]], wrong[places[0]])


def test_function_words_and_thresholds_are_those_of_the_text(german: Path) -> None:
    sample = sample_of(wish(text=german))
    assert {"der", "die", "dem"} <= set(sample.function_words)
    text = " ".join(row["text"] for row in sample.prose)
    letters = [w.strip(",.") for w in text.split()]
    mean = sum(map(len, letters)) / len(letters)
    assert sample.thresholds["min_word_length"] < 0.75 * mean and sample.thresholds["max_word_length"] > 1.25 * mean
    assert sample.thresholds["end_punctuation"] == 0.12


def test_the_filter_of_the_recipe_keeps_the_sample(german: Path, tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(text=german), folder)
    with own_path():
        (subject,) = find(folder)
        step = subject.known.filters["fineweb2"]
        made = step.make({**step.options, "min_words": 20}, subject.language)
        outcomes = [made(d) for d in read_documents(str(subject.known.corpora["german-wikipedia"].sample))]
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == []


def test_letters_are_words_where_there_are_no_blanks(tmp_path: Path) -> None:
    signs = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜"
    file = tmp_path / "text.txt"
    turned = (signs[n % len(signs) :] + signs[: n % len(signs)] for n in range(len(signs)))
    file.write_text("".join(f"{line[:20]}。{line[20:]}。" for line in turned) * 3, encoding="utf-8")
    sample = sample_of(wish(plugin="classical", language="lzh", script="Hant", text=file))
    assert len(sample.prose) >= 15 and all(" " not in row["text"] for row in sample.prose)


# --- refusals ---


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"plugin": "ba sque"}, '"ba sque" cannot be part of a distribution\'s name'),
        ({"plugin": "Basque"}, "cannot be part of a distribution's name"),
        ({"plugin": "basque.small"}, "cannot be part of a distribution's name"),
        ({"plugin": "../basque"}, "cannot be part of a distribution's name"),
        ({"language": "german"}, '"german" is no BCP-47 tag'),
        ({"source_language": "English"}, '"English" is no BCP-47 tag'),
        ({"language": "en"}, "the language and the source language are both en"),
        ({"script": "Latin"}, '"Latin" is no ISO 15924 code'),
        ({"language": "it"}, "italian (langadapt-italian"),
        ({"text": Path("no-such-file.txt")}, "no-such-file.txt cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(fields: dict, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "place" / "plugin"
    with pytest.raises(UserError) as error:
        write(wish(**fields), folder)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("content", "said"), [(b"Ein Satz.\n", "are needed"), (b"Gr\xfc\xdfe", "is not UTF-8 (byte 2)")]
)
def test_a_text_that_is_too_short_or_no_text_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        write(wish(text=file), tmp_path / "plugin")
    assert said in str(error.value) and str(file) in str(error.value)
    assert not (tmp_path / "plugin").exists()


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; say another one with --folder"):
        write(wish(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"plugin cannot be written: .*; say another place"):
        write(wish(), tmp_path / "file" / "plugin")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    files = write(wish(), tmp_path)
    assert all(file.is_file() for file in files) and (tmp_path / "pyproject.toml") in files


# --- the command ---


def test_the_command_writes_what_its_options_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "new-plugin", "basque", "--language", "eu", "--autonym", "euskara"],
        capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pip install --editable langadapt-basque" in done.stdout
    project = tomllib.loads((tmp_path / "langadapt-basque" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "langadapt-basque" and project["dependencies"] == ["langadapt>=0.1", "regex"]
    rows = (tmp_path / "langadapt-basque/src/langadapt_basque/samples/prose.jsonl").read_text().splitlines()
    assert len(rows) >= LEAST // 2 and all(json.loads(row)["text"] for row in rows)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["langadapt-basque"]


def test_the_command_asks_for_nothing_where_nobody_can_answer(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "new-plugin", "basque"], capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr
        == "langadapt: nobody can be asked here which language it is for; say it by its BCP-47 tag: --language eu\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_command_asks_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from langadapt.commands import new_plugin as command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "on_terminal", lambda: True)
    answers = "eu\nBasque\neuskara\n\n\n\n"
    done = CliRunner().invoke(command.new_plugin, ["basque"], input=answers)
    assert done.exit_code == 0, done.output
    assert 'autonym="euskara"' in (tmp_path / "langadapt-basque/src/langadapt_basque/language.py").read_text()
