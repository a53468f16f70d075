"""Trains a model on preferences: on pairs of answers, or on answers that were judged one by one.

What a method computes of log-probabilities is in `langadapt.preference_losses`, with trl's names and values. The
training itself is ours, as in `langadapt.training`, and for the same reasons: nothing is cut, the order of examples is
known, adapters stay in fp32 beside 4-bit weights, and no logits are kept.

The reference, where a method asks one, is the model that the stage starts from. An adapter is switched off to ask it, so
it costs no memory, and under `qlora` it has the very weights that the adapter was trained beside. Where the base itself
learns, a frozen copy is kept.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from langadapt import processes
from langadapt.corpus.packing import IGNORE
from langadapt.errors import UserError
from langadapt.loss import answer_log_probs
from langadapt.preference_losses import OBJECTIVES, JudgedAnswers, Objective, compare
from langadapt.run import StageContext, StageResult
from langadapt.training import (
    Prepared,
    Progress,
    SeededTrainer,
    Shared,
    account,
    make_arguments,
    prepare,
    rows_per_step,
    run_trainer,
    save,
)

if TYPE_CHECKING:
    from langadapt.corpus.tokenising import Packed
    from langadapt.stages.preference import Method, PreferenceOptions

Batch = Mapping[str, Tensor]

# Nats a token by which a fresh adapter may seem to differ from its base; the arithmetic of 16 bits makes thousandths.
SAME = 0.02


def train(context: StageContext, packed: Packed, options: PreferenceOptions) -> StageResult:
    """Trains on packed pairs or answers and saves the stage's model; see `langadapt.training.train`.

    Returns:
        Where every token went, and metrics: those of any training, and the first and last of the rewards of answers that
        were chosen or liked, of the others, the margin between them, and of pairs the share whose margin is above zero.

    Raises:
        UserError: the options do not fit the model or the machine, or the strategy leaves no reference.
        RunError: the loss is not a number.
        Interrupted: the user stopped it.
    """
    if processes.wanted(context):
        assert packed.place
        return processes.train(context, packed.place.folder)
    way = options.way
    prepared = prepare(context, options.peft)
    arguments = make_arguments(context, options, _load(way.upstream))
    if arguments.disable_dropout:
        _disable_dropout(prepared.model)
    reference = _frozen_copy(prepared) if way.asks_reference else None
    trainer = (PairTrainer if way.paired else AnswerTrainer)(
        way=way,
        objective=OBJECTIVES[options.method],
        reference=reference,
        prepared=prepared,
        training=options.training,
        args=arguments,
        train_dataset=Shared(packed.rows),
    )
    examples = len(packed.rows)
    progress = Progress(context, trainer, packed)
    with ExitStack() as forwards:
        for model in filter(None, (prepared.plain, reference)):
            forwards.enter_context(answer_log_probs(model))
        try:
            run_trainer(context, trainer, progress)
        except NoReferenceError as error:
            raise UserError(f"stage {context.stage.id}: {error}") from None
    save(prepared, context, trainer)
    account(context, packed, trainer)
    metrics = {
        "method": options.method,
        "trainable_parameters": prepared.trainable,
        trainer.unit: examples,
        f"{trainer.unit}_per_step": rows_per_step(arguments),
        "epochs": round(float(trainer.state.epoch or 0), 3),
    }
    return StageResult(accounting=packed.to_json(), metrics=progress.metrics() | metrics)


def _load(upstream: str) -> Any:
    """trl's class of options, `package.module:Class`."""
    module, _, name = upstream.partition(":")
    with warnings.catch_warnings():  # that what is experimental may change is seen to by the check of every field
        warnings.filterwarnings("ignore", message=".*trl.experimental")
        return getattr(importlib.import_module(module), name)


class NoReferenceError(Exception):
    """What the strategy leaves as the reference is not what the training starts from."""


