"""Reading of files: no format loses a document, and what cannot be read is named and counted."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt.corpus import files, tables
from langadapt.corpus.files import files_of
from langadapt.corpus.reading import blocks, documents, read_documents, unless_bad
from langadapt.errors import UserError
from langadapt.records import Document, Rejected

BOM = b"\xef\xbb\xbf"


def texts(path: object, **options: object) -> list[str]:
    """Texts of what is read; fails when anything was refused."""
    found = list(read_documents(str(path), **options))
    assert all(isinstance(d, Document) for d in found), found
    return [d.text for d in found]


def split(path: object, **options: object) -> tuple[list[str], list[tuple[str, str]]]:
    """Texts that were read; (reason, place) of what was refused."""
    found = list(read_documents(str(path), **options))
    return [d.text for d in found if isinstance(d, Document)], [
        (r.reason, r.where) for r in found if isinstance(r, Rejected)
    ]


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


THREE = lines({"text": "uno"}, {"text": "due\nrighe"}, {"text": "tré 🌊"})
zstd = files.zstd()
EXPECTED = ["uno", "due\nrighe", "tré 🌊"]


# --- formats ---


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.JSONL"])
def test_json_lines_are_read_under_every_ending(write, name):
    assert texts(write(name, THREE)) == EXPECTED


def test_a_last_line_without_a_newline_and_windows_line_ends_are_read(write):
    assert texts(write("a.jsonl", THREE.replace(b"\n", b"\r\n").rstrip())) == EXPECTED


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz"])
def test_gzipped_json_lines_are_read(write, name):
    assert texts(write(name, gzip.compress(THREE))) == EXPECTED


def test_gzip_files_of_several_members_are_read_to_the_end(write):
    assert texts(write("a.jsonl.gz", gzip.compress(THREE) + gzip.compress(THREE))) == EXPECTED * 2


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("before", [b"", BOM, b"\n \n", b" " * 100])
def test_a_json_array_is_read_however_it_is_laid_out(write, indent, before):
    rows = [{"text": text} for text in EXPECTED]
    assert texts(write("a.json", before + json.dumps(rows, indent=indent).encode())) == EXPECTED


def test_things_in_a_json_array_that_are_no_objects_are_refused_one_by_one(write):
    read, refused = split(write("a.json", json.dumps([{"text": "uno"}, 3, ["x"], {"text": "due"}])))
    assert read == ["uno", "due"]
    assert refused == [("not a JSON object", "a.json:2"), ("not a JSON object", "a.json:3")]


@pytest.mark.parametrize("end", ['{"text": ', '{"text": "due"}', '"tre', ""])
def test_a_json_array_that_breaks_off_keeps_what_stands_before(write, end):
    read, refused = split(write("a.json", f'[{{"text": "uno"}},{end}'))
    assert (read, refused) == (["uno"], [("file cut short", "a.json:2")])
    read, refused = split(write("a.json", f'[{{"text": "uno"}},{{"text": "due"}},\n{end}'))
    assert (read, refused) == (["uno", "due"], [("file cut short", "a.json:3")])


def test_a_bad_element_of_a_json_array_costs_no_other(write):
    read, refused = split(write("a.json", '[{"text": "uno"}, {"text": due}, {"a": 1]}, , {"text": "tre, [quattro]"}]'))
    assert read == ["uno", "tre, [quattro]"]
    assert refused == [("not valid JSON", f"a.json:{n}") for n in (2, 3, 4)]


def test_a_json_array_nested_too_deeply_is_refused(write):
    assert split(write("a.json", b"[" * 200_000)) == ([], [("file cut short", "a.json:1")])
    assert split(write("a.json", b"[" * 9_000 + b"]" * 9_000)) == ([], [("not valid JSON", "a.json:1")])


def test_what_follows_a_json_array_is_not_lost_in_silence(write):
    path = write("a.json", '[{"text": "uno"}]\n[{"text": "due"}]\n')
    assert list(read_documents(str(path)))[1] == Rejected(reason="not valid JSON", where="a.json:2", size=17)
    assert texts(write("b.json", '[{"text": "uno"}]\n \n')) == ["uno"]


def test_a_csv_cell_may_hold_line_breaks_delimiters_and_quotes(write):
    path = write("a.csv", 'id,text\n1,"prima riga\nseconda, con ""virgolette"""\n2,altra\n')
    assert texts(path) == ['prima riga\nseconda, con "virgolette"', "altra"]


