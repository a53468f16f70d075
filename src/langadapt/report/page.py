"""The report page: one HTML file that needs nothing else, made from plan, state, rows and the files of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from langadapt.plugins import registry
from langadapt.recipe import BASE
from langadapt.report import answers, comparability, findings, troubles
from langadapt.report.cost import cost, energy
from langadapt.translation.checking import SAYS

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from langadapt.plan import Plan, PlannedStage

Row = Mapping[str, Any]


def page(plan: Plan, state: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The text of `report.html`.

    Args:
        plan: of the run; its folder is read for curves and answers.
        state: what `run.json` says.
        rows: what `report.json` says.
    """
    items, languages = answers.asked(plan), {row["task"]: row.get("language") or "" for row in rows}
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            **findings.words(plan, state, rows),
            rows=rows,
            verdicts=findings.VERDICTS,
            limited=[row for row in rows if row.get("limited")],
            failed=[stage for stage in state["stages"] if stage["status"] == "failed"],
            cached=sum(stage["status"] == "cached" for stage in state["stages"]),
            notes=[(stage.id, note) for stage in plan.stages if stage.kind != "evaluate" for note in stage.notes],
            certificate_rows=[row for row in rows if row["suite"] == findings.MERGE],
            troubles=troubles.troubles(plan, state, rows),
            conditions=comparability.conditions(plan, rows),
            tokenised=comparability.tokenised(plan, rows),
            frontier=frontier(plan, rows),
            forests=forests(plan, rows),
            spreads=spreads(plan),
            signal_words=SAYS,
            curves=training_curves(plan),
            flows=flows(state),
            mixes=mixes(state),
            screened=screened(state),
            examples=answers.examples(items, languages),
            confusions=answers.confusions(items),
            tree=list(tree(plan, state)),
            cost=cost(plan, state["stages"]),
            recipe=plan.recipe.to_toml(),
            languages=languages,
        )
    )


@cache
def environment() -> Environment:
    """What pages are made with: the templates beside this file, compiled once, and the words for figures as filters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(findings.TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    words = (findings.change, findings.change_interval, findings.tone, energy, comparability.windows)
    made.filters |= {f.__name__: f for f in (*findings.FILTERS, *words)}
    return made


# --- figures ----------------------------------------------------------------------------------------------------------


def frontier(plan: Plan, rows: Sequence[Row]) -> tuple[Markup, list[str]] | None:
    """Gain in the target language against loss in the source language: a figure, and what it shows, model by model.

    Each language is that of the text which most models were measured on; None where no model was measured on both.
    """
    from langadapt.report import figures

    target = plan.recipe.table.language
    language = registry().languages.get(target)
    gains = _most_measured(rows, target, target)
    losses = _most_measured(rows, language.source_language, target) if language else {}
    both = [model for model in findings.models_of(plan, gains.values()) if model in losses]
    if not both:
        return None
    gained, lost = (findings.text_of(plan, found[both[0]]) for found in (gains, losses))
    said = [f"{model}: {gained} {_moved(gains[model])}, {lost} {_moved(losses[model])}" for model in both]
    places = [figures.Place(label=m, x=_percent(gains[m], sign=-1), y=_percent(losses[m], sign=1)) for m in both]
    axes = (f"% fewer bits per byte of {gained}", "% more of source-language text")
    return figures.frontier("frontier", "Gain and forgetting. " + "; ".join(said), places, axes), said


def _most_measured(rows: Sequence[Row], tag: str, target: str) -> dict[str, Row]:
    """Rows by model of the text in a language that most models were compared with the base on."""
    texts: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        compared = row["metric"] == findings.TEXT and row.get("change") is not None
        if compared and (row.get("language") or target) == tag:
            texts.setdefault((row["suite"], row["task"]), {})[row["stage"]] = row
    return max(texts.values(), key=len, default={})


def _percent(row: Row, *, sign: int) -> tuple[float, float, float]:
    """A relative change with its interval in percent; -1 turns a change of bits per byte into what is gained."""
    change, *bounds = (row[key] for key in ("change", "change_ci_low", "change_ci_high"))
    low, high = sorted(sign * 100 * (change if bound is None else bound) for bound in bounds)
    return sign * 100 * change, low, high


def _moved(row: Row) -> str:
    interval = findings.change_interval(row)
    return findings.change(row) + (f" ({interval})" if interval else "")


def forests(plan: Plan, rows: Sequence[Row]) -> list[tuple[str, Markup]]:
    """Each text that bits per byte were measured on, with a figure of all models; the target language first."""
    from langadapt.report import figures

    target = plan.recipe.table.language
    texts: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.get("language") or target) != target):
        if row["metric"] == findings.TEXT and row["ci_low"] is not None and figures.finite(row["value"]):
            texts.setdefault((row.get("language") or "", row["task"]), []).append(row)
    made: list[tuple[str, Markup]] = []
    for found in texts.values():
        text = findings.text_of(plan, found[0])
        label = f"Bits per byte of {text}: " + "; ".join(_said(row) for row in found)
        points = [_point(row) for row in found]
        window = comparability.windows(found[0])
        axis = f"bits per byte{f' ({window})' if window else ''}, lower is better"
        made.append(
            (
                text[0].upper() + text[1:],
                figures.forest(f"forest-{len(made)}", label, points, axis),
            )
        )
    return made


def _point(row: Row) -> Any:
    from langadapt.report.figures import Point

    note = findings.change(row) if row.get("change") is not None else ""
    return Point(label=row["stage"], value=row["value"], low=row["ci_low"], high=row["ci_high"], note=note,
                 baseline=row["stage"] == BASE)  # fmt: skip


def _said(row: Row) -> str:
    low, high = findings.number(row["ci_low"]), findings.number(row["ci_high"])
    said = f"{row['stage']} {findings.number(row['value'])} (95 % interval {low} to {high})"
    return (
        said
        if row.get("change") is None
        else f"{said}, {findings.change(row)}, {findings.VERDICTS[findings.tone(row)]}"
    )


def training_curves(plan: Plan) -> list[tuple[str, str, Markup]]:
    """Stage, what its curve shows in words, and the figure, for each stage that logged steps."""
    from langadapt.report import figures

    found = figures.read_steps(plan.folder / "events.jsonl")
    made = []
    for stage in plan.stages:
        steps = found.get(stage.id, [])
        losses = [step["loss"] for step in steps if figures.finite(step["loss"])]
        if losses:
            first, last = (findings.number(losses[place]) for place in (0, -1))
            said = f"loss {first} at step {steps[0]['step']}, {last} at step {steps[-1]['step']}"
            label = f"Training of {stage.id}: {said}"
            made.append((stage.id, said, figures.curves(f"curve-{stage.id}", label, steps)))
    return made


SPREAD = {
    "length": "characters for each of the source's",
    "adequacy": "cosine of meanings, higher is better",
    "fluency": "bits a character above the language's own text, lower is better",
    "round-trip": "chrF of the source with its back-translation, higher is better",
}


def spreads(plan: Plan) -> dict[str, list[tuple[str, Markup]]]:
    """By stage, how the signals of its translations are spread: what is drawn in words, and the figure."""
    from langadapt.report import figures

    made: dict[str, list[tuple[str, Markup]]] = {}
    for found in findings.translations(plan):
        for name, axis in SPREAD.items():
            if spread := found.quality["signals"].get(name):
                said = f"{name}: median {spread['p50']:g}, 5 % below {spread['p05']:g}, 5 % above {spread['p95']:g}"
                figure = figures.histogram(f"spread-{found.stage}-{name}", said, spread["histogram"], axis)
                made.setdefault(found.stage, []).append((said, figure))
    return made


# --- where the data went ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Where one kind of thing that a stage read went, part by part."""

    unit: str
    read: int
    parts: Sequence[tuple[str, int, str]]

    @property
    def adds_up(self) -> bool:
        return self.read == sum(count for _, count, _ in self.parts)


