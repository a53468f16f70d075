"""The tasks whose answer is a number, WiC-ITA's ranking and DisCoTEX's second, and DisCoTEX's tables over several lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Item, Rejected
from langadapt_italian.evalita import discotex, emotivita, nermud, wic_ita
from langadapt_italian.evalita.answers import NO, YES, decode_rating, encode_rating
from langadapt_italian.evalita.scoring import pearson, share_of, spearman

untimed = settings(deadline=None)  # a busy machine is not a slow reader
RANKING, ONE, TWO = wic_ita.TASK_RANKING, discotex.TASK_1, discotex.TASK_2
PAIR = {"id": "riso.noun.1", "lemma": "riso", "sentence1": "Il riso cuoce.", "sentence2": "Un bel riso!",
        "start1": 3, "end1": 7, "start2": 7, "end2": 11}  # fmt: skip


def answers(golds, predictions) -> list[Answer]:
    items = [Item(id=str(n), messages=(), gold=gold) for n, gold in enumerate(golds)]
    return [Answer(item=i, text="", prediction=p) for i, p in zip(items, predictions, strict=True)]


def refused(found) -> list[tuple[str, str]]:
    return [(row.reason, row.where) for row in found if isinstance(row, Rejected)]


def written(folder, name: str, content: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")


@pytest.mark.parametrize("text", [
    "3,5", "3.5", "3.50", " 3,5.", "**3,5**", "3,5/5", "3,5 su 5", "Risposta: 3,5", "La risposta è 3,5 su 4, perché…",
    "Direi 3,5.", "Su una scala da 1 a 5 direi 3,5", "Punteggio: 3,5\nperché 2 frasi su 4", "3,5 (tra 3 e 4)", "\n\n3.5",
])  # fmt: skip
def test_ratings(text):
    assert decode_rating(text) == 3.5


@pytest.mark.parametrize("text", [
    "", "tre e mezzo", "35", "2023", "tra 3 e 4", "direi 3 o 4", "3,5,6", "B2", "3.5x", "da 1 a 5", "3,5km",
])  # fmt: skip
def test_what_are_no_ratings(text):
    assert decode_rating(text) is None


@pytest.mark.parametrize(("rating", "text"), [(4.0, "4"), (3.5, "3,5"), (1.25, "1,25"), (0.0, "0"), (2.1, "2,1")])
def test_ratings_are_written_as_in_italian(rating, text):
    assert encode_rating(rating) == text


@untimed
@given(hundredths=st.integers(0, 999))
def test_ratings_come_back(hundredths):
    assert decode_rating(encode_rating(hundredths / 100)) == hundredths / 100


@untimed
@given(text=st.text() | st.text("0123456789.,/ daunosù\n", max_size=30))
def test_any_text_is_a_rating_or_none(text):
    assert decode_rating(text) is None or 0 <= decode_rating(text) < 10


def test_a_missing_answer_costs_its_share():
    gold = [1.0, 2.0, 3.0, 4.0]
    assert share_of(pearson, gold, gold) == share_of(spearman, gold, gold) == 1.0
    assert share_of(spearman, gold, [1.0, 2.0, None, 4.0]) == 0.75
    assert share_of(spearman, gold, [4.0, 3.0, None, 1.0]) == -1.0, "silence does not mend a wrong order"
    assert share_of(pearson, gold, [None] * 4) == share_of(pearson, [], []) == 0.0


@untimed
@given(pairs=st.lists(st.tuples(st.integers(2, 10), st.integers(2, 10) | st.none()), min_size=3))
def test_correlations_are_scipys_of_the_answers_there_are(pairs):
    stats = pytest.importorskip("scipy.stats")
    gold, predicted = [g / 2 for g, _ in pairs], [p and p / 2 for _, p in pairs]
    there = [(g, p) for g, p in zip(gold, predicted, strict=True) if p is not None]
    scores = TWO.score(answers(gold, predicted))
    assert RANKING.score(answers(gold, predicted)) == {"spearman": scores["spearman"]}
    for name, theirs in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        constant = any(len(set(side)) < 2 for side in zip(*there, strict=True)) or not there
        r = 0.0 if constant else theirs(*zip(*there, strict=True)).statistic
        assert scores[name] == pytest.approx(min(r, r * len(there) / len(pairs)), abs=1e-9)


def test_wic_ranking_is_read_where_the_repository_has_it(tmp_path):
    for name, score in (("ranking/train", 3.5), ("ranking/dev", 1), ("gold_truth/ranking/test", 4.0)):
        row = {**PAIR, "sentence2": f"Un bel riso! ({name})", "score": score}
        written(tmp_path, f"{name}.jsonl", json.dumps(row) + "\n")
    train, dev = RANKING.documents(tmp_path)
    (item,) = RANKING.items(tmp_path)
    assert [train.messages[1].content, dev.messages[1].content, item.gold] == ["3,5", "1", 4.0]
    assert '"riso"' in item.messages[0].content and "**riso**" in item.messages[0].context


def test_wic_keeps_the_pairs_of_the_other_sub_task_out(tmp_path):
    written(tmp_path, "ranking/train.jsonl", json.dumps({**PAIR, "score": 4}) + "\n")
    written(tmp_path, "binary/train.jsonl", json.dumps({**PAIR, "label": 1}) + "\n")
    written(tmp_path, "ranking/test.jsonl", json.dumps(PAIR) + "\n")
    for task in (RANKING, wic_ita.TASK):
        assert refused(task.documents(tmp_path)) == [("also in the test set", "train.jsonl:1")]


def test_wic_refuses_a_score_that_is_none(tmp_path):
    rows = [{**PAIR, "score": score} for score in (None, "alto", 2)]
    written(tmp_path, "gold_truth/ranking/test.jsonl", "".join(json.dumps(row) + "\n" for row in [PAIR, *rows]))
    found = list(RANKING.items(tmp_path))
    assert refused(found) == [
        ("no label", "test.jsonl:1"), ("no label", "test.jsonl:2"), ("label is not a number", "test.jsonl:3"),
    ]  # fmt: skip
    assert found[3].gold == 2.0


ROWS = (
    "ID\tPROMPT\tTARGET\tCLASS\n"
    'a#1\t"Disse: ""Torno\tsubito"".\nPoi uscì."\tNon tornò.\t1\n'
    'a#2\tUna frase.\t"La ""rana"" gracida."\t0\r\n'
)


@pytest.mark.parametrize("folder", ["", "data/test/gold/"])
def test_discotex_cells_run_over_lines(tmp_path, folder):
    written(tmp_path, f"{folder}discotex_1_ted_test_set_release.tsv", ROWS)
    first, second = ONE.items(tmp_path)
    assert first.messages[0].context == 'Brano: Disse: "Torno\tsubito".\nPoi uscì.\nFrase: Non tornò.'
    assert second.messages[0].context == 'Brano: Una frase.\nFrase: La "rana" gracida.'
    assert [first.gold, second.gold] == [YES, NO]
    assert [item.id for item in (first, second)] == [
        "discotex-1/discotex_1_ted_test_set_release/2", "discotex-1/discotex_1_ted_test_set_release/4",
    ]  # fmt: skip


def test_discotex_refuses_rows_with_their_line(tmp_path):
    rows = ROWS + 'b\tuno\tdue\t2\nc\tuno\tdue\t\nd\tuno\t1\ne\t"uno" due\ttre\t1\nf\t\tdue\t1\n'
    written(tmp_path, "discotex_1_wiki_test_set_release.tsv", rows)
    assert refused(ONE.items(tmp_path)) == [
        (reason, f"discotex_1_wiki_test_set_release.tsv:{line}")
        for line, reason in enumerate(
            ["unknown label", "no label", "wrong number of columns", "not valid CSV", "no PROMPT"], start=5
        )
    ]


def test_discotex_knows_the_score_by_both_names_and_rounds_it(tmp_path):
    written(tmp_path, "discotex_2_test_set_release.tsv", "ID\tTEXT\tSCORE\n1\tUno.\t3.44\n2\tDue.\t\n")
    written(tmp_path, "discotex_2_train_clean_release.tsv", "ID\tTEXT\tMEAN\tSTDEV\n1\tTre.\t1.33333333333333\t0.5\n")
    item, no_label = TWO.items(tmp_path)
    (document,) = TWO.documents(tmp_path)
    assert item.gold == 3.44 and refused([no_label]) == [("no label", "discotex_2_test_set_release.tsv:3")]
    assert document.messages[1].content == "1,33"


def test_discotex_accuracy_by_hand():
    assert ONE.score(answers([YES, YES, NO, NO], [YES, NO, NO, None])) == {"accuracy": 0.5}


@pytest.mark.parametrize("folder", ["", "EmotivITA/"])
def test_emotivita_is_read_under_its_published_names(tmp_path, folder):
    written(tmp_path, f"{folder}Development set.csv", "ID,Text,v,a,d\n1,Uno.,1,2,3\n2,Due.,1,2,3\n3,Tre!,1,2,3\n")
    written(tmp_path, f"{folder}Test set - Gold labels.csv", "id;text;V;A;D\n4;Due.;1,5;2;3\n")
    written(tmp_path, f"{folder}Test set.csv", "id,text\n4,Due.\n5,Tre\n")
    (item,) = emotivita.TASK.items(tmp_path)
    kept, *leaks = emotivita.TASK.documents(tmp_path)
    assert item.gold == [1.5, 2.0, 3.0]
    assert kept.messages[1].content == "valenza: 1,00; attivazione: 2,00; dominanza: 3,00"
    assert refused(leaks) == [
        ("also in the test set", "Development set.csv:3"), ("also in the test set", "Development set.csv:4"),
    ]  # fmt: skip


@pytest.mark.parametrize("folder", ["", "evalita-2023/"])
def test_nermud_is_read_in_the_repositorys_folder_and_measured_on_dev_without_a_test_set(tmp_path, folder):
    written(tmp_path, f"{folder}WN_train.tsv", "Roma\tB-LOC\n")
    written(tmp_path, f"{folder}WN_dev.tsv", "Oslo\tB-LOC\n\nRoma\tB-LOC\n")
    assert [item.split for item in nermud.TASK.items(tmp_path)] == ["dev", "dev"]
    assert refused(nermud.TASK.documents(tmp_path)) == [("also in the dev set", "WN_train.tsv:1")]
