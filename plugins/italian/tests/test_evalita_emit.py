"""EMit: its files, what models write about emotions and targets, and the macro-F1 over columns."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Item, Rejected
from langadapt_italian.evalita import emit

untimed = settings(deadline=None)  # a busy machine is not a slow reader
NAMES = list(emit.EMOTIONS.values())
LABELS = ["direzione", "argomento", "entrambi", "non specificato"]
HEAD_A = "id,text,Anger,Anticipation,Disgust,Fear,Joy,Love,Neutral,Sadness,Surprise,Trust\n"
EMOTIONS = st.lists(st.sampled_from(NAMES), unique=True).map(lambda chosen: [n for n in NAMES if n in chosen])


def answers(pairs) -> list[Answer]:
    return [Answer(item=Item(id=str(n), messages=(), gold=g), text="", prediction=p) for n, (g, p) in enumerate(pairs)]


def test_rows_become_emotions_or_say_why_not(tmp_path):
    (tmp_path / "emit_test.csv").write_text(
        HEAD_A + 'a1,"Che bello,\nche bello",0,0,0,0,1,1,0,0,0,0\na2,Ore 21.,0,0,0,0,0,0,1,0,0,0\n'
        "a3,,0,0,0,0,1,0,0,0,0,0\na4,Boh,0,0,0,0,2,0,0,0,0,0\na5,Mah,,,,,,,,,,\na6,Zero,0,0,0,0,0,0,0,0,0,0\n"
    )
    found = list(emit.TASK_A.items(tmp_path))
    assert [item.gold for item in found if isinstance(item, Item)] == [["gioia", "amore"], ["neutro"], []]
    assert [(row.reason, row.where) for row in found if isinstance(row, Rejected)] == [
        ("no text", "emit_test.csv:5"), ("unknown label", "emit_test.csv:6"), ("no label", "emit_test.csv:7"),
    ]  # fmt: skip


@pytest.mark.parametrize(("direction", "topic", "gold"), zip("1010", "0110", LABELS, strict=True))
def test_rows_become_targets(tmp_path, direction, topic, gold):
    (tmp_path / "emit_test_ood.csv").write_text(f"ID,Text,DIRECTION,topic\r\nx,uno,{direction},{topic}\r\n")
    (item,) = emit.TASK_B_OUTSIDE.items(tmp_path)
    assert item.gold == gold and emit.decode_b(gold) == gold


def test_one_file_with_all_columns_serves_both(tmp_path):
    head, row = HEAD_A.strip() + ",Direction,Topic\n", "a,uno,1,0,0,0,0,0,0,0,0,0,1,1\n"
    (tmp_path / "emit_train.csv").write_text("\ufeff" + head + row, encoding="utf-8")
    assert [d.messages[1].content for d in emit.TASK_A.documents(tmp_path)] == ["rabbia"]
    assert [d.messages[1].content for d in emit.TASK_B.documents(tmp_path)] == ["entrambi"]


def test_neither_test_set_is_learnt_from(tmp_path):
    rows = {"emit_train_B.csv": "uno,1,0\nx,due,0,1\nx,tre,0,0\nx,quattro,1,1", "emit_test.csv": "Due!,0,1",
            "emit_test_ood.csv": "tre,1,1"}  # fmt: skip
    for name, content in rows.items():
        (tmp_path / name).write_text(f"id,text,Direction,Topic\nx,{content}\n")
    (tmp_path / "emit_test_nolabel.csv").write_text("id,text\nx,QUATTRO\n")
    found = list(emit.TASK_B.documents(tmp_path))
    assert [row.where for row in found if isinstance(row, Rejected)] == [f"emit_train_B.csv:{n}" for n in (3, 4, 5)]


@untimed
@given(gold=EMOTIONS)
def test_emotions_come_back(gold):
    assert emit.decode_a(emit.encode_a(gold)) == gold


@pytest.mark.parametrize(("text", "emotions"), [
    ("Gioia e amore", ["gioia", "amore"]), ("amore, gioia", ["gioia", "amore"]), ("- Rabbia\n- Gioia", ["rabbia"]),
    ("**Tristezza**.", ["tristezza"]), ("Il messaggio è arrabbiato, non triste.", ["rabbia"]),
    ("Non esprime emozioni", ["neutro"]), ("Nessuna emozione.", ["neutro"]), ("Neutrale", ["neutro"]),
    ("La risposta è: paura, senza disgusto", ["paura"]), ("JOY; TRUST", ["gioia", "fiducia"]), ("nessuna", []),
    ("Non saprei", None), ("non è gioia", None), ("felice sorpresa", ["gioia", "sorpresa"]),
])  # fmt: skip
def test_emotions_that_models_name(text, emotions):
    assert emit.decode_a(text) == emotions


@pytest.mark.parametrize(("text", "target"), [
    ("Direzione", "direzione"), ("direzione e argomento", "entrambi"), ("Argomento, direzione", "entrambi"),
    ("sia l'argomento sia la direzione", None), ("Argomento, non direzione", "argomento"), ("Tutti e due", "entrambi"),
    ("Non specificato", "non specificato"), ("non_specificato", "non specificato"), ("Nessuno dei due", "non specificato"),
    ("Il messaggio parla dell'argomento.", "argomento"), ("direzione o argomento", "direzione"), ("Rai", None),
])  # fmt: skip
def test_targets_that_models_name(text, target):
    assert emit.decode_b(text) == target


@untimed
@given(pairs=st.lists(st.tuples(EMOTIONS, EMOTIONS | st.none()), min_size=1))
def test_emotions_score_as_scikit_learns_macro_f1_over_columns(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    columns = [[[int(name in (side or ())) for name in NAMES] for side in sides] for sides in zip(*pairs, strict=True)]
    theirs = metrics.f1_score(*columns, average="macro", zero_division=0)
    assert emit.score_a(answers(pairs))["macro_f1"] == pytest.approx(theirs)


def test_a_confusion_of_targets_by_hand():
    # Direction: 2 hits, 1 false, 1 missed: 4/6. Topic: 1 hit, 0 false, 2 missed: 2/4.
    pairs = [("direzione", "direzione"), ("entrambi", "direzione"), ("argomento", "argomento"),
             ("non specificato", "direzione"), ("direzione", None), ("argomento", None)]  # fmt: skip
    assert emit.score_b(answers(pairs))["macro_f1"] == pytest.approx((4 / 6 + 2 / 4) / 2)


def test_a_confusion_of_emotions_by_hand():
    # Joy: 1 hit, 1 missed: 2/3. Love: 1 false: 0. Anger: 1 hit: 1. The other seven columns are empty: 0.
    pairs = [(["gioia"], ["gioia", "amore"]), (["gioia"], None), (["rabbia"], ["rabbia"])]
    assert emit.score_a(answers(pairs))["macro_f1"] == pytest.approx((2 / 3 + 1) / 10)


def test_gold_scores_the_maximum():
    assert emit.score_a(answers([(list(g), list(g)) for g in combinations(NAMES, 2)])) == {"macro_f1": 1.0}
    assert emit.score_b(answers([(g, g) for g in LABELS])) == {"macro_f1": 1.0}


@untimed
@given(text=st.text() | st.lists(st.sampled_from([*NAMES, *LABELS, "non", "né", ",", " ", "\n", "«"])).map(" ".join))
def test_no_text_raises(text):
    assert emit.decode_a(text) is None or set(emit.decode_a(text)) <= set(NAMES)
    assert emit.decode_b(text) in (None, *LABELS)
