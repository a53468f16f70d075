"""How a report on tokenizers looks on a screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from langadapt.errors import counted
from langadapt.show_corpus import figure, plain_table, say_line, section, share, show_table, size
from langadapt.tokenizer.advising import EVIDENCE, costs

if TYPE_CHECKING:
    from langadapt.tokenizer.auditing import Finding
    from langadapt.tokenizer.measuring import Figures
    from langadapt.tokenizer.predicting import Size
    from langadapt.tokenizer.reporting import Report, Side

LISTED = 8  # tokens that are named
KNEE = "▸ "  # marks the size that is worth looking at
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def report(made: Report, console: Console) -> None:
    """Tokenizers side by side."""
    _read(made, console)
    section(console, f"how {made.language} is cut")
    _by_domain([side.domains for side in made.sides], made, console)
    if made.source:
        section(console, f"how {made.source_language} is cut")
        _by_domain([side.source for side in made.sides], made, console)
    section(console, "the vocabulary")
    _vocabulary(made, console)
    for name, side in zip(made.names, made.sides, strict=True):
        _findings(f"special tokens of {name}" if len(made.sides) > 1 else "special tokens", side, console)
    _advice(made, console)


def _read(made: Report, console: Console) -> None:
    for domain in (*made.domains, *made.source):
        part = f"{len(domain.texts):,} of " if len(domain.texts) < domain.read else ""
        console.print(
            Text.assemble((domain.name, "bold"), f" {part}{counted(domain.read, 'document')}, {domain.place}"),
            soft_wrap=True,
        )


# --- figures ----------------------------------------------------------------------------------------------------------

_BY_DOMAIN: Mapping[str, Callable[[Figures], str]] = {
    "tokens": lambda f: f"{f.tokens:,}",
    "tokens\na word": lambda f: figure(f.fertility),
    "words in\npieces": lambda f: _share(f.continued_words),
    "whole,\nbare": lambda f: _share(f.single_token_bare),
    "whole,\nspaced": lambda f: _share(f.single_token_spaced),
    "bytes\na token": lambda f: figure(f.bytes_per_token),
}


def _share(part: float | None) -> str:
    return "–" if part is None else share(part)


def _by_domain(sides: Sequence[Mapping[str, Figures]], made: Report, console: Console) -> None:
    """Domains below one another; of several tokenizers, all below each domain."""
    table = plain_table("", *_BY_DOMAIN)
    for domain in sides[0]:
        if len(sides) == 1:
            table.add_row(domain, *_cells(sides[0][domain]))
            continue
        table.add_row(Text(domain, style="bold"))
        for name, figures in zip(made.names, sides, strict=True):
            table.add_row(f"  {name}", *_cells(figures[domain]))
    show_table(table, console)


def _cells(figures: Figures) -> list[str]:
    return [cell(figures) for cell in _BY_DOMAIN.values()]


_VOCABULARY: Mapping[str, Callable[[Side, Figures], str]] = {
    "tokens": lambda s, f: f"{s.vocabulary:,}",
    "rows of the model": lambda s, f: "–" if s.rows is None else f"{s.rows:,}",
    "tokens that come in this text": lambda s, f: share(f.vocabulary_used),
    "Rényi efficiency, α = 2.5": lambda s, f: figure(f.renyi_efficiency),
    "characters a token": lambda s, f: figure(f.characters_per_token),
    "characters that are unknown": lambda s, f: share(f.unknown),
    "tokens for one in the source language": lambda s, f: figure(s.parity.ratio) if s.parity else "–",
    "tokens that no text reaches": lambda s, f: "–" if s.unreachable is None else f"{len(s.unreachable):,}",
    "under-trained tokens": lambda s, f: _undertrained(s),
}


def _undertrained(side: Side) -> str:
    found = side.undertrained
    return "–" if found is None else "not told" if found.unsure else f"{len(found.ids):,}"


def _vocabulary(made: Report, console: Console) -> None:
    table = plain_table("", *made.names)
    table.show_header = len(made.sides) > 1
    for name, cell in _VOCABULARY.items():
        table.add_row(name, *(cell(side, list(side.domains.values())[-1]) for side in made.sides))
    show_table(table, console)
    for name, side in zip(made.names, made.sides, strict=True):
        _named(name, side, console)


def _named(name: str, side: Side, console: Console) -> None:
    """Tokens of a kind by name, and why nothing can be told."""
    if side.unreachable:
        say_line(console, f"not reached in {name}: {_listed(side.unreachable)}", style="dim")
    if side.hardly_known:
        say_line(console, f"under-trained in {name}: {_listed(side.hardly_known)}", style="dim")
    if side.undertrained and side.undertrained.unsure:
        say_line(console, f"under-trained tokens of {name}: {side.undertrained.unsure}", style="dim")


def _listed(tokens: Sequence[str]) -> str:
    more = f" and {len(tokens) - LISTED:,} more" if len(tokens) > LISTED else ""
    return ", ".join(map(ascii_if_odd, tokens[:LISTED])) + more


def ascii_if_odd(token: str) -> str:
    """A token as it stands, or escaped where a screen would not show it."""
    return token if token.isprintable() else ascii(token)[1:-1]


def _findings(title: str, side: Side, console: Console) -> None:
    section(console, title)
    if not side.findings:
        say_line(console, "nothing was found wrong")
    for finding in side.findings:
        _finding(finding, console)


def _finding(finding: Finding, console: Console) -> None:
    told = (f"{finding.weight}: ", COLOURS[finding.weight]), f"{finding.what} ({finding.where}). "
    why = (f"{finding.why[:1].upper()}{finding.why[1:]}; {finding.do}.", "dim")
    console.print(Padding(Text.assemble(*told, why), (0, 0, 0, 2)))


# --- advice -----------------------------------------------------------------------------------------------------------


def _advice(made: Report, console: Console) -> None:
    section(console, f"would new tokens pay for {made.names[0]}?")
    if made.prediction is None or made.advice is None:
        say_line(console, f"cannot be told: {made.untried}")
        return
    prediction = made.prediction
    learnt, held_out = size(prediction.learnt_from), size(prediction.held_out)
    say_line(console, f"learnt from {learnt} of this text, counted on other {held_out}; {KNEE}the knee", style="dim")
    _sizes(made, console)
    for reason in made.advice.reasons:
        mark, colour = ("+", "green") if reason.speaks_for else ("–", "yellow")
        console.print(Padding(Text.assemble((f"{mark} ", colour), reason.said), (0, 0, 0, 2)))
    console.print(Padding(Text(made.advice.said, style="bold"), (1, 0, 0, 2)))
    section(console, "what others found")
    for evidence in EVIDENCE:
        told = (f"{evidence.what}: ", ""), (f"{evidence.found} ({evidence.source})", "dim")
        console.print(Padding(Text.assemble(*told), (0, 0, 0, 2)))


def _sizes(made: Report, console: Console) -> None:
    """What extensions of several sizes do; the knee is marked."""
    prediction = made.prediction
    assert prediction is not None
    columns = ["tokens\na word", "tokens\nsaved", "new ones\nused", "text in\na window"]
    columns += ["work to\ntrain", "memory", "beside,\nto learn"] if made.shape else []
    table = plain_table("new\ntokens", *columns)
    table.columns[0].justify, table.columns[0].no_wrap = "right", True
    for tried in prediction.sizes:
        at_knee = tried is prediction.knee
        new = f"{KNEE if at_knee else ''}{tried.new:,}"
        table.add_row(new, *_of_size(tried, made), style="bold" if at_knee else "")
    show_table(table, console)


def _of_size(tried: Size, made: Report) -> list[str]:
    assert made.prediction is not None
    words = made.prediction.words
    cells = [figure(tried.tokens / words if words else None), _whole(tried.saved), _whole(tried.used)]
    cells.append(f"× {1 / (1 - tried.saved):.2f}")
    if made.shape:
        cost = costs(made.shape, tried)
        cells += [f"× {cost.training:.2f}", size(cost.weights), size(cost.learning)]
    return cells


def _whole(part: float) -> str:
    return f"{100 * part:.0f} %"
