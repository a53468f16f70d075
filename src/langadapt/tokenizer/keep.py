"""`keep`: the base model's own tokenizer, the default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langadapt.recipe import Table
from langadapt.records import TokenizerStrategy, TokenizerTask

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Options(Table):
    """No keys."""


def adapt(task: TokenizerTask) -> Tokenizer:
    return task.tokenizer


def tokens(options: Any, before: int) -> int:
    return before


STRATEGY = TokenizerStrategy(
    name="keep",
    description="The base model's own tokenizer: the best choice below a few billion tokens of training.",
    options=Options,
    adapt=adapt,
    tokens=tokens,
)
