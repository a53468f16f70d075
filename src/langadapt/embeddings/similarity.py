"""`similarity`: a new token starts from kept tokens that come in like company; for vocabularies that were replaced.

FOCUS (Dobler and de Melo 2023) with vectors of our own in place of fastText's: the words around each token of the new
tokenizer are counted, weighed by positive pointwise mutual information and made vectors by a truncated singular value
decomposition (Levy, Goldberg and Dagan 2015). A new token's row is a convex combination of the rows of kept tokens; how
much each weighs is the sparsemax of its cosines with the new token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from langadapt.recipe import Table
from langadapt.records import EmbeddingInit, EmbeddingTask

if TYPE_CHECKING:
    from langadapt.embeddings.matrices import Rows


class Options(Table):
    """Keys of `[stage.embeddings]` beside `init`."""

    window: int = Field(5, gt=0, description="Tokens on either side that count as a token's company.")
    min_count: int = Field(10, gt=0, description="Times that a token must come in the texts to have a vector.")
    dimensions: int = Field(300, gt=0, description="Dimensions of the vectors.")


def initialise(task: EmbeddingTask) -> Rows:
    """Rows for the tokens that come often enough in the texts, and sub-token means for the others."""
    from langadapt.embeddings.company import neighbours
    from langadapt.embeddings.matrices import for_both, input_matrix, mean_of, weighted

    anchors, found = neighbours(task)
    rare = len(task.ids) - len(found)
    task.say(
        f"compared {len(found)} new tokens with {anchors} kept ones; {rare} come less than {task.options.min_count} times "
        "in the texts and get their sub-token mean"
    )
    if anchors < input_matrix(task.model).shape[1]:
        task.say(
            f"warning: the tokenizers have little in common: rows are combined of {anchors} kept tokens, fewer than the "
            'model has dimensions; with so few "subtoken-mean" is often better'
        )
    weights = [found.get(id) or mean_of(pieces) for id, pieces in zip(task.ids, task.pieces, strict=True)]
    return for_both(task.model, lambda matrix: weighted(task, matrix, weights))


INIT = EmbeddingInit(
    name="similarity",
    description="A combination of the rows of kept tokens that come in like company; for replaced vocabularies.",
    options=Options,
    initialise=initialise,
    rehearsed=lambda options: options.model_copy(update={"min_count": min(options.min_count, 2)}),
    source="Dobler and de Melo 2023, FOCUS, arXiv 2305.14481",
)
