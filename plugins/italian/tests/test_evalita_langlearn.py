"""LangLearn: pairs beside their essays, every other training pair turned round, and the mean of the two corpora."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Item, Rejected
from langadapt_italian.evalita.answers import NO, YES
from langadapt_italian.evalita.langlearn import TASK

untimed = settings(deadline=None)  # a busy machine is not a slow reader
ESSAYS = {"1": "Primo tema.", "2": "Secondo &amp; ultimo.", "3": "Terzo.\nCon due righe.", "4": " "}


def write(folder: Path, corpus: str, split: str, pairs: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    docs = "".join(f'<doc id="{id}">\n{text}\n</doc>' for id, text in ESSAYS.items())
    essays = f"Essays_{'Test_' if split == 'Test' else ''}{corpus}.xml"
    (folder / essays).write_text(f"<docs>{docs}</docs>", encoding="utf-8")
    (folder / f"{split}_{corpus}.tsv").write_text(pairs, encoding="utf-8")


def refused(found) -> list[tuple[str, str]]:
    return [(row.reason, row.where) for row in found if isinstance(row, Rejected)]


@pytest.mark.parametrize("split", ["Training", "Train"])
@pytest.mark.parametrize("flat", [True, False])
def test_every_other_training_pair_is_turned_round(tmp_path, split, flat):
    pairs = "Essay_1\tEssay_2\tOrder_1\tOrder_2\n1\t2\t1_1\t1_2\n1\t3\t1_1\t2_1\n"
    write(tmp_path if flat else tmp_path / "CItA", "CItA", split, pairs)
    turned, kept = TASK.documents(tmp_path)
    assert turned.messages[0].context == "Tema 1:\nSecondo & ultimo.\n\nTema 2:\nPrimo tema."
    assert kept.messages[0].context == "Tema 1:\nPrimo tema.\n\nTema 2:\nTerzo.\nCon due righe."
    assert [turned.messages[1].content, kept.messages[1].content] == [NO, YES]


@pytest.mark.parametrize("column", ["Label", "Pred", "label"])
def test_test_pairs_stay_as_they_are(tmp_path, column):
    pairs = f"Essay_1\tEssay_2\tOrder_1\tOrder_2\t{column}\n1\t2\tF18\tW19\t0\n1\t3\tF18\tW19\t1\n"
    write(tmp_path / "COWS-L2H", "COWS-L2H", "Test", pairs)
    first, second = TASK.items(tmp_path)
    assert first.gold == {"corpus": "COWS-L2H", "in_order": YES} and second.gold["in_order"] == NO
    assert all(item.messages[0].context.startswith("Tema 1:\nPrimo tema.") for item in (first, second))


def test_rows_that_are_none_are_refused_with_their_line(tmp_path):
    pairs = "Essay_1\tEssay_2\tOrder_1\tOrder_2\tLabel\n1\t9\t1_1\t1_2\t0\n1\t4\t1_1\t1_2\t0\n1\t2\t1_1\n1\t2\t1_1\t1_2\t2\n"
    write(tmp_path, "CItA", "Test", pairs + "1\t2\t1_1\t1_2\t\n")
    assert refused(TASK.items(tmp_path)) == [
        ("no essay with that id", "Test_CItA.tsv:2"), ("no essay with that id", "Test_CItA.tsv:3"),
        ("wrong number of columns", "Test_CItA.tsv:4"), ("unknown label", "Test_CItA.tsv:5"),
        ("no label", "Test_CItA.tsv:6"),
    ]  # fmt: skip


@pytest.mark.parametrize("xml", [None, "<docs><doc id='1'>senza fine", ""])
def test_essays_that_cannot_be_read_are_named(tmp_path, xml):
    write(tmp_path, "CItA", "Test", "Essay_1\tEssay_2\tLabel\n1\t2\t0\n")
    (tmp_path / "Essays_Test_CItA.xml").unlink()
    if xml is not None:
        (tmp_path / "Essays_Test_CItA.xml").write_text(xml, encoding="utf-8")
    assert refused(TASK.items(tmp_path)) == [("Essays_Test_CItA.xml is missing or not valid XML", "Test_CItA.tsv:2")]


def test_a_pair_with_one_essay_of_the_test_set_is_not_learnt_from(tmp_path):
    write(tmp_path, "CItA", "Test", "Essay_1\tEssay_2\n1\t9\n")
    write(tmp_path, "CItA", "Training", "Essay_1\tEssay_2\n3\t1\n3\t2\n")
    bad, good = TASK.documents(tmp_path)
    assert refused([bad]) == [("also in the test set", "Training_CItA.tsv:2")] and not isinstance(good, Rejected)


def answers(corpus: str, golds: list[str], predictions: list[str | None]) -> list[Answer]:
    items = [Item(id="x", messages=(), gold={"corpus": corpus, "in_order": gold}) for gold in golds]
    return [Answer(item=i, text="", prediction=p) for i, p in zip(items, predictions, strict=True)]


def test_the_mean_of_the_corpora_by_hand():
    # sì: 1 hit of 2 and 1 → 2/3; no: 1 hit of 1 and 2 → 2/3.
    italian = answers("CItA", [YES, YES, NO], [YES, NO, NO])
    # sì: 1 hit of 1 and 1 → 1; no: 0.
    spanish = answers("COWS-L2H", [YES, NO], [YES, None])
    assert TASK.score(italian) == {"macro_f1": pytest.approx(2 / 3)}
    assert TASK.score(spanish) == {"macro_f1": 0.5}
    assert TASK.score([*italian, *spanish]) == {"macro_f1": pytest.approx((2 / 3 + 1 / 2) / 2)}


@untimed
@given(pairs=st.lists(st.tuples(*[st.sampled_from([YES, NO])] * 2), min_size=1))
def test_scores_are_scikit_learns(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    gold, predicted = map(list, zip(*pairs, strict=True))
    theirs = metrics.f1_score(gold, predicted, labels=[YES, NO], average="macro", zero_division=0)
    assert TASK.score(answers("CItA", gold, predicted)) == {"macro_f1": pytest.approx(theirs)}
