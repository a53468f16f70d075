"""Who prepares the corpora of a recipe: this process, or tasks that an engine runs on other machines.

Either way the same shards come to lie in the cache, so an engine changes no digest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.corpus import engines, parts, shards
from langadapt.corpus.cache import cache_folder
from langadapt.corpus.parts import Part
from langadapt.errors import RunError, UserError, nearest

if TYPE_CHECKING:
    from langadapt.corpus.preparing import Source
    from langadapt.plan import Plan, PlannedStage
    from langadapt.recipe import Recipe

FOLDER = "preparation"  # in the run's folder, with a folder for each stage


def problems(recipe: Recipe) -> Iterator[str]:
    """Why the recipe's engine cannot be used here."""
    engine = recipe.table.preparation.engine
    if engine != "local" and (missing := engines.ENGINES[engine].missing()):
        yield f"preparation.engine is {engine}, and {missing}, or prepare here: --set preparation.engine=local"


def explain(recipe: Recipe) -> str:
    """How corpora are prepared, in words; "" where this process does it, as always."""
    table = recipe.table.preparation
    if table.engine == "local":
        return ""
    options = "".join(f", {name} = {value}" for name, value in table.options.items())
    return f"{table.tasks} tasks of {table.engine}{options}"


def sources(stage: PlannedStage) -> list[Source]:
    """The corpora of a stage that can be prepared in parts, each once.

    Raises:
        UserError: one cannot be read.
    """
    found = [made.source() for made in stage.inputs if stage.options.refs]
    return list({source.shared.entry.path: source for source in found if source.shared}.values())


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What became of a corpus of a stage.

    Attributes:
        made: shards that this process made; None where an engine's tasks did.
        there: shards that were there before, or in the end.
    """

    stage: str
    corpus: str
    made: int | None
    there: int

    def __str__(self) -> str:
        by = f"{self.made} shards made, {self.there} there before" if self.made is not None else f"{self.there} shards"
        return f"{self.stage}: {self.corpus}: {by}"

    def to_json(self) -> dict[str, Any]:
        return vars(self)


def part(plan: Plan, ids: Collection[str], task: int, tasks: int) -> list[Prepared]:
    """Prepares a part of what stages read, here: what a task of an engine does.

    Args:
        plan: of the run.
        ids: of stages; all when empty.
        task: which part, from 0.
        tasks: of how many.

    Raises:
        UserError: there is no such stage, a corpus cannot be read, or the cache cannot be written.
    """
    from langadapt.run import pin_corpora

    stages = _stages(plan, ids)
    pin_corpora(plan, stages)
    return [made for stage in stages for made in _here(stage, Part(number=task, of=tasks))]


def whole(plan: Plan, ids: Collection[str], say: Callable[[str], None]) -> list[Prepared]:
    """Prepares all that stages read, by the recipe's engine, as their run would.

    Args:
        plan: of the run.
        ids: of stages; all when empty, but for those that are done and those that read what a stage has yet to make.
        say: gets a line on each job of an engine.

    Raises:
        UserError: there is no such stage, a corpus cannot be read, or the cache cannot be written.
        RunError: tasks of the engine failed.
    """
    from langadapt.locks import locked
    from langadapt.run import pin_corpora

    stages = [stage for stage in _stages(plan, ids) if ids or (stage.status == "pending" and _can_be_read(stage))]
    if said := list(problems(plan.recipe)):
        raise UserError("\n".join(said))
    with locked(plan.folder):
        pin_corpora(plan, stages)
        if plan.recipe.table.preparation.engine == "local":
            return [made for stage in stages for made in _here(stage, Part())]
        artifacts.write_text(plan.folder / "recipe.toml", plan.recipe.to_toml())
        artifacts.write_json(plan.folder / "lock.json", plan.lock)
        for stage in stages:
            by_engine(plan, stage, say, lambda: False)
    return [
        Prepared(stage=stage.id, corpus=source.label, made=None, there=shards.count(source.shared.entry.path))
        for stage in stages
        for source in sources(stage)
        if source.shared
    ]


def _stages(plan: Plan, ids: Collection[str]) -> list[PlannedStage]:
    known = {stage.id: stage for stage in plan.stages if stage.options.refs}
    for id in ids:
        if id not in known:
            raise UserError(f'{plan.recipe.source}: no stage "{id}" reads corpora; {nearest(id, known)}')
    return [stage for id, stage in known.items() if not ids or id in ids]


def _can_be_read(stage: PlannedStage) -> bool:
    return all(made.where != "stage" or (made.path and made.path.is_file()) for made in stage.inputs)


def _here(stage: PlannedStage, wanted: Part) -> Iterator[Prepared]:
    for source in sources(stage):
        filled = parts.fill(source, wanted)
        yield Prepared(stage=stage.id, corpus=source.label, made=filled.made, there=filled.there)


def by_engine(plan: Plan, stage: PlannedStage, say: Callable[[str], None], stopped: Callable[[], bool]) -> None:
    """Has the recipe's engine prepare what is missing of a stage's corpora; nothing where the engine is this machine.

    The tasks read the recipe and the pinned revisions that lie in the run's folder.

    Args:
        plan: of the run.
        stage: whose corpora.
        say: gets a line on what is about to run.
        stopped: whether to stop; asked about once a second.

    Raises:
        UserError: the engine did not take the tasks.
        RunError: tasks failed, or nobody can see here what they made.
        Interrupted: `stopped` said so.
    """
    table = plan.recipe.table.preparation
    wanted = [] if table.engine == "local" else [s for s in sources(stage) if not parts.is_filled(s)]
    if not wanted:
        return
    folder = plan.folder.resolve()
    command = ["corpus", "prepare", str(folder / "recipe.toml"), "--out", str(folder), "--stage", stage.id]
    tasks = engines.Tasks(
        name=f"langadapt-{plan.recipe.table.name}-{stage.id}",
        command=(*command, "--tasks", str(table.tasks)),
        folder=folder / FOLDER / stage.id,
        numbers=tuple(range(table.tasks)),
        options=table.options,
    )
    say(f"{', '.join(s.label for s in wanted)}: prepared by {explain(plan.recipe)}; logs in {tasks.folder}")
    engines.run(table.engine, tasks, table.retries, stopped)
    lost = [source.label for source in wanted if not parts.is_begun(source)]
    if lost:
        raise RunError(
            f"corpus {lost[0]}: the tasks of {table.engine} are done, and what they prepared is not in {cache_folder()}; "
            "that folder (LANGADAPT_CACHE) must be the same on all machines, and so must be the versions of langadapt "
            "and of its plugins"
        )
