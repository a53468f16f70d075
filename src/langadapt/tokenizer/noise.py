"""What may become a token: whole characters of one script, not too long, and nothing that crosses a space."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langadapt.tokenizer.tokens import Bpe

# Scripts that are written together, and letters whose names do not begin with their script's.
_TOGETHER = {
    **dict.fromkeys(("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"), "CJK"),
    **dict.fromkeys(("FEMININE", "MASCULINE"), "LATIN"),
}
_JOINERS = "\u200c\u200d"  # invisible, and part of words in some scripts
_BLANK, _DIGIT, _MARK = "blank", "digit", "punctuation"


class Noise:
    """Tells which joined tokens are refused while merges are selected.

    - of more than `longest` characters, a space before them not counted;
    - with a space, a line end or a control character anywhere but for one space at the beginning;
    - not in Unicode's composed form (NFC);
    - with a digit beside anything else: numbers are left as the base cuts them;
    - with letters of different scripts;
    - with letters and punctuation, unless the pre-tokenizer itself joins them in a word (`l'`, for some).

    Parts of a character are let through, as its other parts may follow; see `complete`.

    Args:
        bpe: the tokenizer that is adapted.
        longest: characters of a token.
        words: whether its pre-tokenizer cuts text into words of letters, digits or punctuation.
    """

    def __init__(self, bpe: Bpe, *, longest: int, words: bool) -> None:
        self._bpe, self._longest, self._words = bpe, longest, words

    def refuses(self, token: str) -> bool:
        """Whether a token is none to learn."""
        whole = self._bpe.data(token).decode("utf-8", "ignore")
        text = whole.removeprefix(" ")
        kinds = {kind for character in text if (kind := _kind(character))}
        if len(text) > self._longest or _BLANK in kinds or not unicodedata.is_normalized("NFC", text):
            return True
        if _DIGIT in kinds:
            return len(whole) > 1
        scripts = kinds - {_MARK}
        return len(scripts) > 1 or (bool(scripts) and _MARK in kinds and not self._words)

    def complete(self, token: str) -> bool:
        """Whether a token is whole characters."""
        try:
            self._bpe.data(token).decode()
        except UnicodeDecodeError:
            return False
        return True


def has_letters(text: str) -> bool:
    """Whether there is any letter, or mark on one, in a text."""
    return any(unicodedata.category(character)[0] in "LM" for character in text)


@cache
def _kind(character: str) -> str:
    """A letter's script, or what else a character is; "" for marks, which belong to any letter."""
    category = unicodedata.category(character)
    if category in ("Lm", "Mn", "Mc", "Me") or character in _JOINERS:
        return ""
    if category[0] in "ZC":
        return _BLANK
    if category[0] == "N":
        return _DIGIT
    if category[0] in "PS":
        return _MARK
    script = unicodedata.name(character, "").partition(" ")[0]
    return _TOGETHER.get(script, script)
