"""Documents on their way to training: cleaned, deduplicated, split, and every one of them accounted for.

What follows from a document alone (`prepare`) is apart from what depends on those before it (`admit`): the first is done
on all cores and kept, the second is quick and done in order.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langadapt.corpus.files import FLAWS
from langadapt.corpus.origins import Origins
from langadapt.records import Document, Rejected

if TYPE_CHECKING:
    from langadapt.corpus.cache import Entry
    from langadapt.corpus.contamination import Judged
    from langadapt.corpus.duplicates import NearSeen, Seen
    from langadapt.corpus.portions import Portion
    from langadapt.plugins import Registry
    from langadapt.recipe import NearDuplicates

VERSION = 1  # raised when a document would be prepared or written otherwise, so that caches notice
LIBRARIES = ("eldc", "py3langid", "ftfy")  # whose versions decide what cleaning steps make of a text

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
    origins: Origins = field(default_factory=Origins)

    def keep(self, size: int, origin: Mapping[str, str] | None = None) -> None:
        self.documents.keep()
        self.bytes.keep(size)
        if origin:
            self.origins.add(origin)

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

    @classmethod
    def from_json(cls, counts: Mapping[str, Any]) -> Accounting:
        """What `to_json` said."""
        documents, bytes_ = (
            Count(**{**counts[unit], "dropped": Counter(counts[unit]["dropped"])}) for unit in ("documents", "bytes")
        )
        tokens = TokenCount(**{**counts["tokens"], "dropped": Counter(counts["tokens"]["dropped"])})
        origins = Origins.from_json(counts.get("origins", {}))
        return cls(documents=documents, bytes=bytes_, tokens=tokens, origins=origins)

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
            **({"origins": self.origins.to_json()} if self.origins.counts else {}),
        }


def _count_json(count: Count) -> dict[str, Any]:
    return {"read": count.read, "kept": count.kept, "dropped": dict(count.dropped)}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A document that its own text gives no reason to drop.

    Attributes:
        document: after Unicode normalisation and the cleaning steps.
        size: UTF-8 bytes as it was read.
        digest: 16 bytes of the cleaned content, see `content_hash`.
        signature: MinHash bands, 8 bytes each; b"" where near duplicates are not looked for.
        found: what it holds of evaluations, for `contamination.Findings`; "" for nothing.
    """

    document: Document
    size: int
    digest: bytes
    signature: bytes = b""
    found: str = ""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done to each document of a corpus, made ready for this process.

    Attributes:
        steps: cleaning steps in order.
        judge: looks for what evaluations ask; None where nobody looks.
        sign: makes signatures by which near duplicates are recognised; None where they are not looked for.
    """

    steps: tuple[Step, ...] = ()
    judge: Callable[[Document], Judged] | None = None
    sign: Callable[[str], bytes] | None = None


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How the portions of a corpus become prepared documents, in names and values alone, so that any process can do it.

    Attributes:
        columns: our column names to the corpus's.
        good: what messages call the corpus, where a bad record is to stop the run; "" where it is dropped.
        language: tag of the corpus's language.
        steps: cleaning steps in order, by name, with what is tuned of them.
        near: how near duplicates are looked for; None where they are not.
        index: folder of the index of the evaluations that no document may repeat; None for none.
        skip: evaluations of it that are not looked for.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    good: str = ""
    language: str = ""
    steps: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    near: NearDuplicates | None = None
    index: Path | None = None
    skip: tuple[str, ...] = ()

    def unknown(self, known: Registry) -> list[str]:
        """Steps that no plugin of this process offers."""
        return [name for name, _ in self.steps if name not in known.filters]

    def make_steps(self, known: Registry) -> tuple[Step, ...]:
        """The cleaning steps, made ready."""
        spoken = known.languages.get(self.language)
        filters = [(known.filters[name], tuned) for name, tuned in self.steps]
        return tuple(step.make(step.values(spoken, tuned), spoken) for step, tuned in filters)

    def around(self, steps: tuple[Step, ...]) -> Work:
        """What is done to each document, with these steps in the place of those that are named."""
        judge = sign = None
        if self.index:
            from langadapt.corpus import contamination

            judge = contamination.judge(self.index, self.skip)
        if self.near:
            from langadapt.corpus import duplicates

            sign = duplicates.signer(self.near)
        return Work(steps=steps, judge=judge, sign=sign)

    def read(self, portion: Portion) -> Iterator[Document | Rejected]:
        """The documents of a portion as they stand in the corpus.

        Raises:
            UserError: a record is bad where none may be.
        """
        items = portion.read(self.columns)
        if not self.good:
            return items
        from langadapt.corpus.reading import unless_bad

        return unless_bad(items, self.good)

    def of_portions(self, known: Registry) -> Callable[[Portion], bytes]:
        """A pure function from a portion of a corpus to the shard of what is in it."""
        from langadapt.corpus.shards import to_bytes

        work = self.around(self.make_steps(known))
        return lambda portion: to_bytes(prepare(item, work) for item in self.read(portion))


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A corpus in portions that any process can prepare, and where what was prepared is kept.

    Attributes:
        cut: all portions of the corpus, from the first.
        preparation: what is done with them.
        entry: their place in the cache.
    """

    cut: Callable[[], Iterator[Portion]]
    preparation: Preparation
    entry: Entry


