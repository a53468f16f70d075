"""Recipes and experiments; the first of each is sound."""

from __future__ import annotations

from pathlib import Path

from langadapt import ExperimentSource, RecipeSource

HERE = Path(__file__).parent / "tables"


def recipe(name: str) -> RecipeSource:
    return RecipeSource(name=f"faulty/{name}", path=HERE / f"{name}.toml", description="A recipe.")


def experiment(name: str) -> ExperimentSource:
    return ExperimentSource(name=f"faulty/{name}", path=HERE / f"{name}.toml", description="An experiment.")


RECIPES = tuple(map(recipe, ("sound", "lost", "misspelt", "needs-nothing", "no-sample", "all-dropped", "all-learnt")))
EXPERIMENTS = tuple(map(experiment, ("lost-experiment", "misspelt-experiment")))
