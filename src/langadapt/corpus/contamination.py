"""Which documents hold what an evaluation asks: an index of its n-grams, and the step that looks documents up in it.

Both sides are reduced to words (NFKC, case folded, letters and digits only) and compared by hashes of `ngram` of them in a
row. What counts is the longest match in one piece and the share of a question's words that is matched; the former with
n-grams of 8 words tells contamination best in ConTAM (arXiv 2411.03923), and 13 words in a row is the limit of GPT-3
(arXiv 2005.14165, appendix C). What an evaluation's questions have in common is its instruction and is left out, so that
the training rows of a task do not match its test set.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langadapt import artifacts
from langadapt.records import Document, Item, Rejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langadapt.recipe import Decontamination

    Hashes = NDArray[np.uint64]
    Places = NDArray[np.int64]

INDEX = "index.json"  # of an index: its options, and how much of each evaluation is in it
REASON = "contaminated: "  # what a document is dropped under, before the evaluation's name
MOST_TEXT = 64_000_000  # characters of an evaluation of running text that are indexed
ANYWHERE = 4  # words that a whole question needs to be looked for within lines; a shorter one must be a line of its own
COMMON, COMMON_SHARE = 3, 0.05  # an n-gram in more questions than both of these is part of the instruction
LABEL = 8  # words that a label at the start of a line has at most, as in "Frase 1:"
MUCH = 0.1  # share of an evaluation's items of which the user is warned
DONE = {"drop": "dropped", "mask": "their lines were cut out, dialogues dropped", "report": "kept"}  # by action
SHOWN = 25  # matched words that an example shows
PIECE = 1 << 20  # characters that are cut into words at once, so that memory does not grow with the document


# --- words and their hashes -------------------------------------------------------------------------------------------

_SEPARATOR, _LETTER, _WORD, _NOTHING = range(4)  # what a character is: `_WORD` is one by itself, `_NOTHING` is left out
# Thai to Burmese, Khmer, kana, ideographs: no blanks between words, so that every character stands for one.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))
_IDEOGRAPHS = (0x20000, 0x40000)  # the planes beyond which no letters are
_MULTIPLIER = 0xD1342543DE82EF95  # odd, so that no information is lost modulo 2^64
_POWERS = np.cumprod(np.full(256, _MULTIPLIER, dtype=np.uint64))  # of so many characters of a word the order counts


@cache
def _characters() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Of every code point what it is, and what it is in lower case.

    Accents that do not compose, vowel points and invisible characters are left out: they differ between copies of a text.
    The dotted and the dotless i of Turkish are one letter, because their capitals are not told apart elsewhere.
    """
    kinds = np.zeros(0x110000, np.uint8)
    lower = np.arange(0x110000, dtype=np.uint32)
    for code in range(_IDEOGRAPHS[0]):
        character = chr(code)
        category = unicodedata.category(character)
        kinds[code] = (
            _LETTER
            if category[0] in "LN" or category == "Mc"
            else _NOTHING
            if category in ("Mn", "Me", "Cf")
            else _SEPARATOR
        )
        folded = character.casefold()
        if len(folded) == 1:
            lower[code] = ord(folded)
    lower[[ord("\u0130"), ord("\u0131")]] = ord("i")
    for first, last in _UNSPACED:
        spaced = kinds[first : last + 1]
        spaced[spaced == _LETTER] = _WORD
    kinds[slice(*_IDEOGRAPHS)] = _WORD
    return kinds, lower


@dataclass(frozen=True)
class Words:
    """The words that texts are compared by.

    Attributes:
        text: the text after NFKC.
        hashes: 64 bits of each word in lower case, the same in every process and on every machine.
        letters: where in the text its letters are.
        starts: number of each word's first letter among them, and of the one after the last.
    """

    text: str
    hashes: Hashes
    letters: Places
    starts: Places

    @classmethod
    def of(cls, text: str) -> Words:
        """The words of a text; case, marks, line ends and ways to write an accent do not matter."""
        if len(text) <= PIECE:
            return _words(unicodedata.normalize("NFKC", text))
        parts = [_words(unicodedata.normalize("NFKC", piece)) for piece in _pieces(text)]
        places = np.cumsum([0, *(len(part.text) for part in parts)])
        letters = np.cumsum([0, *(len(part.letters) for part in parts)])
        starts = [part.starts[:-1] + letters[number] for number, part in enumerate(parts)]
        return cls(
            "".join(part.text for part in parts),
            np.concatenate([part.hashes for part in parts]),
            np.concatenate([part.letters + places[number] for number, part in enumerate(parts)]),
            np.concatenate([*starts, letters[-1:]]),
        )

    def __len__(self) -> int:
        return len(self.hashes)

    def lines(self) -> Places:
        """Number of the line that each word is on."""
        breaks = [place for place, character in enumerate(self.text) if character == "\n"]
        return np.searchsorted(np.array(breaks, np.int64), self.letters[self.starts[:-1]])

    def passage(self, at: int, length: int) -> str:
        """The text from one word on, of so many words, on one line."""
        first, last = self.letters[self.starts[at]], self.letters[self.starts[at + length] - 1]
        return " ".join(self.text[first : last + 1].split())


