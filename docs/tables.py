"""Writes what the documentation and the recipes take from the source: `make tables`.

What a key, a field or an option means is said once, where it is defined. Below a mark such as
`<!-- keys: langadapt.recipe:CorpusRef -->` a page has a table whose head is written by hand and whose rows are written
here; beside the recipes lies the JSON Schema that their first line names. `tests/test_docs.py` fails when one of these
files is not what this writes.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

import langadapt
from langadapt import cli, peft
from langadapt.corpus.layouts import COLUMNS, LAYOUTS
from langadapt.plugins import Registry, registry
from langadapt.recipe import StageOptions
from langadapt.schema import experiment_schema, recipe_schema
from langadapt.stages.cpt import CptOptions
from langadapt.stages.preference import METHODS, PREFERENCE_OWNED
from langadapt.stages.sft import SftOptions
from langadapt.stages.trained import MEANINGS, OWNED
from langadapt.testing.conformance import all_checks

ROOT = Path(__file__).parents[1]
PAGES = sorted(Path(__file__).parent.glob("*.md"))
ITALIAN = ROOT / "plugins/italian/src/langadapt_italian"
RECIPE_SCHEMAS = [folder / "recipe.schema.json" for folder in (ROOT / "recipes", ITALIAN / "recipes")]
EXPERIMENT_SCHEMA = ITALIAN / "experiments" / "experiment.schema.json"
SHORT = 40  # characters of a value that a cell shows

Row = tuple[str, ...]

_TABLE = re.compile(r"^(<!-- (\w+)(?:: (.+?))? -->\n\|.*\n\|[-|]+\n)(?:\|.*\n)*", re.MULTILINE)


def main() -> None:
    """Writes every file that is not up to date, and says which."""
    for path, make in files().items():
        text = make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


def files() -> dict[Path, Callable[[], str]]:
    """Every file that is written from the source, with what gives the text that it has to hold."""
    pages = {page: partial(_page, page) for page in PAGES}
    return {**pages, **dict.fromkeys(RECIPE_SCHEMAS, _recipe_schema), EXPERIMENT_SCHEMA: _experiment_schema}


def _page(page: Path) -> str:
    return with_tables(page.read_text(encoding="utf-8"))


@cache
def _recipe_schema() -> str:
    # The libraries' own sentences stay where they are: what the repository holds is written by us.
    return _as_json(recipe_schema(Registry(only=("italian",)), upstream_help=False))


def _experiment_schema() -> str:
    return _as_json(experiment_schema(Registry(only=("italian",))))


def _as_json(schema: Any) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def with_tables(page: str) -> str:
    """The text of a page with the rows of its tables as the source has them."""

    def table(found: re.Match[str]) -> str:
        head, kind, name = found.groups()
        if kind not in ROWS:
            return found.group()
        rows = ROWS[kind](name) if name else ROWS[kind]()
        return head + "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows)

    return _TABLE.sub(table, page)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- keys of recipes and experiments ----------------------------------------------------------------------------------


def keys(reference: str) -> Iterator[Row]:
    """Key, type, default and meaning of each field of a model; of a stage kind those that not every stage has."""
    model = loaded(reference)
    common = StageOptions.model_fields if model is not StageOptions and issubclass(model, StageOptions) else {}
    for name, field in model.model_fields.items():
        if name not in common:
            key = field.alias or name
            yield f"`{key}`", _type(field.annotation), _default(key, field), field.description or ""


def loaded(reference: str) -> Any:
    """What `module:name` names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _type(annotation: Any) -> str:
    """What the tables call a type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(a) for a in arguments if a is not type(None)))
    if origin is list:
        inner = _type(arguments[0])
        return "list of corpora" if inner == "corpus" else f"list of {inner}s"
    if origin is typing.Literal:
        return "text"
    if origin is dict:
        return "table of texts" if arguments[1] is str else "table"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "corpus" if annotation.__name__ == "CorpusRef" else "table"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[annotation]


def toml_value(value: Any) -> str:
    """A value as a recipe writes it."""
    if isinstance(value, dict) and value:
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _default(key: str, field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return "not set"
    if isinstance(field.default, BaseModel):
        return "all defaults"
    return "see below" if key == "training" else f"`{toml_value(field.default)}`"


def defaults(table: str) -> Iterator[Row]:
    """Defaults of the tables whose keys are a library's: `training` of `cpt` and `sft`, `peft` of `lora` and `qlora`."""
    if table == "training":
        for key, value in CptOptions.defaults.items():
            yield f"`{key}`", _code(value), _code(SftOptions.defaults[key]), MEANINGS[key]
    else:
        lora, qlora = (next(s.defaults for s in peft.STRATEGIES if s.name == name) for name in ("lora", "qlora"))
        for key in qlora:
            yield f"`{key}`", _code(lora[key]) if key in lora else "", _code(qlora[key]), peft.MEANINGS[key]


