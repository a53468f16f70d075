"""`token-distillation`: a new token's row is learnt, until the model reads on as it did after the old pieces.

Snippets of text that hold new tokens go through the model twice: cut into old tokens, which is the teacher, and into new
ones, where the rows of new tokens, and nothing else, learn. From the first new token on, wherever a token of either ends,
the hidden states after `layer` blocks shall be the same (Dobler et al. 2025, Token Distillation); the student's way ends
there. Output rows learn from the cross-entropy of the tokens that come next, given the teacher's last hidden states; no
gradient of it reaches the input. Where one matrix serves for both, its rows learn from both at once, the cross-entropy
scaled to the size of the other (the paper's α).
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

    snippets: int = Field(
        25, gt=0, description="In how many snippets each new token comes, where the texts have as many."
    )
    snippet_tokens: int = Field(50, gt=1, description="Old tokens in a snippet, about.")
    layer: int | None = Field(
        None, gt=0, description="Blocks after which states are compared; not set: a third of the model's."
    )
    learning_rate: float = Field(1e-4, gt=0, description="Learning rate of AdamW, falling to 0 in a line.")
    batch_size: int = Field(16, gt=0, description="Snippets in a step.")


def initialise(task: EmbeddingTask) -> Rows:
    """Learnt rows of the tokens that the texts have, and sub-token means of the others.

    Raises:
        UserError: the model has fewer than `layer` blocks.
    """
    from langadapt.embeddings.distilling import distilled
    from langadapt.embeddings.snippets import snippets
    from langadapt.embeddings.texts import pairs

    options = task.options
    found = list(snippets(pairs(task), task.ids, times=options.snippets, tokens=options.snippet_tokens))
    lacking = set(task.ids) - {id for snippet in found for id in snippet.new.tolist()}
    task.say(
        f"{len(found)} snippets hold {len(task.ids) - len(lacking)} new tokens; {len(lacking)} do not come in the texts "
        "and get their sub-token mean"
    )
    return distilled(task, found)


INIT = EmbeddingInit(
    name="token-distillation",
    description="Learnt from the model itself: after a new token it shall read on as it did after the old pieces.",
    options=Options,
    initialise=initialise,
    rehearsed=lambda options: options.model_copy(update={"snippets": min(options.snippets, 2)}),
    source="Dobler, Elliott and de Melo 2025, Token Distillation, arXiv 2505.20133",
)
