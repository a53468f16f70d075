"""For tests: a random two-layer model with a real tokenizer, and `PluginConformance`, the checks that plugins have to pass.

The model is made in a second and can be loaded from its folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langadapt.testing.conformance import PluginConformance

__all__ = ["PluginConformance", "tiny_model"]

TEXTS = (
    "La mattina il porto si sveglia prima della città, e le barche tornano piene di pesce e di stanchezza.",
    "The morning train was late again, so we walked along the river and talked about the weather.",
    "Perché l'acqua bolle prima in montagna? È una questione di pressione.",
)


def tiny_model(folder: Path, *, texts: Iterable[str] = TEXTS, words: int = 384, seed: int = 0, **config: Any) -> Path:
    """Writes a random Llama with two layers and a byte-level BPE tokenizer trained on `texts`.

    Args:
        folder: where to.
        texts: what the tokenizer learns its merges from; it can encode any text.
        words: of its vocabulary, at most.
        seed: of the weights.
        config: fields of `LlamaConfig` in place of the small ones here.

    Returns:
        The folder.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=words,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    settings = {
        "vocab_size": len(fast),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(seed)
    # Where there is a GPU, its random numbers come in seconds also for billions of weights.
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(LlamaConfig(**(settings | config)))
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def __getattr__(name: str) -> Any:
    """Imports the checks when they are asked for: a plugin is looked at in a process that has imported little itself."""
    if name == "PluginConformance":
        from langadapt.testing.conformance import PluginConformance

        return PluginConformance
    raise AttributeError(f"module 'langadapt.testing' has no attribute {name!r}")
