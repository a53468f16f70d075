"""Where kept documents are from, as far as the data say so: counted by language, licence, revision and site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

SHOWN = 20  # of each kind, the most frequent
_KEPT = 1 << 12  # that are counted on when there are more than twice as many; bounds memory
_LONGEST = 80  # characters of a value; anything may stand in a column that is called so
OTHERS = ""  # what the rest is counted under


@dataclass
class Origins:
    """Counts of documents by what their `origin` says, kind by kind.

    Memory is bounded: of very many sites, the rare ones are forgotten at times and counted together, so that a count is
    exact or a little low.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, origin: Mapping[str, str]) -> None:
        """Counts one document."""
        for kind in ("language", "licence", "revision"):
            if kind in origin:
                self._count(kind, origin[kind][:_LONGEST])
        if "url" in origin:
            self._count("site", site(origin["url"])[:_LONGEST])

    def _count(self, kind: str, value: str) -> None:
        counter = self.counts.setdefault(kind, Counter())
        counter[value] += 1
        if len(counter) > 2 * _KEPT:
            self.counts[kind] = _cut(counter, _KEPT)

    def to_json(self) -> dict[str, dict[str, int]]:
        """The most frequent of each kind with their counts, and all others together under ""."""
        return {kind: dict(_cut(counter, SHOWN)) for kind, counter in self.counts.items()}

    @classmethod
    def from_json(cls, counts: Mapping[str, Mapping[str, int]]) -> Origins:
        """What `to_json` said."""
        return cls(counts={kind: Counter(counter) for kind, counter in counts.items()})


def site(url: str) -> str:
    """The host of an address in lower case, without `www.`, user and port; "" when there is none."""
    host = url.partition("//")[2].partition("/")[0].partition("?")[0].partition("#")[0]
    return host.rpartition("@")[2].partition(":")[0].lower().removeprefix("www.")


def _cut(counter: Counter[str], most: int) -> Counter[str]:
    """The most frequent ones; the rest is `OTHERS`."""
    named = [(value, n) for value, n in counter.most_common() if value != OTHERS]
    kept = Counter(dict(named[:most]))
    rest = sum(n for _, n in named[most:]) + counter[OTHERS]
    return kept + Counter({OTHERS: rest}) if rest else kept
