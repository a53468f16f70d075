"""Relatives of Turkish that detectors take for it, known by letters that Turkish does not have.

What `langadapt` identifies languages with knows Azerbaijani; Crimean Tatar, Gagauz and Turkmen it calls Turkish. Their
alphabets give them away. A few such words are names, which come in every text.
"""

from __future__ import annotations

import re

from langadapt_turkish.casing import lower

LEAST = 3  # different words with such a letter,
SHARE = 0.05  # and at least so large a part of all different words

_WORD = re.compile(r"[^\W\d_]+")
# Without q, w and x: program code and names bring them into Turkish.
_LETTERS = {"az": "ə", "crh": "ñ", "gag": "[äêţ]", "tk": "[äňýž]"}
_HAS = {tag: re.compile(letters).search for tag, letters in _LETTERS.items()}


def tell_apart(text: str) -> str:
    """Tag of the relative that a text is in, or "" for Turkish."""
    words = set(_WORD.findall(lower(text)))
    votes = {tag: sum(has(word) is not None for word in words) for tag, has in _HAS.items()}
    tag = max(votes, key=votes.__getitem__)
    return tag if votes[tag] >= max(LEAST, SHARE * len(words)) else ""
