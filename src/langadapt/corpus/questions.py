"""An index of what evaluations ask, by runs of words, that documents are looked up in.

What the questions of an evaluation have in common is its instruction and is left out, so that the training rows of a task
do not match its test set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from langadapt import artifacts
from langadapt.corpus.words import Words, grams
from langadapt.records import Document, Item, Rejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langadapt.corpus.words import Hashes, Places
    from langadapt.recipe import Decontamination

INDEX = "index.json"  # of an index: its options, and how much of each evaluation is in it
MOST_TEXT = 64_000_000  # characters of an evaluation of running text that are indexed
ANYWHERE = 4  # words that a whole question needs to be looked for within lines; a shorter one must be a line of its own
LONGEST_WHOLE = 1000  # words of a question that is looked for as it stands: one of which every part is a common one
COMMON, COMMON_SHARE = 3, 0.05  # an n-gram in more questions than both of these is part of the instruction
LABEL = 8  # words that a label at the start of a line has at most, as in "Frase 1:"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an evaluation asks or scores.

    Attributes:
        evaluation: its name.
        items: questions, or the documents of a text that is scored.
    """

    evaluation: str
    items: Iterable[Item | Document | Rejected]


@dataclass
class _Text:
    """A text of an item as words.

    Attributes:
        words: their hashes.
        labels: what stands before a colon at the start of a line: its first word, the one after it, and their hashes.
        own: which words are not the evaluation's instruction.
        material: whether it is what a question is about, and not the question.
    """

    words: Hashes
    own: NDArray[np.bool_]
    labels: Sequence[tuple[int, int, bytes]] = ()
    material: bool = False


@dataclass
class _Item:
    id: str
    questions: list[_Text]
    answers: list[_Text] = field(default_factory=list)


class _Tables:
    """The arrays of an index while it is made.

    Attributes:
        items: evaluation and id of each.
        grams: hashes of the n-grams of each passage; a passage is a text that one or more items have.
        places: where in the passage they are.
        members: numbers of the items that have it.
        wholes: hash, item, and number of words of what is looked for as it is.
    """

    def __init__(self, n: int):
        self.n = n
        self.items: list[tuple[str, str]] = []
        self.grams: list[Hashes] = []
        self.places: list[Places] = []
        self.members: list[list[int]] = []
        self.wholes: set[tuple[int, int, int]] = set()
        self._passages: dict[bytes, int] = {}

    def take_up(self, item: int, text: _Text) -> bool:
        """Takes up the n-grams of a text's own words, if there are any."""
        places = _own_grams(text.own, self.n)
        if not len(places):
            return False
        key = text.words.tobytes() + text.own.tobytes()
        number = self._passages.setdefault(key, len(self.members))
        if number == len(self.members):
            self.members.append([])
            self.grams.append(grams(text.words, self.n)[places])
            self.places.append(places)
        self.members[number].append(item)
        return True

    def take_up_whole(self, item: int, words: Hashes) -> None:
        """Takes up words that are looked for as they stand."""
        self.wholes.add((int(grams(words, len(words))[0]), item, len(words)))


def build(asked: Iterable[Asked], options: Decontamination, folder: Path) -> Path:
    """Writes the index of all evaluations into a folder, and returns the folder.

    Args:
        asked: the evaluations; their items are read once.
        options: n-gram and limits.
        folder: made if it is not there.
    """
    tables = _Tables(options.ngram)
    evaluations = {a.evaluation: _add(a, tables) for a in asked}
    folder.mkdir(parents=True, exist_ok=True)
    _write(tables, folder)
    limits = options.model_dump(include={"ngram", "longest", "coverage", "action"})
    artifacts.write_json(folder / INDEX, {**limits, "evaluations": evaluations})
    return folder


def _write(tables: _Tables, folder: Path) -> None:
    sizes = [len(places) for places in tables.places]
    hashes = np.concatenate([np.zeros(0, np.uint64), *tables.grams])
    order = np.argsort(hashes, kind="stable")
    wholes = np.array(sorted(tables.wholes), dtype=np.uint64).reshape(-1, 3)
    owners = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
    places = np.concatenate([np.zeros(0, np.int64), *tables.places]).astype(np.uint32)
    for name, array in {
        "grams": hashes[order],
        "owners": owners[order],
        "places": places[order],
        "covered": np.array([covered(places, tables.n) for places in tables.places], dtype=np.uint32),
        "wholes": wholes,
        "seen": _filter(hashes),
        "seen_wholes": _filter(wholes[:, 0]),
    }.items():
        np.save(folder / f"{name}.npy", array)
    artifacts.write_json(folder / "items.json", {"items": tables.items, "members": tables.members})


def _filter(hashes: Hashes) -> NDArray[np.bool_]:
    """By the first bits of a hash, whether there is one like it: as small as fits into a processor's own memory."""
    bits = min(max(17, len(hashes).bit_length() + 3), 27)
    seen = np.zeros(1 << bits, np.bool_)
    seen[hashes >> np.uint64(64 - bits)] = True
    return seen


def _add(asked: Asked, tables: _Tables) -> dict[str, int]:
    """Takes up an evaluation, and counts its items, those with nothing to be found by, and the common n-grams."""
    items = _read(asked.items)
    common = _common(items, tables.n)
    found = 0
    for item in items:
        for text in (*item.questions, *item.answers):
            _mark(text, common, tables.n)
        number = len(tables.items)
        tables.items.append((asked.evaluation, item.id))
        found += _take_up(item, number, tables)
    return {"items": len(items), "not_indexed": len(items) - found, "instruction": len(common.grams)}


