"""Texts as runs of words, hashed, so that two of them can be compared whatever their case, marks and line ends."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Places = NDArray[np.int64]

PIECE = 1 << 20  # characters that are cut into words at once, so that memory does not grow with the document
_SEPARATOR, _LETTER, _WORD, _NOTHING = range(4)  # what a character is: `_WORD` is one by itself, `_NOTHING` is left out
# Thai to Burmese, Khmer, kana, ideographs: no blanks between words, so that every character stands for one.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF))
_IDEOGRAPHS = (0x20000, 0x40000)  # the planes beyond which no letters are
_MULTIPLIER = 0xD1342543DE82EF95  # odd, so that no information is lost modulo 2^64
_POWERS = np.cumprod(np.full(256, _MULTIPLIER, dtype=np.uint64))  # of so many characters of a word the order counts
_MOST_WORDS = 1 << 14  # of a text that are compared at once


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
        pieces: the text after NFKC, cut at blanks.
        hashes: 64 bits of each word in lower case, the same in every process and on every machine.
    """

    pieces: tuple[str, ...]
    hashes: Hashes

    @classmethod
    def of(cls, text: str) -> Words:
        """The words of a text; case, marks, line ends and ways to write an accent do not matter."""
        pieces = tuple(unicodedata.normalize("NFKC", piece) for piece in _pieces(text))
        found = [_hashes(piece) for piece in pieces]
        return cls(pieces, found[0] if len(found) == 1 else np.concatenate(found))

    def __len__(self) -> int:
        return len(self.hashes)

    @cached_property
    def text(self) -> str:
        """The text after NFKC."""
        return "".join(self.pieces)

    @cached_property
    def starts(self) -> Places:
        """Where in the text each word begins."""
        return self._places(lambda letters, starts: letters[starts[:-1]])

    @cached_property
    def ends(self) -> Places:
        """Where in the text each word ends."""
        return self._places(lambda letters, starts: letters[starts[1:] - 1] + 1)

    def lines(self) -> Places:
        """Number of the line that each word is on."""
        return np.searchsorted(np.flatnonzero(_codes(self.text) == ord("\n")), self.starts)

    def passage(self, at: int, length: int) -> str:
        """The text from one word on, of so many words, on one line."""
        return " ".join(self.text[self.starts[at] : self.ends[at + length - 1]].split())

    def _places(self, of: Callable[[Places, Places], Places]) -> Places:
        before = accumulate((len(piece) for piece in self.pieces), initial=0)
        cut = zip(before, (_cut(_codes(piece)) for piece in self.pieces), strict=False)
        return np.concatenate([of(*places) + shift for shift, places in cut])


def _hashes(text: str) -> Hashes:
    codes = _codes(text)
    letters, starts = _cut(codes)
    if len(starts) == 1:
        return np.zeros(0, np.uint64)
    within = np.arange(len(letters)) - np.repeat(starts[:-1], starts[1:] - starts[:-1])
    np.minimum(within, len(_POWERS) - 1, out=within)
    values = _POWERS[within]
    values *= _characters()[1][codes[letters]]
    return _mixed(np.add.reduceat(values, starts[:-1]))


def _cut(codes: NDArray[np.uint32]) -> tuple[Places, Places]:
    """Places of the letters, and the number of each word's first letter among them, with that after the last."""
    kind = _characters()[0][codes]
    if len(kind) and kind.max() > _LETTER:
        letters, first = _unusual(kind)
    else:
        letters = kind.view(np.bool_).nonzero()[0]
        first = np.ones(len(letters), np.bool_)
        np.not_equal(letters[1:], letters[:-1] + 1, out=first[1:])
    return letters, np.append(np.flatnonzero(first), len(letters))


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


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


def runs(words: Hashes, lengths: Iterable[int]) -> Iterator[tuple[int, int, Hashes]]:
    """64 bits of each run of so many words, for each of the lengths.

    A run's hash is a polynomial of its words' hashes modulo 2^64, the difference of two sums from the first word on, so
    that a long run costs no more than a short one.

    Yields:
        Length, place, and the hashes of the runs from that place on: a long text is gone through in parts.
    """
    lengths = list(lengths)
    most = max(lengths, default=1) - 1
    forth, back = _powers(_MULTIPLIER), _powers(pow(_MULTIPLIER, -1, 1 << 64))
    step = _MOST_WORDS - most
    for place in range(0, max(1, len(words) - most), step):
        part = words[place : place + step + most]
        sums = np.zeros(len(part) + 1, np.uint64)
        np.cumsum(part * forth[: len(part)], out=sums[1:])
        last = place + step >= len(words) - most
        for length in lengths:
            count = max(0, len(part) - length + 1) if last else step
            values = sums[length : length + count] - sums[:count]
            values *= back[:count]
            yield length, place, values


def grams(words: Hashes, n: int) -> Hashes:
    """64 bits of each run of n words."""
    return np.concatenate([found for _, _, found in runs(words, [n])])


@cache
def _powers(base: int) -> Hashes:
    """`1, base, base ** 2, …` modulo 2^64."""
    factors = np.full(_MOST_WORDS, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)


def _pieces(text: str) -> Iterator[str]:
    """The text in parts of about `PIECE` characters, cut at blanks."""
    start = 0
    while len(text) - start > PIECE:
        end = max(text.rfind(blank, start, start + PIECE) for blank in " \n")
        end = end if end > start else start + PIECE
        yield text[start:end]
        start = end
    yield text[start:]
