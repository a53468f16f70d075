"""How rows of new tokens are learnt from what the model makes of the old pieces; see `distillation`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from langadapt.embeddings.matrices import Rows
from langadapt.embeddings.pieces import subtoken_mean
from langadapt.embeddings.snippets import Snippet
from langadapt.errors import UserError
from langadapt.loss import can_fuse
from langadapt.models import LOSS_CHUNK
from langadapt.records import EmbeddingTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

REPORTS = 10  # lines in the log


def distilled(task: EmbeddingTask, snippets: Sequence[Snippet]) -> Rows:
    """The rows as they are learnt from snippets in one pass; those of tokens that are in none stay as they start.

    Nothing in the model changes.

    Raises:
        UserError: the model has fewer blocks than `layer` says.
    """
    options, student = task.options, Student(task)
    order = torch.randperm(len(snippets), generator=torch.Generator().manual_seed(task.seed)).tolist()
    steps = [order[start : start + options.batch_size] for start in range(0, len(order), options.batch_size)]
    optimizer = torch.optim.AdamW(student.learnt, lr=options.learning_rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=max(1, len(steps)))
    with _frozen(task.model):
        for number, places in enumerate(steps, 1):
            loss = student.loss([snippets[place] for place in places])
            optimizer.zero_grad()
            torch.autograd.backward(loss.total)
            optimizer.step()
            schedule.step()
            if number * REPORTS // len(steps) > (number - 1) * REPORTS // len(steps):
                task.say(f"step {number} of {len(steps)}: {loss}")
    met = {id for snippet in snippets for id in snippet.new.tolist()}
    return student.rows([id in met for id in task.ids])


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """While open, no weight of the model asks for a gradient."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@dataclass(frozen=True)
class Loss:
    """Mean squared difference of the states, and mean cross-entropy of the tokens in nats; None where nobody asks."""

    states: Tensor
    tokens: Tensor | None

    @property
    def total(self) -> Tensor:
        """Both, the cross-entropy scaled to the size of the difference (the paper's α)."""
        return self.states if self.tokens is None else self.states + self.tokens * (self.states / self.tokens).detach()

    def __str__(self) -> str:
        said = f"states differ by {self.states.item():.4g}"
        return said if self.tokens is None else f"{said}, tokens cost {self.tokens.item():.4g} nats"


class Student:
    """The model with rows of new tokens that learn, beside itself with the old pieces as the teacher.

    Args:
        task: of the initialisation. The rows start as sub-token means.

    Attributes:
        learnt: rows of the input and of the output matrix, or rows that serve for both.
    """

    def __init__(self, task: EmbeddingTask):
        rows, output_rows = subtoken_mean(task)
        self._start = [rows] if output_rows is None else [rows, output_rows]
        self.learnt = [nn.Parameter(matrix.clone()) for matrix in self._start]
        self._decoder, self._embed = task.model.get_decoder(), task.model.get_input_embeddings()
        self._block = _block(self._decoder, task.options.layer)
        self._head = _Head(task) if can_fuse(task.model) else None
        self._collate = _Collate(task)

    def rows(self, learnt: Sequence[bool]) -> Rows:
        """The rows as they are now where they have learnt, and as they started elsewhere.

        The cross-entropy alone would have pushed the others away from all text.
        """
        where = torch.tensor(learnt, device=self.learnt[0].device)[:, None]
        now = [torch.where(where, rows.detach(), start) for rows, start in zip(self.learnt, self._start, strict=True)]
        return now[0], now[1] if len(now) > 1 else None

    def loss(self, snippets: Sequence[Snippet]) -> Loss:
        """What the rows are off by on some snippets."""
        batch = self._collate(snippets)
        inner, last = self._teach(batch.old)
        read = self._read(batch.new)
        states = functional.mse_loss(_at(read, batch.alike[0]), _at(inner, batch.alike[1]))
        if self._head is None or last is None:
            return Loss(states, None)
        return Loss(states, self._head.cross_entropy(_at(last, batch.contexts), self.learnt[-1], batch.targets))

    @torch.no_grad()
    def _teach(self, old: Tensor) -> tuple[Tensor, Tensor | None]:
        """States of the old tokens after the block, and the last ones where output rows learn."""
        if self._head is None:
            return self._up_to_block(self._embed(old)), None
        inner: list[Tensor] = []
        hook = self._block.register_forward_hook(lambda block, given, made: inner.append(_states(made)))
        try:
            last = self._decoder(input_ids=old, use_cache=False).last_hidden_state
        finally:
            hook.remove()
        return inner[0], last

    def _read(self, new: Tensor) -> Tensor:
        """States of the student's tokens after the block; ids beyond the old matrix are places in the new rows."""
        size = len(self._embed.weight)
        fresh = new >= size
        known = self._embed(new.masked_fill(fresh, 0))
        scale = getattr(self._embed, "embed_scale", 1.0)  # Gemma's: what the layer multiplies rows by
        learnt = functional.embedding((new - size).clamp(min=0), self.learnt[0]) * scale
        return self._up_to_block(torch.where(fresh[..., None], learnt.to(known.dtype), known))

    def _up_to_block(self, embedded: Tensor) -> Tensor:
        """States after the block; the blocks behind it are not run."""

        def stop(block: nn.Module, given: Any, made: Any) -> None:
            raise _Reached(_states(made))

        hook = self._block.register_forward_hook(stop)
        try:
            self._decoder(inputs_embeds=embedded, use_cache=False)
        except _Reached as reached:
            return reached.states
        finally:
            hook.remove()
        raise AssertionError("the block was not run")


