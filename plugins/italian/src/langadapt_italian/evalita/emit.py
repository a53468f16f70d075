"""EMit: which emotions a message about a programme expresses (A), and what it speaks of (B).

Files: csv `id,text` and a column of 0 and 1 for each label: `Anger, Anticipation, Disgust, Fear, Joy, Love, Neutral,
Sadness, Surprise, Trust` (emit_train_A.csv), `Direction, Topic` (emit_train_B.csv), or all twelve (emit_train.csv and
the test sets with answers, emit_test.csv in the domain of the training set and emit_test_ood.csv outside it). Names as in
github.com/oaraque/emit, columns as in its evaluate.py; the archives themselves are under a password and not seen.

Metric: evaluate.py there: macro-F1 over the ten columns (A) or the two (B), each test set apart. An answer that could
not be decoded names no label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import fsum
from typing import Any

from langadapt import Answer
from langadapt_italian.evalita.answers import decode_label, first_line
from langadapt_italian.evalita.reading import BadRow, Row, code_of, csv_rows, text_of
from langadapt_italian.evalita.scoring import class_f1
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION_A = (
    "Quali emozioni esprime questo messaggio? Scegli tra rabbia, anticipazione, disgusto, paura, gioia, amore, "
    "tristezza, sorpresa e fiducia, e se sono più d'una separale con una virgola. Se il messaggio non esprime "
    "emozioni, rispondi: neutro."
)
INSTRUCTION_B = (
    "A che cosa si rivolge questo messaggio su un programma? Rispondi «argomento» se parla dei temi, delle vicende o "
    "degli ospiti, «direzione» se parla del programma in sé o di chi lo fa, «entrambi» se parla degli uni e dell'altro, "
    "«non specificato» se non parla di nessuno dei due."
)
EMOTIONS = {
    "Anger": "rabbia",
    "Anticipation": "anticipazione",
    "Disgust": "disgusto",
    "Fear": "paura",
    "Joy": "gioia",
    "Love": "amore",
    "Neutral": "neutro",
    "Sadness": "tristezza",
    "Surprise": "sorpresa",
    "Trust": "fiducia",
}
TARGETS = ("direzione", "argomento")
BOTH, NEITHER = "entrambi", "non specificato"

_NONE = "nessuna"  # the guidelines know no message without any label; a file may
_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True}
_EMOTION_PATTERNS = {
    "rabbia": re.compile(r"\brabbi|\barrabbiat|\bcollera\b|\banger\b"),
    "anticipazione": re.compile(r"\banticipa|\baspettativ|\battes[ae]\b"),
    "disgusto": re.compile(r"\bdisgust"),
    "paura": re.compile(r"\bpaur|\btimor|\bfear\b"),
    "gioia": re.compile(r"\bgioi|\bfelic|\ballegri|\bjoy\b"),
    "amore": re.compile(r"\bamor|\baffett|\blove\b"),
    "neutro": re.compile(r"\bneutr"),
    "tristezza": re.compile(r"\btrist|\bsadness\b"),
    "sorpresa": re.compile(r"\bsorpres|\bsorprend|\bstupor|\bsurprise\b"),
    "fiducia": re.compile(r"\bfiduci|\btrust\b"),
}
_NO_EMOTION = re.compile(r"\bnessuna emozion|\bnon \w+ (?:alcuna )?emozion")
_DENIED = re.compile(r"\b(?:non|né|senza)\b[^,;.:]*")
_TARGET_PATTERNS = {
    BOTH: re.compile(
        r"\bentramb|\btutt[ie] e due\b|\bdirezione\W*(?:e|ed|sia|che|con)?\W*(?:l'|all')?argomento\b"
        r"|\bargomento\W*(?:e|ed|sia|che|con)?\W*(?:la |alla )?direzione\b"
    ),
    NEITHER: re.compile(r"\bnon[ _-]?specificat|\bnessun[oa]? dei due\b|\bnessuno\b|\bné\b"),
    "direzione": re.compile(r"\bdirezione\b"),
    "argomento": re.compile(r"\bargoment[oi]\b"),
}


def example_a(row: Row) -> Example:
    """A message and its emotions in the order of the columns."""
    named = [name for column, name in EMOTIONS.items() if _flag(row, column)]
    return Example(instruction=INSTRUCTION_A, context=text_of(row, "text").strip(), gold=named)


def example_b(row: Row) -> Example:
    """A message and what it speaks of."""
    named = [name for column, name in zip(("Direction", "Topic"), TARGETS, strict=True) if _flag(row, column)]
    gold = named[0] if len(named) == 1 else BOTH if named else NEITHER
    return Example(instruction=INSTRUCTION_B, context=text_of(row, "text").strip(), gold=gold)


def encode_a(gold: Sequence[str]) -> str:
    """`gioia, fiducia`."""
    return ", ".join(gold) or _NONE


def decode_a(text: str) -> list[str] | None:
    """The emotions that the first line names and does not deny, in the order of the columns."""
    line = first_line(text)
    if line.strip(" .") == _NONE:
        return []
    if _NO_EMOTION.search(line):
        return ["neutro"]
    said = _DENIED.sub(" ", line)
    return [name for name, pattern in _EMOTION_PATTERNS.items() if pattern.search(said)] or None


def decode_b(text: str) -> str | None:
    """One of `direzione`, `argomento`, `entrambi`, `non specificato`; "direzione e argomento" is both."""
    return decode_label(text, _TARGET_PATTERNS)


def score_a(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 over the ten columns."""
    return {"macro_f1": _column_f1(answers, EMOTIONS.values(), lambda labels, name: name in (labels or ()))}


