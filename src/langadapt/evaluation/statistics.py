"""How sure a figure is: intervals by resampling, paired permutation tests, their correction, and what they could see.

What is drawn, or swapped between two systems, is an item, or a cluster of items that go together (of one passage, of one
word): items of a cluster are no independent evidence (Miller 2024, arXiv 2411.00640). Totals of bits and bytes are
resampled as matrices; a score that is no sum over items, such as macro-F1, is computed anew for every resample, so there
are fewer. Everything is seeded, so a report can be made again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES, SCORE_RESAMPLES = 2_000, 500  # of bootstraps: of totals, of scores that are computed anew
PERMUTATIONS, SCORE_PERMUTATIONS = 9_999, 999  # of tests, likewise
POWER = 0.80  # with which a detectable effect is detected
_CELLS = 1 << 22  # numbers of a matrix of resamples that is in memory at once

Floats = npt.NDArray[np.float64]
Score = Callable[[Sequence[Any]], dict[str, float]]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Change(Interval):
    """How far one system is from another on the same items.

    Attributes:
        p_value: two-sided, of a paired permutation test: how often systems that differ by chance alone are as far apart.
            Not a number where the change is none.
        effect_size: the change in standard deviations of one item's part in it; of a mean of items, Cohen's d_z. None
            where every item moved alike.
        detectable: the smallest change, in the unit of the value, that a test at 5 % finds with a probability of 80 % on
            items like these.
    """

    p_value: float
    effect_size: float | None
    detectable: float


# --- of one system ----------------------------------------------------------------------------------------------------


def ratio_of_totals(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """sum(numerators) / sum(denominators), items resampled together."""
    totals = _totals([numerators, denominators], clusters)
    sums = _resampled_sums(totals, seed)
    top, bottom = totals.sum(0)
    return Interval(float(top / bottom), *_bounds(sums[:, 0] / sums[:, 1]))


def resampled(
    score: Score, items: Sequence[Any], *, clusters: Sequence[Hashable] | None = None, seed: int = 0
) -> dict[str, Interval]:
    """Every value that `score` gives, with its interval over resampled items."""
    values = score(items)
    sampled = [score([items[i] for i in draw]) for draw in _draws(_groups(len(items), clusters), seed)]
    return {name: Interval(value, *_bounds(np.array([s[name] for s in sampled]))) for name, value in values.items()}


# --- of two systems ---------------------------------------------------------------------------------------------------


def relative_change(
    before: Sequence[float], after: Sequence[float], *, clusters: Sequence[Hashable] | None = None, seed: int = 0
) -> Change:
    """sum(after) / sum(before) - 1 over the same items, resampled in pairs, tested by flipping signs of differences.

    With equal denominators (the same bytes), this is the relative change of a ratio of totals.
    """
    totals = _totals([before, after], clusters)
    first, second = totals.sum(0)
    sums = _resampled_sums(totals, seed)
    differences = totals[:, 1] - totals[:, 0]
    moved = differences[differences != 0]

    def statistic(swaps: npt.NDArray[np.bool_]) -> Floats:
        shares: Floats = (moved.sum() - 2 * (swaps @ moved)) / first
        return shares[:, None]

    observed = np.array([differences.sum() / first])
    (p_value,) = _p_values(statistic, observed, len(moved), PERMUTATIONS, seed)
    return _change(float(second / first - 1), sums[:, 1] / sums[:, 0] - 1, p_value, len(totals))


def paired_difference(
    score: Score,
    before: Sequence[Any],
    after: Sequence[Any],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> dict[str, Change]:
    """score(after) - score(before) for two systems' answers to the same items, resampled in pairs.

    The test swaps the systems' answers to items at random and scores both anew.
    """
    groups = _groups(len(before), clusters)
    moved = [group for group in groups if any(before[i] != after[i] for i in group)]
    first, second = score(before), score(after)

    def difference(one: Sequence[Any], other: Sequence[Any]) -> list[float]:
        low, high = score(one), score(other)
        return [high[name] - low[name] for name in first]

    def statistic(swaps: npt.NDArray[np.bool_]) -> Floats:
        return np.array([difference(*_swapped(before, after, moved, row)) for row in swaps])

    observed = np.array([second[name] - first[name] for name in first])
    p_values = _p_values(statistic, observed, len(moved), SCORE_PERMUTATIONS, seed)
    sampled = np.array([difference([before[i] for i in d], [after[i] for i in d]) for d in _draws(groups, seed)])
    return {
        name: _change(float(value), samples, p_value, len(groups))
        for name, value, samples, p_value in zip(first, observed, sampled.T, p_values, strict=True)
    }


def _swapped(
    before: Sequence[Any], after: Sequence[Any], groups: Sequence[Sequence[int]], swaps: npt.NDArray[np.bool_]
) -> tuple[list[Any], list[Any]]:
    one, other = list(before), list(after)
    for group in (group for group, swap in zip(groups, swaps, strict=True) if swap):
        for i in group:
            one[i], other[i] = other[i], one[i]
    return one, other


def _change(value: float, samples: Floats, p_value: float, units: int) -> Change:
    # A resample's spread is that of n items about their own mean, which is smaller than about the true one.
    error = float(np.nanstd(samples)) * math.sqrt(units / max(units - 1, 1))
    spread = error * math.sqrt(units)
    alike = not spread > 1e-9 * abs(value)
    effect = value / spread if not alike else 0.0 if value == 0 else None
    return Change(value, *_bounds(samples), float(p_value), effect, detectable(error))


def detectable(standard_error: float) -> float:
    """The smallest effect that a two-sided test at 5 % finds with a probability of 80 % (Card et al. 2020, 2010.06595).

    Args:
        standard_error: of the effect; of a mean of n paired differences their standard deviation / √n.
    """
    normal = statistics.NormalDist()
    return (normal.inv_cdf(0.975) + normal.inv_cdf(POWER)) * standard_error


# --- of many tests, of many runs --------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> list[float]:
    """P values of a family of tests, adjusted so that one false finding in the family is as rare as one p value says.

    Holm's step-down procedure (Holm 1979), which needs no independence. What is not a number is no test and stays.
    """
    tests = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = list(p_values), 0.0
    for rank, (p, i) in enumerate(tests):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        adjusted[i] = highest
    return adjusted


def over_runs(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation of several runs of one recipe; of one run there is no deviation."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


# --- resampling -------------------------------------------------------------------------------------------------------


def _groups(count: int, clusters: Sequence[Hashable] | None) -> list[list[int]]:
    """Numbers of the items that are drawn and swapped together."""
    found: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(range(count) if clusters is None else clusters):
        found.setdefault(cluster, []).append(i)
    return list(found.values())


def _totals(columns: Sequence[Sequence[float]], clusters: Sequence[Hashable] | None) -> Floats:
    """Columns as a matrix with a row for each cluster, its items summed."""
    matrix = np.array(columns, float).T
    groups = _groups(len(matrix), clusters)
    return matrix if len(groups) == len(matrix) else np.array([matrix[group].sum(0) for group in groups])


def _resampled_sums(totals: Floats, seed: int) -> Floats:
    """Sums of the columns for every resample of the rows."""
    rng, units = np.random.default_rng(seed), len(totals)
    parts = [totals[rng.integers(0, units, (size, units))].sum(1) for size in _portions(RESAMPLES, totals.size)]
    return np.concatenate(parts)


def _draws(groups: Sequence[Sequence[int]], seed: int) -> Iterator[list[int]]:
    """Numbers of the items of every resample."""
    drawn = np.random.default_rng(seed).integers(0, len(groups), (SCORE_RESAMPLES, len(groups)))
    for row in drawn.tolist():
        yield [i for group in row for i in groups[group]]


def _p_values(
    statistic: Callable[[npt.NDArray[np.bool_]], Floats], observed: Floats, units: int, most: int, seed: int
) -> Floats:
    """Share of the swaps whose statistics are as far from 0 as the observed ones: exact where all can be tried.

    Otherwise (b + 1) / (m + 1), because the observed one is one of them (Phipson & Smyth 2010, arXiv 1603.05766).

    Args:
        statistic: swaps, a row each, in; a row of statistics for each out.
        observed: the statistics as they are.
        units: what can be swapped and makes a difference.
        most: how many swaps are tried.
        seed: of the random ones.
    """
    exact = units <= math.log2(most)
    hits = np.zeros(len(observed))
    least = np.abs(observed) * (1 - 1e-9) - 1e-12  # sums in another order are the same sums
    for swaps in _every_swap(units) if exact else _random_swaps(units, most, seed):
        hits += (np.abs(statistic(swaps)) >= least).sum(0)
    p_values = hits / 2**units if exact else (hits + 1) / (most + 1)
    return np.where(np.isfinite(observed), p_values, np.nan)


def _every_swap(units: int) -> Iterator[npt.NDArray[np.bool_]]:
    yield (np.arange(2**units)[:, None] >> np.arange(units)) & 1 == 1


def _random_swaps(units: int, count: int, seed: int) -> Iterator[npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    for size in _portions(count, units):
        yield rng.integers(0, 2, (size, units), np.uint8) == 1


def _portions(count: int, cells: int) -> Iterator[int]:
    """`count` rows of `cells` numbers in portions that fit into memory."""
    size = max(1, _CELLS // max(cells, 1))
    for start in range(0, count, size):
        yield min(size, count - start)


def _bounds(values: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])  # a resample may lack what a score needs, as one of two kinds
    return float(low), float(high)
