"""Rows of `report.json`: every measured value, and against the base model how far it moved and how surely."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.evaluation import statistics
from langadapt.evaluation.preferences import score_preferences
from langadapt.recipe import BASE
from langadapt.records import Answer, Item

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
            items.setdefault(stage.parent, {}).update(_items(folder / "items.jsonl"))
    changes = {
        (model, *key[:2], metric): change
        for model, by_task in items.items()
        if model != BASE
        for key, found in by_task.items()
        for metric, change in _changes(plan, key, items.get(BASE, {}).get(key, []), found).items()
    }
    for row in rows:
        change = changes.get((row["stage"], row["suite"], row["task"], row["metric"]))
        if change:
            row |= {
                "baseline": BASE,
                "change": change.value,
                "change_ci_low": change.low,
                "change_ci_high": change.high,
                "change_is_relative": row["metric"].endswith("bits_per_byte"),
            }
    return rows


def _items(file: Path) -> dict[Key, list[dict[str, Any]]]:
    found: dict[Key, list[dict[str, Any]]] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            found.setdefault((item["suite"], item["task"], item["method"]), []).append(item)
    return found


def _changes(
    plan: Plan, key: Key, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> Mapping[str, statistics.Interval]:
    earlier = {item["id"]: item for item in before}
    pairs = [(earlier[item["id"]], item) for item in after if item["id"] in earlier]
    if not pairs:
        return {}
    if "nll" in pairs[0][0]:
        metric = "answer_bits_per_byte" if pairs[0][0]["method"] == "answers" else "bits_per_byte"
        return {metric: statistics.relative_change([a["nll"] for a, _ in pairs], [b["nll"] for _, b in pairs])}
    if pairs[0][0]["method"] == "preferences":
        return statistics.paired_difference(score_preferences, [a for a, _ in pairs], [b for _, b in pairs])
    from langadapt.plugins import registry

    score = registry().evaluations[key[1]].score
    return statistics.paired_difference(
        lambda chosen: dict(score(chosen)), [_answer(a) for a, _ in pairs], [_answer(b) for _, b in pairs]
    )


def _answer(item: Mapping[str, Any]) -> Answer:
    return Answer(
        item=Item(id=item["id"], messages=(), gold=item["gold"]), text=item["text"], prediction=item["prediction"]
    )
