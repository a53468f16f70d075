"""`random` and `mean`: rows that know nothing of the token; what the other initialisations are measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langadapt.recipe import Table
from langadapt.records import EmbeddingInit, EmbeddingTask

if TYPE_CHECKING:
    from torch import Tensor

    from langadapt.embeddings.matrices import Rows


def random(task: EmbeddingTask) -> Rows:
    """Normal with mean 0 and the `initializer_range` of the model's configuration, as before the model was trained."""
    import torch

    from langadapt.embeddings.matrices import for_both

    generator = torch.Generator().manual_seed(task.seed)
    deviation = task.model.config.get_text_config().initializer_range

    def drawn(matrix: Tensor) -> Tensor:
        rows = torch.randn(len(task.ids), matrix.shape[1], generator=generator).to(matrix.device)
        return rows * float(deviation)

    return for_both(task.model, drawn)


def mean(task: EmbeddingTask) -> Rows:
    """The mean of the rows of all old tokens, the same for every new one."""
    from langadapt.embeddings.matrices import for_both, mean_row

    return for_both(task.model, lambda matrix: mean_row(task, matrix).repeat(len(task.ids), 1))


INITS = (
    EmbeddingInit(
        name="random",
        description="Drawn from a normal distribution as wide as the model's own initialisation.",
        options=Table,
        initialise=random,
    ),
    EmbeddingInit(
        name="mean",
        description="The mean of all old rows.",
        options=Table,
        initialise=mean,
        source="Hewitt 2021, Initializing New Word Embeddings for Pretrained Language Models",
    ),
)
