"""Text as words to learn from: the distinct ones with how often each comes, in memory that does not grow with the text.

A pre-tokenizer cuts a text into words, and no token reaches over their ends. Most words come again and again, so text is
first cut where blanks are, which is quick, and only distinct pieces go through the pre-tokenizer. Where a tokenizer has
none, as SentencePiece's, a piece is a word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from langadapt.corpus.encoding import batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from langadapt.tokenizer.tokens import Bpe

# Distinct pieces remembered; beyond, the rare half is forgotten (lossy counting, Manku and Motwani 2002). Eight for each of
# 32,000 tokens: with three, a text loses as good as none of what it saves (docs/vocabulary.md).
LIMIT = 1 << 18
SAMPLE = 1 << 16  # characters that are cut in both ways, to see whether it makes a difference
SAME = 0.99  # share of words that must then be the same
WINDOW = 1 << 20  # characters of a text that are cut at a time
# Blanks and what follows up to the next blank. A lone line end stays with what is before it and more than one between
# both, because some pre-tokenizers make one word of punctuation and the line ends behind it. No piece is longer than a few
# dozens of characters, also where a script has no blanks.
_PIECE = re.compile(r"\s{0,48}\S{1,48}(?:[\r\n]\s{1,48}\S{1,48}){0,3}(?:\n(?=\S)|\s{1,48}\Z)?|\s{1,48}")
_ANCHOR = "a"  # a word before a piece, so that it is not taken for the beginning of a text


def first(texts: Iterable[str], most: int) -> Iterator[str]:
    """The first texts, up to the one with which they have `most` bytes together."""
    size = 0
    for text in texts:
        if size >= most:
            return
        yield text
        size += len(text.encode("utf-8", "replace"))


@dataclass(kw_only=True)
class Counted:
    """Words of text, as a tokenizer's model gets them: normalised, in the letters of its vocabulary.

    Attributes:
        words: how often each comes.
        texts: that were read.
        bytes: of them.
        forgotten: occurrences of pieces that were too rare to be remembered.
    """

    words: Counter[str] = field(default_factory=Counter)
    texts: int = 0
    bytes: int = 0
    forgotten: int = 0

    def __str__(self) -> str:
        dropped = f", {self.forgotten:,} words too rare to remember" if self.forgotten else ""
        return f"{self.bytes / 1e6:,.1f} MB of text in {self.texts:,} documents ({len(self.words):,} words{dropped})"


class Cutter:
    """Cuts text into words as a tokenizer does before its BPE model; added tokens are not looked for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._normalizer, self._pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
        self._anchor = sum(map(len, self.words(_ANCHOR)))

    @property
    def cuts(self) -> bool:
        """Whether letters, digits and punctuation become words of their own."""
        return len(self.words("ab12,")) > 1

    def words(self, text: str) -> list[str]:
        """Words of a whole text."""
        normalised = self._normalizer.normalize_str(text) if self._normalizer else text
        if self._pre_tokenizer is None:
            return [normalised] if normalised else []
        return [word for word, _ in self._pre_tokenizer.pre_tokenize_str(normalised)]

    def words_inside(self, piece: str) -> Iterator[str]:
        """Words of a piece that stands behind others: nothing is put before it."""
        left = self._anchor
        for word in self.words(_ANCHOR + piece):
            if len(word) > left:
                yield word[left:]
            left = max(0, left - len(word))

    def piecewise(self, text: str) -> Iterator[str]:
        """Words of a text that is cut at blanks first."""
        first, *others = _PIECE.findall(text)
        return chain(self.words(first), chain.from_iterable(map(self.words_inside, others)))


