"""What two models did on the same items, put side by side: from `items.jsonl` to values and changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langadapt.evaluation import statistics
from langadapt.evaluation.figures import Kept, Runs
from langadapt.evaluation.methods import method
from langadapt.evaluation.preferences import CHANCE
from langadapt.evaluation.statistics import Change

Key = tuple[str, str, str]  # suite, task and method
Row = Mapping[str, Any]  # of `report.json`


def read_items(file: Path) -> dict[Key, list[Kept]]:
    """Every line of an `items.jsonl` by what was measured; nothing where there is no such file."""
    found: dict[Key, list[Kept]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        item = json.loads(line)
        found.setdefault((item["suite"], item["task"], item["method"]), []).append(item)
    return found


def shared(runs: Sequence[Sequence[Kept]]) -> list[list[Kept]]:
    """The results of the items that all runs have, in the order of the first."""
    by_id = [{item["id"]: item for item in run} for run in runs]
    ids = [id for id in by_id[0] if all(id in other for other in by_id)]
    return [[found[id] for id in ids] for found in by_id]


def values(key: Key, items: Sequence[Kept]) -> dict[str, float]:
    """What one model scores on items, by metric."""
    return method(key[2]).figures.values(items, key[1])


def changes(key: Key, before: Runs, after: Runs) -> dict[str, Change]:
    """How far one model is from another by metric, see `Figures.changes`."""
    return method(key[2]).figures.changes(before, after, key[1])


def changed(row: Row, change: Change, *, against: str) -> dict[str, Any]:
    """What `report.json` says of a row's change; `adjust` adds how sure it is among others."""
    chance = row.get("chance", CHANCE.get(row["metric"]))
    several = row["n"] > 1
    gain = {} if chance is None else {"normalised_gain": change.value / (1 - chance)}
    return {
        "baseline": against,
        "change": change.value,
        "change_ci_low": change.low if several else None,
        "change_ci_high": change.high if several else None,
        "change_is_relative": row["metric"].endswith("bits_per_byte"),
        "p_value": change.p_value,
        "effect_size": change.effect_size,
        "detectable": change.detectable,
        **gain,
    }


def adjust(rows: Sequence[dict[str, Any]], family: Callable[[Row], Any]) -> None:
    """Adds `p_adjusted` to rows with a `p_value`: Holm's correction among those of one family."""
    families: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        if "p_value" in row:
            families.setdefault(family(row), []).append(row)
    for members in families.values():
        for row, adjusted in zip(members, statistics.holm([row["p_value"] for row in members]), strict=True):
            row["p_adjusted"] = adjusted
