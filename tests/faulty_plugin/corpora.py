"""Corpora; the first is sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from langadapt import Corpus, Document

SAMPLES = Path(__file__).parent / "samples"

SOUND = Corpus(
    name="sound-corpus",
    language="qaa",
    licence="CC0-1.0",
    description="Sound.",
    sample=SAMPLES / "prose.jsonl",
    sample_licence="CC0-1.0",
    where_to_get="ask",
)


def faulty(name: str, **fields) -> Corpus:
    return replace(SOUND, name=name, **fields)


CORPORA = (
    SOUND,
    faulty("No Name"),
    faulty("not-described", description=""),
    faulty("no-sentence", description="News\nand more"),
    faulty("no-tag", language="italian"),
    faulty("no-licence", licence=""),
    faulty("sample-without-licence", sample_licence=""),
    faulty("nowhere", where_to_get=""),
    faulty("complete-without-sample", complete=True, sample=None),
    faulty("no-layout", layout="alpacca"),
    faulty("no-sample", sample=None),
    faulty("lost-sample", sample=SAMPLES / "lost.jsonl"),
    faulty("bad-row", sample=SAMPLES / "bad.jsonl"),
    faulty("no-rows", sample=SAMPLES / "empty.jsonl", read=lambda path: ()),
    faulty("reads-dicts", read=lambda path: [{"text": "one"}]),
    faulty("same-ids", read=lambda path: [Document(id="1", text="one"), Document(id="1", text="two")]),
    faulty("reader-fails", read=lambda path: [Document(id="1", text=path["text"])]),
    faulty("twice", read=lambda path: [Document(id="1", text="one and one"), Document(id="2", text="one and one")]),
    faulty("other-language", language="it"),
    faulty("other-script", language="qax"),
    faulty("no-filter", filters=("fineweb-qualiti",)),
    faulty("drops-all", filters=("drops-everything",)),
    faulty("raising-filter", filters=("fails-on-texts",)),
    faulty("no-thresholds", filters=("fineweb2",)),
)
