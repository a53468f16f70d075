"""What a run leaves to be read: `report.json`, and the page and the card that are made from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.report.card import model_card
from langadapt.report.page import page
from langadapt.report.rows import collect_rows

if TYPE_CHECKING:
    from langadapt.plan import Plan


def write_report(plan: Plan, state: dict[str, Any]) -> list[dict[str, Any]]:
    """Writes `report.json`, `report.html` and `MODEL_CARD.md`, and returns the rows that all three show.

    They tell of the stages that are done: what another version of a stage left in the folder is not shown.
    """
    done = {stage["id"] for stage in state["stages"] if stage["status"] in ("done", "cached")}
    plan = replace(plan, stages=[stage for stage in plan.stages if stage.id in done])
    rows = collect_rows(plan)
    artifacts.write_json(plan.folder / "report.json", rows)
    artifacts.write_text(plan.folder / "report.html", page(plan, state, rows))
    artifacts.write_text(plan.folder / "MODEL_CARD.md", model_card(plan, state, rows))
    return rows
