"""Processes that train a stage together: how they are started, heard, stopped, and what each of them does.

A process is `python -m langadapt.processes`. It gets its job, a line of JSON, through its standard input, gives events and
in the end its result through its standard output, and ends when its input does, so that none outlives the run that
started it, whoever died and how. Each plans the stage again from the recipe and the pinned revisions in the run's
folder, which must come to the digest that it is told, and reads the rows that were packed before it was started.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from langadapt import compute
from langadapt.artifacts import ModelRef
from langadapt.errors import Interrupted, LangadaptError, RunError, UserError

if TYPE_CHECKING:
    from langadapt.compute import Processes
    from langadapt.events import EventLog
    from langadapt.run import StageContext, StageResult

FOLDER = "processes"  # in the run's folder, with a folder of logs for each stage
PAUSE = 0.1  # seconds between looks at what runs
_ERRORS: Mapping[str, type[LangadaptError]] = {kind.__name__: kind for kind in (Interrupted, UserError, RunError)}


def wanted(context: StageContext) -> bool:
    """Whether the stage is to be trained by processes that are yet to be started, and not by this one."""
    return context.rows is None and of(context).apart


def of(context: StageContext) -> Processes:
    """The processes that train the recipe's stages."""
    return compute.processes(context.plan.recipe.table.compute, context.machine)


def train(context: StageContext, rows: Path) -> StageResult:
    """Has the processes of the recipe's `[compute]` train a stage, on this machine and on the others.

    Args:
        context: of the stage.
        rows: folder of what was packed for it.

    Returns:
        What the first of them gives back.

    Raises:
        UserError: one of them refuses something of the recipe.
        RunError: one failed or died, or another machine did; none runs any more.
        Interrupted: the user stopped it, and there is a checkpoint to go on from.
    """
    from langadapt.run import StageResult

    _leave_the_gpu()
    address = compute.first_machine() if context.others else "127.0.0.1"
    job = {
        "stage": context.stage.id,
        "digest": context.stage.digest,
        "run": str(context.plan.folder.resolve()),
        "folder": str(context.folder.resolve()),
        "rows": str(rows.resolve()),
        "model": _to_json(context.model),
        "address": address,
        "port": _free_port(),
    }
    context.log.info(f"{of(context)}; logs in {context.plan.folder / FOLDER / context.stage.id}")
    group = Group(job, of(context), number=0, relay=lambda event, fields: getattr(context.log, event)(**fields))
    others = context.others
    if others:
        others.begin(job)
    return StageResult(**group.run(stopped=context.stop.is_set, done=others.ended if others else lambda: True))


