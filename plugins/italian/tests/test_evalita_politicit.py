"""PoliticIT: tweets put together by cluster, three traits in an answer, and votes before scores."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Document, Item, Rejected
from langadapt_italian.evalita import politicit
from langadapt_italian.evalita.politicit import TASK, TRAITS, decode, encode, score

untimed = settings(deadline=None)  # a busy machine is not a slow reader
HEAD = "label,gender,ideology_binary,ideology_multiclass,tweet\n"
CHOICES = {trait: list(labels.values()) for trait, (_, labels) in TRAITS.items()}
GOLD = st.fixed_dictionaries({trait: st.sampled_from(labels) for trait, labels in CHOICES.items()})
LEFT = {"gender": "donna", "ideology_binary": "sinistra", "ideology_multiclass": "sinistra moderata"}
RIGHT = {"gender": "uomo", "ideology_binary": "destra", "ideology_multiclass": "destra"}


def vote(cluster: str, gold, prediction) -> Answer:
    return Answer(item=Item(id="x", messages=(), gold={"cluster": cluster, **gold}), text="", prediction=prediction)


def test_tweets_of_a_cluster_are_asked_about_together(tmp_path):
    (tmp_path / "politicIT_phase_2_train_public.csv").write_text(
        HEAD
        + 'aa,female,left,moderate_left,uno\nbb,male,right,right,due\naa,female,left,moderate_left,"tre\nquattro"\n'
        "aa,male,left,moderate_left,cinque\nbb,male,right,right,\ncc,male,,,sei\n,male,left,left,sette\ndd,x,left,left,otto\n"
    )
    found = list(TASK.documents(tmp_path))
    documents = [d for d in found if isinstance(d, Document)]
    assert [d.messages[0].context for d in documents] == ["- uno\n- tre quattro", "- due"]
    assert documents[0].messages[1].content == "genere: donna; schieramento: sinistra; posizione: sinistra moderata"
    assert [d.id for d in documents] == [f"politicit/politicIT_phase_2_train_public/{n}" for n in (2, 3)]
    assert [(row.reason, row.where.rpartition(":")[2]) for row in found if isinstance(row, Rejected)] == [
        ("not the traits of its cluster", "6"), ("no tweet", "7"), ("no label", "9"), ("no label", "8"),
        ("unknown label", "10"),
    ]  # fmt: skip


def test_many_tweets_are_asked_about_some_at_a_time(tmp_path):
    tweets = [f"{n}" * 300 for n in range(7)] + ["x" * 5_000]
    rows = "".join(f"aa,male,right,right,{tweet}\n" for tweet in tweets)
    (tmp_path / "politicIT_test_set_with_labels.csv").write_text(HEAD + rows)
    items = list(TASK.items(tmp_path))
    assert [item.messages[0].context.count("- ") for item in items] == [3, 3, 1, 1]
    assert {item.gold["cluster"] for item in items} == {"aa"} and len({item.id for item in items}) == 4


def test_traits_of_one_file_go_with_the_tweets_of_the_other(tmp_path):
    (tmp_path / "politicIT_phase_2_test_public.csv").write_text("label,tweet\naa,uno\nbb,due\naa,tre\ncc,quattro\n")
    labels = "label,gender,ideology_binary,ideology_multiclass\nbb,male,right,right\naa,female,left,left\n"
    (tmp_path / "politicIT_phase_2_test_codalab.csv").write_text(labels)
    found = list(TASK.items(tmp_path))
    assert [(i.messages[0].context, i.gold["gender"]) for i in found if isinstance(i, Item)] == [
        ("- uno\n- tre", "donna"), ("- due", "uomo"),
    ]  # fmt: skip
    refused = [(row.reason, row.where) for row in found if isinstance(row, Rejected)]
    assert refused == [("no label", "politicIT_phase_2_test_public.csv:5")]


def test_one_leaked_tweet_is_enough_to_refuse_its_company(tmp_path):
    (tmp_path / "politicIT_phase_2_train_public.csv").write_text(
        HEAD + "aa,male,left,left,uno\naa,male,left,left,Due!\nbb,male,left,left,tre\n"
    )
    (tmp_path / "politicIT_phase_2_test_public.csv").write_text("label,tweet\nzz,quattro\nzz,due\n")
    found = list(TASK.documents(tmp_path))
    assert [type(row) for row in found] == [Rejected, Document] and found[0].where.endswith(":2")


@untimed
@given(gold=GOLD)
def test_traits_come_back(gold):
    assert decode(encode(gold)) == gold == politicit.traits({"cluster": "aa", **gold})


@pytest.mark.parametrize("text", [
    "genere: donna; schieramento: sinistra; posizione: sinistra moderata",
    "Genere: Donna\nSchieramento: Sinistra\nPosizione: centrosinistra", "donna; sinistra; sinistra moderata",
    "posizione: centro-sinistra, schieramento: sinistra, genere: femminile", "Donna, sinistra, centrosinistra.",
    "female; left; moderate_left", "**Genere:** donna; **schieramento:** sinistra; **posizione:** sinistra moderata\n\nx",
    "- genere: donna\n- schieramento: sinistra\n- posizione: sinistra moderata",
])  # fmt: skip
def test_traits_that_models_write(text):
    assert decode(text) == LEFT


@pytest.mark.parametrize("text", [
    "donna", "donna; sinistra", "genere: donna; schieramento: sinistra", "donna; sinistra; destra; destra",
    "genere: donna; schieramento: centro; posizione: sinistra", "genere: uomo o donna; schieramento: ?; posizione: ?",
])  # fmt: skip
def test_what_lacks_a_trait_is_no_answer(text):
    assert decode(text) is None


def test_most_votes_decide_and_an_undecoded_one_is_a_vote_for_none():
    three = [vote("a", LEFT, LEFT), vote("a", LEFT, RIGHT), vote("a", LEFT, LEFT)]
    lost = [vote("b", RIGHT, None), vote("b", RIGHT, RIGHT), vote("b", RIGHT, None)]
    assert score(three)["macro_f1"] == 1.0
    # Of two clusters each trait has one right (F1 1) and one without a label (F1 0).
    assert score([*three, *lost]) == pytest.approx(dict.fromkeys(score(three), 0.5))
    assert score(lost)["macro_f1"] == 0.0


@untimed
@given(pairs=st.lists(st.tuples(GOLD, GOLD), min_size=1))
def test_traits_score_as_scikit_learns_macro_f1(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    found = score([vote(str(n), gold, predicted) for n, (gold, predicted) in enumerate(pairs)])
    theirs = []
    for trait in TRAITS:
        sides = [g[trait] for g, _ in pairs], [p[trait] for _, p in pairs]
        theirs.append(metrics.f1_score(*sides, average="macro", zero_division=0))
        assert found[f"{trait}_f1"] == pytest.approx(theirs[-1])
    assert found["macro_f1"] == pytest.approx(sum(theirs) / 3)


def test_gold_scores_the_maximum():
    golds = [dict(zip(CHOICES, labels, strict=True)) for labels in product(*CHOICES.values())]
    assert set(score([vote(str(n), g, g) for n, g in enumerate(golds)]).values()) == {1.0}


@untimed
@given(
    text=st.text()
    | st.lists(st.sampled_from(["genere:", "uomo", "posizione", "destra", "moderata", ";", "\n"])).map(" ".join)
)
def test_no_text_raises(text):
    assert decode(text) is None or decode(text).keys() == TRAITS.keys()
