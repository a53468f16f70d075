"""PoliticIT: gender and political ideology, in two degrees and in four, of the authors of tweets.

Files: csv `label, gender, ideology_binary, ideology_multiclass, tweet`, a tweet on each row; `label` names a cluster of
tweets by authors who share all traits, and stands on all of its rows. Traits are male or female, left or right, left,
moderate_left, moderate_right or right. The test set comes as two files, the tweets (politicIT_phase_2_test_public.csv)
and the traits of each cluster (politicIT_phase_2_test_codalab.csv), or as one that has both. Names and columns as in
public code and notebooks that read them (CodaLab competition 8507); the files themselves are not seen.

A cluster has dozens of tweets, more than a prompt should hold: it is asked about by some tweets at a time, and each
answer is a vote for its traits. One that could not be decoded is a vote for none.

Metric: the mean of the macro-F1s of the three traits over clusters, each over the classes that occur (CEUR-WS Vol-3473
paper 7; the scorer is not public).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import fsum
from pathlib import Path

from langadapt import Answer, Rejected
from langadapt_italian.evalita.answers import decode_label, first_paragraph
from langadapt_italian.evalita.reading import BadRow, Row, cell_of, csv_rows, label_of, text_of
from langadapt_italian.evalita.scoring import macro_f1
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = (
    "Questi tweet sono di autori politici che hanno in comune il genere e l'orientamento. Indica il genere (uomo o "
    "donna), lo schieramento (sinistra o destra) e la posizione (sinistra, sinistra moderata, destra moderata o "
    "destra) in questa forma: genere: …; schieramento: …; posizione: …"
)
CHARACTERS = 1_000
"""How many characters of tweets, at most, are asked about at a time; a longer tweet is asked about alone."""

TRAITS = {
    "gender": ("genere", {"male": "uomo", "female": "donna"}),
    "ideology_binary": ("schieramento", {"left": "sinistra", "right": "destra"}),
    "ideology_multiclass": (
        "posizione",
        {
            "left": "sinistra",
            "moderate_left": "sinistra moderata",
            "moderate_right": "destra moderata",
            "right": "destra",
        },
    ),
}

_SIDES = {
    "sinistra": re.compile(r"\b(?:centro[ -]?)?sinistra\b|\bleft\b"),
    "destra": re.compile(r"\b(?:centro[ -]?)?destra\b|\bright\b"),
}
_PATTERNS = {
    "gender": {
        "uomo": re.compile(r"\buomo\b|\buomini\b|\bmaschi|\bmale\b"),
        "donna": re.compile(r"\bdonn[ae]\b|\bfemmin|\bfemale\b"),
    },
    "ideology_binary": _SIDES,
    "ideology_multiclass": {
        "sinistra moderata": re.compile(r"\bsinistra moderata|\bcentro[ -]?sinistra\b|\bmoderate[ _]left\b"),
        "destra moderata": re.compile(r"\bdestra moderata|\bcentro[ -]?destra\b|\bmoderate[ _]right\b"),
        "sinistra": re.compile(r"(?<!centro[ -])\bsinistra\b(?! moderata)|(?<!moderate[ _])\bleft\b"),
        "destra": re.compile(r"(?<!centro[ -])\bdestra\b(?! moderata)|(?<!moderate[ _])\bright\b"),
    },
}
_NAMED = {trait: re.compile(rf"\b{name}\b[\W_]*([^;,\n]+)") for trait, (name, _) in TRAITS.items()}
_TWEETS = {
    "politicIT_phase_2_test_codalab.csv": "politicIT_phase_2_test_public.csv",
    "politicIT_test_set_with_labels.csv": "politicIT_test_set.csv",
}


def example(row: Row) -> Example:
    """Some tweets of a cluster, its name and its traits."""
    traits = {trait: label_of(row, trait, labels) for trait, (_, labels) in TRAITS.items()}
    tweets = "\n".join(f"- {' '.join(tweet.split())}" for tweet in row.cells["tweet"])
    return Example(instruction=INSTRUCTION, context=tweets, gold={"cluster": row.cells["label"], **traits})


def rows(file: Path) -> Iterator[Row | Rejected]:
    """Some tweets of one cluster at a time, as a list in the cell `tweet`; the row is where the first of them stands.

    Clusters come in the order of their first tweets, however the tweets of different ones are mixed.
    """
    clusters: dict[str, list[Row]] = {}
    for row in _with_tweets(file):
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            cluster, _ = text_of(row, "label").strip(), text_of(row, "tweet")
        except BadRow as problem:
            yield row.rejected(str(problem))
            continue
        tweets = clusters.setdefault(cluster, [])
        if tweets and _traits(tweets[0]) != _traits(row):
            yield row.rejected("not the traits of its cluster")
        else:
            tweets.append(row)
    for cluster, tweets in clusters.items():
        yield from (_together(cluster, some) for some in _portions(tweets))


def encode(gold: Mapping[str, str]) -> str:
    """`genere: donna; schieramento: sinistra; posizione: sinistra moderata`."""
    return "; ".join(f"{name}: {gold[trait]}" for trait, (name, _) in TRAITS.items())


def decode(text: str) -> dict[str, str] | None:
    """The three traits, after their names or else in their order; None unless each of them is given."""
    answer = first_paragraph(text).casefold()
    named = {trait: match[1] for trait, pattern in _NAMED.items() if (match := pattern.search(answer))}
    pieces = [piece for piece in re.split(r"[;,\n]", answer) if piece.strip()]
    if len(named) < len(TRAITS) and len(pieces) == len(TRAITS):
        named = dict(zip(TRAITS, pieces, strict=True))
    given = {trait: label for trait, said in named.items() if (label := decode_label(said, _PATTERNS[trait]))}
    return given if len(given) == len(TRAITS) else None


def traits(gold: Mapping[str, str]) -> dict[str, str]:
    """What a right answer decodes to: gold without the name of the cluster."""
    return {trait: gold[trait] for trait in TRAITS}


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 of each trait over clusters, and their mean; of votes alike in number, the first cast decides."""
    clusters: dict[str, list[Answer]] = {}
    for answer in answers:
        clusters.setdefault(answer.item.gold["cluster"], []).append(answer)
    scores = {}
    for trait in TRAITS:
        gold = [votes[0].item.gold[trait] for votes in clusters.values()]
        scores[f"{trait}_f1"] = macro_f1(gold, [_elected(votes, trait) for votes in clusters.values()])
    return {"macro_f1": fsum(scores.values()) / len(scores), **scores}


