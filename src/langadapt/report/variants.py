"""The variants of an experiment side by side: what was measured of each, against the baseline, over seeds, at what cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.evaluation import pairing
from langadapt.evaluation.figures import Kept
from langadapt.evaluation.pairing import Key
from langadapt.evaluation.statistics import Change
from langadapt.evaluation.verdicts import tone

if TYPE_CHECKING:
    from langadapt.experiment import Experiment
    from langadapt.sweep import PlannedTrial

Row = dict[str, Any]
Place = tuple[str, str, str, str, str]  # model, suite, task, split, metric
SAME = ("higher_is_better", "unit", "language")  # columns that rows of a place share


def compare(experiment: Experiment, trials: Sequence[PlannedTrial]) -> list[Row]:
    """A row for every figure that is compared, with a cell for each variant that has it.

    A cell holds `value`, the mean over seeds, with `sd` (of seeds, where there are several) and `values`; `ci_low` and
    `ci_high`, the 95 % interval over items, of several seeds the mean of theirs: the items are the same, so more seeds do
    not make it narrower. Against the baseline at the same seeds it holds what `pairing.changed` says of the means over
    seeds, `p_adjusted` over all that a suite measures on a model, and `tone`, whether it is surely better or worse: when
    the test says so and no seed moved the other way.

    Args:
        experiment: which says what is compared.
        trials: that are done.
    """
    found = {planned.name: _measured(planned, experiment) for planned in trials}
    seeds: dict[str, list[PlannedTrial]] = {}
    for planned in trials:
        seeds.setdefault(planned.trial.variant, []).append(planned)
    moved = _moved(experiment, seeds)
    places = dict.fromkeys(place for rows in found.values() for place in rows)
    rows = [_row(place, seeds, found, moved) for place in places]
    for family in _families(rows):
        pairing.adjust(family, family=lambda cell: None)
        for cell in family:
            agree = len({move > 0 for move in cell.pop("moves", [])}) <= 1
            cell["tone"] = tone(cell) if agree else "unclear"
    return rows


def _families(rows: Sequence[Row]) -> list[list[Row]]:
    """The cells of one variant, model and suite together."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        for variant, cell in row["cells"].items():
            found.setdefault((variant, row["model"], row["suite"]), []).append(cell)
    return list(found.values())


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


def _items(planned: PlannedTrial) -> dict[str, dict[Key, list[Kept]]]:
    """Items of every model that was measured."""
    found: dict[str, dict[Key, list[Kept]]] = {}
    for stage in planned.plan.stages:
        if stage.kind == "evaluate":
            folder = planned.plan.folder / "stages" / stage.id
            found.setdefault(stage.parent, {}).update(pairing.read_items(folder / "items.jsonl"))
    return found


# Variant, model, suite, task, metric → how far the mean over seeds is from the baseline's, and each seed.
Moved = Mapping[tuple[str, str, str, str, str], tuple[Change, list[float]]]


def _moved(experiment: Experiment, seeds: Mapping[str, Sequence[PlannedTrial]]) -> Moved:
    """How far every metric of a variant is from the baseline's at the seeds that both have."""
    items = {v: {planned.trial.seed: _items(planned) for planned in trials} for v, trials in seeds.items()}
    baseline = items.get(experiment.baseline, {})
    moved = {}
    for variant, by_seed in items.items():
        common = [seed for seed in by_seed if seed in baseline and variant != experiment.baseline]
        for model, key in dict.fromkeys(
            (m, k) for seed in common for m, by_key in by_seed[seed].items() for k in by_key
        ):
            if experiment.table.models and model not in experiment.table.models:
                continue
            sides = [[side[seed].get(model, {}).get(key, []) for seed in common] for side in (baseline, by_seed)]
            shared = pairing.shared([run for side in sides for run in side])
            if not shared[0]:
                continue
            before, after = shared[: len(common)], shared[len(common) :]
            values = [[pairing.values(key, run) for run in side] for side in (before, after)]
            for metric, change in pairing.changes(key, before, after).items():
                moves = [second[metric] - first[metric] for first, second in zip(*values, strict=True)]
                moved[variant, model, *key[:2], metric] = (change, moves)
    return moved


# --- side by side -----------------------------------------------------------------------------------------------------


def _row(
    place: Place, seeds: Mapping[str, Sequence[PlannedTrial]], found: Mapping[str, Mapping[Place, Row]], moved: Moved
) -> Row:
    model, suite, task, split, metric = place
    row: Row = {"model": model, "suite": suite, "task": task, "split": split, "metric": metric, "cells": {}}
    for variant, trials in seeds.items():
        rows = [found[planned.name][place] for planned in trials if place in found[planned.name]]
        if rows:
            row |= {column: rows[0].get(column) for column in SAME}
            row["cells"][variant] = _cell(rows, moved.get((variant, model, suite, task, metric)))
    return row


def _cell(rows: Sequence[Row], moved: tuple[Change, list[float]] | None) -> Row:
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
    if moved is None:
        return cell
    change, moves = moved
    told = pairing.changed(rows[0], change, against="")
    told.pop("baseline")  # the experiment says it once for all
    return cell | told | {"moves": moves}
