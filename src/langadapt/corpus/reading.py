"""From files to documents, strictly: every record becomes a document or is refused by name, with its place.

Reading has two halves. `blocks` cuts files, in order, into stretches of a few megabytes; that is cheap, and where a
stretch ends follows from the content alone. `documents` makes documents of a block; that is where the time goes, and
because it depends on nothing but the block, any number of processes may do it.

Libraries lose data here in silence (one bad byte drops a whole buffer, a byte-order mark the first document), so the
reading of line formats is ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from langadapt.corpus.blocks import Block
from langadapt.corpus.cutting import CUTTERS
from langadapt.corpus.files import ending, placed
from langadapt.corpus.layouts import LAYOUTS, BadRow, Row, lacking, recognise
from langadapt.errors import UserError, nearest
from langadapt.records import Document, Rejected

SIZE = 4 << 20  # bytes of a block


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
        known = layout if layout == "document" else ""  # of our own writing: rows may differ in their columns
        for block in CUTTERS[ending(file)](place, file, size):
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
    if found not in LAYOUTS:
        raise UserError(f'corpus {file}: there is no layout "{found}"; {nearest(found, LAYOUTS)}')
    missing = lacking(found, names)
    if missing:
        raise UserError(
            f'corpus {file}: the layout "{found}" needs the column "{missing[0]}"; its columns: {have}; '
            f'name yours with columns = {{ {missing[0]} = "…" }}'
        )
    return found
