"""What methods of preference optimisation make of log-probabilities: losses and rewards, all of them pure functions.

The values are those of trl, a test compares them. The names of methods and losses, and their papers, are in
`langadapt.stages.preference.METHODS`; options are fields of the class that is named there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from langadapt.corpus.packing import IGNORE

Rewards = tuple[Tensor, Tensor]  # of answers that were liked, and of the others; of a pair, both have the same place
PROBABLE = -1e-7  # log-probability above which an answer counts as certain, so that its odds stay a number


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a method computes of a batch, each function from what was compared and the options.

    Attributes:
        losses: loss of every example, (examples,), by `loss_type`; by "" where a method has one alone.
        rewards: how good the model in training finds the answers, without gradients.
    """

    losses: Mapping[str, Callable[[Any, Any], Tensor]]
    rewards: Callable[[Any, Any], Rewards]

    def loss(self, compared: Any, options: Any) -> Tensor:
        """Loss of every example: of several that `loss_type` lists, the sum weighted by `loss_weights`."""
        given = getattr(options, "loss_type", "")
        names = given if isinstance(given, list) else [given]
        weights = getattr(options, "loss_weights", None) or [1.0] * len(names)
        losses = [weight * self.losses[name](compared, options) for name, weight in zip(names, weights, strict=True)]
        return torch.stack(losses).sum(0)


# --- pairs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A batch of pairs under the model in training and under its reference; all of shape (pairs,) but the last.

    Attributes:
        chosen: log p(answer) under the model minus under the reference, of the chosen answers.
        rejected: the same of the rejected ones.
        chosen_tokens: learnt tokens of the chosen answers.
        rejected_tokens: and of the rejected ones.
        chosen_log_probs: log p(chosen answer) under the model.
        mean_tokens: learnt tokens of a chosen answer in the whole step, on average; a scalar.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    chosen_log_probs: Tensor
    mean_tokens: Tensor

    @property
    def margin(self) -> Tensor:
        """How much more the model leans to the chosen answer than its reference does."""
        return self.chosen - self.rejected

    def per_token(self) -> Compared:
        """The same with means over each answer's tokens."""
        return replace(self, chosen=self.chosen / self.chosen_tokens, rejected=self.rejected / self.rejected_tokens)


def compare(
    found: Tensor,
    expected: Tensor | None,
    labels: Tensor,
    *,
    ld_alpha: float | None = None,
    mean_tokens: Tensor | None = None,
) -> Compared:
    """Sums up a batch of pairs.

    Args:
        found: log p of every label under the model, (2 · pairs, tokens), chosen answers first; 0 where there is none.
        expected: the same under the reference; None where there is none, which is as if all answers were alike to it.
        labels: the tokens, -100 where there is none.
        ld_alpha: weight of tokens beyond the length that both answers have (LD-DPO, arXiv 2409.06411); None for 1.
        mean_tokens: see `Compared`; None for those of the batch.
    """
    learnt = labels != IGNORE
    chosen_tokens, rejected_tokens = learnt.sum(1).chunk(2)
    ratios = found if expected is None else found - expected
    if ld_alpha is not None:
        shared = torch.minimum(chosen_tokens, rejected_tokens).repeat(2)
        ratios = ratios * torch.where(learnt.cumsum(1) <= shared[:, None], 1.0, float(ld_alpha))
    chosen, rejected = ratios.sum(1).chunk(2)
    return Compared(
        chosen=chosen,
        rejected=rejected,
        chosen_tokens=chosen_tokens,
        rejected_tokens=rejected_tokens,
        chosen_log_probs=found[: len(chosen)].sum(1),
        mean_tokens=chosen_tokens.float().mean() if mean_tokens is None else mean_tokens,
    )


def _sft(pair: Compared, options: Any) -> Tensor:
    """Cross-entropy of the chosen answers; its mean over a step's pairs is the mean over the tokens of them all."""
    return -pair.chosen_log_probs / pair.mean_tokens


# --- DPO: ratios to a reference --------------------------------------------------------------------------------------


def _scored(pair: Compared, options: Any) -> Compared:
    """With the scores that the f-divergence makes of the ratios; by default it leaves them as they are."""
    return replace(pair, chosen=_score(pair.chosen, options), rejected=_score(pair.rejected, options))


