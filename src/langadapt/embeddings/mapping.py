"""Maps from one model's space of embeddings into another's, fitted to the tokens that both have."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


def fitted(kind: str, theirs: Tensor, ours: Tensor) -> Map:
    """The map of a kind that takes rows nearest to their counterparts, in the sense of least squares.

    Args:
        kind: `affine`, any linear map and a shift; `orthogonal`, a rotation or reflection, one scale and a shift
            (Schönemann 1966). Between spaces of unequal dimensions the latter drops or adds directions.
        theirs: (shared tokens, their dimensions).
        ours: (shared tokens, our dimensions), the counterparts.
    """
    theirs, ours = theirs.double(), ours.double()
    from_mean, to_mean = theirs.mean(0), ours.mean(0)
    matrix = _LINEAR[kind](theirs - from_mean, ours - to_mean)
    return lambda rows: ((rows.double() - from_mean) @ matrix + to_mean).float()


def _least_squares(theirs: Tensor, ours: Tensor) -> Tensor:
    # By singular values: of rows that depend on each other, the smallest solution.
    solution: Tensor = torch.linalg.lstsq(theirs, ours, driver="gelsd").solution
    return solution


def _procrustes(theirs: Tensor, ours: Tensor) -> Tensor:
    left, values, right = torch.linalg.svd(theirs.T @ ours, full_matrices=False)
    turn = left @ right
    scaled: Tensor = turn * (values.sum() / (theirs @ turn).square().sum())
    return scaled


_LINEAR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"affine": _least_squares, "orthogonal": _procrustes}
