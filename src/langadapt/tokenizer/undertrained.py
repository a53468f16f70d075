"""Tokens that the model hardly saw while it was pretrained, found by their rows (Land and Bartolo 2024, arXiv 2405.05417).

Rows of tokens that never came are like one another. Where input and output have matrices of their own, weight decay made
those input rows short, or nothing ever moved them; where one matrix serves for both, they were all pushed the same way, so
they point where their mean does. Two kinds of rows are known to be unused: those beyond the ids, and those of the thirteen
bytes that UTF-8 never has. Tokens that are as short, or as near to their mean, are taken for under-trained.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from langadapt.tokenizer.rows import Rows

NEVER = (0xC0, 0xC1, *range(0xF5, 0x100))  # bytes that no UTF-8 text holds
QUANTILE = 0.75  # of the unused rows' own indicators: a token that lies lower is taken for under-trained
APART = 0.5  # of the ordinary tokens' median: unused rows must lie lower, or nothing can be told


@dataclass(frozen=True, kw_only=True)
class Undertrained:
    """What the rows tell.

    Attributes:
        indicator: `length of the input row`, or `distance to the mean of unused rows`, as 1 - cosine.
        reference: how many rows are known to be unused.
        limit: the largest indicator of a token that counts as under-trained.
        typical: the median of all other tokens.
        ids: under-trained tokens, the surest first.
        unsure: why nothing can be told; "" where it can.
    """

    indicator: str
    reference: int
    limit: float = 0.0
    typical: float = 0.0
    ids: tuple[int, ...] = ()
    unsure: str = ""


def undertrained(rows: Rows, *, ids: Collection[int], unused: Sequence[int]) -> Undertrained:
    """Looks for under-trained tokens.

    Args:
        rows: the model's matrices.
        ids: of the tokens in question, without special ones.
        unused: rows that are known to be unused; see `NEVER`.
    """
    tied = rows.output is None
    unused = [id for id in unused if id < rows.input.rows]
    direction = rows.input.mean(unused) if unused and tied else np.zeros(1, np.float32)
    by_distance = tied and bool(np.any(direction))  # rows of zeros point nowhere
    indicator = "distance to the mean of unused rows" if by_distance else "length of the input row"
    if not unused:
        return Undertrained(indicator=indicator, reference=0, unsure="no row is known to be unused")
    values = rows.input.distances(direction) if by_distance else rows.input.norms
    asked = np.array(sorted({id for id in ids if id < rows.input.rows} - set(unused)), dtype=int)
    limit, typical = float(np.quantile(values[unused], QUANTILE)), float(np.median(values[asked]))
    if limit >= APART * typical:
        why = f"the {len(unused)} rows that are known to be unused do not differ from those of other tokens"
        return Undertrained(indicator=indicator, reference=len(unused), limit=limit, typical=typical, unsure=why)
    low = asked[values[asked] <= limit]
    return Undertrained(
        indicator=indicator,
        reference=len(unused),
        limit=limit,
        typical=typical,
        ids=tuple(int(id) for id in low[np.argsort(values[low], kind="stable")]),
    )
