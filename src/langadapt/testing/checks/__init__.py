"""The checks, a module for each kind of record, in the order in which they are made."""

from langadapt.testing.checks import (
    corpora,
    evaluations,
    filters,
    languages,
    package,
    peft,
    prompts,
    recipes,
    records,
    stages,
    translators,
    vocabulary,
)  # isort: skip

MODULES = (
    package,
    records,
    languages,
    corpora,
    filters,
    prompts,
    evaluations,
    recipes,
    peft,
    vocabulary,
    stages,
    translators,
)
