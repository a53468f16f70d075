"""`memory`: a file of translations made before, by people or by another program.

It is what rehearsals translate with: the bundled sample of the target language. A text that the file does not hold comes
back as "", that is, not translated.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from langadapt import artifacts
from langadapt.errors import UserError
from langadapt.recipe import Table
from langadapt.records import Translator

BATCH = 1024


class Options(Table):
    """Keys of `[stage.translator]` beside `name`."""

    path: str = Field(
        "",
        description='The file, JSONL such as `{"en": …, "it": …}` or TSV whose first row holds the tags; empty '
        "for the sample that comes with the target language.",
    )


def problem(options: Options, source: str, target: str) -> str:
    """Whether there is a file, and whether its first row has both languages."""
    path = _file(options, target)
    if path is None:
        return f'no plugin brings sample translations for "{target}"; give a file of your own in path'
    if not path.is_file():
        return f"{path}: there is no such file; the path is taken from the current folder"
    try:
        next(pairs(path, source, target), None)
    except UserError as error:
        return str(error)
    return ""


def fingerprint(options: Options, source: str, target: str) -> str:
    """Digest of the file."""
    path = _file(options, target)
    assert path is not None, "the plan has asked `problem`"
    return artifacts.digest_files([path])


def open_engine(options: Options, source: str, target: str) -> Callable[[Sequence[str]], list[str]]:
    """Reads the whole file. Of two translations of a text the first holds; white space around a text does not count.

    Raises:
        UserError: a row is not as described; the message has file and line.
    """
    from langadapt.translation.translating import known_units

    path = _file(options, target)
    assert path is not None, "the plan has asked `problem`"
    known: dict[str, str] = {}
    for text, translation in pairs(path, source, target):
        known.setdefault(text.strip(), translation.strip())
        for unit, of_unit in known_units(text, translation):  # as the stage asks: without list marks, spans masked
            known.setdefault(unit, of_unit)
    return lambda texts: [known.get(text.strip(), "") for text in texts]


def _file(options: Options, target: str) -> Path | None:
    if options.path:
        return Path(options.path).expanduser()
    from langadapt.plugins import registry

    language = registry().languages.get(target)
    return language.parallel_sample if language else None


def pairs(path: Path, source: str, target: str) -> Iterator[tuple[str, str]]:
    """Source text and translation of every row of a file of translations.

    Args:
        path: JSONL of objects such as `{ "en": …, "it": … }`, or TSV whose first row holds the tags.
        source: tag of the language that was translated from.
        target: tag of the other one.

    Raises:
        UserError: it cannot be read, or a row lacks a language.
    """
    for number, row in _rows(path):
        missing = [tag for tag in (source, target) if not isinstance(row.get(tag), str)]
        if missing:
            raise UserError(f'{path}:{number}: there is no text under "{missing[0]}"; keys: {", ".join(map(str, row))}')
        yield row[source], row[target]


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with the line that each ends on."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            if path.suffix.lower() == ".tsv":
                rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
                yield from ((rows.line_num, row) for row in rows)
            else:
                yield from ((number, _object(line)) for number, line in enumerate(stream, 1) if line.strip())
    except (OSError, ValueError, csv.Error) as error:
        kind = "TSV" if path.suffix == ".tsv" else "JSONL"
        raise UserError(f"{path}: cannot be read as {kind} ({error}); mend it, or name another file") from None


def _object(line: str) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError(f"{line.strip()[:40]} is no JSON object")
    return value


TRANSLATOR = Translator(
    name="memory",
    description="Translations made before, from a file.",
    options=Options,
    problem=problem,
    fingerprint=fingerprint,
    open=open_engine,
    batch=BATCH,
)
