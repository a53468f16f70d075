"""Corpora, each with a small sample that was written for this plugin (CC0-1.0)."""

from __future__ import annotations

from pathlib import Path

from langadapt import Corpus, HubSource, translations
from langadapt_turkish import items

SAMPLES = Path(__file__).parent / "samples"

FINEWEB2 = Corpus(
    name="tr-fineweb2",
    language="tr",
    licence="ODC-BY-1.0",
    description="Turkish web text, cleaned and without duplicates (HuggingFaceFW/fineweb-2, tur_Latn).",
    source=HubSource(repo_id="HuggingFaceFW/fineweb-2", pattern="data/tur_Latn/train/*.parquet"),
    filters=("turkish-letters",),
    sample=SAMPLES / "prose.jsonl",
    sample_licence="CC0-1.0",
)

WIKIPEDIA = Corpus(
    name="tr-wikipedia",
    language="tr",
    licence="CC-BY-SA-3.0",
    description="The Turkish Wikipedia as running text (wikimedia/wikipedia).",
    source=HubSource(repo_id="wikimedia/wikipedia", pattern="20231101.tr/*.parquet"),
    filters=("turkish-letters",),
    sample=SAMPLES / "encyclopedia.jsonl",
    sample_licence="CC0-1.0",
)

# What `replay = SHARE` takes. English is measured on another corpus, because nothing may be measured on what was learnt.
FINEWEB_EN = Corpus(
    name="tr-fineweb-en",
    language="en",
    licence="ODC-BY-1.0",
    description="English web text (HuggingFaceFW/fineweb, its sample of 10 billion tokens), to train on between Turkish.",
    source=HubSource(repo_id="HuggingFaceFW/fineweb", pattern="sample/10BT/*.parquet"),
    sample=SAMPLES / "web-english.jsonl",
    sample_licence="CC0-1.0",
)

INSTRUCTIONS = Corpus(
    name="tr-instructions",
    language="tr",
    licence="CC0-1.0",
    description="Instructions in Turkish with answers; yours, or the bundled ones.",
    layout="dolly",
    where_to_get='write rows {"instruction", "context", "response"}, or take the Turkish ones of CohereLabs/aya_dataset',
    sample=SAMPLES / "instructions.jsonl",
    sample_licence="CC0-1.0",
    complete=True,
)

DIALOGUES = Corpus(
    name="tr-dialogues",
    language="tr",
    licence="CC0-1.0",
    description="Dialogues in Turkish; yours, or the bundled ones.",
    layout="messages",
    where_to_get='write rows {"messages": [{"role", "content"}, …]}',
    sample=SAMPLES / "dialogues.jsonl",
    sample_licence="CC0-1.0",
    complete=True,
)

# --- only measured ----------------------------------------------------------------------------------------------------

C4 = Corpus(
    name="tr-c4",
    language="tr",
    licence="ODC-BY-1.0",
    description="Turkish web text (allenai/c4, the validation part of its Turkish), to measure on.",
    source=HubSource(repo_id="allenai/c4", pattern="multilingual/c4-tr-validation.*.json.gz"),
    sample=SAMPLES / "measured.jsonl",
    sample_licence="CC0-1.0",
)

C4_EN = Corpus(
    name="tr-c4-en",
    language="en",
    licence="ODC-BY-1.0",
    description="English web text (allenai/c4, its validation part), to measure what the base model forgets.",
    source=HubSource(repo_id="allenai/c4", pattern="en/c4-validation.*.json.gz"),
    sample=SAMPLES / "english.jsonl",
    sample_licence="CC0-1.0",
)

TRANSLATION = Corpus(
    name="tr-translation",
    language="tr",
    licence="CC0-1.0",
    description="English sentences with their Turkish translations, as requests to translate.",
    read=translations("en", "tr", instruction="Şu metni Türkçeye çevir."),
    where_to_get='bring a JSONL file of {"en", "tr"}, or a folder with files like dev.en and dev.tr of FLORES-200',
    sample=SAMPLES / "translation.jsonl",
    sample_licence="CC0-1.0",
    complete=True,
)


def _set(name: str, description: str, rows: items.Items) -> Corpus:
    """A set of ours that is only measured on: its rows are read by the evaluation of the same name."""
    return Corpus(
        name=name,
        language="tr",
        licence="CC0-1.0",
        description=description,
        read=items.documents(rows),
        where_to_get=f"it is bundled; for more, write rows like those of samples/{name.removeprefix('tr-')}.jsonl",
        sample=SAMPLES / f"{name.removeprefix('tr-')}.jsonl",
        sample_licence="CC0-1.0",
        complete=True,
    )


INFLECTION = _set("tr-inflection", "Turkish words, and the forms of them that are asked for.", items.inflection)
GRAMMAR = _set("tr-grammar", "Turkish sentences, and each with one mistake.", items.grammar)
PARALLEL = _set("tr-parallel", "English sentences and their Turkish translations, to be compared.", items.parallel)

CORPORA = (
    FINEWEB2,
    WIKIPEDIA,
    FINEWEB_EN,
    INSTRUCTIONS,
    DIALOGUES,
    C4,
    C4_EN,
    TRANSLATION,
    INFLECTION,
    GRAMMAR,
    PARALLEL,
)