def _score(ratio: Tensor, options: Any) -> Tensor:
    """f' of a likelihood ratio that is given by its logarithm, up to a constant (f-DPO, arXiv 2309.16240)."""
    kind, alpha = str(options.f_divergence_type), float(options.f_alpha_divergence_coef)
    if kind == "forward_kl":
        return 1 - torch.exp(-ratio)
    if kind == "js_divergence":
        return math.log(2) + logsigmoid(ratio)
    if kind == "alpha_divergence" and abs(alpha - 1) >= 1e-6:  # at 1 it is the reverse KL divergence
        return (torch.exp(((alpha - 1) * ratio).clamp(max=80)) - 1) / (alpha - 1)
    return ratio


def _logit(pair: Compared, options: Any) -> Tensor:
    return float(options.beta) * _scored(pair, options).margin


def _sigmoid(pair: Compared, options: Any) -> Tensor:
    return -logsigmoid(_logit(pair, options))


def _sigmoid_norm(pair: Compared, options: Any) -> Tensor:
    return -logsigmoid(options.beta * _scored(pair, options).per_token().margin)


def _hinge(pair: Compared, options: Any) -> Tensor:
    return torch.relu(1 - _logit(pair, options))


def _ipo(pair: Compared, options: Any) -> Tensor:
    return (_scored(pair, options).per_token().margin - 1 / (2 * float(options.beta))).square()


def _robust(pair: Compared, options: Any) -> Tensor:
    flipped, logit = float(options.label_smoothing), _logit(pair, options)
    right, wrong = logsigmoid(logit), logsigmoid(-logit)
    return (flipped * wrong - (1 - flipped) * right) / (1 - 2 * flipped)


def _exo_pair(pair: Compared, options: Any) -> Tensor:
    logit, wrong = _logit(pair, options), options.label_smoothing
    right_log, wrong_log = logsigmoid(logit), logsigmoid(-logit)
    return right_log.exp() * (right_log - math.log1p(-wrong)) + wrong_log.exp() * (wrong_log - math.log(wrong))


def _nca_pair(pair: Compared, options: Any) -> Tensor:
    chosen, rejected = options.beta * pair.chosen, options.beta * pair.rejected
    return -logsigmoid(chosen) - (logsigmoid(-chosen) + logsigmoid(-rejected)) / 2


def _bco_pair(pair: Compared, options: Any) -> Tensor:
    return -logsigmoid(options.beta * pair.chosen) - logsigmoid(-options.beta * pair.rejected)


def _sppo_hard(pair: Compared, options: Any) -> Tensor:
    target = 1 / (2 * float(options.beta))
    return (pair.chosen - target).square() + (pair.rejected + target).square()


def _apo_zero(pair: Compared, options: Any) -> Tensor:
    return torch.sigmoid(-options.beta * pair.chosen) + torch.sigmoid(options.beta * pair.rejected)


def _apo_down(pair: Compared, options: Any) -> Tensor:
    return torch.sigmoid(options.beta * pair.chosen) + torch.sigmoid(-options.beta * pair.margin)


def _discopop(pair: Compared, options: Any) -> Tensor:
    logit = _logit(pair, options)
    share = torch.sigmoid(logit / options.discopop_tau)
    return share * torch.exp(-logit) - (1 - share) * logsigmoid(logit)


def _pair_rewards(pair: Compared, options: Any) -> Rewards:
    return options.beta * pair.chosen.detach(), options.beta * pair.rejected.detach()


# --- ORPO and CPO: no reference --------------------------------------------------------------------------------------


def _orpo(pair: Compared, options: Any) -> Tensor:
    """Cross-entropy and the odds ratio: odds of p, the geometric mean of an answer's token probabilities."""
    mean = pair.per_token()
    log_odds = mean.margin - (_log1mexp(mean.chosen) - _log1mexp(mean.rejected))
    return _sft(pair, options) - float(options.beta) * logsigmoid(log_odds)


def _log1mexp(log_probs: Tensor) -> Tensor:
    """log(1 - exp(x)) of x below 0, exact near 0 and far from it."""
    bounded = log_probs.float().clamp(max=PROBABLE)
    return torch.where(bounded > -math.log(2), torch.log(-torch.expm1(bounded)), torch.log1p(-torch.exp(bounded)))


