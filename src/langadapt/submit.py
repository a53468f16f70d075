"""`langadapt submit`: a job of Slurm for each stage that is not done, which waits for the jobs of those that it needs.

A job runs `langadapt run --stage ID` on what `submit` leaves in the run's folder, so what comes of it is what comes of
`langadapt run`. Which jobs there are is kept in `submit/jobs.json`: the same command submits again what failed, and nothing
twice.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts, run_state, slurm
from langadapt.errors import UserError
from langadapt.locks import alone, refuse_others
from langadapt.plugins import registry

if TYPE_CHECKING:
    from langadapt.plan import Plan, PlannedStage

FOLDER = "submit"  # in the run's folder
GRACE = 120  # seconds before the time limit at which a stage is told to stop at its next clean place
KILLED = 30  # seconds before it at which one that has not stopped is killed: its newest checkpoint is what there is
OWNED = (
    *slurm.OWNED,
    *("dependency", "kill-on-invalid-dep", "nodes", "ntasks", "ntasks-per-node", "no-requeue", "open-mode", "requeue"),
    "signal",
)

# That the time limit is near is told by another signal than that a job is cancelled or preempted: a job that is cancelled
# must not come back, and one that is preempted does so by itself. What has nothing new to go on from would meet the same
# limit again and again.
_WATCHED = """\
reached() {{ {reached}; }}
before=$(reached)
{command} &
stage=$!
trap 'limit=near; kill -TERM $stage; (sleep {patience}; kill -KILL $stage) > /dev/null 2>&1 &' USR1
trap : TERM  # what runs gets it, too
while kill -0 $stage 2> /dev/null; do wait $stage; done
wait $stage; code=$?
if [ "$limit" ] && [ $code -ne 0 ]; then
    if [ "$(reached)" != "$before" ]; then
        echo "langadapt: the time limit is near; the job goes back into the queue"
        scontrol requeue "$SLURM_JOB_ID" && exec sleep {grace}
    fi
    echo "langadapt: the time limit came before there was anything new to go on from; give the job more time"
fi
exit $code"""
_MACHINES = """\
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_ON_NODE\""""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage in Slurm's queue.

    Attributes:
        stage: its id.
        job: number of the job; what stands for it where nothing was submitted.
        digest: of the stage when it was submitted.
        after: ids of the stages whose jobs it waits for.
        new: whether it was submitted now and not before.
        script: text of the batch script.
    """

    stage: str
    job: str
    digest: str
    after: tuple[str, ...] = ()
    new: bool = True
    script: str = ""


def submit(plan: Plan, *, dry_run: bool = False) -> list[Job]:
    """Submits a job for each stage that is neither done nor in the queue.

    Args:
        plan: of the run.
        dry_run: only say what would be submitted; nothing is written and nobody asked for revisions.

    Returns:
        The jobs of all stages that are not done, in the order of the run.

    Raises:
        UserError: something is in the way, a run is at work in the folder, jobs of another version of the recipe are in
            the queue, or Slurm does not take a job; those before it stay in the queue.
    """
    from langadapt.run import pin

    if said := [*plan.problems, *filter(None, [slurm.missing()] if not dry_run else [])]:
        raise UserError("\n".join(said))
    if dry_run:
        queued = waiting(plan.folder)
        return list(_jobs(plan, queued, lambda stage, script: f"JOB_OF_{stage.id}"))
    pin(plan)
    with alone(plan.folder):
        queued = waiting(plan.folder)
        _refuse_changed(plan, queued)
        wanted = [stage.id for stage in _pending(plan) if stage.id not in queued]
        if wanted:
            refuse_others(plan.folder, wanted)
            _describe(plan, wanted)
        made = []
        for job in _jobs(plan, queued, lambda stage, script: _hand_over(plan, stage, script)):
            made.append(job)
            _remember(plan.folder, job)
    return made


def cancel(jobs: Iterable[Job]) -> str:
    """The command that takes jobs out of the queue again."""
    return " ".join(["scancel", *(job.job for job in jobs)])


def to_json(plan: Plan, made: list[Job]) -> dict[str, Any]:
    """What `--json` prints of a submission."""
    described = [vars(job) | {"log": str(log(plan.folder, job.stage))} for job in made]
    return {"folder": str(plan.folder), "jobs": described, "cancel": cancel(made) if made else ""}


def _pending(plan: Plan) -> list[PlannedStage]:
    return [stage for stage in plan.stages if stage.status == "pending"]


def _jobs(plan: Plan, queued: Mapping[str, Job], hand_over: Callable[[PlannedStage, str], str]) -> Iterator[Job]:
    """The jobs of stages that are not done, parents first; `hand_over` takes a stage and its script and gives a number."""
    numbers: dict[str, str] = {}
    for stage in _pending(plan):
        after = {need.id: numbers[need.id] for need in plan.awaited(stage)}
        if (job := queued.get(stage.id)) is None:
            text = script(plan, stage, list(after.values()))
            number = hand_over(stage, text)
            job = Job(stage=stage.id, job=number, digest=stage.digest, after=tuple(after), script=text)
        numbers[stage.id] = job.job
        yield job


