"""WiC-ITA, binary sub-task: does a word mean the same in two sentences?

Files: jsonl `id, lemma, sentence1, sentence2, start1, end1, start2, end2, label`; the word is
`sentence1[start1:end1]`, label 1 is the same meaning.

Metric: `evaluation.py` in github.com/wic-ita/data: the mean of the two class F1s (its key "weighted" is a plain mean).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langadapt import Answer
from langadapt_italian.evalita.answers import NO, YES, YES_OR_NO, decode_yes_or_no, macro_f1_of
from langadapt_italian.evalita.reading import BadRow, Row, jsonl_rows, label_of, text_of
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = (
    'La parola "{lemma}" compare in entrambe le frasi, tra doppi asterischi. Ha lo stesso significato in tutte e due? '
    "Rispondi solo con sì o no."
)


def example(row: Row) -> Example:
    """Two sentences with the word marked in each."""
    return Example(
        instruction=INSTRUCTION.format(lemma=text_of(row, "lemma")),
        context=f"Frase 1: {_marked(row, 1)}\nFrase 2: {_marked(row, 2)}",
        gold=label_of(row, "label", YES_OR_NO),
    )


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Mean of the F1s of `sì` and `no`."""
    return {"f1": macro_f1_of(answers, (YES, NO))}


def _marked(row: Row, which: int) -> str:
    sentence = text_of(row, f"sentence{which}")
    start, end = row.cells.get(f"start{which}"), row.cells.get(f"end{which}")
    # `type` and not `isinstance`: true and false are ints in Python, but not places in a sentence.
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(sentence):
        raise BadRow("no word at the given place")
    return f"{sentence[:start]}**{sentence[start:end]}**{sentence[end:]}"


TASK = Task(
    name="wic-ita",
    folder="wic-ita",
    description="Whether an Italian word has the same meaning in two sentences.",
    licence="none stated",
    where_to_get="take binary/train.jsonl, binary/dev.jsonl and gold_truth/binary/test.jsonl of "
    "https://github.com/wic-ita/data",
    train=("train.jsonl", "dev.jsonl"),
    test=("test.jsonl",),
    rows=jsonl_rows,
    example=example,
    decode=decode_yes_or_no,
    score=score,
    metrics={"f1": True},
)
