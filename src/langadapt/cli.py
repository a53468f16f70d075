"""The command line. Each verb is a thin layer over the Python API and imports it only when it is used."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from langadapt.commands import json_option, out_option, print_json, rehearse_option, set_option, try_anyway_option
from langadapt.commands.cache import cache
from langadapt.commands.chat import chat
from langadapt.commands.check_plugin import check_plugin
from langadapt.commands.compare import compare
from langadapt.commands.corpus import corpus
from langadapt.commands.doctor import doctor
from langadapt.commands.evaluate import evaluate
from langadapt.commands.export import export
from langadapt.commands.new_plugin import new_plugin
from langadapt.commands.serve import serve
from langadapt.commands.sweep import sweep
from langadapt.commands.tokenizer import tokenizer

if TYPE_CHECKING:
    from langadapt.recipe import Recipe

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

recipe_argument = click.argument("recipe", metavar="RECIPE")


class _InOrder(click.Group):
    """Lists the commands in the order in which they stand here, and not by the alphabet."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings=CONTEXT)
@click.version_option(package_name="langadapt")
def cli() -> None:
    """Take a base language model to a new language, by one recipe.

    RECIPE is a TOML file, or the name of a recipe that a plugin ships (see: langadapt plugins).
    """


@cli.command()
@recipe_argument
@rehearse_option
@set_option
@out_option
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="ID",
    help="Run only this stage, any number of times; what it starts from or reads must be done. Runs of different stages "
    "may share a folder.",
)
@try_anyway_option
@json_option
def run(
    recipe: str,
    rehearse: bool,
    overrides: tuple[str, ...],
    out: Path | None,
    stages: tuple[str, ...],
    try_anyway: bool,
    as_json: bool,
) -> None:
    """Run every stage that is not done yet, and write the report."""
    from rich.console import Console

    from langadapt import show

    loaded = _load(recipe, rehearse, overrides)
    plan = loaded.plan(out)
    console = Console(stderr=True)
    if not as_json:
        show.heading(plan, console)
    done = plan.execute(stages=stages, console=Console(stderr=True, quiet=as_json), try_anyway=try_anyway)
    if as_json:
        print_json({"run": done.state, "report": done.rows, "folder": str(done.folder)})
    else:
        show.results(done, Console())


@cli.command(short_help="Submit a Slurm job for every stage that is not done.")
@recipe_argument
@rehearse_option
@set_option
@out_option
@click.option("--dry-run", is_flag=True, help="Only print the batch scripts; nothing is written or submitted.")
@json_option
def submit(
    recipe: str, rehearse: bool, overrides: tuple[str, ...], out: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Submit a Slurm job for every stage that is not done, each waiting for those that it needs."""
    from langadapt import show
    from langadapt import submit as jobs

    plan = _load(recipe, rehearse, overrides).plan(out)
    made = jobs.submit(plan, dry_run=dry_run)
    if as_json:
        print_json(jobs.to_json(plan, made))
    elif dry_run:
        click.echo("\n".join(job.script for job in made), nl=False)
    else:
        from rich.console import Console

        show.submitted(plan, made, Console())


@cli.command()
@recipe_argument
@rehearse_option
@set_option
@json_option
def check(recipe: str, rehearse: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check every word of a recipe; all problems are reported at once."""
    from langadapt.errors import RecipeError, counted

    try:
        loaded = _load(recipe, rehearse, overrides)
    except RecipeError as error:
        if as_json:
            print_json({"ok": False, "problems": [vars(p) for p in error.problems]})
            sys.exit(2)
        raise
    if as_json:
        print_json({"ok": True, "problems": []})
    else:
        click.echo(f"{recipe}: {counted(len(loaded.stages), 'stage')}, nothing wrong")


@cli.command()
@recipe_argument
@rehearse_option
@set_option
@out_option
@json_option
def plan(recipe: str, rehearse: bool, overrides: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Show what a run would do, need and cost. Nothing is downloaded or trained."""
    from langadapt import show

    made = _load(recipe, rehearse, overrides).plan(out)
    if as_json:
        print_json(made.to_json())
    else:
        from rich.console import Console

        show.plan(made, Console())


@cli.command()
@recipe_argument
@rehearse_option
@set_option
@json_option
def fill(recipe: str, rehearse: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print the recipe with every default written out."""
    loaded = _load(recipe, rehearse, overrides)
    if as_json:
        print_json(loaded.filled())
    else:
        click.echo(loaded.to_toml(), nl=False)


@cli.command(short_help="List the installed plugins and what they offer.")
@json_option
def plugins(as_json: bool) -> None:
    """List the installed plugins, what they offer, and why one could not be loaded."""
    from langadapt import show
    from langadapt.plugins import registry

    found = registry().plugins
    if as_json:
        print_json([vars(p) for p in found])
    else:
        from rich.console import Console

        show.plugins(found, Console())


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def show(folder: Path, as_json: bool) -> None:
    """Show the results of a run's folder again."""
    from langadapt import artifacts, run_state
    from langadapt import show as screen
    from langadapt.run import Run

    state, rows = run_state.read(folder), artifacts.read_json(folder / "report.json")
    if as_json:
        print_json({"run": state, "report": rows or [], "folder": str(folder)})
    else:
        from rich.console import Console

        screen.results(Run(folder=folder, state=state, rows=rows or []), Console())


for command in (
    sweep,
    compare,
    evaluate,
    chat,
    serve,
    export,
    corpus,
    tokenizer,
    cache,
    new_plugin,
    check_plugin,
    doctor,
):
    cli.add_command(command)


@cli.command()
@click.option("--experiment", is_flag=True, help="Of experiments, and not of recipes.")
def schema(experiment: bool) -> None:
    """Print the JSON Schema of recipes, for editors."""
    from langadapt.schema import experiment_schema, recipe_schema

    print_json(experiment_schema() if experiment else recipe_schema())


def main() -> None:
    """Entry point: exit code 0 when done, 1 when a run failed, 2 for a slip of the user's."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        _fail("stopped", 2)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except KeyboardInterrupt:
        _fail("stopped", 2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        from langadapt.errors import LangadaptError
        from langadapt.plugins import fault_of_plugin

        told = error if isinstance(error, LangadaptError) else fault_of_plugin(error)
        if told is None:
            raise
        _fail(str(told), told.exit_code)


def _fail(message: str, code: int) -> None:
    for line in message.splitlines():
        click.echo(f"langadapt: {line}", err=True)
    sys.exit(code)


def _load(recipe: str, rehearse: bool, overrides: tuple[str, ...]) -> Recipe:
    from langadapt.recipe import Recipe

    loaded = Recipe.load(recipe, overrides)
    return loaded.rehearse() if rehearse else loaded
