"""Which of two answers a model prefers, by their probabilities; see `langadapt.evaluation.preferences`."""

from __future__ import annotations

from typing import Any

from langadapt.evaluation.bits_per_byte import score_answers
from langadapt.evaluation.methods import Items, Measure, Method, Subject, documents
from langadapt.evaluation.preferences import METRICS, comparable, score_preferences
from langadapt.evaluation.statistics import paired_difference, resampled
from langadapt.prompts.rendering import encode_pair
from langadapt.records import Document


def measure(subject: Subject, measure: Measure) -> Items:
    """Pairs; where there are none, answers that were judged one by one. The others are counted by what they lack."""
    read, limited = documents(measure, subject.most_dialogues)
    scored = []
    for document in read:
        subject.go_on(measure)
        scored.append(_scored(subject, measure, document))
    items, lacking = comparable(scored)
    for reason, count in lacking.items():
        subject.skip(measure, reason, count)
    return Items(items=items, limited=limited)


def _scored(subject: Subject, measure: Measure, document: Document) -> dict[str, Any]:
    pair = encode_pair(subject.prompts[measure.prompt], document, subject.tokenizer, measure.system_prompt)
    answers = {"chosen": "".join(m.content for m in document.messages[-1:]), "rejected": document.rejected}
    item: dict[str, Any] = {"id": document.id}
    for side, answer in answers.items():
        if (sequence := getattr(pair, side)).size:
            scored = score_answers(subject.model, sequence, answer)
            item |= {side: scored.nll, f"{side}_bytes": scored.bytes}
    return item


METHOD = Method(
    measure=measure,
    figures=lambda items, name: resampled(score_preferences, items),
    changes=lambda before, after, name: paired_difference(score_preferences, before, after),
    metrics=lambda items, name: METRICS,
)
