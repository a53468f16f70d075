"""MULTI-Fake-DetectiVE: downloaded posts and articles, four degrees, and the weighted F1."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Item, Rejected
from langadapt_italian.evalita.multi_fake_detective import DEGREES, TASK, TASK_ADDITIONAL, decode, score

untimed = settings(deadline=None)  # a busy machine is not a slow reader
HEAD = "ID\tURL\tDate\tType\tText\tMedia\tLabel\n"
STEM = "MULTI-Fake-Detective_Task1_"


def answers(pairs) -> list[Answer]:
    return [Answer(item=Item(id=str(n), messages=(), gold=g), text="", prediction=p) for n, (g, p) in enumerate(pairs)]


def test_rows_become_degrees_or_say_why_not(tmp_path):
    (tmp_path / f"{STEM}TEST_Data.tsv").write_text(
        HEAD + '1\tu\td\ttweet\tuno\t[\'1.jpg\']\t0\n2\tu\td\tarticle\t"due\n\nrighe, ""tre"""\t[]\t3\n'
        "3\tu\td\ttweet\tquattro\t[]\tProbably Fake\n4\tu\td\ttweet\tcinque\t[]\t4\n5\tu\td\ttweet\t\t[]\t2\n6\tu\n"
    )
    found = list(TASK.items(tmp_path))
    assert [(i.messages[0].context, i.gold) for i in found if isinstance(i, Item)] == [
        ("uno", "certamente falso"), ('due\n\nrighe, "tre"', "certamente vero"), ("quattro", "probabilmente falso"),
    ]  # fmt: skip
    assert [(row.reason, row.where.rpartition(":")[2]) for row in found if isinstance(row, Rejected)] == [
        ("unknown label", "7"), ("no Text", "8"), ("wrong number of columns", "9"),
    ]  # fmt: skip


def test_a_list_of_addresses_has_nothing_to_ask(tmp_path):
    (tmp_path / f"{STEM}TEST_IDs_LABELLED_FILTERED.tsv").write_text("ID\tURL\tType\tLabel\n1\thttps://x\ttweet\t0\n")
    (row,) = TASK.items(tmp_path)
    assert row.reason == "no Text"


def test_the_two_test_sets_are_apart_and_neither_is_learnt_from(tmp_path):
    for name, text in (("Data", "uno"), ("TEST_Data", "Due"), ("TEST-ADDITIONAL_Data", "tre")):
        rows = [
            f"{n}\tu\td\ttweet\t{t}\t[]\t1\n"
            for n, t in enumerate([text] if name != "Data" else ["uno", "due", "Tre."])
        ]
        (tmp_path / f"{STEM}{name}.tsv").write_text(HEAD + "".join(rows))
    assert [i.messages[0].context for i in TASK.items(tmp_path)] == ["Due"]
    assert [i.messages[0].context for i in TASK_ADDITIONAL.items(tmp_path)] == ["tre"]
    leaks = [row.where for row in TASK.documents(tmp_path) if isinstance(row, Rejected)]
    assert leaks == [f"{STEM}Data.tsv:3", f"{STEM}Data.tsv:4"]


@pytest.mark.parametrize("degree", DEGREES)
def test_degrees_come_back(degree):
    assert decode(TASK.encode(degree)) == degree
    assert decode(f"La notizia è {degree[:-1]}a.") == decode(f"**{degree.capitalize()}**\ncertamente") == degree


@pytest.mark.parametrize(("text", "degree"), [
    ("Sicuramente falsa", "certamente falso"), ("forse vero", "probabilmente vero"), ("Certainly Real", "certamente vero"),
    ("vero", None), ("falso", None), ("certamente", None), ("probabilmente verosimile", None),
    ("né certamente vero né certamente falso", None), ("probabilmente falso, non certamente falso", "probabilmente falso"),
])  # fmt: skip
def test_degrees_that_models_name(text, degree):
    assert decode(text) == degree


def test_a_confusion_by_hand():
    # Gold 2, 1, 1, 0 of the degrees: 2 of 4 rows with F1 2/3 (1 hit, 1 missed), 1 with 2/3 (1 hit, 1 false), 1 with 0.
    a, b, c, d = DEGREES
    assert score(answers([(a, a), (a, None), (b, b), (c, b)]))["weighted_f1"] == pytest.approx(
        (2 * 2 / 3 + 2 / 3 + 0) / 4
    )
    assert score(answers([(d, d)]))["weighted_f1"] == 1.0


@untimed
@given(pairs=st.lists(st.tuples(st.sampled_from(DEGREES), st.sampled_from([*DEGREES, None])), min_size=1))
def test_the_score_is_scikit_learns_weighted_f1(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    gold, predicted = zip(*pairs, strict=True)
    theirs = metrics.f1_score(gold, [p or "?" for p in predicted], average="weighted", zero_division=0)
    assert score(answers(pairs))["weighted_f1"] == pytest.approx(theirs)


@untimed
@given(
    text=st.text()
    | st.lists(st.sampled_from(["certamente", "probabilmente", "falso", "vero", "\n", ","])).map(" ".join)
)
def test_no_text_raises(text):
    assert decode(text) in (None, *DEGREES)
