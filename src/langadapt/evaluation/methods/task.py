"""Questions of an evaluation, what a model writes in answer, and what that is worth to the evaluation's own scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langadapt.artifacts import digest
from langadapt.evaluation.generating import ask
from langadapt.evaluation.methods import SMALL, Items, Kept, Measure, Method, Subject
from langadapt.evaluation.statistics import Interval, paired_difference, resampled
from langadapt.plugins import registry
from langadapt.records import Answer, Item, Rejected

Scorer = Callable[[Sequence[Any]], dict[str, float]]


def measure(subject: Subject, measure: Measure) -> Items:
    """Greedy answers, each with what the evaluation read in it."""
    evaluation = measure.evaluation
    assert evaluation
    items, limited = questions(subject, measure)
    room = subject.settings.max_new_tokens or evaluation.max_new_tokens
    asked = replace(evaluation, max_new_tokens=min(room, evaluation.max_new_tokens))
    format = subject.prompts[measure.prompt]
    answers = ask(subject.model, subject.tokenizer, asked, items, format, lambda done: subject.go_on(measure))
    return Items(items=[_kept(answer) for answer in answers], limited=limited)


def questions(subject: Subject, measure: Measure) -> tuple[list[Item], bool]:
    """The items of an evaluation, as many as the recipe lets be asked.

    They are chosen by hash, so that the choice is the same for every model and does not follow the file's order.

    Returns:
        Items, and whether they are too small a part to be a measurement.
    """
    assert measure.evaluation and measure.evaluation.items and measure.input.path
    items: list[Item] = []
    for item in measure.evaluation.items(measure.input.path):
        if isinstance(item, Rejected):
            subject.skip(measure, item.reason)
        else:
            items.append(item)
    if not items:
        subject.skip(measure, "no items")
    limit = subject.settings.max_items
    if not limit or len(items) <= limit:
        return items, False
    return sorted(items, key=lambda item: digest(item.id))[:limit], limit < SMALL


def _kept(answer: Answer) -> Kept:
    item = answer.item
    return {
        "id": item.id,
        "asked": "\n".join(part for m in item.messages for part in (m.content, m.context) if part),
        "gold": item.gold,
        "text": answer.text,
        "prediction": answer.prediction,
        **({"split": item.split} if item.split else {}),
    }


def _answer(kept: Kept) -> Answer:
    item = Item(id=kept["id"], messages=(), gold=kept["gold"])
    return Answer(item=item, text=kept["text"], prediction=kept["prediction"])


def _scorer(name: str) -> Scorer:
    score = registry().evaluations[name].score
    assert score
    return lambda answers: dict(score(answers))


def columns(items: Sequence[Kept]) -> Mapping[str, Any]:
    """How many answers could not be read, and the split where it depends on the files at hand."""
    split = items[0].get("split", "")
    return {"undecoded": sum(i["prediction"] is None for i in items), **({"split": split} if split else {})}


def figures(items: Sequence[Kept], name: str) -> Mapping[str, Interval]:
    """Every value of the evaluation's scorer."""
    return resampled(_scorer(name), [_answer(item) for item in items])


def changes(before: Sequence[Kept], after: Sequence[Kept], name: str) -> Mapping[str, Interval]:
    """How far the values moved."""
    return paired_difference(_scorer(name), [_answer(a) for a in before], [_answer(b) for b in after])


METHOD = Method(
    measure=measure,
    figures=figures,
    changes=changes,
    metrics=lambda items, name: {m: (higher, "") for m, higher in registry().evaluations[name].metrics.items()},
    columns=columns,
)
