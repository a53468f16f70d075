"""`langadapt tokenizer …`: how tokenizers cut a language. Like the other commands, a thin layer over the Python API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from langadapt.commands import explains_model, json_option, plain_screen, print_json, write_beside
from langadapt.commands.corpus import FROM_HUB

if TYPE_CHECKING:
    from langadapt.plugins import Registry
    from langadapt.records import Language
    from langadapt.tokenizer.reporting import Domain


_UNITS = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def _tokens(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A number of tokens: 2e9, 2_000_000_000, 2B, 500M."""
    if value is None:
        return None
    text = value.replace("_", "").replace(",", "").strip()
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
    try:
        found = float(number) * unit
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise click.BadParameter(f"{value} is no number of tokens; write it as 2e9, 2B or 500M")
    return found


@click.group()
def tokenizer() -> None:
    """See how tokenizers cut a language, and whether to extend them."""


@tokenizer.command()
@click.argument("model", metavar="MODEL")
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "--language", "tag", required=True, metavar="TAG", help="The language of the text, whose plugin cuts words."
)
@click.option(
    "--source", "sources", multiple=True, metavar="TEXT", help="Text in the source language, any number of times."
)
@click.option(
    "--parallel",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help='Translations, lines {"en": …, "it": …} or TSV with the tags in its first row (default: the '
    "plugin's sample).",
)
@click.option("--against", multiple=True, metavar="MODEL", help="Another tokenizer beside it, any number of times.")
@click.option(
    "--tokens",
    "planned",
    callback=_tokens,
    metavar="N",
    help="How many tokens you will train on: 2B, 500M, 1e9; without it the advice says from how many on new "
    "tokens pay.",
)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Documents that are taken of each text, evenly by hash.",
)
@click.option("--all", "whole", is_flag=True, help="Take all of them.")
@click.option(
    "--max-documents", metavar="N", type=click.IntRange(1), help="Read no more than so many documents of each text."
)
@click.option("--hub", is_flag=True, help="Read registered corpora from the hub and not from their bundled samples.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw tokens a word by domain, and what extensions save, as SVG.",
)
@json_option
@explains_model
def report(
    model: str,
    texts: tuple[str, ...],
    tag: str,
    sources: tuple[str, ...],
    parallel: Path | None,
    against: tuple[str, ...],
    planned: float | None,
    sample: int,
    whole: bool,
    max_documents: int | None,
    hub: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure a tokenizer on a language, audit its special tokens, and say whether to extend it.

    TEXT is a registered corpus (see: langadapt plugins), or a file, folder or glob of yours; each is a domain of its own.
    Without any, the samples of the language's plugin are taken. A folder with a tokenizer.json, or such a file, will do in
    place of MODEL.
    """
    from langadapt.errors import UserError
    from langadapt.plugins import registry
    from langadapt.tokenizer import reporting
    from langadapt.tokenizer.named import find

    known = registry()
    if tag not in known.languages:
        raise UserError(f"--language {tag}: no plugin offers it; {known.languages.missing(tag)}")
    language = known.languages[tag]

    def read(names: tuple[str, ...], of: str) -> list[Domain]:
        most = max_documents or (FROM_HUB if hub else 0)
        return [
            reporting.domain(name, tag=of, known=known, sample=0 if whole else sample, most=most, hub=hub)
            for name in names
        ]

    named = [find(reference) for reference in (model, *against)]
    with _status() as say:
        made = reporting.report(
            named,
            language=tag,
            source_language=language.source_language,
            domains=read(texts or tuple(_samples(language, known)), tag),
            source=read(sources, language.source_language),
            pairs=_pairs(language, parallel),
            planned=planned,
            say=say,
        )
    if plot:
        from langadapt.report import tokenizer_plot

        write_beside(plot, tokenizer_plot.plot(made))
    if as_json:
        print_json(made.to_json())
    else:
        from langadapt import show_tokenizer

        show_tokenizer.report(made, plain_screen())


def _samples(language: Language, known: Registry) -> list[str]:
    """The bundled samples of a language, by the names of their corpora."""
    from langadapt.errors import UserError
    from langadapt.tokenizer.reporting import sampled

    found = sampled(language.tag, known)
    if not found:
        raise UserError(f"no plugin has a sample of text in {language.name}; name a corpus, a file, a folder or a glob")
    return found


def _pairs(language: Language, parallel: Path | None) -> list[tuple[str, str]]:
    """Texts in the language, each with its source; none where nobody has translations."""
    from langadapt.translation.engines.memory import pairs

    file = parallel or language.parallel_sample
    if file is None:
        return []
    return [(target, source) for source, target in pairs(file, language.source_language, language.tag)]


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Says on the screen what is being done, where there is a screen."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: None
        return
    with console.status("reading") as status:
        yield status.update
