"""Gopher's quality rules (arXiv 2112.11446, section A.1.1): is this prose at all?

Read as datatrove reads them, with these differences: a word is a symbol when it has neither letter nor digit (there: when
all of it is in a fixed list of marks, so that a lone € is a word); the apostrophes ' and ’ are the same in function words
(l' and l’); and the function words are the language's own, compared as they are written, without any the rule is off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

from langadapt.cleaning.running_text import LETTER, LETTER_OR_DIGIT, Rule, RunningText, step
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


def rule(limits: Mapping[str, Any], language: Language | None) -> Rule:
    """The first limit of `OPTIONS` that a text breaks; a limit of 0 is off.

    Word counts and mean word length (characters) leave symbols out; the shares of `symbols` and `alphabetic_words` are of
    all words and marks.
    """
    function_words = _with_either_apostrophe(language.function_words if language else ())

    def judge(running: RunningText) -> str:
        number, real, letters, characters = _count(running)
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
        if function_words:
            found = {function_words[word] for word in running.among(function_words)}
            if len(found) < limits["function_words"]:
                return "too few function words"
        return ""

    return judge


def _count(running: RunningText) -> tuple[int, int, int, int]:
    """Words and marks, words, words with a letter, characters of words."""
    facts = running.facts
    real = facts & LETTER_OR_DIGIT != 0
    return len(facts), int(real.sum()), int((facts & LETTER).sum()), int(running.lengths[real].sum())


def _with_either_apostrophe(words: Iterable[str]) -> dict[str, str]:
    """Every way to write the words, with ' or ’, and the word that each stands for."""
    straight = {word.replace("’", "'") for word in words}
    return {
        "".join(characters): word
        for word in straight
        for characters in product(*("'’" if character == "'" else character for character in word))
    }


def _symbols(text: str, words: int, limits: Mapping[str, Any]) -> str:
    ellipses = text.count("...") + text.count("…")
    if limits["symbols"]:
        if text.count("#") / words > limits["symbols"]:
            return "too many hash signs"
        if ellipses / words > limits["symbols"]:
            return "too many ellipses"
    lines = text.splitlines()

    def too_many(limit: float, signs: int, holds: Callable[[str], bool]) -> bool:
        """Whether too many lines hold; no more do than there are `signs`, so mostly nobody has to look."""
        return bool(limit) and signs / len(lines) > limit and sum(map(holds, lines)) / len(lines) > limit

    bullets = text.count("•") + text.count("-")
    if too_many(limits["bullet_lines"], bullets, lambda line: line.lstrip().startswith(("•", "-"))):
        return "too many lines with a bullet"
    if too_many(limits["ellipsis_lines"], ellipses, lambda line: line.rstrip().endswith(("...", "…"))):
        return "too many lines end with an ellipsis"
    return ""


FILTER = Filter(
    name="gopher-quality",
    description="Drops running text by number and length of words, symbols, bullets, ellipses, letters, function words.",
    make=lambda options, language: step(rule(options, language), language),
    source="arXiv 2112.11446, section A.1.1",
    options=OPTIONS,
)
