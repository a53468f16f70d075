"""The rows of our own sets: what each asks, and what a reader of it sees."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from langadapt import Document, Item, Message, Rejected

Items = Callable[[Path], Iterator[Item | Rejected]]

INFLECT = "Sözcüğü istenen biçime sok. Yalnızca o biçimi yaz."


def _rows(question: Callable[[str, Mapping[str, str]], Item]) -> Items:
    """A reader of a JSONL file: each row becomes an item, or is rejected when it lacks a text that the item is made of."""

    def read(file: Path) -> Iterator[Item | Rejected]:
        for number, line in enumerate(file.read_bytes().splitlines(), start=1):
            where = f"{file.name}:{number}"
            try:
                row = json.loads(line)
                if not all(isinstance(value, str) and value.strip() for value in row.values()):
                    raise TypeError
                yield question(where, row)
            except (ValueError, KeyError, TypeError, AttributeError):
                yield Rejected(reason="not a row of this set", where=where, size=len(line))

    return read


def _inflection(where: str, row: Mapping[str, str]) -> Item:
    material = f"Sözcük: {row['lemma']}\nBiçim: {row['features']}"
    return Item(id=where, messages=(Message(role="user", content=INFLECT, context=material),), gold=row["form"])


def _grammar(where: str, row: Mapping[str, str]) -> Item:
    return Item(id=where, messages=(), choices=(row["good"], row["bad"]), gold=0)


def _parallel(where: str, row: Mapping[str, str]) -> Item:
    return Item(id=where, messages=(), choices=(row["en"], row["tr"]), gold=1)


inflection = _rows(_inflection)
"""`{"lemma", "features", "form"}`: a word, and the form of it that is asked for."""

grammar = _rows(_grammar)
"""`{"phenomenon", "good", "bad"}`: a sentence, and the same with one mistake."""

parallel = _rows(_parallel)
"""`{"en", "tr"}`: a sentence and its translation."""


def documents(items: Items) -> Callable[[Path], Iterator[Document | Rejected]]:
    """The same rows as documents, each with its right answer."""

    def read(file: Path) -> Iterator[Document | Rejected]:
        for item in items(file):
            if isinstance(item, Rejected):
                yield item
            elif item.choices:
                yield Document(id=item.id, text=item.choices[item.gold])
            else:
                yield Document(id=item.id, messages=(*item.messages, Message(role="assistant", content=item.gold)))

    return read
