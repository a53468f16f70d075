"""The plugin's evaluations, planted in text: all of them are found, and nothing else is."""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from langadapt import Document, Item
from langadapt.corpus.contamination import Index
from langadapt.corpus.questions import Asked, build
from langadapt.corpus.words import Words
from langadapt.recipe import Decontamination
from langadapt_italian import corpora, evalita, evaluations
from langadapt_italian.corpora import SAMPLES

REAL = Path(__file__).parents[4] / "shared" / "data" / "text"
ASKED = (*evalita.EVALUATIONS, *(e for e in evaluations.EVALUATIONS if "generation-it" in e.suites))
BY_NAME = {corpus.name: corpus for corpus in (*corpora.CORPORA, *evalita.CORPORA)}
QUESTIONS = [
    (evaluation.name, item)
    for evaluation in ASKED
    for item in evaluation.items(BY_NAME[evaluation.corpus].sample)
    if isinstance(item, Item)
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    asked: dict[str, list[Item]] = {}
    for name, item in QUESTIONS:
        asked.setdefault(name, []).append(item)
    folder = tmp_path_factory.mktemp("index")
    evaluations = [Asked(evaluation=name, items=items) for name, items in asked.items()]
    return Index(build(evaluations, Decontamination(), folder))


def prose() -> Iterator[str]:
    for line in (SAMPLES / "prose.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["text"]


def as_asked(item: Item) -> str:
    return "\n".join(part for m in item.messages for part in (m.content, m.context) if part)


def material(item: Item) -> str:
    """What the question is about, as a page would have it that the task's texts were taken from."""
    return "\n".join(m.context or m.content for m in item.messages)


def in_capitals_and_pieces(item: Item) -> str:
    return unicodedata.normalize("NFD", " … ".join(as_asked(item).split())).upper()


@pytest.mark.parametrize("planted", [as_asked, material, in_capitals_and_pieces])
def test_every_planted_question_is_found(index: Index, planted: Callable[[Item], str]) -> None:
    pages = cycle(prose())
    missed = [
        f"{name}: {item.id}"
        for name, item in QUESTIONS
        if name
        not in {found.evaluation for found in index.leaks(Words.of(f"{next(pages)}\n{planted(item)}\n{next(pages)}"))}
    ]
    assert missed == []


def test_the_training_rows_of_a_task_do_not_match_its_test_set(index: Index) -> None:
    for corpus in evalita.CORPORA:
        for document in corpus.read(corpus.sample):
            if isinstance(document, Document):
                assert index.leaks(Words.of(document.content)) == [], document.id


def test_answers_of_people_are_looked_for(index: Index) -> None:
    names = {name for name, _ in QUESTIONS if name.endswith("-it")}
    assert names == {"answers-it", "answers-en-it", "translation-en-it"}
    for name, item in QUESTIONS:
        if name in names and len(item.gold.split()) > 15:
            assert name in {found.evaluation for found in index.leaks(Words.of(f"Prima.\n{item.gold}\nDopo."))}, item.id


def test_the_samples_hold_no_question(index: Index) -> None:
    for text in prose():
        assert index.leaks(Words.of(text)) == []
    trained = ("dialogues", "instructions", "ita-instructions", "parallel", "preferences", "ultrachat", "web-english")
    for name in trained:
        for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            assert index.leaks(Words.of("\n".join(strings(json.loads(line))))) == [], line


def strings(value: object) -> Iterator[str]:
    """Every text in a row of whatever layout."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real text at hand")
def test_no_question_is_found_in_real_text(index: Index) -> None:
    """15 MB of documentation in four languages and of fiction in two."""
    for file in sorted(REAL.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                text = row.get("text") or f"{row['it']}\n{row['en']}"
                assert index.leaks(Words.of(text)) == [], text
