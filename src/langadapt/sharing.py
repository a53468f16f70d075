"""Stages that another run has made with the same digest: taken from its folder and not made again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from langadapt import artifacts
from langadapt.plan import Plan, cached


def share(plan: Plan, siblings: Collection[Path]) -> None:
    """Puts what is to be made into the run's folder where a sibling has it, and marks it as cached.

    Artifacts do not change once they are there, so a hard link serves as well as a copy and takes no room.

    Args:
        plan: with digests that are known; of a run that holds its folder's lock.
        siblings: folders of other runs.
    """
    for stage in plan.stages:
        if stage.status == "cached":
            continue
        maker = next((folder for folder in siblings if cached(folder, stage)[0] == "cached"), None)
        if maker is not None:
            _link(maker / "stages" / stage.id, plan.folder / "stages" / stage.id)
            stage.status, stage.reason = "cached", f"made by {maker.name}"
    if plan.base.kind == "gguf" and not (plan.folder / "base").exists():
        unpacked = next((folder / "base" for folder in siblings if (folder / "base").is_dir()), None)
        if unpacked is not None:  # whether it is the same model is asked where it is used
            _link(unpacked, plan.folder / "base")


def _link(made: Path, final: Path) -> None:
    partial = final.with_name(f".{final.name}.shared")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(made, partial, copy_function=_link_file)
    artifacts.publish(partial, final)


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, target)
