"""The tokenizer and the embedding matrices of a model, without the rest of its weights where that is possible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from langadapt import artifacts, named_models
from langadapt.artifacts import ModelRef
from langadapt.errors import UserError
from langadapt.loading import load_model, load_tokenizer
from langadapt.tokenizer.tokens import read


@dataclass(frozen=True)
class DonorModel:
    """A tokenizer and two matrices, (rows, hidden_size) each; one and the same where they are tied."""

    tokenizer: Tokenizer
    input: Tensor
    output: Tensor


def open_donor(reference: str, revision: str) -> DonorModel:
    """Reads a donor; one on the hub is fetched.

    Raises:
        UserError: there is no such model, or its tokens cannot be compared with others by their bytes.
    """
    try:
        named = named_models.find(reference, revision=revision)
        tokenizer = getattr(load_tokenizer(named.tokenizer), "backend_tokenizer", None)
        if not _comparable(tokenizer):
            raise UserError(
                "it does not fit: its tokenizer is neither BPE on bytes nor SentencePiece's BPE with byte fallback, so its "
                "tokens cannot be compared with the base model's; name another donor"
            )
        return DonorModel(tokenizer, *(_read(named.model) or _loaded(named.model)))
    except UserError as error:
        raise UserError(f'embeddings.donor "{reference}": {error}') from None


def _comparable(tokenizer: Any) -> TypeGuard[Tokenizer]:
    if not isinstance(tokenizer, Tokenizer):
        return False
    try:
        read(tokenizer)
    except UserError:
        return False
    return True


def _read(model: ModelRef) -> tuple[Tensor, Tensor] | None:
    """The matrices from a folder of safetensors; None for all else, and for files that name them in another way."""
    folder = Path(model.weights)
    if model.adapters or not folder.is_dir():
        return None
    try:
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(folder)))
    except (OSError, ValueError, KeyError):
        return None  # whatever is wrong, loading the whole model says it
    names = {id(weight): name for name, weight in empty.named_parameters()}  # a tied matrix has the input's name
    matrices = (empty.get_input_embeddings().weight, empty.get_output_embeddings().weight)
    of_input, of_output = (_tensor(folder, names[id(matrix)]) for matrix in matrices)
    return None if of_input is None or of_output is None else (of_input, of_output)


def _tensor(folder: Path, name: str) -> Tensor | None:
    """A tensor by name from the files of a model."""
    index: dict[str, Any] = artifacts.read_json(folder / "model.safetensors.index.json") or {}
    file = folder / index.get("weight_map", {}).get(name, "model.safetensors")
    try:
        with safe_open(file, framework="pt") as tensors:
            tensor: Tensor = tensors.get_tensor(name)
            return tensor
    except (OSError, SafetensorError):
        return None


def _loaded(model: ModelRef) -> tuple[Tensor, Tensor]:
    loaded = load_model(model, to=torch.device("cpu"))
    return loaded.get_input_embeddings().weight.detach(), loaded.get_output_embeddings().weight.detach()
