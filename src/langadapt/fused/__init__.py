"""The blocks of Llama-like models: the same arithmetic with fewer passes over memory, and less of it kept.

What the libraries do in steps is done at once, with gradients by hand:

- linear layers with LoRA that read the same input share the product with their matrices A, and add their low-rank part
  into the product with the base weight instead of beside it; base weights in 4 bits are unpacked one layer at a time;
- with DoRA, such a layer's lengths are taken from one product of A and B, and one output is kept;
- of the gated MLP, only what its gate and its up projection give is kept for the backward pass; the rest is made again;
- the norm keeps one number a token;
- attention goes document by document, so that packed documents cost what they would cost alone, and need no mask; on a
  processor its gradients are taken by blocks of tokens, with products in bf16 that are summed up in fp32.

The first two follow the idea of Unsloth's LoRA kernels, the last that of FlashAttention (arXiv 2205.14135), whose
sequences of unequal length it uses on a GPU; all in plain torch. Arithmetic element by element is compiled for a GPU, where
each pass over memory counts. A module is left as it is where it has another shape, and where a trial shows that its
outcome would differ by more than rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from langadapt.fused.attention import Documents, attention_forward
from langadapt.fused.dora import Scratch, dora_forward, has_dora
from langadapt.fused.linears import fits, gated_mlp_forward
from langadapt.fused.norm import norm_forward

# Classes whose attention is causal over all earlier tokens, and turns queries and keys by the halves of a head; their
# models are `langadapt.models.FUSED`.
ATTENTIONS = ("LlamaAttention", "MistralAttention", "Qwen2Attention")
SAME = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # relative difference that rounding makes
_TRIAL = 8  # tokens of the trial
_SIZE = 0.1  # of their states: under larger ones attention is so sharp that 16 bits round its gradients by a tenth

Forward = Callable[..., Any]


@contextmanager
def fused_blocks(model: Any) -> Iterator[int]:
    """While open, the parts of the model's blocks that fit are computed as above when the model trains.

    The forward methods of single modules are replaced, so that wrappers and hooks around them stay in force.

    Args:
        model: a causal language model, with or without PEFT's LoRA layers in it.

    Yields:
        How many modules are replaced.
    """
    documents, scratch = Documents(), Scratch()
    # Weights that learn are in fp32 beside frozen ones in 16 bits, which say what products are computed in; some strategies
    # keep those as buffers.
    weights = (tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point())
    dtype = min((tensor.dtype for tensor in weights), key=lambda dtype: dtype.itemsize)
    alike: dict[Any, bool] = {}  # one trial speaks for all modules of the same class and shape
    with ExitStack() as replaced:
        count = 0
        for module in model.modules():
            forward = _forward_of(module, documents, scratch)
            if forward is None:
                continue
            shape = (type(module), *((type(inner), *map(tuple, _shapes(inner))) for inner in module.modules()))
            if shape not in alike:
                alike[shape] = _same(module, forward, dtype)
            if alike[shape]:
                replaced.enter_context(_replaced(module, forward))
                count += 1
        yield count


def _forward_of(module: Any, documents: Documents, scratch: Scratch) -> Forward | None:
    """What computes a module instead of its own method; None for modules of another shape."""
    if type(module).__name__ in ATTENTIONS and not module.attention_dropout:
        return attention_forward(module.forward, documents)
    if all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
        linear = all(map(fits, (module.gate_proj, module.up_proj, module.down_proj)))
        return gated_mlp_forward(module.forward) if linear and "silu" in type(module.act_fn).__name__.lower() else None
    if has_dora(module):
        return dora_forward(module.forward, scratch)
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return norm_forward
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
    states = torch.randn(1, _TRIAL, width, generator=generator).mul_(_SIZE).to(device, dtype)
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
    with _training_without_dropout(module), torch.autocast(device.type, dtype, enabled=dtype.itemsize == 2):
        out = forward(states, **options)
    out = out[0] if isinstance(out, tuple) else out
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    outer = torch.randn(out.shape, generator=generator).to(out)
    found = torch.autograd.grad(out, [states, *learnt], outer)
    return [out.detach().float(), *(gradient.float() for gradient in found)]


@contextmanager
def _training_without_dropout(module: nn.Module) -> Iterator[None]:
    before = {inner: inner.training for inner in module.modules()}
    for inner in before:
        inner.training = not isinstance(inner, nn.Dropout)
    try:
        yield
    finally:
        for inner, training in before.items():
            inner.training = training
