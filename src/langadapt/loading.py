"""Loads tokenizers and models of any reference as plain transformers objects, offline when they are on this machine."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # before transformers: its progress bars would break ours

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from langadapt.artifacts import ModelRef
from langadapt.errors import RunError, UserError
from langadapt.machine import this_machine
from langadapt.rounding import stochastic_round
from langadapt.vocabulary import put_in

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
# Deprecations inside the libraries are nothing that a user of ours can act on.
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft|bitsandbytes|accelerate")


def device() -> torch.device:
    """Where models run."""
    return torch.device("cuda" if this_machine().cuda and torch.cuda.is_available() else "cpu")


def compute_dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else fp32."""
    return torch.bfloat16 if this_machine().bf16 else torch.float32


def load_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a model folder, a hub model or a GGUF file.

    A pad token is set when it has none (the end token, which bears no loss there).

    Raises:
        UserError: there is no tokenizer.
    """
    path = Path(folder)
    source = (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (str(folder), {})
    try:
        tokenizer = AutoTokenizer.from_pretrained(source[0], **source[1])
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: no tokenizer can be loaded ({str(error).splitlines()[0]}); fetch it again"
        ) from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(ref: ModelRef, dtype: torch.dtype | None = None, *, to: torch.device | None = None) -> Any:
    """Weights in memory, adapters merged into them and vocabularies put in, in order.

    Args:
        ref: which.
        dtype: of the weights; not given: `compute_dtype()`.
        to: where they are put; not given: `device()`.

    Raises:
        UserError: the folder holds no model that transformers can load.
        RunError: an adapter cannot be applied to the weights.
    """
    model = load_weights(ref.weights, dtype or compute_dtype())
    for folder in ref.adapters:
        model = put_in(model, folder) if folder in ref.vocabularies else merge_adapter(model, folder)
    model.config.use_cache = False
    return model.to(to or device())


def load_weights(folder: str | Path, dtype: torch.dtype) -> Any:
    """A causal language model from a folder of safetensors, or from a GGUF file."""
    if Path(folder).suffix == ".gguf":
        return load_gguf(Path(folder)).to(dtype)
    try:
        return AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: no model can be loaded ({str(error).splitlines()[0]}); fetch it again") from None


def merge_adapter(model: Any, folder: Path) -> Any:
    """The plain model with an adapter's update added to its weights.

    Each layer is merged in fp32 and rounded stochastically to the model's own type (see `langadapt.rounding`).

    Raises:
        RunError: the adapter does not fit the weights.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    generator = torch.Generator().manual_seed(0)
    try:
        adapted = PeftModel.from_pretrained(model, str(folder))
        for layer in adapted.modules():
            if isinstance(layer, BaseTunerLayer):
                weight = layer.get_base_layer().weight
                dtype = weight.dtype
                weight.data = weight.data.float()
                layer.merge(safe_merge=True)
                weight.data = stochastic_round(weight.data, dtype, generator)
        return adapted.unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise RunError(
            f"adapter {folder} cannot be merged ({str(error).splitlines()[0]}); look whether it was trained on this base"
        ) from None


def load_gguf(file: Path) -> Any:
    """A causal language model from a GGUF file, in bfloat16.

    transformers keeps the GGUF's quantisation in the loaded configuration and then refuses to save the model, so a new
    model of the same shape takes over the weights.

    Raises:
        UserError: transformers cannot read the file.
    """
    from transformers import GgufConfig

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        packed = AutoModelForCausalLM.from_pretrained(
            **source, quantization_config=GgufConfig(gguf_file=file.name, dequantize=True), dtype=torch.bfloat16
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{file}: cannot be read as a GGUF model ({str(error).splitlines()[0]}); fetch it again, or take safetensors"
        ) from None
    settings = {k: v for k, v in packed.config.to_dict().items() if k != "quantization_config"}
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(packed.state_dict())
    return model


def convert_gguf(file: Path, folder: Path) -> None:
    """Writes a GGUF file as a folder of safetensors in bfloat16, with its tokenizer.

    Raises:
        UserError: transformers cannot read the file.
    """
    model, tokenizer = load_gguf(file), AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
