"""Bits per byte of the answers in dialogues, given what comes before them."""

from __future__ import annotations

from langadapt.evaluation.bits_per_byte import score_answers
from langadapt.evaluation.methods import Items, Measure, Method, Subject, documents
from langadapt.evaluation.methods.text import bits, change, columns, kept
from langadapt.prompts.rendering import encode

METRIC = "answer_bits_per_byte"


def measure(subject: Subject, measure: Measure) -> Items:
    """The tokens that the prompt format has learnt."""
    read, limited = documents(measure, subject.most_dialogues)
    format = subject.prompts[measure.prompt]
    items = []
    for document in read:
        subject.go_on(measure)
        sequence = encode(format, document.messages, subject.tokenizer, measure.system_prompt)
        answers = "".join(m.content for m in document.messages if m.role == "assistant")
        items.append(kept(document.id, score_answers(subject.model, sequence, answers)))
    return Items(items=items, limited=limited)


METHOD = Method(
    measure=measure,
    figures=lambda items, name: {METRIC: bits(items)},
    changes=lambda before, after, name: {METRIC: change(before, after)},
    metrics=lambda items, name: {METRIC: (False, "bits/byte")},
    columns=columns,
)
