"""Where the keys of a TOML file stand, so that a message names the right line."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt.toml_lines import comments, locate, split_key


def places(text: str) -> dict[str, int]:
    """Lines by dotted path."""
    return {".".join(map(str, path)): line for path, line in locate(text).items()}


RECIPE = """\
schema = 1
name = "x"

[evaluation]
suites = ["a", "b"]

[[stage]]
id = "one"

[stage.peft]
method = "qlora"

[stage.training]
learning_rate = 1e-4

[[stage]]
id = "two"
[stage.training]
max_steps = 3
"""


def test_keys_tables_and_arrays_of_tables_have_their_lines():
    assert places(RECIPE) == {
        "schema": 1,
        "name": 2,
        "evaluation": 4,
        "evaluation.suites": 5,
        "stage.0": 7,
        "stage.0.id": 8,
        "stage.0.peft": 10,
        "stage.0.peft.method": 11,
        "stage.0.training": 13,
        "stage.0.training.learning_rate": 14,
        "stage.1": 16,
        "stage.1.id": 17,
        "stage.1.training": 18,
        "stage.1.training.max_steps": 19,
    }


def test_arrays_of_tables_inside_arrays_of_tables_count_afresh_in_each():
    text = "[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[[a]]\n[[a.b]]\nx = 3\n[a.b.c]\ny = 4\n"
    assert places(text) == {
        "a.0": 1,
        "a.0.b.0": 2,
        "a.0.b.0.x": 3,
        "a.0.b.1": 4,
        "a.0.b.1.x": 5,
        "a.1": 6,
        "a.1.b.0": 7,
        "a.1.b.0.x": 8,
        "a.1.b.0.c": 9,
        "a.1.b.0.c.y": 10,
    }


def test_dotted_keys_place_each_table_on_the_way():
    assert places("a.b.c = 1\na . d = 2\n[t]\nx.y = 3\n") == {
        "a": 1,
        "a.b": 1,
        "a.b.c": 1,
        "a.d": 2,
        "t": 3,
        "t.x": 4,
        "t.x.y": 4,
    }


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('"evalita-2023/nermud" = "x"', ("evalita-2023/nermud",)),
        ("'a.b' = 1", ("a.b",)),
        ('a."b c".d = 1', ("a", "b c", "d")),
        ('"a=b" = 1', ("a=b",)),
        ('"a#b" = 1', ("a#b",)),
        ('"è" = 1', ("è",)),
        ('"a\\"b" = 1', ('a"b',)),
        ('"\\u00e8" = 1', ("è",)),
        ('"" = 1', ("",)),
    ],
)
def test_quoted_keys_have_their_lines(text, path):
    assert locate(f"x = 0\n{text}\n")[path] == 2
    assert locate(f"x = 0\n[{text.rpartition(' = ')[0]}]\ny = 1\n")[(*path, "y")] == 3


@pytest.mark.parametrize(
    "comment",
    ["# plain", '# "as for the adaptation" [C]', "# [x] and [[y]]", "# don't", '# """', "# '''", "# a = [", "# ]", "#"],
)
@pytest.mark.parametrize("header", ["[stage.peft]", "[ stage . peft ]"])
def test_comments_do_not_hide_what_follows(header, comment):
    text = f"[[stage]]  {comment}\nid = 1  {comment}\n{comment}\n{header} {comment}\nr = 64 {comment}\n"
    assert places(text) == {"stage.0": 1, "stage.0.id": 2, "stage.0.peft": 4, "stage.0.peft.r": 5}


@pytest.mark.parametrize(
    "value",
    [
        '"[ = # {"',
        "'[ = # {'",
        '"\\"["',
        "'\\'",
        "[1, [2, {a = 3}]]",
        '{a = 1, b = "]"}',
        '"""one line [ = """',
        "'''it's [ ='''",
        "\"'''\"",
        '\'"""\'',
        '""',
        '""""quoted""""',
        '["""x"""", "]", 1]',
        '"""a\\""""',
        "1979-05-27T07:32:00Z",
    ],
)
def test_values_on_one_line_do_not_hide_what_follows(value):
    text = f"a = {value}\nb = 1\n"
    tomllib.loads(text)
    assert places(text) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "value",
    [
        '"""\nx = 1\n[t]\n"""',
        "'''\nx = 1\n[t]\n'''",
        '"""a [ b {\nx = 1"""',
        "'''don't\nx = [1\n'''",
        '["""\nx = 1\n""", 2]',
        '"""\nx = "1"\n\'\'\'\n"""',
        '[\n"x = 1",\n"[t]",\n]',
        "[\n  1, # ]\n  [2,\n  3],\n]",
        '[\n{x = 1},\n{x = "]"},\n]',
        '"""\n\\"""\nx = 1\n"""',
        "[\n\"\"\"\nx = [\n\"\"\",\n'''\n]\nx = 1'''\n]",
    ],
)
def test_values_over_several_lines_hold_no_keys_and_hide_none(value):
    text = f"a = {value}\nb = 1\n[c]\nd = 2\n"
    tomllib.loads(text)
    after = text.count("\n") - 2
    assert places(text) == {"a": 1, "b": after, "c": after + 1, "c.d": after + 2}


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\t"])
def test_only_newlines_end_a_line(separator):
    text = f'a = "x{separator}y"  # {separator}\nb = 1\n'
    tomllib.loads(text)
    assert places(text) == {"a": 1, "b": 2}


