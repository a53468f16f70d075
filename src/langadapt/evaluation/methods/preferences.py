"""Which of two answers a model prefers, by their probabilities; see `langadapt.evaluation.preferences`."""

from __future__ import annotations

from typing import Any

from langadapt.corpus.packing import Pair
from langadapt.evaluation.figures import Scores
from langadapt.evaluation.methods import Items, Measure, Method, Subject, Work, documents
from langadapt.evaluation.preferences import METRICS, comparable, score_preferences
from langadapt.prompts.rendering import encode_pair
from langadapt.records import Document


def prepare(subject: Subject, measure: Measure) -> Work:
    """Pairs; where there are none, answers that were judged one by one. The others are counted by what they lack."""
    read, limited = documents(measure, subject.most_dialogues)
    format = subject.prompts[measure.prompt]
    pairs = [(document, encode_pair(format, document, subject.tokenizer, measure.system_prompt)) for document in read]

    def take() -> Items:
        scored = []
        for document, pair in pairs:
            subject.go_on(measure)
            scored.append(_scored(subject.model, document, pair))
        items, lacking = comparable(scored)
        for reason, count in lacking.items():
            subject.skip(measure, reason, count)
        return Items(items=items, limited=limited)

    return Work(items=len(pairs), read=sum(p.chosen.size + p.rejected.size for _, p in pairs), take=take)


def _scored(model: Any, document: Document, pair: Pair) -> dict[str, Any]:
    from langadapt.evaluation.bits_per_byte import score_answers

    answers = {"chosen": "".join(m.content for m in document.messages[-1:]), "rejected": document.rejected}
    item: dict[str, Any] = {"id": document.id}
    for side, answer in answers.items():
        if (sequence := getattr(pair, side)).size:
            scored = score_answers(model, sequence, answer)
            item |= {side: scored.nll, f"{side}_bytes": scored.bytes}
    return item


METHOD = Method(prepare=prepare, figures=Scores(score=lambda name: score_preferences, of=lambda name: METRICS))
