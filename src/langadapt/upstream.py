"""What fields the libraries' own option classes have, read from their source without importing them.

Importing transformers or peft takes seconds and a plan must not. Their dataclasses are plain source files beside us, so
their fields and annotations are parsed (`ast`) instead: the names that a recipe may use are exactly those of the
installed version, and there is no list of ours to grow stale.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from langadapt.errors import nearest, written

_SCALARS: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (float, int), "bool": (bool,), "dict": (dict,), "list": (list,),
    "tuple": (list,), "set": (list,), "Sequence": (list,), "Iterable": (list,),
}  # fmt: skip
# Options of schedules that we let be shares of all steps below 1, as transformers does `warmup_steps`.
SHARES = ("num_decay_steps", "num_stable_steps")


@dataclass(frozen=True)
class Field:
    """A field of an upstream option class: its annotation, and the words allowed when it is an enumeration."""

    name: str
    annotation: str
    types: tuple[type, ...]
    words: tuple[str, ...] = ()

    def problem(self, value: Any) -> str:
        """What is wrong with `value`, or "" when it can stand."""
        if self.types and not _is(value, self.types):
            return f"{written(value)} is not of type {self.annotation}"
        if self.words and isinstance(value, str) and not any(_is_word(value, word) for word in self.words):
            return f'"{value}" is not one of its values; {nearest(value, self.words)}'
        return ""


@cache
def fields_of(reference: str) -> dict[str, Field]:
    """Fields of the option class `package.module:Class`, inherited ones of the same package included."""
    tree, module = _parse(_module(reference)), _module(reference)
    own = {name: _field(name, node.annotation, tree, module) for name, node in _declared(reference)}
    return {name: field for base in _bases(reference) for name, field in fields_of(base).items()} | own


@cache
def help_of(reference: str) -> dict[str, str]:
    """What the same class says of its fields in `metadata={"help": …}`, where that is a plain text."""
    own = {name: " ".join(_help(node.value).split()) for name, node in _declared(reference)}
    return {name: text for base in _bases(reference) for name, text in help_of(base).items()} | own


def _module(reference: str) -> str:
    return reference.partition(":")[0]


def _class(reference: str) -> Iterator[ast.ClassDef]:
    """The definition of a class; nothing where its module has none of that name."""
    name = reference.partition(":")[2]
    return (n for n in _parse(_module(reference)).body if isinstance(n, ast.ClassDef) and n.name == name)


def _bases(reference: str) -> Iterator[str]:
    module = _module(reference)
    names = (ast.unparse(base).split(".")[-1] for node in _class(reference) for base in node.bases)
    return filter(None, (_origin(_parse(module), module, name) for name in names))


def _declared(reference: str) -> Iterator[tuple[str, ast.AnnAssign]]:
    """The annotated fields that a class itself has."""
    for statement in (s for node in _class(reference) for s in node.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement


def _help(value: ast.expr | None) -> str:
    for keyword in value.keywords if isinstance(value, ast.Call) else ():
        if keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
            for key, text in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "help" and isinstance(text, ast.Constant):
                    return str(text.value)
    return ""


@cache
def keys_of(reference: str) -> tuple[str, ...]:
    """Keys of the dictionary `package.module:NAME`, as its source writes them out."""
    module, _, name = reference.partition(":")
    for node in _parse(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            assert isinstance(node.value, ast.Dict)
            return tuple(ast.literal_eval(key) for key in node.value.keys if key is not None)
    raise LookupError(f"{module} has no {name}")


@dataclass(frozen=True)
class Schedule:
    """What a schedule of the learning rate takes in `lr_scheduler_kwargs`.

    Attributes:
        fields: by name.
        required: those without a default.
        open: whether it hands on what it is given, so that its fields are not known here.
    """

    fields: dict[str, Field]
    required: tuple[str, ...]
    open: bool


@cache
def schedule(name: str) -> Schedule | None:
    """The schedule that `lr_scheduler_type` calls so; None when there is none."""
    module = "transformers.optimization"
    tree = _parse(module)
    kinds = _enumeration(tree, module, "SchedulerType")
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_TO_SCHEDULER_FUNCTION":
            assert isinstance(node.value, ast.Dict)
            makers = {
                kinds[ast.unparse(kind).split(".")[-1]]: ast.unparse(maker)
                for kind, maker in zip(node.value.keys, node.value.values, strict=True)
                if kind is not None
            }
            return _schedule(makers[name], tree, module) if name in makers else None
    return None


def _schedule(function: str, tree: ast.Module, module: str) -> Schedule:
    (node,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    given = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")
    arguments = node.args.args
    defaults = [None] * (len(arguments) - len(node.args.defaults)) + list(node.args.defaults)
    free = [(a, default) for a, default in zip(arguments, defaults, strict=True) if a.arg not in given]
    return Schedule(
        fields={a.arg: _field(a.arg, a.annotation or _type_of(default), tree, module) for a, default in free},
        required=tuple(a.arg for a, default in free if default is None),
        open=node.args.kwarg is not None,
    )


def _type_of(default: ast.expr | None) -> ast.expr:
    """The annotation that a parameter without one deserves."""
    value = default.value if isinstance(default, ast.Constant) else None
    return ast.Name(type(value).__name__)


def _field(name: str, annotation: ast.expr, tree: ast.Module, module: str) -> Field:
    types: set[type] = set()
    words: set[str] = set()
    known = True
    for leaf in _alternatives(annotation):
        text = ast.unparse(leaf).split("[")[0].split(".")[-1]
        if text == "None":
            continue
        if text in _SCALARS:
            types.update(_SCALARS[text])
        elif text == "Literal" and isinstance(leaf, ast.Subscript):
            parts = leaf.slice.elts if isinstance(leaf.slice, ast.Tuple) else [leaf.slice]
            values = [p.value for p in parts if isinstance(p, ast.Constant)]
            types.update(map(type, values))
            words.update(v for v in values if isinstance(v, str))
        elif members := _enumeration(tree, module, text):
            types.add(str)
            words.update(members.values())
        else:
            known = False  # a class of theirs that has no TOML value; let them check it
    shown = ast.unparse(annotation).replace("typing.", "")
    only_words = bool(words) and known
    return Field(name, shown, tuple(types) if known else (), tuple(sorted(words)) if only_words else ())


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _alternatives(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.BinOp):
        return _alternatives(node.left) + _alternatives(node.right)
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).split(".")[-1] in ("Optional", "Union", "Annotated"):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return [leaf for part in inner for leaf in _alternatives(part)]
    return [node]


def _enumeration(tree: ast.Module, module: str, name: str) -> dict[str, str]:
    """Names and values of an enumeration's members."""
    origin = _origin(tree, module, name)
    if not origin:
        return {}
    home, _, class_name = origin.partition(":")
    for node in _parse(home).body:
        if (
            isinstance(node, ast.ClassDef)
            and node.name == class_name
            and "Enum" in "".join(map(ast.unparse, node.bases))
        ):
            return {
                ast.unparse(statement.targets[0]): str(statement.value.value)
                for statement in node.body
                if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
            }
    return {}


