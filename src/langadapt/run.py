"""The run: stages one after the other, each leaving an artifact or nothing."""

from __future__ import annotations

import gc
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts, compute, energy, machines, preparation, run_state, trackers
from langadapt.artifacts import ModelRef
from langadapt.errors import Interrupted, RunError, UserError, nearest
from langadapt.events import EventLog
from langadapt.inputs import Input
from langadapt.locks import alone, locked
from langadapt.machine import Machine, free_disk, release_memory, reset_peak_memory
from langadapt.plan import Plan, PlannedStage, base_fingerprint, fingerprint_stages, smaller, too_large
from langadapt.plugins import Registry, registry
from langadapt.recipe import BASE
from langadapt.records import StageKind
from langadapt.sharing import share

if TYPE_CHECKING:
    from langadapt.machines import Others

HOPELESS = 1.5  # times the memory that there is: beyond any error of the estimate, and what may be swapped out
NO_ROOM = 2**20  # bytes: a disk with less than this is full, whatever words a library has for that
PACKAGES = (
    "langadapt",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "tokenizers",
    "datasets",
    "trl",
    "numpy",
)


@dataclass(kw_only=True)
class StageContext:
    """What a stage is given to work with.

    Attributes:
        stage: its plan.
        plan: of the whole run.
        folder: an empty folder, or the one that an interrupted run of the same stage left; what is in it in the end,
            but for `checkpoints` and `packed`, is the artifact.
        model: the model to start from or to measure.
        models: every model of the run so far, by stage id.
        registry: everything that the core and the installed plugins offer.
        log: takes lines and figures for the screen and for `events.jsonl`.
        machine: where it runs.
        seed: of the run.
        stop: set when the user asks to stop; a stage looks at it now and then, keeps what it has, and raises `Interrupted`.
        rows: folder of what was packed for the stage, in a process that is one of those that train it.
        others: the other machines that train with this one.
    """

    stage: PlannedStage
    plan: Plan
    folder: Path
    model: ModelRef
    models: dict[str, ModelRef]
    registry: Registry
    log: EventLog
    machine: Machine
    seed: int
    stop: threading.Event
    rows: Path | None = None
    others: Others | None = None

    def tokenizer(self) -> Any:
        """The tokenizer of the model, of transformers."""
        from langadapt.loading import load_tokenizer

        return load_tokenizer(self.model.tokenizer)


@dataclass(kw_only=True)
class StageResult:
    """What a stage says when it is done.

    Attributes:
        accounting: where everything that it read went.
        metrics: figures of the stage itself.
        rows: rows for `report.json`, without `stage`.
    """

    accounting: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True)
class Run:
    """A finished run.

    Attributes:
        folder: that it left its work in.
        state: what `run.json` says there.
        rows: what `report.json` says there: a row for each figure.
    """

    folder: Path
    state: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"


def execute(
    plan: Plan,
    *,
    stages: Collection[str] = (),
    console: Any = None,
    try_anyway: bool = False,
    siblings: Collection[Path] = (),
) -> Run:
    """See `Plan.execute`."""
    from rich.console import Console

    console = console or Console(stderr=True)
    known = [stage.id for stage in plan.stages]
    for id in stages:
        if id not in known:
            raise UserError(f'{plan.recipe.source}: there is no stage "{id}"; {nearest(id, known)}')
    to_do = [stage for stage in plan.stages if stage.status != "cached" and stage.id in (stages or known)]
    trains = any(stage.trains for stage in to_do)
    if said := [*plan.problems, *(plan.lacks if trains else [])]:
        raise UserError("\n".join(said))
    if not try_anyway and (hopeless := too_large(to_do, room=plan.machine.room, times=HOPELESS)):
        raise UserError("\n".join([*hopeless, "this cannot fit by estimate; to run it all the same: --try-anyway"]))
    together = plan.recipe.table.compute.machines if trains else 1
    with _stoppable() as stop:
        if together > 1 and compute.this_number():
            return machines.follow(plan, stop.is_set)
        with locked(plan.folder, stages), machines.joined(together, stop.is_set) as others:
            log = EventLog(plan.folder / "events.jsonl", console)
            try:
                return _Execution(plan, log, stop, stages or known, others).run(siblings)
            finally:
                log.close()


