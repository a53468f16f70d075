"""The small models that a plugin's strategies are tried on; each is made once for a plugin."""

from __future__ import annotations

import atexit
import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from langadapt.testing import TEXTS, tiny_model
from langadapt.testing.conformance import Subject

# What tokenizers are trained on: long enough for more merges than the small vocabulary holds.
PROSE = (
    *TEXTS,
    "Bread is made of flour, water, salt and time; whoever hurries loses the best part of it.",
    "The letters that she wrote from the island were short at first, and longer every winter.",
    "Nobody had opened the old mill since the river was led around the village.",
)
WORDS = 384


def base_folder(subject: Subject, *, tied: bool = False, words: int = WORDS) -> Path:
    """The folder of a random Llama with two layers.

    Args:
        subject: the plugin that it is for.
        tied: whether one matrix serves for input and output.
        words: of its vocabulary, at most.
    """

    def make() -> Path:
        return tiny_model(_folder(), texts=PROSE, words=words, tie_word_embeddings=tied)

    return subject.once(("model", tied, words), make)


def load_base(subject: Subject, folder: Path | None = None, *, tied: bool = False) -> Any:
    """The model in fp32, on the processor; a new one each time."""
    if folder:
        return _loaded(folder)
    return copy.deepcopy(subject.once(("loaded", tied), lambda: _loaded(base_folder(subject, tied=tied))))


def _loaded(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def shape_alone(folder: Path) -> Path:
    """A folder that a plan takes for a model: a configuration, and a file of weights that nobody reads."""
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": WORDS,
        "tie_word_embeddings": False,
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def _folder() -> Path:
    place = Path(tempfile.mkdtemp(prefix="langadapt-model-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place
