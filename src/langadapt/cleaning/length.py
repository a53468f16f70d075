"""Length of a document: characters and blank-separated words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langadapt.records import Document, Filter, Language


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Drops documents shorter than either limit; a dialogue's length is that of all its messages."""
    characters, words = options["characters"], options["words"]

    def judge(document: Document) -> Document | str:
        content = document.content
        if len(content) < characters or (words and len(content.split()) < words):
            return "too short"
        return document

    return judge


FILTER = Filter(
    name="min-length",
    description="Drops documents with too few characters or words.",
    make=make,
    options={"characters": 200, "words": 0},
)
