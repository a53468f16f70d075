"""`evaluate`: measures a model on held-out text, held-out answers, held-out preferences and tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from langadapt import estimates, harness
from langadapt.errors import counted
from langadapt.evaluation import harness_measures, methods
from langadapt.evaluation.methods import Measure, Subject, Work, method, rows
from langadapt.models import WINDOW
from langadapt.plugins import Registry
from langadapt.recipe import BASE, NAMES, Stage, StageOptions, unknown_suite
from langadapt.records import StageKind
from langadapt.stages.trained import prompt_ingredient

if TYPE_CHECKING:
    from langadapt.evaluation.pace import Pace
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult

HELD_OUT = "held-out"  # the suite of what the recipe's own corpora keep back
METHODS: dict[str, methods.Name] = {"bits_per_byte": "text", "generate": "task", "choose": "choose"}  # of evaluations


class EvaluateOptions(StageOptions):
    """Options of `evaluate`."""

    suites: list[str] | None = Field(
        None,
        description="Suites or single evaluations; not set: those of `[evaluation]`; `[]`: none.",
        json_schema_extra={NAMES: "suites"},
    )
    held_out: bool = Field(True, description="Also measure on the held-out part of the recipe's own corpora.")

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        for name in self.suites or ():
            if problem := unknown_suite(name, known):
                yield ("suites",), *problem


def plan(stage: PlannedStage, planner: Planner) -> None:
    """Finds what to measure; a task whose data is not at hand is left out, and the plan says so."""
    table = planner.recipe.table
    measures = list(_measures(stage, planner))
    if planner.recipe.rehearsal:
        measures = _rehearsed(measures, stage, planner)
    missing = [m for m in measures if m.suite != HELD_OUT and _in_the_way(m)]
    stage.notes += _left_out(missing)
    stage.work = [m for m in measures if m not in missing]
    stage.inputs = list({id(m.input): m.input for m in stage.work}.values())
    stage.ingredients |= table.evaluation.model_dump(include={"max_documents", "max_items", "max_new_tokens"})
    for measure in stage.work:
        asked = harness.in_words(measure.harness) if measure.harness else ""
        room = f"{measure.evaluation.max_new_tokens} tokens" if measure.evaluation and measure.method == "task" else ""
        what = (measure.suite, measure.method, measure.prompt, measure.system_prompt, room, asked)
        stage.ingredients[f"measure {measure.task}"] = ", ".join(filter(None, what))
        if measure.prompt:
            stage.ingredients[f"prompt rendering {measure.prompt}"] = prompt_ingredient(
                measure.prompt, planner.registry
            )
    if shape := planner.shape_of(stage.parent):
        together = harness.batch_size(shape.vocab_size) if any(m.harness for m in stage.work) else 1
        stage.estimate.memory = estimates.evaluation(shape, planner.machine, tokens=together * WINDOW)


def _left_out(missing: list[Measure]) -> list[str]:
    """What is not measured and why; all that only lacks a copy in one line."""
    absent = [m for m in missing if m.input.where == "missing"]
    said = [f"{m.task} is left out: {_in_the_way(m)}" for m in missing if m not in absent]
    if absent:
        names = ", ".join(m.task for m in absent)
        said.append(
            f"left out, because no copy is at hand: {names}; where to get one, and where to keep it: "
            f"langadapt corpus preview {absent[0].input.label}, and so on"
        )
    return said


def _in_the_way(measure: Measure) -> str:
    return measure.input.in_the_way(measure.evaluation) if measure.evaluation else measure.input.problem


def _measures(stage: PlannedStage, planner: Planner) -> Iterator[Measure]:
    options, table, known = stage.options, planner.recipe.table, planner.registry
    assert isinstance(options, EvaluateOptions)
    if options.held_out:
        yield from _held_out(stage, planner)
    language = known.languages[table.language]
    suites = planner.suites(options.suites)
    for evaluation in known.evaluations.values():
        suite = next((s for s in suites if s == evaluation.name or s in evaluation.suites), None)
        if suite is not None:
            unframed = evaluation.bare or evaluation.method == "bits_per_byte"
            yield Measure(
                method=METHODS[evaluation.method],
                task=evaluation.name,
                suite=suite,
                split=evaluation.split,
                input=planner.measured_on(evaluation),
                prompt="" if unframed else language.prompts.get("sft", "chatml"),
                evaluation=evaluation,
            )
    yield from harness_measures.measures([suite for suite in suites if harness.is_named(suite)], stage, planner)


def _rehearsed(measures: list[Measure], stage: PlannedStage, planner: Planner) -> list[Measure]:
    """Without the tasks that the model did not learn from; those are asked of the base model, which shows that they work.

    The few items of a rehearsal measure nothing, and asking every model every task would take most of its minutes. What a
    stage names itself is asked.
    """
    if getattr(stage.options, "suites", None):
        return measures
    stages = {s.id: s for s in planner.recipe.stages}
    learnt = [ref.name for id in _road(stage.parent, stages) for ref in stages[id].options.refs]
    known = planner.registry.corpora
    corpora = {known[name].name for name in learnt if name}

    def asked(measure: Measure) -> bool:
        of = measure.evaluation.corpus if measure.evaluation else ""
        return (
            measure.method not in ("task", "choose")
            or stage.parent == BASE
            or of in corpora
            or of.partition("/")[0] in corpora
        )

    kept = [m for m in measures if asked(m)]
    if len(kept) < len(measures):
        left = len(measures) - len(kept)
        stage.notes.append(f"a rehearsal asks the base model alone what is not learnt here: {left} of the tasks")
    return kept


def _held_out(stage: PlannedStage, planner: Planner) -> Iterator[Measure]:
    """Held-out parts of all text corpora, and of the dialogues that the model's own road uses (the base: of all).

    Preferences are measured on what comes before them on the road too, so that their effect can be seen.
    """
    stages = {s.id: s for s in planner.recipe.stages}
    road = set(stages) if stage.parent == BASE else _road(stage.parent, stages)
    seen = set()
    for other in planner.recipe.stages:
        refs = other.options.refs
        prompt = getattr(other.options, "prompt", "")
        measured: methods.Name = getattr(other.options, "measured", "text")
        before = measured == "preferences" and stage.parent in _road(other.id, stages)
        if prompt and other.id not in road and not before:
            continue
        for ref in refs:
            if not ref.held_out or (ref.label, prompt, measured) in seen:
                continue
            seen.add((ref.label, prompt, measured))
            yield Measure(
                method=measured,
                task=ref.label,
                suite=HELD_OUT,
                split="held_out",
                input=planner.input(ref),
                prompt=prompt,
                system_prompt=getattr(other.options, "system_prompt", ""),
            )


def _road(id: str, stages: dict[str, Stage]) -> set[str]:
    road: set[str] = set()
    while id in stages:
        road.add(id)
        id = stages[id].parent
    return road


def run(context: StageContext) -> StageResult:
    """Loads the model once and measures one suite after the other; every item's result is kept in `items.jsonl`."""
    from langadapt import loading
    from langadapt.evaluation.pace import pace
    from langadapt.run import StageResult

    measures: list[Measure] = context.stage.work
    subject = Subject(
        model=loading.load_model(context.model).eval(),
        tokenizer=context.tokenizer(),
        settings=context.plan.recipe.table.evaluation,
        prompts=context.registry.prompts,
        stop=context.stop,
    )
    found: list[dict[str, Any]] = []
    done, speed = 0, pace(subject)
    with (context.folder / "items.jsonl").open("w", encoding="utf-8") as items_file:
        for suite in dict.fromkeys(measure.suite for measure in measures):
            of_suite = [measure for measure in measures if measure.suite == suite]
            works = [method(measure.method).prepare(subject, measure) for measure in of_suite]
            context.log.info(f"{suite}: {_cost(works, speed)}")
            for measure, work in zip(of_suite, works, strict=True):
                subject.go_on(measure)
                context.log.advance(done, len(measures), measure.task)
                made = work.take()
                found += [_row(context, measure) | row for row in rows(measure, made)]
                for item in made.items:
                    key = {"suite": measure.suite, "task": measure.task, "method": measure.method}
                    items_file.write(json.dumps({**key, **item}, ensure_ascii=False) + "\n")
                done += 1
        context.log.advance(done, len(measures), "measured")
    return StageResult(metrics={"rows": len(found), "skipped": dict(subject.skipped)}, rows=found)


