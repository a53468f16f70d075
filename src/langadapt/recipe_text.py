"""A recipe's words: found, read, put together from what it extends and what `--set` says, each with its origin.

Knows TOML and files and nothing of what the words mean; that is `langadapt.recipe`'s work.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from langadapt import toml_lines
from langadapt.errors import Problem, RecipeError, UserError, nearest
from langadapt.plugins import registry

# A table whose word here differs is another table: what was said of LoRA means nothing to full-parameter training.
CHOOSERS = ("kind", "method", "name")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A value that a rehearsal or a `--set` put in place of what the file says.

    Attributes:
        key: dotted, stage by id: `adapt.training.max_steps`.
        before: what the file says; None where it is silent.
        after: what counts.
        why: who put it there: `rehearsal`, or the option.
    """

    key: str
    before: Any
    after: Any
    why: str


@dataclass(frozen=True, kw_only=True)
class Override:
    """Another value for a key of a recipe.

    Attributes:
        key: its parts; the first may be the id of a stage.
        value: what to put there.
        where: who says so, for messages: `--set adapt.peft.r=8`, or a file and its line.
        why: the same in a word, for lists of changes.
    """

    key: tuple[str, ...]
    value: Any
    where: str
    why: str = "--set"

    @classmethod
    def parse(cls, assignment: str) -> Override:
        """What `--set` takes.

        Args:
            assignment: `key=value`; the value is TOML, or else a text.

        Raises:
            RecipeError: it is not of the form `key=value`.
        """
        key, equals, written = assignment.partition("=")
        parts, where = toml_lines.split_key(key) if equals else None, f"--set {assignment}"
        if not parts:
            raise _refused(
                where, "it puts nothing in; write it as KEY=VALUE, such as adapt.training.learning_rate=1e-4"
            )
        return cls(key=parts, value=_value(written.strip()), where=where)


@dataclass(frozen=True)
class Origin:
    """Where a value was written, `recipes/x.toml:12` or `--set a.b=1`, and the comment at that line's end."""

    where: str
    mark: str = ""


@dataclass(kw_only=True)
class RecipeText:
    """The tables of a recipe, nothing extended any more.

    Attributes:
        path: the file.
        raw: its tables.
        origins: of every table and key, by its place in `raw`.
        changes: what `--set` changed.
    """

    path: Path
    raw: dict[str, Any]
    origins: dict[toml_lines.Path, Origin]
    changes: list[Change] = field(default_factory=list)

    def origin(self, place: toml_lines.Path) -> str:
        """Where `place` was written; failing that, the first thing in it, or the nearest table around it."""
        if place in self.origins:
            return self.origins[place].where
        within = next((o.where for p, o in self.origins.items() if p[: len(place)] == place), "")
        return within or (self.origin(place[:-1]) if len(place) > 1 else str(self.path))

    def marks(self) -> dict[str, str]:
        """The comment beside every value that is written, keys as `--set` takes them: `adapt.peft.r`."""
        found = {}
        for place in _values(self.raw, ()):
            written = next(place[:end] for end in range(len(place), 0, -1) if place[:end] in self.origins)
            found[self._dotted(place)] = self.origins[written].mark
        return found

    def _dotted(self, place: toml_lines.Path) -> str:
        if place[0] == "stage" and len(place) > 2:
            return ".".join(map(str, (self.raw["stage"][place[1]].get("id"), *place[2:])))
        return ".".join(map(str, place))


def read(source: str | Path, overrides: Iterable[str | Override] = ()) -> RecipeText:
    """The words of a recipe.

    Args:
        source: path of a TOML file, or the name of a recipe that a plugin ships.
        overrides: what to put into it, in this order; a text is `key=value`, as `--set` takes it.

    Raises:
        RecipeError: the file is no TOML, it extends what cannot be extended, or an override makes no sense.
        UserError: there is no such file, or it cannot be read.
    """
    text = _assembled(find(source), ())
    for override in overrides:
        text = _overridden(text, Override.parse(override) if isinstance(override, str) else override)
    return text


