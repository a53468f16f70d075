"""Texts taken apart, masked, and put together again: whatever the text and whatever an engine does to it."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt.translation import protecting
from langadapt.translation.protecting import masked_pair, protect
from langadapt.translation.splitting import Piece, joined, pieces, sentences

# What texts are made of that were written to break this: marks, masks, half-open pairs, every kind of span and break.
FRAGMENTS = [
    "word", "Two words.", " ", "\n", "\n\n", "\r\n", "\t", "\u2028", "\x85", "```", "```python\nx = 1\n```",
    "~~~", "`code`", "`",
    "**", "*", "_", "~~", "# ", "- ", "1. ", "> ", "| a | b |", "|", "$$", "$x^2$", "\\[", "\\]", "\\(y\\)",
    "$5", "<b>", "</b>",
    "<pre>", "</pre>", "<!-- c -->", "&amp;", "&#39;", "https://example.org/a_(b)?c=1#d", "www.example.org",
    "a@b.co", "[text](http://x.y)",
    "![", "](", "{name}", "{{x}}", "%s", "%d%%", "⟦0⟧", "⟦", "⟧", "⟦1", "⟦ 0 ⟧", "snake_case", "call()",
    "camelCase",
    "C:\\dir\\file.txt", "/usr/local/bin", "~/x", "report.pdf", "v1.2", "1.2.3", "2024-01-31", "3,000.5", "@me",
    "#tag", "🎉", "👩‍💻",
    "Mr. Smith", "U.S.", "…", "?!", "«»", "«Sì.»", "你好。我", "\\begin{a}", "\\end{a}", "é", "\ufeff", "0", "l'",
]  # fmt: skip
ADVERSARIAL = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=30).map("".join)
TEXTS = st.one_of(st.text(), ADVERSARIAL)


# --- taking apart -----------------------------------------------------------------------------------------------------


@given(TEXTS)
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    parts = pieces(text)
    assert joined(parts, (p.text for p in parts if p.translate)) == text


@given(TEXTS)
def test_what_an_engine_gets_is_one_line_without_outer_spaces_and_with_a_letter(text: str) -> None:
    for part in pieces(text):
        if part.translate:
            assert part.text.splitlines() == [part.text] and part.text.strip() == part.text
            assert any(character.isalpha() for character in part.text)


@given(TEXTS)
def test_the_sentences_of_a_paragraph_are_the_paragraph(text: str) -> None:
    assert "".join(part.text for part in sentences(text)) == text


def translated(text: str) -> list[str]:
    return [part.text for part in pieces(text) if part.translate]


def test_markers_code_and_tables_stay() -> None:
    text = (
        "# Stairs\n\n- [x] Buy *milk*.\n  12) Two\n> * Said\n```python\nprint('hello')\n```\n| Name | Age |\n|---|:--|\n"
        "$$\na + b\n$$\n\\begin{align}\nc\n\\end{align}\n<pre>\nraw text\n</pre>\nEnd.  \n"
    )
    assert translated(text) == ["Stairs", "Buy *milk*.", "Two", "Said", "Name", "Age", "End."]


def test_a_block_that_is_never_closed_is_code_to_the_end() -> None:
    assert translated("Before\n````\n```\nstill code\n") == ["Before"]


def test_a_fence_needs_its_own_mark_to_close_and_inline_ticks_open_none() -> None:
    assert translated("```\na\n~~~\nb\n```\nAfter") == ["After"]
    assert translated("```not a fence``` here\nAfter") == ["```not a fence``` here", "After"]


def test_sentences_end_where_it_is_sure() -> None:
    text = 'Mr. Smith met J. R. Ewing in the U.S. forces. He said "No!" Then: 3 men came… (Perhaps.) i.e. nobody. 好。是吗？'
    assert [p.text for p in sentences(text) if p.translate] == [
        "Mr. Smith met J. R. Ewing in the U.S. forces.", 'He said "No!"', "Then: 3 men came…",
        "(Perhaps.) i.e. nobody.", "好。", "是吗？",
    ]  # fmt: skip


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "`pip install x`", "``a ` b``", "$x^2$", "\\(y\\)", "$$z$$", "https://a.b/c_(d)?x=1&y=2", "www.a.org/b",
        "me+x@mail.example.org",
        "<b>", "</b>", '<a href="x y">', "<br/>", "<!-- c -->", "&amp;", "&#x27;", "{name}", "{{ name }}",
        "${HOME}", "%s", "%(name)s", "%.2f",
        "/usr/local/bin", "./a/b", "~/notes", "C:\\x\\y.txt", "report.pdf", "main.test.py", "v1.2", "1.2.3",
        "10.0.0.1", "2024-01-31",
        "2024-01-31T10:20:30Z", "0xFF", "snake_case", "__init__", "os.path.join()", "camelCase", "iPhone",
        "@user", "#tag", "🎉", "👩‍💻", "⟦0⟧",
    ],
)  # fmt: skip
def test_what_is_protected_is_masked_whole(text: str) -> None:
    masked = protect(f"See {text} here")
    assert "".join(span.text for span in masked.spans).replace(" ", "") in (text.replace(" ", ""), "⟦⟧")
    assert re.fullmatch(r"See ⟦\d⟧(?:\d?⟦\d⟧)? here", masked.text)


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $10, or US$20.", "100% sure, 50% done", "he/she and/or km/h 24/7",
        "2 * 3 * 4 and 2*3*4", "x < y and a > b", "R&D, C#",
        "e.g. this, i.e. that, 3.5 or 1,000.25",
        "an ordinary, well-known sentence: with (brackets) [and these] too", "it's John's",
    ],
)  # fmt: skip
def test_ordinary_text_is_not_masked(text: str) -> None:
    assert protect(text).spans == ()


def test_an_address_ends_before_the_sentence_does() -> None:
    assert [s.text for s in protect("See (https://a.b/c). Or www.d.e, or <https://f.g/h>!").spans] == [
        "https://a.b/c", "www.d.e", "https://f.g/h",
    ]  # fmt: skip


def test_names_are_protected_as_they_are_written_and_as_whole_words() -> None:
    masked = protect("Rome, not rome or Romeo; Rome Express", ["Rome", "Rome Express"])
    assert masked.text == "⟦0⟧, not rome or Romeo; ⟦1⟧"


def test_numbers_are_masked_when_asked() -> None:
    assert protect("In 1980s, 3,000.5 km at 9:30, 24/7, 5th, COVID19", numbers=True).text == (
        "In ⟦0⟧, ⟦1⟧ km at ⟦2⟧, ⟦3⟧, ⟦4⟧, COVID19"
    )


@given(TEXTS, st.booleans())
def test_an_engine_that_changes_nothing_gives_the_text_back(text: str, numbers: bool) -> None:
    masked = protect(text, numbers=numbers)
    assert masked.restored(masked.text) == text
    assert "".join(part for part, _ in masked.around()) == text


def damaged(text: str, seed: int) -> str:
    """What an engine may make of a text: masks moved, dropped, doubled, broken, invented, words with them."""
    chance = random.Random(seed)
    parts = re.split(r"(⟦\d+⟧)", text)
    for _ in range(chance.randint(0, 3)):
        place = chance.randrange(len(parts))
        match chance.randrange(6):
            case 0:
                chance.shuffle(parts)
            case 1:
                parts[place] = ""
            case 2:
                parts.insert(place, parts[place])
            case 3:
                parts[place] = parts[place].replace("⟦", "[").replace("⟧", "]")
            case 4:
                parts.insert(place, f"⟦{chance.randrange(99)}⟧")
            case 5:
                parts[place] = parts[place].replace("⟦", "⟦ ").upper()
    return "".join(parts)


@given(TEXTS, st.integers())
def test_spans_come_back_identical_or_the_failure_is_told(text: str, seed: int) -> None:
    masked = protect(text)
    given_back = damaged(masked.text, seed)
    numbers = [int(number) for number in re.findall(r"⟦ ?(\d+)⟧", given_back)]
    made = masked.restored(given_back)
    if sorted(numbers) != list(range(len(masked.spans))):
        assert made is None
    elif made is not None:  # the engine's text with every span in its place; only spaces beside spans may differ
        plain = re.sub(r"⟦ ?(\d+)⟧", lambda mask: masked.spans[int(mask.group(1))].text, given_back)
        assert "".join(made.split()) == "".join(plain.split())
        assert all(span.text in made for span in masked.spans)


@given(ADVERSARIAL)
def test_text_cannot_forge_a_mask(text: str) -> None:
    masked = protect(text)
    assert len(re.findall(r"[⟦⟧]", masked.text)) == 2 * len(masked.spans)


@pytest.mark.parametrize(
    "made", ["⟦0⟧ ⟦1⟧", "⟦0⟧ ⟦1⟧ ⟦1⟧ ⟦2⟧", "⟦0⟧ ⟦1⟧ ⟦2⟧ ⟦3⟧", "⟦0⟧ [1] ⟦2⟧", "⟦1⟧ a ⟦0⟧ ⟦2⟧", "⟦0⟧ ⟦1⟧ ⟦2⟧ ⟦"]
)
def test_lost_doubled_invented_and_crossed_masks_are_refused(made: str) -> None:
    assert protect("**Bold** and `code`").restored(made) is None


def test_spaces_around_markup_are_the_sources() -> None:
    masked = protect("This is **very bold** and `x`, [see here](http://a.b).")
    assert masked.text == "This is ⟦0⟧very bold⟦1⟧ and ⟦2⟧, ⟦3⟧see here⟦4⟧."
    assert (
        masked.restored("È ⟦0⟧ molto audace ⟦1⟧ e⟦2⟧, ⟦3⟧ vedi qui ⟦4⟧.")
        == "È **molto audace** e `x`, [vedi qui](http://a.b)."
    )


@pytest.mark.parametrize(
    "hostile",
    [
        "`", "$", "<a ", "[", "{", "a_", "a.", "/a", "\\(", "1.", "*a", "@a", "a@a.", "&a", "<!--", "http://", "[a](",
        "$a ", "\\begin{a}", "_", "a-", "\\[", "%(", "⟦", "((",
    ],
)  # fmt: skip
def test_hostile_text_costs_no_more_than_its_length(hostile: str) -> None:
    text = hostile * (20_000 // len(hostile))
    started = time.perf_counter()
    assert protect(text, numbers=True).restored(protect(text, numbers=True).text) == text
    sentences(text), pieces(text)
    assert time.perf_counter() - started < 5


def test_a_finished_translation_gets_the_masks_of_its_source() -> None:
    assert masked_pair("See **x** at `c`.", "A `c` vedi **x**.") == ("See ⟦0⟧x⟦1⟧ at ⟦2⟧.", "A ⟦2⟧ vedi ⟦0⟧x⟦1⟧.")
    assert masked_pair("See `c`.", "Vedi `d`.") is None


def test_the_order_of_kinds_is_what_decides_overlaps() -> None:
    assert list(protecting._CONTENT)[:2] == ["bracket", "code"]  # brackets first, or a mask could be forged inside code
    assert protect("`https://a.b`").spans[0].text == "`https://a.b`"
    assert pieces("") == [] and sentences("x") == [Piece("x", True)]
