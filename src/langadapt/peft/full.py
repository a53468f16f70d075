"""`full`: every weight learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langadapt.models import ModelShape
from langadapt.records import PeftStrategy


def prepare(model: Any, options: Mapping[str, Any]) -> Any:
    """Makes every parameter trainable, in fp32: at these learning rates a 16-bit weight would round its updates away."""
    return model.float().requires_grad_(True)


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
    trains_base=True,
)
