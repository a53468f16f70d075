"""Bits per byte of running text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langadapt.evaluation.bits_per_byte import LENGTH, STRIDE, Scored, reversible, score_text
from langadapt.evaluation.figures import BitsPerByte, Kept
from langadapt.evaluation.methods import Items, Measure, Method, Subject, documents


def measure(subject: Subject, measure: Measure) -> Items:
    """Documents whose tokens do not give the text back are left out: bytes would be counted that were never scored."""
    read, limited = documents(measure, subject.settings.max_documents)
    items = []
    for document in read:
        subject.go_on(measure)
        if reversible(subject.tokenizer, document.content):
            items.append(kept(document.id, score_text(subject.model, subject.tokenizer, document.content)))
        else:
            subject.skip(measure, "tokens do not give the text back")
    return Items(items=items, limited=limited)


def kept(id: str, scored: Scored) -> Kept:
    """A scored text as it is kept."""
    return {"id": id, "nll": scored.nll, "bytes": scored.bytes, "tokens": scored.tokens}


def columns(items: Sequence[Kept]) -> Mapping[str, Any]:
    """How much was scored, in which windows."""
    scored = {unit: sum(item[unit] for item in items) for unit in ("bytes", "tokens")}
    return {**scored, "window": LENGTH, "stride": STRIDE}


METHOD = Method(measure=measure, figures=BitsPerByte("bits_per_byte"), columns=columns)
