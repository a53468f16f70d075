"""Cuts files into blocks: lines of JSON, arrays of JSON, texts and Parquet; for tables see `langadapt.corpus.tables`.

A cutter takes a file, its place and the size of a block in bytes. Where a block ends follows from the content of the file
alone: with the record that brings it to that size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from langadapt.corpus.blocks import BOM, Block, broken_off
from langadapt.corpus.files import CUT_SHORT, DAMAGED, Content, Watch, unreadable
from langadapt.corpus.layouts import Row
from langadapt.corpus.tables import cut_table
from langadapt.records import Rejected

# --- JSON, a record a line -------------------------------------------------------------------------------------------


def cut_lines(place: str, file: Path, size: int) -> Iterator[Block]:
    """Lines as they stand in the file; what is behind the last line end of a file that breaks off is refused."""
    content, first = Content(file), 1
    held = bytearray()
    for piece in content:
        searched = max(size - 1, len(held))
        held += piece
        while end := held.find(b"\n", searched) + 1:
            yield Block(place=place, first=first, raw=bytes(held[:end]))
            first += held.count(b"\n", 0, end)
            del held[:end]
            searched = size - 1
    end = held.rfind(b"\n") + 1 if content.flaw else len(held)
    if end:
        yield Block(place=place, first=first, raw=bytes(held[:end]))
        first += held.count(b"\n", 0, end)
    if content.flaw:
        yield broken_off(place, first, content.flaw, len(held) - end)


# --- JSON, one array -------------------------------------------------------------------------------------------------

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[][{},]', re.DOTALL)  # a text to its end, or a mark between texts


def cut_json(place: str, file: Path, size: int) -> Iterator[Block]:
    """An array of objects; a `.json` file that holds an object a line is read as lines, as hub data sets have it."""
    start = b""
    for piece in Content(file):
        start = (start + piece).removeprefix(BOM).lstrip()
        if start:
            break
    return (cut_array if start.startswith(b"[") else cut_lines)(place, file, size)


def cut_array(place: str, file: Path, size: int) -> Iterator[Block]:
    """The elements of an array as lines: between texts a line end means nothing, and inside of them JSON has none."""
    elements = _Elements(Content(file), size)
    first, held, number = 1, bytearray(), 0
    for number, element in enumerate(elements, start=1):
        held += element.replace(b"\n", b"\r") + b"\n"
        if len(held) >= size:
            yield Block(place=place, first=first, raw=bytes(held))
            first, held = number + 1, bytearray()
    if held:
        yield Block(place=place, first=first, raw=bytes(held))
    if elements.flaw:
        yield broken_off(place, number + 1, elements.flaw, elements.left)


class _Elements:
    """The elements of a JSON array, found by their marks alone, so that a bad one whose brackets match costs no other.

    Attributes:
        flaw: after the last element: why what follows is not read, or "".
        left: bytes that are not read for it.
    """

    def __init__(self, content: Content, size: int):
        self.content, self.size = content, size
        self.flaw, self.left = "", 0
        self._held, self._start, self._at = b"", 0, 0  # bytes; where an element begins; how far they were looked at
        self._depth, self._number, self._closed = 0, 0, False

    def __iter__(self) -> Iterator[bytes]:
        for piece in _joined(self.content, self.size):
            if self._closed:
                self.left += len(piece.strip())
                continue
            self._held, self._at, self._start = self._held[self._start :] + piece, self._at - self._start, 0
            yield from self._found()
            if self._closed:
                self.left = len(self._held[self._at :].strip())
        if not self._closed:
            self.flaw, self.left = self.content.flaw or CUT_SHORT, len(self._held) - self._start
        elif self.left:
            self.flaw = "not valid JSON"

    def _found(self) -> Iterator[bytes]:
        """Elements that end in what is held."""
        while not self._closed and (token := _TOKEN.search(self._held, self._at)):
            if token[0][:1] == b'"' and not token[1]:  # a text that goes on in the next piece
                self._at = token.start()
                return
            self._at = token.end()
            if self._ends(token[0]):
                element = self._held[self._start : token.start()].strip()
                self._start = self._at
                if element or self._number or not self._closed:  # else the array is empty
                    self._number += 1
                    yield element or b","  # nothing between two commas is no JSON
        if not self._closed:
            self._at = len(self._held)

    def _ends(self, mark: bytes) -> bool:
        """Whether an element ends here; follows how deep the marks lead."""
        if mark in (b"[", b"{"):
            self._depth += 1
            self._start = self._at if self._depth == 1 else self._start
        elif mark == b"]" or (mark == b"}" and self._depth > 1):
            self._depth -= 1
            self._closed = self._depth == 0
        return self._closed or (mark == b"," and self._depth == 1)


def _joined(pieces: Iterable[bytes], least: int) -> Iterator[bytes]:
    """The same bytes in pieces that are not small, because a text that goes on is looked at again."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= least:
            yield bytes(held)
            held.clear()
    yield bytes(held)


# --- a document a file, and columns ----------------------------------------------------------------------------------


def cut_text(place: str, file: Path, size: int) -> Iterator[Block]:
    """The whole file as one row with a `text`."""
    content = Content(file)
    raw = b"".join(content)
    row: Row | Rejected
    try:
        row = {"text": raw.removeprefix(BOM).decode("utf-8")}
    except UnicodeDecodeError:
        row = Rejected(reason="not UTF-8", where=f"{place}:1", size=len(raw))
    if content.flaw:
        row = Rejected(reason=content.flaw, where=f"{place}:1", size=len(raw))
    yield Block(place=place, first=1, raw=[row])


def cut_parquet(place: str, file: Path, size: int) -> Iterator[Block]:
    """Batches of a few megabytes by the file's own account of its row groups."""
    import pyarrow
    import pyarrow.parquet

    number, watch = 1, Watch(file)
    try:
        with pyarrow.parquet.ParquetFile(file, pre_buffer=False) as table:
            groups = [table.metadata.row_group(i) for i in range(table.num_row_groups)]
            for index, group in enumerate(groups):
                rows = max(1, size * group.num_rows // max(1, group.total_byte_size))
                for batch in table.iter_batches(batch_size=min(rows, 1 << 16), row_groups=[index]):
                    watch.check()
                    found = _batch_rows(batch)
                    yield Block(
                        place=place,
                        first=number,
                        raw=[_or_refused(row, place, n) for n, row in enumerate(found, number)],
                    )
                    number += len(found)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        # Of a damaged page Arrow says an OSError too, but one without the system's number.
        if getattr(error, "errno", None):
            raise unreadable(file, cast(OSError, error)) from None
        yield broken_off(place, number, DAMAGED, 0)
    watch.check()


def _or_refused(row: Row | None, place: str, number: int) -> Row | Rejected:
    return Rejected(reason="not UTF-8", where=f"{place}:{number}") if row is None else row


def _batch_rows(batch: Any) -> list[Row | None]:
    """Rows of a record batch; None for one whose text is not UTF-8, which neither writers nor Arrow check."""
    try:
        return cast(list[Row | None], batch.to_pylist())
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        half = batch.num_rows // 2
        return _batch_rows(batch.slice(0, half)) + _batch_rows(batch.slice(half))


CUTTERS: dict[str, Callable[[str, Path, int], Iterator[Block]]] = {
    ".jsonl": cut_lines, ".ndjson": cut_lines, ".json": cut_json, ".csv": cut_table(","), ".tsv": cut_table("\t"),
    ".txt": cut_text, ".md": cut_text, ".parquet": cut_parquet,
}  # fmt: skip