def score_b(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 over the two columns."""
    return {"macro_f1": _column_f1(answers, TARGETS, lambda label, name: label in (name, BOTH))}


def _column_f1(answers: Sequence[Answer], names: Iterable[str], marked: Callable[[Any, str], bool]) -> float:
    """Mean over the columns of the F1 of the rows that are marked in it."""
    columns = list(names)
    scores = [
        class_f1([marked(a.item.gold, name) for a in answers], [marked(a.prediction, name) for a in answers], True)
        for name in columns
    ]
    return fsum(scores) / len(columns)


def _flag(row: Row, column: str) -> bool:
    code = code_of(row, column)
    if code not in _FLAGS:
        raise BadRow("unknown label")
    return _FLAGS[code]


_TEST, _TEST_OUTSIDE = "emit_test.csv", "emit_test_ood.csv"

TASK_A = Task(
    name="emit-a",
    folder="emit",
    description="Which emotions an Italian message about a television programme expresses.",
    licence="EMit organisers' terms (form; academic use)",
    where_to_get="fill in the form https://forms.gle/6tHUZ4qcwLfkNior9 for the password of the archives in "
    "https://github.com/oaraque/emit (folder release), and unpack emit_train_A.csv, emit_train_B.csv, emit_test.csv and "
    "emit_test_ood.csv",
    gated=True,
    train=(("emit_train_A.csv", "emit_train.csv"),),
    test=(_TEST,),
    beside=(
        _TEST,
        _TEST_OUTSIDE,
        "emit_test_nolabel.csv",
        "emit_test_nolabel_out_of_domain.csv",
        "emit_test_ood_nolabel.csv",
    ),
    text=("text",),
    rows=csv_rows,
    example=example_a,
    encode=encode_a,
    decode=decode_a,
    score=score_a,
    metrics={"macro_f1": True},
    max_new_tokens=32,
)

TASK_B = replace(
    TASK_A,
    name="emit-b",
    description="Whether an Italian message about a television programme speaks of its topic or of its makers.",
    train=(("emit_train_B.csv", "emit_train.csv"),),
    example=example_b,
    encode=str,
    decode=decode_b,
    score=score_b,
    max_new_tokens=16,
)

TASK_A_OUTSIDE = replace(
    TASK_A,
    name="emit-a-ood",
    description="Which emotions an Italian message about a music video or an advertisement expresses.",
    train=(),
    test=(_TEST_OUTSIDE,),
    learns_as="emit-a",
)

TASK_B_OUTSIDE = replace(
    TASK_B,
    name="emit-b-ood",
    description="Whether an Italian message about a music video or an advertisement speaks of its topic or its makers.",
    train=(),
    test=(_TEST_OUTSIDE,),
    learns_as="emit-b",
)
