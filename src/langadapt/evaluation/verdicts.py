"""Which changes are called significant: one rule for the report, the model card, the screen and `compare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langadapt.evaluation import ENOUGH

LEVEL = 0.05  # of the tests, over all measures of a suite together

Tone = Literal["better", "worse", "unclear", "few", "neither", ""]
VERDICTS: Mapping[Tone, str] = {
    "better": "significant gain",
    "worse": "significant loss",
    "unclear": "not distinguishable from no change",
    "few": "too few items to tell",
    "neither": "neither better nor worse for it",
    "": "nothing to compare with",
}


def tone(row: Mapping[str, Any]) -> Tone:
    """Whether a row of `report.json` is surely better or worse than what it is compared with, or has too few items to say.

    Sure is what the adjusted test finds and the interval has no zero in.
    """
    if row.get("change") is None:
        return ""
    if row["higher_is_better"] is None:
        return "neither"
    low, high, p_value = (row.get(key) for key in ("change_ci_low", "change_ci_high", "p_adjusted"))
    if low is None or high is None or not (low > 0 or high < 0):
        return "unclear"
    if row["n"] < ENOUGH:
        return "few"
    if p_value is None or not p_value < LEVEL:
        return "unclear"
    return "better" if (row["change"] > 0) == bool(row["higher_is_better"]) else "worse"
