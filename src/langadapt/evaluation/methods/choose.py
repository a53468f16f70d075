"""Items with choices: how likely a model finds each of them, and what that is worth; see `langadapt.likelihood`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langadapt.evaluation.figures import Kept, Metrics, Scores
from langadapt.evaluation.methods import Items, Measure, Method, Subject, Work
from langadapt.evaluation.methods.task import known, questions
from langadapt.evaluation.statistics import Score
from langadapt.likelihood import METRICS, UNITS, outcome, summary
from langadapt.records import Answer, Item

NO_CHOICES = "no choices, or an empty one"


def prepare(subject: Subject, measure: Measure) -> Work:
    """The log-likelihood of every choice of every item."""
    from langadapt.evaluation.choosing import encode_choices, log_likelihoods

    asked, limited = questions(subject, measure)
    items = [item for item in asked if item.choices and all(item.choices)]
    if len(items) < len(asked):
        subject.skip(measure, NO_CHOICES, len(asked) - len(items))
    format = subject.prompts[measure.prompt] if measure.prompt else None
    sequences = [s for item in items for s in encode_choices(item, subject.tokenizer, format)]

    def take() -> Items:
        scores = iter(log_likelihoods(subject.model, sequences, lambda done: subject.go_on(measure)))
        return Items(items=[_kept(item, [next(scores) for _ in item.choices]) for item in items], limited=limited)

    return Work(items=len(items), read=sum(s.size for s in sequences), take=take)


def _kept(item: Item, logprobs: list[float]) -> Kept:
    likeliest = max(range(len(logprobs)), key=logprobs.__getitem__)
    return {
        "id": item.id,
        "asked": "\n".join(part for m in item.messages for part in (m.content, m.context) if part),
        "choices": list(item.choices),
        "gold": item.gold,
        "text": item.choices[likeliest],
        "prediction": likeliest,
        "logprobs": logprobs,
        **({"split": item.split} if item.split else {}),
    }


def _answer(kept: Kept) -> Answer:
    item = Item(id=kept["id"], messages=(), gold=kept["gold"], choices=tuple(kept["choices"]))
    return Answer(item=item, text=kept["text"], prediction=kept["prediction"], logprobs=tuple(kept["logprobs"]))


def _scorer(name: str) -> Score:
    """The evaluation's own scorer, which takes answers; without one accuracy and calibration, which are of outcomes."""
    score = known(name).score
    return (lambda answers: dict(score(answers))) if score else summary


def _reader(name: str) -> Callable[[Kept], Any]:
    return _answer if known(name).score else lambda item: outcome(_answer(item))


def metrics(name: str) -> Metrics:
    """The evaluation's own metrics, or those of multiple choice."""
    named = known(name).metrics or METRICS
    return {metric: (higher, UNITS.get(metric, "")) for metric, higher in named.items()}


def columns(items: Sequence[Kept]) -> Mapping[str, Any]:
    """The split, where it depends on the files at hand."""
    split = items[0].get("split", "")
    return {"split": split} if split else {}


METHOD = Method(prepare=prepare, figures=Scores(score=_scorer, of=metrics, read=_reader), columns=columns)
