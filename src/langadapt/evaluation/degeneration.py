"""Does the text go round in circles, break off, or come out damaged?

`rep_n` is the share of a text's n-grams of words that repeat an earlier one (Welleck et al. 2020, arXiv 1908.04319), 0 for
none; `distinct_1` is the share of words that are different (Li et al. 2016, arXiv 1510.03055), of each text by itself,
so that it does not fall with the number of texts. `distinct_2` would be 1 - `rep_2`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from langadapt.cleaning import mojibake
from langadapt.evaluation.written import Metric, Written, mean, ratio


def distinct(words: Sequence[str], n: int) -> float | None:
    """Different n-grams by all n-grams, None for fewer words than n."""
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else None


def repeated(words: Sequence[str], n: int) -> float | None:
    """`rep_n`, None for fewer words than n."""
    found = distinct(words, n)
    return None if found is None else 1 - found


def compressed(written: Written) -> tuple[float, float]:
    """Bytes after and before zlib."""
    raw = written.text.encode("utf-8", "replace")
    return (len(zlib.compress(raw)), len(raw)) if raw else (0, 0)


def repeated_lines(written: Written) -> float | None:
    """Share of the lines that are not empty which repeat an earlier one."""
    return repeated([line.strip() for line in written.text.splitlines() if line.strip()], 1)


def is_damaged(written: Written) -> bool:
    """Whether there is mojibake; half a character at the end of an unfinished text is none."""
    return mojibake.shows(written.text if written.finished else written.text.rstrip("\N{REPLACEMENT CHARACTER}"))


def _repetition(n: int) -> Metric:
    return mean(lambda written: repeated(written.words, n), higher_is_better=False)


METRICS: dict[str, Metric] = {
    **{f"rep_{n}": _repetition(n) for n in (2, 3, 4)},
    "distinct_1": mean(lambda written: distinct(written.words, 1), higher_is_better=True),
    "zlib_ratio": ratio(compressed, higher_is_better=True),
    "repeated_lines": mean(repeated_lines, higher_is_better=False),
    "empty": mean(lambda written: not written.text.strip(), higher_is_better=False),
    "unfinished": mean(lambda written: not written.finished, higher_is_better=False),
    "mojibake": mean(is_damaged, higher_is_better=False),
}
