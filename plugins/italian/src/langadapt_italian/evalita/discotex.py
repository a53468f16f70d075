"""DisCoTEX: is a text coherent? 1: does a sentence follow a passage? 2: how coherent do readers find a text?

Files: tsv with quoted cells over several lines. 1: `ID, PROMPT, TARGET, CLASS`, one file of Wikipedia and one of TED talks,
class 1 is the sentence that follows. 2: `ID, TEXT, SCORE` (`MEAN` in the first release), the mean of readers' ratings from
1 to 5: two decimals in the test set, up to fourteen in the training set, which are rounded to two. The organisers' files
in `data/test/blind` have no labels.

Metrics: README of github.com/davidecolla/DisCoTex: 1 accuracy, 2 "Pearson and/or Spearman", of which both are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from langadapt import Answer
from langadapt_italian.evalita.answers import YES_OR_NO, decode_rating, decode_yes_or_no, encode_rating
from langadapt_italian.evalita.reading import Row, csv_rows, label_of, number_of, text_of
from langadapt_italian.evalita.scoring import pearson, share_of, spearman
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION_1 = (
    "Leggi il brano e la frase candidata. La frase è davvero quella che segue il brano nel testo originale? "
    "Rispondi solo con sì o no."
)
INSTRUCTION_2 = (
    "Quanto è coerente questo testo, cioè quanto bene le sue frasi stanno insieme e nell'ordine giusto? Rispondi solo "
    "con un numero da 1 (per nulla coerente) a 5 (del tutto coerente), con al più due decimali."
)
SOURCES = ("wiki", "ted")


def example_1(row: Row) -> Example:
    """A passage and the sentence that may come next."""
    return Example(
        instruction=INSTRUCTION_1,
        context=f"Brano: {text_of(row, 'PROMPT').strip()}\nFrase: {text_of(row, 'TARGET').strip()}",
        gold=label_of(row, "CLASS", YES_OR_NO),
    )


def example_2(row: Row) -> Example:
    """A text and its mean rating."""
    score = round(number_of(row, "SCORE", "MEAN"), 2)
    return Example(instruction=INSTRUCTION_2, context=text_of(row, "TEXT").strip(), gold=score)


def score_1(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Share of right answers; on the whole test set it is also the mean of the two sources, which are of one size."""
    return {"accuracy": sum(a.prediction == a.item.gold for a in answers) / len(answers)}


def score_2(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Pearson's r and Spearman's rho; an answer that could not be decoded takes its share of them away."""
    gold, predicted = [a.item.gold for a in answers], [a.prediction for a in answers]
    return {"pearson": share_of(pearson, gold, predicted), "spearman": share_of(spearman, gold, predicted)}


def _files(folder: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{folder}/{name}") for name in names)


_SHARED: Mapping[str, Any] = {
    "folder": "discotex",
    "licence": "none stated",
    "rows": partial(csv_rows, delimiter="\t"),
}

TASK_1 = Task(
    name="discotex-1",
    description="Whether a sentence is the one that follows a passage in Italian.",
    where_to_get="take data/train/discotex_1_{wiki,ted}_train_set_release.tsv and the two files of the same kind in "
    "data/test/gold of https://github.com/davidecolla/DisCoTex",
    train=_files("data/train", *(f"discotex_1_{source}_train_set_release.tsv" for source in SOURCES)),
    test=_files("data/test/gold", *(f"discotex_1_{source}_test_set_release.tsv" for source in SOURCES)),
    beside=tuple(f"data/test/blind/discotex_1_{source}_test_set_release.tsv" for source in SOURCES),
    text=("PROMPT", "TARGET"),
    example=example_1,
    decode=decode_yes_or_no,
    score=score_1,
    metrics={"accuracy": True},
    **_SHARED,
)

TASK_2 = Task(
    name="discotex-2",
    description="How coherent readers find an Italian text, from 1 to 5.",
    where_to_get="take data/train/discotex_2_train_clean_release.tsv and data/test/gold/discotex_2_test_set_release.tsv "
    "of https://github.com/davidecolla/DisCoTex",
    train=_files("data/train", "discotex_2_train_clean_release.tsv"),
    test=_files("data/test/gold", "discotex_2_test_set_release.tsv"),
    beside=("data/test/blind/discotex_2_test_set_release.tsv",),
    text=("TEXT",),
    example=example_2,
    encode=encode_rating,
    decode=decode_rating,
    score=score_2,
    metrics={"pearson": True, "spearman": True},
    **_SHARED,
)
