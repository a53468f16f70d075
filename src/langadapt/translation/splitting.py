"""A text taken apart into what is translated and what stays, and put together again exactly as it was.

Line breaks, indentation, list markers, headings, quotation marks of Markdown, table rules, and blocks of code and
formulas stay. What is between them are paragraphs: text without line breaks and without spaces at its ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A stretch of a text: a paragraph or sentence to `translate`, or what stays as it is."""

    text: str
    translate: bool


# Everything that `str.splitlines` takes for a line's end.
_BREAKS = re.compile(r"([\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+)")
_MARKERS = re.compile(r"(?:\s|>|[-*+•–—](?=\s)|#{1,6}(?=\s)|\d{1,3}[.)](?=\s)|[A-Za-z]\)(?=\s)|\[[ xX]\](?=\s))*+")
_CELL = re.compile(r"(\s*\|\s*)")
_FENCE = re.compile(r"\s*(?:[-*+>]\s+)?(`{3,}(?=[^`]*$)|~{3,})")
# Blocks other than fences: how the first line begins, and what the last one holds, with `{0}` for the block's name.
_BLOCKS = (
    (re.compile(r"\s*\$\$(?!.*\$\$)"), r"\$\$"),
    (re.compile(r"\s*\\\[(?!.*\\\])"), r"\\\]"),
    (re.compile(r"\s*\\begin\{([A-Za-z]+\*?)\}(?!.*\\end\{\1\})"), r"\\end\{{{0}\}}"),
    (re.compile(r"\s*<(pre|script|style)\b(?!.*</\1)", re.IGNORECASE), r"</{0}"),
)


def pieces(text: str) -> list[Piece]:
    """The pieces of a text in order; their texts one after the other are the text."""
    return [piece for piece in _pieces(text) if piece.text]


def joined(parts: Iterable[Piece], translations: Iterable[str]) -> str:
    """The text again, with a translation in place of each piece that is to be translated."""
    done = iter(translations)
    return "".join(next(done) if piece.translate else piece.text for piece in parts)


def _pieces(text: str) -> Iterator[Piece]:
    until: re.Pattern[str] | None = None  # inside a block: what its last line holds
    for number, line in enumerate(_BREAKS.split(text)):
        if number % 2:
            yield Piece(line, False)
        elif until is not None:
            yield Piece(line, False)
            until = None if until.search(line) else until
        elif (until := _opened(line)) is not None:
            yield Piece(line, False)
        else:
            yield from _line(line)


def _opened(line: str) -> re.Pattern[str] | None:
    """When a line begins a block: what will end it; an unclosed block goes to the end, as Markdown has it."""
    if fence := _FENCE.match(line):
        mark = fence.group(1)
        return re.compile(rf"^\s*{re.escape(mark[0])}{{{len(mark)},}}\s*$")
    return next((_ending(opened, end) for start, end in _BLOCKS if (opened := start.match(line))), None)


def _ending(opened: re.Match[str], end: str) -> re.Pattern[str]:
    name = opened.groups()
    return re.compile(end.format(re.escape(name[0])) if name else end, re.IGNORECASE)


def _line(line: str) -> Iterator[Piece]:
    if line.lstrip().startswith("|"):
        for number, cell in enumerate(_CELL.split(line)):
            yield from [Piece(cell, False)] if number % 2 else _spoken(cell)
        return
    marker = _MARKERS.match(line)
    assert marker is not None  # it may be empty, but it matches
    yield Piece(marker.group(), False)
    yield from _spoken(line[marker.end() :])


def _spoken(text: str) -> Iterator[Piece]:
    """Text without its outer spaces; what has no letter in it is in no language."""
    inner = text.strip()
    if not any(character.isalpha() for character in inner):
        yield Piece(text, False)
        return
    start = text.index(inner)
    yield Piece(text[:start], False)
    yield Piece(inner, True)
    yield Piece(text[start + len(inner) :], False)


# An end mark with what may close after it, then space and what may begin a sentence. Marks of East Asian scripts need
# no space.
_END = re.compile(r"[.!?…]+[\"'”’»)\]*_]*(\s+)(?=[\"'“‘«(\[*_¿¡⟦]*[^\W_a-zà-ÿ])|[。！？]+[」』”]*(\s*)(?=\S)")
# A point after these ends no sentence: an initial, a short word with a capital (Mr, Prof), one with a point inside.
_SHORT = re.compile(r"(?:^|[\s(\[\"'“‘«])(?:[^\W\d_]|[A-ZÀ-Þ][a-zà-ÿ]{1,3}|\w+(?:\.\w+)+)\.$")


def sentences(text: str) -> list[Piece]:
    """The sentences of a paragraph and the spaces between them, in order.

    Knows no language, so it is careful: where a point may belong to an abbreviation, there is no end. Two sentences
    that stay together harm less than one that is torn.
    """
    found, start = [], 0
    for end in _END.finditer(text):
        group = 1 if end.group(1) is not None else 2
        gap = end.start(group)
        if group == 1 and _SHORT.search(text, max(0, gap - 24), gap):
            continue
        found += [Piece(text[start:gap], True), Piece(end.group(group), False)]
        start = end.end()
    return [piece for piece in (*found, Piece(text[start:], True)) if piece.text]
