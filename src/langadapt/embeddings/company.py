"""Vectors of tokens by the company they keep in texts, and the kept tokens that each new one is like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from langadapt.corpus.encoding import batches
from langadapt.records import EmbeddingTask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langadapt.embeddings.matrices import Weights

    Numbers = NDArray[np.int64]

SMOOTHING = 0.75  # power of the counts of company, so that rare company says less (Levy et al. 2015, section 3.1)
TOGETHER = 1 << 22  # pairs of tokens that are sorted together at least
CHUNK = 1024  # new tokens whose cosines with all kept ones exist at the same time


def neighbours(task: EmbeddingTask) -> tuple[int, Mapping[int, Weights]]:
    """How many kept tokens are frequent, and of each frequent new token the old ids it is like, with their weights."""
    frequent, counts = company(task)
    at = {id: place for place, id in enumerate(frequent.tolist())}
    kept = {old: at[id] for id, old in enumerate(task.kept) if old is not None and id in at}
    new = [id for id in task.ids if id in at]
    if not kept or not new:
        return len(kept), {}
    vectors = directions(positive_information(counts), task.options.dimensions, seed=task.seed)
    old_ids, beside = torch.tensor(list(kept)), vectors[list(kept.values())]
    found: dict[int, Weights] = {}
    for start in range(0, len(new), CHUNK):
        some = new[start : start + CHUNK]
        shares = sparsemax(vectors[[at[id] for id in some]] @ beside.T)
        for id, share in zip(some, shares, strict=True):
            heavy = share.nonzero().squeeze(1)
            found[id] = dict(zip(old_ids[heavy].tolist(), share[heavy].tolist(), strict=True))
    return len(kept), found


def company(task: EmbeddingTask) -> tuple[Numbers, Tensor]:
    """Ids of the frequent tokens of the new tokenizer, and how often each comes near each: sparse, symmetric, fp64."""
    size = len(task.kept)
    times, near = np.zeros(size, np.int64), _Tally()
    for texts in batches(task.texts()):
        for encoding in task.new.encode_batch_fast(texts, add_special_tokens=False):
            ids = np.array(encoding.ids, np.int64)
            times += np.bincount(ids, minlength=size)
            near.add(*(ids[:-gap] * size + ids[gap:] for gap in range(1, task.options.window + 1)))
    frequent = np.flatnonzero(times >= task.options.min_count)
    pairs, counts = near.total()
    left, right = np.divmod(pairs, size)
    among = np.isin(left, frequent) & np.isin(right, frequent)
    places = np.stack([np.searchsorted(frequent, ids[among]) for ids in (left, right)])
    there = torch.sparse_coo_tensor(
        torch.from_numpy(np.concatenate([places, places[::-1]], axis=1)),
        torch.from_numpy(counts[among]).double().repeat(2),
        (len(frequent), len(frequent)),
        check_invariants=True,
    )
    return frequent, there.coalesce()


class _Tally:
    """How often each number came. Numbers are sorted in when there are as many new ones as different old ones."""

    def __init__(self) -> None:
        self._keys, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._waiting: list[Numbers] = []
        self._waits = 0

    def add(self, *more: Numbers) -> None:
        self._waiting += more
        self._waits += sum(map(len, more))
        if self._waits > max(len(self._keys), TOGETHER):
            self.total()

    def total(self) -> tuple[Numbers, Numbers]:
        """The different numbers, sorted, and their counts."""
        keys, inverse = np.unique(np.concatenate([self._keys, *self._waiting]), return_inverse=True)
        known = len(self._keys)
        counts = np.bincount(inverse[known:], minlength=len(keys))
        counts[inverse[:known]] += self._counts
        self._keys, self._counts, self._waiting, self._waits = keys, counts, [], 0
        return keys, counts


def positive_information(counts: Tensor) -> Tensor:
    """max(0, log(p(i, j) / (p(i) p'(j)))) of sparse counts, where p' is of smoothed counts."""
    (left, right), values = counts.indices(), counts.values()
    totals = counts.sum(1).to_dense()
    smoothed = totals**SMOOTHING
    information = (values * smoothed.sum() / (totals[left] * smoothed[right])).log()
    more = information > 0
    places = torch.stack([left[more], right[more]])
    return torch.sparse_coo_tensor(places, information[more].float(), counts.shape, check_invariants=True).coalesce()


def directions(matrix: Tensor, dimensions: int, *, seed: int) -> Tensor:
    """Vectors of length 1 for the rows of a square sparse matrix: left singular vectors times the roots of the values."""
    rank = min(dimensions, len(matrix))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)  # the decomposition starts from torch's own random numbers
        left, values, _ = torch.svd_lowrank(matrix, q=min(rank + 10, len(matrix)), niter=4)
    return functional.normalize(left[:, :rank] * values[:rank].sqrt())


def sparsemax(scores: Tensor) -> Tensor:
    """The nearest point of the probability simplex to each row (Martins and Astudillo 2016, arXiv 1602.02068)."""
    ordered = scores.sort(dim=1, descending=True).values
    above = ordered.cumsum(1) - 1
    ranks = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    support = (ranks * ordered > above).sum(1, keepdim=True)
    threshold = above.gather(1, support - 1) / support
    return (scores - threshold).clamp(min=0)