class _Reached(Exception):
    """Carries the states out of the model when they have gone far enough."""

    def __init__(self, states: Tensor):
        self.states = states


def _states(made: Any) -> Tensor:
    states: Tensor = made[0] if isinstance(made, tuple) else made
    return states


def _at(states: Tensor, places: Tensor) -> Tensor:
    """States at places of the flattened batch, in fp32."""
    return states.flatten(0, 1)[places].float()


def _block(decoder: nn.Module, layer: int | None) -> nn.Module:
    """The block after which states are compared; a third of the depth by default."""
    blocks = next(module for module in decoder.modules() if isinstance(module, nn.ModuleList))
    if layer is not None and layer > len(blocks):
        raise UserError(f"embeddings.layer = {layer}, and the model has {len(blocks)} blocks; choose one of them")
    return blocks[(layer or max(1, round(len(blocks) / 3))) - 1]


class _Head:
    """The output matrix as far as it stays, and what tokens cost when new rows stand beside it."""

    def __init__(self, task: EmbeddingTask):
        self._matrix = task.model.get_output_embeddings().weight.detach()
        staying = sorted({old for old in task.kept if old is not None})
        self._staying = self._matrix if len(staying) == len(self._matrix) else self._matrix[staying]

    def cross_entropy(self, states: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log p(target) in nats; a gradient goes to the rows of new tokens alone.

        Args:
            states: (tokens, hidden_size) before each target, in fp32.
            rows: of new tokens, (new tokens, hidden_size).
            targets: (tokens,), old ids, or the size of the old matrix plus the place of a new token.
        """
        size = len(self._matrix)
        given = states.to(self._matrix.dtype)
        parts = (given[start : start + LOSS_CHUNK] for start in range(0, len(given), LOSS_CHUNK))
        old = torch.cat([(part @ self._staying.T).float().logsumexp(1) for part in parts])
        known = (states * self._matrix[targets.clamp(max=size - 1)].float()).sum(1)
        new = states @ rows.T
        fresh = new.gather(1, (targets - size).clamp(min=0)[:, None]).squeeze(1)
        wanted = torch.where(targets >= size, fresh, known)
        return (torch.logaddexp(old, new.logsumexp(1)) - wanted).mean()


@dataclass(frozen=True)
class _Batch:
    """Snippets of one step, padded on the right, where no token before looks.

    Attributes:
        old: (snippets, old tokens).
        new: (snippets, new tokens), a kept one by its old id, any other by the old matrix's size plus its place in `ids`.
        alike: (2, pairs), places in the flattened `new` and `old` after which the states shall be the same.
        contexts: (tokens,), places in the flattened `old` …
        targets: … and the token of `new` that comes after each.
    """

    old: Tensor
    new: Tensor
    alike: Tensor
    contexts: Tensor
    targets: Tensor


class _Collate:
    """What makes batches, each snippet behind the token that texts start with."""

    def __init__(self, task: EmbeddingTask):
        matrix = task.model.get_input_embeddings().weight
        self._size, self._device = len(matrix), matrix.device
        self._start = _start(task.model.config.get_text_config())
        self._coded = np.array([0 if old is None else old for old in task.kept], np.int64)
        self._coded[list(task.ids)] = self._size + np.arange(len(task.ids))

    def __call__(self, snippets: Sequence[Snippet]) -> _Batch:
        lead = len(self._start)
        before = np.arange(lead)
        old = [np.concatenate([self._start, snippet.old]) for snippet in snippets]
        new = [np.concatenate([self._start, self._coded[snippet.new]]) for snippet in snippets]
        places = [
            np.concatenate([before, np.where(snippet.places >= 0, snippet.places + lead, -1)]) for snippet in snippets
        ]
        width, new_width = max(map(len, old)), max(map(len, new))
        alike: list[Numbers] = []
        contexts: list[Numbers] = []
        targets: list[Numbers] = []
        for row, (ids, ends) in enumerate(zip(new, places, strict=True)):
            shared = np.flatnonzero(ends >= 0)
            compared = shared[shared >= np.argmax(ids >= self._size)]  # before the first new token nothing can differ
            alike.append(np.stack([compared + row * new_width, ends[compared] + row * width]))
            leading = shared[shared < len(ids) - 1]
            contexts.append(ends[leading] + row * width)
            targets.append(ids[leading + 1])
        return _Batch(
            old=self._tensor(_padded(old, width)),
            new=self._tensor(_padded(new, new_width)),
            alike=self._tensor(np.concatenate(alike, axis=1)),
            contexts=self._tensor(np.concatenate(contexts)),
            targets=self._tensor(np.concatenate(targets)),
        )

    def _tensor(self, numbers: Numbers) -> Tensor:
        return torch.from_numpy(numbers).to(self._device)


def _start(config: Any) -> Numbers:
    """The token before a text's first: BOS, or EOS where a model has none, or none."""
    known = [id for id in (config.bos_token_id, config.eos_token_id) if isinstance(id, int)]
    return np.array(known[:1], np.int64)


def _padded(rows: Sequence[Numbers], width: int) -> Numbers:
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])
