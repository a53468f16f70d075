"""Gopher's quality rules (arXiv 2112.11446, section A.1.1): is this prose at all?

Read as datatrove reads them, with these differences: a word is a symbol when it has neither letter nor digit (there: when
all of it is in a fixed list of marks, so that a lone € is a word); the apostrophes ' and ’ are the same in function words
(l' and l’); and the function words are the language's own, compared as they are written, without any the rule is off.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from langadapt.cleaning.running_text import Rule, RunningText, step
from langadapt.records import Filter, Language

OPTIONS: Mapping[str, float] = {
    "min_words": 50,
    "max_words": 100_000,
    "min_word_length": 3.0,
    "max_word_length": 10.0,
    "symbols": 0.1,
    "bullet_lines": 0.9,
    "ellipsis_lines": 0.3,
    "alphabetic_words": 0.8,
    "function_words": 2,
}

_LETTER = re.compile(r"[^\W\d_]")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def rule(limits: Mapping[str, Any], language: Language | None) -> Rule:
    """The first limit of `OPTIONS` that a text breaks; a limit of 0 is off.

    Word counts and mean word length (characters) leave symbols out; the shares of `symbols` and `alphabetic_words` are of
    all words and marks.
    """
    function_words = frozenset(map(_straight, language.function_words)) if language else frozenset[str]()

    def judge(running: RunningText) -> str:
        counts = Counter(running.words)
        number = len(running.words)
        real = letters = characters = 0
        for word, times in counts.items():
            if _LETTER_OR_DIGIT.search(word):
                real += times
                characters += times * len(word)
                if _LETTER.search(word):
                    letters += times
        if real < max(limits["min_words"], 1):
            return "too few words"
        if limits["max_words"] and real > limits["max_words"]:
            return "too many words"
        if characters / real < limits["min_word_length"]:
            return "words too short"
        if limits["max_word_length"] and characters / real > limits["max_word_length"]:
            return "words too long"
        if reason := _symbols(running.text, number, limits):
            return reason
        if letters / number < limits["alphabetic_words"]:
            return "too few words with a letter"
        if function_words and len(function_words.intersection(map(_straight, counts))) < limits["function_words"]:
            return "too few function words"
        return ""

    return judge


def _straight(word: str) -> str:
    return word.replace("’", "'")


def _symbols(text: str, words: int, limits: Mapping[str, Any]) -> str:
    if limits["symbols"]:
        if text.count("#") / words > limits["symbols"]:
            return "too many hash signs"
        if (text.count("...") + text.count("…")) / words > limits["symbols"]:
            return "too many ellipses"
    lines = text.splitlines()
    if limits["bullet_lines"]:
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
        if bullets / len(lines) > limits["bullet_lines"]:
            return "too many lines with a bullet"
    if limits["ellipsis_lines"]:
        ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
        if ellipses / len(lines) > limits["ellipsis_lines"]:
            return "too many lines end with an ellipsis"
    return ""


FILTER = Filter(
    name="gopher-quality",
    description="Drops running text that is too short, too long or no prose by its words, symbols and lines.",
    make=lambda options, language: step(rule(options, language), language),
    source="arXiv 2112.11446, section A.1.1",
    options=OPTIONS,
)
