"""Repetition: lines, paragraphs and runs of words that come again and again.

The rules of Gopher (arXiv 2112.11446, table A1) as datatrove reads them, verdict for verdict: shares are of all
characters, line breaks and blanks included; the most frequent run of 2, 3 or 4 words counts with the blanks between
them, even if it comes only once; runs of 5 to 10 words count without, each word at most once for each length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from langadapt.cleaning.running_text import Rule, RunningText, step
from langadapt.records import Filter

if TYPE_CHECKING:
    import numpy as np

TOP = (2, 3, 4)
REPEATED = (5, 6, 7, 8, 9, 10)

OPTIONS: Mapping[str, float] = {
    "duplicate_paragraphs": 0.3,
    "duplicate_paragraph_characters": 0.2,
    "duplicate_lines": 0.3,
    "duplicate_line_characters": 0.2,
    "top_2": 0.2,
    "top_3": 0.18,
    "top_4": 0.16,
    "repeated_5": 0.15,
    "repeated_6": 0.14,
    "repeated_7": 0.13,
    "repeated_8": 0.12,
    "repeated_9": 0.11,
    "repeated_10": 0.1,
}


def rule(limits: Mapping[str, Any]) -> Rule:
    """Whether a text repeats itself: the first limit of `OPTIONS` that it exceeds; a limit of 0 is off."""
    paragraphs = (limits.get("duplicate_paragraphs", 0), limits.get("duplicate_paragraph_characters", 0))
    lines = (limits["duplicate_lines"], limits["duplicate_line_characters"])
    runs_of = {n: float(limits[_name(n)]) for n in (*TOP, *REPEATED) if limits[_name(n)]}

    def judge(running: RunningText) -> str:
        text = running.text
        if any(paragraphs) and exceeds(_parts(text.strip(), "\n\n"), len(text), *paragraphs):
            return "repeated paragraphs"
        if any(lines) and exceeds(_parts(text, "\n"), len(text), *lines):
            return "repeated lines"
        n = first_exceeded(running, runs_of) if runs_of else 0
        return f"repeated runs of {n} words" if n else ""

    return judge


def _name(n: int) -> str:
    return f"top_{n}" if n in TOP else f"repeated_{n}"


def _parts(text: str, mark: str) -> list[str]:
    """A text cut at marks, or at any longer series of line breaks, which counts as one."""
    if "\n" + mark not in text:
        return text.split(mark)
    inner = [part for piece in text.split(mark) if (part := piece.lstrip("\n"))]
    return [*inner, *[""] * (text.startswith(mark) + text.endswith(mark))]


def exceeds(parts: Sequence[str], size: int, most: float, most_characters: float) -> bool:
    """Whether too many parts, or parts with too many of `size` characters, stood there before; a limit of 0 is off."""
    different = set(parts)
    if len(different) == len(parts):
        return False
    characters = sum(map(len, parts)) - sum(map(len, different))
    if not characters:
        return False
    number = len(parts) - len(different)
    return bool((most and number / len(parts) > most) or (most_characters and characters / size > most_characters))


def first_exceeded(running: RunningText, limits: Mapping[int, float]) -> int:
    """The least number of words whose repeated runs hold more than their share of all characters; 0 for none.

    Args:
        running: the text.
        limits: the greatest share by number of words, above 0.
    """
    size = len(running.text)
    last_top = max((n for n in limits if n in TOP), default=0)
    lengths = running.lengths
    ends, longest_word = _ends(lengths), int(lengths.max(initial=0))
    for runs in find_runs(running.numbers, max(limits)):
        n, limit = runs.words, limits.get(runs.words, 0)
        longest_run = n * longest_word + n - 1
        if n in TOP and limit and limit < runs.times() * longest_run / size and limit < runs.most_frequent(ends) / size:
            return n
        if n < last_top:
            continue
        # Longer runs that come again begin where these do, so what these cover at most bounds what those cover.
        most = runs.covered_at_most(ends) / size
        if n in REPEATED and limit and most > limit and runs.covered(ends) / size > limit:
            return n
        if all(most <= limits[longer] for longer in limits if longer > n):
            return 0
    return 0


def repeated_characters(words: Sequence[str], longest: int) -> Iterator[tuple[int, int]]:
    """Characters of repeated runs, for runs of 2 words, 3 words and so on, up to `longest` words."""
    running = RunningText("", lambda _: list(words))
    ends = _ends(running.lengths)
    for runs in find_runs(running.numbers, longest):
        yield runs.words, runs.most_frequent(ends) if runs.words in TOP else runs.covered(ends)


def _ends(lengths: np.ndarray) -> np.ndarray:
    """Characters before each word and, at last, of all words together; blanks don't count."""
    import numpy as np

    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


