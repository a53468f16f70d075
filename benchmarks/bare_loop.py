"""LoRA and QLoRA as a careful engineer writes them by hand: transformers, peft and torch, and nothing slow.

A side of `training.py`, which gives it a task as JSON: packed rows without padding, the model's own loss, AdamW on the
adapter, gradients clipped, a cosine schedule.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from sitecustomize import Watch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    get_cosine_schedule_with_warmup,
    set_seed,
)


def main(task: dict[str, Any]) -> None:
    set_seed(task["seed"])
    dtype, device = getattr(torch, task["dtype"]), "cuda" if torch.cuda.is_available() else "cpu"
    rows = pack(Path(task["text"]), AutoTokenizer.from_pretrained(task["base"]), task["length"])
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(
        task["base"], dtype=dtype, quantization_config=nf4 if task["method"] == "qlora" else None, device_map=device
    )
    model.config.use_cache = False
    lora = LoraConfig(r=task["r"], lora_alpha=task["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=task["learning_rate"], weight_decay=0.0, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(task["warm_up"] * task["steps"]), task["steps"])
    watch = Watch(**json.loads(os.environ["WATCH"]))
    model.train()
    watch.begin()
    for _, batch in zip(range(task["steps"]), batches(rows, task["batch"]), strict=False):
        batch = batch.to(device)
        with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        watch.batch(batch[:, 1:])
        if watch.step():
            break
    watch.end()
    model.save_pretrained(task["out"])


def pack(text: Path, tokenizer: Any, length: int) -> torch.Tensor:
    """(rows, length): all documents one after the other, each between BOS and EOS, cut into rows."""
    texts = [json.loads(line)["text"] for line in text.open(encoding="utf-8")]
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    stream = [i for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] for i in (start, *ids, end)]
    rows = len(stream) // length
    return torch.tensor(stream[: rows * length]).view(rows, length)


def batches(rows: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Epoch after epoch, each in an order of its own."""
    while True:
        for chosen in torch.randperm(len(rows)).split(size):
            yield rows[chosen]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
