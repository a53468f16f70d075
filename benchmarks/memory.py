"""The plan's estimate of memory beside the peak that was measured, for one training after the other.

Each training is two steps of a random model of the given shape, run as a user runs it, in a process of its own. The peak
is the `peak_memory` of the stage's metrics: the most main memory that the process held in the stage. On a GPU it is
`peak_gpu_memory`, what torch had allocated there, and the estimate is that without CUDA's context; with longer rows, and
all settings in one process.

    python benchmarks/memory.py [--models small deep wide] [--only TEXT] [--within 0.1]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# A small one with the shape of SmolLM2-135M, one of more and wider blocks, one with a large vocabulary.
MODELS: dict[str, dict[str, Any]] = {
    "small": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "deep": {
        "vocab_size": 4096, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24,
        "num_attention_heads": 16, "num_key_value_heads": 16,
    },
    "wide": {
        "vocab_size": 128256, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4,
    },
}  # fmt: skip
# Strategy, rows, length, activation checkpointing; with "+rows", two thousand rows of the matrices learn too.
SETTINGS = (
    ("lora", 1, 256, False), ("lora", 2, 512, False), ("lora", 2, 512, True), ("qlora", 2, 256, False),
    ("dora", 1, 256, False), ("full", 1, 256, False), ("full", 2, 512, True), ("layers", 1, 256, False),
    ("freeze", 2, 256, False), ("lora+rows", 1, 256, False),
)  # fmt: skip
ROWS = f"trainable_token_indices = {list(range(1000, 3000))}"
LONGER = 8  # times as many tokens a row on a GPU
RECIPE = """
schema = 1
name = "memory"
language = "it"
base_model = "{model}"
[evaluation]
automatic = false
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{corpus}", held_out = 0 }}]
[stage.peft]
method = "{method}"
{peft}
[stage.training]
max_steps = 2
save_strategy = "no"
per_device_train_batch_size = {rows}
max_length = {length}
activation_checkpointing = {checkpointing}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--only", default="", help="settings whose line contains this text")
    parser.add_argument("--within", type=float, default=0.1, help="share by which an estimate may be off")
    parser.add_argument("--recipe", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.recipe:
        print(json.dumps(measured(options.recipe)))
        return
    with tempfile.TemporaryDirectory() as folder:
        ratios = [ratio for name in options.models for ratio in compare(Path(folder), name, options.only)]
    print(f"{len(ratios)} estimates, from {min(ratios):.2f} to {max(ratios):.2f} of what was measured")
    if any(abs(ratio - 1) > options.within for ratio in ratios):
        sys.exit(1)


def compare(folder: Path, name: str, only: str) -> list[float]:
    """Prints a line for each setting of a model; the ratios of estimate to measured peak."""
    import langadapt_italian
    from langadapt.machine import this_machine
    from langadapt.testing import tiny_model

    corpus = Path(langadapt_italian.__file__).parent / "samples" / "prose.jsonl"
    model = tiny_model(folder / name, **MODELS[name], max_position_embeddings=4096)
    ratios = []
    for method, rows, tokens, checkpointing in SETTINGS:
        length = tokens * (LONGER if this_machine().cuda else 1)
        words = f"{name:6} {method:9} {rows} x {length:4}{' checkpointing' if checkpointing else ''}"
        if only not in words:
            continue
        recipe = folder / "recipe.toml"
        recipe.write_text(
            RECIPE.format(
                model=model, corpus=corpus, method=method.removesuffix("+rows"), rows=rows, length=length,
                peft=ROWS if "+rows" in method else "",
                checkpointing=str(checkpointing).lower(),
            )
        )  # fmt: skip
        found = measured(recipe) if this_machine().cuda else child(recipe)
        ratios.append(found["estimate"] / found["measured"])
        sizes = f"estimate {found['estimate'] / 2**20:7.0f} MiB, measured {found['measured'] / 2**20:7.0f} MiB"
        print(f"{words:38} {sizes}, ratio {ratios[-1]:.2f}", flush=True)
    return ratios


def child(recipe: Path) -> dict[str, int]:
    command = [sys.executable, __file__, "--recipe", str(recipe)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if result.returncode:
        sys.exit(f"{recipe.read_text()}failed:\n{result.stderr}")
    found: dict[str, int] = json.loads(result.stdout.splitlines()[-1])
    return found


def measured(recipe: Path) -> dict[str, int]:
    """What the plan says and what the run says."""
    from langadapt import Recipe
    from langadapt.estimates import CONTEXT_CUDA

    with tempfile.TemporaryDirectory() as out:
        plan = Recipe.load(recipe).plan(out)
        run = plan.execute()
    metrics, parts = run.state["stages"][0]["metrics"], plan.stage("adapt").estimate.memory
    if metrics["peak_gpu_memory"]:
        return {"estimate": sum(parts.values()) - CONTEXT_CUDA, "measured": metrics["peak_gpu_memory"]}
    return {"estimate": sum(parts.values()), "measured": metrics["peak_memory"]}


if __name__ == "__main__":
    main()
