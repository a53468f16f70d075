"""Trains a model on pairs of answers: direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) and kin.

The names of options and losses, and the values of the losses, are trl's (`DPOConfig`); a test compares them. The
training itself is ours, as in `langadapt.training`, and for the same reasons: nothing is cut, the order of pairs is
known, adapters stay in fp32 beside 4-bit weights, and no logits are kept.

The reference is the model that the stage starts from. An adapter is switched off to ask it, so it costs no memory, and
under `qlora` it has the very weights that the adapter was trained beside. Where the base itself learns, a frozen copy
is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from trl import DPOConfig

from langadapt import processes
from langadapt.errors import UserError
from langadapt.loss import answer_log_probs
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
    from langadapt.stages.preference import PreferenceOptions

# Nats a token by which a fresh adapter may seem to differ from its base; the arithmetic of 16 bits makes thousandths.
SAME = 0.02


def train(context: StageContext, packed: Packed, options: PreferenceOptions) -> StageResult:
    """Trains on packed pairs and saves the stage's model; see `langadapt.training.train`.

    Returns:
        Where every token went, and metrics: those of any training, and the first and last of the rewards: how much
        likelier the chosen and the rejected answers became, times beta, the margin between them, and the share of
        pairs whose margin is above zero.

    Raises:
        UserError: the options do not fit the model or the machine, or the strategy leaves no reference.
        RunError: the loss is not a number.
        Interrupted: the user stopped it.
    """
    if processes.wanted(context):
        assert packed.place
        return processes.train(context, packed.place.folder)
    prepared = prepare(context, options.peft)
    arguments = make_arguments(context, options, DPOConfig)
    if arguments.disable_dropout:
        _disable_dropout(prepared.model)
    reference = _frozen_copy(prepared)
    pairs = packed.rows
    trainer = PairTrainer(
        prepared=prepared,
        training=options.training,
        args=arguments,
        train_dataset=Shared(pairs),
        data_collator=collate,
        reference=reference,
    )
    tokens_per_pair = packed.accounting.tokens.trained / len(pairs)
    progress = Progress(context, trainer, tokens_per_step=round(rows_per_step(arguments) * tokens_per_pair))
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
        "trainable_parameters": prepared.trainable,
        "pairs": len(pairs),
        "pairs_per_step": rows_per_step(arguments),
        "epochs": round(float(trainer.state.epoch or 0), 3),
    }
    return StageResult(accounting=packed.to_json(), metrics=progress.metrics() | metrics)


class NoReferenceError(Exception):
    """What the strategy leaves as the reference is not what the training starts from."""


class PairTrainer(SeededTrainer):
    """A trainer on pairs, with the losses of `LOSSES`.

    Args:
        reference: the frozen copy; None where the model's adapter is switched off instead.
        options: of transformers' Trainer; `args` is a `DPOConfig`.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, reference: Any | None = None, **options: Any):
        super().__init__(**options)
        self.reference = reference
        self._figures: dict[str, list[float]] = {}
        self._begun = False

    def get_batch_samples(self, *args: Any, **options: Any) -> tuple[list[Any], int]:
        """The batches of a step, and how many pairs are in those of all processes: what its loss is a mean over."""
        batches, _ = super().get_batch_samples(*args, **options)
        pairs = sum(int(_real(batch["labels"]).sum()) for batch in batches)
        return batches, int(self.accelerator.reduce(torch.tensor(pairs, device=self.args.device)))

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Loss of a batch as `collate` makes it: the pairs' sum over `num_items_in_batch`, by default their mean."""
        with torch.no_grad(), self._as_reference(model) as reference, self.accelerator.autocast():
            expected = reference(**inputs)["log_probs"]
        found = model(**inputs)["log_probs"]
        if not self._begun and self.state.global_step == 0:
            _check_start(found.detach(), expected, inputs["labels"])
        self._begun = True
        real = _real(inputs["labels"]).repeat(2)
        compared = compare(found[real], expected[real], inputs["labels"][real], self.args)
        loss = preference_loss(compared, self.args)
        self._note(compared)
        if num_items_in_batch is None:
            return loss.mean()
        # Gradients are averaged over processes, and the pairs of all of them were counted.
        return loss.sum() * self.accelerator.num_processes / num_items_in_batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of the rewards since the last time."""
        if "loss" in logs:
            logs |= self._means()
            self._figures = {}
        super().log(logs, start_time)

    @contextmanager
    def _as_reference(self, model: Any) -> Iterator[Any]:
        """The model that the training started from, without dropout."""
        if self.reference is not None:
            yield self.reference
            return
        learning = model.training
        with self.accelerator.unwrap_model(model).disable_adapter():
            model.eval()
            yield model
        model.train(learning)

    def _note(self, compared: Compared) -> None:
        beta = self.args.beta
        chosen, rejected = beta * compared.chosen.detach(), beta * compared.rejected.detach()
        figures = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
        }
        for name, values in figures.items():
            self._figures.setdefault(name, []).extend(values.tolist())

    def _means(self) -> dict[str, float]:
        """Of each figure, over the pairs of all processes."""
        figures = [[sum(values), len(values)] for values in self._figures.values()]
        sums = self.accelerator.reduce(torch.tensor(figures, dtype=torch.float32, device=self.args.device))
        return {name: float(total / pairs) for name, (total, pairs) in zip(self._figures, sums, strict=True)}


def _real(labels: Tensor) -> Tensor:
    """Which pairs of a batch are no blanks."""
    return (labels != -100).any(1).chunk(2)[0]


def collate(pairs: list[dict[str, dict[str, Any]]]) -> dict[str, Tensor]:
    """A batch of `PairedRows`' pairs.

    Returns:
        `input_ids` and `labels`, each of shape (2 · pairs, tokens of the longest answer with its prompt): the chosen
        answers, then the rejected ones.
    """
    rows = [pair[side] for side in ("chosen", "rejected") for pair in pairs]
    # A document's positions count up and those of padding are all 0, so the last one above 0 is a document's end.
    length = max(int(np.flatnonzero(row["position_ids"])[-1]) + 1 for row in rows)
    return {key: torch.from_numpy(np.stack([row[key][:length] for row in rows])) for key in ("input_ids", "labels")}


# --- the losses ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A batch of pairs under the model in training and under its reference; all of shape (pairs,).

    Attributes:
        chosen: log p(answer) under the model minus under the reference, of the chosen answers.
        rejected: the same of the rejected ones.
        chosen_score: what the f-divergence makes of `chosen`; the same for the reverse KL divergence.
        rejected_score: what it makes of `rejected`.
        chosen_tokens: learnt tokens of the chosen answers.
        rejected_tokens: and of the rejected ones.
        chosen_log_probs: log p(chosen answer) under the model.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_score: Tensor
    rejected_score: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    chosen_log_probs: Tensor

    @property
    def margin(self) -> Tensor:
        """How much more the model leans to the chosen answer than its reference does."""
        return self.chosen_score - self.rejected_score

    @property
    def margin_per_token(self) -> Tensor:
        """The same, of each answer the mean over its tokens."""
        return self.chosen_score / self.chosen_tokens - self.rejected_score / self.rejected_tokens


def compare(found: Tensor, expected: Tensor, labels: Tensor, options: DPOConfig) -> Compared:
    """Sums up a batch.

    Args:
        found: log p of every label under the model, (2 · pairs, tokens), chosen answers first; 0 where there is none.
        expected: the same under the reference.
        labels: the tokens, -100 where there is none.
        options: `ld_alpha` and the f-divergence.
    """
    learnt = labels != -100
    lengths = learnt.sum(1)
    weights = learnt.to(found.dtype)
    if options.ld_alpha is not None:  # beyond the length that both answers have, tokens weigh less (arXiv 2409.06411)
        shared = torch.minimum(*lengths.chunk(2)).repeat(2)
        weights = weights * torch.where(learnt.cumsum(1) <= shared[:, None], 1.0, float(options.ld_alpha))
    log_probs, reference = (found * weights).sum(1), (expected * weights).sum(1)
    chosen, rejected = (log_probs - reference).chunk(2)
    chosen_tokens, rejected_tokens = lengths.chunk(2)
    return Compared(
        chosen=chosen,
        rejected=rejected,
        chosen_score=_score(chosen, options),
        rejected_score=_score(rejected, options),
        chosen_tokens=chosen_tokens,
        rejected_tokens=rejected_tokens,
        chosen_log_probs=found[: len(chosen)].sum(1),
    )


def preference_loss(compared: Compared, options: DPOConfig) -> Tensor:
    """Loss of every pair, (pairs,): the weighted sum of the losses that `loss_type` names."""
    weights = options.loss_weights or [1.0] * len(options.loss_type)
    losses = [weight * LOSSES[name](compared, options) for name, weight in zip(options.loss_type, weights, strict=True)]
    return torch.stack(losses).sum(0)


def _score(ratio: Tensor, options: DPOConfig) -> Tensor:
    """f' of a likelihood ratio that is given by its logarithm, up to a constant (f-DPO, arXiv 2309.16240)."""
    kind, alpha = str(options.f_divergence_type), float(options.f_alpha_divergence_coef)
    if kind == "forward_kl":
        return 1 - torch.exp(-ratio)
    if kind == "js_divergence":
        return math.log(2) + logsigmoid(ratio)
    if kind == "alpha_divergence" and abs(alpha - 1) >= 1e-6:  # at 1 it is the reverse KL divergence
        return (torch.exp(((alpha - 1) * ratio).clamp(max=80)) - 1) / (alpha - 1)
    return ratio


