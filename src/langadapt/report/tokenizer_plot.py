"""The figure of a report on tokenizers, as a file of its own: tokens a word by domain, and what extensions would save."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from langadapt.report.figures import ACCENT, INK, LINE, PAPER, QUIET, STYLE

if TYPE_CHECKING:
    from langadapt.tokenizer.predicting import Prediction
    from langadapt.tokenizer.reporting import Report

# What the stand-in colours of `figures` are outside of a page: those of the page by day.
INKS = {INK: "#1c1e20", QUIET: "#595e63", LINE: "#d9d5cc", ACCENT: "#10586d", PAPER: "#fcfbf8"}
OTHERS = ("#b97d06", "#7fa3ad", "#9c3512", "#1b6541")  # colours of the tokenizers after the first
WIDTH = 7.2  # inches


def plot(made: Report) -> str:
    """The figure as an SVG document."""
    domains = list(made.sides[0].domains)
    lower = made.prediction if made.prediction and made.prediction.sizes else None
    bars = 0.6 + 0.17 * len(domains) * (1 + len(made.sides))
    heights = [bars, 2.4] if lower else [bars]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "tokenizers"}):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.8), layout="constrained", facecolor=PAPER)
        panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        _fertility(panels[0], made)
        if lower:
            _saved(panels[1], lower)
        return _document(figure, _told(made))


def _fertility(axes: Any, made: Report) -> None:
    """Bars of every domain, one for each tokenizer."""
    domains = list(made.sides[0].domains)
    height = 0.8 / len(made.sides)
    for number, (name, side) in enumerate(zip(made.names, made.sides, strict=True)):
        places = [row + (number - (len(made.sides) - 1) / 2) * height for row in range(len(domains))]
        values = [side.domains[domain].fertility or 0 for domain in domains]
        colour = ACCENT if number == 0 else OTHERS[(number - 1) % len(OTHERS)]
        axes.barh(places, values, height=0.86 * height, color=colour, label=name)
        for place, value in zip(places, values, strict=True):
            axes.annotate(f"{value:.2f}", (value, place), (3, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(domains)), domains)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("tokens a word")
    if len(made.sides) > 1:
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9.5)


def _saved(axes: Any, prediction: Prediction) -> None:
    """Tokens that are saved, over the number of new ones, with 95 % intervals; a line goes down from the knee."""
    new = [0, *(size.new for size in prediction.sizes)]
    saved = [0.0, *(100 * size.saved for size in prediction.sizes)]
    least = [0.0, *(100 * size.surely_saved for size in prediction.sizes)]
    most = [2 * value - low for value, low in zip(saved, least, strict=True)]
    axes.fill_between(new, least, most, color=ACCENT, alpha=0.16, linewidth=0)
    axes.plot(new, saved, color=ACCENT, linewidth=1.8, marker="o", markersize=4.5)
    if prediction.knee:
        at, height = prediction.knee.new, 100 * prediction.knee.saved
        axes.axvline(at, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.plot([at], [height], "o", color=ACCENT, markersize=9, markeredgecolor=PAPER, markeredgewidth=1.5)
        right = at > max(new) / 2  # the name stands on the side where there is room
        axes.annotate(
            f"knee: {at:,} tokens, {height:.0f} % saved",
            (at, height / 2),
            (-8 if right else 8, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=9.5,
        )
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1.03 * max(new))
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("new tokens")
    axes.set_ylabel("% of tokens saved")


def _told(made: Report) -> str:
    """What a person who cannot see the figure is told."""
    sides = [
        f"{side.name}: "
        + ", ".join(f"{name} {f.fertility:.2f}" for name, f in side.domains.items() if f.fertility is not None)
        for side in made.sides
    ]
    return f"Tokens a word. {'; '.join(sides)}"


def _document(figure: Figure, title: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    svg = stream.getvalue()
    for stand_in, colour in INKS.items():
        svg = svg.replace(stand_in, colour)
    return svg
