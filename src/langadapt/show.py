"""How plans, plugins and results look on a screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from langadapt import compute, preparation, submit
from langadapt.errors import counted
from langadapt.evaluation import arrow
from langadapt.evaluation.verdicts import tone

if TYPE_CHECKING:
    from langadapt.corpus.preview import Preview
    from langadapt.inputs import Input
    from langadapt.plan import Plan
    from langadapt.plugins import Plugin
    from langadapt.records import Document, Message
    from langadapt.run import Run

LONG = 1200  # characters of a document that a preview shows


def heading(plan: Plan, console: Console) -> None:
    """What is about to run, where, and what to be warned of."""
    what = "rehearsal of " if plan.recipe.rehearsal else ""
    console.print(Text.assemble((f"{what}{plan.recipe.table.name}", "bold"), f" → {plan.folder}"), soft_wrap=True)
    _say(console, f"{plan.base.reference} on {plan.machine}")
    for warning in plan.warnings:
        _say(console, warning, style="yellow")


def plan(plan: Plan, console: Console) -> None:
    """The whole plan."""
    base = plan.base
    heading(plan, console)
    size = f"{base.shape.parameters / 1e6:,.0f} M parameters" if base.shape else "size unknown"
    fetch = (
        f"{base.download / 1e9:.1f} GB to fetch" if base.download else "at hand" if base.download == 0 else "to fetch"
    )
    _say(console, f"base model: {size}, licence {base.licence}{', gated' if base.gated else ''}, {fetch}")
    console.print(_stage_table(plan))
    console.print(
        "  memory, disk and time are estimated by formula, see docs/reference.md", style="dim", highlight=False
    )
    measured = [s for s in plan.stages if s.automatic]
    if measured:
        cached = sum(s.status == "cached" for s in measured)
        _say(console, f"measured: {', '.join(s.parent for s in measured)} ({cached} of {len(measured)} cached)")
    _inputs(plan, console)
    if prepared := preparation.explain(plan.recipe):
        _say(console, f"corpora are prepared by {prepared}")
    if trained := compute.explain(plan.recipe, plan.machine):
        _say(console, f"stages that train are trained by {trained}")
    _notes(plan, console)
    if plan.recipe.changes:
        console.print("changed from what the recipe says:", style="bold")
        for change in plan.recipe.changes:
            _say(console, f"{change.key}: {_short(change.before)} → {_short(change.after)}  ({change.why})")
    for problem in [*plan.problems, *plan.lacks]:
        _say(console, f"in the way: {problem}", style="red")


def _stage_table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("stage", "kind", "from"):
        table.add_column(name, no_wrap=True)
    for name in ("steps", "tokens", "memory", "disk", "here", "1 A100"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in plan.stages:
        if stage.automatic:
            continue
        estimate = stage.estimate
        figures = (
            ("cached", "", "", "", "", "")
            if stage.status == "cached"
            else (
                _count(stage.steps),
                _count(stage.tokens),
                _bytes(estimate.peak),
                _bytes(estimate.disk),
                _time(estimate.seconds),
                _time(estimate.reference_seconds),
            )
        )
        table.add_row(stage.id, stage.kind, stage.parent, *figures)
    return table


def _notes(plan: Plan, console: Console) -> None:
    """Notes of the stages; one that several stages share is said once."""
    notes: dict[str, list[str]] = {}
    for stage in plan.stages:
        for note in stage.notes:
            notes.setdefault(note, []).append(stage.id)
        if stage.status == "pending" and stage.reason != "not done yet":
            notes.setdefault(f"runs again: {stage.reason}", []).append(stage.id)
    for note, stages in notes.items():
        shared = len(stages) > 2 and all(s.startswith("evaluate") for s in stages)
        _say(console, f"{'evaluation' if shared else ', '.join(stages)}: {note}", style="dim")


def _say(console: Console, message: str, style: str = "") -> None:
    console.print(Text(f"  {message}", style=style))


def preview(seen: Preview, console: Console) -> None:
    """A look into a corpus."""
    found, record = seen.input, seen.input.record
    title = f"{record.name} — {record.description}" if record else found.label
    console.print(Text(title, style="bold"), soft_wrap=True)
    place = {"sample": "bundled sample", "hub": "from the hub"}.get(found.where, f"from {found.path}")
    _say(console, ", ".join(filter(None, [record.language if record else "", f"licence {found.licence}", place])))
    if record and record.where_to_get and found.where == "sample":
        _say(console, f"the whole: {record.where_to_get}")
    for document in seen.documents:
        _document(document, console)
    for evaluation, item in seen.questions:
        console.print(Text(f"\nasked by {evaluation.name} ({evaluation.split})", style="bold"))
        for message in item.messages:
            _message(message, console)
        for number, choice in enumerate(item.choices):
            _say(console, f"{number}: {choice}")
        _say(console, f"right: {item.gold}", style="green")
    for reason, count in seen.refused.most_common():
        _say(console, f"refused so far: {count} {reason}", style="yellow")


def _document(document: Document, console: Console) -> None:
    console.print(Text(f"\n{document.id}", style="bold"))
    if document.text:
        _say(console, document.text if len(document.text) <= LONG else f"{document.text[:LONG]}…")
    for message in document.messages:
        _message(message, console)
    if document.rejected:
        _say(console, f"rejected: {document.rejected}", style="red")


def _message(message: Message, console: Console) -> None:
    _say(console, "\n".join(filter(None, [f"{message.role}: {message.content}", message.context])))


def plugins(found: Iterable[Plugin], console: Console) -> None:
    """Every plugin with what it offers and what is wrong with it, or its error."""
    for plugin in found:
        console.print(
            f"[bold]{plugin.name}[/bold]  {plugin.distribution} {plugin.version}  [dim]{plugin.file}[/dim]",
            highlight=False,
        )
        if plugin.error:
            console.print(Text(f"  could not be loaded: {plugin.error}", style="red"))
        for warning in plugin.warnings:
            console.print(Text(f"  {warning}", style="yellow"))
        for word, names in plugin.offers.items():
            console.print(f"  {word}: {', '.join(names)}", highlight=False, markup=False)


def results(run: Run, console: Console) -> None:
    """The table before and after, and where the rest is."""
    state = run.state
    rows = [r for r in run.rows if r["suite"] not in ("merge", "translation")]  # which compare no models
    models = list(dict.fromkeys(r["stage"] for r in rows))
    table = Table(header_style="bold", padding=(0, 1))
    table.add_column("")
    for name in models:
        table.add_column(name, justify="right", no_wrap=True)
    shown: set[tuple[str, str]] = set()
    for row in rows:
        task = (row["suite"], row["task"])
        if task not in shown:  # the first metric of a task stands for it; the report has all
            shown.add(task)
            same = {r["stage"]: r for r in rows if (r["suite"], r["task"], r["metric"]) == (*task, row["metric"])}
            table.add_row(_label(row), *(_cell(same.get(name)) for name in models))
    if rows:
        console.print(table)
        console.print("  ↓ lower is better, ↑ higher; ~ the change may be chance", style="dim", highlight=False)
    for row in run.rows:
        if row["metric"] in ("kl_sixteen_bit", "kl_as_trained"):
            what = (
                "the adapter on 16-bit weights" if row["metric"] == "kl_sixteen_bit" else "the model as it was trained"
            )
            _say(console, f"{row['stage']}: merged weights are {row['value']:.1e} nats (KL) from {what}")
    if any(r.get("limited") for r in rows):
        _say(console, "scored on a part of the data only: a sign of life, not a measurement", style="yellow")
    if state["status"] != "done":
        console.print(_standing(run))
    cached = sum(s["status"] == "cached" for s in state["stages"])
    _say(console, f"{counted(len(state['stages']), 'stage')}, {cached} cached, {state['seconds']:.0f} s")
    if run.report.exists():
        console.print(f"  report: {run.report}", highlight=False, markup=False, soft_wrap=True)


def _standing(run: Run) -> Table:
    """How far each stage of a run is that is not done."""
    jobs = submit.jobs(run.folder)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("stage", "status", "job", "seconds", "why"):
        table.add_column(name, overflow="fold")
    for stage in run.state["stages"]:
        job = jobs[stage["id"]].job if stage["id"] in jobs else ""
        why = "" if stage["status"] == "done" else stage["reason"]
        table.add_row(stage["id"], stage["status"], job, _time(stage["seconds"]), Text(why))
    return table


def submitted(plan: Plan, jobs: list[submit.Job], console: Console) -> None:
    """Which jobs are in the queue now, and how to look after them."""
    for job in jobs:
        after = f", after {', '.join(job.after)}" if job.after else ""
        _say(console, f"{job.stage}: job {job.job}{after}{'' if job.new else ' (in the queue already)'}")
    if jobs:
        console.print(f"  logs: {submit.log(plan.folder, 'STAGE')}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"  how far: langadapt show {plan.folder}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"  to stop: {submit.cancel(jobs)}", highlight=False, markup=False, soft_wrap=True)
    else:
        _say(console, "all stages are done")


def _label(row: dict[str, Any]) -> str:
    names = {"bits_per_byte": "bits/byte", "answer_bits_per_byte": "bits/byte of answers"}
    return f"{row['task']}\n{names.get(row['metric'], row['metric'])} {arrow(row['higher_is_better'])}"


def _inputs(plan: Plan, console: Console) -> None:
    seen: dict[tuple[str, str], Input] = {}
    for stage in plan.stages:
        for found in stage.inputs:
            seen.setdefault((found.label, found.where), found)
    places = {"sample": "bundled sample", "local": "your copy", "hub": "from the hub", "missing": "not at hand"}
    places["stage"] = "made by this run"
    alike: dict[tuple[str, str, str], list[Input]] = {}
    for found in seen.values():
        alike.setdefault((found.label.partition("/")[0], places[found.where], found.licence), []).append(found)
    for (label, place, licence), group in alike.items():
        one = group[0]
        name = one.label if len(group) == 1 else f"{label} ({len(group)} parts)"
        size = f", {_bytes(one.bytes)}" if len(group) == 1 and one.bytes else ""
        console.print(f"  corpus {name}: {place}{size}, licence {licence}", highlight=False, markup=False)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    change = row.get("change")
    if change is None:
        return f"{row['value']:.3f}"
    shown = f"{100 * change:+.1f} %" if row["change_is_relative"] else f"{change:+.3f}"
    sure = tone(row) in ("better", "worse")
    return f"{row['value']:.3f}\n{shown}{'' if sure else ' ~'}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _count(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number:,}" if number < 100_000 else f"{number / 1e6:,.1f} M"


def _bytes(size: float | None) -> str:
    if not size:
        return ""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.1f} MiB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return (
        f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
        if seconds < 360000
        else f"{seconds / 86400:.0f} d"
    )
