"""What a translation amounts to: counts, how the figures are spread, examples. One pass, flat in memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langadapt import artifacts
from langadapt.translation.checking import SAYS

SHOWN = 3  # examples of each kind
LONGEST = 700  # characters shown of a text
BARS = 24  # of a histogram
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class Spread:
    """Figures of one signal, counted by value to two decimals: exact for counts, to the hundredth for quantiles."""

    values: Counter[float] = field(default_factory=Counter)
    total: float = 0.0

    def add(self, figure: float) -> None:
        self.values[round(figure, 2)] += 1
        self.total += figure

    def to_json(self) -> dict[str, Any]:
        """Number, mean, quantiles and a histogram over the range of all but the outermost hundredths."""
        count = self.values.total()
        quantiles = {f"p{round(100 * q):02}": self.quantile(q) for q in QUANTILES}
        return {"n": count, "mean": round(self.total / count, 4), **quantiles, "histogram": self._histogram()}

    def quantile(self, share: float) -> float:
        """The least figure that so large a share does not exceed."""
        wanted, seen = share * self.values.total(), 0
        for value in sorted(self.values):
            seen += self.values[value]
            if seen >= wanted:
                return value
        return math.nan

    def _histogram(self) -> list[tuple[float, int]]:
        """Lower edges and counts of equal bars; what lies outside is in the first and last."""
        low, high = self.quantile(0.01), self.quantile(0.99)
        width = (high - low) / BARS
        if not width:
            return [(low, self.values.total())]
        bars = [0] * BARS
        for value, count in self.values.items():
            bars[min(BARS - 1, max(0, int((value - low) / width)))] += count
        return [(round(low + width * number, 4), count) for number, count in enumerate(bars)]


@dataclass
class Tally:
    """Takes the outcome of one document after the other, as the stage writes them.

    An outcome: `{"id", "bytes", "outcome", "reason", "texts": [{"source", "target", "way", "figures", "flaws",
    "rejecting"}]}`.
    """

    documents: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    texts: int = 0
    rejected: int = 0
    flaws: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    engines: Counter[str] = field(default_factory=Counter)
    spreads: dict[str, Spread] = field(default_factory=dict)
    _examples: dict[str, list[tuple[tuple[float, str], dict[str, Any]]]] = field(default_factory=dict)

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Counts a document."""
        self.documents[outcome["outcome"]] += 1
        if outcome["reason"]:
            self.dropped[outcome["reason"]] += 1
        for number, text in enumerate(outcome["texts"]):
            self._text(f"{outcome['id']} {number}", text)

    def add_work(self, work: Mapping[str, float]) -> None:
        """Counts what engines did: `fresh`, `remembered` and `seconds`."""
        self.engines.update(work)

    def _text(self, key: str, text: Mapping[str, Any]) -> None:
        if not text["way"]:
            return  # nothing in it was to be translated
        self.texts += 1
        self.rejected += bool(text["rejecting"])
        self.ways[text["way"]] += 1
        self.flaws.update(text["flaws"])
        for name, figure in text["figures"].items():
            self.spreads.setdefault(name, Spread()).add(figure)
        kind = text["rejecting"][0] if text["rejecting"] else "doubtful" if text["flaws"] else "flawless"
        # By a hash, so that nobody chose them; of the doubtful ones, those with the most doubts.
        rank = (-len(text["flaws"]) if kind == "doubtful" else 0, artifacts.digest(key))
        shown = {**text, "source": _cut(text["source"]), "target": _cut(text["target"])}
        self._examples[kind] = sorted([*self._examples.get(kind, []), (rank, shown)], key=lambda e: e[0])[:SHOWN]

    def examples(self) -> dict[str, list[dict[str, Any]]]:
        """Texts by what became of them: the signal that rejected them, `doubtful`, `flawless`."""
        order = [*SAYS, "doubtful", "flawless"]
        return {kind: [e for _, e in self._examples[kind]] for kind in order if kind in self._examples}

    def to_json(self) -> dict[str, Any]:
        """What `quality.json` holds beside the languages and engines."""
        return {
            "documents": {"translated": 0, "source": 0, "dropped": 0, **self.documents},
            "reasons": dict(self.dropped.most_common()),
            "texts": {
                "judged": self.texts,
                "rejected": self.rejected,
                "flaws": {name: self.flaws[name] for name in SAYS if self.flaws[name]},
                "ways": dict(self.ways.most_common()),
            },
            "units": dict(self.engines),
            "signals": {name: self.spreads[name].to_json() for name in SAYS if name in self.spreads},
            "examples": self.examples(),
        }


def merged_reasons(flaws: Iterable[str]) -> str:
    """The one reason that a document is counted under, of all flaws that reject its texts."""
    found = set(flaws)
    return next((says for name, says in SAYS.items() if name in found), "")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
