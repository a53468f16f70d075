"""Models of any runs held against each other, on the items that all of them were measured on.

The first model is what the others are compared with. What differs beside the models is said with the figures.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langadapt import artifacts, run_state
from langadapt.errors import UserError, nearest
from langadapt.evaluation import pairing, statistics
from langadapt.evaluation.figures import Kept
from langadapt.evaluation.pairing import Key, Row
from langadapt.evaluation.verdicts import tone
from langadapt.recipe import BASE

# What of an item is data. The rest is what a model did.
_DATA = ("asked", "gold", "bytes", "chosen_bytes", "rejected_bytes")
# What of a row is about the model or is said anyway. The rest are conditions, such as the language.
_FIGURES = {"stage", "suite", "task", "split", "metric", "value", "n", "ci_low", "ci_high", "limited", "higher_is_better",
            "unit", "bytes", "tokens", "undecoded"}  # fmt: skip
# What of a row stays when it is compared with another run's.
_KEPT = ("suite", "task", "split", "metric", "higher_is_better", "unit", "language", "chance")
# Keys in which the recipes of several seeds may differ: none decides what is trained, but for the seed.
_BESIDE = {"name", "description", "seed", "compute", "preparation"}
# Ingredients of an evaluate stage that are no conditions: of the model, of the choice of measures, of trainings.
_NO_CONDITION = ("from", "model of ", "measure ", "suites", "held_out", "decontamination", "corpus ")
# Those that are, of a corpus that has a name: what it holds, and which of its documents are measured.
_OF_CORPUS = re.compile(r"corpus \d+ ([^.\s]+)(| reader|\.held_out|\.max_documents|\.config|\.layout)")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A model of a run.

    Attributes:
        label: `runs/trial:adapt`.
        stage: the stage that made the model, or `base`.
        recipe: of the run, without what runs of several seeds may differ in.
        seed: of the run.
        rows: what the model's evaluate stages found.
        items: what the model did on every item.
        conditions: what figures depend on beside the model.
    """

    label: str
    stage: str
    recipe: Mapping[str, Any]
    seed: int
    rows: Sequence[Row]
    items: Mapping[Key, Sequence[Kept]]
    conditions: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class System:
    """What is compared: a model, or those that one recipe made with several seeds."""

    runs: Sequence[Measured]

    @property
    def label(self) -> str:
        first, count = self.runs[0].label, len(self.runs)
        return first if count == 1 else f"{first} ({count} seeds)"

    @property
    def conditions(self) -> dict[str, Any]:
        """Those of its runs; where they are not the same, all values."""
        said: dict[str, dict[str, Any]] = {}
        for name, value in (condition for run in self.runs for condition in run.conditions.items()):
            said.setdefault(name, {})[str(value)] = value
        return {name: next(iter(v.values())) if len(v) == 1 else " / ".join(v) for name, v in said.items()}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found.

    Attributes:
        systems: labels of what is compared; the first is what the others are compared with.
        rows: for each measure a row for each system, with the keys of `report.json`. `system` is its place in `systems`,
            `value` is over the `n` items that all share; of several seeds it is the mean, `sd` their standard
            deviation and `seeds` their number.
        differs: conditions that are not the same everywhere, with each system's value (None where it has none).
        left_out: what could not be compared, and why.
    """

    systems: Sequence[str]
    rows: Sequence[dict[str, Any]]
    differs: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    left_out: Sequence[str] = ()

    @property
    def worse(self) -> list[dict[str, Any]]:
        """Rows of what is significantly worse than with the first system."""
        return [row for row in self.rows if tone(row) == "worse"]

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        rows = [row | {"verdict": tone(row)} for row in self.rows]
        return {"systems": self.systems, "rows": rows, "differs": self.differs, "left_out": self.left_out}


def compare(references: Iterable[str | Path], *, seeds: bool = False) -> Comparison:
    """Compares models item by item.

    Args:
        references: folders of runs: `runs/trial` for the last model of the run that was measured, `runs/trial:adapt` for
            another one.
        seeds: take models whose recipes differ in nothing but the seed together, as one system.

    Raises:
        UserError: a folder that is no run's, a model that was not measured, fewer than two systems, or nothing that the
            first and another were measured on alike.
    """
    models = [_measured(str(reference)) for reference in references]
    systems = _by_recipe(models) if seeds else [System(runs=[model]) for model in models]
    if len(systems) < 2:
        raise UserError(f"{len(models)} runs give {len(systems)} model to compare; at least two are needed")
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    conditions = [system.conditions for system in systems]
    for key in dict.fromkeys(key for system in systems for run in system.runs for key in run.items):
        try:
            sides = _sides(key, systems)
            rows += _rows(key, sides)
        except UserError as problem:
            left_out.append(f"{key[1]}: {problem}")
            continue
        for side in sides:
            conditions[side.place].update(_settings(key, side))
        if len(sides) < len(systems):
            left_out.append(f"{key[1]}: {_not_measured(key, systems)}")
    if not rows:
        raise UserError("\n".join(["no figure can be compared; see why of each:", *left_out]))
    pairing.adjust(rows, family=lambda row: (row["system"], row["suite"]))
    return Comparison(
        systems=[system.label for system in systems], rows=rows, differs=_differing(conditions), left_out=left_out
    )


# --- reading runs -----------------------------------------------------------------------------------------------------


def _measured(reference: str) -> Measured:
    folder, stage = _parts(reference)
    state = run_state.read(folder)
    done = [s for s in state["stages"] if s["kind"] == "evaluate" and s["status"] in ("done", "cached")]
    order = [BASE, *(s["id"] for s in state["stages"])]
    models = sorted({s["from"] for s in done}, key=order.index)
    if not models:
        raise UserError(f"{folder}: no model was measured yet; see: langadapt show {folder}")
    stage = stage or models[-1]
    if stage not in models:
        raise UserError(f'{folder}: no model "{stage}" was measured; {nearest(stage, models)}')
    folders = [folder / "stages" / s["id"] for s in done if s["from"] == stage]
    about = [_about(place) for place in folders]
    recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
    return Measured(
        label=f"{folder}:{stage}",
        stage=stage,
        recipe={key: value for key, value in recipe.items() if key not in _BESIDE},
        seed=recipe["seed"],
        rows=[row for one in about for row in one["rows"]],
        items={key: items for place in folders for key, items in pairing.read_items(place / "items.jsonl").items()},
        conditions={"base model": recipe["base_model"], **dict(_conditions(state, about))},
    )


def _about(stage: Path) -> Mapping[str, Any]:
    about = artifacts.read_json(stage / "stage.json")
    if not isinstance(about, dict):
        raise UserError(f"{stage} holds no stage.json; the run that it belongs to makes it again: langadapt run")
    return about


def _parts(reference: str) -> tuple[Path, str]:
    """A folder and the stage that is named after it; a folder's own name may hold a colon."""
    folder, colon, stage = reference.rpartition(":")
    return (Path(folder), stage) if colon and not Path(reference).is_dir() else (Path(reference), "")


