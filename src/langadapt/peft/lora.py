"""`lora`: low-rank updates beside frozen 16-bit weights (Hu et al., arXiv 2106.09685), as the library peft has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from langadapt.models import ModelShape
from langadapt.records import PeftStrategy

UPSTREAM = "peft.tuners.lora.config:LoraConfig"
DEFAULTS: dict[str, Any] = {
    "r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none", "target_modules": "all-linear", "use_rslora": False,
}  # fmt: skip
OWNS = {
    "task_type": "it is always CAUSAL_LM",
    "peft_type": "it follows from the method",
    "inference_mode": "adapters are made to be trained",
    "base_model_name_or_path": "it follows from the stage that this one starts from",
}


def prepare(model: Any, options: Mapping[str, Any]) -> Any:
    """Freezes the model and adds trainable low-rank matrices to the linear layers that `target_modules` names.

    Raises:
        UserError: `target_modules` matches no layer.
    """
    from peft import LoraConfig, get_peft_model

    from langadapt.errors import UserError

    targets = options.get("target_modules")
    matrices = {"embed_tokens", "lm_head"} & set(targets if isinstance(targets, list) else ())
    if matrices and model.config.tie_word_embeddings:
        raise UserError(
            f"peft.target_modules names {', '.join(sorted(matrices))}, and this model's embedding and head are one matrix: "
            "merged, the adapter would give another model; leave them out"
        )
    try:
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    except ValueError as error:
        if "target modules" in str(error).lower() or "target_modules" in str(error):
            raise UserError(
                f"peft.target_modules = {options.get('target_modules')!r} matches no layer of the model; "
                'use "all-linear" or names such as "q_proj"'
            ) from None
        raise UserError(f"peft refuses the options of [stage.peft]: {error}") from None


def trainable(shape: ModelShape, options: Mapping[str, Any]) -> int:
    """r · (inputs + outputs) for every linear layer that is adapted."""
    targets = options["target_modules"]
    chosen = [size for name, size in shape.linears.items() if _targeted(name, targets)]
    return int(options["r"]) * shape.num_hidden_layers * sum(i + o for i, o in chosen)


def _targeted(name: str, targets: Any) -> bool:
    """As PEFT reads `target_modules`: a list of last names, or a regular expression for the whole path of a layer."""
    if targets == "all-linear" or isinstance(targets, list):
        return targets == "all-linear" or name in targets
    block = "mlp" if name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    return bool(re.fullmatch(str(targets), f"model.layers.0.{block}.{name}"))


STRATEGY = PeftStrategy(
    name="lora",
    description="Low-rank updates beside frozen 16-bit weights.",
    source="Hu et al. 2021, arXiv 2106.09685",
    upstream=UPSTREAM,
    defaults=DEFAULTS,
    owns=OWNS,
    prepare=prepare,
    trainable=trainable,
    weight_bits=lambda options: 16,
)
