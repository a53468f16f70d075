"""Which documents hold what an evaluation asks, and what becomes of them.

Both sides are reduced to words and compared by hashes of `ngram` of them in a row. What counts is the longest match in
one piece and the share of a question's words that is matched; the former with n-grams of 8 words tells contamination best
in ConTAM (arXiv 2411.03923), and 13 words in a row is the limit of GPT-3 (arXiv 2005.14165, appendix C).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langadapt import artifacts
from langadapt.corpus.questions import ANYWHERE, COMMON, INDEX, covered
from langadapt.corpus.words import Words, runs
from langadapt.errors import counted
from langadapt.records import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langadapt.corpus.words import Hashes, Places

REASON = "contaminated: "  # what a document is dropped under, before the evaluation's name
SHOWN = 25  # matched words that an example shows
MUCH = 0.1  # share of an evaluation's items of which the user is warned
DONE = {"drop": "dropped", "mask": "matching lines were cut out, dialogues dropped", "report": "kept"}  # by action


@dataclass(frozen=True, kw_only=True)
class Leak:
    """An item of an evaluation that a document holds.

    Attributes:
        evaluation: its name.
        item: the item's id.
        words: longest match in one piece, in words.
        coverage: share of the words of the item's text that are matched, of those that n-grams cover.
        spans: first word and number of words of all that is matched, in the document's words.
    """

    evaluation: str
    item: str
    words: int
    coverage: float
    spans: tuple[tuple[int, int], ...]


class Index:
    """An index on disk, mapped into memory."""

    def __init__(self, folder: Path, skip: Collection[str] = ()):
        """Opens it.

        Args:
            folder: what `build` returned.
            skip: evaluations that are not looked for.
        """
        about = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self.n, self.longest, self.coverage = about["ngram"], about["longest"], about["coverage"]
        self.action = about["action"]
        items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
        self.items: list[tuple[str, str]] = items["items"]
        self.members: list[list[int]] = items["members"]
        self.skip = frozenset(skip)
        # As plain arrays over the same memory: memmap's own indexing costs more than a short document's whole look-up.
        names = ("grams", "owners", "places", "seen", "seen_wholes")
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in names]
        self.grams, self.owners, self.places, *filters = arrays
        self.filters = [(seen, np.uint64(65 - len(seen).bit_length())) for seen in filters]
        self.covered = np.load(folder / "covered.npy")
        self.wholes: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.parts: Counter[int] = Counter()  # runs of words that make up an item that is looked for as a whole
        for hash_, item, length in np.load(folder / "wholes.npy").tolist():
            self.wholes[length][hash_].append(item)
            self.parts[item] += 1
        self.lengths = sorted({self.n, *self.wholes})

    def leaks(self, words: Words) -> list[Leak]:
        """The items that a text holds, the longest match first."""
        of_grams: list[tuple[Places, Hashes]] = []
        of_wholes: list[tuple[int, Places, Hashes]] = []
        for length, place, hashes in runs(words.hashes, self.lengths):
            if length == self.n and len(at := _hits(hashes, *self.filters[0])):
                of_grams.append((at + place, hashes[at]))
            if length in self.wholes and len(at := _hits(hashes, *self.filters[1])):
                of_wholes.append((length, at + place, hashes[at]))
        found = [*self._by_grams(of_grams), *self._as_wholes(words, of_wholes)]
        return sorted(found, key=lambda leak: (-leak.words, -leak.coverage))

    def _by_grams(self, hits: Sequence[tuple[Places, Hashes]]) -> Iterator[Leak]:
        if not hits:
            return
        at, hashes = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        first, after = (np.searchsorted(self.grams, hashes, side) for side in ("left", "right"))
        counts = after - first
        if counts.any():
            yield from self._judged(np.repeat(at, counts), _ranges(first, counts))

    def _judged(self, at: Places, rows: Places) -> Iterator[Leak]:
        """Leaks among the matches of n-grams, given by places in the document and rows of the tables."""
        owners, places = self.owners[rows].astype(np.int64), self.places[rows].astype(np.int64)
        order = np.lexsort((at, at - places, owners))
        at, owners, places = at[order], owners[order], places[order]
        shift = at - places
        # A run is a passage's n-grams one after the other, at places one after the other.
        new = (np.diff(owners) != 0) | (np.diff(shift) != 0) | (np.diff(at) != 1)
        starts = np.concatenate(([0], np.flatnonzero(new) + 1))
        lengths = np.diff(np.append(starts, len(at))) + self.n - 1
        of_run = owners[starts]
        best: dict[int, Leak] = {}
        for run, after in pairwise(_edges(of_run)):
            first, last = starts[run], starts[after] if after < len(starts) else len(at)
            owner = of_run[run]
            longest = int(lengths[run:after].max())
            coverage = covered(np.unique(places[first:last]), self.n) / int(self.covered[owner])
            if longest < self.longest and coverage < self.coverage:
                continue
            spans = tuple(zip(at[starts[run:after]].tolist(), lengths[run:after].tolist(), strict=True))
            for number in self.members[owner]:
                evaluation, item = self.items[number]
                leak = Leak(evaluation=evaluation, item=item, words=longest, coverage=coverage, spans=spans)
                if number not in best or (longest, coverage) > (best[number].words, best[number].coverage):
                    best[number] = leak
        yield from (leak for leak in best.values() if leak.evaluation not in self.skip)

    def _as_wholes(self, words: Words, hits: Iterable[tuple[int, Places, Hashes]]) -> Iterator[Leak]:
        """Items too short for n-grams, all of whose runs of words are there."""
        found: dict[int, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for length, at, hashes in hits:
            for place, hash_ in zip(at.tolist(), hashes.tolist(), strict=True):
                items = self.wholes[length].get(hash_, ())
                if items and (length >= ANYWHERE or _is_line(words, place, length)):
                    for item in items:
                        found[item][hash_].append((place, length))
        for item, parts in found.items():
            evaluation, id = self.items[item]
            if evaluation not in self.skip and len(parts) == self.parts[item]:
                spans = tuple(sorted(span for places in parts.values() for span in places))
                longest = max(length for _, length in spans)
                yield Leak(evaluation=evaluation, item=id, words=longest, coverage=1.0, spans=spans)


def _hits(hashes: Hashes, seen: NDArray[np.bool_], shift: np.uint64) -> Places:
    """Places of the hashes that a filter does not rule out."""
    return seen.take((hashes >> shift).view(np.int64)).nonzero()[0]


def _is_line(words: Words, at: int, length: int) -> bool:
    """Whether a run of words is all that is on its line."""
    lines = [-1, *words.lines().tolist(), -1]
    first, last = lines[at + 1], lines[at + length]
    return bool(first == last and lines[at] != first and lines[at + length + 1] != last)


def _ranges(first: Places, counts: Places) -> Places:
    """`first[i], first[i] + 1, …`, `counts[i]` of them, one range after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) - np.repeat(before - first, counts)


