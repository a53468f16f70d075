"""Recipes and experiments that ship with the plugin."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from langadapt.corpus.preparing import Accounting, clean
from langadapt.errors import RecipeError, UserError
from langadapt.experiment import Experiment
from langadapt.plan import Plan
from langadapt.recipe import Recipe
from langadapt.records import ExperimentSource, RecipeSource
from langadapt.testing.conformance import NotChecked, Subject, check, shown
from langadapt.testing.models import shape_alone


@check(RecipeSource, right="every word as docs/recipe.md has it; langadapt check NAME tells the same")
def recipe_loads(source: RecipeSource, subject: Subject) -> Iterator[str]:
    """The file is there, every word of it is known, and what it names exists."""
    if not source.path.is_file():
        yield f"there is no {shown(source.path)}"
        return
    try:
        Recipe.load(source.path)
    except RecipeError as error:
        yield from map(str, error.problems)
    except UserError as error:
        yield str(error)


@check(RecipeSource, right='requires = ["langadapt-basque>=0.1"]')
def recipe_requires_the_plugin(source: RecipeSource, subject: Subject) -> Iterator[str]:
    """It requires the distribution that it ships with, so that a copy of the file says what it needs."""
    own = canonicalize_name(subject.plugin.distribution)
    if own not in {_name(wanted) for wanted in _loaded(source).table.requires}:
        yield f"requires does not name {own}"


def _name(requirement: str) -> str:
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        return ""


@check(
    RecipeSource,
    right="every corpus has a sample that its filters keep, and some of it is held out to be measured: [rehearsal] held_out",
)
def recipe_can_be_rehearsed(source: RecipeSource, subject: Subject) -> Iterator[str]:
    """Nothing is in the way of a rehearsal, and there is something to learn from and to measure on."""
    _loaded(source)
    with tempfile.TemporaryDirectory() as place:
        model = shape_alone(Path(place) / "model")
        recipe = Recipe.load(source.path, [f"rehearsal.base_model={model}"]).rehearse()
        plan = recipe.plan(Path(place) / "run")
        yield from dict.fromkeys([*plan.problems, *plan.lacks])
        if not plan.problems:
            yield from _too_little(plan)


def _too_little(plan: Plan) -> Iterator[str]:
    """Corpora of which cleaning, and what is held out, leave nothing to learn from or to measure on."""
    for stage in plan.stages:
        for found in stage.inputs if stage.trains else ():
            if found.where == "stage":  # what another stage has not made yet
                continue
            sides = Counter(side for side, _ in clean(found.source(), Accounting()))
            if not sides["train"]:
                yield f'stage "{stage.id}": nothing of the corpus "{found.label}" is left to learn from'
            elif found.ref.held_out and not sides["held_out"]:
                yield f'stage "{stage.id}": nothing of the corpus "{found.label}" is held out to be measured on'


def _loaded(source: RecipeSource) -> Recipe:
    try:
        return Recipe.load(source.path)
    except UserError:
        raise NotChecked("the recipe cannot be loaded") from None


@check(
    ExperimentSource, right="every word as docs/experiments.md has it; langadapt sweep NAME --dry-run tells the same"
)
def experiment_loads(source: ExperimentSource, subject: Subject) -> Iterator[str]:
    """The file is there, and every variant is a recipe without a fault."""
    if not source.path.is_file():
        yield f"there is no {shown(source.path)}"
        return
    try:
        Experiment.load(source.path)
    except RecipeError as error:
        yield from map(str, error.problems)
    except UserError as error:
        yield str(error)
