"""Preferences: to which of two answers a model gives the higher probability, and by how much.

The margin of a pair is log p(chosen) - log p(rejected). Its change from the base model to another is, but for the
factor beta, the reward margin that direct preference optimisation raises (Rafailov et al. 2023, arXiv 2305.18290, §5),
so the report's comparison with the base is the implicit reward. A sum of log-probabilities leans to short answers;
divided by the answers' bytes it does not, and bytes can be compared between tokenizers where tokens cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Name of the metric: whether higher is better, unit.
METRICS: dict[str, tuple[bool, str]] = {
    "preference_accuracy": (True, ""),
    "preference_margin": (True, "nats"),
    "preference_accuracy_by_length": (True, ""),
    "preference_margin_by_length": (True, "nats/byte"),
}


def score_pairs(items: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of pairs whose chosen answer is the likelier one, and mean margin; both also by bytes of the answers.

    Args:
        items: pairs with `chosen` and `rejected`, the answers' negative log-likelihoods in nats, and their bytes.
    """
    margins = [item["rejected"] - item["chosen"] for item in items]
    by_length = [
        item["rejected"] / item["rejected_bytes"] - item["chosen"] / item["chosen_bytes"] for item in items
    ]  # of negative log-likelihoods, so the lower one is the likelier
    return {
        "preference_accuracy": _share(margins),
        "preference_margin": sum(margins) / len(margins),
        "preference_accuracy_by_length": _share(by_length),
        "preference_margin_by_length": sum(by_length) / len(by_length),
    }


def _share(margins: Sequence[float]) -> float:
    """A tie is half a success, as a coin would have it."""
    return sum((margin > 0) + (margin == 0) / 2 for margin in margins) / len(margins)
