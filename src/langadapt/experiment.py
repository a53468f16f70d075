"""The experiment: one recipe with variations, compared; what the user wrote, checked word by word.

`Experiment.load` reads the TOML file, puts every variation into the recipe as `--set` would, and checks all the recipes
that come of it. What is wrong is reported at once, each problem with its file and line.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from langadapt import recipe_text, toml_lines
from langadapt.errors import Problem, RecipeError, nearest
from langadapt.recipe import BASE, SCHEMA, Recipe, Table, check_file
from langadapt.recipe_text import Override, RecipeText

if TYPE_CHECKING:
    from langadapt.sweep import Sweep, SweepPlan

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
ALONE = "recipe"  # what the only variant is called where nothing but seeds varies


class ExperimentTable(Table):
    """An experiment's whole file, every default filled in."""

    schema_: int = Field(alias="schema", description="Version of the format, 1.")
    name: str = Field(pattern=NAME, description="Name of the experiment and of its folder.")
    question: str = Field(min_length=1, description="What it is to answer, a sentence.")
    recipe: str = Field(description="The recipe that is varied: a file beside this one, or a name that a plugin ships.")
    limits: str = Field(
        "", description="What it cannot show, above all at the scale of a rehearsal; screen and page repeat it."
    )
    baseline: str = Field("", description="The variant that the others are compared with; empty: the first.")
    seeds: list[int] = Field([], description="Seeds to run every variant with; empty: the recipe's own seed.")
    models: list[str] = Field(
        [], description="Models that are compared: `base`, ids of stages; empty: all that are measured."
    )
    measures: list[str] = Field([], description="Suites, tasks or metrics that are compared; empty: all.")
    set_: dict[str, Any] = Field(
        {}, alias="set", description="Values for the recipes of all variants, by keys as `--set` takes them."
    )
    variant: dict[str, dict[str, Any]] = Field({}, description="By name, the values that make a variant.")
    grid: dict[str, Any] = Field(
        {}, description="By key, a list of values; they are combined with those of all other keys."
    )


