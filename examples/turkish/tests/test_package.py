"""What the package offers keeps to the contract, and its prompts, items and scores are what they should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from langadapt import Answer, Corpus, Item, Message, Rejected
from langadapt.testing import PluginConformance
from langadapt_turkish import corpora, evaluations, items, prompts
from langadapt_turkish.casing import lower

DIALOGUE = (
    Message(role="user", content="Topla.", context="iki ile iki"),
    Message(role="assistant", content="Dört."),
    Message(role="user", content="Emin misin?"),
    Message(role="assistant", content="Eminim."),
)


class TestTurkish(PluginConformance):
    """Every check of langadapt, each of every record."""

    plugin = "langadapt_turkish"


# --- samples ----------------------------------------------------------------------------------------------------------


def rows_of(corpus: Corpus) -> list[dict[str, str]]:
    assert corpus.sample is not None
    return [json.loads(line) for line in corpus.sample.read_text(encoding="utf-8").splitlines()]


def test_there_is_enough_to_rehearse_with() -> None:
    assert len(rows_of(corpora.FINEWEB2)) + len(rows_of(corpora.WIKIPEDIA)) >= 60
    assert len(rows_of(corpora.INSTRUCTIONS)) + len(rows_of(corpora.DIALOGUES)) >= 40


@pytest.mark.parametrize("corpus", corpora.CORPORA, ids=lambda c: c.name)
def test_samples_have_no_letter_or_apostrophe_that_only_looks_like_one(corpus: Corpus) -> None:
    assert corpus.sample is not None
    assert not {*"\N{COMBINING DOT ABOVE}șȘțŢţýðþ´`"} & {*corpus.sample.read_text(encoding="utf-8")}


# --- prompts ----------------------------------------------------------------------------------------------------------


def text_of(name: str, *messages: Message) -> str:
    prompt = next(p for p in prompts.FORMATS if p.name == name)
    return "".join(s.text or f"<{s.special}>" for s in prompt.render(messages, prompt.system_prompt))


def test_an_instruction_is_framed_in_turkish() -> None:
    assert text_of("talimat-tr", *DIALOGUE) == (
        f"<bos>{prompts.WITH_TEXT}\n\n### Yönerge:\nTopla.\n\n### Metin:\niki ile iki\n\n### Yanıt:\nDört.<eos>"
        "\n\n### Yönerge:\nEmin misin?\n\n### Yanıt:\nEminim.<eos>"
    )


def test_a_system_message_of_the_data_comes_first() -> None:
    system = Message(role="system", content="Şiirle yanıt ver.")
    assert text_of("sohbet-tr", system, *DIALOGUE[2:3]) == (
        "<bos>Şiirle yanıt ver.\n\n### Kullanıcı:\nEmin misin?\n\n### Yardımcı:\n"
    )
    assert text_of("sohbet-tr", *DIALOGUE[2:3]).startswith(f"<bos>{prompts.SYSTEM}\n\n### Kullanıcı:")


# --- items ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"lemma": "ev"}', '{"lemma": "ev", "features": 1, "form": "eve"}'])
@pytest.mark.parametrize("rows", [items.inflection, items.grammar, items.parallel])
def test_broken_rows_are_counted_and_stop_nothing(rows: items.Items, line: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    good = {"lemma": "ev", "features": "çoğul", "form": "evler", "good": "a", "bad": "b", "en": "c", "tr": "d"}
    file.write_text(f"{line}\n{json.dumps(good)}\n", encoding="utf-8")
    broken, whole = rows(file)
    assert isinstance(broken, Rejected) and isinstance(whole, Item) and whole.id == "rows.jsonl:2"


def test_minimal_pairs_differ_and_cover_the_grammar() -> None:
    rows = rows_of(corpora.GRAMMAR)
    assert len(rows) == 64 and all(row["good"] != row["bad"] for row in rows)
    assert len({row["phenomenon"] for row in rows}) >= 12


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "prediction"),
    [
        ("kitaba", "kitaba"),
        ("“KİTABA” olur.", "KİTABA"),
        ("Iğdır’ın", "Iğdır'ın"),
        ("Geliyor musun?", "Geliyor musun"),
        ("GÖRDÜN MÜ", "GÖRDÜN MÜ"),
        ("hasta mısınız siz", "hasta mısınız"),
        ("evde misafir var", "evde"),
        ("123 !", None),
        ("", None),
    ],
)
def test_the_first_word_is_the_answer_with_its_question_particle(text: str, prediction: str | None) -> None:
    assert evaluations.decode(text) == prediction


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("", "", 0), ("", "ev", 2), ("kitapa", "kitaba", 1), ("gelmek", "gelir", 3), ("kitten", "sitting", 3)],
)
def test_edit_distance(one: str, other: str, edits: int) -> None:
    assert evaluations.distance(one, other) == evaluations.distance(other, one) == edits


@pytest.mark.parametrize(
    ("gold", "prediction", "score"),
    [
        ("ılık", "ILIK", {"accuracy": 1.0, "edit_distance": 0.0}),
        ("ılık", "İLIK", {"accuracy": 0.0, "edit_distance": 1.0}),
        ("İstanbul'da", "istanbul'da", {"accuracy": 1.0, "edit_distance": 0.0}),
        ("kitaba", None, {"accuracy": 0.0, "edit_distance": 6.0}),
    ],
)
def test_forms_are_compared_in_turkish_lower_case(gold: str, prediction: str | None, score: dict[str, float]) -> None:
    answer = Answer(item=Item(id="1", messages=(), gold=gold), text="", prediction=prediction)
    assert evaluations.score([answer]) == score


def test_the_english_words_are_no_turkish_ones() -> None:
    rows = [*rows_of(corpora.FINEWEB2), *rows_of(corpora.WIKIPEDIA), *rows_of(corpora.C4)]
    seen = {word for row in rows for word in lower(row["text"]).replace(",", " ").replace(".", " ").split()}
    assert not {*evaluations.ENGLISH_WORDS} & seen
