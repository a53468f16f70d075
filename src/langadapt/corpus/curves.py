"""How much of a corpus a cleaning step keeps, for each value of one of its thresholds: measure first, then choose.

The step is made again with other values of one option; its other options stay as they are configured, so that a curve
shows what changing this one value would do. It is asked about the documents that come to it: what the steps before it
leave, or all steps, where it is not among them.
"""

from __future__ import annotations

import math
import pickle
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from langadapt.corpus.choosing import Chosen, NamedStep, steps_of
from langadapt.corpus.portions import Portion, of_documents
from langadapt.corpus.preparing import Preparation, Step
from langadapt.corpus.tracing import size_of, tracer
from langadapt.errors import UserError, nearest
from langadapt.records import Document, Filter, Language

if TYPE_CHECKING:
    from langadapt.plugins import Registry

_FACTORS = (0.2, 0.4, 0.6, 0.8, 0.9, 1, 1.1, 1.3, 2, 4, 8)
_LOG_ODDS = (-3, -2, -1.2, -0.7, -0.3, 0, 0.3, 0.7, 1.2, 2, 3)
_FROM_ZERO = {int: (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), float: (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)}

_PORTION = 1 << 16  # characters of the documents that are asked about in one go
Verdict = tuple[bool, int]  # whether a document is kept, and the bytes that are left of it


@dataclass(kw_only=True)
class Curve:
    """What a filter keeps for each value of one option.

    Attributes:
        filter: its name.
        option: the option's name.
        configured: the value that it has: of the recipe or `--filter`, of the language, or the default.
        origin: who says so, in words.
        values: those that were tried, in order.
        documents: how many came to it.
        bytes: of those documents.
        kept_documents: by value.
        kept_bytes: by value.
    """

    filter: str
    option: str
    configured: float
    origin: str
    values: Sequence[float]
    documents: int = 0
    bytes: int = 0
    kept_documents: Counter[float] = field(default_factory=Counter)
    kept_bytes: Counter[float] = field(default_factory=Counter)

    def empty(self) -> Curve:
        """The same curve with nothing counted."""
        return replace(self, documents=0, bytes=0, kept_documents=Counter(), kept_bytes=Counter())

    def add(self, other: Curve) -> None:
        """Adds what the same curve counted of other documents."""
        self.documents += other.documents
        self.bytes += other.bytes
        self.kept_documents.update(other.kept_documents)
        self.kept_bytes.update(other.kept_bytes)

    def shares(self, value: float) -> tuple[float, float]:
        """Kept share of documents and of bytes."""
        return self.kept_documents[value] / (self.documents or 1), self.kept_bytes[value] / (self.bytes or 1)

    def to_json(self) -> dict[str, Any]:
        points = []
        for value in self.values:
            documents, size = self.shares(value)
            points.append({"value": value, "documents": documents, "bytes": size})
        return {
            "filter": self.filter,
            "option": self.option,
            "configured": self.configured,
            "configured_by": self.origin,
            "documents": self.documents,
            "bytes": self.bytes,
            "kept": points,
        }


def curves(
    asked: Sequence[str], chosen: Chosen, known: Registry, documents: Iterable[Document], workers: int = 0
) -> list[Curve]:
    """A curve for each option that is asked for.

    Args:
        asked: `FILTER.OPTION`, `FILTER.OPTION=[VALUES]`, or `FILTER` for all its options that are numbers.
        chosen: the corpus and its steps.
        known: the registry.
        documents: the sample, as it is read.
        workers: processes that share the work; 0 for one on each core.

    Raises:
        UserError: there is no such filter or option, or the option is no number.
        RunError: a process that shared the work died.
    """
    from langadapt.corpus.workers import in_order

    job = Asking(preparation=chosen.input.preparation, asked=tuple(asked))
    made = [trial.curve for trial in job.trials(known)]
    with closing(in_order(job, of_documents(chosen.input.label, documents, _PORTION), workers)) as found:
        for parts in map(pickle.loads, found):
            for curve, part in zip(made, parts, strict=True):
                curve.add(part)
    return made


@dataclass(frozen=True, kw_only=True)
class Asking:
    """The drawing of curves, as a job of `langadapt.corpus.workers`."""

    preparation: Preparation
    asked: tuple[str, ...]

    def unknown(self, known: Registry) -> list[str]:
        """Filters that no plugin of this process offers."""
        names = [text.partition("=")[0].partition(".")[0] for text in self.asked]
        return [*self.preparation.unknown(known), *(name for name in names if name not in known.filters)]

    def trials(self, known: Registry) -> list[_Trial]:
        """What is asked for, made ready, with nothing counted yet."""
        steps, language = steps_of(self.preparation, known), known.languages.get(self.preparation.language)
        return [trial for text in self.asked for trial in _trials(text, steps, language, known)]

    def of_portions(self, known: Registry) -> Callable[[Portion], bytes]:
        """A pure function from a portion of the corpus to the curves of its documents, pickled."""
        trials = self.trials(known)
        traces = {trial.name: tracer(trial.before) for trial in trials}

        def draw(portion: Portion) -> bytes:
            for trial in trials:
                trial.curve = trial.curve.empty()
            for document in portion.documents:
                assert isinstance(document, Document)
                ways = {name: trace(document) for name, trace in traces.items()}
                for trial in trials:
                    if ways[trial.name].kept:
                        trial.ask(ways[trial.name].last)
            return pickle.dumps([trial.curve for trial in trials])

        return draw


