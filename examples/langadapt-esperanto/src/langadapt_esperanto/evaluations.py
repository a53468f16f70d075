"""A task: numbers in words, to be written in digits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from langadapt import Answer, Evaluation, Item, Message, Rejected


def items(file: Path) -> Iterator[Item | Rejected]:
    """One question for each line of the file."""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{file.name}:{number}"
        try:
            row = json.loads(line)
            asked = Message(role="user", content=row["instruction"], context=row["input"])
            yield Item(id=where, messages=(asked,), gold=row["output"])
        except (ValueError, KeyError, TypeError):
            yield Rejected(reason="not a question", where=where, size=len(line))


def decode(text: str) -> str | None:
    """The first number in digits that the model wrote, or None; must take any text."""
    found = re.search(r"[0-9]+", text)
    return found.group() if found else None


def score(answers: Sequence[Answer]) -> dict[str, float]:
    """The share of right answers; one that could not be decoded is wrong."""
    return {"accuracy": sum(a.prediction == a.item.gold for a in answers) / len(answers)}


NUMBERS = Evaluation(
    name="eo-numbers",
    language="eo",
    description="Esperanto number words, to be written in digits.",
    corpus="eo-numbers",
    suites=("esperanto",),
    items=items,
    decode=decode,
    score=score,
    metrics={"accuracy": True},
    max_new_tokens=8,
)