def test_csv_with_a_bom_keeps_its_first_column(write):
    assert texts(write("a.csv", BOM + b"text,id\nuno,1\ndue,2\n")) == ["uno", "due"]


def test_csv_rows_with_too_many_or_too_few_cells_are_refused_and_the_others_read(write):
    read, refused = split(write("a.csv", "id,text\n1,uno\n2\n3,due,tre\n4,quattro\n"))
    assert read == ["uno", "quattro"]
    assert refused == [("wrong number of columns", "a.csv:3"), ("wrong number of columns", "a.csv:4")]


def test_a_csv_cell_may_be_longer_than_the_parsers_own_limit(write):
    assert len(texts(write("a.csv", "text\n" + "x" * 200_000 + "\n"))[0]) == 200_000


def test_one_latin1_byte_in_csv_costs_one_row(write):
    path = write("a.csv", b"text\nuno\n" + "perché\n".encode("latin-1") + b"due\n")
    assert split(path) == (["uno", "due"], [("not UTF-8", "a.csv:3")])


def test_csv_whose_columns_cannot_be_read_is_named(write):
    with pytest.raises(UserError, match=r"a\.csv: its first line, which names the columns, cannot be read \(not UTF-8"):
        texts(write("a.csv", "testo,id\nuno,1\n".encode("utf-16")))


@pytest.mark.parametrize(
    ("content", "read", "refused"),
    [
        ('id,text\n1,"uno\n2,due\n3,tre\n', ["due", "tre"], [2]),
        ('id,text\n1,"uno\n2,due\n3,"tre"\n4,quattro\n', ["due", "tre", "quattro"], [2]),
        ('id,text\n1,"uno" disse\n2,due\n', ["due"], [2]),
        ('id,text\n1,"uno\n2,"due\n3,"tre\n4,quattro\n', ["quattro"], [2, 3, 4]),
        ('id,text\n1,uno\n2,"', ["uno"], [3]),
    ],
    ids=["to the end", "to the next quote", "stray", "several", "last"],
)
def test_a_quote_that_is_out_of_place_costs_one_line(write, content, read, refused):
    path = write("a.csv", content)
    assert split(path) == (read, [("misplaced quote", f"a.csv:{number}") for number in refused])


