"""Whoever meets a name, a hook or a verb for the first time finds it explained and tested: what is not is listed here."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from test_docs import DOCS, ROOT, VERBS, read

import langadapt
import langadapt.testing
from langadapt import hookspecs
from langadapt.plugins import HOOKS
from langadapt.testing.conformance import all_checks

# --- names ------------------------------------------------------------------------------------------------------------


def named() -> list[str]:
    """Every name that the pages of the Python API ask the source for."""
    pages = "\n".join(map(read, sorted((DOCS / "api").glob("*.md"))))
    return re.findall(r"^\.\. (?:auto(?:class|exception|function)|py:decorator):: ([\w.]+)", pages, re.MULTILINE)


def item(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


PUBLIC = {name: item(name) for name in named()} | {
    f"langadapt.hookspecs.{hook}": getattr(hookspecs, hook) for hook in HOOKS
}


def members(holder: type) -> Iterator[tuple[str, Any]]:
    """What a class offers beside its fields: functions, properties."""
    for name in [name for name in vars(holder) if not name.startswith("_")]:
        found = getattr(vars(holder)[name], "__func__", vars(holder)[name])  # of a class method
        if isinstance(found, (FunctionType, property, functools.cached_property)):
            yield name, found


EVERYTHING = PUBLIC | {
    f"{name}.{inner}": member
    for name, found in PUBLIC.items()
    if inspect.isclass(found)
    for inner, member in members(found)
}


def doc(found: Any) -> str:
    """What the source says of it; what dataclasses and base classes say is nothing of its own."""
    if inspect.isclass(found):
        own = vars(found).get("__doc__") or ""
        return "" if own.startswith(f"{found.__name__}(") else inspect.cleandoc(own)
    return inspect.cleandoc(found.__doc__ or "")


def told(section: str, text: str) -> set[str]:
    """What a section of a docstring explains: the names that begin its entries."""
    part = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
    return set(re.findall(r"^    (\w+): ", part[1], re.MULTILINE)) if part else set()


def test_every_public_name_is_in_the_python_api() -> None:
    exported = [f"{module.__name__}.{name}" for module in (langadapt, langadapt.testing) for name in module.__all__]
    assert [name for name in exported if name not in PUBLIC] == []
    assert sorted(named()) == sorted(set(named())), "a name stands on one page only"


def test_every_public_name_has_a_docstring() -> None:
    assert [name for name, found in EVERYTHING.items() if not doc(found)] == []


def test_every_field_of_a_public_record_is_explained() -> None:
    wrong = {}
    for name, found in PUBLIC.items():
        if dataclasses.is_dataclass(found):
            fields = {field.name for field in dataclasses.fields(found) if not field.name.startswith("_")}
            wrong[name] = fields ^ told("Attributes", doc(found))
    assert {name: fields for name, fields in wrong.items() if fields} == {}


def test_every_parameter_of_a_public_function_is_explained() -> None:
    unexplained = []
    for name, found in EVERYTHING.items():
        if inspect.isfunction(found):
            explained = told("Args", doc(found)) | set(re.findall(r"`(\w+)`", doc(found))) | {"self", "cls"}
            unexplained += [f"{name}: {p}" for p in inspect.signature(found).parameters if p not in explained]
    assert unexplained == []


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_every_hook_is_a_function_of_the_contract_with_an_example() -> None:
    written = {name for name in vars(hookspecs) if name.startswith("langadapt_")}
    assert written == set(HOOKS)
    assert [hook for hook in HOOKS if f"def {hook}():" not in doc(getattr(hookspecs, hook))] == []


def test_every_hook_is_used_by_a_plugin_under_tests_and_has_faults_that_are_found() -> None:
    """The first is `tests/first_contract.py`, which has to pass every check; the others are in `tests/faulty_plugin`."""
    sound = read(ROOT / "tests" / "first_contract.py")
    faulty = "\n".join(map(read, [*ROOT.glob("tests/faulty_plugin/*.py"), ROOT / "tests" / "faulty_strategies.py"]))
    checked = {check.record for check in all_checks()}
    untested = [
        hook for hook, (record, _) in HOOKS.items()
        if f"def {hook}()" not in sound or f"def {hook}()" not in faulty or record not in checked
    ]  # fmt: skip
    assert untested == []


# --- verbs ------------------------------------------------------------------------------------------------------------

PROGRAM = "langadapt"
MORE = "*"  # what a function adds that calls a verb for its tests


def phrases(file: Path) -> Iterator[tuple[str, ...]]:
    """Words that a list or a call begins with, or that follow the program's name in it."""
    for node in ast.walk(ast.parse(read(file))):
        if isinstance(node, (ast.List, ast.Tuple, ast.Call)):
            words = [_word(part) for part in (node.args if isinstance(node, ast.Call) else node.elts)]
            starts = {0} | {i + 1 for i, word in enumerate(words) if word in (MORE, PROGRAM)}
            yield from (tuple(itertools.takewhile(bool, words[start:])) for start in starts)


def _word(part: ast.expr) -> str:
    if isinstance(part, ast.Starred):
        return MORE
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""


@functools.cache
def said() -> list[set[tuple[str, ...]]]:
    """By test file that runs the program, its phrases."""
    files = {*ROOT.glob("tests/test_*.py"), *ROOT.glob("plugins/*/tests/test_*.py")} - {Path(__file__)}
    runs = ("CliRunner()", "cli.main()", f'"-m", "{PROGRAM}"', "import main; main()")
    return [set(phrases(file)) for file in files if any(word in read(file) for word in runs)]


def is_run(verb: str) -> bool:
    """Whether a test runs it. A test file of a group may say the group's word in one place, `["corpus", *arguments]`."""
    words = tuple(verb.split())
    for found in said():
        if any(phrase[: len(words)] == words for phrase in found):
            return True
        if len(words) > 1 and any(p[:2] == (words[0], MORE) for p in found) and any(p[:1] == words[1:] for p in found):
            return True
    return False


def test_every_verb_is_run_by_a_test() -> None:
    assert [verb for verb in VERBS if not is_run(verb)] == []


@pytest.mark.parametrize("verb", ["rehearse", "corpus describe", "tokenizer stats"])
def test_a_verb_that_no_test_runs_is_noticed(verb: str) -> None:
    assert not is_run(verb)
