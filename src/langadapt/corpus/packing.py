"""Packs token sequences into rows of equal length, on disk, with nothing cut away and documents kept apart.

Two flat files that are memory-mapped when read: `tokens` (uint32) and `roles` (uint8: given, to be predicted, or
padding; and whether a document begins here). A row is a slice of them, and the places in the documents follow from
where they begin. Running text is wrapped: a document that does not fit goes on in the next row, and because targets are
looked up in the flat stream, the token after a row's end is still predicted. Dialogues stay whole: they are put into
rows by best fit, and the rest of a row is padding.

A row in which a document goes on begins with BOS, too. The first token of what a model sees is the one that its attention
rests on where there is nothing to look at (Xiao et al. 2024, arXiv 2309.17453). If most rows began with any other token, a
training could move the model away from the one that every prompt and every document begins with.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

IGNORE = -100  # the label that torch's cross-entropy skips
GIVEN, LEARNT, PADDING = 0, 1, 2
BEGINS = 4  # added to the role of a document's first token
REJECTED = 8  # and this, where it is an answer that was not liked
CONTINUES = 16  # the role of a token that stands before what goes on from the row before
VERSION = 2  # raised when rows would come out otherwise, so that caches notice
TOO_LONG, NOTHING = "longer than max_length", "nothing to learn"  # reasons that documents are dropped for
_BUFFER = 4096  # dialogues that are fitted into rows together; bounds memory
_CHUNK = 2**24  # tokens that are counted at a time; bounds memory


@dataclass(frozen=True, eq=False)
class Sequence_:
    """Token ids of one document, special tokens included, and which of them are to be learnt.

    Attributes:
        ids: uint32 of shape (tokens,).
        learn: bool of the same shape.
    """

    ids: NDArray[np.uint32]
    learn: NDArray[np.bool_]

    @classmethod
    def of(cls, ids: ArrayLike, learn: ArrayLike) -> Sequence_:
        """From anything that numpy takes for numbers and truth values."""
        return cls(np.asarray(ids, np.uint32), np.asarray(learn, np.bool_))

    @property
    def size(self) -> int:
        """Tokens."""
        return len(self.ids)

    def flaw(self, longest: int | None) -> str:
        """Why it cannot be trained on when at most `longest` tokens stay together, or ""."""
        if longest is not None and self.size > longest:
            return TOO_LONG
        return "" if self.learn.any() else NOTHING

    def last_answer(self) -> Sequence_:
        """The same tokens, of which only the last stretch of learnt ones is still learnt."""
        learnt = np.flatnonzero(self.learn)
        end = int(learnt[-1]) + 1 if len(learnt) else 0
        others = np.flatnonzero(~self.learn[:end])
        start = int(others[-1]) + 1 if len(others) else 0
        places = np.arange(self.size)
        return Sequence_(self.ids, (start <= places) & (places < end))


@dataclass(frozen=True, eq=False)
class Pair:
    """Two answers to one prompt, each behind the prompt's tokens: the preferred one, and the one that was liked less."""

    chosen: Sequence_
    rejected: Sequence_

    @property
    def size(self) -> int:
        """Tokens of both."""
        return self.chosen.size + self.rejected.size

    def flaw(self, longest: int | None) -> str:
        """As of a sequence; both answers must be there and good to train on."""
        for side in ("rejected", "chosen"):
            if not getattr(self, side).size:
                return f"no {side} answer"
        return self.chosen.flaw(longest) or self.rejected.flaw(longest)


class Judged(Pair):
    """Answers to one prompt that were judged one by one: one that was liked, one that was not, or both."""

    @property
    def answers(self) -> list[Sequence_]:
        """Those that are there."""
        return [answer for answer in (self.chosen, self.rejected) if answer.size]

    def flaw(self, longest: int | None) -> str:
        """As of a sequence; every answer that is there must be good to train on."""
        return next(filter(None, (answer.flaw(longest) for answer in self.answers)), "" if self.answers else NOTHING)