def script(plan: Plan, stage: PlannedStage, after: list[str]) -> str:
    """The batch script of a stage.

    A job that is preempted or whose node fails comes back by `--requeue`, and goes on from its newest checkpoint.

    Args:
        plan: of the run.
        stage: which one.
        after: numbers of the jobs that must have ended well before.
    """
    table, folder = plan.recipe.table, plan.folder.resolve()
    machines = table.compute.machines if stage.trains else 1
    flags = {
        "job-name": f"langadapt-{table.name}-{stage.id}",
        "chdir": os.getcwd(),
        **table.compute.slurm,
        "nodes": machines,
        "ntasks-per-node": 1,
        "output": slurm.output(log(folder, stage.id)),
        "open-mode": "append",
        "requeue": True,
        "signal": f"B:USR1@{GRACE}",
        **({"dependency": ":".join(["afterok", *after]), "kill-on-invalid-dep": "yes"} if after else {}),
    }
    command = slurm.langadapt("run", str(folder / "recipe.toml"), "--out", str(folder), "--stage", stage.id)
    watched = _WATCHED.format(
        reached=_reached(stage, folder),
        command=f"srun --kill-on-bad-exit=1 {command}" if machines > 1 else command,
        patience=GRACE - KILLED,
        grace=GRACE,
    )
    return slurm.script(flags, [*([_MACHINES] if machines > 1 else []), watched])


def log(folder: Path, stage: str) -> Path:
    """Where the output of a stage's jobs goes, one after the other."""
    return folder / FOLDER / f"{stage}.log"


def _reached(stage: PlannedStage, folder: Path) -> str:
    """A command whose output differs when a stage has come further: the newest checkpoint, or the time where the kind
    remembers all that it does.
    """
    if registry().stages[stage.kind].makes == "corpus":
        return "date +%s"
    checkpoints = shlex.quote(str(folder / "stages" / f".{stage.id}.partial" / "checkpoints"))
    return f"ls {checkpoints} 2> /dev/null | sort -V | tail -n 1"


# --- what is left in the folder --------------------------------------------------------------------------------------


def _describe(plan: Plan, wanted: list[str]) -> None:
    """Writes what the jobs read: the recipe as it is now, the pinned revisions, and a state that they go on with."""
    (plan.folder / FOLDER).mkdir(exist_ok=True)
    state = run_state.begin(plan) | {"status": "waiting"}
    run_state.describe(plan, state, {stage.id for stage in plan.stages} - set(wanted))


def _remember(folder: Path, job: Job) -> None:
    file = folder / FOLDER / "jobs.json"
    kept = {"job": job.job, "digest": job.digest, "after": job.after}
    artifacts.write_json(file, (artifacts.read_json(file) or {}) | {job.stage: kept})


def jobs(folder: Path) -> dict[str, Job]:
    """The newest job of each stage that was submitted, by the stage's id; it may have ended."""
    kept = artifacts.read_json(folder / FOLDER / "jobs.json") or {}
    return {
        stage: Job(stage=stage, job=job["job"], digest=job["digest"], after=tuple(job["after"]), new=False)
        for stage, job in kept.items()
    }


# --- Slurm -----------------------------------------------------------------------------------------------------------


def waiting(folder: Path) -> dict[str, Job]:
    """The jobs of earlier submissions that wait or run, by the stages' ids.

    Raises:
        UserError: Slurm does not answer.
    """
    known = jobs(folder)
    if not known:
        return {}
    alive = set(_ask("squeue", "--me", "--noheader", "--format=%A").split())
    return {stage: job for stage, job in known.items() if job.job in alive}


def _refuse_changed(plan: Plan, queued: Mapping[str, Job]) -> None:
    """Jobs read the recipe when they start, so those in the queue must not find another one."""
    digests = {stage.id: stage.digest for stage in plan.stages}
    changed = [job for job in queued.values() if digests.get(job.stage) != job.digest]
    if changed:
        raise UserError(
            f"{plan.folder}: jobs of another version of this recipe are in the queue: "
            f"{', '.join(job.stage for job in changed)}; wait for them, take them out ({cancel(changed)}), or choose "
            "another folder with --out"
        )


def _hand_over(plan: Plan, stage: PlannedStage, text: str) -> str:
    file = plan.folder / FOLDER / f"{stage.id}.sh"
    artifacts.write_text(file, text)
    try:
        return _ask("sbatch", "--parsable", str(file)).strip().partition(";")[0]
    except UserError as error:
        raise UserError(f"stage {stage.id}: {error}; mend it, and the same command submits what is missing") from None


def _ask(*command: str) -> str:
    """What a program of Slurm answers."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise UserError(f"{command[0]} cannot be run: {error.strerror}; start this on a node of the cluster") from None
    if done.returncode:
        raise UserError(
            f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip() or 'it said nothing'}"
        )
    return done.stdout
