"""The plugin as a whole: its entry point, what it imports and prints, its hooks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from langadapt import records
from langadapt.errors import nearest
from langadapt.hookspecs import CONTRACT
from langadapt.plugins import DECLARED, HOOKS, contract_problem
from langadapt.testing.conformance import Subject, Wrong, check, shown
from langadapt.testing.probing import HookAnswer

SLOW_IMPORT = 300.0  # milliseconds of processor time; every command that loads plugins waits for it
SLOW_HOOK = 100.0
PUBLIC = ("langadapt", "langadapt.testing")

_STEPS = "a-language-plugin-step-by-step"
_IMPORTS = "what-must-not-be-imported"
_NAMES = "names-and-errors"
_VERSIONS = "versions-of-the-contract"

# What an error of an import says of itself.
_SYNTAX = re.compile(r"(?:Syntax|Indentation|Tab)Error\b")
_PLACE = re.compile(r"\(([^()]+):\d+\)$")
_FIELDS = re.compile(r"TypeError: (\w+)(?:\.__init__\(\)| has no field)")


@check(
    None,
    right='in pyproject.toml: [project.entry-points.langadapt] and below it basque = "langadapt_basque"',
    anchor=_STEPS,
)
def entry_point(_: None, subject: Subject) -> Iterator[str]:
    """An entry point in the group `langadapt` names the module."""
    if not subject.declared:
        yield f"no installed distribution names {subject.entry} in an entry point, so langadapt does not find it"


@check(None, right="python -c 'import MODULE' works in a fresh environment", anchor=_NAMES)
def imports(_: None, subject: Subject) -> Iterator[Wrong]:
    """The module can be imported."""
    if said := subject.probe.error:
        right = f"python -c 'import {subject.entry.partition(':')[0]}' works in a fresh environment"
        if (place := _PLACE.search(said)) and _SYNTAX.match(said):
            right = f"Python can read the file: python -m py_compile {place[1]} says nothing"
        yield Wrong(said=said, right=_of_fields(said) or right)


def _of_fields(error: str) -> str:
    """What a right record looks like, where an error is that of one with other fields; else ""."""
    found = _FIELDS.match(error)
    kind = getattr(records, found[1], None) if found else None
    if not found or not is_dataclass(kind):
        return ""
    needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
    return (
        f"{found[1]}({', '.join(f'{name}=…' for name in needed)}), by keyword, and more of its fields as you need them"
    )


@check(None, right=f"{DECLARED} = {CONTRACT} in the module that the entry point names", anchor=_VERSIONS)
def contract(_: None, subject: Subject) -> Iterator[str]:
    """The module says which contract it was written for, and that contract is served here."""
    if subject.contract is None:
        yield f"the module has no {DECLARED}, so a langadapt with another contract cannot tell what it is for"
    elif problem := contract_problem(subject.contract, subject.plugin.distribution):
        yield problem


@check(None, right='dependencies = ["langadapt>=0.1"] in pyproject.toml', anchor=_VERSIONS)
def requires_langadapt(_: None, subject: Subject) -> Iterator[str]:
    """The distribution requires the langadapt that it was written against, or a later one."""
    found = [wanted for wanted in map(_requirement, subject.requirements) if wanted]
    own = [wanted for wanted in found if canonicalize_name(wanted.name) == "langadapt"]
    if subject.declared and not own:
        yield "the distribution does not require langadapt"
    elif own and not any(part.operator in (">=", "~=", "==", ">") for wanted in own for part in wanted.specifier):
        yield f'it requires "{own[0]}" and so takes langadapt releases that are older than what it uses'


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


@check(None, right="import torch and its like inside the function that needs them", anchor=_IMPORTS)
def imports_nothing_heavy(_: None, subject: Subject) -> Iterator[str]:
    """Importing the module and calling its hooks imports no heavy library."""
    for name in subject.probe.imported:
        yield f"it imports {name}{_importer(name, subject)}"


def _importer(package: str, subject: Subject) -> str:
    """The file and line that imports a package, as far as a file of the plugin does so at its top level."""
    for file in subject.files:
        for node in subject.tree(file).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == package for name in names):
                return f" in {shown(file)}:{node.lineno}"
    return ", by something that it imports"


@check(
    None,
    right=f"less than {SLOW_IMPORT:.0f} ms of processor time: read files in functions, not at the top",
    anchor=_IMPORTS,
)
def imports_quickly(_: None, subject: Subject) -> Iterator[str]:
    """The module is imported quickly, because every command does it."""
    if subject.probe.milliseconds > SLOW_IMPORT:
        yield f"importing it takes {subject.probe.milliseconds:.0f} ms of processor time"


@check(
    None,
    right="no print at the top of a module or in a hook; raise UserError for what a user has to know",
    anchor=_IMPORTS,
)
def prints_nothing(_: None, subject: Subject) -> Iterator[str]:
    """Neither importing the module nor calling its hooks prints anything."""
    if said := subject.probe.printed.strip():
        yield f'it prints "{said[:60]}"'


@check(None, right=f"one of {', '.join(HOOKS)}", anchor="the-hooks")
def hook_names(_: None, subject: Subject) -> Iterator[str]:
    """Every function that is marked as a hook has the name of one."""
    for name in subject.probe.unknown:
        yield f"there is no hook {name}; {nearest(name, HOOKS)}"


@check(None, right="@hookimpl above the function; from langadapt import hookimpl", anchor="2-the-hooks")
def hooks_are_marked(_: None, subject: Subject) -> Iterator[str]:
    """Every function with the name of a hook is marked as one."""
    for name in subject.probe.unmarked:
        yield f"{name} has no mark, so nobody calls it"


@check(None, right="def langadapt_corpora(): and no parameter", anchor="2-the-hooks")
def hooks_take_nothing(_: None, subject: Subject) -> Iterator[str]:
    """Hooks have no parameters."""
    for name, answer in subject.probe.hooks.items():
        if answer.arguments:
            yield f"{name} has the parameter {', '.join(answer.arguments)}"


@check(
    None, right="it yields or returns records, and opens files only in the functions of the records", anchor="the-hooks"
)
def hooks_answer(_: None, subject: Subject) -> Iterator[str | Wrong]:
    """Every hook can be called and gives an iterable."""
    for name, answer in subject.probe.hooks.items():
        if said := answer.error:
            right = _of_fields(said)
            yield Wrong(said=f"{name} raises {said}", right=right) if right else f"{name} raises {said}"


@check(
    None,
    right=f"less than {SLOW_HOOK:.0f} ms of processor time: records are values, work is in their functions",
    anchor=_IMPORTS,
)
def hooks_are_quick(_: None, subject: Subject) -> Iterator[str]:
    """Every hook answers quickly, because every command calls all of them."""
    for name, answer in subject.probe.hooks.items():
        if answer.milliseconds > SLOW_HOOK:
            yield f"{name} takes {answer.milliseconds:.0f} ms of processor time"


@check(None, right="langadapt_corpora yields Corpus, langadapt_filters yields Filter, and so on", anchor="the-hooks")
def hook_records(_: None, subject: Subject) -> Iterator[str]:
    """Every hook gives records of its own type."""
    for name, answer in subject.probe.hooks.items():
        for strange in dict.fromkeys(answer.strange):
            yield f"{name} gives a {strange} where a {HOOKS[name][0].__name__} is expected"


@check(None, right="the same records every time, whatever the machine, the folder or the hour", anchor="the-hooks")
def hooks_repeat(_: None, subject: Subject) -> Iterator[str]:
    """A hook that is called twice gives the same names."""
    for name, answer in subject.probe.hooks.items():
        if not answer.error and answer.names != answer.again:
            yield f"{name} gives {_names(answer.names)} first and {_names(answer.again)} then"


def _names(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


@check(None, right="names that begin or end with your language: eu-wikipedia, alpaca-eu", anchor=_NAMES)
def names_are_free(_: None, subject: Subject) -> Iterator[str | Wrong]:
    """No name is given twice, and none is that of another plugin or of the core."""
    core = subject.known.plugins[0]
    for hook, answer in subject.probe.hooks.items():
        word = HOOKS[hook][1]
        yield from getattr(subject.known, hook.removeprefix("langadapt_")).clashes(subject.plugin)
        yield from _twice(hook, answer)
        yield from (f'the {word} "{name}" is the core\'s' for name in answer.names if name in core.offers.get(word, ()))


def _twice(hook: str, answer: HookAnswer) -> Iterator[Wrong]:
    for name in dict.fromkeys(answer.names):
        if answer.names.count(name) > 1:
            yield Wrong(
                said=f'{hook} gives the {HOOKS[hook][1]} "{name}" {answer.names.count(name)} times',
                right="each record once, and each under a name of its own",
            )


@check(None, right="from langadapt import Corpus, hookimpl, … and from nothing below it", anchor="2-the-hooks")
def public_names_alone(_: None, subject: Subject) -> Iterator[str]:
    """The plugin imports from `langadapt` and `langadapt.testing`, and from no module below them."""
    for file in subject.files:
        for node in ast.walk(subject.tree(file)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                if name.split(".")[0] == "langadapt" and name not in PUBLIC:
                    yield f"{shown(file)}:{getattr(node, 'lineno', 0)} imports {name}, which may change without notice"
