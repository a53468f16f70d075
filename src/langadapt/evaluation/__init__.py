"""Measuring: bits per byte of text and of answers, tasks by generation, and how sure the figures are."""

# Pairs of items below which no change is called sure: were fewer all to move the same way, a sign test would still not
# reach 5 % (2 · 2⁻⁵ = 0.06).
ENOUGH = 6