def _read(found: Iterable[Item | Document | Rejected]) -> list[_Item]:
    """Items that differ in their words; of running text, as much as `MOST_TEXT`."""
    made: list[_Item] = []
    seen: set[bytes] = set()
    size = 0
    for record in found:
        if size > MOST_TEXT:
            break
        if isinstance(record, Rejected):
            continue
        if isinstance(record, Document):
            size += len(record.content)
            hashes = Words.of(record.content).hashes
            item = _Item(record.id, [_Text(hashes, np.ones(len(hashes), np.bool_))])
        else:
            questions = [text for text in (_text(*part) for part in _questions(record)) if len(text.words)]
            item = _Item(record.id, questions, [_text(part) for part in _answers(record)])
        key = b"".join(text.words.tobytes() for text in item.questions)
        if key and key not in seen:
            seen.add(key)
            made.append(item)
    return made


def _questions(item: Item) -> list[tuple[str, bool]]:
    """Texts of an item, and whether each is material; where nothing is asked, the choices are what there is to know."""
    parts = [(part, part is m.context) for m in item.messages for part in (m.content, m.context)]
    return parts or [(choice, False) for choice in item.choices]


def _answers(item: Item) -> list[str]:
    """The right answer, where it is a text."""
    if not item.choices:
        return [item.gold] if isinstance(item.gold, str) else []
    chosen = isinstance(item.gold, int) and 0 <= item.gold < len(item.choices)
    return [item.choices[item.gold]] if chosen else []


def _text(text: str, material: bool = False) -> _Text:
    words, labels = _hashed(text)
    return _Text(words, np.ones(len(words), np.bool_), labels, material)


@lru_cache(maxsize=1024)  # instructions and material that many items share
def _hashed(text: str) -> tuple[Hashes, list[tuple[int, int, bytes]]]:
    found = [np.zeros(0, np.uint64)]
    labels = []
    at = 0
    for line in text.splitlines():
        words = Words.of(line).hashes
        before, colon, _ = line.partition(":")
        label = Words.of(before).hashes if colon else words[:0]
        if 0 < len(label) <= LABEL:
            labels.append((at, at + len(label), label.tobytes()))
        found.append(words)
        at += len(words)
    return np.concatenate(found), labels


@dataclass(frozen=True)
class _Common:
    """What the questions of an evaluation share."""

    grams: Hashes
    labels: Collection[bytes]
    texts: Collection[bytes]


def _common(items: Sequence[_Item], n: int) -> _Common:
    """What so many questions share that it is the instruction: n-grams, labels at the start of lines, texts that are too
    short for n-grams.

    Material that several questions are about, which is the same in all its words, counts once.
    """
    counted: list[Hashes] = []
    labels: Counter[bytes] = Counter()
    texts: Counter[bytes] = Counter()
    material: set[bytes] = set()
    for item in items:
        parts = [np.zeros(0, np.uint64)]
        for text in item.questions:
            key = text.words.tobytes()
            if not text.material or key not in material:
                parts.append(grams(text.words, n))
            if text.material:
                material.add(key)
        counted.append(np.unique(np.concatenate(parts)))
        labels.update({label for text in item.questions for _, _, label in text.labels})
        texts.update({t.words.tobytes() for t in item.questions if not t.material and len(t.words) < n})
    hashes, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *counted]), return_counts=True)
    least = _least_common(len(items))
    return _Common(
        hashes[counts >= least],
        {label for label, count in labels.items() if count >= least},
        {text for text, count in texts.items() if count >= least},
    )


def _least_common(items: int) -> int:
    """Questions that have to share something for it to be the instruction; where there are few, half of them."""
    usual = int(max(COMMON, COMMON_SHARE * items)) + 1
    return min(usual, max(2, (items + 1) // 2))


def _mark(text: _Text, common: _Common, n: int) -> None:
    """Marks the instruction in a text."""
    if not text.material and text.words.tobytes() in common.texts:
        text.own[:] = False
    for place in np.flatnonzero(np.isin(grams(text.words, n), common.grams)):
        text.own[place : place + n] = False
    for start, end, label in text.labels:
        if label in common.labels:
            text.own[start:end] = False


def _take_up(item: _Item, number: int, tables: _Tables) -> bool:
    """Takes up an item by n-grams of its texts, or else as a whole; False if it is nothing but the instruction.

    A question too short for n-grams is looked for by its own words, and where these are a few that anybody may write,
    together with its instruction.
    """
    found = [tables.take_up(number, text) for text in item.questions]
    for text in item.answers:
        tables.take_up(number, text)
    if any(found) or not any(text.own.any() for text in item.questions):
        return any(found)
    own = [run for text in item.questions for run in _own_runs(text) if len(run) >= ANYWHERE]
    wholes = own or [np.concatenate([text.words for text in item.questions])]
    if max(map(len, wholes)) > LONGEST_WHOLE:
        return False
    for words in wholes:
        tables.take_up_whole(number, words)
    return True


def _own_runs(text: _Text) -> Iterator[Hashes]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], text.own.view(np.int8), [0]))))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield text.words[start:end]


def _own_grams(own: NDArray[np.bool_], n: int) -> Places:
    """Places of n-grams that are made of own words alone."""
    if len(own) < n:
        return np.zeros(0, np.int64)
    sums = np.concatenate(([0], np.cumsum(own)))
    return np.flatnonzero(sums[n:] - sums[:-n] == n)


def covered(places: Places, n: int) -> int:
    """Words that the n-grams at these places, sorted and different, cover."""
    return int(np.minimum(np.diff(places), n).sum()) + n if len(places) else 0
