"""Trackers that a training reports to beside `events.jsonl`: transformers' own, by the names that it gives them.

None does unless a recipe names it. What they write stays in the run's folder, and nothing leaves the machine, unless
their own environment variables say otherwise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt.errors import nearest
from langadapt.upstream import keys_of

if TYPE_CHECKING:
    from langadapt.plan import Plan, PlannedStage

FOLDER = "trackers"  # in the run's folder
# What of [stage.training] only says who is told of a training: no part of a digest.
OPTIONS = {"report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"}
# Modules, any of which will do, and the package to install, where these are not called as the tracker is.
_MODULES = {"azure_ml": ("azureml",), "flyte": ("flytekit",), "tensorboard": ("tensorboard", "tensorboardX")}
_PACKAGES = {
    "azure_ml": "azureml-core mlflow",
    "comet_ml": "comet-ml",
    "dagshub": "dagshub mlflow",
    "flyte": "flytekit",
}


def chosen(training: Mapping[str, Any]) -> list[str]:
    """The trackers that `[stage.training]` names."""
    said = training.get("report_to", [])
    names = said if isinstance(said, list) else [said] if isinstance(said, str) else []  # another type has its message
    return [name for name in names if name != "none"]


def problems(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with the names: message and hint."""
    for name in chosen(training):  # the names are looked up only then: it is a long file
        known = keys_of("transformers.integrations.integration_utils:INTEGRATION_TO_CALLBACK")
        if name == "all":
            yield '"all" would report to whatever is installed', "name the trackers that are meant"
        elif name not in known:
            yield f'transformers knows no tracker "{name}"', nearest(str(name), known)


def missing(training: Mapping[str, Any]) -> Iterator[str]:
    """Trackers that are not installed on this machine, and how to install them."""
    for name in chosen(training):
        if name != "kubeflow" and not any(map(find_spec, _MODULES.get(name, (name,)))):
            yield (
                f'training.report_to = "{name}", which is not installed; '
                f"pip install {_PACKAGES.get(name, name)}, or leave it out"
            )


def arguments(plan: Plan, stage: PlannedStage) -> dict[str, str]:
    """What `TrainingArguments` says to trackers, where the recipe does not: the run by its folder, stage and digest.

    With the digest, a stage that goes on goes on in its own curves, and one that was changed begins new ones.
    """
    return {"project": plan.recipe.table.name, "run_name": f"{plan.folder.name}-{stage.id}-{stage.digest[:8]}"}


@contextmanager
def kept_in(plan: Plan, stage: PlannedStage) -> Iterator[None]:
    """While open, trackers of a stage that are told by their environment where to write find the run's folder there.

    Variables that are set already stay as they are. What trackers print goes to standard error: the other is for results.
    """
    names = chosen(getattr(stage.options, "training", {}))
    if not names:
        yield
        return
    wanted = {key: value for name in names for key, value in _environment(name, plan, stage).items()}
    unset = {key: value for key, value in wanted.items() if key not in os.environ}
    (plan.folder / FOLDER).mkdir(exist_ok=True)
    with ExitStack() as after:
        for key in unset:
            after.callback(os.environ.pop, key, None)
        after.enter_context(redirect_stdout(sys.stderr))
        after.callback(_finish, names)
        os.environ.update(unset)
        yield


def _finish(names: Collection[str]) -> None:
    """Ends the run of the one tracker that transformers leaves open, so that the next stage does not go on in it."""
    wandb = sys.modules.get("wandb")
    if "wandb" in names and wandb:
        wandb.finish()


def _environment(tracker: str, plan: Plan, stage: PlannedStage) -> Mapping[str, str]:
    folder: Path = plan.folder.resolve() / FOLDER
    name = plan.recipe.table.name
    known: dict[str, Mapping[str, str]] = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard" / f"{stage.id}-{stage.digest[:8]}")},
        "trackio": {"TRACKIO_DIR": str(folder / "trackio")},
        # Offline, it waits for `wandb sync`.
        "wandb": {"WANDB_DIR": str(folder), "WANDB_PROJECT": name, "WANDB_MODE": "offline", "WANDB_SILENT": "true"},
        "mlflow": {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "MLFLOW_EXPERIMENT_NAME": name},
    }
    return known.get(tracker, {})
