"""Reads organisers' files strictly: every row is handed on or refused with its place, and nothing is mended in silence.

Files are read as bytes and decoded as UTF-8 line by line, so that one bad byte costs one row. A byte-order mark at the
start is tolerated; any line end is.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langadapt import Rejected


class BadRow(ValueError):
    """A row does not hold what its task needs; the message is the reason it is counted under."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a file: the line that it begins on (from 1), its bytes in the file, its cells by column."""

    file: Path
    line: int
    size: int
    cells: Mapping[str, Any]

    def rejected(self, reason: str) -> Rejected:
        """The row, refused for a reason."""
        return Rejected(reason=reason, where=f"{self.file.name}:{self.line}", size=self.size)


def csv_rows(file: Path, *, delimiter: str = ",", quoted: bool = True) -> Iterator[Row | Rejected]:
    """Rows of a csv or tsv file with a header.

    Args:
        file: the file.
        delimiter: what stands between cells; another of the usual ones is taken where only that is in the header.
        quoted: whether quoted cells may hold delimiters, quotes and line ends, or a quote is a letter like any other.
    """
    lines = byte_lines(file)
    # An undecodable byte becomes a lone surrogate, which the row that it is in is then refused for.
    reader = csv.reader(
        (line.decode("utf-8", "surrogateescape") for line in lines),
        delimiter=_delimiter(lines, delimiter),
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    header: list[str] | None = None
    for first, cells in _records(reader):
        row = Row(file=file, line=first + 1, size=sum(map(len, lines[first : reader.line_num])), cells={})
        if problem := _problem(cells, header):
            yield row.rejected(problem)
            header = header or []  # after a broken header every row is refused for its number of columns
        elif header is None:
            header = cells
        else:
            yield replace(row, cells=dict(zip(header, cells, strict=True)))


def jsonl_rows(file: Path) -> Iterator[Row | Rejected]:
    """Rows of a file that has a JSON object on each line."""
    for number, line in enumerate(byte_lines(file), start=1):
        if line.strip():
            row = Row(file=file, line=number, size=len(line), cells={})
            try:
                yield replace(row, cells=_json_object(line))
            except BadRow as problem:
                yield row.rejected(str(problem))


def token_rows(file: Path) -> Iterator[Row | Rejected]:
    """Sentences of a file with token TAB tag on each line and a blank line between sentences, as `tokens` and `tags`.

    One bad line refuses its whole sentence, because skipping it would pair the other tokens with a text that they are
    not from.
    """
    sentence: list[tuple[int, bytes]] = []
    for number, line in enumerate([*byte_lines(file), b""], start=1):
        if line.strip():
            sentence.append((number, line))
        elif sentence:
            yield _sentence(file, sentence)
            sentence = []


def cell_of(row: Row, *columns: str) -> Any:
    """What stands in the first of the columns that the row has, in whatever case; None when it has none of them."""
    if columns[0] in row.cells:
        return row.cells[columns[0]]
    by_name = {str(name).strip().casefold(): value for name, value in row.cells.items()}
    return next((by_name[name.casefold()] for name in columns if name.casefold() in by_name), None)


def text_of(row: Row, *columns: str) -> str:
    """The text in a column, or in the first of several names for it that the row has, as it stands there.

    Raises:
        BadRow: there is none.
    """
    value = cell_of(row, *columns)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"no {columns[0]}")
    return value


def code_of(row: Row, *columns: str) -> str:
    """What is written where a label should be, without spaces around it.

    Raises:
        BadRow: nothing, as in test sets published without answers.
    """
    value = cell_of(row, *columns)
    code = "" if value is None else str(value).strip()
    if not code:
        raise BadRow("no label")
    return code


def label_of(row: Row, column: str, labels: Mapping[str, str]) -> str:
    """The label that the code in a column stands for.

    Raises:
        BadRow: there is no code, as in test sets published without answers, or one that is not known.
    """
    code = code_of(row, column)
    if code not in labels:
        raise BadRow("unknown label")
    return labels[code]


def number_of(row: Row, *columns: str) -> float:
    """The finite number in a column, with a decimal point or comma.

    Raises:
        BadRow: there is none, or something else.
    """
    code = code_of(row, *columns)
    try:
        value = float(code.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRow("label is not a number")
    return value


def byte_lines(file: Path) -> list[bytes]:
    """The lines of a file with their ends, a byte-order mark at its start left out."""
    # Bytes are split at \n, \r and \r\n only; a decoded string would also be split at U+2028 and its like in a cell.
    return file.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(keepends=True)


def _delimiter(lines: Sequence[bytes], expected: str) -> str:
    header = lines[0].decode("utf-8", "replace") if lines else ""
    others = [mark for mark in "\t;," if mark in header]
    return expected if expected in header or not others else max(others, key=header.count)


def _records(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Each record with the number of lines before it, blank lines left out; one that is not valid csv is empty."""
    while True:
        first = reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield first, []
        else:
            if cells:
                yield first, cells


def _problem(cells: Sequence[str], header: Sequence[str] | None) -> str:
    if not cells:
        return "not valid CSV"
    if not _is_unicode("".join(cells)):
        return "not UTF-8"
    if header is not None and len(cells) != len(header):
        return "wrong number of columns"
    return ""


def _json_object(line: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
        readable = _is_unicode(json.dumps(value, ensure_ascii=False))
    except UnicodeDecodeError:
        raise BadRow("not UTF-8") from None
    except (ValueError, RecursionError):
        raise BadRow("not valid JSON") from None
    if not isinstance(value, dict):
        raise BadRow("not a JSON object")
    if not readable:
        raise BadRow("lone surrogate")
    return value


def _sentence(file: Path, lines: Sequence[tuple[int, bytes]]) -> Row | Rejected:
    size = sum(len(line) for _, line in lines)
    tokens, tags = [], []
    for number, line in lines:
        try:
            token, tag = _token(line)
        except BadRow as problem:
            return Rejected(reason=str(problem), where=f"{file.name}:{number}", size=size)
        tokens.append(token)
        tags.append(tag)
    return Row(file=file, line=lines[0][0], size=size, cells={"tokens": tokens, "tags": tags})


def _token(line: bytes) -> tuple[str, str]:
    try:
        cells = [cell.strip() for cell in line.decode("utf-8").split("\t")]
    except UnicodeDecodeError:
        raise BadRow("not UTF-8") from None
    if len(cells) != 2 or not all(cells):
        raise BadRow("wrong number of columns")
    return cells[0], cells[1]


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
