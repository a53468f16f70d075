"""What a document is like, in figures: found by any process, and summed up by `langadapt.corpus.statistics`."""

from __future__ import annotations

import pickle
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from langadapt.cleaning import mojibake, running_text
from langadapt.corpus.choosing import Chosen, steps_of
from langadapt.corpus.portions import Portion, of_documents
from langadapt.corpus.preparing import Preparation
from langadapt.corpus.sampling import hash_of
from langadapt.corpus.tracing import Trace, size_of, tracer
from langadapt.identification import identify
from langadapt.recipe import NearDuplicates
from langadapt.records import Document

if TYPE_CHECKING:
    from langadapt.plugins import Registry

PARAGRAPH = 40  # characters that a line must have to be identified by itself
_PORTION = 1 << 19  # characters that are measured in one go


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A text in figures; of a dialogue, the text of all its messages.

    Attributes:
        size: UTF-8 bytes.
        characters: Unicode characters.
        words: words and marks, as the language cuts them.
        lines: lines.
        mojibake: whether some of it was decoded wrongly.
        language: tag of the language that it seems to be in.
        sure: whether the detector relies on that.
        paragraphs: bytes of lines that are long enough to be identified by themselves, by language.
        scripts: letters by script.
        origin: what its record says of where it is from, and the domain of its address.
        digest: of the content.
        signature: by which near duplicates are found.
        tokenised: the text and its words, if they are to be compared with tokens.
    """

    size: int
    characters: int
    words: int
    lines: int
    mojibake: bool
    language: str
    sure: bool
    paragraphs: Mapping[str, int]
    scripts: Mapping[str, int]
    origin: Sequence[tuple[str, str]]
    digest: bytes
    signature: bytes
    tokenised: tuple[str, Sequence[str]] | None = None


Found = tuple[Trace, Measured, Measured | None]  # a document's way, it in figures before and, if it was kept, after


def measured(
    chosen: Chosen, documents: Iterable[Document], *, with_texts: bool = False, workers: int = 0
) -> Iterator[Found]:
    """Documents in figures before cleaning and after, in order; made by as many processes as wanted.

    Args:
        chosen: the corpus and its steps.
        documents: of it; drawn as they are needed.
        with_texts: whether texts and words are wanted, too, for tokens.
        workers: processes; 0 for one on each core.

    Raises:
        RunError: a process that shared the work died.
    """
    from langadapt.corpus.workers import in_order

    job = Measuring(preparation=chosen.input.preparation, with_texts=with_texts)
    portions = of_documents(chosen.input.label, documents, _PORTION)
    with closing(in_order(job, portions, workers)) as found:
        yield from chain.from_iterable(map(pickle.loads, found))


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """The measuring of documents, as a job of `langadapt.corpus.workers`."""

    preparation: Preparation
    with_texts: bool

    def unknown(self, known: Registry) -> list[str]:
        """Steps that no plugin of this process offers."""
        return self.preparation.unknown(known)

    def of_portions(self, known: Registry) -> Callable[[Portion], bytes]:
        """A pure function from a portion of the corpus to its documents in figures, pickled."""
        language = known.languages.get(self.preparation.language)
        trace = tracer(steps_of(self.preparation, known), self.preparation.around(()).sign)
        measure = measurer(language.words if language else running_text.words, with_texts=self.with_texts)

        def find(document: Document) -> Found:
            way = trace(document)
            before = measure(document)
            return way, before, (measure(way.last) if way.changes else before) if way.kept else None

        return lambda portion: pickle.dumps([find(d) for d in portion.documents if isinstance(d, Document)])


def measurer(words: Callable[[str], list[str]], *, with_texts: bool = False) -> Callable[[Document], Measured]:
    """A pure function from a document to its figures.

    Args:
        words: the language's word segmentation.
        with_texts: whether the text and its words are kept.
    """
    from langadapt.corpus.duplicates import signer

    mend, sign = mojibake.FILTER.make({"per_thousand": 0}, None), signer(NearDuplicates())

    def measure(document: Document) -> Measured:
        text = document.content.encode("utf-8", "replace").decode("utf-8")  # no detector takes a lone surrogate
        found, lines, language = words(text), text.splitlines(), identify(text)
        return Measured(
            size=size_of(document),
            characters=len(text),
            words=len(found),
            lines=len(lines),
            mojibake=mend(document) != document,
            language=language.tag,
            sure=language.reliable,
            paragraphs=_by_language(lines),
            scripts=_by_script(text),
            origin=tuple(_origin(document)),
            digest=hash_of(document),
            signature=sign(text),
            tokenised=(text, found) if with_texts else None,
        )

    return measure


def _by_language(lines: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in lines:
        if len(line) >= PARAGRAPH:
            counts[identify(line).tag] += len(line.encode("utf-8"))
    return counts


def _by_script(text: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for character, times in Counter(text).items():
        if script := script_of(character):
            counts[script] += times
    return counts


@lru_cache(maxsize=4096)
def script_of(character: str) -> str:
    """The script of a letter, `Latin`, by the first word of its Unicode name; "" for what is no letter of a script."""
    plain = unicodedata.normalize("NFKC", character)[0]  # º is an o, µ a Greek letter
    if unicodedata.category(plain) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    return unicodedata.name(plain, "unknown").split(" ")[0].split("-")[0].capitalize()


def _origin(document: Document) -> Iterator[tuple[str, str]]:
    for kind, value in document.origin.items():
        if kind == "url":
            if host := _host(value):
                yield "domain", host
        elif kind != "id":
            yield kind, value


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
