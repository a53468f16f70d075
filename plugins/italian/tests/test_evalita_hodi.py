"""HODI: its files, passages that come back to the character, and the Dice coefficient of positions."""

from __future__ import annotations

import pytest
from hypothesis import example as also
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Document, Item, Rejected
from langadapt_italian.evalita import hodi

untimed = settings(deadline=None)  # a busy machine is not a slow reader
HEAD = "id\ttext\trationales\n"
TEXT = st.text(st.sampled_from("ab à»«;()12“”\"'\n\t\u2028"), min_size=1, max_size=24) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=24
)


@st.composite
def golds(draw):
    text = draw(TEXT)
    return {"text": text, "positions": sorted(draw(st.sets(st.integers(0, len(text) - 1))))}


def gold_of(marked: str) -> dict:
    """`a[bc]d` is the text abcd with the positions 1 and 2."""
    text, positions, inside = "", [], False
    for character in marked:
        if character in "[]":
            inside = character == "["
        else:
            positions += [len(text)] if inside else []
            text += character
    return {"text": text, "positions": positions}


def dice(gold, prediction) -> float:
    item = Item(id="x", messages=(), gold=gold)
    return hodi.score_b([Answer(item=item, text="", prediction=prediction)])["f1"]


def test_rows_become_positions_or_say_why_not(tmp_path):
    (tmp_path / "HODI_2023_test_GOLD.tsv").write_text(
        "id\ttext\thomotransphobic\trationales\n1\tche schifo\t1\t[4, 5, 6, 7, 8, 9, 9]\n2\tciao\t0\t[]\n3\tciao\t0\t\n"
        '4\t"due\nrighe"\t1\t[0,1,2]\n5\tx\t1\t[0, 1]\n6\tx\t1\t[-1]\n7\tx\t1\tprimo\n8\tx\t1\t["0"]\n9\t\t0\t[]\n'
    )
    found = list(hodi.TASK_B.items(tmp_path))
    positions = [item.gold["positions"] for item in found if isinstance(item, Item)]
    assert positions == [[4, 5, 6, 7, 8, 9], [], [], [0, 1, 2]]
    outside, no_list = "rationale outside the text", "rationales are not a list of positions"
    assert [(row.reason, row.where.rpartition(":")[2]) for row in found if isinstance(row, Rejected)] == [
        (outside, "7"), (outside, "8"), (no_list, "9"), (no_list, "10"), ("no text", "11"),
    ]  # fmt: skip
    assert [i.gold for i in hodi.TASK_A.items(tmp_path) if isinstance(i, Item)] == ["sì", "no", "no"] + ["sì"] * 5


def test_files_without_answers_are_told_and_not_learnt_from(tmp_path):
    (tmp_path / "HODI_2023_train_subtaskB.tsv").write_text(HEAD + "1\tuno\t[0]\n2\tdue\t\n")
    (tmp_path / "HODI_2023_test_subtaskA.csv").write_text("id\ttext\n9\tDue\n")
    (document, leak) = hodi.TASK_B.documents(tmp_path)
    assert isinstance(document, Document) and document.messages[1].content == "«u»"
    assert (leak.reason, leak.where) == ("also in the test set", "HODI_2023_train_subtaskB.tsv:3")
    (tmp_path / "HODI_2023_test_GOLD").mkdir()
    (tmp_path / "HODI_2023_test_GOLD/HODI_2023_test_GOLD.tsv").write_text("id\ttext\n9\tdue\n")
    (row,) = hodi.TASK_B.items(tmp_path)
    assert row.reason == "no label"


@pytest.mark.parametrize(("marked", "written"), [
    ("[certa gente] va curata", "«certa gente»"), ("nulla", "nessuno"),
    ("a [voi] e a [loro]", "«voi»; «loro»"), ("voi, dico [voi]", "«voi» (2)"), ("[voi], dico voi", "«voi»"),
    ("aa[aa]", "«aa» (3)"), ("[prima\nriga]", "«prima riga»"), ("dice [«basta»] così", "«basta»"),
])  # fmt: skip
def test_what_is_taught(marked, written):
    gold = gold_of(marked)
    assert hodi.encode_b(gold) == written.replace("«basta»", "««basta»»")
    assert hodi.marked(gold["text"], hodi.decode_b(hodi.encode_b(gold))) == set(gold["positions"])


