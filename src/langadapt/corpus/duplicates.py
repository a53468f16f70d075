"""Which documents were there before, word for word or nearly.

Exact: 128 bits of each text in a table. Nearly: MinHash (Broder 1997) over runs of words. Two texts that share a share
s of their different runs agree in each value of a signature with probability s, so in all of a band's with s^rows, and
in at least one of the bands with 1 - (1 - s^rows)^bands: few below the threshold, nearly all above it. A text of which
one band was there before is a near duplicate, and the one that came first stays.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from struct import unpack
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langadapt.recipe import NearDuplicates

    Words = NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15  # odd: 2^64 over the golden ratio
_BASE = 0xD1342543DE82EF95  # odd: of the polynomials that words and runs of words are hashed by
PIECE = 1 << 16  # characters that are looked at together, and
_CHUNK = 1 << 9  # runs of words; both bound memory
_LAST = 0x33480  # no script that running text is written in has code points beyond
# Scripts that are written without blanks: Thai to Lao, Myanmar, Khmer, kana, Han. Each letter counts as a word there.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0x20000, _LAST))


# --- what was there before -------------------------------------------------------------------------------------------


class Seen:
    """Digests of 128 bits that were there before; exact, at 21 to 27 bytes each.

    Digests are those of a good hash function: their bits are as good as random.
    """

    def __init__(self) -> None:
        self._parts = [_Table(columns=2) for _ in range(_PARTS)]

    def add(self, digest: bytes) -> bool:
        """Whether a digest of 16 bytes is new; from now on it is not."""
        first, second = _two(digest)
        return self._parts[first % _PARTS].add(first, second)

    def __contains__(self, digest: bytes) -> bool:
        first, second = _two(digest)
        return self._parts[first % _PARTS].has(first, second)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(part.nbytes for part in self._parts)


def _two(digest: bytes) -> tuple[int, int]:
    first, second = unpack("<QQ", digest)
    return first, second


class NearSeen:
    """Bands of signatures that were there before, at 11 to 13 bytes a band.

    A band's hash tells its number and the settings that it was made with, so one table serves texts signed under any
    settings; those of different ones never meet.
    """

    def __init__(self) -> None:
        self._parts = [_Table(columns=1) for _ in range(_PARTS)]

    def add(self, signature: bytes) -> bool:
        """Whether none of a signature's bands was there before; if so, they are from now on. `b""` is always new."""
        bands = unpack(f"<{len(signature) // 8}Q", signature)
        parts = self._parts
        for band in bands:
            if parts[band % _PARTS].has(band):
                return False
        for band in bands:
            parts[band % _PARTS].add(band)
        return True

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(part.nbytes for part in self._parts)


_PARTS = 64  # tables that a set is spread over: each grows on its own, so that growing takes little memory and time
_FULL, _GROWTH = 0.75, 1.25


class _Table:
    """A set of random keys of one or two 64-bit words: open addressing with linear probing.

    A key's home is its first word as a share of the table's length, so that the keys stand nearly in their order and a
    table can grow by any factor. A first word of 0 marks a free place; the keys that begin so are kept beside.
    """

    def __init__(self, columns: int) -> None:
        self._beside: set[int] = set()
        self._number = 0
        self._hold([np.zeros(16, np.uint64) for _ in range(columns)])

    def _hold(self, columns: list[NDArray[np.uint64]]) -> None:
        self._columns = columns
        self._size = len(columns[0])
        self._firsts = columns[0].data  # plain integers out of it are read four times as fast
        self._seconds = columns[1].data if len(columns) > 1 else None

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self._columns)

    def has(self, first: int, second: int = 0) -> bool:
        if not first:
            return second in self._beside
        return self._firsts[self._place(first, second)] != 0

    def add(self, first: int, second: int = 0) -> bool:
        """Whether the key is new; from now on it is not."""
        if not first:
            new = second not in self._beside
            self._beside.add(second)
            return new
        place = self._place(first, second)
        if self._firsts[place]:
            return False
        self._firsts[place] = first
        if self._seconds is not None:
            self._seconds[place] = second
        self._number += 1
        if self._number > _FULL * self._size:
            self._grow()
        return True

    def _place(self, first: int, second: int) -> int:
        """Where the key stands, or else the free place where it would."""
        firsts, seconds, size = self._firsts, self._seconds, self._size
        place = first * size >> 64
        while there := firsts[place]:
            if there == first and (seconds is None or seconds[place] == second):
                break
            place += 1
            if place == size:
                place = 0
        return place

    def _grow(self) -> None:
        """Moves all keys to a larger table: in the order of their homes, each to its home or behind the one before."""
        taken = self._columns[0] != 0
        keys = [column[taken] for column in self._columns]
        order = np.argsort(keys[0])
        size = int(self._size * _GROWTH)
        number = np.arange(len(order))
        homes = _homes(keys[0][order], size)
        places = np.maximum.accumulate(homes - number) + number
        columns = [np.zeros(size, np.uint64) for _ in keys]
        over = int((places >= size).sum())  # those behind the end go to the first free places, as a probe would
        inside = len(order) - over
        columns[0][places[:inside]] = keys[0][order[:inside]]
        places[inside:] = np.flatnonzero(columns[0] == 0)[:over]
        for column, key in zip(columns, keys, strict=True):
            column[places] = key[order]
        self._hold(columns)


