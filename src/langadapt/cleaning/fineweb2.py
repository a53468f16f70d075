"""FineWeb-2's rules for one language (arXiv 2506.20920): repetition, lines, words, in this order, with its thresholds.

The thresholds are the language's own, `Language.thresholds["fineweb2"]`; what FineWeb-2 sets alike for all languages is
in `OPTIONS`. Those of upstream are bound to its own word segmentation (spaCy, mostly): a language whose `words` cut
otherwise gets other verdicts, so a plugin says how far it agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langadapt.cleaning import fineweb, gopher, repetition
from langadapt.cleaning.running_text import RunningText, step
from langadapt.errors import UserError, written
from langadapt.records import Document, Filter, Language

NAME = "fineweb2"
FROM_LANGUAGE = (
    "duplicate_lines",
    *(f"top_{n}" for n in repetition.TOP),
    *(f"repeated_{n}" for n in repetition.REPEATED),
    "end_punctuation",
    "newlines",
    "min_word_length",
    "max_word_length",
    "alphabetic_words",
)
OPTIONS: Mapping[str, Any] = {
    **dict.fromkeys(FROM_LANGUAGE),  # not set: the language's
    "duplicate_line_characters": 0.1,
    "min_words": 50,
    "max_words": 100_000,
    "symbols": 0.1,
    "bullet_lines": 0.9,
    "ellipsis_lines": 0.3,
    "function_words": 2,
    "end_marks": fineweb.END_MARKS,
}


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """The three families as one step, so that words are found once.

    Raises:
        UserError: a threshold is neither set nor known for the language, or is no number.
    """
    values = FILTER.values(language, {key: value for key, value in options.items() if value is not None})
    limits = {**values, **_thresholds(values, language), "short_lines": 0, "short_line": 0}
    rules = (
        repetition.rule({**limits, "duplicate_line_characters": 0}),
        fineweb.rule(limits),
        gopher.rule(limits, language),
    )

    def judge(running: RunningText) -> str:
        return next((reason for rule in rules if (reason := rule(running))), "")

    return step(judge, language)


def _thresholds(values: Mapping[str, Any], language: Language | None) -> dict[str, float]:
    """Those that have no default, each a number."""
    found = {key: values[key] for key in FROM_LANGUAGE}
    if missing := [key for key, value in found.items() if value is None]:
        whose = f'{language.name} has none in thresholds["{NAME}"]' if language else "no plugin offers the language"
        raise UserError(f"filter {NAME}: no value for {', '.join(missing)}: {whose}; set them as options of the filter")
    for key, value in found.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise UserError(f"filter {NAME}: {key} = {written(value)} is no number; write it as {key} = 0.2")
    return {key: float(value) for key, value in found.items()}


FILTER = Filter(
    name=NAME,
    description="Drops running text by the rules of all three families, with FineWeb-2's thresholds for the language.",
    make=make,
    source="arXiv 2506.20920; huggingface/fineweb-2, fineweb-2-pipeline.py",
    options=OPTIONS,
)