class Writer:
    """Appends rows to the two files of a folder.

    Args:
        folder: is made.
        length: of a row, in tokens.
        pad: the token that rows are filled up with.
        start: the token that a row begins with in which a document goes on; None for none.
    """

    def __init__(self, folder: Path, length: int, *, pad: int, start: int | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.length, self.pad, self.start = folder, length, pad, start
        self._tokens, self._roles = ((folder / f"{name}.bin").open("wb", 2**20) for name in ("tokens", "roles"))
        self.size = 0

    def add(self, sequence: Sequence_, *, mark: int = 0) -> None:
        """Appends one document, with a mark at its first token."""
        if not sequence.size:
            return
        ids, roles = sequence.ids, sequence.learn.astype(np.uint8)  # LEARNT is 1 and GIVEN is 0
        roles[0] |= BEGINS | mark
        room = self.length - self.size % self.length
        if self.start is not None and len(ids) > room:
            further = np.arange(room, len(ids), self.length - 1)  # where it goes on in a row
            ids, roles = np.insert(ids, further, self.start), np.insert(roles, further, CONTINUES)
        self._append(ids, roles)

    def fill_row(self) -> None:
        """Pads up to the end of the row. Every pad is a document of its own, so nothing attends to it."""
        missing = -self.size % self.length
        self._append(np.full(missing, self.pad, np.uint32), np.full(missing, PADDING | BEGINS, np.uint8))

    def close(self) -> PackedRows:
        self.fill_row()
        self._tokens.close()
        self._roles.close()
        (self.folder / "packed.json").write_text(json.dumps({"length": self.length, "rows": self.size // self.length}))
        return PackedRows(self.folder)

    def _append(self, ids: NDArray[np.uint32], roles: NDArray[np.uint8]) -> None:
        self._tokens.write(ids.data)
        self._roles.write(roles.data)
        self.size += len(ids)


def wrap(sequences: Iterable[Sequence_], writer: Writer) -> None:
    """Writes sequences one after the other, across row ends."""
    for sequence in sequences:
        writer.add(sequence)


def fit(sequences: Iterable[Sequence_], writer: Writer) -> None:
    """Writes sequences whole, several to a row, by best-fit decreasing over a bounded buffer.

    Every sequence must be at most a row long.
    """
    for buffer in _chunks(sequences, _BUFFER):
        for row in best_fit([s.size for s in buffer], writer.length):
            for index in row:
                assert buffer[index].size <= writer.length
                writer.add(buffer[index])
            writer.fill_row()


def pair_up(pairs: Iterable[Pair], writer: Writer) -> None:
    """Writes pairs as two rows each, the chosen answer's first.

    Every sequence must be at most a row long.
    """
    for pair in pairs:
        for sequence in (pair.chosen, pair.rejected):
            assert sequence.size <= writer.length
            writer.add(sequence)
            writer.fill_row()


def set_apart(judged: Iterable[Judged], writer: Writer) -> None:
    """Writes every answer as a row of its own; those that were not liked are marked.

    Every sequence must be at most a row long.
    """
    for answers in judged:
        for sequence, mark in ((answers.chosen, 0), (answers.rejected, REJECTED)):
            assert sequence.size <= writer.length
            writer.add(sequence, mark=mark)
            writer.fill_row()


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indices by row: the longest first, each into the fullest row that still has room (Johnson 1974)."""
    rows: list[list[int]] = []
    spaces: list[tuple[int, int]] = []  # (room left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = bisect_left(spaces, (lengths[index], -1))
        if at < len(spaces):
            left, row = spaces.pop(at)
        else:
            left, row = room, len(rows)
            rows.append([])
        rows[row].append(index)
        insort(spaces, (left - lengths[index], row))
    return rows


class PackedRows:
    """Rows by number, read from disk as they are needed; a map-style data set for torch."""

    def __init__(self, folder: Path):
        about = json.loads((folder / "packed.json").read_text())
        self.length, self._rows = int(about["length"]), int(about["rows"])
        self._tokens = np.memmap(folder / "tokens.bin", np.uint32, "r") if self._rows else np.zeros(0, np.uint32)
        self._roles = np.memmap(folder / "roles.bin", np.uint8, "r") if self._rows else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> dict[str, NDArray[np.int64]]:
        """One row.

        Returns:
            `input_ids`, `position_ids` and `labels`, each of shape (length,). Positions start again at 0 with every
            document and every row. `labels[i]` is the token that comes after `input_ids[i]` in the same document, also
            across the row's end, or -100 where nothing is to be learnt.
        """
        start, end = row * self.length, (row + 1) * self.length
        places = np.arange(self.length)
        begins = (self._roles[start:end] & BEGINS) != 0
        positions = places - np.maximum.accumulate(np.where(begins, places, 0))
        after, roles = (self._after(stream, row, row + 1) for stream in (self._tokens, self._roles))
        labels = np.where(roles == LEARNT, after.astype(np.int64), IGNORE)
        return {"input_ids": self._tokens[start:end].astype(np.int64), "position_ids": positions, "labels": labels}

    def is_rejected(self, row: int) -> bool:
        """Whether a row begins with an answer that was not liked."""
        return bool(self._roles[row * self.length] & REJECTED)

    def tokens_in(self, rows: Iterable[int]) -> tuple[int, int]:
        """Tokens of documents (padding left out), and tokens that bear loss, in the given rows."""
        chosen = np.zeros(self._rows, bool)
        chosen[np.fromiter(rows, np.int64)] = True
        real = learnt = 0
        step = max(1, _CHUNK // self.length)
        for first in range(0, self._rows, step):
            some = chosen[first : first + step]
            roles = self._roles[first * self.length : (first + len(some)) * self.length].reshape(len(some), -1)
            after = self._after(self._roles, first, first + len(some)).reshape(len(some), -1)
            real += int(((roles[some] & (PADDING | CONTINUES)) == 0).sum())
            learnt += int((after[some] == LEARNT).sum())
        return real, learnt

    def _after(self, stream: NDArray[Any], first: int, last: int) -> NDArray[Any]:
        """What comes in a document after each place of some rows, of one of the two streams; 0, which is nothing to learn,
        after the end of all and after the token that stands before what goes on: the row before predicts that.
        """
        start, end = first * self.length, last * self.length
        after = np.zeros(end - start, stream.dtype)
        behind = stream[start + 1 : end + 1]
        after[: len(behind)] = behind
        rows = np.arange(start, min(end + 1, len(self._roles)), self.length)
        further = rows[(self._roles[rows] & CONTINUES) != 0]
        after[further[further < end] - start] = 0
        passed_over = further[further > start]
        after[passed_over - start - 1] = stream[passed_over + 1]
        return after


class PairedRows:
    """Pairs by number, as `pair_up` wrote them; a map-style data set for torch."""

    def __init__(self, rows: PackedRows):
        self.rows, self.length = rows, rows.length

    def __len__(self) -> int:
        return len(self.rows) // 2

    def __getitem__(self, pair: int) -> dict[str, dict[str, NDArray[np.int64]]]:
        """Both rows of a pair, each as `PackedRows` gives it."""
        return {"chosen": self.rows[2 * pair], "rejected": self.rows[2 * pair + 1]}

    def tokens_in(self, pairs: Iterable[int]) -> tuple[int, int]:
        """As `PackedRows.tokens_in`, of both rows."""
        return self.rows.tokens_in(row for pair in pairs for row in (2 * pair, 2 * pair + 1))


class AnswerRows:
    """Answers by number, as `set_apart` wrote them; a map-style data set for torch."""

    def __init__(self, rows: PackedRows):
        self.rows, self.length, self.tokens_in = rows, rows.length, rows.tokens_in

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, answer: int) -> dict[str, Any]:
        """A row as `PackedRows` gives it, and whether its answer was `liked`."""
        return {**self.rows[answer], "liked": not self.rows.is_rejected(answer)}


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