def flows(state: Mapping[str, Any]) -> dict[str, list[Flow]]:
    """Documents, bytes and tokens of every stage that kept accounts."""
    made = {}
    for stage in state["stages"]:
        accounting = stage.get("accounting") or {}
        counted = [_flow(unit, counts) for unit, counts in accounting.items() if "read" in counts]
        if counted:
            made[stage["id"]] = counted
    return made


def mixes(state: Mapping[str, Any]) -> dict[str, list[tuple[Mapping[str, Any], float]]]:
    """What each corpus gave to every stage that mixed several, with its share of what all of them gave."""
    made = {}
    for stage in state["stages"]:
        given = (stage.get("accounting") or {}).get("mix", [])
        if len(given) > 1:
            total = sum(one["drawn"] for one in given) or 1
            made[stage["id"]] = [(one, one["drawn"] / total) for one in given]
    return made


def screened(state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What was found of evaluations in the corpora of every stage that trained, see `contamination.Findings`."""
    found = {stage["id"]: (stage.get("accounting") or {}).get("contamination") for stage in state["stages"]}
    return {stage: table for stage, table in found.items() if table}


def _flow(unit: str, counts: Mapping[str, Any]) -> Flow:
    names = {"kept": "used", "trained": "used", "held_out": "held"}
    parts = [(name.replace("_", " "), counts[name], css) for name, css in names.items() if name in counts]
    more = [
        f", of which {findings.number(n)} {name}"
        for name, n in counts.items()
        if name not in (*names, "read", "dropped")
    ]
    parts[:1] = [(parts[0][0] + "".join(more), *parts[0][1:])]
    parts += [(reason, count, "dropped") for reason, count in counts.get("dropped", {}).items()]
    return Flow(unit=unit, read=counts["read"], parts=parts)


# --- the tree ---------------------------------------------------------------------------------------------------------


def tree(
    plan: Plan, state: Mapping[str, Any], parent: str = BASE, depth: int = 0
) -> Iterable[tuple[PlannedStage, Row, int]]:
    """Stages below their parents, each with what `run.json` says of it and its depth."""
    entries = {stage["id"]: stage for stage in state["stages"]}
    for stage in plan.stages:
        if stage.parent == parent:
            yield stage, entries.get(stage.id, {}), depth
            yield from tree(plan, state, stage.id, depth + 1)
