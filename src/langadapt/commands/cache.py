"""`langadapt cache …`: what is kept over runs, and how to be rid of it. A thin layer over `langadapt.corpus.cache`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from langadapt.commands import json_option, print_json

if TYPE_CHECKING:
    from langadapt.corpus.cache import Kept

_SECONDS = {"h": 3600.0, "d": 24 * 3600.0, "w": 7 * 24 * 3600.0}
_SHOWN = {"prepared": ("filters", "near duplicates"), "packed": ("training.max_length", "rows")}  # of the ingredients


def _seconds(context: click.Context, option: click.Parameter, value: str) -> float:
    """`30d`, `12h` or `2w` as seconds."""
    found = re.fullmatch(r"(\d+)([hdw])", value)
    if not found:
        raise click.BadParameter(f'"{value}" is no length of time; write 30d, 12h or 2w')
    return int(found[1]) * _SECONDS[found[2]]


@click.group()
def cache() -> None:
    """Look at what is kept over runs, and remove what is unused."""


@cache.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List what is kept, the longest unused first."""
    from langadapt.corpus.cache import cache_folder, entries

    _show(entries(), f"in {cache_folder()}", as_json)


@cache.command()
@click.option(
    "--older-than",
    callback=_seconds,
    default="30d",
    show_default=True,
    metavar="AGE",
    help="How long it must have been unused: 12h, 30d, 2w.",
)
@click.option("--all", "everything", is_flag=True, help="Remove everything, translations too.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def prune(older_than: float, everything: bool, dry_run: bool, as_json: bool) -> None:
    """Remove what was not used for a while; it is made again when it is needed.

    What a running process uses stays, and so do translations, unless everything is to go.
    """
    from langadapt.corpus.cache import prune as remove

    gone = remove(older_than, everything=everything, dry_run=dry_run)
    _show(gone, "would be removed" if dry_run else "removed", as_json)


def _show(kept: list[Kept], what: str, as_json: bool) -> None:
    if as_json:
        print_json([one.to_json() for one in kept])
        return
    from rich.console import Console

    console = Console()
    if kept:
        console.print(_table(kept))
    total = sum(one.size for one in kept)
    console.print(f"{len(kept)} entries, {_size(total)} {what}", highlight=False, soft_wrap=True)


def _table(kept: list[Kept]) -> Any:
    import time

    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "of", "size", "made", "used"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    now = time.time()
    for one in kept:
        told = [f"{name}: {one.ingredients[name]}" for name in _SHOWN.get(one.kind, ()) if name in one.ingredients]
        used = "in use" if one.in_use else _ago(now - one.used)
        table.add_row(one.kind, "\n".join([one.label, *told]), _size(one.size), _ago(now - one.made), used)
    return table


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _ago(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h ago" if seconds < 2 * _SECONDS["d"] else f"{seconds / _SECONDS['d']:.0f} d ago"
