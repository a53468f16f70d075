"""`langadapt corpus …`: looks into corpora. Like the other commands, a thin layer over the Python API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from langadapt.commands import (
    json_option,
    out_option,
    plain_screen,
    print_json,
    rehearse_option,
    set_option,
    write_beside,
)

if TYPE_CHECKING:
    from langadapt.corpus.choosing import Chosen
    from langadapt.records import Document, Rejected

Command = TypeVar("Command", bound=Callable[..., Any])
Item = TypeVar("Item")

corpus_argument = click.argument("corpus", metavar="[CORPUS]", default="")
html_option = click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the same as a page that needs nothing else."
)
_CHOOSING = (
    click.option(
        "--recipe",
        default="",
        metavar="RECIPE",
        help="Look at a corpus of this recipe, with the entry's filters, columns and other keys.",
    ),
    click.option(
        "--stage", default="", metavar="ID", help="Which stage's entry; not needed where only one can be meant."
    ),
    click.option(
        "--path",
        default="",
        metavar="PATH",
        help="Your copy of a registered corpus; without it the bundled sample is read.",
    ),
    click.option("--config", default="", metavar="NAME", help="Configuration of a registered corpus."),
    click.option(
        "--layout", default="", metavar="NAME", help="How rows become documents; found out from the columns without it."
    ),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="OURS=YOURS",
        help="Your name of a column, any number of times: text=body.",
    ),
    click.option(
        "--language",
        default="",
        metavar="TAG",
        help="Language of files of yours; a registered corpus has its own, a recipe too.",
    ),
    click.option(
        "--filter",
        "filters",
        multiple=True,
        metavar="NAME[,OPTION=VALUE…]",
        help="A further cleaning step, any number of times: fineweb2,end_punctuation=0.2.",
    ),
    click.option(
        "--deduplicate",
        default="",
        type=click.Choice(["", "exact", "near", "none"]),
        metavar="HOW",
        help="Which repeated documents go: exact (as without it), near, none.",
    ),
    click.option("--max-documents", metavar="N", type=click.IntRange(1), help="Read no more than so many documents."),
    click.option("--hub", is_flag=True, help="Read it from the hub and not the bundled sample."),
)
_SAMPLING = (
    click.option(
        "--sample",
        metavar="N",
        type=click.IntRange(1),
        default=1000,
        show_default=True,
        help="Documents that are taken, evenly by hash from all that are read.",
    ),
    click.option("--all", "whole", is_flag=True, help="Take all of them."),
)
FROM_HUB = 100_000  # documents of the hub that a sample is taken from, if nothing else is said


def choosing_options(command: Command) -> Command:
    """What says which corpus is meant and how it is cleaned; the command gets it as `wish`."""
    return _decorated(command, _CHOOSING)


def sampling_options(command: Command) -> Command:
    """What says how much of it is looked at."""
    return _decorated(command, _SAMPLING)


def _decorated(command: Command, options: Iterable[Callable[[Command], Command]]) -> Command:
    for option in reversed(list(options)):
        command = option(command)
    return command


@click.group()
def corpus() -> None:
    """Look into corpora, and clean them."""


@corpus.command()
@corpus_argument
@choosing_options
@click.option("--count", metavar="N", type=click.IntRange(1), default=3, show_default=True, help="Documents to show.")
@json_option
def preview(count: int, as_json: bool, **wish: Any) -> None:
    """Show the first documents of a corpus, as they are read and cleaned.

    CORPUS is a registered name (see: langadapt plugins), or a file, folder or glob of yours; with --recipe, one of the
    recipe's corpora.
    """
    from langadapt import show
    from langadapt.corpus.preview import preview as look
    from langadapt.plugins import registry

    seen = look(_chosen(wish), registry(), count=count)
    if as_json:
        print_json(seen.to_json())
    else:
        show.preview(seen, plain_screen())


@corpus.command()
@corpus_argument
@choosing_options
@sampling_options
@click.option(
    "--tokenizer",
    default="",
    metavar="REFERENCE",
    help="Count tokens, too: a hub id, a folder, a .gguf file, package:NAME/FILE.",
)
@click.option("--max-length", metavar="N", type=click.IntRange(1), help="Count the documents with more tokens.")
@click.option(
    "--curve",
    "asked",
    multiple=True,
    metavar="FILTER[.OPTION[=VALUES]]",
    help="What the filter keeps for other values of the option, or of all its options that are numbers.",
)
@html_option
@json_option
def stats(
    sample: int,
    whole: bool,
    tokenizer: str,
    max_length: int | None,
    asked: tuple[str, ...],
    html: Path | None,
    as_json: bool,
    **wish: Any,
) -> None:
    """Measure a corpus: sizes, languages, duplicates, tokens; what each cleaning step drops; and by which threshold.

    CORPUS is a registered name (see: langadapt plugins), or a file, folder or glob of yours; with --recipe, one of the
    recipe's corpora.
    """
    from langadapt.corpus import curves, statistics, tokens
    from langadapt.corpus.sampling import Sample
    from langadapt.plugins import registry

    if max_length and not tokenizer:
        raise click.UsageError("--max-length counts tokens; say of which tokenizer, with --tokenizer")
    chosen = _chosen(wish)
    loaded = tokens.load(tokenizer) if tokenizer else None
    taken = Sample(_documents(chosen), 0 if whole else sample)
    documents: Any = list(taken) if asked and not whole else taken
    made = statistics.statistics(
        chosen, taken, documents, tokens=(lambda: tokens.TokenMeasure(loaded, max_length or 0)) if loaded else None
    )
    again = Sample(_documents(chosen), 0) if whole else documents
    drawn = curves.curves(asked, chosen, registry(), again) if asked else []
    if html:
        from langadapt.report.corpus_page import statistics_page

        write_beside(html, statistics_page(made, drawn))
    if as_json:
        print_json({**made.to_json(), "curves": [curve.to_json() for curve in drawn]})
    else:
        from langadapt import show_corpus

        show_corpus.statistics(made, drawn, plain_screen())


@corpus.command()
@corpus_argument
@choosing_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="What to write: .jsonl, .jsonl.gz, .jsonl.zst, or a folder, which gets files of about 256 MiB of text.",
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file for what is left out: where, step, reason, and the text as it was read.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@json_option
def clean(out: Path, rejects: Path | None, force: bool, as_json: bool, **wish: Any) -> None:
    """Clean a corpus and write what is left, ready to be the corpus of a recipe.

    CORPUS is a registered name (see: langadapt plugins), or a file, folder or glob of yours; with --recipe, one of the
    recipe's corpora.
    """
    from langadapt.corpus.writing import write_clean

    started = time.perf_counter()
    made = write_clean(_chosen(wish), out, rejects=rejects, force=force, watch=_watched)
    if as_json:
        print_json(made.to_json())
    else:
        from langadapt import show_corpus

        show_corpus.cleaned(made, time.perf_counter() - started, plain_screen())


@corpus.command()
@corpus_argument
@choosing_options
@sampling_options
@click.option("--count", metavar="N", type=click.IntRange(1), default=6, show_default=True, help="Documents to show.")
@click.option(
    "--only", default="", metavar="WHAT", help="changed, dropped, or the name of a step: then only what that step did."
)
@html_option
@json_option
def diff(sample: int, whole: bool, count: int, only: str, html: Path | None, as_json: bool, **wish: Any) -> None:
    """Show documents before and after cleaning, and which step changed or dropped them.

    CORPUS is a registered name (see: langadapt plugins), or a file, folder or glob of yours; with --recipe, one of the
    recipe's corpora.
    """
    from langadapt.corpus.differences import look
    from langadapt.corpus.sampling import Sample

    chosen = _chosen(wish)
    seen = look(chosen, Sample(_documents(chosen), 0 if whole else sample), only=only, count=count)
    if html:
        from langadapt.report.corpus_page import differences_page

        write_beside(html, differences_page(seen))
    if as_json:
        print_json(seen.to_json())
    else:
        from langadapt import show_corpus

        show_corpus.differences(seen, plain_screen())


@corpus.command()
@click.argument("recipe", metavar="RECIPE")
@click.option("--stage", "ids", multiple=True, metavar="ID", help="Only this stage's corpora, any number of times.")
@click.option(
    "--task",
    type=click.IntRange(0),
    metavar="R",
    help="On this machine, every N-th shard from the R-th on: what each task of an engine runs.",
)
@click.option("--tasks", type=click.IntRange(1), metavar="N", help="Of how many parts.")
@rehearse_option
@set_option
@out_option
@json_option
def prepare(
    recipe: str,
    ids: tuple[str, ...],
    task: int | None,
    tasks: int | None,
    rehearse: bool,
    overrides: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Prepare the corpora of a recipe ahead of its run, by the recipe's engine; what is there already is left alone.

    With --task and --tasks, prepares a part of them on this machine: every N-th shard from the R-th on.
    """
    from langadapt import preparation
    from langadapt.recipe import Recipe

    if (task is None) != (tasks is None) or (task is not None and tasks is not None and task >= tasks):
        raise click.UsageError("--task R is one of --tasks N parts; give both, with R from 0 to N - 1")
    loaded = Recipe.load(recipe, overrides)
    plan = (loaded.rehearse() if rehearse else loaded).plan(out)
    if task is not None and tasks is not None:
        found = preparation.part(plan, ids, task, tasks)
    else:
        found = preparation.whole(plan, ids, lambda line: click.echo(line, err=True))
    if as_json:
        print_json([one.to_json() for one in found])
        return
    for one in found:
        click.echo(str(one))


def _chosen(wish: dict[str, Any]) -> Chosen:
    from langadapt.corpus.choosing import Wish, choose
    from langadapt.plugins import registry

    columns = {}
    for said in wish.pop("columns"):
        ours, equals, theirs = said.partition("=")
        if not (ours and equals and theirs):
            raise click.UsageError(f"--column {said}: it names no column; write it as OURS=YOURS, such as text=body")
        columns[ours] = theirs
    return choose(Wish(**wish | {"max_documents": wish["max_documents"] or 0, "columns": columns}), registry())


def _documents(chosen: Chosen) -> Iterator[Document | Rejected]:
    """What is read of the corpus; of the hub only a part, if nothing else is said."""
    from itertools import islice

    source = chosen.input.source()
    most = chosen.input.ref.max_documents or (FROM_HUB if chosen.input.where == "hub" else 0)
    return _watched(islice(source.read(), most or None))


def _watched(items: Iterable[Item]) -> Iterator[Item]:
    """Says on the screen how far the reading is."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    with console.status("reading") as status:
        for number, item in enumerate(items, start=1):
            if number % 500 == 0:
                status.update(f"{number:,} documents read")
            yield item
