"""What a plan makes of the names of lm-evaluation-harness in a recipe: tasks to ask, each with its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    table = planner.recipe.table
    language = planner.registry.languages[table.language]
    names = [n for s in suites for n in (language.lm_eval if s == harness.SUITE else [harness.own_name(s)])]
    if suites and not names:
        stage.problems.append(f'the plugin of {language.name} chose no tasks; name them: "{harness.SUITE}/TASK"')
    if names and not harness.version():
        stage.problems.append(harness.MISSING)
        return
    inputs: dict[tuple[str, ...], Input] = {}
    absent = []
    for task in harness.tasks(names, table.evaluation.num_fewshot):
        ours = any(harness.own_name(name) in language.lm_eval for name in task.named)
        try:
            found = _input(task, language.tag if ours else "", planner, inputs)
        except UserError as error:
            stage.problems.append(f"{task.named[0]}: {error}")
            continue
        if found.where == "missing":
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
