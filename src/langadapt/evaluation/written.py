"""Figures of free text. A text adds numbers to sums, and a figure is a value of the sums, so that a resample only adds up
what is known of each text already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from langadapt.records import Answer, Item

REMEMBERED = 1 << 16  # answers that the numbers are kept of


@dataclass(frozen=True, kw_only=True)
class Written:
    """A text in answer to something.

    Attributes:
        text: what was written.
        words: its words and marks, in order.
        reference: what a person wrote in answer to the same; "" where nobody did.
        finished: whether it has the end that its writer gave it.
    """

    text: str
    words: Sequence[str] = ()
    reference: str = ""
    finished: bool = True


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of written texts.

    Attributes:
        higher_is_better: what it says.
        size: how many numbers a text adds.
        observe: a text in, what it adds to each sum out.
        value: sums in, the figure out.
    """

    higher_is_better: bool
    size: int
    observe: Callable[[Written], Sequence[float]]
    value: Callable[[Sequence[float]], float]


def ratio(parts: Callable[[Written], tuple[float, float]], *, higher_is_better: bool, without: float = 0.0) -> Metric:
    """A ratio of totals.

    Args:
        parts: a text in; what it adds above and below the line out.
        higher_is_better: what it says.
        without: the value where nothing was added below the line.
    """
    return Metric(
        higher_is_better=higher_is_better,
        size=2,
        observe=parts,
        value=lambda sums: float(sums[0] / sums[1]) if sums[1] else without,
    )


def mean(of: Callable[[Written], float | None], *, higher_is_better: bool, without: float = 0.0) -> Metric:
    """The mean over the texts of which `of` gives a number; `without` where it gives none of any."""

    def parts(written: Written) -> tuple[float, float]:
        found = of(written)
        return (0.0, 0.0) if found is None else (float(found), 1.0)

    return ratio(parts, higher_is_better=higher_is_better, without=without)


def scorer(
    metrics: Mapping[str, Metric], *, words: Callable[[str], Sequence[str]], group: Callable[[Item], str]
) -> Callable[[Sequence[Answer]], dict[str, float]]:
    """Gives any non-empty list of answers a value for each metric.

    Args:
        metrics: by name.
        words: the segmentation that runs of words are found in.
        group: where an item is from; a value is the plain mean of those of the groups.
    """

    @lru_cache(maxsize=REMEMBERED)
    def observed(text: str, reference: str, finished: bool) -> list[float]:
        written = Written(text=text, words=words(text), reference=reference, finished=finished)
        return [number for metric in metrics.values() for number in metric.observe(written)]

    def score(answers: Sequence[Answer]) -> dict[str, float]:
        import numpy as np

        groups: dict[str, list[list[float]]] = {}
        for answer in answers:
            groups.setdefault(group(answer.item), []).append(observed(answer.text, answer.item.gold, answer.finished))
        sums = [np.sum(np.array(rows), axis=0) for rows in groups.values()]
        values, at = {}, 0
        for name, metric in metrics.items():
            values[name] = fmean(metric.value(row[at : at + metric.size].tolist()) for row in sums)
            at += metric.size
        return values

    return score
