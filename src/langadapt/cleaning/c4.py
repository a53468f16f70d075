"""C4's rules (arXiv 1910.10683, section 2.2; tensorflow/datasets, text/c4_utils.py): lines that are sentences.

Lines are judged one by one, in the order of `OPTIONS`' use below; what is left is the text. As published: words are
counted before citations go, and `{` or "lorem ipsum" in a line that is already gone does no harm. Differences: sentences
are counted by their marks (Punkt needs a model of each language), end marks and phrases are options, and phrases are found
in the language's own lower case as well as in everybody's: pages of one that has other capitals quote English notices too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from langadapt.records import Document, Filter, Language

OPTIONS: Mapping[str, Any] = {
    "end_marks": '.?!"',
    "min_words": 3,
    "max_word": 1000,
    "min_sentences": 5,
    "long_lines": 0,
    "long_line": 200,
    "citations": True,
    "javascript": True,
    "lorem_ipsum": True,
    "curly_bracket": True,
    "policy": [
        "terms of use",
        "privacy policy",
        "cookie policy",
        "uses cookies",
        "use of cookies",
        "use cookies",
    ],
}

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
# A sentence ends with marks, perhaps quoted, before a blank and anything but a small letter; initials end none.
_SENTENCE_END = re.compile(r"(?<!\b[^\W\d_])[.!?…]+[\"'»”’)\]]*(?=\s+(\S))")


def sentences(line: str) -> int:
    """How many sentences a line holds; one, if it has no end mark at all."""
    return 1 + sum(not found[1].islower() for found in _SENTENCE_END.finditer(line))


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Keeps the lines that look like sentences; dialogues and instructions pass.

    `min_sentences` counts sentences in kept lines; `long_lines` is mC4's own rule, the least number of lines of at least
    `long_line` characters in the document as it comes (3 there, 0 for none).
    """
    judge = _line_rule(options, language.lower if language else str.lower)
    least, long = options["long_lines"], options["long_line"]

    def has_long_lines(text: str) -> bool:
        return not least or sum(len(line) >= long for line in text.split("\n")) >= least

    def clean(document: Document) -> Document | str:
        if document.messages:
            return document
        if not has_long_lines(document.text):
            return "too few long lines"
        kept: list[str] = []
        number = 0
        for line in document.text.splitlines():
            cleaned, reason = judge(line.strip())
            if reason:
                return reason
            if cleaned:
                kept.append(cleaned)
                number += sentences(cleaned)
        if number < options["min_sentences"]:
            return "too few sentences"
        return replace(document, text="\n".join(kept).strip())

    return clean


def _line_rule(options: Mapping[str, Any], lower: Callable[[str], str]) -> Callable[[str], tuple[str, str]]:
    """A function from a line to what is left of it, "" for nothing, and the reason for dropping the whole document."""
    end_marks = tuple(options["end_marks"])
    policy = {small: [small(str(phrase)) for phrase in options["policy"]] for small in (str.lower, lower)}

    def judge(line: str) -> tuple[str, str]:
        words = line.split()
        if options["max_word"] and len(line) > options["max_word"] < max(map(len, words)):
            return "", ""
        if options["citations"] and "[" in line:
            line = _CITATION.sub("", line)
        if end_marks and (not line.endswith(end_marks) or line.endswith("...")):
            return "", ""
        if len(words) < options["min_words"]:
            return "", ""
        lowered = line.lower()
        if options["lorem_ipsum"] and "lorem ipsum" in lowered:
            return "", "lorem ipsum"
        if options["javascript"] and "javascript" in lowered:
            return "", ""
        if options["curly_bracket"] and "{" in line:
            return "", "curly bracket"
        if any(phrase in text for small, phrases in policy.items() for text in [small(line)] for phrase in phrases):
            return "", ""
        return line, ""

    return judge


FILTER = Filter(
    name="c4-quality",
    description="Keeps the lines of running text that are sentences, and drops text with too few of them.",
    make=make,
    source="arXiv 1910.10683, section 2.2; tensorflow/datasets, text/c4_utils.py",
    options=OPTIONS,
    version=2,
)
