"""Esperanto for langadapt."""

from __future__ import annotations

from collections.abc import Iterable

from langadapt import Corpus, Evaluation, Filter, Language, PromptFormat, RecipeSource, hookimpl
from langadapt_esperanto import corpora, evaluations, language, prompts, recipes

LANGADAPT_CONTRACT = 1


@hookimpl
def langadapt_languages() -> Iterable[Language]:
    """Esperanto."""
    yield language.ESPERANTO


@hookimpl
def langadapt_corpora() -> Iterable[Corpus]:
    """Wikipedia, instructions, and the numbers that the evaluation asks for."""
    return corpora.CORPORA


@hookimpl
def langadapt_filters() -> Iterable[Filter]:
    """`eo-letters`."""
    yield corpora.LETTERS


@hookimpl
def langadapt_prompts() -> Iterable[PromptFormat]:
    """`tasko-eo`."""
    yield prompts.TASK


@hookimpl
def langadapt_evaluations() -> Iterable[Evaluation]:
    """`eo-numbers`."""
    yield evaluations.NUMBERS


@hookimpl
def langadapt_recipes() -> Iterable[RecipeSource]:
    """`esperanto/small`."""
    yield recipes.SMALL
