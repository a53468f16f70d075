"""`turkish-letters`: mends what files and programs did to the letters that Turkish alone has.

1. Latin-5 is Latin-1 but for six letters, so Turkish pages that were read as Latin-1 have `ý ð þ` for `ı ğ ş`. They are put
   back where a document has some of these and none of those.
2. Programs that do not know Turkish write the small letter of İ as an i with a combining dot, and ş with Romanian's comma.
3. Before a suffix stands an apostrophe, and not one of the marks that look like it: Ankara´da. A backtick is one of them
   unless the text quotes code.

A long text without a single letter of Turkish's own was typed without them, or is in another language, and is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from langadapt import Document, Filter, Language

_READ_AS_LATIN_1 = str.maketrans("ýðþÝÐÞ", "ığşİĞŞ")
_LATIN_5_ONLY = re.compile("[ığşİĞŞ]")
_MISREAD = re.compile("[ýðþÝÐÞ]")
_OWN = re.compile("[çğıöşüÇĞİÖŞÜ]")
_APOSTROPHE = re.compile(r"(?<=\w)[´‘ʼ′](?=[^\W\d_])")
_BACKTICK = re.compile(r"(?<=\w)`(?=[^\W\d_])")
_CODE = re.compile(r"(?<!\w)`")
_DOT = "\N{COMBINING DOT ABOVE}"


def mended(text: str) -> str:
    """The text with the letters and apostrophes that were meant; what stands in the whole of it decides (1)."""
    if _MISREAD.search(text) and not _LATIN_5_ONLY.search(text):
        text = text.translate(_READ_AS_LATIN_1)
    text = text.replace(f"i{_DOT}", "i").replace(f"I{_DOT}", "İ").replace("ș", "ş").replace("Ș", "Ş")
    text = _APOSTROPHE.sub("'", text)
    return text if _CODE.search(text) else _BACKTICK.sub("'", text)


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Mends running text and every message; drops what has `characters` and more, and no letter of Turkish's own."""

    def step(document: Document) -> Document | str:
        document = document.edited(mended)
        content = document.content
        return document if len(content) < options["characters"] or _OWN.search(content) else "no Turkish letter"

    return step


LETTERS = Filter(
    name="turkish-letters",
    description="Mends Turkish letters that were decoded or written wrongly, and drops long texts that have none.",
    make=make,
    source="ISO/IEC 8859-9; TDK, Yazım Kılavuzu",
    options={"characters": 200},
)
