"""The language: its names, its words, and what a recipe gets when it names nothing."""

from __future__ import annotations

import re

from langadapt import Language

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\d+(?:[.,]\d+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Words, numbers and punctuation marks, in order."""
    return _WORD.findall(text)


ESPERANTO = Language(
    tag="eo",
    name="Esperanto",
    autonym="Esperanto",
    script="Latn",
    words=words,
    prompts={"sft": "tasko-eo"},
    suites=("esperanto",),
)
