"""`evaluate`: measures a model on held-out text, held-out answers, held-out preferences and tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from langadapt import estimates
from langadapt.errors import Interrupted, nearest
from langadapt.inputs import Input
from langadapt.models import WINDOW
from langadapt.plugins import Registry
from langadapt.recipe import BASE, CorpusRef, Stage, StageOptions, suite_names
from langadapt.records import Evaluation, Item, Rejected, StageKind
from langadapt.stages.trained import prompt_ingredient

if TYPE_CHECKING:
    from langadapt.plan import PlannedStage, Planner
    from langadapt.records import Document
    from langadapt.run import StageContext, StageResult

SMALL = 100  # documents or items: a part of the data that is smaller than this is marked as no measurement
HELD_OUT = "held-out"  # the suite of what the recipe's own corpora keep back


class EvaluateOptions(StageOptions):
    """Options of `evaluate`."""

    suites: list[str] | None = Field(None, description="Suites or single evaluations; default: those of [evaluation].")
    held_out: bool = Field(True, description="Also measure on the held-out part of the recipe's own corpora.")

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        for name in self.suites or ():
            if name not in suite_names(known):
                yield (
                    ("suites",),
                    f'no plugin offers the suite or evaluation "{name}"',
                    nearest(name, suite_names(known)),
                )


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing to measure: bits per byte of text or of answers, preferences between answers, or a task."""

    method: Literal["text", "answers", "preferences", "task"]
    task: str
    suite: str
    split: str
    input: Input
    prompt: str = ""
    system_prompt: str = ""
    evaluation: Evaluation | None = None


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
        what = (measure.suite, measure.method, measure.prompt, measure.system_prompt)
        stage.ingredients[f"measure {measure.task}"] = ", ".join(filter(None, what))
        if measure.prompt:
            stage.ingredients[f"prompt rendering {measure.prompt}"] = prompt_ingredient(
                measure.prompt, planner.registry
            )
    if planner.shape:
        stage.estimate.memory = estimates.evaluation(planner.shape, planner.machine, tokens=WINDOW)


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
            ref = CorpusRef(name=evaluation.corpus, held_out=0)
            text = evaluation.method == "bits_per_byte"
            yield Measure(
                method="text" if text else "task",
                task=evaluation.name,
                suite=suite,
                split=evaluation.split,
                input=planner.input(ref),
                prompt="" if text else language.prompts.get("sft", "chatml"),
                evaluation=evaluation,
            )


