"""What `run.json` says: the state of a run and of its stages, by one process or by several that run a few stages each."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.errors import UserError
from langadapt.locks import is_running

if TYPE_CHECKING:
    from langadapt.plan import Plan, PlannedStage

FILE = "run.json"


def read(folder: Path) -> dict[str, Any]:
    """The state of the run in a folder.

    Raises:
        UserError: there is none.
    """
    state = artifacts.read_json(folder / FILE)
    if not isinstance(state, dict) or "stages" not in state:
        raise UserError(f"{folder} holds no {FILE}, so it is not the folder of a run; name another")
    return state


def begin(plan: Plan) -> dict[str, Any]:
    """The state of a run of which nothing has run yet. The revisions of all that it reads are known."""
    previous = artifacts.read_json(plan.folder / FILE) or {}
    goes_on = Path(plan.recipe.source).resolve() == (plan.folder / "recipe.toml").resolve()
    return {
        "schema": 1,
        "name": plan.recipe.table.name,
        "status": "running",
        "rehearsal": plan.recipe.rehearsal,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "environment": _environment(plan),
        "changes": [*(previous.get("changes", []) if goes_on else []), *map(vars, plan.recipe.changes)],
        "stages": [_entry(plan.folder, stage) for stage in plan.stages],
    }


def _entry(folder: Path, stage: PlannedStage) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": stage.id,
        "kind": stage.kind,
        "from": stage.parent,
        "status": "pending",
        "digest": stage.digest,
        "seconds": None,
        "joules": {},
        "reason": stage.reason,
        "accounting": {},
        "metrics": {},
        "artifact": None,
    }
    if stage.status == "pending":
        return entry
    about = artifacts.read_json(folder / "stages" / stage.id / "stage.json")
    kept = {key: about[key] for key in ("seconds", "joules", "accounting", "metrics") if key in about}
    return entry | kept | {"status": "cached", "artifact": f"stages/{stage.id}"}


def describe(plan: Plan, state: dict[str, Any], others: Collection[str]) -> None:
    """Writes what a run begins with, recipe and pinned revisions beside the state; see `write`."""
    artifacts.write_text(plan.folder / "recipe.toml", plan.recipe.to_toml())
    artifacts.write_json(plan.folder / "lock.json", plan.lock)
    write(plan.folder, state, others)


def write(folder: Path, state: dict[str, Any], others: Collection[str]) -> None:
    """Writes `run.json`; to be called in an `alone` block.

    Args:
        folder: of the run.
        state: what it is to say; gets to know what other runs wrote of their stages.
        others: ids of stages that are left to other runs.
    """
    if others:
        _take_over(folder, state, others)
    artifacts.write_json(folder / FILE, state)


def _take_over(folder: Path, state: dict[str, Any], others: Collection[str]) -> None:
    written = artifacts.read_json(folder / FILE) or {}
    theirs = {stage["id"]: stage for stage in written.get("stages", []) if stage["id"] in others}
    for entry in state["stages"]:
        said = theirs.get(entry["id"], {})
        if said.get("digest") == entry["digest"] and (entry["status"] != "cached" or said["status"] == "done"):
            entry.update(said)
        if entry["status"] == "running" and entry["id"] in others and not is_running(folder, entry["id"]):
            entry.update(status="pending", reason="interrupted")  # its process died before it could say so
    state["started"] = written.get("started", state["started"])
    state["status"] = _status({entry["status"] for entry in state["stages"]})
    state["seconds"] = round(sum(entry["seconds"] or 0 for entry in state["stages"]), 1)


def _status(of_stages: set[str]) -> str:
    """What is to be said of a run whose stages several processes run."""
    if "failed" in of_stages or "running" in of_stages:
        return "failed" if "failed" in of_stages else "running"
    return "waiting" if "pending" in of_stages else "done"


def _environment(plan: Plan) -> dict[str, Any]:
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": str(plan.machine),
        "bf16": plan.machine.bf16,
        "packages": plan.lock["packages"],
    }
