"""What a run amounts to, in words: claims, table, limitations, sources. The page and the model card are made of them.

Every word follows from the plan, the run's state and its rows.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts, toml_lines
from langadapt.errors import counted
from langadapt.evaluation import ENOUGH, arrow
from langadapt.evaluation.preferences import METRICS
from langadapt.evaluation.verdicts import LEVEL, Tone
from langadapt.evaluation.verdicts import VERDICTS as VERDICTS  # which page and card ask of this module
from langadapt.evaluation.verdicts import tone as tone
from langadapt.plugins import registry
from langadapt.recipe import BASE

if TYPE_CHECKING:
    from langadapt.inputs import Input
    from langadapt.plan import Plan, PlannedStage

Row = Mapping[str, Any]

TEMPLATES = Path(__file__).parent
MERGE = "merge"  # suite of the certificate's rows, which compare weights and not languages
TRANSLATION = "translation"  # suite of the rows of translated corpora, which are no models
TOKENIZER = "tokenizer"  # suite of the rows of tokenizers, which nobody asked anything
APART = (MERGE, TRANSLATION)
TEXT, ANSWERS = "bits_per_byte", "answer_bits_per_byte"
PREFERENCES = tuple(METRICS)
PLACES = {
    "sample": "bundled sample",
    "local": "local copy",
    "hub": "Hugging Face hub",
    "stage": "made by this run",
    "missing": "not at hand",
}


# --- numbers in words -------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """A count with its thousands, or a measured value with three decimals."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not a number"
    return _minus(f"{value:.3f}" if value == 0 or abs(value) >= 0.0005 else f"{value:.1e}")


def percent(share: float) -> str:
    """A share of one as a percentage."""
    return f"{100 * share:.1f}\u00a0%"


def size(count: float | None) -> str:
    """Bytes in the unit that suits them."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count and count >= factor:
            return f"{count / factor:.1f} {unit}"
    return "" if count is None else f"{count:.0f} B"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def name(label: str) -> str:
    """How a model or corpus is called in public: of a path on somebody's machine, the last part only."""
    return Path(label).name if label.startswith(("/", "~")) else label


def items(counts: Collection[int]) -> str:
    """How many items figures come from: `1 item`, `200 items`, `20 to 200 items`."""
    least, most = min(counts), max(counts)
    return f"{number(least)} to {counted(most, 'item')}" if least < most else counted(most, "item")


FILTERS = (number, percent, size, duration, name, items, arrow)  # of both templates


def change(row: Row) -> str:
    """How far a row is from the base model's: `−2.3 %` of it, or `+0.041`."""
    factor, unit, digits = _scale(row)
    return _minus(f"{factor * row['change']:+.{digits}f}") + unit


def change_interval(row: Row) -> str:
    """The 95 % interval of `change`, or "" when there is none."""
    if row.get("change_ci_low") is None or row["n"] < 2 or row["change_ci_low"] == row["change_ci_high"]:
        return ""
    factor, unit, digits = _scale(row)
    low, high = (f"{factor * row[key]:+.{digits}f}" for key in ("change_ci_low", "change_ci_high"))
    return _minus(f"{low} to {high}") + unit


def _scale(row: Row) -> tuple[int, str, int]:
    if not row.get("change_is_relative"):
        return 1, "", 3
    return 100, "\u00a0%", 2 if abs(row["change"]) < 0.01 else 1


def _minus(text: str) -> str:
    return text.replace("-", "−")


# --- what moved -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of the verdict: one row, what it was measured on, and the base model's value."""

    row: Row
    before: float | None
    subject: str
    verb: str

    @property
    def tone(self) -> Tone:
        return tone(self.row)

    @property
    def verdict(self) -> str:
        return VERDICTS[self.tone]

    @property
    def sentence(self) -> str:
        row, after = self.row, number(self.row["value"])
        start = f"After stage {row['stage']}, {self.subject} {self.verb}"
        if self.before is None or row.get("change") is None:
            return f"{start} {after} bits per byte; the base model was not measured on it."
        moved = f"{change(row).lstrip('+−')} {'more' if row['change'] > 0 else 'fewer'}"
        interval = change_interval(row)
        sure = f"95\u00a0% interval {interval}" if interval else "no interval"
        return (
            f"{start} {moved} bits per byte than with the base model "
            f"({number(self.before)} → {after}; {sure}, n\u00a0=\u00a0{number(row['n'])}): {self.verdict}."
        )


