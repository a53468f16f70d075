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
from langadapt.errors import RecipeError, UserError
from langadapt.machine import Machine, this_machine
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
id = "{id}"
kind = "{kind}"
{method}
from = "base"
prompt = "alpaca-it"
corpus = [{{ path = "{folder}/{kind}.jsonl", held_out = 0 }}]
[stage.peft]
method = "lora"
[stage.training]
learning_rate = {rate}
warmup_steps = 0
max_steps = 3
max_length = 128
per_device_train_batch_size = 4
gradient_accumulation_steps = 1
logging_steps = 1
{more}
"""
# Of an sft stage, and of methods of preference: by pairs, with a mean over the step's tokens, and by single answers.
LEARNT = {
    "sft": {"kind": "sft", "method": "", "rate": 1e-3, "more": ""},
    "dpo": {"kind": "preference", "method": 'method = "dpo"', "rate": 1e-3, "more": 'loss_type = ["sigmoid", "sft"]'},
    "kto": {
        "kind": "preference",
        "method": 'method = "kto"',
        "rate": 1e-2,
        "more": "beta = 0.5\nundesirable_weight = 0.2",
    },
}  # with rates at which the KL divergence that KTO estimates is above 0


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


def figures(run: Path, stage: str) -> list[dict[str, float]]:
    """Of each step: the loss, and the figures that have a slash in their names."""
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    steps = [event for event in events if event["event"] == "step" and event["stage"] == stage]
    return [{name: value for name, value in step.items() if name == "loss" or "/" in name} for step in steps]


def losses(run: Path, stage: str) -> list[float]:
    return [step["loss"] for step in figures(run, stage)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    (file,) = (run / "stages").glob("adapt/*/*.safetensors")
    return load_file(file)


@pytest.fixture(scope="module")
def one(place: Path) -> Path:
    return Recipe.load(recipe(place, "one", ONE)).execute(place / "one").folder


@pytest.fixture(scope="module")
def two(place: Path) -> Path:
    return Recipe.load(recipe(place, "two", DDP)).execute(place / "two").folder


def start(file: Path, out: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "langadapt", "run", str(file), "--out", str(out), *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    while not list(path.glob(pattern)):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def trainers(run: Path) -> list[int]:
    """The processes that still write logs into a run's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd/2"):
        try:
            found += [int(entry.parts[2])] if str(run / FOLDER) in os.readlink(entry) else []
        except OSError:
            continue
    return found


def test_two_processes_give_the_losses_and_the_weights_of_one(one, two):
    assert len(losses(one, "adapt")) == 4  # two epochs of 13 rows: the second step of each has blanks
    assert losses(two, "adapt") == pytest.approx(losses(one, "adapt"), rel=1e-5)
    expected = weights(one)
    assert all(torch.allclose(value, expected[name], atol=1e-4) for name, value in weights(two).items())
    about = [json.loads((run / "stages/adapt/stage.json").read_text()) for run in (one, two)]
    assert about[0]["digest"] == about[1]["digest"] and about[0]["accounting"] == about[1]["accounting"]
    assert about[0]["metrics"]["rows_per_step"] == about[1]["metrics"]["rows_per_step"] == 8


def test_answers_and_pairs_weigh_the_same_in_two_processes(place):
    """Rows have unlike numbers of learnt tokens, and of 5 pairs, or their 10 answers, the last of an epoch have blanks."""
    runs = []
    for name, table in (("chats-one", ""), ("chats-two", 'backend = "ddp", processes = 2')):
        stages = "".join(CHATS.format(folder=place, id=id, **options) for id, options in LEARNT.items())
        file = place / f"{name}.toml"
        file.write_text(HEAD.format(folder=place, compute=f"{{ {table} }}") + stages)
        runs.append(Recipe.load(file).execute(place / name).folder)
    for id in LEARNT:
        one, two = (figures(run, id) for run in runs)
        assert [set(step) for step in two] == [set(step) for step in one] and len(one) == 3
        rounding = 1e-2 if this_machine().bf16 else 1e-4  # of rewards, which are differences of sums of products
        for step, expected in zip(two, one, strict=True):
            assert step == pytest.approx(expected, rel=rounding, abs=rounding), id


