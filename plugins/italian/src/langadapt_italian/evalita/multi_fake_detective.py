"""MULTI-Fake-DetectiVE, sub-task 1: how true is a post or article about the war in Ukraine, told by its text alone?

Files: tab-separated `ID, URL, Date, Type, Text, Media, Label`, quoted cells with line ends, as the organisers'
download_data.py writes them from the lists of addresses that they distribute (`ID, URL, Type, Label`, seen); columns as
in public code that reads its training file, MULTI-Fake-Detective_Task1_Data.tsv. Labels run from 0, certainly fake, to
3, certainly real. A list of addresses has no text, and its rows are refused as "no Text". The images are not used. What
participants called the downloaded test sets is not known: they are read under the names below.

Metric: weighted F1 (CEUR-WS Vol-3473 paper 32), the official test set and the additional one apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from langadapt import Answer
from langadapt_italian.evalita.answers import decode_label
from langadapt_italian.evalita.reading import Row, csv_rows, label_of, text_of
from langadapt_italian.evalita.scoring import weighted_f1
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = (
    "Quanto è attendibile la notizia data da questo testo? Rispondi solo con uno di questi giudizi: certamente falso, "
    "probabilmente falso, probabilmente vero, certamente vero."
)
DEGREES = ("certamente falso", "probabilmente falso", "probabilmente vero", "certamente vero")

_ENGLISH = ("Certainly Fake", "Probably Fake", "Probably Real", "Certainly Real")
_LABELS = {str(n): degree for n, degree in enumerate(DEGREES)} | dict(zip(_ENGLISH, DEGREES, strict=True))
_CERTAINLY = r"\b(?:certamente|sicuramente|senz'altro|di certo|certainly) "
_PROBABLY = r"\b(?:probabilmente|forse|probably) "
_PATTERNS = {
    "certamente falso": re.compile(_CERTAINLY + r"(?:fals|fake)"),
    "probabilmente falso": re.compile(_PROBABLY + r"(?:fals|fake)"),
    "probabilmente vero": re.compile(_PROBABLY + r"(?:ver[oa]|real)\b"),
    "certamente vero": re.compile(_CERTAINLY + r"(?:ver[oa]|real)\b"),
}


def example(row: Row) -> Example:
    """A post or article and how true it is."""
    text = text_of(row, "Text").strip()
    return Example(instruction=INSTRUCTION, context=text, gold=label_of(row, "Label", _LABELS))


def decode(text: str) -> str | None:
    """One of the four degrees, also "sicuramente falsa"; neither "vero" nor "falso" alone is one."""
    return decode_label(text, _PATTERNS)


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Mean F1 of the degrees in gold, each by its share."""
    return {"weighted_f1": weighted_f1([a.item.gold for a in answers], [a.prediction for a in answers])}


def _names(test: str) -> tuple[str, ...]:
    """Under which names a test set is read, `…_TEST_Data.tsv` first."""
    stem = f"MULTI-Fake-Detective_Task1_{test}"
    return (
        f"{stem}_Data.tsv",
        f"{stem}_Data_LABELLED_FILTERED.tsv",
        f"{stem}.tsv",
        f"{stem}_IDs_LABELLED_FILTERED.tsv",
    )


TASK = Task(
    name="multi-fake-detective",
    folder="multi-fake-detective",
    description="How true the news in an Italian post or article is, from certainly fake to certainly real.",
    licence="MULTI-Fake-DetectiVE organisers' terms (form)",
    where_to_get="fill in the forms on https://sites.google.com/unipi.it/multi-fake-detective/data, run their "
    "download_data.py on the lists of sub-task 1, and keep what it writes as MULTI-Fake-Detective_Task1_Data.tsv, "
    "MULTI-Fake-Detective_Task1_TEST_Data.tsv and MULTI-Fake-Detective_Task1_TEST-ADDITIONAL_Data.tsv",
    gated=True,
    train=("MULTI-Fake-Detective_Task1_Data.tsv",),
    test=(_names("TEST"),),
    beside=(_names("TEST"), _names("TEST-ADDITIONAL")),
    text=("Text",),
    rows=partial(csv_rows, delimiter="\t"),
    example=example,
    decode=decode,
    score=score,
    metrics={"weighted_f1": True},
)

TASK_ADDITIONAL = replace(
    TASK,
    name="multi-fake-detective-additional",
    description="How true the news in an Italian post or article is: posts of the same months as the training set's.",
    train=(),
    test=(_names("TEST-ADDITIONAL"),),
    learns_as="multi-fake-detective",
)
