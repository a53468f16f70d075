"""`langadapt tokenizer report`: tokenizers side by side on a language's text, audited, and the advice for the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt.corpus.choosing import Wish, choose
from langadapt.corpus.sampling import Sample
from langadapt.errors import UserError
from langadapt.models import ModelShape
from langadapt.tokenizer import advising, checking, tokens
from langadapt.tokenizer.advising import Advice
from langadapt.tokenizer.auditing import Finding, Subject, audit
from langadapt.tokenizer.files import TokenizerFiles, read_files
from langadapt.tokenizer.measuring import Figures, Parity, by_domain, parity
from langadapt.tokenizer.named import NamedTokenizer
from langadapt.tokenizer.predicting import Prediction, extender, predict, split
from langadapt.tokenizer.rows import Rows, read_rows
from langadapt.tokenizer.saving import PROBES
from langadapt.tokenizer.undertrained import NEVER, Undertrained, undertrained

if TYPE_CHECKING:
    from langadapt.plugins import Registry

PROBE = 50  # texts of each domain by which loading is compared


# --- text -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Documents of one kind, in memory.

    Attributes:
        name: a corpus's or a file's.
        place: where they are from.
        texts: as they are read, not cleaned; of a dialogue, all its messages.
        words: the language's segmentation.
        read: how many there were to take from.
    """

    name: str
    place: str
    texts: tuple[str, ...] = field(repr=False)
    words: Callable[[str], list[str]] = field(repr=False)
    read: int

    @cached_property
    def cut(self) -> list[tuple[str, list[str]]]:
        """Every text with its words."""
        return [(text, self.words(text)) for text in self.texts]


def sampled(tag: str, known: Registry) -> list[str]:
    """Registered corpora of a language that have a sample of running text or dialogues, one for each sample.

    What evaluations measure on is left out: nothing should be learnt from it.
    """
    measured = {known.corpora[e.corpus].name for e in known.evaluations.values() if e.corpus in known.corpora}
    found: dict[Path, str] = {}
    for corpus in known.corpora.values():
        speaks = (corpus.sample_language or corpus.language) == tag
        if speaks and corpus.sample and not corpus.read and corpus.name not in measured:
            found.setdefault(corpus.sample, corpus.name)
    return list(found.values())


def domain(text: str, *, tag: str, known: Registry, sample: int, most: int = 0, hub: bool = False) -> Domain:
    """The documents that a name, a file, a folder or a glob stands for.

    Args:
        text: the name or place.
        tag: of the language that segments words; one that no plugin offers is cut at blanks and marks.
        known: the registry.
        sample: documents to take, evenly by hash; 0 for all.
        most: documents to read; 0 for all.
        hub: whether a registered corpus is read from the hub and not from its bundled sample.

    Raises:
        UserError: there is no such text, or nothing in it.
    """
    from langadapt.cleaning import running_text
    from langadapt.corpus.choosing import place_of

    wish = Wish(corpus=text, language=tag if tag in known.languages else "", max_documents=most, hub=hub)
    chosen = choose(wish, known)
    taken = Sample(chosen.input.source().read(), sample)
    texts = tuple(found for document in taken if (found := _encodable(document.content)).strip())
    if not texts:
        raise UserError(f"{text}: there is no text in it to measure; name another")
    spoken = known.languages.get(tag)
    return Domain(
        name=chosen.input.record.name if chosen.input.record else Path(text).name,
        place=place_of(chosen.input),
        texts=texts,
        words=spoken.words if spoken else running_text.words,
        read=taken.read,
    )


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no text


