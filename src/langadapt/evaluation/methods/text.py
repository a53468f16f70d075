"""Bits per byte of running text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langadapt.evaluation.figures import BitsPerByte, Kept
from langadapt.evaluation.methods import Items, Measure, Method, Subject, Work, documents

if TYPE_CHECKING:
    from langadapt.evaluation.bits_per_byte import Scored


def prepare(subject: Subject, measure: Measure) -> Work:
    """Documents whose tokens do not give the text back are left out: bytes would be counted that were never scored."""
    from langadapt.evaluation.bits_per_byte import reversible, score_text

    read, limited = documents(measure, subject.settings.max_documents)
    texts = []
    for document in read:
        subject.go_on(measure)
        if reversible(subject.tokenizer, document.content):
            texts.append((document.id, document.content))
        else:
            subject.skip(measure, "tokens do not give the text back")

    def take() -> Items:
        items = []
        for id, text in texts:
            subject.go_on(measure)
            items.append(kept(id, score_text(subject.model, subject.tokenizer, text)))
        return Items(items=items, limited=limited)

    return Work(items=len(texts), read=sum(_read(subject.tokenizer, text) for _, text in texts), take=take)


def _read(tokenizer: Any, text: str) -> int:
    """Inputs of all windows, most tokens twice."""
    from langadapt.evaluation.bits_per_byte import windows

    return sum(end - first for first, _, end in windows(len(tokenizer(text, add_special_tokens=False)["input_ids"])))


def kept(id: str, scored: Scored) -> Kept:
    """A scored text as it is kept."""
    return {"id": id, "nll": scored.nll, "bytes": scored.bytes, "tokens": scored.tokens}


def columns(items: Sequence[Kept]) -> Mapping[str, Any]:
    """How much was scored, in which windows."""
    from langadapt.evaluation.bits_per_byte import LENGTH, STRIDE

    scored = {unit: sum(item[unit] for item in items) for unit in ("bytes", "tokens")}
    return {**scored, "window": LENGTH, "stride": STRIDE}


METHOD = Method(prepare=prepare, figures=BitsPerByte("bits_per_byte"), columns=columns)
