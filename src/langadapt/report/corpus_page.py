"""Pages about a corpus: its figures, and documents before and after cleaning; in the look of the report page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from langadapt.corpus.choosing import place_of
from langadapt.corpus.differences import Differences
from langadapt.corpus.statistics import EXCERPT, Statistics
from langadapt.report import findings
from langadapt.report.page import environment

if TYPE_CHECKING:
    from markupsafe import Markup

    from langadapt.corpus.choosing import Chosen
    from langadapt.corpus.curves import Curve
    from langadapt.corpus.sampling import Sample

LISTED = 12  # languages, scripts, domains
AXES = {"characters": "characters", "words": "words and marks", "lines": "lines", "tokens": "tokens"}


def statistics_page(made: Statistics, curves: Sequence[Curve]) -> str:
    """The text of a page about `langadapt corpus stats`."""
    cleaned = any(step.changed or step.dropped for step in made.steps.values())
    sides = {"as read": made.before} | ({"cleaned": made.after} if cleaned else {})
    figures = {name: texts.to_json() for name, texts in sides.items()}
    last = list(figures.values())[-1]
    return _page(
        made.chosen,
        made.sample,
        made.before.documents,
        title="statistics",
        compared=_compared(figures),
        sides=list(figures),
        steps=list(made.steps.values()),
        lengths=lengths(last),
        lists=_lists(figures),
        curves=[(curve, kept(curve, f"curve-{n}")) for n, curve in enumerate(curves)],
        excerpt=EXCERPT,
    )


def differences_page(seen: Differences) -> str:
    """The text of a page about `langadapt corpus diff`."""
    return _page(
        seen.chosen,
        seen.sample,
        seen.looked,
        title="before and after cleaning",
        counts=seen.counts.most_common(),
        looked=seen.looked,
        shown=seen.shown,
    )


def _page(chosen: Chosen, sample: Sample, taken: int, **words: Any) -> str:
    record = chosen.input.record
    return (
        environment()
        .get_template("corpus.html.jinja")
        .render(
            name=findings.name(chosen.input.label),
            description=record.description if record else "",
            language=chosen.language,
            licence=chosen.input.licence,
            place=place_of(chosen.input, name=findings.name),
            sample=sample,
            taken=taken,
            version=metadata.version("langadapt"),
            **words,
        )
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def lengths(texts: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """How documents' lengths and fertilities are spread: in words, and as a figure."""
    from langadapt.report import figures

    spreads = {name: (spread, AXES[name]) for name, spread in texts["lengths"].items()}
    if tokens := texts["tokens"]:
        spreads |= {"tokens": (tokens["lengths"], AXES["tokens"])}
        spreads |= {"tokens a word": (tokens["fertilities"], "tokens a word, of each document")}
    made = []
    for name, (spread, axis) in spreads.items():
        if spread["n"]:
            said = f"{name}: median {spread['p50']:,g}, 5 % below {spread['p05']:,g}, 5 % above {spread['p95']:,g}"
            slug = f"lengths-{name.replace(' ', '-')}"
            made.append((said, figures.uneven_histogram(slug, said, spread["histogram"], axis)))
    return made


def kept(curve: Curve, name: str) -> Markup:
    """The figure of a curve."""
    from langadapt.report import figures

    points = [(value, *curve.shares(value)) for value in curve.values]
    said = "; ".join(f"{value:g}: {findings.percent(documents)} of documents" for value, documents, _ in points)
    label = f"Kept by {curve.filter} for each value of {curve.option}: {said}"
    return figures.kept_shares(name, label, points, curve.configured, curve.option)


# --- tables -----------------------------------------------------------------------------------------------------------

_ROWS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "Documents": lambda t: findings.number(t["documents"]),
    "Bytes": lambda t: findings.size(t["bytes"]),
    "Characters": lambda t: findings.number(t["characters"]),
    "Words and marks": lambda t: findings.number(t["words"]),
    "Lines": lambda t: findings.number(t["lines"]),
    "Exact duplicates": lambda t: _of(t["duplicates"]["exact"], t["documents"]),
    "Near duplicates": lambda t: _of(t["duplicates"]["near"], t["documents"]),
    "Documents with mojibake": lambda t: _of(t["mojibake"], t["documents"]),
    "Documents whose language is not sure": lambda t: _of(t["languages"]["unsure"], t["documents"]),
}
_TOKEN_ROWS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "Tokens": lambda t: findings.number(t["tokens"]["tokens"]),
    "Tokens a word (fertility)": lambda t: findings.number(t["tokens"]["fertility"]),
    "Bytes a token": lambda t: findings.number(t["tokens"]["bytes_per_token"]),
    "Words in more than one token": lambda t: findings.percent(t["tokens"]["continued_words"] or 0),
    "Documents longer than the maximum": lambda t: _longer(t),
}


def _compared(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    first = next(iter(figures.values()))
    rows = {**_ROWS, **(_TOKEN_ROWS if first["tokens"] else {})}
    return [(name, [cell(texts) for texts in figures.values()]) for name, cell in rows.items()]


def _longer(texts: Mapping[str, Any]) -> str:
    most = texts["tokens"]["max_length"]
    return f"{_of(texts['tokens']['longer'], texts['documents'])} of {most:,}" if most else "–"


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({findings.percent(part / whole)})" if whole and part else f"{part:,}"


def _lists(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """What there is of languages, scripts and sources, each with its share on every side."""
    counted = [_counted(texts) for texts in figures.values()]
    return [(name, _top([side.get(name, Counter()) for side in counted])) for name in counted[0]]


def _counted(texts: Mapping[str, Any]) -> dict[str, Counter[str]]:
    counts = {
        "Languages, by document": texts["languages"]["documents"],
        "Languages, by bytes of paragraphs": texts["paragraphs"]["bytes"],
        "Scripts, by letter": texts["scripts"],
        **{kind.capitalize(): values for kind, values in texts["origins"].items()},
    }
    return {name: Counter(values) for name, values in counts.items()}


def _top(sides: Sequence[Counter[str]]) -> list[tuple[str, list[str]]]:
    names = [name for name, _ in sides[0].most_common(LISTED)]
    return [
        (name or "not told", [findings.percent(side[name] / (side.total() or 1)) for side in sides]) for name in names
    ]
