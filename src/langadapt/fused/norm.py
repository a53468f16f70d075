"""Llama's norm, which keeps its input and one number a token for the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from langadapt.fused.elementwise import normed, normed_back


class _RmsNorm(torch.autograd.Function):
    """weight * x / sqrt(mean(x²) + eps), the quotient in fp32 (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, eps: float) -> Tensor:
        out, factor = normed(states, weight, eps)
        ctx.save_for_backward(states, factor, weight)
        return out

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        states, factor, weight = ctx.saved_tensors
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (outers[0].float() * states.float() * factor).flatten(0, -2).sum(0).to(weight.dtype)
        return normed_back(states, factor, weight, outers[0]), grad_weight, None


def norm_forward(self: Any, states: Tensor) -> Tensor:
    """The forward method of a norm."""
    out: Tensor = _RmsNorm.apply(states, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]
    return out
