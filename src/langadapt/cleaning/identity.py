"""Is the text in the language that it is said to be in?

The offline detector of `langadapt.identification` must name the language and be sure of it; then the language's own
`tell_apart` may still find a relative. A detector's score is no probability, its sureness is what tells relatives apart
(of Sardinian, Friulian, Corsican, Ligurian and Venetian paragraphs it is sure that 0 to 18 % are Italian, and would call
39 to 98 % so).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from langadapt.errors import UserError
from langadapt.identification import identify, knows
from langadapt.records import Document, Filter, Language


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Drops documents in another language; of a dialogue, all messages are judged as one text.

    With `paragraphs`, lines of running text of at least `characters` that are surely in another language go first, and
    what is left is judged; headings and shorter lines stay. A document shorter than `characters` is kept: it says too
    little. `sure = false` takes the detector's word without asking whether it is sure.

    Raises:
        UserError: no plugin offers the language and `tag` does not say which it is, or the detector lacks it.
    """
    tag = (options["tag"] or (language.tag if language else "")).split("-")[0]
    if not tag:
        raise UserError('filter language: no plugin offers the language of this corpus; say which, tag = "en"')
    if not knows(tag):
        raise UserError(f'filter language: the detector does not know "{tag}"; leave the filter out for this language')
    tell_apart = language.tell_apart if language and language.tag.split("-")[0] == tag else None
    least: int = options["characters"]

    def reason(text: str) -> str:
        found = identify(text)
        if found.tag != tag:
            return "another language"
        if options["sure"] and not found.reliable:
            return "not surely the language"
        return "a related language" if tell_apart and tell_apart(text) else ""

    def is_foreign(line: str) -> bool:
        if len(line) < least:
            return False
        found = identify(line)
        if found.tag != tag:
            return found.reliable
        return bool(tell_apart and tell_apart(line))

    def step(document: Document) -> Document | str:
        if options["paragraphs"] and not document.messages:
            lines = document.text.split("\n")
            kept = [line for line in lines if not is_foreign(line)]
            if len(kept) < len(lines):
                document = replace(document, text="\n".join(kept))
            if not document.text.strip():
                return "another language"
        content = document.content
        return (reason(content) if len(content) >= least else "") or document

    return step


FILTER = Filter(
    name="language",
    description="Drops documents, and on request paragraphs, that are in another language or in a relative of it.",
    make=make,
    source="eldc, or py3langid where there is no wheel of it",
    options={"tag": "", "sure": True, "paragraphs": False, "characters": 40},
)
