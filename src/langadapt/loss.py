"""Next-token loss without a full matrix of logits.

At 49 152 words, the logits of 1 024 tokens take 200 MB in fp32, their gradient as much again. Here the head is applied to
a chunk of tokens at a time, only to tokens that bear loss, and each chunk's gradient is taken while its logits are at hand
(the method of Liger Kernel's fused linear cross-entropy, arXiv 2410.10989, in plain torch so that it runs anywhere).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from langadapt.machine import release_memory
from langadapt.models import LOSS_CHUNK, PROBS_CHUNK

_IN_CACHE = 1 << 18  # numbers in fp32 that a core's own cache holds beside what else is at hand


@dataclass(frozen=True, kw_only=True)
class Head:
    """The matrix that makes logits.

    Attributes:
        weight: (vocabulary, hidden_size).
        ids: of the rows that stand in the place of the matrix's own, and learn by themselves; None for none.
        rows: (len(ids), hidden_size).
    """

    weight: Tensor
    ids: Tensor | None = None
    rows: Tensor | None = None

    @property
    def matrix(self) -> Tensor:
        """With those rows in their places."""
        if self.ids is None or self.rows is None:
            return self.weight
        return self.weight.index_copy(0, self.ids, self.rows.to(self.weight))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Head, learnt: Tensor, targets: Tensor, dtype: torch.dtype, chunk: int
    ) -> Tensor:
        need_hidden, _, need_learnt, *_ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_learnt = torch.zeros_like(learnt, dtype=torch.float32) if need_learnt else None
        matrix = head.matrix.to(dtype)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, hidden.shape[0], chunk):
            rows = hidden[start : start + chunk].to(dtype)
            wanted = targets[start : start + chunk]
            logits = rows @ matrix.T
            weights = hidden.new_ones(len(rows), dtype=torch.float32) if need_hidden or need_learnt else None
            total += _losses(logits, wanted, weights).double().sum()
            gradient = logits  # which it has taken the place of: one matrix of a chunk is all that ever exists
            if grad_hidden is not None:
                grad_hidden[start : start + chunk] = gradient @ matrix
            if grad_learnt is not None:
                of_rows = gradient if head.ids is None else gradient[:, head.ids]
                grad_learnt += (of_rows.T @ rows).float()
                del of_rows
            del logits, gradient  # else they would still be there while those of the next chunk are made
        ctx.save_for_backward(grad_hidden, grad_learnt)
        ctx.learnt_dtype = learnt.dtype
        return total.float()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_learnt = ctx.saved_tensors
        scale = outer[0]
        return (
            None if grad_hidden is None else grad_hidden * scale.to(grad_hidden.dtype),
            None,
            None if grad_learnt is None else (grad_learnt * scale).to(ctx.learnt_dtype),
            None,
            None,
            None,
        )


def _losses(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """-log p of each target, (tokens,), taken in no less than fp32. With weights, (tokens,), the logits become the gradients
    of the losses' weighted sum.

    A few tokens at a time: on a processor what is in fp32 stays in its cache, on a GPU it takes less memory.
    """
    tokens, words = logits.shape
    size = PROBS_CHUNK if logits.is_cuda else max(1, _IN_CACHE // words)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    losses = logits.new_empty(tokens, 1, dtype=dtype)
    # One place for all: new ones would leave holes between them.
    place = logits.new_empty(min(size, tokens), words, dtype=dtype)
    for start in range(0, tokens, size):
        some = slice(start, start + size)
        wanted = targets[some, None]
        probs = torch.log_softmax(logits[some], -1, dtype=dtype, out=place[: len(wanted)])
        torch.neg(probs.gather(1, wanted), out=losses[some])
        if weights is not None:
            probs.exp_().scatter_add_(1, wanted, probs.new_full(wanted.shape, -1))
            logits[some] = probs.mul_(weights[some, None])
    return losses.squeeze(1)


def linear_cross_entropy(hidden: Tensor, head: Tensor | Head, targets: Tensor, *, chunk: int = LOSS_CHUNK) -> Tensor:
    """Sum over tokens of -log softmax(hidden @ head.T)[target].

    Args:
        hidden: (tokens, hidden_size).
        head: the output head, (vocabulary, hidden_size); of one whose rows learn in part, those alone get a gradient.
        targets: (tokens,), each in [0, vocabulary).
        chunk: tokens whose logits exist at the same time.

    Returns:
        A scalar in fp32, summed in fp64; divide it by the number of tokens that the step counts.
    """
    head = Head(weight=head) if isinstance(head, Tensor) else head
    learnt = head.weight if head.rows is None else head.rows
    dtype = _dtype_of_products(head.weight)
    loss: Tensor = _LinearCrossEntropy.apply(hidden, head, learnt, targets, dtype, chunk)  # type: ignore[no-untyped-call]
    return loss


def can_fuse(model: Any) -> bool:
    """Whether the model's logits are plainly `hidden @ head.T`; capped or scaled logits go the model's own way."""
    config: Any = getattr(model, "config", None)
    changed = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
    module = _rows_apart(model)[1] if hasattr(model, "get_output_embeddings") else None
    return (
        isinstance(module, nn.Linear)
        and module.bias is None
        and not any(getattr(config, name, None) for name in changed)
    )


def head_of(model: Any) -> Head:
    """The head of a model that can be fused; with the rows that PEFT's trainable tokens learn apart from it, where those
    are switched on.
    """
    layer, module = _rows_apart(model)
    if layer is None or layer.disable_adapters or layer.merged or not layer.active_adapters:
        return Head(weight=module.weight)
    (name,) = layer.active_adapters
    ids = torch.tensor(layer.token_indices[name], device=module.weight.device)
    return Head(weight=module.weight, ids=ids, rows=layer.trainable_tokens_delta[name])


def _rows_apart(model: Any) -> tuple[Any, Any]:
    """PEFT's layer of trainable tokens around the head, or None, and the head itself."""
    module = model.get_output_embeddings()
    layer = getattr(module, "token_adapter", module)
    return (layer, layer.base_layer) if hasattr(layer, "trainable_tokens_delta") else (None, module)


