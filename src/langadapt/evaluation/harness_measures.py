"""What a plan makes of the names of lm-evaluation-harness in a recipe: tasks to ask, each with its data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from langadapt import harness
from langadapt.errors import UserError
from langadapt.evaluation.methods import Measure
from langadapt.harness import HarnessTask
from langadapt.inputs import Input
from langadapt.recipe import CorpusRef
from langadapt.records import Corpus, HubSource

if TYPE_CHECKING:
    from langadapt.plan import PlannedStage, Planner


def measures(suites: Sequence[str], stage: PlannedStage, planner: Planner) -> Iterator[Measure]:
    """The tasks that the suites name; `lm-eval` alone stands for those that the language's plugin chose.

    What is in the way of one is added to the stage's problems; in a rehearsal, a task without a copy is noted and left
    out.
    """
    language = planner.registry.languages[planner.recipe.table.language]
    if suites and not _names(suites, planner):
        stage.problems.append(f'the plugin of {language.name} chose no tasks; name them: "{harness.SUITE}/TASK"')
    elif suites and not harness.version():
        stage.problems.append(harness.MISSING)
    absent = []
    for task, found in with_data(suites, planner):
        if isinstance(found, str):
            stage.problems.append(f"{task.named[0]}: {found}")
        elif found.where == "missing":
            absent.append(task.named[0])
        else:
            yield Measure(
                method="lm_eval", task=task.name, suite=harness.SUITE, split=task.evaluated, input=found, harness=task
            )
    if absent:
        stage.notes.append(
            f"left out, because a rehearsal fetches nothing: {', '.join(absent)}; "
            f'say where copies lie: [data] "{absent[0]}" = "FOLDER"'
        )


def with_data(
    suites: Iterable[str], planner: Planner, *, examples: bool = True
) -> Iterator[tuple[HarnessTask, Input | str]]:
    """The tasks that the suites name, each with its data or with what is in the way of it; none without the harness.

    Args:
        suites: names of a recipe's.
        planner: of the plan.
        examples: whether the examples before each question count too.
    """
    if not (harness.version() and (names := _names(suites, planner))):
        return
    language = planner.registry.languages[planner.recipe.table.language]
    inputs: dict[tuple[str, ...], Input] = {}
    for task in harness.tasks(names, planner.recipe.table.evaluation.num_fewshot):
        task = task if examples else replace(task, num_fewshot=0)
        ours = any(harness.own_name(name) in language.lm_eval for name in task.named)
        try:
            yield task, _input(task, language.tag if ours else "", planner, inputs)
        except UserError as error:
            yield task, str(error)


def _names(suites: Iterable[str], planner: Planner) -> list[str]:
    """What the harness calls what the suites name."""
    chosen = planner.registry.languages[planner.recipe.table.language].lm_eval
    return [n for s in suites for n in (chosen if s == harness.SUITE else [harness.own_name(s)])]


def _input(task: HarnessTask, language: str, planner: Planner, inputs: dict[tuple[str, ...], Input]) -> Input:
    """The user's copy of a task's data, else the data set on the hub; tasks that read the same share it."""
    if task.problem:
        raise UserError(task.problem)
    given = planner.recipe.table.data
    place = next((given[name] for name in task.named if name in given), "")
    if not place and harness.brings_files(task):
        raise UserError(f'its definition names no data set of the hub; say where a copy lies: [data] "{task.named[0]}"')
    label = "/".join(filter(None, (task.dataset, task.config)))
    key = (label, language, place, *sorted(task.splits if place else ()))
    if key not in inputs:
        inputs[key] = _found(task, label, language, planner, place)
    return inputs[key]


def _found(task: HarnessTask, label: str, language: str, planner: Planner, place: str) -> Input:
    record = Corpus(
        name=label,
        language=language,
        licence="as its page on the hub says",
        description=f"What {task.named[0]} of lm-evaluation-harness asks.",
        source=HubSource(repo_id=task.dataset, pattern="*"),
    )
    made = Input(
        label=label, where="missing", ref=CorpusRef(name=label, held_out=0), record=record, licence=record.licence
    )
    if place:
        copy = harness.copy_of(task, place)
        made.where, made.path, made.fingerprint = "local", Path(copy.path), copy.digest
    elif not planner.recipe.rehearsal:
        made.where, made.fingerprint = "hub", planner.pinned.get(task.dataset, "")
    return made