def _words(text: str) -> Words:
    kinds, lower = _characters()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kind = kinds[codes]
    if len(kind) and kind.max() > _LETTER:
        letters, first = _unusual(kind)
    else:
        letters = kind.view(np.bool_).nonzero()[0]
        first = np.ones(len(letters), np.bool_)
        np.not_equal(letters[1:], letters[:-1] + 1, out=first[1:])
    starts = np.append(np.flatnonzero(first), len(letters))
    if len(starts) == 1:
        return Words(text, np.zeros(0, np.uint64), letters, starts)
    within = np.arange(len(letters)) - np.repeat(starts[:-1], starts[1:] - starts[:-1])
    np.minimum(within, len(_POWERS) - 1, out=within)
    values = _POWERS[within]
    values *= lower[codes[letters]]
    return Words(text, _mixed(np.add.reduceat(values, starts[:-1])), letters, starts)


def _unusual(kind: NDArray[np.uint8]) -> tuple[Places, NDArray[np.bool_]]:
    """Places of the letters, and which of them begin a word, where some are words by themselves or to be left out."""
    counted = np.flatnonzero(kind != _NOTHING)
    kind = kind[counted]
    inside, alone = kind != _SEPARATOR, kind == _WORD
    first = inside.copy()
    first[1:] &= ~inside[:-1] | alone[1:] | alone[:-1]
    return counted[inside], first[inside]


