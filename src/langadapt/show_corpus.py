"""How a look into a corpus looks on a screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from langadapt.corpus.choosing import Chosen, place_of

if TYPE_CHECKING:
    from langadapt.corpus.curves import Curve
    from langadapt.corpus.differences import Difference, Differences
    from langadapt.corpus.sampling import Sample
    from langadapt.corpus.statistics import Funnel, Statistics, Texts
    from langadapt.corpus.writing import Written

BAR = 24  # characters of a full bar
SHOWN = 6  # examples of documents that were dropped
EXCERPT = 140  # characters of one
LISTED = 6  # languages, scripts, domains

MARKS = {"cut": ("[-", "-]"), "put": ("{+", "+}")}  # where there are no colours
COLOURS = {"same": "dim", "cut": "red strike", "put": "green"}


def heading(chosen: Chosen, console: Console) -> None:
    """Which corpus is looked into."""
    found, record = chosen.input, chosen.input.record
    console.print(
        Text(f"{record.name} — {record.description}" if record else found.label, style="bold"), soft_wrap=True
    )
    language = chosen.language.tag if chosen.language else "language not said"
    told = ", ".join([language, f"licence {found.licence}", place_of(found)])
    console.print(Text(f"  {told}"), soft_wrap=True)


# --- figures ----------------------------------------------------------------------------------------------------------


def statistics(made: Statistics, curves: Sequence[Curve], console: Console) -> None:
    """A corpus in figures."""
    heading(made.chosen, console)
    _sampled(made.sample, made.before.documents, console)
    cleaned = any(step.changed or step.dropped for step in made.steps.values())
    _compared(made, cleaned, console)
    _funnel(list(made.steps.values()), console)
    measured = made.after if cleaned else made.before
    section(console, f"lengths{' of what is kept' if cleaned else ''}")
    _lengths(measured, console)
    _shares(made, console)
    for curve in curves:
        _curve(curve, console)


def _sampled(sample: Sample, taken: int, console: Console) -> None:
    if taken < sample.read:
        say_line(console, f"figures of {taken:,} documents, taken evenly by hash from {sample.read:,}")
    else:
        say_line(console, f"figures of all {sample.read:,} documents that were read")
    for reason, number in sample.refused.most_common():
        say_line(console, f"not readable: {number:,} {reason}, at {', '.join(sample.places[reason])}", style="yellow")


def _compared(made: Statistics, cleaned: bool, console: Console) -> None:
    table = plain_table("", *(("as read", "cleaned") if cleaned else ("as read",)))
    sides = (made.before, made.after) if cleaned else (made.before,)
    rows: dict[str, Callable[[Texts], str]] = {
        "documents": lambda t: f"{t.documents:,}",
        "bytes": lambda t: size(t.bytes),
        "characters": lambda t: f"{t.lengths['characters'].total:,}",
        "words and marks": lambda t: f"{t.lengths['words'].total:,}",
        "lines": lambda t: f"{t.lengths['lines'].total:,}",
        "exact duplicates": lambda t: _of(t.exact, t.documents),
        "near duplicates": lambda t: _of(t.near, t.documents),
        "with mojibake": lambda t: _of(t.mojibake, t.documents),
    }
    for name, cell in rows.items():
        table.add_row(name, *map(cell, sides))
    if made.before.tokens:
        figures = [t.tokens.to_json() for t in sides if t.tokens]
        for name, key, form in _TOKENS:
            table.add_row(name, *(form(f[key]) for f in figures))
        if most := figures[0]["max_length"]:
            longer = [_of(f["longer"], t.documents) for f, t in zip(figures, sides, strict=True)]
            table.add_row(f"longer than {most:,} tokens", *longer)
    show_table(table, console)


def figure(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


_TOKENS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("tokens", "tokens", lambda v: f"{v:,}"),
    ("tokens a word", "fertility", figure),
    ("bytes a token", "bytes_per_token", figure),
    ("words in pieces", "continued_words", lambda v: "–" if v is None else share(v)),
)


def _funnel(steps: Sequence[Funnel], console: Console) -> None:
    section(console, "what each step does")
    table = plain_table("", "come", "dropped", "changed", "bytes cut")
    for step in steps:
        dropped = sum(drop.documents for drop in step.dropped.values())
        figures = (f"{step.documents:,}", _of(dropped, step.documents), f"{step.changed:,}", size(step.cut))
        table.add_row(Text(step.step, style="bold"), *figures)
        for reason, drop in step.reasons:
            table.add_row(f"  {reason}", "", f"{drop.documents:,}", "", size(drop.bytes), style="yellow")
    show_table(table, console)
    reasons = [(reason, drop) for step in steps for reason, drop in step.dropped.items() if drop.examples]
    for reason, drop in sorted(reasons, key=lambda item: -item[1].documents)[:SHOWN]:
        example = drop.examples[0]
        told = (f"{reason}: ", "yellow"), f"{example.where} ", (_line(example.text, EXCERPT), "dim")
        console.print(Padding(Text.assemble(*told), (0, 0, 0, 2)))
    if len(reasons) > SHOWN:
        say_line(console, f"examples of {len(reasons) - SHOWN} more reasons: --html or --json", style="dim")


def _lengths(texts: Texts, console: Console) -> None:
    figures = {name: lengths.to_json() for name, lengths in texts.lengths.items()}
    if texts.tokens:
        tokens = texts.tokens.to_json()
        figures |= {"tokens": tokens["lengths"], "tokens a word": tokens["fertilities"]}
    table = plain_table("", "least", "5 %", "median", "95 %", "most", "mean")
    for name, f in figures.items():
        if f["n"]:
            digits = 2 if name == "tokens a word" else 0
            cells = (f[key] for key in ("min", "p05", "p50", "p95", "max", "mean"))
            table.add_row(name, *(figure(value, digits) for value in cells))
    show_table(table, console)
    for name in ("characters", *(["tokens a word"] if texts.tokens else [])):
        if figures[name]["n"]:
            _histogram(name, figures[name]["histogram"], console)


def _histogram(name: str, bars: Sequence[tuple[float, int]], console: Console) -> None:
    table = plain_table(name, "", "documents")
    table.columns[0].justify, table.columns[1].justify = "right", "left"
    most = max(count for _, count in bars)
    for edge, count in bars:
        table.add_row(f"{edge:,g}–", Text(bar(count / most), style="cyan"), f"{count:,}")
    show_table(table, console)


def _shares(made: Statistics, console: Console) -> None:
    section(console, "languages, scripts, sources")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    left = _counted(made.after)
    for name, values in _counted(made.before).items():
        as_read, cleaned = _listed(values), _listed(left.get(name, Counter()))
        table.add_row(name, as_read)
        if made.after.documents and cleaned != as_read:
            table.add_row("  cleaned", cleaned)
    show_table(table, console)
    if unsure := made.before.unsure:
        say_line(console, f"of {_of(unsure, made.before.documents)} documents the detector is not sure", style="dim")


def _counted(texts: Texts) -> dict[str, Counter[str]]:
    return {
        "languages, by document": texts.languages,
        "languages, by paragraph": texts.paragraphs,
        "scripts, by letter": texts.scripts,
        **texts.origins,
    }


def _listed(counts: Counter[str]) -> str:
    total = sum(counts.values())
    shown = [f"{name or 'not told'} {share(n / total)}" for name, n in counts.most_common(LISTED)]
    more = len(counts) - LISTED
    return ", ".join([*shown, *([f"{more:,} more"] if more > 0 else [])]) or "none"


def _curve(curve: Curve, console: Console) -> None:
    section(console, f"kept by {curve.filter}, by {curve.option}")
    say_line(
        console, f"its other options as they are; of the {curve.documents:,} documents that come to it", style="dim"
    )
    table = plain_table(curve.option, "", "documents", "bytes", "")
    table.columns[0].justify, table.columns[1].justify, table.columns[4].justify = "right", "left", "left"
    for value in curve.values:
        documents, bytes_ = curve.shares(value)
        here = value == curve.configured
        mark = f"← {curve.origin}" if here else ""
        row = (f"{value:g}", bar(documents), share(documents), share(bytes_), mark)
        table.add_row(*row, style="bold" if here else "")
    show_table(table, console)


# --- what was done ----------------------------------------------------------------------------------------------------


def cleaned(made: Written, seconds: float, console: Console) -> None:
    """What `langadapt corpus clean` wrote."""
    counted = made.accounting
    table = plain_table("", "documents", "bytes as read")
    table.add_row("read", f"{counted.documents.read:,}", size(counted.bytes.read))
    for reason, number in counted.documents.dropped.most_common():
        table.add_row(f"  {reason}", f"{number:,}", size(counted.bytes.dropped[reason]), style="yellow")
    kept = (_of(counted.documents.kept, counted.documents.read), _of(counted.bytes.kept, counted.bytes.read, size))
    table.add_row(Text("kept", style="bold"), *kept)
    show_table(table, console)
    files = f"{made.out} ({made.files} files)" if made.files > 1 else str(made.out)
    rate = counted.bytes.read / max(seconds, 1e-9) / 1e6
    console.print(f"  written: {files}, {rate:.1f} MB/s", highlight=False, markup=False, soft_wrap=True)
    layout = ', layout = "document"' if made.dialogues else ""
    line = f'  in a recipe: corpus = [{{ path = "{made.out}"{layout} }}]; its filters have been applied'
    console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)


def differences(seen: Differences, console: Console) -> None:
    """Documents before and after, and how many there are of each kind."""
    heading(seen.chosen, console)
    _sampled(seen.sample, seen.looked, console)
    for found in seen.shown:
        _difference(found, console)
    section(console, "in all")
    table = plain_table("", "documents")
    for what, number in seen.counts.most_common():
        table.add_row(what, _of(number, seen.looked))
    table.add_row("neither changed nor dropped, or not asked for", _of(seen.looked - seen.counts.total(), seen.looked))
    show_table(table, console)


def _difference(found: Difference, console: Console) -> None:
    what = ", ".join(filter(None, (found.what, found.also)))
    console.print(Text.assemble((f"\n{found.where}", "bold"), " ", (what, "yellow")))
    if found.hint:
        say_line(console, found.hint, style="dim")
    shown = Text()
    for kind, text in found.shortened():
        before, after = ("", "") if console.color_system or kind == "same" else MARKS[kind]
        shown.append(f"{before}{text}{after}", style=COLOURS[kind] if found.changed_by else "")
    console.print(Padding(shown, (0, 0, 0, 2)))


# --- words for figures ------------------------------------------------------------------------------------------------


def bar(part: float) -> str:
    """A bar as long as a share of one."""
    eighths = round(min(max(part, 0), 1) * BAR * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def share(part: float) -> str:
    """A share of one as a percentage; what is not nothing and not everything does not look it."""
    shown = f"{100 * part:.1f}"
    if part > 0 and shown == "0.0":
        return "< 0.1 %"
    return "> 99.9 %" if part < 1 and shown == "100.0" else f"{shown} %"


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count:,.0f} B"


def _of(part: int, whole: int, form: Callable[[float], str] = "{:,}".format) -> str:
    return f"{form(part)} ({share(part / whole)})" if whole and part else form(part)


def _line(text: str, longest: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def plain_table(first: str, *others: str) -> Table:
    """A table without lines: a column on the left, and numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=False)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def show_table(table: Table, console: Console) -> None:
    """A table below its heading."""
    console.print(Padding(table, (0, 0, 0, 2)))


def section(console: Console, title: str) -> None:
    """A heading."""
    console.print(Text(f"\n{title}", style="bold"))


def say_line(console: Console, message: str, style: str = "") -> None:
    """A line below a heading."""
    console.print(Text(f"  {message}", style=style))