def _homes(firsts: NDArray[np.uint64], size: int) -> NDArray[np.int64]:
    """`first * size >> 64` in 64-bit arithmetic."""
    low, high = firsts & np.uint64(0xFFFFFFFF), firsts >> np.uint64(32)
    carried = (low * np.uint64(size)) >> np.uint64(32)
    return ((high * np.uint64(size) + carried) >> np.uint64(32)).astype(np.int64)


# --- signatures ------------------------------------------------------------------------------------------------------


def signer(options: NearDuplicates) -> Callable[[str], bytes]:
    """Text in, its MinHash bands out, 8 bytes each; b"" for a text without a single word.

    Words are runs of letters and digits after NFKC, in lower case; whatever stands between them does not count. That
    two texts are the same needs no linguistics, so no language's own segmentation is asked: this one gives the same
    words in every language and takes a fraction of the time. In scripts without blanks each letter is a word. A text
    shorter than the n-gram is one run, so it is a near duplicate of those with the very same words.

    The bytes depend on the text and the settings alone, and are the same on every machine; `NearDuplicates.version` is
    raised with every change to them.
    """
    number = options.bands * options.rows
    key = _random(number=2 * number + options.bands, seed=_GOLDEN + (options.ngram << 32) + options.rows)
    factors = (key[:number] >> np.uint64(32)).astype(np.uint32)[:, None] | np.uint32(1)  # odd: each permutes 32 bits
    weights, salts = key[number : 2 * number].reshape(options.bands, options.rows), key[2 * number :]
    room = np.empty((number, _CHUNK), np.uint32)

    def sign(text: str) -> bytes:
        words = word_hashes(text)
        if not len(words):
            return b""
        runs = _runs(words, min(options.ngram, len(words)))
        least = np.full(number, 0xFFFFFFFF, np.uint32)
        for start in range(0, len(runs), _CHUNK):
            some = runs[start : start + _CHUNK]
            values = np.multiply(factors, some, out=room[:, : len(some)])
            np.minimum(least, values.min(axis=1), out=least)
        bands = (least.reshape(weights.shape) * weights).sum(axis=1, dtype=np.uint64)
        return _mixed(bands + salts).astype("<u8").tobytes()

    return sign


def word_hashes(text: str) -> Words:
    """The hash of every word, in order."""
    pieces = [_of_piece(text[start : start + PIECE]) for start in range(0, len(text), PIECE)]
    return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.uint64), *pieces])


def _of_piece(text: str) -> Words:
    """A word's hash is a polynomial of its letters; all are taken at once, from the powers of where they stand."""
    codes = np.frombuffer(unicodedata.normalize("NFKC", text).encode("utf-32-le", "surrogatepass"), "<u4")
    letters = _letters().take(codes, mode="clip")
    within = letters != 0
    begins = within.copy()
    begins[1:] &= ~within[:-1]
    if codes.max(initial=0) >= _UNSPACED[0][0]:
        alone = (letters & np.uint64(1)).astype(bool)
        begins |= alone
        begins[1:] |= within[1:] & alone[:-1]
    starts = np.flatnonzero(begins)
    if not len(starts):
        return np.zeros(0, np.uint64)
    powers, inverses = _powers(1 << max(12, (len(codes) - 1).bit_length()))
    sums = np.add.reduceat(letters * powers[: len(codes)], starts)
    return _mixed(sums * inverses[starts])


def _runs(words: Words, length: int) -> NDArray[np.uint32]:
    """32 bits of every run of so many words."""
    number = len(words) - length + 1
    runs = words[:number].copy()
    for after in range(1, length):
        runs *= np.uint64(_BASE)
        runs += words[after : after + number]
    return (_mixed(runs) >> np.uint64(32)).astype(np.uint32)


@cache
def _letters() -> NDArray[np.uint64]:
    """By code point: 0 for what stands between words, else a random number, odd where each letter is a word.

    A capital has the number of its small letter; a combining mark belongs to the word around it. The dotted and the
    dotless i of Turkish are one letter, because their capitals are not told apart elsewhere.
    """
    small = np.zeros(_LAST + 1, np.uint64)
    for code in range(_LAST):
        kind = unicodedata.category(chr(code))
        if kind[0] in "LN" or (kind in ("Mn", "Mc") and not 0xFE00 <= code <= 0xFE0F):  # not the marks of emoji
            small[code] = ord(chr(code).lower()[0])
    small[ord("\u0131")] = ord("i")
    numbers = _mixed(small * np.uint64(_GOLDEN)) & ~np.uint64(1)
    numbers[small == 0] = 0
    for first, last in _UNSPACED:
        numbers[first : last + 1] |= (numbers[first : last + 1] != 0).astype(np.uint64)
    return numbers


@cache
def _powers(number: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Powers of the polynomials' base, and of its inverse, modulo 2^64."""
    bases = (_BASE, pow(_BASE, -1, 1 << 64))
    ones = [np.full(number, base, np.uint64) for base in bases]
    for each in ones:
        each[0] = 1
    return np.multiply.accumulate(ones[0]), np.multiply.accumulate(ones[1])


def _random(number: int, seed: int) -> NDArray[np.uint64]:
    """Random numbers that no version of a library changes: splitmix64 (Steele, Lea and Flood 2014)."""
    return _mixed(np.uint64(seed % 2**64) + np.arange(1, number + 1, dtype=np.uint64) * np.uint64(_GOLDEN))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of each value spread over all of its bits, one to one (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
