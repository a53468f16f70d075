"""`langadapt serve`: starts an existing server with a model. A thin layer over `langadapt.serving`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from langadapt.commands import base_option, explains_model, prompt_option


@click.command(short_help="Serve a model to OpenAI clients, by vLLM or transformers.")
@click.argument("model", metavar="MODEL")
@click.argument("extra", metavar="[-- OPTIONS OF THE SERVER]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--with",
    "server",
    metavar="SERVER",
    type=click.Choice(["vllm", "transformers"]),
    help="vllm or transformers; else the first of them that is installed.",
)
@click.option("--host", metavar="HOST", default="localhost", show_default=True, help="Address to listen at.")
@click.option(
    "--port", metavar="N", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen at."
)
@prompt_option
@base_option
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="New folder for a model that must be made ready (default: in the cache).",
)
@click.option("--no-start", is_flag=True, help="Prepare, print the command, and do not run it.")
@explains_model
def serve(
    model: str,
    extra: tuple[str, ...],
    server: str | None,
    host: str,
    port: int,
    prompt: str,
    base: str,
    folder: Path | None,
    no_start: bool,
) -> None:
    """Serve a model with an OpenAI-compatible interface, by vLLM or transformers."""
    from langadapt import serving
    from langadapt.named_models import find

    chosen = serving.choose(server or "")
    made = serving.service(
        find(model, base=base), chosen, folder=folder, prompt=prompt, host=host, port=port, extra=extra
    )
    click.echo(f"langadapt: requests call the model {made.model}; prompt: {made.prompt}", err=True)
    if not made.chats:
        click.echo("langadapt: it has no chat template, so ask /v1/completions and not /v1/chat/completions", err=True)
    assignments = [f"{name}={shlex.quote(value)}" for name, value in made.environment.items()]
    click.echo(" ".join([*assignments, shlex.join(made.command)]))
    if not no_start:
        os.execvpe(made.command[0], made.command, os.environ | made.environment)
