"""What must hold of a tokenizer that was adapted, as figures: tokens that no text reaches, text that is cut otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from langadapt.corpus.encoding import batches
from langadapt.tokenizer.tokens import Bpe, read, without_shortcut

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = NDArray[np.int64]


def unreachable(tokenizer: Tokenizer) -> list[int]:
    """Ids of tokens that merges do not lead to: cut by its merges alone, the token's own string is not that token.

    `ignore_merges` hides such tokens, so it is off here. Special and added tokens and those of byte fallback come about
    otherwise and are not counted.
    """
    bpe, model = read(tokenizer), without_shortcut(tokenizer)
    unknown = bpe.made["model"]["unk_token"]
    tokens = ((token, id) for token, id in bpe.ordinary.items() if token != unknown and not bpe.is_byte(token))
    return sorted(id for token, id in tokens if [found.id for found in model.tokenize(token)] != [id])


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How a new tokenizer cuts text that an old one cut before.

    Attributes:
        lines: of the text, blank ones not counted.
        lines_changed: those with a token that is not where it was.
        tokens: that the old one makes of them.
        tokens_changed: those that the new one does not make at the same place.
        tokens_after: that the new one makes of them.
        violations: boundaries of the new one's tokens where the old one has none.
    """

    lines: int = 0
    lines_changed: int = 0
    tokens: int = 0
    tokens_changed: int = 0
    tokens_after: int = 0
    violations: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def changes(old: Tokenizer, new: Tokenizer, texts: Iterable[str]) -> Changes:
    """Compares the segmentation of texts, line by line, special tokens that are put around a text left out.

    Tokens are compared by the bytes that they cover. A line of which both do not cover as many, because they normalise text
    otherwise, counts as changed throughout, and every boundary in it as a violation.
    """
    lines = (line for text in texts for line in text.split("\n") if line and not line.isspace())
    sizes = _sizes(read(old)), _sizes(read(new))
    compared = (_compared(old, new, sizes, batch) for batch in batches(lines))
    return sum(compared, Changes())


def _sizes(bpe: Bpe) -> Ids:
    """Bytes of every token, by id."""
    sizes = np.zeros(bpe.last + 1, dtype=np.int64)
    for token, id in (*bpe.vocab.items(), *bpe.added.items()):
        sizes[id] = len(bpe.data(token))
    return sizes


def _compared(old: Tokenizer, new: Tokenizer, sizes: tuple[Ids, Ids], lines: Sequence[str]) -> Changes:
    line, starts, ends, totals = _cut(old, sizes[0], lines)
    new_line, new_starts, new_ends, new_totals = _cut(new, sizes[1], lines)
    alike = totals == new_totals
    at = np.searchsorted(new_starts, starts).clip(max=max(len(new_starts) - 1, 0))
    changed = np.ones(len(starts), dtype=bool)
    if len(new_starts):
        changed = ~((new_starts[at] == starts) & (new_ends[at] == ends) & alike[line])
    inner = new_starts % _WIDE > 0
    violating = inner & ~(np.isin(new_starts, starts) & alike[new_line])
    return Changes(
        lines=len(lines),
        lines_changed=len(np.unique(line[changed])),
        tokens=len(starts),
        tokens_changed=int(changed.sum()),
        tokens_after=len(new_starts),
        violations=int(violating.sum()),
    )


_WIDE = 1 << 32  # bytes of a line at most, so that a place in a batch is one number


def _cut(tokenizer: Tokenizer, sizes: Ids, lines: Sequence[str]) -> tuple[Ids, Ids, Ids, Ids]:
    """Of every token of all lines: its line, where it starts and ends; and the bytes of every line."""
    ids = [
        np.array(found.ids, dtype=np.int64) for found in tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    ]
    line = np.repeat(np.arange(len(lines)), [len(of_line) for of_line in ids])
    size = sizes[np.concatenate(ids)]
    totals = np.array([sizes[of_line].sum() for of_line in ids])
    ends = np.cumsum(size) - (np.cumsum(totals) - totals)[line] + line * _WIDE
    return line, ends - size, ends, totals


def occurrences(tokenizer: Tokenizer, texts: Iterable[str]) -> Ids:
    """How often each id comes in texts."""
    found = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for batch in batches(texts):
        ids = [id for encoded in tokenizer.encode_batch_fast(batch, add_special_tokens=False) for id in encoded.ids]
        counts = np.bincount(np.array(ids, dtype=np.int64), minlength=len(found))
        found = np.pad(found, (0, len(counts) - len(found))) + counts
    return found


def used(tokenizer: Tokenizer, ids: Collection[int], texts: Iterable[str], *, times: int = 1) -> float:
    """The share of `ids` that come at least so many times in texts; 1.0 of no ids at all."""
    found = occurrences(tokenizer, texts)
    return sum(id < len(found) and int(found[id]) >= times for id in ids) / len(ids) if ids else 1.0


def round_trip(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[str]:
    """The texts that are not the same after they were encoded and decoded."""
    for batch in batches(texts):
        ids = [found.ids for found in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
        back = tokenizer.decode_batch(ids, skip_special_tokens=False)
        yield from (text for text, again in zip(batch, back, strict=True) if text != again)
