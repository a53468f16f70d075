"""The blocks of Llama-like models: the same arithmetic with fewer passes over memory, and less of it kept.

What the libraries do in steps is done at once, with gradients by hand:

- linear layers with LoRA that read the same input share the product with their matrices A, and add their low-rank part
  into the product with the base weight instead of beside it; base weights in 4 bits are unpacked one layer at a time;
- of the gated MLP, only what its gate and its up projection give is kept for the backward pass; the rest is made again;
- the norm keeps one number a token;
- attention goes document by document, so that packed documents cost what they would cost alone, and need no mask.

The first two follow the idea of Unsloth's LoRA kernels, the last that of FlashAttention's sequences of unequal length
(arXiv 2205.14135); all in plain torch. A module is left as it is where it has another shape, and where a trial shows
that its outcome would differ by more than rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Classes whose attention is causal over all earlier tokens, and turns queries and keys by the halves of a head; their
# models are `langadapt.models.FUSED`.
ATTENTIONS = ("LlamaAttention", "MistralAttention", "Qwen2Attention")
SAME = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # relative difference that rounding makes
_TRIAL = 8  # tokens of the trial

Forward = Callable[..., Any]
Span = tuple[int, int]


@contextmanager
def fused_blocks(model: Any) -> Iterator[int]:
    """While open, the parts of the model's blocks that fit are computed as above when the model trains.

    The forward methods of single modules are replaced, so that wrappers and hooks around them stay in force.

    Args:
        model: a causal language model, with or without PEFT's LoRA layers in it.

    Yields:
        How many modules are replaced.
    """
    spans = _Spans()
    alike: dict[Any, bool] = {}  # one trial speaks for all modules of the same class and shape
    with ExitStack() as replaced:
        count = 0
        for module in model.modules():
            forward = _forward_of(module, spans)
            if forward is None:
                continue
            shape = (type(module), *((type(inner), *map(tuple, _shapes(inner))) for inner in module.modules()))
            if shape not in alike:
                alike[shape] = _same(module, forward, model.dtype)
            if alike[shape]:
                replaced.enter_context(_replaced(module, forward))
                count += 1
        yield count


def _forward_of(module: Any, spans: _Spans) -> Forward | None:
    """What computes a module instead of its own method; None for modules of another shape."""
    if type(module).__name__ in ATTENTIONS and not module.attention_dropout:
        return _attention(module.forward, spans)
    if all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
        fits = all(map(_fits, (module.gate_proj, module.up_proj, module.down_proj)))
        return _gated_mlp(module.forward) if fits and "silu" in type(module.act_fn).__name__.lower() else None
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return _norm
    return None


@contextmanager
def _replaced(module: Any, forward: Forward) -> Iterator[None]:
    module.forward = MethodType(forward, module)
    try:
        yield
    finally:
        del module.forward


# --- the trial -------------------------------------------------------------------------------------------------------


def _shapes(module: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in module.parameters(recurse=False)]


def _same(module: Any, forward: Forward, dtype: torch.dtype) -> bool:
    """Whether a module gives the same outcome and the same gradients both ways, but for rounding."""
    theirs = _outcome(module, module.forward, dtype)
    ours = _outcome(module, MethodType(forward, module), dtype)
    return all(
        bool((one - other).norm() <= SAME.get(dtype, 1e-4) * other.norm())
        for one, other in zip(ours, theirs, strict=True)
    )


def _outcome(module: Any, forward: Forward, dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients, of the input and of what learns, for an input that is always the same; in fp32."""
    device = next(module.parameters()).device
    linear = next((inner for inner in module.modules() if hasattr(inner, "in_features")), None)
    width = linear.in_features if linear else module.weight.shape[-1]
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(1, _TRIAL, width, generator=generator).to(device, dtype)
    states.requires_grad_(True)
    options: dict[str, Any] = {}
    if type(module).__name__ in ATTENTIONS:
        positions = torch.arange(_TRIAL, device=device)[None]
        angles = positions[..., None] * torch.linspace(0.1, 1, module.head_dim // 2, device=device).repeat(2)
        options = {
            "position_embeddings": (angles.cos().to(dtype), angles.sin().to(dtype)),
            "position_ids": positions,
            "attention_mask": None,
        }
    learning, module.training = module.training, True
    with torch.autocast(device.type, dtype, enabled=dtype.itemsize == 2):
        out = forward(states, **options)
    module.training = learning
    out = out[0] if isinstance(out, tuple) else out
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    outer = torch.randn(out.shape, generator=generator).to(out)
    found = torch.autograd.grad(out, [states, *learnt], outer)
    return [out.detach().float(), *(gradient.float() for gradient in found)]


# --- linear layers with LoRA -----------------------------------------------------------------------------------------


def _fits(layer: Any) -> bool:
    """Whether it is a linear layer with one plain LoRA adapter beside frozen weights in 4, 16 or 32 bits."""
    if not hasattr(layer, "lora_A") or layer.merged or layer.disable_adapters or layer.lora_variant:
        return False
    if len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    base = layer.base_layer
    return (
        name in layer.lora_A
        and type(base).__name__ in ("Linear", "Linear4bit")
        and not any(parameter.requires_grad for parameter in base.parameters())
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and not layer.lora_bias[name]
    )


def _taken_apart(layers: Sequence[Any]) -> tuple[list[Any], list[float], list[Tensor]]:
    """Base layers, factors on their updates, and A, B of each."""
    (name,) = layers[0].active_adapters
    matrices = [m[name].weight for layer in layers for m in (layer.lora_A, layer.lora_B)]
    return [layer.base_layer for layer in layers], [layer.scaling[name] for layer in layers], matrices


def _matrix(base: Any, dtype: torch.dtype) -> Tensor:
    """The weight of a frozen layer, (outputs, inputs), unpacked where it is in 4 bits."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        weight: Tensor = base.weight.to(dtype)
        return weight
    from bitsandbytes.functional import dequantize_4bit

    unpacked: Tensor = dequantize_4bit(base.weight.data, state).to(dtype)
    return unpacked


def _dtype(states: Tensor) -> torch.dtype:
    """What products are computed in."""
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


def _forwards(states: Tensor, base: Any, reduced: Tensor, b: Tensor, scale: float) -> Tensor:
    """states @ W.T + bias + scale * reduced @ B.T."""
    out = states @ _matrix(base, states.dtype).T
    if base.bias is not None:
        out += base.bias
    return out.addmm_(reduced, b.to(states.dtype).T, alpha=scale)


def _backwards(outer: Tensor, base: Any, inner: Tensor | None) -> Tensor:
    """outer @ W, added into `inner` where there is one."""
    matrix = _matrix(base, outer.dtype)
    return outer @ matrix if inner is None else inner.addmm_(outer, matrix)


class _LoraLinears(torch.autograd.Function):
    """Linear layers that read the same input: states, base layers, scales, A and B of each in; an output of each out.

    With x the states, y_i = x W_i' + b_i + s_i (x A_i') B_i'.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, bases: list[Any], scales: list[float], *matrices: Tensor) -> Any:
        x = states.reshape(-1, states.shape[-1]).to(_dtype(states))
        bs = matrices[1::2]
        reduced = x @ torch.cat(matrices[::2]).to(x.dtype).T
        parts = torch.split(reduced, [b.shape[1] for b in bs], -1)
        outs = [_forwards(x, *each) for each in zip(bases, parts, bs, scales, strict=True)]
        ctx.save_for_backward(x, reduced, *matrices)
        ctx.bases, ctx.scales, ctx.shape, ctx.dtype = bases, scales, states.shape, states.dtype
        return tuple(out.view(*states.shape[:-1], -1) for out in outs)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        x, reduced, *matrices = ctx.saved_tensors
        bs = matrices[1::2]
        parts = reduced.split([b.shape[1] for b in bs], -1)
        inner: Tensor | None = None
        through, gradients_b = [], []
        for each, base, part, b, scale in zip(outers, ctx.bases, parts, bs, ctx.scales, strict=True):
            outer = each.reshape(len(x), -1)
            gradients_b.append((outer.T @ part).mul_(scale))
            through.append(outer @ (b * scale).to(x.dtype))
            if ctx.needs_input_grad[0]:
                inner = _backwards(outer, base, inner)
        back = torch.cat(through, -1)
        gradients_a = (back.T @ x).split([b.shape[1] for b in bs])
        if inner is not None:
            inner = inner.addmm_(back, torch.cat(matrices[::2]).to(x.dtype)).view(ctx.shape).to(ctx.dtype)
        pairs = (gradient for pair in zip(gradients_a, gradients_b, strict=True) for gradient in pair)
        return (inner, None, None, *pairs)


