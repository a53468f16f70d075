"""Turkish capitals: I is the capital of ı, and İ that of i."""

from __future__ import annotations

_SMALL = str.maketrans({"I": "ı", "İ": "i"})


def lower(text: str) -> str:
    """A text in lower case.

    `str.lower` makes `ISI` (heat) into `isi`, and `İ` into two characters, an i and a combining dot.
    """
    return text.replace("I\N{COMBINING DOT ABOVE}", "i").translate(_SMALL).lower()