def find(source: str | Path, word: Literal["recipe", "experiment"] = "recipe") -> Path:
    """The file of a recipe or an experiment, given by path or by the name that a plugin ships it under.

    Raises:
        UserError: there is no such file and no plugin ships one of that name.
    """
    path = Path(source)
    known = registry().recipes if word == "recipe" else registry().experiments
    try:
        if path.is_file():
            return path
    except OSError:  # longer than a file's name can be
        raise UserError(f'there is no {word} "{str(source)[:60]}…"; {nearest(str(source), known)}') from None
    if str(source) in known:
        return Path(known[str(source)].path)
    if path.is_dir():
        raise UserError(f"{source} is a folder; give the path of a file: the {word} itself")
    beside = [str(p) for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    raise UserError(f'there is no {word} "{source}"; {known.missing(str(source), *beside)}')


# --- one file --------------------------------------------------------------------------------------------------------


def parsed(path: Path) -> RecipeText:
    """The tables of one file, with nothing laid under them.

    Raises:
        RecipeError: it is no TOML.
        UserError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; name another file") from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError([_toml_problem(path, error)]) from None
    marks = toml_lines.comments(text)
    origins = {place: Origin(f"{path}:{n}", marks.get(n, "")) for place, n in toml_lines.locate(text).items()}
    return RecipeText(path=path, raw=raw, origins=origins)


def _values(value: Any, place: toml_lines.Path) -> Iterator[toml_lines.Path]:
    """Places of everything that is no table, and no list of tables."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, (*place, key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for index, inner in enumerate(value):
            yield from _values(inner, (*place, index))
    else:
        yield place


def _toml_problem(path: Path, error: tomllib.TOMLDecodeError) -> Problem:
    message, _, rest = str(error).partition(" (at line ")
    line = rest.split(",")[0] if rest else ""
    where = f"{path}:{line}" if line.isdigit() else str(path)
    return Problem(where=where, key="", message=f"not valid TOML: {message}", hint="mend the line")


# --- what it extends -------------------------------------------------------------------------------------------------


def _assembled(path: Path, chain: tuple[Path, ...]) -> RecipeText:
    """The file with what it extends underneath; `chain` holds the files that extend it."""
    own = parsed(path)
    extends, chosen = own.raw.pop("extends", None), own.raw.pop("stages", None)
    if extends is None and chosen is None:
        return own
    if not isinstance(extends, str):
        message = "chooses among the stages of the recipe that this one extends, and it extends none"
        said = ("extends", "is not the path or name of a recipe") if extends is not None else ("stages", message)
        raise _problem(own, *said)
    if chosen is not None and not (isinstance(chosen, list) and all(isinstance(c, str) for c in chosen)):
        raise _problem(own, "stages", "is not a list of stage ids", 'write stages = ["adapt"]')
    parent = referred(own, "extends", extends)
    if parent.resolve() in (*chain, path.resolve()):
        raise _problem(own, "extends", f"goes in a circle: {parent} extends this file again", "extend another")
    return _merged(_assembled(parent, (*chain, path.resolve())), own, chosen)


def referred(own: RecipeText, key: str, reference: str) -> Path:
    """The file of a recipe that another file names under `key`: one beside it, or one that a plugin ships.

    Raises:
        RecipeError: there is neither.
    """
    beside = own.path.parent / reference
    if beside.is_file():
        return beside
    known = registry().recipes
    if reference in known:
        return Path(known[reference].path)
    files = [p.name for p in own.path.parent.glob("*.toml") if p != own.path]
    raise _problem(own, key, f'there is no recipe "{reference}"', known.missing(reference, *files))


def _merged(under: RecipeText, own: RecipeText, chosen: list[str] | None) -> RecipeText:
    """`own` laid over `under`: tables by key, stages by id, everything else replaced; `under` is used up."""
    made = under if chosen is None else _only(under, chosen, own.origin(("stages",)))
    made = replace(made, path=own.path, raw={"stage": [], **made.raw})
    own_stages = own.raw.pop("stage", [])
    _lay_over(made, own.raw, made.raw, ())
    if not isinstance(own_stages, list) or not all(isinstance(s, dict) for s in own_stages):
        made.raw["stage"] = own_stages  # of the wrong type, which the check will say
        return made
    numbers = {}
    for index, stage in enumerate(own_stages):
        names = [s.get("id") for s in made.raw["stage"]]
        if stage.get("id") in names:
            numbers[index] = names.index(stage["id"])
            _lay_over(made, {"stage": {numbers[index]: stage}}, {"stage": dict(enumerate(made.raw["stage"]))}, ())
        else:
            numbers[index] = len(names)
            made.raw["stage"].append(stage)
    made.origins |= _moved(own.origins, numbers)
    return made


def _only(text: RecipeText, chosen: list[str], where: str) -> RecipeText:
    """Without the stages that are not chosen; `where` is the place that chooses."""
    stages = text.raw.get("stage", [])
    ids = [str(stage.get("id")) if isinstance(stage, dict) else "" for stage in stages]
    for id in chosen:
        if id not in ids:
            raise _refused(where, f'{text.path} has no stage "{id}"', nearest(id, ids), key="stages")
    kept = [index for index, id in enumerate(ids) if id in chosen]
    return replace(
        text,
        raw={**text.raw, "stage": [stages[index] for index in kept]},
        origins=_moved(text.origins, {index: number for number, index in enumerate(kept)}),
    )


def _moved(origins: dict[toml_lines.Path, Origin], numbers: dict[int, int]) -> dict[toml_lines.Path, Origin]:
    """Origins with the stages' new numbers; stages without one are left out."""
    moved = {}
    for place, origin in origins.items():
        if place[:1] == ("stage",) and len(place) > 1:
            if place[1] in numbers:
                moved["stage", numbers[int(place[1])], *place[2:]] = origin
        elif place not in (("extends",), ("stages",)):
            moved[place] = origin
    return moved


def _lay_over(text: RecipeText, over: dict[Any, Any], under: dict[Any, Any], place: toml_lines.Path) -> None:
    for key, value in over.items():
        old = under.get(key)
        here = (*place, key)
        if isinstance(value, dict) and isinstance(old, dict) and not _another(old, value, here):
            _lay_over(text, value, old, here)
            continue
        text.origins = {p: o for p, o in text.origins.items() if p[: len(here)] != here}
        if isinstance(value, dict) and isinstance(old, dict):
            old.clear()
            old.update(value)
        else:
            under[key] = value


def _another(old: dict[Any, Any], new: dict[Any, Any], place: toml_lines.Path) -> bool:
    return any(word in new and word in old and new[word] != old[word] for word in CHOOSERS)


def _problem(text: RecipeText, key: str, message: str, hint: str = "") -> RecipeError:
    return _refused(text.origin((key,)), message, hint, key=key)


def _refused(where: str, message: str, hint: str = "", *, key: str = "") -> RecipeError:
    return RecipeError([Problem(where=where, key=key, message=message, hint=hint)])


# --- what is put in from outside -------------------------------------------------------------------------------------


def _overridden(text: RecipeText, override: Override) -> RecipeText:
    """With another value in its tables; the first part of the key may be a stage's id."""
    if override.key == ("stages",):
        return _choosing(text, override)
    table, place, names = _table_of(text.raw, override)
    origin = Origin(override.where)
    for name in names[:-1]:
        place.append(name)
        if name not in table:
            text.origins[tuple(place)] = origin
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise _refused(
                override.where, f'"{name}" is not a table, so it has no key "{names[-1]}"', "put the whole value in"
            )
    before = copy.deepcopy(table.get(names[-1]))
    table[names[-1]] = copy.deepcopy(override.value)  # which other recipes may be given too
    whole = (*place, names[-1])
    origins = {p: o for p, o in text.origins.items() if p[: len(whole)] != whole} | {whole: origin}
    return replace(text, origins=origins, changes=[*text.changes, _change(override, before)])


def _choosing(text: RecipeText, override: Override) -> RecipeText:
    """With some of its stages; `stages` says which, as in a recipe that extends another."""
    if not (isinstance(override.value, list) and all(isinstance(id, str) for id in override.value)):
        raise _refused(override.where, "stages is not a list of stage ids", 'write stages=["adapt"]')
    before = [stage.get("id") for stage in text.raw.get("stage", [])]
    made = _only(text, override.value, override.where)
    return replace(made, changes=[*made.changes, _change(override, before)])


def _change(override: Override, before: Any) -> Change:
    return Change(key=".".join(override.key), before=before, after=override.value, why=override.why)


def _table_of(raw: dict[str, Any], override: Override) -> tuple[dict[str, Any], list[str | int], tuple[str, ...]]:
    """The table that an override speaks of, its place, and the rest of the key."""
    from langadapt.recipe import RecipeTable

    parts = override.key
    stages, known = raw.get("stage"), [f.alias or n for n, f in RecipeTable.model_fields.items()]
    if not isinstance(stages, list) or parts[0] in known:
        return raw, [], parts
    ids = [s.get("id") for s in stages if isinstance(s, dict)]
    if parts[0] not in ids:
        words = [str(i) for i in ids if i] + [n for n in known if n != "stage"]
        message = f'"{parts[0]}" is no stage and no key of the recipe'
        raise _refused(override.where, message, nearest(parts[0], words))
    if len(parts) == 1:
        raise _refused(
            override.where,
            f"{parts[0]} is a stage; say which key of the stage, such as {parts[0]}.training.max_steps=100",
        )
    position = ids.index(parts[0])
    return stages[position], ["stage", position], parts[1:]


def _value(text: str) -> Any:
    """A TOML value; text that is none, such as a bare path, stands for itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
