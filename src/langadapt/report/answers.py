"""What models answered: a few answers side by side with the language of each, and tables of what was taken for what."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.identification import identify, knows

if TYPE_CHECKING:
    from langadapt.plan import Plan

Item = Mapping[str, Any]
Asked = Mapping[str, Mapping[str, Sequence[Item]]]  # items by task and model, in the order of the run
EXAMPLES = 2  # items shown of each task
LONGEST, LINES = 320, 7  # characters and lines shown of an answer
LETTERS = 25  # of a text whose language can be told
CLASSES = 15  # of a task whose answers are classes, at most
OTHER, UNREAD = "another answer", "none read"  # columns of answers that are no class of the task
REPEATED = 2  # times that a class occurs on average: what occurs once each are answers and no classes


def asked(plan: Plan) -> Asked:
    """The items of every task with each model's answer, from the stages' `items.jsonl`."""
    found: dict[str, dict[str, list[Item]]] = {}
    for stage in plan.stages:
        for item in _task_items(plan.folder / "stages" / stage.id / "items.jsonl"):
            found.setdefault(item["task"], {}).setdefault(stage.parent, []).append(item)
    return found


def _task_items(file: Path) -> Iterable[Item]:
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        item = json.loads(line)
        if item["method"] == "task":
            yield item


# --- side by side -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A model's answer as far as it is shown, and how it was read.

    Attributes:
        language: tag that the text is surely in, or "".
        badge: the same in words, beside what the task is in.
        fits: whether that is the task's language; None where it cannot be told.
        as_it_is: whether the text itself is what was read.
    """

    model: str
    text: str
    cut: bool
    read: str | None
    as_it_is: bool
    right: bool
    language: str
    badge: str
    fits: bool | None


def examples(items: Asked, languages: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """A few items of each task with every model's answer; chosen by hash, so that nobody chose them.

    Args:
        items: of all tasks.
        languages: tag of the language that each task is in.
    """
    found = {}
    for task, by_model in items.items():
        ids = dict.fromkeys(item["id"] for answered in by_model.values() for item in answered)
        chosen = sorted(ids, key=artifacts.digest)[:EXAMPLES]
        found[task] = [_example(id, by_model, languages.get(task, "")) for id in chosen]
    return found


def _example(id: str, by_model: Mapping[str, Sequence[Item]], language: str) -> dict[str, Any]:
    answered = {model: item for model, items in by_model.items() for item in items if item["id"] == id}
    first = next(iter(answered.values()))
    return {
        "id": id,
        "asked": first.get("asked", ""),
        "gold": _text(first["gold"]),
        "answers": [_shown(model, item, language) for model, item in answered.items()],
    }


def _shown(model: str, item: Item, expected: str) -> Shown:
    text, prediction = item["text"], item["prediction"]
    lines = [line for line in text.splitlines() if line.strip()]
    language = language_of(text)
    fits = language == expected if language and expected and knows(expected) else None
    return Shown(
        model=model,
        text="\n".join(lines[:LINES])[:LONGEST],
        cut=len(lines) > LINES or len("\n".join(lines)) > LONGEST,
        read=None if prediction is None else _text(prediction),
        as_it_is=prediction == text,
        right=prediction is not None and prediction == item["gold"],
        language=language,
        badge=_badge(text, language) + (f", not {expected}" if fits is False else ""),
        fits=fits,
    )


def language_of(text: str) -> str:
    """Tag of the language that a text is surely in; "" where that cannot be told."""
    found = identify(text) if _long_enough(text) else None
    return found.tag if found and found.reliable else ""


def _badge(text: str, language: str) -> str:
    if language:
        return f"in {language}"
    return "language unclear" if _long_enough(text) else "too short to tell its language"


def _long_enough(text: str) -> bool:
    return sum(map(str.isalpha, text)) >= LETTERS


def _text(value: Any) -> str:
    """A gold answer or a prediction of any shape on one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(_text, value)) if all(isinstance(v, str) for v in value) else ", ".join(map(_text, value))
    return str(value)


# --- what was taken for what ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How often a model answered what where something else was right.

    Attributes:
        model: that was asked.
        classes: of the gold answers; rows of the table, and its first columns.
        columns: the classes, then `OTHER` and `UNREAD` where there were such answers.
        counts: by gold class, of each column.
    """

    model: str
    classes: Sequence[str]
    columns: Sequence[str]
    counts: Mapping[str, Sequence[int]]

    @property
    def right(self) -> int:
        """Answers that are the gold one."""
        return sum(self.counts[name][place] for place, name in enumerate(self.classes))

    @property
    def total(self) -> int:
        return sum(map(sum, self.counts.values()))


def confusions(items: Asked) -> dict[str, list[Confusion]]:
    """Of each task whose answers are single classes, a table for the first model that was asked and for the last one."""
    found = {}
    for task, by_model in items.items():
        models = list(by_model)
        if classes := _classes({item["id"]: item["gold"] for answered in by_model.values() for item in answered}):
            found[task] = [
                _confusion(model, by_model[model], classes) for model in dict.fromkeys((models[0], models[-1]))
            ]
    return found


def _classes(golds: Mapping[str, Any]) -> list[str]:
    if not all(isinstance(gold, str | bool | int) for gold in golds.values()):
        return []
    classes = sorted(set(map(str, golds.values())))
    return classes if 2 <= len(classes) <= min(CLASSES, len(golds) // REPEATED) else []


def _confusion(model: str, items: Sequence[Item], classes: Sequence[str]) -> Confusion:
    pairs = Counter((str(item["gold"]), _column(item["prediction"], classes)) for item in items)
    rest = [name for name in (OTHER, UNREAD) if any(column == name for _, column in pairs)]
    columns = [*classes, *rest]
    return Confusion(
        model=model,
        classes=classes,
        columns=columns,
        counts={gold: [pairs[gold, column] for column in columns] for gold in classes},
    )


def _column(prediction: Any, classes: Sequence[str]) -> str:
    if prediction is None:
        return UNREAD
    return str(prediction) if str(prediction) in classes else OTHER
