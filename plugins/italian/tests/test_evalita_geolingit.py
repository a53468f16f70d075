"""GeoLingIt: unquoted tables, regions in many spellings, and distances against the haversine formula's known values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Item, Rejected
from langadapt_italian.evalita import geolingit
from langadapt_italian.evalita.geolingit import DEV_REGIONS, FARTHEST, REGIONS, TEST_REGIONS, distance

untimed = settings(deadline=None)  # a busy machine is not a slow reader
A, B = geolingit.TASK_A, geolingit.TASK_B
ROME, MILAN = [41.8984164, 12.54514535], [45.4613453, 9.15933655]


def answers(golds, predictions, split="test") -> list[Answer]:
    items = [Item(id=str(n), messages=(), gold=gold, split=split) for n, gold in enumerate(golds)]
    return [Answer(item=i, text="", prediction=p) for i, p in zip(items, predictions, strict=True)]


def refused(found) -> list[tuple[str, str]]:
    return [(row.reason, row.where) for row in found if isinstance(row, Rejected)]


def test_a_quote_is_a_letter_like_any_other(tmp_path):
    content = 'id\ttext\tregion\n1\t"Daje\tLazio\n2\tma "che" dici\tLombardia\r\n'
    (tmp_path / "test_a.tsv").write_text(content, encoding="utf-8", newline="")
    items = list(A.items(tmp_path))
    assert [(i.messages[0].context, i.gold) for i in items] == [('"Daje', "Lazio"), ('ma "che" dici', "Lombardia")]


def test_rows_that_are_none_are_refused_with_their_line(tmp_path):
    content = "id\ttext\tregion\n1\tuno\tPadania\n2\tdue\t\n3\ttre\n4\t \tLazio\n5\tcinque\tEmilia-Romagna\n"
    (tmp_path / "test_a.tsv").write_text(content, encoding="utf-8")
    *bad, good = A.items(tmp_path)
    assert refused(bad) == [
        ("unknown label", "test_a.tsv:2"), ("no label", "test_a.tsv:3"), ("wrong number of columns", "test_a.tsv:4"),
        ("no text", "test_a.tsv:5"),
    ]  # fmt: skip
    assert good.gold == "Emilia Romagna"
    content = "id\ttext\tlatitude\tlongitude\n1\tuno\t45,46\t9,16\n2\tdue\t95\t9\n3\ttre\tnord\t9\n4\tquattro\t\t9\n"
    (tmp_path / "test_b.tsv").write_text(content, encoding="utf-8")
    good, *bad = B.items(tmp_path)
    assert good.gold == [45.46, 9.16]
    assert refused(bad) == [
        ("coordinates are not on Earth", "test_b.tsv:3"), ("label is not a number", "test_b.tsv:4"),
        ("no label", "test_b.tsv:5"),
    ]  # fmt: skip


@pytest.mark.parametrize("folder", ["", "subtask_a", "standard-track/subtask_a"])
def test_files_are_found_where_the_release_has_them(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev"):
        content = f"ID\tText\tRegion\n1\ttweet di {split}\tMarche\n"
        (tmp_path / folder / f"{split}_a.tsv").write_text(content, encoding="utf-8")
    (tmp_path / "test.tsv").write_text("id\ttext\n1\ttweet di train\n", encoding="utf-8")
    blind, item = A.items(tmp_path)
    assert refused([blind]) == [("no label", "test.tsv:2")]
    assert (item.id, item.split) == ("geolingit-a/dev_a/2", "dev")
    assert refused(A.documents(tmp_path)) == [("also in the dev set", "train_a.tsv:2")], (
        "the blind test set is kept out"
    )


def test_the_regions_are_those_of_the_scorer():
    assert (len(REGIONS), len(TEST_REGIONS), len(DEV_REGIONS)) == (20, 17, 13)
    assert set(TEST_REGIONS) - set(DEV_REGIONS) == {"Abruzzo", "Marche", "Trentino-Alto Adige", "Umbria"}


@pytest.mark.parametrize("region", REGIONS)
def test_regions_come_back(region):
    assert region in geolingit.INSTRUCTION_A
    assert A.decode(A.encode(region)) == region == A.decode(f"La risposta è: {region.upper()}.\n\nPerché…")


@pytest.mark.parametrize(("text", "region"), [
    ("Emilia-Romagna", "Emilia Romagna"), ("il Friuli", "Friuli-Venezia Giulia"), ("Val d’Aosta", "Valle d'Aosta"),
    ("Viene dalla Puglia.", "Puglia"), ("Südtirol", "Trentino-Alto Adige"), ("Tuscany", "Toscana"),
    ("Lazio o Umbria", "Lazio"), ("Forse Lazio, forse Umbria", None), ("Roma", None), ("venetocismo", None),
])  # fmt: skip
def test_regions_in_other_words(text, region):
    assert A.decode(text) == region


@pytest.mark.parametrize("text", [
    "45.46, 9.16", "45.46,9.16", "45,46; 9,16", "(45.46, 9.16)", "45.46° N, 9.16° E", "45.46N 9.16E",
    "latitudine: 45,46, longitudine: 9,16", "Longitudine: 9.16\nLatitudine: 45.46", "lat=45.46 lon=9.16",
    "La latitudine è 45.46 e la longitudine è 9.16.", "45.46, 9.16\nMilano, 2 km dal centro",
])  # fmt: skip
def test_coordinates(text):
    assert B.decode(text) == [45.46, 9.16]


@pytest.mark.parametrize("text", ["45.46", "45, 9, 120", "91, 9", "45, 181", "1234, 9", "Milano", "45.46.1, 9"])
def test_what_are_no_coordinates(text):
    assert B.decode(text) is None


@untimed
@given(place=st.tuples(st.floats(-90, 90), st.floats(-180, 180)).map(list))
def test_coordinates_come_back_to_the_last_digit(place):
    assert B.decode(B.encode(place)) == place


@untimed
@given(text=st.text() | st.text("0123456789.,;-+−°NE lationgude\n", max_size=40))
def test_any_text_is_a_place_on_earth_or_none(text):
    place = B.decode(text)
    assert place is None or 0 <= distance(place, ROME) <= FARTHEST
    A.decode(text)


def test_distances_are_known_ones():
    assert distance([0, 0], [0, 180]) == distance([90, 0], [-90, 57]) == pytest.approx(FARTHEST) == math.pi * 6371.0088
    assert distance([0, 0], [1, 0]) == pytest.approx(111.1950802)  # a degree of a meridian: 6371.0088 · π / 180
    # A degree of the parallel at 60°, whose cosine is 1/2: 2R · asin(sin(½°) / 2).
    assert distance([60, 10], [60, 11]) == pytest.approx(2 * 6371.0088 * math.asin(math.sin(math.radians(0.5)) / 2))
    # Spherical law of cosines, which is another formula for the same.
    (a, b), (c, d) = (map(math.radians, place) for place in (ROME, MILAN))
    angle = math.acos(math.sin(a) * math.sin(c) + math.cos(a) * math.cos(c) * math.cos(b - d))
    assert distance(ROME, MILAN) == distance(MILAN, ROME) == pytest.approx(6371.0088 * angle)


def test_mean_distance_with_an_answer_that_is_none():
    assert B.score(answers([ROME, MILAN], [ROME, MILAN])) == {"mean_km": 0.0}
    assert B.score(answers([[0.0, 0.0]] * 2, [[1.0, 0.0], None])) == {
        "mean_km": pytest.approx((111.1950802 + 20015.1144420) / 2)
    }


def test_macro_f1_is_over_the_regions_of_the_split():
    metrics = pytest.importorskip("sklearn.metrics")
    gold = ["Lazio", "Lazio", "Umbria", "Veneto"]
    predicted = ["Lazio", "Umbria", "Umbria", None]
    # Lazio: 2·1/(2·1+1) = 2/3; Umbria the same; nothing else: (2/3 + 2/3) / 17.
    assert A.score(answers(gold, predicted)) == {"macro_f1": pytest.approx(4 / 3 / 17)}
    assert A.score(answers(gold, predicted, "dev")) == {"macro_f1": pytest.approx(2 / 3 / 13)}
    theirs = metrics.f1_score(
        gold, [p or "?" for p in predicted], labels=TEST_REGIONS, average="macro", zero_division=0
    )
    assert A.score(answers(gold, predicted)) == {"macro_f1": pytest.approx(theirs)}
    assert A.score(answers(TEST_REGIONS, TEST_REGIONS)) == {"macro_f1": 1.0}