class PreferenceTrainer(SeededTrainer):
    """A trainer on examples of one kind.

    Args:
        way: the method that it learns by.
        objective: what the method computes of a batch.
        reference: the frozen copy; None where the model's adapter is switched off instead, or no reference is asked.
        options: of transformers' Trainer; `args` is of the method's class.
    """

    loss_is_scaled_for_ga = True
    unit: str  # what metrics call an example
    answers: int  # rows of a batch that are one example

    def __init__(self, *, way: Method, objective: Objective, reference: Any | None = None, **options: Any):
        super().__init__(data_collator=self.collate, **options)
        self.way, self.objective, self.reference = way, objective, reference
        self._rewards: dict[str, list[float]] = {"chosen": [], "rejected": []}
        self._begun = False

    @staticmethod
    @abstractmethod
    def collate(examples: Sequence[Any]) -> dict[str, Tensor]:
        """A batch: `input_ids` and `labels`, each of shape (answers, tokens of the longest with its prompt), and more."""

    @abstractmethod
    def of_step(self, batches: Sequence[Batch], examples: int) -> dict[str, Tensor]:
        """What every batch of a step is to know of all of them, as scalars.

        Args:
            batches: of this process, blanks included.
            examples: in those of all processes.
        """

    @abstractmethod
    def compared(self, found: Tensor, expected: Tensor | None, batch: Batch) -> Any:
        """What the objective takes, from the log-probabilities of all labels under the model and its reference.

        None of the rows is blank; they may be none at all.
        """

    def get_batch_samples(self, *args: Any, **options: Any) -> tuple[list[Any], int]:
        """The batches of a step, and how many examples are in those of all processes: what its loss is a mean over."""
        batches, _ = super().get_batch_samples(*args, **options)
        rows = sum(int(_are_real(batch).sum()) for batch in batches)
        examples = int(self.summed(torch.tensor(rows, device=self.args.device))) // self.answers
        shared = self.of_step(batches, examples)
        return [{**batch, **shared} for batch in batches], examples

    def summed(self, value: Tensor) -> Tensor:
        """Over all processes."""
        total: Tensor = self.accelerator.reduce(value, "sum")
        return total

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of a batch as `collate` makes it: the examples' sum over `num_items_in_batch`, by default their mean."""
        expected = self.expected(model, inputs) if self.way.asks_reference else None
        found = _log_probs(model, inputs)
        if expected is not None and not self._begun and self.state.global_step == 0:
            _check_start(found.detach(), expected, inputs["labels"])
        self._begun = True
        real = _are_real(inputs)
        batch = {key: value[real] if value.dim() else value for key, value in inputs.items()}
        compared = self.compared(found[real], None if expected is None else expected[real], batch)
        loss = self.objective.loss(compared, self.args)
        for name, rewards in zip(("chosen", "rejected"), self.objective.rewards(compared, self.args), strict=True):
            self._rewards[name] += rewards.tolist()
        if num_items_in_batch is None:
            return loss.mean()
        # Gradients are averaged over processes, and the examples of all of them were counted.
        return loss.sum() * self.accelerator.num_processes / num_items_in_batch

    def expected(self, model: Any, batch: Batch) -> Tensor:
        """Log-probabilities of a batch's labels under the reference."""
        with torch.no_grad(), self.as_reference(model) as reference, self.accelerator.autocast():
            return _log_probs(reference, batch)

    @contextmanager
    def as_reference(self, model: Any) -> Iterator[Any]:
        """The model that the training started from, without dropout."""
        if self.reference is not None:
            yield self.reference
            return
        with self.accelerator.unwrap_model(model).disable_adapter(), _at_rest(model):
            yield model

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of the rewards since the last time, over the answers of all processes."""
        if "loss" in logs:
            logs |= self.figures({side: gather_object(rewards) for side, rewards in self._rewards.items()})
            self._rewards = {side: [] for side in self._rewards}
        super().log(logs, start_time)

    def figures(self, rewards: Mapping[str, list[float]]) -> dict[str, float]:
        """Mean rewards of both sides and the margin between them, as far as there are answers of both."""
        means = {f"rewards/{side}": float(np.mean(values)) for side, values in rewards.items() if values}
        margin = {"rewards/margins": means["rewards/chosen"] - means["rewards/rejected"]} if len(means) == 2 else {}
        return means | margin


class PairTrainer(PreferenceTrainer):
    """A trainer on pairs; batches hold the chosen answers first, then the rejected ones."""

    unit, answers = "pairs", 2

    @staticmethod
    def collate(examples: Sequence[Any]) -> dict[str, Tensor]:
        return _stack([pair[side] for side in ("chosen", "rejected") for pair in examples])

    def of_step(self, batches: Sequence[Batch], examples: int) -> dict[str, Tensor]:
        chosen = [batch["labels"].chunk(2)[0] for batch in batches]
        tokens = torch.stack([(labels != IGNORE).sum() for labels in chosen]).sum()
        return {"mean_tokens": self.summed(tokens) / examples}

    def compared(self, found: Tensor, expected: Tensor | None, batch: Batch) -> Any:
        ld_alpha = getattr(self.args, "ld_alpha", None)  # DPO's alone
        return compare(found, expected, batch["labels"], ld_alpha=ld_alpha, mean_tokens=batch.get("mean_tokens"))

    def figures(self, rewards: Mapping[str, list[float]]) -> dict[str, float]:
        better = np.greater(rewards["chosen"], rewards["rejected"])
        return super().figures(rewards) | {"rewards/accuracies": float(better.mean())}


class AnswerTrainer(PreferenceTrainer):
    """A trainer on answers that were judged one by one; batches say which were `liked`."""

    unit, answers = "answers", 1

    @staticmethod
    def collate(examples: Sequence[Any]) -> dict[str, Tensor]:
        return _stack(examples) | {"liked": torch.tensor([row["liked"] for row in examples])}

    def of_step(self, batches: Sequence[Batch], examples: int) -> dict[str, Tensor]:
        """The estimate of the KL divergence: over all answers of the step, however it is cut into batches and shared.

        It is 0 in a step of one answer, which has no other to change places with.
        """
        if self.args.loss_type not in self.way.estimates_kl:
            return {}
        apart = torch.zeros((), device=self.args.device)
        if examples > 1:
            for batch in mismatched([self._of_all(batch) for batch in batches], self.args.max_length):
                apart += self._apart(self.model_wrapped, self._own(batch))
        return {"kl": (self.summed(apart) / examples).clamp(min=0)}

    def _of_all(self, batch: Batch) -> dict[str, Tensor]:
        """A batch with the rows of all processes, in the order of the step."""
        padded = {
            key: self.accelerator.pad_across_processes(batch[key], dim=1, pad_index=pad)
            for key, pad in (("input_ids", 0), ("labels", IGNORE))
        }
        rows: dict[str, Tensor] = self.accelerator.gather(padded)
        return rows

    def _own(self, batch: Batch) -> dict[str, Tensor]:
        """This process's rows of a batch of all of them."""
        world = self.accelerator
        return {key: rows.chunk(world.num_processes)[world.process_index] for key, rows in batch.items()}

    def _apart(self, model: Any, batch: Batch) -> Tensor:
        """How much likelier the model finds the answers together than its reference does, in nats; without dropout."""
        with torch.no_grad(), _at_rest(model), self.accelerator.autocast():
            found = _log_probs(model, batch)
        return (found - self.expected(model, batch)).sum()

    def compared(self, found: Tensor, expected: Tensor | None, batch: Batch) -> Any:
        assert expected is not None
        kl = batch.get("kl", torch.zeros((), device=found.device))
        return JudgedAnswers(ratio=(found - expected).sum(1), liked=batch["liked"], kl=kl)


