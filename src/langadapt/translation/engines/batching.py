"""Texts of like length together, so that a batch holds little padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def batches(lengths: Sequence[int], among: Iterable[int], most: int) -> Iterator[list[int]]:
    """Indices of texts, shortest first, in batches of at most `most` pieces with padding; a longer text goes alone.

    Args:
        lengths: pieces of every text.
        among: indices of the texts that take part.
        most: pieces of a batch, as if each of its texts were as long as its longest.
    """
    batch: list[int] = []
    for index in sorted(among, key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[index] > most:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
