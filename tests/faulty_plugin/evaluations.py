"""Evaluations; the first two are sound."""

from __future__ import annotations

import itertools
from dataclasses import replace

from langadapt import Evaluation, Item, Message, Rejected

ASKED = (Message(role="user", content="How many?"),)
NUMBERS = ("one", "two", "three", "four")
_CALLS = itertools.count()


def items(path):
    return [Item(id=f"{n}", messages=ASKED, gold=number) for n, number in enumerate(NUMBERS)]


def choices(path):
    return [Item(id=f"{n}", messages=ASKED, gold=n % 2, choices=("yes", "no")) for n in range(4)]


def score(answers):
    return {"accuracy": sum(a.prediction == a.item.gold for a in answers) / len(answers)}


SOUND = Evaluation(
    name="sound-evaluation",
    language="qaa",
    description="Numbers.",
    corpus="sound-corpus",
    suites=("faulty",),
    items=items,
    decode=lambda text: next((n for n in NUMBERS if n in text), None),
    score=score,
    metrics={"accuracy": True},
)
CHOICE = Evaluation(
    name="sound-choice",
    language="qaa",
    description="Yes or no.",
    corpus="sound-corpus",
    suites=("faulty",),
    method="choose",
    items=choices,
)


def faulty(name: str, of: Evaluation = SOUND, **fields) -> Evaluation:
    return replace(of, name=name, **fields)


def each(change):
    """The sound items, each changed."""
    return lambda path: [replace(item, **change(item)) for item in items(path)]


def chosen(**fields):
    return lambda path: [replace(item, **fields) for item in choices(path)]


EVALUATIONS = (
    SOUND,
    CHOICE,
    faulty("tagless", language="english"),
    faulty("no-corpus", corpus="sound-corpse"),
    faulty("no-suite", suites=()),
    faulty("no-score", score=None),
    faulty("bare-generation", bare=True),
    faulty("text-with-items", method="bits_per_byte"),
    faulty("no-items", items=lambda path: []),
    faulty("refuses-a-row", items=lambda path: [*items(path), Rejected(reason="no number", where="numbers:9")]),
    faulty("one-id", items=each(lambda item: {"id": "1"})),
    faulty("new-ids", items=lambda path: [Item(id=f"{next(_CALLS)}", messages=ASKED, gold="one")]),
    faulty("asks-nothing", items=each(lambda item: {"messages": ()})),
    faulty("ends-with-an-answer", items=each(lambda item: {"messages": (Message(role="assistant", content="?"),)})),
    faulty("empty-question", items=each(lambda item: {"messages": (Message(role="user", content=" "),)})),
    faulty("gold-is-a-set", items=each(lambda item: {"gold": {item.gold}})),
    faulty("gold-not-decoded", decode=lambda text: text.upper()),
    faulty("second-line", items=each(lambda item: {"gold": f"It is\n{item.gold}"}), decode=lambda text: text),
    faulty("decode-raises", decode=lambda text: text.split()[0]),
    faulty("decodes-to-a-set", decode=lambda text: set(text)),
    faulty(
        "score-raises",
        score=lambda answers: {"accuracy": len(answers) / sum(a.prediction is not None for a in answers)},
    ),
    faulty("other-metric", score=lambda answers: {"acc": 1.0}),
    faulty("score-is-text", score=lambda answers: {"accuracy": "good"}),
    faulty("wrong-way", metrics={"accuracy": False}),
    faulty("always-half", score=lambda answers: {"accuracy": 0.5}),
    faulty("no-number", score=lambda answers: {"accuracy": float("nan")}),
    faulty("odd-signature", signatures=lambda: {"bleu": "BLEU"}),
    faulty("one-choice", CHOICE, items=chosen(choices=("yes",), gold=0)),
    faulty("gold-out-of-range", CHOICE, items=chosen(gold=2)),
    faulty("gold-is-text", CHOICE, items=chosen(gold="yes")),
    faulty("same-choice", CHOICE, items=chosen(choices=("yes", "yes"))),
    faulty("empty-choice", CHOICE, items=chosen(choices=("yes", ""))),
    faulty("decodes-choices", CHOICE, decode=lambda text: text),
)