def _origin(tree: ast.Module, module: str, name: str) -> str:
    """`package.module:Class` where `name` comes from, when that is in the same package or a sibling one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return f"{module}:{name}"
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            parts = module.split(".")
            home = (
                ".".join([*parts[: len(parts) - node.level], *filter(None, [node.module])])
                if node.level
                else node.module
            )
            return _origin_in_package(home or "", name)
    return ""


def _origin_in_package(home: str, name: str) -> str:
    if home.split(".")[0] not in ("transformers", "peft", "trl"):
        return ""
    if home == "transformers" and name == "TrainingArguments":  # re-exported lazily, so no import statement shows it
        home = "transformers.training_args"
    return _origin(_parse(home), home, name) if _source(home) else ""


@cache
def _parse(module: str) -> ast.Module:
    path = _source(module)
    if path is None:
        raise ModuleNotFoundError(f"{module.split('.')[0]} is not installed, so its options cannot be checked")
    return ast.parse(path.read_text(encoding="utf-8"))


def _source(module: str) -> Path | None:
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)  # top level only: finding a submodule would import the package
    if spec is None or not spec.submodule_search_locations:
        return None
    base = Path(next(iter(spec.submodule_search_locations))).joinpath(*rest)
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _is(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):  # True is an int to Python and never one in a recipe
        return bool in types
    return isinstance(value, types)


def _is_word(value: str, word: str) -> bool:
    """Whether a value is the word, or follows its pattern: peft writes `pissa_niter_[number of iters]`."""
    start, bracket, _ = word.partition("[")
    return value.startswith(start) and value != start if bracket else value == word
