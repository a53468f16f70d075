"""Experiments that ship with the plugin: the questions that LLaMAntino's authors leave open, each as a file."""

from __future__ import annotations

from pathlib import Path

from langadapt import ExperimentSource

HERE = Path(__file__).parent

DESCRIPTIONS = {
    "translation": "The same chat tuning on English originals, on their translation, and on an unchecked one.",
    "quantisation": "The same adaptation in NF4, FP4, 8 bits and 16 bits: bits per byte, KL, memory, speed.",
    "held-out-tasks": "Instruction tuning on EVALITA 2023 without one task, which is then asked all the same.",
    "scale": "The same adaptation of Llama 2 with 7, 13 and 70 billion weights.",
    "bias": "Stereotypes before and after adaptation, with and without English text beside the Italian.",
    "vocabulary": "The same text with Llama 2's own vocabulary, and with 4 000 Italian tokens more.",
    "italian-models": "Other Italian models, and what they were made from, under the same evaluations.",
}

EXPERIMENTS = tuple(
    ExperimentSource(name=f"italian/{name}", path=HERE / f"{name}.toml", description=description)
    for name, description in DESCRIPTIONS.items()
)
