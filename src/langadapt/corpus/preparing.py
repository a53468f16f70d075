"""Documents on their way to training: cleaned, deduplicated, split, and every one of them accounted for."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from langadapt.records import Document, Rejected

Step = Callable[[Document], Document | str]  # a cleaning step, made ready: see `langadapt.records.Filter`
Side = Literal["train", "held_out"]


@dataclass
class Count:
    """Read, kept and dropped by reason, of documents or of bytes; `read == kept + sum(dropped)` at all times."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def keep(self, amount: int = 1) -> None:
        self.read += amount
        self.kept += amount

    def drop(self, reason: str, amount: int = 1) -> None:
        self.read += amount
        self.dropped[reason] += amount

    def take_back(self, reason: str, amount: int = 1) -> None:
        """What was kept is dropped after all."""
        self.kept -= amount
        self.dropped[reason] += amount


@dataclass
class TokenCount:
    """Tokens read are trained on, held out, or dropped for a reason. `learnt` is the part of `trained` that bears
    loss.
    """

    read: int = 0
    trained: int = 0
    held_out: int = 0
    learnt: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass
class Accounting:
    """Where everything that was read went."""

    documents: Count = field(default_factory=Count)
    bytes: Count = field(default_factory=Count)
    tokens: TokenCount = field(default_factory=TokenCount)

    def keep(self, size: int) -> None:
        self.documents.keep()
        self.bytes.keep(size)

    def drop(self, reason: str, size: int) -> None:
        self.documents.drop(reason)
        self.bytes.drop(reason, size)

    def take_back(self, reason: str, size: int) -> None:
        """A document that was kept turns out, as tokens, to be nothing to train on."""
        self.documents.take_back(reason)
        self.bytes.take_back(reason, size)

    def check(self) -> None:
        """Sums must agree; a difference is a mistake of ours."""
        for count in (self.documents, self.bytes):
            assert count.read == count.kept + sum(count.dropped.values()), count
        tokens = self.tokens
        assert tokens.read == tokens.trained + tokens.held_out + sum(tokens.dropped.values()), tokens

    def to_json(self) -> dict[str, Any]:
        """The `accounting` of `run.json`."""
        return {
            "documents": _count_json(self.documents),
            "bytes": _count_json(self.bytes),
            "tokens": {
                "read": self.tokens.read,
                "trained": self.tokens.trained,
                "held_out": self.tokens.held_out,
                "dropped": dict(self.tokens.dropped),
                "learnt": self.tokens.learnt,
            },
        }


def _count_json(count: Count) -> dict[str, Any]:
    return {"read": count.read, "kept": count.kept, "dropped": dict(count.dropped)}


@dataclass(frozen=True, kw_only=True)
class Source:
    """One corpus as the stages read it: its documents, its cleaning steps, its share of the mix and of held-out text."""

    label: str
    read: Callable[[], Iterable[Document | Rejected]]
    steps: tuple[Step, ...] = ()
    weight: float = 1.0
    held_out: float = 0.0
    max_documents: int = 0


def clean(source: Source, accounting: Accounting, seen: set[bytes]) -> Iterator[tuple[Side, Document]]:
    """Kept documents of one source with the side of the split that they belong to.

    A document's side follows from the hash of its text and the source's share alone, so the same text is always on the
    same side, in every stage and every run, wherever the share is the same. `seen` holds the hashes of what was kept,
    over all sources that share it.
    """
    for number, document in enumerate(source.read(), start=1):
        if isinstance(document, Rejected):
            accounting.drop(document.reason, document.size)
        else:
            size = len(document.content.encode("utf-8", "replace"))
            outcome = _cleaned(document, source.steps)
            digest = b"" if isinstance(outcome, str) else content_hash(outcome)
            if isinstance(outcome, str):
                accounting.drop(outcome, size)
            elif digest in seen:
                accounting.drop("exact duplicate", size)
            else:
                seen.add(digest)
                accounting.keep(size)
                yield ("held_out" if is_held_out(digest, source.held_out) else "train"), outcome
        if source.max_documents and number >= source.max_documents:
            return


def mix(
    sources: list[Source], accounting: Accounting, spent: Callable[[int], float]
) -> Iterator[tuple[int, Side, Document]]:
    """Documents of all sources, drawn so that each source's spending keeps to its weight.

    Args:
        sources: what to draw from.
        accounting: counts everything that is read.
        spent: tokens taken so far from source number i; asked before every draw.

    Yields:
        Source number, side, document. A source that runs out leaves the mix to the others.
    """
    seen: set[bytes] = set()
    open_ = {i: clean(source, accounting, seen) for i, source in enumerate(sources)}
    while open_:
        number = min(open_, key=lambda i: (spent(i) / sources[i].weight, i))
        drawn = next(open_[number], None)
        if drawn is None:
            del open_[number]
        else:
            yield number, *drawn


def content_hash(document: Document) -> bytes:
    """128 bits of the document's content after Unicode normalisation; equal texts are equal whatever their file."""
    return hashlib.blake2b(unicodedata.normalize("NFC", document.content).encode("utf-8"), digest_size=16).digest()


def is_held_out(digest: bytes, share: float) -> bool:
    """Whether a content hash falls into the held-out share."""
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _cleaned(document: Document, steps: Iterable[Step]) -> Document | str:
    document = document.edited(lambda text: unicodedata.normalize("NFC", text))
    if not document.content.strip():
        return "empty"
    try:
        document.content.encode("utf-8")
    except UnicodeEncodeError:
        return "lone surrogate"
    for step in steps:
        outcome = step(document)
        if isinstance(outcome, str):
            return outcome
        document = outcome
    return document if document.content.strip() else "empty"
