"""`langadapt doctor`: what is wrong with an installation or a machine. A thin layer over `langadapt.doctor`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from langadapt.commands import json_option, plain_screen, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from langadapt.doctor.checking import Finding
    from langadapt.doctor.facts import Facts

COLOURS = {"wrong": "red", "note": "yellow"}


@click.command(short_help="Look for what is wrong with an installation or a machine.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs are to lie."
)
@json_option
def doctor(out: Path, as_json: bool) -> None:
    """Look at versions, devices, disks, caches, plugins, the way to the hub and variables, and say what is wrong.

    To be pasted into an issue: tokens and passwords are left out. The exit code is 1 where something is wrong.
    """
    from langadapt.doctor import libraries, sections
    from langadapt.doctor.checking import findings
    from langadapt.doctor.facts import collect

    facts, console = collect(out), plain_screen()
    if not as_json:
        _show(facts, sections.EARLY, console)  # before anything that may hang is touched
    facts = replace(facts, libraries=libraries.try_all(facts))
    found = findings(facts, sections.ALL)
    if as_json:
        told = {name: dict(rows(facts)) for name, rows in {**sections.EARLY, **sections.LATE}.items()}
        print_json({"sections": told, "findings": [vars(finding) for finding in found]})
    else:
        _show(facts, sections.LATE, console)
        _judge(found, console)
    if any(finding.weight == "wrong" for finding in found):
        sys.exit(1)


def _show(facts: Facts, told: Mapping[str, Callable[[Facts], Iterator[tuple[str, str]]]], console: Console) -> None:
    from rich.table import Table

    from langadapt.show_corpus import section, show_table

    for name, rows in told.items():
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="bold", overflow="fold", max_width=24)
        table.add_column(overflow="fold")
        for row in rows(facts):
            table.add_row(*row)
        if table.row_count:
            section(console, name)
            show_table(table, console)


def _judge(found: list[Finding], console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from langadapt.show_corpus import section

    counts = [
        f"{sum(f.weight == weight for f in found)} {word}" for weight, word in (("wrong", "wrong"), ("note", "to know"))
    ]
    section(console, f"findings: {', '.join(counts)}" if found else "findings: none")
    for one in found:
        said = Text.assemble((f"{one.check}: ", f"bold {COLOURS[one.weight]}"), one.what)
        console.print(Padding(said, (0, 0, 0, 2)))
        for line in (one.happens, f"→ {one.do}", one.source):
            console.print(Padding(Text(line, style="dim" if line is one.source else ""), (0, 0, 0, 6)))
