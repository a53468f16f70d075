"""The metrics of the campaign, in plain Python so that listing the evaluations imports nothing heavy.

A prediction of None equals no label, so an answer that could not be decoded counts as wrong. Every metric is a number
for every input: a class that nobody has scores 0, and a constant vector correlates with nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from math import fsum, sqrt


def class_f1(gold: Sequence[Hashable], predicted: Sequence[Hashable], label: Hashable) -> float:
    """F1 of one class, 0 where it is neither in gold nor predicted (scikit-learn's `zero_division=0`)."""
    return micro_f1(gold, predicted, [label])


def macro_f1(
    gold: Sequence[Hashable], predicted: Sequence[Hashable], labels: Sequence[Hashable] | None = None
) -> float:
    """Mean F1 of classes, as in `f1_score(labels=labels, average="macro", zero_division=0)`.

    Args:
        gold: the right labels.
        predicted: the labels given, None for none.
        labels: the classes of the mean; where there are none, those that occur on either side, as in scikit-learn.
    """
    if labels is None:
        labels = list(dict.fromkeys(label for label in (*gold, *predicted) if label is not None))
    f1 = _class_f1s(gold, predicted)
    return fsum(map(f1, labels)) / len(labels)


def micro_f1(gold: Sequence[Hashable], predicted: Sequence[Hashable], labels: Sequence[Hashable]) -> float:
    """F1 over the counts of several classes together; other labels (NERMuD's O) count for neither side."""
    hits = sum(g == p and g in labels for g, p in zip(gold, predicted, strict=True))
    total = sum(g in labels for g in gold) + sum(p in labels for p in predicted)
    return 2 * hits / total if total else 0.0


def weighted_f1(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """Mean F1 of the classes in gold, each by its share of gold (scikit-learn's `average="weighted"`)."""
    f1 = _class_f1s(gold, predicted)
    return fsum(f1(label) * n for label, n in Counter(gold).items()) / len(gold)


def mean_absolute_error(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """Mean distance, in the unit of the scale."""
    return fsum(abs(g - p) for g, p in zip(gold, predicted, strict=True)) / max(len(gold), 1)


def pearson(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """Pearson's r of finite numbers; 0.0 where one side is constant (as one item always is) and r is undefined."""
    a, b = _deviations(gold), _deviations(predicted)
    if not any(a) or not any(b):
        return 0.0
    # One root of the product, which is exact for equal vectors: right answers then score 1.0 and nothing less.
    r = fsum(x * y for x, y in zip(a, b, strict=True)) / sqrt(fsum(x * x for x in a) * fsum(y * y for y in b))
    return max(-1.0, min(1.0, r))


def spearman(gold: Sequence[float], predicted: Sequence[float]) -> float:
    """Spearman's rho: Pearson's r of the ranks, where equal values share their mean rank."""
    return pearson(_ranks(gold), _ranks(predicted))


def share_of(
    correlation: Callable[[Sequence[float], Sequence[float]], float],
    gold: Sequence[float],
    predicted: Sequence[float | None],
) -> float:
    """A correlation when some predictions are missing: that of the others, times the share that they are of all.

    So every missing one costs its part, as a wrong label does, wherever its gold lies; a stand-in on the scale could
    happen to be right. A correlation below zero stays as it is, because a part of it would be the better score.
    """
    pairs = [(g, p) for g, p in zip(gold, predicted, strict=True) if p is not None]
    among_the_others = correlation([g for g, _ in pairs], [p for _, p in pairs])
    return min(among_the_others, among_the_others * len(pairs) / max(len(gold), 1))


def _class_f1s(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> Callable[[Hashable], float]:
    """F1 by class, counted once for all classes: significance is computed from thousands of scores."""
    hits = Counter(g for g, p in zip(gold, predicted, strict=True) if g == p)
    total = Counter(gold) + Counter(predicted)
    return lambda label: 2 * hits[label] / total[label] if total[label] else 0.0


def _deviations(values: Sequence[float]) -> list[float]:
    """Distances from the mean, the largest made 1: squares then neither overflow nor vanish."""
    if not values or min(values) == max(values):  # a mean that is rounded would leave noise to correlate with
        return [0.0] * len(values)
    mean = fsum(values) / len(values)
    deviations = [value - mean for value in values]
    largest = max(map(abs, deviations))
    return [deviation / largest for deviation in deviations]


def _ranks(values: Sequence[float]) -> list[float]:
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values), start=1):
        places.setdefault(value, []).append(place)
    return [fsum(places[value]) / len(places[value]) for value in values]
