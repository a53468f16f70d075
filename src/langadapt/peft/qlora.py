"""`qlora` and `qdora`: LoRA or DoRA beside base weights that are quantised to 4 or 8 bits, by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langadapt.peft import lora
from langadapt.peft.lora_variants import variant
from langadapt.records import PeftStrategy

if TYPE_CHECKING:
    from langadapt.machine import Machine

# Names of transformers' BitsAndBytesConfig.
FOUR_BITS: dict[str, Any] = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False}
EIGHT_BITS: dict[str, Any] = {"load_in_8bit": False, "llm_int8_threshold": 0.0}
QUANTISATION = FOUR_BITS | EIGHT_BITS


def prepare(model: Any, options: Mapping[str, Any]) -> Any:
    """Quantises the linear layers of the blocks, then adds LoRA; embeddings, norms and head stay as they are."""
    freeze(model, options)
    return lora.prepare(model, {key: value for key, value in options.items() if key not in QUANTISATION})


def freeze(model: Any, options: Mapping[str, Any]) -> None:
    """Replaces every linear layer but the head by a quantised one, in place, and puts the model on the machine's device.

    Quantising in memory serves every starting point alike: a hub model, a GGUF file, merged earlier stages. It goes layer
    by layer, so that a GPU never holds more than the quantised model and one layer.
    """
    if options["load_in_8bit"]:
        _to_8_bits(model, options["llm_int8_threshold"])
    else:
        quantise(model, **{key: options[key] for key in FOUR_BITS})


def quantise(model: Any, *, bnb_4bit_quant_type: str, bnb_4bit_use_double_quant: bool) -> None:
    """To 4 bits, in blocks of 64 weights with a scale each (Dettmers et al. 2023, arXiv 2305.14314)."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    from langadapt import loading

    for parent, child, layer in linears(model):
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
        new.weight = new.weight.to(loading.device())  # moving is what quantises
        # An evaluation would repack the weights into a layout without gradients, and training after it would stand
        # still in silence; see docs/footguns.md.
        new.support_avx512bf16_for_cpu = False
        setattr(parent, child, new)
        layer.weight = None  # the list of layers would keep it until the last one is done
    model.to(loading.device())
    model.is_loaded_in_4bit = True  # what peft looks at when it chooses its layer class


def _to_8_bits(model: Any, threshold: float) -> None:
    """To 8 bits, with a scale for each output (LLM.int8, Dettmers et al. 2022, arXiv 2208.07339).

    A `threshold` above 0 keeps columns with such large inputs in 16 bits, which is slower; theirs is 6.0.
    """
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    from langadapt import loading

    for parent, child, layer in linears(model):
        weight = layer.weight.data
        new = Linear8bitLt(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            has_fp16_weights=False,
            threshold=threshold,
            device="meta",
        )
        new.weight = Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        if layer.bias is not None:
            new.bias = layer.bias
        setattr(parent, child, new.to(loading.device()))  # moving is what quantises
        layer.weight = None
    model.to(loading.device())
    model.is_loaded_in_8bit = True


def lacks(machine: Machine, options: Mapping[str, Any]) -> Iterator[str]:
    """PEFT's DoRA loses the scales of 8-bit weights on a processor."""
    if options["load_in_8bit"] and options.get("use_dora") and not machine.cuda:
        yield 'peft.load_in_8bit: DoRA beside 8-bit weights needs a GPU; leave it out for 4 bits, or peft.method = "qlora"'


def linears(model: Any) -> list[tuple[Any, str, Any]]:
    """Every linear layer but the head, with the module that holds it and its name there."""
    import torch

    head, found = model.get_output_embeddings(), []
    for name, layer in model.named_modules():
        if type(layer) is torch.nn.Linear and layer is not head:
            parent, _, child = name.rpartition(".")
            found.append((model.get_submodule(parent), child, layer))
    return found


def weight_bits(options: Mapping[str, Any]) -> float:
    """Four bits and an fp32 scale for each block of 64; the scales take 8 bits and a second scale when quantised too.
    In 8 bits the scales are for whole rows and hardly count.
    """
    if options["load_in_8bit"]:
        return 8
    return 4 + (8 / 64 + 32 / (64 * 256) if options["bnb_4bit_use_double_quant"] else 32 / 64)


STRATEGY = PeftStrategy(
    name="qlora",
    description="Low-rank updates beside base weights quantised to 4 bits, or to 8.",
    source="Dettmers et al. 2023, arXiv 2305.14314",
    upstream=lora.UPSTREAM,
    defaults=lora.DEFAULTS | QUANTISATION,
    owns=lora.OWNS,
    choices={"bnb_4bit_quant_type": ("nf4", "fp4")},
    prepare=prepare,
    trainable=lora.trainable,
    weight_bits=weight_bits,
    reached=lora.reached,
    learning=lora.learning,
    misfits=lora.misfits,
    lacks=lacks,
    freeze=freeze,
    save=lora.save,
)

DORA = variant(
    STRATEGY,
    "qdora",
    "DoRA beside base weights quantised to 4 bits, or to 8.",
    "Liu et al. 2024, arXiv 2402.09353; Dettmers et al. 2023, arXiv 2305.14314",
    use_dora=True,
)
DORA = replace(DORA, defaults={**DORA.defaults, "r": 32, "lora_alpha": 64, "lora_dropout": 0.05})