def pin(plan: Plan) -> None:
    """Asks the hub for access and commits, so that a closed gate is found now and not after a day of training.

    Notes in the plan's lock what the run is made of, and with it finds out which stages are done.

    Raises:
        UserError: the hub cannot be reached, or does not give access.
    """
    known, lock = registry(), plan.lock
    lock.setdefault("model", {})
    if plan.base.kind != "hub":
        lock["model"][plan.base.reference] = base_fingerprint(plan)
    elif not all(known.stages[s.kind].makes == "corpus" for s in plan.stages):
        key = f"{plan.base.reference}@{plan.recipe.table.revision}"
        if key not in lock["model"]:
            from langadapt.hub import pin_model

            lock["model"][key] = pin_model(plan.base.reference, plan.recipe.table.revision)
    pin_corpora(plan, plan.stages)
    fingerprint_stages(plan)
    lock["files"] = {i.label: i.fingerprint for s in plan.stages for i in s.inputs if i.where != "hub"}
    lock["packages"] = _versions(known)
    lock["python"] = platform.python_version()


def pin_corpora(plan: Plan, stages: Iterable[PlannedStage]) -> None:
    """Asks the hub for the commits of all data sets that stages read from it and notes them in the plan's lock.

    Raises:
        UserError: the hub cannot be reached, or does not give access.
    """
    pinned = plan.lock.setdefault("datasets", {})
    for found in _hub_inputs(stages):
        assert found.record and found.record.source
        repo = found.record.source.repo_id
        if repo not in pinned:
            from langadapt.hub import pin_dataset

            pinned[repo] = pin_dataset(repo, found.record.source.revision)
        found.fingerprint = pinned[repo]


def _hub_inputs(stages: Iterable[PlannedStage]) -> list[Input]:
    inputs = [i for s in stages for i in s.inputs]
    screens = [i.screen for i in inputs if i.screen]
    return [i for i in [*inputs, *(m.input for s in screens for m in s.measured)] if i.where == "hub"]


