"""`langadapt evaluate`: any models under the same evaluations, in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from langadapt.cli import cli
from langadapt.errors import UserError
from langadapt.evaluating import evaluate
from langadapt.evaluation.methods import Work
from langadapt.evaluation.pace import Pace
from langadapt.machine import this_machine
from langadapt.stages.evaluate import _cost
from langadapt.testing import tiny_model

SUITES, SETTINGS = ["pairs-it"], {"max_items": 6}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and an adapter on it that makes another model of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("models")
    base = tiny_model(folder / "base")
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder / "adapter")
    return base, folder / "adapter"


@pytest.fixture(scope="module")
def measured(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("evaluate")
    base, adapter = map(str, models)
    return evaluate([base, adapter, base], folder, language="it", suites=SUITES, settings=SETTINGS), folder


def nll(found: Any) -> list[float]:
    return [row["value"] for row in found.comparison.rows if row["metric"] == "nll"]


def test_models_and_adapters_are_measured_alike_and_compared_with_the_first(measured, models) -> None:
    found, _ = measured
    assert found.comparison.systems == [str(models[0]), str(models[1]), str(models[0])]
    first, adapted, again = nll(found)
    assert first == again != adapted
    p_values = [row["p_value"] for row in found.comparison.rows if row["metric"] == "nll" and "p_value" in row]
    assert p_values[1] == 1.0, "a model is no better than itself"


def test_an_adapter_is_measured_as_the_model_that_it_makes(measured, models, tmp_path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base, adapter = models
    whole = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    merged = PeftModel.from_pretrained(whole, adapter).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "merged")
    alone = evaluate([str(tmp_path / "merged")], tmp_path / "out", language="it", suites=SUITES, settings=SETTINGS)
    (value,) = [row["value"] for row in alone.runs[0].rows if row["metric"] == "nll"]
    rounding = 2e-3 if this_machine().bf16 else 1e-4  # weights of 8 bits are rounded once here, and by chance there
    assert value == pytest.approx(nll(measured[0])[1], abs=rounding)


def test_what_was_measured_is_not_measured_again(measured, models) -> None:
    found, folder = measured
    again = evaluate([*map(str, models), str(models[0])], folder, language="it", suites=SUITES, settings=SETTINGS)
    assert [s["status"] for run in again.runs for s in run.state["stages"]] == ["cached"] * 3
    assert nll(again) == nll(found)


def test_a_suite_or_a_model_that_is_not_there_is_refused_before_anything_is_measured(models, tmp_path) -> None:
    with pytest.raises(UserError, match=r'^evaluation\.suites: .*"pairs-itt"; did you mean "pairs-it"'):
        evaluate([str(models[0])], tmp_path / "out", language="it", suites=["pairs-itt"])
    with pytest.raises(UserError, match="no-such-model"):
        evaluate([str(models[0]), "./no-such-model"], tmp_path / "out", language="it", suites=SUITES)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_one_table(models, tmp_path) -> None:
    command = ["evaluate", *map(str, models), "--suite", "pairs-it", "--max-items", "2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, [*command, "--language", "it", "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and len(found["runs"]) == 2
    assert {row["system"] for row in found["comparison"]["rows"]} == {0, 1}
    wrong = CliRunner().invoke(cli, [*command, "--data", "flores"])
    assert wrong.exit_code == 2 and "NAME=PATH" in wrong.output


@pytest.mark.parametrize(
    ("works", "said"),
    [
        ([Work(items=1, read=1, take=list)], "1 item, 1 token to read: about "),
        (
            [Work(items=1, read=900, take=list), Work(items=1, read=100, written=16, take=list)],
            "2 items, 1,000 tokens to read, at most 16 to write: about ",
        ),
        (
            [Work(items=2, read=7, take=list), Work(items=1, read=0, take=list, known=False)],
            ", and 1 task of unknown size",
        ),
    ],
)
def test_what_a_suite_costs_is_said_in_words(works: list[Work], said: str) -> None:
    assert said in _cost(works, Pace(read=10.0, written=1.0))