def _cost(works: Sequence[Work], speed: Pace) -> str:
    """What a suite is going to cost, in words."""
    from langadapt.report.findings import duration

    known = [work for work in works if work.known]
    items, read, written = (sum(getattr(work, kind) for work in known) for kind in ("items", "read", "written"))
    more = "" if len(known) == len(works) else f", and {counted(len(works) - len(known), 'task')} of unknown size"
    writing = f", at most {written:,} to write" if written else ""
    size = f"{counted(items, 'item')}, {counted(read, 'token')} to read{writing}"
    return f"{size}: about {duration(speed.seconds(known))}{more}"


def _row(context: StageContext, measure: Measure) -> dict[str, Any]:
    record, evaluation, target = measure.input.record, measure.evaluation, context.plan.recipe.table.language
    sample = record.sample_language if record and measure.input.where == "sample" else ""
    return {
        "stage": context.stage.parent,
        "suite": measure.suite,
        "task": measure.task,
        "split": measure.split,
        "language": evaluation.language if evaluation else sample or (record.language if record else target),
        "data": measure.input.fingerprint,
    }


STAGE = StageKind(
    name="evaluate",
    description="Measures a model on held-out text, answers and preferences, and on tasks.",
    version=2,
    options=EvaluateOptions,
    makes="results",
    plan=plan,
    run=run,
)
