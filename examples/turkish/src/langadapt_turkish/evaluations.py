"""What is measured: bits per byte, inflected words, minimal pairs, parallel sentences, translation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langadapt import Answer, Evaluation, free_text, score_parity
from langadapt_turkish import corpora, items
from langadapt_turkish.casing import lower
from langadapt_turkish.language import TURKISH

SUITE = "turkish"

# Frequent English words that are no Turkish ones: as, at, be, can, do, has, he, her, his, in, is, it, not, of, on are both.
ENGLISH_WORDS = (
    "the", "and", "to", "that", "for", "was", "are", "with", "they", "this", "have", "from", "what", "all", "were", "we",
    "when", "your", "you", "said", "there", "which", "she", "how", "their", "if", "will", "about", "many", "then", "them",
    "these", "would", "like", "into", "more", "than", "its", "who", "been", "because", "should", "could", "very", "only",
)  # fmt: skip


# --- inflection -------------------------------------------------------------------------------------------------------

# A word, and a question particle that belongs to it: geliyor musun.
_WORD = re.compile(
    r"[^\W\d_]+ (?: ['’] [^\W\d_]+ )* (?: [ ] m[ıiuü] (?: y[ıiuü][mz] | s[ıiuü]n (?:[ıiuü]z)? )? (?!\w) )?",
    re.VERBOSE | re.IGNORECASE,
)


def decode(text: str) -> str | None:
    """The first word of an answer, with a question particle that belongs to it; None where there is no word."""
    found = _WORD.search(text)
    return found[0].replace("’", "'") if found else None


def distance(one: str, other: str) -> int:
    """Characters to put in, take out or exchange to make one text of the other (Levenshtein 1966)."""
    before = list(range(len(other) + 1))
    for place, mine in enumerate(one, start=1):
        now = [place]
        for at, theirs in enumerate(other, start=1):
            now.append(min(before[at] + 1, now[-1] + 1, before[at - 1] + (mine != theirs)))
        before = now
    return before[-1]


def score(answers: Sequence[Answer]) -> dict[str, float]:
    """Exact matches and mean edit distance, as in SIGMORPHON's shared tasks on inflection (arXiv 1706.09031).

    Case does not count, as Turkish sees it. An answer without a word is as far away as the form is long.
    """
    pairs = [(lower(a.prediction or ""), lower(a.item.gold)) for a in answers]
    return {
        "accuracy": sum(said == form for said, form in pairs) / len(pairs),
        "edit_distance": sum(distance(said, form) for said, form in pairs) / len(pairs),
    }


# --- all of them ------------------------------------------------------------------------------------------------------

EVALUATIONS = (
    Evaluation(
        name="tr-web",
        language="tr",
        description="Bits per byte of Turkish web text.",
        corpus=corpora.C4.name,
        suites=(SUITE,),
        method="bits_per_byte",
        split="all",
    ),
    Evaluation(
        name="tr-english",
        language="en",
        description="Bits per byte of English text: what adaptation to Turkish costs.",
        corpus=corpora.C4_EN.name,
        suites=(SUITE,),
        method="bits_per_byte",
        split="all",
    ),
    Evaluation(
        name="tr-inflection",
        language="tr",
        description="Turkish words, to be put into a form that is described.",
        corpus=corpora.INFLECTION.name,
        suites=(SUITE,),
        items=items.inflection,
        decode=decode,
        score=score,
        metrics={"accuracy": True, "edit_distance": False},
        max_new_tokens=24,
    ),
    Evaluation(
        name="tr-grammar",
        language="tr",
        description="Minimal pairs: vowel harmony, case, agreement, the question particle and more.",
        corpus=corpora.GRAMMAR.name,
        suites=(SUITE,),
        method="choose",
        items=items.grammar,
        bare=True,
    ),
    Evaluation(
        name="tr-parallel",
        language="tr",
        description="How much more a sentence costs in Turkish than in English.",
        corpus=corpora.PARALLEL.name,
        suites=(SUITE,),
        method="choose",
        items=items.parallel,
        score=score_parity,
        metrics={"information_parity": True, "bits_per_byte_source": False, "bits_per_byte_target": False},
        bare=True,
    ),
    free_text(
        "tr-translation",
        language=TURKISH,
        description="English sentences, to be translated into Turkish.",
        corpus=corpora.TRANSLATION,
        suites=(SUITE,),
        source_words=ENGLISH_WORDS,
        max_new_tokens=96,
    ),
)
