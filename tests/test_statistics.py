"""Intervals, tests and corrections against scipy and plain arithmetic, and whether they keep what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from langadapt.evaluation.statistics import (
    PERMUTATIONS,
    SCORE_PERMUTATIONS,
    detectable,
    holm,
    over_runs,
    paired_difference,
    ratio_of_totals,
    relative_change,
    resampled,
)


def within(share: float, of: int, *, expected: float) -> bool:
    """Whether a share of so many trials is what chance alone makes of the expected one, but once in a thousand times."""
    return abs(share - expected) <= 3.3 * math.sqrt(expected * (1 - expected) / of)


def macro_f1(items) -> dict[str, float]:
    """Of items that are 2 · gold + predicted, for a class 0 and a class 1."""
    wrong = items.count(1) + items.count(2)
    hits = 2 * items.count(0), 2 * items.count(3)
    return {"macro_f1": sum(twice / max(twice + wrong, 1) for twice in hits) / 2}


def answers(rng, count: int, *, right: float) -> list[int]:
    gold = rng.random(count) < 0.4
    predicted = np.where(rng.random(count) < right, gold, ~gold)
    return (2 * gold + predicted).tolist()


# --- values and intervals ---------------------------------------------------------------------------------------------


def test_a_ratio_of_totals_is_no_mean_of_ratios() -> None:
    assert ratio_of_totals([1, 30], [1, 10]).value == pytest.approx(31 / 11)


def test_the_relative_change_is_of_the_totals_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(50, 150, 40)
    after = before * rng.normal(0.9, 0.02, 40)
    found = relative_change(before.tolist(), after.tolist())
    assert found.value == pytest.approx(after.sum() / before.sum() - 1)
    assert found.low < found.value < found.high < 0


def test_intervals_are_those_of_scipys_percentile_bootstrap() -> None:
    rng = np.random.default_rng(3)
    sizes = rng.integers(100, 1000, 80)
    bits = rng.normal(2.0, 0.3, 80) * sizes
    found = ratio_of_totals(bits.tolist(), sizes.tolist())
    theirs = stats.bootstrap(
        (bits, sizes),
        lambda top, bottom, axis: top.sum(axis) / bottom.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=9_999,
        rng=rng,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.08 * (theirs.high - theirs.low))


@pytest.mark.slow
@pytest.mark.parametrize("bottom", ["bytes", "ones"])
def test_intervals_of_ratios_and_means_cover_the_truth_as_often_as_they_say(bottom: str) -> None:
    rng, trials, hits = np.random.default_rng(1), 200, 0
    for trial in range(trials):
        sizes = rng.integers(100, 1000, 100) if bottom == "bytes" else np.ones(100)
        bits = rng.gamma(16, 1 / 8, 100) * sizes  # mean 2, skewed as losses are
        found = ratio_of_totals(bits.tolist(), sizes.tolist(), seed=trial)
        hits += found.low <= 2.0 <= found.high
    assert within(hits / trials, trials, expected=0.95)


@pytest.mark.slow
def test_intervals_of_scores_that_are_computed_anew_cover_the_truth_as_often_as_they_say() -> None:
    rng, trials, hits = np.random.default_rng(2), 150, 0
    # Of all items that there could be: 0.4 are of one class, 0.7 of each are right.
    truth = np.mean([2 * 0.7 * share / (2 * 0.7 * share + 0.3) for share in (0.4, 0.6)])
    for trial in range(trials):
        found = resampled(macro_f1, answers(rng, 150, right=0.7), seed=trial)["macro_f1"]
        hits += found.low <= truth <= found.high
    assert within(hits / trials, trials, expected=0.95)


def test_scores_of_items_are_resampled_together() -> None:
    def accuracy(items):
        return {"accuracy": sum(items) / len(items)}

    found = resampled(accuracy, [1] * 30 + [0] * 10)["accuracy"]
    assert found.value == 0.75 and 0.5 < found.low < 0.75 < found.high < 0.95


def test_items_of_a_cluster_are_no_further_evidence() -> None:
    rng = np.random.default_rng(4)
    before, after = rng.uniform(50, 150, (2, 30)).tolist()
    passages = [i // 3 for i in range(90)]
    thrice = [[value for value in side for _ in range(3)] for side in (before, after)]
    once = relative_change(before, after)
    together, apart = relative_change(*thrice, clusters=passages), relative_change(*thrice)
    for name, value in vars(once).items():
        assert getattr(together, name) == pytest.approx(value), name
    assert apart.high - apart.low < 0.7 * (once.high - once.low) and apart.p_value < once.p_value
    of_totals = [ratio_of_totals(*thrice, clusters=passages), ratio_of_totals(before, after)]
    assert of_totals[0].low == pytest.approx(of_totals[1].low)

    def mean(items):
        return {"mean": sum(items) / len(items)}

    assert resampled(mean, thrice[0], clusters=passages)["mean"].low == pytest.approx(
        resampled(mean, before)["mean"].low
    )
    moved, alone = paired_difference(mean, *thrice, clusters=passages)["mean"], paired_difference(mean, before, after)
    assert moved.p_value == alone["mean"].p_value and moved.high == pytest.approx(alone["mean"].high)


# --- paired tests -----------------------------------------------------------------------------------------------------


def test_a_system_compared_with_itself_shows_no_difference_at_all() -> None:
    bits = [3.0, 5.0, 1.0, 0.1, 0.7, 4.4, 2.5]
    for found in (
        relative_change(bits, bits),
        paired_difference(lambda items: {"sum": sum(items)}, bits, bits)["sum"],
    ):
        assert (found.value, found.low, found.high) == (0, 0, 0)
        assert (found.p_value, found.effect_size, found.detectable) == (1, 0, 0)


def scipys(before, after, **options) -> float:
    """P value of the sign-flip test as scipy makes it: systems swapped item by item."""
    return stats.permutation_test(
        (np.array(after), np.array(before)),
        lambda one, other, axis: one.sum(axis) - other.sum(axis),
        permutation_type="samples",
        vectorized=True,
        **options,
    ).pvalue


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=9).filter(
        lambda pairs: sum(before for before, _ in pairs) > 0
    )
)
def test_few_items_are_tested_exactly_as_scipy_does(pairs) -> None:
    before, after = (list(map(float, side)) for side in zip(*pairs, strict=True))
    theirs = min(1.0, scipys(before, after, n_resamples=np.inf))
    assert relative_change(before, after).p_value == pytest.approx(theirs)
    total = paired_difference(lambda items: {"sum": sum(items)}, before, after)["sum"]
    assert total.p_value == pytest.approx(theirs)


def test_many_items_are_tested_at_random_as_scipy_does() -> None:
    rng = np.random.default_rng(5)
    before = rng.uniform(50, 150, 60)
    after = before + rng.normal(2.0, 6, 60)
    theirs = scipys(before, after, n_resamples=PERMUTATIONS, rng=rng)
    assert 0.001 < theirs < 0.2
    for found, tried in (
        (relative_change(before.tolist(), after.tolist()), PERMUTATIONS),
        (
            paired_difference(lambda items: {"sum": sum(items)}, before.tolist(), after.tolist())["sum"],
            SCORE_PERMUTATIONS,
        ),
    ):
        assert abs(found.p_value - theirs) < 4 * math.sqrt(theirs * (1 - theirs) / tried)


def test_no_p_value_is_zero() -> None:
    before = np.linspace(50, 150, 100)
    assert relative_change(before.tolist(), (before * 0.5).tolist()).p_value == 1 / (PERMUTATIONS + 1)


@pytest.mark.slow
def test_systems_that_differ_by_chance_alone_are_told_apart_as_rarely_as_the_level_says() -> None:
    rng, trials = np.random.default_rng(6), 300
    p_values = []
    for trial in range(trials):
        item = rng.uniform(50, 150, 30)  # what both systems find hard
        before, after = item + rng.normal(0, 5, 30), item + rng.normal(0, 5, 30)
        p_values.append(relative_change(before.tolist(), after.tolist(), seed=trial).p_value)
    for level in (0.05, 0.2):
        assert within(np.mean(np.array(p_values) <= level), trials, expected=level)


@pytest.mark.slow
def test_scores_that_differ_by_chance_alone_are_told_apart_no_more_often_than_the_level_says() -> None:
    rng, trials, found = np.random.default_rng(7), 100, 0
    for trial in range(trials):
        before = answers(rng, 60, right=0.7)
        after = [item if rng.random() < 0.5 else item ^ int(rng.random() < 0.42) for item in before]
        # Either system is as likely to be the one that gave an answer.
        swapped = rng.random(60) < 0.5
        one = [b if s else a for a, b, s in zip(before, after, swapped, strict=True)]
        other = [a if s else b for a, b, s in zip(before, after, swapped, strict=True)]
        found += paired_difference(macro_f1, one, other, seed=trial)["macro_f1"].p_value <= 0.05
    assert within(found / trials, trials, expected=0.05)


def test_a_score_that_is_no_number_is_no_finding() -> None:
    found = paired_difference(lambda items: {"x": math.nan if 3 in items else sum(items)}, [1, 2, 3] * 9, [2, 2, 3] * 9)
    assert math.isnan(found["x"].value) and math.isnan(found["x"].p_value)


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_the_effect_size_is_cohens_of_paired_differences() -> None:
    rng = np.random.default_rng(8)
    before, difference = rng.uniform(50, 150, 200), rng.normal(-2, 8, 200)
    found = relative_change(before.tolist(), (before + difference).tolist())
    assert found.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1), rel=0.05)
    mean = paired_difference(
        lambda items: {"mean": sum(items) / len(items)}, before.tolist(), (before + difference).tolist()
    )["mean"]
    assert mean.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1), rel=0.1)
    assert mean.detectable == pytest.approx(2.8 * difference.std(ddof=1) / math.sqrt(200), rel=0.1)


def test_items_that_all_move_alike_have_no_spread_to_measure_by() -> None:
    assert relative_change([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]).effect_size is None


@pytest.mark.parametrize(("items", "disagreement"), [(872, 0.1), (1743, 0.2), (2614, 0.3)])
def test_three_points_need_as_many_items_as_the_textbook_says(items: int, disagreement: float) -> None:
    assert detectable(math.sqrt(disagreement / items)) == pytest.approx(0.03, rel=1e-3)


@pytest.mark.slow
def test_what_is_detectable_is_detected_four_times_out_of_five() -> None:
    rng, trials = np.random.default_rng(9), 120
    found = []
    for trial in range(trials):
        before = (rng.random(200) < 0.5) + 1.0
        moved = rng.choice([1, -1, 0], 200, p=[0.1434, 0.0566, 0.8])  # right more often by 8.68 points
        found.append(relative_change(before.tolist(), (before + moved).tolist(), seed=trial))
    assert within(np.mean([change.p_value < 0.05 for change in found]), trials, expected=0.8)
    assert np.mean([change.detectable for change in found]) == pytest.approx(0.0868 / 1.5, rel=0.05)


# --- families and seeds -----------------------------------------------------------------------------------------------


def rejected(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure as it is told: the smallest p at level / m, the next at level / (m - 1), until one fails."""
    left, out = sorted(range(len(p_values)), key=lambda i: p_values[i]), set()
    while left and p_values[left[0]] * len(left) <= level:
        out.add(left.pop(0))
    return out


@given(st.lists(st.integers(0, 1000).map(lambda n: n / 1000), max_size=12))
def test_an_adjusted_p_value_is_the_level_at_which_holms_procedure_first_rejects(p_values) -> None:
    levels = sorted({min(1.0, p * k) for p in p_values for k in range(1, len(p_values) + 1)})
    expected = [next((at for at in levels if i in rejected(p_values, at)), 1.0) for i in range(len(p_values))]
    assert holm(p_values) == pytest.approx(expected)


def test_holm_on_an_example_and_around_what_is_no_test() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([math.nan, 0.04])
    assert math.isnan(adjusted[0]) and adjusted[1] == 0.04 and holm([]) == []


def test_runs_have_a_mean_and_a_sample_deviation() -> None:
    values = [2.0, 2.5, 2.1]
    assert over_runs(values) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert over_runs([2.0]) == (2.0, None)
