"""WiC-ITA: does a word mean the same in two sentences? Binary: yes or no. Ranking: how much, from 1 to 4.

Files: jsonl `id, lemma, sentence1, sentence2, start1, end1, start2, end2` and `label` (binary, 1 is the same meaning) or
`score` (ranking, in halves); the word is `sentence1[start1:end1]`. Both sub-tasks have the same pairs, the ranking's
training set 1 015 more on which the annotators were of two minds (`train_dis.jsonl`, which `train.jsonl` includes). The
test sets with answers lie in `gold_truth`; the further ones with an English second sentence (`test_eng.jsonl`) are not
read.

Metrics: `evaluation.py` in github.com/wic-ita/data: the mean of the two class F1s (its key "weighted" is a plain mean);
Spearman's rho.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langadapt import Answer
from langadapt_italian.evalita.answers import (
    NO,
    YES,
    YES_OR_NO,
    decode_rating,
    decode_yes_or_no,
    encode_rating,
    macro_f1_of,
)
from langadapt_italian.evalita.reading import BadRow, Row, cell_of, jsonl_rows, label_of, number_of, text_of
from langadapt_italian.evalita.scoring import share_of, spearman
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = (
    'La parola "{lemma}" compare in entrambe le frasi, tra doppi asterischi. Ha lo stesso significato in tutte e due? '
    "Rispondi solo con sì o no."
)
INSTRUCTION_RANKING = (
    'La parola "{lemma}" compare in entrambe le frasi, tra doppi asterischi. Quanto sono vicini i due significati? '
    "Rispondi solo con un numero da 1 (senza alcun rapporto) a 4 (identici), con al più un decimale."
)


def example(row: Row) -> Example:
    """Two sentences with the word marked in each."""
    return _example(row, INSTRUCTION, label_of(row, "label", YES_OR_NO))


def example_ranking(row: Row) -> Example:
    """Two sentences with the word marked in each, and how near its meanings are."""
    return _example(row, INSTRUCTION_RANKING, number_of(row, "score"))


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Mean of the F1s of `sì` and `no`."""
    return {"f1": macro_f1_of(answers, (YES, NO))}


def score_ranking(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Spearman's rho; an answer that could not be decoded takes its share of it away."""
    return {"spearman": share_of(spearman, [a.item.gold for a in answers], [a.prediction for a in answers])}


def _example(row: Row, instruction: str, gold: Any) -> Example:
    return Example(
        instruction=instruction.format(lemma=text_of(row, "lemma")),
        context=f"Frase 1: {_marked(row, 1)}\nFrase 2: {_marked(row, 2)}",
        gold=gold,
    )


def _marked(row: Row, which: int) -> str:
    sentence = text_of(row, f"sentence{which}")
    start, end = cell_of(row, f"start{which}"), cell_of(row, f"end{which}")
    # `type` and not `isinstance`: true and false are ints in Python, but not places in a sentence.
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(sentence):
        raise BadRow("no word at the given place")
    return f"{sentence[:start]}**{sentence[start:end]}**{sentence[end:]}"


_SHARED: Mapping[str, Any] = {
    "folder": "wic-ita",
    "licence": "none stated",
    "rows": jsonl_rows,
    "text": ("sentence1", "sentence2"),
}

TASK = Task(
    name="wic-ita",
    description="Whether an Italian word has the same meaning in two sentences.",
    where_to_get="copy the folders binary and gold_truth of https://github.com/wic-ita/data",
    train=(("train.jsonl", "binary/train.jsonl"),),
    dev=(("dev.jsonl", "binary/dev.jsonl"),),
    test=(("test.jsonl", "gold_truth/binary/test.jsonl"),),
    beside=("binary/test.jsonl", "ranking/test.jsonl", "gold_truth/ranking/test.jsonl"),
    example=example,
    decode=decode_yes_or_no,
    score=score,
    metrics={"f1": True},
    **_SHARED,
)

TASK_RANKING = Task(
    name="wic-ita-ranking",
    description="How near the meanings of an Italian word in two sentences are, from 1 to 4.",
    where_to_get="copy the folders ranking and gold_truth of https://github.com/wic-ita/data",
    train=("ranking/train.jsonl",),
    dev=("ranking/dev.jsonl",),
    test=("gold_truth/ranking/test.jsonl",),
    beside=("ranking/test.jsonl", "binary/test.jsonl", "gold_truth/binary/test.jsonl", "test.jsonl"),
    example=example_ranking,
    encode=encode_rating,
    decode=decode_rating,
    score=score_ranking,
    metrics={"spearman": True},
    **_SHARED,
)
