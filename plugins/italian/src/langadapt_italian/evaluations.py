"""What is measured beside the EVALITA tasks: the English that the base model came with."""

from __future__ import annotations

from langadapt import Evaluation

EVALUATIONS = (
    Evaluation(
        name="english",
        language="en",
        description="Bits per byte of English text: what adaptation to Italian costs.",
        corpus="replay-en",
        method="bits_per_byte",
        split="all",
    ),
)
