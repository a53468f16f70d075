"""Attention within documents, so that packed ones cost what they would cost alone, and need no mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from langadapt.fused.elementwise import turned
from langadapt.fused.linears import project

Forward = Callable[..., Any]
Span = tuple[int, int]
_BLOCK = 128  # tokens whose attention exists at the same time in a backward pass on a processor


class Documents:
    """Where documents begin and end in the rows of a batch; found once for all the blocks that a batch goes through.

    Attributes:
        lengths: tokens of each document, rows one after the other.
        starts: the first token of the document that a token is of, (rows * tokens,), counted in the same way.
        bounds: where documents begin, and the end of the last one, (documents + 1,), int32; on a GPU alone.
    """

    def __init__(self) -> None:
        self._of: Tensor | None = None
        self.lengths: list[int] = []
        self.starts = self.bounds = torch.empty(0)

    def find(self, positions: Tensor, rows: int) -> None:
        """Looks at positions, (rows, tokens), or at one row of them that speaks for all."""
        if positions is self._of:
            return
        found = document_spans(positions)
        self._of = positions
        self.lengths = [end - start for row in range(rows) for start, end in found[row % len(found)]]
        lengths = torch.tensor(self.lengths)
        ends = lengths.cumsum(0)
        self.starts = (ends - lengths).repeat_interleave(lengths)
        if positions.is_cuda:
            self.bounds = functional.pad(ends, (1, 0)).to(positions.device, torch.int32)


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
        # Angles in fp32 beside products in 16 bits would make them fp32.
        query, key, value = (x.to(value.dtype).flatten(0, 1) for x in (query, key, value))
        seen = _way(query)(query, key, value, documents, self.scaling)
        return project(seen.view(rows, tokens, -1), self.o_proj)[0], None

    return forward


# --- attention within documents: (tokens, heads, head_dim) in and out, with fewer heads of keys and values where they share


def _way(query: Tensor) -> Callable[[Tensor, Tensor, Tensor, Documents, float], Tensor]:
    if query.device.type == "cpu":
        return by_blocks
    return _at_once if _flash(query) else _one_by_one


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
    """By one kernel."""
    from torch.nn.attention.varlen import varlen_attn

    bounds, longest, options = documents.bounds, max(documents.lengths), _flash(query) or {}
    seen = varlen_attn(query, key, value, bounds, bounds, longest, longest, scale=scale, **options)
    assert isinstance(seen, Tensor)
    return seen


def _one_by_one(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> Tensor:
    shared = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(shared, 1) if shared > 1 else x for x in (key, value))
    # Split, because the gradient of a part alone would be as large as the whole.
    each = zip(*(torch.split(x, documents.lengths) for x in (query, key, value)), strict=True)
    return torch.cat([_causal(q, k, v, scale) for q, k, v in each])


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    query, key, value = (x.transpose(0, 1)[None] for x in (query, key, value))
    out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    return out[0].transpose(0, 1)


def by_blocks(query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> Tensor:
    """By torch's own forward pass and a backward pass of ours; on a processor."""
    seen: Tensor = _Attention.apply(query, key, value, documents, scale)  # type: ignore[no-untyped-call]
    return seen


class _Attention(torch.autograd.Function):
    """Attention with torch's own forward pass and a backward pass by blocks of tokens, whatever documents they are of; its
    gradients are in fp32 until they are whole.

    Beside it, torch's backward pass on a processor takes up to 1.3 times as long in fp32, and in bf16 between 1.2 times,
    for documents of 2048 tokens, and several times, for those of less than 100.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, documents: Documents, scale: float) -> Tensor:
        out = _one_by_one(query, key, value, documents, scale)
        ctx.save_for_backward(query, key, value, out, documents.starts)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> Any:
        query, key, value, out, starts = ctx.saved_tensors
        with _products_as(query.dtype):
            return *_attention_back(query, key, value, out, outers[0], starts, ctx.scale), None, None


def _attention_back(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, outer: Tensor, starts: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value for the gradient `outer` of `out`."""
    tokens, heads, width = query.shape
    groups = key.shape[1]  # of heads that share keys and values
    dtype = torch.promote_types(query.dtype, torch.float32)
    pull = (outer.to(dtype) * out.to(dtype)).sum(-1, keepdim=True)
    q, o, pull = (
        x.to(dtype).reshape(tokens, groups, -1, x.shape[-1]).permute(1, 2, 0, 3) for x in (query, outer, pull)
    )
    k, v = (x.to(dtype).transpose(0, 1).contiguous() for x in (key, value))
    grad_q, grad_k, grad_v = torch.empty_like(query), torch.zeros_like(k), torch.zeros_like(v)
    longest = min(tokens, int((torch.arange(tokens) - starts).max()) + _BLOCK)
    places = q.new_empty(2, heads * min(tokens, _BLOCK) * longest)
    later = torch.ones(_BLOCK, _BLOCK, dtype=torch.bool).triu_(1)
    for start in range(0, tokens, _BLOCK):
        end, first = min(start + _BLOCK, tokens), int(starts[start])
        size = end - start
        q_, o_, pull_ = (x[:, :, start:end].reshape(groups, -1, x.shape[-1]) for x in (q, o, pull))
        k_, v_ = k[:, first:end], v[:, first:end]
        scores, probs = (place[: heads * size * (end - first)].view(groups, -1, end - first) for place in places)
        seen = start - first if starts[end - 1] == first else 0  # keys that all of the block attend to
        unseen = starts[start:end, None] != starts[first + seen : end]
        unseen[:, start - first - seen :] |= later[:size, :size]
        torch.baddbmm(scores, q_, k_.mT, beta=0, alpha=scale, out=scores)
        scores.view(groups, -1, size, end - first)[..., seen:].masked_fill_(unseen, -torch.inf)
        torch.softmax(scores, -1, out=probs)
        grad_v[:, first:end] += probs.mT @ o_
        inner = torch.bmm(o_, v_.mT, out=scores).sub_(pull_).mul_(probs)
        grad_q[start:end] = (inner @ k_).mul_(scale).view(groups, -1, size, width).permute(2, 0, 1, 3).flatten(1, 2)
        grad_k[:, first:end] += inner.mT @ q_
    return grad_q, grad_k.mul_(scale).transpose(0, 1).to(key.dtype), grad_v.transpose(0, 1).to(value.dtype)


@contextmanager
def _products_as(dtype: torch.dtype) -> Iterator[None]:
    """While open, a processor multiplies fp32 matrices as it does those of `dtype`. From bf16, numbers that came in it lose
    nothing, and sums are in fp32; where the hardware does not multiply bf16, nothing changes.
    """
    products = getattr(torch.backends.mkldnn, "matmul", None)  # since torch 2.9
    if products is None or dtype is not torch.bfloat16:
        yield
        return
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before
