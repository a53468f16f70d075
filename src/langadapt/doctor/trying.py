"""`python -m langadapt.doctor.trying torch peft …`: has each library do one small thing that langadapt needs of it.

After each, a line of JSON goes to standard output. An import alone proves little: transformers and trl import their parts
when these are asked for, bitsandbytes hides a missing library until it computes, and torch a GPU that it has no code for.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from langadapt.plugins import in_words


def torch() -> dict[str, Any]:
    """Multiplies, and says for what it was built."""
    import torch

    assert float(torch.ones(2) @ torch.ones(2)) == 2
    cuda, rocm = torch.version.cuda, torch.version.hip
    return {
        "built for": f"CUDA {cuda}" if cuda else f"ROCm {rocm}" if rocm else "processors",
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def cuda() -> dict[str, Any]:
    """Multiplies on every GPU; torch says by an exception why it can't."""
    import torch

    torch.cuda.init()  # type: ignore[no-untyped-call]
    for index in range(torch.cuda.device_count()):
        ones = torch.ones(16, 16, device=torch.device("cuda", index), dtype=torch.bfloat16)
        assert float((ones @ ones).sum()) == 16**3
    return {"devices": torch.cuda.device_count(), "architectures": torch.cuda.get_arch_list()}


def tokenizers() -> dict[str, Any]:
    """Makes a tokenizer."""
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE())
    return {}


def transformers() -> dict[str, Any]:
    """Brings what trains, and with it all that it imports because it is installed."""
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments  # noqa: F401

    return {}


def peft() -> dict[str, Any]:
    """Adapts a layer, which asks every quantisation library that is installed whether the layer is its own."""
    import torch
    from peft import LoraConfig, get_peft_model

    get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), LoraConfig(target_modules=["0"]))
    return {}


def trl() -> dict[str, Any]:
    """Brings the options of a stage that learns preferences."""
    from trl import DPOConfig  # noqa: F401

    return {}


def bitsandbytes() -> dict[str, Any]:
    """Takes a matrix to four bits and back, and says by which library and how far off the result is."""
    import torch
    from bitsandbytes import cextension, functional

    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = torch.linspace(-1, 1, 4096).reshape(64, 64)
    packed, state = functional.quantize_4bit(weights.to(device), quant_type="nf4")
    off = (functional.dequantize_4bit(packed, state).cpu() - weights).abs().max()
    library = getattr(getattr(cextension.lib, "_lib", None), "_name", "")
    return {"library": os.path.basename(library), "device": device, "off": float(off)}


TRIALS: Mapping[str, Callable[[], dict[str, Any]]] = {
    trial.__name__: trial for trial in (torch, cuda, tokenizers, transformers, peft, trl, bitsandbytes)
}


def main() -> None:
    """Tries the libraries that the arguments name."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    for name in sys.argv[1:]:
        said: dict[str, Any] = {"name": name}
        try:
            said["found"] = TRIALS[name]() if name in TRIALS else {}
            module = importlib.import_module("torch" if name == "cuda" else name)
            said["version"] = str(getattr(module, "__version__", ""))
        except BaseException as error:  # whatever it raises is what a run would meet
            said["error"] = in_words(error)
        print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
