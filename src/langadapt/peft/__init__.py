"""PEFT strategies of the core: which weights learn, and how. Each module has the same order: defaults, prepare, sizes."""

from langadapt.peft import full, lora, lora_variants, others, partial, qlora, ssu, trainable_tokens

STRATEGIES = (
    lora.STRATEGY,
    *lora_variants.STRATEGIES,
    qlora.STRATEGY,
    qlora.DORA,
    full.STRATEGY,
    *partial.STRATEGIES,
    ssu.STRATEGY,
    trainable_tokens.STRATEGY,
    *others.STRATEGIES,
)