def _edges(values: Places) -> list[int]:
    """Where a new value begins in a sorted array, and its length."""
    return [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]


# --- what becomes of a document ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What becomes of a document.

    Attributes:
        outcome: the document, perhaps without some lines, or the reason for dropping it.
        found: JSON of what was found in it, for `Findings`; "" for nothing.
    """

    outcome: Document | str
    found: str = ""


def judge(index: Path, skip: Collection[str] = ()) -> Callable[[Document], Judged]:
    """The function that looks for an index's items in documents, and decides as the options say that it was made with.

    Args:
        index: what `build` returned.
        skip: evaluations that are not looked for, because what they measure on is the very corpus.
    """
    opened = Index(index, skip)

    def judged(document: Document) -> Judged:
        words = Words.of(document.content)
        leaks = opened.leaks(words)
        if not leaks:
            return Judged(outcome=document)
        outcome: Document | str = REASON + leaks[0].evaluation
        if opened.action == "report":
            outcome = document
        elif opened.action == "mask" and not document.messages:
            masked = _masked(document.text, words, leaks)
            outcome = replace(document, text=masked) if masked.strip() else outcome
        return Judged(outcome=outcome, found=_said(words, leaks))

    return judged


def step(index: Path, skip: Collection[str] = ()) -> Callable[[Document], Document | str]:
    """`judge` as a cleaning step."""
    judged = judge(index, skip)
    return lambda document: judged(document).outcome


def _masked(text: str, words: Words, leaks: Iterable[Leak]) -> str:
    """The text without the lines that hold a match."""
    lines = words.lines()
    cut = {line for leak in leaks for at, length in leak.spans for line in lines[at : at + length].tolist()}
    return "\n".join(line for number, line in enumerate(text.split("\n")) if number not in cut)


def _said(words: Words, leaks: Sequence[Leak]) -> str:
    """What `Findings` takes of a document: by evaluation, the items, and the longest match with its words."""
    found: dict[str, dict[str, Any]] = {}
    for leak in leaks:  # the longest first
        at, length = max(leak.spans, key=lambda span: span[1])
        text = words.passage(at, min(length, SHOWN)) + (" …" if length > SHOWN else "")
        first = {"items": [], "words": leak.words, "item": leak.item, "text": text}
        found.setdefault(leak.evaluation, first)["items"].append(leak.item)
    return json.dumps(found, ensure_ascii=False)


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass
class Finding:
    """What was found of one evaluation in the corpora of a stage."""

    items: set[str] = field(default_factory=set)
    documents: int = 0
    words: int = 0
    example: dict[str, str] = field(default_factory=dict)


class Findings:
    """What was found of every evaluation in the corpora of a stage."""

    def __init__(self, index: Path | None):
        """Begins to count; `index` is what `build` returned, None where nothing is looked for."""
        self.about = artifacts.read_json(index / INDEX) if index else {}
        self.documents = 0
        self.by_evaluation: dict[str, Finding] = defaultdict(Finding)

    def add(self, place: str, found: str) -> None:
        """Counts a document, given by its place, and what `judge` found in it."""
        if not found:
            return
        self.documents += 1
        for evaluation, leak in json.loads(found).items():
            finding = self.by_evaluation[evaluation]
            finding.items.update(leak["items"])
            finding.documents += 1
            if leak["words"] > finding.words:
                finding.words = leak["words"]
                finding.example = {"item": leak["item"], "document": place, "text": leak["text"]}

    def to_json(self) -> dict[str, Any]:
        """The `contamination` of a stage's accounting: every evaluation that was looked for; {} for none."""
        if not self.about:
            return {}
        table = {}
        for name, counts in self.about["evaluations"].items():
            finding = self.by_evaluation.get(name, Finding())
            table[name] = {
                "items": counts["items"],
                "not_indexed": counts["not_indexed"],
                "found": len(finding.items),
                "documents": finding.documents,
                "longest": finding.words,
                "example": finding.example,
            }
        return {"action": self.about["action"], "documents": self.documents, "evaluations": table}


def in_words(table: Mapping[str, Any]) -> list[str]:
    """What `Findings.to_json` says, in a line, and a line more for each evaluation of which much was found."""
    if not table:
        return []
    hit = {name: row for name, row in table["evaluations"].items() if row["found"]}
    if not hit:
        items = sum(row["items"] for row in table["evaluations"].values())
        of = (
            ", ".join(table["evaluations"])
            if len(table["evaluations"]) < 3
            else f"{len(table['evaluations'])} evaluations"
        )
        return [f"decontamination: none of the {items:,} items of {of} is in what was read"]
    which = ", ".join(f"{name} ({row['found']:,} of {row['items']:,})" for name, row in hit.items())
    documents = counted(table["documents"], "document")
    said = [f"decontamination: {documents} with items of {which}: {DONE[table['action']]}"]
    return said + [
        f"{row['found'] / row['items']:.0%} of the items of {name} are in the corpora; "
        "if one of them is made from what it asks, leave that out"
        for name, row in hit.items()
        if row["found"] > max(COMMON, MUCH * row["items"])
    ]
