"""`langadapt compare`: models of several runs on the same items. A thin layer over `langadapt.comparing`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from langadapt.commands import json_option, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from langadapt.comparing import Comparison


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN…")
@click.option("--seeds", is_flag=True, help="Take runs that differ in nothing but the seed as one: mean ± deviation.")
@click.option("--fail-if-worse", is_flag=True, help="Exit code 1 when anything is significantly worse.")
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

        _show(found, Console())
    if fail_if_worse and found.worse:
        sys.exit(1)


def _show(found: Comparison, console: Console) -> None:
    from langadapt.report.findings import name

    console.print(_table(found))
    _say(console, "↓ lower is better, ↑ higher; ± over seeds; in brackets a 95 % interval over items", style="dim")
    if found.differs:
        _say(console, "not the same for all:", style="bold")
    for condition, values in found.differs.items():
        _say(console, f"  {name(condition)}: {' | '.join(_short(value) for value in values)}")
    for reason in found.left_out:
        _say(console, f"not compared: {name(reason)}", style="yellow")
    if any(row["limited"] for row in found.rows):
        _say(console, "scored on a part of the data only: a sign of life, not a measurement", style="yellow")


def _table(found: Comparison) -> Any:
    from rich.table import Table

    from langadapt.report.findings import name

    table = Table(header_style="bold", padding=(0, 1))
    table.add_column("", overflow="fold")
    for label in found.systems:
        table.add_column(label, justify="right", overflow="fold")
    lines: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for row in found.rows:
        lines.setdefault((row["suite"], row["task"], row["metric"]), {})[row["system"]] = row
    for (_, task, metric), cells in lines.items():
        first = cells[0]
        arrow = "↑" if first["higher_is_better"] else "↓"
        label = f"{name(task)}\n{metric} {arrow}\nn = {first['n']:,}"
        table.add_row(label, *(_cell(cells.get(system)) for system in range(len(found.systems))))
    return table


def _cell(row: dict[str, Any] | None) -> str:
    """A value, and how far it is from the first system's and how surely."""
    from langadapt.evaluation.verdicts import VERDICTS, tone
    from langadapt.report.findings import change, change_interval, number

    if row is None:
        return ""
    value = number(row["value"]) + (f" ± {number(row['sd'])}" if "sd" in row else "")
    if "change" not in row:
        return value
    interval = change_interval(row)
    moved = change(row) + (f" ({interval})" if interval else "")
    return f"{value}\n{moved}\np = {row['p_value']:.2g}, adjusted {row['p_adjusted']:.2g}\n{VERDICTS[tone(row)]}"


def _short(value: Any) -> str:
    text = "–" if value is None else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