def _project(states: Tensor, *layers: Any) -> Sequence[Tensor]:
    """Outputs of linear layers that read the same input."""
    if all(map(_fits, layers)):
        bases, scales, matrices = _taken_apart(layers)
        outs: Sequence[Tensor] = _LoraLinears.apply(states, bases, scales, *matrices)  # type: ignore[no-untyped-call]
        return outs
    return [layer(states) for layer in layers]


# --- the gated MLP ---------------------------------------------------------------------------------------------------


class _GatedMlp(torch.autograd.Function):
    """down(silu(gate(x)) * up(x)), each of the three with LoRA (SwiGLU, Shazeer 2020, arXiv 2002.05202)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, bases: list[Any], scales: list[float], *matrices: Tensor) -> Tensor:
        x = states.reshape(-1, states.shape[-1]).to(_dtype(states))
        a_gate, b_gate, a_up, b_up, a_down, b_down = matrices
        reduced = x @ torch.cat([a_gate, a_up]).to(x.dtype).T
        for_gate, for_up = torch.split(reduced, [len(a_gate), len(a_up)], -1)
        gate = _forwards(x, bases[0], for_gate, b_gate, scales[0])
        up = _forwards(x, bases[1], for_up, b_up, scales[1])
        hidden = functional.silu(gate).mul_(up)
        reduced_down = hidden @ a_down.to(x.dtype).T
        out = _forwards(hidden, bases[2], reduced_down, b_down, scales[2])
        ctx.save_for_backward(x, reduced, gate, up, reduced_down, *matrices)
        ctx.bases, ctx.scales, ctx.shape, ctx.dtype = bases, scales, states.shape, states.dtype
        return out.view(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        x, reduced, gate, up, reduced_down, a_gate, b_gate, a_up, b_up, a_down, b_down = ctx.saved_tensors
        ranks = [b_gate.shape[1], b_up.shape[1]]
        outer = outers[0].reshape(len(x), -1)
        back_down = outer @ (b_down * ctx.scales[2]).to(x.dtype)
        grad_hidden = _backwards(outer, ctx.bases[2], None).addmm_(back_down, a_down.to(x.dtype))
        open_ = torch.sigmoid(gate)
        active = gate * open_
        grad_a_down = back_down.T @ (active * up)
        # d silu(g)/dg = σ(g) (1 + g (1 - σ(g))), taken in place: these are the largest tensors of a block.
        slope = (1 - open_).mul_(gate).add_(1).mul_(open_)
        grad_gate = slope.mul_(grad_hidden).mul_(up)
        grad_up = active.mul_(grad_hidden)
        for_gate, for_up = reduced.split(ranks, -1)
        back = torch.cat(
            [grad_gate @ (b_gate * ctx.scales[0]).to(x.dtype), grad_up @ (b_up * ctx.scales[1]).to(x.dtype)], -1
        )
        inner = None
        if ctx.needs_input_grad[0]:
            inner = _backwards(grad_up, ctx.bases[1], _backwards(grad_gate, ctx.bases[0], None))
            inner = inner.addmm_(back, torch.cat([a_gate, a_up]).to(x.dtype)).view(ctx.shape).to(ctx.dtype)
        grad_a_gate, grad_a_up = (back.T @ x).split(ranks)
        return (
            inner,
            None,
            None,
            grad_a_gate,
            (grad_gate.T @ for_gate).mul_(ctx.scales[0]),
            grad_a_up,
            (grad_up.T @ for_up).mul_(ctx.scales[1]),
            grad_a_down,
            (outer.T @ reduced_down).mul_(ctx.scales[2]),
        )


def _gated_mlp(own: Forward) -> Forward:
    """The forward method of a gated MLP; `own` is the one that it has, for when adapters are switched off."""

    def forward(self: Any, states: Tensor) -> Tensor:
        layers = (self.gate_proj, self.up_proj, self.down_proj)
        out: Tensor
        if all(map(_fits, layers)):
            bases, scales, matrices = _taken_apart(layers)
            out = _GatedMlp.apply(states, bases, scales, *matrices)  # type: ignore[no-untyped-call]
        else:
            out = own(states)
        return out

    return forward


# --- the norm --------------------------------------------------------------------------------------------------------


class _RmsNorm(torch.autograd.Function):
    """weight * x / sqrt(mean(x²) + eps), the quotient in fp32 (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = states.float()
        factor = x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(states, factor, weight)
        return weight * (x * factor).to(states.dtype)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        states, factor, weight = ctx.saved_tensors
        x, outer = states.float(), outers[0].float()
        grad_weight = (outer * x * factor).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        inner = outer * weight.float()
        pull = torch.linalg.vecdot(inner, x).unsqueeze(-1) * factor**3 / -x.shape[-1]
        return inner.mul_(factor).addcmul_(x, pull).to(states.dtype), grad_weight, None


def _norm(self: Any, states: Tensor) -> Tensor:
    out: Tensor = _RmsNorm.apply(states, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]
    return out


# --- attention -------------------------------------------------------------------------------------------------------


class _Spans:
    """Where documents begin and end in the rows of a batch; found once for all the blocks that a batch goes through."""

    def __init__(self) -> None:
        self._of: Tensor | None = None
        self._found: list[list[Span]] = []

    def __call__(self, positions: Tensor) -> list[list[Span]]:
        if positions is not self._of:
            self._of, self._found = positions, document_spans(positions)
        return self._found


def document_spans(positions: Tensor) -> list[list[Span]]:
    """First token of each document, and the one behind its last, row by row.

    Args:
        positions: (rows, tokens); they start at 0 with every document. The padding at a row's end, all 0, counts as
            one document: nothing learns from what is in it.
    """
    found = []
    for row in positions.tolist():
        end_of_text = max((index for index, position in enumerate(row) if position), default=-1) + 1
        starts = [index for index, position in enumerate(row[: end_of_text + 1]) if index == 0 or position == 0]
        found.append(list(zip(starts, [*starts[1:], len(row)], strict=True)))
    return found


class _Rotary(torch.autograd.Function):
    """x * cos + rotate_half(x) * sin (RoFormer, arXiv 2104.09864); all of (…, head_dim)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        return _turned(outers[0], cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    """By the angles, or back by them: a rotation's gradient is the rotation back."""
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-direction)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=direction)
    return out