def test_a_row_that_goes_on_over_line_ends_for_too_long_lacks_a_quote(write, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_QUOTED", 1000)
    more = "".join(f"{number},riga\n" for number in range(2, 400))
    read, refused = split(write("a.csv", f'id,text\n1,"uno\n{more}400,"fine"\n'))
    assert read == ["riga"] * 398 + ["fine"] and refused == [("misplaced quote", "a.csv:2")]
    assert len(texts(write("b.csv", 'text\n"' + "x" * 5000 + '"\n'))[0]) == 5000, "a long line is no such row"


def test_csv_places_are_the_lines_where_rows_begin(write):
    path = write("a.csv", 'id,text\r\n1,"due\r\nrighe"\r\n\r\n2\r\n3,tre\r\n')
    found = list(read_documents(str(path)))
    assert [d.id for d in found if isinstance(d, Document)] == ["a.csv:2", "a.csv:6"]
    assert [r.where for r in found if isinstance(r, Rejected)] == ["a.csv:5"]


def test_tsv_columns_are_tabs_and_commas_are_text(write):
    assert texts(write("a.tsv", "id\ttext\n1\tuno, due\n2\ttre\n")) == ["uno, due", "tre"]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.txt.gz"])
def test_a_text_file_is_one_document(write, name):
    content = BOM + "prima\n\nseconda à\n".encode()
    assert texts(write(name, gzip.compress(content) if name.endswith(".gz") else content)) == ["prima\n\nseconda à\n"]


def test_a_text_file_that_is_not_utf8_is_refused_by_name(write):
    content = "perché".encode("latin-1")
    (rejected,) = read_documents(str(write("a.txt", content)))
    assert rejected == Rejected(reason="not UTF-8", where="a.txt:1", size=len(content))


def test_parquet_rows_are_read_in_order_across_batches(tmp_path):
    rows = [f"documento {i}" for i in range(3000)]
    pyarrow.parquet.write_table(
        pyarrow.table({"id": list(range(3000)), "text": rows}), tmp_path / "a.parquet", row_group_size=700
    )
    assert texts(tmp_path / "a.parquet") == rows


def test_parquet_dialogues_come_out_of_nested_columns(tmp_path):
    turns = [{"role": "user", "content": "Ciao"}, {"role": "assistant", "content": "Salve"}]
    pyarrow.parquet.write_table(pyarrow.table({"messages": [turns]}), tmp_path / "a.parquet")
    (document,) = read_documents(str(tmp_path / "a.parquet"))
    assert [(m.role, m.content) for m in document.messages] == [("user", "Ciao"), ("assistant", "Salve")]


def test_parquet_nulls_are_refused_and_the_others_read(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": ["uno", None, "due"]}), tmp_path / "a.parquet")
    assert split(tmp_path / "a.parquet") == (["uno", "due"], [("no text", "a.parquet:2")])


def test_one_bad_byte_in_parquet_costs_one_row(tmp_path):
    """Writers do not check that a string column holds UTF-8."""
    column = pyarrow.array([b"uno", "perché".encode("latin-1"), b"due"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": column, "id": [1, 2, 3]}), tmp_path / "a.parquet")
    assert split(tmp_path / "a.parquet") == (["uno", "due"], [("not UTF-8", "a.parquet:2")])


def test_a_file_that_is_not_parquet_is_refused(write):
    assert split(write("a.parquet", b"PAR1 and then nothing")) == ([], [("file damaged", "a.parquet:1")])
    with pytest.raises(UserError, match=r"a\.parquet\.gz: files of this kind are not read"):
        texts(write("a.parquet.gz", b"whatever"))


def test_a_parquet_file_that_is_cut_short_is_refused(tmp_path):
    whole = tmp_path / "whole.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["uno"] * 100}), whole)
    (tmp_path / "a.parquet").write_bytes(whole.read_bytes()[:-20])
    assert split(tmp_path / "a.parquet") == ([], [("file damaged", "a.parquet:1")])


def test_a_parquet_file_with_a_damaged_page_keeps_what_stands_before(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [f"documento {i * 7919}" for i in range(4000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path, row_group_size=2000, use_dictionary=False)
    content, at = path.read_bytes(), pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    path.write_bytes(content[:at] + b"\xff" * 2000 + content[at + 2000 :])
    assert split(path) == (rows[:2000], [("file damaged", "a.parquet:2001")])


# --- paths ---


def test_folders_are_read_below_and_in_name_order_and_other_files_left_alone(write, tmp_path):
    write("data/b.jsonl", lines({"text": "secondo"}))
    write("data/a.txt", "primo")
    write("data/sub/c.jsonl.gz", gzip.compress(lines({"text": "terzo"})))
    write("data/picture.png", b"\x89PNG")
    assert texts(tmp_path / "data") == ["primo", "secondo", "terzo"]


def test_globs_choose_files_in_name_order(write, tmp_path):
    for name in ("part-2.jsonl", "part-1.jsonl", "other.jsonl"):
        write(f"data/{name}", lines({"text": name}))
    assert texts(tmp_path / "data" / "part-*.jsonl") == ["part-1.jsonl", "part-2.jsonl"]
    assert [p.name for p in files_of(str(tmp_path / "**" / "part-?.jsonl"))] == ["part-1.jsonl", "part-2.jsonl"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(write):
    assert texts(write("a[1].jsonl", THREE)) == EXPECTED


def test_a_home_folder_is_expanded(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("a.jsonl", THREE)
    assert texts("~/a.jsonl") == EXPECTED


@pytest.mark.parametrize("path", ["nowhere.jsonl", "nowhere/", "*.jsonl"])
def test_a_path_without_files_is_named(tmp_path, path):
    with pytest.raises(UserError) as error:
        texts(tmp_path / path)
    assert str(tmp_path / path) in str(error.value)
    assert "no such file, folder or match" in str(error.value)


@pytest.mark.parametrize("name", ["a.pdf", "a.bz2", "a", "a.gz", "a.zst"])
def test_a_kind_of_file_that_is_not_read_is_named_with_those_that_are(write, name):
    path = write(name, THREE)
    with pytest.raises(UserError) as error:
        texts(path)
    assert name in str(error.value)
    assert ".jsonl" in str(error.value) and ".parquet" in str(error.value)


def test_a_glob_that_also_matches_a_kind_that_is_not_read_says_which_file(write, tmp_path):
    write("data/a.jsonl", THREE)
    write("data/a.pdf", b"%PDF")
    with pytest.raises(UserError, match=r"a\.pdf"):
        texts(tmp_path / "data" / "*")


def test_a_folder_without_readable_files_says_so(write):
    folder = write("data/picture.png", b"").parent
    with pytest.raises(UserError, match="holds no file that can be read"):
        texts(folder)


def test_a_file_that_may_not_be_read_is_named(write, monkeypatch):
    path = write("a.jsonl", THREE)

    def refuse(self, *args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"a\.jsonl: cannot be read"):
        texts(path)


# --- adversarial input ---


def test_one_latin1_byte_costs_one_line(write):
    bad = '{"text": "perché"}\n'.encode("latin-1")
    read, refused = split(write("a.jsonl", lines({"text": "uno"}) + bad + lines({"text": "due"}, {"text": "tre"})))
    assert read == ["uno", "due", "tre"]
    assert refused == [("not UTF-8", "a.jsonl:2")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_bom_does_not_cost_the_first_document(write, name):
    assert texts(write(name, BOM + THREE)) == EXPECTED


def test_malformed_lines_are_refused_with_their_line_and_size(write):
    path = write("a.jsonl", '{"text": "uno"}\n{"text": "d\n\n{"text": "tre"}\n')
    assert list(read_documents(str(path))) == [
        Document(id="a.jsonl:1", text="uno"),
        Rejected(reason="not valid JSON", where="a.jsonl:2", size=11),
        Document(id="a.jsonl:4", text="tre"),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(
    "row", ['{"text": "x\\ud800y"}', '{"text": "x", "note": "\\udfff"}', '{"\\ud800": 1, "text": "x"}']
)
def test_a_lone_surrogate_escape_is_refused(write, name, row):
    """Python's parser lets it through; tokenizers and files then fail on it, hours later."""
    read, refused = split(write(name, f'{{"text": "uno"}}\n{row}\n{{"text": "due"}}\n'))
    assert (read, refused) == (["uno", "due"], [("lone surrogate", f"{name}:2")])


def test_a_lone_surrogate_in_a_json_array_is_refused(write):
    read, refused = split(write("a.json", '[{"text": "uno"}, {"text": "x\\ud800"}, {"text": "due"}]'))
    assert (read, refused) == (["uno", "due"], [("lone surrogate", "a.json:2")])


def test_an_escaped_surrogate_pair_is_text(write):
    assert texts(write("a.jsonl", '{"text": "\\ud83c\\udf0a"}\n')) == ["🌊"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("[1, 2]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"text": 3}', "text is not text"),
        ('{"text": ["a"]}', "text is not text"),
        ('{"text": NaN}', "text is not text"),
        ('{"text": null}', "no text"),
        ('{"testo": "a"}', "no text"),
        ("{}", "no text"),
        ("[" * 100_000, "not valid JSON"),
        ('{"text": ' + "1" * 5000 + "}", "not valid JSON"),
    ],
)
def test_rows_that_hold_no_text_are_refused_with_the_reason(write, row, reason):
    read, refused = split(write("a.jsonl", f'{{"text": "uno"}}\n{row}\n{{"text": "due"}}\n'))
    assert (read, refused) == (["uno", "due"], [(reason, "a.jsonl:2")])


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
@pytest.mark.parametrize("content", [b"", BOM])
def test_an_empty_file_holds_no_documents(write, name, content):
    assert list(read_documents(str(write(name, content)))) == []


def test_an_empty_gzip_file_holds_no_documents(write):
    assert list(read_documents(str(write("a.jsonl.gz", gzip.compress(b""))))) == []


# --- packed files, whole and not ---

PACKERS = {".gz": lambda data: gzip.compress(data, 6), ".zst": zstd.compress}


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_packed_files_are_read_like_others(write, name, packed):
    content = {"a.csv": b'text\n"uno, due"\n', "a.txt": "città".encode(), "a.json": b'[{"text": "uno"}]'}.get(
        name, THREE
    )
    plain = texts(write(name, content))
    assert plain and texts(write(name + packed, PACKERS[packed](content))) == plain
    assert texts(write(name + packed.upper(), PACKERS[packed](content))) == plain


@pytest.mark.parametrize("packed", PACKERS)
def test_files_of_several_packed_parts_are_read_to_the_end(write, packed):
    pack = PACKERS[packed]
    assert texts(write("a.jsonl" + packed, pack(THREE) + pack(b"") + pack(THREE))) == EXPECTED * 2


def test_what_was_packed_with_a_wide_window_is_read(write):
    """`zstd --long=31`, as some large dumps are packed; unpacking refuses it unless told otherwise."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    packed = packer.compress(THREE) + packer.flush()
    with pytest.raises(zstd.ZstdError):
        zstd.decompress(packed)
    assert texts(write("a.jsonl.zst", packed)) == EXPECTED


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"])
@pytest.mark.parametrize("text", ["שלום עולם", "🇮🇹👩‍👩‍👧", "citta\u0300", "a\u2028b\x0bc\x85d", "\u200fمرحبا"])
def test_text_of_every_kind_comes_back_as_it_is(write, name, text):
    content = {".txt": text, ".csv": f"text\n{text}\n", ".tsv": f"text\n{text}\n"}.get(Path(name).suffix)
    if content is None:
        content = json.dumps([{"text": text}] if name == "a.json" else {"text": text}, ensure_ascii=False)
    assert texts(write(name, content)) == [text]


def test_a_nul_is_refused_where_the_format_has_none_and_kept_elsewhere(write):
    assert split(write("a.jsonl", b'{"text": "a\x00b"}\n{"text": "uno"}\n\x00\x00\n')) == (
        ["uno"],
        [("not valid JSON", "a.jsonl:1"), ("not valid JSON", "a.jsonl:3")],
    )
    assert texts(write("a.txt", "a\x00b")) == texts(write("a.csv", "text\na\x00b\n")) == ["a\x00b"]
    assert texts(write("b.jsonl", '{"text": "a\\u0000b"}\n')) == ["a\x00b"]


def test_what_python_writes_for_numbers_that_are_none_is_read(write):
    assert texts(write("a.jsonl", '{"text": "uno", "score": NaN}\n{"text": "due", "score": -Infinity}\n')) == [
        "uno",
        "due",
    ]


def test_a_byte_order_mark_where_files_were_joined_costs_nothing(write):
    assert texts(write("a.jsonl", BOM + THREE + BOM + THREE)) == EXPECTED * 2


def test_a_carriage_return_alone_ends_no_line_of_json(write):
    path = write("a.jsonl", b'{"text": "uno"}\r\n{"text": "due"}\r{"text": "tre"}\n{"text": "quattro"}\r\n')
    assert split(path) == (["uno", "quattro"], [("not valid JSON", "a.jsonl:2")])
    assert texts(write("a.csv", b"text\runo\rdue\r\ntre\n")) == ["uno", "due", "tre"]


ROWS = [f"documento {i}: però" for i in range(12)]


@pytest.mark.parametrize("packed", PACKERS)
def test_a_packed_file_cut_at_any_place_keeps_all_rows_before_and_says_so(write, packed):
    whole = b"".join(PACKERS[packed](lines({"text": text})) for text in ROWS[:3])
    whole += PACKERS[packed](lines(*({"text": text} for text in ROWS[3:])))
    ends = [len(b"".join(PACKERS[packed](lines({"text": t})) for t in ROWS[:n])) for n in (0, 1, 2, 3)]
    counts = set()
    for end in range(1, len(whole)):
        found = list(read_documents(str(write("a.jsonl" + packed, whole[:end]))))
        read = [d.text for d in found if isinstance(d, Document)]
        assert read == ROWS[: len(read)]
        flaws = [(item.reason, item.where) for item in found if isinstance(item, Rejected)]
        reason = "file damaged" if packed == ".gz" and end - 1 in ends else "file cut short"  # one byte is no gzip yet
        assert flaws == ([] if end in ends else [(reason, f"a.jsonl{packed}:{len(read) + 1}")]), end
        counts.add(len(read))
    assert {0, 1, 2, 3} <= counts


def test_a_gzip_file_cut_short_keeps_every_row_that_it_still_holds(write):
    """Against zlib itself: rows whose line end can still be unpacked."""
    rows = [f"documento numero {i * 7919}" for i in range(5000)]
    whole = gzip.compress(lines(*({"text": text} for text in rows)))
    for share in (0.1, 0.5, 0.9, 0.999):
        half = whole[: int(len(whole) * share)]
        read, refused = split(write("a.jsonl.gz", half))
        assert read == rows[: zlib.decompressobj(31).decompress(half).count(b"\n")]
        assert refused == [("file cut short", f"a.jsonl.gz:{len(read) + 1}")]


@pytest.mark.parametrize("name", ["a.json.gz", "a.csv.gz", "a.txt.gz", "a.json.zst"])
def test_every_format_says_that_its_file_is_cut_short(write, name):
    content = b"text\n" + b"".join(b"riga %d\n" % (i * 7919) for i in range(90_000))
    if "json" in name:
        content = json.dumps([{"text": f"riga {i * 7919}"} for i in range(90_000)]).encode()
    packed = PACKERS[Path(name).suffix](content)
    read, refused = split(write(name, packed[: len(packed) // 2]))
    assert [reason for reason, _ in refused] == ["file cut short"]
    assert read == [f"riga {i * 7919}" for i in range(len(read))] and (len(read) > 3000 or "txt" in name)


def test_a_csv_row_that_the_file_breaks_off_in_is_one_record(write):
    """Its lines are no rows of their own, even where they look like some."""
    content = b'id,text\n1,uno\n2,"due\n3,tre\n4,' + bytes(range(97, 123))
    whole = gzip.compress(content)
    assert split(write("a.csv.gz", whole[:-8])) == (["uno"], [("file cut short", "a.csv.gz:3")])


@pytest.mark.parametrize("packed", PACKERS)
def test_a_packed_table_cut_at_any_place_keeps_the_rows_before_and_says_so(write, packed):
    whole = b"".join(PACKERS[packed](part) for part in (b"text,id\n", b"uno,1\n", b'"due\nrighe",2\n', b"tre,3\n"))
    expected = ["uno", "due\nrighe", "tre"]
    seen = set()
    for end in range(1, len(whole)):
        read, refused = split(write("a.csv" + packed, whole[:end]))
        assert read == expected[: len(read)] and len(refused) <= 1
        assert all(reason in files.FLAWS for reason, _ in refused)
        seen.add((len(read), len(refused)))
    assert {(n, flaws) for n in range(3) for flaws in (0, 1)} <= seen


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:40] + bytes([c[40] ^ 255, c[41] ^ 255]) + c[42:], lambda c: b"plain text", lambda c: c + b"tail"],
)
@pytest.mark.parametrize("packed", PACKERS)
def test_a_damaged_packed_file_keeps_what_was_unpacked_and_says_so(write, packed, damage):
    rows = [f"documento {i * 7919}" for i in range(500)]
    whole = damage(PACKERS[packed](lines(*({"text": text} for text in rows))))
    found = list(read_documents(str(write("a.jsonl" + packed, whole))))
    assert isinstance(found[-1], Rejected) and found[-1].reason == "file damaged"
    assert found[-1].where.startswith(f"a.jsonl{packed}:")
    if whole.endswith(b"tail"):
        assert [d.text for d in found[:-1] if isinstance(d, Document)] == rows


def test_a_file_that_changes_while_it_is_read_is_named(write):
    path = write("a.jsonl", lines(*({"text": "x" * 1000} for _ in range(10_000))))
    found = read_documents(str(path))
    next(found)
    with path.open("ab") as stream:
        stream.write(THREE)
    with pytest.raises(UserError, match=r"a\.jsonl: the file changed while it was read"):
        list(found)


# --- blocks ---


def rebuilt(path: Path, size: int) -> list[Document | Rejected]:
    return [
        item for block in blocks(str(path), size=size) for item in documents(pickle.loads(pickle.dumps(block)), "", {})
    ]


def test_a_block_ends_with_the_line_that_fills_it(write):
    path = write("a.jsonl", lines(*({"text": "x" * 100} for _ in range(100))))
    found = list(blocks(str(path), size=500))
    assert b"".join(b.raw for b in found) == path.read_bytes()
    length = len(path.read_bytes()) // 100
    assert {len(b.raw) // length for b in found} == {5} and found[3].first == 16


def test_a_line_of_fifty_megabytes_is_one_block(write):
    long = "x" * (50 << 20)
    path = write("a.jsonl", lines({"text": "uno"}) + lines({"text": long}) + lines({"text": "due"}))
    found = list(blocks(str(path)))
    assert [b.first for b in found] == [1, 3]
    assert [len(d.text) for d in read_documents(str(path))] == [3, 50 << 20, 3]


def test_equal_names_in_several_folders_have_places_of_their_own(write, tmp_path):
    for folder in ("it", "en"):
        write(f"data/{folder}/part.jsonl", lines({"text": folder}) + b"x\n")
    for path in (tmp_path / "data", tmp_path / "data" / "*" / "part.jsonl"):
        found = list(read_documents(str(path)))
        assert [d.id for d in found if isinstance(d, Document)] == ["en/part.jsonl:1", "it/part.jsonl:1"]
        assert [r.where for r in found if isinstance(r, Rejected)] == ["en/part.jsonl:2", "it/part.jsonl:2"]


def test_the_layout_of_a_file_holds_for_all_its_blocks(write):
    """A later row that also has other columns does not change what the file is."""
    rows = [{"text": "uno"}, {"text": "due", "instruction": "a", "output": "b"}]
    path = write("a.jsonl", b"bad\n" * 5 + lines(*rows))
    assert [d.text for d in rebuilt(path, 1) if isinstance(d, Document)] == ["uno", "due"]


def test_a_bad_record_stops_what_is_to_be_good(write):
    found = read_documents(str(write("a.jsonl", THREE + b"{\n")))
    with pytest.raises(
        UserError, match=r'corpus web: a\.jsonl:4: not valid JSON; mend it, or .* on_bad_record = "drop"'
    ):
        list(unless_bad(found, "web"))


# --- columns and layouts ---


def test_a_missing_column_lists_the_columns_and_how_to_name_yours(write):
    path = write("a.jsonl", lines({"body": "uno", "title": "due"}))
    with pytest.raises(UserError) as error:
        texts(path)
    message = str(error.value)
    assert str(path) in message and "body, title" in message and 'columns = { text = "…" }' in message


def test_a_layout_that_lacks_a_column_names_it_and_how_to_name_yours(write):
    path = write("a.csv", "domanda,risposta\na,b\n")
    with pytest.raises(UserError) as error:
        texts(path, layout="dolly")
    message = str(error.value)
    assert '"dolly" needs the column "instruction"' in message
    assert "domanda, risposta" in message and 'columns = { instruction = "…" }' in message


def test_columns_map_our_names_to_theirs(write):
    path = write("a.csv", "domanda,risposta\nChi?,Io.\n")
    (document,) = read_documents(str(path), columns={"instruction": "domanda", "response": "risposta"})
    assert [m.content for m in document.messages] == ["Chi?", "Io."]


def test_a_mapped_column_wins_over_one_of_our_own_name(write):
    path = write("a.jsonl", lines({"text": "riassunto", "body": "intero"}))
    assert texts(path, columns={"text": "body"}) == ["intero"]


def test_a_mapped_column_that_is_not_there_is_named_with_those_that_are(write):
    path = write("a.jsonl", lines({"text": "uno", "title": "due"}))
    with pytest.raises(UserError, match=r'no column "body" \(asked for as text\); its columns: text, title'):
        texts(path, columns={"text": "body"})


def test_the_columns_are_judged_by_the_first_row_that_can_be_read(write):
    assert split(write("a.jsonl", b"garbage\n" + THREE))[0] == EXPECTED


def test_each_file_of_a_folder_may_have_a_layout_of_its_own(write, tmp_path):
    write("data/a.jsonl", lines({"text": "uno"}))
    write("data/b.jsonl", lines({"instruction": "Chi?", "output": "Io."}))
    found = list(read_documents(str(tmp_path / "data")))
    assert found[0].text == "uno" and found[1].messages[1].content == "Io."


# --- every line is accounted for ---

line = st.one_of(
    st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")),
    st.text(max_size=20).map(lambda t: json.dumps({"text": t}, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            b"",
            b" ",
            b"\t",
            b"\r",
            BOM,
            BOM + b'{"text": "x"}',
            b'{"text": "\\ud800"}',
            b'{"text"',
            b"\x00",
            "\u2028".encode(),
        ]
    ),
)


def is_blank(content: bytes) -> bool:
    try:
        return not content.removeprefix(BOM).decode("utf-8").strip()
    except UnicodeDecodeError:
        return False


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lines")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@settings(deadline=None, max_examples=150)
@given(content=st.lists(line, max_size=12), end=st.sampled_from([b"", b"\n"]))
def test_every_line_becomes_a_document_or_is_refused_by_name(shared_folder, name, content, end):
    content = [b'{"text": "first"}', *content]
    data = b"\n".join(content) + end
    path = shared_folder / name
    path.write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)
    found = list(read_documents(str(path)))
    assert len(found) == sum(not is_blank(part) for part in content)
    for item in found:
        if isinstance(item, Document):
            item.content.encode("utf-8")
        else:
            assert item.reason and item.where.startswith(f"{name}:")
    places = [item.id if isinstance(item, Document) else item.where for item in found]
    assert places == [f"{name}:{number}" for number, part in enumerate(content, start=1) if not is_blank(part)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz", "a.json.zst"])
@settings(deadline=None, max_examples=100)
@given(
    content=st.lists(line | st.text("ab\",'\\[]{}\n\r\t ", max_size=8).map(str.encode), max_size=12),
    start=st.sampled_from([b"", b"["]),
    size=st.integers(1, 1 << 20) | st.integers(1, 40),
)
def test_blocks_of_any_size_give_the_same_documents(shared_folder, name, content, start, size):
    first = b"text,id\nuno,1" if "csv" in name else b"text\tid\nuno\t1" if "tsv" in name else b'{"text": "first"}'
    between = b"," if start else b"\n"
    data = (start if "json" in name else b"") + between.join([first, *content])
    path = shared_folder / name
    path.write_bytes(PACKERS.get(path.suffix, bytes)(data))

    def outcome(read: Callable[[], Iterable[object]]) -> object:
        try:
            return list(read())
        except UserError as error:
            return str(error)

    assert outcome(lambda: rebuilt(path, size)) == outcome(lambda: read_documents(str(path)))


@settings(deadline=None, max_examples=200)
@given(
    rows=st.lists(
        st.dictionaries(st.text(max_size=4), st.text(max_size=8) | st.lists(st.text(max_size=3))), max_size=6
    ),
    indent=st.sampled_from([None, 0, 2]),
    size=st.integers(1, 60),
)
def test_the_elements_of_a_json_array_are_found_by_their_marks(shared_folder, rows, indent, size):
    rows = [{"text": "first"}, *({**row, "text": f"{n}"} for n, row in enumerate(rows))]
    path = shared_folder / "a.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=len(rows) % 2 == 0), encoding="utf-8", newline="")
    assert [d.text for d in rebuilt(path, size) if isinstance(d, Document)] == [row["text"] for row in rows]


@settings(deadline=None, max_examples=150)
@given(content=st.lists(st.text('ab",\n\r', max_size=12) | st.just("x,y") | st.just('"x",y'), max_size=12))
def test_every_line_of_a_table_is_in_a_row_or_refused(shared_folder, content):
    """Sizes add up to the file: no line is swallowed."""
    path = shared_folder / "b.csv"
    data = ("text,id\n" + "\n".join(content)).encode()
    path.write_bytes(data)
    table = tables.Table(files.Content(path), ",")
    found = list(table.rows("b.csv"))
    blank = sum(len(line) for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", data.decode()) if not line.strip("\r\n"))
    assert sum(size for *_, size in found) + len("text,id\n") + blank >= len(data)
    assert sum(size for *_, size in found) + len("text,id\n") <= len(data)
    assert [number for number, *_ in found] == sorted({number for number, *_ in found})


@settings(deadline=None, max_examples=100)
@given(
    rows=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), st.text("ab,\"'\n\r\t\u2028 "))
    )
)
def test_csv_as_python_writes_it_comes_back_cell_by_cell(shared_folder, rows):
    import csv

    path = shared_folder / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerow(["title", "text"])
        writer.writerows(rows)
    assert texts(path) == [text for _, text in rows]


def test_a_data_sets_card_licence_and_hidden_files_are_no_documents(tmp_path):
    (tmp_path / "data.txt").write_text("Il testo.")
    (tmp_path / "README.md").write_text("# A card")
    (tmp_path / "LICENSE.txt").write_text("Terms")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.txt").write_text("hidden")
    assert [f.name for f in files_of(str(tmp_path))] == ["data.txt"]
