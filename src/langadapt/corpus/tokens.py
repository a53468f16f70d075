"""How a tokenizer cuts a language: tokens for each word and byte, and words that it has no token for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langadapt.corpus.distribution import Distribution
from langadapt.errors import UserError

Offsets = Sequence[tuple[int, int]]  # start and end of each token in its text

BATCH = 64  # documents tokenised together; the tokenizer spreads them over the cores


def load(reference: str) -> Any:
    """The tokenizer of a hub model, a folder, a `.gguf` file, or `package:NAME/FILE`.

    Raises:
        UserError: there is none, or it is one that does not say where its tokens stand.
    """
    from langadapt.loading import load_tokenizer
    from langadapt.models import find_model

    model = find_model(reference)
    tokenizer = load_tokenizer(model.path or reference)
    if not tokenizer.is_fast:
        raise UserError(
            f"--tokenizer {reference}: it has no tokenizer.json, so places of its tokens are not known; name another"
        )
    return tokenizer


class TokenMeasure:
    """Counts the tokens of texts, as they stand: without special tokens, and of dialogues without a prompt format.

    Fertility is tokens for each word; a word is continued when more than one token has a part in it (Rust et al. 2021,
    arXiv 2012.15613).

    Args:
        tokenizer: a fast tokenizer of transformers.
        max_length: tokens that texts are asked to fit in; 0 for no such question.
        watch: takes ids and places of the tokens of each text, for whoever counts more.
    """

    def __init__(
        self, tokenizer: Any, max_length: int = 0, *, watch: Callable[[Sequence[int], Offsets], None] | None = None
    ) -> None:
        self._tokenizer, self._max_length, self._watch = tokenizer, max_length, watch
        self._waiting: list[tuple[str, Sequence[str]]] = []
        self.tokens = self.words = self.bytes = self.located = self.continued = self.longer = 0
        self.lengths, self.fertility = Distribution(), Distribution(0.001)

    def add(self, text: str, words: Sequence[str]) -> None:
        """Counts a text, whose words these are."""
        self._waiting.append((text.encode("utf-8", "replace").decode("utf-8"), words))  # which a lone surrogate bars
        if len(self._waiting) == BATCH:
            self.finish()

    def finish(self) -> None:
        """Counts what is still waiting for a whole batch."""
        if not self._waiting:
            return
        texts = [text for text, _ in self._waiting]
        encoded = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        for (text, words), offsets in zip(self._waiting, encoded["offset_mapping"], strict=True):
            self._count(text, words, offsets)
        if self._watch:
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                self._watch(ids, offsets)
        self._waiting = []

    def _count(self, text: str, words: Sequence[str], offsets: Offsets) -> None:
        self.tokens += len(offsets)
        self.words += len(words)
        self.bytes += len(text.encode("utf-8", "replace"))
        self.longer += bool(self._max_length) and len(offsets) > self._max_length
        self.lengths.add(len(offsets))
        if words:
            self.fertility.add(len(offsets) / len(words))
        parts = parts_of_words(text, words, offsets)
        self.located += len(parts)
        self.continued += sum(part > 1 for part in parts)

    def to_json(self) -> dict[str, Any]:
        self.finish()
        return {
            "tokens": self.tokens,
            "fertility": self.tokens / self.words if self.words else None,
            "bytes_per_token": self.bytes / self.tokens if self.tokens else None,
            "continued_words": self.continued / self.located if self.located else None,
            "max_length": self._max_length or None,
            "longer": self.longer if self._max_length else None,
            "lengths": self.lengths.to_json(),
            "fertilities": self.fertility.to_json(),
        }


def parts_of_words(text: str, words: Sequence[str], offsets: Offsets) -> list[int]:
    """How many tokens have a part in each word.

    Args:
        text: the text.
        words: its words in order; one that the segmentation has changed, so that it is not found, is left out.
        offsets: start and end of each token in the text, in order.
    """
    spans, at = [], 0
    for word in words:
        start = text.find(word, at)
        if start >= 0:
            at = start + len(word)
            spans.append((start, at))
    counts = []
    first = 0
    for start, end in spans:
        while first < len(offsets) and offsets[first][1] <= start:
            first += 1
        last = first
        while last < len(offsets) and offsets[last][0] < end:
            last += 1
        counts.append(last - first)
    return counts
