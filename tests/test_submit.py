"""Stages as Slurm jobs: what is rendered and submitted, runs of single stages side by side, and a real Slurm."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import HEAD
from filelock import FileLock
from test_preparation import has_slurm

from langadapt import run_state, submit
from langadapt.cli import cli
from langadapt.errors import RecipeError, UserError
from langadapt.locks import locked
from langadapt.recipe import Recipe
from langadapt.testing import tiny_model

STAGES = """
[evaluation]
suites = []
max_documents = 6

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0.2 }}]
[stage.peft]
method = "lora"
r = 4
[stage.training]
learning_rate = 1e-2
max_steps = 12
per_device_train_batch_size = 2
max_length = 64
logging_steps = 1
save_steps = 2

[[stage]]
id = "merged"
kind = "merge"
from = "adapt"

[[stage]]
id = "further"
kind = "cpt"
from = "adapt"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0.2 }}]
[stage.peft]
method = "full"
[stage.training]
learning_rate = 1e-3
max_steps = 2
per_device_train_batch_size = 2
max_length = 64
"""
# Programs of Slurm that need no cluster. A job stays in the queue until the test takes it out of the file.
SBATCH = """\
#!/bin/bash
for script; do :; done
if grep -q -- --partition=none "$script"; then
    echo "sbatch: error: invalid partition specified: none" >&2
    exit 1
fi
number=$(($(cat "$FAKE_SLURM"/submitted | wc -l) + 101))
echo "$number $(basename "$script" .sh)" >> "$FAKE_SLURM"/submitted
echo "$number" >> "$FAKE_SLURM"/queue
echo "$number;cluster"
"""
PROGRAMS = {
    "sbatch": SBATCH,
    "squeue": '#!/bin/bash\ncat "$FAKE_SLURM"/queue\n',
    "scontrol": '#!/bin/bash\necho "$@" >> "$FAKE_SLURM"/told\nkill -KILL $PPID\n',
}


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which `sbatch`, `squeue` and `scontrol` note what they are told."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name in ("submitted", "queue", "told"):
        (folder / name).touch()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder


@pytest.fixture
def recipe(write: Callable[..., Path], model_folder: Path) -> Path:
    """A recipe of three stages and four measurements; its model is only a shape."""
    write("text.jsonl", '{"text": "Il porto si sveglia prima della città."}\n')
    head = HEAD.replace("someone/model", str(model_folder))
    return write("recipe.toml", head + STAGES.format(folder=model_folder.parent))


def langadapt(*words: str | Path) -> str:
    done = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


# --- what is submitted ---


def test_a_job_for_each_stage_waits_for_the_jobs_of_those_that_it_needs(recipe, fake_slurm):
    out = recipe.parent / "run"
    said = langadapt("submit", recipe, "--out", out, "--set", "compute.slurm.partition=boost", "--set", "seed=3")
    order = ["evaluate-base", "adapt", "evaluate-adapt", "merged", "further", "evaluate-further"]
    assert lines(fake_slurm / "submitted") == [f"{101 + n} {stage}" for n, stage in enumerate(order)]
    flags = {stage: re.findall(r"^#SBATCH --(.*)$", (out / f"submit/{stage}.sh").read_text(), re.M) for stage in order}
    waits = {stage: [f for f in found if f.startswith(("dependency", "kill"))] for stage, found in flags.items()}
    assert waits == {
        "evaluate-base": [],
        "adapt": [],
        "evaluate-adapt": ["dependency=afterok:102", "kill-on-invalid-dep=yes"],
        "merged": ["dependency=afterok:102", "kill-on-invalid-dep=yes"],
        "further": ["dependency=afterok:102", "kill-on-invalid-dep=yes"],
        "evaluate-further": ["dependency=afterok:105", "kill-on-invalid-dep=yes"],
    }
    assert set(flags["adapt"]) == {
        "job-name=langadapt-trial-adapt",
        f"chdir={os.getcwd()}",
        "partition=boost",
        "nodes=1",
        "ntasks-per-node=1",
        f"output={out}/submit/adapt.log",
        "open-mode=append",
        "requeue",
        "signal=B:USR1@120",
    }
    assert "evaluate-further: job 106, after further" in said and "scancel 101 102 103 104 105 106" in said
    state = read(out / "run.json")
    assert state["status"] == "waiting" and {s["status"] for s in state["stages"]} == {"pending"}
    assert [c["key"] for c in state["changes"]] == ["compute.slurm.partition", "seed"]
    assert Recipe.load(out / "recipe.toml").table.seed == 3 and (out / "lock.json").exists()
    shown = langadapt("show", out)
    assert re.search(r"further +pending +105", shown) and "report" not in shown


def test_submitting_again_submits_only_what_is_neither_done_nor_in_the_queue(recipe, fake_slurm):
    out = recipe.parent / "run"
    langadapt("submit", recipe, "--out", out, "--set", "evaluation.automatic=false")
    assert [line.split()[1] for line in lines(fake_slurm / "submitted")] == ["adapt", "merged", "further"]
    again = json.loads(langadapt("submit", recipe, "--out", out, "--set", "evaluation.automatic=false", "--json"))
    assert [(job["stage"], job["job"], job["new"]) for job in again["jobs"]] == [
        ("adapt", "101", False),
        ("merged", "102", False),
        ("further", "103", False),
    ]
    assert len(lines(fake_slurm / "submitted")) == 3
    (fake_slurm / "queue").write_text("101\n")  # the other two were taken out
    langadapt("submit", recipe, "--out", out, "--set", "evaluation.automatic=false")
    assert [line.split()[1] for line in lines(fake_slurm / "submitted")[3:]] == ["merged", "further"]
    assert "--dependency=afterok:101\n" in (out / "submit/further.sh").read_text()
    finished(out, "adapt", recipe)
    (fake_slurm / "queue").write_text("")
    langadapt("submit", recipe, "--out", out, "--set", "evaluation.automatic=false")
    assert [line.split()[1] for line in lines(fake_slurm / "submitted")[5:]] == ["merged", "further"]
    assert "--dependency" not in (out / "submit/further.sh").read_text()
    assert [s["status"] for s in read(out / "run.json")["stages"]] == ["cached", "pending", "pending"]
    for stage in ("merged", "further"):
        finished(out, stage, recipe)
    assert "all stages are done" in langadapt("submit", recipe, "--out", out, "--set", "evaluation.automatic=false")


def finished(out: Path, stage: str, recipe: Path) -> None:
    """Puts an artifact of a stage into a run's folder, as if the stage had been run."""
    planned = Recipe.load(recipe, ["evaluation.automatic=false"]).plan(out).stage(stage)
    about = {"digest": planned.digest, "ingredients": planned.ingredients, "files": {}, "seconds": 1.0}
    (out / "stages" / stage).mkdir(parents=True)
    (out / "stages" / stage / "stage.json").write_text(json.dumps(about | {"accounting": {}, "metrics": {}}))


