"""EmotivITA: valence, arousal and dominance of a sentence, as numbers.

Files: csv `id,text,V,A,D`, ratings on a scale from 1 to 5 (a few published means run to 5.5, and are kept). The
organisers call them `Development set.csv`, 8 000 sentences, and `Test set - Gold labels.csv`, 2 062; their `Test set.csv`
is the second without ratings.

Metrics: `EmotivITA/evaluation.py` in github.com/GiovanniGafa/EmoITA: Pearson's r and mean absolute error for each
dimension, no aggregate. The script pairs rows by position; here each answer carries its own gold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from langadapt import Answer
from langadapt_italian.evalita.answers import RATING, first_paragraph
from langadapt_italian.evalita.reading import Row, csv_rows, number_of, text_of
from langadapt_italian.evalita.scoring import mean_absolute_error, pearson, share_of
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = (
    "Valuta l'emozione espressa dal testo con tre numeri da 1 a 5: la valenza (da spiacevole a piacevole), "
    "l'attivazione (da calma ad agitazione) e la dominanza (da impotenza a padronanza della situazione). "
    "Rispondi in questa forma, con due decimali: valenza: …; attivazione: …; dominanza: …"
)
DIMENSIONS = {"V": "valenza", "A": "attivazione", "D": "dominanza"}
SCALE = (1.0, 5.0)

_ANY_NUMBER = re.compile(RATING)
_NAMED_NUMBERS = [
    re.compile(rf"\b(?:{stem})\w*[\W_]{{0,5}}(?:è|di|pari a)?[\W_]{{0,5}}?({RATING})", re.IGNORECASE)
    for stem in ("valen", "attiv|arous", "domin")
]


def example(row: Row) -> Example:
    """A sentence with its three ratings."""
    text = text_of(row, "text").strip()
    return Example(instruction=INSTRUCTION, context=text, gold=[number_of(row, column) for column in DIMENSIONS])


def encode(gold: Sequence[float]) -> str:
    """`valenza: 3,25; attivazione: 2,10; dominanza: 4,00`; the published ratings have at most two decimals."""
    named = zip(DIMENSIONS.values(), gold, strict=True)
    return "; ".join(f"{name}: {value:.2f}".replace(".", ",") for name, value in named)


def decode(text: str) -> list[float] | None:
    """The numbers that stand after the three names, or else the three numbers of a paragraph that has just three."""
    answer = first_paragraph(text)
    named = [match[1] for pattern in _NAMED_NUMBERS if (match := pattern.search(answer))]
    found = named if len(named) == len(DIMENSIONS) else _ANY_NUMBER.findall(answer)
    if len(found) != len(DIMENSIONS):
        return None
    return [float(number.replace(",", ".")) for number in found]


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Pearson's r and mean absolute error for each dimension.

    An answer that could not be decoded is as wrong as one on the scale can be: for the error it counts as the end of
    the scale that is farther from gold, and the correlation loses its share of it (`scoring.share_of`).
    """
    scores = {}
    for place, dimension in enumerate(DIMENSIONS):
        gold = [answer.item.gold[place] for answer in answers]
        given = [None if answer.prediction is None else float(answer.prediction[place]) for answer in answers]
        farthest = [_farthest(g) if p is None else p for g, p in zip(gold, given, strict=True)]
        scores[f"pearson_{dimension.lower()}"] = share_of(pearson, gold, given)
        scores[f"mae_{dimension.lower()}"] = mean_absolute_error(gold, farthest)
    return scores


def _published(name: str) -> tuple[str, ...]:
    return name, f"EmotivITA/{name}"


def _farthest(gold: float) -> float:
    return max(SCALE, key=lambda end: abs(end - gold))


TASK = Task(
    name="emotivita",
    folder="emotivita",
    description="Valence, arousal and dominance of Italian sentences, rated from 1 to 5.",
    licence="CC-BY-SA-4.0",
    where_to_get="take 'Development set.csv' and 'Test set - Gold labels.csv' from the folder EmotivITA of "
    "https://github.com/GiovanniGafa/EmoITA; train.csv and test.csv do for names too",
    train=(("train.csv", *_published("Development set.csv")),),
    test=(("test.csv", *_published("Test set - Gold labels.csv")),),
    beside=(_published("Test set.csv"),),
    text=("text",),
    rows=csv_rows,
    example=example,
    encode=encode,
    decode=decode,
    score=score,
    metrics={f"{metric}_{d.lower()}": metric == "pearson" for d in DIMENSIONS for metric in ("pearson", "mae")},
    max_new_tokens=32,
)
