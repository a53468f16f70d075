"""What a corpus is like, before cleaning and after: sizes, languages, scripts, damage, copies, tokens; and what every
cleaning step drops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langadapt.corpus.choosing import Chosen, place_of
from langadapt.corpus.distribution import Distribution
from langadapt.corpus.measuring import PARAGRAPH, Measured, measured
from langadapt.corpus.sampling import Sample
from langadapt.corpus.tokens import TokenMeasure
from langadapt.corpus.tracing import DUPLICATES, UNICODE, Trace, admitting, size_of
from langadapt.records import Document

EXAMPLES = 2  # documents shown for each reason
EXCERPT = 300  # characters shown of one
TOP = 12  # domains, licences and so on that are listed
_ORIGINS = 50_000  # different values that are counted of one kind, at most


# --- what texts are like ----------------------------------------------------------------------------------------------


class Texts:
    """Sums up what documents are like, in memory that hardly grows with their number: 250 bytes each, for duplicates.

    Args:
        tokens: a tokenizer's measure; None where none was named.
    """

    def __init__(self, tokens: TokenMeasure | None = None) -> None:
        from langadapt.corpus.duplicates import NearSeen, Seen

        self.tokens = tokens
        self.documents = self.bytes = self.mojibake = 0
        self.exact = self.near = 0  # documents that repeat an earlier one
        self._seen, self._near_seen = Seen(), NearSeen()
        self.lengths = {"characters": Distribution(), "words": Distribution(), "lines": Distribution()}
        self.languages: Counter[str] = Counter()  # documents
        self.unsure = 0
        self.paragraphs: Counter[str] = Counter()  # bytes of lines that are long enough to be told
        self.scripts: Counter[str] = Counter()  # letters
        self.origins: dict[str, Counter[str]] = {}

    def add(self, text: Measured) -> None:
        """Adds a document."""
        self.documents += 1
        self.bytes += text.size
        for name, number in (("characters", text.characters), ("words", text.words), ("lines", text.lines)):
            self.lengths[name].add(number)
        self.mojibake += text.mojibake
        self.languages[text.language] += 1
        self.unsure += not text.sure
        self.paragraphs.update(text.paragraphs)
        self.scripts.update(text.scripts)
        if not self._seen.add(text.digest):
            self.exact += 1
        elif not self._near_seen.add(text.signature):
            self.near += 1
        for kind, name in text.origin:
            names = self.origins.setdefault(kind, Counter())
            if name in names or len(names) < _ORIGINS:
                names[name] += 1
        if self.tokens and text.tokenised:
            self.tokens.add(*text.tokenised)

    def to_json(self) -> dict[str, Any]:
        return {
            "documents": self.documents,
            "bytes": self.bytes,
            **{name: lengths.total for name, lengths in self.lengths.items()},
            "mojibake": self.mojibake,
            "duplicates": {"exact": self.exact, "near": self.near},
            "lengths": {name: lengths.to_json() for name, lengths in self.lengths.items()},
            "languages": {"documents": dict(self.languages.most_common()), "unsure": self.unsure},
            "paragraphs": {"characters_at_least": PARAGRAPH, "bytes": dict(self.paragraphs.most_common())},
            "scripts": dict(self.scripts.most_common()),
            "origins": {kind: dict(values.most_common(TOP)) for kind, values in self.origins.items()},
            "tokens": self.tokens.to_json() if self.tokens else None,
        }


# --- what steps drop --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Example:
    """The beginning of a document that was dropped or changed."""

    where: str
    text: str


@dataclass(kw_only=True)
class Drop:
    """What was dropped for one reason; bytes are of the documents as they were read."""

    documents: int = 0
    bytes: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(kw_only=True)
class Funnel:
    """What came to a step and what became of it; bytes are UTF-8 bytes when it came."""

    step: str
    documents: int = 0
    bytes: int = 0
    changed: int = 0
    cut: int = 0  # bytes that changes took away, or less than none where they added some
    dropped: dict[str, Drop] = field(default_factory=dict)

    @property
    def reasons(self) -> list[tuple[str, Drop]]:
        """Why documents were dropped, the most frequent reason first."""
        return sorted(self.dropped.items(), key=lambda item: -item[1].documents)

    def to_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "documents": self.documents,
            "bytes": self.bytes,
            "changed": self.changed,
            "cut": self.cut,
            "dropped": {
                reason: {"documents": d.documents, "bytes": d.bytes, "examples": [vars(e) for e in d.examples]}
                for reason, d in self.reasons
            },
        }


def count(funnel: Mapping[str, Funnel], trace: Trace) -> None:
    """Adds a document's way to the counts of the steps that it came to; `funnel` holds every step by name, in order."""
    changes = dict(trace.changes)
    size = trace.size
    for name, step in funnel.items():
        step.documents += 1
        step.bytes += size
        if name in changes:
            after = size_of(changes[name])
            step.changed += 1
            step.cut += size - after
            size = after
        if name == trace.dropped_by:
            drop = step.dropped.setdefault(trace.reason, Drop())
            drop.documents += 1
            drop.bytes += size
            if len(drop.examples) < EXAMPLES:
                drop.examples.append(Example(where=trace.before.id, text=trace.before.content[:EXCERPT]))
            return


# --- all of it --------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Statistics:
    """A corpus in figures.

    Attributes:
        chosen: the corpus.
        sample: what was read of it.
        before: the sample as it was read.
        after: what cleaning left of it.
        steps: what every step did, in order.
    """

    chosen: Chosen
    sample: Sample
    before: Texts
    after: Texts
    steps: dict[str, Funnel]

    def to_json(self) -> dict[str, Any]:
        found = self.chosen.input
        return {
            **found.to_json(),
            "from": place_of(found),
            "language": self.chosen.language.tag if self.chosen.language else "",
            "read": self.sample.read,
            "refused": {
                reason: {"records": number, "places": self.sample.places[reason]}
                for reason, number in self.sample.refused.most_common()
            },
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "steps": [step.to_json() for step in self.steps.values()],
        }


def statistics(
    chosen: Chosen,
    sample: Sample,
    documents: Iterable[Document],
    tokens: Callable[[], TokenMeasure] | None = None,
    workers: int = 0,
) -> Statistics:
    """Measures a corpus before and after its cleaning steps.

    Args:
        chosen: the corpus.
        sample: counts what is read of it.
        documents: those to measure: the sample itself, or what was taken from it already.
        tokens: makes a tokenizer's measure, once for the text as it is read and once for what is left.
        workers: processes that share the work; 0 for one on each core.

    Raises:
        UserError: the corpus cannot be read.
        RunError: a process that shared the work died.
    """
    before, after = (Texts(tokens() if tokens else None) for _ in range(2))
    names = [UNICODE, *(step.name for step in chosen.steps), DUPLICATES]
    funnel = {name: Funnel(step=name) for name in names}
    admit = admitting(chosen.input.ref.deduplicate)
    for trace, read, left in measured(chosen, documents, with_texts=bool(tokens), workers=workers):
        before.add(read)
        trace = admit(trace)
        if trace.kept and left:
            after.add(left)
        count(funnel, trace)
    return Statistics(chosen=chosen, sample=sample, before=before, after=after, steps=funnel)
