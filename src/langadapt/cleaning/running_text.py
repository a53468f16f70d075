"""Running text as the quality rules see it: its words are found once, and only when a rule asks for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property

from langadapt.records import Document, Language

_WORD = re.compile(r"\w+(?:['’.,:-]\w+)*|\.{2,}|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and punctuation marks of a language that no plugin knows: what stands between blanks and marks."""
    return _WORD.findall(text)


class RunningText:
    """A text and, on demand, its words."""

    def __init__(self, text: str, segment: Callable[[str], list[str]]) -> None:
        self.text = text
        self._segment = segment

    @cached_property
    def words(self) -> list[str]:
        """Words and punctuation marks in order, as the language's own segmentation finds them."""
        return self._segment(self.text)


Rule = Callable[[RunningText], str]  # the reason for dropping the text, or ""


def step(rule: Rule, language: Language | None) -> Callable[[Document], Document | str]:
    """A cleaning step of a rule; it lets dialogues and instructions pass."""
    segment = language.words if language else words

    def judge(document: Document) -> Document | str:
        if document.messages:
            return document
        return rule(RunningText(document.text, segment)) or document

    return judge
