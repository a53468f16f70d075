"""A corpus prepared in parts: task r of N fills every N-th shard, wherever it runs, and whoever reads finds them all.

Tasks share nothing but the cache's folder. Each cuts the whole corpus, which is cheap beside preparing it, takes the
portions that are its own and leaves alone what is there already, so a task that was killed is simply started again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from langadapt.corpus import shards
from langadapt.corpus.cache import put
from langadapt.corpus.portions import Portion
from langadapt.corpus.preparing import Shared, Source
from langadapt.corpus.workers import in_order
from langadapt.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Part:
    """Every `of`-th portion of a corpus from portion `number` on; by itself, all of them."""

    number: int = 0
    of: int = 1


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What became of a part: shards that were made, and that were there before."""

    made: int
    there: int


def fill(source: Source, part: Part = Part(), workers: int = 0) -> Filled:
    """Prepares what is missing of a part of a corpus.

    Args:
        source: the corpus; as much of it as its `max_documents` lets through.
        part: which of its portions.
        workers: processes that share the work; 0 for one on each core of the machine.

    Raises:
        UserError: the corpus cannot be read, or the cache cannot be written.
        RunError: a process that shared the work died.
    """
    if source.shared is None:
        return Filled(made=0, there=0)
    with source.shared.entry.used() as folder:
        try:
            return _filled(source, source.shared, part, folder, workers)
        except OSError as error:
            raise UserError(
                f"corpus {source.label}: what is prepared cannot be kept in {folder} ({error.strerror or error}); "
                "make room there: langadapt cache prune"
            ) from None


def is_filled(source: Source) -> bool:
    """Whether every shard of a corpus is there; where only a part of it is read, that is not known."""
    return source.shared is None or shards.is_whole(source.shared.entry.path)


def is_begun(source: Source) -> bool:
    """Whether the first shard of a corpus can be seen from here."""
    return is_filled(source) or (source.shared is not None and (source.shared.entry.path / shards.name(0)).is_file())


def _filled(source: Source, shared: Shared, part: Part, folder: Path, workers: int) -> Filled:
    if not shared.entry.is_there:
        shared.entry.describe()
    missing = shards.Gaps(folder, lambda number: number % part.of == part.number)
    made = 0
    with closing(in_order(shared.preparation, missing.of(_read(source, shared)), workers)) as done:
        for shard in done:
            shards.write(folder / shards.name(missing.numbers.popleft()), shard)
            made += 1
    if not source.max_documents:
        put(folder / shards.WHOLE, json.dumps({"shards": missing.seen}).encode())
    return Filled(made=made, there=missing.there)


def _read(source: Source, shared: Shared) -> Iterator[Portion]:
    """The portions that are read of a corpus, as far as its `max_documents`."""
    left = source.max_documents
    for portion in shared.cut():
        yield portion
        if source.max_documents:
            left -= sum(1 for _ in shared.preparation.read(portion))
            if left <= 0:
                return
