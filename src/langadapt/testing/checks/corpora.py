"""Corpora: where they are from, and what their samples hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from langadapt.corpus.layouts import LAYOUTS
from langadapt.errors import UserError, nearest
from langadapt.records import Corpus, Document, Language, Rejected
from langadapt.tags import IN_SCRIPT, NO_LANGUAGE, base, share_in_script, tag_fault
from langadapt.testing.conformance import NotChecked, Subject, Wrong, check
from langadapt.testing.texts import quoted, sample

ENOUGH = 100  # characters that a language can be told by


@check(Corpus, right='a BCP-47 tag: language="eu"')
def corpus_language(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """Its language, and that of its sample, is a BCP-47 tag."""
    for tag in filter(None, (corpus.language, corpus.sample_language)):
        if problem := tag_fault(tag):
            yield problem


@check(Corpus, right='licence="CC-BY-SA-4.0", and sample_licence where a sample is bundled')
def corpus_licence(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """Its licence is given, and so is that of a bundled sample."""
    if not corpus.licence.strip():
        yield "licence is empty"
    if corpus.sample is not None and not (corpus.sample_licence or corpus.complete):
        yield "it bundles a sample and does not say under which licence: sample_licence is empty"


@check(
    Corpus,
    right="source=HubSource(…), or where_to_get='ask the authors for …', or complete=True with a sample that is all",
)
def corpus_is_obtainable(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """A user can get it: from the hub, by what `where_to_get` says, or because the sample is all of it."""
    if corpus.source is None and not corpus.where_to_get.strip() and not corpus.complete:
        yield "nobody can tell how to get it"
    if corpus.complete and corpus.sample is None:
        yield "complete=True says that the sample is all of it, and there is no sample"
    if corpus.source is not None and corpus.source.repo_id.count("/") != 1:
        yield f'"{corpus.source.repo_id}" is no data set on the hub: owner/name'


@check(Corpus, right=f"one of {', '.join(LAYOUTS)}; or read=… for files of another kind")
def corpus_layout(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """Its layout exists."""
    if corpus.layout not in LAYOUTS:
        yield f'there is no layout "{corpus.layout}"; {nearest(corpus.layout, LAYOUTS)}'


@check(Corpus, right="sample=Path(__file__).parent / 'samples' / 'prose.jsonl', and the file is part of the package")
def corpus_sample(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """The sample that it bundles is there."""
    if corpus.sample is None:
        raise NotChecked("it has no sample, so no recipe that uses it can be rehearsed")
    if not corpus.sample.exists():
        yield f"there is no {corpus.sample}"


@check(
    Corpus, right="every line is a record of the layout; read=… yields Document and Rejected, and has a text in each"
)
def corpus_sample_is_read(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """Every record of the sample becomes a document with something in it."""
    if corpus.layout not in LAYOUTS:
        raise NotChecked("its layout is not known")
    found = sample(corpus, subject)
    if not found:
        yield "there is no document in its sample"
    for row in found:
        if isinstance(row, Rejected):
            yield f"{row.where}: {row.reason}"
        elif not isinstance(row, Document):
            yield f"read gives a {type(row).__name__} where a Document or a Rejected is expected"
        elif not row.content.strip():
            yield f"{row.id} is empty"
        elif row.text and row.messages:
            yield f"{row.id} has both a text and messages"


@check(Corpus, right="ids that say where a document stands: prose.jsonl:3")
def corpus_sample_ids(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """No two documents of the sample have the same id."""
    ids = Counter(document.id for document in _documents(corpus, subject))
    yield from (f'{count} documents have the id "{id}"' for id, count in ids.items() if count > 1)


@check(Corpus, right="each text once: a duplicate is dropped before training, and counts for nothing")
def corpus_sample_has_no_duplicates(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """No two documents of the sample are the same."""
    from langadapt.corpus.preparing import content_hash

    first: dict[bytes, str] = {}
    for document in _documents(corpus, subject):
        same = first.setdefault(content_hash(document), document.id)
        if same != document.id:
            yield f"{document.id} is the same as {same}: {quoted(document.content)}"


@check(Corpus, right='text in the language that is declared, or sample_language="en" for a sample in another one')
def corpus_sample_language(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """The sample is in the declared language, as far as the detector can tell."""
    from langadapt.identification import LOOKED_AT, identify, knows

    tag = _declared(corpus)
    text = _text(corpus, subject)[:LOOKED_AT]
    if not knows(base(tag)):
        raise NotChecked(f"the detector does not know {tag}")
    if len(text) < ENOUGH:
        raise NotChecked(f"{len(text)} characters are too few to tell a language by")
    found = identify(text)
    if found.reliable and found.tag != base(tag):
        yield f'the sample is declared as "{tag}" and looks like "{found.tag}": {quoted(text)}'


@check(Corpus, right="text in the script of its language; a transliteration is another text")
def corpus_sample_script(corpus: Corpus, subject: Subject) -> Iterator[str]:
    """The letters of the sample are those of the language's script."""
    tag = _declared(corpus)
    if tag not in subject.known.languages:
        raise NotChecked(f"no plugin offers the language {tag}")
    language: Language = subject.known.languages[tag]
    share = share_in_script(_text(corpus, subject), language.script)
    if share is None:
        raise NotChecked(f"Unicode does not know the script {language.script}")
    if share < IN_SCRIPT:
        yield f"{share:.0%} of the letters of the sample are {language.script}, the script of {language.name}"


@check(
    Corpus,
    right='filters=("eu-letters",): names that a plugin or the core offers',
    raises="a filter takes any document and raises nothing: the check filter-outcome tries yours on hard texts too",
)
def corpus_filters(corpus: Corpus, subject: Subject) -> Iterator[str | Wrong]:
    """The filters that it names exist, and leave something of its sample."""
    unknown = [name for name in corpus.filters if name not in subject.known.filters]
    for name in unknown:
        yield f'no plugin offers the filter "{name}"; {subject.known.filters.missing(name)}'
    if unknown or not corpus.filters:
        return
    language = subject.known.languages.get(corpus.language)
    steps = [subject.known.filters[name] for name in corpus.filters]
    try:
        made = [step.make(dict(step.options), language) for step in steps]
    except UserError as error:  # it says what it needs
        yield Wrong(
            said=str(error), right="filters whose options have defaults, or values in the language's thresholds"
        )
        return
    dropped: Counter[str] = Counter()
    documents = _documents(corpus, subject)
    for document in documents:
        outcome: Document | str = document
        for step in made:
            outcome = step(outcome) if isinstance(outcome, Document) else outcome
        if isinstance(outcome, str):
            dropped[outcome] += 1
    if documents and sum(dropped.values()) == len(documents):
        reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.items())
        yield Wrong(
            said=f"its filters drop every document of its sample: {reasons}",
            right=f"filters that keep good text: langadapt corpus stats {corpus.name} shows which step drops what",
        )


def _documents(corpus: Corpus, subject: Subject) -> list[Document]:
    return [row for row in sample(corpus, subject) if isinstance(row, Document)]


def _text(corpus: Corpus, subject: Subject) -> str:
    return "\n".join(document.content for document in _documents(corpus, subject))


def _declared(corpus: Corpus) -> str:
    """The language that the sample is said to be in."""
    tag = corpus.sample_language or corpus.language
    if tag == NO_LANGUAGE:
        raise NotChecked(f"the sample is a placeholder ({NO_LANGUAGE}): put text in {corpus.language} in its place")
    return tag
