"""Linear layers with DoRA: a low-rank update, and lengths that learn apart from directions (Liu et al. 2024, arXiv
2402.09353).

What the library does with an identity matrix, three outputs side by side and the weights unpacked for each, is done with
one product of the adapter's matrices and one output that is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from langadapt.fused.elementwise import dropped
from langadapt.fused.linears import (
    Side,
    base_back,
    compute_dtype,
    drawn,
    expand_back,
    matrix_of,
    one_adapter,
    reduce_back,
    taken_apart,
)

Forward = Callable[..., Any]


class Scratch:
    """A place for one weight as it is moved, the same for all layers: where a new one was freed each time, the C library
    would put smaller tensors that stay, and no other would fit there.
    """

    def __init__(self) -> None:
        self._place: Tensor | None = None

    def norms(self, weight: Tensor, scale: float, a: Tensor, b: Tensor) -> Tensor:
        """|W + s B A| of each row, in no less than fp32."""
        place = self._place
        if (
            place is None
            or place.numel() < weight.numel()
            or (place.dtype, place.device) != (weight.dtype, weight.device)
        ):
            place = self._place = weight.new_empty(weight.numel())
        moved = place[: weight.numel()].view_as(weight)
        torch.addmm(weight, b, a, alpha=scale, out=moved)
        norms: Tensor = torch.linalg.vector_norm(moved, dim=1, dtype=torch.promote_types(weight.dtype, torch.float32))
        return norms


def has_dora(layer: Any) -> bool:
    """Whether it is a linear layer with one DoRA adapter beside frozen weights in 4, 16 or 32 bits."""
    if not one_adapter(layer):
        return False
    (name,) = layer.active_adapters
    variant = layer.lora_variant.get(name)
    return type(variant).__name__ == "DoraLinearVariant" and name in layer.lora_magnitude_vector


class _Dora(torch.autograd.Function):
    """States, what is fixed of the layer, a place to work in, A, B and the lengths in; the layer's output out.

    With V = W + s B A and its rows' norms |V|, which are constants for the gradient (section 4.3 of the paper), the output
    is (x - d(x)) W' + bias + (m / |V|) d(x) V' for a dropout d, as in the library; without one the first term is none.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, side: Side, scratch: Scratch, a: Tensor, b: Tensor, lengths: Tensor
    ) -> Tensor:
        x = states.reshape(-1, states.shape[-1]).to(compute_dtype(states))
        kept = [drawn(x, side)] if side.dropout else []
        seen = dropped(x, kept[0], 1 / (1 - side.dropout)) if kept else x
        reduced = seen @ a.to(x.dtype).T
        weight = matrix_of(side.base, x.dtype)
        factors = lengths / scratch.norms(weight, side.scale, a.to(x.dtype), b.to(x.dtype)).to(lengths.dtype)
        turned = (seen @ weight.T).addmm_(reduced, b.to(x.dtype).T, alpha=side.scale)
        out = _scaled(turned, factors)
        if kept:
            out.addmm_(seen.neg_().add_(x), weight.T)
        if side.base.bias is not None:
            out += side.base.bias
        ctx.save_for_backward(x, a, b, lengths, reduced, turned, factors, *kept)
        ctx.side, ctx.shape, ctx.dtype = side, states.shape, states.dtype
        return out.view(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        x, a, b, lengths, reduced, turned, factors, *kept = ctx.saved_tensors
        side: Side = ctx.side
        outer = outers[0].reshape(len(x), -1)
        grad_lengths = (outer * turned).sum(0, dtype=lengths.dtype) * (factors / lengths)
        turned_back = _scaled(outer, factors)
        back, grad_b = expand_back(side, reduced, b, turned_back)
        inner: Tensor | None = None
        if ctx.needs_input_grad[0]:
            inner = base_back(side, turned_back - outer if kept else turned_back, None)
            if kept:
                inner = base_back(side, outer, dropped(inner, kept[0], 1 / (1 - side.dropout)))
        (grad_a,) = reduce_back(x, [side], [a], kept, [back], inner)
        inner = None if inner is None else inner.view(ctx.shape).to(ctx.dtype)
        return inner, None, None, grad_a, grad_b, grad_lengths


def _scaled(x: Tensor, factors: Tensor) -> Tensor:
    """Rounded once, to the type of x: a factor in 16 bits would be off by up to 0.4 %, for all that it scales alike."""
    return torch.mul(x, factors, out=torch.empty_like(x))


def dora_forward(own: Forward, scratch: Scratch) -> Forward:
    """The forward method of a linear layer with DoRA; `own` is the one that it has, for when adapters are switched off."""

    def forward(self: Any, states: Tensor) -> Tensor:
        out: Tensor
        if has_dora(self):
            (side,), (a, b) = taken_apart([self])
            (name,) = self.active_adapters
            out = _Dora.apply(states, side, scratch, a, b, self.lora_magnitude_vector[name].weight)  # type: ignore[no-untyped-call]
        else:
            out = own(states)
        return out

    return forward
