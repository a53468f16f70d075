"""Groups of verbs of the command line, one module each, and what all verbs share."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Put another value into the recipe, any number of times: adapt.training.max_steps=100.",
)
rehearse_option = click.option(
    "--rehearse", is_flag=True, help="At the scale of a laptop: a small real model, bundled samples, few steps."
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The run's folder (default: runs/NAME, of a rehearsal runs/NAME-rehearsal).",
)
try_anyway_option = click.option(
    "--try-anyway",
    is_flag=True,
    help="Also run what is estimated at more than 1.5 times the memory that there is; without it, that is "
    "refused with "
    "what would make it fit.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
base_option = click.option(
    "--base", default="", metavar="MODEL", help="What an adapter is put on, in place of what its configuration names."
)
prompt_option = click.option(
    "--prompt",
    default="",
    metavar="NAME",
    help="A prompt format in place of the one that the model was tuned with; template: the tokenizer's; plain: none.",
)

_MODEL = """\
MODEL is a run's folder (its last model), RUN:STAGE, a stage's folder, an adapter, a model's folder, a hub id, a .gguf
file or package:NAME/FILE."""

Function = TypeVar("Function", bound=Callable[..., Any])


def explains_model(command: Function) -> Function:
    """Says at the end of a command's help what MODEL may be: all that `langadapt.named_models.find` takes."""
    command.__doc__ = f"{inspect.cleandoc(command.__doc__ or '')}\n\n{_MODEL}"
    return command


def print_json(value: Any) -> None:
    """What `--json` prints."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def plain_screen() -> Any:
    """A console on which text of a corpus or of a tokenizer is text and nothing else."""
    from rich.console import Console

    return Console(markup=False, highlight=False)


def write_beside(path: Path, text: str) -> None:
    """Writes a page or a figure that was asked for beside what is printed, and says so.

    Raises:
        UserError: it cannot be written there.
    """
    from langadapt import artifacts
    from langadapt.errors import UserError

    try:
        artifacts.write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; name another file") from None
    click.echo(f"langadapt: written: {path}", err=True)
