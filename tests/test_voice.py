"""Errors and warnings speak in one voice, as CONTRIBUTING.md describes it, and docs/errors.md has them all."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT

from langadapt.doctor.sections import ALL
from langadapt.errors import counted


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"page_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for annotations
    spec.loader.exec_module(module)
    return module


page = load(ROOT / "docs" / "errors.py")
MESSAGES = page.messages()
Message: Any = page.Message

# Says by itself what to write in its place, or holds what somebody else says there is to do.
SAYS_IT = re.compile("is not of type|is not ‹WANTED›|‹MISSING›|‹SMALLER›|‹WHAT›$")
KINDS = (
    "stage|corpus|filter|column|layout|variant|method|plugin|language|translator|format|recipe|task|check|suite|‹WORD›"
)

RULES: Mapping[str, Callable[[str], bool]] = {
    "begins small, or with a name": lambda text: not text[0].isupper() or bool(re.match(r"\w*[A-Z0-9]\w*\b", text[1:])),
    "ends without a full stop": lambda text: not text.endswith("."),
    "blames nobody and says something": lambda text: (
        not re.search(
            r"\b(invalid|illegal|please|oops|sorry|unable to|failed to|something went wrong|an error occurred)\b|!(?!r›)",
            text,
            re.I,
        )
    ),
    "shows values as a recipe writes them": lambda text: "!r›" not in text,
    "has names in double quotes": lambda text: not re.search(rf"\b(?:no|the) (?:{KINDS}) ‹(?!NEAREST)", text),
    "has no other quotes but in commands": lambda text: "`" not in text and not re.search(r"(?<!pip install )'‹", text),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_message(rule: str) -> None:
    broken = [
        f"{m.file}:{m.line}: {part}" for m in MESSAGES for part in (m.text, m.hint) if part and not RULES[rule](part)
    ]
    assert broken == []


def says_what_to_do(message: Any) -> bool:
    return bool(page.parted(message)[1] or SAYS_IT.search(message.text))


def test_every_message_says_what_to_do() -> None:
    assert [f"{m.file}:{m.line}: {m.text}" for m in MESSAGES if not says_what_to_do(m)] == []


def test_nothing_comes_behind_a_question() -> None:
    assert [f"{m.file}:{m.line}" for m in MESSAGES if "‹NEAREST›;" in m.text] == []


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("item",), "1 item"),
        (0, ("item",), "0 items"),
        (2000, ("item",), "2,000 items"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
    ],
)
def test_things_are_counted_in_words(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("begins small, or with a name", "The file is missing; name another"),
        ("ends without a full stop", "the file is missing; name another."),
        ("blames nobody and says something", "invalid value ‹VALUE›; give another"),
        ("blames nobody and says something", "there is no file; please give one"),
        ("blames nobody and says something", "there is no file!"),
        ("shows values as a recipe writes them", "‹VALUE!r› is no number; write 0.1"),
        ("has names in double quotes", "there is no stage ‹STAGE›; ‹NEAREST›"),
        ("has no other quotes but in commands", "there is no '‹NAME›'; ‹NEAREST›"),
        ("has no other quotes but in commands", "run `‹COMMAND›`"),
    ],
)
def test_a_message_that_breaks_a_rule_is_found(rule: str, text: str) -> None:
    assert not RULES[rule](text)


def test_a_message_that_leaves_one_alone_is_found() -> None:
    assert not says_what_to_do(Message(file="x.py", line=1, text="the file is missing"))
    assert says_what_to_do(Message(file="x.py", line=1, text="the file is missing; name another"))
    assert says_what_to_do(Message(file="x.py", line=1, text="unknown key", hint="did you mean …?"))


@pytest.mark.parametrize(
    "start",
    [
        "‹FOLDER› is in use by another run",  # raised
        "stage ‹STAGE›: the loss became ‹LOSS›",  # raised by a run
        "not valid TOML",  # a problem of a file
        "goes in a circle: ‹CIRCLE›",  # reported
        "there is no layout",  # yielded with place and hint
        "nothing is measured while the model learns",  # yielded with a key
        "compute.backend is ‹BACKEND› and this machine",  # yielded alone
        "‹BASE_URL› answers ‹STATUS›",  # named before it is given
        "stage ‹STAGE› is estimated at",  # one of a list
        "unknown key; it is no field of ‹OWNER›",  # joined
        "--column ‹REASON›",  # of the command line
    ],
)
def test_messages_of_every_form_are_collected(start: str) -> None:
    assert [m for m in MESSAGES if m.text.startswith(start) or f" {start}" in m.text], start


def test_every_message_has_a_place_on_the_page() -> None:
    assert len(MESSAGES) > 300
    assert {page.group_of(message).title for message in MESSAGES} == {g.title for g in (page.OF_RECIPE, *page.GROUPS)}


def test_the_page_is_what_the_source_says() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "python docs/errors.py makes it anew"


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.name)
def test_what_the_doctor_says_is_in_the_same_voice(check: Any) -> None:
    for part in (check.happens, check.do):
        assert part and all(rule(part) for rule in RULES.values()), part
    assert check.says and check.source.startswith(("https://", "docs/"))
