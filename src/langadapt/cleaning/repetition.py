"""Repetition: lines, paragraphs and runs of words that come again and again.

The rules of Gopher (arXiv 2112.11446, table A1) as datatrove reads them, verdict for verdict: shares are of all
characters, line breaks and blanks included; the most frequent run of 2, 3 or 4 words counts with the blanks between
them, even if it comes only once; runs of 5 to 10 words count without, each word at most once for each length.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from langadapt.cleaning.running_text import Rule, RunningText, step
from langadapt.records import Filter

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

_PARAGRAPH = re.compile(r"\n{2,}")
_LINE = re.compile(r"\n+")


def rule(limits: Mapping[str, Any]) -> Rule:
    """Whether a text repeats itself: the first limit of `OPTIONS` that it exceeds; a limit of 0 is off."""
    paragraphs = (limits.get("duplicate_paragraphs", 0), limits.get("duplicate_paragraph_characters", 0))
    lines = (limits["duplicate_lines"], limits["duplicate_line_characters"])
    longest = max((n for n in (*TOP, *REPEATED) if limits[_name(n)]), default=0)

    def judge(running: RunningText) -> str:
        text = running.text
        if exceeds(_PARAGRAPH.split(text.strip()), len(text), *paragraphs):
            return "repeated paragraphs"
        if exceeds(_LINE.split(text), len(text), *lines):
            return "repeated lines"
        if not longest:
            return ""
        for n, characters in repeated_characters(running.words, longest):
            limit = limits[_name(n)]
            if limit and characters / len(text) > limit:
                return f"repeated runs of {n} words"
        return ""

    return judge


def _name(n: int) -> str:
    return f"top_{n}" if n in TOP else f"repeated_{n}"


def exceeds(parts: Sequence[str], size: int, most: float, most_characters: float) -> bool:
    """Whether too many parts, or parts with too many of `size` characters, stood there before; a limit of 0 is off."""
    seen: set[str] = set()
    number = characters = 0
    for part in parts:
        if part in seen:
            number += 1
            characters += len(part)
        else:
            seen.add(part)
    if not characters:
        return False
    return bool((most and number / len(parts) > most) or (most_characters and characters / size > most_characters))


def repeated_characters(words: Sequence[str], longest: int) -> Iterator[tuple[int, int]]:
    """Characters of repeated runs, for runs of 2 words, 3 words and so on, up to `longest` words.

    A run of n + 1 words can only come again where its first n words do, so each length looks at the places alone that
    the one before has left; runs are numbered, and a longer one is known by the number of a shorter one and a word.
    """
    numbers: dict[str, int] = {}
    ids = [numbers.setdefault(word, len(numbers)) for word in words]
    ends = [0, *accumulate(map(len, words))]
    places: Sequence[int] = range(len(ids))
    runs: Sequence[int] = ids  # the run of n words at each place
    for n in range(2, longest + 1):
        if len(ids) < n:
            return
        keys = list(_longer(places, runs, ids, n))
        counts = Counter(keys)
        again = [(place, key) for place, key in zip(places, keys, strict=False) if counts[key] > 1]
        yield n, _most_frequent(again, counts, ends, n) if n in TOP else _covered(again, ends, n)
        renumbered: dict[int, int] = {}
        places = [place for place, _ in again]
        runs = [renumbered.setdefault(key, len(renumbered)) for _, key in again]


def _longer(places: Sequence[int], runs: Sequence[int], ids: Sequence[int], n: int) -> Iterator[int]:
    """The run of n words at each place, as one number; a place too near the end has none, and is among the last."""
    size, last = len(ids), len(ids) - n
    return (run * size + ids[place + n - 1] for place, run in zip(places, runs, strict=True) if place <= last)


def _most_frequent(again: Sequence[tuple[int, int]], counts: Mapping[int, int], ends: Sequence[int], n: int) -> int:
    """Characters of all occurrences of the most frequent run; of the first one in the text where none comes twice."""
    if not again:
        return ends[n] + n - 1
    place, key = max(again, key=lambda found: counts[found[1]])
    return counts[key] * (ends[place + n] - ends[place] + n - 1)


def _covered(again: Iterable[tuple[int, int]], ends: Sequence[int], n: int) -> int:
    """Characters in runs that stood there before; a run that is counted covers its words, and none begins in it."""
    seen: set[int] = set()
    characters = free = 0
    for place, key in again:
        if place < free:
            continue
        if key in seen:
            characters += ends[place + n] - ends[place]
            free = place + n
        else:
            seen.add(key)
    return characters


FILTER = Filter(
    name="gopher-repetition",
    description="Drops running text that repeats lines, paragraphs or runs of words.",
    make=lambda options, language: step(rule(options), language),
    source="arXiv 2112.11446, table A1",
    options=OPTIONS,
)
