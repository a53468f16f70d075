"""`layers` and `freeze`: some of the base's own weights learn, in fp32, and the others stay in 16 bits, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from langadapt.models import ModelShape
from langadapt.peft.full import with_biases
from langadapt.records import PeftStrategy

LAYERS: dict[str, Any] = {"first": 2, "last": 2, "embeddings": True}
FREEZE: dict[str, Any] = {"frozen": ["*embed_tokens*", "lm_head*"]}

Learns = Callable[[str], bool]
_BLOCK = re.compile(r"\.(\d+)\.")


def learn(model: Any, learns: Learns) -> Any:
    """Makes the named weights trainable in fp32, and keeps the others in the type that the machine computes in.

    A tied matrix goes by the name of the embedding.

    Raises:
        UserError: no weight is left to learn.
    """
    from langadapt.errors import UserError
    from langadapt.loading import compute_dtype

    frozen = compute_dtype()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns(name))
        parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data.to(frozen)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            "the options of [stage.peft] leave no weight of the model to train; raise first and last, or freeze less"
        )
    return model


def layers(options: Mapping[str, Any], blocks: int) -> Learns:
    """The first and the last blocks, and the embedding with the head where they are wanted."""
    ends = {*range(options["first"]), *range(blocks - options["last"], blocks)}

    def learns(name: str) -> bool:
        block = _BLOCK.search(name)
        return int(block[1]) in ends if block else "norm" not in name and bool(options["embeddings"])

    return learns


def not_frozen(options: Mapping[str, Any]) -> Learns:
    """All weights but those that a pattern of `frozen` names."""
    return lambda name: not any(fnmatchcase(name, pattern) for pattern in options["frozen"])


def _too_many(shape: ModelShape, options: Mapping[str, Any]) -> Iterator[str]:
    """More blocks at the ends than there are."""
    first, last, blocks = options["first"], options["last"], shape.num_hidden_layers
    if min(first, last) < 0:
        yield f"peft.first = {first} and peft.last = {last} cannot be below 0; say how many blocks learn"
    elif first + last > blocks:
        yield f"peft.first + peft.last = {first + last}, and the model has {blocks} blocks; lower them, or use full"


def _learnt(shape: ModelShape, learns: Learns) -> dict[str, int]:
    return {name: size for name, size in shape.weights.items() if learns(name)}


def _blocks(names: Iterable[str]) -> int:
    return 1 + max((int(found[1]) for name in names if (found := _BLOCK.search(name))), default=-1)


STRATEGIES = (
    PeftStrategy(
        name="layers",
        description="The first and the last blocks learn, and the embeddings with the head; the rest is frozen.",
        source="Yamaguchi et al. 2024, arXiv 2406.11477",
        defaults=LAYERS,
        prepare=lambda model, options: learn(model, layers(options, _blocks(n for n, _ in model.named_parameters()))),
        trainable=lambda shape, options: sum(_learnt(shape, layers(options, shape.num_hidden_layers)).values()),
        reached=lambda shape, options: _learnt(shape, layers(options, shape.num_hidden_layers)),
        learning=lambda shape, options: with_biases(_learnt(shape, layers(options, shape.num_hidden_layers))),
        misfits=_too_many,
        weight_bits=lambda options: 16,
        trains_base=True,
    ),
    PeftStrategy(
        name="freeze",
        description="All weights learn but those whose names match a pattern of `frozen`.",
        source="",
        defaults=FREEZE,
        prepare=lambda model, options: learn(model, not_frozen(options)),
        trainable=lambda shape, options: sum(_learnt(shape, not_frozen(options)).values()),
        reached=lambda shape, options: _learnt(shape, not_frozen(options)),
        learning=lambda shape, options: with_biases(_learnt(shape, not_frozen(options))),
        weight_bits=lambda options: 16,
        trains_base=True,
    ),
)