def _leave_the_gpu() -> None:
    """Gives back what earlier stages left in this process's cache of GPU memory."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _to_json(ref: ModelRef) -> dict[str, Any]:
    return {**asdict(ref), "adapters": [str(folder) for folder in ref.adapters]}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


# --- the end of the run ----------------------------------------------------------------------------------------------


class Group:
    """The processes of one machine.

    Args:
        job: what they are to do.
        shape: how many there are, here and in all.
        number: of this machine.
        relay: gets the events of the first process of all: the name of a method of `EventLog`, and its arguments.
    """

    def __init__(
        self, job: Mapping[str, Any], shape: Processes, *, number: int, relay: Callable[[str, dict[str, Any]], None]
    ):
        logs = Path(job["run"]) / FOLDER / job["stage"]
        logs.mkdir(parents=True, exist_ok=True)
        first = number * shape.here
        self.members: list[_Member] = []
        try:
            for local in range(shape.here):
                world = {
                    "RANK": first + local,
                    "LOCAL_RANK": local,
                    "WORLD_SIZE": shape.total,
                    "LOCAL_WORLD_SIZE": shape.here,
                    "MASTER_ADDR": job["address"],
                    "MASTER_PORT": job["port"],
                }
                hears = relay if first + local == 0 else None
                self.members.append(_Member(job, world, logs / f"{first + local}.log", relay=hears))
        except BaseException:
            self.end()
            raise

    def run(self, *, stopped: Callable[[], bool], done: Callable[[], bool]) -> dict[str, Any]:
        """Waits until all have ended, here and on the other machines.

        Args:
            stopped: whether to stop; the processes then write a checkpoint first.
            done: whether the other machines have; raises when one of them has failed.

        Returns:
            What the first process gave back; empty on another machine than the first.

        Raises:
            RunError: one has failed, here or there.
            UserError: one refuses something of the recipe.
            Interrupted: they were asked to stop.
        """
        told = False
        try:
            while not (self._ended() & done()):  # both are looked at: what failed there is why it hangs here
                if stopped() and not told:
                    told = True
                    for member in self.members:
                        member.stop()
                time.sleep(PAUSE)
        finally:
            self.end()
        if (error := next(filter(None, (member.error for member in self.members)), None)) is not None:
            raise error
        return self.members[0].result

    def _ended(self) -> bool:
        """Whether all have, as they should.

        Raises:
            RunError, UserError: one has failed.
        """
        codes = [member.process.poll() for member in self.members]
        failed = [member for member, code in zip(self.members, codes, strict=True) if code and not member.was_stopped]
        if failed:
            # One that dies takes others with it: what these say of that is no news.
            raise min(failed, key=lambda member: member.rank_of_failure()).failure()
        return None not in codes

    def end(self) -> None:
        """Ends all of them, whatever they are at."""
        for member in self.members:
            member.end()


class _Member:
    """A process and the pipes to it."""

    def __init__(
        self,
        job: Mapping[str, Any],
        world: Mapping[str, Any],
        log: Path,
        *,
        relay: Callable[[str, dict[str, Any]], None] | None,
    ):
        self.job, self.number, self.of, self.log = job, world["RANK"], world["WORLD_SIZE"], log
        self.result: dict[str, Any] = {}
        self.error: LangadaptError | None = None
        self._relay = relay
        # The same modules as here, wherever they come from. In a session of its own it does not get the terminal's
        # Ctrl-C, which is this process's to handle.
        environment = os.environ | {name: str(value) for name, value in world.items()}
        environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "TOKENIZERS_PARALLELISM": "false"}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // world["LOCAL_WORLD_SIZE"])))
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "langadapt.processes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._tell(json.dumps(job))

    def stop(self) -> None:
        """Asks it to stop at the next clean place."""
        self._tell("stop")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join()
        assert self.process.stdin and self.process.stdout
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                continue

    @property
    def was_stopped(self) -> bool:
        """Whether it ended because it was asked to."""
        self._hear_out()
        return isinstance(self.error, Interrupted)

    def rank_of_failure(self) -> tuple[int, int]:
        """Where its failure stands among those of several processes: words first, then a sudden death."""
        told, killed = self.error is not None, self.process.returncode < 0
        return 0 if told else 1 if killed else 2, self.number

    def failure(self) -> LangadaptError:
        """Why it ended, in words."""
        if self.error is not None:
            return self.error
        code = self.process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        short = ", as the system does when memory is short" if code == -signal.SIGKILL else ""
        words = self._last_words()
        return RunError(
            f"stage {self.job['stage']}: process {self.number} of the {self.of} that train it {how}{short}"
            f"{f' ({words})' if words else ''}; its log is {self.log}. The same command goes on from the last checkpoint"
        )

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].strip() if lines and self.process.returncode > 0 else ""

    def _hear_out(self) -> None:
        if self.process.poll() is not None:
            self._listener.join()

    def _tell(self, line: str) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:  # it has ended; that is seen when it is looked at
            pass

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            event, fields = json.loads(line)
            if event == "result":
                self.result = fields
            elif event == "error":
                self.error = _ERRORS[fields["kind"]](fields["words"])
            elif self._relay:
                self._relay(event, fields)


# --- the end of a process that trains --------------------------------------------------------------------------------


class _Relay:
    """Stands in for `EventLog`: what it is told is said by the process that runs the stages."""

    def __init__(self, pipe: IO[bytes]):
        self._pipe = pipe

    def tell(self, event: str, fields: Mapping[str, Any]) -> None:
        self._pipe.write(json.dumps([event, fields], default=float).encode() + b"\n")
        self._pipe.flush()

    def info(self, message: str) -> None:
        self.tell("info", {"message": message})

    def warning(self, message: str) -> None:
        self.tell("warning", {"message": message})

    def step(self, **fields: Any) -> None:
        self.tell("step", fields)


def main() -> None:
    """Does the job that comes through standard input, and is gone when that ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a plugin prints goes to the log
    for number in (signal.SIGINT, signal.SIGTERM):  # a scheduler sends them to all processes: one of them decides
        signal.signal(number, signal.SIG_IGN)
    job, stop, relay = json.loads(requests.readline()), threading.Event(), _Relay(answers)
    threading.Thread(target=_obey, args=(requests, stop), daemon=True).start()
    code = 1
    try:
        relay.tell("result", asdict(_train(job, stop, relay)))
        code = 0
    except LangadaptError as error:
        kind = next(name for name, kind in _ERRORS.items() if isinstance(error, kind))
        relay.tell("error", {"kind": kind, "words": str(error)})
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)  # a process group that has lost a member does not come down by itself


def _obey(requests: IO[bytes], stop: threading.Event) -> None:
    for _ in requests:  # there is one request
        stop.set()
    os._exit(1)  # nobody waits for the result any more


def _train(job: Mapping[str, Any], stop: threading.Event, relay: _Relay) -> StageResult:
    """
    Raises:
        RunError: this process plans another stage than the one that started it, or the machine failed it.
    """
    from langadapt.plugins import registry
    from langadapt.recipe import Recipe
    from langadapt.run import StageContext, in_words

    run, folder = Path(job["run"]), Path(job["folder"])
    plan = Recipe.load(run / "recipe.toml").plan(run)
    stage = plan.stage(job["stage"])
    if stage.digest != job["digest"]:
        raise RunError(
            f"stage {stage.id}: {socket.gethostname()} plans another stage than the machine that runs it; the run's folder, "
            "the corpora, and the versions of langadapt and of its plugins must be the same on all machines"
        )
    given = job["model"]
    model = ModelRef(**{**given, "adapters": tuple(map(Path, given["adapters"]))})
    context = StageContext(
        stage=stage,
        plan=plan,
        folder=folder,
        model=model,
        models={},
        registry=registry(),
        log=cast("EventLog", relay),
        machine=plan.machine,
        seed=plan.recipe.table.seed,
        stop=stop,
        rows=Path(job["rows"]),
    )
    _take_a_gpu(context)
    try:
        result: StageResult = registry().stages[stage.kind].run(context)
        return result
    except Exception as error:
        if (told := in_words(error, stage, folder, room=plan.machine.room)) is not None:
            raise told from None
        raise


def _take_a_gpu(context: StageContext) -> None:
    """Makes the process's own GPU the one that "cuda" means."""
    if context.machine.cuda:
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


if __name__ == "__main__":
    main()