def test_what_waits_and_what_is_measured_is_the_same_in_two_processes(place):
    """Weights that stand still until their step, and held-out documents, of which each process scores a share."""
    more = 'eval_strategy = "steps"\neval_steps = 2\nunfreeze = { "*layers.1.*" = 2 }\n'
    runs = []
    for name, table in (("waits-one", ONE), ("waits-two", DDP)):
        file = recipe(place, name, table)
        file.write_text(file.read_text().replace("held_out = 0 ", "held_out = 0.4 ") + more)
        runs.append(Recipe.load(file).execute(place / name).folder)
    one, two = runs
    assert losses(two, "adapt") == pytest.approx(losses(one, "adapt"), rel=1e-5)
    expected = weights(one)
    assert all(torch.allclose(value, expected[name], atol=1e-4) for name, value in weights(two).items())
    measured = [
        dict(json.loads((run / "stages/adapt/stage.json").read_text())["metrics"]["held_out_bits_per_byte"])
        for run in runs
    ]
    assert len(measured[0]) >= 1 and measured[1] == pytest.approx(measured[0], rel=1e-5)


def test_killed_with_all_its_processes_it_goes_on_to_the_same_weights(place, two):
    run = place / "killed"
    file = recipe(place, "killed", DDP)
    process = start(file, run)
    wait_for(run, "stages/.adapt.partial/checkpoints/checkpoint-2/seal.json", process)
    pids = trainers(run)
    assert len(pids) == 2
    process.kill()  # nobody ends the others: they see it themselves
    process.communicate()
    deadline = time.monotonic() + 30
    while trainers(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not trainers(run)
    alone = shutil.copytree(run, place / "killed-and-alone")
    Recipe.load(file).execute(run)
    assert "goes on from checkpoint-" in (run / "events.jsonl").read_text()
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(run).items())
    Recipe.load(recipe(place, "alone", ONE)).execute(alone)  # with another number of processes, to rounding
    assert "goes on from checkpoint-" in (alone / "events.jsonl").read_text()
    assert all(torch.allclose(value, weights(two)[name], atol=1e-4) for name, value in weights(alone).items())


def test_a_process_that_dies_ends_the_stage_in_words(place):
    run = place / "dying"
    process = start(recipe(place, "dying", DDP, max_steps=100_000), run)
    wait_for(run, "stages/.adapt.partial/checkpoints/checkpoint-2/seal.json", process)
    os.kill(trainers(run)[0], signal.SIGKILL)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "Traceback" not in said
    assert "of the 2 that train it was ended by SIGKILL" in said and "goes on from the last checkpoint" in said
    assert not trainers(run)


