"""The Turkish language: its names, its capitals, its words, and what its texts are measured by."""

from __future__ import annotations

import re

from langadapt import Language, piecewise
from langadapt_turkish.address import address
from langadapt_turkish.boilerplate import PHRASES
from langadapt_turkish.casing import lower
from langadapt_turkish.related import tell_apart

# Suffixes make one word with what they are hung on, whatever stands between: İstanbul'dan, TBMM'nin, 1923'te, 12.30'da,
# T.C.'nin. Numbers keep their points and commas; hyphens, slashes and all other marks are words by themselves. No match
# reaches over a blank.
_WORD = re.compile(
    r"""
    https?://\S*[\w/] | www\.\S*\w | [\w.+-]++@[\w-]+\.[\w.-]*\w
    | (?:[^\W\d_]\.){2,} (?:['’]\w+)?
    | \w+ (?: ['’]\w+ | (?<=\d)[.,:](?=\d)\w+ )*
    | \.{2,}
    | [^\w\s]
    """,
    re.VERBOSE,
)

words = piecewise(_WORD.findall)

# Suffixes do what elsewhere words do, so Turkish has fewer words to a mark, and the share of words that have a letter, among
# words and marks, is lower. See the README for what was measured: 0.62 keeps 99 of 100 good texts.
ALPHABETIC_WORDS = 0.62

# huggingface/fineweb-2, configs/tur_Latn.yml at commit baedee4, under the names that the filter `fineweb2` reads.
FINEWEB2 = {
    "duplicate_lines": 0.303,
    "top_2": 0.094,
    "top_3": 0.114,
    "top_4": 0.136,
    "repeated_5": 0.168,
    "repeated_6": 0.151,
    "repeated_7": 0.135,
    "repeated_8": 0.123,
    "repeated_9": 0.116,
    "repeated_10": 0.107,
    "end_punctuation": 0.2,
    "newlines": 0.273,
    "min_word_length": 3,
    "max_word_length": 21,
    "alphabetic_words": ALPHABETIC_WORDS,  # 0.773 there
}

FUNCTION_WORDS = (
    "ve", "bir", "bu", "da", "de", "için", "ile", "olarak", "daha", "çok", "gibi", "kadar", "en", "sonra", "olan", "ama",
    "o", "ne", "her", "var", "değil", "ya", "ki", "mi", "mı",
)  # fmt: skip

TURKISH = Language(
    tag="tr",
    name="Turkish",
    autonym="Türkçe",
    script="Latn",
    words=words,
    lower=lower,
    prompts={"sft": "talimat-tr"},
    suites=("turkish",),
    lm_eval=("belebele_tur_Latn", "xnli_tr", "turkishmmlu"),
    thresholds={"fineweb2": FINEWEB2, "gopher-quality": {"alphabetic_words": ALPHABETIC_WORDS}},
    function_words=FUNCTION_WORDS,
    boilerplate=PHRASES,
    tell_apart=tell_apart,
    address=address,
    length_ratio={"en": (0.5, 1.5)},
    replay="tr-fineweb-en",
)
