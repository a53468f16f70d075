"""CLinkaRT: cases and relations by their places, refused with their line, and found again from what a model writes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Item, Rejected
from langadapt_italian.evalita import clinkart
from langadapt_italian.evalita.clinkart import TASK, places
from langadapt_italian.evalita.reading import BadRow, Row

untimed = settings(deadline=None)  # a busy machine is not a slow reader
NOTE = "All'ECG FC 66 bpm, PA 120/80 mmHg. Tampone negativo; secondo tampone negativo."
RELATIONS = [[11, 17, 8, 10], [22, 33, 19, 21], [43, 51, 35, 42], [69, 77, 61, 68]]
HEAD = f"100|t|{NOTE}\n"
LINES = "".join(
    f"100\tREL\t{a}-{b}\t{c}-{d}\t{NOTE[a:b]}\t{NOTE[c:d]}\n" for a, b, c, d in reversed(RELATIONS)
)  # the organisers keep no order


def read(tmp_path, content: str | bytes) -> list[Item | Rejected]:
    (tmp_path / "test.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(TASK.items(tmp_path))


def answered(item: Item, text: str) -> Answer:
    return Answer(item=item, text=text, prediction=TASK.decode(text))


def item(text: str, relations: list[list[int]]) -> Item:
    return Item(id="x", messages=(), gold={"text": text, "relations": relations})


def test_a_case_and_its_relations_in_order(tmp_path):
    (found,) = read(tmp_path, HEAD + LINES)
    assert found.messages[0].context == NOTE
    assert found.gold == {"text": NOTE, "relations": RELATIONS}
    written = "66 bpm → FC; 120/80 mmHg → PA; negativo → Tampone; negativo [2] → tampone"
    assert TASK.encode(found.gold) == written
    assert TASK.score([answered(found, written)]) == {"f1": 1.0}


@pytest.mark.parametrize("content", [
    f"\ufeff{HEAD}{LINES}".replace("\n", "\r\n"), HEAD + LINES.rstrip("\n"), HEAD + "\n" + LINES,
    "".join(line.rsplit("\t", 2)[0] + "\n" for line in (HEAD + LINES).splitlines()),
])  # fmt: skip
def test_harmless_differences(tmp_path, content):
    (found,) = read(tmp_path, content)
    assert found.gold["relations"] == RELATIONS


@pytest.mark.parametrize(("line", "reason"), [
    ("100\tREL\t11-17\n", "not a relation of this case"), ("101\tREL\t11-17\t8-10\n", "not a relation of this case"),
    ("100\tCID\t11-17\t8-10\n", "not a relation of this case"), ("100\tREL\t11-99\t8-10\n", "no mention at the given place"),
    ("100\tREL\t17-11\t8-10\n", "no mention at the given place"), ("100\tREL\t7-8\t8-10\n", "no mention at the given place"),
    ("100\tREL\t11\t8-10\n", "no mention at the given place"), ("seguito della nota\n", "not a relation of this case"),
    ("100\tREL\t11-17\t8-10\t66 bpm\tPA\n", "a mention is not at its place"),
])  # fmt: skip
def test_one_bad_line_refuses_its_case_and_says_where(tmp_path, line, reason):
    bad, good = read(tmp_path, HEAD + LINES + line + "\n" + HEAD + LINES)
    assert isinstance(bad, Rejected) and (bad.reason, bad.where) == (reason, "test.txt:6")
    assert bad.size == len((HEAD + LINES + line).encode()) and good.gold["relations"] == RELATIONS


def test_what_is_no_case_is_refused(tmp_path):
    first, second, third, good = read(tmp_path, b"testo\n1|t| \n2|t|citt\xe0\n" + (HEAD + LINES).encode())
    assert [(row.reason, row.where) for row in (first, second, third)] == [
        ("not a case", "test.txt:1"), ("not a case", "test.txt:2"), ("not UTF-8", "test.txt:3"),
    ]  # fmt: skip
    assert good.gold["relations"] == RELATIONS


def test_a_file_without_any_relation_has_no_answers(tmp_path):
    rows = read(tmp_path, f"1|t|{NOTE}\n\n2|t|Altra nota.\n")
    assert [(row.reason, row.where) for row in rows] == [("no label", "test.txt:1"), ("no label", "test.txt:3")]
    (tmp_path / "training.txt").write_text(HEAD + LINES, encoding="utf-8")
    assert [row.reason for row in TASK.documents(tmp_path)] == ["also in the test set"]


def test_a_mention_with_the_marks_of_the_answer_is_refused():
    text = "pH → 7,2 -> acido"
    row = Row(file=None, line=1, size=1, cells={"text": text, "relations": [[3, 8, 0, 2]], "labelled": True})
    with pytest.raises(BadRow, match="marks of the answer"):
        clinkart.example(row)


@pytest.mark.parametrize(("text", "pairs"), [
    ("66 bpm → FC; 120/80 mmHg → PA", [(("66 bpm", 0), ("FC", 0)), (("120/80 mmHg", 0), ("PA", 0))]),
    ("66 bpm -> FC;120/80 mmHg => PA.", [(("66 bpm", 0), ("FC", 0)), (("120/80 mmHg", 0), ("PA.", 0))]),
    ("1. 66 bpm → FC\n2. 120/80 mmHg → PA", [(("66 bpm", 0), ("FC", 0)), (("120/80 mmHg", 0), ("PA", 0))]),
    ("negativo [2] → tampone [ 3 ]", [(("negativo", 2), ("tampone", 3))]),
    ("66 bpm → FC\n\n7 → altro", [(("66 bpm", 0), ("FC", 0))]), ("66 bpm → FC; 120/80 mm", [(("66 bpm", 0), ("FC", 0))]),
    ("nessuno", []), ("Nessun risultato.", []), ("Non ci sono risultati", []),
    ("", None), ("66 bpm", None), ("→", None), ("FC →", None), ("→ nessuno", None),
])  # fmt: skip
def test_decoding(text, pairs):
    assert TASK.decode(text) == pairs


@pytest.mark.parametrize(("answer", "found"), [
    ("66 bpm → FC", {(11, 17, 8, 10)}), ("66  BPM → fc", {(11, 17, 8, 10)}), ("67 bpm → FC", set()),
    ("66 bpm → SpO2", set()), ("negativo → tampone", {(43, 51, 61, 68)}), ("negativo → Tampone", {(43, 51, 35, 42)}),
    ("negativo [2] → tampone", {(69, 77, 61, 68)}), ("negativo [3] → tampone", set()),
    ("negativo [2] → tampone; negativo → Tampone", {(69, 77, 61, 68), (69, 77, 35, 42)}),
    ("66 bpm → FC; 66 bpm → FC", {(11, 17, 8, 10)}), ("66 bpm → FC.", {(11, 17, 8, 10)}), (".: → FC", set()),
    ("8 → PA", {(26, 27, 19, 21)}),  # inside a word, because there it is no word of its own
])  # fmt: skip
def test_where_an_answer_points(answer, found):
    assert places(NOTE, TASK.decode(answer)) == found


def test_f1_over_all_cases_by_hand():
    first, second = item(NOTE, RELATIONS), item("Hb 9,1 g/dl.", [[3, 11, 0, 2]])
    # 2 of 3 predicted are right, of 5 there are: F1 = 2·2 / (3 + 5).
    some = [answered(first, "66 bpm → FC; 120/80 mmHg → FC; negativo → Tampone"), answered(second, "boh")]
    assert TASK.score(some) == {"f1": 0.5}
    assert TASK.score([answered(second, "nessuno")]) == {"f1": 0.0}
    # A result that has no test, and a right pair at the wrong place.
    assert TASK.score([answered(first, "negativo → tampone")]) == {"f1": 0.0}


@st.composite
def notes(draw):
    """A text of few words, so that they repeat, with relations anywhere in it."""
    words = draw(st.lists(st.sampled_from(["a", "ab", "A", "1", "1,5", "[2]", "è", "x."]), min_size=2, max_size=9))
    text = " ".join(words)
    edges = sorted(
        {0, len(text), *(n for n, c in enumerate(text) if c == " "), *draw(st.sets(st.integers(0, len(text))))}
    )
    spans = [(s, e) for s in edges for e in edges if s < e and text[s:e] == text[s:e].strip()]
    relations = draw(st.sets(st.tuples(st.sampled_from(spans), st.sampled_from(spans)), max_size=4)) if spans else set()
    return text, sorted([*result, *test] for result, test in relations)


@untimed
@given(note=notes())
def test_relations_come_back_at_their_places(note):
    text, relations = note
    gold = {"text": text, "relations": relations}
    assert places(text, TASK.decode(TASK.encode(gold))) == set(map(tuple, relations))


@untimed
@given(text=st.text() | st.text("66 bpm→FC;[]0123-=>\n.*nessuno", max_size=40))
def test_any_text_decodes_and_scores(text):
    score = TASK.score([answered(item(NOTE, RELATIONS), text)])["f1"]
    assert 0.0 <= score <= 1.0
