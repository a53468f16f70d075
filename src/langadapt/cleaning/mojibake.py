"""Mojibake: UTF-8 that was read as another encoding, `perchÃ©` for `perché`.

ftfy (Apache-2.0) repairs it, in those lines alone where it shows, and nothing else of ftfy runs: quotes stay curled,
ligatures and entities as they are. What cannot be repaired is counted, and a document with too much of it goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from langadapt.records import Document, Filter, Language

# The first byte of a character in UTF-8, read as Latin-1 or Windows-1252, and a byte that goes on with it.
_SHOWS = re.compile(r"[\xc2-\xf4][\x80-\xbfŒœŠšŸŽžƒˆ˜–—‘’‚“”„†‡•…‰‹›€™]")
# What text in no language has, repaired or not: those two in typical pairs, and the mark of a character that was lost.
_DAMAGE = re.compile(r"Ã[\x80-\xbfƒ¨©¬²¹]|Â[\xa0-\xbf]|â€|ï»¿|�")


def shows(text: str) -> bool:
    """Whether a text has characters that came of a wrong decoding, be they such that can be repaired or not."""
    import ftfy

    return bool(_DAMAGE.search(text) or (_SHOWS.search(text) and ftfy.fix_encoding(text) != text))


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Repairs running text and every message.

    Afterwards at most `per_thousand` of a thousand characters may be damaged, else the document is dropped.
    """
    import ftfy

    def mended(line: str) -> str:
        return ftfy.fix_encoding(line) if _SHOWS.search(line) else line

    def mend(text: str) -> str:
        return "\n".join(map(mended, text.split("\n"))) if _SHOWS.search(text) else text

    def step(document: Document) -> Document | str:
        if _SHOWS.search(document.content):
            document = document.edited(mend)
        content = document.content
        if len(_DAMAGE.findall(content)) * 1000 > options["per_thousand"] * len(content):
            return "mojibake"
        return document

    return step


FILTER = Filter(
    name="mojibake",
    description="Repairs UTF-8 that was read as another encoding, in the lines where it shows; drops what stays damaged.",
    make=make,
    source="ftfy.readthedocs.io",
    options={"per_thousand": 1.0},
)
