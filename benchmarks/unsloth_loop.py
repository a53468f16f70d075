"""LoRA and QLoRA as Unsloth's own notebooks train them: its model, its LoRA, trl's trainer under its patches.

A side of `training.py`, which gives it a task as JSON. Rows are packed beforehand, as for the loop written by hand, so
that all sides train on the same kind of row.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import unsloth  # first, as it wants to be  # noqa: F401  # isort: skip
import torch
from bare_loop import pack
from datasets import Dataset
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments
from unsloth import FastLanguageModel

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main(task: dict[str, Any]) -> None:
    model, _ = FastLanguageModel.from_pretrained(
        task["base"],
        max_seq_length=task["length"],
        dtype=getattr(torch, task["dtype"]),
        load_in_4bit=task["method"] == "qlora",
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=task["r"],
        lora_alpha=task["alpha"],
        lora_dropout=0,
        target_modules=LINEAR,
        use_gradient_checkpointing=False,
        random_state=task["seed"],
    )
    tokenizer = AutoTokenizer.from_pretrained(task["base"])
    rows = pack(Path(task["text"]), tokenizer, task["length"])
    arguments = TrainingArguments(
        output_dir=task["out"],
        per_device_train_batch_size=task["batch"],
        max_steps=task["steps"],
        learning_rate=task["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=task["warm_up"],
        bf16=task["dtype"] == "bfloat16",
        seed=task["seed"],
        save_strategy="no",
        report_to=[],
    )
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"input_ids": rows.numpy()}),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()
    model.save_pretrained(task["out"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
