"""Bits per byte against a reference that scores token by token in double precision."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from langadapt.evaluation.bits_per_byte import score_answers, score_ids, score_text, windows
from langadapt.loading import load_tokenizer
from langadapt.plugins import registry
from langadapt.prompts.rendering import encode
from langadapt.records import Message
from langadapt.testing import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@given(tokens=st.integers(0, 300), length=st.integers(1, 40), stride=st.integers(1, 40))
def test_windows_score_every_token_once(tokens: int, length: int, stride: int) -> None:
    stride = min(stride, length)
    scored = [t for _, start, end in windows(tokens, length, stride) for t in range(start, end + 1)]
    assert scored == list(range(1, tokens + 1))
    for first, start, end in windows(tokens, length, stride):
        assert end - first <= length and first < start


@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 9, 15, 16, 17, 24, 31])
def test_losses_equal_a_token_by_token_reference_around_the_window_edges(folder: Path, model, tokens: int) -> None:
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    ids = torch.randint(3, 300, (tokens,), generator=torch.Generator().manual_seed(tokens)).tolist()
    length, stride = 8, 4
    sequence = [0, *ids]
    expected = []
    for first, start, end in windows(tokens, length, stride):
        for target in range(start, end + 1):
            with torch.no_grad():
                logits = exact(torch.tensor([sequence[first:target]])).logits[0, -1]
            expected.append(-logits.log_softmax(-1)[sequence[target]].item())
    found = score_ids(model, ids, 0, length=length, stride=stride)
    assert len(found) == tokens
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_stride_does_not_matter_for_a_document_that_fits_one_window(model) -> None:
    ids = list(range(10, 30))
    assert score_ids(model, ids, 0, length=32, stride=1) == score_ids(model, ids, 0, length=32, stride=32)


def test_a_uniform_model_needs_log2_of_its_vocabulary_for_each_token(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    tokenizer = load_tokenizer(folder)
    text = "Perché l'acqua è così? 🙂"
    scored = score_text(model, tokenizer, text)
    bits = scored.nll / math.log(2) / scored.bytes
    assert scored.bytes == len(text.encode()) > len(text)
    assert bits == pytest.approx(math.log2(model.config.vocab_size) * scored.tokens / scored.bytes, rel=1e-6)


def test_only_answers_are_scored_in_a_dialogue_and_the_question_is_their_context(folder: Path, model) -> None:
    tokenizer = load_tokenizer(folder)
    messages = [Message(role="user", content="Che ore sono?"), Message(role="assistant", content="Le tre.")]
    sequence = encode(registry().prompts["alpaca-it"], messages, tokenizer)
    scored = score_answers(model, sequence, "Le tre.")
    losses = score_ids(model, sequence.ids[1:].tolist(), int(sequence.ids[0]))
    answer = len(tokenizer("Le tre.", add_special_tokens=False)["input_ids"]) + 1  # and the end
    assert scored.tokens == answer
    assert scored.nll == pytest.approx(sum(losses[-answer:]), rel=1e-6)
