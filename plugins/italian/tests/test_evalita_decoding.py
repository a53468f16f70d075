"""Decoders on what models write: right answers in many dresses, and any string at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt_italian.evalita import EVALUATIONS, acti, emotivita, nermud
from langadapt_italian.evalita.answers import NO, YES, decode_yes_or_no

untimed = settings(deadline=None)  # a busy machine is not a slow reader
WORDS = [
    "sì", "si", "no", "non", "Covid", "Q", "anon", "terra", "piatta", "russia", "valenza", "attivazione", "dominanza",
    "3,5", "5", "nessuna", "[PER]", "[org]", "risposta", "entità", ":", ";", "\n", "\n\n", " ", "'", ",", "-", "**",
]  # fmt: skip
ANY_TEXT = st.text() | st.lists(st.sampled_from(WORDS)).map("".join) | st.lists(st.sampled_from(WORDS)).map(" ".join)
TOKEN = st.text("abcdeàèRS'.", min_size=1, max_size=4)
TAG = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"])


@untimed
@given(text=ANY_TEXT)
@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda e: e.name)
def test_no_text_raises(evaluation, text):
    evaluation.decode(text)


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda e: e.name)
@pytest.mark.parametrize("text", ["", " \n\t", "Non saprei dire.", "?!", "il cielo è azzurro", "###"])
def test_no_answer_is_none(evaluation, text):
    assert evaluation.decode(text) is None


@pytest.mark.parametrize("text", [
    "sì", "Sì", "SÌ.", "si", "Si.", "SI'", "si\u0300", "sí", "«Sì», lo contiene", "Sì, e no al dubbio", "**Sì**",
    "Risposta: sì", "### Risposta:\nSì", "La risposta è sì", "La risposta corretta è: Sì.", "Direi di sì perché",
    "Direi di si.", "sì\nno", "\n\n  Sì\n\n### Istruzione: no", "Yes", "- sì", '"sì"',
])  # fmt: skip
def test_yes(text):
    assert decode_yes_or_no(text) == YES


@pytest.mark.parametrize("text", [
    "no", "No", "NO!", "No, non si tratta di odio", "No non direi", "Risposta: no", "la risposta è no", "Direi di no.",
    "`no`", "no\nsì", "La risposta corretta è no perché il testo è neutro",
])  # fmt: skip
def test_no(text):
    assert decode_yes_or_no(text) == NO


@pytest.mark.parametrize("text", [
    "Non si tratta di odio", "Si tratta di un commento", "Il testo parla di no vax", "così", "nord", "forse\nsì",
    "No-vax", "Il testo si riferisce alla politica.", "direi di sì, anzi direi di no.",
])  # fmt: skip
def test_neither_yes_nor_no(text):
    assert decode_yes_or_no(text) is None


@pytest.mark.parametrize(("text", "topic"), [
    ("Covid", "Covid"), ("COVID-19.", "Covid"), ("coronavirus", "Covid"), ("qanon", "Qanon"), ("Q-Anon", "Qanon"),
    ("terra piatta", "Terra Piatta"), ("Terrapiattismo", "Terra Piatta"), ("Il commento riguarda la Russia.", "Russia"),
    ("propaganda filorussa", "Russia"), ("Etichetta: Terra Piatta\nCovid", "Terra Piatta"),
    ("Covid, non Russia", "Covid"), ("Parla di Covid e di Qanon", None), ("Terra", None), ("5G", None),
])  # fmt: skip
def test_topics(text, topic):
    assert acti.decode_topic(text) == topic


@pytest.mark.parametrize("text", [
    "valenza: 3,25; attivazione: 2,10; dominanza: 4,00", "Valenza: 3.25, Attivazione: 2.1, Dominanza: 4",
    "**Valenza**: 3,25/5\n**Attivazione**: 2,1/5\n**Dominanza**: 4/5", "3,25; 2,10; 4,00", "(3.25, 2.1, 4.0)",
    "dominanza 4; attivazione 2,10; valenza 3,25", "V=3.25 A=2.10 D=4",
    "La valenza è 3,25, l'attivazione è 2,1 e la dominanza è 4.",
    "valence: 3.25; arousal: 2.10; dominance: 4.00", "valenza: 3,25; attivazione: 2,10; dominanza: 4,00\n\n1 2 3",
])  # fmt: skip
def test_ratings(text):
    assert emotivita.decode(text) == [3.25, 2.1, 4.0]


@pytest.mark.parametrize("text", [
    "valenza: 3,25; attivazione: 2,10", "valenza: alta; attivazione: 2; dominanza: 4", "3 4", "1 2 3 4", "3,2,4",
    "valenza: 325; attivazione: 10; dominanza: 44",
])  # fmt: skip
def test_what_are_not_three_ratings(text):
    assert emotivita.decode(text) is None


@untimed
@given(gold=st.lists(st.integers(100, 550).map(lambda n: n / 100), min_size=3, max_size=3))
def test_ratings_come_back(gold):
    assert emotivita.decode(emotivita.encode(gold)) == gold


@pytest.mark.parametrize(("text", "mentions"), [
    ("Maria Rossi [PER]; Torino [LOC]", [("Maria Rossi", "PER", 0), ("Torino", "LOC", 0)]),
    ("maria rossi [ per ], Torino[LOC].", [("maria rossi", "PER", 0), ("Torino", "LOC", 0)]),
    ("- Maria Rossi [PER]\n- Torino [LOC]", [("Maria Rossi", "PER", 0), ("Torino", "LOC", 0)]),
    ("1. Maria Rossi [PER]\n2. Torino [LOC]\n", [("Maria Rossi", "PER", 0), ("Torino", "LOC", 0)]),
    ("Le entità sono: Maria Rossi [PER]", [("Maria Rossi", "PER", 0)]),
    ("Ecco le entità nominate:\n\nMaria Rossi [PER]", [("Maria Rossi", "PER", 0)]),
    ("Torino [LOC]\n\n### Istruzione: Roma [LOC]", [("Torino", "LOC", 0)]),
    ("Torino [LOC]; Maria Ro", [("Torino", "LOC", 0)]),
    ("Roma [LOC 2]; Po [loc, 3]", [("Roma", "LOC", 2), ("Po", "LOC", 3)]), ("Roma [LOC 0]", None),
    ("Nessuna.", []), ("nessuna entità\n\nTorino [LOC]", []), ("Non ci sono entità nominate", []),
    ("Torino", None), ("[PER]", None), ("Torino [CITTÀ]", None),
])  # fmt: skip
def test_mentions(text, mentions):
    assert nermud.decode(text) == mentions


def test_neighbours_of_one_type_stay_apart():
    tags = ["B-LOC", "B-LOC", "O", "B-ORG", "I-ORG", "I-ORG"]
    gold = {"tokens": ["Roma", "Milano", "e", "Banca", "d'", "Italia"], "tags": tags}
    assert nermud.encode(gold) == "Roma [LOC]; Milano [LOC]; Banca d' Italia [ORG]"
    assert nermud.decode(nermud.encode(gold)) == nermud.mentions(gold)


@pytest.mark.parametrize(("tags", "mentions"), [
    (["I-LOC", "O"], [("a", "LOC", 0)]), (["I-LOC", "I-LOC"], [("a b", "LOC", 0)]),
    (["B-PER", "I-LOC"], [("a", "PER", 0), ("b", "LOC", 0)]), (["B-LOC", "B-LOC"], [("a", "LOC", 0), ("b", "LOC", 0)]),
])  # fmt: skip
def test_a_tag_that_continues_nothing_begins_a_mention(tags, mentions):
    assert nermud.mentions({"tokens": ["a", "b"], "tags": tags}) == mentions


@untimed
@given(sentence=st.lists(st.tuples(TOKEN, TAG), max_size=12))
def test_mentions_come_back(sentence):
    gold = {"tokens": [token for token, _ in sentence], "tags": [tag for _, tag in sentence]}
    assert nermud.decode(nermud.encode(gold)) == nermud.mentions(gold)
    assert nermud.marked(gold["tokens"], nermud.mentions(gold)) == [tag.rpartition("-")[2] for tag in gold["tags"]]


def test_a_mention_after_the_same_words_says_which_it_is():
    gold = {"tokens": ["marche", "delle", "Marche", ",", "Marche"], "tags": ["O", "O", "O", "O", "B-LOC"]}
    assert nermud.encode(gold) == "Marche [LOC 2]"
    assert nermud.marked(gold["tokens"], [("Marche", "LOC", 3)]) == ["O"] * 5


@pytest.mark.parametrize(("predicted", "kinds"), [
    ([("d'Europa", "ORG", 0)], ["O", "O", "ORG", "ORG", "O", "O"]),
    ([("Roma", "LOC", 0), ("Roma", "PER", 0)], ["LOC", "O", "O", "O", "O", "PER"]),
    ([("Roma", "LOC", 0)] * 3, ["LOC", "O", "O", "O", "O", "LOC"]),
    ([("Consiglio d' Europa", "ORG", 0), ("Europa", "LOC", 0)], ["O", "ORG", "ORG", "ORG", "O", "O"]),
    ([("Parigi", "LOC", 0), ("Eur", "LOC", 0), ("roma", "LOC", 0), ("", "PER", 0), (" ", "PER", 0)], ["O"] * 6),
])  # fmt: skip
def test_mentions_mark_the_first_free_span(predicted, kinds):
    assert nermud.marked(["Roma", "Consiglio", "d'", "Europa", "a", "Roma"], predicted) == kinds
