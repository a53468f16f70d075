"""Corpora, each with a small sample that was written for this plugin, and a cleaning step."""

from __future__ import annotations

from pathlib import Path

from langadapt import Corpus, Document, Filter, HubSource

SAMPLES = Path(__file__).parent / "samples"


def has_letters(document: Document) -> Document | str:
    """Keeps short documents, and long ones that use one of the six letters with a diacritic."""
    if len(document.text) < 200 or any(letter in "ĉĝĥĵŝŭ" for letter in document.text.lower()):
        return document
    return "no Esperanto letter"


LETTERS = Filter(
    name="eo-letters",
    description="Drops long documents without ĉ, ĝ, ĥ, ĵ, ŝ, ŭ: another language, or a transliteration.",
    make=lambda options, language: has_letters,
)

WIKIPEDIA = Corpus(
    name="eo-wikipedia",
    language="eo",
    licence="CC-BY-SA-3.0",
    description="The Esperanto Wikipedia as running text (wikimedia/wikipedia).",
    source=HubSource(repo_id="wikimedia/wikipedia", pattern="20231101.eo/*.parquet"),
    filters=("eo-letters",),
    sample=SAMPLES / "prose.jsonl",
    sample_licence="CC0-1.0",
)

INSTRUCTIONS = Corpus(
    name="eo-instructions",
    language="eo",
    licence="CC0-1.0",
    description="Instructions with answers; only the sample is published.",
    layout="alpaca",
    where_to_get='write rows {"instruction", "input", "output"}',
    sample=SAMPLES / "instructions.jsonl",
    sample_licence="CC0-1.0",
)

NUMBERS = Corpus(
    name="eo-numbers",
    language="eo",
    licence="CC0-1.0",
    description="Numbers in words, to be written in digits.",
    layout="alpaca",
    where_to_get="take samples/numbers.jsonl of this plugin",
    sample=SAMPLES / "numbers.jsonl",
    sample_licence="CC0-1.0",
)

CORPORA = (WIKIPEDIA, INSTRUCTIONS, NUMBERS)
