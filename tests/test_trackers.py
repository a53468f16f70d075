"""Trackers: none by default, refused when unknown or missing, told where the run is, and no part of a digest."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from langadapt import Recipe, RecipeError, UserError, trackers
from langadapt.testing import tiny_model

RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{model}"

[evaluation]
automatic = false

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{text}", held_out = 0.2 }}]
[stage.training]
learning_rate = 1e-3
max_steps = 2
per_device_train_batch_size = 1
max_length = 32
logging_steps = 1
eval_strategy = "steps"
eval_steps = 1
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model")
    lines = [{"text": f"La barca {i} torna al porto con {i * 3} casse di pesce."} for i in range(40)]
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = folder / "recipe.toml"
    file.write_text(RECIPE.format(model=folder / "model", text=folder / "text.jsonl"))
    return file


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that can be found; nothing else can."""
    there: set[str] = set()
    monkeypatch.setattr(trackers, "find_spec", lambda name: name in there or None)
    return there


def with_trackers(recipe: Path, names: str, *more: str) -> Recipe:
    return Recipe.load(recipe, [f"adapt.training.report_to={names}", *more])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ('["tensorbord"]', 'no tracker "tensorbord"; did you mean "tensorboard"'),
        ('"wandbb"', 'did you mean "wandb"'),
        ('"all"', "whatever is installed"),
        ("[3]", 'no tracker "3"'),
        ("true", "is not of type"),
    ],
)
def test_what_is_no_tracker_is_refused_when_the_recipe_is_loaded(recipe: Path, names: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        with_trackers(recipe, names)


def test_a_tracker_that_is_not_installed_is_refused_by_the_plan(
    recipe: Path, installed: set[str], tmp_path: Path
) -> None:
    plan = with_trackers(recipe, '["tensorboard", "comet_ml"]').plan(tmp_path)
    assert len(plan.lacks) == 2
    assert 'report_to = "tensorboard", which is not installed; pip install tensorboard, or' in plan.lacks[0]
    assert "pip install comet-ml" in plan.lacks[1]
    with pytest.raises(UserError, match="pip install tensorboard"):
        plan.execute()
    installed |= {"tensorboardX", "comet_ml"}
    assert with_trackers(recipe, '["tensorboard", "comet_ml"]').plan(tmp_path).lacks == []
    assert with_trackers(recipe, '"none"').plan(tmp_path).lacks == []


def test_who_is_told_of_a_training_is_no_part_of_its_digest(recipe: Path, installed: set[str], tmp_path: Path) -> None:
    told = with_trackers(recipe, '["wandb"]', "adapt.training.run_name=mine", "adapt.training.project=ours")
    (stage,), (plain,) = told.plan(tmp_path).stages, Recipe.load(recipe).plan(tmp_path).stages
    assert stage.digest == plain.digest != ""
    (longer,) = Recipe.load(recipe, ["adapt.training.max_steps=3"]).plan(tmp_path).stages
    assert longer.digest != plain.digest


def test_trackers_are_told_of_the_runs_folder_unless_the_user_has_said_otherwise(
    recipe: Path, installed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_DIR", "WANDB_PROJECT", "TENSORBOARD_LOGGING_DIR", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    plan = with_trackers(recipe, '["tensorboard", "wandb", "mlflow", "trackio", "clearml"]').plan(tmp_path / "run")
    (tmp_path / "run").mkdir()
    before = dict(os.environ)
    with trackers.kept_in(plan, plan.stages[0]):
        assert os.environ["WANDB_MODE"] == "online" and os.environ["WANDB_PROJECT"] == "tiny"
        assert os.environ["TRACKIO_DIR"] == str(tmp_path / "run/trackers/trackio")
        assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/run/trackers/mlflow.db"
        place = tmp_path / "run/trackers/tensorboard" / f"adapt-{plan.stages[0].digest[:8]}"
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(place)
    assert dict(os.environ) == before
    monkeypatch.delenv("WANDB_MODE")
    with trackers.kept_in(plan, plan.stages[0]):
        assert os.environ["WANDB_MODE"] == "offline", "nothing leaves the machine that is not asked for"


def test_the_next_stage_does_not_go_on_in_the_wandb_run_of_the_one_before(
    recipe: Path, installed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    finished = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lambda: finished.append(os.environ["WANDB_MODE"])))
    (tmp_path / "run").mkdir()
    for names, times in (('["wandb"]', 1), ('["tensorboard"]', 1), ('["wandb"]', 2)):
        plan = with_trackers(recipe, names).plan(tmp_path / "run")
        with trackers.kept_in(plan, plan.stages[0]):
            pass
        assert len(finished) == times
    assert finished == ["offline", "offline"]


class Recorder(TrainerCallback):  # type: ignore[misc]
    """A tracker that remembers what it is told."""

    made: list[Recorder] = []

    def __init__(self) -> None:
        self.place = os.environ.get("TENSORBOARD_LOGGING_DIR", "")
        self.logs: list[dict[str, Any]] = []
        self.names = ("", "")
        self.made.append(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.names = (args.project, args.run_name)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append({"step": state.global_step, **logs})


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, installed: set[str]) -> list[Recorder]:
    installed.add("tensorboard")
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Recorder)
    monkeypatch.setattr(Recorder, "made", [])
    return Recorder.made


def test_a_tracker_hears_losses_rates_and_what_is_measured(
    recipe: Path, recorded: list[Recorder], tmp_path: Path
) -> None:
    run = with_trackers(recipe, '"tensorboard"').execute(tmp_path / "run")
    (tracker,) = recorded
    digest = run.state["stages"][0]["digest"][:8]
    assert tracker.names == ("tiny", f"run-adapt-{digest}")
    assert tracker.place == str(tmp_path / "run/trackers/tensorboard" / f"adapt-{digest}")
    heard = {key: [log["step"] for log in tracker.logs if key in log] for log in tracker.logs for key in log}
    assert heard["loss"] == heard["learning_rate"] == heard["eval_bits_per_byte"] == [1, 2]
    events = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if event["event"] == "step"]
    assert [log["loss"] for log in tracker.logs if "loss" in log] == losses


def test_a_training_reports_to_nobody_by_default_and_under_the_names_that_the_recipe_gives(
    recipe: Path, recorded: list[Recorder], tmp_path: Path
) -> None:
    Recipe.load(recipe).execute(tmp_path / "silent")
    assert recorded == [] and not (tmp_path / "silent/trackers").exists()
    named = ["adapt.training.run_name=mine", "adapt.training.project=ours"]
    with_trackers(recipe, '["tensorboard"]', *named).execute(tmp_path / "run")
    assert [tracker.names for tracker in recorded] == [("ours", "mine")]


def test_tensorboard_finds_the_curves_in_the_runs_folder(recipe: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with_trackers(recipe, '["tensorboard"]').execute(tmp_path / "run")
    (folder,) = (tmp_path / "run/trackers/tensorboard").iterdir()
    curves = accumulator.EventAccumulator(str(folder))
    curves.Reload()
    assert {"train/loss", "train/learning_rate", "eval/bits_per_byte"} <= set(curves.Tags()["scalars"])
    assert [event.step for event in curves.Scalars("train/loss")] == [1, 2]