def _sigmoid(pair: Compared, options: DPOConfig) -> Tensor:
    return -logsigmoid(options.beta * pair.margin)


def _sigmoid_norm(pair: Compared, options: DPOConfig) -> Tensor:
    return -logsigmoid(options.beta * pair.margin_per_token)


def _hinge(pair: Compared, options: DPOConfig) -> Tensor:
    return torch.relu(1 - options.beta * pair.margin)


def _ipo(pair: Compared, options: DPOConfig) -> Tensor:
    return (pair.margin_per_token - 1 / (2 * float(options.beta))).square()


def _robust(pair: Compared, options: DPOConfig) -> Tensor:
    flipped, logit = float(options.label_smoothing), options.beta * pair.margin
    right, wrong = logsigmoid(logit), logsigmoid(-logit)
    return (flipped * wrong - (1 - flipped) * right) / (1 - 2 * flipped)


def _exo_pair(pair: Compared, options: DPOConfig) -> Tensor:
    logit, wrong = options.beta * pair.margin, options.label_smoothing
    right_log, wrong_log = logsigmoid(logit), logsigmoid(-logit)
    return right_log.exp() * (right_log - math.log1p(-wrong)) + wrong_log.exp() * (wrong_log - math.log(wrong))


def _nca_pair(pair: Compared, options: DPOConfig) -> Tensor:
    chosen, rejected = options.beta * pair.chosen, options.beta * pair.rejected
    return -logsigmoid(chosen) - (logsigmoid(-chosen) + logsigmoid(-rejected)) / 2


