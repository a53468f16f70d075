"""The plan: what a run will do, need and cost, known before anything is downloaded or trained.

Finds every input, fingerprints it, sizes every stage and says what is in the way. Imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langadapt import artifacts, compute, decontamination, harness, preparation, trackers
from langadapt.errors import UserError
from langadapt.inputs import Input, find_input, prepare
from langadapt.machine import Machine, free_disk, this_machine
from langadapt.models import BaseModel, ModelShape, files_of_model, find_model, snapshot
from langadapt.plugins import Registry, registry
from langadapt.recipe import BASE, CorpusRef, Recipe, Stage, StageOptions, flatten
from langadapt.records import Evaluation

if TYPE_CHECKING:
    from langadapt.run import Run

# bf16 FLOP/s without sparsity from the makers' data sheets, by a word of the device's name, for time estimates only.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "A10": 125e12, "4090": 165e12, "3090": 71e12,
              "V100": 125e12, "T4": 65e12}  # fmt: skip
UTILISATION = 0.4  # share of the peak that QLoRA training of such models is assumed to reach
CPU_FLOPS_PER_CORE = 50e9  # assumed, with bf16 instructions; a quarter of it without
SAID = 6  # changes that are listed when a stage runs again
# Options that digests take from elsewhere: corpora from what is found behind their names, for paths do not count. Who is
# told of a training changes nothing of it.
_ELSEWHERE: dict[str, Any] = {
    "corpus": True,
    "from_": True,
    "id": True,
    "kind": True,
    "replay": {"corpus"},
    "calibration": True,
    "training": trackers.OPTIONS,
}
REFERENCE = ("A100 64 GB", 312e12)  # the accelerator of the LLaMAntino authors, for models beyond this machine


@dataclass(kw_only=True)
class Estimate:
    """What a stage is expected to need; every figure is an estimate by formula, labelled so wherever it is shown.

    Attributes:
        memory: bytes at the peak, by part.
        changed: bytes at the peak with settings changed, by what the recipe would say; the one that costs least first.
        disk: bytes that the artifact and the newest checkpoints take.
        seconds: on this machine; None when it cannot run here or too little is known.
        reference_seconds: on one accelerator of `REFERENCE`.
    """

    memory: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    disk: int = 0
    seconds: float | None = None
    reference_seconds: float | None = None

    @property
    def peak(self) -> int:
        """Bytes of memory at the peak, all parts together."""
        return sum(self.memory.values())


@dataclass(kw_only=True)
class PlannedStage:
    """A stage with what the plan found out about it. A stage kind's `plan` fills in what it knows.

    Attributes:
        id: its name.
        kind: name of its stage kind.
        parent: id of the stage that it starts from, or `base`.
        options: of the kind's own type.
        automatic: whether the recipe does not name it.
        inputs: the corpora that it reads.
        steps: of the optimizer; None when the stage trains nothing or too little is known.
        tokens: that it trains on, all epochs together; None where too little is known.
        estimate: what it needs.
        notes: what a person should know, a sentence each.
        problems: what is in the way wherever it would run; a plan with problems is not executed.
        lacks: what this machine lacks for it; a node of a cluster may have it.
        ingredients: all that its result depends on, by name; its digest is made of them.
        digest: of the ingredients.
        status: whether its artifact is there already.
        reason: why it has that status, in words.
        work: what the kind's `plan` hands to its `run`.
        leaves: shape of the model that it leaves, where that is another than it starts from.
    """

    id: str
    kind: str
    parent: str
    options: StageOptions
    automatic: bool = False
    inputs: list[Input] = field(default_factory=list)
    steps: int | None = None
    tokens: int | None = None
    estimate: Estimate = field(default_factory=Estimate)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    ingredients: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    status: Literal["pending", "cached"] = "pending"
    reason: str = ""
    work: Any = None
    leaves: ModelShape | None = None

    @property
    def needs(self) -> list[str]:
        """Ids of the stages that this one starts from or reads."""
        read = [found.ref.stage for found in self.inputs if found.where == "stage"]
        return [id for id in dict.fromkeys([self.parent, *read]) if id != BASE]

    @property
    def trains(self) -> bool:
        """Whether weights learn in it."""
        return getattr(self.options, "training", None) is not None

    def to_json(self) -> dict[str, Any]:
        """An entry of `stages` in what `langadapt plan --json` prints."""
        return {
            "id": self.id,
            "kind": self.kind,
            "from": self.parent,
            "status": self.status,
            "reason": self.reason,
            "steps": self.steps,
            "tokens": self.tokens,
            "inputs": [i.to_json() for i in self.inputs],
            "estimate": dataclasses.asdict(self.estimate) | {"peak_memory": self.estimate.peak},
            "notes": self.notes,
            "problems": self.problems,
            "digest": self.digest,
        }


@dataclass(kw_only=True)
class Plan:
    """Everything that will be done, in order. `execute` does it.

    Attributes:
        recipe: what is planned.
        folder: where the run leaves its work.
        base: the base model.
        machine: what the estimates are for.
        stages: in the order in which they are run.
        problems: what is in the way, wherever it would run.
        lacks: what this machine lacks for the stages that train; a node of a cluster may have it.
        warnings: what may turn out badly.
        lock: what the folder's `lock.json` says: revisions and digests of what an earlier run of it has used.
    """

    recipe: Recipe
    folder: Path
    base: BaseModel
    machine: Machine
    stages: list[PlannedStage]
    problems: list[str]
    lacks: list[str]
    warnings: list[str]
    lock: dict[str, Any]

    def execute(
        self,
        *,
        stages: Collection[str] = (),
        console: Any = None,
        try_anyway: bool = False,
        siblings: Collection[Path] = (),
    ) -> Run:
        """Runs every stage that is not cached and writes the report.

        Args:
            stages: ids of those to run; all when empty. What they start from or read must be done.
            console: a rich console for progress; the standard one when None.
            try_anyway: also what is estimated far above the memory that there is.
            siblings: folders of other runs; a stage that one of them has made with the same digest is taken from there.

        Raises:
            UserError: something is in the way (see `problems`), or the folder is in use or not writable.
            RunError: a stage failed; what was finished before stays and is not done again.
        """
        from langadapt.run import execute

        return execute(self, stages=stages, console=console, try_anyway=try_anyway, siblings=siblings)

    @property
    def disk(self) -> int:
        """Bytes still to be written or downloaded."""
        return self.disk_for(s for s in self.stages if s.status != "cached")

    def disk_for(self, stages: Iterable[PlannedStage]) -> int:
        """Bytes that these stages write, and the base model that is downloaded for them.

        Args:
            stages: some of those of the plan.
        """
        return (self.base.download or 0) + sum(stage.estimate.disk for stage in stages)

    def stage(self, id: str) -> PlannedStage:
        """The stage with this `id`."""
        return next(s for s in self.stages if s.id == id)

    def awaited(self, stage: PlannedStage) -> list[PlannedStage]:
        """Stages that must be done before `stage` can run and are not: the nearest on every way up from it."""
        needs = [self.stage(id) for id in stage.needs]
        nearest = [self.awaited(need) if need.status == "cached" else [need] for need in needs]
        return list({found.id: found for way in nearest for found in way}.values())

    def to_json(self) -> dict[str, Any]:
        """What `langadapt plan --json` prints."""
        base = dataclasses.asdict(self.base) | {"parameters": self.base.shape.parameters if self.base.shape else None}
        return {
            "schema": 1,
            "name": self.recipe.table.name,
            "language": self.recipe.table.language,
            "rehearsal": self.recipe.rehearsal,
            "folder": str(self.folder),
            "machine": dataclasses.asdict(self.machine),
            "preparation": self.recipe.table.preparation.model_dump(),
            "compute": self.recipe.table.compute.model_dump(),
            "base_model": base
            | {"path": str(self.base.path) if self.base.path else None, "adapters": list(map(str, self.base.adapters))},
            "stages": [s.to_json() for s in self.stages],
            "changes": [dataclasses.asdict(c) for c in self.recipe.changes],
            "disk": self.disk,
            "problems": self.problems,
            "lacks": self.lacks,
            "warnings": self.warnings,
        }


@dataclass(kw_only=True)
class Planner:
    """What a stage kind may ask while it plans a stage.

    Attributes:
        recipe: all of it.
        registry: everything that the core and the installed plugins offer.
        machine: where the stage would run.
        base: the model that the recipe starts from.
        folder: of the run.
        pinned: by name, the revisions that an earlier run of the folder has used.
        planned: the stages that are planned already, by id.
    """

    recipe: Recipe
    registry: Registry
    machine: Machine
    base: BaseModel
    folder: Path
    pinned: Mapping[str, str]
    planned: dict[str, PlannedStage] = field(default_factory=dict)
    _inputs: dict[str, Input] = field(default_factory=dict, init=False)

    def input(self, ref: CorpusRef) -> Input:
        """The data behind a corpus entry; the same entry is looked for once.

        Args:
            ref: an entry of the stage's `corpus`, as in `options.refs`.

        Returns:
            What was found; where that cannot be read, its `problem` says why.
        """
        key = ref.model_dump_json()
        if key not in self._inputs:
            self._inputs[key] = self._made_by_stage(ref) if ref.stage else self._found(ref)
        return self._inputs[key]

    def measured_on(self, evaluation: Evaluation) -> Input:
        """The data that an evaluation reads.

        Args:
            evaluation: one that a plugin offers.

        Raises:
            UserError: no plugin offers the corpus that it names.
        """
        if evaluation.corpus not in self.registry.corpora:
            owner = self.registry.evaluations.owner(evaluation.name)
            raise UserError(
                f'{owner}: the evaluation "{evaluation.name}" reads the corpus "{evaluation.corpus}", which nobody offers; '
                f"name other suites in [evaluation], and tell its author: langadapt check-plugin {owner.name}"
            )
        return self.input(CorpusRef(name=evaluation.corpus, held_out=0))

    def _found(self, ref: CorpusRef) -> Input:
        return find_input(
            ref,
            self.registry,
            language=self.recipe.table.language,
            data=self._copies(),
            rehearsal=self.recipe.rehearsal,
            pinned=self.pinned,
        )

    def _made_by_stage(self, ref: CorpusRef) -> Input:
        """What a stage will have made; stages that make corpora are planned before those that read them."""
        maker = self.planned[ref.stage]
        sizes = [i.bytes for i in maker.inputs]
        made = Input(
            label=ref.label,
            where="stage",
            ref=ref,
            path=self.folder / "stages" / ref.stage / "corpus.jsonl",
            licence="; ".join(dict.fromkeys(i.licence for i in maker.inputs)),
            size=None if None in sizes else sum(filter(None, sizes)),
        )
        prepare(made, self.registry, self.recipe.table.language)
        return made

    def _copies(self) -> dict[str, str]:
        """Where copies of registered corpora lie: `[data]`, and every entry of the recipe that gives a name and a
        path.
        """
        given = {ref.name: ref.path for s in self.recipe.stages for ref in s.options.refs if ref.name and ref.path}
        copies = {name: path for name, path in (given | self.recipe.table.data).items() if not harness.is_named(name)}
        return {self.registry.corpora[name].name: path for name, path in copies.items()}

    def suites(self, own: list[str] | None) -> list[str]:
        """Suites and single evaluations that a stage measures: its `own`, else the recipe's, else the language's."""
        table = self.recipe.table
        chosen = (own, table.evaluation.suites)
        return next((s for s in chosen if s is not None), list(self.registry.languages[table.language].suites))

    def shape_of(self, id: str) -> ModelShape | None:
        """The shape of the model that the stage `id` leaves, or of the base; None where no configuration is at hand."""
        while id != BASE:
            stage = self.planned[id]
            if stage.leaves:
                return stage.leaves
            id = stage.parent
        return self.base.shape

    def seconds(self, flops: float) -> float | None:
        """Estimated time of so much arithmetic on this machine; None on a GPU whose speed is not known.

        Args:
            flops: floating-point operations.
        """
        if self.machine.gpus:
            name = self.machine.gpus[0][0]
            peak = next((p for word, p in PEAK_FLOPS.items() if word in name), None)
            return flops / (peak * UTILISATION) if peak else None
        return flops / (self.machine.cores * CPU_FLOPS_PER_CORE * (1 if self.machine.bf16 else 0.25))


def make_plan(recipe: Recipe, folder: Path) -> Plan:
    """See `Recipe.plan`.

    Raises:
        UserError: the base model's package, file or folder is not there.
    """
    lock = artifacts.read_json(folder / "lock.json") or {}
    base = find_model(recipe.table.base_model, recipe.table.revision)
    known = registry()
    machine = this_machine()
    planner = Planner(
        recipe=recipe, registry=known, machine=machine, base=base, folder=folder, pinned=lock.get("datasets", {})
    )
    stages = [_planned(stage, planner) for stage in recipe.stages]
    decontamination.plan(stages, planner)
    plan = Plan(
        recipe=recipe,
        folder=folder,
        base=base,
        machine=machine,
        stages=stages,
        problems=[],
        lacks=[],
        warnings=[],
        lock=lock,
    )
    fingerprint_stages(plan)
    plan.problems = [*filter(None, [base.problem]), *(p for s in stages for p in s.problems)]
    if any(s.status == "pending" and s.options.refs for s in stages):
        plan.problems += preparation.problems(recipe)
    if any(s.trains and s.status == "pending" for s in stages):
        plan.lacks = [*compute.missing(recipe, machine), *(lack for s in stages for lack in s.lacks)]
    plan.problems = list(dict.fromkeys(plan.problems))
    plan.warnings = _warnings(plan)
    return plan


def fingerprint_stages(plan: Plan) -> None:
    """Digests of all stages, parents first, and which of them are already in the run's folder."""
    model = base_fingerprint(plan)
    digests = {BASE: model}
    for stage in plan.stages:
        kind = registry().stages[stage.kind]
        options = flatten(stage.options.model_dump(by_alias=True, exclude=_ELSEWHERE), "")
        for found in stage.inputs:
            if found.where == "stage":
                found.fingerprint = digests[found.ref.stage]
        # By number, because a path is no part of the digest and one corpus may be named twice.
        inputs = {f"corpus {n} {i.ref.name}".rstrip(): i for n, i in enumerate(stage.inputs, start=1)}
        model_key = f"model of {stage.parent}"  # a stage that makes a corpus starts from no model
        screened = {name: value for i in stage.inputs for name, value in i.screened().items()}
        stage.ingredients |= {
            **options,
            **screened,
            **{name: _input_fingerprint(i) for name, i in inputs.items()},
            **{f"{name} reader": i.reader for name, i in inputs.items() if i.reader},
            **{
                f"{name}.{k}": v
                for name, i in inputs.items()
                for k, v in i.ref.model_dump(exclude={"path", "name"}).items()
            },
            "seed": plan.recipe.table.seed,
            **({} if kind.makes == "corpus" else {"from": stage.parent, model_key: digests.get(stage.parent, "")}),
            "code": f"langadapt {metadata.version('langadapt')}, {stage.kind} {kind.version}",
        }
        known = [*map(_input_fingerprint, stage.inputs), *screened.values()]
        complete = bool(stage.ingredients.get(model_key, True)) and all(known)
        stage.digest = artifacts.digest(stage.ingredients) if complete else ""
        digests[stage.id] = stage.digest
        stage.status, stage.reason = cached(plan.folder, stage)