def claims(plan: Plan, rows: Sequence[Row]) -> list[Claim]:
    """The verdict: text in the target and other languages after adaptation; each fine-tuning's own held-out answers."""
    text = [row for row in rows if row["metric"] == TEXT and row["stage"] != BASE]
    adapted = {s.id for s in plan.stages if s.kind == "cpt"} & {row["stage"] for row in text}
    target = plan.recipe.table.language
    text = sorted(
        (r for r in text if r["stage"] in adapted or not adapted), key=lambda r: (r.get("language") or target) != target
    )
    answers = [row for row in rows if row["metric"] == ANSWERS and row["task"] in _own_corpora(plan, row["stage"])]
    before = {(r["suite"], r["task"], r["metric"]): r["value"] for r in rows if r["stage"] == BASE}
    return [
        Claim(
            row=row,
            before=before.get((row["suite"], row["task"], row["metric"])),
            subject=text_of(plan, row) if row["metric"] == TEXT else f"its own held-out answers ({name(row['task'])})",
            verb="takes" if row["metric"] == TEXT else "take",
        )
        for row in [*text, *answers]
    ]


def _own_corpora(plan: Plan, stage: str) -> set[str]:
    return {i.label for s in plan.stages if s.id == stage for i in s.inputs}


def gaps(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """What a reader would expect to be measured and is not."""
    if not rows:
        return ["Nothing was measured in this run."]
    target = plan.recipe.table.language  # which a corpus of one's own, given by path, is taken to be in
    measured = {row.get("language") or target for row in rows if row["metric"] == TEXT and row["stage"] != BASE}
    language = registry().languages.get(target)
    said = []
    if target not in measured:
        said.append(f"Bits per byte of {language.name if language else target} text were not measured.")
    if language and language.source_language not in measured:
        source = f"Text in the source language ({language.source_language})"
        said.append(f"{source} was not measured, so what adaptation costs there is not known.")
    return said


def text_of(plan: Plan, row: Row) -> str:
    """`Italian text (clean-mc4-it)`: what bits per byte were measured on."""
    tag, target, task = row.get("language") or "", plan.recipe.table.language, name(row["task"])
    languages = registry().languages
    if tag == target:
        return f"{languages[tag].name if tag in languages else tag} text ({task})"
    if target in languages and tag == languages[target].source_language:
        return f"source-language text ({task}, {tag})"
    return f"text ({', '.join(filter(None, [task, tag]))})"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Metrics of tasks that moved, for one model, and how many of its answers could be read."""

    model: str
    better: int
    worse: int
    unclear: int
    answers: int
    unreadable: int


def tallies(plan: Plan, rows: Sequence[Row]) -> list[Tally]:
    """One for each model that was asked tasks."""
    scored = (TEXT, ANSWERS, *PREFERENCES)  # by probabilities: nothing was asked, and nothing answered
    tasks = [r for r in rows if r["metric"] not in scored and r["suite"] not in (*APART, TOKENIZER)]
    return [_tally(model, [r for r in tasks if r["stage"] == model]) for model in models_of(plan, tasks)]


def _tally(model: str, rows: Sequence[Row]) -> Tally:
    asked = {(r["suite"], r["task"]): (r["n"], r["undecoded"]) for r in rows if r.get("undecoded") is not None}
    tones = [tone(r) for r in rows]
    return Tally(
        model=model,
        better=tones.count("better"),
        worse=tones.count("worse"),
        unclear=tones.count("unclear") + tones.count("few"),
        answers=sum(n for n, _ in asked.values()),
        unreadable=sum(unreadable for _, unreadable in asked.values()),
    )


# --- before and after -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Line:
    """A metric of a task, and its row for every model that has one."""

    task: str
    split: str
    metric: str
    higher_is_better: bool | None
    human: float | None  # what texts of people get
    n: str
    cells: Mapping[str, Row]
    first: bool  # of its task


def models_of(plan: Plan, rows: Iterable[Row]) -> list[str]:
    """Models that rows speak of, in the order of the run."""
    measured = {row["stage"] for row in rows}
    return [name for name in (BASE, *(s.id for s in plan.stages)) if name in measured]


def compared(rows: Sequence[Row]) -> list[Row]:
    """All rows but those of merge certificates and translations."""
    return [row for row in rows if row["suite"] not in APART]


def comparison(rows: Sequence[Row]) -> dict[str, list[Line]]:
    """Lines of the table before and after, by suite."""
    groups: dict[str, dict[tuple[str, str, str], dict[str, Row]]] = {}
    for row in compared(rows):
        lines = groups.setdefault(row["suite"], {})
        lines.setdefault((row["task"], row["split"], row["metric"]), {})[row["stage"]] = row
    return {suite: list(_lines(lines)) for suite, lines in groups.items()}


def _lines(lines: Mapping[tuple[str, str, str], dict[str, Row]]) -> Iterable[Line]:
    above = ""
    for (task, split, metric), cells in lines.items():
        yield _line(task, split, metric, cells, first=task != above)
        above = task


def _line(task: str, split: str, metric: str, cells: dict[str, Row], first: bool) -> Line:
    counts = sorted({row["n"] for row in cells.values()})
    return Line(
        task=task,
        split=split.replace("_", " "),
        metric=metric,
        higher_is_better=next(iter(cells.values()))["higher_is_better"],
        human=next(iter(cells.values())).get("human"),
        n="–".join(number(n) for n in dict.fromkeys((counts[0], counts[-1]))),
        cells=cells,
        first=first,
    )


# --- what it rests on -------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Source:
    """Data that the run read: where from, on which terms, and what for."""

    label: str
    where: str
    licence: str
    repo: str = ""
    commit: str = ""
    stands_for: str = ""
    size: int | None = None
    fingerprint: str = ""
    trained: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)


def sources(plan: Plan) -> list[Source]:
    """Every corpus of the plan once, in order."""
    found: dict[tuple[str, str], Source] = {}
    for stage in plan.stages:
        for data in stage.inputs:
            source = found.setdefault((data.label, data.where), _source(data))
            (source.trained if trains(stage) else source.measured).append(stage.id)
    return list(found.values())


def trains(stage: PlannedStage) -> bool:
    """Whether a stage learns from what it reads."""
    return bool(getattr(stage.options, "corpus", ()))


def _source(data: Input) -> Source:
    repo = data.record.source.repo_id if data.record and data.record.source else ""
    sample = data.where == "sample" and data.record is not None and not data.record.complete
    whole = repo or "the whole corpus"  # which has no other name than its sample where it is on no hub
    return Source(
        label=name(data.label),
        where=PLACES[data.where],
        licence=data.licence,
        repo="" if sample else repo,
        commit=data.fingerprint if data.where == "hub" else "",
        stands_for=f"{whole} ({data.record.licence})" if sample and data.record else "",
        size=data.bytes,
        fingerprint=data.fingerprint,
    )


def base_commit(plan: Plan) -> str:
    """Commit that a hub model was pinned to."""
    return str(plan.lock.get("model", {}).get(f"{plan.base.reference}@{plan.recipe.table.revision}", ""))


def is_sign_of_life(state: Mapping[str, Any], rows: Sequence[Row]) -> bool:
    """Whether the figures come from a rehearsal or from a part of the data."""
    return bool(state.get("rehearsal")) or any(row.get("limited") for row in rows)


def limitations(plan: Plan, state: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """What this run measured or left undone that speaks against relying on it."""
    worse = [claim.sentence for claim in claims(plan, rows) if claim.tone == "worse"]
    notes = dict.fromkeys(f"{note}." for s in plan.stages if s.kind == "evaluate" for note in s.notes)
    return [
        *gaps(plan, rows),
        *_parts(rows),
        *worse,
        *_tasks(plan, rows),
        *_untrained(state),
        *_contaminated(plan, state),
        *_unread(plan),
        *notes,
        "What is not in the table was not measured.",
    ]


def _parts(rows: Sequence[Row]) -> Iterable[str]:
    counts = [row["n"] for row in rows if row.get("limited")]
    if counts:
        few = f"; over fewer than {ENOUGH} nothing can be significant" if min(counts) < ENOUGH else ""
        yield f"{len(counts)} of {len(rows)} figures come from a part of their data only, {items(counts)}{few}."


def _tasks(plan: Plan, rows: Sequence[Row]) -> Iterable[str]:
    for tally in tallies(plan, rows):
        if tally.worse:
            metrics = f"{tally.worse} of {tally.better + tally.worse + tally.unclear} task metrics"
            yield f"{tally.model}: significantly worse than the base model in {metrics}."
        if tally.unreadable:
            texts = f"{number(tally.unreadable)} of {number(tally.answers)} texts that tasks had it write"
            yield f"{tally.model}: no answer could be read in {texts}."


def _untrained(state: Mapping[str, Any]) -> Iterable[str]:
    for stage in state["stages"]:
        tokens = (stage.get("accounting") or {}).get("tokens", {})
        for reason, count in tokens.get("dropped", {}).items():
            yield f"{stage['id']}: {percent(count / tokens['read'])} of the tokens read were not trained on: {reason}."


def _contaminated(plan: Plan, state: Mapping[str, Any]) -> Iterable[str]:
    trained = [stage for stage in state["stages"] if (stage.get("accounting") or {}).get("mix")]
    if trained and not plan.recipe.table.decontamination.enabled:
        yield "Nobody looked whether the training text holds what the model is measured on."
    for stage in trained:
        table = stage["accounting"].get("contamination", {})
        if table.get("action") == "report" and table["documents"]:
            hit = [name for name, row in table["evaluations"].items() if row["found"]]
            yield f"{stage['id']} was trained on items of {', '.join(hit)}, whose figures are flattered by that."


def _unread(plan: Plan) -> Iterable[str]:
    for found in translations(plan):
        yield (
            f"{found.stage}: this text was translated by a machine and read by nobody; the checks find what is broken, "
            "not what is clumsy."
        )


# --- where the text is from -------------------------------------------------------------------------------------------

_SITES = 5  # values of a kind that a sentence names


def origins(plan: Plan, state: Mapping[str, Any]) -> list[str]:
    """What the data of every stage that learns say of where they are from, kind by kind; nothing where they are silent."""
    learning = {stage.id for stage in plan.stages if trains(stage)}
    said = []
    for stage in state["stages"]:
        accounting = stage.get("accounting") or {}
        for kind, counts in accounting.get("origins", {}).items() if stage["id"] in learning else ():
            said.append(f"{stage['id']}: {_origin(kind, counts, accounting['documents']['kept'])}")
    return said


def _origin(kind: str, counts: Mapping[str, int], documents: int) -> str:
    total, named = sum(counts.values()), [(value, n) for value, n in counts.items() if value]
    shown = [f"{value} {percent(n / total)}" for value, n in named[:_SITES]]
    rest = total - sum(n for _, n in named[:_SITES])
    shown += [f"others {percent(rest / total)}"] if rest else []
    return f"{number(total)} of {number(documents)} documents name their {kind}: {', '.join(shown)}."


# --- what was translated ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Translated:
    """A corpus that a machine translated: its stage, what was read, and what `quality.json` says."""

    stage: str
    labels: str
    quality: Mapping[str, Any]

    @property
    def sentence(self) -> str:
        quality = self.quality
        documents, origin = quality["documents"], " and ".join(quality["from"])
        total = sum(documents.values())
        reasons = ", ".join(f"{number(count)} {reason}" for reason, count in quality["reasons"].items())
        failed = [f"{number(documents['dropped'])} were dropped"] if documents["dropped"] else []
        failed += [f"{number(documents['source'])} stay in {origin}"] if documents["source"] else []
        return (
            f"{self.stage}: {self.labels} was translated by machine from {origin} into {quality['into']} with "
            f"{' and '.join(quality['engines'])}; {percent(documents['translated'] / total)} of {number(total)} documents "
            f"passed every check" + (f", {' and '.join(failed)} ({reasons})." if failed else ".")
        )


def translations(plan: Plan) -> list[Translated]:
    """Every translated corpus of the run, in order."""
    return [
        Translated(stage=stage.id, labels=", ".join(name(i.label) for i in stage.inputs), quality=quality)
        for stage in plan.stages
        if (quality := artifacts.read_json(plan.folder / "stages" / stage.id / "quality.json"))
    ]


def certificates(plan: Plan, state: Mapping[str, Any]) -> list[str]:
    """What each merge found, in words."""
    made = {s["id"]: s["metrics"] for s in state["stages"] if s["kind"] == "merge" and s["metrics"]}
    return [said for id, metrics in made.items() for said in _certificate(plan, id, metrics)]


def _certificate(plan: Plan, id: str, metrics: Mapping[str, Any]) -> Iterable[str]:
    if metrics.get("adapters") == 0:
        yield f"{id}: the weights were whole already, so nothing was merged."
    limit = getattr(plan.stage(id).options, "max_kl", None)
    bound = f", where {limit:g} is allowed" if limit is not None else ""
    yield from _distance(id, metrics, "sixteen_bit", "the adapter beside 16-bit weights", bound)
    trained = "the model as it was trained" + (
        ", its base still quantised as then," if _was_quantised(plan, id) else ""
    )
    yield from _distance(id, metrics, "as_trained", trained, "")
    if "bits_per_byte_merged" in metrics:
        merged, beside, trained = (
            number(metrics[f"bits_per_byte_{name}"]) for name in ("merged", "sixteen_bit", "as_trained")
        )
        yield (
            f"{id}: what is shipped are the merged weights. Of the few held-out documents that this certificate is taken "
            f"on, they take {merged} bits per byte, the adapter beside 16-bit weights {beside}, and the model as it was "
            f"trained {trained}."
        )


def _was_quantised(plan: Plan, id: str) -> bool:
    """Whether the adapter that a stage merges was trained beside quantised weights."""
    peft = plan.stage(id).work
    return bool(peft) and registry().peft_strategies[peft["method"]].weight_bits(peft) < 16


def _distance(id: str, metrics: Mapping[str, Any], key: str, other: str, bound: str) -> Iterable[str]:
    if f"kl_{key}" in metrics:
        mean, largest = (_minus(f"{metrics[f'{measure}_{key}']:.2g}") for measure in ("kl", "kl_max"))
        same = percent(metrics[f"same_top_{key}"])
        yield (
            f"{id}: the merged weights differ from {other} by a mean KL divergence of {mean} nats{bound} "
            f"(at one position up to {largest}), and rank the same token first at {same} of positions."
        )


# --- how to do it again -----------------------------------------------------------------------------------------------


def commands(plan: Plan, state: Mapping[str, Any]) -> list[str]:
    """Shell commands that make this run again; a rehearsal scales its recipe while loading it."""
    from packaging.requirements import Requirement

    versions = state.get("environment", {}).get("packages", {})
    names = ["langadapt", *(Requirement(r).name for r in plan.recipe.table.requires)]
    install = " ".join(shlex.quote(f"{n}=={versions[n]}" if n in versions else n) for n in names)
    if not plan.recipe.rehearsal:
        return [f"pip install {install}", "mkdir again && cp lock.json again/", "langadapt run recipe.toml --out again"]
    overrides = [
        f"--set {shlex.quote(f'{c.key}={_toml(c.after)}')}" for c in plan.recipe.changes if c.why != "rehearsal"
    ]
    return [
        f"pip install {install}",
        " ".join(["langadapt run", shlex.quote(plan.recipe.source), "--rehearse", *overrides]),
    ]


def _toml(value: Any) -> str:
    return value if isinstance(value, str) else toml_lines.inline(value)


# --- all of it ---------------------------------------------------------------------------------------------------------


def words(plan: Plan, state: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """What card and page both say."""
    entries = {stage["id"]: stage for stage in state["stages"]}
    return {
        "plan": plan,
        "table": plan.recipe.table,
        "state": state,
        "language": getattr(registry().languages.get(plan.recipe.table.language), "name", plan.recipe.table.language),
        "claims": claims(plan, rows),
        "gaps": gaps(plan, rows),
        "tallies": tallies(plan, rows),
        "models": models_of(plan, compared(rows)),
        "groups": comparison(rows),
        "stages": [(stage, entries.get(stage.id, {})) for stage in plan.stages],
        "sources": sources(plan),
        "origins": origins(plan, state),
        "certificates": certificates(plan, state),
        "translations": translations(plan),
        "limitations": limitations(plan, state, rows),
        "commands": commands(plan, state),
        "commit": base_commit(plan),
        "enough": ENOUGH,
        "level": LEVEL,
        "sign_of_life": is_sign_of_life(state, rows),
    }
