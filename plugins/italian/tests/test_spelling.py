"""Wrong spelling is mended, right spelling and code are not touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt import Document, Message, UserError
from langadapt_italian.spelling import SPELLING, mend, unify

MENDED = {
    "E' vero e E’ tardi": "È vero e È tardi",
    "perchè, PERCHE', Perche'": "perché, PERCHÉ, Perché",
    "poichè affinche' nonchè": "poiché affinché nonché",
    "cioé, caffé, ahimé": "cioè, caffè, ahimè",
    "piu' che puo', gia' cosi'": "più che può, già così",
    "piú su, cosí giú, sí": "più su, così giù, sì",
    "la citta', le attivita'": "la città, le attività",
    "un pò, un po’": "un po', un po’",
    "qual'è, Qual’era, qual'e'": "qual è, Qual era, qual è",
    "un'altro, un altra, Un'uomo": "un altro, un'altra, Un uomo",
    "quì stà bene": "qui sta bene",
    "nè l'uno nè l'altro, sè stesso": "né l'uno né l'altro, sé stesso",
    "lunedi' e VENERDI'": "lunedì e VENERDÌ",
    "dov'è? e' la'": "dov'è? è la'",
}
RIGHT = [
    "È vero, perché no? Un po' di tutto, qual è l'altro, un'altra e un altro.",
    "Va' da lui, fa' presto, sta' zitto, di' la verità: ne' campi, de' monti, a' piedi.",
    "Dà, dì, là, lì, né, sé, tè, ciò, può, più, giù.",
    "La lettera 'e', la parola 'perche' e la 'citta' di carta",
    "l'è, c'è, com'è, n'è, v'è, po' po'",
    "Il Po e il Pò.",
    "età, metà, bontà; papà e virtù; rosé, purè, dessert",
]
CODE = [
    "`E' perchè`",
    "```\nE' perchè\n```",
    "~~~\npò",
    "https://esempio.it/perchè",
    "<a title='perchè'>",
    "$E' = mc^2$",
    "x = d['perche']",
]


@pytest.mark.parametrize(("wrong", "right"), MENDED.items())
def test_what_is_wrong_beyond_doubt_is_mended(wrong: str, right: str) -> None:
    assert mend(wrong) == right


@pytest.mark.parametrize("text", [*RIGHT, *CODE])
def test_right_spelling_quotations_and_code_stay(text: str) -> None:
    assert mend(text) == text


WORDS = st.sampled_from(
    [*" ".join([*MENDED, *RIGHT, *CODE]).split(), " ", "\n", "'", "’", "«", "“", "”", "`", "E'", "qual'", "un'", "e'"]
)


@given(st.lists(WORDS).map(" ".join) | st.lists(WORDS).map("".join))
def test_mending_and_unifying_twice_is_mending_and_unifying_once(text: str) -> None:
    once = mend(text)
    assert mend(once) == once
    unified = unify(once, apostrophe="’", quotes="«»")
    assert unify(unified, apostrophe="’", quotes="«»") == unified


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "L’età dell'oro: “un po’” e «così» `l'altro`"),
        ({"apostrophe": "'"}, "L'età dell'oro: “un po'” e «così» `l'altro`"),
        ({"apostrophe": "’"}, "L’età dell’oro: “un po’” e «così» `l'altro`"),
        ({"quotes": "«»"}, "L’età dell'oro: «un po’» e «così» `l'altro`"),
        ({"quotes": '"'}, 'L’età dell\'oro: "un po’" e "così" `l\'altro`'),
    ],
)
def test_marks_are_unified_on_request(options: dict[str, str], expected: str) -> None:
    step = SPELLING.make({**SPELLING.options, **options}, None)
    assert step(Document(id="x", text="L’età dell'oro: “un po’” e «così» `l'altro`")) == Document(id="x", text=expected)


def test_every_message_is_mended() -> None:
    step = SPELLING.make(SPELLING.options, None)
    asked = Message(role="user", content="Perchè?", context="un pò")
    assert step(Document(id="x", messages=(asked,), rejected="E' così")) == Document(
        id="x", messages=(Message(role="user", content="Perché?", context="un po'"),), rejected="È così"
    )


@pytest.mark.parametrize("options", [{"apostrophe": "`"}, {"quotes": "<<"}])
def test_marks_that_are_none_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="italian-spelling"):
        SPELLING.make({**SPELLING.options, **options}, None)
