"""`langadapt check-plugin`: whether a plugin keeps to the contract. A thin layer over `langadapt.testing`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from langadapt.commands import json_option, print_json

if TYPE_CHECKING:
    from langadapt.testing.conformance import Result


@click.command("check-plugin", short_help="Check a plugin: every hook, record and sample.")
@click.argument("plugin", metavar="PLUGIN")
@click.option(
    "--skip",
    multiple=True,
    metavar="CHECK",
    help='Leave a check out, by its name, or by that and a record\'s: "corpus-sample-language eu-poems"; '
    "any number of times.",
)
@json_option
def check_plugin(plugin: str, skip: tuple[str, ...], as_json: bool) -> None:
    """Check whether a plugin keeps to the contract, with what is wrong, where, and what a right one looks like.

    PLUGIN is an installed one by name, distribution or module, or the folder of one. The exit code is 1 where something is
    wrong.
    """
    from langadapt.errors import UserError, nearest
    from langadapt.testing.conformance import all_checks, conform
    from langadapt.testing.finding import find

    names = {check.name for check in all_checks()}
    for name in skip:
        if name.split(" ")[0] not in names:
            raise UserError(f'there is no check "{name}"; {nearest(name, names)}')
    results = [conform(subject, leave_out=dict.fromkeys(skip, "--skip")) for subject in find(plugin)]
    if as_json:
        print_json([result.to_json() for result in results])
    else:
        for result in results:
            _show(result)
    if any(result.faults for result in results):
        sys.exit(1)


def _show(result: Result) -> None:
    from langadapt.errors import counted

    for fault in result.faults:
        click.echo(f"{fault}\n")
    reasons: dict[str, list[str]] = {}
    for case, reason in result.left_out.items():
        reasons.setdefault(reason, []).append(case)
    for reason, cases in reasons.items():
        click.echo(f"not checked: {', '.join(cases)}: {reason}")
    wrong = "nothing wrong" if not result.faults else counted(result.wrong, "fault")
    click.echo(f"{result.plugin}: {counted(result.checked, 'check')}, {wrong}")
