"""What holds of records of every kind: how they are called and described."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from langadapt.plugins import HOOKS, name_of, names_of
from langadapt.records import Language
from langadapt.testing.conformance import Subject, check

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*(?:/[a-z0-9][a-z0-9+._-]*)*")


def _of_every_kind(check_one: Callable[[Any, Subject], Iterator[str]], name: str, right: str, said: str) -> None:
    """Makes the same check for each kind of record, called after it: `corpus-name`, `filter-name`."""
    for record, word in HOOKS.values():

        def find(one: Any, subject: Subject) -> Iterator[str]:
            return check_one(one, subject)

        find.__name__ = f"{word.lower().replace(' ', '_')}_{name}"
        find.__doc__ = said
        check(record, right=right)(find)


def _name(record: Any, subject: Subject) -> Iterator[str]:
    for name in names_of(record):
        if not isinstance(record, Language) and not _NAME.fullmatch(name):
            yield f'"{name}" is no name'


def _description(record: Any, subject: Subject) -> Iterator[str]:
    said = getattr(record, "description", None)
    if said is None:
        return
    if not said.strip():
        yield "it has no description"
    elif "\n" in said or not said.rstrip().endswith((".", "!", "?", ")")):
        yield f'"{said}" is not one sentence with its full stop'


def _version(record: Any, subject: Subject) -> Iterator[str]:
    version = getattr(record, "version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        yield f"{version!r} is no version of {name_of(record)}"


_of_every_kind(
    _name,
    "name",
    "small letters, digits and - . _ +, perhaps parts between strokes: eu-wikipedia, basque/small",
    "The name can be written in a recipe and as a file.",
)
_of_every_kind(
    _description, "description", 'one sentence: "News in Basque, 2010 to 2020."', "The description is one sentence."
)
_of_every_kind(
    _version, "version", "1, and one more whenever results change", "The version is a whole number from 1 on."
)
