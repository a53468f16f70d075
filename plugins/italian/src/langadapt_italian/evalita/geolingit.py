"""GeoLingIt: where in Italy a tweet in dialect or regional Italian is from. A: the region. B: the coordinates.

Files: tsv without quoting, `id, text, region` (A: `train_a.tsv`, `dev_a.tsv`) and `id, text, latitude, longitude` (B:
`train_b.tsv`, `dev_b.tsv`). The organisers' `test.tsv` has no labels; they gave no name to the labelled one, which is
looked for as `test_a.tsv` and `test_b.tsv` first. Layout as in the organisers' README and scorer; the files were not seen.

Metrics: `eval.py` in github.com/dhfbk/geolingit-evalita2023: A macro-F1 over the 17 regions of the test set, or the 13 of
the development set; B the mean haversine distance in km (package haversine 2.8: mean Earth radius 6371.0088 km). The
script pairs rows by position; here each answer carries its own gold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from math import asin, cos, fsum, pi, radians, sin, sqrt
from pathlib import Path
from typing import Any

from langadapt import Answer
from langadapt_italian.evalita.answers import decode_label, first_paragraph, macro_f1_of
from langadapt_italian.evalita.reading import BadRow, Row, code_of, csv_rows, number_of, text_of
from langadapt_italian.evalita.task import Example, Task

REGIONS = (
    "Abruzzo", "Basilicata", "Calabria", "Campania", "Emilia Romagna", "Friuli-Venezia Giulia", "Lazio", "Liguria",
    "Lombardia", "Marche", "Molise", "Piemonte", "Puglia", "Sardegna", "Sicilia", "Toscana", "Trentino-Alto Adige",
    "Umbria", "Valle d'Aosta", "Veneto",
)  # fmt: skip
TEST_REGIONS = tuple(region for region in REGIONS if region not in {"Basilicata", "Molise", "Valle d'Aosta"})
DEV_REGIONS = tuple(
    region for region in TEST_REGIONS if region not in {"Abruzzo", "Marche", "Trentino-Alto Adige", "Umbria"}
)
INSTRUCTION_A = (
    "Da quale regione italiana viene chi ha scritto questo tweet, a giudicare dal dialetto o dall'italiano regionale? "
    f"Rispondi solo con il nome di una regione: {', '.join(REGIONS)}."
)
INSTRUCTION_B = (
    "Da quale punto d'Italia viene questo tweet, a giudicare dal dialetto o dall'italiano regionale? Rispondi solo con "
    "la latitudine e la longitudine in gradi decimali, con il punto decimale e separate da una virgola, per esempio: "
    "43.7696, 11.2558"
)
EARTH_RADIUS = 6371.0088  # km
FARTHEST = pi * EARTH_RADIUS  # km, from a place to the other side of the Earth

_PATTERNS = {
    "Abruzzo": re.compile(r"\babruzz[oi]\b"),
    "Basilicata": re.compile(r"\bbasilicata\b|\blucania\b"),
    "Calabria": re.compile(r"\bcalabria\b"),
    "Campania": re.compile(r"\bcampania\b"),
    "Emilia Romagna": re.compile(r"\bemilia\b|\bromagna\b"),
    "Friuli-Venezia Giulia": re.compile(r"\bfriuli\b|\bvenezia giulia\b|\bfvg\b"),
    "Lazio": re.compile(r"\blazio\b|\blatium\b"),
    "Liguria": re.compile(r"\bliguria\b"),
    "Lombardia": re.compile(r"\blombard(?:ia|y)\b"),
    "Marche": re.compile(r"\bmarche\b"),
    "Molise": re.compile(r"\bmolise\b"),
    "Piemonte": re.compile(r"\bpiemonte\b|\bpiedmont\b"),
    "Puglia": re.compile(r"\b(?:a?puglia|puglie)\b"),
    "Sardegna": re.compile(r"\bsardegna\b|\bsardinia\b"),
    "Sicilia": re.compile(r"\bsicil(?:ia|y)\b"),
    "Toscana": re.compile(r"\btoscana\b|\btuscany\b"),
    "Trentino-Alto Adige": re.compile(r"\btrentino\b|\balto adige\b|\bs[uü]dtirol\b|\bsouth tyrol\b"),
    "Umbria": re.compile(r"\bumbria\b"),
    "Valle d'Aosta": re.compile(r"\baosta\b"),
    "Veneto": re.compile(r"\bveneto\b"),
}
_DEGREES = r"(?<![\w.])[-+−]?[0-9]{1,3}+(?:[.,][0-9]++)?+(?![.]?[0-9])"
_ANY_DEGREES = re.compile(_DEGREES)
_NAMED_DEGREES = [re.compile(rf"\b{stem}\w*[^\w+−-]*(?:è\s+)?({_DEGREES})", re.IGNORECASE) for stem in ("lat", "lon")]


def example_a(row: Row) -> Example:
    """A tweet and its region."""
    region = _BY_NAME.get(_plain(code_of(row, "region")))
    if region is None:
        raise BadRow("unknown label")
    return Example(instruction=INSTRUCTION_A, context=text_of(row, "text").strip(), gold=region)


def example_b(row: Row) -> Example:
    """A tweet and its latitude and longitude."""
    place = [number_of(row, "latitude"), number_of(row, "longitude")]
    if not _on_earth(place):
        raise BadRow("coordinates are not on Earth")
    return Example(instruction=INSTRUCTION_B, context=text_of(row, "text").strip(), gold=place)


def decode_region(text: str) -> str | None:
    """One of the twenty regions, also from "Emilia-Romagna", "Friuli", "la Puglia"."""
    return decode_label(text, _PATTERNS)


def encode_coordinates(gold: Sequence[float]) -> str:
    """`45.4613453, 9.15933655`, with every digit that the numbers have."""
    return ", ".join(f"{Decimal(repr(degrees)):f}" for degrees in gold)


def decode_coordinates(text: str) -> list[float] | None:
    """The numbers that stand after the two names, or else the two numbers of a first line that has just two.

    None also for numbers that are no place on Earth.
    """
    answer = first_paragraph(text)
    named = [match[1] for pattern in _NAMED_DEGREES if (match := pattern.search(answer))]
    found = named if len(named) == 2 else _ANY_DEGREES.findall(answer.partition("\n")[0])
    place = [float(number.replace(",", ".").replace("−", "-")) for number in found]
    return place if len(place) == 2 and _on_earth(place) else None


def score_a(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 over the regions of the test set, or of the development set when that is what was asked."""
    development = any(answer.item.split == "dev" for answer in answers)
    return {"macro_f1": macro_f1_of(answers, DEV_REGIONS if development else TEST_REGIONS)}


