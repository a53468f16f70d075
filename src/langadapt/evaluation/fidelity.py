"""Is the answer in the language that was asked for?

Line pass rate and line accuracy are those of the Language Confusion Benchmark (Marchisio et al. 2024, arXiv 2406.20052):
a line that begins with "Q:" is cut off with all that follows, ASCII punctuation is deleted, lines of fewer than five words
are not judged, nor are answers without a longer one, and an answer passes if every judged line is identified as the
language. The detector is ours, offline, and a line that `tell_apart` finds in a relative of the language does not pass.

The benchmark's word pass rate looks for English words in other scripts. For languages of one script, ours looks for two
words of the source language in a row that no text of it can do without.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection
from functools import lru_cache
from itertools import pairwise

from langadapt.errors import UserError
from langadapt.evaluation.written import Metric, Written, mean
from langadapt.identification import identify, knows
from langadapt.records import Language

LEAST_WORDS = 5  # of a line that is judged
_DELETED = str.maketrans("—", " ", string.punctuation + "،")
_UNSPACED = {"Hani", "Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai"}  # scripts without blanks between words
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def fidelity(language: Language, source_words: Collection[str] = ()) -> dict[str, Metric]:
    """Metrics of texts that should be in a language.

    Args:
        language: the language.
        source_words: function words of the source language, in lower case, without those that the language has too;
            () leaves the word pass rate out.
    """

    @lru_cache(maxsize=1)  # the metrics ask for the same text in turn
    def judged(text: str) -> list[bool]:
        return [is_in(line, language) for line in judged_lines(text, language)]

    def passes(written: Written) -> float | None:
        lines = judged(written.text)
        return all(lines) if lines else None

    def accuracy(written: Written) -> float | None:
        lines = judged(written.text)
        return sum(lines) / len(lines) if lines else None

    def words_pass(written: Written) -> float | None:
        return not has_run(written.text, words) if passes(written) else None

    words = frozenset(source_words)
    return {
        "line_pass_rate": mean(passes, higher_is_better=True, without=1.0),
        "line_accuracy": mean(accuracy, higher_is_better=True, without=1.0),
        **({"word_pass_rate": mean(words_pass, higher_is_better=True, without=1.0)} if words else {}),
        "skipped": mean(lambda written: not judged(written.text), higher_is_better=False),
    }


def judged_lines(text: str, language: Language) -> list[str]:
    """The lines of a text that are long enough, without punctuation."""
    cut = language.words if language.script in _UNSPACED else str.split
    lines = text.split("\nQ:")[0].strip().translate(_DELETED).split("\n")
    return [line for line in lines if len(cut(line)) >= LEAST_WORDS]


def is_in(line: str, language: Language) -> bool:
    """Whether a line is in the language.

    Raises:
        UserError: the detector does not know the language.
    """
    tag = language.tag.split("-")[0]
    if not knows(tag):
        raise UserError(
            f'the detector does not know {language.name} ("{tag}"), so whether an answer is in it cannot be measured; '
            "name other suites in [evaluation]"
        )
    return identify(line).tag == tag and not (language.tell_apart and language.tell_apart(line))


def has_run(text: str, words: Collection[str]) -> bool:
    """Whether two of the words stand in a row on a line of the text; marks between them do not matter."""
    for line in text.lower().replace("’", "'").splitlines():
        if any(a in words and b in words for a, b in pairwise(_WORD.findall(line))):
            return True
    return False
