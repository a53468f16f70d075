"""A plugin in which every record but the sound ones has one fault; `tests/test_conformance.py` says which check finds it."""

from __future__ import annotations

from faulty_plugin import corpora, evaluations, filters, languages, prompts, recipes, stages, translators
from langadapt import hookimpl

LANGADAPT_CONTRACT = 1


@hookimpl
def langadapt_languages():
    return languages.LANGUAGES


@hookimpl
def langadapt_corpora():
    return corpora.CORPORA


@hookimpl
def langadapt_filters():
    return filters.FILTERS


@hookimpl
def langadapt_prompts():
    return prompts.FORMATS


@hookimpl
def langadapt_evaluations():
    return evaluations.EVALUATIONS


@hookimpl
def langadapt_recipes():
    return recipes.RECIPES


@hookimpl
def langadapt_experiments():
    return recipes.EXPERIMENTS


@hookimpl
def langadapt_stages():
    return stages.KINDS


@hookimpl
def langadapt_translators():
    return translators.TRANSLATORS
