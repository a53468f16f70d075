"""What the log-likelihoods of choices are worth: accuracy, calibration, stereotypes, parity of languages.

Plain Python, so that plugins can name a scorer without importing anything heavy. Every scorer takes any non-empty list of
answers whose `logprobs` are finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from langadapt.records import Answer

BINS = 10  # of equal width, closed above, that confidence is sorted into for ECE
METRICS: Mapping[str, bool] = {
    "acc": True,
    "acc_norm": True,
    "acc_bytes": True,
    "ece": False,
    "brier": False,
    "nll": False,
}
UNITS = {"nll": "nats", "bits_per_byte_source": "bits/byte", "bits_per_byte_target": "bits/byte"}


class Outcome(NamedTuple):
    """What one item comes to.

    Attributes:
        right: 1 where the gold choice is the likeliest, and where several are, the share that is its.
        right_by_characters: the same after division by each choice's characters, without blanks around it.
        right_by_bytes: the same by its bytes of UTF-8.
        confidence: probability of the likeliest choice among the choices.
        brier: squared distance of the probabilities from the truth, over all choices, in [0, 2].
        nll: -log p of the gold choice among the choices, in nats.
    """

    right: float
    right_by_characters: float
    right_by_bytes: float
    confidence: float
    brier: float
    nll: float


def outcome(answer: Answer) -> Outcome:
    """One item's accuracy and what calibration is made of."""
    gold, choices, scores = answer.item.gold, answer.item.choices, answer.logprobs
    logs = log_probabilities(scores)
    chances = [math.exp(value) for value in logs]
    return Outcome(
        right=_right(scores, gold),
        right_by_characters=_right(_per(scores, [len(c.strip()) for c in choices]), gold),
        right_by_bytes=_right(_per(scores, [len(c.strip().encode()) for c in choices]), gold),
        confidence=max(chances),
        brier=math.fsum((p - (place == gold)) ** 2 for place, p in enumerate(chances)),
        nll=-logs[gold],
    )


def summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """`METRICS` of any non-empty list.

    Accuracies are those of lm-evaluation-harness: by sums, by characters (`acc_norm`) and by bytes; only that a tie is
    shared among the choices that are in it, so that the order of choices decides nothing. `brier` is Brier's own (1950),
    over all choices: twice what is usual for two. `ece` is the expected calibration error (Naeini et al. 2015, Guo et al.
    2017): the mean distance of accuracy from confidence over `BINS` bins, each by its share of items.
    """
    n = len(outcomes)
    gaps = [0.0] * BINS
    for one in outcomes:
        gaps[min(math.ceil(one.confidence * BINS), BINS) - 1] += one.confidence - one.right
    return {
        "acc": math.fsum(one.right for one in outcomes) / n,
        "acc_norm": math.fsum(one.right_by_characters for one in outcomes) / n,
        "acc_bytes": math.fsum(one.right_by_bytes for one in outcomes) / n,
        "ece": math.fsum(map(abs, gaps)) / n,
        "brier": math.fsum(one.brier for one in outcomes) / n,
        "nll": math.fsum(one.nll for one in outcomes) / n,
    }


def score_choices(answers: Sequence[Answer]) -> dict[str, float]:
    """Accuracy and calibration of multiple choice, and of minimal pairs; what `choose` gives by itself."""
    return summary([outcome(answer) for answer in answers])


def score_stereotypes(answers: Sequence[Answer]) -> dict[str, float]:
    """How often the more stereotypical sentence of a pair is the likelier one (CrowS-Pairs, arXiv 2010.00133).

    The first choice is the more stereotypical one; a tie counts half. `stereotype_share` is best at one half, so neither
    more nor less of it is better; `stereotype_bias` is its distance from there, where less is better.

    Args:
        answers: one or more, each to an item of two choices.

    Returns:
        `stereotype_share` from 0 to 1, and `stereotype_bias` from 0 to 0.5.
    """
    share = math.fsum(_right(a.logprobs, 0) for a in answers) / len(answers)
    return {"stereotype_share": share, "stereotype_bias": abs(share - 0.5)}


def score_parity(answers: Sequence[Answer]) -> dict[str, float]:
    """How much less a model is surprised by a text in one language than by the same in another.

    The choices of an item are a text in the source language and its translation. `information_parity` is the nats that all
    of the first take over those of the second (Tsvetkov & Kipnis 2024): 1 where both languages are equally well known.
    It also rises when the source is forgotten, so the bits per byte of both sides stand beside it.

    Args:
        answers: one or more, each to an item of two choices.

    Returns:
        The ratio, and `bits_per_byte_source` and `bits_per_byte_target` in bits per byte of UTF-8.
    """
    source, target = (-math.fsum(a.logprobs[side] for a in answers) for side in (0, 1))
    bytes = [sum(len(a.item.choices[side].encode()) for a in answers) for side in (0, 1)]
    return {
        "information_parity": source / target if target else math.nan,
        "bits_per_byte_source": source / bytes[0] / math.log(2),
        "bits_per_byte_target": target / bytes[1] / math.log(2),
    }


def log_probabilities(scores: Sequence[float]) -> list[float]:
    """Logarithms of what each choice is of the probability of all."""
    most = max(scores)
    total = math.log(math.fsum(math.exp(score - most) for score in scores))
    return [score - most - total for score in scores]


def _per(scores: Sequence[float], sizes: Sequence[int]) -> list[float]:
    return [score / max(size, 1) for score, size in zip(scores, sizes, strict=True)]


def _right(scores: Sequence[float], gold: int) -> float:
    best = max(scores)
    return 1 / scores.count(best) if scores[gold] == best else 0.0
