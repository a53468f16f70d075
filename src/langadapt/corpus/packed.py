"""Where packed rows are kept: in the user's cache, for every run that would pack the same, or in the stage's folder.

Rows follow from the corpora, how they are prepared and mixed, the tokenizer, the prompt format and the length of a row.
What a stage learns from them, and in which order, is no part of that: stages that differ in it alone share the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.corpus import cache
from langadapt.corpus.encoding import Encoder
from langadapt.corpus.mixing import Given
from langadapt.corpus.packing import VERSION, PackedRows
from langadapt.corpus.preparing import Accounting
from langadapt.errors import Interrupted
from langadapt.machine import free_disk

if TYPE_CHECKING:
    from langadapt.run import StageContext

LEAST = 2**20  # bytes of text from which rows are worth keeping
_COUNTS = "accounting.json"  # written last: rows without it were cut short
# Ingredients of a stage that its rows do not depend on; whatever is not named here counts.
_OF_TRAINING = ("method", "peft", "training.", "strategy", "from", "model of ", "seed")
_BYTES_PER_TOKEN = 3.5, 5  # of text, usually, and of packed rows


Kept = tuple[PackedRows, Accounting, list[Given], dict[str, Any]]  # rows, and what was counted when they were packed


@dataclass(kw_only=True)
class Place:
    """A folder for rows.

    Attributes:
        folder: where they are, or will be.
        entry: its place in the cache; None for a stage's own folder, from which nothing is read again.
        context: of the stage, for messages.
    """

    folder: Path
    entry: cache.Entry | None
    context: StageContext = field(repr=False)
    _held: ExitStack = field(default_factory=ExitStack, repr=False)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps every other process from writing the same rows; marks them as used for as long as this is held.

        Raises:
            UserError: the cache cannot be written.
            Interrupted: the user stopped it while another run was packing the same.
        """
        if self.entry is None:
            yield
            return
        from filelock import FileLock

        self._held.enter_context(self.entry.used())
        lock = FileLock(self.folder / ".making")
        self._wait_for(lock)
        try:
            yield
        finally:
            lock.release()

    def _wait_for(self, lock: Any) -> None:
        from filelock import Timeout

        said = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0.5 if said else 0)
            except Timeout:
                if not said:
                    self.context.log.info("another run is packing the same; this one waits for its rows")
                said = True
                if self.context.stop.is_set():
                    raise Interrupted(
                        f"stopped in stage {self.context.stage.id} while it waited for rows; the same command goes on"
                    ) from None

    def read(self) -> Kept | None:
        """The rows of an earlier run with what was counted then; None when there are none."""
        if self.entry is None:
            return None
        if (kept := read(self.folder)) is not None:
            self.context.log.info(f"packed before: {self.folder}")
            return kept
        why = self.entry.explain() or "an earlier run was stopped while it packed them"
        self.context.log.info(f"to be packed: {why}")
        self.entry.describe()
        return None

    def keep(self, accounting: Accounting, given: list[Given], contamination: dict[str, Any]) -> None:
        """Makes the rows that were written to the folder fit to be read again."""
        counts = {"accounting": accounting.to_json(), "mix": [vars(one) for one in given]}
        counts["contamination"] = contamination
        artifacts.write_json(self.folder / _COUNTS, counts)


def read(folder: Path) -> Kept | None:
    """The rows in a folder with what was counted when they were packed; None when there are none."""
    counts = artifacts.read_json(folder / _COUNTS)
    if counts is None:
        return None
    given = [Given(**given) for given in counts["mix"]]
    return PackedRows(folder), Accounting.from_json(counts["accounting"]), given, counts["contamination"]


def place_of(
    context: StageContext, encoder: Encoder, *, length: int, wanted: int | None, most_bytes: int | None, written: str
) -> Place:
    """Where the rows of a stage belong: in the cache, unless there are few of them or it lacks the room.

    Args:
        context: of the stage.
        encoder: of its tokenizer.
        length: of a row.
        wanted: where packing stops, in tokens, pairs or answers; None for all there is.
        most_bytes: of text, at which it stops too.
        written: name of the function that writes the rows.
    """
    own = Place(folder=context.folder / "packed", entry=None, context=context)
    sizes = [found.bytes for found in context.stage.inputs]
    size = None if None in sizes else sum(filter(None, sizes))
    if (size is not None and size < LEAST) or not encoder.digest:
        return own
    entry = cache.entry("packed", ", ".join(found.label for found in context.stage.inputs), {
        **{name: str(value) for name, value in context.stage.ingredients.items() if not name.startswith(_OF_TRAINING)},
        "training.max_length": str(length),
        "rows": "all" if wanted is None else f"{wanted} tokens, pairs or answers",
        **({"text": f"{most_bytes} bytes"} if most_bytes else {}),
        "written by": written,
        "tokenizer": encoder.digest,
        "packing": str(VERSION),
    })  # fmt: skip
    needed = (size or 0) / _BYTES_PER_TOKEN[0] * _BYTES_PER_TOKEN[1]
    room = free_disk(cache.cache_folder())
    if needed > room:
        context.log.info(
            f"rows may take {needed / 1e9:.0f} GB and {cache.cache_folder()} has {room / 1e9:.0f}: not kept there"
        )
        return own
    return Place(folder=entry.path, entry=entry, context=context)