def test_jobs_of_another_version_of_the_recipe_must_leave_the_queue_first(recipe, fake_slurm):
    out = recipe.parent / "run"
    submit.submit(Recipe.load(recipe).plan(out))
    with pytest.raises(UserError, match=r"another version .*: further, evaluate-further; .*\(scancel 105 106\)"):
        submit.submit(Recipe.load(recipe, ["further.training.max_steps=3"]).plan(out))
    assert len(lines(fake_slurm / "submitted")) == 6


def test_a_dry_run_shows_the_scripts_and_leaves_nothing(recipe, fake_slurm):
    said = langadapt("submit", recipe, "--out", recipe.parent / "run", "--dry-run")
    assert said.count("#!/bin/bash") == 6 and "--dependency=afterok:JOB_OF_adapt\n" in said
    assert not (recipe.parent / "run").exists() and not lines(fake_slurm / "submitted")


def test_machines_are_started_by_srun_and_find_the_first_but_only_to_train(recipe, fake_slurm):
    changed = ["compute.machines=2", "compute.backend=ddp", "compute.slurm.cpus-per-task=8"]
    scripts = {j.stage: j.script for j in submit.submit(Recipe.load(recipe, changed).plan(), dry_run=True)}
    assert "#SBATCH --nodes=2\n" in scripts["adapt"] and "#SBATCH --cpus-per-task=8\n" in scripts["adapt"]
    assert "export MASTER_ADDR=$(scontrol show hostnames" in scripts["adapt"]
    assert re.search(r"^srun .*langadapt run .* --stage adapt &$", scripts["adapt"], re.M)
    assert "#SBATCH --nodes=1\n" in scripts["merged"] and "srun" not in scripts["merged"]


# --- what is refused ---


def test_what_sbatch_refuses_is_told_and_nothing_is_lost(recipe, fake_slurm):
    plan = Recipe.load(recipe, ["compute.slurm.partition=none"]).plan(recipe.parent / "run")
    with pytest.raises(UserError, match=r"stage evaluate-base: .*invalid partition specified: none; mend it"):
        submit.submit(plan)


def test_where_no_slurm_is_nothing_is_submitted(recipe, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="there is no sbatch here"):
        submit.submit(Recipe.load(recipe).plan(recipe.parent / "run"))
    assert not (recipe.parent / "run").exists()


