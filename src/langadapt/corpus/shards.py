"""What a portion of a corpus becomes, as bytes that are the same wherever they were made, and where they are kept.

A shard is an Arrow IPC file with a row for every record of its portion, in order, in batches, and a digest of its bytes
behind it. The shards of a corpus lie in one folder of the cache under the numbers of their portions. A run reads those
that are there and makes the ones that come after; it may be killed at any moment, because a shard is written aside and
renamed.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from langadapt import artifacts
from langadapt.corpus.cache import Entry, put
from langadapt.corpus.portions import Portion
from langadapt.corpus.preparing import Prepared, Shared
from langadapt.errors import RunError, counted
from langadapt.records import Document, Message, Rejected

WHOLE = "whole.json"  # says how many shards there are, once the corpus was read to its end
_SEAL = 16  # bytes of the digest behind a shard
_BATCH = 1 << 19  # characters after which a shard's batch of rows ends


def kept_or_made(
    label: str, shared: Shared, workers: int, say: Callable[[str], None]
) -> Generator[Prepared | Rejected, None, None]:
    """What is in a corpus: from the shards that are there, and from there on made and kept.

    Args:
        label: of the corpus, for messages.
        shared: its portions and their place.
        workers: processes that make shards; 0 for one on each core.
        say: gets a line on what was found.

    Raises:
        UserError: the corpus cannot be read, or the cache cannot be written.
        RunError: a process that made shards died.
    """
    with shared.entry.used() as folder:
        say(f"{label}: {_found(shared.entry)}")
        number = 0
        while (shard := read(folder / name(number))) is not None:
            yield from from_bytes(shard)
            number += 1
        if _whole(folder) != number:
            yield from _made(label, shared, number, workers, say)


def _found(entry: Entry) -> str:
    """What an earlier run left, in words."""
    if not entry.is_there:
        return f"to be prepared: {entry.explain()}"
    shards = counted(count(entry.path), "shard")
    return f"prepared before, {shards}, all of it" if is_whole(entry.path) else f"prepared in part, {shards}"


def is_whole(folder: Path) -> bool:
    """Whether all shards of a corpus are in its folder."""
    return _whole(folder) == count(folder)


def count(folder: Path) -> int:
    """How many shards are in a folder."""
    return len(list(folder.glob("*.arrow")))


def _made(
    label: str, shared: Shared, number: int, workers: int, say: Callable[[str], None]
) -> Iterator[Prepared | Rejected]:
    """What comes from portion `number` on; shards that lie behind a gap are taken as they are."""
    from langadapt.corpus.workers import in_order

    folder, keep = shared.entry.path, _Keeper(label, shared.entry, say)
    gaps = Gaps(folder, lambda place: place >= number)
    with closing(in_order(shared.preparation, gaps.of(shared.cut()), workers)) as shards:
        for shard in shards:
            gap = gaps.numbers.popleft()
            yield from _taken(folder, range(number, gap))
            keep(name(gap), shard)
            yield from from_bytes(shard)
            number = gap + 1
    yield from _taken(folder, range(number, gaps.seen))
    keep.whole(gaps.seen)


def _taken(folder: Path, numbers: Iterable[int]) -> Iterator[Prepared | Rejected]:
    """What is in shards that were there when they were looked for.

    Raises:
        RunError: one is not there any more.
    """
    for number in numbers:
        shard = read(folder / name(number))
        if shard is None:
            raise RunError(f"{folder / name(number)}: the shard was removed or damaged meanwhile; run again")
        yield from from_bytes(shard)


class Gaps:
    """Portions of a corpus that have no shard yet.

    Attributes:
        seen: portions that went by.
        there: of those that are wanted, how many have a shard.
        numbers: of the portions that were given out, in order; whoever gets a shard takes its number away.
    """

    def __init__(self, folder: Path, wanted: Callable[[int], bool]):
        self.seen = self.there = 0
        self.numbers: deque[int] = deque()
        self._folder, self._wanted = folder, wanted

    def of(self, portions: Iterable[Portion]) -> Iterator[Portion]:
        """Those of the portions that are wanted and have no whole shard."""
        for number, portion in enumerate(portions):
            self.seen = number + 1
            if not self._wanted(number):
                continue
            if read(self._folder / name(number)) is not None:
                self.there += 1
            else:
                self.numbers.append(number)
                yield portion


class _Keeper:
    """Puts shards into the cache for as long as there is room on its disk."""

    def __init__(self, label: str, entry: Entry, say: Callable[[str], None]):
        self._label, self._entry, self._say, self._on = label, entry, say, True
        if not entry.is_there:
            self._try(entry.describe)

    def __call__(self, name: str, shard: bytes) -> None:
        self._try(lambda: write(self._entry.path / name, shard))

    def whole(self, number: int) -> None:
        """Notes that there are so many shards and no more."""
        self._try(lambda: put(self._entry.path / WHOLE, json.dumps({"shards": number}).encode()))

    def _try(self, act: Callable[[], None]) -> None:
        if self._on:
            try:
                act()
            except OSError as error:
                self._on = False
                self._say(f"{self._label}: what is prepared from here on is not kept ({error}); langadapt cache prune")


def name(number: int) -> str:
    """File name of the shard of a portion."""
    return f"{number:06}.arrow"


def write(path: Path, shard: bytes) -> None:
    """Writes a shard and its seal."""
    put(path, shard + _seal(shard))


def read(path: Path) -> bytes | None:
    """The shard in a file; None when there is none or it is damaged."""
    try:
        sealed = path.read_bytes()
    except OSError:
        return None
    shard, seal = sealed[:-_SEAL], sealed[-_SEAL:]
    return shard if seal == _seal(shard) else None


def _seal(shard: bytes) -> bytes:
    return hashlib.blake2b(shard, digest_size=_SEAL).digest()


def _whole(folder: Path) -> int | None:
    about = artifacts.read_json(folder / WHOLE)
    return about["shards"] if about else None


# --- a shard as bytes ------------------------------------------------------------------------------------------------


def to_bytes(items: Iterable[Prepared | Rejected]) -> bytes:
    """A shard of these items; equal items give equal bytes."""
    import pyarrow

    schema = pyarrow.schema([(field, getattr(pyarrow, kind)()) for field, kind in _FIELDS.items()])
    sink = pyarrow.BufferOutputStream()
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with pyarrow.ipc.new_file(sink, schema, options=options) as writer:
        for rows in _batches(items):
            arrays = [_array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
    shard: bytes = sink.getvalue().to_pybytes()
    return shard


def _batches(items: Iterable[Prepared | Rejected]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in batches, so that neither who writes nor who reads a shard has more than a part of it as Python's strings."""
    rows: list[tuple[Any, ...]] = []
    characters = 0
    for item in items:
        rows.append(_row(item))
        characters += 0 if isinstance(item, Rejected) else len(item.document.content)
        if characters >= _BATCH:
            yield rows
            rows, characters = [], 0
    if rows:
        yield rows