def _conditions(state: Mapping[str, Any], about: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Settings and data of the evaluation, the machine, and versions."""
    yield "rehearsal", state["rehearsal"]
    for key, value in (ingredient for one in about for ingredient in one["ingredients"].items()):
        if of_corpus := _OF_CORPUS.fullmatch(key):
            yield f"corpus {of_corpus[1]}{of_corpus[2]}", value
        elif not key.startswith(_NO_CONDITION):
            yield key, value
    environment = state["environment"]
    yield from ((key, environment[key]) for key in ("python", "machine", "bf16"))
    yield from environment["packages"].items()


def _by_recipe(models: Iterable[Measured]) -> list[System]:
    groups: list[list[Measured]] = []
    for model in models:
        group = next((g for g in groups if (g[0].recipe, g[0].stage) == (model.recipe, model.stage)), None)
        if group is None:
            groups.append([model])
            continue
        if same := [other for other in group if other.seed == model.seed]:
            raise UserError(
                f"{same[0].label} and {model.label} are one recipe with one seed, {model.seed}; leave one of them out"
            )
        group.append(model)
    return [System(runs=sorted(group, key=lambda model: model.seed)) for group in groups]


# --- one measure after the other --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Side:
    """A system, its place among all, and what each of its runs did on the items that all share."""

    place: int
    system: System
    results: Sequence[Sequence[Kept]]


def _sides(key: Key, systems: Sequence[System]) -> list[_Side]:
    """The systems that were measured on it, first of all the one that the others are compared with."""
    having = {i: system for i, system in enumerate(systems) if _has(key, system)}
    if 0 not in having or len(having) < 2:
        raise UserError(_not_measured(key, systems))
    runs = [run for system in having.values() for run in system.runs]
    shared = pairing.shared([run.items[key] for run in runs])
    _check(key, runs, shared)
    results = iter(shared)
    return [_Side(place=i, system=s, results=[next(results) for _ in s.runs]) for i, s in having.items()]


def _has(key: Key, system: System) -> bool:
    return all(key in run.items for run in system.runs)


def _not_measured(key: Key, systems: Sequence[System]) -> str:
    return f"not measured of {', '.join(system.label for system in systems if not _has(key, system))}; measure it there too"


def _check(key: Key, runs: Sequence[Measured], shared: Sequence[Sequence[Kept]]) -> None:
    """Refuses what has the same name and is not the same."""
    splits = dict.fromkeys(row["split"] for run in runs for row in _rows_of(key, run))
    if len(splits) > 1:
        raise UserError(f"measured on different splits ({', '.join(splits)}); measure all on one")
    if not shared[0]:
        raise UserError("no item was asked of all; measure all on the same data")
    other = sum(any(_data(item) != _data(items[0]) for item in items) for items in zip(*shared, strict=True))
    if other:
        raise UserError(
            f"{other} of {len(shared[0])} items have the same id and are not the same data; measure all with one copy"
        )


def _rows_of(key: Key, run: Measured) -> list[Row]:
    return [row for row in run.rows if (row["suite"], row["task"]) == key[:2]]


def _data(item: Kept) -> list[Any]:
    return [item.get(name) for name in _DATA]


def _rows(key: Key, sides: Sequence[_Side]) -> list[dict[str, Any]]:
    rows = []
    first, *others = sides
    moved = {side.place: pairing.changes(key, *_as_many(first, side)) for side in others}
    found = {side.place: [pairing.values(key, results) for results in side.results] for side in sides}
    for metric, about in {row["metric"]: row for row in _rows_of(key, first.system.runs[0])}.items():
        if metric not in found[first.place][0]:
            continue  # of the same task by another method
        for side in sides:
            row = {name: about[name] for name in _KEPT if name in about}
            row |= _value([values[metric] for values in found[side.place]])
            row |= {"system": side.place, "n": len(side.results[0]), "limited": _limited(key, side)}
            if side is not first:
                row |= pairing.changed(row, moved[side.place][metric], against=first.system.label)
            rows.append(row)
    return rows


def _as_many(first: _Side, other: _Side) -> tuple[Sequence[Sequence[Kept]], Sequence[Sequence[Kept]]]:
    """Both sides' runs, one for one; a system of one run goes with each run of the other."""
    one, two = first.results, other.results
    if len(one) != len(two) and 1 not in (len(one), len(two)):
        raise UserError(
            f"{first.system.label} and {other.system.label} have not as many seeds; "
            "leave out some, so that each seed of the one goes with a seed of the other"
        )
    runs = max(len(one), len(two))
    return list(one) * (runs // len(one)), list(two) * (runs // len(two))


def _value(values: Sequence[float]) -> dict[str, Any]:
    mean, deviation = statistics.over_runs(values)
    return {"value": mean} if deviation is None else {"value": mean, "sd": deviation, "seeds": len(values)}


def _limited(key: Key, side: _Side) -> bool:
    return any(row.get("limited") for run in side.system.runs for row in _rows_of(key, run))


# --- what differs beside the model ------------------------------------------------------------------------------------


def _settings(key: Key, side: _Side) -> Iterator[tuple[str, Any]]:
    """How a measure was taken: what its rows say of it, and into how many tokens the tokenizer cuts the same text."""
    run, results = side.system.runs[0], side.results[0]
    yield f"{key[1]}: items", len(run.items[key])
    if key[2] == "text":
        yield f"{key[1]}: tokens of the same text", sum(item["tokens"] for item in results)
    for row in _rows_of(key, run):
        yield from ((f"{key[1]}: {name}", value) for name, value in row.items() if name not in _FIGURES)


def _differing(conditions: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Conditions that at least two systems have and that are not the same for all that have them."""
    differs = {}
    for name in dict.fromkeys(name for one in conditions for name in one):
        known = [one[name] for one in conditions if name in one]
        if any(value != known[0] for value in known):
            differs[name] = [one.get(name) for one in conditions]
    return differs
