"""Running text as the quality rules see it: its words are found once for all steps, and only when a rule asks for them."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from langadapt.pieces import LIMIT, KnownPieces, Piecewise, piecewise
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


class _Known(dict[str, int]):
    """What is known of each word; words are numbered as they come."""

    def __missing__(self, word: str) -> int:
        letter = _LETTER.search(word) is not None
        fact = len(self) << NUMBER | len(word) << LENGTH
        fact |= LETTER_OR_DIGIT * (letter or _LETTER_OR_DIGIT.search(word) is not None) | LETTER * letter
        self[word] = fact
        return fact


class Vocabulary:
    """What is known of each word, and of the words of each piece between blanks.

    Nothing in it refers back to it: a full one goes at once, whereas the garbage collector, which is moved by containers
    and not by strings, would leave many of them behind.
    """

    def __init__(self) -> None:
        self._known = _Known()
        self._of_pieces: dict[Piecewise, KnownPieces[bytes]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, word: str) -> int:
        return self._known[word]

    def facts(self, text: str, segment: Callable[[str], list[str]]) -> np.ndarray:
        """One number for each word of a text, int64."""
        import numpy as np

        of_word = self._known.__getitem__
        if not isinstance(segment, Piecewise):
            found = segment(text)
            return np.fromiter(map(of_word, found), np.int64, len(found))
        if segment not in self._of_pieces:
            self._of_pieces[segment] = KnownPieces(
                lambda piece: array("q", map(of_word, segment.find(piece))).tobytes()
            )
        return np.frombuffer(b"".join(map(self._of_pieces[segment].__getitem__, text.split())), np.int64)


_vocabulary = Vocabulary()


def vocabulary() -> Vocabulary:
    """That of this process; a new one when the last is full, so numbers hold for the texts that share one."""
    global _vocabulary
    if len(_vocabulary) > LIMIT:
        _vocabulary = Vocabulary()
    return _vocabulary


class RunningText:
    """A text and, on demand, what the rules ask of its words and punctuation marks."""

    def __init__(self, text: str, segment: Callable[[str], list[str]]) -> None:
        self.text = text
        self._segment = segment
        self._vocabulary = vocabulary()

    @cached_property
    def facts(self) -> np.ndarray:
        """What is known of each word in order, as the language's own segmentation finds them: `LETTER`,
        `LETTER_OR_DIGIT`, and what the properties below take out of it.
        """
        return self._vocabulary.facts(self.text, self._segment)

    def among(self, words: Iterable[str]) -> list[str]:
        """Those of some words that the text has."""
        facts = set(self.facts.tolist())
        return [word for word in words if self._vocabulary[word] in facts]

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
