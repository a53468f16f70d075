"""`subtoken-mean` and `position-weighted`: a new token starts from the old pieces that its bytes are cut into."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langadapt.recipe import Table
from langadapt.records import EmbeddingInit, EmbeddingTask

if TYPE_CHECKING:
    from langadapt.embeddings.matrices import Rows, Weights

STEEPNESS = 2.0  # AdaptiVocab's: each piece weighs e² times the one beside it


def subtoken_mean(task: EmbeddingTask) -> Rows:
    """The mean of the rows of the pieces, in either matrix."""
    from langadapt.embeddings.matrices import for_both, mean_of, weighted

    return for_both(task.model, lambda matrix: weighted(task, matrix, map(mean_of, task.pieces)))


def position_weighted(task: EmbeddingTask) -> Rows:
    """Of k pieces, the i-th weighs e^(2i) / Σ e^(2j) in the input matrix and e^(-2i) / Σ e^(-2j) in the output matrix.

    A model that has read a word stands on its last piece, and one that is about to write it chooses its first. Where one
    matrix serves for both, its rows are those of the input.
    """
    from langadapt.embeddings.matrices import input_matrix, output_matrix, weighted

    output = output_matrix(task.model)
    towards_last = weighted(task, input_matrix(task.model), (_geometric(ids, STEEPNESS) for ids in task.pieces))
    if output is None:
        return towards_last, None
    return towards_last, weighted(task, output, (_geometric(ids, -STEEPNESS) for ids in task.pieces))


def _geometric(pieces: Sequence[int], steepness: float) -> Weights:
    """Weights in proportion to e^(steepness · place), in sum 1."""
    heaviest = len(pieces) - 1 if steepness > 0 else 0  # taken off the exponents, or they overflow
    factors = [math.exp(steepness * (place - heaviest)) for place in range(len(pieces))]
    weights: dict[int, float] = defaultdict(float)
    for piece, factor in zip(pieces, factors, strict=True):
        weights[piece] += factor / sum(factors)
    return weights


INITS = (
    EmbeddingInit(
        name="subtoken-mean",
        description="The mean of the rows of the old tokens that a new one's bytes are cut into.",
        options=Table,
        initialise=subtoken_mean,
        source="Gee et al. 2022, Fast Vocabulary Transfer, arXiv 2402.09977",
    ),
    EmbeddingInit(
        name="position-weighted",
        description="As subtoken-mean, but the last old token weighs most in the input matrix, the first in the output.",
        options=Table,
        initialise=position_weighted,
        source="Nakash et al. 2025, AdaptiVocab, arXiv 2503.19693",
    ),
)
