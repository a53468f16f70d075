"""What cleaning does to a document, step by step: which step changed it, which one dropped it, and why."""

from __future__ import annotations

import pickle
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from langadapt.corpus.choosing import Chosen, NamedStep, steps_of
from langadapt.corpus.preparing import Preparation, content_hash
from langadapt.records import Document, Rejected

if TYPE_CHECKING:
    from langadapt.corpus.portions import Portion
    from langadapt.plugins import Registry
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
        digest: of what was kept, see `content_hash`.
        signature: of what was kept, where near duplicates are looked for.
    """

    before: Document
    changes: tuple[tuple[str, Document], ...] = ()
    dropped_by: str = ""
    reason: str = ""
    digest: bytes = b""
    signature: bytes = b""

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


def tracer(steps: Iterable[NamedStep], sign: Callable[[str], bytes] | None = None) -> Callable[[Document], Trace]:
    """A function from a document to its way through Unicode normalisation and cleaning steps.

    Args:
        steps: in order.
        sign: makes signatures of what is kept.
    """
    named = ((UNICODE, _unicode), *((step.name, step.run) for step in steps))

    def trace(document: Document) -> Trace:
        changes: list[tuple[str, Document]] = []
        here = document
        for name, run in named:
            outcome = run(here)
            if isinstance(outcome, Document):
                if outcome != here:
                    changes.append((name, outcome))
                here = outcome
                reason = "" if here.content.strip() else "empty"
            else:
                reason = outcome
            if reason:
                return Trace(before=document, changes=tuple(changes), dropped_by=name, reason=reason)
        signature = sign(here.content) if sign else b""
        return Trace(before=document, changes=tuple(changes), digest=content_hash(here), signature=signature)

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


def admitting(deduplicate: str | NearDuplicates = "exact") -> Callable[[Trace], Trace]:
    """A function that drops the documents that repeat an earlier one which it has seen.

    Args:
        deduplicate: as in a recipe's corpus entry.
    """
    from langadapt.corpus.duplicates import NearSeen, Seen

    seen, near = Seen(), NearSeen()

    def admit(trace: Trace) -> Trace:
        if not trace.kept or deduplicate == "none":
            return trace
        reason = "" if seen.add(trace.digest) else "exact duplicate"
        if not reason and trace.signature and not near.add(trace.signature):
            reason = "near duplicate"
        return replace(trace, dropped_by=DUPLICATES, reason=reason) if reason else trace

    return admit


# --- a whole corpus ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """The ways of a corpus's documents, as a job of `langadapt.corpus.workers`."""

    preparation: Preparation

    def unknown(self, known: Registry) -> list[str]:
        """Steps that no plugin of this process offers."""
        return self.preparation.unknown(known)

    def of_portions(self, known: Registry) -> Callable[[Portion], bytes]:
        """A pure function from a portion of the corpus to the ways of its documents, pickled."""
        preparation = self.preparation
        trace = tracer(steps_of(preparation, known), preparation.around(()).sign)
        return lambda portion: pickle.dumps(
            [item if isinstance(item, Rejected) else trace(item) for item in preparation.read(portion)]
        )


def outcomes(chosen: Chosen, workers: int = 0) -> Iterator[Trace | Rejected]:
    """Everything that is read of a corpus, in order, with what becomes of it; made by as many processes as wanted.

    Args:
        chosen: the corpus.
        workers: processes; 0 for one on each core.

    Raises:
        UserError: it cannot be read.
        RunError: a process that shared the work died.
    """
    from langadapt.corpus.workers import in_order

    found = chosen.input
    admit = admitting(found.ref.deduplicate)
    with closing(in_order(Tracing(preparation=found.preparation), found.portions(), workers)) as shards:
        items = chain.from_iterable(map(pickle.loads, shards))
        for item in islice(items, found.source().max_documents or None):
            yield item if isinstance(item, Rejected) else admit(item)


def of_sample(chosen: Chosen, documents: Iterable[Document]) -> Iterator[Trace]:
    """The ways of some documents of a corpus, made by this process."""
    trace = tracer(chosen.steps, chosen.input.preparation.around(()).sign)
    return map(admitting(chosen.input.ref.deduplicate), map(trace, documents))
