"""Arithmetic element by element: on a GPU each function is one kernel, elsewhere it is as it stands here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

Function = TypeVar("Function", bound=Callable[..., Any])


def _one_kernel(function: Function) -> Function:
    """Compiles a function for a GPU, where every pass over memory costs; a processor's cache holds what passes through,
    and compiling for it takes longer than it saves. Without what compiling needs (a C compiler) it is left as it is.
    """
    compiled: Callable[..., Any] | None = None
    works = True

    @wraps(function)
    def call(*args: Any) -> Any:
        nonlocal compiled, works
        if works and _on_gpu(args[0]):
            compiled = compiled or torch.compile(function, dynamic=True)
            # By autograd's functions, which take gradients themselves: what differs in nothing else is compiled once.
            bare = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
            try:
                return compiled(*bare)
            except Exception as error:  # whatever it is, the function itself still works
                works = False
                logging.getLogger(__name__).warning(
                    "%s is not compiled, so training is slower (%s); torch.compile needs a C compiler",
                    function.__name__,
                    str(error).splitlines()[0],
                )
        return function(*args)

    return call  # type: ignore[return-value]


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


@_one_kernel
def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    return functional.silu(gate).mul_(up)


@_one_kernel
def gated_again(gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """silu(gate), and the same times `up`: what `gated` gave."""
    active = functional.silu(gate)
    return active, active * up


@_one_kernel
def gated_back(gate: Tensor, up: Tensor, active: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `gate` and `up` for the gradient `outer` of what `gated` gave; `active` is silu(gate)."""
    return torch.ops.aten.silu_backward(outer * up, gate), active * outer


@_one_kernel
def normed(states: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """weight * x / sqrt(mean(x²) + eps), with the quotient in fp32, and one over that root, (…, 1)."""
    x = states.float()
    factor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square().div_(x.shape[-1]).add_(eps).rsqrt_()
    return weight * (x * factor).to(states.dtype), factor


@_one_kernel
def normed_back(states: Tensor, factor: Tensor, weight: Tensor, outer: Tensor) -> Tensor:
    """The gradient of `states` for the gradient `outer` of what `normed` gave."""
    x = states.float()
    inner = outer.float() * weight.float()
    pull = (inner * x).sum(-1, keepdim=True) * factor**3 / -x.shape[-1]
    return inner.mul_(factor).addcmul_(x, pull).to(states.dtype)


@_one_kernel
def turned(x: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    """x turned by the angles, or back by them, in the halves of its last dimension (RoFormer, arXiv 2104.09864)."""
    half, sign = x.shape[-1] // 2, -1 if back else 1
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-sign)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sign)
    return out


@_one_kernel
def dropped(x: Tensor, kept: Tensor, scale: float) -> Tensor:
    """x * scale where `kept` is true, else 0."""
    return x * kept * scale