# --- batches ---------------------------------------------------------------------------------------------------------


def _stack(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    # A document's positions count up and those of padding are all 0, so the last one above 0 is a document's end.
    length = max(int(np.flatnonzero(row["position_ids"])[-1]) + 1 for row in rows)
    return {key: torch.from_numpy(np.stack([row[key][:length] for row in rows])) for key in ("input_ids", "labels")}


def _are_real(batch: Batch) -> Tensor:
    """Which rows of a batch are no blanks, which fill up the step of several processes and count nowhere."""
    return (batch["labels"] != IGNORE).any(1)


def mismatched(batches: Sequence[Batch], longest: int) -> Iterator[dict[str, Tensor]]:
    """The batches of a step, each answer of it behind the prompt of the next one, and the last behind the first.

    Nothing is learnt from them, so what is longer than `longest` tokens is cut. Blanks stay as they are.
    """
    rows = [row for batch in batches for row in zip(batch["input_ids"], batch["labels"], strict=True)]
    own = [labels[labels != IGNORE] for _, labels in rows]
    answers = [answer for answer in own if len(answer)]
    before = iter([answers[-1], *answers[:-1]])
    made = (
        _behind(ids, labels, next(before), longest) if len(answer) else (ids, labels)
        for (ids, labels), answer in zip(rows, own, strict=True)
    )
    for batch in batches:
        ids, labels = zip(*islice(made, len(batch["labels"])), strict=True)
        yield {
            "input_ids": pad_sequence(list(ids), batch_first=True),
            "labels": pad_sequence(list(labels), batch_first=True, padding_value=IGNORE),
        }


def _behind(ids: Tensor, labels: Tensor, answer: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """A row with another answer in the place of its own: `input_ids` and `labels`, each of shape (tokens,)."""
    prompt = int((labels != IGNORE).nonzero()[0]) + 1  # labels are of the tokens that come after
    before = torch.full((prompt - 1,), IGNORE, dtype=labels.dtype, device=labels.device)
    end = longest - 1  # the last token is predicted and never read
    return torch.cat([ids[:prompt], answer[:-1]])[:end], torch.cat([before, answer])[:end]


def _log_probs(model: Any, batch: Batch) -> Tensor:
    found: Tensor = model(input_ids=batch["input_ids"], labels=batch["labels"])["log_probs"]
    return found


# --- the reference ---------------------------------------------------------------------------------------------------


def _frozen_copy(prepared: Prepared) -> Any | None:
    """A copy of what the training starts from, where there is no adapter to switch off."""
    if hasattr(prepared.model, "disable_adapter"):
        return None
    return copy.deepcopy(prepared.model).requires_grad_(False).eval()


def _check_start(found: Tensor, expected: Tensor, labels: Tensor) -> None:
    """Before the first step, the model must still be its own reference: all margins are 0, and the loss is ln 2."""
    apart = float((found - expected).abs().sum() / (labels != IGNORE).sum().clamp(min=1))
    if apart > SAME:
        raise NoReferenceError(
            f"with a fresh adapter, the model is {apart:.2g} nats a token away from what it is without one, so there "
            "is no reference to prefer against; leave peft.init_lora_weights at its default"
        )


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """Without dropout while open."""
    learning = model.training
    model.eval()
    yield
    model.train(learning)


def _disable_dropout(model: Any) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
