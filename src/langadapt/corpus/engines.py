"""What runs the tasks of a preparation on other machines: a Slurm job array, or a Ray cluster.

An engine starts one command once for each task and waits. The command is the same everywhere, `langadapt corpus prepare
… --task R --tasks N`, so an engine knows nothing of corpora, and what it starts can be started by hand.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from langadapt import slurm
from langadapt.corpus.cache import VARIABLE as CACHE
from langadapt.corpus.cache import cache_folder
from langadapt.corpus.workers import VARIABLE as WORKERS
from langadapt.errors import Interrupted, RunError, UserError

PAUSE = 1.0  # seconds between looks at what runs


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """What an engine is to do.

    Attributes:
        name: of the job, as queues show it.
        command: words of `langadapt`; an engine adds `--task` and a number.
        folder: absolute; for the engine's own files and for the log of each task, on a disk that all machines see.
        numbers: the tasks that are to run.
        options: of the engine, by its own names.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    numbers: tuple[int, ...]
    options: Mapping[str, Any]

    def log(self, number: int) -> Path:
        """Where a task's output goes."""
        return self.folder / f"{number}.log"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A way to run tasks elsewhere.

    Attributes:
        missing: why it cannot be used on this machine, and what to do; "" when it can.
        owned: options that langadapt sets itself.
        run: runs tasks until all have ended, or the second argument says to stop; gives the tasks that failed.
    """

    missing: Callable[[], str]
    owned: Collection[str]
    run: Callable[[Tasks, Callable[[], bool]], list[int]]


# --- Slurm -----------------------------------------------------------------------------------------------------------


def slurm_script(tasks: Tasks) -> str:
    """The batch script of a job array; it is handed to `sbatch` as it stands, by us or by hand.

    A task that Slurm requeues, because its node failed or the job was preempted, goes on with what is missing.
    """
    flags = {
        "job-name": tasks.name,
        **tasks.options,
        "array": ",".join(map(str, tasks.numbers)),
        "output": slurm.output(tasks.folder) + "/%a.log",
    }
    command = slurm.langadapt(*tasks.command, "--task")
    done = shlex.quote(str(tasks.folder))
    return slurm.script(flags, [f'{command} "$SLURM_ARRAY_TASK_ID" && touch {done}/"$SLURM_ARRAY_TASK_ID.done"'])


def _run_by_slurm(tasks: Tasks, stopped: Callable[[], bool]) -> list[int]:
    script = tasks.folder / "job.sh"
    script.write_text(slurm_script(tasks), encoding="utf-8")
    marks = {number: tasks.folder / f"{number}.done" for number in tasks.numbers}
    for mark in marks.values():
        mark.unlink(missing_ok=True)
    job = subprocess.Popen(
        ["sbatch", "--parsable", "--wait", str(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # the terminal's Ctrl-C is ours to handle: the job has to be cancelled
    )
    assert job.stdout and job.stderr
    identity = job.stdout.readline().strip().partition(";")[0]
    if not identity:
        said = job.stderr.read().strip()
        job.wait()
        raise UserError(
            f"sbatch did not take the job {script}: {said or 'it said nothing'}; mend the options of [preparation]"
        )
    try:
        _wait(lambda: job.poll() is not None, stopped)
    except BaseException:
        subprocess.run(["scancel", identity], check=False)
        os.killpg(job.pid, signal.SIGKILL)
        raise
    finally:
        job.communicate()
    return [number for number, mark in marks.items() if not mark.exists()]


# --- Ray -------------------------------------------------------------------------------------------------------------


def _run_by_ray(tasks: Tasks, stopped: Callable[[], bool]) -> list[int]:
    """By the cluster that `RAY_ADDRESS` names, or one on this machine that is started for it."""
    import ray

    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    try:
        start = ray.remote(_in_a_process)
        cores = max(1, int(tasks.options.get("num_cpus", 1)))
        environment = {
            name: value for name, value in os.environ.items() if name.startswith(("LANGADAPT_", "HF_", "PYTHONPATH"))
        }
        environment |= {CACHE: str(cache_folder().resolve()), WORKERS: str(cores)}
        under_way = {
            start.options(name=f"{tasks.name}-{number}", **tasks.options).remote(
                [*tasks.command, "--task", str(number)], str(tasks.log(number)), environment, os.getcwd()
            ): number
            for number in tasks.numbers
        }
        try:
            _wait(
                lambda: len(ray.wait(list(under_way), num_returns=len(under_way), timeout=0)[0]) == len(under_way),
                stopped,
            )
        except BaseException:
            for task in under_way:
                ray.cancel(task)
            raise
        return [number for task, number in under_way.items() if not _succeeded(task)]
    finally:
        if ours:
            ray.shutdown()


def _in_a_process(command: list[str], log: str, environment: dict[str, str], folder: str) -> int:
    """What a task of Ray does; the exit code."""
    with open(log, "ab") as output:
        return subprocess.run(
            [sys.executable, "-P", "-m", "langadapt", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            cwd=folder,
        ).returncode


def _succeeded(task: Any) -> bool:
    import ray

    try:
        return bool(ray.get(task) == 0)
    except ray.exceptions.RayError:  # its node was lost, or short of memory, more often than Ray tries again
        return False


# --- all -------------------------------------------------------------------------------------------------------------


def _wait(ended: Callable[[], bool], stopped: Callable[[], bool]) -> None:
    import time

    while not ended():
        if stopped():
            raise Interrupted("stopped while a corpus was prepared; the same command prepares what is missing")
        time.sleep(PAUSE)


ENGINES: Mapping[str, Engine] = {
    "slurm": Engine(
        missing=slurm.missing,
        owned=slurm.OWNED,
        run=_run_by_slurm,
    ),
    "ray": Engine(
        missing=lambda: "" if find_spec("ray") else "Ray is not installed; pip install 'langadapt[ray]'",
        owned=("name", "num_returns"),
        run=_run_by_ray,
    ),
}


def run(engine: str, tasks: Tasks, retries: int, stopped: Callable[[], bool]) -> None:
    """Runs tasks by an engine, those that fail once more for each retry.

    Args:
        engine: a name of `ENGINES`.
        tasks: what to run.
        retries: how often a task that failed is started again.
        stopped: whether to stop; asked about once a second.

    Raises:
        UserError: the engine did not take them.
        RunError: tasks failed for good; the message says where their logs are.
        Interrupted: `stopped` said so; nothing runs any more.
    """
    from dataclasses import replace

    tasks.folder.mkdir(parents=True, exist_ok=True)
    for number in tasks.numbers:
        tasks.log(number).unlink(missing_ok=True)
    failed = list(tasks.numbers)
    for _ in range(1 + retries):
        failed = ENGINES[engine].run(replace(tasks, numbers=tuple(failed)), stopped)
        if not failed:
            return
    raise RunError(
        f"{len(failed)} of {len(tasks.numbers)} tasks by which {engine} prepares corpora failed"
        f"{_last_words(tasks.log(failed[0]))}; their logs are "
        f"{', '.join(str(tasks.log(number)) for number in failed[:4])}{' and others' if len(failed) > 4 else ''}. "
        "The same command prepares what is missing"
    )


def _last_words(log: Path) -> str:
    """What a task said in the end."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return " before they said anything"
    return f" ({lines[-1].removeprefix('langadapt: ')})" if lines else " without a word"
