"""`rslora`, `dora`, `pissa` and `lora+`: LoRA with another scale, another shape, another start, or another pace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from langadapt.peft import lora
from langadapt.records import PeftStrategy

LORA_PLUS = {"loraplus_lr_ratio": 16.0}  # its name in peft.optimizers


def variant(base: PeftStrategy, name: str, description: str, source: str, **fixed: Any) -> PeftStrategy:
    """A strategy that is another one with some options fixed; a recipe that sets them too is told why it cannot."""

    def filled(function: Callable[[Any, Mapping[str, Any]], Any]) -> Callable[[Any, Mapping[str, Any]], Any]:
        return lambda model_or_shape, options: function(model_or_shape, {**options, **fixed})

    return replace(
        base,
        name=name,
        description=description,
        source=source,
        defaults={key: value for key, value in base.defaults.items() if key not in fixed},
        fixed={**base.fixed, **fixed},
        owns={**base.owns, **{key: f'it is what "{name}" is; use "{base.name}" to set it' for key in fixed}},
        prepare=filled(base.prepare),
        trainable=filled(base.trainable),
        reached=filled(base.reached) if base.reached else None,
        learning=filled(base.learning) if base.learning else None,
        misfits=filled(base.misfits) if base.misfits else None,
    )


RSLORA = variant(
    lora.STRATEGY,
    "rslora",
    "LoRA whose updates are scaled by lora_alpha / √r, so that high ranks learn as fast as low ones.",
    "Kalajdzievski 2023, arXiv 2312.03732",
    use_rslora=True,
)

DORA = variant(
    lora.STRATEGY,
    "dora",
    "LoRA on the direction of each weight column, with its length learnt apart.",
    "Liu et al. 2024, arXiv 2402.09353",
    use_dora=True,
)
DORA = replace(
    DORA, defaults={**DORA.defaults, "r": 32, "lora_alpha": 64, "lora_dropout": 0.05}
)  # their table for Llama


PISSA = variant(
    lora.STRATEGY,
    "pissa",
    "LoRA that starts from the principal singular vectors of each weight; saved as a plain adapter of rank 2 r.",
    "Meng et al. 2024, arXiv 2404.02948",
    init_lora_weights="pissa",
)

LORA_PLUS_STRATEGY = replace(
    lora.STRATEGY,
    name="lora+",
    description="LoRA whose matrices B learn faster than its matrices A, by loraplus_lr_ratio.",
    source="Hayou et al. 2024, arXiv 2402.12354",
    defaults=lora.DEFAULTS | LORA_PLUS,
    prepare=lambda model, options: lora.prepare(model, {k: v for k, v in options.items() if k not in LORA_PLUS}),
    rate=lambda name, options: float(options["loraplus_lr_ratio"]) if "lora_B" in name else 1.0,
)

STRATEGIES = (RSLORA, DORA, PISSA, LORA_PLUS_STRATEGY)
