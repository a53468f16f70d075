"""`lora`: low-rank updates beside frozen 16-bit weights (Hu et al., arXiv 2106.09685), as the library peft has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from langadapt.errors import UserError, written
from langadapt.models import ModelShape
from langadapt.records import PeftStrategy

UPSTREAM = "peft.tuners.lora.config:LoraConfig"
DEFAULTS: dict[str, Any] = {
    "r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none", "target_modules": "all-linear", "use_rslora": False,
    "new_tokens": True,
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

    Rows of new tokens learn beside them, in both matrices, and no other row does. `trainable_token_indices` of PEFT's
    own would leave the head of a model with two matrices as it is, where it is a list.

    Raises:
        UserError: `target_modules` matches no layer.
    """
    from peft import LoraConfig, get_peft_model

    targets = options.get("target_modules")
    matrices = {"embed_tokens", "lm_head"} & set(targets if isinstance(targets, list) else ())
    if matrices and model.config.tie_word_embeddings:
        raise UserError(
            f"peft.target_modules names {', '.join(sorted(matrices))}, and this model's embedding and head are one matrix: "
            "merged, the adapter would give another model; leave them out"
        )
    new = options.get("new_tokens")
    given = {key: value for key, value in options.items() if key != "new_tokens"}
    tokens = given.get("trainable_token_indices") or new or None
    if isinstance(tokens, list):
        apart = [name for name in matrices_of(model) if not _learns_otherwise(name, options)]
        given["trainable_token_indices"] = dict.fromkeys(apart, tokens) or None
    try:
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **given))
    except ValueError as error:
        if "target modules" in str(error).lower() or "target_modules" in str(error):
            raise UserError(
                f"peft.target_modules = {written(options.get('target_modules'))} matches no layer of the model; "
                'use "all-linear" or names such as "q_proj"'
            ) from None
        raise UserError(f"peft refuses the options of [stage.peft] ({error}); change them") from None
    if str(options.get("init_lora_weights")).startswith(MOVING):
        _keep_start(adapted)
    return adapted


def _learns_otherwise(holder: str, options: Mapping[str, Any]) -> bool:
    """Whether a matrix of tokens is trained whole, or has an adapter, so that PEFT cannot train rows of it apart."""
    whole, targets = options.get("modules_to_save") or (), options.get("target_modules")
    return any(
        holder.rpartition(".")[2] == name.rpartition(".")[2]
        for name in (*whole, *(targets if isinstance(targets, list) else ()))
    )


def matrices_of(model: Any) -> list[str]:
    """Names of the modules that hold rows of tokens: the embedding, and the head where it has a matrix of its own."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    holders = [embedding] if head.weight is embedding.weight else [embedding, head]
    return [name.rpartition(".")[2] for name, module in model.named_modules() if any(module is h for h in holders)]


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
    # "auto" would look the base model up on the hub; rows that learn are a part of the adapter, the others are the base's.
    start = getattr(model, "langadapt_start", None)
    more = {"path_initial_model_for_weight_conversion": start.name} if start else {}
    model.save_pretrained(folder, save_embedding_layers=False, **more)
    if start:
        _add_rows(model, folder)


def _add_rows(model: Any, folder: Path) -> None:
    """Puts rows of tokens that learn into a saved adapter; PEFT leaves them out where it takes a difference."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file, save_file

    learnt = get_peft_model_state_dict(model, save_embedding_layers=False)
    if rows := {name: value.contiguous() for name, value in learnt.items() if "trainable_tokens_delta" in name}:
        file = folder / "adapter_model.safetensors"
        save_file(load_file(file) | rows, file, metadata={"format": "pt"})


def trainable(shape: ModelShape, options: Mapping[str, Any]) -> int:
    """r · (inputs + outputs) for every layer that is adapted; under DoRA one length more for each output."""
    rank, lengths = int(options["r"]), int(bool(options.get("use_dora")))
    sizes = _adapted(shape, options["target_modules"]).values()
    return sum(rank * (inputs + outputs) + lengths * outputs for inputs, outputs in sizes) + new_rows(shape, options)


