"""Corpora of the LLaMAntino recipe, each with a bundled sample that was written for this project (CC0)."""

from __future__ import annotations

from pathlib import Path

from langadapt import Corpus, HubSource

SAMPLES = Path(__file__).parent / "samples"

CLEAN_MC4_IT = Corpus(
    name="clean-mc4-it",
    aliases=("oscar-filtered",),  # what the paper calls it
    language="it",
    licence="ODC-BY-1.0",
    description="Italian web text of mC4, cleaned (gsarti/clean_mc4_it); the paper's adaptation corpus, config medium.",
    layout="text",
    # The hub library refuses the set's loading script, so its json.gz files are read; a config is a number of
    # documents.
    source=HubSource(
        repo_id="gsarti/clean_mc4_it",
        pattern="*.json.gz",
        limits={
            "tiny": 10_000_000,
            "small": 20_000_000,
            "medium": 50_000_000,
            "large": 75_000_000,
            "full": 103_000_000,
        },
    ),
    documents=50_000_000,
    bytes=135_000_000_000,
    sample=SAMPLES / "prose.jsonl",
    sample_licence="CC0-1.0",
)

REPLAY_EN = Corpus(
    name="replay-en",
    language="en",
    licence="ODC-BY-1.0",
    description="English web text (allenai/c4), to keep what the base model knows and to measure what it forgets.",
    layout="text",
    source=HubSource(repo_id="allenai/c4", pattern="en/c4-validation.*.json.gz"),
    bytes=790_000_000,
    sample=SAMPLES / "english.jsonl",
    sample_licence="CC0-1.0",
)

ULTRACHAT_IT = Corpus(
    name="ultrachat-it",
    language="it",
    licence="MIT",
    description="UltraChat dialogues (stingning/ultrachat) translated into Italian; the authors did not publish theirs.",
    layout="ultrachat",
    where_to_get='translate stingning/ultrachat into rows {"id", "data": [user, assistant, …]}',
    sample=SAMPLES / "dialogues.jsonl",
    sample_licence="CC0-1.0",
)

DOLLY_IT = Corpus(
    name="dolly-it",
    language="it",
    licence="CC-BY-SA-3.0",
    description="Databricks' Dolly 15k instructions in Italian (basilepp19/dolly-15k-it).",
    layout="dolly",
    source=HubSource(repo_id="basilepp19/dolly-15k-it", pattern="*.jsonl"),
    documents=15_011,
    bytes=13_000_000,
    sample=SAMPLES / "instructions.jsonl",
    sample_licence="CC0-1.0",
)

CORPORA = (CLEAN_MC4_IT, REPLAY_EN, ULTRACHAT_IT, DOLLY_IT)
