"""HaSpeeDe 3: which ranking asks which tweets, what is known of their authors, and the mean of two F1s."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Document, Item, Rejected
from langadapt_italian.evalita import haspeede3
from langadapt_italian.evalita.haspeede3 import TASK, TASK_CONTEXTUAL, TASK_XPOLITICAL, TASK_XRELIGIOUS

untimed = settings(deadline=None)  # a busy machine is not a slow reader
HEAD = '"anonymized_tweet_id","anonymized_text","label","dataset"\n'
CONTEXT = (
    "anonymized_tweet_id,created_at,retweet_count,favorite_count,source,is_reply,is_retweet,is_quote,"
    "anonymized_user_id,user_created_at,statuses_count,followers_count,friends_count,anonymized_description,dataset\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "training_textual.csv": HEAD + '"1","uno","1","training_politics"\n"2","due, tre","0","training_politics"\n'
        '"3","Quattro!","0","training_politics"\n',
        "training_contextual.csv": CONTEXT
        + "2,2021-03-01,0,7,web,1,0,1,99,2010-01-01,120,30,40,Nonno e tifoso,training_politics\n"
        "1,,,,,,,,,,,,,,training_politics\n8,,,,,,,,,,,,,,training_politics\n",
        "test_textual_gold.csv": HEAD + '"5","quattro","1","test_politics"\n"6","cinque","0","test_politics"\n'
        '"7","sei","1","test_religious"\n"9","sette","","test_politics"\n',
        "test_textual.csv": '"anonymized_tweet_id","anonymized_text","dataset"\n"6","cinque","test_politics"\n',
        "test_contextual.csv": CONTEXT + "6,,0,0,,0,0,0,,,,,,,test_politics\n7,,0,0,,1,0,0,,,,,,,test_religious\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def asked(task, folder: Path) -> list[str]:
    return [i.messages[0].context for i in task.items(folder) if isinstance(i, Item)]


def refused(found) -> list[tuple[str, str]]:
    return [(row.reason, row.where) for row in found if isinstance(row, Rejected)]


def test_each_ranking_asks_its_own_tweets(folder):
    assert asked(TASK, folder) == asked(TASK_XPOLITICAL, folder) == ["quattro", "cinque"]
    assert asked(TASK_XRELIGIOUS, folder) == ["sei"]
    assert refused(TASK.items(folder)) == [("no label", "test_textual_gold.csv:5")]
    assert "politico" in haspeede3.INSTRUCTION_POLITICAL and "religioso" in haspeede3.INSTRUCTION_RELIGIOUS


def test_only_the_political_training_set_is_learnt_from_without_test_tweets(folder):
    found = list(TASK.documents(folder))
    answers = [d.messages[1].content for d in found if isinstance(d, Document)]
    assert answers == ["sì", "no"] and refused(found) == [("also in the test set", "training_textual.csv:4")]
    assert TASK_XRELIGIOUS.corpus_name == TASK_XPOLITICAL.corpus_name == TASK.corpus_name
    assert list(TASK_XRELIGIOUS.documents(folder)) == list(TASK_XPOLITICAL.documents(folder)) == []


def test_what_is_known_of_a_tweet_goes_with_it(folder):
    found = list(TASK_CONTEXTUAL.documents(folder))
    first, second = (d.messages[0].context for d in found if isinstance(d, Document))
    assert first.splitlines() == [
        "Tweet: due, tre", "Tipo: risposta, citazione",
        "Retweet: 0; mi piace: 7; tweet dell'autore: 120; seguaci: 30; profili seguiti: 40",
        "L'autore si descrive così: Nonno e tifoso",
    ]  # fmt: skip
    assert second == "Tweet: uno"
    assert refused(found) == [("no anonymized_text", "training_contextual.csv:4")]
    assert asked(TASK_CONTEXTUAL, folder) == ["Tweet: cinque\nRetweet: 0; mi piace: 0"]


def test_the_repositorys_folders_are_read_as_they_are(folder):
    for name in ("development", "gold", "test"):
        (folder / name).mkdir()
    for old, new in (("training_textual", "development"), ("training_contextual", "development"),
                     ("test_textual_gold", "gold"), ("test_textual", "test"), ("test_contextual", "test")):  # fmt: skip
        (folder / f"{old}.csv").rename(folder / new / f"{old}.csv")
    assert asked(TASK, folder) == ["quattro", "cinque"]
    assert asked(TASK_CONTEXTUAL, folder) == ["Tweet: cinque\nRetweet: 0; mi piace: 0"]
    assert len(list(TASK_CONTEXTUAL.documents(folder))) == 3


def test_without_the_context_only_the_textual_rankings_are_there(folder):
    (folder / "training_contextual.csv").unlink()
    (folder / "test_contextual.csv").unlink()
    assert list(TASK_CONTEXTUAL.documents(folder)) == list(TASK_CONTEXTUAL.items(folder)) == []
    assert asked(TASK, folder) == ["quattro", "cinque"]


def test_context_without_texts_is_refused(folder):
    (folder / "test_textual_gold.csv").unlink()
    (folder / "test_textual.csv").unlink()
    assert refused(TASK_CONTEXTUAL.items(folder)) == [("no anonymized_text", "test_contextual.csv:2")]


def test_unlabelled_test_tweets_are_refused_and_not_learnt_from(folder):
    (folder / "test_textual_gold.csv").unlink()
    (folder / "test_textual.csv").write_text("anonymized_tweet_id,anonymized_text,dataset\n5,UNO,test_politics\n")
    assert refused(TASK.items(folder)) == [("no label", "test_textual.csv:2")]
    assert refused(TASK.documents(folder)) == [("also in the test set", "training_textual.csv:2")]


def test_a_confusion_by_hand():
    # Hateful: 2 hits, 1 false, 1 missed: 4/6. Not hateful: 3 hits, 1 false (none for the undecoded), 2 missed: 6/9.
    pairs = [("sì", "sì")] * 2 + [("no", "sì"), ("sì", "no")] + [("no", "no")] * 3 + [("no", None)]
    answers = [Answer(item=Item(id="x", messages=(), gold=g), text="", prediction=p) for g, p in pairs]
    assert haspeede3.score(answers)["macro_f1"] == pytest.approx((4 / 6 + 6 / 9) / 2)


@untimed
@given(pairs=st.lists(st.tuples(*2 * [st.sampled_from(["sì", "no"])]), min_size=1))
def test_the_mean_is_scikit_learns_over_both_classes(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    answers = [Answer(item=Item(id="x", messages=(), gold=g), text="", prediction=p) for g, p in pairs]
    theirs = metrics.f1_score(*zip(*pairs, strict=True), labels=["sì", "no"], average="macro", zero_division=0)
    assert haspeede3.score(answers)["macro_f1"] == pytest.approx(theirs)
