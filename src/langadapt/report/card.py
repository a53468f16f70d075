"""The model card: `MODEL_CARD.md` in the Hugging Face hub's format."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langadapt.recipe import BASE
from langadapt.report import comparability, findings
from langadapt.report.cost import cost, energy
from langadapt.report.findings import Row

if TYPE_CHECKING:
    from langadapt.plan import Plan


# Keys of a row that say how its value came about and how sure it is.
_ARGS = ("n", "ci_low", "ci_high", "change", "change_ci_low", "change_ci_high", "window", "stride", "limited")


def model_card(plan: Plan, state: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The text of `MODEL_CARD.md`: metadata that the hub reads, then the whole chain."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(findings.TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {f.__name__: f for f in (*findings.FILTERS, energy)} | {"plain": _plain, "code": _code}
    text = environment.get_template("card.md.jinja").render(
        **findings.words(plan, state, rows),
        cell=_cell,
        conditions=comparability.conditions(plan, rows),
        cost=cost(plan, state["stages"]),
        recipe=_without_folders(plan.recipe.to_toml()),
    )
    return f"---\n{_metadata(plan, state, rows)}\n---\n\n{text.strip()}\n"


def _metadata(plan: Plan, state: Mapping[str, Any], rows: Sequence[Row]) -> str:
    from huggingface_hub import ModelCardData

    table, licence = plan.recipe.table, plan.base.licence
    languages = [table.language, *(r["language"] for r in rows if r["metric"] == findings.TEXT and r.get("language"))]
    kinds = [stage.kind for stage in plan.stages if stage.kind != "evaluate"]
    data = [source.repo for source in findings.sources(plan) if source.trained and source.repo]
    return ModelCardData(
        language=list(dict.fromkeys(languages)),
        license=licence or "unknown",
        base_model=plan.base.reference if plan.base.kind == "hub" else None,
        datasets=list(dict.fromkeys(data)) or None,
        pipeline_tag="text-generation",
        library_name="transformers",
        tags=list(dict.fromkeys(["langadapt", *kinds, *(["rehearsal"] if state.get("rehearsal") else [])])),
        model_name=table.name,
        eval_results=_results(plan, rows) or None,
    ).to_yaml()


def _results(plan: Plan, rows: Sequence[Row]) -> list[Any]:
    """Measured values of all models but the base; the metric's name says of which.

    The hub keeps what belongs to a data set once for all its metrics, so the model and the interval are in the metric.
    """
    from huggingface_hub import EvalResult

    repos = {source.label: source for source in findings.sources(plan) if source.repo and source.commit}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=repos[row["task"]].repo if row["task"] in repos else findings.name(row["task"]),
            dataset_name=findings.name(row["task"]),
            dataset_config=row["suite"],
            dataset_split=row["split"],
            dataset_revision=repos[row["task"]].commit if row["task"] in repos else None,
            metric_type=row["metric"],
            metric_name=f"{row['metric']} of {row['stage']}, n = {row['n']}{', of a part' if row.get('limited') else ''}",
            metric_value=row["value"],
            metric_args={key: row[key] for key in _ARGS if isinstance(row.get(key), int | float)},
        )
        for row in findings.compared(rows)
        if row["stage"] != BASE and row["value"] is not None and math.isfinite(row["value"])
    ]


def _without_folders(toml: str) -> str:
    """A recipe without the folders of somebody's machine: of every path in it the last part."""
    return re.sub(r'(["\'])(?:[/~]|[A-Za-z]:\\)[^"\'\n]*[/\\]([^"\'\n]+)\1', r"\1\2\1", toml)


def _cell(row: Row) -> str:
    """A value and its change, for the card's table."""
    if row.get("change") is None:
        return findings.number(row["value"])
    interval = findings.change_interval(row)
    mark = {"better": "▲", "worse": "▼", "neither": "↔"}.get(findings.tone(row), "≈")
    return f"{findings.number(row['value'])}<br>{mark} {findings.change(row)}" + (f"<br>{interval}" if interval else "")


def _plain(value: Any) -> str:
    """Text that stays text in Markdown, inside a table too."""
    escaped = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\`*_[]|":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped


def _code(value: Any) -> str:
    """A code span."""
    return "`" + " ".join(str(value).split()).replace("`", "'").replace("|", "\\|") + "`"