def _mixed(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of a value reaches every bit of the result."""
    values = values ^ (values >> _SHIFTS[0])
    values *= _FACTORS[0]
    values ^= values >> _SHIFTS[1]
    values *= _FACTORS[1]
    values ^= values >> _SHIFTS[2]
    return values


_SHIFTS = np.array([30, 27, 31], np.uint64)
_FACTORS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)


def grams(words: Hashes, n: int) -> Hashes:
    """64 bits of each run of n words; empty where there are fewer."""
    return next(runs(words, (n,)))[1]


def runs(words: Hashes, lengths: Collection[int]) -> Iterator[tuple[int, Hashes]]:
    """64 bits of each run of so many words, for each of the lengths, the shortest first."""
    total = np.zeros(len(words) + 1, np.uint64)
    for length in range(1, max(lengths, default=0) + 1):
        total = total[:-1] * _POWERS[0]
        total += words[length - 1 :]
        if length in lengths:
            yield length, _mixed(total)


def _pieces(text: str) -> Iterator[str]:
    """The text in parts of about `PIECE` characters, cut at blanks."""
    start = 0
    while len(text) - start > PIECE:
        end = max(text.rfind(blank, start, start + PIECE) for blank in " \n")
        end = end if end > start else start + PIECE
        yield text[start:end]
        start = end
    yield text[start:]


# --- the index --------------------------------------------------------------------------------------------------------


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
    """The arrays of an index while it is made."""

    def __init__(self, n: int):
        self.n = n
        self.items: list[tuple[str, str]] = []
        self.grams: list[Hashes] = []
        self.places: list[Places] = []
        self.passages: list[tuple[int, int]] = []  # item, and how many of its words n-grams cover
        self.wholes: list[tuple[int, int, int]] = []  # hash, item, words

    def take_up(self, item: int, text: _Text) -> bool:
        """Takes up the n-grams of a text's own words, if there are any."""
        places = _own_grams(text.own, self.n)
        if not len(places):
            return False
        self.grams.append(grams(text.words, self.n)[places])
        self.places.append(places)
        self.passages.append((item, _covered(places, self.n)))
        return True


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
    wholes = np.array(sorted(set(tables.wholes)), dtype=np.uint64).reshape(-1, 3)
    every = np.concatenate([hashes, wholes[:, 0]])
    bits = min(max(16, len(every).bit_length() + 4), 27)
    seen = np.zeros(1 << bits, np.bool_)
    seen[every >> np.uint64(64 - bits)] = True
    owners = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
    places = np.concatenate([np.zeros(0, np.int64), *tables.places]).astype(np.uint32)
    for name, array in {
        "grams": hashes[order],
        "owners": owners[order],
        "places": places[order],
        "passages": np.array(tables.passages, dtype=np.uint32).reshape(-1, 2),
        "wholes": wholes,
        "seen": seen,
    }.items():
        np.save(folder / f"{name}.npy", array)
    artifacts.write_json(folder / "items.json", tables.items)


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
        if isinstance(record, Rejected) or size > MOST_TEXT:
            continue
        if isinstance(record, Document):
            size += len(record.content)
            hashes = Words.of(record.content).hashes
            item = _Item(record.id, [_Text(hashes, np.ones(len(hashes), np.bool_))])
        else:
            parts = [(part, part is m.context) for m in record.messages for part in (m.content, m.context)]
            answers = [record.gold] if isinstance(record.gold, str) else []
            questions = [_text(part, material=material) for part, material in parts if part.strip()]
            item = _Item(record.id, questions, [_text(part) for part in answers])
        key = b"".join(text.words.tobytes() for text in item.questions)
        if key and key not in seen:
            seen.add(key)
            made.append(item)
    return made


def _text(text: str, *, material: bool = False) -> _Text:
    found: list[Hashes] = []
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
    hashes = np.concatenate([np.zeros(0, np.uint64), *found])
    return _Text(hashes, np.ones(at, np.bool_), labels, material)


@dataclass(frozen=True)
class _Common:
    grams: Hashes
    labels: Collection[bytes]


def _common(items: Sequence[_Item], n: int) -> _Common:
    """What so many questions share that it is the instruction: n-grams, and labels at the start of lines.

    Material that several questions are about, which is the same in all its words, counts once.
    """
    counted: list[Hashes] = []
    labels: Counter[bytes] = Counter()
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
    hashes, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *counted]), return_counts=True)
    least = _least_common(len(items))
    return _Common(hashes[counts >= least], {label for label, count in labels.items() if count >= least})


