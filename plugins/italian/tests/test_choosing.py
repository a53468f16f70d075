"""Sets that are measured by likelihood: ours are sound and balanced, public ones are read in their own columns."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from langadapt import Answer, Item, Recipe, Rejected
from langadapt.likelihood import score_choices
from langadapt.plugins import registry
from langadapt_italian import choosing
from langadapt_italian.language import ITALIAN

SETS = {one.name: one for one in choosing.SETS}
OURS = [one for one in choosing.SETS if one.sample]

XCOPA = {
    "premise": "L'uomo aprì il rubinetto.",
    "choice1": "Il gabinetto si riempì d'acqua.",
    "choice2": "Dell'acqua fluì dal beccuccio.",
    "question": "effect",
    "label": 1,
    "idx": 0,
    "changed": False,
}
BELEBELE = {
    "link": "https://example.org",
    "question_number": 1,
    "flores_passage": "Le api tornano all'alveare.",
    "question": "Dove tornano le api?",
    "mc_answer1": "Al mare",
    "mc_answer2": "In città",
    "mc_answer3": "All'alveare",
    "mc_answer4": "Sul prato",
    "correct_answer_num": "3",
    "dialect": "ita_Latn",
    "ds": "2023-05-03",
}
ARC = {
    "id": "a",
    "instruction": "Che cosa misura un termometro?",
    "option_a": "la massa",
    "option_b": "la temperatura",
    "option_c": "il tempo",
    "option_d": "la forza",
    "option_e": None,
    "answer": "B",
}
MMLU = {key: value for key, value in ARC.items() if key != "option_e"}
HELLASWAG = {
    "ind": 1,
    "activity_label": "Lavare i piatti",
    "ctx_a": "Una donna apre l'acqua. [title]",
    "ctx_b": "la donna",
    "endings": ["prende la spugna.", "[step] vola via.", "legge.", "canta."],
    "label": "0",
}
CROWS = {"sent_more": "Le donne guidano male.", "sent_less": "Gli uomini guidano male.", "bias_type": "gender"}

READ = [
    (
        "xcopa-it",
        XCOPA,
        "L'uomo aprì il rubinetto quindi",
        (" il gabinetto si riempì d'acqua.", " dell'acqua fluì dal beccuccio."),
        1,
    ),
    (
        "belebele-it",
        BELEBELE,
        "Dove tornano le api?\nA. Al mare\nB. In città\nC. All'alveare\nD. Sul prato",
        ("A", "B", "C", "D"),
        2,
    ),
    ("arc-it", ARC, ARC["instruction"], ("la massa", "la temperatura", "il tempo", "la forza"), 1),
    (
        "mmlu-it",
        MMLU,
        "Che cosa misura un termometro?\nA. la massa\nB. la temperatura\nC. il tempo\nD. la forza",
        ("A", "B", "C", "D"),
        1,
    ),
    (
        "hellaswag-it",
        HELLASWAG,
        "Lavare i piatti: Una donna apre l'acqua.. La donna",
        (" prende la spugna.", " vola via.", " legge.", " canta."),
        0,
    ),
    ("crows-pairs-it", CROWS, "", (CROWS["sent_more"], CROWS["sent_less"]), 0),
]


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "row", "asked", "choices", "gold"), READ)
def test_public_sets_are_read_in_the_columns_that_they_are_published_in(tmp_path, name, row, asked, choices, gold):
    (found,) = SETS[name].items(jsonl(tmp_path / "some.jsonl", row))
    assert (found.choices, found.gold) == (choices, gold)
    assert "".join(m.content for m in found.messages) == asked
    if name == "belebele-it":
        assert found.messages[0].context == BELEBELE["flores_passage"], "decontamination looks for the passage"


@pytest.mark.parametrize("name", [name for name, *_ in READ])
def test_parquet_holds_the_same(tmp_path, name):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    row = next(row for one, row, *_ in READ if one == name)
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "some.parquet")
    items = [list(SETS[name].items(p)) for p in (tmp_path / "some.parquet", jsonl(tmp_path / "some.jsonl", row))]
    assert [(i.messages, i.choices, i.gold) for i in items[0]] == [(i.messages, i.choices, i.gold) for i in items[1]]


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("xcopa-it", XCOPA | {"label": 2}, "label is no choice"),
        ("xcopa-it", XCOPA | {"label": None}, "no label"),
        ("xcopa-it", XCOPA | {"question": "why"}, "unknown label"),
        ("xcopa-it", XCOPA | {"choice2": " "}, "no choice2"),
        ("belebele-it", BELEBELE | {"correct_answer_num": "0"}, "label is no choice"),
        ("belebele-it", BELEBELE | {"correct_answer_num": "5"}, "label is no choice"),
        ("arc-it", ARC | {"answer": "E"}, "label is no choice"),
        ("arc-it", ARC | {"answer": "AB"}, "label is no choice"),
        ("arc-it", ARC | {"option_b": None}, "an option is missing"),
        ("mmlu-it", MMLU | {"answer": ""}, "no label"),
        ("hellaswag-it", HELLASWAG | {"endings": ["a", ""]}, "no endings"),
        ("hellaswag-it", HELLASWAG | {"label": ""}, "no label"),
        ("hellaswag-it", HELLASWAG | {"label": "²"}, "label is no choice"),
        ("crows-pairs-it", {"sent_more": "Le donne guidano male."}, "no sent_less"),
        ("quiz-it", {"question": "Che?", "choices": "no", "answer": 0}, "no choices"),
    ],
)
def test_rows_without_a_question_or_a_right_answer_are_refused_with_the_reason(tmp_path, name, row, reason):
    file = jsonl(tmp_path / "some.jsonl", row)
    for read in (SETS[name].items, SETS[name].documents):
        (found,) = read(file)
        assert isinstance(found, Rejected) and found.reason == reason and found.where == "some.jsonl:1"


def test_of_a_folder_the_files_of_the_split_are_read(tmp_path):
    (tmp_path / "it").mkdir()
    jsonl(tmp_path / "it/train.it.jsonl", XCOPA)
    assert list(SETS["xcopa-it"].items(tmp_path)) == []
    jsonl(tmp_path / "it/test.it.jsonl", XCOPA, XCOPA)
    assert [item.id for item in SETS["xcopa-it"].items(tmp_path)] == [
        "xcopa-it/test.it.jsonl:1",
        "xcopa-it/test.it.jsonl:2",
    ]


@pytest.mark.parametrize("names", [("dev.en", "dev.it"), ("eng_Latn.devtest", "ita_Latn.devtest")])
def test_flores_is_read_line_by_line(tmp_path, names):
    flores = SETS["flores-en-it"]
    assert list(flores.items(tmp_path)) == []
    (tmp_path / names[0]).write_bytes(b"One.\nTwo.\nThree.\n")
    (tmp_path / names[1]).write_bytes("È uno.\r\n".encode() + b"\xff\nTre.\n")
    first, second, third = flores.items(tmp_path)
    assert first.choices == ("One.", "È uno.") and third.choices == ("Three.", "Tre.")
    assert second == Rejected(reason="not UTF-8", where=f"{names[1]}:2", size=7)
    (tmp_path / names[1]).write_bytes(b"Uno.\n")
    (found,) = flores.items(tmp_path)
    assert found.reason == "the two files have not as many lines"


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.name)
def test_our_sets_are_read_whole_and_right_answers_score_best(one):
    items = list(one.items(one.sample))
    assert len(items) >= 24 and all(isinstance(item, Item) for item in items)
    assert len({item.id for item in items}) == len({(item.messages, item.choices) for item in items}) == len(items)
    assert all(len(set(item.choices)) == len(item.choices) for item in items)
    answers = [
        Answer(item=i, text="", prediction=i.gold, logprobs=tuple(-9.0 * (n != i.gold) for n in range(len(i.choices))))
        for i in items
    ]
    assert set((one.score or score_choices)(answers)) == set(one.metrics or score_choices(answers))
    if not one.score:
        assert score_choices(answers)["acc"] == 1


def test_no_place_in_the_quiz_is_right_more_often_than_another():
    quiz = SETS["quiz-it"]
    assert set(Counter(item.gold for item in quiz.items(quiz.sample)).values()) == {10}


def words(pair):
    more, less = (Counter(text.casefold().replace("'", "' ").split()) for text in pair)
    return tuple(sorted((more - less).elements())), tuple(sorted((less - more).elements()))


@pytest.mark.parametrize("name", ["stereotypes-gender-it", "stereotypes-origin-it"])
def test_pairs_differ_in_the_group_alone_and_every_group_stands_on_both_sides_as_often(name):
    """So what a model thinks of the words themselves, rare or frequent, says nothing in the share."""
    differ = [words(item.choices) for item in SETS[name].items(SETS[name].sample)]
    assert all(1 <= len(side) <= 2 for pair in differ for side in pair)
    assert Counter(more for more, _ in differ) == Counter(less for _, less in differ)
    assert Counter(differ) == Counter((less, more) for more, less in differ)


def test_wrong_sentences_differ_from_right_ones_in_one_place():
    for item in SETS["grammar-it"].items(SETS["grammar-it"].sample):
        good, bad = (text.split() for text in item.choices)
        start = next(n for n, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b)
        end = next(n for n, (a, b) in enumerate(zip(good[::-1], bad[::-1], strict=False)) if a != b)
        assert len(good) - start - end <= 2 and len(bad) - start - end <= 2, item.choices


def test_every_corpus_and_suite_is_offered():
    known = registry()
    suites = {suite for e in known.evaluations.values() for suite in e.suites} | set(known.evaluations)
    assert set(ITALIAN.suites) <= suites
    assert all(e.corpus in known.corpora for e in choosing.EVALUATIONS)
    assert all(one.where_to_get or one.sample for one in choosing.SETS)


RECIPE = """\
schema = 1
name = "trial"
language = "it"
base_model = "someone/model"
[evaluation]
suites = ["choices-it", "pairs-it", "bias-it", "parallel-it"]
[[stage]]
id = "measure"
kind = "evaluate"
from = "base"
held_out = false
"""


def test_our_sets_are_measured_in_real_runs_and_others_are_asked_for(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    jsonl(tmp_path / "mine.jsonl", XCOPA)
    plan = Recipe.load(tmp_path / "recipe.toml", [f"data.xcopa-it={tmp_path}/mine.jsonl"]).plan(tmp_path / "run")
    stage = plan.stage("measure")
    assert {m.task for m in stage.work} == {one.name for one in OURS} | {"xcopa-it"}
    assert {m.method for m in stage.work} == {"choose"}
    assert {m.task for m in stage.work if m.prompt} == {"quiz-it"}, "the others stand in running text"
    assert any("belebele-it" in note and "no copy is at hand" in note for note in stage.notes)
