"""How near does the text come to what a person wrote? chrF2 and chrF2++ (Popović 2015, 2017) and BLEU by sacrebleu, from 0
to 100, over all texts together; and how alike the lengths are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from langadapt.evaluation.written import Metric, Written, mean

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric as Sacre

_SIZES = {"chrf2": 3 * 6, "chrf2++": 3 * 8, "bleu": 2 + 2 * 4}  # counts that sacrebleu sums up over texts


@cache
def _sacre(name: str) -> Sacre:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    made: dict[str, Callable[[], Sacre]] = {
        "chrf2": CHRF,
        "chrf2++": lambda: CHRF(word_order=2),
        "bleu": lambda: BLEU(force=True),  # no warning of texts that look cut into words
    }
    return made[name]()


def _metric(name: str) -> Metric:
    """sacrebleu's own counts of each text and its own value of their sums: what its `corpus_score` is made of."""
    nothing = [0.0] * _SIZES[name]

    def observe(written: Written) -> Sequence[float]:
        if not written.reference:
            return nothing
        counts: Sequence[float] = _sacre(name)._extract_corpus_statistics([written.text], [[written.reference]])[0]
        return counts

    def value(sums: Sequence[float]) -> float:
        return float(_sacre(name)._compute_score_from_stats([int(number) for number in sums]).score)

    return Metric(higher_is_better=True, size=_SIZES[name], observe=observe, value=value)


def length_match(written: Written) -> float | None:
    """The shorter of the text and its reference by the longer, in characters: 1 for the same length."""
    shorter, longer = sorted((len(written.text), len(written.reference)))
    return shorter / longer if written.reference else None


METRICS: dict[str, Metric] = {
    **{name: _metric(name) for name in _SIZES},
    "length_match": mean(length_match, higher_is_better=True),
}


def signatures() -> Mapping[str, str]:
    """sacrebleu's account of each metric: settings and version."""
    for name in _SIZES:
        _sacre(name).corpus_score([""], [[""]])  # it says how many references it saw
    return {name: str(_sacre(name).get_signature()) for name in _SIZES}
