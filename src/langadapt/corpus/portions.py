"""A corpus in portions of a few megabytes: what is prepared in one go, by any process, and kept in one file.

Where a portion ends follows from the corpus alone. Blocks of small files are put together, so that a folder of a million
short texts makes no million portions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from langadapt.corpus.blocks import Block
from langadapt.corpus.reading import SIZE, documents
from langadapt.records import Document, Rejected

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Some blocks of files, or some documents of a corpus that reads itself.

    Attributes:
        place: where it begins, as messages show it.
        blocks: to be made into documents.
        documents: that are made already.
    """

    place: str
    blocks: tuple[Block, ...] = ()
    documents: tuple[Document | Rejected, ...] = ()

    def read(self, columns: Mapping[str, str]) -> Iterator[Document | Rejected]:
        """Its documents, in order; `columns` are our names to the corpus's."""
        yield from self.documents
        for block in self.blocks:
            yield from documents(block, block.layout, columns)


def of_blocks(blocks: Iterable[Block], size: int = SIZE) -> Iterator[Portion]:
    """Blocks put together to at least `size` bytes or characters."""
    for some in _gathered(((block, _size_of_block(block)) for block in blocks), size):
        yield Portion(place=f"{some[0].place}:{some[0].first}", blocks=some)


def of_documents(label: str, items: Iterable[Document | Rejected], size: int = SIZE) -> Iterator[Portion]:
    """Documents put together to at least `size` characters."""
    number = 1
    for some in _gathered(((item, _size_of_item(item)) for item in items), size):
        yield Portion(place=f"{label}, record {number}", documents=some)
        number += len(some)


def _gathered(sized: Iterable[tuple[T, int]], size: int) -> Iterator[tuple[T, ...]]:
    some: list[T] = []
    total = 0
    for thing, its_size in sized:
        some.append(thing)
        total += its_size
        if total >= size:
            yield tuple(some)
            some, total = [], 0
    if some:
        yield tuple(some)


def _size_of_block(block: Block) -> int:
    return len(block.raw) if isinstance(block.raw, bytes) else sum(_size_of_row(row) for row in block.raw)


def _size_of_row(row: Any) -> int:
    values = row.values() if isinstance(row, Mapping) else ()
    return 32 + sum(len(value) for value in values if isinstance(value, str))


def _size_of_item(item: Document | Rejected) -> int:
    return 32 + (item.size if isinstance(item, Rejected) else len(item.content))