def test_stopped_it_leaves_a_checkpoint_and_nothing_running(place):
    run = place / "stopped"
    process = start(recipe(place, "stopped", DDP, max_steps=100_000), run)
    wait_for(run, "stages/.adapt.partial/checkpoints/checkpoint-2/seal.json", process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 2 and "stopped in stage adapt at step" in said and not trainers(run)
    state = json.loads((run / "run.json").read_text())
    assert state["status"] == "interrupted" and state["stages"][0]["status"] == "pending"


def test_what_a_process_refuses_is_told_as_it_is_in_one(place):
    file = recipe(place, "refused", DDP)
    file.write_text(file.read_text().replace("logging_steps = 1", "torch_empty_cache_steps = 0"))
    with pytest.raises(
        UserError, match=r"stage adapt: transformers refuses .stage.training. .*torch_empty_cache_steps"
    ):
        Recipe.load(file).execute(place / "refused")


def test_weights_that_are_shared_out_are_whole_again_when_they_are_saved(place):
    """fsdp itself needs GPUs; what gathers its weights does not."""
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoModelForCausalLM

    from langadapt.training import _gather

    plain = AutoModelForCausalLM.from_pretrained(place / "model")
    shared = AutoModelForCausalLM.from_pretrained(place / "model")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        fully_shard(shared, mesh=mesh)
        _gather(shared, keep=True)
    finally:
        torch.distributed.destroy_process_group()
    shared.save_pretrained(place / "gathered")
    saved = load_file(place / "gathered/model.safetensors")
    assert saved.keys() == plain.state_dict().keys()
    assert all(torch.equal(saved[name], value) for name, value in plain.state_dict().items())
    assert json.loads((place / "gathered/config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


# --- what is refused, and what is shared out -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "accumulated", "processes", "share"),
    [
        (4, 8, 2, (4, 4)),
        (4, 1, 2, (2, 1)),
        (2, 2, 4, (1, 1)),
        (6, 4, 8, (3, 1)),
        (5, 4, 8, None),
        (4, 6, 4, (2, 3)),
        (1, 1, 2, None),
    ],
)
def test_the_batch_of_a_step_is_shared_out_whole_or_not_at_all(batch, accumulated, processes, share):
    training = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    found = Processes(backend="ddp", here=processes, machines=1).share(training)
    assert tuple(found.values()) == (share or ())


GPUS = Machine(cores=8, memory=2**35, gpus=(("H100", 2**36), ("H100", 2**36)), bf16=True)
CPU = Machine(cores=8, memory=2**35, gpus=(), bf16=False)


@pytest.mark.parametrize(
    ("overrides", "machine", "said"),
    [
        (["backend=ddp", "processes=4"], GPUS, "this machine has 2 GPUs, one for a process; --set compute.processes=2"),
        (["backend=fsdp", "processes=2"], CPU, "has no GPU"),
        (["backend=deepspeed"], GPUS, "pip install 'langadapt[deepspeed]'"),
        (["backend=ddp", "machines=2"], CPU, "nothing says where the first one is; start the same command on each"),
    ],
)
def test_what_the_machine_lacks_is_said_with_the_fix(place, monkeypatch, overrides, machine, said):
    for name in ("MASTER_ADDR", "NODE_RANK", "GROUP_RANK", "SLURM_NODEID", "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("langadapt.compute.find_spec", lambda name: None)
    monkeypatch.setattr("langadapt.plan.this_machine", lambda: machine)
    loaded = Recipe.load(recipe(place, "lacking", ONE), [f"compute.{o}" for o in overrides])
    (problem,) = loaded.plan(place / "lacking").lacks
    assert said in problem


def test_the_number_of_a_machine_comes_from_its_launcher(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    for name in ("NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NODEID", "1")
    assert compute.this_number() == 1 and compute.first_machine() == "10.0.0.1"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["compute.backend=ddp", "compute.processes=3"], "8 rows, cannot be shared out among 3 processes"),
        (
            ["compute.backend=fsdp", "compute.processes=2", "adapt.peft.method=qlora"],
            "fsdp cannot share out weights of 4.5 bits",
        ),
    ],
)
def test_what_processes_cannot_do_is_a_problem_of_the_stage(place, monkeypatch, overrides, said):
    monkeypatch.setattr("langadapt.plan.this_machine", lambda: GPUS)
    plan = Recipe.load(recipe(place, "impossible", ONE), overrides).plan(place / "impossible")
    assert any(said.replace("8 rows", "2 · 4 rows") in problem for problem in plan.problems), plan.problems


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (["compute.processes=2"], "compute.processes", 'backend = "ddp"'),
        (["compute.options.version=2"], "compute.options", "options are of fsdp or deepspeed"),
        (
            ["compute.backend=fsdp", "compute.options.reshard_after=true"],
            "compute.options.reshard_after",
            "did you mean",
        ),
        (["compute.backend=fsdp", "compute.options.version=1"], "compute.options.version", "sets this itself"),
        (["adapt.training.fsdp=true"], "adapt.training.fsdp", "[compute] says"),
        (
            ["compute.backend=deepspeed", "compute.options.zero_optimization.stage=3"],
            "compute.options.zero_optimization.stage",
            'backend = "fsdp"',
        ),
    ],
)
def test_slips_are_found_in_the_recipe(place, overrides, key, said):
    with pytest.raises(RecipeError) as error:
        Recipe.load(recipe(place, "slips", ONE), overrides)
    assert any(p.key == key and said in str(p) for p in error.value.problems), error.value