# --- one tokenizer ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Side:
    """A tokenizer in a report.

    Attributes:
        name: as its user named it.
        vocabulary: tokens that it has.
        rows: of the model's embedding; None where no weights are at hand.
        domains: its figures by domain, and of all together.
        source: the same of text in the source language.
        parity: on translations; None where there are none.
        unreachable: tokens that no text is cut into; None where that is not known of its kind.
        undertrained: what the model's rows tell; None without them.
        hardly_known: the under-trained tokens, by their text.
        findings: of the audit.
    """

    name: str
    vocabulary: int
    rows: int | None
    domains: Mapping[str, Figures]
    source: Mapping[str, Figures]
    parity: Parity | None
    unreachable: tuple[str, ...] | None
    undertrained: Undertrained | None
    hardly_known: tuple[str, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "tokenizer": self.name,
            "vocabulary": self.vocabulary,
            "rows": self.rows,
            "domains": {name: asdict(figures) for name, figures in self.domains.items()},
            "source": {name: asdict(figures) for name, figures in self.source.items()},
            "parity": asdict(self.parity) | {"ratio": self.parity.ratio} if self.parity else None,
            "unreachable": list(self.unreachable) if self.unreachable is not None else None,
            "undertrained": self._undertrained(),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def _undertrained(self) -> dict[str, Any] | None:
        if self.undertrained is None:
            return None
        return asdict(self.undertrained) | {"ids": list(self.undertrained.ids), "tokens": list(self.hardly_known)}


def measure(
    named: NamedTokenizer,
    tokenizer: Any,
    *,
    domains: Sequence[Domain],
    source: Sequence[Domain],
    pairs: Sequence[tuple[str, str]],
) -> Side:
    """A tokenizer, measured and audited.

    Args:
        named: where it is.
        tokenizer: it, as `named.load` gives it.
        domains: text in the target language.
        source: text in the source language.
        pairs: texts in the target language with their sources.

    Raises:
        UserError: the weights that belong to it cannot be read.
    """
    rows = read_rows(named.weights) if named.weights else None
    files = read_files(named.place, name=named.name)
    try:
        bpe: tokens.Bpe | None = tokens.read(tokenizer.backend_tokenizer)
        unreachable = tuple(tokenizer.convert_ids_to_tokens(checking.unreachable(tokenizer.backend_tokenizer)))
    except UserError:  # of another kind than BPE
        bpe, unreachable = None, None
    told = _undertrained(tokenizer, bpe, rows) if rows else None
    return Side(
        name=named.name,
        vocabulary=len(tokenizer),
        rows=rows.input.rows if rows else None,
        domains=by_domain(tokenizer, {domain.name: domain.cut for domain in domains}),
        source=by_domain(tokenizer, {domain.name: domain.cut for domain in source}),
        parity=parity(tokenizer, pairs) if pairs else None,
        unreachable=unreachable,
        undertrained=told,
        hardly_known=tuple(tokenizer.convert_ids_to_tokens(list(told.ids))) if told else (),
        findings=tuple(audit(_subject(named, files, rows, tokenizer, domains))) if files else (),
    )


def _undertrained(tokenizer: Any, bpe: tokens.Bpe | None, rows: Rows) -> Undertrained:
    padding = range(max(tokenizer.get_vocab().values()) + 1, rows.input.rows)
    if bpe is None:
        ordinary = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
        return undertrained(rows, ids=ordinary, unused=padding)
    never = [id for byte in NEVER if (id := bpe.by_bytes.get(bytes([byte]))) is not None]
    return undertrained(rows, ids=bpe.ordinary.values(), unused=[*padding, *never])


def _subject(
    named: NamedTokenizer, files: TokenizerFiles, rows: Rows | None, tokenizer: Any, domains: Sequence[Domain]
) -> Subject:
    """What is audited, with what the tokenizer really does in place of what its files say."""
    alone, around = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    start = next((n for n in range(len(around)) if around[n : n + len(alone)] == alone), 0)
    before, after = around[:start], around[start + len(alone) :]
    as_loaded = replace(
        files,
        before=tuple(tokenizer.convert_ids_to_tokens(before)),
        after=tuple(tokenizer.convert_ids_to_tokens(after)),
    )
    return Subject(files=as_loaded, rows=rows, ids=_loaded_twice(named, tokenizer, domains))


def _loaded_twice(named: NamedTokenizer, tokenizer: Any, domains: Sequence[Domain]) -> Mapping[str, list[int]]:
    """Ids of texts that are hard to keep and of some of the domains', by the file alone and as transformers loads it."""
    file = named.place / "tokenizer.json"
    if not file.is_file():
        return {}
    from tokenizers import Tokenizer

    texts = [*PROBES, *(text for domain in domains for text in domain.texts[:PROBE])]
    backend = Tokenizer.from_file(str(file))
    backend.no_truncation()
    backend.no_padding()
    alone = backend.encode_batch_fast(texts, add_special_tokens=False)
    loaded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return {"tokenizer.json": [i for e in alone for i in e.ids], "transformers": [i for ids in loaded for i in ids]}


# --- all of it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tokenizers side by side.

    Attributes:
        language: tag of the language that was measured.
        source_language: of the other one.
        domains: text in the language.
        source: text in the source language.
        sides: the tokenizers; the first is the one that the advice is about.
        shape: of its model; None where that is not known.
        prediction: what extending it would do; None where that could not be tried.
        advice: what follows.
        untried: why nothing was predicted; "" where it was.
    """

    language: str
    source_language: str
    domains: tuple[Domain, ...]
    source: tuple[Domain, ...]
    sides: tuple[Side, ...]
    shape: ModelShape | None = None
    prediction: Prediction | None = None
    advice: Advice | None = None
    untried: str = ""

    @property
    def names(self) -> list[str]:
        """What the tokenizers are called: without the folders before them, as far as they still differ."""
        whole = [side.name for side in self.sides]
        ends = [name.rstrip("/").rpartition("/")[2] or name for name in whole]
        return [end if ends.count(end) == 1 else name for end, name in zip(ends, whole, strict=True)]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "language": self.language,
            "source_language": self.source_language,
            "domains": [_domain_json(domain) for domain in self.domains],
            "source": [_domain_json(domain) for domain in self.source],
            "tokenizers": [side.to_json() for side in self.sides],
            "advice": (
                advising.to_json(self.prediction, self.advice, self.shape) if self.prediction and self.advice else None
            ),
            "no_advice": self.untried,
        }


def _domain_json(domain: Domain) -> dict[str, Any]:
    return {"name": domain.name, "place": domain.place, "documents": len(domain.texts), "read": domain.read}


def report(
    named: Sequence[NamedTokenizer],
    *,
    language: str,
    source_language: str,
    domains: Sequence[Domain],
    source: Sequence[Domain] = (),
    pairs: Sequence[tuple[str, str]] = (),
    planned: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Measures tokenizers, audits them, and predicts what extending the first would do.

    Args:
        named: the tokenizers, at least one.
        language: tag of the language of `domains`.
        source_language: of `source`, and of the second text of each pair.
        domains: text in the language, at least one.
        source: text in the source language.
        pairs: texts in the language with their sources.
        planned: tokens of the training that is planned; None where that is not known.
        say: takes a line about what is being done.

    Raises:
        UserError: a tokenizer cannot be loaded, or does not say where its tokens stand.
    """
    loaded = []
    for one in named:
        say(f"loading {one.name}")
        loaded.append(one.load())
    sides = []
    for one, tokenizer in zip(named, loaded, strict=True):
        say(f"measuring {one.name}")
        sides.append(measure(one, tokenizer, domains=domains, source=source, pairs=pairs))
    made = Report(
        language=language,
        source_language=source_language,
        domains=tuple(domains),
        source=tuple(source),
        sides=tuple(sides),
        shape=named[0].shape,
    )
    say("learning what an extension would save")
    beside = [text for domain in source for text in domain.texts] or [text for _, text in pairs]
    try:
        prediction = _predict(loaded[0].backend_tokenizer, domains, beside)
    except UserError as error:
        return replace(made, untried=str(error))
    return replace(made, prediction=prediction, advice=advising.advise(prediction, named[0].shape, tokens=planned))


def _predict(base: Any, domains: Sequence[Domain], source: Sequence[str]) -> Prediction:
    training, held_out = split([text for domain in domains for text in domain.texts])
    words = {text: len(cut) for domain in domains for text, cut in domain.cut}
    try:
        vetoing, beside = split(source)
    except UserError:  # none, or so little that nothing follows from it
        vetoing, beside = [], []
    return predict(
        base,
        training=training,
        held_out=held_out,
        words=sum(words[text] for text in held_out),
        extend=extender(base, training, source=vetoing),
        source=beside,
    )