@contextmanager
def fused_loss(model: Any) -> Iterator[None]:
    """While open, `model(input_ids, position_ids, shift_labels=…)` gives the loss and makes no logits.

    The forward method of this one object is replaced, because wrappers (PEFT, accelerate, DDP) all call through it.
    """
    if not can_fuse(model):
        yield
        return
    with _forward(model, _loss_forward):
        yield


@contextmanager
def answer_log_probs(model: Any) -> Iterator[None]:
    """While open, `model(input_ids, labels=…)` gives `log_probs`, log p of every label, 0 where there is none.

    `labels[i]` is the token that comes after `input_ids[i]`, or -100; both, and the result, are of one shape. Rows are
    padded on the right. Logits are made a chunk of labels at a time, and made again for the backward pass.
    """
    forward = _log_prob_forward if can_fuse(model) else _log_prob_forward_of(model.forward)
    with _forward(model, forward):
        yield


@contextmanager
def _forward(model: Any, method: Callable[..., Any]) -> Iterator[None]:
    model.forward = MethodType(method, model)
    try:
        yield
    finally:
        del model.forward


def _loss_forward(
    self: Any,
    input_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    shift_labels: Tensor | None = None,
    num_items_in_batch: Tensor | int | None = None,
    **_: Any,
) -> dict[str, Tensor]:
    assert shift_labels is not None
    # No mask and no cache: only then do the restarting position ids keep packed documents apart (see docs/footguns.md).
    states = self.get_decoder()(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
    _make_room(states)
    counts = shift_labels != -100
    total = linear_cross_entropy(states[counts], head_of(self), shift_labels[counts])
    # A row without targets has no loss; it must not be no number.
    return {
        "loss": total / torch.as_tensor(counts.sum() if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
    }


def _make_room(states: Tensor) -> None:
    """Gives back what blocks have freed between tensors that they keep: it is in pieces too small for logits, which are
    made when most is kept. It takes milliseconds a step and lowers the peak of a training by 5 to 20 %.
    """
    if states.device.type == "cpu":
        release_memory()


def _log_prob_forward(self: Any, input_ids: Tensor, labels: Tensor, **_: Any) -> dict[str, Tensor]:
    # No mask: under a causal one, nothing attends to the padding that comes after it.
    states = self.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
    _make_room(states)
    counts = labels != -100
    losses = token_losses(states[counts], head_of(self).matrix, labels[counts])
    return {"log_probs": losses.new_zeros(labels.shape).masked_scatter(counts, -losses)}


def _log_prob_forward_of(own: Callable[..., Any]) -> Callable[..., dict[str, Tensor]]:
    """For logits that are not plainly `hidden @ head.T`: from what the model's own forward method makes."""

    def forward(self: Any, input_ids: Tensor, labels: Tensor, **_: Any) -> dict[str, Tensor]:
        logits = own(input_ids=input_ids, use_cache=False).logits.float()
        losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return {"log_probs": -losses.view(labels.shape)}

    return forward


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, chunk: int) -> Tensor:
        matrix = weight.to(dtype)
        losses = [
            _losses(rows.to(dtype) @ matrix.T, wanted)
            for rows, wanted in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True)
        ]
        ctx.save_for_backward(hidden, weight, targets)
        ctx.dtype, ctx.chunk = dtype, chunk
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *outers: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets = ctx.saved_tensors
        need_hidden, need_weight, *_ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        matrix = weight.to(ctx.dtype)
        for start in range(0, len(hidden), ctx.chunk):
            some = slice(start, start + ctx.chunk)
            rows = hidden[some].to(ctx.dtype)
            gradient = rows @ matrix.T
            _losses(gradient, targets[some], outers[0][some])
            if grad_hidden is not None:
                grad_hidden[some] = gradient @ matrix
            if grad_weight is not None:
                grad_weight += gradient.T @ rows
            del gradient
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None, None


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk: int = LOSS_CHUNK) -> Tensor:
    """-log p of each target, (tokens,) in fp32; the log-softmax is taken in fp32 whatever the model computes in.

    A chunk's logits exist at a time, and are made again in the backward pass. Without targets it is still a function of
    hidden states and head: where several processes train, all must have a gradient.
    """
    losses: Tensor = _TokenLosses.apply(hidden, weight, targets, _dtype_of_products(weight), chunk)  # type: ignore[no-untyped-call]
    return losses


def _dtype_of_products(weight: Tensor) -> torch.dtype:
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