def _code(value: Any) -> str:
    return f"`{toml_value(value)}`"


def owned(table: str) -> Iterator[Row]:
    """Fields of the libraries that a recipe may not set, with the reason."""
    of_pairs = {key: why for key, why in PREFERENCE_OWNED.items() if key not in OWNED}
    for key, why in {"training": OWNED, "peft": peft.lora.OWNS, "preference": of_pairs}[table].items():
        yield f"`{key}`", why


def methods() -> Iterator[Row]:
    """Ways to learn from preferences."""
    for name, way in METHODS.items():
        learns, asks = "pairs" if way.paired else "answers", "yes" if way.asks_reference else "no"
        values = ", ".join(f"`{key} = {toml_value(value)}`" for key, value in way.defaults.items())
        yield f"`{name}`", learns, asks, f"`{way.upstream.split(':')[1]}`", values


def losses() -> Iterator[Row]:
    """Losses of each of these ways."""
    for name, way in METHODS.items():
        for loss, what in way.losses.items():
            yield f"`{name}`", f"`{loss}`" if loss else "", what


def layouts() -> Iterator[Row]:
    """Layouts of corpora, with the columns that they are known by."""
    for name, columns in COLUMNS.items():
        yield f"`{name}`", ", ".join(f"`{column}`" for column in columns), _said(LAYOUTS[name])


def _said(function: Any) -> str:
    """The first paragraph of a docstring."""
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def filters(plugin: str) -> Iterator[Row]:
    """Cleaning steps of a plugin, with their options and where their rules are from."""
    known = registry().filters
    for name, step in known.items():
        if known.owner(name).name == plugin:
            options = ", ".join(_option(key, value) for key, value in step.options.items())
            yield f"`{name}`", step.description, options, step.source


def _option(key: str, value: Any) -> str:
    shown = toml_value(value)
    return f"`{key}`" if value is None or len(shown) > SHORT else f"`{key} = {shown}`"


# --- records and checks of plugins ------------------------------------------------------------------------------------


def fields(name: str) -> Iterator[Row]:
    """Field, default and meaning of each field of a record."""
    record = getattr(langadapt, name)
    said = attributes(record)
    for field in dataclasses.fields(record):
        yield f"`{field.name}`", _field_default(field), said[field.name]


def attributes(record: type) -> dict[str, str]:
    """What the docstring of a class says of each of its attributes, as sentences."""
    listed = (inspect.getdoc(record) or "").partition("\nAttributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", listed, re.MULTILINE)
    return {name: _sentence(" ".join(text.split())) for name, text in found}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _field_default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{getattr(field.default, '__qualname__', repr(field.default))}`"
    return "required" if field.default_factory is dataclasses.MISSING else f"`{field.default_factory()!r}`"


def checks(name: str) -> Iterator[Row]:
    """Checks that are made of records of a class, or of a `plugin` as a whole."""
    for check in all_checks():
        if (check.record.__name__ if check.record else "plugin") == name:
            yield f"`{check.name}`", check.says


# --- verbs ------------------------------------------------------------------------------------------------------------


def verbs(group: click.Group = cli.cli, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, `run` and `corpus preview`; a group is none itself."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, f"{before}{name} ")
        else:
            yield before + name, command


def options(verb: str) -> Iterator[Row]:
    """Options of a command, as its help has them."""
    command = dict(verbs())[verb]
    context = click.Context(command)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            default = f" (default: {parameter.default})" if parameter.show_default else ""
            required = " Required." if parameter.required else ""
            yield f"`{record[0]}`", f"{(parameter.help or '').removesuffix('.')}{default}.{required}"


ROWS: dict[str, Callable[..., Iterable[Row]]] = {
    make.__name__: make for make in (keys, defaults, owned, methods, losses, layouts, filters, fields, checks, options)
}

if __name__ == "__main__":
    main()
