"""Rows of `report.json`: every measured value, and against the base model how far it moved and how surely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.evaluation import pairing
from langadapt.evaluation.figures import Kept
from langadapt.evaluation.pairing import Key
from langadapt.evaluation.statistics import Change
from langadapt.recipe import BASE

if TYPE_CHECKING:
    from langadapt.plan import Plan


def collect_rows(plan: Plan) -> list[dict[str, Any]]:
    """Rows of all stages in the order of the run; those that can be compared with the base model say how they changed.

    Added to a row is what `pairing.changed` says of the items that both models were measured on, and `p_adjusted` over
    all that the suite measures on the model.
    """
    rows: list[dict[str, Any]] = []
    items: dict[str, dict[Key, list[Kept]]] = {}
    for stage in plan.stages:
        folder = plan.folder / "stages" / stage.id
        about = artifacts.read_json(folder / "stage.json") or {}
        rows += about.get("rows", [])
        if stage.kind == "evaluate":
            items.setdefault(stage.parent, {}).update(pairing.read_items(folder / "items.jsonl"))
    with _remembered(plan.folder / ".changes.json") as known:
        changes = {
            (model, *key[:2], metric): change
            for model, by_task in items.items()
            if model != BASE
            for key, found in by_task.items()
            for metric, change in _changes(key, items.get(BASE, {}).get(key, []), found, known).items()
        }
    for row in rows:
        change = changes.get((row["stage"], row["suite"], row["task"], row["metric"]))
        if change:
            row |= pairing.changed(row, change, against=BASE)
    pairing.adjust(rows, family=lambda row: (row["stage"], row["suite"]))
    return rows


Known = dict[str, dict[str, dict[str, Any]]]  # by what a comparison depends on, the fields of each metric's change


def _changes(key: Key, before: Sequence[Kept], after: Sequence[Kept], known: Known) -> Mapping[str, Change]:
    """Compares, or takes what an earlier report found of the same items with a scorer that gives them the same values."""
    one, other = pairing.shared([before, after])
    if not one:
        return {}
    mark = artifacts.digest([key, one, other, pairing.values(key, one), pairing.values(key, other)])
    if mark not in known:
        known[mark] = {metric: asdict(change) for metric, change in pairing.changes(key, [one], [other]).items()}
    return {metric: Change(**fields) for metric, fields in known[mark].items()}


@contextmanager
def _remembered(file: Path) -> Iterator[Known]:
    """What is known from the last report, and afterwards what is known now: thousands of scorings a task take minutes."""
    before: Known = artifacts.read_json(file) or {}
    known = dict(before)
    yield known
    if known != before:
        artifacts.write_json(file, known)
