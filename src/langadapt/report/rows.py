"""Rows of `report.json`: every measured value, and against the base model how far it moved and how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    changes = {
        (model, *key[:2], metric): change
        for model, by_task in items.items()
        if model != BASE
        for key, found in by_task.items()
        for metric, change in _changes(key, items.get(BASE, {}).get(key, []), found).items()
    }
    for row in rows:
        change = changes.get((row["stage"], row["suite"], row["task"], row["metric"]))
        if change:
            row |= pairing.changed(row, change, against=BASE)
    pairing.adjust(rows, family=lambda row: (row["stage"], row["suite"]))
    return rows


def _changes(key: Key, before: Sequence[Kept], after: Sequence[Kept]) -> Mapping[str, Change]:
    one, other = pairing.shared([before, after])
    return pairing.changes(key, [one], [other]) if one else {}
