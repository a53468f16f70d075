"""Turkish for langadapt."""

from __future__ import annotations

from collections.abc import Iterable

from langadapt import Corpus, Evaluation, Filter, Language, PromptFormat, RecipeSource, hookimpl
from langadapt_turkish import corpora, evaluations, language, prompts, recipes, spelling

LANGADAPT_CONTRACT = 1


@hookimpl
def langadapt_languages() -> Iterable[Language]:
    """Turkish."""
    yield language.TURKISH


@hookimpl
def langadapt_corpora() -> Iterable[Corpus]:
    """Text to learn from in Turkish and English, instructions, dialogues, and what is only measured."""
    return corpora.CORPORA


@hookimpl
def langadapt_filters() -> Iterable[Filter]:
    """`turkish-letters`."""
    yield spelling.LETTERS


@hookimpl
def langadapt_prompts() -> Iterable[PromptFormat]:
    """`talimat-tr` and `sohbet-tr`."""
    return prompts.FORMATS


@hookimpl
def langadapt_evaluations() -> Iterable[Evaluation]:
    """Bits per byte in both languages, inflection, minimal pairs, parallel sentences, translation."""
    return evaluations.EVALUATIONS


@hookimpl
def langadapt_recipes() -> Iterable[RecipeSource]:
    """`turkish/adapt`."""
    yield recipes.ADAPT
