"""Writes a folder of safetensors as one GGUF file, tensor by tensor: no more than the largest one is in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from safetensors import safe_open

from langadapt import artifacts
from langadapt.errors import UserError
from langadapt.export.architecture import ARCHITECTURES, Architecture, context_of, rope_of
from langadapt.export.vocabulary import Vocabulary

_F16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """A tensor of the file: its name there, in the safetensors, its shape, and the type that it is written in."""

    name: str
    source: str
    shape: tuple[int, ...]
    type: Type

    @property
    def size(self) -> int:
        """Bytes."""
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return int(math.prod(self.shape) // block * size)


def write(
    file: Path,
    folder: Path,
    config: Any,
    vocabulary: Vocabulary,
    *,
    quantisation: str,
    about: Mapping[str, str],
    template: str = "",
    end_of_turn: int | None = None,
) -> None:
    """Writes the file.

    Args:
        file: where to.
        folder: holds the model's safetensors.
        config: its configuration, an object of transformers.
        vocabulary: its tokenizer.
        quantisation: type of the matrices: `F16`, `Q8_0` or `Q4_0`; vectors are written in 32 bits.
        about: `name`, and `license` where it is known.
        template: chat template in Jinja; "" for none.
        end_of_turn: token that ends an answer, where that is another one than EOS.

    Raises:
        UserError: a weight has no place in the architecture, or is too large for 16 bits.
    """
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(file, architecture.name)
    try:
        _describe(writer, config, about, quantisation)
        _add_vocabulary(writer, vocabulary, template, end_of_turn)
        with _Weights(folder) as weights:
            tensors = list(_tensors(weights, config, architecture, Type[quantisation]))
            factors = _rope_factors(config)
            if factors is not None:
                writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
            for tensor in tensors:
                kind = np.dtype(
                    np.float32
                )  # of the values before they are quantised, so that the shape is read as theirs
                writer.add_tensor_info(tensor.name, tensor.shape, kind, tensor.size, raw_dtype=tensor.type)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            if factors is not None:
                writer.write_tensor_data(factors)
            for tensor in tensors:
                writer.write_tensor_data(_values(weights, tensor, config, architecture))
    finally:
        writer.close()


class _Weights(ExitStack):
    """The tensors of a folder of safetensors by name, read one at a time."""

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = folder

    def __enter__(self) -> _Weights:
        index = artifacts.read_json(self._folder / "model.safetensors.index.json")
        files = sorted(set(index["weight_map"].values())) if index else ["model.safetensors"]
        opened = [self.enter_context(safe_open(self._folder / name, framework="pt")) for name in files]
        self._files = {name: file for file in opened for name in file.keys()}  # noqa: SIM118, it is no dictionary
        return self

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[name].get_slice(name).get_shape())

    def __getitem__(self, name: str) -> torch.Tensor:
        value: torch.Tensor = self._files[name].get_tensor(name)
        return value


def _tensors(weights: _Weights, config: Any, architecture: Architecture, wanted: Type) -> Iterator[_Tensor]:
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture.name], config.num_hidden_layers)
    for source in weights:
        if config.tie_word_embeddings and source == "lm_head.weight":
            continue  # the same matrix once more
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(
                f"GGUF: llama.cpp's {architecture.name} has no place for the weight {source}; export safetensors"
            )
        shape = weights.shape(source)
        yield _Tensor(name=name, source=source, shape=shape, type=_type(name, shape, config, wanted))


def _type(name: str, shape: tuple[int, ...], config: Any, wanted: Type) -> Type:
    """In four bits the head, by which every token is chosen, keeps eight."""
    if len(shape) == 1:
        return Type.F32
    head = "token_embd.weight" if config.tie_word_embeddings else "output.weight"
    if name == head and wanted == Type.Q4_0:
        wanted = Type.Q8_0
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return Type.F16 if shape[-1] % block else wanted


def _values(weights: _Weights, tensor: _Tensor, config: Any, architecture: Architecture) -> NDArray[Any]:
    values = weights[tensor.source].float().numpy()
    if tensor.type != Type.F32 and (largest := float(np.abs(values).max())) > _F16_MAX:
        raise UserError(
            f"GGUF: {tensor.source} has a weight of {largest:g}, which 16 bits cannot hold; export safetensors"
        )
    if architecture.interleaved and ".attn_q." in tensor.name:
        values = _interleaved(values, config.num_attention_heads)
    elif architecture.interleaved and ".attn_k." in tensor.name:
        values = _interleaved(values, config.num_key_value_heads)
    quantised: NDArray[Any] = gguf.quantize(values, tensor.type)
    return quantised


def _interleaved(values: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows 0, 1, … of each head in the order 0, n/2, 1, n/2 + 1, …, which puts those that rotate together side by side."""
    halves = values.reshape(heads, 2, len(values) // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def _describe(writer: gguf.GGUFWriter, config: Any, about: Mapping[str, str], quantisation: str) -> None:
    settings = config.to_dict()
    writer.add_type("model")
    writer.add_name(about["name"])
    if "license" in about:
        writer.add_license(about["license"])
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{quantisation}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(context_of(settings))
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    size = _head_size(config)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    rope = rope_of(settings)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _rope_factors(config: Any) -> NDArray[Any] | None:
    """What llama.cpp divides each rotation's frequency by, for Llama 3.1's way to stretch them; None for other ways."""
    if rope_of(config.to_dict())["rope_type"] != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    size = _head_size(config)
    plain = config.rope_parameters["rope_theta"] ** -(torch.arange(0, size, 2).double() / size)
    factors: NDArray[Any] = (plain / scaled.double()).float().numpy()
    return factors


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary, template: str, end_of_turn: int | None) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unknown": writer.add_unk_token_id,
        "padding": writer.add_pad_token_id,
    }
    for name, id in vocabulary.special.items():
        add[name](id)
    if end_of_turn is not None:
        writer.add_eot_token_id(end_of_turn)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    writer.add_add_space_prefix(vocabulary.space_prefix)
    if template:
        writer.add_chat_template(template)
