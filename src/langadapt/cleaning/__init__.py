"""Cleaning steps of the core, one module per family; a recipe tunes them, a language plugin adds its own.

Rules about running text (`boilerplate`, `c4-quality`, `gopher-quality`, `gopher-repetition`, `fineweb-quality`,
`fineweb2`) let dialogues and instructions pass: turns are short, and their lines are no measure of them. All other steps
see every message.
"""

from langadapt.cleaning import (
    bad_words,
    boilerplate,
    c4,
    fineweb,
    fineweb2,
    gopher,
    identity,
    length,
    mojibake,
    pii,
    repetition,
)

FILTERS = (
    mojibake.FILTER,
    boilerplate.FILTER,
    c4.FILTER,
    gopher.FILTER,
    repetition.FILTER,
    fineweb.FILTER,
    fineweb2.FILTER,
    identity.FILTER,
    bad_words.FILTER,
    pii.FILTER,
    length.FILTER,
)
