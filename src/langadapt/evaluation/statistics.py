"""Confidence intervals by resampling items; everything is seeded, so a report can be made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000
SCORE_RESAMPLES = 500  # for scores that are computed item by item in Python


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float


def ratio_of_totals(numerators: Sequence[float], denominators: Sequence[float], *, seed: int = 0) -> Interval:
    """sum(numerators) / sum(denominators), items resampled together."""
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    draws = _draws(len(top), seed)
    ratios = top[draws].sum(1) / bottom[draws].sum(1)
    return Interval(float(top.sum() / bottom.sum()), *_bounds(ratios))


def relative_change(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> Interval:
    """sum(after) / sum(before) - 1 over the same items, resampled in pairs.

    With equal denominators (the same bytes), this is the relative change of a ratio of totals.
    """
    found = ratio_of_totals(after, before, seed=seed)
    return Interval(found.value - 1, found.low - 1, found.high - 1)


def resampled(
    score: Callable[[Sequence[Any]], dict[str, float]], items: Sequence[Any], *, seed: int = 0
) -> dict[str, Interval]:
    """Every value that `score` gives, with its interval over resampled items."""
    values = score(items)
    draws = _draws(len(items), seed, SCORE_RESAMPLES)
    sampled = [score([items[i] for i in draw]) for draw in draws]
    return {name: Interval(value, *_bounds(np.array([s[name] for s in sampled]))) for name, value in values.items()}


def paired_difference(
    score: Callable[[Sequence[Any]], dict[str, float]], before: Sequence[Any], after: Sequence[Any], *, seed: int = 0
) -> dict[str, Interval]:
    """score(after) - score(before) for two systems' answers to the same items, resampled in pairs."""
    first, second = score(before), score(after)
    sampled = []
    for draw in _draws(len(before), seed, SCORE_RESAMPLES):
        one, other = score([before[i] for i in draw]), score([after[i] for i in draw])
        sampled.append({name: other[name] - one[name] for name in first})
    return {
        name: Interval(second[name] - first[name], *_bounds(np.array([s[name] for s in sampled]))) for name in first
    }


def _draws(count: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(0, count, (resamples, count))


def _bounds(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])  # a resample may lack what a score needs, as one of two kinds
    return float(low), float(high)
