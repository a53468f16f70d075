"""What GGUF files say of a model's architecture. Reads configurations and nothing else, so that plans can ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How llama.cpp computes a model type of transformers.

    Attributes:
        name: the architecture in the file.
        interleaved: whether rotations pair neighbouring rows of the query and key weights, where transformers pairs
            a row with that of the other half; the rows are then written in the other order.
    """

    name: str
    interleaved: bool


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "llama": Architecture(name="llama", interleaved=True),
        "mistral": Architecture(name="llama", interleaved=True),
        "qwen2": Architecture(name="qwen2", interleaved=False),
        "qwen3": Architecture(name="qwen3", interleaved=False),
    }
)
ROPES = ("default", "linear", "llama3")  # ways to stretch rotations that the file can say exactly
CONVERTER = "export safetensors and convert that folder with llama.cpp's convert_hf_to_gguf.py"


def problems(config: Mapping[str, Any]) -> Iterable[str]:
    """Why a model of this configuration (the keys of `config.json`) cannot be written as GGUF, and what to do."""
    kind = config.get("model_type", "")
    if kind not in ARCHITECTURES:
        yield (
            f'a model of the architecture "{kind}" is not written as GGUF here ({", ".join(ARCHITECTURES)} are); {CONVERTER}'
        )
        return
    if (rope := rope_of(config))["rope_type"] not in ROPES:
        yield f'GGUF: rope_type "{rope["rope_type"]}" is not written here ({", ".join(ROPES)} are); {CONVERTER}'
    if rope.get("partial_rotary_factor", 1) != 1:
        yield f"GGUF: a rotation of a part of each head is not written here; {CONVERTER}"
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            yield f"GGUF: weights with {key} are not written here; {CONVERTER}"
    if config.get("hidden_act", "silu") != "silu":
        yield f'GGUF: hidden_act "{config["hidden_act"]}" is not what llama.cpp computes for {kind}; export safetensors'
    if config.get("use_sliding_window"):
        yield f"GGUF: llama.cpp computes {kind} without its sliding window (use_sliding_window); export safetensors"


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the rotations, from `rope_parameters` or from the two keys of older configurations."""
    given = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = given.get("rope_type") or given.get("type") or "default"
    return {"rope_theta": config.get("rope_theta"), "partial_rotary_factor": 1} | given | {"rope_type": kind}


def context_of(config: Mapping[str, Any]) -> int:
    """Tokens that the file promises: no more than the window of Mistral's first models, which llama.cpp leaves out."""
    longest = int(config["max_position_embeddings"])
    window = config.get("sliding_window") if config["model_type"] == "mistral" else None
    return min(longest, window or longest)
