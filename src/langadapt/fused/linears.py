"""Linear layers with LoRA beside frozen weights, alone, several of the same input together, and as a gated MLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from langadapt.fused.elementwise import dropped, gated, gated_again, gated_back

Forward = Callable[..., Any]


def fits(layer: Any) -> bool:
    """Whether it is a linear layer with one plain LoRA adapter beside frozen weights in 4, 16 or 32 bits."""
    return one_adapter(layer) and not layer.lora_variant


def one_adapter(layer: Any) -> bool:
    """Whether it is a linear layer with one LoRA adapter, plain or a variant, beside such weights."""
    if not hasattr(layer, "lora_A") or layer.merged or layer.disable_adapters:
        return False
    if len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    base = layer.base_layer
    return (
        name in layer.lora_A
        and type(base).__name__ in ("Linear", "Linear4bit")
        and not any(parameter.requires_grad for parameter in base.parameters())
        and isinstance(layer.lora_dropout[name], (nn.Identity, nn.Dropout))
        and not layer.lora_bias[name]
    )


@dataclass(frozen=True, kw_only=True)
class Side:
    """What a layer computes with beside its matrices A and B.

    Attributes:
        base: the frozen layer.
        scale: factor on the update.
        dropout: share of the update's input that is dropped.
    """

    base: Any
    scale: float
    dropout: float


def taken_apart(layers: Sequence[Any]) -> tuple[list[Side], list[Tensor]]:
    """What is fixed of each layer, and A, B of each."""
    (name,) = layers[0].active_adapters
    sides = [
        Side(
            base=layer.base_layer,
            scale=layer.scaling[name],
            dropout=_share(layer.lora_dropout[name]),
        )
        for layer in layers
    ]
    return sides, [m[name].weight for layer in layers for m in (layer.lora_A, layer.lora_B)]


def _share(dropout: nn.Module) -> float:
    return dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0


def matrix_of(base: Any, dtype: torch.dtype) -> Tensor:
    """The weight of a frozen layer, (outputs, inputs), unpacked where it is in 4 bits."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        weight: Tensor = base.weight.to(dtype)
        return weight
    from bitsandbytes.functional import dequantize_4bit

    unpacked: Tensor = dequantize_4bit(base.weight.data, state).to(dtype)
    return unpacked


def compute_dtype(states: Tensor) -> torch.dtype:
    """What products are computed in."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


# --- a layer's two halves: x A', with dropout, and x W' + s (x A') B' -------------------------------------------------


def _reduce(x: Tensor, sides: Sequence[Side], matrices: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """dropout_i(x) A_i' of each layer, and what each kept of x, where anything is dropped; one product for all where
    nothing is.
    """
    if not any(side.dropout for side in sides):
        all_reduced = x @ torch.cat(list(matrices)).to(x.dtype).T
        return list(torch.split(all_reduced, [len(a) for a in matrices], -1)), []
    kept = [drawn(x, side) for side in sides]
    each = zip(sides, kept, matrices, strict=True)
    return [dropped(x, mask, 1 / (1 - side.dropout)) @ a.to(x.dtype).T for side, mask, a in each], kept


def drawn(x: Tensor, side: Side) -> Tensor:
    """Which numbers of a layer's input are not dropped."""
    return torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - side.dropout)


def reduce_back(
    x: Tensor,
    sides: Sequence[Side],
    matrices: Sequence[Tensor],
    kept: Sequence[Tensor],
    outers: Sequence[Tensor],
    inner: Tensor | None,
) -> list[Tensor]:
    """Gradients of each A; that of x is added into `inner` where there is one. For the gradients of `_reduce`'s outcomes."""
    if not kept:
        back = torch.cat(list(outers), -1)
        gradients = list(torch.split(back.T @ x, [len(a) for a in matrices]))
        if inner is not None:
            inner.addmm_(back, torch.cat(list(matrices)).to(x.dtype))
        return gradients
    gradients = []
    for side, a, mask, outer in zip(sides, matrices, kept, outers, strict=True):
        scale = 1 / (1 - side.dropout)
        gradients.append(outer.T @ dropped(x, mask, scale))
        if inner is not None:
            inner += dropped(outer @ a.to(x.dtype), mask, scale)
    return gradients


def _expand(x: Tensor, side: Side, reduced: Tensor, b: Tensor) -> Tensor:
    """x W' + bias + s reduced B'."""
    out = x @ matrix_of(side.base, x.dtype).T
    if side.base.bias is not None:
        out += side.base.bias
    return out.addmm_(reduced, b.to(x.dtype).T, alpha=side.scale)


