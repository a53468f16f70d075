"""What models write, reduced to what they answer: tolerant of case, accents, marks, lead-ins and what follows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal

from langadapt import Answer
from langadapt_italian.evalita.scoring import macro_f1

# A rating: one digit before the mark, because no scale has more, so that years and ids are not taken for ratings.
RATING = r"(?<![\w.,])[0-9](?:[.,][0-9]++)?+(?!\w|[.,][0-9])"
YES, NO = "sì", "no"
YES_OR_NO = {"1": YES, "0": NO}  # how the organisers' files write it

_LEAD_IN = re.compile(r"\A[\W_]*(?:(?:la )?risposta(?: corretta)?(?: è)?\b[\W_]*)?")
# "Si" without its accent is also a pronoun ("si tratta di") and "no" is part of names ("no vax"): away from the start,
# and for "si" anywhere, a mark or the end of the line has to follow.
_YES_OR_NO = {
    YES: re.compile(r"\bs[ìí](?!\w)|^yes\b|\bsi(?=[^\w\s-]|\s*$)"),
    NO: re.compile(r"^no\b(?!-)|\bno(?=[^\w\s-]|\s*$)"),
}

_RATING = re.compile(RATING)
_SCALE = re.compile(r"(?:/|\bsu|\bout of)\s*\d+\b|\b(?:da|tra|fra)\s+\d\s+(?:a|e|ed)\s+\d\b")


def first_paragraph(text: str) -> str:
    """The text up to its first blank line; what a model goes on to write after that is no longer the answer."""
    return re.split(r"\n[ \t\r]*\n", text.strip(), maxsplit=1)[0]


def first_line(text: str) -> str:
    """The first line that says something, case-folded, without a lead-in such as "La risposta è"."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return _LEAD_IN.sub("", folded, count=1).partition("\n")[0].strip()


def decode_label(text: str, patterns: Mapping[str, re.Pattern[str]]) -> str | None:
    """The label that the first line begins with, or else the only one that it mentions; None when neither is there.

    Args:
        text: whatever a model wrote.
        patterns: what each label looks like in case-folded text; `^` is where the answer starts.
    """
    line = first_line(text)
    starting = [label for label, pattern in patterns.items() if pattern.match(line)]
    mentioned = starting[:1] or [label for label, pattern in patterns.items() if pattern.search(line)]
    return mentioned[0] if len(mentioned) == 1 else None


def decode_yes_or_no(text: str) -> str | None:
    """`sì` or `no`, also from "Si.", "SI'", "La risposta è no, perché…"; None when the first line says neither."""
    return decode_label(text, _YES_OR_NO)


def encode_rating(rating: float) -> str:
    """The number with a decimal comma and every digit that it has: `3,5`, `4`."""
    return f"{Decimal(repr(rating)).normalize():f}".replace(".", ",")


def decode_rating(text: str) -> float | None:
    """The number that the first line begins with, or else the only one in it, also from "3,5 su 5" and "3.5/5"."""
    line = _SCALE.sub(" ", first_line(text)).strip()
    found = _RATING.findall(line)
    return float(found[0].replace(",", ".")) if len(found) == 1 or _RATING.match(line) else None


def macro_f1_of(answers: Sequence[Answer], labels: Sequence[str] | None = None) -> float:
    """Macro-F1 of answers whose gold is a label: of the labels given, or else of those that occur."""
    return macro_f1([a.item.gold for a in answers], [a.prediction for a in answers], labels)
