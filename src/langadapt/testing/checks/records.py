"""What holds of records of every kind: how they are called and described."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from langadapt.plugins import HOOKS, name_of, names_of
from langadapt.records import Language
from langadapt.testing.conformance import Subject, check

_NAME = re.compile(r"[a-z0-9][a-z0-9+._-]*(?:/[a-z0-9][a-z0-9+._-]*)*")


def _name(record: Any, subject: Subject) -> Iterator[str]:
    yield from (f'"{name}" is no name' for name in names_of(record) if not _NAME.fullmatch(name))


def _description(record: Any, subject: Subject) -> Iterator[str]:
    said = record.description
    if not said.strip():
        yield "it has no description"
    elif "\n" in said or not said.rstrip().endswith((".", "!", "?", ")")):
        yield f'"{said}" is not one sentence with its full stop'


def _version(record: Any, subject: Subject) -> Iterator[str]:
    if not isinstance(record.version, int) or isinstance(record.version, bool) or record.version < 1:
        yield f"{record.version!r} is no version of {name_of(record)}"


def _of_every_kind(find: Callable[[Any, Subject], Iterator[str]], field: str, *, says: str, right: str) -> None:
    """Makes a check of each kind of record that has the field, called after both: `corpus-name`, `filter-name`."""
    for record, word in HOOKS.values():
        if record is Language or field not in {one.name for one in fields(record)}:
            continue  # a language goes by its tag, and its name is one for people

        def of_this_kind(one: Any, subject: Subject) -> Iterator[str]:
            return find(one, subject)

        of_this_kind.__name__ = f"{word.lower().replace(' ', '_')}_{field}"
        of_this_kind.__doc__ = says
        check(record, right=right)(of_this_kind)


_of_every_kind(
    _name,
    "name",
    says="The name can be written in a recipe and as a file.",
    right="small letters, digits and - . _ +, perhaps in parts between strokes: eu-wikipedia, basque/small",
)
_of_every_kind(
    _description,
    "description",
    says="The description is one sentence.",
    right='description="News in Basque, 2010 to 2020."',
)
_of_every_kind(
    _version,
    "version",
    says="The version is a whole number from 1 on.",
    right="1, and one more whenever results change",
)