@untimed
@given(gold=golds())
@also(gold={"text": "a»; «b", "positions": [0, 1, 2, 3, 4, 5]})
@also(gold={"text": "a» (2)", "positions": [0, 1, 2, 3, 4, 5]})
@also(gold={"text": "»»»", "positions": [0, 2]})
@also(gold={"text": "a  b", "positions": [1]})
def test_every_position_comes_back(gold):
    written = hodi.encode_b(gold)
    assert "\n" not in written
    assert hodi.decode_b(written) == hodi.passages(gold)
    assert hodi.marked(gold["text"], hodi.decode_b(written)) == set(gold["positions"])
    assert dice(gold, hodi.decode_b(written)) == 1.0


@pytest.mark.parametrize(("text", "passages"), [
    ("«voi»; «loro»", [("voi", 1), ("loro", 1)]), ("«voi» (2)", [("voi", 2)]), ("“voi”", [("voi", 1)]),
    ("Passaggi: «voi»;«loro».", [("voi", 1), ("loro", 1)]), ("«voi», «loro»", [("voi", 1), ("loro", 1)]),
    ("«voi» e «loro»", [("voi", 1), ("loro", 1)]), ('"voi" e "loro"', [("voi", 1), ("loro", 1)]),
    ("nessuno", []), ("Nessun passaggio è omotransfobico.", []), ("Non ce ne sono", []), ("voi", None), ("«", None),
    ("«voi»\n\n### Istruzione: «loro»", [("voi", 1)]),
])  # fmt: skip
def test_passages_that_models_quote(text, passages):
    assert hodi.decode_b(text) == passages


@pytest.mark.parametrize(("predicted", "positions"), [
    ([("voi", 1)], {0, 1, 2}), ([("voi", 2)], {9, 10, 11}), ([("voi", 7)], {9, 10, 11}), ([("VOI", 1)], {0, 1, 2}),
    ([("dico   voi", 1)], {4, 5, 6, 7, 8, 9, 10, 11}), ([("loro", 1)], set()), ([(" ", 1)], {3}), ([("", 1)], set()),
    ([("voi", 0)], {0, 1, 2}), ([], set()),
])  # fmt: skip
def test_passages_mark_their_characters(predicted, positions):
    assert hodi.marked("Voi dico voi".replace("V", "v"), predicted) == positions


@pytest.mark.parametrize(("marked", "prediction", "score"), [
    ("[abcd]", [("abcd", 1)], 1.0),
    ("[abc]d", [("bcd", 1)], 2 * 2 / (3 + 3)),
    ("abcd", [], 1.0), ("abcd", [("zz", 1)], 0.0), ("abcd", [("ab", 1)], 0.0), ("abcd", None, 0.0),
    ("[ab]cd", [], 0.0), ("[ab]cd", None, 0.0), ("[ab]cd", [("zz", 1)], 0.0), ("[ab]cd", [("ab", 1), ("b", 1)], 1.0),
])  # fmt: skip
def test_confusions_by_hand(marked, prediction, score):
    assert dice(gold_of(marked), prediction) == pytest.approx(score)


def test_the_guidelines_own_example():
    # evaluation_utils.py: [0, 1, 4, 5] against gold [0, 1, 6] is 4/7.
    assert dice(gold_of("[ab]cdef[g]"), [("ab", 1), ("ef", 1)]) == pytest.approx(4 / 7)


def test_the_score_is_the_mean_over_tweets():
    pairs = [(gold_of("[ab]cd"), [("ab", 1)]), (gold_of("abcd"), None), (gold_of("[abc]d"), [("bcd", 1)])]
    answers = [Answer(item=Item(id="x", messages=(), gold=g), text="", prediction=p) for g, p in pairs]
    assert hodi.score_b(answers)["f1"] == pytest.approx((1 + 0 + 2 / 3) / 3)


@untimed
@given(text=st.text() | st.text(st.sampled_from('«»“”"ab ();12\n')))
def test_no_text_raises(text):
    prediction = hodi.decode_b(text)
    assert 0.0 <= dice({"text": "ab a(b) «a»", "positions": [0, 3]}, prediction) <= 1.0


@untimed
@given(pairs=st.lists(st.tuples(st.sampled_from(["sì", "no"]), st.sampled_from(["sì", "no"])), min_size=1))
def test_detection_scores_as_scikit_learns_macro_f1(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    answers = [Answer(item=Item(id="x", messages=(), gold=g), text="", prediction=p) for g, p in pairs]
    theirs = metrics.f1_score(*zip(*pairs, strict=True), average="macro", zero_division=0)
    assert hodi.score_a(answers)["macro_f1"] == pytest.approx(theirs)
