"""The LLaMAntino family: one recipe for each released model, and one that has all stages."""

from __future__ import annotations

import re
import time

import pytest
from conftest import LLAMANTINO, ROOT

from langadapt.plugins import registry
from langadapt.recipe import Recipe
from langadapt.recipe_text import find

FAMILY = sorted((ROOT / "recipes").glob("*.toml"))
IDS = [path.stem for path in FAMILY]


def stage(recipe: Recipe, id: str):
    return next(s for s in recipe.stages if s.id == id)


@pytest.mark.parametrize("path", FAMILY, ids=IDS)
def test_the_plugin_ships_the_recipes_of_the_repository(path):
    shipped = find(f"italian/{path.stem}")
    assert shipped.read_bytes() == path.read_bytes()
    assert shipped.is_relative_to(ROOT / "plugins")


def test_the_repository_holds_every_recipe_that_the_plugin_ships():
    assert {name for name in registry().recipes if name.startswith("italian/")} == {f"italian/{i}" for i in IDS}


@pytest.mark.parametrize("path", FAMILY, ids=IDS)
def test_every_value_is_marked_as_the_authors_or_ours(path):
    """What a stage trains on, by which strategy and with which settings: [P] paper, [C] cards, or [ours]."""
    recipe = Recipe.load(path)
    written = {
        key: mark
        for key, mark in recipe.marks.items()
        if key in ("base_model", "seed")
        or re.search(r"\.(corpus\.\d+|peft|training|translator)\.|\.(prompt|system_prompt)$", key)
    }
    assert len(written) > 10
    unmarked = [key for key, mark in written.items() if not re.search(r"\[(P|C|ours)\]", mark)]
    assert unmarked == []


@pytest.mark.alone
@pytest.mark.parametrize("path", FAMILY, ids=IDS)
def test_every_recipe_plans_in_no_time(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = Recipe.load(path)
    started = time.monotonic()
    recipe.plan(tmp_path / "full")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("path", FAMILY, ids=IDS)
def test_every_recipe_plans_offline_at_full_scale_and_as_a_rehearsal(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = Recipe.load(path)
    plan = recipe.plan(tmp_path / "full")
    assert plan.base.shape is not None, "known without a download"
    assert all(s.estimate.peak for s in plan.stages if hasattr(s.options, "training"))
    small = recipe.rehearse().plan(tmp_path / "small")
    assert small.problems == []
    assert [s.kind for s in small.stages] == [s.kind for s in plan.stages]


def test_the_llamantino_recipe_has_the_values_of_the_paper():
    recipe = Recipe.load(LLAMANTINO)
    assert recipe.table.base_model == "meta-llama/Llama-2-7b-hf" and recipe.table.language == "it"
    adapt = stage(recipe, "adapt").options
    peft = {"method": "qlora", "bnb_4bit_quant_type": "nf4", "r": 64, "lora_alpha": 16}
    training = {
        "learning_rate": 2e-4,
        "max_steps": 25_000,
        "warmup_steps": 0.03,
        "weight_decay": 0.001,
        "max_grad_norm": 0.3,
    }
    assert peft.items() <= adapt.peft.items() and training.items() <= adapt.training.items()
    assert adapt.corpus[0].name == "clean-mc4-it" and adapt.corpus[0].config == "medium"
    assert adapt.training["lr_scheduler_type"] not in ("constant",), "it would ignore the warm-up"
    fine_tunes = {s.id: s for s in recipe.stages if s.kind == "sft"}
    assert {s.parent for s in fine_tunes.values()} == {"adapt"} and len(fine_tunes) == 3
    assert fine_tunes["ultrachat"].options.peft["method"] == "qlora"
    for id in ("dolly", "evalita"):
        assert fine_tunes[id].options.peft == {"method": "full"}
        assert fine_tunes[id].options.prompt == "alpaca-it"
        assert fine_tunes[id].options.rows_per_step == 128, "Alpaca's global batch"


@pytest.mark.parametrize(
    ("name", "base", "stages"),
    [
        ("llamantino-2-7b-hf-ita", "Llama-2-7b-hf", {"adapt": "base", "release": "adapt"}),
        ("llamantino-2-13b-hf-ita", "Llama-2-13b-hf", {"adapt": "base", "release": "adapt"}),
        ("llamantino-2-chat-7b-hf-ita", "Llama-2-7b-chat-hf", {"adapt": "base", "release": "adapt"}),
        ("llamantino-2-chat-13b-hf-ita", "Llama-2-13b-chat-hf", {"adapt": "base", "release": "adapt"}),
        (
            "llamantino-2-chat-7b-hf-ultrachat-ita",
            "Llama-2-7b-chat-hf",
            {"adapt": "base", "ultrachat": "adapt", "release": "ultrachat"},
        ),
        (
            "llamantino-2-chat-13b-hf-ultrachat-ita",
            "Llama-2-13b-chat-hf",
            {"adapt": "base", "ultrachat": "adapt", "release": "ultrachat"},
        ),
        ("llamantino-2-70b-hf-ultrachat-ita", "Llama-2-70b-hf", {"ultrachat": "base", "release": "ultrachat"}),
        ("llamantino-2-7b-hf-dolly-ita", "Llama-2-7b-hf", {"adapt": "base", "dolly": "adapt"}),
        ("llamantino-2-13b-hf-dolly-ita", "Llama-2-13b-hf", {"adapt": "base", "dolly": "adapt"}),
        ("llamantino-2-7b-hf-evalita-ita", "Llama-2-7b-hf", {"adapt": "base", "evalita": "adapt"}),
        ("llamantino-2-13b-hf-evalita-ita", "Llama-2-13b-hf", {"adapt": "base", "evalita": "adapt"}),
    ],
)
def test_every_released_model_has_its_base_and_its_road(name, base, stages):
    recipe = Recipe.load(ROOT / "recipes" / f"{name}.toml")
    assert recipe.table.base_model == f"meta-llama/{base}"
    assert {s.id: s.parent for s in recipe.stages if not s.automatic and s.kind != "translate"} == stages


@pytest.mark.parametrize("data", ["dolly", "evalita"])
def test_instructions_take_alpacas_values_for_each_size(data):
    found = {}
    for size in ("7b", "13b"):
        training = stage(
            Recipe.load(ROOT / "recipes" / f"llamantino-2-{size}-hf-{data}-ita.toml"), data
        ).options.training
        found[size] = (training["learning_rate"], training["num_train_epochs"], training["max_length"])
    assert found == {"7b": (2e-5, 3.0, 512), "13b": (1e-5, 5.0, 512)}
