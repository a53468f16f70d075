"""The metrics against scikit-learn and scipy, and on what these warn or raise about."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt import Answer, Item
from langadapt_italian.evalita import discotex
from langadapt_italian.evalita.scoring import (
    class_f1,
    macro_f1,
    mean_absolute_error,
    micro_f1,
    pearson,
    spearman,
    weighted_f1,
)

metrics = pytest.importorskip("sklearn.metrics")
stats = pytest.importorskip("scipy.stats")

untimed = settings(deadline=None)  # a busy machine is not a slow reader
LABELS = ("Covid", "Qanon", "Russia")
LABELLED = st.lists(st.tuples(st.sampled_from([*LABELS, "O"]), st.sampled_from([*LABELS, "O", None])), min_size=1)
RATINGS = st.lists(st.tuples(*2 * [st.integers(0, 40).map(lambda n: n / 8)]), min_size=1)
FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150)


@untimed
@given(pairs=LABELLED)
def test_f1_is_scikit_learns(pairs):
    gold, predicted = zip(*pairs, strict=True)
    named = [p or "?" for p in predicted]
    for average, ours in (("macro", macro_f1), ("micro", micro_f1)):
        theirs = metrics.f1_score(gold, named, labels=LABELS, average=average, zero_division=0)
        assert ours(gold, predicted, LABELS) == pytest.approx(theirs)
    theirs = metrics.f1_score(gold, named, labels=LABELS, average=None, zero_division=0)
    assert [class_f1(gold, predicted, label) for label in LABELS] == pytest.approx(list(theirs))


@untimed
@given(pairs=LABELLED)
def test_f1_without_labels_is_over_those_that_occur(pairs):
    pairs = [(gold, label or "O") for gold, label in pairs]
    gold, predicted = zip(*pairs, strict=True)
    assert macro_f1(gold, predicted) == pytest.approx(
        metrics.f1_score(gold, predicted, average="macro", zero_division=0)
    )
    theirs = metrics.f1_score(gold, predicted, average="weighted", zero_division=0)
    assert weighted_f1(gold, predicted) == pytest.approx(theirs)


def test_no_label_is_a_miss_and_not_a_class():
    # Covid: 1 hit, 1 missed: 2/3. Russia: 1 hit: 1.
    gold, predicted = ["Covid", "Covid", "Russia"], ["Covid", None, "Russia"]
    assert macro_f1(gold, predicted) == pytest.approx((2 / 3 + 1) / 2)
    assert weighted_f1(gold, predicted) == pytest.approx((2 * 2 / 3 + 1) / 3)


@untimed
@given(pairs=RATINGS)
def test_correlations_are_scipys_and_zero_for_a_constant(pairs):
    gold, predicted = zip(*pairs, strict=True)
    assert mean_absolute_error(gold, predicted) == pytest.approx(metrics.mean_absolute_error(gold, predicted))
    if len(set(gold)) == 1 or len(set(predicted)) == 1:
        assert pearson(gold, predicted) == spearman(gold, predicted) == 0.0
    else:
        assert pearson(gold, predicted) == pytest.approx(stats.pearsonr(gold, predicted).statistic, abs=1e-9)
        assert spearman(gold, predicted) == pytest.approx(stats.spearmanr(gold, predicted).statistic, abs=1e-9)


@untimed
@given(pairs=st.lists(st.tuples(FINITE, FINITE)))
def test_correlations_are_numbers_for_any_vectors(pairs):
    gold, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    for correlation in (pearson, spearman):
        assert -1.0 <= correlation(gold, predicted) <= 1.0


def test_a_constant_that_floats_cannot_hold_has_no_noise_to_correlate_with():
    assert pearson([0.1] * 7, [1, 2, 3, 4, 5, 6, 7]) == 0.0


def test_squares_that_would_vanish_or_overflow_do_not():
    for unit in (1e-300, 1e300):
        assert pearson([0.0, unit, 0.0], [0.0, 1.0, 0.0]) == pytest.approx(1.0)


def test_one_item_and_one_class_give_numbers():
    assert macro_f1(["sì"], ["sì"], ("sì", "no")) == 0.5
    assert macro_f1(["sì"], [None], ("sì", "no")) == micro_f1(["O"], ["O"], ("PER",)) == 0.0
    assert mean_absolute_error([3.0], [1.5]) == 1.5
    assert mean_absolute_error([], []) == pearson([], []) == spearman([], []) == macro_f1([], [], LABELS) == 0.0
    assert math.isfinite(pearson([1.0], [2.0]))


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
@pytest.mark.parametrize("classes", [1, 2, 13])
@pytest.mark.parametrize("answered", ["at random", "always the same", "never", "right"])
def test_metrics_of_labels_are_scikit_learns_on_random_and_on_degenerate_answers(count, classes, answered):
    rng = random.Random(f"{count} {classes}")
    names = [f"class {i}" for i in range(classes)]
    gold = rng.choices(names, k=count)
    predicted = {
        "at random": rng.choices([*names, None], k=count),
        "always the same": [names[0]] * count,
        "never": [None] * count,
        "right": gold,
    }[answered]
    named = [p or "none" for p in predicted]
    for average, ours in (
        ("macro", macro_f1(gold, predicted, names)),
        ("micro", micro_f1(gold, predicted, names)),
        ("weighted", weighted_f1(gold, predicted)),
    ):
        labels = names if average != "weighted" else None
        theirs = metrics.f1_score(gold, named, labels=labels, average=average, zero_division=0)
        assert ours == pytest.approx(theirs), average
    asked = [Answer(item=Item(id=str(i), messages=(), gold=g), text="", prediction=p)
             for i, (g, p) in enumerate(zip(gold, predicted, strict=True))]  # fmt: skip
    assert discotex.score_1(asked) == {"accuracy": pytest.approx(metrics.accuracy_score(gold, named))}


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_metrics_of_ratings_are_scipys_with_few_and_with_many_ties(unit, levels):
    rng = random.Random(levels)
    gold = [unit * rng.randrange(levels) for _ in range(500)]
    predicted = [unit * rng.randrange(levels) for _ in range(500)]
    assert pearson(gold, predicted) == pytest.approx(stats.pearsonr(gold, predicted).statistic, abs=1e-12)
    assert spearman(gold, predicted) == pytest.approx(stats.spearmanr(gold, predicted).statistic, abs=1e-12)
    assert mean_absolute_error(gold, predicted) == pytest.approx(metrics.mean_absolute_error(gold, predicted))


def test_vectors_of_different_lengths_are_our_mistake():
    for metric in (mean_absolute_error, spearman):
        with pytest.raises(ValueError):
            metric([1.0, 2.0], [1.0, 2.0, 3.0])
