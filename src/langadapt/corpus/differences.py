"""Documents before cleaning and after, side by side: what was cut, what was put, what was dropped, and by which step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import groupby, islice
from typing import Any, Literal, NamedTuple

from langadapt.corpus.choosing import Chosen, place_of
from langadapt.corpus.margins import margin
from langadapt.corpus.sampling import Sample
from langadapt.corpus.tracing import DUPLICATES, UNICODE, Trace, of_sample
from langadapt.errors import UserError, nearest
from langadapt.records import Document

LONG = 700  # characters of a document that are shown
CONTEXT = 60  # characters shown around a change
_PIECE = re.compile(r"\w+|\s+|[^\w\s]")
_LARGE = 4_000_000  # comparisons of words in one passage; beyond, it is shown as cut and put whole


class Piece(NamedTuple):
    """A stretch of text that stayed, was cut, or was put in."""

    kind: Literal["same", "cut", "put"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A document that a step changed or dropped.

    Attributes:
        where: place of the document.
        changed_by: steps that changed it.
        dropped_by: the step that dropped it, or "".
        reason: why it was dropped, or "".
        before: its text before.
        after: its text after, as the last step that changed it left it.
        hint: what would have kept it, in words, see `langadapt.corpus.margins`.
    """

    where: str
    changed_by: tuple[str, ...] = ()
    dropped_by: str = ""
    reason: str = ""
    before: str
    after: str
    hint: str = ""

    @property
    def what(self) -> str:
        """What happened to it, in words."""
        return f"dropped by {self.dropped_by}: {self.reason}" if self.dropped_by else f"changed by {self._changers}"

    @property
    def also(self) -> str:
        """What had happened to it before it was dropped, in words; "" for nothing."""
        return f"after changes by {self._changers}" if self.dropped_by and self.changed_by else ""

    @property
    def _changers(self) -> str:
        return ", ".join(self.changed_by)

    def pieces(self) -> list[Piece]:
        """The text before and after as one."""
        return pieces(self.before, self.after)

    def shortened(self) -> list[Piece]:
        """The pieces as they are shown: long stretches that stayed without their middle, and not too much of it all."""
        if not self.changed_by:
            return [Piece("same", self.before if len(self.before) <= LONG else f"{self.before[:LONG]}…")]
        pieces, shown, room = self.pieces(), list[Piece](), LONG
        for number, (kind, text) in enumerate(pieces):
            if kind != "same":
                text = text.replace("\n", "↵\n")  # a line's end that was cut would not be seen
            elif len(text) > 2 * CONTEXT + 10:
                head = text[:CONTEXT] if number else ""
                tail = text[-CONTEXT:] if number < len(pieces) - 1 else ""
                text = f"{head} … {tail}"
            if len(text) > room:
                return [*shown, Piece(kind, f"{text[:room]}…")]
            shown.append(Piece(kind, text))
            room -= len(text)
        return shown

    def to_json(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "outcome": "dropped" if self.dropped_by else "changed",
            "changed_by": list(self.changed_by),
            "dropped_by": self.dropped_by,
            "reason": self.reason,
            "hint": self.hint,
            "pieces": [list(piece) for piece in self.pieces()],
        }


def difference(trace: Trace, only: str = "") -> Difference | None:
    """What happened to a document, or None where nothing did that is asked for.

    Args:
        trace: the document's way.
        only: `changed`, `dropped`, or a step's name, and then only what that step did; "" for everything.
    """
    changes, dropped_by = trace.changes, trace.dropped_by
    before = trace.before
    if only and only not in ("changed", "dropped"):
        names = [name for name, _ in changes]
        if only in names:
            number = names.index(only)
            before = changes[number - 1][1] if number else before
            changes = changes[number : number + 1]
        else:
            before, changes = trace.last, ()
        dropped_by = dropped_by if dropped_by == only else ""
    if (only == "dropped" and not dropped_by) or (only == "changed" and dropped_by):
        return None
    if not changes and not dropped_by:
        return None
    return Difference(
        where=trace.before.id,
        changed_by=tuple(name for name, _ in changes),
        dropped_by=dropped_by,
        reason=trace.reason if dropped_by else "",
        before=_text(before),
        after=_text(changes[-1][1] if changes else before),
    )


