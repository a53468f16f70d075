"""Translators: as many texts out as in, in their order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from langadapt.records import Translator
from langadapt.testing.conformance import NotChecked, Subject, check

SLOW = 1000.0  # milliseconds of processor time that a plan waits for `problem`
_TEXTS = ("The first sentence.", "Another one, which is longer than the first.", "42", "And the last.")


@check(
    Translator,
    right="class Options(Table): with what [stage.translator] may say beside the name; from langadapt import Table",
)
def translator_options(translator: Translator, subject: Subject) -> Iterator[str]:
    """Its options are a pydantic model that refuses unknown keys."""
    options = translator.options
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        yield f"{options!r} is no pydantic model"
    elif options.model_config.get("extra") != "forbid":
        yield f"{options.__name__} takes keys that it does not know"


@check(Translator, right='"" where it can translate; else why not and what to do, without network or heavy imports')
def translator_problem(translator: Translator, subject: Subject) -> Iterator[str]:
    """`problem` answers quickly with a text, also for languages that nobody translates."""
    options = _options(translator, subject)
    for source, target in (_pair(subject), ("zxx", "qaa")):
        started = time.process_time()
        said = translator.problem(options, source, target)
        taken = 1000 * (time.process_time() - started)
        if not isinstance(said, str):
            yield f"problem gives {said!r} from {source} to {target}"
        if taken > SLOW:
            yield f"problem takes {taken:.0f} ms of processor time"


@check(Translator, right="program, version and digest of the model's files: translations are remembered under it")
def translator_fingerprint(translator: Translator, subject: Subject) -> Iterator[str]:
    """`fingerprint` is a text, not empty, and the same when it is asked again."""
    options = _ready(translator, subject)
    first, again = (translator.fingerprint(options, *_pair(subject)) for _ in range(2))
    if not isinstance(first, str) or not first.strip():
        yield f"fingerprint gives {first!r}"
    elif first != again:
        yield f'fingerprint gives "{first}" first and "{again}" then'


@check(Translator, right="one translation for each text, at the same place; an empty list for an empty list")
def translator_keeps_order(translator: Translator, subject: Subject) -> Iterator[str]:
    """As many translations come out as texts went in, in the same order, whatever else is in the batch."""
    translate = translator.open(_ready(translator, subject), *_pair(subject))
    found = list(translate(list(_TEXTS)))
    if len(found) != len(_TEXTS):
        yield f"{len(_TEXTS)} texts give {len(found)} translations"
    if strange := [text for text in found if not isinstance(text, str)]:
        yield f"{strange[0]!r} is no translation"
    if strange or len(found) != len(_TEXTS):
        return
    alone = [next(iter(translate([text]))) for text in _TEXTS]
    if sorted(alone) == sorted(found) and alone != found:
        yield f"translations of {len(_TEXTS)} texts come in another order than the texts"
    if list(translate([])):
        yield "no texts give translations"


@check(Translator, right="batch=64")
def translator_batch(translator: Translator, subject: Subject) -> Iterator[str]:
    """It takes one text at a time or more."""
    if not isinstance(translator.batch, int) or translator.batch < 1:
        yield f"batch is {translator.batch!r}"


def _pair(subject: Subject) -> tuple[str, str]:
    language = subject.language
    return (language.source_language, language.tag) if language else ("en", "it")


def _options(translator: Translator, subject: Subject) -> Any:
    try:
        return translator.options.model_validate(dict(subject.options.get(translator.name, {})))
    except AttributeError:
        raise NotChecked("its options are no pydantic model") from None
    except ValidationError as error:
        missing = ", ".join(str(detail["loc"][0]) for detail in error.errors())
        raise NotChecked(f"values for {missing} are needed; give them in `options`") from None


def _ready(translator: Translator, subject: Subject) -> Any:
    options = _options(translator, subject)
    if problem := translator.problem(options, *_pair(subject)):
        raise NotChecked(problem)
    return options
