"""`lora`: low-rank updates beside frozen 16-bit weights (Hu et al., arXiv 2106.09685), as the library peft has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langadapt.models import ModelShape
from langadapt.records import PeftStrategy

UPSTREAM = "peft.tuners.lora.config:LoraConfig"
DEFAULTS: dict[str, Any] = {
    "r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none", "target_modules": "all-linear", "use_rslora": False,
}  # fmt: skip
MOVING = ("pissa", "olora", "corda")  # values of init_lora_weights that take a part of the base into the adapter
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
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    except ValueError as error:
        if "target modules" in str(error).lower() or "target_modules" in str(error):
            raise UserError(
                f"peft.target_modules = {options.get('target_modules')!r} matches no layer of the model; "
                'use "all-linear" or names such as "q_proj"'
            ) from None
        raise UserError(f"peft refuses the options of [stage.peft]: {error}") from None
    if str(options.get("init_lora_weights")).startswith(MOVING):
        _keep_start(adapted)
    return adapted


def _keep_start(adapted: Any) -> None:
    """Sets a fresh adapter aside in a folder that goes with the model."""
    adapted.langadapt_start = TemporaryDirectory(prefix="langadapt-")
    config = adapted.peft_config["default"]
    init, config.init_lora_weights = config.init_lora_weights, True  # as a plain adapter, which loads without a start
    adapted.save_pretrained(adapted.langadapt_start.name, save_embedding_layers=False)
    config.init_lora_weights = init


def save(model: Any, options: Mapping[str, Any], folder: Path) -> None:
    """Writes the adapter for the base as it was. Where the start took a part of the weights into the adapter, that is
    the difference to the start, a plain LoRA of twice the rank (Meng et al. 2024, arXiv 2404.02948, appendix C).
    """
    # "auto" would look the base model up on the hub; the vocabulary is unchanged, so no embedding needs saving.
    start = getattr(model, "langadapt_start", None)
    more = {"path_initial_model_for_weight_conversion": start.name} if start else {}
    model.save_pretrained(folder, save_embedding_layers=False, **more)


def trainable(shape: ModelShape, options: Mapping[str, Any]) -> int:
    """r · (inputs + outputs) for every linear layer that is adapted; under DoRA one length more for each output."""
    targets = options["target_modules"]
    chosen = [size for name, size in shape.linears.items() if _targeted(name, targets)]
    lengths = sum(o for _, o in chosen) if options.get("use_dora") else 0
    return shape.num_hidden_layers * (int(options["r"]) * sum(i + o for i, o in chosen) + lengths)


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
    save=save,
)
