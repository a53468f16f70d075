"""The published rules of `clean_mc4_it`, the corpus that LLaMAntino was adapted on, for Italian web text of your own.

The rules are those of the data card (gsarti/clean_mc4_it), their order and what a "sentence" is (a line) those of the same
code's Indonesian fork (acul3/c4_id_processed). Three of its steps are steps of langadapt, so the whole of it is, in order:

```toml
filters = [{ name = "bad-words", path = "WORDS.txt" }, "clean-mc4-it", "language"]
```

Not published, and therefore ours: the selection of bad words (the user's), the Italian policy phrases, whether "lorem
ipsum" and `{` cost the line or the document (the document, as in C4), and the sentence model (marks are counted here).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from langadapt import Document, Filter, Language

ENGLISH_POLICY = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"]
ITALIAN_POLICY = [
    "informativa sulla privacy",
    "politica sulla privacy",
    "privacy e cookie",
    "utilizza cookie",
    "utilizza i cookie",
    "uso dei cookie",
    "utilizzo dei cookie",
    "condizioni d'uso",
    "termini e condizioni",
    "termini di servizio",
]

OPTIONS: Mapping[str, Any] = {
    "end_marks": '.?!"',
    "max_word": 1000,
    "min_words": 3,
    "min_sentences": 5,
    "min_characters": 500,
    "max_characters": 50_000,
    "policy": [*ENGLISH_POLICY, *ITALIAN_POLICY],
}

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
# A sentence ends with marks, perhaps quoted, before a blank and anything but a small letter; an initial or one of these
# abbreviations ends none.
_END = re.compile(r"[.!?…]+[\"'»”’)]*(?=\s+[^\sa-zà-ÿ]|\s*$)")
_ABBREVIATED = re.compile(
    r"(?:\b[^\W\d_]|\b(?:sigg?|sig\.ra|dott|dr|prof|avv|ing|arch|on|sen|art|artt|pag|pagg|cap|fig|vol|ediz|es|cfr|ca|tel|nn|"
    r"ss|st|mons|gen|col|geom|rag))\.$",
    re.IGNORECASE,
)
_LONGEST = 8  # characters of an abbreviation, its full stop and more


def sentences(line: str) -> int:
    """How many sentences a line holds; one, if it has no end mark at all."""
    ends = [found.end() for found in _END.finditer(line)]
    inner = (end for end in ends if end < len(line))
    return 1 + sum(not _ABBREVIATED.search(line, max(0, end - _LONGEST), end) for end in inner)


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Keeps the lines that are sentences, and the documents that have enough of them; dialogues pass.

    As published, a line must end in one of `end_marks`, which is hard on Italian: lines ending in », ”, … or : are lost.
    `end_marks = ".?!\\"»”…:"` keeps them; an ellipsis of three dots ends a line only where … does.
    """
    judge = _line_rule(options)

    def clean(document: Document) -> Document | str:
        if document.messages:
            return document
        kept: list[str] = []
        for line in document.text.split("\n"):
            cleaned, reason = judge(line.strip())
            if reason:
                return reason
            if cleaned:
                kept.append(cleaned)
        if sum(map(sentences, kept)) < options["min_sentences"]:
            return "too few sentences"
        text = "\n".join(kept)
        if len(text) < options["min_characters"]:
            return "too short"
        if len(text) > options["max_characters"]:
            return "too long"
        return replace(document, text=text)

    return clean


def _line_rule(options: Mapping[str, Any]) -> Callable[[str], tuple[str, str]]:
    """A function from a line to what is left of it, "" for nothing, and the reason for dropping the whole document."""
    end_marks, ellipsis = tuple(options["end_marks"]), "…" in options["end_marks"]
    phrases = [re.escape(str(phrase).lower()) for phrase in options["policy"]]
    is_policy = re.compile("|".join(phrases) if phrases else "(?!)").search

    def judge(line: str) -> tuple[str, str]:
        if len(line) > options["max_word"] and any(len(word) > options["max_word"] for word in line.split()):
            return "", ""
        if "[" in line:
            line = _CITATION.sub("", line)  # "testo. [1]" keeps its blank, and is lost with it
        if not line.endswith(end_marks) or (line.endswith("...") and not ellipsis):
            return "", ""
        if len(line.split()) < options["min_words"]:
            return "", ""
        lowered = line.lower().replace("’", "'")
        if "lorem ipsum" in lowered:
            return "", "lorem ipsum"
        if "javascript" in lowered:
            return "", ""
        if "{" in line:
            return "", "curly bracket"
        if is_policy(lowered):
            return "", ""
        return line, ""

    return judge


CLEAN_MC4_IT = Filter(
    name="clean-mc4-it",
    description="The published rules of clean_mc4_it: lines that are sentences, in documents of 500 to 50 000 characters.",
    make=make,
    source="huggingface.co/datasets/gsarti/clean_mc4_it",
    options=OPTIONS,
)
