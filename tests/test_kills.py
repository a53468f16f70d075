"""A training that is killed at any step ends, when it is run again, with the weights of one that was not: every strategy.

`LANGADAPT_KILLS=8 pytest tests/test_kills.py` kills each case eight times; CI does so once.
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
kind = "{kind}"
corpus = [{{ path = "{folder}/{corpus}.jsonl", held_out = 0 }}]
{stage}
[stage.peft]
method = "{method}"
{peft}
[stage.training]
learning_rate = 1e-2
max_steps = {steps}
max_length = {length}
per_device_train_batch_size = 2
gradient_accumulation_steps = 2
logging_steps = 1
save_steps = 2
{training}
{more}
"""
MERGE = """
[[stage]]
id = "release"
kind = "merge"
"""
EXTEND = """
[[stage]]
id = "vocabulary"
kind = "tokenizer"
from = "base"
corpus = "{folder}/text.jsonl"
source = "{folder}/english.jsonl"
tokenizer = {{ strategy = "extend", tokens = 12, min_frequency = 2, multiple_of = 1 }}
"""
GROWN = {"stage": 'from = "vocabulary"', "more": EXTEND}
ENGLISH = 'calibration = "{folder}/english.jsonl"'
ALPACA = 'prompt = "alpaca-it"'
WSD = 'lr_scheduler_type = "warmup_stable_decay"\nlr_scheduler_kwargs = {{ num_decay_steps = 0.25 }}'
# By name, what stands in the recipe in place of a plain `cpt` under that strategy.
CASES: dict[str, dict[str, str]] = {
    **{name: {} for name in ("lora", "rslora", "dora", "pissa", "lora+", "qlora", "qdora", "full", "freeze")},
    "layers": {"peft": "first = 1\nlast = 0"},
    "ssu": {"stage": ENGLISH, "training": "weight_decay = 0.1"},
    "vera": {"peft": "r = 8"},
    "boft": {"peft": "boft_block_size = 4"},
    "grid-lora": {"stage": ENGLISH, "peft": 'r = 4\ngrid = "coarse"', "more": MERGE},
    "noted-norms": {"stage": ENGLISH},
    "rates": {"method": "full", "training": 'learning_rates = {{ "*embed*" = 1e-3, "*layers.1.*" = 2e-2 }}'},
    "schedule": {"method": "lora", "training": WSD},
    "unfreeze": {"method": "full", "training": 'unfreeze = {{ "*layers.0.*" = 3, "*embed*" = 0.75 }}'},
    "neftune": {"method": "lora", "training": "neftune_noise_alpha = 5"},
    "rows": {"method": "qlora", **GROWN, "training": 'learning_rates = {{ "*trainable_tokens*" = 3e-2 }}'},
    "trainable_tokens": GROWN,
    "average": {"method": "qlora", "training": "ema_decay = 0.6"},
    "sft": {"method": "lora", "kind": "sft", "corpus": "chat", "stage": ALPACA, "length": "160"},
    "preference": {"method": "qlora", "kind": "preference", "corpus": "pairs", "stage": ALPACA, "length": "160"},
}

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
    lines = {
        "text": {"text": "Questa è la riga numero {n}, e dopo di lei ne viene un'altra."},
        "english": {"text": "This is line {n}."},
        "chat": {"instruction": "Di' {n}", "output": "Ecco {n}."},
        "pairs": {"prompt": "Che cosa fai, {n}?", "chosen": "Rispondo: {n}.", "rejected": "In English: {n}."},
    }
    for name, row in lines.items():
        rows = [{key: text.format(n=n) for key, text in row.items()} for n in range(60)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = {
        "kind": "cpt",
        "corpus": "text",
        "length": "32",
        **dict.fromkeys(("stage", "peft", "training", "more"), ""),
    }
    for name, case in CASES.items():
        words = {key: text.format(folder=folder) for key, text in ({"method": name} | plain | case).items()}
        (folder / f"{name}.toml").write_text(RECIPE.format(folder=folder, steps=STEPS, **words))
    return folder


@pytest.fixture(scope="module")
def run(place: Path):
    about = place / "site/langadapt_strategies-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: langadapt-strategies\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[langadapt]\nstrategies = strategies_plugin\n")
    path = [str(place / "site"), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)}
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
    """Of all stages, by stage and name."""
    files = {file.parts[-3]: file for file in out.glob("stages/*/*/*model.safetensors")}
    return {f"{stage} {name}": value for stage, file in files.items() for name, value in load_file(file).items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_killed_training_ends_as_if_it_had_not_been(place: Path, tmp_path: Path, run, name: str) -> None:
    assert run(name, tmp_path / "undisturbed") == 0
    expected = weights(tmp_path / "undisturbed")
    moments = random.Random(name)
    for number in range(KILLS):
        out = tmp_path / f"killed-{number}"
        step, where = moments.randint(1, STEPS), moments.choice(("step", "saving"))
        assert run(name, out, step, where) == -signal.SIGKILL, (step, where)
        assert not (out / "stages/adapt").exists()
        assert run(name, out) == 0, (step, where)
        found = weights(out)
        assert found.keys() == expected.keys()
        for weight, value in expected.items():
            assert value.equal(found[weight]), f"{weight} differs after a kill at step {step} ({where})"


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
