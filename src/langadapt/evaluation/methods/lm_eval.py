"""Tasks of lm-evaluation-harness; see `langadapt.harness`.

The harness puts the questions and judges each answer. A figure is its own aggregation over the items, and its interval
is ours. An item keeps for each metric what was judged of it, and by which function that is aggregated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from statistics import fmean
from typing import Any

from langadapt.artifacts import digest
from langadapt.evaluation.figures import Kept, Metrics, Runs, over_runs
from langadapt.evaluation.methods import Items, Measure, Method, Subject, Work
from langadapt.evaluation.statistics import Change, Interval, paired_difference, relative_change, resampled

MEAN = "lm_eval.api.metrics:mean"
BITS = "bits_per_byte"


def prepare(subject: Subject, measure: Measure) -> Work:
    """The harness reads its data when it asks."""
    return Work(items=0, read=0, known=False, take=lambda: _asked(subject, measure))


def _asked(subject: Subject, measure: Measure) -> Items:
    """Asks the items. A metric that not every item has, or whose aggregation has no name, is left out and counted."""
    from langadapt.evaluation.harness_run import ask

    assert measure.harness
    task, samples, limited = ask(subject, measure)
    items = kept(task, samples, measure.harness.version)
    for metric, reason in _unfit(items).items():
        subject.skip(measure, f"{metric} {reason}", len(items))
        for item in items:
            item["metrics"].pop(metric, None)
    return Items(items=items, limited=limited)


def kept(task: Any, samples: Sequence[Mapping[str, Any]], version: str) -> list[dict[str, Any]]:
    """What is kept of the harness's samples, of which there is one for each filter of an answer."""
    items: dict[int, dict[str, Any]] = {}
    for sample in samples:
        item = items.setdefault(sample["doc_id"], _item(task, sample, version))
        for metric in sample["metrics"]:
            name = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
            item["metrics"][name] = {
                "value": _plain(sample[metric]),
                "higher_is_better": task.higher_is_better().get(metric) is not False,
                "aggregation": _reference(task.aggregation().get(metric)),
            }
    return [items[number] for number in sorted(items)]


def _item(task: Any, sample: Mapping[str, Any], version: str) -> dict[str, Any]:
    question = task.doc_to_text(sample["doc"])
    return {
        "id": str(sample["doc_id"]),
        "asked": question if isinstance(question, str) else str(sample["arguments"][0][0]),
        "gold": _plain(sample["target"]),
        "text": _text(sample),
        "prompt_sha256": sample["prompt_hash"],
        "num_fewshot": task.config.num_fewshot,
        "task_version": version,
        "metrics": {},
    }


def _text(sample: Mapping[str, Any]) -> str:
    """What the model wrote, or the choice that it gives the highest probability; "" where text itself was scored."""
    first = sample["filtered_resps"][0]
    if isinstance(first, str):
        return first
    if len(sample["arguments"]) == 1:
        return ""
    best = max(range(len(sample["arguments"])), key=lambda i: sample["filtered_resps"][i][0])
    return str(sample["arguments"][best][-1]).strip()


def _plain(value: Any) -> Any:
    """A judgement as JSON has it; None stands for what is not a number."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _reference(function: Any) -> str:
    """`module:name` of an aggregation; the mean where the harness would take it for want of one."""
    return MEAN if function is None else f"{function.__module__}:{getattr(function, '__qualname__', '<lambda>')}"


def _unfit(items: Sequence[Kept]) -> dict[str, str]:
    found = {}
    for metric, about in {m: a for item in items for m, a in item["metrics"].items()}.items():
        having = sum(metric in item["metrics"] for item in items)
        if having < len(items):
            found[metric] = f"is there for {having} of {len(items)} items only"
        elif "<" in about["aggregation"]:
            found[metric] = "is aggregated by a function without a name"
    return found


# --- figures ----------------------------------------------------------------------------------------------------------


def _scorer(items: Sequence[Kept]) -> Callable[[Sequence[Any]], dict[str, float]]:
    """Every metric of the items by its aggregation."""
    functions = {m: _aggregation(about["aggregation"]) for m, about in items[0]["metrics"].items()}
    return partial(_score, functions)


def _score(functions: Mapping[str, Callable[[list[Any]], float]], items: Sequence[Kept]) -> dict[str, float]:
    return {m: float(function([_value(item, m) for item in items])) for m, function in functions.items()}


def _value(item: Kept, metric: str) -> Any:
    value = item["metrics"][metric]["value"]
    return math.nan if value is None else value


def _aggregation(reference: str) -> Callable[[list[Any]], float]:
    if reference == MEAN:
        return fmean  # so that most reports need no harness
    module, _, name = reference.partition(":")
    function: Callable[[list[Any]], float] = getattr(import_module(module), name)
    return function


def columns(items: Sequence[Kept]) -> Mapping[str, Any]:
    """What the questions looked like: shots, the task's version, and a digest of the prompts, equal where they are."""
    prompts = digest([item["prompt_sha256"] for item in items])
    return {**{key: items[0][key] for key in ("num_fewshot", "task_version")}, "prompt_sha256": prompts}


class Judged:
    """What the harness makes of its judgements; bits per byte change by a share, as everywhere."""

    def metrics(self, items: Sequence[Kept], name: str) -> Metrics:
        return {metric: (about["higher_is_better"], "") for metric, about in items[0]["metrics"].items()}

    def values(self, items: Sequence[Kept], name: str) -> dict[str, float]:
        return _scorer(items)(items)

    def intervals(self, items: Sequence[Kept], name: str) -> dict[str, Interval]:
        return resampled(_scorer(items), items)

    def changes(self, before: Runs, after: Runs, name: str) -> dict[str, Change]:
        """Nothing is known of metrics of a harness that is not installed any more."""
        try:
            score = over_runs(_scorer(before[0]))
        except ImportError:
            return {}
        found = paired_difference(score, *(list(zip(*side, strict=True)) for side in (before, after)))
        bits = [metric for metric in found if metric.endswith(BITS)]
        return found | {metric: relative_change(_nats(before, metric), _nats(after, metric)) for metric in bits}


def _nats(runs: Runs, metric: str) -> list[float]:
    """Of each item, the mean over runs."""
    return [fmean(-_value(item, metric)[0] for item in items) for items in zip(*runs, strict=True)]


METHOD = Method(prepare=prepare, figures=Judged(), columns=columns)
