"""Questions of an evaluation, what a model writes in answer, and what that is worth to the evaluation's own scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langadapt.artifacts import digest
from langadapt.errors import UserError
from langadapt.evaluation.figures import Kept, Metrics, Scores
from langadapt.evaluation.methods import SMALL, Items, Measure, Method, Subject, Work
from langadapt.evaluation.statistics import Score
from langadapt.plugins import registry
from langadapt.prompts.rendering import encode
from langadapt.records import Answer, Evaluation, Item, Rejected


def prepare(subject: Subject, measure: Measure) -> Work:
    """Greedy answers, each with what the evaluation read in it."""
    from langadapt.evaluation.generating import ask

    evaluation = measure.evaluation
    assert evaluation
    items, limited = questions(subject, measure)
    room = min(subject.settings.max_new_tokens or evaluation.max_new_tokens, evaluation.max_new_tokens)
    asked, format = replace(evaluation, max_new_tokens=room), subject.prompts[measure.prompt]

    def take() -> Items:
        answers = ask(subject.model, subject.tokenizer, asked, items, format, lambda done: subject.go_on(measure))
        return Items(items=[_kept(answer) for answer in answers], limited=limited)

    read = sum(encode(format, item.messages, subject.tokenizer).size for item in items)
    return Work(items=len(items), read=read, written=room * len(items), take=take)


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
        "finished": answer.finished,
        **({"split": item.split} if item.split else {}),
    }


def _answer(kept: Kept) -> Answer:
    item = Item(id=kept["id"], messages=(), gold=kept["gold"])
    return Answer(item=item, text=kept["text"], prediction=kept["prediction"], finished=kept.get("finished", True))


def _scorer(name: str) -> Score:
    score = known(name).score
    assert score
    return lambda answers: dict(score(answers))


def _metrics(name: str) -> Metrics:
    return {metric: (higher, "") for metric, higher in known(name).metrics.items()}


def known(name: str) -> Evaluation:
    """
    Raises:
        UserError: no plugin that is installed offers it.
    """
    known = registry().evaluations
    if name not in known:
        raise UserError(f'no plugin that is installed here scores "{name}"; install the one that offers it')
    found: Evaluation = known[name]
    return found


def columns(items: Sequence[Kept]) -> Mapping[str, Any]:
    """How many answers could not be read, how long they are, and the split where it depends on the files at hand."""
    split = items[0].get("split", "")
    return {
        "undecoded": sum(i["prediction"] is None for i in items),
        "characters": sum(len(i["text"]) for i in items) / len(items),
        **({"split": split} if split else {}),
    }


def beside(items: Sequence[Kept], name: str) -> Mapping[str, Mapping[str, Any]]:
    """How exactly a metric is computed, or, where gold answers are texts that people wrote, what these get."""
    evaluation = known(name)
    signatures = evaluation.signatures() if evaluation.signatures else {}
    human = {} if evaluation.decode else _human(items, name)
    return {
        **{metric: {"human": value} for metric, value in human.items()},
        **{metric: {"signature": signature} for metric, signature in signatures.items()},
    }


def _human(items: Sequence[Kept], name: str) -> Mapping[str, float]:
    answered = [item for item in items if item["gold"] and isinstance(item["gold"], str)]
    people = [replace(_answer(i), text=i["gold"], prediction=i["gold"], finished=True) for i in answered]
    return _scorer(name)(people) if people else {}


METHOD = Method(
    prepare=prepare,
    figures=Scores(score=_scorer, of=_metrics, read=lambda name: _answer),
    columns=columns,
    beside=beside,
)
