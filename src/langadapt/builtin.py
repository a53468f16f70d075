"""The core's own parts, offered through the same hooks as everyone else's."""

from __future__ import annotations

from collections.abc import Iterable

from langadapt import cleaning, embeddings, hookimpl, records
from langadapt.peft import STRATEGIES
from langadapt.prompts import chatml
from langadapt.stages import cpt, evaluate, export, merge, preference, sft, tokenizer, translate
from langadapt.tokenizer import STRATEGIES as TOKENIZERS
from langadapt.translation.engines import TRANSLATORS


@hookimpl
def langadapt_embedding_inits() -> Iterable[records.EmbeddingInit]:
    """`subtoken-mean` and the other initialisations of `langadapt.embeddings`."""
    return embeddings.INITS


@hookimpl
def langadapt_peft_strategies() -> Iterable[records.PeftStrategy]:
    """`lora`, `qlora`, `full`."""
    return STRATEGIES


@hookimpl
def langadapt_stages() -> Iterable[records.StageKind]:
    """`tokenizer`, `translate`, `cpt`, `sft`, `preference`, `merge`, `evaluate`, `export`."""
    return (
        tokenizer.STAGE,
        translate.STAGE,
        cpt.STAGE,
        sft.STAGE,
        preference.STAGE,
        merge.STAGE,
        evaluate.STAGE,
        export.STAGE,
    )


@hookimpl
def langadapt_filters() -> Iterable[records.Filter]:
    """`mojibake`, `language`, `fineweb2` and the other families of `langadapt.cleaning`."""
    return cleaning.FILTERS


@hookimpl
def langadapt_tokenizers() -> Iterable[records.TokenizerStrategy]:
    """`keep`, `extend`, `trim`, `replace`."""
    return TOKENIZERS


@hookimpl
def langadapt_prompts() -> Iterable[records.PromptFormat]:
    """`chatml`."""
    yield chatml.FORMAT


@hookimpl
def langadapt_translators() -> Iterable[records.Translator]:
    """`apertium`, `ctranslate2`, `transformers`, `openai`, `memory`."""
    return TRANSLATORS
