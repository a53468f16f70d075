"""Figures of the report page: small SVGs that stand inside the page, take its colours and follow its light and dark.

matplotlib draws with five stand-in colours; `_inline` puts the page's CSS variables in their place.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, QUIET, LINE, ACCENT, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
COLOURS = {
    INK: "currentColor",
    QUIET: "var(--quiet)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    PAPER: "var(--paper)",
}
WIDTH = 4.7  # inches; close to a phone's width in points, so that text keeps its size there
POINTS = 120  # a longer curve is drawn as the mean and the range of so many stretches
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A model's value with its interval, where it has one, and what stands beside it in words."""

    label: str
    value: float
    low: float | None
    high: float | None
    note: str = ""
    baseline: bool = False


def forest(name: str, label: str, points: Sequence[Point], axis: str) -> Markup:
    """Values of several models below one another, with intervals; a line goes down from the baseline's value.

    Args:
        name: of the figure, unique on the page.
        label: what a person who cannot see it is told.
        points: top to bottom.
        axis: what the values are.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.31 * len(points)), layout="constrained")
        axes = figure.add_subplot()
        for row, point in enumerate(points):
            _point(axes, row, point)
        axes.set_yticks(range(len(points)), [_short(p.label) for p in points])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(points) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(axis)
        axes.spines["left"].set_visible(False)
        return _inline(figure, name, label)


def _point(axes: Any, row: int, point: Point) -> None:
    colour = QUIET if point.baseline else ACCENT
    if point.baseline:
        axes.axvline(point.value, color=LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    if point.low is not None and point.high is not None:
        axes.plot([point.low, point.high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
    axes.plot([point.value], [row], "o", color=colour, markersize=6.5, markeredgecolor=PAPER, markeredgewidth=1.2)
    axes.text(1.03, row, point.note, transform=axes.get_yaxis_transform(), va="center", fontsize=10)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A model in a plane: a value and its interval in each direction."""

    label: str
    x: tuple[float, float, float]  # value, low, high
    y: tuple[float, float, float]


def frontier(name: str, label: str, places: Sequence[Place], axes_are: tuple[str, str]) -> Markup:
    """Models in a plane whose origin is the base model; their names stand beside it, so that none covers another.

    Args:
        name: of the figure, unique on the page.
        label: what a person who cannot see it is told.
        places: of all models but the base.
        axes_are: what goes to the right and what goes up.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, max(3.3, 1.0 + 0.26 * len(places))), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.axvline(0, color=LINE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.plot([0], [0], "o", color=PAPER, markersize=6.5, markeredgecolor=QUIET, markeredgewidth=1.6)
        axes.annotate("base", (0, 0), (5, -5), textcoords="offset points", va="top", fontsize=9, color=QUIET)
        for place in places:
            (x, *across), (y, *along) = place.x, place.y
            axes.plot(across, [y, y], color=ACCENT, linewidth=1.4, solid_capstyle="round", alpha=0.6)
            axes.plot([x, x], along, color=ACCENT, linewidth=1.4, solid_capstyle="round", alpha=0.6)
            axes.plot([x], [y], "o", color=ACCENT, markersize=6.5, markeredgecolor=PAPER, markeredgewidth=1.2)
        axes.margins(0.12)
        _name_beside(axes, places)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(axes_are[0])
        axes.set_ylabel(axes_are[1])
        return _inline(figure, name, label)


def _name_beside(axes: Any, places: Sequence[Place]) -> None:
    """Names to the right of the axes, from top to bottom as the points are, each with a line to its point."""
    bottom, top = axes.get_ylim()
    ordered = sorted(places, key=lambda place: -place.y[0])
    wanted = [(place.y[0] - bottom) / (top - bottom) for place in ordered]
    for place, height in zip(ordered, _apart(wanted, 0.9 / max(len(places), 12)), strict=True):
        axes.annotate(
            _short(place.label),
            (place.x[0], place.y[0]),
            (1.04, height),
            textcoords=axes.transAxes,
            va="center",
            fontsize=10,
            arrowprops={"arrowstyle": "-", "color": LINE, "linewidth": 0.9, "shrinkA": 2, "shrinkB": 5},
        )


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Falling heights between 0 and 1, at least a gap from one another and near the wanted ones."""
    heights: list[float] = []
    for number, height in enumerate(wanted):
        lowest = (len(wanted) - 1 - number) * gap  # leaves room for those below
        highest = heights[-1] - gap if heights else 1.0
        heights.append(min(highest, max(lowest, height)))
    return heights


