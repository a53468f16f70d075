"""HaSpeeDe 3, textual track: hate speech in political and religious tweets.

Files: csv `anonymized_tweet_id,anonymized_text,label,dataset`, label 1 is hateful.

Metric: the mean of the F1s of the two classes (EVALITA 2023 overview, CEUR-WS Vol-3473 paper 22).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langadapt import Answer
from langadapt_italian.evalita.answers import NO, YES, YES_OR_NO, decode_yes_or_no, macro_f1_of
from langadapt_italian.evalita.reading import Row, csv_rows, label_of, text_of
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = "Questo tweet contiene un discorso d'odio, politico o religioso? Rispondi solo con sì o no."


def example(row: Row) -> Example:
    """A tweet, hateful or not."""
    text = text_of(row, "anonymized_text").strip()
    return Example(instruction=INSTRUCTION, context=text, gold=label_of(row, "label", YES_OR_NO))


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 over `sì` and `no`."""
    return {"macro_f1": macro_f1_of(answers, (YES, NO))}


TASK = Task(
    name="haspeede3",
    folder="haspeede3",
    description="Whether an Italian tweet about politics or religion is hate speech.",
    licence="HaSpeeDe 3 organisers' terms (form)",
    where_to_get="fill in the form on http://www.di.unito.it/~tutreeb/haspeede-evalita23/data.html for the password of "
    "the files in https://github.com/mirkolai/EVALITA2023-HaSpeeDe3, and keep the labelled textual ones as "
    "development_textual.csv and test_textual.csv",
    gated=True,
    train=("development_textual.csv",),
    test=("test_textual.csv",),
    rows=csv_rows,
    example=example,
    decode=decode_yes_or_no,
    score=score,
    metrics={"macro_f1": True},
)
