"""`langadapt compare`: models of several runs on the same items. A thin layer over `langadapt.comparing`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from langadapt.commands import json_option, print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from langadapt.comparing import Comparison


@click.command(short_help="Compare the models of several runs on the same items.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN…")
@click.option(
    "--seeds",
    is_flag=True,
    help="Take models whose recipes differ in nothing but the seed (and name, description, compute, "
    "preparation) as one: mean ± standard deviation; what is compared are the means.",
)
@click.option(
    "--fail-if-worse",
    is_flag=True,
    help="Exit code 1 when anything is significantly worse than with the first; for gates.",
)
@json_option
def compare(runs: tuple[str, ...], seeds: bool, fail_if_worse: bool, as_json: bool) -> None:
    """Compare the models of runs with that of the first, on the same items.

    RUN is a run's folder, for the last model that was measured there, or FOLDER:STAGE for another one.
    """
    from langadapt.comparing import compare

    found = compare(runs, seeds=seeds)
    if as_json:
        print_json(found.to_json())
    else:
        from rich.console import Console

        show(found, Console())
    if fail_if_worse and found.worse:
        sys.exit(1)


def show(found: Comparison, console: Console) -> None:
    """The table, what differs beside the models, and what could not be compared."""
    from langadapt.report.findings import name

    for number, label in enumerate(found.systems, start=1):
        _say(console, f"{number}  {label}", style="bold")
    console.print(_table(found))
    _say(console, "↓ lower is better, ↑ higher; each against 1, on the same items", style="dim")
    if found.differs:
        _say(console, "not the same for all:", style="bold")
    for condition, values in found.differs.items():
        _say(console, f"  {name(condition)}: {' | '.join(_short(value) for value in values)}")
    for reason in found.left_out:
        _say(console, f"not compared: {name(reason)}", style="yellow")
    if any(row["limited"] for row in found.rows):
        _say(console, "scored on a part of the data only: a sign of life, not a measurement", style="yellow")


def _table(found: Comparison) -> Table:
    """A line for each system, those of one measure below each other."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("measured on", overflow="fold")
    for heading in ("", "value", "change", "95 % interval", "p (adjusted)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for above, row in zip([{}, *found.rows], found.rows, strict=False):
        table.add_row(*_line(row, second="change" not in above))
    return table


def _line(row: dict[str, Any], second: bool) -> list[str]:
    """What the table says of a row; the measure's name stands beside the first two."""
    from langadapt.evaluation import arrow
    from langadapt.evaluation.verdicts import tone
    from langadapt.report.findings import change, change_interval, name, number

    system, value = str(row["system"] + 1), number(row["value"]) + (f" ± {number(row['sd'])}" if "sd" in row else "")
    if "change" not in row:
        return [f"{name(row['task'])}, n = {row['n']:,}", system, value]
    metric = f"  {row['metric']} {arrow(row['higher_is_better'])}" if second else ""
    sure = f"{row['p_value']:.2g} ({row['p_adjusted']:.2g})"
    return [metric, system, value, change(row), change_interval(row), sure, tone(row)]


def _short(value: Any) -> str:
    text = "–" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
