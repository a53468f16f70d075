"""How figures follow from items: as bits per byte of all of them, or as the score of some scorer.

Both say what one model's items are worth, how sure that is, and how far another model's are from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langadapt.evaluation import statistics
from langadapt.evaluation.statistics import Change, Interval, Score

Kept = Mapping[str, Any]  # an item as `items.jsonl` keeps it
Metrics = Mapping[
    str, tuple[bool | None, str]
]  # by name: whether higher is better (None where neither is), and the unit
Runs = Sequence[Sequence[Kept]]  # items of each run of a recipe with several seeds, in the same order; or of one run


class Figures(Protocol):
    """What is made of items. `name` is that of the evaluation.

    Items that say of what `cluster` they are (one passage, one word) are resampled and swapped with the others of it.
    """

    def metrics(self, items: Sequence[Kept], name: str) -> Metrics:
        """What comes out, by name."""

    def values(self, items: Sequence[Kept], name: str) -> dict[str, float]:
        """What one model scores, by metric."""

    def intervals(self, items: Sequence[Kept], name: str) -> dict[str, Interval]:
        """The same with 95 % intervals."""

    def changes(self, before: Runs, after: Runs, name: str) -> dict[str, Change]:
        """How far one model is from another: a share for bits per byte, a difference for other metrics.

        Args:
            before: a model's items, of one or several runs.
            after: the other's, of as many runs and of the same items. What is compared are the means over runs.
            name: of the evaluation.
        """


@dataclass(frozen=True)
class BitsPerByte:
    """Totals of `nll` (nats) over totals of `bytes`."""

    metric: str

    def metrics(self, items: Sequence[Kept], name: str) -> Metrics:
        return {self.metric: (False, "bits/byte")}

    def values(self, items: Sequence[Kept], name: str) -> dict[str, float]:
        return {self.metric: math.fsum(_bits(items)) / sum(_bytes(items))}

    def intervals(self, items: Sequence[Kept], name: str) -> dict[str, Interval]:
        return {self.metric: statistics.ratio_of_totals(_bits(items), _bytes(items), clusters=clusters_of(items))}

    def changes(self, before: Runs, after: Runs, name: str) -> dict[str, Change]:
        first, second = (
            [math.fsum(item["nll"] for item in runs) / len(runs) for runs in zip(*side, strict=True)]
            for side in (before, after)
        )
        return {self.metric: statistics.relative_change(first, second, clusters=clusters_of(before[0]))}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a scorer gives.

    Attributes:
        score: the evaluation's name in; its scorer out, a function from any non-empty list of items to values by metric.
        of: the evaluation's name in; its metrics out.
        read: the evaluation's name in; how an item is read for its scorer out. It is done once, and resamples are scored
            hundreds of times.
    """

    score: Callable[[str], Score]
    of: Callable[[str], Metrics]
    read: Callable[[str], Callable[[Kept], Any]] = lambda name: dict

    def metrics(self, items: Sequence[Kept], name: str) -> Metrics:
        return self.of(name)

    def values(self, items: Sequence[Kept], name: str) -> dict[str, float]:
        return self.score(name)(self._read(items, name))

    def intervals(self, items: Sequence[Kept], name: str) -> dict[str, Interval]:
        return statistics.resampled(self.score(name), self._read(items, name), clusters=clusters_of(items))

    def changes(self, before: Runs, after: Runs, name: str) -> dict[str, Change]:
        first, second = (list(zip(*(self._read(run, name) for run in side), strict=True)) for side in (before, after))
        mean = over_runs(self.score(name))
        return statistics.paired_difference(mean, first, second, clusters=clusters_of(before[0]))

    def _read(self, items: Sequence[Kept], name: str) -> list[Any]:
        return list(map(self.read(name), items))


def _bits(items: Sequence[Kept]) -> list[float]:
    return [item["nll"] / math.log(2) for item in items]


def _bytes(items: Sequence[Kept]) -> list[int]:
    return [item["bytes"] for item in items]


def clusters_of(items: Sequence[Kept]) -> list[Hashable]:
    return [item.get("cluster", item["id"]) for item in items]


def over_runs(score: Score) -> Score:
    """The mean of a score over runs, for items that are a tuple of each run's."""

    def mean(items: Sequence[tuple[Any, ...]]) -> dict[str, float]:
        scores = [score(run) for run in zip(*items, strict=True)]
        return {name: math.fsum(s[name] for s in scores) / len(scores) for name in scores[0]}

    return mean
