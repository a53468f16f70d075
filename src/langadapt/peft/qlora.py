"""`qlora`: LoRA beside base weights that are quantised to 4 bits (Dettmers et al., arXiv 2305.14314), by bitsandbytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langadapt.peft import lora
from langadapt.records import PeftStrategy

# Names of transformers' BitsAndBytesConfig.
QUANTISATION: dict[str, Any] = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False}


def prepare(model: Any, options: Mapping[str, Any]) -> Any:
    """Quantises the linear layers of the blocks, then adds LoRA; embeddings, norms and head stay as they are."""
    settings = {key: options[key] for key in QUANTISATION}
    quantise(model, **settings)
    return lora.prepare(model, {key: value for key, value in options.items() if key not in QUANTISATION})


def quantise(model: Any, *, bnb_4bit_quant_type: str, bnb_4bit_use_double_quant: bool) -> None:
    """Replaces every linear layer but the head by a 4-bit one, in place and layer by layer, on the model's device.

    Quantising in memory serves every starting point alike: a hub model, a GGUF file, merged earlier stages.
    """
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    head = model.get_output_embeddings()
    for name, layer in list(model.named_modules()):
        if type(layer) is not torch.nn.Linear or layer is head:
            continue
        weight = layer.weight.data
        new = Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=weight.dtype,
            compress_statistics=bnb_4bit_use_double_quant,
            quant_type=bnb_4bit_quant_type,
            device="meta",
        )
        new.weight = Params4bit(
            weight, requires_grad=False, quant_type=bnb_4bit_quant_type, compress_statistics=bnb_4bit_use_double_quant
        )
        if layer.bias is not None:
            new.bias = layer.bias
        new.weight = new.weight.to(weight.device)  # moving is what quantises
        # An evaluation would repack the weights into a layout without gradients, and training after it would stand
        # still in silence; see docs/footguns.md.
        new.support_avx512bf16_for_cpu = False
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, new)
    model.is_loaded_in_4bit = True  # what peft looks at when it chooses its layer class


def weight_bits(options: Mapping[str, Any]) -> float:
    """Four bits and an fp32 scale for each block of 64; the scales take 8 bits and a second scale when quantised too."""
    return 4 + (8 / 64 + 32 / (64 * 256) if options["bnb_4bit_use_double_quant"] else 32 / 64)


STRATEGY = PeftStrategy(
    name="qlora",
    description="Low-rank updates beside base weights quantised to 4 bits.",
    source="Dettmers et al. 2023, arXiv 2305.14314",
    upstream=lora.UPSTREAM,
    defaults=lora.DEFAULTS | QUANTISATION,
    owns=lora.OWNS,
    choices={"bnb_4bit_quant_type": ("nf4", "fp4")},
    prepare=prepare,
    trainable=lora.trainable,
    weight_bits=weight_bits,
)
