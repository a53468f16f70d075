"""Loss on answers only: the tokens that are learnt spell the answers and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt.loading import load_tokenizer
from langadapt.plugins import registry
from langadapt.prompts.rendering import encode
from langadapt.records import Message
from langadapt.testing import tiny_model

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(
    str.strip
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    return load_tokenizer(tiny_model(tmp_path_factory.mktemp("model")))


def dialogue(*turns: str, context: str = "") -> list[Message]:
    return [
        Message(role="user" if i % 2 == 0 else "assistant", content=t, context=context if i == 0 else "")
        for i, t in enumerate(turns)
    ]


@pytest.mark.parametrize("name", sorted(registry().prompts))
@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(WORDS, min_size=2, max_size=6).filter(lambda t: len(t) % 2 == 0),
    context=st.one_of(st.just(""), WORDS),
)
def test_learnt_tokens_spell_the_answers(tokenizer, name: str, turns: list[str], context: str) -> None:
    sequence = encode(registry().prompts[name], dialogue(*turns, context=context), tokenizer)
    learnt = [i for i, learn in zip(sequence.ids, sequence.learn, strict=True) if learn]
    spelled = re.sub(r"<\|(im_end|eot_id)\|>", "", tokenizer.decode(learnt, skip_special_tokens=True))
    # A token that holds the end of the frame and the start of an answer is learnt whole, so blanks may be added.
    assert "".join(spelled.split()) == "".join("".join(turns[1::2]).split())


@pytest.mark.parametrize("name", sorted(registry().prompts))
def test_the_question_of_a_dialogue_is_how_its_training_example_begins(tokenizer, name: str) -> None:
    """What a model is asked with must be, token by token, what it was trained to continue."""
    format = registry().prompts[name]
    whole = encode(format, dialogue("Che ore sono?", "Le tre.", "E a Tokyo?", "Le undici."), tokenizer)
    asked = encode(format, dialogue("Che ore sono?", "Le tre.", "E a Tokyo?"), tokenizer)
    assert list(whole.ids[: len(asked.ids)]) == list(asked.ids)


def test_answers_of_the_italian_formats_end_with_a_learnt_end_token(tokenizer) -> None:
    for name in ("alpaca-it", "llamantino-chat"):
        sequence = encode(registry().prompts[name], dialogue("Ciao", "Salve", "Come va?", "Bene"), tokenizer)
        ends = [learn for i, learn in zip(sequence.ids, sequence.learn, strict=True) if i == tokenizer.eos_token_id]
        assert ends == [True, True]
        assert sequence.ids[0] == tokenizer.bos_token_id and not sequence.learn[0]


def test_llamantino_chat_is_framed_as_the_model_cards_have_it(tokenizer) -> None:
    sequence = encode(
        registry().prompts["llamantino-chat"], dialogue("Prima", "Uno", "Poi", "Due"), tokenizer, "Sistema"
    )
    text = tokenizer.decode(sequence.ids)
    assert text == ("<s> [INST]<<SYS>>\nSistema\n<</SYS>>\n\nPrima[/INST] Uno </s><s> [INST]Poi[/INST] Due </s>")


def test_llama3_it_is_framed_as_llama_3_has_it(tokenizer) -> None:
    format = registry().prompts["llama3-it"]
    sequence = encode(format, dialogue("Prima", "Uno", "Poi", "Due"), tokenizer, "Sistema")
    head = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>".format
    turns = [("system", "Sistema"), ("user", "Prima"), ("assistant", "Uno"), ("user", "Poi"), ("assistant", "Due")]
    assert tokenizer.decode(sequence.ids) == "<s>" + "".join(head(*turn) for turn in turns)
    learnt = [i for i, learn in zip(sequence.ids, sequence.learn, strict=True) if learn]
    assert tokenizer.decode(learnt) == "Uno<|eot_id|>Due<|eot_id|>"


def test_llama3_its_marks_are_single_tokens_where_the_tokenizer_has_them(tmp_path: Path) -> None:
    """As Llama 3's tokenizer has them; and the answer's end is one learnt token."""
    known = load_tokenizer(tiny_model(tmp_path / "model"))
    marks = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    known.add_special_tokens({"additional_special_tokens": marks})
    start, end, turn = known.convert_tokens_to_ids(marks)
    sequence = encode(registry().prompts["llama3-it"], dialogue("Ciao", "Salve"), known, "Sistema")
    ids = list(sequence.ids)
    assert [ids.count(i) for i in (start, end, turn)] == [3, 3, 3] and ids.count(known.bos_token_id) == 1
    assert ids[-1] == turn and sequence.learn[-1]
    assert [i for i, learn in zip(ids, sequence.learn, strict=True) if learn][-1] == turn


def test_alpaca_it_has_one_form_with_input_and_one_without(tokenizer) -> None:
    format = registry().prompts["alpaca-it"]
    with_input = tokenizer.decode(
        encode(format, dialogue("Riassumi.", "Breve.", context="Un testo lungo."), tokenizer).ids
    )
    without = tokenizer.decode(encode(format, dialogue("Saluta.", "Ciao."), tokenizer).ids)
    assert "### Istruzione:\nRiassumi.\n\n### Input:\nUn testo lungo.\n\n### Risposta:\nBreve.</s>" in with_input
    assert "### Input:" not in without and without.endswith("### Istruzione:\nSaluta.\n\n### Risposta:\nCiao.</s>")


def test_one_beginning_of_sequence_only(tokenizer) -> None:
    sequence = encode(registry().prompts["alpaca-it"], dialogue("a", "b"), tokenizer)
    assert list(sequence.ids).count(tokenizer.bos_token_id) == 1


def test_packed_files_keep_the_path(tmp_path: Path, tokenizer) -> None:
    """Masks survive packing: the labels of a row spell the answers too."""
    from langadapt.corpus.packing import Writer, fit

    sequence = encode(registry().prompts["alpaca-it"], dialogue("Chi sei?", "Una prova.", "Davvero?", "Sì."), tokenizer)
    writer = Writer(tmp_path, 512, pad=tokenizer.pad_token_id)
    fit([sequence, sequence], writer)
    row = writer.close()[0]
    labels = [int(i) for i in row["labels"] if i != -100]
    assert tokenizer.decode(labels) == "Una prova.</s>Sì.</s>" * 2
