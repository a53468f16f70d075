"""Strict readers: every row is handed on or refused with its place, whatever the bytes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Rejected
from langadapt_italian.evalita.reading import BadRow, Row, csv_rows, jsonl_rows, label_of, text_of, token_rows

untimed = settings(deadline=None)  # a busy machine is not a slow reader
READERS = {"csv": csv_rows, "jsonl": jsonl_rows, "tokens": token_rows}
UNICODE = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evalita") / "rows.txt"


def read(reader, file: Path, content: bytes) -> list[Row | Rejected]:
    file.write_bytes(content)
    return list(reader(file))


def refused(rows) -> list[tuple[str, str]]:
    return [(row.reason, row.where) for row in rows if isinstance(row, Rejected)]


def test_csv_cells_run_over_lines_and_keep_their_quotes(file):
    rows = read(csv_rows, file, b'id,text\r\n1,"prima\r\nseconda, ""terza"""\r\n\r\n2,quarta\r\n')
    assert [row.cells["text"] for row in rows] == ['prima\r\nseconda, "terza"', "quarta"]
    assert [(row.line, row.size) for row in rows] == [(2, 31), (5, 10)]


def test_csv_rows_that_cannot_be_read_cost_only_themselves(file):
    content = b'id,text\n1,citt\xe0\n2,"a"b\n3,a,b\n4\n5,citt\xc3\xa0\n6,"never closed\n'
    rows = read(csv_rows, file, content)
    assert refused(rows) == [
        ("not UTF-8", "rows.txt:2"), ("not valid CSV", "rows.txt:3"), ("wrong number of columns", "rows.txt:4"),
        ("wrong number of columns", "rows.txt:5"), ("not valid CSV", "rows.txt:7"),
    ]  # fmt: skip
    assert [row.cells["text"] for row in rows if isinstance(row, Row)] == ["città"]


def test_csv_without_a_readable_header_refuses_every_row(file):
    rows = read(csv_rows, file, b"id,t\xe8xt\n1,a\n2,b\n")
    columns = "wrong number of columns"
    assert refused(rows) == [("not UTF-8", "rows.txt:1"), (columns, "rows.txt:2"), (columns, "rows.txt:3")]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfid\ttext\n1\tuno\n", b"id\ttext\r1\tuno", b"id\ttext\r\n1\tuno\r\n"])
def test_tsv_with_any_line_end_and_a_byte_order_mark(file, content):
    file.write_bytes(content)
    assert [row.cells for row in csv_rows(file, delimiter="\t")] == [{"id": "1", "text": "uno"}]


def test_csv_keeps_a_unicode_line_separator_inside_its_cell(file):
    rows = read(csv_rows, file, "id,text\n1,a\u2028b\x85c\n".encode())
    assert rows[0].cells["text"] == "a\u2028b\x85c"


def test_jsonl_refuses_what_is_no_object(file):
    content = b'\xef\xbb\xbf{"a": 1}\n\n[1]\n{"a": \n{"a": "\\ud800"}\n{"a": "\xe0"}\n' + b"[" * 100_000 + b'\n{"a": 2}'
    rows = read(jsonl_rows, file, content)
    assert refused(rows) == [
        ("not a JSON object", "rows.txt:3"), ("not valid JSON", "rows.txt:4"), ("lone surrogate", "rows.txt:5"),
        ("not UTF-8", "rows.txt:6"), ("not valid JSON", "rows.txt:7"),
    ]  # fmt: skip
    assert [row.cells for row in rows if isinstance(row, Row)] == [{"a": 1}, {"a": 2}]


def test_one_bad_line_refuses_its_sentence_and_says_where(file):
    content = b"Roma\tB-LOC\n.\tO\n\n\nIl\tO\nmare\n.\tO\n\nSole\tO\tX\n\nNord\tB-LOC\n\xe0\tO\n\nFine\tO"
    rows = read(token_rows, file, content)
    columns = "wrong number of columns"
    assert refused(rows) == [(columns, "rows.txt:6"), (columns, "rows.txt:9"), ("not UTF-8", "rows.txt:12")]
    sentences = [row for row in rows if isinstance(row, Row)]
    assert [(row.line, row.cells["tokens"]) for row in sentences] == [(1, ["Roma", "."]), (14, ["Fine"])]


def test_cells_that_hold_nothing_are_named():
    row = Row(file=Path("x.csv"), line=3, size=9, cells={"text": " \n", "label": None, "other": "2", "zero": 0})
    with pytest.raises(BadRow, match="no text"):
        text_of(row, "text")
    with pytest.raises(BadRow, match="no label"):
        label_of(row, "label", {"0": "no"})
    with pytest.raises(BadRow, match="unknown label"):
        label_of(row, "other", {"0": "no"})
    assert label_of(row, "zero", {"0": "no"}) == "no"


@untimed
@given(table=st.lists(st.tuples(UNICODE, UNICODE)))
def test_csv_gives_back_what_was_written(file, table):
    content = io.StringIO(newline="")
    csv.writer(content, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *table])
    rows = read(csv_rows, file, content.getvalue().encode())
    assert [(row.cells["a"], row.cells["b"]) for row in rows] == table


@untimed
@given(objects=st.lists(st.dictionaries(UNICODE, UNICODE | st.integers() | st.none() | st.booleans())))
def test_jsonl_gives_back_what_was_written(file, objects):
    rows = read(jsonl_rows, file, "\n".join(json.dumps(o, ensure_ascii=False) for o in objects).encode())
    assert [row.cells for row in rows] == objects


@untimed
@given(content=st.binary() | st.text('",;\t\r\n{}[]: aàOB-LC', max_size=80).map(str.encode))
@pytest.mark.parametrize("name", READERS)
def test_no_bytes_raise_and_none_are_lost(file, name, content):
    head = b"a,b\n" if name == "csv" else b""
    rows = read(READERS[name], file, head + content)
    written = content.removeprefix(b"\xef\xbb\xbf")  # a byte-order mark at the start of a file is no content
    held = sum(len(line) for line in written.splitlines(keepends=True) if line.strip())
    assert held <= sum(row.size for row in rows) <= len(content)
    for row in rows:
        assert not isinstance(row, Rejected) or (row.reason and row.where.startswith("rows.txt:"))
