"""ACTI: conspiracy theories in Telegram comments. A: is it conspiratorial? B: which theory is it about?

Files: csv `Id,comment_text,conspiratorial` (A, 0 or 1) and `Id,comment_text,topic,conspiracy` (B, the topic's name and
its number); cells run over several lines. The Kaggle competitions' subtaskA_test.csv and subtaskB_test.csv have no
labels, so their rows are refused as "no label"; with labels, they are kept under that name or as …_with_labels.csv. The
two sub-tasks share comments: what one is measured on, the other does not learn from.

Metric: macro-F1 for both, over the classes that occur (arXiv 2307.06954; scikit-learn's definition).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from langadapt import Answer
from langadapt_italian.evalita.answers import YES_OR_NO, decode_label, decode_yes_or_no, macro_f1_of
from langadapt_italian.evalita.reading import Row, csv_rows, label_of, text_of
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION_A = (
    "Questo commento, pubblicato su Telegram, sostiene una teoria del complotto o la dà per vera? "
    "Rispondi solo con sì o no."
)
INSTRUCTION_B = (
    "A quale teoria del complotto si riferisce questo commento, pubblicato su Telegram? Rispondi solo con una di "
    "queste etichette: Covid, Qanon, Terra Piatta, Russia."
)
TOPICS = ("Covid", "Qanon", "Terra Piatta", "Russia")

_BY_NAME = {topic.casefold(): topic for topic in TOPICS}
_BY_NUMBER = {"0": "Covid", "1": "Qanon", "2": "Russia", "3": "Terra Piatta"}
_PATTERNS = {
    "Covid": re.compile(r"\bcovid|\bcorona ?virus\b"),
    "Qanon": re.compile(r"\bq[ -]?anon\b"),
    "Terra Piatta": re.compile(r"\bterra[ -]?piatt"),
    "Russia": re.compile(r"\b(?:filo|pro)?-?russ"),
}


def example_a(row: Row) -> Example:
    """A comment, conspiratorial or not."""
    text = text_of(row, "comment_text").strip()
    return Example(instruction=INSTRUCTION_A, context=text, gold=label_of(row, "conspiratorial", YES_OR_NO))


def example_b(row: Row) -> Example:
    """A conspiratorial comment and its theory, which the topic's name tells, or else its number."""
    text = text_of(row, "comment_text").strip()
    topic = _BY_NAME.get(str(row.cells.get("topic") or "").strip().casefold())
    return Example(instruction=INSTRUCTION_B, context=text, gold=topic or label_of(row, "conspiracy", _BY_NUMBER))


def decode_topic(text: str) -> str | None:
    """One of the four labels, also from "coronavirus", "Q-Anon", "terrapiattismo", "filorusso"."""
    return decode_label(text, _PATTERNS)


def score_a(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 over `sì` and `no`."""
    return {"macro_f1": macro_f1_of(answers)}


def score_b(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 over the theories, as many of the four as occur."""
    return {"macro_f1": macro_f1_of(answers)}


TASK_A = Task(
    name="acti-a",
    folder="acti",
    description="Whether an Italian Telegram comment is conspiratorial.",
    licence="ACTI organisers' terms (research)",
    where_to_get="join https://www.kaggle.com/competitions/acti-subtask-a (an account is needed) for "
    "subtaskA_train.csv, and ask the organisers for the labels of subtaskA_test.csv",
    gated=True,
    train=("subtaskA_train.csv",),
    test=(("subtaskA_test_with_labels.csv", "subtaskA_test.csv"),),
    beside=("subtaskA_test.csv", "subtaskB_test.csv", "subtaskB_test_with_labels.csv"),
    text=("comment_text",),
    rows=csv_rows,
    example=example_a,
    decode=decode_yes_or_no,
    score=score_a,
    metrics={"macro_f1": True},
)

TASK_B = Task(
    name="acti-b",
    folder="acti",
    description="Which conspiracy theory an Italian Telegram comment is about.",
    licence="ACTI organisers' terms (research)",
    where_to_get="join https://www.kaggle.com/competitions/acti-subtask-b (an account is needed) for "
    "subtaskB_train.csv, and ask the organisers for the labels of subtaskB_test.csv",
    gated=True,
    train=("subtaskB_train.csv",),
    test=(("subtaskB_test_with_labels.csv", "subtaskB_test.csv"),),
    beside=("subtaskB_test.csv", "subtaskA_test.csv", "subtaskA_test_with_labels.csv"),
    text=("comment_text",),
    rows=csv_rows,
    example=example_b,
    decode=decode_topic,
    score=score_b,
    metrics={"macro_f1": True},
)