def expand_back(side: Side, reduced: Tensor, b: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `reduced` and of B."""
    return outer @ (b * side.scale).to(outer.dtype), (outer.T @ reduced).mul_(side.scale)


def base_back(side: Side, outer: Tensor, inner: Tensor | None) -> Tensor:
    """outer W, added into `inner` where there is one."""
    matrix = matrix_of(side.base, outer.dtype)
    return outer @ matrix if inner is None else inner.addmm_(outer, matrix)


# --- linear layers that read the same input --------------------------------------------------------------------------


class _LoraLinears(torch.autograd.Function):
    """States, what is fixed of each layer, A and B of each in; an output of each out."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, sides: list[Side], *matrices: Tensor) -> Any:
        x = states.reshape(-1, states.shape[-1]).to(compute_dtype(states))
        reduced, kept = _reduce(x, sides, matrices[::2])
        outs = [_expand(x, *each) for each in zip(sides, reduced, matrices[1::2], strict=True)]
        ctx.save_for_backward(x, *matrices, *reduced, *kept)
        ctx.sides, ctx.shape, ctx.dtype = sides, states.shape, states.dtype
        return tuple(out.view(*states.shape[:-1], -1) for out in outs)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        x, *saved = ctx.saved_tensors
        sides, count = ctx.sides, len(ctx.sides)
        matrices, reduced, kept = saved[: 2 * count], saved[2 * count : 3 * count], saved[3 * count :]
        inner: Tensor | None = None
        through, gradients_b = [], []
        for each, side, part, b in zip(outers, sides, reduced, matrices[1::2], strict=True):
            outer = each.reshape(len(x), -1)
            back, gradient_b = expand_back(side, part, b, outer)
            through.append(back)
            gradients_b.append(gradient_b)
            if ctx.needs_input_grad[0]:
                inner = base_back(side, outer, inner)
        gradients_a = reduce_back(x, sides, matrices[::2], kept, through, inner)
        pairs = (gradient for pair in zip(gradients_a, gradients_b, strict=True) for gradient in pair)
        return (None if inner is None else inner.view(ctx.shape).to(ctx.dtype), None, *pairs)


def project(states: Tensor, *layers: Any) -> Sequence[Tensor]:
    """Outputs of linear layers that read the same input."""
    if all(map(fits, layers)):
        sides, matrices = taken_apart(layers)
        outs: Sequence[Tensor] = _LoraLinears.apply(states, sides, *matrices)  # type: ignore[no-untyped-call]
        return outs
    return [layer(states) for layer in layers]


# --- the gated MLP ---------------------------------------------------------------------------------------------------


class _GatedMlp(torch.autograd.Function):
    """down(silu(gate(x)) * up(x)), each of the three with LoRA (SwiGLU, Shazeer 2020, arXiv 2002.05202)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, sides: list[Side], *matrices: Tensor) -> Tensor:
        x = states.reshape(-1, states.shape[-1]).to(compute_dtype(states))
        a_gate, b_gate, a_up, b_up, a_down, b_down = matrices
        (for_gate, for_up), kept = _reduce(x, sides[:2], (a_gate, a_up))
        gate = _expand(x, sides[0], for_gate, b_gate)
        up = _expand(x, sides[1], for_up, b_up)
        hidden = gated(gate, up)
        (for_down,), kept_down = _reduce(hidden, sides[2:], (a_down,))
        out = _expand(hidden, sides[2], for_down, b_down)
        ctx.save_for_backward(x, gate, up, *matrices, for_gate, for_up, for_down, *kept, *kept_down)
        ctx.sides, ctx.shape, ctx.dtype = sides, states.shape, states.dtype
        return out.view(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        x, gate, up, a_gate, b_gate, a_up, b_up, a_down, b_down, for_gate, for_up, for_down, *kept = ctx.saved_tensors
        sides: list[Side] = ctx.sides
        outer = outers[0].reshape(len(x), -1)
        back_down, grad_b_down = expand_back(sides[2], for_down, b_down, outer)
        grad_hidden = base_back(sides[2], outer, None)
        active, hidden = gated_again(gate, up)
        (grad_a_down,) = reduce_back(hidden, sides[2:], (a_down,), kept[2:], [back_down], grad_hidden)
        del hidden
        grad_gate, grad_up = gated_back(gate, up, active, grad_hidden)
        back_gate, grad_b_gate = expand_back(sides[0], for_gate, b_gate, grad_gate)
        back_up, grad_b_up = expand_back(sides[1], for_up, b_up, grad_up)
        inner = None
        if ctx.needs_input_grad[0]:
            inner = base_back(sides[1], grad_up, base_back(sides[0], grad_gate, None))
        grad_a_gate, grad_a_up = reduce_back(x, sides[:2], (a_gate, a_up), kept[:2], [back_gate, back_up], inner)
        inner = None if inner is None else inner.view(ctx.shape).to(ctx.dtype)
        return inner, None, grad_a_gate, grad_b_gate, grad_a_up, grad_b_up, grad_a_down, grad_b_down


def gated_mlp_forward(own: Forward) -> Forward:
    """The forward method of a gated MLP; `own` is the one that it has, for when adapters are switched off."""

    def forward(self: Any, states: Tensor) -> Tensor:
        layers = (self.gate_proj, self.up_proj, self.down_proj)
        out: Tensor
        if all(map(fits, layers)):
            sides, matrices = taken_apart(layers)
            out = _GatedMlp.apply(states, sides, *matrices)  # type: ignore[no-untyped-call]
        else:
            out = own(states)
        return out

    return forward
