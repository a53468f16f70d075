"""How well a tokenizer cuts a language: what each measure is, and where it comes from.

Everything is counted without special tokens, on text as it stands; ratios are ratios of totals, never means of ratios.
Words are what the language's plugin cuts, punctuation marks among them, as in `langadapt corpus stats`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from langadapt.corpus.tokens import Offsets, TokenMeasure

ALPHA = 2.5  # order of the entropy, as in the paper
UNKNOWN = (
    0.1  # share of unknown characters beyond which fertility says nothing: one token stands for any number of them
)
ALL = "all"  # what the domains together are called
_TOGETHER = 1024  # texts that are encoded at a time


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was counted in text; those of several domains can be added.

    Attributes:
        texts: documents.
        bytes: of UTF-8.
        characters: Unicode characters.
        words: words and marks.
        tokens: without special ones.
        located: words that were found again in the text.
        continued: of them, those that more than one token has a part in.
        unknown: characters that only the unknown token stands for.
        ids: how often each token comes.
        types: different words that have a letter.
    """

    texts: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    tokens: int = 0
    located: int = 0
    continued: int = 0
    unknown: int = 0
    ids: Counter[int] = field(default_factory=Counter, repr=False)
    types: frozenset[str] = field(default=frozenset(), repr=False)

    def __add__(self, other: Counts) -> Counts:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "types"}
        return Counts(**sums, types=self.types | other.types)


def count(tokenizer: Any, texts: Iterable[tuple[str, Sequence[str]]]) -> Counts:
    """Counts texts, each given with its words.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: drawn as they are counted.
    """
    ids: Counter[int] = Counter()
    types: set[str] = set()
    documents = characters = unknown = 0

    def watch(of_text: Sequence[int], offsets: Offsets) -> None:
        nonlocal unknown
        ids.update(of_text)
        places = zip(of_text, offsets, strict=True)
        unknown += sum(end - start for id, (start, end) in places if id == tokenizer.unk_token_id)

    measure = TokenMeasure(tokenizer, watch=watch)
    for text, words in texts:
        documents += 1
        characters += len(text)
        types.update(words)
        measure.add(text, words)
    measure.finish()
    return Counts(
        texts=documents,
        bytes=measure.bytes,
        characters=characters,
        words=measure.words,
        tokens=measure.tokens,
        located=measure.located,
        continued=measure.continued,
        unknown=unknown,
        ids=ids,
        types=frozenset(word for word in types if any(map(str.isalpha, word))),
    )


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A tokenizer on text of one domain. A measure is None where there is nothing to take it from.

    Attributes:
        fertility: tokens / words, in context (Rust et al. 2021, arXiv 2012.15613); None where more than a tenth of the
            characters are unknown (Petrov et al. 2023, arXiv 2305.15425).
        continued_words: words in two tokens or more / words (the same).
        single_token_bare: share of the different words that have a letter and are one token at the beginning of a line
            (single-token retention rate, arXiv 2510.09947).
        single_token_spaced: the same of words behind a space, which most tokenizers write into the token.
        bytes_per_token: UTF-8 bytes / tokens.
        characters_per_token: characters / tokens.
        renyi_efficiency: Rényi entropy of the tokens' distribution p, of order α = 2.5, in parts of what it could be:
            log2(Σ p^α) / (1 - α) / log2 |V|, with |V| the tokens of the vocabulary (Zouhar et al. 2023, arXiv
            2306.16842).
        vocabulary_used: share of the vocabulary that comes at all.
        unknown: share of the characters that only the unknown token stands for.
    """

    texts: int
    bytes: int
    words: int
    tokens: int
    fertility: float | None
    continued_words: float | None
    single_token_bare: float | None
    single_token_spaced: float | None
    bytes_per_token: float | None
    characters_per_token: float | None
    renyi_efficiency: float | None
    vocabulary_used: float
    unknown: float


def figures(tokenizer: Any, counts: Counts) -> Figures:
    """The measures of what was counted."""
    vocabulary, unknown = len(tokenizer), _ratio(counts.unknown, counts.characters) or 0.0
    bare, spaced = single_tokens(tokenizer, sorted(counts.types))
    return Figures(
        texts=counts.texts,
        bytes=counts.bytes,
        words=counts.words,
        tokens=counts.tokens,
        fertility=None if unknown > UNKNOWN else _ratio(counts.tokens, counts.words),
        continued_words=_ratio(counts.continued, counts.located),
        single_token_bare=_ratio(bare, len(counts.types)),
        single_token_spaced=_ratio(spaced, len(counts.types)),
        bytes_per_token=_ratio(counts.bytes, counts.tokens),
        characters_per_token=_ratio(counts.characters, counts.tokens),
        renyi_efficiency=renyi_efficiency(counts.ids, vocabulary),
        vocabulary_used=len(counts.ids) / vocabulary,
        unknown=unknown,
    )


def by_domain(tokenizer: Any, domains: Mapping[str, Iterable[tuple[str, Sequence[str]]]]) -> dict[str, Figures]:
    """The figures of every domain, and of all together where there are several."""
    counted = {name: count(tokenizer, texts) for name, texts in domains.items()}
    if len(counted) > 1:
        counted[ALL] = sum(counted.values(), Counts())
    return {name: figures(tokenizer, counts) for name, counts in counted.items()}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


# --- single measures --------------------------------------------------------------------------------------------------


def renyi_efficiency(ids: Mapping[int, int], vocabulary: int, *, alpha: float = ALPHA) -> float | None:
    """Rényi efficiency; see `Figures`.

    Args:
        ids: how often each token comes.
        vocabulary: number of all tokens that there are, those that never come included.
        alpha: order of the entropy, not 1.
    """
    total = sum(ids.values())
    if not total or vocabulary < 2:
        return None
    power = sum((number / total) ** alpha for number in ids.values())
    return math.log2(power) / (1 - alpha) / math.log2(vocabulary)


def single_tokens(tokenizer: Any, words: Sequence[str]) -> tuple[int, int]:
    """How many words are one token at the beginning of a line, and how many behind a space.

    Words stand behind a line end, where every kind of tokenizer is in the middle of a text: SentencePiece's puts a space
    before whatever comes first.
    """
    (start,) = _encoded(tokenizer, ["\n"])
    bare, spaced = (
        sum(len(ids) - _length(start, ids) == 1 for ids in _encoded(tokenizer, [before + word for word in words]))
        for before in ("\n", "\n ")
    )
    return bare, spaced


def _length(start: list[int], ids: list[int]) -> int:
    """How many of the tokens are those of a line end; none where it is normalised away."""
    return len(start) if ids[: len(start)] == start else 0


def _encoded(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[int]]:
    for first in range(0, len(texts), _TOGETHER):
        batch = list(texts[first : first + _TOGETHER])
        yield from tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Tokens of the same text in two languages (Petrov et al. 2023, arXiv 2305.15425).

    Attributes:
        rows: translations.
        tokens: in the target language.
        source_tokens: in the source language.
    """

    rows: int
    tokens: int
    source_tokens: int

    @property
    def ratio(self) -> float | None:
        """Tokens in the target language for one token in the source language."""
        return _ratio(self.tokens, self.source_tokens)


def parity(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> Parity:
    """Parity on pairs of a text in the target language and its source."""
    target, source = (sum(map(len, _encoded(tokenizer, side))) for side in zip(*pairs, strict=True))
    return Parity(rows=len(pairs), tokens=target, source_tokens=source)
