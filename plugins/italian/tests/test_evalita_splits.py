"""Training, development and test files: what is learnt from, what is measured on, and that nothing is both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Document, Item, Rejected
from langadapt_italian.evalita import acti, wic_ita
from langadapt_italian.evalita.reading import Row, label_of, text_of
from langadapt_italian.evalita.task import Example, Task

untimed = settings(deadline=None)  # a busy machine is not a slow reader
LABELS = {"0": "no", "1": "sì"}


def rows(file: Path) -> list[Row]:
    lines = file.read_text(encoding="utf-8").splitlines()
    cells = (dict(zip(("text", "label"), line.split("|"), strict=False)) for line in lines)
    return [
        Row(file=file, line=n, size=len(line), cells=c) for n, (line, c) in enumerate(zip(lines, cells, strict=True), 1)
    ]


def example(row: Row) -> Example:
    return Example(instruction="?", context=text_of(row, "text"), gold=label_of(row, "label", LABELS))


TASK = Task(
    name="t", folder="t", description="", licence="", where_to_get="", rows=rows, example=example, decode=str,
    score=lambda answers: {}, metrics={}, text=("text",), train=("train",), dev=("dev",), test=("test",),
)  # fmt: skip


def filled(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        (folder / name).write_text(content.replace(" / ", "\n"), encoding="utf-8")
    return folder


def learnt(task: Task, folder: Path) -> list[str]:
    return [d.messages[0].context for d in task.documents(folder) if isinstance(d, Document)]


def asked(task: Task, folder: Path) -> list[tuple[str, str]]:
    return [(i.messages[0].context, i.split) for i in task.items(folder) if isinstance(i, Item)]


def refused(found) -> list[tuple[str, str]]:
    return [(row.reason, row.where) for row in found if isinstance(row, Rejected)]


def test_development_rows_are_learnt_from_where_the_test_set_has_answers(tmp_path):
    filled(tmp_path, train="uno|1", dev="due|0", test="tre|1 / quattro|0")
    assert learnt(TASK, tmp_path) == ["uno", "due"]
    assert asked(TASK, tmp_path) == [("tre", "test"), ("quattro", "test")]


@pytest.mark.parametrize("test", [None, "", "tre| / quattro|"])
def test_development_rows_are_measured_on_where_it_has_none(tmp_path, test):
    filled(tmp_path, train="uno|1", dev="due|0", **({} if test is None else {"test": test}))
    assert learnt(TASK, tmp_path) == ["uno"]
    assert asked(TASK, tmp_path) == [("due", "dev")]
    assert refused(TASK.items(tmp_path)) == ([("no label", "test:1"), ("no label", "test:2")] if test else [])


def test_without_either_there_is_nothing_to_ask(tmp_path):
    assert asked(TASK, filled(tmp_path, train="uno|1")) == []
    assert asked(replace(TASK, dev=()), filled(tmp_path, test="tre|")) == []


@pytest.mark.parametrize("text", ["Che bel film!", "che bel film", "CHE  BEL FILM 😀", "«Che bel film…»"])
def test_a_test_text_is_not_learnt_however_it_is_dressed(tmp_path, text):
    filled(tmp_path, train=f"Che brutto film!|0 / {text}|1", dev=f"{text}|1", test="Che bel film!|1")
    assert learnt(TASK, tmp_path) == ["Che brutto film!"]
    assert refused(TASK.documents(tmp_path)) == [("also in the test set", "train:2"), ("also in the test set", "dev:1")]
    assert asked(TASK, tmp_path) == [("Che bel film!", "test")]


def test_texts_of_unlabelled_and_neighbouring_test_files_are_not_learnt_either(tmp_path):
    filled(tmp_path, train="uno|1 / due|0 / tre|1 / quattro|0", test="due|", dev="tre|1", other="quattro")
    assert learnt(replace(TASK, beside=("other",)), tmp_path) == ["uno"]
    reasons = refused(replace(TASK, beside=("other",)).documents(tmp_path))
    assert reasons == [("also in the dev set", f"train:{n}") for n in (2, 3, 4)]


def test_texts_of_signs_only_are_told_apart(tmp_path):
    filled(tmp_path, train="😀|1 / ❤|0", test="😀|1")
    assert learnt(TASK, tmp_path) == ["❤"]


def test_without_columns_the_text_is_what_the_question_shows(tmp_path):
    filled(tmp_path, train="uno|1 / due|0", test="UNO|1 / due|")
    assert learnt(replace(TASK, text=()), tmp_path) == ["due"]


def test_a_list_holds_several_texts_and_one_is_enough(tmp_path):
    task = replace(
        TASK, rows=lambda f: [replace(r, cells={**r.cells, "texts": r.cells["text"].split("+")}) for r in rows(f)]
    )
    filled(tmp_path, train="uno+due|1 / tre+quattro|0", test="cinque+Due|1")
    assert learnt(replace(task, text=("texts",)), tmp_path) == ["tre+quattro"]


def test_a_row_that_another_task_asks_is_neither_asked_nor_refused(tmp_path):
    mine = replace(TASK, example=lambda row: None if row.cells["text"].startswith("x") else example(row))
    filled(tmp_path, train="xa|1 / uno|1 / xb|1", test="xb|1 / due|0")
    assert asked(mine, tmp_path) == [("due", "test")] and learnt(mine, tmp_path) == ["uno"]
    assert refused([*mine.items(tmp_path), *mine.documents(tmp_path)]) == []
    assert learnt(TASK, tmp_path) == ["xa", "uno"], "its text is measured on all the same"


def test_a_file_is_read_under_the_first_of_its_names_that_is_there(tmp_path):
    task = replace(TASK, test=(("gold", "test"), "more"))
    filled(tmp_path, test="uno|1", more="due|0")
    assert asked(task, tmp_path) == [("uno", "test"), ("due", "test")]
    filled(tmp_path, gold="tre|1")
    assert asked(task, tmp_path) == [("tre", "test"), ("due", "test")]


@pytest.mark.parametrize(("test", "split"), [("tre|1", "test"), ("tre|", "dev")])
def test_the_report_says_which_split_was_measured(tmp_path, monkeypatch, test, split):
    methods = pytest.importorskip("langadapt.evaluation.methods")
    from langadapt.evaluation.methods import task
    from langadapt.plugins import registry
    from langadapt.recipe import EvaluationTable

    def ask(model, tokenizer, evaluation, items, *_):
        return [Answer(item=item, text="", prediction=item.gold) for item in items]

    filled(tmp_path, dev="due|0", test=test)
    evaluation = replace(TASK, score=lambda answers: {"n": float(len(answers))}, metrics={"n": True}).evaluation()
    monkeypatch.setattr("langadapt.evaluation.generating.ask", ask)
    monkeypatch.setattr(task, "encode", lambda *_: SimpleNamespace(size=0))
    monkeypatch.setattr(registry(), "evaluations", {"t": evaluation})
    subject = methods.Subject(model=None, tokenizer=None, settings=EvaluationTable(), prompts={"p": None})
    found = SimpleNamespace(path=tmp_path)
    measure = methods.Measure(
        method="task", evaluation=evaluation, input=found, task="t", suite="s", prompt="p", split="test"
    )
    rows = methods.rows(measure, methods.method("task").prepare(subject, measure).take())
    assert [row["split"] for row in rows] == [split]


@untimed
@given(
    train=st.lists(st.sampled_from("abcdeABCDE")),
    dev=st.lists(st.sampled_from("abcde")),
    test=st.lists(st.sampled_from("abcde")),
)
def test_nothing_learnt_is_measured_on(tmp_path_factory, train, dev, test):
    folder = tmp_path_factory.mktemp("splits")
    filled(
        folder,
        train="\n".join(f"{t}|1" for t in train),
        dev="\n".join(f"{t}|0" for t in dev),
        test="\n".join(f"{t}|1" for t in test),
    )
    texts = {text.casefold() for text in learnt(TASK, folder)}
    assert texts.isdisjoint(text for text, _ in asked(TASK, folder))
    found = len(list(TASK.documents(folder))) + (0 if test else len(dev))
    assert found == len(train) + len(dev), "every row is learnt from, measured on, or refused"


def test_a_pair_is_only_leaked_as_a_pair(tmp_path):
    row = {"id": "1", "lemma": "riso", "sentence1": "Il riso cuoce.", "sentence2": "Un bel riso!", "start1": 3, "end1": 7,
           "start2": 7, "end2": 11, "label": 1}  # fmt: skip
    other = row | {"sentence2": "Il riso abbonda.", "start2": 3, "end2": 7}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(row | {'id': '2'})}\n{json.dumps(other)}\n")
    found = list(wic_ita.TASK.documents(tmp_path))
    assert refused(found) == [("also in the test set", "train.jsonl:1")] and len(found) == 2


def test_subtasks_of_a_folder_do_not_learn_each_others_test_texts(tmp_path):
    (tmp_path / "subtaskA_train.csv").write_text("Id,comment_text,conspiratorial\n0,uno,1\n1,due,0\n")
    (tmp_path / "subtaskA_test.csv").write_text("Id,comment_text\n0,tre\n")
    (tmp_path / "subtaskB_train.csv").write_text("Id,comment_text,topic,conspiracy\n0,tre,Covid,0\n1,quattro,Qanon,1\n")
    (tmp_path / "subtaskB_test.csv").write_text("Id,comment_text,topic,conspiracy\n0,due,Russia,2\n")
    assert learnt(acti.TASK_A, tmp_path) == ["uno"] and learnt(acti.TASK_B, tmp_path) == ["quattro"]