def histogram(name: str, label: str, bars: Sequence[tuple[float, int]], axis: str) -> Markup:
    """How figures are spread.

    Args:
        name: of the figure, unique on the page.
        label: what a person who cannot see it is told.
        bars: lower edge and count of each, all equally wide.
        axis: what the figures are.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, 1.7), layout="constrained")
        axes = figure.add_subplot()
        width = bars[1][0] - bars[0][0] if len(bars) > 1 else 1.0
        axes.bar([low for low, _ in bars], [count for _, count in bars], width=0.9 * width, align="edge", color=ACCENT)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_ylabel("texts")
        axes.set_xlabel(axis)
        return _inline(figure, name, label)


def uneven_histogram(name: str, label: str, bars: Sequence[tuple[float, int]], axis: str) -> Markup:
    """As `histogram`, of bars that are not equally wide: each is drawn alike and stands above its lower edge."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, 1.8), layout="constrained")
        axes = figure.add_subplot()
        places = range(len(bars))
        axes.bar(places, [count for _, count in bars], width=0.9, align="edge", color=ACCENT)
        every = -(-len(bars) // 6)  # labels that stay apart
        axes.set_xticks(places[::every], [f"{edge:,g}" for edge, _ in bars[::every]])
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_ylabel("documents")
        axes.set_xlabel(axis)
        return _inline(figure, name, label)


def kept_shares(
    name: str, label: str, points: Sequence[tuple[float, float, float]], chosen: float, axis: str
) -> Markup:
    """Kept share of documents (line) and bytes (dashes) for each value of a threshold; the values are evenly spaced.

    Args:
        name: of the figure, unique on the page.
        label: what a person who cannot see it is told.
        points: value, share of documents, share of bytes.
        chosen: the value that is configured; a line goes down from it.
        axis: what the values are.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
        axes = figure.add_subplot()
        places = range(len(points))
        axes.axvline([value for value, _, _ in points].index(chosen), color=LINE, linewidth=1.4, zorder=0)
        axes.plot(places, [100 * d for _, d, _ in points], color=ACCENT, linewidth=1.6, marker="o", markersize=3.5)
        axes.plot(places, [100 * b for _, _, b in points], color=QUIET, linewidth=1.2, linestyle=(0, (4, 2)))
        axes.set_xticks(places, [f"{value:g}" for value, _, _ in points], rotation=45, ha="right", fontsize=9)
        axes.set_ylim(-3, 103)
        axes.set_yticks([0, 50, 100])
        axes.grid(axis="y")
        axes.set_ylabel("% kept")
        axes.set_xlabel(axis)
        return _inline(figure, name, label)


def curves(name: str, label: str, steps: Sequence[Mapping[str, Any]]) -> Markup:
    """Loss over the steps of a training, and below it the learning rate, when it was logged.

    Args:
        name: of the figure, unique on the page.
        label: what a person who cannot see it is told.
        steps: `step` events, as `read_steps` gives them.
    """
    rates = [s["learning_rate"] for s in steps if finite(s.get("learning_rate"))]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, 2.9 if rates else 2.2), layout="constrained")
        panels = figure.subplots(
            2 if rates else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 1] if rates else [1]
        )[:, 0]
        _curve(panels[0], steps, "loss", ACCENT)
        of_pairs = any("rewards/margins" in s for s in steps)  # their losses are of pairs, in units of their own
        panels[0].set_ylabel("loss" if of_pairs else "loss, nats per token")
        if rates:
            _curve(panels[1], steps, "learning_rate", QUIET)
            panels[1].set_yticks([0, max(rates)], ["0", f"{max(rates):.2g}"])
            panels[1].set_ylabel("rate")
        panels[-1].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panels[-1].set_xlabel("step")
        figure.align_ylabels()
        return _inline(figure, name, label)


def _curve(axes: Any, steps: Sequence[Mapping[str, Any]], key: str, colour: str) -> None:
    chosen = [s for s in steps if finite(s.get(key))]
    parts = np.array_split(np.array([[s["step"], s[key]] for s in chosen], float), min(len(chosen), POINTS))
    x, middle = (np.array([part[:, i].mean() for part in parts]) for i in (0, 1))
    if len(parts) < len(chosen):
        low, high = (np.array([bound(part[:, 1]) for part in parts]) for bound in (np.min, np.max))
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, middle, color=colour, linewidth=1.6, marker="o" if len(parts) < 20 else "", markersize=3.5)
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(4))


def read_steps(events: Path) -> dict[str, list[dict[str, Any]]]:
    """`step` events of each stage, in order; a step that was done twice counts as it was done last.

    A stage that was begun again as another one (its digest differs) begins its curve again too.
    """
    steps: dict[str, dict[int, dict[str, Any]]] = {}
    digests: dict[str, str] = {}
    for event in read_events(events):
        if event["event"] == "step":
            steps.setdefault(event["stage"], {})[event["step"]] = event
        elif event["event"] == "stage" and event.get("status") == "running":
            if digests.get(event["id"]) != event.get("digest"):
                steps.pop(event["id"], None)
            digests[event["id"]] = event.get("digest", "")
    curves = {stage: [found[number] for number in sorted(found)] for stage, found in steps.items()}
    return {stage: found for stage, found in curves.items() if any(finite(s.get("loss")) for s in found)}


def read_events(path: Path) -> list[dict[str, Any]]:
    """All events of a run; none where there is no file."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:  # a line that a killed run left unfinished
            continue
    return found


def finite(value: Any) -> bool:
    """Whether there is a number to draw."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _short(text: str) -> str:
    return text if len(text) <= 18 else f"{text[:17]}…"


def _inline(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an `<svg>` element with names of its own, the page's colours and a text for screen readers."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = stream.getvalue()
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img" aria-label="@">', svg, count=1)
    svg = re.sub(r"font(-family)?: ([\d.]+px )?['\w][^;\"]*sans-serif", r"font\1: \2var(--sans)", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{re.sub('[^A-Za-z0-9-]', '-', name)}-", svg)
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return Markup(svg.replace("@", escape(label), 1))
