"""What the package offers: samples that are read whole, prompts, items, and scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langadapt_turkish import corpora, evaluations, items, prompts

from langadapt import Answer, Corpus, Document, Item, Message, Rejected, Segment
from langadapt.corpus.reading import read_documents
from langadapt.plugins import registry

DIALOGUE = (
    Message(role="user", content="Topla.", context="iki ile iki"),
    Message(role="assistant", content="Dört."),
    Message(role="user", content="Emin misin?"),
    Message(role="assistant", content="Eminim."),
)


def test_langadapt_finds_all_of_it() -> None:
    known = registry()
    assert known.languages["tr"].autonym == "Türkçe"
    assert {c.name for c in corpora.CORPORA} <= {*known.corpora}
    assert {e.name for e in evaluations.EVALUATIONS} <= {*known.evaluations}
    assert "turkish-letters" in known.filters and "turkish/adapt" in known.recipes
    assert known.languages["tr"].replay in known.corpora and known.languages["tr"].prompts["sft"] in known.prompts


# --- samples ----------------------------------------------------------------------------------------------------------


def documents(corpus: Corpus) -> list[Document | Rejected]:
    assert corpus.sample is not None
    return list(corpus.read(corpus.sample) if corpus.read else read_documents(str(corpus.sample), layout=corpus.layout))


@pytest.mark.parametrize("corpus", corpora.CORPORA, ids=lambda c: c.name)
def test_every_sample_is_read_whole_and_says_nothing_twice(corpus: Corpus) -> None:
    found = documents(corpus)
    assert corpus.sample is not None and corpus.sample_licence == "CC0-1.0"
    assert len(found) == len(corpus.sample.read_text(encoding="utf-8").splitlines()) >= 8
    contents = [d.content for d in found if isinstance(d, Document)]
    assert len({*contents}) == len(found)


def test_there_is_enough_to_rehearse_with() -> None:
    prose = [*documents(corpora.FINEWEB2), *documents(corpora.WIKIPEDIA)]
    assert len(prose) >= 60
    assert len(documents(corpora.INSTRUCTIONS)) + len(documents(corpora.DIALOGUES)) >= 40


@pytest.mark.parametrize("corpus", [c for c in corpora.CORPORA if c.language == "tr"], ids=lambda c: c.name)
def test_apostrophes_and_letters_of_samples_are_turkish(corpus: Corpus) -> None:
    """The mistakes that a keyboard makes: another i with a dot, a comma below, an apostrophe that is none."""
    for document in documents(corpus):
        assert isinstance(document, Document)
        assert not {*"i̇șȘțŢţ´`"} & {*document.content} - {"i"}, document.id


# --- prompts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", prompts.FORMATS, ids=lambda p: p.name)
@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("system", ["", "Kısa yaz."])
def test_the_prompt_is_how_the_training_example_begins(prompt, turns: int, system: str) -> None:
    asked = list(prompt.render(DIALOGUE[:turns], system))
    example = list(prompt.render(DIALOGUE[: turns + 1], system))
    assert example[: len(asked)] == asked
    assert example[len(asked) :] == [
        Segment(text=DIALOGUE[turns].content, loss=True),
        Segment(special="eos", loss=True),
    ]


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


# --- evaluations ------------------------------------------------------------------------------------------------------


def read(rows: items.Items, corpus: Corpus) -> list[Item]:
    assert corpus.sample is not None
    found = list(rows(corpus.sample))
    assert all(isinstance(item, Item) for item in found)
    return [item for item in found if isinstance(item, Item)]


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "3", '{"lemma": "ev"}', '{"lemma": "ev", "features": 1, "form": "eve"}']
)
@pytest.mark.parametrize("rows", [items.inflection, items.grammar, items.parallel])
def test_broken_rows_are_counted_and_stop_nothing(rows: items.Items, line: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    good = {"lemma": "ev", "features": "çoğul", "form": "evler", "good": "a", "bad": "b", "en": "c", "tr": "d"}
    file.write_text(f"{line}\n{json.dumps(good)}\n", encoding="utf-8")
    broken, whole = rows(file)
    assert isinstance(broken, Rejected) and isinstance(whole, Item) and whole.id == "rows.jsonl:2"


def test_every_form_that_is_asked_for_is_understood_as_it_is_written() -> None:
    found = read(items.inflection, corpora.INFLECTION)
    right = [Answer(item=i, text=f" {i.gold}.\n", prediction=evaluations.decode(f" {i.gold}.\n")) for i in found]
    assert evaluations.score(right) == {"accuracy": 1.0, "edit_distance": 0.0}
    assert all(i.messages[0].context for i in found)


@pytest.mark.parametrize(
    ("text", "prediction"),
    [
        ("kitaba", "kitaba"), ("“KİTABA”", "kitaba"), ("ISPARTA'YA", "ısparta'ya"), ("Geliyor musun?", "geliyor musun"),
        ("evde misafir var", "evde"), ("Iğdır’ın", "ığdır'ın"), ("gördün mü", "gördün mü"), ("123 !", None), ("", None),
    ],
)  # fmt: skip
def test_any_text_is_decoded_or_refused(text: str, prediction: str | None) -> None:
    assert evaluations.decode(text) == prediction


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("", "", 0), ("", "ev", 2), ("kitapa", "kitaba", 1), ("gelmek", "gelir", 3), ("kitten", "sitting", 3)],
)
def test_edit_distance(one: str, other: str, edits: int) -> None:
    assert evaluations.distance(one, other) == evaluations.distance(other, one) == edits


def test_an_answer_without_a_word_is_as_far_away_as_the_form_is_long() -> None:
    item = Item(id="1", messages=(), gold="kitaba")
    said = [Answer(item=item, text="?", prediction=None), Answer(item=item, text="kitapa", prediction="kitapa")]
    assert evaluations.score(said) == {"accuracy": 0.0, "edit_distance": 3.5}


def test_minimal_pairs_differ_and_cover_the_grammar() -> None:
    found = read(items.grammar, corpora.GRAMMAR)
    assert len(found) == 64 and all(i.gold == 0 and i.choices[0] != i.choices[1] for i in found)
    assert corpora.GRAMMAR.sample is not None
    rows = [json.loads(line) for line in corpora.GRAMMAR.sample.read_text(encoding="utf-8").splitlines()]
    assert len({row["phenomenon"] for row in rows}) >= 12


def test_parallel_items_hold_the_translation_second() -> None:
    assert all(i.gold == 1 and len(i.choices) == 2 for i in read(items.parallel, corpora.PARALLEL))
