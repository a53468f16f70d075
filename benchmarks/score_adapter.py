"""Bits per byte of held-out text under a base model with an adapter: the one scorer for all sides of `training.py`.

Takes a task as JSON and prints `as_trained`, the adapter beside the base as the side had it (in NF4 under QLoRA), with BOS
before every document, as langadapt trains; `without_bos`, the same without it, as trl and LLaMA-Factory train; and under
QLoRA `merged`, behind BOS with the adapter merged into the weights that were not quantised. The first token of a document
counts in none of them: nothing but BOS can stand before it.
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
    figures = {"as_trained": bits_per_byte(model, task), "without_bos": bits_per_byte(model, task, bos=False)}
    if task["method"] == "qlora" and task["adapter"]:
        merged = ModelRef(weights=task["base"], adapters=(Path(task["adapter"]),))
        figures["merged"] = bits_per_byte(load_model(merged), task)
    return figures


def bits_per_byte(model: Any, task: dict[str, Any], *, bos: bool = True) -> float:
    from langadapt.evaluation.bits_per_byte import score_ids, start_of
    from langadapt.loading import load_tokenizer

    tokenizer = load_tokenizer(task["base"])
    bits, size = 0.0, 0
    for text in json.loads(Path(task["texts"]).read_text(encoding="utf-8")):
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        first, *others = encoded["input_ids"]
        start, ids = (start_of(tokenizer), [first, *others]) if bos else (first, others)
        bits += math.fsum(score_ids(model.eval(), ids, start)[len(ids) - len(others) :]) / math.log(2)
        size += len(text[encoded["offset_mapping"][0][1] :].encode())
    return bits / size


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
