"""Reads rows from files, strictly: bytes are decoded line by line, and what cannot be read is counted with its place.

Libraries lose data here in silence (one bad byte drops a whole buffer, a byte-order mark the first document), so the
reading of line formats is ours.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from langadapt.corpus.layouts import COLUMNS, LAYOUTS, BadRow, recognise
from langadapt.errors import UserError
from langadapt.records import Document, Rejected

Row = Mapping[str, Any]
BOM = b"\xef\xbb\xbf"
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet")


def files_of(path: str) -> list[Path]:
    """The files that a path stands for: a file, a folder's files of known kinds, or a glob; in name order.

    Raises:
        UserError: nothing is there, or nothing that can be read.
    """
    expanded = Path(path).expanduser()
    if expanded.is_dir():
        found = sorted(
            p for p in expanded.rglob("*") if p.is_file() and _ending(p) in ENDINGS and not _beside(p, expanded)
        )
        if not found:
            raise UserError(
                f"corpus {path}: the folder holds no file that can be read ({', '.join(ENDINGS)}, or with .gz)"
            )
        return found
    if expanded.is_file():
        found = [expanded]
    else:
        found = sorted(Path(p) for p in glob.glob(str(expanded), recursive=True) if Path(p).is_file())
    if not found:
        raise UserError(
            f"corpus {path}: there is no such file, folder or match; the path is taken from the current folder"
        )
    for file in found:
        if _ending(file) not in ENDINGS:
            raise UserError(f"corpus {file}: files of this kind are not read; known: {', '.join(ENDINGS)}, or with .gz")
    return found


def _beside(file: Path, folder: Path) -> bool:
    """Whether a file only accompanies a data set: hidden, or its card or licence."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return hidden or file.stem.lower() in ("readme", "license", "licence")


def read_documents(
    path: str, *, layout: str = "", columns: Mapping[str, str] | None = None
) -> Iterator[Document | Rejected]:
    """Documents of one path, in file order; what could not become one comes as `Rejected`.

    Args:
        path: file, folder or glob.
        layout: a name of `LAYOUTS`; found out from the first row's columns when empty.
        columns: our column name to yours.

    Raises:
        UserError: nothing to read, or the first row of a file lacks the columns of the layout.
    """
    for file in files_of(path):
        yield from _documents(file, layout, dict(columns or {}))


def _documents(file: Path, layout: str, columns: Mapping[str, str]) -> Iterator[Document | Rejected]:
    first = True
    for number, row in read_rows(file):
        if isinstance(row, Rejected):
            yield row
            continue
        row = {**row, **{ours: row[theirs] for ours, theirs in columns.items() if theirs in row}}
        if first:
            layout = _checked_layout(file, layout, row, columns)
            first = False
        where = f"{file.name}:{number}"
        try:
            yield LAYOUTS[layout](row, where)
        except BadRow as problem:
            yield Rejected(reason=str(problem), where=where, size=len(json.dumps(row, ensure_ascii=False, default=str)))


def _checked_layout(file: Path, layout: str, row: Row, columns: Mapping[str, str]) -> str:
    have = ", ".join(sorted(map(str, row))) or "none"
    for ours, theirs in columns.items():
        if theirs not in row:
            raise UserError(f'corpus {file}: there is no column "{theirs}" (asked for as {ours}); its columns: {have}')
    if not layout:
        layout = recognise(set(row))
        if not layout:
            raise UserError(
                f'corpus {file}: no known layout has its columns ({have}); name the text with columns = {{ text = "…" }}'
            )
    missing = [c for c in COLUMNS[layout] if c not in row]
    if missing:
        raise UserError(
            f'corpus {file}: the layout "{layout}" needs the column "{missing[0]}"; its columns: {have}; '
            f'name yours with columns = {{ {missing[0]} = "…" }}'
        )
    return layout


def read_rows(file: Path) -> Iterator[tuple[int, Row | Rejected]]:
    """Rows of one file with their line (or row) numbers from 1.

    Raises:
        UserError: the file cannot be opened or is no file of its kind.
    """
    reader = _READERS[_ending(file)]
    try:
        yield from reader(file)
    except (OSError, EOFError, zlib.error) as error:
        kind = (
            "is cut short or damaged"
            if isinstance(error, (EOFError, gzip.BadGzipFile, zlib.error))
            else "cannot be read"
        )
        raise UserError(f"corpus {file}: {kind} ({error}); mend or replace it") from None


