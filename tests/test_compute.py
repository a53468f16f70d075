"""Several processes train what one would: same rows in a step, same loss, same weights; killed, stopped, cut off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from langadapt import Recipe, compute
from langadapt.compute import Processes
from langadapt.errors import RecipeError, RunError
from langadapt.machine import Machine
from langadapt.processes import FOLDER
from langadapt.testing import tiny_model

ONE, DDP, FSDP = {}, {"backend": "ddp", "processes": 2}, {"backend": "fsdp", "processes": 2}
HEAD = """
schema = 1
name = "tiny"
language = "it"
base_model = "{folder}/model"
seed = 7
compute = {compute}
[evaluation]
automatic = false
[decontamination]
enabled = false
"""
CPT = """
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0 }}]
[stage.peft]
method = "{method}"
[stage.training]
learning_rate = 1e-2
num_train_epochs = 2
max_steps = {max_steps}
max_length = 32
per_device_train_batch_size = 2
gradient_accumulation_steps = 4
logging_steps = 1
save_steps = 2
"""
CHATS = """
[[stage]]
id = "{kind}"
kind = "{kind}"
from = "base"
prompt = "alpaca-it"
corpus = [{{ path = "{folder}/{kind}.jsonl", held_out = 0 }}]
[stage.peft]
method = "lora"
[stage.training]
learning_rate = 1e-3
max_steps = 3
max_length = 128
per_device_train_batch_size = {batch}
gradient_accumulation_steps = 1
logging_steps = 1
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and corpora whose rows fill no step of 8 evenly, with as many learnt tokens in one as in no other."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model")

    def write(name: str, rows: list[dict[str, str]]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("text.jsonl", [{"text": f"La riga numero {n} è più lunga" + " di molto" * (n % 5)} for n in range(11)])
    chats = [{"instruction": f"Conta fino a {n}.", "output": "uno due " * (1 + n % 4)} for n in range(13)]
    write("sft.jsonl", chats)
    pairs = [
        {"prompt": f"Conta fino a {n}.", "chosen": "uno due " * (1 + n % 4), "rejected": "no " * (1 + n % 3)}
        for n in range(5)
    ]
    write("preference.jsonl", pairs)
    return folder


def recipe(place: Path, name: str, table: Mapping[str, object], *, method: str = "lora", max_steps: int = -1) -> Path:
    said = ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
    file = place / f"{name}.toml"
    file.write_text((HEAD + CPT).format(folder=place, compute=f"{{ {said} }}", method=method, max_steps=max_steps))
    return file


def losses(run: Path, stage: str) -> list[float]:
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if event["event"] == "step" and event["stage"] == stage]


def weights(run: Path) -> dict[str, torch.Tensor]:
    (file,) = (run / "stages").glob("adapt/*/*.safetensors")
    return load_file(file)


@pytest.fixture(scope="module")
def one(place: Path) -> Path:
    return Recipe.load(recipe(place, "one", ONE)).execute(place / "one").folder


@pytest.fixture(scope="module")
def two(place: Path) -> Path:
    return Recipe.load(recipe(place, "two", DDP)).execute(place / "two").folder


def test_two_processes_give_the_losses_and_the_weights_of_one(one, two):
    assert len(losses(one, "adapt")) == 6  # two epochs, of which the last step has a few rows more or less
    assert losses(two, "adapt") == pytest.approx(losses(one, "adapt"), rel=1e-5)
    expected = weights(one)
    assert all(torch.allclose(value, expected[name], atol=1e-4) for name, value in weights(two).items())
    assert all((value - expected[name]).abs().max() < 1 for name, value in weights(two).items())
    about = [json.loads((run / "stages/adapt/stage.json").read_text()) for run in (one, two)]
    assert about[0]["digest"] == about[1]["digest"] and about[0]["accounting"] == about[1]["accounting"]
    assert about[0]["metrics"]["rows_per_step"] == about[1]["metrics"]["rows_per_step"] == 8
    assert not list((two / "stages/adapt").glob("packed*"))
