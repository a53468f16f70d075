"""PEFT strategies of the core: which weights learn, and how. Each module has the same order: defaults, prepare, sizes."""

from langadapt.peft import full, lora, qlora

STRATEGIES = (lora.STRATEGY, qlora.STRATEGY, full.STRATEGY)
