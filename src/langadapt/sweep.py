"""The sweep: every variant of an experiment planned before any is run, then run one after the other and compared.

    EXPERIMENT.toml → trials → plans → runs/EXPERIMENT/VARIANT[-seedN]/ → experiment.json, experiment.html

Every trial is a run like any other, with a folder of its own. What several of them would make alike is made by the first.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from langadapt import artifacts
from langadapt.errors import Interrupted, LangadaptError, UserError, nearest
from langadapt.experiment import Experiment, Trial
from langadapt.machine import free_disk
from langadapt.plan import Plan, PlannedStage
from langadapt.plugins import registry
from langadapt.recipe import BASE, suite_names

FILE = "experiment.json"
PINNED = ("model", "datasets")  # tables of a lock that hold revisions


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """A trial with the plan of its run.

    Attributes:
        trial: what is run.
        plan: of its run.
    """

    trial: Trial
    plan: Plan

    @property
    def name(self) -> str:
        """That of the trial."""
        return self.trial.name

    @property
    def finished(self) -> bool:
        """Whether its run is done, report and all, and would do nothing again."""
        state = artifacts.read_json(self.plan.folder / "run.json") or {}
        report = self.plan.folder / "report.json"
        return (
            state.get("status") == "done"
            and report.exists()
            and all(stage.status == "cached" for stage in self.plan.stages)
        )


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """Everything that an experiment will do. `execute` does it.

    Attributes:
        experiment: what is planned.
        folder: that holds a folder for every trial.
        trials: in the order in which they are run.
        problems: what is in the way, with the names of the trials that it is in the way of.
    """

    experiment: Experiment
    folder: Path
    trials: list[PlannedTrial]
    problems: list[str]

    @property
    def to_do(self) -> list[tuple[PlannedTrial, PlannedStage]]:
        """Stages that are to be run, each with the first trial that needs it."""
        first: dict[str, tuple[PlannedTrial, PlannedStage]] = {}
        there: set[str] = set()
        for planned in self.trials:
            for stage, identity in zip(planned.plan.stages, identities(planned.plan), strict=True):
                first.setdefault(identity, (planned, stage))
                if stage.status == "cached":
                    there.add(identity)
        return [found for identity, found in first.items() if identity not in there]

    @property
    def stages(self) -> int:
        """Stages of all trials together."""
        return sum(len(planned.plan.stages) for planned in self.trials)

    @property
    def disk(self) -> int:
        """Bytes that will be written, and those of base models that are fetched."""
        fetched = {planned.plan.base.reference: planned.plan.base.download or 0 for planned, _ in self.to_do}
        return sum(fetched.values()) + sum(stage.estimate.disk for _, stage in self.to_do)

    def seconds(self, *, reference: bool = False) -> float | None:
        """Estimated time of all trainings; None where one is not known.

        Args:
            reference: on an A100, and not on this machine.
        """
        trained = [stage.estimate for _, stage in self.to_do if stage.trains]
        times = [found.reference_seconds if reference else found.seconds for found in trained]
        return None if None in times else float(sum(filter(None, times)))

    @property
    def alike(self) -> list[list[str]]:
        """Names of variants whose runs are the same in every stage, as on the small model of a rehearsal."""
        same: dict[tuple[str, ...], list[str]] = {}
        for planned in self.trials:
            same.setdefault(tuple(identities(planned.plan)), []).append(planned.trial.variant)
        return [list(names) for names in dict.fromkeys(map(tuple, same.values())) if len(names) > 1]

    def execute(self, *, console: Any = None, try_anyway: bool = False) -> Sweep:
        """Runs what is not done and compares all that is.

        A variant that fails does not stop the others; `Sweep.failed` names it.

        Args:
            console: a rich console for progress; the standard one when None.
            try_anyway: also what is estimated far above the memory that there is.

        Raises:
            UserError: something is in the way (see `problems`), or the folder is in use or not writable.
            Interrupted: it was stopped; the same call goes on.
        """
        if self.problems:
            raise UserError("\n".join(self.problems))
        if self.disk > (free := free_disk(self.folder)):
            raise UserError(
                f"{self.folder}: about {self.disk / 1e9:.1f} GB of disk are needed and {free / 1e9:.1f} GB are free; "
                "choose a folder on a larger disk with --out"
            )
        with _held(self.folder):
            return _Execution(self, console, try_anyway).run()

    def to_json(self) -> dict[str, Any]:
        """What `langadapt sweep --dry-run --json` prints."""
        return {
            "schema": 1,
            "name": self.experiment.table.name,
            "question": self.experiment.table.question,
            "rehearsal": self.experiment.rehearsal,
            "folder": str(self.folder),
            "trials": [
                {"name": p.name, "variant": p.trial.variant, "seed": p.trial.seed, "values": p.trial.values,
                 "finished": p.finished, "plan": p.plan.to_json()}
                for p in self.trials
            ],
            "stages": self.stages,
            "stages_to_run": [{"trial": planned.name, "stage": stage.id} for planned, stage in self.to_do],
            "alike": self.alike,
            "seconds": self.seconds(),
            "reference_seconds": self.seconds(reference=True),
            "disk": self.disk,
            "problems": self.problems,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What an experiment has come to.

    Attributes:
        folder: that it left its work in.
        state: what `experiment.json` says there.
    """

    folder: Path
    state: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "experiment.html"

    @property
    def failed(self) -> list[str]:
        """Trials that failed, each with the reason."""
        return [f"{t['name']}: {t['reason']}" for t in self.state["trials"] if t["status"] == "failed"]


# --- planning ---------------------------------------------------------------------------------------------------------


