"""Filters: what they make of a plugin's samples and of texts that are hard on them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from langadapt.errors import UserError
from langadapt.plugins import in_words
from langadapt.records import Document, Filter
from langadapt.testing.conformance import NotChecked, Subject, check
from langadapt.testing.texts import documents

LONGEST_REASON = 80  # characters: documents are counted by it, in a table
FROM_TEXT = 12  # characters of a document in a reason, from which on they are no chance

Outcome = Document | str | Exception


@check(Filter, right='make=lambda options, language: step, where step takes a Document; options={"characters": 200}')
def filter_make(step: Filter, subject: Subject) -> Iterator[str]:
    """`make` gives a function, with a language and without one, and leaves the options as they were."""
    for language in (subject.language, None):
        options = _options(step, subject)
        before = copy.deepcopy(options)
        try:
            made = step.make(options, language)
        except UserError:  # it says what it needs
            continue
        if not callable(made):
            yield f"make gives a {type(made).__name__} and no function"
        if options != before:
            yield f"make changes the options from {before} to {options}"


@check(Filter, right='files=("words",), where options has a "words"')
def filter_files(step: Filter, subject: Subject) -> Iterator[str]:
    """Every option that is said to name a file is an option."""
    yield from (f'"{name}" is in files and not in options' for name in step.files if name not in step.options)


@check(Filter, right="return the document, or dataclasses.replace(document, text=…), or a reason, never None")
def filter_outcome(step: Filter, subject: Subject) -> Iterator[str]:
    """Any document gives a document or a reason; nothing is raised."""
    for what, _, outcome in _outcomes(step, subject):
        if isinstance(outcome, Exception):
            yield f"it raises {in_words(outcome)} on {what}"
        elif isinstance(outcome, str) and not outcome.strip():
            yield f"it gives an empty reason on {what}"
        elif not isinstance(outcome, (Document, str)):
            yield f"it gives {outcome!r} on {what}"


@check(Filter, right="dataclasses.replace(document, text=…): same id, and a text stays a text")
def filter_keeps_the_document(step: Filter, subject: Subject) -> Iterator[str]:
    """A document that is kept has its id and its kind, and the one that came in is unchanged."""
    for what, document, outcome in _outcomes(step, subject):
        if isinstance(outcome, Document) and outcome.id != document.id:
            yield f'it changes the id from "{document.id}" to "{outcome.id}" on {what}'
        if isinstance(outcome, Document) and len(outcome.messages) != len(document.messages):
            yield f"it makes {len(outcome.messages)} messages of {len(document.messages)} on {what}"
    made = _made(step, subject)
    for what, document in documents(subject):
        given = copy.deepcopy(document)
        with suppress(Exception):  # another check tells
            made(given)
        if given != document:
            yield f"it changes the document itself on {what}"


@check(Filter, right="no random numbers, no clock, no memory of documents before: results are kept over runs")
def filter_repeats(step: Filter, subject: Subject) -> Iterator[str]:
    """The outcome follows from the document alone: it is the same again, in another order and from another `make`."""
    made = _made(step, subject)
    outcomes = _outcomes(step, subject)
    for what, document, before in (*reversed(outcomes), *outcomes):
        again = _call(made, document)
        if not _same(again, before):
            yield f"it gives {_short(before)} first and {_short(again)} then on {what}"


@check(Filter, right="what a step has cleaned it leaves as it is: mend everything at once, or until nothing changes")
def filter_is_idempotent(step: Filter, subject: Subject) -> Iterator[str]:
    """What it has kept it keeps unchanged."""
    made = _made(step, subject)
    for what, _, outcome in _outcomes(step, subject):
        if isinstance(outcome, Document):
            again = _call(made, outcome)
            if not _same(again, outcome):
                yield f"of {what} it makes {_short(outcome)} first, and of that {_short(again)}"


@check(Filter, right='a fixed phrase, "too short": documents are counted by it; put figures and quotations nowhere')
def filter_reasons(step: Filter, subject: Subject) -> Iterator[str]:
    """Reasons are few, short, and the same for all documents."""
    reasons: dict[str, tuple[str, Document]] = {}
    for what, document, outcome in _outcomes(step, subject):
        if isinstance(outcome, str) and outcome.strip():
            reasons.setdefault(outcome, (what, document))
    patterns: dict[str, str] = {}
    for reason, (what, document) in reasons.items():
        other = patterns.setdefault(re.sub(r"\d[\d.,]*", "#", reason), reason)
        if other != reason:
            yield f'"{other}" and "{reason}" are counted apart'
        if len(reason) > LONGEST_REASON or "\n" in reason:
            yield f"the reason for dropping {what} has {len(reason)} characters"
        elif document.id in reason or _shares(reason, document.content):
            yield f'"{reason}" quotes the document ({what})'


def _shares(reason: str, text: str) -> bool:
    pieces = (reason[start : start + FROM_TEXT] for start in range(len(reason) - FROM_TEXT + 1))
    return any(piece in text for piece in pieces)


def _outcomes(step: Filter, subject: Subject) -> list[tuple[str, Document, Outcome]]:
    """What becomes of every document, each with words for it."""

    def make() -> list[tuple[str, Document, Outcome]]:
        made = _made(step, subject)
        return [(what, document, _call(made, document)) for what, document in documents(subject)]

    return subject.once(("outcomes", step.name), make)


def _made(step: Filter, subject: Subject) -> Callable[[Document], Outcome]:
    try:
        made = step.make(_options(step, subject), subject.language)
    except UserError as error:
        raise NotChecked(f"{error}; give it in `options`") from None
    if not callable(made):
        raise NotChecked("make gives no function")
    return made


def _call(made: Callable[[Document], Outcome], document: Document) -> Outcome:
    """The outcome for a copy, so that a step that changes what it is given harms no other."""
    try:
        return made(copy.deepcopy(document))
    except Exception as error:  # which is what the check is about
        return error


def _same(one: Outcome, other: Outcome) -> bool:
    """Equal; exceptions never are, so their words are compared."""
    return one == other or (isinstance(one, Exception) and repr(one) == repr(other))


def _options(step: Filter, subject: Subject) -> dict[str, object]:
    return {**step.options, **subject.options.get(step.name, {})}


def _short(outcome: Outcome) -> str:
    if isinstance(outcome, Document):
        return f"a document of {len(outcome.content)} characters"
    return in_words(outcome) if isinstance(outcome, Exception) else repr(outcome)[:60]
