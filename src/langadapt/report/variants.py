"""The variants of an experiment side by side: what was measured of each, against the baseline, over seeds, at what cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.report.findings import tone
from langadapt.report.rows import Key, changes, read_items

if TYPE_CHECKING:
    from langadapt.experiment import Experiment
    from langadapt.sweep import PlannedTrial

Row = dict[str, Any]
Place = tuple[str, str, str, str, str]  # model, suite, task, split, metric
SAME = ("higher_is_better", "unit", "language")  # columns that rows of a place share


def compare(experiment: Experiment, trials: Sequence[PlannedTrial]) -> list[Row]:
    """A row for every figure that is compared, with a cell for each variant that has it.

    A cell holds `value`, the mean over seeds, with `sd` (of seeds, where there are several) and `values`; `ci_low` and
    `ci_high`, the 95 % interval over items; and against the baseline at the same seeds `change` with `change_sd`,
    `change_ci_low` and `change_ci_high` (paired, over items) and `tone`, whether it is surely better or worse. Intervals of
    several seeds are the means of theirs: the items are the same, so more seeds do not make them narrower. A change is
    sure when its interval says so and no seed moved the other way.

    Args:
        experiment: which says what is compared.
        trials: that are done.
    """
    found = {planned.name: _measured(planned, experiment) for planned in trials}
    moved = _moved(experiment, trials)
    seeds: dict[str, list[PlannedTrial]] = {}
    for planned in trials:
        seeds.setdefault(planned.trial.variant, []).append(planned)
    places = dict.fromkeys(place for rows in found.values() for place in rows)
    return [_row(place, seeds, found, moved) for place in places]


def costs(planned: PlannedTrial) -> dict[str, Any]:
    """What a trial took, stages that another one made for it included: seconds, tokens trained on, tokens a second of
    training, bytes of main and GPU memory at the peak of a training.
    """
    state = artifacts.read_json(planned.plan.folder / "run.json")
    stages = state["stages"]
    trained = [stage["accounting"]["tokens"]["trained"] for stage in stages if stage["accounting"].get("tokens")]
    paces = [stage["metrics"].get("tokens_per_second") for stage in stages if stage["accounting"].get("tokens")]
    paced = [(tokens, pace) for tokens, pace in zip(trained, paces, strict=True) if tokens and pace]
    return {
        "seconds": round(sum(stage["seconds"] or 0 for stage in stages), 1),
        "tokens": sum(trained),
        "tokens_per_second": sum(t for t, _ in paced) / sum(t / pace for t, pace in paced) if paced else None,
        "peak_memory": _most(stages, "peak_memory"),
        "peak_gpu_memory": _most(stages, "peak_gpu_memory"),
        "shared": {stage["id"]: stage["reason"] for stage in stages if stage["reason"].startswith("made by ")},
    }


def _most(stages: Sequence[Row], name: str) -> int:
    return max((stage["metrics"].get(name) or 0 for stage in stages), default=0)


# --- what was measured ------------------------------------------------------------------------------------------------


def _measured(planned: PlannedTrial, experiment: Experiment) -> dict[Place, Row]:
    rows = artifacts.read_json(planned.plan.folder / "report.json")
    return {_place(row): row for row in rows if _wanted(row, experiment)}


def _place(row: Row) -> Place:
    return row["stage"], row["suite"], row["task"], row["split"], row["metric"]


def _wanted(row: Row, experiment: Experiment) -> bool:
    models, measures = experiment.table.models, experiment.table.measures
    named = {row["suite"], row["task"], row["metric"]}
    return (not models or row["stage"] in models) and (not measures or bool(named & set(measures)))


def _items(planned: PlannedTrial) -> dict[str, dict[Key, list[Row]]]:
    """Items of every model that was measured."""
    found: dict[str, dict[Key, list[Row]]] = {}
    for stage in planned.plan.stages:
        if stage.kind == "evaluate":
            folder = planned.plan.folder / "stages" / stage.id
            found.setdefault(stage.parent, {}).update(read_items(folder / "items.jsonl"))
    return found


Moved = Mapping[tuple[str, str, str, str, str], Any]  # trial, model, suite, task, metric → interval of the change


def _moved(experiment: Experiment, trials: Sequence[PlannedTrial]) -> Moved:
    """How far every metric of a trial is from the baseline's with the same seed."""
    baselines = {p.trial.seed: _items(p) for p in trials if p.trial.variant == experiment.baseline}
    moved = {}
    for planned in trials:
        baseline = baselines.get(planned.trial.seed)
        if planned.trial.variant == experiment.baseline or baseline is None:
            continue
        for model, by_key in _items(planned).items():
            if experiment.table.models and model not in experiment.table.models:
                continue
            for key, items in by_key.items():
                for metric, change in changes(key, baseline.get(model, {}).get(key, []), items).items():
                    moved[planned.name, model, *key[:2], metric] = change
    return moved


# --- side by side -----------------------------------------------------------------------------------------------------


def _row(
    place: Place, seeds: Mapping[str, Sequence[PlannedTrial]], found: Mapping[str, Mapping[Place, Row]], moved: Moved
) -> Row:
    model, suite, task, split, metric = place
    row: Row = {"model": model, "suite": suite, "task": task, "split": split, "metric": metric, "cells": {}}
    for variant, trials in seeds.items():
        there = [planned.name for planned in trials if place in found[planned.name]]
        if there:
            rows = [found[name][place] for name in there]
            row |= {column: rows[0].get(column) for column in SAME}
            changed = [moved[name, model, suite, task, metric] for name in there if (name, *place[:3], metric) in moved]
            row["cells"][variant] = _cell(rows, changed)
    return row


def _cell(rows: Sequence[Row], changed: Sequence[Any]) -> Row:
    values = [row["value"] for row in rows]
    lows, highs = ([row[key] for row in rows] for key in ("ci_low", "ci_high"))
    cell: Row = {
        "value": statistics.fmean(values),
        "values": values,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "n": rows[0]["n"],
        "ci_low": None if None in lows else statistics.fmean(lows),
        "ci_high": None if None in highs else statistics.fmean(highs),
        "higher_is_better": rows[0]["higher_is_better"],
        "limited": any(row.get("limited") for row in rows),
        "undecoded": sum(row.get("undecoded") or 0 for row in rows),
    }
    if changed:
        moves = [change.value for change in changed]
        cell |= {
            "change": statistics.fmean(moves),
            "change_sd": statistics.stdev(moves) if len(moves) > 1 else None,
            "change_ci_low": statistics.fmean(change.low for change in changed),
            "change_ci_high": statistics.fmean(change.high for change in changed),
            "change_is_relative": rows[0]["metric"].endswith("bits_per_byte"),
        }
    agree = len({move > 0 for move in moves}) == 1 if changed else True
    return cell | {"tone": tone(cell) if agree else "unclear"}