def new_rows(shape: ModelShape, options: Mapping[str, Any]) -> int:
    """Weights of rows of tokens that learn: of those that PEFT's own option names, or else of new ones."""
    match options.get("trainable_token_indices"):
        case dict(by_matrix):
            return sum(map(len, by_matrix.values())) * shape.hidden_size
        case list(named):
            tokens = len(named)
        case _:
            tokens = shape.new_tokens if options.get("new_tokens") else 0
    apart = [holder for holder in holders(shape) if not _learns_otherwise(holder, options)]
    return len(apart) * tokens * shape.hidden_size


def rows_of(shape: ModelShape, tokens: int) -> int:
    """Weights of the rows of so many tokens."""
    return len(holders(shape)) * tokens * shape.hidden_size


def holders(shape: ModelShape) -> list[str]:
    """Paths of the modules that hold rows of tokens."""
    return ["model.embed_tokens", *([] if shape.tie_word_embeddings else ["lm_head"])]


def reached(shape: ModelShape, options: Mapping[str, Any]) -> list[str]:
    """Names of the weights that an adapter is beside."""
    return [f"{layer}.weight" for layer in _adapted(shape, options["target_modules"])]


# Options of PEFT's that make other weights learn than `target_modules` names.
OTHERS = (
    "bias", "exclude_modules", "layers_pattern", "layers_to_transform", "modules_to_save", "target_parameters",
    "trainable_token_indices",
)  # fmt: skip


def learning(shape: ModelShape, options: Mapping[str, Any]) -> list[str] | None:
    """Names of the matrices, and of the lengths that DoRA learns."""
    if any(options.get(key) not in (None, "none") for key in OTHERS):
        return None
    kinds = ["lora_A", "lora_B", *(["lora_magnitude_vector"] if options.get("use_dora") else [])]
    names = []
    for layer in _adapted(shape, options["target_modules"]):
        embedding = layer.endswith("embed_tokens")
        for kind in ("lora_embedding_A", "lora_embedding_B") if embedding else kinds:
            names.append(f"base_model.model.{layer}.{kind}.default{'' if embedding else '.weight'}")
    if new_rows(shape, options):
        rows = "token_adapter.trainable_tokens_delta.default"
        apart = (holder for holder in holders(shape) if not _learns_otherwise(holder, options))
        names += [f"base_model.model.{holder}.{rows}" for holder in apart]
    return names


def misfits(shape: ModelShape, options: Mapping[str, Any]) -> Iterator[str]:
    """Targets that name no layer, and a rank that no layer has."""
    targets, rank = options["target_modules"], int(options["r"])
    if not shape.named:
        return
    adapted = _adapted(shape, targets)
    if not adapted:
        yield (
            f'peft.target_modules = {written(targets)} matches no layer of the model; use "all-linear", or names out of '
            f"{', '.join(shape.linears)}"
        )
    elif rank > (most := max(min(size) for size in adapted.values())):
        yield f"peft.r = {rank} is more than the rank of any layer that it adapts; {most} is the most"


def _adapted(shape: ModelShape, targets: Any) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of each layer that `target_modules` names, by its path; "all-linear" leaves the head out."""
    head = {} if targets == "all-linear" else {"lm_head": (shape.hidden_size, shape.vocab_size)}
    embedding = {} if targets == "all-linear" else {"model.embed_tokens": (shape.vocab_size, shape.hidden_size)}
    return {layer: size for layer, size in (embedding | shape.layers | head).items() if _targeted(layer, targets)}


def _targeted(layer: str, targets: Any) -> bool:
    """As PEFT reads `target_modules`: a list of ends of a layer's path, or a regular expression for the whole of it."""
    if targets == "all-linear":
        return True
    if isinstance(targets, list):
        return any(layer == target or layer.endswith(f".{target}") for target in targets)
    return bool(re.fullmatch(str(targets), layer))


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
    reached=reached,
    learning=learning,
    misfits=misfits,
    save=save,
)
