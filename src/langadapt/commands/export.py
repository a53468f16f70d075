"""`langadapt export`: a model in the formats that others run. A thin layer over `langadapt.export`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from langadapt.commands import base_option, explains_model, json_option, print_json
from langadapt.export import FORMATS

if TYPE_CHECKING:
    from langadapt.export.upload import Upload


@click.command(short_help="Write a model as safetensors, adapter or GGUF; upload it.")
@click.argument("model", metavar="MODEL")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "--format",
    "formats",
    multiple=True,
    required=True,
    type=click.Choice(list(FORMATS)),
    metavar="NAME",
    help=f"What to write, any number of times: {', '.join(FORMATS)}.",
)
@base_option
@click.option(
    "--push-to-hub",
    "repo_id",
    metavar="OWNER/NAME",
    help="Then upload the formats and the run's model card, after showing what would go and asking.",
)
@click.option(
    "--public",
    is_flag=True,
    help="Make the repository for everyone to see; without it, it is private, and one that is public "
    "already is refused.",
)
@click.option("--yes", is_flag=True, help="Upload without asking; needed where nobody can be asked.")
@click.option("--force", is_flag=True, help="Replace formats that are in OUT.")
@json_option
@explains_model
def export(
    model: str,
    out: Path,
    formats: tuple[str, ...],
    base: str,
    repo_id: str | None,
    public: bool,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a model as safetensors, adapter or GGUF, each into a folder of OUT.

    Weights that are in a GGUF file already are not written again.
    """
    formats = tuple(dict.fromkeys(formats))
    _check(out, formats, repo_id=repo_id, public=public, yes=yes, force=force)

    from langadapt.export.source import find

    source = find(model, base=base)
    if repo_id:
        from langadapt.export.upload import check_access

        check_access(repo_id, public=public)
    from langadapt.export.writing import export as write

    sizes = write(source, formats, out, say=lambda line: click.echo(line, err=True))
    address = ""
    if repo_id:
        from langadapt.export import upload

        address = _push(upload.prepare(repo_id, out, formats, card=source.card, public=public), yes=yes)
    if as_json:
        print_json({"folder": str(out), "bytes": sizes, "hub": address or None})
    else:
        _show(out, sizes, address)


def _check(out: Path, formats: tuple[str, ...], *, repo_id: str | None, public: bool, yes: bool, force: bool) -> None:
    """Refuses before anything long starts."""
    from langadapt.errors import UserError

    if (public or yes) and not repo_id:
        raise click.UsageError("--public and --yes are of an upload; say where to with --push-to-hub OWNER/NAME")
    if repo_id and not yes and not _can_ask():
        raise UserError(f"{repo_id}: nobody can be asked here whether to upload; to do it all the same, add --yes")
    there = [name for name in formats if (out / name).exists()]
    if there and not force:
        raise UserError(f"{out / there[0]} is there already; choose another folder, or replace it with --force")


def _can_ask() -> bool:
    return sys.stdin.isatty()


def _push(upload: Upload, *, yes: bool) -> str:
    """Uploads after a look at what would be uploaded; "" when that is declined."""
    from langadapt.errors import counted
    from langadapt.export.upload import push

    kind = "private" if upload.private else "public"
    for name, file in upload.files.items():
        click.echo(f"  {file.stat().st_size:>15,}  {name}", err=True)
    click.echo(
        f"{counted(len(upload.files), 'file')}, {upload.bytes / 1e6:.1f} MB, to {upload.repo_id}, {kind}", err=True
    )
    if yes or click.confirm("Upload them?", default=False, err=True):
        return push(upload)
    return ""


def _show(out: Path, sizes: Mapping[str, int], address: str) -> None:
    for name, size in sizes.items():
        click.echo(f"{out / name}  {size / 1e6:.1f} MB")
    if address:
        click.echo(f"uploaded: {address}")
