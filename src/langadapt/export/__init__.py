"""Models in the formats that others run: safetensors, an adapter alone, GGUF with an Ollama Modelfile; and the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of models.

    Attributes:
        description: one sentence.
        quantisation: name of the type of GGUF's tensors; "" for what is no GGUF file.
        bytes: of a weight, for the plan; of quantised ones with the scales of their blocks.
    """

    description: str
    quantisation: str = ""
    bytes: float = 2.0


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "safetensors": Format(description="Plain merged weights, as transformers loads them."),
        "adapter": Format(description="The adapter alone, as PEFT loads it beside its base.", bytes=0.0),
        "gguf-f16": Format(description="llama.cpp and Ollama, 16 bits.", quantisation="F16"),
        "gguf-q8_0": Format(description="llama.cpp and Ollama, 8.5 bits a weight.", quantisation="Q8_0", bytes=34 / 32),
        "gguf-q4_0": Format(description="llama.cpp and Ollama, 4.5 bits a weight.", quantisation="Q4_0", bytes=18 / 32),
    }
)
