"""HaSpeeDe 3: hate speech in political tweets, with or without what is known of their authors, and in religious ones.

Files: csv `anonymized_tweet_id, anonymized_text, label, dataset` (training_textual.csv and, with answers,
test_textual_gold.csv; label 1 is hateful, dataset is training_politics, test_politics or test_religious) and, with the
same ids, what is known of the tweet and its author (training_contextual.csv, test_contextual.csv; not all of it of all
tweets). The lists of friends, retweets and replies are not read. Names and columns as in the readme of
github.com/mirkolai/EVALITA2023-HaSpeeDe3; the archives themselves are under a password and not seen.

Rankings: A textual (`haspeede3`) and A contextual (`haspeede3-contextual`) on the political tweets; B XPoliticalHate
(`haspeede3-xpolitical`), the tweets of A textual once more, for models that have learnt from whatever they like; and
B XReligiousHate (`haspeede3-xreligious`), religious tweets, of which none is in the training set.

Metric: the mean of the F1s of the two classes (readme; EVALITA 2023 overview, CEUR-WS Vol-3473 paper 22).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from langadapt import Answer, Rejected
from langadapt_italian.evalita.answers import NO, YES, YES_OR_NO, decode_yes_or_no, macro_f1_of
from langadapt_italian.evalita.reading import Row, cell_of, csv_rows, label_of, text_of
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION_POLITICAL = "Questo tweet di argomento politico contiene un discorso d'odio? Rispondi solo con sì o no."
INSTRUCTION_RELIGIOUS = "Questo tweet di argomento religioso contiene un discorso d'odio? Rispondi solo con sì o no."

_ID = "anonymized_tweet_id"
_KINDS = {"is_reply": "risposta", "is_retweet": "retweet", "is_quote": "citazione"}
_COUNTS = {
    "retweet_count": "retweet",
    "favorite_count": "mi piace",
    "statuses_count": "tweet dell'autore",
    "followers_count": "seguaci",
    "friends_count": "profili seguiti",
}


def example(row: Row) -> Example | None:
    """A political tweet, hateful or not."""
    return None if _religious(row) else _example(row, INSTRUCTION_POLITICAL)


def example_religious(row: Row) -> Example | None:
    """A religious tweet, hateful or not."""
    return _example(row, INSTRUCTION_RELIGIOUS) if _religious(row) else None


def example_contextual(row: Row) -> Example | None:
    """A political tweet with what is known of it and of its author, hateful or not."""
    textual = example(row)
    return textual and replace(textual, context="\n".join([f"Tweet: {textual.context}", *_known(row)]))


def contextual_rows(file: Path) -> Iterator[Row | Rejected]:
    """Rows of a contextual file, each with the cells of the textual row of the same id where there is one."""
    textual = _textual(file)
    for row in csv_rows(file):
        if isinstance(row, Row):
            row = replace(row, cells={**textual.get(_id(row), {}), **row.cells})
        yield row


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Mean of the F1s of `sì` and `no`."""
    return {"macro_f1": macro_f1_of(answers, (YES, NO))}


def _example(row: Row, instruction: str) -> Example:
    text = text_of(row, "anonymized_text").strip()
    return Example(instruction=instruction, context=text, gold=label_of(row, "label", YES_OR_NO))


def _religious(row: Row) -> bool:
    return "relig" in str(cell_of(row, "dataset")).casefold()


def _id(row: Row) -> str:
    return str(cell_of(row, _ID)).strip()


def _textual(file: Path) -> dict[str, Mapping[str, str]]:
    """Cells by id of the file with the texts that a contextual file goes with; the one with answers where it is there.

    Raises no error where there is none: without a text, every contextual row is refused.
    """
    name = file.name.replace("contextual", "textual")
    gold = name.replace(".csv", "_gold.csv")
    places = [file.with_name(gold), file.parent.parent / "gold" / gold, file.with_name(name)]
    found = next((place for place in places if place.is_file()), None)
    return {_id(row): row.cells for row in csv_rows(found) if isinstance(row, Row)} if found else {}


def _known(row: Row) -> Iterator[str]:
    """What is known, line by line; what is empty, as the organisers leave what they could not recover, is left out."""
    kinds = [name for column, name in _KINDS.items() if cell_of(row, column) in ("1", "1.0", "True")]
    counts = [f"{name}: {n}" for column, name in _COUNTS.items() if (n := str(cell_of(row, column) or "").strip())]
    description = str(cell_of(row, "anonymized_description") or "").strip()
    if kinds:
        yield f"Tipo: {', '.join(kinds)}"
    if counts:
        yield "; ".join(counts).capitalize()
    if description:
        yield f"L'autore si descrive così: {description}"


_TRAIN = ("training_textual.csv", "development/training_textual.csv", "development_textual.csv")
_TEST = ("test_textual_gold.csv", "gold/test_textual_gold.csv", "test_textual.csv", "test/test_textual.csv")

TASK = Task(
    name="haspeede3",
    folder="haspeede3",
    description="Whether an Italian tweet about politics is hate speech, by its text.",
    licence="HaSpeeDe 3 organisers' terms (form)",
    where_to_get="fill in the form https://forms.gle/jKvZLWfTUgWxxy7CA for the password of the archives in "
    "https://github.com/mirkolai/EVALITA2023-HaSpeeDe3, and unpack training_textual.csv, training_contextual.csv, "
    "test_textual_gold.csv and test_contextual.csv",
    gated=True,
    train=(_TRAIN,),
    test=(_TEST,),
    beside=(_TEST, "test_textual.csv", "test/test_textual.csv"),
    text=("anonymized_text",),
    rows=csv_rows,
    example=example,
    decode=decode_yes_or_no,
    score=score,
    metrics={"macro_f1": True},
)

TASK_CONTEXTUAL = replace(
    TASK,
    name="haspeede3-contextual",
    description="Whether an Italian tweet about politics is hate speech, by its text and its author.",
    train=(("training_contextual.csv", "development/training_contextual.csv"),),
    test=(("test_contextual.csv", "test/test_contextual.csv"),),
    rows=contextual_rows,
    example=example_contextual,
)

TASK_XPOLITICAL = replace(
    TASK,
    name="haspeede3-xpolitical",
    description="Whether an Italian tweet about politics is hate speech, whatever was learnt from.",
    train=(),
    learns_as="haspeede3",
)

TASK_XRELIGIOUS = replace(
    TASK_XPOLITICAL,
    name="haspeede3-xreligious",
    description="Whether an Italian tweet about religion is hate speech, after learning from politics.",
    example=example_religious,
)