def spread(value: float) -> list[float]:
    """Values around one, of its own type: even in log odds for a share of one, by factors for other numbers; 0 first."""
    kind = type(value)
    if not value:
        around: Iterable[float] = _FROM_ZERO[kind]
    elif 0 < value < 1:
        odds = math.log(value / (1 - value))
        around = [_rounded(1 / (1 + math.exp(-odds - shift))) if shift else value for shift in _LOG_ODDS]
    else:
        around = [_rounded(value * factor) if factor != 1 else value for factor in _FACTORS]
    return sorted({kind(0), *(kind(round(v)) if kind is int else v for v in around), value})


def _rounded(value: float) -> float:
    """Two figures that count: of what is missing to 1, where that is little."""
    return round(1 - float(f"{1 - value:.2g}"), 9) if 0.9 < value < 1 else float(f"{value:.2g}")


# --- one option -------------------------------------------------------------------------------------------------------


class _Trial:
    """A filter, made once for each value of one of its options; values that it refuses are left out.

    Args:
        curve: what is counted in.
        make: the step with a value.
        before: the steps that documents come through first.
    """

    def __init__(self, curve: Curve, make: Callable[[float], Step], before: Sequence[NamedStep]) -> None:
        self.curve, self.name, self.before = curve, curve.filter, before
        self._steps: dict[float, Step] = {}
        for value in curve.values:
            try:
                self._steps[value] = make(value)
            except UserError:
                if value == curve.configured:
                    raise
        curve.values = list(self._steps)

    def ask(self, document: Document) -> None:
        """Adds what is kept of a document by each value."""
        curve, values = self.curve, self.curve.values

        def verdict(index: int) -> Verdict:
            outcome = self._steps[values[index]](document)
            return (False, 0) if isinstance(outcome, str) else (True, size_of(outcome))

        curve.documents += 1
        curve.bytes += size_of(document)
        first = min(values[0] == 0, len(values) - 1)  # 0 often stands for off, and is asked about by itself
        marks = sorted({0, first, max(first, values.index(curve.configured)), len(values) - 1})
        for value, (kept, left) in zip(values, _verdicts(marks, verdict), strict=True):
            curve.kept_documents[value] += kept
            curve.kept_bytes[value] += left


def _verdicts(marks: Sequence[int], verdict: Callable[[int], Verdict]) -> list[Verdict]:
    """What is kept by each value, of which few are asked about.

    Between two values with the same outcome, those between are taken to have it too: a threshold lets through more and
    more, or less and less. Where it changes, the place is found by halving.

    Args:
        marks: numbers of the values to begin with, from the first to the last.
        verdict: asks about a value.
    """
    found = {index: verdict(index) for index in marks}
    between = list(pairwise(marks))
    while between:
        low, high = between.pop()
        if found[low] == found[high]:
            found.update(dict.fromkeys(range(low + 1, high), found[low]))
        elif high - low > 1:
            middle = (low + high) // 2
            found[middle] = verdict(middle)
            between += [(low, middle), (middle, high)]
    return [found[index] for index in sorted(found)]


def _trials(text: str, steps: Sequence[NamedStep], language: Language | None, known: Registry) -> list[_Trial]:
    """What `FILTER`, `FILTER.OPTION` or `FILTER.OPTION=[VALUES]` asks for."""
    key, _, written = text.partition("=")
    name, _, option = key.strip().partition(".")
    if name not in known.filters:
        raise UserError(f'--curve {text}: no plugin offers the filter "{name}"; {known.filters.missing(name)}')
    filter = known.filters[name]
    step = next((step for step in steps if step.name == filter.name), None)
    options = step.options if step else filter.values(language)
    numbers = numbers_of(options)
    if not numbers:
        raise UserError(f"--curve {text}: {name} has no option that is a number; choose another filter")
    if option and option not in numbers:
        what = "is not a number" if option in filter.options else f"is no option of {name}"
        raise UserError(f'--curve {text}: "{option}" {what}; {nearest(option, numbers) or ", ".join(numbers)}')
    before = steps[: steps.index(step)] if step else steps
    language = _remembering(language)
    trials = []
    for key, value in numbers.items() if not option else [(option, numbers[option])]:
        values = sorted({value, *_written(text, written, value)}) if written else spread(value)
        curve = Curve(
            filter=name, option=key, configured=value, origin=_origin(key, filter, options, language), values=values
        )
        trials.append(_Trial(curve, partial(_made, filter, options, language, key), before))
    return trials


def _made(filter: Filter, options: Mapping[str, Any], language: Language | None, key: str, value: float) -> Step:
    return filter.make({**options, key: value}, language)


def numbers_of(options: Mapping[str, Any]) -> dict[str, float]:
    """Options that are numbers."""
    return {k: v for k, v in options.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def _origin(key: str, filter: Filter, options: Mapping[str, Any], language: Language | None) -> str:
    if options[key] != filter.values(language)[key]:
        return "as configured"
    return "the default" if options[key] == filter.options[key] else "the language's"


def _written(text: str, written: str, like: float) -> list[float]:
    """`0.1,0.2` or `[0.1, 0.2]` as numbers of the option's own type."""
    try:
        values = tomllib.loads(f"v = [{written.strip().strip('[]')}]")["v"]
    except tomllib.TOMLDecodeError:
        values = None
    if not values or any(not isinstance(v, (int, float)) or isinstance(v, bool) for v in values):
        raise UserError(
            f"--curve {text}: its values cannot be read; write numbers with commas between, such as 0.1,0.2,0.3"
        )
    if isinstance(like, int) and any(v != int(v) for v in values):
        raise UserError(f"--curve {text}: the option takes whole numbers; write them without a point")
    return [type(like)(v) for v in values]


def _remembering(language: Language | None) -> Language | None:
    """The language with a short memory, so that a text which many steps look at is cut into words once."""
    return replace(language, words=lru_cache(maxsize=2)(language.words)) if language else None
