"""`trainable_tokens`: the rows of new tokens learn, in the embedding and in the head, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langadapt.models import ModelShape
from langadapt.peft import lora
from langadapt.records import PeftStrategy

DEFAULTS: dict[str, Any] = {"new_tokens": True}
_NONE = (
    "there is no new token that could learn; let it start from a tokenizer stage that adds some, or say token_indices"
)


def prepare(model: Any, options: Mapping[str, Any]) -> Any:
    """Freezes the model but for the rows of new tokens, or of those that `token_indices` names.

    Raises:
        UserError: there is none.
    """
    from peft import TrainableTokensConfig, get_peft_model

    from langadapt.errors import UserError

    tokens = options.get("token_indices") or options["new_tokens"]
    if not tokens:
        raise UserError(f'peft.method = "trainable_tokens": {_NONE}')
    given = {key: value for key, value in options.items() if key != "new_tokens"} | {"token_indices": tokens}
    config = TrainableTokensConfig(task_type="CAUSAL_LM", target_modules=lora.matrices_of(model), **given)
    return get_peft_model(model, config)


def _rows(shape: ModelShape, options: Mapping[str, Any]) -> int:
    given = options.get("token_indices")
    return len(given) if given else shape.new_tokens if options["new_tokens"] else 0


def trainable(shape: ModelShape, options: Mapping[str, Any]) -> int:
    """A row in each of the model's matrices."""
    return lora.rows_of(shape, _rows(shape, options))


def learning(shape: ModelShape, options: Mapping[str, Any]) -> list[str]:
    """Names of the rows."""
    return [f"base_model.model.{holder}.trainable_tokens_delta.default" for holder in lora.holders(shape)]


def misfits(shape: ModelShape, options: Mapping[str, Any]) -> Iterator[str]:
    """No token to learn, or one that the model has no row for."""
    if not _rows(shape, options):
        yield f'peft.method = "trainable_tokens": {_NONE}'
    if beyond := [id for id in options.get("token_indices") or () if not 0 <= id < shape.vocab_size]:
        yield f"peft.token_indices: the model has no row {beyond[0]}; it has {shape.vocab_size}"


STRATEGY = PeftStrategy(
    name="trainable_tokens",
    description="The rows of new tokens learn, in the embedding and in the head, and nothing else does.",
    source="documentation of peft, package_reference/trainable_tokens",
    upstream="peft.tuners.trainable_tokens.config:TrainableTokensConfig",
    defaults=DEFAULTS,
    owns=lora.OWNS | {"target_modules": "rows learn in every matrix that has them"},
    prepare=prepare,
    trainable=trainable,
    weight_bits=lambda options: 16,
    reached=lambda shape, options: [],
    learning=learning,
    misfits=misfits,
)
