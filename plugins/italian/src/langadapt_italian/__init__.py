"""Italian for langadapt: the LLaMAntino recipe (arXiv 2312.09993) and what it needs."""

from __future__ import annotations

from collections.abc import Iterable

from langadapt import Corpus, Evaluation, ExperimentSource, Filter, Language, PromptFormat, RecipeSource, hookimpl
from langadapt_italian import (
    choosing,
    cleaning,
    corpora,
    evalita,
    evaluations,
    experiments,
    language,
    prompts,
    recipes,
    spelling,
)

LANGADAPT_CONTRACT = 1


@hookimpl
def langadapt_languages() -> Iterable[Language]:
    """Italian."""
    yield language.ITALIAN


@hookimpl
def langadapt_corpora() -> Iterable[Corpus]:
    """Web text, English replay, dialogues, instructions, the training sets of EVALITA 2023, and what is only measured."""
    return (*corpora.CORPORA, *evalita.CORPORA, *choosing.CORPORA)


@hookimpl
def langadapt_filters() -> Iterable[Filter]:
    """`italian-spelling` and `clean-mc4-it`."""
    return (spelling.SPELLING, cleaning.CLEAN_MC4_IT)


@hookimpl
def langadapt_prompts() -> Iterable[PromptFormat]:
    """`alpaca-it`, `llamantino-chat` and `llama3-it`."""
    return prompts.FORMATS


@hookimpl
def langadapt_evaluations() -> Iterable[Evaluation]:
    """Bits per byte in English, the EVALITA 2023 tasks, and what is measured by likelihood."""
    return (*evaluations.EVALUATIONS, *evalita.EVALUATIONS, *choosing.EVALUATIONS)


@hookimpl
def langadapt_recipes() -> Iterable[RecipeSource]:
    """`italian/llamantino`."""
    return recipes.RECIPES


@hookimpl
def langadapt_experiments() -> Iterable[ExperimentSource]:
    """The questions that LLaMAntino leaves open."""
    return experiments.EXPERIMENTS
