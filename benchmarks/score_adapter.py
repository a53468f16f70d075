"""Bits per byte of held-out text under a base model with an adapter: the one scorer for all sides of `training.py`.

Takes a task as JSON and prints `as_trained`, the adapter beside the base as the side had it (in NF4 under QLoRA), and
under QLoRA `merged` too, the adapter merged into the weights that were not quantised.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any


def main(task: dict[str, Any]) -> dict[str, float]:
    from peft import PeftModel

    from langadapt.artifacts import ModelRef
    from langadapt.loading import load_model
    from langadapt.peft.qlora import quantise

    model = load_model(ModelRef(weights=task["base"]))
    if task["method"] == "qlora":
        quantise(model, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False)
    if task["adapter"]:
        PeftModel.from_pretrained(model, task["adapter"])  # puts its layers into the model
    figures = {"as_trained": bits_per_byte(model, task)}
    if task["method"] == "qlora" and task["adapter"]:
        merged = ModelRef(weights=task["base"], adapters=(Path(task["adapter"]),))
        figures["merged"] = bits_per_byte(load_model(merged), task)
    return figures


def bits_per_byte(model: Any, task: dict[str, Any]) -> float:
    from langadapt.evaluation.bits_per_byte import score_text
    from langadapt.loading import load_tokenizer

    tokenizer = load_tokenizer(task["base"])
    texts = json.loads(Path(task["texts"]).read_text(encoding="utf-8"))
    scored = [score_text(model.eval(), tokenizer, text) for text in texts]
    return math.fsum(s.nll for s in scored) / math.log(2) / sum(s.bytes for s in scored)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
