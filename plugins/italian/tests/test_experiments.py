"""The experiments that ship: each plans at full scale without network, and as a rehearsal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from langadapt import Experiment
from langadapt_italian.experiments import EXPERIMENTS, HERE

NAMES = [source.name for source in EXPERIMENTS]


def one_seed(name: str) -> Experiment:
    """An experiment with the first seed only: seeds differ in nothing that is planned."""
    experiment = Experiment.load(name)
    return replace(experiment, trials=tuple(t for t in experiment.trials if t.seed == experiment.trials[0].seed))


def test_every_experiment_in_the_package_is_offered() -> None:
    files = {path.stem for path in HERE.glob("*.toml") if not path.stem.endswith("-recipe")}
    assert {f"italian/{name}" for name in files} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_plans_offline_at_full_scale_and_as_a_rehearsal(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    experiment = one_seed(name)
    assert experiment.table.question.endswith("?") and experiment.table.limits
    full, small = experiment.plan(tmp_path / "full"), experiment.rehearse().plan(tmp_path / "small")
    assert [problem for problem in full.problems if "no copy is at hand" not in problem] == []
    assert full.alike == [] and small.problems == []
    assert [p.name for p in small.trials] == [p.name for p in full.trials] and list(tmp_path.iterdir()) == []


def test_a_task_that_is_left_out_is_asked_in_a_rehearsal_too(tmp_path: Path) -> None:
    plan = one_seed("italian/held-out-tasks").rehearse().plan(tmp_path)
    for planned in plan.trials[1:]:
        task = planned.name.removeprefix("without-")
        learnt = [found.label for found in planned.plan.stage("evalita").inputs]
        asked = [measure.task for measure in planned.plan.stage("evaluate-evalita").work]
        assert not any(task in label for label in learnt), planned.name
        assert any(task in name for name in asked), planned.name


def test_the_adapted_model_is_asked_for_its_preferences_in_a_rehearsal_too(tmp_path: Path) -> None:
    for planned in one_seed("italian/bias").rehearse().plan(tmp_path).trials:
        asked = {measure.task for measure in planned.plan.stage("evaluate-adapt").work}
        assert {"stereotypes-gender-it", "stereotypes-origin-it"} <= asked, planned.name


@pytest.mark.parametrize("name", ["italian/held-out-tasks", "italian/translation"])
def test_variants_that_hold_other_text_out_share_the_measurement_of_the_base(name: str, tmp_path: Path) -> None:
    plan = one_seed(name).rehearse().plan(tmp_path)
    assert len({planned.plan.stage("evaluate-base").digest for planned in plan.trials}) == 1