def test_windows_line_ends_count_once():
    assert places("a = 1\r\n[b]\r\nc = 2\r\n") == {"a": 1, "b": 2, "b.c": 3}


def test_comments_are_those_beside_something():
    text = 'a = 1  # one\n# alone\nb = """x # no\ny"""  # two\nc = [ # open\n 1, # inside\n]\nd = "#"\n[e] # table\n'
    tomllib.loads(text)
    assert comments(text) == {1: "one", 4: "two", 5: "open", 6: "inside", 9: "table"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a",)),
        ("adapt.training.learning_rate", ("adapt", "training", "learning_rate")),
        (' a . "b.c" ', ("a", "b.c")),
        ("'x y'.z", ("x y", "z")),
        ("a.", None),
        (".a", None),
        ("a b", None),
        ("", None),
        ("a..b", None),
        ('"a', None),
    ],
)
def test_keys_are_split_as_toml_splits_them(text, parts):
    assert split_key(text) == parts


# --- any file ---

pieces = st.sampled_from(
    [
        "a",
        "b.c",
        '"q"',
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        '"',
        "'",
        '"""',
        "'''",
        "#",
        "\n",
        "\r\n",
        "\\",
        ",",
        " ",
        ".",
        "1",
        "\u2028",
        "è",
    ]
)


@settings(max_examples=500)
@given(st.one_of(st.text(), st.lists(pieces, max_size=30).map("".join)))
def test_no_text_makes_it_fail(text):
    for path, line in locate(text).items():
        assert path and 1 <= line <= text.count("\n") + 1


key = st.sampled_from(["a", "b", "c-1", '"d e"', "'f.g'", "x.y"])
scalar = st.sampled_from(
    ["1", '"s"', "'[ ='", "true", '"""m\nx = [\n"""', "[1,\n2]", "{k = 1}", '[{k = "]"}]', "'''\n[z]\n'''"]
)
tail = st.sampled_from(["", "  # note", ' # [x] "y', "\n", "\n# a = 1"])
header = st.sampled_from(["[t]", "[[s]]", "[s.u]", "[[s.v]]", "[s.v.w]", '["q.r"]', "[ t . n ]"])
statement = st.builds(lambda k, v, t: f"{k} = {v}{t}", key, scalar, tail) | st.builds("{}{}".format, header, tail)


def paths_of(value: object, path: tuple = ()) -> set[tuple]:
    """Every path in a parsed file, the insides of inline arrays and tables included."""
    found = {path} if path else set()
    if isinstance(value, dict):
        return found.union(*(paths_of(v, (*path, k)) for k, v in value.items()))
    if isinstance(value, list):
        return found.union(*(paths_of(v, (*path, i)) for i, v in enumerate(value)))
    return found


@settings(max_examples=500)
@given(st.lists(statement, max_size=10))
def test_in_any_valid_file_every_key_is_found_on_a_line_that_holds_it(statements):
    text = "\n".join(statements)
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found, real = locate(text), paths_of(parsed)
    assert set(found) <= real, "nothing is found that is not there"
    lines = text.split("\n")
    for path, number in found.items():
        name = next(part for part in reversed(path) if isinstance(part, str))
        assert name in lines[number - 1]
    assigned = {path for path, number in found.items() if not lines[number - 1].lstrip().startswith("[")}
    for path in real - set(found):
        inside_a_value = any(path[:end] in assigned for end in range(1, len(path)))
        assert inside_a_value or isinstance(_at(parsed, path), (dict, list)), f"{path} is nowhere"


def _at(value, path):
    for part in path:
        value = value[part]
    return value
