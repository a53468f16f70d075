"""Bits per byte: how many bits a model needs for each byte of UTF-8 text; the one measure that tokenizers cannot tilt.

Windows of L inputs slide by S tokens; every token is scored exactly once, the first one after BOS, and the last, partial
window keeps full left context. BPB = sum of negative log-likelihoods / (ln 2 · bytes), over totals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from langadapt.loss import can_fuse, head_of, token_losses
from langadapt.models import WINDOW

LENGTH, STRIDE = WINDOW, 512


@dataclass(frozen=True)
class Scored:
    """Negative log-likelihood in nats, bytes and tokens of one document or of one dialogue's answers."""

    nll: float
    bytes: int
    tokens: int


def windows(tokens: int, length: int = LENGTH, stride: int = STRIDE) -> Iterator[tuple[int, int, int]]:
    """(first input, first scored, end) of each window over tokens x_1…x_n with BOS as x_0.

    Window k reads inputs x_first … x_{end-1} and scores x_{scored} … x_end; the scored spans partition 1…n.
    """
    end = 0
    while end < tokens:
        scored = end + 1
        end = min(end + (length if end == 0 else stride), tokens)
        yield max(0, end - length), scored, end


@torch.no_grad()
def score_ids(model: Any, ids: list[int], start: int, *, length: int = LENGTH, stride: int = STRIDE) -> list[float]:
    """-log p of every token of `ids` in nats, given `start` (the BOS id) and what comes before it.

    Args:
        model: a causal language model in evaluation mode.
        ids: a document's tokens without special ones.
        start: x_0.
        length: inputs of one forward pass at most.
        stride: new tokens in each window after the first, at most `length`.
    """
    assert not model.training, "dropout would make the figures random"
    sequence = torch.tensor([start, *ids], device=model.device)
    losses: list[float] = []
    for first, scored, end in windows(len(ids), length, stride):
        inputs, targets = sequence[first:end][None], sequence[scored : end + 1]
        losses += _target_losses(model, inputs, targets).double().tolist()
    return losses


def _target_losses(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Losses of the last `len(targets)` positions."""
    if can_fuse(model):
        states = model.get_decoder()(input_ids=inputs, use_cache=False).last_hidden_state[0, -len(targets) :]
        return token_losses(states, head_of(model).matrix, targets)
    logits = model(input_ids=inputs, use_cache=False).logits[0, -len(targets) :].float()
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def score_text(model: Any, tokenizer: Any, text: str, *, length: int = LENGTH, stride: int = STRIDE) -> Scored:
    """Score running text."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    nll = math.fsum(score_ids(model, ids, start_of(tokenizer), length=length, stride=stride))
    return Scored(nll, len(text.encode("utf-8")), len(ids))


def score_answers(model: Any, sequence: Any, answers: str, *, length: int = LENGTH, stride: int = STRIDE) -> Scored:
    """Score the learnt tokens of an encoded dialogue; the rest is context.

    Args:
        model: as above.
        sequence: a `Sequence_` of ids and `learn` marks, its first token is the context of the second.
        answers: the answers' text, for the bytes.
    """
    first, *rest = sequence.ids.tolist()
    losses = score_ids(model, rest, first, length=length, stride=stride)
    counted = [loss for loss, learnt in zip(losses, sequence.learn[1:], strict=True) if learnt]
    return Scored(math.fsum(counted), len(answers.encode("utf-8")), len(counted))


def reversible(tokenizer: Any, text: str) -> bool:
    """Whether the tokens give the text back; where they do not, bytes would be counted that were never scored.

    A blank that some decoders put before the first word is no loss.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False) in (text, f" {text}")


def start_of(tokenizer: Any) -> int:
    """The token before a text's first: BOS, or EOS where a tokenizer has none."""
    return int(tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id)
