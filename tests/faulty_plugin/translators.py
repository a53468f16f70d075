"""Translators; the first is sound."""

from __future__ import annotations

import itertools
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from langadapt import Table, Translator

_CALLS = itertools.count()


class Loose(BaseModel):
    """Takes any key."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


def translator(name: str, translate=list, **fields) -> Translator:
    usual = {"name": name, "description": "An engine.", "options": Table, "problem": lambda options, source, target: ""}
    usual |= {"fingerprint": lambda options, source, target: "1", "open": lambda options, source, target: translate}
    return Translator(**usual | fields)


TRANSLATORS = (
    translator("sound-translator"),
    translator("drops-one", lambda texts: list(texts)[1:]),
    translator("turns-round", lambda texts: list(texts)[::-1]),
    translator("gives-nothing", lambda texts: [None for _ in texts]),
    translator("no-fingerprint", fingerprint=lambda options, source, target: ""),
    translator("new-fingerprint", fingerprint=lambda options, source, target: f"{next(_CALLS)}"),
    translator("dict-options", options=dict),
    translator("loose-options", options=Loose),
    translator("no-problem", problem=lambda options, source, target: None),
    translator("no-batch", batch=0),
)