def _open(file: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(file, "rb")) if file.suffix == ".gz" else file.open("rb")


def _ending(file: Path) -> str:
    return Path(file.stem).suffix.lower() if file.suffix == ".gz" else file.suffix.lower()


def _lines(file: Path) -> Iterator[tuple[int, str | Rejected]]:
    with _open(file) as stream:
        for number, line in enumerate(stream, start=1):
            line = line.removeprefix(BOM) if number == 1 else line
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError:
                yield number, Rejected(reason="not UTF-8", where=f"{file.name}:{number}", size=len(line))


def _jsonl(file: Path) -> Iterator[tuple[int, Row | Rejected]]:
    for number, line in _lines(file):
        if isinstance(line, Rejected):
            yield number, line
        elif line.strip():
            yield number, _json_row(file, number, line)


def _json_row(file: Path, number: int, line: str) -> Row | Rejected:
    where, size = f"{file.name}:{number}", len(line.encode("utf-8", "replace"))
    try:
        return _object(json.loads(line), where, size)
    except (ValueError, RecursionError):
        return Rejected(reason="not valid JSON", where=where, size=size)


def _object(row: Any, where: str, size: int) -> Row | Rejected:
    if not isinstance(row, dict):
        return Rejected(reason="not a JSON object", where=where, size=size)
    try:  # a lone surrogate passes the parser and breaks everything later
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return Rejected(reason="lone surrogate", where=where, size=size)
    return row


def _json(file: Path) -> Iterator[tuple[int, Row | Rejected]]:
    """One array of objects; a `.json` file that holds an object a line is read as lines, as hub data sets have it."""
    start = b""
    with _open(file) as stream:
        while not start and (chunk := stream.read(4096)):
            start = chunk.removeprefix(BOM).lstrip()
    if not start.startswith(b"["):
        yield from _jsonl(file)
        return
    with _open(file) as stream:
        try:
            rows = json.loads(stream.read().removeprefix(BOM).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"corpus {file}: not valid JSON ({error})") from None
    for number, row in enumerate(rows, start=1):
        yield number, _object(row, f"{file.name}:{number}", 0)


def _csv(delimiter: str) -> Callable[[Path], Iterator[tuple[int, Row | Rejected]]]:
    def read(file: Path) -> Iterator[tuple[int, Row | Rejected]]:
        with _open(file) as raw:
            try:
                content = raw.read().removeprefix(BOM).decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"corpus {file}: not UTF-8 text (byte {error.start}); convert it first") from None
        csv.field_size_limit(2**31 - 1)
        reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
        for row in reader:
            if None in row or None in row.values():
                yield (
                    reader.line_num,
                    Rejected(reason="wrong number of columns", where=f"{file.name}:{reader.line_num}"),
                )
            else:
                yield reader.line_num, row

    return read


def _text(file: Path) -> Iterator[tuple[int, Row | Rejected]]:
    with _open(file) as stream:
        content = stream.read().removeprefix(BOM)
    try:
        yield 1, {"text": content.decode("utf-8")}
    except UnicodeDecodeError:
        yield 1, Rejected(reason="not UTF-8", where=f"{file.name}:1", size=len(content))


def _parquet(file: Path) -> Iterator[tuple[int, Row | Rejected]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024):
            for row in _batch_rows(batch):
                number += 1
                yield number, Rejected(reason="not UTF-8", where=f"{file.name}:{number}") if row is None else row
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"corpus {file}: not a Parquet file, or a damaged one ({error})") from None


def _batch_rows(batch: Any) -> list[Row | None]:
    """Rows of a record batch; None for one whose text is not UTF-8, which neither writers nor Arrow check."""
    try:
        return cast(list[Row | None], batch.to_pylist())
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        half = batch.num_rows // 2
        return _batch_rows(batch.slice(0, half)) + _batch_rows(batch.slice(half))


_READERS: dict[str, Callable[[Path], Iterable[tuple[int, Row | Rejected]]]] = {
    ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv(","), ".tsv": _csv("\t"),
    ".txt": _text, ".md": _text, ".parquet": _parquet,
}  # fmt: skip
