"""From files to documents, strictly: every record becomes a document or is refused by name, with its place.

Reading has two halves. `blocks` cuts files, in order, into stretches of a few megabytes; that is cheap, and where a
stretch ends follows from the content alone. `documents` makes documents of a block; that is where the time goes, and
because it depends on nothing but the block, any number of processes may do it.

Libraries lose data here in silence (one bad byte drops a whole buffer, a byte-order mark the first document), so the
reading of line formats is ours.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import orjson

from langadapt.corpus.files import CUT_SHORT, DAMAGED, Content, Watch, ending, placed, unreadable
from langadapt.corpus.layouts import LAYOUTS, BadRow, Row, lacking, recognise
from langadapt.errors import UserError
from langadapt.records import Document, Rejected

SIZE = 4 << 20  # bytes of a block
LONGEST_QUOTED = 16 << 20  # characters of a table's row that goes on over line ends; beyond that, a quote is missing
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


# --- what others call ------------------------------------------------------------------------------------------------


def read_documents(
    path: str, *, layout: str = "", columns: Mapping[str, str] | None = None
) -> Iterator[Document | Rejected]:
    """Documents of one path, in file order; what could not become one comes as `Rejected`.

    Args:
        path: file, folder or glob.
        layout: a name of `LAYOUTS`; found out from the first row's columns, file by file, when empty.
        columns: our column name to yours.

    Raises:
        UserError: nothing to read, a file cannot be read or changes meanwhile, or the first row of a file lacks the
            columns of the layout.
    """
    for block in blocks(path, layout=layout, columns=columns):
        yield from documents(block, block.layout, columns or {})


def blocks(
    path: str, *, layout: str = "", columns: Mapping[str, str] | None = None, size: int = SIZE
) -> Iterator[Block]:
    """The files of a path as blocks; arguments and errors as of `read_documents`.

    Args:
        size: a block ends with the first record that brings it to so many bytes.
    """
    return blocks_of(placed(path), layout=layout, columns=columns, size=size)


def blocks_of(
    files: Iterable[tuple[str, Path]],
    *,
    layout: str = "",
    columns: Mapping[str, str] | None = None,
    size: int = SIZE,
) -> Iterator[Block]:
    """Blocks of files, each given with its place; a file is asked for when those before it are read."""
    for place, file in files:
        known = layout if layout == "document" else ""
        for block in _CUTTERS[ending(file)](place, file, size):
            if not known:
                first = next((row for _, row in block.rows() if not isinstance(row, Rejected)), None)
                known = "" if first is None else _checked_layout(file, layout, first, columns or {})
            yield replace(block, layout=known)


def documents(block: Block, layout: str, columns: Mapping[str, str]) -> Iterator[Document | Rejected]:
    """Documents of a block, or why there is none; the same in every process.

    Args:
        block: of `blocks`.
        layout: what the recipe says; "" for what the file's first row told.
        columns: our column name to yours.
    """
    convert = LAYOUTS.get(layout or block.layout, LAYOUTS["text"])  # no layout is found where no row can be read
    for number, row in block.rows():
        if isinstance(row, Rejected):
            yield row
            continue
        where = f"{block.place}:{number}"
        if columns:
            row = {**row, **{ours: row[theirs] for ours, theirs in columns.items() if theirs in row}}
        try:
            yield convert(row, where)
        except BadRow as problem:
            size = len(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace"))
            yield Rejected(reason=str(problem), where=where, size=size)


def unless_bad(items: Iterable[Document | Rejected], label: str) -> Iterator[Document]:
    """The documents of a corpus in which every record is to be good.

    Raises:
        UserError: one is not.
    """
    for item in items:
        if isinstance(item, Rejected):
            raise UserError(
                f"corpus {label}: {item.where}: {item.reason}; mend it, or leave such records out with "
                'on_bad_record = "drop"'
            )
        yield item


def _checked_layout(file: Path, layout: str, row: Row, columns: Mapping[str, str]) -> str:
    """The layout of a file by its first row."""
    have = ", ".join(sorted(map(str, row))) or "none"
    for ours, theirs in columns.items():
        if theirs not in row:
            raise UserError(f'corpus {file}: there is no column "{theirs}" (asked for as {ours}); its columns: {have}')
    names = {*row, *columns}
    found = layout or recognise(names)
    if not found:
        raise UserError(
            f'corpus {file}: no known layout has its columns ({have}); name the text with columns = {{ text = "…" }}'
        )
    missing = lacking(found, names)
    if missing:
        raise UserError(
            f'corpus {file}: the layout "{found}" needs the column "{missing[0]}"; its columns: {have}; '
            f'name yours with columns = {{ {missing[0]} = "…" }}'
        )
    return found


# --- JSON, a record a line -------------------------------------------------------------------------------------------


def _cut_lines(place: str, file: Path, size: int) -> Iterator[Block]:
    content, first = Content(file), 1
    held = bytearray()
    for piece in content:
        searched = max(size - 1, len(held))
        held += piece
        while end := held.find(b"\n", searched) + 1:
            block = Block(place=place, first=first, raw=bytes(held[:end]))
            yield block
            first += held.count(b"\n", 0, end)
            del held[:end]
            searched = size - 1
    end = held.rfind(b"\n") + 1 if content.flaw else len(held)
    if end:
        yield Block(place=place, first=first, raw=bytes(held[:end]))
        first += held.count(b"\n", 0, end)
    if content.flaw:
        yield _end(place, first, content.flaw, len(held) - end)


def _end(place: str, number: int, flaw: str, size: int) -> Block:
    """The record that a file breaks off in."""
    return Block(place=place, first=number, raw=[Rejected(reason=flaw, where=f"{place}:{number}", size=size)])


def _json_rows(raw: bytes, place: str, first: int) -> Iterator[tuple[int, Row | Rejected]]:
    for number, line in enumerate(raw.split(b"\n"), start=first):
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


# --- JSON, one array -------------------------------------------------------------------------------------------------

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[][{},]', re.DOTALL)  # a text to its end, or a mark between texts


def _cut_json(place: str, file: Path, size: int) -> Iterator[Block]:
    """An array of objects; a `.json` file that holds an object a line is read as lines, as hub data sets have it."""
    start = b""
    for piece in Content(file):
        start = (start + piece).removeprefix(BOM).lstrip()
        if start:
            break
    return (_cut_array if start.startswith(b"[") else _cut_lines)(place, file, size)


def _cut_array(place: str, file: Path, size: int) -> Iterator[Block]:
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
        yield _end(place, number + 1, elements.flaw, elements.left)


class _Elements:
    """The elements of a JSON array, found by their marks alone, so that a bad one whose brackets match costs no other.

    Attributes:
        flaw: after the last element: why what follows is not read, or "".
        left: bytes that are not read for it.
    """

    def __init__(self, content: Content, size: int):
        self.content, self.size = content, size
        self.flaw, self.left = "", 0

    def __iter__(self) -> Iterator[bytes]:
        held, at, start, depth = b"", 0, 0, 0
        closed = some = False
        for piece in _joined(self.content, self.size):
            if closed:
                self.left += len(piece.strip())
                continue
            held, at, start = held[start:] + piece, at - start, 0
            while not closed and (token := _TOKEN.search(held, at)):
                if token[1] == b"" and token[0][:1] == b'"':  # the text goes on in the next piece
                    at = token.start()
                    break
                at = token.end()
                if token[0] in (b"[", b"{"):
                    depth += 1
                    start = at if depth == 1 else start
                elif token[0] == b"]" or (token[0] == b"}" and depth > 1):
                    depth -= 1
                    closed = depth == 0
                if closed or (token[0] == b"," and depth == 1):
                    element = held[start : token.start()].strip()
                    if element or some or not closed:
                        yield element or b","  # nothing between two commas is no JSON
                    some, start = True, at
            else:
                at = at if closed else len(held)
            if closed:
                self.left = len(held[at:].strip())
        if not closed:
            self.flaw, self.left = self.content.flaw or CUT_SHORT, len(held) - start
        elif self.left:
            self.flaw = "not valid JSON"


def _joined(pieces: Iterable[bytes], least: int) -> Iterator[bytes]:
    """The same bytes in pieces that are not small, because a text that goes on is looked at again."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= least:
            yield bytes(held)
            held.clear()
    yield bytes(held)


