"""Ways of measuring, a module each, with a `METHOD` at its end.

A method makes items of a model, one for each document, pair or question, and figures of items. What figures need is in
the items, and items are kept, so that two models can be compared on what both were measured on without asking them
again. Figures need no model, so what loads torch is imported where items are made and not at the head of a module: a run in
which everything is done already stays quick.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from langadapt.errors import Interrupted

if TYPE_CHECKING:
    from langadapt.evaluation.figures import Figures, Kept
    from langadapt.harness import HarnessTask
    from langadapt.inputs import Input
    from langadapt.recipe import EvaluationTable
    from langadapt.records import Document, Evaluation, PromptFormat

Name = Literal["text", "answers", "preferences", "task", "choose", "lm_eval"]

SMALL = 100  # documents or items: a part of the data that is smaller than this is marked as no measurement


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing to measure.

    Attributes:
        method: name of the module here that does it.
        task: row name in reports.
        suite: what it was named by.
        split: which part of the data.
        input: the data.
        prompt: name of the prompt format; "" where nothing is asked.
        system_prompt: in the place of the format's own.
        evaluation: the plugin's record; None for what a recipe's own corpora keep back, and for the harness's tasks.
        harness: the task of lm-evaluation-harness (`lm_eval`).
    """

    method: Name
    task: str
    suite: str
    split: str
    input: Input
    prompt: str = ""
    system_prompt: str = ""
    evaluation: Evaluation | None = None
    harness: HarnessTask | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under a measure.

    Attributes:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        settings: the recipe's `[evaluation]`.
        prompts: formats by name.
        stop: set when the run is to end.
        skipped: how many items were left out, by reason; added to.
    """

    model: Any
    tokenizer: Any
    settings: EvaluationTable
    prompts: Mapping[str, PromptFormat]
    stop: threading.Event = field(default_factory=threading.Event)
    skipped: Counter[str] = field(default_factory=Counter)

    def go_on(self, measure: Measure) -> None:
        """Asked between items.

        Raises:
            Interrupted: the run is to end.
        """
        if self.stop.is_set():
            raise Interrupted(f"stopped while measuring {measure.task}; the same command goes on")

    def skip(self, measure: Measure, reason: str, count: int = 1) -> None:
        """Counts what is left out."""
        self.skipped[f"{measure.task}: {reason}"] += count

    @property
    def most_dialogues(self) -> int:
        """Dialogues scored at most; 0 for all."""
        return min(filter(None, (self.settings.max_documents, self.settings.max_items)), default=0)


@dataclass(frozen=True, kw_only=True)
class Items:
    """What a method made of a model; `limited` where they are too small a part of the data to be a measurement."""

    items: Sequence[Kept]
    limited: bool


@dataclass(frozen=True, kw_only=True)
class Work:
    """A measure that can be taken.

    Attributes:
        items: how many.
        read: tokens that go through the model.
        written: tokens that it writes, at most.
        take: does it.
        known: whether all of that is known before.
    """

    items: int
    read: int
    take: Callable[[], Items]
    written: int = 0
    known: bool = True


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of measuring.

    Attributes:
        prepare: subject and measure in, what is to be done out; data is read and nothing is asked of the model.
        figures: what follows from items.
        columns: items in, further columns of their rows out.
        beside: items and the evaluation's name in; by metric, further columns of its row out.
    """

    prepare: Callable[[Subject, Measure], Work]
    figures: Figures
    columns: Callable[[Sequence[Kept]], Mapping[str, Any]] = lambda items: {}
    beside: Callable[[Sequence[Kept], str], Mapping[str, Mapping[str, Any]]] = lambda items, name: {}


def method(name: str) -> Method:
    """The method of that name."""
    found: Method = import_module(f"{__name__}.{name}").METHOD
    return found


def rows(measure: Measure, made: Items) -> list[dict[str, Any]]:
    """The figures of a measure as rows of a report."""
    if not made.items:
        return []
    how = method(measure.method)
    metrics, columns = how.figures.metrics(made.items, measure.task), how.columns(made.items)
    beside = how.beside(made.items, measure.task)
    several = len(made.items) > 1  # resampling one item says nothing of how sure a figure is
    return [
        {
            "metric": metric,
            "value": found.value,
            "n": len(made.items),
            "ci_low": found.low if several else None,
            "ci_high": found.high if several else None,
            "higher_is_better": metrics[metric][0],
            "unit": metrics[metric][1],
            **columns,
            **beside.get(metric, {}),
            "limited": made.limited,
        }
        for metric, found in how.figures.intervals(made.items, measure.task).items()
    ]


def documents(measure: Measure, limit: int) -> tuple[list[Document], bool]:
    """What to score: the held-out side of a training corpus, or all of an evaluation corpus; at most `limit`.

    Returns:
        Documents, and whether they are too small a part to be a measurement.
    """
    from langadapt.corpus.preparing import Accounting, clean

    source = measure.input.source()
    side = "held_out" if source.held_out else "train"
    kept = list(islice((d for found, d in clean(source, Accounting()) if found == side), limit or None))
    return kept, bool(limit) and len(kept) == limit < SMALL
