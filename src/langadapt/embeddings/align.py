"""`align`: a new token starts from the old tokens that stood in its place in running text.

The corpus is cut by both tokenizers. Each time a new token comes, it gets the mean of the rows of the old tokens that it
shares bytes with; its row is the mean over all times. That differs from `subtoken-mean` where the old tokenizer cuts the
same bytes in several ways, as their neighbours have it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from langadapt.recipe import Table
from langadapt.records import EmbeddingInit, EmbeddingTask

if TYPE_CHECKING:
    from langadapt.embeddings.matrices import Rows, Weights
    from langadapt.embeddings.texts import Cut


def initialise(task: EmbeddingTask) -> Rows:
    """Rows for the tokens that the texts have, and sub-token means for the others."""
    from langadapt.embeddings.matrices import for_both, mean_of, weighted
    from langadapt.embeddings.texts import pairs

    met: dict[int, Counter[tuple[int, ...]]] = {id: Counter() for id in task.ids}
    for old, new in pairs(task):
        for id, overlapped in _overlaps(old, new, met):
            met[id][overlapped] += 1
    lacking = sum(not times for times in met.values())
    task.say(
        f"aligned {len(met) - lacking} new tokens; {lacking} do not come in the texts and get their sub-token mean"
    )
    weights = [
        _mean_over(met[id]) if met[id] else mean_of(pieces) for id, pieces in zip(task.ids, task.pieces, strict=True)
    ]
    return for_both(task.model, lambda matrix: weighted(task, matrix, weights))


def _overlaps(old: Cut, new: Cut, wanted: dict[int, Counter[tuple[int, ...]]]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each new token of a text that is wanted, with the old tokens that it shares bytes with."""
    import numpy as np

    firsts = np.searchsorted(old.ends, new.starts, side="right")
    afters = np.searchsorted(old.starts, new.ends, side="left")
    ids = old.ids.tolist()
    for id, first, after in zip(new.ids.tolist(), firsts.tolist(), afters.tolist(), strict=True):
        if id in wanted:
            yield id, tuple(ids[first:after])


def _mean_over(times: Counter[tuple[int, ...]]) -> Weights:
    """Weights that make a sum of rows the mean over all times of the mean over the old tokens that were there."""
    weights: dict[int, float] = defaultdict(float)
    for overlapped, count in times.items():
        for old in overlapped:
            weights[old] += count / times.total() / len(overlapped)
    return weights


INIT = EmbeddingInit(
    name="align",
    description="The mean of the rows of the old tokens that a new one takes the place of in running text.",
    options=Table,
    initialise=initialise,
    source="Yamaguchi et al. 2024, lowres-cve, arXiv 2406.11477",
)