def make_plan(experiment: Experiment, folder: Path) -> SweepPlan:
    """See `Experiment.plan`."""
    trials = [PlannedTrial(trial=trial, plan=trial.recipe.plan(folder / trial.name)) for trial in experiment.trials]
    said: dict[str, list[str]] = {}
    for planned in trials:
        for problem in [*planned.plan.problems, *planned.plan.lacks]:
            said.setdefault(problem, []).append(planned.name)
    problems = [f"{', '.join(names)}: {problem}" for problem, names in said.items()]
    return SweepPlan(
        experiment=experiment, folder=folder, trials=trials, problems=[*problems, *_unmeasured(experiment, trials)]
    )


def identities(plan: Plan) -> list[str]:
    """Of every stage, what tells whether another run's stage would make the same, also while digests are not known."""
    table = plan.recipe.table
    made = {BASE: f"{table.base_model}@{table.revision}"}
    for stage in plan.stages:
        needed = {need: made[need] for need in dict.fromkeys([stage.parent, *stage.needs])}
        made[stage.id] = artifacts.digest([stage.kind, stage.ingredients, needed])
    return [made[stage.id] for stage in plan.stages]


def _unmeasured(experiment: Experiment, trials: Iterable[PlannedTrial]) -> Iterator[str]:
    """What the experiment wants compared and no variant measures."""
    if not experiment.table.measures:
        return
    from langadapt.evaluation.methods import method
    from langadapt.report.findings import APART

    known = {*APART, *suite_names(registry())}
    for planned in trials:
        for stage in planned.plan.stages:
            for measure in stage.work if stage.kind == "evaluate" else ():
                if measure.harness:  # whose metrics show in the run alone
                    return
                known |= {measure.suite, measure.task, *method(measure.method).figures.metrics((), measure.task)}
    for name in experiment.table.measures:
        if name not in known:
            hint = nearest(name, known)
            yield f'{experiment.source}: measures: no variant measures "{name}"' + (f"; {hint}" if hint else "")


# --- running ----------------------------------------------------------------------------------------------------------


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps a second sweep out of it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder} is in use by another sweep; wait for it, or choose another folder with --out"
        ) from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --out") from None
    try:
        yield
    finally:
        lock.release()


class _Execution:
    def __init__(self, plan: SweepPlan, console: Any, try_anyway: bool):
        from rich.console import Console

        self.plan, self.try_anyway = plan, try_anyway
        self.console = console or Console(stderr=True)
        self.state = _begin(plan)
        self.revisions: dict[str, dict[str, str]] = {table: {} for table in PINNED}  # that all trials read

    def run(self) -> Sweep:
        self._write()
        for planned, entry in zip(self.plan.trials, self.state["trials"], strict=True):
            self._trial(planned, entry)
        self.state["status"] = "failed" if any(e["status"] == "failed" for e in self.state["trials"]) else "done"
        return self._report()

    def _trial(self, planned: PlannedTrial, entry: dict[str, Any]) -> None:
        from rich.markup import escape

        lock = planned.plan.lock
        for table in PINNED:  # one table for all, to which runs add: a branch on the hub may move between them
            lock[table] = self.revisions[table] = lock.get(table, {}) | self.revisions[table]
        if planned.finished:
            entry.update(status="done", reason="nothing changed")
            return
        self.console.print(f"[bold]{escape(planned.name)}[/bold] → {escape(str(planned.plan.folder))}", highlight=False)
        entry["status"] = "running"
        self._write()
        others = [other.plan.folder for other in self.plan.trials if other is not planned]
        try:
            planned.plan.execute(console=self.console, try_anyway=self.try_anyway, siblings=others)
        except (Interrupted, KeyboardInterrupt):
            entry.update(status="pending", reason="interrupted")
            self.state["status"] = "interrupted"
            self._write()
            raise
        except Exception as error:  # also a mistake of ours or of a plugin's: the other variants are not lost for it
            entry.update(status="failed", reason=str(error) or type(error).__name__)
            self.console.print(f"[red]failed:[/red] {escape(entry['reason'])}", highlight=False)
            if not isinstance(error, LangadaptError):
                self.console.print(escape(traceback.format_exc()), highlight=False)
        else:
            entry.update(status="done", reason="")
        self._write()

    def _write(self) -> None:
        artifacts.write_json(self.plan.folder / FILE, self.state)

    def _report(self) -> Sweep:
        from langadapt.report.experiment import experiment_page
        from langadapt.report.variants import compare, costs

        done = []
        for planned, entry in zip(self.plan.trials, self.state["trials"], strict=True):
            if entry["status"] == "done":
                entry["cost"] = costs(planned)
                done.append(planned)
        self.state["table"] = compare(self.plan.experiment, done)
        self._write()
        artifacts.write_text(self.plan.folder / "experiment.html", experiment_page(self.plan, self.state))
        return Sweep(folder=self.plan.folder, state=self.state)


def _begin(plan: SweepPlan) -> dict[str, Any]:
    """The state of an experiment of which nothing has run yet."""
    table = plan.experiment.table
    return {
        "schema": 1,
        "name": table.name,
        "question": table.question,
        "limits": table.limits,
        "recipe": table.recipe,
        "status": "running",
        "rehearsal": plan.experiment.rehearsal,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": str(plan.trials[0].plan.machine),
        "baseline": plan.experiment.baseline,
        "alike": plan.alike,
        "trials": [
            {
                "name": planned.name,
                "variant": planned.trial.variant,
                "seed": planned.trial.seed,
                "values": planned.trial.values,
                "base_model": planned.trial.recipe.table.base_model,
                "status": "pending",
                "reason": "",
                "cost": {},
            }
            for planned in plan.trials
        ],
        "table": [],
    }
