"""Filters; the first two are sound."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from langadapt import Document, Filter


def faulty(name: str, step, **fields) -> Filter:
    return Filter(**{"name": name, "description": "A step.", "make": lambda options, language: step} | fields)


def dear(document):
    return document if document.text[0] else "empty"


def rename(document):
    return replace(document, id=f"{document.id}-clean")


def mark(document):
    if document.origin:
        document.origin["seen"] = "yes"
    return document


def drop_messages(document):
    return replace(document, messages=document.messages[:1])


def count(document):
    return f"{len(document.text)} characters" if len(document.text) < 30 else document


def quote(document):
    return f"no prose: {document.text[:30]}" if len(document.text) > 12 else document


def change_options(options, language):
    options["least"] = 3
    return lambda document: document


def remembers(options, language):
    seen = itertools.count()
    return lambda document: document if next(seen) % 2 else "every second one"


def exclaim(document: Document) -> Document:
    return replace(document, text=document.text + "!")


FILTERS = (
    faulty("sound-filter", lambda document: document if len(document.text) < 1000 else "too long"),
    faulty("drops-everything", lambda document: "nothing is good enough"),
    faulty("gives-none", lambda document: None),
    faulty("gives-true", lambda document: True),
    faulty("no-reason", lambda document: " "),
    faulty("raises", dear),
    faulty("fails-on-texts", lambda document: document.words),
    faulty("draws", lambda document: random.choice([document, "bad luck"])),
    faulty("remembers", None, make=remembers),
    faulty("exclaims", exclaim),
    faulty("counts", count),
    faulty("quotes", quote),
    faulty("tells-at-length", lambda document: "because " * 20),
    faulty("renames", rename),
    faulty("marks", mark),
    faulty("drops-messages", drop_messages),
    faulty("makes-a-text", "step"),
    faulty("changes-options", None, make=change_options, options={"least": 2}),
    faulty("no-such-file", lambda document: document, files=("list",)),
    faulty("version-nought", lambda document: document, version=0),
)