def _elected(votes: Sequence[Answer], trait: str) -> str | None:
    given = [vote.prediction[trait] if vote.prediction else None for vote in votes]
    return Counter(given).most_common(1)[0][0]


def _traits(row: Row) -> list[str]:
    return [str(cell_of(row, trait) or "").strip() for trait in TRAITS]


def _with_tweets(file: Path) -> Iterator[Row | Rejected]:
    """Rows of a file; where it has traits only, those of the file beside it with the tweets, with the traits added."""
    found = list(csv_rows(file))
    beside = file.with_name(_TWEETS.get(file.name, file.name))
    if beside == file or not beside.is_file() or any(isinstance(r, Row) and cell_of(r, "tweet") for r in found):
        yield from found
        return
    yield from (row for row in found if isinstance(row, Rejected))
    known = {str(cell_of(row, "label")).strip(): row.cells for row in found if isinstance(row, Row)}
    for row in csv_rows(beside):
        cluster = "" if isinstance(row, Rejected) else str(cell_of(row, "label")).strip()
        yield replace(row, cells={**row.cells, **known.get(cluster, {})}) if isinstance(row, Row) else row


def _portions(tweets: Sequence[Row]) -> Iterator[list[Row]]:
    portion: list[Row] = []
    size = 0
    for row in tweets:
        length = len(text_of(row, "tweet"))
        if portion and size + length > CHARACTERS:
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += length
    yield portion


def _together(cluster: str, rows: Sequence[Row]) -> Row:
    cells = {trait: cell_of(rows[0], trait) for trait in TRAITS}
    cells |= {"label": cluster, "tweet": [text_of(row, "tweet") for row in rows]}
    return replace(rows[0], size=sum(row.size for row in rows), cells=cells)


_PUBLIC = ("politicIT_phase_2_test_public.csv", "politicIT_test_set.csv")

TASK = Task(
    name="politicit",
    folder="politicit",
    description="Gender and political ideology of the authors of Italian tweets.",
    licence="PoliticIT organisers' terms (CodaLab account)",
    where_to_get="join https://codalab.lisn.upsaclay.fr/competitions/8507 (an account is needed) for "
    "politicIT_phase_2_train_public.csv, politicIT_phase_2_test_public.csv and politicIT_phase_2_test_codalab.csv",
    gated=True,
    train=(("politicIT_phase_2_train_public.csv", "politicIT_phase_2_train.csv", "politicIT_train_set.csv"),),
    test=(("politicIT_phase_2_test_codalab.csv", "politicIT_test_set_with_labels.csv", *_PUBLIC),),
    beside=_PUBLIC,
    text=("tweet",),
    rows=rows,
    example=example,
    encode=encode,
    decode=decode,
    score=score,
    metrics={"macro_f1": True} | {f"{trait}_f1": True for trait in TRAITS},
    max_new_tokens=48,
)
