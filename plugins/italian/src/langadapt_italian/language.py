"""The Italian language: its names, its words, what recipes get when they name nothing."""

from __future__ import annotations

import re

from langadapt import Language

# An elided article or preposition is a word of its own: l'albero, dell'acqua, un'amica; both apostrophes are in use.
_WORD = re.compile(r"[^\W\d_]+['’](?=[^\W\d_])|[^\W\d_]+|\d+(?:[.,]\d+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Words, elided forms, numbers and punctuation marks, in order."""
    return _WORD.findall(text)


ITALIAN = Language(
    tag="it",
    name="Italian",
    autonym="italiano",
    script="Latn",
    words=words,
    source_language="en",
    prompts={"sft": "alpaca-it"},
    suites=("english", "evalita-2023"),
    # FineWeb-2's thresholds for Italian, bound to its own word segmentation (huggingface/fineweb-2, commit d0defb2).
    thresholds={
        "fineweb2": {
            "language_score": 0.817,
            "duplicate_lines": 0.246,
            "alphabetic_words": 0.807,
            "end_punctuation": 0.025,
        }
    },
)
