"""Boilerplate: menus, notices and links that stand around a text, by what one document shows.

Text that was taken from web pages begins with a menu and ends with a list of links; consent notices stand anywhere. Known
by their form are *stubs*: short lines without an end mark, and lines of parts between separators (Home › News › Sport).
One stub is a title, a few are a list; a longer series at the edge of a document is furniture. Known by their words are
the notices: the language's own phrases. The idea, that short lines count for little between long ones and much beside
each other, is jusText's (Pomikálek, 2011); markup, which jusText reads, is gone here. What is the same on many pages of a
site can only be seen by looking at many documents; nothing here does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langadapt.records import Document, Filter, Language

OPTIONS: Mapping[str, Any] = {
    "stub": 50,
    "series": 4,
    "title": True,
    "phrase_share": 0.25,
    "phrases": [],
}

# What tells a line of text from an entry of a menu, quotes and brackets after it aside.
_END = re.compile(r"[.!?…:;,。！？。؟۔।][\"'»”’)\]]*$")
_SEPARATED = re.compile(r"\s(?:[|›»>·•→/]|[–—])\s")


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Takes boilerplate out of running text and drops what is nothing else; dialogues and instructions pass.

    Lines of which the language's phrases and `phrases` make up at least `phrase_share` go, wherever they stand. Then goes
    a series of at least `series` stubs at either edge; blank lines do not end it. The last stub before the text, its
    title, stays if `title` says so. A stub has at most `stub` characters, 0 to leave the edges alone.
    """
    phrases = (*(language.boilerplate if language else ()), *options["phrases"])
    is_notice = _notice_rule(phrases, options["phrase_share"], language.lower if language else str.lower)
    least = options["series"] if options["stub"] else 0

    def clean(document: Document) -> Document | str:
        if document.messages:
            return document
        lines = document.text.split("\n")
        kept = [line for line in lines if not is_notice(line)]
        if least:
            kept = _without_edges(kept, lambda line: is_stub(line, options["stub"]), least, title=options["title"])
        if not any(map(str.strip, kept)):
            return "only boilerplate"
        return document if len(kept) == len(lines) else replace(document, text="\n".join(kept))

    return clean


def is_stub(line: str, longest: int) -> bool:
    """Whether a line that is not blank is short and without an end mark, or made of three parts between separators."""
    line = line.strip()
    return not _END.search(line) and (len(line) <= longest or len(_SEPARATED.findall(line)) >= 2)


def _without_edges(lines: list[str], holds: Callable[[str], bool], least: int, *, title: bool) -> list[str]:
    """The lines without a series of at least `least` that hold, at the beginning and at the end."""
    begin, number = _series(lines, holds)
    if number < least:
        begin = 0
    elif title and begin < len(lines):
        begin = max(i for i in range(begin) if lines[i].strip())
    end, number = _series(lines[begin:][::-1], holds)
    return lines[begin : len(lines) - end] if number >= least else lines[begin:]


def _series(lines: Sequence[str], holds: Callable[[str], bool]) -> tuple[int, int]:
    """Where the first line that is neither blank nor holds is, and how many before it hold."""
    number = 0
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        if not holds(line):
            return place, number
        number += 1
    return len(lines), number


def _notice_rule(phrases: Sequence[str], share: float, lower: Callable[[str], str]) -> Callable[[str], bool]:
    """Whether phrases make up enough of a line; they stand by themselves, and case does not matter."""

    def plain(text: str) -> str:
        return lower(text).replace("’", "'")

    ordered = sorted({plain(phrase) for phrase in phrases if phrase.strip()}, key=len, reverse=True)
    if not ordered or not share:
        return lambda line: False
    find = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, ordered)) + r")(?!\w)").findall

    def is_notice(line: str) -> bool:
        line = line.strip()
        return bool(line) and sum(map(len, find(plain(line)))) >= share * len(line)

    return is_notice


FILTER = Filter(
    name="boilerplate",
    description="Takes menus and link lists off the ends of running text, and notices out of it anywhere.",
    make=make,
    source="Pomikálek 2011, Removing Boilerplate and Duplicate Content from Web Corpora, section 3",
    options=OPTIONS,
)
