"""A training that is killed at any step ends, when it is run again, with the weights of one that was not: every strategy.

`LANGADAPT_KILLS=8 pytest tests/test_kills.py` kills each strategy eight times; CI does so once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from langadapt import checkpoints
from langadapt.testing import tiny_model

KILLS = int(os.environ.get("LANGADAPT_KILLS", "1"))
STEPS = 8
STRATEGIES = ("lora", "rslora", "dora", "pissa", "lora+", "qlora", "qdora", "full", "layers", "freeze", "vera", "boft")
RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{folder}/model"
seed = 7
[evaluation]
automatic = false
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0 }}]
[stage.peft]
method = "{method}"
{options}
[stage.training]
learning_rate = 1e-2
max_steps = {steps}
max_length = 32
per_device_train_batch_size = 2
gradient_accumulation_steps = 2
logging_steps = 1
save_steps = 2
"""
OPTIONS = {"layers": "first = 1\nlast = 0", "vera": "r = 8", "boft": "boft_block_size = 4"}

# Imports what is heavy once; then every run is a fork, which kills itself where it is told to: after a step, or with a
# checkpoint written and not yet sealed.
SERVER = """
import json, os, signal, sys
import bitsandbytes, peft, torch, trl
from langadapt import Recipe, checkpoints, training
torch.set_num_threads(1)

def run(recipe, out, step, where):
    if where == "step":
        after = training.Progress.on_step_end
        def on_step_end(self, args, state, control, **options):
            after(self, args, state, control, **options)
            if state.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)
        training.Progress.on_step_end = on_step_end
    elif where == "saving":
        seal = checkpoints.seal
        def unsealed(folder):
            if int(folder.name.rpartition("-")[2]) >= step:
                os.kill(os.getpid(), signal.SIGKILL)
            seal(folder)
        checkpoints.seal = unsealed
    Recipe.load(recipe).execute(out)

for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(2, 1)
        status = 1
        try:
            run(**request)
            status = 0
        finally:
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model")
    rows = [{"text": f"Questa è la riga numero {n}, e dopo di lei ne viene un'altra."} for n in range(60)]
    (folder / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for method in STRATEGIES:
        text = RECIPE.format(folder=folder, method=method, options=OPTIONS.get(method, ""), steps=STEPS)
        (folder / f"{method}.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def run(place: Path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

    def run_once(method: str, out: Path, step: int = 0, where: str = "") -> int:
        request = {"recipe": str(place / f"{method}.toml"), "out": str(out), "step": step, "where": where}
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline())

    yield run_once
    server.kill()
    server.wait()


def weights(out: Path) -> dict:
    (file,) = (out / "stages/adapt").glob("*/*model.safetensors")
    return load_file(file)


@pytest.mark.slow
@pytest.mark.parametrize("method", STRATEGIES)
def test_a_killed_training_ends_as_if_it_had_not_been(place: Path, tmp_path: Path, run, method: str) -> None:
    assert run(method, tmp_path / "undisturbed") == 0
    expected = weights(tmp_path / "undisturbed")
    moments = random.Random(method)
    for number in range(KILLS):
        out = tmp_path / f"killed-{number}"
        step, where = moments.randint(1, STEPS), moments.choice(("step", "saving"))
        assert run(method, out, step, where) == -signal.SIGKILL, (step, where)
        assert not (out / "stages/adapt").exists()
        assert run(method, out) == 0, (step, where)
        found = weights(out)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert value.equal(found[name]), f"{name} differs after a kill at step {step} ({where})"


MEASURED = """
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0.3 }}]
[stage.peft]
method = "full"
[stage.training]
learning_rate = {rate}
lr_scheduler_type = "constant"
max_steps = 24
max_length = 32
per_device_train_batch_size = 2
logging_steps = 1
eval_strategy = "steps"
eval_steps = 2
save_steps = 2
load_best_model_at_end = true
early_stopping_patience = 2
"""


@pytest.mark.slow
def test_a_training_that_stops_to_improve_ends_with_its_best_weights_also_after_a_kill(
    place: Path, tmp_path: Path, run
) -> None:
    head = RECIPE.partition("[[stage]]")[0]
    (place / "measured.toml").write_text((head + MEASURED).format(folder=place, rate=0.3))  # far too fast
    assert run("measured", tmp_path / "undisturbed") == 0
    metrics = json.loads((tmp_path / "undisturbed/run.json").read_text())["stages"][0]["metrics"]
    measured = dict(metrics["held_out_bits_per_byte"])
    assert metrics["best_step"] == min(measured, key=measured.__getitem__)
    assert metrics["steps"] == metrics["best_step"] + 4 < 24, "two measurements without a gain, two steps each"
    kept = weights(tmp_path / "undisturbed")
    assert run("measured", tmp_path / "killed", step=metrics["steps"] - 1, where="step") == -signal.SIGKILL
    assert run("measured", tmp_path / "killed") == 0
    again = weights(tmp_path / "killed")
    assert all(value.equal(again[name]) for name, value in kept.items())


# --- damaged checkpoints ---------------------------------------------------------------------------------------------


def checkpoint(folder: Path, step: int) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "optimizer.pt").write_bytes(bytes([step]) * 100)
    (made / "trainer_state.json").write_text("{}")
    checkpoints.seal(made)
    return made


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda made: damage(made / "optimizer.pt"), "optimizer.pt is damaged"),
        (lambda made: (made / "optimizer.pt").unlink(), "optimizer.pt is missing"),
        (lambda made: (made / "seal.json").unlink(), "it was cut short"),
        (lambda made: (made / "seal.json").write_text('{"optim'), "it was cut short"),
    ],
    ids=["bit", "missing", "no-seal", "half-seal"],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, harm, said: str) -> None:
    before, last = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    harm(last)
    lines: list[str] = []
    assert checkpoints.newest(tmp_path, lines.append) == before
    assert lines == [f"checkpoint-10 cannot be used: {said}"]
    assert not last.exists(), "so that it does not count among those that are kept"


def test_the_newest_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    for step in (100, 20, 3):
        checkpoint(tmp_path, step)
    assert checkpoints.newest(tmp_path, print) == tmp_path / "checkpoint-100"
    assert checkpoints.newest(tmp_path / "none", print) is None
