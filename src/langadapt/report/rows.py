"""Rows of `report.json`: every measured value, and against the base model how far it moved and how surely."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.evaluation import statistics
from langadapt.evaluation.methods import method
from langadapt.recipe import BASE

if TYPE_CHECKING:
    from langadapt.plan import Plan

Key = tuple[str, str, str]  # suite, task and method


def collect_rows(plan: Plan) -> list[dict[str, Any]]:
    """Rows of all stages in the order of the run; those that can be compared with the base model say how they changed.

    Added to a row: `change` with `change_ci_low` and `change_ci_high` (paired bootstrap over the items that both models
    were measured on) and `change_is_relative` (a share of the base's value for bits per byte, a difference otherwise).
    """
    rows: list[dict[str, Any]] = []
    items: dict[str, dict[Key, list[dict[str, Any]]]] = {}
    for stage in plan.stages:
        folder = plan.folder / "stages" / stage.id
        about = artifacts.read_json(folder / "stage.json") or {}
        rows += about.get("rows", [])
        if stage.kind == "evaluate":
            items.setdefault(stage.parent, {}).update(read_items(folder / "items.jsonl"))
    moved = {
        (model, *key[:2], metric): change
        for model, by_task in items.items()
        if model != BASE
        for key, found in by_task.items()
        for metric, change in changes(key, items.get(BASE, {}).get(key, []), found).items()
    }
    for row in rows:
        change = moved.get((row["stage"], row["suite"], row["task"], row["metric"]))
        if change:
            row |= {
                "baseline": BASE,
                "change": change.value,
                "change_ci_low": change.low,
                "change_ci_high": change.high,
                "change_is_relative": row["metric"].endswith("bits_per_byte"),
            }
    return rows


def read_items(file: Path) -> dict[Key, list[dict[str, Any]]]:
    """The items of an `items.jsonl`; none where it is not there."""
    found: dict[Key, list[dict[str, Any]]] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            found.setdefault((item["suite"], item["task"], item["method"]), []).append(item)
    return found


def changes(
    key: Key, before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]
) -> Mapping[str, statistics.Interval]:
    """How far every metric moved, over the items that both models were measured on."""
    earlier = {item["id"]: item for item in before}
    pairs = [(earlier[item["id"]], item) for item in after if item["id"] in earlier]
    if not pairs:
        return {}
    _, task, how = key
    return method(how).changes([a for a, _ in pairs], [b for _, b in pairs], task)