@dataclass(frozen=True, kw_only=True)
class Source:
    """One corpus as the stages read it.

    Attributes:
        label: what messages call it.
        read: its documents, one at a time, as this process reads them.
        work: what is done to each, in this process.
        shared: the same in portions; None where there is too little to share out and to keep.
        weight: share of the mix.
        epochs: how often its documents may be drawn, see `langadapt.corpus.mixing`.
        held_out: share of its documents that is never trained on.
        max_documents: how many are read at most, refused ones included; 0 for all.
        repeats: whether documents that repeat an earlier one stay.
    """

    label: str
    read: Callable[[], Iterable[Document | Rejected]]
    work: Work = Work()
    shared: Shared | None = None
    weight: float = 1.0
    epochs: float = 1.0
    held_out: float = 0.0
    max_documents: int = 0
    repeats: bool = False


def prepared(
    source: Source, workers: int = 0, *, say: Callable[[str], None] | None = None
) -> Generator[Prepared | Rejected, None, None]:
    """Everything in a source in reading order, each document cleaned or with the reason for which it is dropped.

    What comes does not depend on the number of processes, nor on what an earlier run left in the cache.

    Args:
        source: what to read.
        workers: processes that share the work; 0 for one on each core of the machine.
        say: gets a line on what was found in the cache, and why it was not more.

    Raises:
        UserError: it cannot be read, or the cache cannot be written.
        RunError: a process that shared the work died.
    """
    tell = say or (lambda line: None)
    with closing(_all(source, workers, tell)) as items:
        for item in islice(items, source.max_documents or None):
            if isinstance(item, Rejected) and item.reason in FLAWS:
                tell(f"{source.label}: {item.where}: {item.reason}; what follows in this file is not read")
            yield item


def _all(source: Source, workers: int, say: Callable[[str], None]) -> Generator[Prepared | Rejected, None, None]:
    if source.shared is None:
        return (prepare(item, source.work) for item in source.read())
    from langadapt.corpus.shards import kept_or_made

    return kept_or_made(source.label, source.shared, workers, say)


def prepare(item: Document | Rejected, work: Work) -> Prepared | Rejected:
    """One document, cleaned, or the reason for which it is dropped; a pure function."""
    if isinstance(item, Rejected):
        return item
    size = len(item.content.encode("utf-8", "replace"))
    outcome, found = _cleaned(item, work.steps), ""
    if work.judge and isinstance(outcome, Document):
        judged = work.judge(outcome)
        outcome, found = judged.outcome, judged.found
    if isinstance(outcome, str):
        return Rejected(reason=outcome, where=item.id, size=size, found=found)
    signature = work.sign(outcome.content) if work.sign else b""
    return Prepared(document=outcome, size=size, digest=content_hash(outcome), signature=signature, found=found)


def code() -> str:
    """What prepares documents, by versions; an ingredient of what is kept of it."""
    found = [
        f"{package} {metadata.version(package)}" for package in ("langadapt", *LIBRARIES) if _is_installed(package)
    ]
    return ", ".join([*found, f"preparation {VERSION}", f"Unicode {unicodedata.unidata_version}"])


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def admit(
    items: Iterable[Prepared | Rejected], seen: Seen | None, near: NearSeen | None
) -> Iterator[Prepared | Rejected]:
    """Turns documents that repeat an earlier one into rejected ones; the first stays.

    Args:
        items: prepared documents in the order in which they are to be taken.
        seen: digests of what was admitted so far, over all sources that share it; added to. None lets everything in.
        near: the same for signatures.
    """
    for item in items:
        if seen is not None and isinstance(item, Prepared):
            where, size = item.document.id, item.size
            if not seen.add(item.digest):
                item = Rejected(reason="exact duplicate", where=where, size=size)
            elif near is not None and item.signature and not near.add(item.signature):
                item = Rejected(reason="near duplicate", where=where, size=size)
        yield item


def clean(
    source: Source,
    accounting: Accounting,
    seen: Seen | None = None,
    near: NearSeen | None = None,
    *,
    say: Callable[[str], None] | None = None,
) -> Iterator[tuple[Side, Document]]:
    """Kept documents of one source with the side of the split that they belong to, for readers that mix nothing.

    A document's side follows from the hash of its text and the source's share alone, so the same text is always on the
    same side, in every stage and every run, wherever the share is the same.

    Args:
        source: what to read.
        accounting: counts everything as it is drawn.
        seen: shared by sources between which duplicates are looked for; the source's own when None.
        near: the same.
        say: as of `prepared`.
    """
    from langadapt.corpus.duplicates import NearSeen, Seen

    tables = (None, None) if source.repeats else (seen or Seen(), near or NearSeen())
    with closing(prepared(source, say=say)) as items:
        for item in admit(items, *tables):
            if isinstance(item, Rejected):
                accounting.drop(item.reason, item.size)
            else:
                accounting.keep(item.size, item.document.origin)
                yield ("held_out" if is_held_out(item.digest, source.held_out) else "train"), item.document


def content_hash(document: Document) -> bytes:
    """128 bits of the document's content after Unicode normalisation; equal texts are equal whatever their file."""
    return hashlib.blake2b(unicodedata.normalize("NFC", document.content).encode("utf-8"), digest_size=16).digest()


def is_held_out(digest: bytes, share: float) -> bool:
    """Whether a content hash falls into the held-out share."""
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _cleaned(document: Document, steps: Iterable[Step]) -> Document | str:
    document = _composed(document)
    if reason := _unusable(document.content):
        return reason
    for step in steps:
        outcome = step(document)
        if isinstance(outcome, str):
            return outcome
        document = outcome
    return (_unusable(document.content) if steps else "") or document


def _composed(document: Document) -> Document:
    """The document in NFC; the very same where it is composed already, as most are."""
    if document.messages or document.rejected:
        return document.edited(lambda text: unicodedata.normalize("NFC", text))
    text = unicodedata.normalize("NFC", document.text)
    return document if text is document.text else replace(document, text=text)


def _unusable(content: str) -> str:
    if not content or content.isspace():
        return "empty"
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        return "lone surrogate"
    return ""