def test_problems_of_the_plan_are_refused_before_anything_is_submitted(recipe, fake_slurm):
    (recipe.parent / "text.jsonl").unlink()
    done = CliRunner().invoke(cli, ["submit", str(recipe), "--out", str(recipe.parent / "run")])
    assert isinstance(done.exception, UserError) and "text.jsonl" in str(done.exception)
    assert not lines(fake_slurm / "submitted")


@pytest.mark.parametrize("name", ["dependency", "nodes", "signal", "array", "ntasks_per_node"])
def test_options_that_are_langadapts_own_are_refused_in_the_recipe(recipe, name):
    with pytest.raises(RecipeError, match=rf"compute.slurm.{name}: langadapt sets this itself"):
        Recipe.load(recipe, [f"compute.slurm.{name}=1"])


# --- the script when the time limit is near, or the job is cancelled ---


@pytest.mark.parametrize(
    ("sent", "new", "requeued", "says"),
    [
        (signal.SIGUSR1, True, True, "goes back into the queue"),
        (signal.SIGUSR1, False, False, "give the job more time"),
        (signal.SIGTERM, True, False, ""),
    ],
    ids=["time-limit", "nothing-new", "cancelled"],
)
def test_a_job_comes_back_when_its_time_is_up_and_it_came_further(
    recipe, fake_slurm, monkeypatch, sent, new, requeued, says
):
    out = recipe.parent / "run"
    checkpoints = out / "stages/.adapt.partial/checkpoints"
    (checkpoints / "checkpoint-9").mkdir(parents=True)
    program = recipe.parent / "python"  # in the place of langadapt: it writes a checkpoint when it is told to stop
    more = f"mkdir {checkpoints}/checkpoint-10; " if new else ""
    program.write_text(f"#!/bin/bash\ntrap '{more}exit 2' TERM\ntouch {out}/started\nwhile :; do sleep 0.1; done\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    (job,) = (j for j in submit.submit(Recipe.load(recipe).plan(out), dry_run=True) if j.stage == "adapt")
    script = out / "adapt.sh"
    script.write_text(job.script)
    environment = os.environ | {"SLURM_JOB_ID": "102", "SLURM_CPUS_ON_NODE": "1"}
    running = subprocess.Popen(
        ["bash", script], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (out / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        if sent == signal.SIGTERM:  # Slurm cancels all that a job runs
            os.killpg(running.pid, sent)
        else:
            running.send_signal(sent)
        output, _ = running.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    assert lines(fake_slurm / "told") == (["requeue 102"] if requeued else [])
    assert says in output
    assert running.returncode != 0


# --- runs of single stages ---


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of three stages on a real model of two layers."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model")
    rows = [{"text": f"Documento {n}: la barca {n} torna al porto con {n * 3} casse di pesce."} for n in range(60)]
    (folder / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    head = HEAD.replace("someone/model", str(folder / "model"))
    (folder / "recipe.toml").write_text(head + STAGES.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The folder of a run of all stages by one process."""
    Recipe.load(place / "recipe.toml").execute(place / "whole")
    return place / "whole"


def weights(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.glob("stages/*/*/*.safetensors"))}


def measured(out: Path) -> list[tuple[str, str, float, float | None]]:
    return [(r["stage"], r["metric"], r["value"], r.get("change")) for r in read(out / "report.json")]


def statuses(out: Path) -> dict[str, str]:
    return {stage["id"]: stage["status"] for stage in read(out / "run.json")["stages"]}


@pytest.mark.slow
def test_single_stages_one_after_the_other_make_what_a_run_of_all_makes(place, whole, tmp_path):
    out, changed = tmp_path / "run", ["rehearsal.cpt_steps=5"]  # of which no stage depends
    langadapt("run", place / "recipe.toml", "--set", *changed, "--out", out, "--stage", "evaluate-base")
    assert statuses(out)["evaluate-base"] == "done" and read(out / "run.json")["status"] == "waiting"
    assert {row[0] for row in measured(out)} == {"base"}, "the report tells of what is done so far"
    kept = out / "recipe.toml"
    langadapt("run", kept, "--out", out, "--stage", "merged", "--stage", "adapt")
    assert not (out / "stages/further").exists() and "<dd>waiting</dd>" in (out / "report.html").read_text()
    for stage in ("further", "evaluate-further", "evaluate-adapt"):
        langadapt("run", kept, "--out", out, "--stage", stage)
    state = read(out / "run.json")
    assert state["status"] == "done" and set(statuses(out).values()) == {"done"}
    assert [c["key"] for c in state["changes"]] == ["rehearsal.cpt_steps"]
    assert state["seconds"] == pytest.approx(sum(stage["seconds"] for stage in state["stages"]), abs=0.1)
    assert weights(out) == weights(whole) and len(weights(out)) == 3
    assert sorted(measured(out), key=str) == sorted(measured(whole), key=str)


def test_a_stage_whose_parent_is_not_done_is_refused(place, tmp_path):
    with pytest.raises(UserError, match=r"stage further needs adapt, which is not done \(not done yet\); run it first"):
        Recipe.load(place / "recipe.toml").plan(tmp_path / "run").execute(stages=["further"])
    assert not (tmp_path / "run").exists()


def test_a_stage_that_there_is_not_is_refused_with_the_nearest(place, tmp_path):
    with pytest.raises(UserError, match=r'no stage "adpt"; did you mean "adapt"\?'):
        Recipe.load(place / "recipe.toml").plan(tmp_path / "run").execute(stages=["adpt"])


def test_two_stages_of_one_folder_may_run_at_once_but_not_twice_and_not_beside_all(tmp_path):
    def refused(said: str, stages: tuple[str, ...] = ()) -> None:
        with pytest.raises(UserError, match=said), locked(tmp_path, stages):
            pass

    (tmp_path / "run.json").touch()
    with locked(tmp_path, ["adapt"]), locked(tmp_path, ["merged"]):
        refused("stage adapt is being run already", ("adapt",))
        refused("is being run already")
    with locked(tmp_path):
        refused("in use by another run", ("adapt",))
        refused("in use by another run")
    with locked(tmp_path, ["adapt"]):
        pass


@pytest.mark.slow
def test_run_json_keeps_what_runs_of_other_stages_write_meanwhile(place, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    plan = Recipe.load(place / "recipe.toml", ["further.training.max_steps=3"]).plan(tmp_path / "run")
    mine, theirs = ({**run_state.begin(plan)} for _ in range(2))
    entry = {name: {s["id"]: s for s in state["stages"]} for name, state in (("mine", mine), ("theirs", theirs))}
    others = {stage.id for stage in plan.stages}
    entry["theirs"]["further"].update(status="running")
    with FileLock(tmp_path / "run/.locks/further"):
        run_state.write(tmp_path / "run", theirs, others - {"further"})
        run_state.write(tmp_path / "run", mine, others - {"evaluate-further"})
        assert statuses(tmp_path / "run")["further"] == "running" and mine["status"] == "running"
    run_state.write(tmp_path / "run", mine, others - {"evaluate-further"})
    assert entry["mine"]["further"]["reason"] == "interrupted", "its process has died"
    entry["theirs"]["further"].update(status="failed", reason="no room")
    run_state.write(tmp_path / "run", theirs, others - {"further"})
    run_state.write(tmp_path / "run", mine, others - {"evaluate-further"})
    assert (mine["status"], entry["mine"]["further"]["reason"]) == ("failed", "no room")


# --- a real Slurm ---


@pytest.mark.slow
@pytest.mark.skipif(not has_slurm(), reason="no Slurm cluster answers on this machine")
def test_a_real_slurm_makes_what_one_process_makes_also_when_a_job_is_requeued(place, whole, tmp_path):
    out = tmp_path / "run"
    made = submit.submit(Recipe.load(place / "recipe.toml", ["adapt.training.logging_steps=1"]).plan(out))
    adapt = next(job.job for job in made if job.stage == "adapt")
    deadline = time.monotonic() + 900
    while not list(out.glob("stages/.adapt.partial/checkpoints/*/seal.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    subprocess.run(["scontrol", "requeue", adapt], check=True)
    while submit.waiting(out) and time.monotonic() < deadline:
        time.sleep(1)
    assert "goes on from checkpoint-" in (out / "submit/adapt.log").read_text()
    assert read(out / "run.json")["status"] == "done" and set(statuses(out).values()) == {"done"}
    assert weights(out) == weights(whole)
    assert sorted(measured(out), key=str) == sorted(measured(whole), key=str)


@pytest.mark.slow
@pytest.mark.skipif(not has_slurm(), reason="no Slurm cluster answers on this machine")
def test_a_real_slurm_runs_nothing_behind_a_stage_that_fails(place, tmp_path):
    out = tmp_path / "run"
    changes = ["evaluation.automatic=false", "adapt.training.learning_rate=1e30", "adapt.training.max_grad_norm=0.0"]
    submit.submit(Recipe.load(place / "recipe.toml", changes).plan(out))
    deadline = time.monotonic() + 600
    while submit.waiting(out) and time.monotonic() < deadline:
        time.sleep(1)
    assert "stage adapt: the loss became" in (out / "submit/adapt.log").read_text()
    assert read(out / "run.json")["status"] == "failed" and not (out / "submit/merged.log").exists()
    assert statuses(out) == {"adapt": "failed", "merged": "pending", "further": "pending"}
