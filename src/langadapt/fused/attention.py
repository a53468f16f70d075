"""Attention that goes document by document, so that packed ones cost what they would cost alone, and need no mask."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from langadapt.fused.elementwise import turned
from langadapt.fused.linears import project

Forward = Callable[..., Any]
Span = tuple[int, int]


class Documents:
    """Where documents begin and end in the rows of a batch; found once for all the blocks that a batch goes through."""

    def __init__(self) -> None:
        self._of: Tensor | None = None
        self.spans: list[list[Span]] = []
        self.bounds: Tensor = torch.empty(0)  # (documents + 1,) of the rows one after the other, int32, on a GPU
        self.longest = 0

    def find(self, positions: Tensor, rows: int) -> None:
        """Looks at positions, (rows, tokens), or at one row of them that speaks for all."""
        if positions is self._of:
            return
        found = document_spans(positions)
        self._of, self.spans = positions, [found[row % len(found)] for row in range(rows)]
        self.longest = max(end - start for row in self.spans for start, end in row)
        if positions.is_cuda:
            width = positions.shape[-1]
            ends = [number * width + end for number, row in enumerate(self.spans) for _, end in row]
            self.bounds = torch.tensor([0, *ends], dtype=torch.int32, device=positions.device)


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
    """x * cos + rotate_half(x) * sin; all of (…, head_dim). A rotation's gradient is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return turned(x, cos, sin, False)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        return turned(outers[0], cos, sin, True), None, None


def attention_forward(own: Forward, documents: Documents) -> Forward:
    """The forward method of a module of `langadapt.fused.ATTENTIONS`; `own` is the one that it has."""

    def forward(self: Any, hidden_states: Tensor, *args: Any, **options: Any) -> Any:
        positions, turns = options.get("position_ids"), options.get("position_embeddings")
        if not self.training or options.get("past_key_values") is not None or positions is None or turns is None:
            return own(hidden_states, *args, **options)
        rows, tokens, _ = hidden_states.shape
        heads = (rows, tokens, -1, self.head_dim)
        query, key, value = (out.view(heads) for out in project(hidden_states, self.q_proj, self.k_proj, self.v_proj))
        cos, sin = (turn[:, :, None] for turn in turns)
        query = _Rotary.apply(query, cos, sin)  # type: ignore[no-untyped-call]
        key = _Rotary.apply(key, cos, sin)  # type: ignore[no-untyped-call]
        documents.find(positions, rows)
        attend = _at_once if _flash(query) else _one_by_one
        seen = attend(query, key, value, documents, self.scaling)
        return project(seen.view(rows, tokens, -1), self.o_proj)[0], None

    return forward


def _flash(query: Tensor) -> dict[str, Any] | None:
    """Options of torch's FlashAttention for documents of unequal length, or None where it does not run."""
    if not query.is_cuda or query.dtype.itemsize != 2 or query.shape[-1] > 256:
        return None
    return _flash_options(query.device.index)


@lru_cache
def _flash_options(device: int) -> dict[str, Any] | None:
    from inspect import signature

    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # before torch 2.10
        return None
    known = signature(varlen_attn).parameters
    if torch.cuda.get_device_capability(device) < (8, 0) or not {"scale", "window_size"} <= set(known):
        return None
    return {"window_size": (-1, 0), **({"enable_gqa": True} if "enable_gqa" in known else {})}


def _at_once(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> Tensor:
    """Attention within each document, by one kernel; (rows, tokens, heads, head_dim) in, (rows * tokens, …) out."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    bounds, longest, options = documents.bounds, documents.longest, _flash(query) or {}
    seen = varlen_attn(query, key, value, bounds, bounds, longest, longest, scale=scale, **options)
    assert isinstance(seen, Tensor)
    return seen


def _one_by_one(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> Tensor:
    return torch.cat(
        [
            _causal(query[row, start:end], key[row, start:end], value[row, start:end], scale)
            for row, spans in enumerate(documents.spans)
            for start, end in spans
        ]
    )


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention within a document; (tokens, heads, head_dim), with fewer heads of keys and values where they share."""
    shared = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(shared, 1) if shared > 1 else x for x in (key, value))
    query, key, value = (x.transpose(0, 1)[None] for x in (query, key, value))
    out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    return out[0].transpose(0, 1)
