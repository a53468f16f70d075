"""Corpora of the LLaMAntino recipe, each with a bundled sample that was written for this project (CC0)."""

from __future__ import annotations

from pathlib import Path

from langadapt import Corpus, HubSource, translations
from langadapt_italian import language_confusion

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
    description="English web text (allenai/c4), to measure what the base model forgets.",
    layout="text",
    source=HubSource(repo_id="allenai/c4", pattern="en/c4-validation.*.json.gz"),
    bytes=790_000_000,
    sample=SAMPLES / "english.jsonl",
    sample_licence="CC0-1.0",
)

# What `replay = SHARE` takes; REPLAY_EN stays apart from it, because what the models keep of English is measured there.
FINEWEB_EN = Corpus(
    name="fineweb-en",
    language="en",
    licence="ODC-BY-1.0",
    description="English web text (HuggingFaceFW/fineweb, its sample of 10 billion tokens), to train on between Italian.",
    layout="text",
    source=HubSource(repo_id="HuggingFaceFW/fineweb", pattern="sample/10BT/*.parquet"),
    sample=SAMPLES / "web-english.jsonl",
    sample_licence="CC0-1.0",
)

ULTRACHAT = Corpus(
    name="ultrachat",
    language="en",
    licence="MIT",
    description="UltraChat dialogues in English (stingning/ultrachat), for a translate stage.",
    layout="ultrachat",
    source=HubSource(repo_id="stingning/ultrachat", pattern="train_*.jsonl"),
    sample=SAMPLES / "ultrachat.jsonl",
    sample_licence="CC0-1.0",
)

ULTRACHAT_IT = Corpus(
    name="ultrachat-it",
    language="it",
    licence="MIT",
    description="UltraChat dialogues (stingning/ultrachat) translated into Italian; the authors did not publish theirs.",
    layout="ultrachat",
    where_to_get='let a translate stage make it from the corpus "ultrachat", or bring rows {"id", "data": [user, …]}',
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

# What LLaMAntino-3-ANITA was tuned on before it was adapted is English; to rehearse it, ours in Italian stand in.
WIZARD_ALPACA_DOLLY_ORCA = Corpus(
    name="wizard-alpaca-dolly-orca",
    language="en",
    licence="CC-BY-NC-SA-4.0",
    description="English instructions of WizardLM, Alpaca and Dolly with answers in Orca's manner; ANITA's first stage.",
    layout="messages",
    where_to_get="fetch train_set.parquet of Chat-Error/wizard_alpaca_dolly_orca; its columns: columns = { … }",
    documents=100_000,
    sample=SAMPLES / "ita-instructions.jsonl",
    sample_licence="CC0-1.0",
    sample_language="it",
)

ORPO_DPO_MIX_40K = Corpus(
    name="orpo-dpo-mix-40k",
    language="en",
    licence="Apache-2.0",
    description="English pairs of a better and a worse answer (mlabonne/orpo-dpo-mix-40k); ANITA's preferences.",
    layout="preference",
    source=HubSource(repo_id="mlabonne/orpo-dpo-mix-40k", pattern="data/*.parquet"),
    documents=44_245,
    sample=SAMPLES / "preferences.jsonl",
    sample_licence="CC0-1.0",
    sample_language="it",
)

INSTRUCTIONS_IT_CHAT = Corpus(
    name="instructions-it-chat",
    language="it",
    licence="not stated",
    description="Italian instructions and dialogues with system messages; yours, or a translation.",
    layout="messages",
    where_to_get='translate instructions into rows {"messages": [{"role", "content"}]}, or write them',
    sample=SAMPLES / "ita-instructions.jsonl",
    sample_licence="CC0-1.0",
)

PREFERENCES_IT = Corpus(
    name="preferences-it",
    language="it",
    licence="not stated",
    description="Italian pairs of a better and a worse answer to one prompt; yours, or a translation.",
    layout="preference",
    where_to_get='translate pairs such as those of orpo-dpo-mix-40k into rows {"prompt", "chosen", "rejected"}',
    sample=SAMPLES / "preferences.jsonl",
    sample_licence="CC0-1.0",
)

# What free text is asked for with: ours alone, because few sets of questions with answers were written in Italian.
QUESTIONS_IT = Corpus(
    name="questions-it",
    language="it",
    licence="CC0-1.0",
    description="Everyday questions in Italian with short answers; yours, or the bundled 40.",
    layout="dolly",
    where_to_get='write rows {"instruction", "context", "response"}, or copy the bundled samples/questions.jsonl',
    sample=SAMPLES / "questions.jsonl",
    sample_licence="CC0-1.0",
    complete=True,
)

QUESTIONS_EN_IT = Corpus(
    name="questions-en-it",
    language="it",
    licence="CC0-1.0",
    description="Questions in English that ask for an answer in Italian, with short answers; yours, or the bundled 24.",
    layout="dolly",
    where_to_get="write rows as in questions-it, the question in `context` and in `instruction` in which language to answer",
    sample=SAMPLES / "questions-in-english.jsonl",
    sample_licence="CC0-1.0",
    complete=True,
)

TRANSLATIONS_EN_IT = Corpus(
    name="translations-en-it",
    language="it",
    licence="CC0-1.0",
    description="Parallel sentences as requests to translate from English; yours, or the bundled 24.",
    read=translations("en", "it", instruction="Traduci in italiano."),
    where_to_get='bring a JSONL file of {"en", "it"}, or a folder with files like dev.en and dev.it of FLORES-200',
    sample=SAMPLES / "translations.jsonl",
    sample_licence="CC0-1.0",
    complete=True,
)

CORPORA = (
    QUESTIONS_IT,
    QUESTIONS_EN_IT,
    TRANSLATIONS_EN_IT,
    *language_confusion.CORPORA,
    WIZARD_ALPACA_DOLLY_ORCA,
    ORPO_DPO_MIX_40K,
    INSTRUCTIONS_IT_CHAT,
    PREFERENCES_IT,
    CLEAN_MC4_IT,
    REPLAY_EN,
    FINEWEB_EN,
    ULTRACHAT,
    ULTRACHAT_IT,
    DOLLY_IT,
)