def test_the_plan_shows_what_each_process_does(place):
    plan = Recipe.load(recipe(place, "shown", DDP)).plan(place / "shown")
    (note,) = [note for note in plan.stage("adapt").notes if "processes" in note]
    assert "2 processes by ddp" in note and "gradient_accumulation_steps 2" in note


# --- two machines ----------------------------------------------------------------------------------------------------


def namespaces() -> bool:
    """Whether this machine lets us make networks of our own."""
    if os.geteuid() or not shutil.which("ip"):
        return False
    made = subprocess.run(["ip", "netns", "add", "la-trial"], capture_output=True, check=False).returncode == 0
    subprocess.run(["ip", "netns", "delete", "la-trial"], capture_output=True, check=False)
    return made


@pytest.fixture
def two_hosts():
    """Two network namespaces with a cable between them, as `ip netns exec` commands, and the name of the cable."""
    if not namespaces():
        pytest.skip("network namespaces need root and `ip netns`")

    def ip(words: str) -> None:
        subprocess.run(["ip", *words.split()], check=True, capture_output=True)

    names = [f"la{os.getpid()}{side}" for side in "ab"]
    try:
        for name in names:
            ip(f"netns add {name}")
            ip(f"-n {name} link set lo up")
        ip(f"link add {names[0]} netns {names[0]} type veth peer name {names[1]} netns {names[1]}")
        for number, name in enumerate(names, start=1):
            ip(f"-n {name} address add 10.77.0.{number}/24 dev {name}")
            ip(f"-n {name} link set {name} up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def start_on(hosts: list[str], file: Path, run: Path) -> list[subprocess.Popen[str]]:
    started = []
    for number, host in enumerate(hosts):
        environment = {"MASTER_ADDR": "10.77.0.1", "NODE_RANK": str(number), "GLOO_SOCKET_IFNAME": host}
        command = ["ip", "netns", "exec", host, sys.executable, "-m", "langadapt", "run", str(file), "--out", str(run)]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment))
    return started


@pytest.mark.nightly
def test_two_machines_train_together_and_a_cut_cable_ends_both_in_words(place, two, two_hosts):
    run = place / "machines"
    table = {"backend": "ddp", "processes": 1, "machines": 2}
    started = start_on(two_hosts, recipe(place, "machines-long", table, max_steps=100_000), run)
    wait_for(run, "stages/.adapt.partial/checkpoints/checkpoint-2/seal.json", started[0])
    subprocess.run(["ip", "-n", two_hosts[0], "link", "set", two_hosts[0], "down"], check=True)
    cut = time.monotonic()
    said = [process.communicate(timeout=120)[1] for process in started]
    assert time.monotonic() - cut < 90 and not trainers(run)
    assert [process.returncode for process in started] == [1, 1]
    assert all("machine" in words and "Traceback" not in words for words in said)
    subprocess.run(["ip", "-n", two_hosts[0], "link", "set", two_hosts[0], "up"], check=True)

    shutil.rmtree(run)
    started = start_on(two_hosts, recipe(place, "machines", table), run)
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert losses(run, "adapt") == pytest.approx(losses(two, "adapt"), rel=1e-5)