def _planned(stage: Stage, planner: Planner) -> PlannedStage:
    planned = PlannedStage(
        id=stage.id, kind=stage.kind, parent=stage.parent, options=stage.options, automatic=stage.automatic
    )
    planner.planned[stage.id] = planned
    planner.registry.stages[stage.kind].plan(planned, planner)
    planned.problems += [i.problem for i in planned.inputs if i.problem]
    return planned


def cached(folder: Path, stage: PlannedStage) -> tuple[Literal["pending", "cached"], str]:
    """Whether the artifact in a run's folder is the one that this stage would make, and if not, why not."""
    place = folder / "stages" / stage.id
    about = artifacts.read_json(place / "stage.json")
    if about is None:
        return "pending", "not done yet"
    if not stage.digest:
        return "pending", "revisions on the hub are not known yet"
    if about["digest"] != stage.digest:
        changes = artifacts.changes(about["ingredients"], stage.ingredients)
        more = f"; and {len(changes) - SAID} more" if len(changes) > SAID else ""
        return "pending", "; ".join(changes[:SAID]) + more or "changed"
    present = artifacts.files_in(place)
    lost = [name for name, size in about["files"].items() if present.get(name) != size]
    if lost:
        return "pending", f"{lost[0]} is missing or damaged"
    return "cached", "nothing changed"


