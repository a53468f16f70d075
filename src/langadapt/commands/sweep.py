"""`langadapt sweep`: one recipe with variations, compared. A thin layer over `langadapt.experiment`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from langadapt.commands import json_option, print_json, try_anyway_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from langadapt.sweep import Sweep, SweepPlan


@click.command(short_help="Run the variants of an experiment, and compare them.")
@click.argument("experiment", metavar="EXPERIMENT")
@click.option("--rehearse", is_flag=True, help="Every variant at the scale of a laptop.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Put another value into the recipes of all variants, any number of times; what a variant says "
    "itself counts more.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The experiment's folder (default: runs/NAME, of a rehearsal runs/NAME-rehearsal).",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only show the variants, what each changes, what all would cost and what is in the way; nothing is run.",
)
@try_anyway_option
@json_option
def sweep(
    experiment: str,
    rehearse: bool,
    overrides: tuple[str, ...],
    out: Path | None,
    dry_run: bool,
    try_anyway: bool,
    as_json: bool,
) -> None:
    """Run the variants of an experiment that are not done yet, and compare them.

    EXPERIMENT is a TOML file, or the name of an experiment that a plugin ships (see: langadapt plugins).
    """
    from rich.console import Console

    from langadapt.errors import RunError
    from langadapt.experiment import Experiment

    loaded = Experiment.load(experiment, overrides)
    plan = (loaded.rehearse() if rehearse else loaded).plan(out)
    if dry_run:
        print_json(plan.to_json()) if as_json else _planned(plan, Console())
        return
    progress = Console(stderr=True, quiet=as_json)
    _heading(plan, progress)
    done = plan.execute(console=progress, try_anyway=try_anyway)
    print_json({"experiment": done.state, "folder": str(done.folder)}) if as_json else _compared(done, Console())
    if done.failed:
        count = len(done.state["trials"])
        raise RunError(
            "\n".join([f"{len(done.failed)} of {count} runs failed; the same command tries them again", *done.failed])
        )


# --- before -----------------------------------------------------------------------------------------------------------


def _heading(plan: SweepPlan, console: Console) -> None:
    """What is about to run, and what it is expected to take."""
    from rich.text import Text

    table = plan.experiment.table
    what = "rehearsal of " if plan.experiment.rehearsal else ""
    console.print(Text.assemble((f"{what}{table.name}", "bold"), f" → {plan.folder}"), soft_wrap=True)
    for line in (table.question, *_expected(plan)):
        console.print(Text(f"  {line}"))


def _expected(plan: SweepPlan) -> Iterator[str]:
    from langadapt.errors import counted
    from langadapt.plan import REFERENCE
    from langadapt.report.findings import duration

    runs, once = len(plan.trials), len(plan.to_do)
    finished = sum(planned.finished for planned in plan.trials)
    left = f"of {counted(plan.stages, 'stage')} {once} {'is' if once == 1 else 'are'} left to run, those alike once"
    yield f"{counted(runs, 'run')}, {finished} finished; {left}"
    here, reference = plan.seconds(), plan.seconds(reference=True)
    if here or reference:
        yield (
            f"training: about {duration(here)} here, {duration(reference)} on one {REFERENCE[0]}; "
            f"{plan.disk / 1e9:.1f} GB of disk; by formula, see docs/reference.md"
        )
    for names in plan.alike:
        yield f"the same at this scale: {', '.join(names)}"


def _planned(plan: SweepPlan, console: Console) -> None:
    """The variants, what each changes, and what is in the way."""
    from rich.text import Text

    from langadapt.toml_lines import inline

    _heading(plan, console)
    table = _table("variant", "changes")
    for variant in plan.experiment.variants:
        trial = next(trial for trial in plan.experiment.trials if trial.variant == variant)
        told = "\n".join(f"{key} = {inline(value)}" for key, value in trial.values.items())
        baseline = "\n(the baseline)" if variant == plan.experiment.baseline else ""
        table.add_row(Text(f"{variant}{baseline}"), Text(told or "the recipe as it is"))
    console.print(table)
    if seeds := plan.experiment.table.seeds:
        console.print(f"  each with the seeds {', '.join(map(str, seeds))}", highlight=False)
    for warning in dict.fromkeys(warning for planned in plan.trials for warning in planned.plan.warnings):
        console.print(Text(f"  {warning}", style="yellow"))
    for problem in plan.problems:
        console.print(Text(f"  in the way: {problem}", style="red"))


# --- after ------------------------------------------------------------------------------------------------------------


def _compared(done: Sweep, console: Console) -> None:
    """The table, what each variant took, and where the page is."""
    from rich.text import Text

    state = done.state
    variants = list(dict.fromkeys(trial["variant"] for trial in state["trials"]))
    if state["table"]:
        table = _table("measured on", "", "value", "change", "95 % interval", right=3)
        for row in state["table"]:
            for line in _lines(row, variants):
                table.add_row(*map(Text, line))
        console.print(table)
        console.print(
            f"  against {state['baseline']}, with 95 % intervals; ± is over seeds; ~ the change may be chance",
            style="dim",
            highlight=False,
        )
    console.print(_costs(state))
    if state["rehearsal"]:
        console.print(Text("  at the scale of a rehearsal: signs of life, no measurements", style="yellow"))
    if state["limits"]:
        console.print(Text(f"  {state['limits']}", style="yellow"))
    console.print(f"  page: {done.report}", highlight=False, markup=False, soft_wrap=True)


def _lines(row: Mapping[str, Any], variants: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """A line for each variant that was measured, or one for all where they do not differ; the measure's names stand beside
    the first two.
    """
    from langadapt.evaluation import arrow
    from langadapt.report.findings import change, change_interval

    names = iter((f"{row['model']}: {row['task']}", f"  {row['metric']} {arrow(row['higher_is_better'])}"))
    cells = {variant: row["cells"][variant] for variant in variants if variant in row["cells"]}
    if len(cells) > 1 and len({cell["value"] for cell in cells.values()}) == 1:
        cells = {"every variant": next(iter(cells.values()))}
    for variant, cell in cells.items():
        value = f"{cell['value']:.3f}" + ("" if cell["sd"] is None else f" ± {cell['sd']:.3f}")
        if "change" in cell:
            changed = f"{change(cell)}{'' if cell['tone'] in ('better', 'worse') else ' ~'}"
            yield next(names, ""), variant, value, changed, change_interval(cell)
        else:
            interval = "" if cell["ci_low"] is None else f"{cell['ci_low']:.3f} to {cell['ci_high']:.3f}"
            yield next(names, ""), variant, value, "", interval
    for name in names:
        yield name, "", "", "", ""


def _costs(state: Mapping[str, Any]) -> Table:
    from langadapt.report.findings import duration, number, size

    table = _table("run", "status", "time", "tokens", "memory", "GPU memory")
    for trial in state["trials"]:
        cost = trial["cost"]
        figures = (
            (
                duration(cost["seconds"]),
                number(cost["tokens"]),
                *(size(cost[key]) for key in ("peak_memory", "peak_gpu_memory")),
            )
            if cost
            else ("", "", "", "")
        )
        table.add_row(trial["name"], trial["status"], *figures)
    return table


def _table(first: str, *others: str, right: int = 0) -> Table:
    """A table; the last columns, as many as `right`, hold figures."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold")
    for place, name in enumerate(others):
        figures = place >= len(others) - right
        table.add_column(name, overflow="fold", justify="right" if figures else "left", no_wrap=figures)
    return table
