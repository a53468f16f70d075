"""What a corpus is like, before cleaning and after: sizes, languages, scripts, damage, copies, tokens; and what every
cleaning step drops.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from langadapt.cleaning import mojibake, running_text
from langadapt.corpus.choosing import Chosen, place_of
from langadapt.corpus.distribution import Distribution
from langadapt.corpus.sampling import Sample, hash_of
from langadapt.corpus.tokens import TokenMeasure
from langadapt.corpus.tracing import DUPLICATES, UNICODE, Trace, of_sample, size_of
from langadapt.identification import identify
from langadapt.recipe import NearDuplicates
from langadapt.records import Document

PARAGRAPH = 40  # characters that a line must have to be identified by itself
EXAMPLES = 2  # documents shown for each reason
EXCERPT = 300  # characters shown of one
TOP = 12  # domains, licences and so on that are listed
_ORIGINS = 50_000  # different values that are counted of one kind, at most


# --- what texts are like ----------------------------------------------------------------------------------------------


class Texts:
    """Counts what documents are like, one by one, in memory that does not grow with their number.

    Args:
        words: the language's word segmentation.
        tokens: a tokenizer's measure; None where none was named.
    """

    def __init__(self, words: Callable[[str], list[str]], tokens: TokenMeasure | None = None) -> None:
        from langadapt.corpus.duplicates import NearSeen, Seen, signer

        self._words, self.tokens = words, tokens
        self.documents = self.bytes = self.characters = self.words = self.lines = self.mojibake = 0
        self.exact = self.near = 0  # documents that repeat an earlier one
        self._seen, self._near_seen, self._sign = Seen(), NearSeen(), signer(NearDuplicates())
        self.lengths = {"characters": Distribution(), "words": Distribution(), "lines": Distribution()}
        self.languages: Counter[str] = Counter()  # documents
        self.unsure = 0
        self.paragraphs: Counter[str] = Counter()  # bytes of lines that are long enough to be told
        self.scripts: Counter[str] = Counter()  # letters
        self.origins: dict[str, Counter[str]] = {}
        self._damaged = mojibake.FILTER.make({"per_thousand": 0}, None)

    def add(self, document: Document) -> None:
        """Counts a document; a dialogue is the text of all its messages."""
        text = document.content.encode("utf-8", "replace").decode("utf-8")  # no detector takes a lone surrogate
        words, lines = self._words(text), text.splitlines()
        self.documents += 1
        self.bytes += size_of(document)
        self.characters += len(text)
        self.words += len(words)
        self.lines += len(lines)
        for name, value in (("characters", len(text)), ("words", len(words)), ("lines", len(lines))):
            self.lengths[name].add(value)
        self.mojibake += self._damaged(document) != document
        if not self._seen.add(hash_of(document)):
            self.exact += 1
        elif not self._near_seen.add(self._sign(text)):
            self.near += 1
        self._identify(text, lines)
        for character, times in Counter(text).items():
            if script := script_of(character):
                self.scripts[script] += times
        for kind, name in origin_of(document):
            names = self.origins.setdefault(kind, Counter())
            if name in names or len(names) < _ORIGINS:
                names[name] += 1
        if self.tokens:
            self.tokens.add(text, words)

    def _identify(self, text: str, lines: Iterable[str]) -> None:
        found = identify(text)
        self.languages[found.tag] += 1
        self.unsure += not found.reliable
        for line in lines:
            if len(line) >= PARAGRAPH:
                self.paragraphs[identify(line).tag] += len(line.encode("utf-8", "replace"))

    def to_json(self) -> dict[str, Any]:
        return {
            "documents": self.documents,
            "bytes": self.bytes,
            "characters": self.characters,
            "words": self.words,
            "lines": self.lines,
            "mojibake": self.mojibake,
            "duplicates": {"exact": self.exact, "near": self.near},
            "lengths": {name: lengths.to_json() for name, lengths in self.lengths.items()},
            "languages": {"documents": dict(self.languages.most_common()), "unsure": self.unsure},
            "paragraphs": {"characters_at_least": PARAGRAPH, "bytes": dict(self.paragraphs.most_common())},
            "scripts": dict(self.scripts.most_common()),
            "origins": {kind: dict(values.most_common(TOP)) for kind, values in self.origins.items()},
            "tokens": self.tokens.to_json() if self.tokens else None,
        }


@lru_cache(maxsize=4096)
def script_of(character: str) -> str:
    """The script of a letter, `Latin`, by the first word of its Unicode name; "" for what is no letter of a script."""
    plain = unicodedata.normalize("NFKC", character)[0]  # º is an o, µ a Greek letter
    if unicodedata.category(plain) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    return unicodedata.name(plain, "unknown").split(" ")[0].split("-")[0].capitalize()


def origin_of(document: Document) -> Iterator[tuple[str, str]]:
    """What the document's record says of where it is from, and the domain of its address."""
    for kind, value in document.origin.items():
        if kind not in ("url", "id"):
            yield kind, value
        elif kind == "url" and (host := _host(value)):
            yield "domain", host


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


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
    chosen: Chosen, sample: Sample, documents: Iterable[Document], tokens: Callable[[], TokenMeasure] | None = None
) -> Statistics:
    """Measures a corpus before and after its cleaning steps.

    Args:
        chosen: the corpus.
        sample: counts what is read of it.
        documents: those to measure: the sample itself, or what was taken from it already.
        tokens: makes a tokenizer's measure, once for the text as it is read and once for what is left.

    Raises:
        UserError: the corpus cannot be read.
    """
    segment = chosen.language.words if chosen.language else running_text.words
    before, after = (Texts(segment, tokens() if tokens else None) for _ in range(2))
    names = [UNICODE, *(step.name for step in chosen.steps), DUPLICATES]
    funnel = {name: Funnel(step=name) for name in names}
    for trace in of_sample(chosen, documents):
        before.add(trace.before)
        if trace.kept:
            after.add(trace.last)
        count(funnel, trace)
    return Statistics(chosen=chosen, sample=sample, before=before, after=after, steps=funnel)
