"""Measuring: bits per byte of text and of answers, tasks by generation, and how sure the figures are."""

# Pairs of items below which no change is called sure: were fewer all to move the same way, a sign test would still not
# reach 5 % (2 · 2⁻⁵ = 0.06).
ENOUGH = 6


def arrow(higher_is_better: bool | None) -> str:
    """Where the better values of a metric lie; nothing where neither higher nor lower ones are better."""
    return {True: "↑", False: "↓", None: ""}[higher_is_better]