@dataclass(kw_only=True)
class Differences:
    """What cleaning does to a sample of a corpus.

    Attributes:
        chosen: the corpus.
        sample: what was read of it.
        looked: documents that were looked at.
        counts: documents by what happened to them.
        shown: a few of them, of as many kinds as there are: the first of every kind, then the second ones.
    """

    chosen: Chosen
    sample: Sample
    looked: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    shown: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.chosen.input.to_json(),
            "from": place_of(self.chosen.input),
            "read": self.sample.read,
            "refused": dict(self.sample.refused),
            "documents": self.looked,
            "counts": dict(self.counts.most_common()),
            "shown": [found.to_json() for found in self.shown],
        }


def look(chosen: Chosen, sample: Sample, *, only: str = "", count: int = 6) -> Differences:
    """Compares documents before and after cleaning.

    Args:
        chosen: the corpus and its steps.
        sample: of its documents.
        only: as of `difference`.
        count: documents to show.

    Raises:
        UserError: `only` is no step, or the corpus cannot be read.
    """
    words = ["changed", "dropped", UNICODE, *(step.name for step in chosen.steps), DUPLICATES]
    if only and only not in words:
        raise UserError(f'--only {only}: neither "changed" nor "dropped" nor a step; {nearest(only, words)}')
    made = Differences(chosen=chosen, sample=sample)
    kinds: dict[str, list[tuple[Difference, Trace]]] = {}
    for trace in of_sample(chosen, sample):
        made.looked += 1
        if found := difference(trace, only):
            made.counts[found.what] += 1
            alike = kinds.setdefault(found.what, [])
            alike += [(found, trace)] if len(alike) < count else []
    turns = (alike[turn] for turn in range(count) for alike in kinds.values() if turn < len(alike))
    made.shown = [replace(found, hint=_hint(chosen, trace)) for found, trace in islice(turns, count)]
    return made


def _hint(chosen: Chosen, trace: Trace) -> str:
    step = next((step for step in chosen.steps if step.name == trace.dropped_by), None)
    return margin(trace.last, step, chosen.language) if step else ""


def pieces(before: str, after: str) -> list[Piece]:
    """What stayed, was cut and was put, line by line and inside lines word by word; joined, they give both texts."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return list(_merged(_compared(old, new, _inside)))


def _inside(old: Sequence[str], new: Sequence[str]) -> Iterator[Piece]:
    """Changed lines, word by word."""
    old_words, new_words = _PIECE.findall("".join(old)), _PIECE.findall("".join(new))
    if len(old_words) * len(new_words) > _LARGE:
        return _whole(old, new)
    return _compared(old_words, new_words, _whole)


def _whole(old: Sequence[str], new: Sequence[str]) -> Iterator[Piece]:
    yield Piece("cut", "".join(old))
    yield Piece("put", "".join(new))


def _compared(old: Sequence[str], new: Sequence[str], changed: Any) -> Iterator[Piece]:
    for what, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            yield Piece("same", "".join(old[i:j]))
        else:
            yield from (changed if what == "replace" else _whole)(old[i:j], new[k:m])


def _merged(found: Iterable[Piece]) -> Iterator[Piece]:
    """Neighbours of one kind as one piece; empty ones go."""
    for kind, alike in groupby((piece for piece in found if piece.text), key=lambda piece: piece.kind):
        yield Piece(kind, "".join(piece.text for piece in alike))


def _text(document: Document) -> str:
    if not document.messages:
        return document.text
    parts = [f"{m.role}: " + "\n".join(filter(None, (m.content, m.context))) for m in document.messages]
    return "\n".join([*parts, *([f"rejected: {document.rejected}"] if document.rejected else [])])
