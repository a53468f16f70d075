"""The sides of `training.py`: how each program is told to do the same training, in its own words.

Whatever is not set here is a program's own default.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

R, ALPHA = 64, 16  # LoRA on all linear layers but the head, beside weights in NF4 without double quantisation, or plain
WARM_UP = 0.03  # of the steps, then a cosine to zero
HERE = Path(__file__).parent

# What is set for a program's best, where its own default would be slower, or would leave text out.
TRL: dict[str, Any] = {"packing": True, "packing_strategy": "wrapped", "gradient_checkpointing": False}
LLAMA_FACTORY: dict[str, Any] = {"packing": True, "disable_gradient_checkpointing": True}

RECIPE = """
schema = 1
name = "training"
language = "it"
seed = {seed}
base_model = "{base}"
[evaluation]
automatic = false
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{text}", held_out = 0 }}]
[stage.peft]
method = "{method}"
r = {r}
lora_alpha = {alpha}
[stage.training]
learning_rate = {learning_rate}
lr_scheduler_type = "cosine"
warmup_steps = {warm_up}
max_steps = {steps}
per_device_train_batch_size = {batch}
max_length = {length}
save_steps = 1_000_000
"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training: `batch` rows of `length` tokens a step."""

    method: str
    learning_rate: float
    seed: int
    steps: int
    length: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a training finds and leaves things, and what the machine computes in."""

    folder: Path
    base: Path
    text: Path
    dtype: str
    cuda: bool

    @property
    def out(self) -> Path:
        return self.folder / "out"


@dataclass(frozen=True, kw_only=True)
class Side:
    """A program that trains.

    Attributes:
        name: in the tables.
        option: the command's option that names the Python it is installed for; empty for this one.
        command: what to start for a task.
        adapter: where it leaves the adapter, below `Place.out`.
    """

    name: str
    option: str = ""
    command: Callable[[str, Task, Place], list[str]]
    adapter: str = "."


def langadapt(python: str, task: Task, place: Place) -> list[str]:
    recipe = place.folder / "recipe.toml"
    places = {"base": place.base, "text": place.text, "r": R, "alpha": ALPHA, "warm_up": WARM_UP}
    recipe.write_text(RECIPE.format(**asdict(task), **places))
    return [python, "-m", "langadapt", "run", str(recipe), "--out", str(place.out)]


def bare_loop(python: str, task: Task, place: Place) -> list[str]:
    return _loop("bare_loop.py", python, task, place)


def unsloth(python: str, task: Task, place: Place) -> list[str]:
    return _loop("unsloth_loop.py", python, task, place)


def _loop(script: str, python: str, task: Task, place: Place) -> list[str]:
    places = {"base": str(place.base), "text": str(place.text), "out": str(place.out), "dtype": place.dtype}
    given = {**asdict(task), **places, "r": R, "alpha": ALPHA, "warm_up": WARM_UP}
    return [python, str(HERE / script), json.dumps(given)]


def trl_defaults(python: str, task: Task, place: Place) -> list[str]:
    """Model, text, LoRA, precision and number of steps; the rest is as trl has it."""
    quantised = {"load_in_4bit": True} if task.method == "qlora" else {}
    lora = {"use_peft": True, "lora_r": R, "lora_alpha": ALPHA, "lora_target_modules": "all-linear"}
    precision = {"dtype": place.dtype, "bf16": place.dtype == "bfloat16", "use_cpu": not place.cuda}
    places = {"model_name_or_path": place.base, "dataset_name": place.text.parent, "output_dir": place.out}
    steps = {"max_steps": task.steps, "save_strategy": "no", "seed": task.seed}
    words = {**places, **lora, **quantised, **precision, **steps}
    script = str(Path(python).with_name("trl"))
    return [script, "sft", *(word for key, value in words.items() for word in (f"--{key}", str(value)))]


def trl(python: str, task: Task, place: Place) -> list[str]:
    ours = {**TRL, "lora_dropout": 0.0, **_arguments(task), "max_length": task.length}
    return [
        *trl_defaults(python, task, place),
        *(word for key, value in ours.items() for word in (f"--{key}", str(value))),
    ]


def llamafactory(python: str, task: Task, place: Place) -> list[str]:
    datasets = {"text": {"file_name": str(place.text), "columns": {"prompt": "text"}}}
    (place.folder / "dataset_info.json").write_text(json.dumps(datasets))
    config = {
        "stage": "pt",
        "do_train": True,
        "model_name_or_path": str(place.base),
        "dataset": "text",
        "dataset_dir": str(place.folder),
        "template": "default",
        "output_dir": str(place.out),
        "finetuning_type": "lora",
        "lora_rank": R,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "lora_target": "all",
        "cutoff_len": task.length,
        "max_steps": task.steps,
        "seed": task.seed,
        "save_strategy": "no",
        "bf16": place.dtype == "bfloat16",
        "use_cpu": not place.cuda,
        **_arguments(task),
        **({"quantization_bit": 4, "double_quantization": False} if task.method == "qlora" else {}),
        **LLAMA_FACTORY,
    }
    file = place.folder / "config.yaml"
    file.write_text(json.dumps(config, indent=2))  # of which YAML is a superset
    return [str(Path(python).with_name("llamafactory-cli")), "train", str(file)]


def _arguments(task: Task) -> dict[str, Any]:
    """As transformers' TrainingArguments call them."""
    return {
        "learning_rate": task.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARM_UP,
        "per_device_train_batch_size": task.batch,
    }


SIDES = {
    side.name: side
    for side in (
        Side(name="langadapt", command=langadapt, adapter="stages/adapt/adapter"),
        Side(name="bare loop", command=bare_loop),
        Side(name="trl", option="trl", command=trl),
        Side(name="trl, defaults", option="trl", command=trl_defaults),
        Side(name="LLaMA-Factory", option="llamafactory", command=llamafactory),
        Side(name="Unsloth", option="unsloth", command=unsloth),
    )
}
LEFT_OUT = {
    "LLaMA-Factory": "name the Python of an environment that has it, --llamafactory PYTHON",
    "Axolotl": "the trainer of 0.19 imports Triton, which is for GPUs",
    "Unsloth": "it trains on a GPU alone; name the Python of an environment that has it, --unsloth PYTHON",
}