def _bco_pair(pair: Compared, options: DPOConfig) -> Tensor:
    return -logsigmoid(options.beta * pair.chosen) - logsigmoid(-options.beta * pair.rejected)


def _sppo_hard(pair: Compared, options: DPOConfig) -> Tensor:
    target = 1 / (2 * float(options.beta))
    return (pair.chosen - target).square() + (pair.rejected + target).square()


def _apo_zero(pair: Compared, options: DPOConfig) -> Tensor:
    return torch.sigmoid(-options.beta * pair.chosen) + torch.sigmoid(options.beta * pair.rejected)


def _apo_down(pair: Compared, options: DPOConfig) -> Tensor:
    return torch.sigmoid(options.beta * pair.chosen) + torch.sigmoid(-options.beta * (pair.chosen - pair.rejected))


def _discopop(pair: Compared, options: DPOConfig) -> Tensor:
    logit = options.beta * pair.margin
    share = torch.sigmoid(logit / options.discopop_tau)
    return share * torch.exp(-logit) - (1 - share) * logsigmoid(logit)


def _sft(pair: Compared, options: DPOConfig) -> Tensor:
    return (-pair.chosen_log_probs.sum() / pair.chosen_tokens.sum().clamp(min=1)).expand(len(pair.chosen))


# Of a batch of pairs, the loss of each; the names and their papers are in `langadapt.stages.preference.LOSSES`.
LOSSES: dict[str, Callable[[Compared, DPOConfig], Tensor]] = {
    "sigmoid": _sigmoid, "sigmoid_norm": _sigmoid_norm, "hinge": _hinge, "ipo": _ipo, "robust": _robust,
    "exo_pair": _exo_pair, "nca_pair": _nca_pair, "bco_pair": _bco_pair, "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero, "apo_down": _apo_down, "discopop": _discopop, "sft": _sft,
}  # fmt: skip


# --- the reference ---------------------------------------------------------------------------------------------------


def _frozen_copy(prepared: Prepared) -> Any | None:
    """A copy of what the training starts from, where there is no adapter to switch off."""
    if hasattr(prepared.model, "disable_adapter"):
        return None
    return copy.deepcopy(prepared.model).requires_grad_(False).eval()


def _check_start(found: Tensor, expected: Tensor, labels: Tensor) -> None:
    """Before the first step, the model must still be its own reference: all margins are 0, and the loss is ln 2."""
    apart = float((found - expected).abs().sum() / (labels != -100).sum())
    if apart > SAME:
        raise NoReferenceError(
            f"with a fresh adapter, the model is {apart:.2g} nats a token away from what it is without one, so there "
            "is no reference to prefer against; leave peft.init_lora_weights at its default"
        )


def _disable_dropout(model: Any) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
