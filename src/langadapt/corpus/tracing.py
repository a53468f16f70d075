"""What cleaning does to a document, step by step: which step changed it, which one dropped it, and why."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langadapt.corpus.choosing import NamedStep
from langadapt.corpus.preparing import content_hash
from langadapt.records import Document

if TYPE_CHECKING:
    from langadapt.recipe import NearDuplicates

UNICODE = "unicode"  # what is done to every document: NFC; empty texts and lone surrogates go
DUPLICATES = "duplicates"  # what is done to every document last


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A document's way through the cleaning steps.

    Attributes:
        before: as it was read.
        changes: step and what it left, for each step that changed it, in order.
        dropped_by: the step that dropped it; "" when it was kept.
        reason: why it was dropped.
    """

    before: Document
    changes: tuple[tuple[str, Document], ...] = ()
    dropped_by: str = ""
    reason: str = ""

    @property
    def last(self) -> Document:
        """As the last step that changed it left it, whether it was dropped afterwards or not."""
        return self.changes[-1][1] if self.changes else self.before

    @property
    def kept(self) -> bool:
        return not self.dropped_by

    @property
    def size(self) -> int:
        """UTF-8 bytes as it was read."""
        return size_of(self.before)


def size_of(document: Document) -> int:
    """UTF-8 bytes of a document's content."""
    return len(document.content.encode("utf-8", "replace"))


def tracer(steps: Iterable[NamedStep]) -> Callable[[Document], Trace]:
    """A function from a document to its way through Unicode normalisation and `steps`; duplicates are not looked for."""
    named = [(step.name, step.run) for step in steps]

    def trace(document: Document) -> Trace:
        changes: list[tuple[str, Document]] = []
        here = document

        def left(by: str, outcome: Document | str) -> Trace:
            return Trace(before=document, changes=tuple(changes), dropped_by=by, reason=str(outcome))

        for name, run in ((UNICODE, _unicode), *named):
            outcome = run(here)
            if isinstance(outcome, str):
                return left(name, outcome)
            if outcome != here:
                changes.append((name, outcome))
                here = outcome
            if not here.content.strip():
                return left(name, "empty")
        return Trace(before=document, changes=tuple(changes))

    return trace


def _unicode(document: Document) -> Document | str:
    document = document.edited(lambda text: unicodedata.normalize("NFC", text))
    if not document.content.strip():
        return "empty"
    try:
        document.content.encode("utf-8")
    except UnicodeEncodeError:
        return "lone surrogate"
    return document


def without_duplicates(traces: Iterable[Trace], deduplicate: str | NearDuplicates = "exact") -> Iterator[Trace]:
    """The same traces, in which documents are dropped that repeat an earlier one.

    Args:
        traces: in reading order.
        deduplicate: as in a recipe's corpus entry.
    """
    from langadapt.corpus.duplicates import NearSeen, Seen, signer

    seen, near = Seen(), NearSeen()
    sign = None if isinstance(deduplicate, str) else signer(deduplicate)
    for trace in traces:
        reason = ""
        if trace.kept and deduplicate != "none":
            if not seen.add(content_hash(trace.last)):
                reason = "exact duplicate"
            elif sign and (signature := sign(trace.last.content)) and not near.add(signature):
                reason = "near duplicate"
        yield replace(trace, dropped_by=DUPLICATES, reason=reason) if reason else trace