_STAND_INS = {"schema": SCHEMA, "name": "x", "question": "x", "recipe": ""}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A variant with one seed: a recipe that is run.

    Attributes:
        variant: its name.
        seed: None where the experiment names no seeds.
        recipe: with all values in it.
        values: what makes the variant, by dotted key.
    """

    variant: str
    seed: int | None
    recipe: Recipe
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Also that of its folder."""
        return self.variant if self.seed is None else f"{self.variant}-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment whose every word is known to be right. Make one with `Experiment.load`.

    Attributes:
        source: the file, or the name of an experiment that a plugin ships.
        table: what it says.
        trials: every variant with every seed.
        overrides: `key=value` each, that were put into all recipes.
        rehearsal: whether it is at the scale of a rehearsal.
    """

    source: str
    table: ExperimentTable
    trials: tuple[Trial, ...]
    overrides: tuple[str, ...] = ()
    rehearsal: bool = False

    @classmethod
    def load(cls, source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
        """Read and check an experiment and the recipes that it makes.

        Args:
            source: path of a TOML file, or the name of an experiment that a plugin ships.
            overrides: `key=value` each, for the recipes of all variants; what a variant says itself counts more.

        Raises:
            RecipeError: something in it is wrong; `problems` lists all that was found.
            UserError: the file cannot be read.
        """
        text = recipe_text.parsed(recipe_text.find(source, "experiment"))
        table, problems = check_file(ExperimentTable, text, _STAND_INS)
        if problems:
            raise RecipeError(problems)
        assert isinstance(table, ExperimentTable)
        reading = _Reading(text, table)
        trials = reading.trials(overrides)
        if reading.problems:
            raise RecipeError(list(dict.fromkeys(reading.problems)))
        return cls(source=str(source), table=table, trials=trials, overrides=tuple(overrides))

    @property
    def variants(self) -> list[str]:
        """Names of all variants, in order."""
        return list(dict.fromkeys(trial.variant for trial in self.trials))

    @property
    def baseline(self) -> str:
        """Name of the variant that the others are compared with."""
        return self.table.baseline or self.variants[0]

    @property
    def folder(self) -> Path:
        """Where it leaves its work when nothing else is said."""
        return Path("runs") / (f"{self.table.name}-rehearsal" if self.rehearsal else self.table.name)

    def rehearse(self) -> Experiment:
        """This experiment with all its recipes at the scale of a laptop; see `Recipe.rehearse`."""
        trials = tuple(replace(trial, recipe=trial.recipe.rehearse()) for trial in self.trials)
        return replace(self, trials=trials, rehearsal=True)

    def plan(self, folder: str | Path | None = None) -> SweepPlan:
        """Plan every variant. Nothing is written, and nothing is fetched.

        Args:
            folder: where the experiment would leave its work; `self.folder` when None.
        """
        from langadapt.sweep import make_plan

        return make_plan(self, self.folder if folder is None else Path(folder))

    def execute(self, folder: str | Path | None = None) -> Sweep:
        """Plan and run; see `SweepPlan.execute`.

        Args:
            folder: as of `plan`.

        Raises:
            UserError: something is in the way, or the folder is in use or not writable.
            Interrupted: it was stopped; the same call goes on.
        """
        return self.plan(folder).execute()


# --- what varies ------------------------------------------------------------------------------------------------------


class _Reading:
    """Makes the trials of one file and collects what is wrong with them."""

    def __init__(self, text: RecipeText, table: ExperimentTable):
        self.text, self.table = text, table
        self.problems: list[Problem] = []

    def report(self, place: toml_lines.Path, message: str, hint: str = "") -> None:
        key = ".".join(map(str, place))
        self.problems.append(Problem(where=self.text.origin(place), key=key, message=message, hint=hint))

    def trials(self, overrides: Sequence[str]) -> tuple[Trial, ...]:
        if self.table.schema_ != SCHEMA:
            self.report(("schema",), f"format {self.table.schema_} is not known here", f"this version reads {SCHEMA}")
        try:
            recipe = recipe_text.referred(self.text, "recipe", self.table.recipe)
            common = [*self._overrides(self.table.set_, "set"), *map(Override.parse, overrides)]
        except RecipeError as error:
            self.problems += error.problems
            return ()
        seeds: list[int | None] = [*self.table.seeds] or [None]
        trials = [
            trial
            for name, own in self._variants().items()
            for seed in seeds
            if (trial := self._trial(recipe, name, seed, common, own))
        ]
        if not self.problems:
            self._check_names(trials)
        return tuple(trials)

    def _trial(
        self, recipe: Path, name: str, seed: int | None, common: list[Override], own: list[Override]
    ) -> Trial | None:
        where = self.text.origin(("seeds",))
        seeded = [] if seed is None else [Override(key=("seed",), value=seed, where=where, why="seeds")]
        try:
            loaded = Recipe.load(recipe, [*common, *own, *seeded])
        except RecipeError as error:
            self.problems += error.problems
            return None
        values = {".".join(override.key): override.value for override in own}
        return Trial(variant=name, seed=seed, recipe=loaded, values=values)

    def _variants(self) -> dict[str, list[Override]]:
        """What every variant puts into the recipe: those with names, at every point of the grid."""
        for name in self.table.variant:
            if not re.fullmatch(NAME, name):
                self.report(("variant", name), "is no name for a folder", "use letters, digits and . _ -")
        if not (self.table.variant or self.table.grid or self.table.seeds):
            self.report((), "nothing varies", "say what in [variant.NAME], in [grid], or as seeds")
        named = {name: self._overrides(table, "variant", name) for name, table in self.table.variant.items()}
        points = self._points()
        if points == {"": []}:
            return named or {ALONE: []}
        return {
            ",".join(filter(None, (name, point))): [*own, *more]
            for name, own in (named or {"": []}).items()
            for point, more in points.items()
        }

    def _points(self) -> dict[str, list[Override]]:
        axes = self._overrides(self.table.grid, "grid")
        for axis in axes:
            if not isinstance(axis.value, list) or not axis.value:
                message = f"{'.'.join(axis.key)} is not a list of values; write [1e-4, 2e-4]"
                self.problems.append(Problem(where=axis.where, key="grid", message=message))
                return {"": []}
        last = [axis.key[-1] for axis in axes]
        words = [key if last.count(key) == 1 else ".".join(axis.key) for key, axis in zip(last, axes, strict=True)]
        points = {}
        for places in itertools.product(*(range(len(axis.value)) for axis in axes)):
            chosen = [replace(axis, value=axis.value[n]) for axis, n in zip(axes, places, strict=True)]
            label = ",".join(
                f"{word}={_in_a_word(o.value, n)}" for word, o, n in zip(words, chosen, places, strict=True)
            )
            points[label] = chosen
        if len(points) < math.prod(len(axis.value) for axis in axes):
            self.report(("grid",), "two of its points have the same name", "give such values names in [variant.NAME]")
        return points

    def _overrides(self, table: Mapping[str, Any], *place: str) -> list[Override]:
        return [
            Override(key=key, value=value, where=self.text.origin(where), why=".".join(place))
            for key, value, where in assignments(table, place)
        ]

    def _check_names(self, trials: Sequence[Trial]) -> None:
        """Names of variants and models that other keys speak of; folders that a file system would take for one."""
        variants = [trial.variant for trial in trials]
        if self.table.baseline and self.table.baseline not in variants:
            message = f'there is no variant "{self.table.baseline}"'
            self.report(("baseline",), message, nearest(self.table.baseline, variants))
        models = {stage.id for trial in trials for stage in trial.recipe.stages} | {BASE}
        for model in self.table.models:
            if model not in models:
                self.report(("models",), f'no variant has a stage "{model}"', nearest(model, models))
        folders = [trial.name.casefold() for trial in trials]
        for name in dict.fromkeys(trial.name for trial in trials):
            if folders.count(name.casefold()) > 1:
                self.report(("seeds",), f'two runs would have the folder "{name}"', "give them other names or seeds")


def assignments(
    table: Mapping[str, Any], place: toml_lines.Path, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, toml_lines.Path]]:
    """The values of a table by keys as `--set` takes them: parts of the key, value, place in the file.

    `adapt.peft.r = 8` and `adapt.peft = { r = 8 }` are one table to TOML: each value in it is put in by itself. A key in
    quotes, `"adapt.peft"`, takes its value as it stands.
    """
    for name, value in table.items():
        key = (*above, name) if above else toml_lines.split_key(name) or (name,)
        here = (*place, name)
        if isinstance(value, dict) and (above or len(key) == 1):
            yield from assignments(value, here, key)
        else:
            yield key, value, here


def _in_a_word(value: Any, number: int) -> str:
    """A value as a part of a folder's name; its number in the list, from 1, where it has no short form."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-") if isinstance(value, str) else ""
    return word or str(number + 1)