class Runs(NamedTuple):
    """The runs of so many words that come more than once in a text.

    Attributes:
        words: how many words a run has.
        places: where they begin, equal runs together, the first of them first; int64.
        again: whether it is not the first of its kind.
        kinds: the number of the run, from 1.
    """

    words: int
    places: np.ndarray
    again: np.ndarray
    kinds: np.ndarray

    def times(self) -> int:
        """How often the most frequent run comes."""
        import numpy as np

        return int(np.bincount(self.kinds).max()) if len(self.kinds) else 1

    def most_frequent(self, ends: np.ndarray) -> int:
        """Characters of all occurrences of the most frequent run; of the first one in the text where none comes twice."""
        import numpy as np

        place, times = 0, self.times()
        if times > 1:
            first = self.places[~self.again]
            place = int(first[np.bincount(self.kinds)[1:] == times].min())
        return times * int(ends[place + self.words] - ends[place] + self.words - 1)

    def covered(self, ends: np.ndarray) -> int:
        """Characters in runs that stood there before; a run that is counted covers its words, and none begins in it."""
        order = self.places.argsort()
        seen: set[int] = set()
        characters = free = 0
        for place, kind in zip(self.places[order].tolist(), self.kinds[order].tolist(), strict=True):
            if place < free:
                continue
            if kind in seen:
                characters += int(ends[place + self.words] - ends[place])
                free = place + self.words
            else:
                seen.add(kind)
        return characters

    def covered_at_most(self, ends: np.ndarray) -> int:
        """Characters in all runs that are not the first of their kind: no less than `covered`, and quickly found."""
        import numpy as np

        begin = self.places[self.again]
        begin.sort()
        end = begin + self.words
        np.maximum(begin[1:], end[:-1], out=begin[1:])
        return int((ends[end] - ends[begin]).sum())


def find_runs(numbers: np.ndarray, longest: int) -> Iterator[Runs]:
    """The repeated runs of 2 words, 3 words and so on, up to `longest` words or the length of the text.

    A run of n + 1 words can only come again where its first n words do, so each length looks at the places alone that
    the one before has left; runs are numbered, and a longer one is known by the number of a shorter one and a word.

    Args:
        numbers: the number of each word, int64, from 0 and below 2 ** 29.
        longest: words of the longest runs.
    """
    import numpy as np

    size = len(numbers)
    none = int(numbers.max(initial=0)) + 1
    words = np.concatenate((numbers, np.arange(none, none + longest)))  # past the end no word is like another
    base = none + longest
    bits = size.bit_length()
    places, kinds = np.arange(size), numbers
    for n in range(2, min(longest, size) + 1):
        keys = kinds * base + words[places + (n - 1)]
        keys, places = _together(keys, places, bits, max(size, base) * base)
        same = np.zeros(len(keys) + 1, bool)  # whether a key is that of the one before
        np.equal(keys[1:], keys[:-1], out=same[1:-1])
        often = (same[1:] | same[:-1]).nonzero()[0]
        places, again = places[often], same[often]
        kinds = (~again).cumsum()
        yield Runs(n, places, again, kinds)


def _together(keys: np.ndarray, places: np.ndarray, bits: int, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys below `bound` in order, and their places of `bits` bits; those of equal keys in order too."""
    import numpy as np

    if bound.bit_length() + bits > 63:
        order = np.lexsort((places, keys))
        return keys[order], places[order]
    both = keys << bits | places  # much faster to sort than one by the other
    both.sort()
    return both >> bits, both & ((1 << bits) - 1)


FILTER = Filter(
    name="gopher-repetition",
    description="Drops running text that repeats paragraphs, lines or runs of words.",
    make=lambda options, language: step(rule(options), language),
    source="arXiv 2112.11446, table A1",
    options=OPTIONS,
)
