"""How plans, plugins and results look on a screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from langadapt.plan import Plan
    from langadapt.plugins import Plugin
    from langadapt.run import Run


def heading(plan: Plan, console: Console) -> None:
    """Two lines before a run starts."""
    what = "rehearsal of " if plan.recipe.rehearsal else ""
    console.print(f"[bold]{what}{plan.recipe.table.name}[/bold] → {plan.folder}", highlight=False)
    console.print(f"  {plan.base.reference} on {plan.machine}", highlight=False, markup=False)
    for warning in plan.warnings:
        console.print(Text(f"  {warning}", style="yellow"))


def plan(plan: Plan, console: Console) -> None:
    """The whole plan."""
    recipe, base = plan.recipe, plan.base
    heading(plan, console)
    size = f"{base.shape.parameters / 1e6:,.0f} M parameters" if base.shape else "size unknown"
    fetch = f", {base.download / 1e9:.1f} GB to fetch" if base.download else ", at hand"
    gate = ", gated" if base.gated else ""
    console.print(f"  base model: {size}, licence {base.licence}{gate}{fetch}", highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, justify in (("stage", "left"), ("kind", "left"), ("from", "left"), ("", "left"), ("steps", "right"), ("tokens", "right"),
                          ("memory", "right"), ("disk", "right"), ("time here", "right"), ("on 1 A100", "right")):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for stage in plan.stages:
        estimate = stage.estimate
        table.add_row(
            stage.id, stage.kind, stage.parent, stage.status, _count(stage.steps), _count(stage.tokens), _bytes(estimate.peak),
            _bytes(estimate.disk), _time(estimate.seconds), _time(estimate.reference_seconds),
        )  # fmt: skip
    console.print(table)
    console.print("  memory, disk and time are estimates by formula (docs/reference.md)", style="dim", highlight=False)
    _inputs(plan, console)
    for stage in plan.stages:
        for note in stage.notes:
            console.print(Text(f"  {stage.id}: {note}", style="dim"))
        if stage.status == "pending" and stage.reason != "not done yet":
            console.print(f"  {stage.id} runs again: {stage.reason}", highlight=False, markup=False)
    if recipe.changes:
        console.print("changed from what the recipe says:", style="bold")
        for change in recipe.changes:
            console.print(f"  {change.key}: {_short(change.before)} → {_short(change.after)}  ({change.why})", highlight=False, markup=False)
    for problem in plan.problems:
        console.print(Text(f"in the way: {problem}", style="red"))


def plugins(found: Iterable[Plugin], console: Console) -> None:
    """Every plugin with what it offers, or its error."""
    for plugin in found:
        console.print(f"[bold]{plugin.name}[/bold]  {plugin.distribution} {plugin.version}  [dim]{plugin.file}[/dim]", highlight=False)
        if plugin.error:
            console.print(Text(f"  could not be loaded: {plugin.error}", style="red"))
        for word, names in plugin.offers.items():
            console.print(f"  {word}: {', '.join(names)}", highlight=False, markup=False)


def results(run: Run, console: Console) -> None:
    """The table before and after, and where the rest is."""
    state = run.state
    stages = [s["id"] for s in state["stages"] if s["kind"] != "evaluate"]
    measured = [name for name in ("base", *stages) if any(r["stage"] == name for r in run.rows if r["suite"] != "merge")]
    table = Table(header_style="bold", title="before and after" if len(measured) > 1 else None, title_justify="left")
    for column in ("measured on", "metric", "n"):
        table.add_column(column)
    for name in measured:
        table.add_column(name, justify="right")
    for key in dict.fromkeys((r["suite"], r["task"], r["metric"]) for r in run.rows if r["suite"] != "merge"):
        rows = {r["stage"]: r for r in run.rows if (r["suite"], r["task"], r["metric"]) == key}
        some = next(iter(rows.values()))
        better = " ↓" if not some["higher_is_better"] else " ↑"
        task = f"{some['task']} ({some['split'].replace('_', ' ')})"
        table.add_row(task, some["metric"] + better, str(some["n"]), *(_cell(rows.get(name)) for name in measured))
    console.print(table)
    for row in run.rows:
        if row["suite"] == "merge" and row["metric"].startswith("kl"):
            console.print(f"{row['stage']}: {row['metric']} {row['value']:.2e} nats over {row['n']} tokens", highlight=False)
    if any(r.get("limited") for r in run.rows):
        console.print("scored on a part of the data only (rehearsal or limit): a sign of life, not a measurement", style="yellow")
    cached = sum(s["status"] == "cached" for s in state["stages"])
    console.print(f"{len(state['stages'])} stages, {cached} cached, {state['seconds']:.0f} s", highlight=False)
    console.print(f"report: {run.report}", highlight=False, markup=False, soft_wrap=True)


def _inputs(plan: Plan, console: Console) -> None:
    seen = {}
    for stage in plan.stages:
        for found in stage.inputs:
            seen.setdefault((found.label, found.where), found)
    places = {"sample": "bundled sample", "local": "your copy", "hub": "from the hub", "missing": "not at hand"}
    for found in seen.values():
        size = f", {_bytes(found.bytes)}" if found.bytes else ""
        console.print(f"  corpus {found.label}: {places[found.where]}{size}, licence {found.licence}", highlight=False, markup=False)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    text = f"{row['value']:.3f}"
    change = row.get("change")
    if change is not None:
        shown = f"{100 * change:+.1f} %" if row.get("change_is_relative") else f"{change:+.3f}"
        sure = row["change_ci_low"] > 0 or row["change_ci_high"] < 0
        text += f" ({shown}{'' if sure else ' ~'})"
    return text


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _bytes(size: float | None) -> str:
    if not size:
        return ""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h" if seconds < 360000 else f"{seconds / 86400:.0f} d"