def from_bytes(shard: bytes) -> Iterator[Prepared | Rejected]:
    """The items of a shard, in their order."""
    import pyarrow

    with pyarrow.ipc.open_file(pyarrow.BufferReader(shard)) as file:
        for number in range(file.num_record_batches):
            columns = [column.to_pylist() for column in file.get_batch(number).columns]
            for row in zip(*columns, strict=True):
                yield _item(*row)


# Of a rejected record, `text` is null; of running text, `messages` is.
_FIELDS = {
    "reason": "string", "where": "string", "size": "int64", "found": "string", "text": "large_string",
    "messages": "large_string", "rejected": "large_string", "origin": "string", "digest": "binary",
    "signature": "binary",
}  # fmt: skip


def _row(item: Prepared | Rejected) -> tuple[Any, ...]:
    if isinstance(item, Rejected):
        return item.reason, item.where, item.size, item.found, None, None, None, None, None, None
    document = item.document
    turns = [(m.role, m.content, m.context) for m in document.messages]
    messages = json.dumps(turns, ensure_ascii=False) if turns else None
    origin = json.dumps(dict(document.origin), ensure_ascii=False) if document.origin else None
    place = ("", document.id, item.size, item.found)
    return *place, document.text, messages, document.rejected, origin, item.digest, item.signature


def _item(
    reason: str, where: str, size: int, found: str, text: str | None, messages: str | None, rejected: str,
    origin: str | None, digest: bytes, signature: bytes,
) -> Prepared | Rejected:  # fmt: skip
    if text is None:
        return Rejected(reason=reason, where=where, size=size, found=found)
    turns = [Message(role=r, content=t, context=c) for r, t, c in json.loads(messages)] if messages else []
    known = json.loads(origin) if origin else {}
    document = Document(id=where, text=text, messages=tuple(turns), rejected=rejected, origin=known)
    return Prepared(document=document, size=size, digest=digest, signature=signature, found=found)


def _array(values: Sequence[Any], kind: Any) -> Any:
    import pyarrow

    try:
        return pyarrow.array(values, kind)
    except UnicodeEncodeError:  # the name of a file that is not UTF-8 stands in places and ids
        written = [v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for v in values]
        return pyarrow.array(written, kind)
