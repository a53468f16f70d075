"""How figures are spread, counted in memory that stays flat however many there are."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from typing import Any

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BARS = 12  # of a histogram with an even scale, at most
FEW = 5  # bars on a growing scale say less than bars on an even one
_BITS = 11  # bins are exact below 2 ** 11, and no wider than a thousandth of their value above


class Distribution:
    """Counts numbers from 0 in bins that grow with them (as HdrHistogram's), and gives quantiles of them.

    Args:
        unit: what the numbers are multiples of: 1 for whole numbers, 0.001 for shares and ratios.
    """

    def __init__(self, unit: float = 1) -> None:
        self._unit = unit
        self._counts: Counter[int] = Counter()  # by a bin's lower edge
        self.n = 0
        self.total: float = 0
        self.least, self.most = math.inf, 0.0

    def add(self, value: float) -> None:
        """Counts one number."""
        steps = round(value / self._unit)
        shift = max(0, steps.bit_length() - _BITS)
        self._counts[steps >> shift << shift] += 1
        self.n += 1
        self.total += value
        self.least, self.most = min(self.least, value), max(self.most, value)

    def quantile(self, share: float) -> float:
        """The smallest number that `share` of all are not above, to a thousandth of it."""
        wanted, so_far = math.ceil(share * self.n), 0
        for edge in sorted(self._counts):
            so_far += self._counts[edge]
            if so_far >= max(wanted, 1):
                return self._number(edge)
        return 0

    def bars(self) -> list[tuple[float, int]]:
        """Lower edge and count of each bar of a histogram.

        Whole numbers that differ much stand on a scale of 1, 2, 5, 10 and so on, others on an even one. What lies beyond
        the outermost hundredths of an even scale is counted in its first and last bar.
        """
        if not self.n:
            return []
        growing = self._growing() if self._unit == 1 else []
        edges = growing if len(growing) >= FEW else self._even()
        heights = [0] * len(edges)
        for steps, count in self._counts.items():
            heights[max(0, bisect_right(edges, steps * self._unit + 1e-9) - 1)] += count
        return list(zip(edges, heights, strict=True))

    def _growing(self) -> list[float]:
        edges = [0.0, *(float(m * 10**e) for e in range(16) for m in (1, 2, 5))]
        first = max(0, bisect_right(edges, self.least) - 1)
        return edges[first : bisect_right(edges, self.most)]

    def _even(self) -> list[float]:
        low, high = self.quantile(0.01), self.quantile(0.99)
        finest = 0 if self._unit == 1 else -3
        width = next(w for e in range(finest, 16) for m in (1, 2, 5) if (high - low) / (w := m * 10.0**e) < BARS)
        first = math.floor(low / width)
        return [round(width * k, 6) for k in range(first, max(first, math.floor(high / width)) + 1)]

    def _number(self, edge: int) -> float:
        value = edge * self._unit
        return int(value) if self._unit == 1 else round(value, 6)

    def to_json(self) -> dict[str, Any]:
        """Number, mean, least, quantiles, greatest, and the histogram as pairs of lower edge and count."""
        if not self.n:
            return {"n": 0}
        return {
            "n": self.n,
            "mean": round(self.total / self.n, 4),
            "min": self.least,
            **{f"p{round(100 * q):02}": self.quantile(q) for q in QUANTILES},
            "max": self.most,
            "histogram": self.bars(),
        }
