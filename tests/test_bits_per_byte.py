"""Bits per byte against a reference that scores token by token in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from langadapt.evaluation.bits_per_byte import Scored, reversible, score_answers, score_ids, score_text, windows
from langadapt.evaluation.methods.text import METHOD, columns, kept
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


LONGEST, LENGTH = 70, 16


@pytest.fixture(scope="module")
def sequence() -> list[int]:
    """BOS and so many tokens."""
    generator = torch.Generator().manual_seed(1)
    return [0, *torch.randint(3, 300, (LONGEST,), generator=generator).tolist()]


@pytest.fixture(scope="module")
def exact_loss(folder: Path, sequence: list[int]) -> Callable[[int, int], float]:
    """-log p in double precision of token number `target` where the model sees what begins at token `first`."""
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()

    @cache
    def loss(first: int, target: int) -> float:
        with torch.no_grad():
            logits = exact(torch.tensor([sequence[first:target]])).logits[0, -1]
        return -logits.log_softmax(-1)[sequence[target]].item()

    return loss


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_texts_of_every_length_need_the_bits_of_a_token_by_token_reference(
    model, sequence: list[int], exact_loss: Callable[[int, int], float], stride: int
) -> None:
    for tokens in range(1, LONGEST + 1):
        expected = 0.0
        for target in range(1, tokens + 1):
            slides = max(0, math.ceil((target - LENGTH) / stride))  # of the window, until it holds the target
            end = min(LENGTH + slides * stride, tokens)
            expected += exact_loss(max(0, end - LENGTH), target)
        found = score_ids(model, sequence[1 : tokens + 1], 0, length=LENGTH, stride=stride)
        assert len(found) == tokens
        bits_per_token = abs(math.fsum(found) - expected) / math.log(2) / tokens
        assert bits_per_token < 1e-6, tokens  # and a token has one byte or more


def test_a_document_scores_the_same_whatever_was_scored_before(model, sequence: list[int]) -> None:
    alone = score_ids(model, sequence[1:40], 0, length=LENGTH, stride=4)
    score_ids(model, sequence[1:], 0, length=LENGTH, stride=16)
    assert score_ids(model, sequence[1:40], 0, length=LENGTH, stride=4) == alone


def test_two_documents_need_the_bits_of_both_over_the_bytes_of_both(folder: Path, model) -> None:
    tokenizer = load_tokenizer(folder)
    texts = ["Il porto si sveglia.", "La barca torna piena di pesce, e nessuno sa perché. " * 4]
    parts = [score_text(model, tokenizer, text, length=16, stride=8) for text in texts]
    (found,) = METHOD.figures.values([kept(str(n), part) for n, part in enumerate(parts)], "text").values()
    whole = sum(p.nll for p in parts) / math.log(2) / sum(len(t.encode()) for t in texts)
    mean = sum(p.nll / math.log(2) / p.bytes for p in parts) / 2
    assert found == pytest.approx(whole, rel=1e-12) and found != pytest.approx(mean, rel=1e-4)
    assert [p.tokens for p in parts] == [len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]


def test_a_model_in_training_mode_is_not_scored(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder).train()
    with pytest.raises(AssertionError, match="dropout"):
        score_ids(model, [5, 6, 7], 0)


def test_bits_per_byte_are_those_of_lm_evaluation_harness_in_the_same_windows(folder: Path, model) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install 'langadapt[lm-eval]'")
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import bits_per_byte
    from lm_eval.models.huggingface import HFLM

    tokenizer = load_tokenizer(folder)
    texts = ["Perché l'acqua bolle? " * n for n in (1, 5, 23)]
    assert len(tokenizer(texts[-1])["input_ids"]) > 3 * 32
    theirs = HFLM(
        pretrained=model, tokenizer=tokenizer, backend="causal", max_length=32, batch_size=3, logits_cache=False
    )
    asked = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(t,), idx=0) for t in texts]
    sums = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    scored = [score_text(model, tokenizer, text, length=32, stride=32) for text in texts]
    for text, total, ours in zip(texts, sums, scored, strict=True):
        found = ours.nll / math.log(2) / ours.bytes
        assert found == pytest.approx(bits_per_byte([(total, len(text.encode()))]), abs=1e-4)


# --- tokenizers that lose text ----------------------------------------------------------------------------------------

WORDS = {"<unk>": 0, "il": 1, "Il": 2, "porto": 3, "dorme": 4}


def lossy(normalizer: normalizers.Normalizer | None = None) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if normalizer:
        made.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<unk>")


@pytest.mark.parametrize(
    ("text", "normalizer"),
    [
        ("il porto canta", None),  # an unknown word
        ("Il porto dorme", normalizers.Lowercase()),
        ("il  porto dorme", None),  # two blanks
        ("il porto dorme\n\n", normalizers.Strip()),  # lines at the end: bytes as any
    ],
)
def test_a_tokenizer_that_loses_text_is_found_out(text: str, normalizer: normalizers.Normalizer | None) -> None:
    assert not reversible(lossy(normalizer), text)
    assert reversible(lossy(normalizer), "il porto dorme")


def test_a_tokenizer_of_bytes_gives_every_text_back(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert all(reversible(tokenizer, text) for text in (" inizio", "fine \n", "a  b", "🙂\u00a0è", "\t"))


def test_the_row_says_in_which_windows_it_was_measured() -> None:
    found = columns([kept("1", Scored(nll=2.0, bytes=3, tokens=1))])
    assert found == {"bytes": 3, "tokens": 1, "window": 1024, "stride": 512}


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
