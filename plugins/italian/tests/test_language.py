"""What the record of Italian promises: its words, thresholds, and the prompts that carry its name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt import Document, Message
from langadapt.plugins import registry
from langadapt_italian import language, prompts
from langadapt_italian.language import FUNCTION_WORDS, ITALIAN, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L'albero dell’acqua", ["L'", "albero", "dell’", "acqua"]),
        ("un'amica e un amico", ["un'", "amica", "e", "un", "amico"]),
        ("Un po' di pane, po’.", ["Un", "po'", "di", "pane", ",", "po’", "."]),
        ("E' vero", ["E'", "vero"]),
        ("Perché? Così è.", ["Perché", "?", "Così", "è", "."]),
        ("dammelo e andarsene", ["dammelo", "e", "andarsene"]),
        ("nord-est dell'Emilia-Romagna", ["nord", "-", "est", "dell'", "Emilia-Romagna"]),
        ("1.234,56 € alle 12:30", ["1.234,56", "€", "alle", "12:30"]),
        ("È finita...Ricomincia", ["È", "finita", "...", "Ricomincia"]),
        ("disse.Poi tacque", ["disse", ".", "Poi", "tacque"]),
        ("e/o così", ["e", "/", "o", "così"]),
        ("a@b.it o https://x.it/a?b=c.", ["a@b.it", "o", "https://x.it/a?b=c", "."]),
        ("«Ciao», disse 'lui'", ["«", "Ciao", "»", ",", "disse", "'", "lui", "'"]),
        (
            "C'è un'altra: l'80% degli anni '90",
            ["C'", "è", "un'", "altra", ":", "l'", "80", "%", "degli", "anni", "'", "90"],
        ),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_words_are_the_text_without_its_blanks(text: str) -> None:
    assert "".join("".join(words(text)).split()) == "".join(text.split())


@given(st.text(st.sampled_from("aàE1'’.,-:/@_… \u00a0\u2003\nhtps") | st.characters(exclude_categories=["Cs"])))
def test_words_found_piece_by_piece_are_those_of_the_whole_text(text: str) -> None:
    assert words(text) == language._WORD.findall(text)


def test_phrases_of_boilerplate_are_as_the_step_compares_them() -> None:
    assert all(phrase == phrase.lower().strip().replace("’", "'") for phrase in ITALIAN.boilerplate)
    assert len(set(ITALIAN.boilerplate)) == len(ITALIAN.boilerplate) > 80


@pytest.mark.parametrize(
    ("line", "goes"),
    [
        ("Questo sito utilizza i cookie per migliorare la navigazione. Accetta tutto", True),
        ("© 2021 La Voce del Borgo – Tutti i diritti riservati", True),
        ("Iscriviti alla nostra newsletter!", True),
        ("Condividi su Facebook", True),
        ("I cookie sono piccoli file di testo che un sito salva nel programma di navigazione di chi lo visita.", False),
        ("Il pittore accetta tutto quello che la committenza gli chiede, e la tela ne soffre non poco.", False),
    ],
)
def test_notices_of_italian_pages_are_known(line: str, goes: bool) -> None:
    boilerplate = registry().filters["boilerplate"]
    step = boilerplate.make(boilerplate.options, ITALIAN)
    body = "Il testo della pagina è questo, e finisce qui."
    left = step(Document(id="x", text=f"{body}\n{line}"))
    assert isinstance(left, Document) and left.text == (body if goes else f"{body}\n{line}")


def test_thresholds_are_those_that_the_filter_reads() -> None:
    fineweb2 = registry().filters["fineweb2"]
    assert fineweb2.make(fineweb2.options, ITALIAN)
    needed = {key for key, value in fineweb2.options.items() if value is None}
    assert set(ITALIAN.thresholds["fineweb2"]) == needed


def test_function_words_are_words_of_the_segmentation() -> None:
    assert all(words(word + "x" if word.endswith("'") else word)[0] == word for word in FUNCTION_WORDS)
    assert len(set(FUNCTION_WORDS)) == 18


def test_translations_of_the_sample_keep_to_the_length_ratio() -> None:
    assert ITALIAN.parallel_sample
    least, most = ITALIAN.length_ratio["en"]
    rows = [json.loads(line) for line in ITALIAN.parallel_sample.read_text(encoding="utf-8").splitlines()]
    outside = [r for r in rows if len(r["en"]) >= 40 and not least <= len(r["it"]) / len(r["en"]) <= most]
    assert len(rows) > 100 and outside == []


# --- prompts ----------------------------------------------------------------------------------------------------------

DIALOGUE = [Message(role="user", content="Chi sei?"), Message(role="assistant", content="Una prova.")]


def text_of(name: str) -> str:
    format = next(f for f in prompts.FORMATS if f.name == name)
    marks = {"bos": "<s>", "eos": "</s>", "": ""}
    return "".join(marks[s.special] + s.text for s in format.render(DIALOGUE, format.system_prompt))


def test_only_the_70b_frame_has_a_space_after_the_mark_of_an_instruction() -> None:
    framed = f"<<SYS>>\n{prompts.SYSTEM}\n<</SYS>>\n\nChi sei?[/INST] Una prova. </s>"
    assert text_of("llamantino-chat") == f"<s> [INST]{framed}"
    assert text_of("llamantino-70b-chat") == f"<s> [INST] {framed}"


@pytest.mark.parametrize(("name", "manner"), [("llamantino-chat-tu", "del tu a"), ("llamantino-chat-lei", "del lei a")])
def test_a_recipe_can_choose_the_manner_of_address_by_the_prompts_name(name: str, manner: str) -> None:
    assert manner in text_of(name)
    assert text_of(name).replace(registry().prompts[name].system_prompt, prompts.SYSTEM) == text_of("llamantino-chat")
