"""Bits per byte of the answers in dialogues, given what comes before them."""

from __future__ import annotations

from langadapt.evaluation.figures import BitsPerByte
from langadapt.evaluation.methods import Items, Measure, Method, Subject, Work, documents
from langadapt.evaluation.methods.text import columns, kept
from langadapt.prompts.rendering import encode


def prepare(subject: Subject, measure: Measure) -> Work:
    """The tokens that the prompt format has learnt."""
    from langadapt.evaluation.bits_per_byte import score_answers

    read, limited = documents(measure, subject.most_dialogues)
    format = subject.prompts[measure.prompt]
    encoded = [
        (document, encode(format, document.messages, subject.tokenizer, measure.system_prompt)) for document in read
    ]

    def take() -> Items:
        items = []
        for document, sequence in encoded:
            subject.go_on(measure)
            answers = "".join(m.content for m in document.messages if m.role == "assistant")
            items.append(kept(document.id, score_answers(subject.model, sequence, answers)))
        return Items(items=items, limited=limited)

    return Work(items=len(encoded), read=sum(sequence.size for _, sequence in encoded), take=take)


METHOD = Method(prepare=prepare, figures=BitsPerByte("answer_bits_per_byte"), columns=columns)
