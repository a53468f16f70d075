"""Every recipe that the Italian plugin ships runs all its stages, on a random model of two layers.

`make nightly` runs the same rehearsals on the small real model.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from langadapt import Recipe
from langadapt.testing import tiny_model

FAMILY = sorted((ROOT / "recipes").glob("*.toml"))
SMALLER = ("cpt_steps=1", "sft_steps=1", "evaluation_documents=1", "evaluation_items=1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.mark.slow
@pytest.mark.parametrize("path", FAMILY, ids=[path.stem for path in FAMILY])
def test_every_recipe_rehearses(path: Path, model: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(path, [f"rehearsal.base_model={model}", *(f"rehearsal.{value}" for value in SMALLER)])
    run = recipe.rehearse().execute(tmp_path / "run")
    assert run.state["status"] == "done" and run.report.is_file()
    assert [s["status"] for s in run.state["stages"]] == ["done"] * len(recipe.stages)
    assert {row["stage"] for row in run.rows} >= {"base"}
