"""The Italian language: its names, its words, and what its texts are measured by."""

from __future__ import annotations

import re

from langadapt import Language, piecewise
from langadapt_italian.address import address
from langadapt_italian.boilerplate import PHRASES
from langadapt_italian.corpora import SAMPLES
from langadapt_italian.regional import tell_apart

# What stands between blanks, without the marks around it, is a word; inside, it is parted where spaCy's Italian tokenizer
# parts it, because FineWeb-2 measured its thresholds with that: after an elision (l'albero, dell'acqua; with either
# apostrophe), at a hyphen before a small letter (nord-est, but Emilia-Romagna), at slashes, colons and commas between
# letters, where a new sentence was glued on (fine.Inizio), at an ellipsis. Enclitics stay (dammelo), and so do forms that
# are cut short (po').
_WORD = re.compile(
    r"""
    https?://\S*[\w/] | www\.\S*\w | [\w.+-]++@[\w-]+\.[\w.-]*\w
    | (?<!\w) (?:[Pp]o|[Mm]o|[Bb]e|E) ['’] (?!\w)
    | [^\W\d_]++ ['’] (?=[^\W_])
    | (?:(?<!\S)[-+/\\.]{1,2}(?=\w))? \w+
      (?:
        (?! (?<=[a-zà-ÿ])\.[A-ZÀ-Ý] | (?<=[^\W\d_])(?:,[^\W\d_]|[-–—][a-zà-ÿ]) | [:<>=/][^\W\d_] | \.\. | … )
        [^\w\s'’]{1,3} \w+
      )*
    | \.{2,}
    | [^\w\s]
    """,
    re.VERBOSE,
)


# Words, elided forms, numbers and punctuation marks, in order. With them the rules of FineWeb-2 decide as with spaCy's
# tokenizer in 99 of 100 documents of technical text, where there are most formulas and paths to disagree on; see
# docs/cleaning.md. No match and no look-around reaches over a blank.
words = piecewise(_WORD.findall)


# huggingface/fineweb-2, configs/ita_Latn.yml at commit d0defb2, under the names that the filter `fineweb2` reads.
FINEWEB2 = {
    "duplicate_lines": 0.246,
    "top_2": 0.198,
    "top_3": 0.156,
    "top_4": 0.133,
    "repeated_5": 0.144,
    "repeated_6": 0.136,
    "repeated_7": 0.127,
    "repeated_8": 0.118,
    "repeated_9": 0.109,
    "repeated_10": 0.1,
    "end_punctuation": 0.025,
    "newlines": 0.2,
    "min_word_length": 3,
    "max_word_length": 21,
    "alphabetic_words": 0.807,
}

# FineWeb-2's stop words for Italian (the same file), complete and no more: of these a text must hold two.
FUNCTION_WORDS = (
    "di", "e", "il", "la", "in", "a", "del", "che", "è", "della", "un", "per", "nel", "l'", "con", "da", "i", "una",
)  # fmt: skip

ITALIAN = Language(
    tag="it",
    name="Italian",
    autonym="italiano",
    script="Latn",
    words=words,
    source_language="en",
    prompts={"sft": "alpaca-it"},
    suites=("english", "generation-it", "evalita-2023", "choices-it", "pairs-it", "bias-it", "parallel-it"),
    lm_eval=("arc_it", "hellaswag_it", "m_mmlu_it", "xcopa_it", "belebele_ita_Latn", "evalita-mp"),
    thresholds={"fineweb2": FINEWEB2},
    function_words=FUNCTION_WORDS,
    boilerplate=PHRASES,
    tell_apart=tell_apart,
    address=address,
    length_ratio={"en": (0.6, 1.8)},
    parallel_sample=SAMPLES / "parallel.jsonl",
    replay="fineweb-en",
)
