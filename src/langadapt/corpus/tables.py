"""Cuts tables with delimiters (`.csv`, `.tsv`) into blocks of rows; a stray quote costs one line."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from langadapt.corpus.blocks import Block
from langadapt.corpus.files import Content
from langadapt.corpus.layouts import Row
from langadapt.errors import UserError
from langadapt.records import Rejected

LONGEST_QUOTED = 16 << 20  # characters of a row that goes on over line ends; beyond that, a quote is missing


def cut_table(delimiter: str) -> Callable[[str, Path, int], Iterator[Block]]:
    """The cutter of tables with this delimiter, see `langadapt.corpus.cutting`."""

    def cut(place: str, file: Path, size: int) -> Iterator[Block]:
        table = Table(Content(file), delimiter)
        rows: list[Row | Rejected] = []
        lines: list[int] = []
        held = 0
        for number, row, length in table.rows(place):
            rows.append(row)
            lines.append(number)
            held += length
            if held >= size:
                yield Block(place=place, first=lines[0], raw=rows, lines=lines)
                rows, lines, held = [], [], 0
        if rows:
            yield Block(place=place, first=lines[0], raw=rows, lines=lines)

    return cut


class Table:
    """Rows of a table, of which a missing or a stray quote costs one line and never those that follow.

    Python's parser goes on to the next quote, or to the end of the file. Where it finds that the quotes of a row do
    not match, or a row goes on over line ends for more than `LONGEST_QUOTED`, the line that the row began with is
    refused, and reading goes on with the line after it.
    """

    def __init__(self, content: Content, delimiter: str):
        csv.field_size_limit(2**31 - 1)
        self.content, self.delimiter = content, delimiter
        raw = io.BufferedReader(_Raw(content))
        self.lines = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self.again: deque[str] = deque()  # lines to be looked at once more
        self.taken: list[str] = []  # lines of the present row
        self.length = 0  # their characters
        self.ended = False

    def rows(self, place: str) -> Iterator[tuple[int, Row | Rejected, int]]:
        """Line that it begins at, the row, and its bytes."""
        header: list[str] = []
        number, flawed = 0, False
        for number, cells, line in self._records():
            size = len(line.encode("utf-8", "surrogateescape"))
            if self._breaks_off(line):
                cells = self.content.flaw
            elif not _is_utf8(line):
                cells = "not UTF-8"
            flawed = bool(self.content.flaw) and cells == self.content.flaw
            if not header and not flawed:
                header = self._header(cells)
            elif isinstance(cells, str):
                yield number, Rejected(reason=cells, where=f"{place}:{number}", size=size), size
            elif len(cells) != len(header):
                yield number, Rejected(reason="wrong number of columns", where=f"{place}:{number}", size=size), size
            else:
                yield number, dict(zip(header, cells, strict=True)), size
        if self.content.flaw and not flawed:
            number += 1
            yield number, Rejected(reason=self.content.flaw, where=f"{place}:{number}"), 0

    def _header(self, cells: list[str] | str) -> list[str]:
        if isinstance(cells, str):
            raise UserError(
                f"corpus {self.content.file}: its first line, which names the columns, cannot be read ({cells}); "
                "write the names into it"
            )
        return cells

    def _breaks_off(self, line: str) -> bool:
        """Whether this is the record that the file breaks off in."""
        return bool(self.content.flaw) and not self.again and not line.endswith(("\n", "\r"))

    def _records(self) -> Iterator[tuple[int, list[str] | str, str]]:
        """Line number, cells or why there are none, and the text of all lines that a record takes."""
        number = 1
        reader = csv.reader(self, delimiter=self.delimiter, strict=True)
        while True:
            self.taken, self.length = [], 0
            cells: list[str] | str
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                cells = self.content.flaw if self.ended else ""
                if not cells:
                    cells = "misplaced quote"
                    self.again.extendleft(reversed(self.taken[1:]))
                    del self.taken[1:]
                reader = csv.reader(self, delimiter=self.delimiter, strict=True)
            if cells:  # a blank line is no record
                yield number, cells, "".join(self.taken)
            number += len(self.taken)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.again:
            line = self.again.popleft()
        else:
            line = self.lines.readline()
            if not line:
                self.ended = True
                raise StopIteration
        self.taken.append(line)
        self.length += len(line)
        if self.length > LONGEST_QUOTED and len(self.taken) > 1:
            raise csv.Error
        return line


def _is_utf8(line: str) -> bool:
    """Whether the bytes that a line was decoded from were text."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Raw(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterable[bytes]):
        self._pieces, self._left = iter(pieces), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        size = min(len(room), len(self._left))
        room[:size], self._left = self._left[:size], self._left[size:]
        return size
