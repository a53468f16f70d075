"""Rounding to bfloat16 without losing what was learnt.

A base model's weights lie exactly on the bfloat16 grid. An update smaller than half a step of that grid is lost by
rounding to nearest, for every weight and in the same way, so a merged model falls back towards its base. Stochastic
rounding goes up or down with probabilities that keep the expected value (Gupta et al. 2015, arXiv 1502.02551): single
weights are a little noisier, the update survives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def stochastic_round(values: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """fp32 values in `dtype`, each rounded up or down at random so that the mean is kept.

    A value that `dtype` can hold stays as it is. For dtypes other than bfloat16 this is an ordinary conversion:
    float16's
    grid is eight times finer, and the loss there is small.

    Args:
        values: any shape, fp32.
        dtype: of the result.
        generator: on the CPU; the same state gives the same result on every device.
    """
    if dtype is not torch.bfloat16:
        return values.to(dtype)
    noise = torch.randint(0, 1 << 16, values.shape, generator=generator, dtype=torch.int32).to(values.device)
    # bfloat16 is the upper half of fp32's bits: add noise below the cut, then cut. Infinities and NaN must not
    # overflow.
    rounded = ((values.float().contiguous().view(torch.int32) + noise) & -65536).view(torch.float32)
    return torch.where(values.isfinite(), rounded, values).to(dtype)


def round_model(model: Any, dtype: torch.dtype, *, seed: int = 0) -> Any:
    """All floating-point weights of a model in `dtype`, in place."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype is torch.float32:
            parameter.data = stochastic_round(parameter.data, dtype, generator)
    return model.to(dtype)