def _attention(own: Forward, spans: _Spans) -> Forward:
    """The forward method of a module of `ATTENTIONS`; `own` is the one that it has."""

    def forward(self: Any, hidden_states: Tensor, *args: Any, **options: Any) -> Any:
        positions, turns = options.get("position_ids"), options.get("position_embeddings")
        if not self.training or options.get("past_key_values") is not None or positions is None or turns is None:
            return own(hidden_states, *args, **options)
        rows, tokens, _ = hidden_states.shape
        heads = (rows, tokens, -1, self.head_dim)
        query, key, value = (out.view(heads) for out in _project(hidden_states, self.q_proj, self.k_proj, self.v_proj))
        cos, sin = (turn[:, :, None] for turn in turns)
        query = _Rotary.apply(query, cos, sin)  # type: ignore[no-untyped-call]
        key = _Rotary.apply(key, cos, sin)  # type: ignore[no-untyped-call]
        found = spans(positions)
        seen = [
            _causal(query[row, start:end], key[row, start:end], value[row, start:end], self.scaling)
            for row in range(rows)
            for start, end in found[row % len(found)]  # one row of positions may speak for all
        ]
        return _project(torch.cat(seen).view(rows, tokens, -1), self.o_proj)[0], None

    return forward


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention within a document; (tokens, heads, head_dim), with fewer heads of keys and values where they share."""
    shared = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(shared, 1) if shared > 1 else x for x in (key, value))
    query, key, value = (x.transpose(0, 1)[None] for x in (query, key, value))
    out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    return out[0].transpose(0, 1)