def _orpo_rewards(pair: Compared, options: Any) -> Rewards:
    return _pair_rewards(pair.per_token(), options)


def _bent(pair: Compared, options: Any) -> Compared:
    """What CPO compares: log p, for `ipo` and `simpo` per token, bent by AlphaPO's `alpha` (arXiv 2501.03884)."""
    plain = pair.per_token() if options.loss_type in ("ipo", "simpo") else pair
    if not options.alpha:
        return plain
    chosen, rejected = (-torch.expm1(-options.alpha * side) / options.alpha for side in (plain.chosen, plain.rejected))
    return replace(plain, chosen=chosen, rejected=rejected)


def _smoothed(logit: Tensor, options: Any) -> Tensor:
    flipped = float(options.label_smoothing)
    return -(1 - flipped) * logsigmoid(logit) - flipped * logsigmoid(-logit)


def _cpo(loss: Callable[[Tensor, Any], Tensor]) -> Callable[[Compared, Any], Tensor]:
    """A loss of the margin, and the cross-entropy of the chosen answer times `cpo_alpha`."""
    return lambda pair, options: loss(_bent(pair, options).margin, options) + options.cpo_alpha * _sft(pair, options)


def _cpo_rewards(pair: Compared, options: Any) -> Rewards:
    return _pair_rewards(_bent(pair, options), options)


# --- KTO: answers that were judged one by one ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class JudgedAnswers:
    """A batch of answers under the model in training and under its reference.

    Attributes:
        ratio: log p(answer) under the model minus under the reference, (answers,).
        liked: whether the answer was liked, (answers,).
        kl: estimate of how far the model is from its reference, nats an answer, without gradients; a scalar.
    """

    ratio: Tensor
    liked: Tensor
    kl: Tensor


def _weighted(liked: Tensor, losses: Tensor, options: Any) -> Tensor:
    return losses * torch.where(liked, float(options.desirable_weight), float(options.undesirable_weight))


def _kto(answers: JudgedAnswers, options: Any) -> Tensor:
    """1 - the value of an answer: how far it is on the right side of `kl`, the point from which gains and losses count."""
    gain = torch.where(answers.liked, answers.ratio - answers.kl, answers.kl - answers.ratio)
    return _weighted(answers.liked, torch.sigmoid(-options.beta * gain), options)


def _apo_zero_unpaired(answers: JudgedAnswers, options: Any) -> Tensor:
    gain = torch.where(answers.liked, answers.ratio, -answers.ratio)
    return _weighted(answers.liked, torch.sigmoid(-options.beta * gain), options)


def _answer_rewards(answers: JudgedAnswers, options: Any) -> Rewards:
    rewards = options.beta * answers.ratio.detach()
    return rewards[answers.liked], rewards[~answers.liked]


# --- the table -------------------------------------------------------------------------------------------------------

_CPO = Objective(
    losses={
        "sigmoid": _cpo(lambda margin, options: _smoothed(options.beta * margin, options)),
        "hinge": _cpo(lambda margin, options: torch.relu(1 - options.beta * margin)),
        "ipo": _cpo(lambda margin, options: (margin - 1 / (2 * float(options.beta))).square()),
        "simpo": _cpo(lambda margin, options: _smoothed(options.beta * margin - options.simpo_gamma, options)),
    },
    rewards=_cpo_rewards,
)
OBJECTIVES: dict[str, Objective] = {
    "dpo": Objective(
        losses={
            "sigmoid": _sigmoid, "sigmoid_norm": _sigmoid_norm, "hinge": _hinge, "ipo": _ipo, "robust": _robust,
            "exo_pair": _exo_pair, "nca_pair": _nca_pair, "bco_pair": _bco_pair, "sppo_hard": _sppo_hard,
            "apo_zero": _apo_zero, "apo_down": _apo_down, "discopop": _discopop, "sft": _sft,
        },
        rewards=_pair_rewards,
    ),
    "orpo": Objective(losses={"": _orpo}, rewards=_orpo_rewards),
    "cpo": _CPO,
    "simpo": _CPO,
    "alphapo": _CPO,
    "kto": Objective(losses={"kto": _kto, "apo_zero_unpaired": _apo_zero_unpaired}, rewards=_answer_rewards),
}  # fmt: skip