class _Execution:
    def __init__(
        self, plan: Plan, log: EventLog, stop: threading.Event, chosen: Collection[str], others: Others | None
    ):
        self.plan, self.log, self.stop, self.folder, self.machines = plan, log, stop, plan.folder, others
        self.registry = registry()
        self.models: dict[str, ModelRef] = {}
        self.state: dict[str, Any] = {}
        self.chosen = set(chosen)
        self.left = {stage.id for stage in plan.stages} - self.chosen  # to other runs

    def run(self, siblings: Collection[Path]) -> Run:
        started = time.monotonic()
        pin(self.plan)
        share(self.plan, siblings)
        self._check_needs()
        self._check_room()
        self._begin()
        try:
            self.models[BASE] = ModelRef(weights=self._base_folder(), adapters=self.plan.base.adapters)
            for stage, entry in zip(self.plan.stages, self.state["stages"], strict=True):
                if stage.id in self.chosen or stage.status == "cached":
                    self._stage(stage, entry)
            self.state["status"] = "done"
        except BaseException as error:
            self.state["status"] = "interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed"
            self.state["seconds"] = round(time.monotonic() - started, 1)
            self._write_state()
            raise
        self.state["seconds"] = round(time.monotonic() - started, 1)
        return self._report()

    @property
    def to_do(self) -> list[PlannedStage]:
        return [s for s in self.plan.stages if s.id in self.chosen and s.status != "cached"]

    # --- before the first stage --------------------------------------------------------------------------------------

    def _check_needs(self) -> None:
        said = [
            f"{self.folder}: stage {stage.id} needs {need.id}, which is not done ({need.reason}); "
            f"run it first, with --stage {need.id} beside it, or all stages without --stage"
            for stage in self.to_do
            for need in self.plan.awaited(stage)
            if need.id in self.left
        ]
        if said:
            raise UserError("\n".join(said))

    def _check_room(self) -> None:
        needed, free = self.plan.disk_for(self.to_do), free_disk(self.folder)
        if needed > free:
            raise UserError(
                f"{self.folder}: about {needed / 1e9:.1f} GB of disk are needed and {free / 1e9:.1f} GB are "
                "free; choose a folder on a larger disk with --out"
            )

    def _begin(self) -> None:
        with alone(self.folder):
            self.state = run_state.begin(self.plan)
            run_state.describe(self.plan, self.state, self.left)
        self.log.event("run", name=self.state["name"], status="running", rehearsal=self.state["rehearsal"])

    def _base_folder(self) -> str:
        """The base model as a folder of safetensors; a hub model is fetched, a GGUF file is converted once."""
        base = self.plan.base
        if all(self._makes_corpus(stage) for stage in self.to_do):
            return base.reference
        if base.kind == "hub":
            from langadapt.hub import fetch_model

            commit = self.plan.lock["model"][f"{base.reference}@{self.plan.recipe.table.revision}"]
            self.log.info(f"base model {base.reference} at {commit[:12]}")
            return fetch_model(base.reference, commit)
        assert base.path is not None
        if base.kind == "folder":
            return str(base.path)
        with alone(self.folder, ".base.lock"):
            return str(self._unpacked(base.path))

    def _unpacked(self, file: Path) -> Path:
        digest = artifacts.digest_files([file])
        folder = self.folder / "base"
        if (artifacts.read_json(folder / "source.json") or {}).get("sha256") != digest:
            from langadapt.loading import convert_gguf

            self.log.info(f"base model {self.plan.base.reference}: unpacking {file.name}")
            partial = folder.with_name(".base.partial")
            convert_gguf(file, partial)
            artifacts.write_json(partial / "source.json", {"file": file.name, "sha256": digest})
            artifacts.publish(partial, folder)
        return folder

    # --- a stage -----------------------------------------------------------------------------------------------------

    def _stage(self, stage: PlannedStage, entry: dict[str, Any]) -> None:
        final = self.folder / "stages" / stage.id
        if stage.status == "cached":
            self.log.event("stage", id=stage.id, status="cached")
            self.log.console.print(f"[dim]{stage.id}[/dim]  cached")
        else:
            self._run_stage(stage, entry, final)
        self.models[stage.id] = self.models[stage.parent].after(final)

    def _run_stage(self, stage: PlannedStage, entry: dict[str, Any], final: Path) -> None:
        from rich.markup import escape

        again = "" if stage.reason in ("not done yet", "") else f"  (again: {stage.reason})"
        line = f"[bold]{stage.id}[/bold]  {stage.kind} from {stage.parent}{escape(again)}"
        self.log.console.print(line, highlight=False)
        entry["status"] = "running"
        self._write_state()
        self.log.event("stage", id=stage.id, status="running", digest=stage.digest, reason=stage.reason)
        partial = self._workplace(stage)
        started = time.monotonic()
        reset_peak_memory()
        try:
            if self.stop.is_set():
                raise Interrupted(f"stopped before stage {stage.id}; the same command goes on")
            with self.log.stage(stage.id), trackers.kept_in(self.plan, stage), energy.metered() as joules:
                preparation.by_engine(self.plan, stage, self.log.info, self.stop.is_set)
                result = self.registry.stages[stage.kind].run(self._context(stage, partial))
        except BaseException as error:
            told = in_words(error, stage, partial, room=self.plan.machine.room)
            self._failed(stage, entry, error, partial)
            if told is not None:
                raise told from None
            raise
        seconds = round(time.monotonic() - started, 1)
        for scratch in ("checkpoints", "packed", "working.json"):
            path = partial / scratch
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        about = {
            "id": stage.id,
            "kind": stage.kind,
            "from": stage.parent,
            "digest": stage.digest,
            "ingredients": stage.ingredients,
            "seconds": seconds,
            "joules": joules,
            "accounting": result.accounting,
            "metrics": result.metrics,
            "rows": result.rows,
            "files": artifacts.files_in(partial),
        }
        artifacts.write_json(partial / "stage.json", about)
        artifacts.publish(partial, final)
        entry.update(
            status="done",
            seconds=seconds,
            joules=joules,
            accounting=result.accounting,
            metrics=result.metrics,
            artifact=f"stages/{stage.id}",
        )
        self.log.event("stage", id=stage.id, status="done", seconds=seconds)
        self._write_state()
        gc.collect()
        release_memory()

    def _workplace(self, stage: PlannedStage) -> Path:
        """A folder beside the final one; what an interrupted run of the very same stage left there is kept."""
        partial = self.folder / "stages" / f".{stage.id}.partial"
        working = artifacts.read_json(partial / "working.json") or {}
        if working.get("digest") != stage.digest:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        artifacts.write_json(partial / "working.json", {"digest": stage.digest})
        return partial

    def _failed(self, stage: PlannedStage, entry: dict[str, Any], error: BaseException, partial: Path) -> None:
        interrupted = isinstance(error, (Interrupted, KeyboardInterrupt))
        entry["status"] = "pending" if interrupted else "failed"
        entry["reason"] = "interrupted" if interrupted else str(error) or type(error).__name__
        self.log.event("stage", id=stage.id, status=entry["status"], reason=entry["reason"])
        # A later run goes on from checkpoints, but not from those of a loss that is no number.
        spoilt = isinstance(error, RunError) and not self._makes_corpus(stage)
        if spoilt or not any((partial / "checkpoints").glob("checkpoint-*")):
            shutil.rmtree(partial, ignore_errors=True)

    def _makes_corpus(self, stage: PlannedStage) -> bool:
        """Whether a stage makes text out of text, so that it needs no model."""
        kind: StageKind = self.registry.stages[stage.kind]
        return kind.makes == "corpus"

    def _context(self, stage: PlannedStage, folder: Path) -> StageContext:
        return StageContext(
            stage=stage,
            plan=self.plan,
            folder=folder,
            model=self.models[stage.parent],
            models=dict(self.models),
            registry=self.registry,
            log=self.log,
            machine=self.plan.machine,
            seed=self.plan.recipe.table.seed,
            stop=self.stop,
            others=self.machines,
        )

    # --- what is left behind -----------------------------------------------------------------------------------------

    def _write_state(self) -> None:
        with alone(self.folder):
            run_state.write(self.folder, self.state, self.left)

    def _report(self) -> Run:
        """The report on all that is done; the last of several runs of single stages writes the whole one."""
        from langadapt.report import write_report

        with alone(self.folder):
            run_state.write(self.folder, self.state, self.left)
            rows = write_report(self.plan, self.state)
        self.log.event("run", name=self.state["name"], status=self.state["status"], seconds=self.state["seconds"])
        return Run(folder=self.folder, state=self.state, rows=rows)


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C or SIGTERM into a request to stop at a clean place; a second one stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        sys.stderr.write("\nstopping at the next clean place; once more to stop at once\n")

    old = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command goes on from the last finished stage or checkpoint") from None
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def in_words(error: BaseException, stage: PlannedStage, folder: Path, *, room: int) -> RunError | None:
    """What a failure of the machine means to the user; None where it is no such failure."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the latter is torch's
        return RunError(f"stage {stage.id}: out of memory{smaller(stage, room)}")
    if isinstance(error, (OSError, RuntimeError)) and free_disk(folder) < NO_ROOM:
        return RunError(
            f"stage {stage.id}: the disk that {folder.parents[1]} lies on is full; make room, and the same command goes "
            "on, or choose a folder on a larger disk with --out"
        )
    return None


def _versions(known: Registry) -> dict[str, str]:
    names = dict.fromkeys([*PACKAGES, *(p.distribution for p in known.plugins)])
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
