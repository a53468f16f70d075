"""What went wrong in a run or was left out of it, in words; a run that finished may have troubles too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langadapt.report.figures import read_events

if TYPE_CHECKING:
    from langadapt.plan import Plan

Row = Mapping[str, Any]


def troubles(plan: Plan, state: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Warnings of the plan, then what the stages met with; failed stages are told elsewhere."""
    return [*plan.warnings, *_met(plan, state), *_skipped(state), *_no_numbers(rows)]


def _met(plan: Plan, state: Mapping[str, Any]) -> Iterable[str]:
    events = read_events(plan.folder / "events.jsonl")
    for stage in state["stages"]:
        starts, warnings = _since_begun(events, stage)
        yield from (f"{stage['id']}: {warning}." for warning in warnings)
        if stage["status"] == "pending" and stage["reason"] == "interrupted":
            yield f"{stage['id']} was interrupted and is not done."
        elif starts > 1:
            yield (
                f"{stage['id']} was started {starts} times before it was done; time, speed and energy are those of the "
                "last start."
            )


def _since_begun(events: Iterable[Mapping[str, Any]], stage: Mapping[str, Any]) -> tuple[int, list[str]]:
    """How often a stage was started as what it is now, and what it warned of since then."""
    starts, digest = 0, ""
    warnings: dict[str, None] = {}
    for event in events:
        if event["event"] == "stage" and event.get("id") == stage["id"] and event.get("status") == "running":
            if event["digest"] != digest:
                starts, digest, warnings = 0, event["digest"], {}
            starts += 1
        elif event["event"] == "warning" and event["stage"] == stage["id"]:
            warnings[event["message"]] = None
    return (starts, list(warnings)) if digest == stage["digest"] else (0, [])


def _skipped(state: Mapping[str, Any]) -> Iterable[str]:
    found: dict[tuple[str, int], list[str]] = {}
    for stage in state["stages"]:
        for what, count in (stage["metrics"].get("skipped") or {}).items():
            found.setdefault((what, count), []).append(stage["id"])
    for (what, count), stages in found.items():
        yield f"Not measured: {what} ({count:,} in {', '.join(stages)})."


def _no_numbers(rows: Sequence[Row]) -> Iterable[str]:
    odd = [row for row in rows if row["value"] is None or not math.isfinite(row["value"])]
    for row in odd:
        yield f"{row['metric'].replace('_', ' ')} of {row['stage']} on {row['task']} is not a number."
