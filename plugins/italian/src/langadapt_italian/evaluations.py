"""What is measured beside the EVALITA tasks: the English that the base model came with, and the answers that are written
freely.
"""

from __future__ import annotations

from langadapt import Evaluation, Item, free_text
from langadapt_italian import corpora, language_confusion
from langadapt_italian.language import ITALIAN

# Frequent English words, without those that are Italian too: a, come, do, i, in, me, no, or, per, so.
ENGLISH_WORDS = (
    "the", "of", "and", "to", "is", "that", "it", "for", "was", "on", "are", "with", "as", "his", "they", "be", "at",
    "this", "have", "from", "but", "not", "what", "all", "were", "we", "when", "your", "you", "can", "said", "there",
    "which", "she", "he", "how", "their", "if", "will", "up", "other", "about", "out", "many", "then", "them", "these",
    "some", "her", "would", "make", "like", "him", "into", "has", "had", "more", "than", "its", "who", "been", "my",
    "our", "any", "just", "because", "also", "very", "should", "could", "does", "did", "don't", "it's", "i'm", "you're",
)  # fmt: skip


def _source(item: Item) -> str:
    """The part of the benchmark that a prompt is from; its figures are means over these."""
    return item.id.rpartition("/")[0]


EVALUATIONS = (
    Evaluation(
        name="english",
        language="en",
        description="Bits per byte of English text: what adaptation to Italian costs.",
        corpus="replay-en",
        method="bits_per_byte",
        split="all",
    ),
    free_text(
        "answers-it",
        language=ITALIAN,
        description="Everyday questions in Italian, to be answered freely.",
        corpus=corpora.QUESTIONS_IT,
        suites=("generation-it",),
        source_words=ENGLISH_WORDS,
    ),
    free_text(
        "answers-en-it",
        language=ITALIAN,
        description="Questions in English, to be answered freely in Italian.",
        corpus=corpora.QUESTIONS_EN_IT,
        suites=("generation-it",),
        source_words=ENGLISH_WORDS,
    ),
    free_text(
        "translation-en-it",
        language=ITALIAN,
        description="English sentences, to be translated into Italian.",
        corpus=corpora.TRANSLATIONS_EN_IT,
        suites=("generation-it",),
        source_words=ENGLISH_WORDS,
        max_new_tokens=64,  # the longest reference has 40, of a tokenizer that cuts Italian small
    ),
    *(
        free_text(
            corpus.name.replace("/", "-"),
            language=ITALIAN,
            description=corpus.description,
            corpus=corpus,
            suites=(language_confusion.NAME,),
            source_words=ENGLISH_WORDS,
            references=False,
            group=_source,
        )
        for corpus in language_confusion.PARTS
    ),
)
