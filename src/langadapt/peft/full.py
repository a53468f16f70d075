"""`full`: every weight learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langadapt.models import ModelShape
from langadapt.records import PeftStrategy


def prepare(model: Any, options: Mapping[str, Any]) -> Any:
    """Makes every parameter trainable, in fp32: at these learning rates a 16-bit weight would round its updates away."""
    return model.float().requires_grad_(True)


def with_biases(weights: Iterable[str]) -> list[str]:
    """Names of weights, and of biases beside them, which some models have."""
    return [name for weight in weights for name in (weight, weight.removesuffix("weight") + "bias")]


def trainable(shape: ModelShape, options: Mapping[str, Any]) -> int:
    """All parameters."""
    return shape.parameters


STRATEGY = PeftStrategy(
    name="full",
    description="Every weight learns, kept in fp32 and computed in bf16 where the hardware has it.",
    source="mixed precision training, Micikevicius et al. 2018, arXiv 1710.03740",
    prepare=prepare,
    trainable=trainable,
    weight_bits=lambda options: 32,
    reached=lambda shape, options: shape.weights,
    learning=lambda shape, options: with_biases(shape.weights),
    trains_base=True,
)
