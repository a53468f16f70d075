"""`langadapt evaluate`: any models under the same evaluations. A thin layer over `langadapt.evaluating`."""

from __future__ import annotations

from pathlib import Path

import click

from langadapt.commands import explains_model, json_option, print_json

OUT = Path("runs/evaluate")


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL…")
@click.option(
    "--language", default="", metavar="TAG", help="In which language; not needed where one alone is installed."
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="NAME",
    help="Suite or single evaluation, any number of times; without it, the language's own.",
)
@click.option("--data", multiple=True, metavar="NAME=PATH", help="Where a copy of a corpus lies, any number of times.")
@click.option(
    "--max-items",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Items of a task, at most; 0, as without it, for all.",
)
@click.option(
    "--max-documents",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Documents of a text, at most; 0, as without it, for all.",
)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help=f"Folder of the runs (default: {OUT}).")
@json_option
@explains_model
def evaluate(
    models: tuple[str, ...],
    language: str,
    suites: tuple[str, ...],
    data: tuple[str, ...],
    max_items: int,
    max_documents: int,
    out: Path,
    as_json: bool,
) -> None:
    """Measure models alike, and compare them with the first."""
    copies = dict(_copy(entry) for entry in data)
    from rich.console import Console

    from langadapt.evaluating import evaluate

    found = evaluate(
        models,
        out,
        language=language,
        suites=suites or None,
        settings={"max_items": max_items, "max_documents": max_documents},
        data=copies,
        console=Console(stderr=True, quiet=as_json),
    )
    if as_json:
        runs = [{"folder": str(run.folder), "report": run.rows} for run in found.runs]
        print_json({"runs": runs, "comparison": found.comparison.to_json() if found.comparison else None})
    elif found.comparison:
        from langadapt.commands.compare import show

        show(found.comparison, Console())
    else:
        from langadapt.show import results

        results(found.runs[0], Console())


def _copy(entry: str) -> tuple[str, str]:
    name, equals, path = entry.partition("=")
    if not (name and equals and path):
        raise click.UsageError(f'--data "{entry}" names no copy; write it as NAME=PATH')
    return name, path