def _least_common(items: int) -> int:
    """Questions that have to share something for it to be the instruction; where there are few, half of them."""
    usual = int(max(COMMON, COMMON_SHARE * items)) + 1
    return min(usual, max(2, (items + 1) // 2))


def _mark(text: _Text, common: _Common, n: int) -> None:
    """Marks the instruction in a text."""
    for place in np.flatnonzero(np.isin(grams(text.words, n), common.grams)):
        text.own[place : place + n] = False
    for start, end, label in text.labels:
        if label in common.labels:
            text.own[start:end] = False


def _take_up(item: _Item, number: int, tables: _Tables) -> bool:
    """Takes up an item by n-grams of its texts, or else as a whole; False if it has no words."""
    found = [tables.take_up(number, text) for text in item.questions]
    for text in item.answers:
        tables.take_up(number, text)
    if any(found):
        return True
    own = [run for text in item.questions for run in _runs(text) if run[1] - run[0] > 0]
    longest = max((end - start for start, end, _ in own), default=0)
    # Words of an instruction that vary with the question, such as the one that it is about, tell nothing.
    chosen = [run for run in own if run[1] - run[0] >= min(ANYWHERE, longest)]
    runs = [text.words[start:end] for start, end, text in chosen] or [text.words for text in item.questions]
    for words in runs:
        tables.wholes.append((int(grams(words, len(words))[0]), number, len(words)))
    return bool(runs)


def _runs(text: _Text) -> Iterator[tuple[int, int, _Text]]:
    """Runs of a text's own words."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], text.own.view(np.int8), [0]))))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield start, end, text


def _own_grams(own: NDArray[np.bool_], n: int) -> Places:
    """Places of n-grams that are made of own words alone."""
    if len(own) < n:
        return np.zeros(0, np.int64)
    sums = np.concatenate(([0], np.cumsum(own)))
    return np.flatnonzero(sums[n:] - sums[:-n] == n)


def _covered(places: Places, n: int) -> int:
    """Words that the n-grams at these places, sorted and different, cover."""
    return int(np.minimum(np.diff(places), n).sum()) + n if len(places) else 0


# --- looking documents up ---------------------------------------------------------------------------------------------


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
        self.items: list[tuple[str, str]] = json.loads((folder / "items.json").read_text(encoding="utf-8"))
        self.skip = frozenset(skip)
        # As plain arrays over the same memory: memmap's own indexing costs more than a short document's whole look-up.
        names = ("grams", "owners", "places", "seen")
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in names]
        self.grams, self.owners, self.places, self.seen = arrays
        self.shift = np.uint64(64 - (len(self.seen).bit_length() - 1))
        self.passages = np.load(folder / "passages.npy")
        self.wholes: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.parts: Counter[int] = Counter()  # runs of words that make up an item that is looked for as a whole
        for hash_, item, length in np.load(folder / "wholes.npy").tolist():
            self.wholes[length][hash_].append(item)
            self.parts[item] += 1
        self.lengths = {*self.wholes, *([self.n] if len(self.grams) else [])}

    def leaks(self, words: Words) -> list[Leak]:
        """The items that a text holds, the longest match first."""
        hits = {}
        for length, hashes in runs(words.hashes, self.lengths):
            at = self.seen.take((hashes >> self.shift).view(np.int64)).nonzero()[0]
            if len(at):
                hits[length] = (at, hashes[at])
        if not hits:
            return []
        found = [
            *self._by_grams(*hits.get(self.n, (np.zeros(0, np.int64), np.zeros(0, np.uint64)))),
            *self._as_wholes(words, hits),
        ]
        return sorted(found, key=lambda leak: (-leak.words, -leak.coverage))

    def _by_grams(self, at: Places, hashes: Hashes) -> Iterator[Leak]:
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
            number, coverable = self.passages[of_run[run]].tolist()
            evaluation, item = self.items[number]
            longest = int(lengths[run:after].max())
            coverage = _covered(np.unique(places[first:last]), self.n) / coverable
            if evaluation in self.skip or (longest < self.longest and coverage < self.coverage):
                continue
            spans = tuple(zip(at[starts[run:after]].tolist(), lengths[run:after].tolist(), strict=True))
            leak = Leak(evaluation=evaluation, item=item, words=longest, coverage=coverage, spans=spans)
            if number not in best or (longest, coverage) > (best[number].words, best[number].coverage):
                best[number] = leak
        yield from best.values()

    def _as_wholes(self, words: Words, hits: Mapping[int, tuple[Places, Hashes]]) -> Iterator[Leak]:
        """Items too short for n-grams, all of whose runs of words are there."""
        found: dict[int, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for length in hits.keys() & self.wholes.keys():
            at, hashes = hits[length]
            lines = _are_lines(words.lines(), at, length) if length < ANYWHERE else np.ones(len(at), np.bool_)
            for place, hash_ in zip(at[lines].tolist(), hashes[lines].tolist(), strict=True):
                for item in self.wholes[length].get(hash_, ()):
                    found[item][hash_].append((place, length))
        for item, parts in found.items():
            evaluation, id = self.items[item]
            if evaluation not in self.skip and len(parts) == self.parts[item]:
                spans = tuple(sorted(span for places in parts.values() for span in places))
                longest = max(length for _, length in spans)
                yield Leak(evaluation=evaluation, item=id, words=longest, coverage=1.0, spans=spans)


def _are_lines(lines: Places, at: Places, length: int) -> NDArray[np.bool_]:
    """Which runs of so many words are all that is on their line; `lines` says where each word is."""
    lines = np.concatenate(([-1], lines, [-1]))
    first, last = lines[at + 1], lines[at + length]
    return (first == last) & (lines[at] != first) & (lines[at + length + 1] != last)


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
        return [
            f"decontamination: none of {items:,} items of {len(table['evaluations'])} evaluations is in what was read"
        ]
    which = ", ".join(f"{name} ({row['found']:,} of {row['items']:,})" for name, row in hit.items())
    said = [f"decontamination: {table['documents']:,} documents hold items of {which}: {DONE[table['action']]}"]
    return said + [
        f"{row['found'] / row['items']:.0%} of the items of {name} are in the corpora; "
        "if one of them is made from what it asks, leave that out"
        for name, row in hit.items()
        if row["found"] > max(COMMON, MUCH * row["items"])
    ]
