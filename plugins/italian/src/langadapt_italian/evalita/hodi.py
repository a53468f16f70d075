"""HODI: whether a tweet is homotransphobic (A), and which passages make it so (B).

Files: tab-separated `id, text, homotransphobic` (A; 0 or 1), `id, text, rationales` (B; a list of the positions of
characters, counted from 0, `[]` or an empty cell where there are none), or all four columns (HODI_2023_test_GOLD.tsv).
Names as in github.com/HODI-EVALITA/HODI_2023, columns as in its guidelines and scripts; the archives themselves are
under a password and not seen.

Metric: macro-F1 over the classes that occur (A); the mean over tweets of the Dice coefficient of the two sets of
positions, 1 where both are empty (B). evaluation_utils.py there tests for emptiness before it parses the gold cell, and
so gives a cell spelt `[]` 0 whatever is answered and an empty cell what the guidelines say; here both are what the
guidelines say. An answer that could not be decoded scores 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import fsum
from typing import Any

from langadapt import Answer
from langadapt_italian.evalita.answers import YES_OR_NO, decode_yes_or_no, first_line, macro_f1_of
from langadapt_italian.evalita.reading import BadRow, Row, cell_of, csv_rows, label_of, text_of
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION_A = (
    "Questo tweet è omotransfobico, cioè offende o discrimina le persone LGBTQIA+ in quanto tali? "
    "Rispondi solo con sì o no."
)
INSTRUCTION_B = (
    "Quali passaggi di questo tweet sono omotransfobici? Riporta ciascuno tra virgolette basse, così come è scritto, e "
    "separali con un punto e virgola, per esempio: «primo passaggio»; «secondo passaggio». Se un passaggio compare più "
    "volte, aggiungi tra parentesi quale volta è, per esempio (2). Se non ce ne sono, rispondi: nessuno."
)

_NONE = "nessuno"
_QUOTED = re.compile(r"«(.+?)»(?!»)(?: ?\((\d{1,4})\))?")
_OTHERWISE_QUOTED = re.compile(r"“([^“”]+)”|\"([^\"]+)\"")
_NO_PASSAGE = re.compile(r"nessun[oa]?\b|non ce ne sono|non ci sono")

Passage = tuple[str, int]
"""Characters as they stand in the tweet, and which of their occurrences is meant, from 1."""


def example_a(row: Row) -> Example:
    """A tweet, homotransphobic or not."""
    text = text_of(row, "text").strip()
    return Example(instruction=INSTRUCTION_A, context=text, gold=label_of(row, "homotransphobic", YES_OR_NO))


def example_b(row: Row) -> Example:
    """A tweet and the positions of the characters of its homotransphobic passages."""
    text = text_of(row, "text")
    positions = _positions(cell_of(row, "rationales"))
    if positions and not 0 <= positions[0] <= positions[-1] < len(text):
        raise BadRow("rationale outside the text")
    return Example(instruction=INSTRUCTION_B, context=text, gold={"text": text, "positions": positions})


def passages(gold: Mapping[str, Any]) -> list[Passage]:
    """The passages that gold positions make up, in order; one with a closing quotation mark inside is told in two."""
    text = _flat(gold["text"])
    return [(text[a:b], _occurrence(text, a, b)) for a, b in _runs(text, gold["positions"])]


def encode_b(gold: Mapping[str, Any]) -> str:
    """`«primo passaggio»; «secondo passaggio» (2)`, or `nessuno`."""
    return "; ".join(f"«{said}»" + (f" ({which})" if which > 1 else "") for said, which in passages(gold)) or _NONE


def decode_b(text: str) -> list[Passage] | None:
    """The passages quoted in the first line, in whatever quotation marks; none where it says that there are none."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    found = [(said, int(which or 1)) for said, which in _QUOTED.findall(line)]
    if not found and _NO_PASSAGE.match(first_line(text)):
        return []
    return found or [("".join(said), 1) for said in _OTHERWISE_QUOTED.findall(line)] or None


def marked(text: str, predicted: Iterable[Sequence[Any]]) -> set[int]:
    """Positions of the characters of passages: of the occurrence that is meant, or the last one when there are fewer.

    Case and spaces need not be those of the tweet where no passage is just so. One that is not in the tweet marks
    nothing.
    """
    flat, found = _flat(text), set[int]()
    for said, which in predicted:
        words = r"\s+".join(map(re.escape, said.split()))
        if places := _places(flat, re.escape(said)) or _places(flat, words, re.IGNORECASE):
            found.update(range(*places[min(max(which, 1), len(places)) - 1]))
    return found


def score_a(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 over `sì` and `no`."""
    return {"macro_f1": macro_f1_of(answers)}


def score_b(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Mean over the tweets of the Dice coefficient of positions."""
    return {"f1": fsum(map(_dice, answers)) / len(answers)}


def _dice(answer: Answer) -> float:
    gold = set(answer.item.gold["positions"])
    if not gold or answer.prediction is None:
        return float(answer.prediction == [])
    predicted = marked(answer.item.gold["text"], answer.prediction)
    return 2 * len(gold & predicted) / (len(gold) + len(predicted))


def _positions(cell: Any) -> list[int]:
    if cell is None:
        raise BadRow("no label")
    try:
        found = json.loads(str(cell).strip() or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list) or any(type(position) is not int for position in found):
        raise BadRow("rationales are not a list of positions")
    return sorted(set(found))


def _places(text: str, pattern: str, flags: int = 0) -> list[tuple[int, int]]:
    """Start and end of every match, overlapping ones too; of no pattern, none."""
    return [match.span(1) for match in re.finditer(f"(?=({pattern}))", text, flags)] if pattern else []


def _flat(text: str) -> str:
    """The text with a space for every white character, so that a passage is one line and positions stay."""
    return re.sub(r"\s", " ", text)


def _runs(text: str, positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of positions, cut after a mark that would be taken for the end of a quotation."""
    marked, start = set(positions), -1
    for position in positions:
        start = position if start < 0 else start
        if text[position] == "»" or position + 1 not in marked:
            yield start, position + 1
            start = -1


def _occurrence(text: str, start: int, end: int) -> int:
    return 1 + sum(text.startswith(text[start:end], place) for place in range(start))


_TEST = ("HODI_2023_test_GOLD.tsv", "HODI_2023_test_GOLD/HODI_2023_test_GOLD.tsv")

TASK_A = Task(
    name="hodi-a",
    folder="hodi",
    description="Whether an Italian tweet is homotransphobic.",
    licence="CC-BY-NC-SA-4.0 (and a form)",
    where_to_get="fill in the form https://forms.gle/RYQ6m2hHvQZDx7vbA for the password of the archives in "
    "https://github.com/HODI-EVALITA/HODI_2023, and unpack HODI_2023_train_subtaskA.tsv, HODI_2023_train_subtaskB.tsv "
    "and HODI_2023_test_GOLD.tsv",
    gated=True,
    train=("HODI_2023_train_subtaskA.tsv",),
    test=(_TEST,),
    beside=("HODI_2023_test_subtaskA.csv", "HODI_2023_test_subtaskB.csv"),
    text=("text",),
    rows=partial(csv_rows, delimiter="\t"),
    example=example_a,
    decode=decode_yes_or_no,
    score=score_a,
    metrics={"macro_f1": True},
)

TASK_B = replace(
    TASK_A,
    name="hodi-b",
    description="Which passages of an Italian tweet are homotransphobic.",
    train=("HODI_2023_train_subtaskB.tsv",),
    example=example_b,
    encode=encode_b,
    decode=decode_b,
    score=score_b,
    metrics={"f1": True},
    max_new_tokens=96,
)
