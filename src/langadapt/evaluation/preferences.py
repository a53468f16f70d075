"""Preferences: to which of two answers a model gives the higher probability, and by how much.

The margin of a pair is log p(chosen) - log p(rejected). Its change from the base model to another is, but for the
factor beta, the reward margin that direct preference optimisation raises (Rafailov et al. 2023, arXiv 2305.18290, §5),
so the report's comparison with the base is the implicit reward. A sum of log-probabilities leans to short answers;
divided by the answers' bytes it does not, and bytes can be compared between tokenizers where tokens cannot.

Answers that were judged one by one are to different prompts. Which of two is likelier then says little, so there is no
accuracy of them. The margin is the mean of the liked minus the mean of the others: what the prompts contribute to it is
the same under every model, and its change is again the reward margin.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Name of the metric: whether higher is better, unit.
METRICS: dict[str, tuple[bool, str]] = {
    "preference_accuracy": (True, ""),
    "preference_margin": (True, "nats"),
    "preference_accuracy_by_length": (True, ""),
    "preference_margin_by_length": (True, "nats/byte"),
}
CHANCE = {"preference_accuracy": 0.5, "preference_accuracy_by_length": 0.5}  # what guessing scores


def comparable(items: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """What can be measured of a corpus: its pairs; where there are none, answers one by one, if there are both kinds.

    Returns:
        The items, and how many others there are by what they lack.
    """
    lacking = Counter(f"no {side} answer" for item in items for side in ("rejected", "chosen") if side not in item)
    if pairs := [item for item in items if "chosen" in item and "rejected" in item]:
        return pairs, lacking
    both = any("chosen" in item for item in items) and any("rejected" in item for item in items)
    return (list(items), Counter()) if both else ([], lacking)


def score_preferences(items: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean margin, and of pairs the share whose chosen answer is the likelier one; both also by bytes of the answers.

    Args:
        items: `chosen` and `rejected`, the answers' negative log-likelihoods in nats, and their bytes; of an answer that
            was judged by itself only one of the two.

    Returns:
        Values by name; not a number where the items have answers of one kind alone.
    """
    pairs = [item for item in items if "chosen" in item and "rejected" in item]
    shares = {
        "preference_accuracy": [item["rejected"] - item["chosen"] for item in pairs],
        "preference_accuracy_by_length": [_by_byte(item, "rejected") - _by_byte(item, "chosen") for item in pairs],
    }  # of negative log-likelihoods, so the lower one is the likelier
    margins = {
        "preference_margin": _mean(i["rejected"] for i in items if "rejected" in i)
        - _mean(i["chosen"] for i in items if "chosen" in i),
        "preference_margin_by_length": _mean(_by_byte(i, "rejected") for i in items if "rejected" in i)
        - _mean(_by_byte(i, "chosen") for i in items if "chosen" in i),
    }
    return {name: _share(values) for name, values in shares.items() if values} | margins


def _by_byte(item: Mapping[str, Any], side: str) -> float:
    return float(item[side] / item[f"{side}_bytes"])


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else math.nan


def _share(margins: Sequence[float]) -> float:
    """A tie is half a success, as a coin would have it."""
    return sum((margin > 0) + (margin == 0) / 2 for margin in margins) / len(margins)