def count(tokenizer: Tokenizer, texts: Iterable[str]) -> Counted:
    """Words of texts, counted."""
    cutter, counted, remaining = Cutter(tokenizer), Counted(), iter(texts)
    sample = _sample(remaining)
    read = _noted(chain(sample, remaining), counted)
    if cutter.cuts and not _same(cutter, sample):
        for text in read:
            counted.words.update(cutter.words(text))
            counted.forgotten += _forget(counted.words)
        return counted
    firsts: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for text in read:
        for start in range(0, len(text), WINDOW):
            pieces = _PIECE.findall(text, start, start + WINDOW)
            if not start:
                firsts[pieces.pop(0)] += 1
            others.update(pieces)
            counted.forgotten += _forget(others)
        counted.forgotten += _forget(firsts)
    for piece, times in firsts.items():
        for word in cutter.words(piece):
            counted.words[word] += times
    for piece, times in others.items():
        for word in cutter.words_inside(piece):
            counted.words[word] += times
    return counted


def _sample(texts: Iterator[str]) -> list[str]:
    found: list[str] = []
    size = 0
    while size < SAMPLE and (text := next(texts, None)) is not None:
        found.append(text)
        size += len(text)
    return found


def _noted(texts: Iterable[str], counted: Counted) -> Iterator[str]:
    for text in texts:
        counted.texts += 1
        counted.bytes += len(text.encode("utf-8", "replace"))
        if text:
            yield text


def _same(cutter: Cutter, texts: Sequence[str]) -> bool:
    """Whether texts have the same words when they are cut at blanks first."""
    whole = Counter(word for text in texts for word in cutter.words(text[:SAMPLE]))
    pieces = Counter(word for text in texts if text for word in cutter.piecewise(text[:SAMPLE]))
    return (whole & pieces).total() >= SAME * max(whole.total(), pieces.total())


def _forget(counts: Counter[str]) -> int:
    """Leaves the frequent half of counts that have become too many, and gives how many occurrences are lost."""
    if len(counts) <= LIMIT:
        return 0
    before = counts.total()
    kept = sorted(counts.items(), key=lambda entry: entry[1], reverse=True)[: LIMIT // 2]
    counts.clear()
    counts.update(dict(kept))
    return before - counts.total()


@dataclass(frozen=True, kw_only=True)
class Words:
    """Distinct words as a model cuts them, all that can be learnt from.

    A character that has no token, and is written as bytes, is one symbol.

    Attributes:
        symbols: of each word.
        target: how often it comes in the target language.
        source: and in the source language.
    """

    symbols: list[list[str]]
    target: list[int]
    source: list[int]

    @property
    def source_tokens(self) -> int:
        """Tokens of the text in the source language."""
        return sum(times * len(symbols) for times, symbols in zip(self.source, self.symbols, strict=True))


def segmented(bpe: Bpe, target: Counter[str], source: Counter[str] | None = None) -> Words:
    """Words of both languages, cut by the BPE model of a tokenizer."""
    source = source or Counter()
    distinct = [*target, *(word for word in source if word not in target)]
    return Words(
        symbols=list(_symbols(bpe, distinct)),
        target=[target[word] for word in distinct],
        source=[source[word] for word in distinct],
    )


def _symbols(bpe: Bpe, words: Iterable[str]) -> Iterator[list[str]]:
    from tokenizers import Tokenizer

    bare = Tokenizer(bpe.model)  # no added tokens, so every word goes to the model
    tokens = {id: token for token, id in bpe.vocab.items()}
    for batch in batches(words):
        for encoded in bare.encode_batch_fast(batch):
            found = [tokens[id] for id in encoded.ids]
            yield _characters(bpe, found) if bpe.kind == "sentencepiece" else found


def _characters(bpe: Bpe, tokens: list[str]) -> list[str]:
    """Tokens with the characters that stand in them as bytes."""
    found: list[str] = []
    run = b""
    for token in tokens:
        if bpe.is_byte(token):
            run += bpe.data(token)
        else:
            found += [*run.decode("utf-8", "replace"), token]
            run = b""
    return [*found, *run.decode("utf-8", "replace")]
