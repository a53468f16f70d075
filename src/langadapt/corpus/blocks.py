"""A stretch of a file, and the rows in it: the unit in which corpora are handed to other processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import orjson

from langadapt.corpus.layouts import Row
from langadapt.records import Rejected

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A stretch of one file, to be made into documents by any process. Small files make small blocks.

    Attributes:
        place: the file as messages show it: its path under the source's root, so that places are unique.
        first: number of the first line or row, from 1.
        raw: JSON records as they stand in the file, one a line, or rows that are parsed already.
        lines: of parsed rows, the line that each begins at; empty where they are numbered one by one.
        layout: how the file's rows become documents; "" while none of its rows could be read.
    """

    place: str
    first: int
    raw: bytes | list[Row | Rejected]
    lines: Sequence[int] = ()
    layout: str = ""

    def rows(self) -> Iterator[tuple[int, Row | Rejected]]:
        """What the block holds, with its numbers."""
        if isinstance(self.raw, bytes):
            return _json_rows(self.raw, self.place, self.first)
        return zip(self.lines or range(self.first, self.first + len(self.raw)), self.raw, strict=True)


def broken_off(place: str, number: int, flaw: str, size: int) -> Block:
    """A block of the record that a file breaks off in, which is refused as `flaw`."""
    return Block(place=place, first=number, raw=[Rejected(reason=flaw, where=f"{place}:{number}", size=size)])


def _json_rows(raw: bytes, place: str, first: int) -> Iterator[tuple[int, Row | Rejected]]:
    for number, ended in enumerate(BytesIO(raw), start=first):  # one line at a time: they are as large as the block
        line = ended.removesuffix(b"\n")
        row = _json_row(line)
        if isinstance(row, str):
            yield number, Rejected(reason=row, where=f"{place}:{number}", size=len(line))
        elif row is not None:
            yield number, row


def _json_row(line: bytes) -> Row | str | None:
    """The object in a line, or why there is none; None of a blank line, which is no record."""
    try:
        row = orjson.loads(line)
    except ValueError:
        return _second_look(line)
    return row if type(row) is dict else "not a JSON object"


def _second_look(line: bytes) -> Row | str | None:
    """What the strict parser refuses: a reason for it, unless it is what others put up with.

    A byte-order mark stands where files were joined, and `NaN` where Python wrote the numbers.
    """
    try:
        text = line.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError:
        return "not UTF-8"
    if not text.strip():
        return None
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return "not valid JSON"
    if not isinstance(row, dict):
        return "not a JSON object"
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:  # Python's parser lets them through, and tokenizers and files fail on them later
        return "lone surrogate"
    return row