def score_b(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Mean distance in km; an answer that could not be decoded is as far away as one can be, 20 015 km."""
    distances = [FARTHEST if a.prediction is None else distance(a.prediction, a.item.gold) for a in answers]
    return {"mean_km": fsum(distances) / len(distances)}


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Great-circle distance in km between two places, each a latitude and a longitude in degrees (haversine)."""
    (lat, lon), (other_lat, other_lon) = (map(radians, place) for place in (one, other))
    h = sin((other_lat - lat) / 2) ** 2 + cos(lat) * cos(other_lat) * sin((other_lon - lon) / 2) ** 2
    return 2 * EARTH_RADIUS * asin(min(1.0, sqrt(h)))


def _on_earth(place: Sequence[float]) -> bool:
    return abs(place[0]) <= 90 and abs(place[1]) <= 180


def _plain(region: str) -> str:
    """A region's name without what spellings differ in; what Twitter adds in another language stands after a bar."""
    return re.sub(r"[\W_]+", " ", region.partition("/")[0]).strip().casefold()


_BY_NAME = {_plain(region): region for region in REGIONS}


def _names(file: str) -> tuple[str, ...]:
    """Where a file may lie: as it is, and in the folders of the release."""
    subtask = f"subtask_{Path(file).stem[-1]}"
    return file, f"{subtask}/{file}", f"standard-track/{subtask}/{file}"


_SHARED: Mapping[str, Any] = {
    "folder": "geolingit",
    "licence": "GeoLingIt organisers' terms (form); tweet ids under Twitter's policy",
    "gated": True,
    "rows": partial(csv_rows, delimiter="\t", quoted=False),
    "text": ("text",),
    "beside": (_names("test_a.tsv"), _names("test_b.tsv"), "test.tsv"),  # the same tweets in all of them
}
_WHERE_TO_GET = (
    "the tweets are no longer handed out as text: fetch those of the ids in https://github.com/dhfbk/diatopit as its "
    "README says, or ask geolingit@gmail.com for the files of the task, and keep them as train_{0}.tsv, dev_{0}.tsv and, "
    "with labels, test_{0}.tsv"
)

TASK_A = Task(
    name="geolingit-a",
    description="Which region of Italy a tweet in dialect or regional Italian is from.",
    where_to_get=_WHERE_TO_GET.format("a"),
    train=(_names("train_a.tsv"),),
    dev=(_names("dev_a.tsv"),),
    test=((*_names("test_a.tsv"), "test.tsv"),),
    example=example_a,
    decode=decode_region,
    score=score_a,
    metrics={"macro_f1": True},
    **_SHARED,
)

TASK_B = Task(
    name="geolingit-b",
    description="Latitude and longitude that a tweet in dialect or regional Italian is from.",
    where_to_get=_WHERE_TO_GET.format("b"),
    train=(_names("train_b.tsv"),),
    dev=(_names("dev_b.tsv"),),
    test=((*_names("test_b.tsv"), "test.tsv"),),
    example=example_b,
    encode=encode_coordinates,
    decode=decode_coordinates,
    score=score_b,
    metrics={"mean_km": False},
    max_new_tokens=40,
    **_SHARED,
)