# --- tables with delimiters ------------------------------------------------------------------------------------------


def _cut_table(delimiter: str) -> Callable[[str, Path, int], Iterator[Block]]:
    def cut(place: str, file: Path, size: int) -> Iterator[Block]:
        table = _Table(Content(file), delimiter)
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


class _Table:
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
        number, flawed = 1, False
        for number, cells, line in self._records():
            size = len(line.encode("utf-8", "surrogateescape"))
            if self._breaks_off(line):
                cells, flawed = self.content.flaw, True
            elif not _is_utf8(line):
                cells = "not UTF-8"
            if not header:
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

    def _breaks_off(self, line: str) -> bool:
        """Whether this is the record that the file breaks off in."""
        return bool(self.content.flaw) and not self.again and not line.endswith(("\n", "\r"))

    def _header(self, cells: list[str] | str) -> list[str]:
        if isinstance(cells, str):
            raise UserError(
                f"corpus {self.content.file}: its first line, which names the columns, cannot be read: {cells}"
            )
        return cells

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
                cells = "misplaced quote"
                if not (self.content.flaw and self.ended):  # else the record that the file breaks off in
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


# --- a document a file, and columns ----------------------------------------------------------------------------------


def _cut_text(place: str, file: Path, size: int) -> Iterator[Block]:
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


def _cut_parquet(place: str, file: Path, size: int) -> Iterator[Block]:
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
    except pyarrow.ArrowInvalid:
        yield _end(place, number, DAMAGED, 0)
    except OSError as error:  # what Arrow says of a damaged page is an OSError too, without a number
        if error.errno:
            raise unreadable(file, error) from None
        yield _end(place, number, DAMAGED, 0)
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


_CUTTERS: dict[str, Callable[[str, Path, int], Iterator[Block]]] = {
    ".jsonl": _cut_lines, ".ndjson": _cut_lines, ".json": _cut_json, ".csv": _cut_table(","), ".tsv": _cut_table("\t"),
    ".txt": _cut_text, ".md": _cut_text, ".parquet": _cut_parquet,
}  # fmt: skip
