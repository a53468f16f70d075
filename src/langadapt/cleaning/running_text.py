"""Running text as the quality rules see it: its words are found once for all steps, and only when a rule asks for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from langadapt.pieces import LIMIT, piecewise
from langadapt.records import Document, Language

if TYPE_CHECKING:
    import numpy as np

_WORD = re.compile(r"\w+(?:['’.,:-]\w+)*|\.{2,}|[^\w\s]")
_LETTER = re.compile(r"[^\W\d_]")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")

# What is known of a word is one number: from the lowest bit, whether it has a letter; a letter or a digit; its length in
# characters; its number in the vocabulary.
LETTER, LETTER_OR_DIGIT, LENGTH, NUMBER = 1, 2, 2, 34
_LENGTHS = (1 << NUMBER - LENGTH) - 1
_LARGE = 1 << 20  # characters of a text that is not kept for the next step: what it would hold is too much

words = piecewise(_WORD.findall)
"""Words and punctuation marks of a language that no plugin knows: what stands between blanks and marks."""


class Vocabulary(dict[str, int]):
    """What is known of each word; words are numbered as they come."""

    def __missing__(self, word: str) -> int:
        letter = _LETTER.search(word) is not None
        fact = len(self) << NUMBER | len(word) << LENGTH
        fact |= LETTER_OR_DIGIT * (letter or _LETTER_OR_DIGIT.search(word) is not None) | LETTER * letter
        self[word] = fact
        return fact

    def facts(self, words: list[str]) -> np.ndarray:
        """One number for each word, int64; the numbering holds within one text, for between texts it may begin anew."""
        import numpy as np

        if len(self) > LIMIT:
            self.clear()
        return np.fromiter(map(self.__getitem__, words), np.int64, len(words))


_VOCABULARY = Vocabulary()


class RunningText:
    """A text and, on demand, its words and what the rules ask of them."""

    def __init__(self, text: str, segment: Callable[[str], list[str]]) -> None:
        self.text = text
        self._segment = segment

    @cached_property
    def words(self) -> list[str]:
        """Words and punctuation marks in order, as the language's own segmentation finds them."""
        return self._segment(self.text)

    @cached_property
    def facts(self) -> np.ndarray:
        """What is known of each word: `LETTER`, `LETTER_OR_DIGIT`, and what the properties below take out of it."""
        return _VOCABULARY.facts(self.words)

    @property
    def numbers(self) -> np.ndarray:
        """The number of each word: equal words have equal numbers, below 2 ** 29."""
        return self.facts >> NUMBER

    @property
    def lengths(self) -> np.ndarray:
        """The characters of each word."""
        return self.facts >> LENGTH & _LENGTHS


@lru_cache(maxsize=2)
def _recent(text: str, segment: Callable[[str], list[str]]) -> RunningText:
    return RunningText(text, segment)


def running(text: str, segment: Callable[[str], list[str]]) -> RunningText:
    """The text, with its words if the step before has found them."""
    return _recent(text, segment) if len(text) < _LARGE else RunningText(text, segment)


Rule = Callable[[RunningText], str]  # the reason for dropping the text, or ""


def step(rule: Rule, language: Language | None) -> Callable[[Document], Document | str]:
    """A cleaning step of a rule; it lets dialogues and instructions pass."""
    segment = language.words if language else words

    def judge(document: Document) -> Document | str:
        if document.messages:
            return document
        return rule(running(document.text, segment)) or document

    return judge
