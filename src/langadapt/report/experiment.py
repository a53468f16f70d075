"""The page of an experiment: one HTML file in the look of the report, with the question, the table, figures and costs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from langadapt import toml_lines
from langadapt.report import findings
from langadapt.report.page import environment

if TYPE_CHECKING:
    from markupsafe import Markup

    from langadapt.sweep import SweepPlan

Row = Mapping[str, Any]
FIGURES = 6  # at most: the text that a model was measured on, the target language first


def experiment_page(plan: SweepPlan, state: Row) -> str:
    """The text of `experiment.html`.

    Args:
        plan: of the experiment.
        state: what `experiment.json` says.
    """
    variants = list(dict.fromkeys(trial["variant"] for trial in state["trials"]))
    return (
        environment()
        .get_template("experiment.html.jinja")
        .render(
            state=state,
            variants=variants,
            groups=groups(state["table"]),
            figures=forests(plan, state),
            inline=toml_lines.inline,
            failed=[trial for trial in state["trials"] if trial["status"] == "failed"],
            seeds=list(dict.fromkeys(trial["seed"] for trial in state["trials"] if trial["seed"] is not None)),
            limited=any(cell["limited"] for row in state["table"] for cell in row["cells"].values()),
            command=command(plan),
            verdicts=findings.VERDICTS,
            version=metadata.version("langadapt"),
        )
    )


def groups(table: list[Row]) -> dict[str, list[Row]]:
    """Rows of the table by the model that they are of."""
    found: dict[str, list[Row]] = {}
    for row in table:
        found.setdefault(row["model"], []).append(row)
    return found


def command(plan: SweepPlan) -> str:
    """What runs the experiment again."""
    import shlex

    experiment = plan.experiment
    words = ["langadapt", "sweep", experiment.source, *(["--rehearse"] if experiment.rehearsal else [])]
    return shlex.join([*words, *(word for override in experiment.overrides for word in ("--set", override))])


def forests(plan: SweepPlan, state: Row) -> list[tuple[str, Markup]]:
    """Bits per byte of the variants, a figure for each model and text; the target language first."""
    from langadapt.report import figures

    target = plan.trials[0].plan.recipe.table.language
    rows = [
        row for row in state["table"] if row["metric"].endswith(findings.TEXT) and row["suite"] not in findings.APART
    ]
    made = []
    for number, row in enumerate(sorted(rows, key=lambda row: (row.get("language") or target) != target)[:FIGURES]):
        points = [
            figures.Point(label=name, value=cell["value"], low=cell["ci_low"], high=cell["ci_high"],
                          note=findings.change(cell) if "change" in cell else "", baseline=name == state["baseline"])
            for name, cell in row["cells"].items()
        ]  # fmt: skip
        title = f"{row['model']}: {findings.name(row['task'])}"
        label = f"{title}, bits per byte: " + "; ".join(
            f"{p.label} {findings.number(p.value)} {p.note}" for p in points
        )
        made.append((title, figures.forest(f"variants-{number}", label, points, "bits per byte, lower is better")))
    return made