def _rehearsed(measures: list[Measure], stage: PlannedStage, planner: Planner) -> list[Measure]:
    """Without the tasks that the model did not learn from; those are asked of the base model, which shows that they work.

    The few items of a rehearsal measure nothing, and asking every model every task would take most of its minutes.
    """
    stages = {s.id: s for s in planner.recipe.stages}
    learnt = [ref.name for id in _road(stage.parent, stages) for ref in stages[id].options.refs]
    known = planner.registry.corpora
    corpora = {known[name].name for name in learnt if name}

    def asked(measure: Measure) -> bool:
        of = measure.evaluation.corpus if measure.evaluation else ""
        return measure.method != "task" or stage.parent == BASE or of in corpora or of.partition("/")[0] in corpora

    kept = [m for m in measures if asked(m)]
    if len(kept) < len(measures):
        stage.notes.append(
            f"a rehearsal asks only the base model the {len(measures) - len(kept)} tasks not learnt here"
        )
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
        method: Literal["text", "answers", "preferences"] = getattr(other.options, "measured", "text")
        before = method == "preferences" and stage.parent in _road(other.id, stages)
        if prompt and other.id not in road and not before:
            continue
        for ref in refs:
            if not ref.held_out or (ref.label, prompt, method) in seen:
                continue
            seen.add((ref.label, prompt, method))
            yield Measure(
                method=method,
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
    """Loads the model once and measures one thing after the other; every item's result is kept in `items.jsonl`."""
    from langadapt import loading
    from langadapt.run import StageResult

    measures: list[Measure] = context.stage.work
    model, tokenizer = loading.load_model(context.model).eval(), context.tokenizer()
    rows: list[dict[str, Any]] = []
    skipped: dict[str, int] = {}
    with (context.folder / "items.jsonl").open("w", encoding="utf-8") as items_file:
        for number, measure in enumerate(measures):
            if context.stop.is_set():
                raise Interrupted(f"stopped in stage {context.stage.id} before {measure.task}")
            context.log.advance(number, len(measures), measure.task)
            found, items = _METHODS[measure.method](context, measure, model, tokenizer, skipped)
            rows += [_row(context, measure) | row for row in found]
            for item in items:
                key = {"suite": measure.suite, "task": measure.task, "method": measure.method}
                items_file.write(json.dumps(key | item, ensure_ascii=False) + "\n")
        context.log.advance(len(measures), len(measures), "measured")
    return StageResult(metrics={"rows": len(rows), "skipped": skipped}, rows=rows)


def _row(context: StageContext, measure: Measure) -> dict[str, Any]:
    record, evaluation, target = measure.input.record, measure.evaluation, context.plan.recipe.table.language
    sample = record.sample_language if record and measure.input.where == "sample" else ""
    return {
        "stage": context.stage.parent,
        "suite": measure.suite,
        "task": measure.task,
        "split": measure.split,
        "language": evaluation.language if evaluation else sample or (record.language if record else target),
    }


def _bits(
    measure: Measure, metric: str, scored: list[tuple[str, Any]], limited: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The row and the items of a list of scored documents."""
    import math

    from langadapt.evaluation.bits_per_byte import LENGTH, STRIDE
    from langadapt.evaluation.statistics import ratio_of_totals

    if not scored:
        return [], []
    found = ratio_of_totals([s.nll / math.log(2) for _, s in scored], [s.bytes for _, s in scored])
    row = {
        "metric": metric,
        "value": found.value,
        "n": len(scored),
        "ci_low": found.low,
        "ci_high": found.high,
        "higher_is_better": False,
        "unit": "bits/byte",
        "bytes": sum(s.bytes for _, s in scored),
        "tokens": sum(s.tokens for _, s in scored),
        "window": LENGTH,
        "stride": STRIDE,
        "limited": limited,
    }
    return [row], [{"id": id, "nll": s.nll, "bytes": s.bytes, "tokens": s.tokens} for id, s in scored]


def _text(context: StageContext, measure: Measure, model: Any, tokenizer: Any, skipped: dict[str, int]) -> Any:
    from langadapt.evaluation.bits_per_byte import reversible, score_text

    limit = context.plan.recipe.table.evaluation.max_documents
    documents, limited = _kept(measure, limit)
    scored = []
    for document in documents:
        if context.stop.is_set():
            raise Interrupted(f"stopped in stage {context.stage.id} while scoring {measure.task}")
        if not reversible(tokenizer, document.content):
            skipped[f"{measure.task}: tokens do not give the text back"] = (
                skipped.get(f"{measure.task}: tokens do not give the text back", 0) + 1
            )
            continue
        scored.append((document.id, score_text(model, tokenizer, document.content)))
    return _bits(measure, "bits_per_byte", scored, limited)


def _answers(context: StageContext, measure: Measure, model: Any, tokenizer: Any, skipped: dict[str, int]) -> Any:
    from langadapt.evaluation.bits_per_byte import score_answers
    from langadapt.prompts.rendering import encode

    evaluation = context.plan.recipe.table.evaluation
    limit = min(filter(None, (evaluation.max_documents, evaluation.max_items)), default=0)
    documents, limited = _kept(measure, limit)
    scored = []
    for document in documents:
        if context.stop.is_set():
            raise Interrupted(f"stopped in stage {context.stage.id} while scoring {measure.task}")
        sequence = encode(context.registry.prompts[measure.prompt], document.messages, tokenizer, measure.system_prompt)
        answers = "".join(m.content for m in document.messages if m.role == "assistant")
        scored.append((document.id, score_answers(model, sequence, answers)))
    return _bits(measure, "answer_bits_per_byte", scored, limited)


def _preferences(context: StageContext, measure: Measure, model: Any, tokenizer: Any, skipped: dict[str, int]) -> Any:
    from langadapt.evaluation.bits_per_byte import score_answers
    from langadapt.evaluation.preferences import METRICS, comparable, score_preferences
    from langadapt.evaluation.statistics import resampled
    from langadapt.prompts.rendering import encode_pair

    evaluation, format = context.plan.recipe.table.evaluation, context.registry.prompts[measure.prompt]
    limit = min(filter(None, (evaluation.max_documents, evaluation.max_items)), default=0)
    documents, limited = _kept(measure, limit)
    items: list[dict[str, Any]] = []
    for document in documents:
        if context.stop.is_set():
            raise Interrupted(f"stopped in stage {context.stage.id} while scoring {measure.task}")
        pair = encode_pair(format, document, tokenizer, measure.system_prompt)
        answers = {"chosen": "".join(m.content for m in document.messages[-1:]), "rejected": document.rejected}
        item: dict[str, Any] = {"id": document.id}
        for side, answer in answers.items():
            if (sequence := getattr(pair, side)).size:
                scored = score_answers(model, sequence, answer)
                item |= {side: scored.nll, f"{side}_bytes": scored.bytes}
        items.append(item)
    items, lacking = comparable(items)
    for reason, count in lacking.items():
        skipped[f"{measure.task}: {reason}"] = count
    if not items:
        return [], []
    rows = [
        {
            "metric": metric,
            "value": found.value,
            "n": len(items),
            "ci_low": found.low,
            "ci_high": found.high,
            "higher_is_better": METRICS[metric][0],
            "unit": METRICS[metric][1],
            "limited": limited,
        }
        for metric, found in resampled(score_preferences, items).items()
    ]
    return rows, items


def _kept(measure: Measure, limit: int) -> tuple[list[Document], bool]:
    """Documents to score: the held-out side of a training corpus, or all of an evaluation corpus; at most `limit`."""
    from langadapt.corpus.preparing import Accounting, clean

    source = measure.input.source()
    side = "held_out" if source.held_out else "train"
    documents = (d for found, d in clean(source, Accounting()) if found == side)
    kept = list(islice(documents, limit or None))
    return kept, bool(limit) and len(kept) == limit < SMALL


def _task(context: StageContext, measure: Measure, model: Any, tokenizer: Any, skipped: dict[str, int]) -> Any:
    from langadapt.artifacts import digest
    from langadapt.evaluation.generating import ask
    from langadapt.evaluation.statistics import resampled

    evaluation = measure.evaluation
    assert evaluation and evaluation.items and evaluation.score and measure.input.path
    items: list[Item] = []
    for item in evaluation.items(measure.input.path):
        if isinstance(item, Rejected):
            skipped[f"{measure.task}: {item.reason}"] = skipped.get(f"{measure.task}: {item.reason}", 0) + 1
        else:
            items.append(item)
    limit = context.plan.recipe.table.evaluation.max_items
    limited = bool(limit) and limit < SMALL and len(items) > limit
    if (
        limit and len(items) > limit
    ):  # by hash, so that the choice is the same for every model and does not follow the file's order
        items = sorted(items, key=lambda i: digest(i.id))[:limit]
    if not items:
        skipped[f"{measure.task}: no items"] = 1
        return [], []

    def advance(done: int) -> None:
        if context.stop.is_set():
            raise Interrupted(f"stopped in stage {context.stage.id} in {measure.task}")

    room = context.plan.recipe.table.evaluation.max_new_tokens or evaluation.max_new_tokens
    asked = replace(evaluation, max_new_tokens=min(room, evaluation.max_new_tokens))
    answers = ask(model, tokenizer, asked, items, context.registry.prompts[measure.prompt], advance)
    score: Callable[[Any], Any] = evaluation.score
    rows = [
        {
            "split": items[0].split or measure.split,
            "metric": metric,
            "value": found.value,
            "n": len(items),
            "ci_low": found.low,
            "ci_high": found.high,
            "higher_is_better": evaluation.metrics[metric],
            "unit": "",
            "undecoded": sum(a.prediction is None for a in answers),
            "limited": limited,
        }
        for metric, found in resampled(lambda chosen: dict(score(chosen)), answers).items()
    ]
    kept = [
        {
            "id": a.item.id,
            "asked": "\n".join(part for m in a.item.messages for part in (m.content, m.context) if part),
            "gold": a.item.gold,
            "text": a.text,
            "prediction": a.prediction,
        }
        for a in answers
    ]
    return rows, kept


_METHODS: dict[str, Callable[..., Any]] = {
    "text": _text, "answers": _answers, "preferences": _preferences, "task": _task,
}  # fmt: skip

STAGE = StageKind(
    name="evaluate",
    description="Measures a model on held-out text, answers and preferences, and on tasks.",
    version=1,
    options=EvaluateOptions,
    makes="results",
    plan=plan,
    run=run,
)