def base_fingerprint(plan: Plan) -> str:
    """Digest of the base model's files, or its pinned commit on the hub; "" while that is not known."""
    if plan.base.kind == "hub":
        commit = plan.lock.get("model", {}).get(f"{plan.base.reference}@{plan.recipe.table.revision}", "")
        return f"{plan.base.reference}@{commit}" if commit else ""
    assert plan.base.path is not None
    files = files_of_model(plan.base.path)
    adapters = [file for folder in plan.base.adapters for file in sorted(folder.iterdir()) if file.is_file()]
    return artifacts.digest_files([*files, *adapters])


def _input_fingerprint(found: Input) -> str:
    if found.where == "hub" and found.record and found.record.source and found.fingerprint:
        return f"{found.record.source.repo_id}@{found.fingerprint}"
    return found.fingerprint


def _warnings(plan: Plan) -> list[str]:
    said = []
    if plan.base.gated and plan.base.download != 0:
        said.append(
            f"{plan.base.reference} is gated: its terms must be accepted on its page, and a token set, before the run"
        )
    if plan.base.shape is None:
        said.append(
            f"{plan.base.reference}: its configuration is not on this machine, so memory and time are not estimated"
        )
    free = free_disk(plan.folder)
    if plan.disk > free:
        said.append(f"about {plan.disk / 1e9:.1f} GB of disk are needed and {free / 1e9:.1f} GB are free")
    pending = [stage for stage in plan.stages if stage.status != "cached"]
    return said + _special_tokens(plan) + too_large(pending, room=plan.machine.room)


