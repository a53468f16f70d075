"""Texts in the old and in the new tokenizer, side by side, with the bytes at which their tokens end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langadapt.corpus.encoding import batches
from langadapt.records import EmbeddingTask
from langadapt.tokenizer.checking import token_sizes
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


def pairs(task: EmbeddingTask) -> Iterator[tuple[Cut, Cut]]:
    """Each of the task's texts as the old and as the new tokenizer cut it.

    A text whose tokens are not the same bytes in both is left out, for nothing could be aligned: the tokenizers
    normalise it in different ways, or one of them lacks a character.
    """
    old, new = cutter(task.old), cutter(task.new)
    for texts in batches(task.texts()):
        for before, after in zip(old(texts), new(texts), strict=True):
            if len(before.ends) and len(after.ends) and before.ends[-1] == after.ends[-1]:
                yield before, after


def cutter(tokenizer: Tokenizer) -> Callable[[list[str]], Iterator[Cut]]:
    """What cuts texts with a tokenizer, without the special tokens that it adds by itself."""
    lengths = token_sizes(read(tokenizer))

    def cut(texts: list[str]) -> Iterator[Cut]:
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            ids = np.array(encoding.ids, np.int64)
            yield Cut(ids, lengths[ids].cumsum())

    return cut
