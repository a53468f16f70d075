"""Any models under the same evaluations: each in a run of its own that trains nothing, then all in one table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomli_w

from langadapt.comparing import Comparison, compare
from langadapt.errors import RecipeError, UserError
from langadapt.named_models import NamedModel, find
from langadapt.plan import Plan
from langadapt.plugins import registry
from langadapt.recipe import BASE, Recipe
from langadapt.run import Run


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Models that were measured alike.

    Attributes:
        runs: a run for each, in the order in which they were named.
        comparison: all against the first; None of a single model.
    """

    runs: Sequence[Run]
    comparison: Comparison | None


def evaluate(
    models: Sequence[str | NamedModel],
    folder: Path,
    *,
    language: str = "",
    suites: Sequence[str] | None = None,
    settings: Mapping[str, int] | None = None,
    data: Mapping[str, str] | None = None,
    console: Any = None,
) -> Evaluated:
    """Measures models and compares them with the first, item by item. What was measured before is not measured again.

    Args:
        models: what `named_models.find` takes, or what it gave.
        folder: where the runs go.
        language: tag; not needed where one language alone is installed.
        suites: suites and single evaluations; the language's own when None.
        settings: further keys of a recipe's `[evaluation]`, such as `max_items`.
        data: where copies of corpora lie, as a recipe's `[data]`.
        console: of rich, for progress.

    Raises:
        UserError: there is no such model, language or suite, or nothing could be measured.
        RunError: a model could not be measured.
    """
    named = [find(model) if isinstance(model, str) else model for model in models]
    table = {
        "schema": 1,
        "name": "evaluate",
        "language": language or _only_language(),
        "base_model": named[0].model.weights,
        "evaluation": {**(settings or {}), **({} if suites is None else {"suites": list(suites)})},
        "data": {name: str(Path(path).expanduser().resolve()) for name, path in (data or {}).items()},
        "stage": [{"id": "measure", "kind": "evaluate", "from": BASE, "held_out": False}],
    }
    plans = _plans(table, named, folder)
    if said := dict.fromkeys(problem for plan in plans for problem in plan.problems):
        raise UserError("\n".join(said))
    runs = [plan.execute(console=console) for plan in plans]
    if len(runs) == 1:
        return Evaluated(runs=runs, comparison=None)
    compared = compare([f"{run.folder}:{BASE}" for run in runs])
    return Evaluated(runs=runs, comparison=replace(compared, systems=[model.name for model in named]))


def _only_language() -> str:
    known = list(registry().languages)
    if len(known) != 1:
        raise UserError(
            f"it is not clear which language is meant; say it with --language: {', '.join(known) or 'none is installed'}"
        )
    return known[0]


def _plans(table: Mapping[str, Any], models: Sequence[NamedModel], folder: Path) -> list[Plan]:
    """A plan for each model. Nothing is written to the folder before all of them are made.

    Raises:
        UserError: something that was asked for is not there; said without the lines of a recipe that nobody wrote.
    """
    plans = []
    with TemporaryDirectory() as aside:
        recipe = Path(aside, "evaluate.toml")
        recipe.write_text(tomli_w.dumps(table), encoding="utf-8")
        for model, place in zip(models, _places(models), strict=True):
            try:
                made = Recipe.load(str(recipe), [f"base_model={model.model.weights}", f"name={place}"])
            except RecipeError as error:
                said = [f"{p.key}: {p.message}" + (f"; {p.hint}" if p.hint else "") for p in error.problems]
                raise UserError("\n".join(said)) from None
            plan = made.plan(folder / place)
            plan.base = replace(plan.base, adapters=model.model.adapters)
            plans.append(plan)
    return plans


def _places(models: Iterable[NamedModel]) -> list[str]:
    """Names of folders; of models that are called alike, with a number."""
    places: list[str] = []
    for model in models:
        place = re.sub(r"[^\w.-]+", "-", model.name).strip("-.") or "model"
        same = sum(other == place or other.startswith(f"{place}-") for other in places)
        places.append(f"{place}-{same + 1}" if same else place)
    return places
