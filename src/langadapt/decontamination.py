"""Which evaluations a recipe's training text is compared with; `langadapt.corpus.contamination` does the comparing."""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from langadapt import artifacts, harness
from langadapt.evaluation import harness_measures
from langadapt.recipe import Decontamination

if TYPE_CHECKING:
    from langadapt.corpus.questions import Asked
    from langadapt.harness import HarnessTask
    from langadapt.inputs import Input
    from langadapt.plan import PlannedStage, Planner
    from langadapt.records import Document, Evaluation, Item, Rejected

VERSION = 2  # raised when an index or a verdict would come out otherwise, so that caches and digests notice


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An evaluation whose data is at hand.

    Attributes:
        name: as a recipe calls it.
        input: its data.
        reader: what reads it, by versions.
        evaluation: of a plugin; None for a task of lm-evaluation-harness.
        task: such a task.
    """

    name: str
    input: Input
    reader: str
    evaluation: Evaluation | None = None
    task: HarnessTask | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of all that its part of an index depends on; "" while the revision on the hub is not known."""
        found = self.input.fingerprint
        return artifacts.digest([VERSION, found, self.input.reader, self.reader]) if found else ""

    def asked(self) -> Asked:
        """Its items, or the text that it scores, as they are read."""
        from langadapt.corpus.questions import Asked

        return Asked(evaluation=self.name, items=self._items())

    def _items(self) -> Iterable[Item | Document | Rejected]:
        if self.task:
            from langadapt.evaluation import harness_run

            return harness_run.items(self.task, self.input)
        assert self.evaluation
        if self.evaluation.items is None:
            return self.input.documents()
        assert self.input.path is not None
        return self.evaluation.items(self.input.path)


@dataclass(kw_only=True)
class Screen:
    """What a corpus is compared with before it is trained on."""

    options: Decontamination
    measured: tuple[Measured, ...]
    _index: Path | None = field(default=None, repr=False)

    def ingredients(self) -> dict[str, str]:
        """All that its verdicts depend on, in words and digests; a value is "" while it is not known."""
        limits = self.options.model_dump(include={"action", "ngram", "longest", "coverage"})
        return {
            **{f"decontamination.{key}": str(value) for key, value in limits.items()},
            **{f"decontamination against {m.name}": m.fingerprint for m in self.measured},
        }

    def index(self) -> Path:
        """Where the index of the evaluations lies; made on the first call, if no earlier run has made it.

        Raises:
            UserError: an evaluation cannot be read, or the cache cannot be written.
        """
        if self._index is None:
            from filelock import FileLock

            from langadapt.corpus import cache, questions

            entry = cache.entry("evaluations", ", ".join(m.name for m in self.measured), self.ingredients())
            held = ExitStack()  # nobody prunes it while workers may still open it
            held.enter_context(entry.used())
            atexit.register(held.close)
            with FileLock(entry.path / ".making"):
                if not entry.is_there:
                    questions.build((m.asked() for m in self.measured), self.options, entry.path)
                    entry.describe()
            self._index = entry.path
        return self._index


def plan(stages: Iterable[PlannedStage], planner: Planner) -> None:
    """Gives every corpus that is trained on its screen, and says which evaluations cannot be looked for."""
    options = planner.recipe.table.decontamination
    training = [s for s in stages if planner.registry.stages[s.kind].makes == "model" and s.options.refs]
    if not options.enabled or not training:
        return
    found, lacking = _measured(planner, options)
    screen = Screen(options=options, measured=tuple(found)) if found else None
    for stage in training:
        for input in stage.inputs:
            input.screen = screen
            same = tuple(m.name for m in found if _is_same_text(m, input))
            input.preparation = replace(input.preparation, skip=same)
        stage.notes += _notes(options, found, lacking)


def _notes(options: Decontamination, found: list[Measured], lacking: list[str]) -> Iterator[str]:
    if found:
        what = {"drop": "dropped", "mask": "cut out of running text", "report": "reported"}[options.action]
        which = f"{len(found)} evaluations" if len(found) > 1 else found[0].name
        yield f"text that holds items of {which} is {what}"
    if lacking:
        yield f"items are not looked for of evaluations without a copy at hand: {', '.join(lacking)}"


def _measured(planner: Planner, options: Decontamination) -> tuple[list[Measured], list[str]]:
    """Evaluations whose data is at hand, and the names of the others."""
    found: list[Measured] = []
    lacking: list[str] = []
    chosen = _asked(planner) if options.against is None else set(options.against)
    for evaluation in planner.registry.evaluations.values():
        if chosen.isdisjoint((evaluation.name, *evaluation.suites)):
            continue
        input = planner.measured_on(evaluation)
        owner = planner.registry.evaluations.owner(evaluation.name)
        reader = f"{owner.distribution} {owner.version}"
        if input.in_the_way(evaluation):
            lacking.append(evaluation.name)
        else:
            found.append(Measured(name=evaluation.name, input=input, reader=reader, evaluation=evaluation))
    names = sorted(name for name in chosen if harness.is_named(name))
    if names and not harness.version():
        lacking += names
    for task, data in harness_measures.with_data(names, planner, examples=False):
        name = task.named[0]
        if isinstance(data, str) or data.where == "missing":
            lacking.append(name)
        else:
            reader = f"{harness.PACKAGE} {harness.version()}, {task.version}"
            found.append(Measured(name=name, input=data, reader=reader, task=task))
    return found, lacking


def _asked(planner: Planner) -> set[str]:
    """Suites and single evaluations that the recipe's stages measure."""
    asking = [stage.options for stage in planner.recipe.stages if stage.kind == "evaluate"]
    return {suite for stage in asking for suite in planner.suites(getattr(stage, "suites", None))}


def _is_same_text(measured: Measured, input: Input) -> bool:
    """Whether an evaluation of running text scores the very corpus that is trained on: no screen can tell them apart."""
    if measured.evaluation is None or measured.evaluation.method != "bits_per_byte":
        return False
    same_record = input.record is not None and input.record is measured.input.record
    return same_record or (bool(input.fingerprint) and input.fingerprint == measured.input.fingerprint)
