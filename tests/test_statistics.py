"""Intervals against numpy's own arithmetic, and whether they cover what they promise to."""

from __future__ import annotations

import numpy as np
import pytest

from langadapt.evaluation.statistics import paired_difference, ratio_of_totals, relative_change, resampled


def test_a_ratio_of_totals_is_no_mean_of_ratios() -> None:
    assert ratio_of_totals([1, 30], [1, 10]).value == pytest.approx(31 / 11)


def test_a_system_compared_with_itself_has_not_changed() -> None:
    found = relative_change([3.0, 5.0, 1.0], [3.0, 5.0, 1.0])
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_relative_change_is_of_the_totals_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(50, 150, 40)
    after = before * rng.normal(0.9, 0.02, 40)
    found = relative_change(before.tolist(), after.tolist())
    assert found.value == pytest.approx(after.sum() / before.sum() - 1)
    assert found.low < found.value < found.high < 0


@pytest.mark.slow
def test_the_interval_of_a_ratio_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        sizes = rng.integers(100, 1000, 40)
        bits = rng.normal(2.0, 0.3, 40) * sizes
        found = ratio_of_totals(bits.tolist(), sizes.tolist(), seed=trial)
        hits += found.low <= 2.0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_scores_of_items_are_resampled_together() -> None:
    def accuracy(items):
        return {"accuracy": sum(items) / len(items)}

    found = resampled(accuracy, [1] * 30 + [0] * 10)["accuracy"]
    assert found.value == 0.75 and 0.5 < found.low < 0.75 < found.high < 0.95
    same = paired_difference(accuracy, [1, 0, 1, 1], [1, 0, 1, 1])["accuracy"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