def _special_tokens(plan: Plan) -> list[str]:
    """What is wrong with the base model's special tokens, where its files are on this machine."""
    place = plan.base.path or snapshot(plan.base.reference, plan.recipe.table.revision)
    if place is None:
        return []
    from langadapt.tokenizer.auditing import audit_place

    return [str(found) for found in audit_place(place, name=plan.base.reference) if found.weight != "note"]


def too_large(stages: Iterable[PlannedStage], *, room: int, times: float = 1.0) -> list[str]:
    """Of each stage that is estimated at more than so many `times` the bytes of `room`: that, and what would make it fit."""
    return [
        f"stage {stage.id} is estimated at {stage.estimate.peak / 2**30:.3g} GiB of memory and this machine "
        f"has {room / 2**30:.3g} GiB{smaller(stage, room)}"
        for stage in stages
        if stage.estimate.peak > times * room
    ]


def smaller(stage: PlannedStage, room: int) -> str:
    """The first change that makes a stage fit into `room` bytes, or else the one that helps most; "" without any."""
    changed = stage.estimate.changed
    if not changed:
        return ""
    fits = next((change for change, peak in changed.items() if peak <= room), None)
    best = fits or min(changed, key=changed.__getitem__)
    helps = f"; smaller: {best}, estimated at {changed[best] / 2**30:.3g} GiB"
    return helps if fits else f"{helps}, is not enough: take a smaller base model or a larger machine"
