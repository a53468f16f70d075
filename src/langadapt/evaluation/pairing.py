"""What two models did on the same items, put side by side: from `items.jsonl` to values and changes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langadapt.errors import UserError
from langadapt.evaluation import statistics
from langadapt.evaluation.preferences import CHANCE, score_preferences
from langadapt.evaluation.statistics import Change, Score
from langadapt.records import Answer, Item

Key = tuple[str, str, str]  # suite, task and method
Result = Mapping[str, Any]  # a line of `items.jsonl`: what a model did on one item
Row = Mapping[str, Any]  # of `report.json`

_TOTALS = {"text": "bits_per_byte", "answers": "answer_bits_per_byte"}  # metrics that are a ratio of totals, by method


def read_items(file: Path) -> dict[Key, list[Result]]:
    """Every line of an `items.jsonl` by what was measured; nothing where there is no such file."""
    found: dict[Key, list[Result]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        item = json.loads(line)
        found.setdefault((item["suite"], item["task"], item["method"]), []).append(item)
    return found


def shared(runs: Sequence[Sequence[Result]]) -> list[list[Result]]:
    """The results of the items that all runs have, in the order of the first."""
    by_id = [{item["id"]: item for item in run} for run in runs]
    ids = [id for id in by_id[0] if all(id in other for other in by_id)]
    return [[found[id] for id in ids] for found in by_id]


def values(key: Key, items: Sequence[Result]) -> dict[str, float]:
    """What one model scores on items, by metric."""
    if key[2] in _TOTALS:
        bits = math.fsum(item["nll"] for item in items) / math.log(2)
        return {_TOTALS[key[2]]: bits / sum(item["bytes"] for item in items)}
    read, score = _scoring(key)
    return score([read(item) for item in items])


def changes(
    key: Key, before: Sequence[Sequence[Result]], after: Sequence[Sequence[Result]]
) -> dict[str, statistics.Change]:
    """How far one model is from another by metric: a share for bits per byte, a difference for other metrics.

    Args:
        key: what was measured.
        before: a model's results, in the same order of items for each of its runs (those of several seeds, or one).
        after: the other model's, of the same items and of as many runs. What is compared are the means over runs.

    Items that say of what `cluster` they are (one passage, one word) are resampled and swapped with the others of it.
    """
    clusters = [item.get("cluster", item["id"]) for item in before[0]]
    if key[2] in _TOTALS:
        nats = [
            [math.fsum(i["nll"] for i in runs) / len(runs) for runs in zip(*side, strict=True)]
            for side in (before, after)
        ]
        return {_TOTALS[key[2]]: statistics.relative_change(*nats, clusters=clusters)}
    read, score = _scoring(key)
    first, second = (list(zip(*([read(i) for i in run] for run in side), strict=True)) for side in (before, after))
    return statistics.paired_difference(_over_runs(score), first, second, clusters=clusters)


def changed(row: Row, change: Change, *, against: str) -> dict[str, Any]:
    """What `report.json` says of a row's change; `adjust` adds how sure it is among others."""
    chance = row.get("chance", CHANCE.get(row["metric"]))
    gain = {} if chance is None else {"normalised_gain": change.value / (1 - chance)}
    return {
        "baseline": against,
        "change": change.value,
        "change_ci_low": change.low,
        "change_ci_high": change.high,
        "change_is_relative": row["metric"] in _TOTALS.values(),
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


def _scoring(key: Key) -> tuple[Callable[[Result], Any], Score]:
    """How a task's results are read, and scored once they are read."""
    if key[2] == "preferences":
        return dict, score_preferences
    from langadapt.plugins import registry

    known = registry().evaluations
    score = known[key[1]].score if key[1] in known else None
    if score is None:
        raise UserError(f"no plugin that is installed here scores {key[1]}")
    return _answer, lambda answers: dict(score(answers))


def _over_runs(score: Score) -> Score:
    """The mean of a score over runs, for items that are a tuple of each run's result."""

    def mean(items: Sequence[tuple[Any, ...]]) -> dict[str, float]:
        scores = [score(run) for run in zip(*items, strict=True)]
        return {name: math.fsum(s[name] for s in scores) / len(scores) for name in scores[0]}

    return mean


def _answer(item: Result) -> Answer:
    return Answer(
        item=Item(id=item["id"], messages=(), gold=item["gold"]), text=item["text"], prediction=item["prediction"]
    )
