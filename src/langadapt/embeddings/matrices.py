"""The old matrices, and rows that are weighted sums of old ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from langadapt.records import EmbeddingTask

Weights = Mapping[int, float]  # by old id, what its row weighs in a sum
Rows = tuple[Tensor, Tensor | None]


def input_matrix(model: Any) -> Tensor:
    """(rows, hidden_size)."""
    weight: Tensor = model.get_input_embeddings().weight
    return weight.detach()


def output_matrix(model: Any) -> Tensor | None:
    """(rows, hidden_size); None where the input matrix serves for the output too."""
    weight: Tensor = model.get_output_embeddings().weight
    return None if weight is model.get_input_embeddings().weight else weight.detach()


def for_both(model: Any, rows: Callable[[Tensor], Tensor]) -> Rows:
    """Rows made from each of the old matrices in the same way."""
    output = output_matrix(model)
    return rows(input_matrix(model)), None if output is None else rows(output)


def mean_row(task: EmbeddingTask, matrix: Tensor) -> Tensor:
    """The mean over all old tokens, (hidden_size,) in fp32. Rows beyond the tokenizer's are padding and do not count."""
    tokens = 1 + max(task.old.get_vocab(with_added_tokens=True).values())
    return matrix[:tokens].float().mean(0)


def mean_of(pieces: Sequence[int]) -> Weights:
    """What makes a weighted sum the mean of the pieces; one that comes twice weighs twice."""
    return {piece: times / len(pieces) for piece, times in Counter(pieces).items()}


def weighted(task: EmbeddingTask, matrix: Tensor, weights: Iterable[Weights]) -> Tensor:
    """Weighted sums of old rows, (new tokens, hidden_size) in fp32; the mean of all rows in place of one that is zero.

    A row follows from its own weights alone, bit for bit, whatever rows are made with it.

    Args:
        task: whose log and tokenizer are used.
        matrix: the old one.
        weights: for each new token, in the order of `task.ids`.
    """
    sums = [sorted(one.items()) for one in weights]
    used, places = np.unique([id for one in sums for id, _ in one], return_inverse=True)
    starts = torch.tensor([0, *(len(one) for one in sums)]).cumsum(0)[:-1]
    factors = torch.tensor([weight for one in sums for _, weight in one])
    device = matrix.device
    rows = functional.embedding_bag(
        torch.from_numpy(places).to(device),
        matrix[torch.from_numpy(used).to(device)].float(),
        starts.to(device),
        mode="sum",
        per_sample_weights=factors.to(device),
    )
    empty = rows.abs().amax(1) == 0
    if empty.any():  # of old tokens that were never trained
        task.say(f"{int(empty.sum())} new tokens would have had rows of zeros; they get the mean of all rows")
        rows[empty] = mean_row(task, matrix)
    return rows
