"""Every task from files to scores, on the samples and, where they are at hand, on the organisers' own files."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from langadapt import Answer, Document, Item, Message, Rejected
from langadapt_italian.evalita import CORPORA, EVALUATIONS, TASKS, clinkart, hodi, langlearn, nermud, politicit, wic_ita
from langadapt_italian.evalita.reading import BadRow, Row

WHOLE, *PARTS = CORPORA
TASK_IDS = [task.name for task in TASKS]
BY_CORPUS = {corpus.name: corpus for corpus in PARTS}
RECORDS = [(t, BY_CORPUS[t.corpus_name], e) for t, e in zip(TASKS, EVALUATIONS, strict=True)]
MEANT = {
    "langlearn": langlearn.encode,
    "nermud": nermud.mentions,
    "clinkart": clinkart.mentions,
    "hodi-b": hodi.passages,
    "politicit": politicit.traits,
}  # what an answer decodes to, where it is not gold itself
BY_NAME = {task.name: (task, corpus, evaluation) for task, corpus, evaluation in RECORDS}

REAL = Path(__file__).parents[3].parent / "shared" / "data"
FOLDERS = {"nermud": "kind", "emotivita": "emotivita", "acti-a": "acti", "acti-b": "acti"}
TRAINING_ROWS = {"nermud": 32_249, "emotivita": 8_000, "acti-a": 1_842, "acti-b": 810}
LEAKS = {"nermud": 119, "emotivita": 104}  # training texts that the organisers' test files hold too
TEST_ROWS = {"nermud": 4_126, "emotivita": 2_062, "acti-a": 0, "acti-b": 0}

each_task = pytest.mark.parametrize(("task", "corpus", "evaluation"), RECORDS, ids=TASK_IDS)
each_real_task = pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.skipif(not (REAL / folder).is_dir(), reason=f"{folder} is not at hand"))
    for name, folder in FOLDERS.items()
])  # fmt: skip


def answered(task, items, texts) -> list[Answer]:
    return [Answer(item=i, text=t, prediction=task.decode(t)) for i, t in zip(items, texts, strict=True)]


def all_rows(task, folder: Path) -> list[Item]:
    """The rows of all files of a task as items, those to learn from first."""
    return list(replace(task, test=(*task.train, *task.dev, *task.test), dev=()).items(folder))


def meant(task, gold):
    """What a right answer decodes to."""
    return MEANT[task.name](gold) if task.name in MEANT else gold


@each_task
def test_records_are_complete(task, corpus, evaluation):
    assert corpus.name == evaluation.corpus == f"evalita-2023/{task.learns_as or evaluation.name}"
    assert corpus.language == evaluation.language == "it"
    assert corpus.licence and corpus.description and corpus.where_to_get
    assert corpus.sample.is_dir() and corpus.sample_licence == "CC0-1.0"
    assert evaluation.suites == ("evalita-2023",) and evaluation.metrics and evaluation.split == "test"


@each_task
def test_samples_are_read_whole(task, corpus, evaluation):
    documents, items = list(corpus.read(corpus.sample)), list(evaluation.items(corpus.sample))
    assert documents and items
    for document in documents:
        assert isinstance(document, Document)
        question, answer = document.messages
        assert (question.role, answer.role) == ("user", "assistant")
        assert question.content.strip() and question.context.strip() and answer.content.strip()
    for item in items:
        assert isinstance(item, Item)
        assert [message.role for message in item.messages] == ["user"]
        assert json.loads(json.dumps(item.gold)) == item.gold
    assert max(Counter(thing.id for thing in [*documents, *items]).values()) == 1


@each_task
def test_what_is_taught_decodes_to_gold(task, corpus, evaluation):
    items = all_rows(task, corpus.sample)
    documents = list(task.documents(corpus.sample))
    answers = answered(task, items, [task.encode(item.gold) for item in items])
    assert [answer.prediction for answer in answers] == [meant(task, item.gold) for item in items]
    for document, answer in zip(documents, answers, strict=False):
        assert document.messages == (*answer.item.messages, Message(role="assistant", content=answer.text))
    best = {metric: 1.0 if higher else 0.0 for metric, higher in evaluation.metrics.items()}
    assert evaluation.score(answers) == pytest.approx(best)


@each_task
def test_scores_are_numbers_for_any_answers(task, corpus, evaluation):
    items = list(evaluation.items(corpus.sample))
    for some in (items, items[:1]):
        for texts in ([""] * len(some), ["sì; Covid; Roma [LOC]; 3,00; 3,00; 3,00"] * len(some)):
            scores = evaluation.score(answered(task, some, texts))
            assert scores.keys() == evaluation.metrics.keys()
            assert all(type(value) is float and math.isfinite(value) for value in scores.values())


@each_task
def test_no_answer_is_never_better_than_a_wrong_one(task, corpus, evaluation):
    items = list(evaluation.items(corpus.sample))
    scores = evaluation.score([Answer(item=item, text="", prediction=None) for item in items])
    for metric, higher in evaluation.metrics.items():
        assert scores[metric] == 0.0 if higher else scores[metric] > 2.0


@each_task
def test_an_empty_folder_has_nothing(tmp_path, task, corpus, evaluation):
    assert list(corpus.read(tmp_path)) == list(evaluation.items(tmp_path)) == list(WHOLE.read(tmp_path)) == []


def test_the_whole_is_its_parts_by_turns():
    whole = list(WHOLE.read(WHOLE.sample))
    parts = [list(corpus.read(corpus.sample)) for corpus in PARTS]
    assert whole[: len(parts)] == [part[0] for part in parts], "a reading that ends early has seen every task"
    assert sorted(whole, key=lambda d: d.id) == sorted((d for part in parts for d in part), key=lambda d: d.id)
    assert max(Counter(document.id for document in whole).values()) == 1
    assert {document.id.partition("/")[0] for document in whole} == {task.name for task in TASKS if not task.learns_as}


def test_the_whole_takes_the_tasks_that_are_there(tmp_path):
    _, corpus, _ = BY_NAME["politicit"]
    (tmp_path / "politicit").symlink_to(corpus.sample)
    assert list(WHOLE.read(tmp_path)) == list(corpus.read(corpus.sample))


@pytest.mark.parametrize(("name", "file", "content", "reason"), [
    ("acti-a", "subtaskA_test.csv", 'Id,comment_text\n0,"uno\n"\n', "no label"),
    ("acti-b", "subtaskB_test.csv", "Id,comment_text,topic,conspiracy\n0,uno,Ufo,7\n", "unknown label"),
    ("acti-b", "subtaskB_test.csv", "Id,comment_text,topic,conspiracy\n0,uno,,\n", "no label"),
    ("haspeede3", "test_textual.csv", "anonymized_tweet_id,anonymized_text,label\n1,,0\n", "no anonymized_text"),
    ("emotivita", "test.csv", "id,text,V,A,D\n1,uno,1,nan,3\n", "label is not a number"),
    ("emotivita", "test.csv", "id,text,V,A,D\n1,uno,1,,3\n", "no label"),
    ("nermud", "WN_test.tsv", "Roma\tB-GPE\n", "unknown tag"),
])  # fmt: skip
def test_rows_without_an_answer_are_refused(tmp_path, name, file, content, reason):
    (tmp_path / file).write_text(content, encoding="utf-8")
    *_, evaluation = BY_NAME[name]
    (found,) = evaluation.items(tmp_path)
    assert isinstance(found, Rejected)
    assert (found.reason, found.where.partition(":")[0], found.size > 0) == (reason, file, True)


@pytest.mark.parametrize(("topic", "number", "gold"), [
    ("terra piatta ", "", "Terra Piatta"), ("", "2", "Russia"), ("Flat Earth", "3", "Terra Piatta"),
    ("Covid", "1", "Covid"),
])  # fmt: skip
def test_a_topic_is_known_by_name_or_else_by_number(tmp_path, topic, number, gold):
    content = f"Id,comment_text,topic,conspiracy\n0,uno,{topic},{number}\n"
    (tmp_path / "subtaskB_test.csv").write_text(content, encoding="utf-8")
    (item,) = BY_NAME["acti-b"][0].items(tmp_path)
    assert item.gold == gold


WIC = {"id": "x", "lemma": "riso", "sentence1": "Il riso cuoce.", "sentence2": "Un bel riso!", "start1": 3, "end1": 7,
       "start2": 7, "end2": 11, "label": 1}  # fmt: skip


def wic_row(**changes) -> Row:
    return Row(file=Path("x.jsonl"), line=1, size=1, cells={**WIC, **changes})


def test_wic_names_the_lemma_and_marks_the_word():
    example = wic_ita.example(wic_row())
    assert '"riso"' in example.instruction
    assert example.context == "Frase 1: Il **riso** cuoce.\nFrase 2: Un bel **riso**!"
    assert example.gold == "sì" and wic_ita.example(wic_row(label="0")).gold == "no"


@pytest.mark.parametrize("changes", [{"start1": -1}, {"end1": 15}, {"start2": 11}, {"start1": "3"}, {"start1": True},
                                     {"end2": None}, {"start1": 3.0}])  # fmt: skip
def test_wic_refuses_a_word_that_is_not_there(changes):
    with pytest.raises(BadRow, match="no word at the given place"):
        wic_ita.example(wic_row(**changes))


def test_emotivita_takes_no_answer_for_the_farthest_and_for_a_share_lost():
    *_, evaluation = BY_NAME["emotivita"]
    items = [Item(id=str(n), messages=(), gold=[1.5 + n, 4.0, 3.0]) for n in range(3)]
    predictions = [[1.5, 4.0, 3.0], [2.5, 4.0, 3.0], None]
    scores = evaluation.score([Answer(item=i, text="", prediction=p) for i, p in zip(items, predictions, strict=True)])
    assert scores["mae_v"] == pytest.approx((3.5 - 1.0) / 3) and scores["mae_a"] == pytest.approx((4.0 - 1.0) / 3)
    assert scores["pearson_v"] == pytest.approx(2 / 3) and scores["pearson_d"] == 0.0


def test_nermud_scores_are_scikit_learns_on_the_sample():
    metrics = pytest.importorskip("sklearn.metrics")
    task, corpus, evaluation = BY_NAME["nermud"]
    items = list(evaluation.items(corpus.sample))
    texts = [nermud.encode(item.gold).replace("ORG", "LOC") if n % 3 else "boh" for n, item in enumerate(items)]
    gold = [tag.rpartition("-")[2] for item in items for tag in item.gold["tags"]]
    predicted = [kind.replace("ORG", "LOC") if n % 3 else "O" for n, item in enumerate(items)
                 for kind in nermud.marked(item.gold["tokens"], nermud.mentions(item.gold))]  # fmt: skip
    theirs = {f"{average}_f1": metrics.f1_score(gold, predicted, labels=nermud.TYPES, average=average, zero_division=0)
              for average in ("macro", "micro")}  # fmt: skip
    assert evaluation.score(answered(task, items, texts)) == pytest.approx(theirs)


@each_real_task
def test_real_files_are_read_whole(name):
    _, corpus, evaluation = BY_NAME[name]
    folder = REAL / FOLDERS[name]
    documents, items = list(corpus.read(folder)), list(evaluation.items(folder))
    refused = Counter(row.reason for row in [*documents, *items] if isinstance(row, Rejected))
    assert refused == Counter({"also in the test set": LEAKS.get(name, 0)})
    assert (len(documents), len(items)) == (TRAINING_ROWS[name], TEST_ROWS[name])
    ids = [thing.id for thing in [*documents, *items] if not isinstance(thing, Rejected)]
    assert len(set(ids)) == len(ids)


@each_real_task
def test_real_rows_decode_to_gold(name):
    task, _, evaluation = BY_NAME[name]
    items = all_rows(task, REAL / FOLDERS[name])
    answers = answered(task, items, [task.encode(item.gold) for item in items])
    for answer in answers:
        assert answer.prediction == meant(task, answer.item.gold)
    scores = evaluation.score(answers)
    for metric, higher in evaluation.metrics.items():
        assert scores[metric] == float(higher)
