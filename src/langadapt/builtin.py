"""The core's own parts, offered through the same hooks as everyone else's."""

from __future__ import annotations

from collections.abc import Iterable

from langadapt import cleaning, hookimpl, records
from langadapt.peft import STRATEGIES
from langadapt.prompts import chatml
from langadapt.stages import cpt, evaluate, export, merge, preference, sft, translate
from langadapt.tokenizer import STRATEGIES as TOKENIZERS
from langadapt.translation.engines import TRANSLATORS


@hookimpl
def langadapt_peft_strategies() -> Iterable[records.PeftStrategy]:
    """`lora`, `qlora`, `full`."""
    return STRATEGIES


@hookimpl
def langadapt_stages() -> Iterable[records.StageKind]:
    """`translate`, `cpt`, `sft`, `preference`, `merge`, `evaluate`, `export`."""
    return (translate.STAGE, cpt.STAGE, sft.STAGE, preference.STAGE, merge.STAGE, evaluate.STAGE, export.STAGE)


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
