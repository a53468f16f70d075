"""Texts in the old and in the new tokenizer, side by side, with the bytes at which their tokens end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langadapt.corpus.encoding import batches
from langadapt.records import EmbeddingTask
from langadapt.tokenizer.tokens import read

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """A text as a tokenizer cuts it: the ids of its tokens, and the byte at which each of them ends."""

    ids: Numbers
    ends: Numbers

    @property
    def starts(self) -> Numbers:
        """The byte at which each token starts."""
        return np.concatenate([[0], self.ends[:-1]])


def pairs(task: EmbeddingTask, *, most: int) -> Iterator[tuple[Cut, Cut]]:
    """Each of the task's texts as the old and as the new tokenizer cut it.

    A text whose tokens are not the same bytes in both is left out, for nothing could be aligned: the tokenizers
    normalise it in different ways, or one of them lacks a character.

    Args:
        task: whose texts and tokenizers are used.
        most: bytes of text that are read.
    """
    old, new = cutter(task.old), cutter(task.new)
    for texts in batches(up_to(most, task.texts())):
        for before, after in zip(old(texts), new(texts), strict=True):
            if len(before.ends) and len(after.ends) and before.ends[-1] == after.ends[-1]:
                yield before, after


def up_to(most: int, texts: Iterable[str]) -> Iterator[str]:
    """The first texts, as many as it takes to have that many bytes."""
    so_far = 0
    for text in texts:
        if so_far >= most:
            return
        so_far += len(text.encode("utf-8"))
        yield text


def cutter(tokenizer: Tokenizer) -> Callable[[list[str]], Iterator[Cut]]:
    """What cuts texts with a tokenizer, without the special tokens that it adds by itself."""
    bpe = read(tokenizer)
    lengths = np.zeros(bpe.last + 1, np.int64)
    for token, id in (*bpe.vocab.items(), *bpe.added.items()):
        lengths[id] = len(bpe.data(token))

    def cut(texts: list[str]) -> Iterator[Cut]:
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            ids = np.array(encoding.ids, np.int64)
            yield Cut(ids, lengths[ids].cumsum())

    return cut
