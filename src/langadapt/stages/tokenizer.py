"""`tokenizer`: the base model's vocabulary is kept, extended, trimmed or replaced, and new tokens get their first rows.

    text → strategy → tokenizer → rows that are kept, rows that are made → vocabulary/

What is measured of the result is measured on text that nothing was learnt from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, field_validator

from langadapt import artifacts, estimates
from langadapt.errors import UserError, nearest
from langadapt.models import WINDOW, snapshot
from langadapt.plugins import Offers, Registry, registry
from langadapt.recipe import BASE, Corpora, CorpusRef, ReadingOptions, Rehearsal, SourceField, StageOptions, check_table
from langadapt.records import Document, EmbeddingInit, EmbeddingTask, StageKind, TokenizerStrategy, TokenizerTask

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from langadapt.inputs import Input
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult
    from langadapt.vocabulary import Rows

SUITE = "tokenizer"
INIT = "subtoken-mean"
HELD_OUT = 0.1  # share of the source language's text that is measured, and not learnt from
MEASURED = 2_000_000  # bytes of text of each language that are measured, at most


class TokenizerOptions(ReadingOptions):
    """Options of `tokenizer`."""

    corpus: Corpora = Field(
        min_length=1, description="Text in the target language; what it holds out is measured, and not learnt from."
    )
    tokenizer: dict[str, Any] = Field(
        {"strategy": "keep"},
        validate_default=True,
        description="What becomes of the base model's tokenizer: a `strategy` by its name, and the strategy's "
        "own options.",
    )
    embeddings: dict[str, Any] = Field(
        {"init": INIT},
        validate_default=True,
        description="How rows of new tokens start: an `init` by its name, and its options.",
    )
    source: SourceField = Field(
        None,
        description="Text in the source language, for what must not change; not set: what the language's plugin "
        "replays.",
    )
    max_bytes: int = Field(100_000_000, gt=0, description="Bytes of text of each language that are read, at most.")

    @field_validator("tokenizer")
    @classmethod
    def _with_strategy_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _with_defaults(value, "strategy", registry().tokenizers)

    @field_validator("embeddings")
    @classmethod
    def _with_init_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _with_defaults({"init": INIT, **value}, "init", registry().embedding_inits)

    @property
    def refs(self) -> tuple[CorpusRef, ...]:
        return (*self.corpus, *([self.source] if self.source else []))

    @property
    def strategy(self) -> tuple[TokenizerStrategy, Any]:
        """The strategy with its options."""
        return _chosen(self.tokenizer, "strategy", registry().tokenizers)

    @property
    def init(self) -> tuple[EmbeddingInit, Any]:
        """The initialisation with its options."""
        return _chosen(self.embeddings, "init", registry().embedding_inits)

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        yield from super().check(known)
        if self.source:
            for place, message, hint in self.source.check(known):
                yield ("source", *place), message, hint
        yield from _problems(self.tokenizer, "tokenizer", "strategy", known.tokenizers)
        yield from _problems(self.embeddings, "embeddings", "init", known.embedding_inits)

    def rehearsed(self, rehearsal: Rehearsal) -> StageOptions:
        changes: dict[str, Any] = {}
        for table, key, (record, options) in (
            ("tokenizer", "strategy", self.strategy),
            ("embeddings", "init", self.init),
        ):
            if record.rehearsed:
                changes[table] = {key: record.name, **record.rehearsed(options).model_dump(exclude_none=True)}
        corpus = [ref.model_copy(update={"held_out": max(ref.held_out, rehearsal.held_out)}) for ref in self.corpus]
        return self.model_copy(update={**changes, "corpus": corpus})


def _own(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def _with_defaults(table: dict[str, Any], key: str, known: Offers[Any]) -> dict[str, Any]:
    """The table with all options of what it names; as it is where something is wrong, which `check` says."""
    name = table.get(key)
    if not isinstance(name, str) or name not in known or any(check_table(known[name].options, _own(table, key), ())):
        return table
    options: BaseModel = known[name].options.model_validate(_own(table, key))
    return {key: name, **options.model_dump(by_alias=True, exclude_none=True)}


def _chosen(table: dict[str, Any], key: str, known: Offers[Any]) -> tuple[Any, Any]:
    record = known[table[key]]
    return record, record.options.model_validate(_own(table, key))


def _problems(
    table: dict[str, Any], place: str, key: str, known: Offers[Any]
) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    name = table.get(key)
    if not isinstance(name, str):
        yield (place, key), f"it needs a name in {key}", nearest("", known)
    elif name not in known:
        yield (place, key), f'no plugin offers "{name}"', known.missing(name)
    else:
        yield from check_table(known[name].options, _own(table, key), (place,))


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(stage: PlannedStage, planner: Planner) -> None:
    """Finds the text, what is in the way, and how large the model becomes."""
    options = stage.options
    assert isinstance(options, TokenizerOptions)
    stage.inputs = [planner.input(ref) for ref in options.corpus]
    language = planner.registry.languages[planner.recipe.table.language]
    source = options.source or (CorpusRef(name=language.replay, held_out=0) if language.replay else None)
    if source:
        stage.inputs.append(planner.input(source))
    (strategy, wanted), (init, init_options) = options.strategy, options.init
    stage.ingredients |= _versions(planner.registry, strategy, init)
    if init.problem and (problem := init.problem(init_options)):
        stage.problems.append(f"stage {stage.id}: embeddings.init = {init.name}: {problem}")
    else:
        _fingerprint(stage, "embeddings", init, init_options)
    _fingerprint(stage, "tokenizer", strategy, wanted)
    if shape := planner.shape_of(stage.parent):
        after = strategy.tokens(wanted, shape.vocab_size)
        new = max(0, after - shape.vocab_size)
        if after != shape.vocab_size:
            stage.leaves = replace(shape, vocab_size=after, new_tokens=new)
        stage.notes.append(f"{strategy.name}: {shape.vocab_size:,} → about {after:,} tokens; rows start by {init.name}")
        stage.estimate.memory = estimates.evaluation(shape, planner.machine, tokens=WINDOW)
        stage.estimate.disk = 4 * new * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
        if said := _preview(stage, planner, new):
            stage.notes.append(said)


def _preview(stage: PlannedStage, planner: Planner, new: int) -> str:
    """How the base's tokenizer cuts the first corpus, as far as both are at hand; see `predicting.preview`."""
    from langadapt.tokenizer.predicting import preview

    found, base = stage.inputs[0], planner.base
    place = base.path or snapshot(base.reference, planner.recipe.table.revision)
    if found.problem or found.where not in ("local", "sample") or place is None or stage.parent != BASE:
        return ""
    texts = (document.content for document in found.documents() if isinstance(document, Document))
    return preview(place, texts, words=planner.registry.languages[planner.recipe.table.language].words, new=new)


def _fingerprint(stage: PlannedStage, what: str, record: TokenizerStrategy | EmbeddingInit, options: Any) -> None:
    """Notes what files that the options name hold, or that they are not there."""
    if record.fingerprint:
        try:
            stage.ingredients[f"{what} files"] = record.fingerprint(options)
        except UserError as error:
            stage.problems.append(f"stage {stage.id}: {what}: {str(error).removeprefix('base_model ')}")


def _versions(known: Registry, strategy: TokenizerStrategy, init: EmbeddingInit) -> dict[str, str]:
    first, second = known.tokenizers.owner(strategy.name), known.embedding_inits.owner(init.name)
    return {
        "strategy": f"{strategy.name} {strategy.version} of {first.distribution} {first.version}",
        "initialisation": f"{init.name} {init.version} of {second.distribution} {second.version}",
    }


# --- the run ----------------------------------------------------------------------------------------------------------


def run(context: StageContext) -> StageResult:
    """Text → tokenizer → rows → vocabulary."""
    from langadapt import vocabulary
    from langadapt.loading import load_tokenizer
    from langadapt.run import StageResult
    from langadapt.tokenizer.saving import save

    options = context.stage.options
    assert isinstance(options, TokenizerOptions)
    before = context.tokenizer()
    old, texts = _backend(before), _Texts(context, options)
    new, rows = _adapted(context, options, old, texts)
    if not rows.changes:
        context.log.info("the vocabulary is kept as it is")
        return StageResult(metrics={"new_tokens": 0}, rows=_measured(context, texts, before, before, rows))
    context.log.info(f"{len(rows.new):,} new tokens; the model's matrices get {len(rows.kept):,} rows")
    folder = context.folder / artifacts.VOCABULARY
    save(before, new, folder, probe=texts.held_out)
    made = _make_rows(context, options, old, new, rows, texts)
    vocabulary.save(folder, rows, made, {"tokenizer": options.tokenizer, "embeddings": options.embeddings})
    measured = _measured(context, texts, before, load_tokenizer(folder), rows)
    return StageResult(metrics={"new_tokens": len(rows.new), "rows": len(rows.kept)}, rows=measured)


class _Texts:
    """What a stage reads: text to learn from and text to measure on, in both languages, as often as it is asked for."""

    def __init__(self, context: StageContext, options: TokenizerOptions):
        inputs, own = context.stage.inputs, len(options.corpus)
        self._inputs, self._source, self._most = inputs[:own], inputs[own:], options.max_bytes

    def learnt(self) -> Iterator[str]:
        """Text in the target language to learn from; of several corpora the same share of `max_bytes` each."""
        for found in self._inputs:
            yield from _side(found, "train", self._most // len(self._inputs))

    @cached_property
    def held_out(self) -> list[str]:
        """Text in the target language to measure on."""
        share = MEASURED // len(self._inputs)
        return [text for found in self._inputs for text in _side(found, "held_out", share)]

    def source_learnt(self) -> Iterator[str]:
        """Text in the source language to learn from."""
        for found in self._source:
            yield from _side(found, "train", self._most, HELD_OUT)

    @cached_property
    def source_held_out(self) -> list[str]:
        """Text in the source language to measure on."""
        return [text for found in self._source for text in _side(found, "held_out", MEASURED, HELD_OUT)]


def _side(found: Input, side: str, most: int, held_out: float | None = None) -> Iterator[str]:
    """The first `most` bytes of text on one side of a corpus; with `held_out`, at least that share is kept back."""
    from langadapt.corpus.preparing import Accounting, clean
    from langadapt.tokenizer.words import first

    source = found.source()
    source = source if held_out is None else replace(source, held_out=max(held_out, source.held_out))
    return first((document.content for on, document in clean(source, Accounting()) if on == side), most)


def _backend(tokenizer: Any) -> Tokenizer:
    """The library's tokenizer inside of transformers' one, as a copy.

    Raises:
        UserError: there is none.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"{type(tokenizer).__name__} is none of the library tokenizers, so it cannot be changed; leave the stage out"
        )
    return Tokenizer.from_str(backend.to_str())


def _adapted(context: StageContext, options: TokenizerOptions, old: Tokenizer, texts: _Texts) -> tuple[Tokenizer, Rows]:
    """The adapted tokenizer, and where the rows for it come from."""
    from langadapt.tokenizer.tokens import matched, read
    from langadapt.vocabulary import Rows, plan_rows

    strategy, wanted = options.strategy
    before = _rows(context)
    task = TokenizerTask(
        tokenizer=_copy(old),
        rows=before,
        texts=texts.learnt,
        source_texts=texts.source_learnt,
        options=wanted,
        say=context.log.info,
    )
    new = strategy.adapt(task)
    if new.to_str() == old.to_str():  # of any kind, also of one that no other strategy can change
        return new, Rows(before=before, kept=range(before), new=())
    kept = matched(old, new)
    holes = set(range(len(kept))) - set(new.get_vocab(with_added_tokens=True).values())
    return new, plan_rows(kept, before=before, tokens_before=read(old).last + 1, holes=holes)


def _copy(tokenizer: Tokenizer) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(tokenizer.to_str())


def _rows(context: StageContext) -> int:
    """Rows of the matrices that the stage starts from.

    Raises:
        UserError: the tokenizer has tokens without a row.
    """
    from transformers import AutoConfig

    from langadapt.vocabulary import rows_of

    own = int(AutoConfig.from_pretrained(context.model.weights).get_text_config().vocab_size)
    rows = rows_of(context.model.vocabularies, own)
    most = max(context.tokenizer().get_vocab().values())
    if most >= rows:
        raise UserError(
            f"stage {context.stage.id}: the tokenizer has the id {most} and the model only {rows:,} rows, so they do not "
            "belong together; give the model rows for all of its tokenizer's tokens first"
        )
    return rows


def _make_rows(
    context: StageContext, options: TokenizerOptions, old: Tokenizer, new: Tokenizer, rows: Rows, texts: _Texts
) -> tuple[Tensor, Tensor | None]:
    """First values of the rows that are none of the old ones, in the input and in the output matrix."""
    import torch

    from langadapt import loading
    from langadapt.vocabulary import check_head

    init, wanted = options.init
    model = loading.load_model(context.model, torch.float32).eval()
    head = None if check_head(model) else model.get_output_embeddings().weight
    task = EmbeddingTask(
        model=model,
        old=old,
        new=new,
        ids=rows.new,
        pieces=_pieces(old, new, rows.new),
        kept=rows.kept,
        texts=texts.learnt,
        options=wanted,
        seed=context.seed,
        say=context.log.info,
    )
    of_input, of_output = init.initialise(task) if rows.new else (None, None)
    made = _with_padding(model.get_input_embeddings().weight, of_input, rows)
    return made, None if head is None else _with_padding(head, of_output, rows)


def _pieces(old: Tokenizer, new: Tokenizer, ids: Sequence[int]) -> list[list[int]]:
    """The old ids that the bytes of each new token are cut into."""
    from langadapt.tokenizer.tokens import read

    before, after = read(old), read(new)
    tokens = {id: token for token, id in (*after.vocab.items(), *after.added.items())}
    return [before.pieces(after.data(tokens[id])) for id in ids]


def _with_padding(matrix: Tensor, fresh: Tensor | None, rows: Rows) -> Tensor:
    """The rows that are made: new tokens get theirs, and padding the mean of all old rows, (len(rows.made), hidden)."""
    made = matrix.detach().mean(0).repeat(len(rows.made), 1)
    if fresh is not None:
        new = set(rows.new)
        made[[place for place, row in enumerate(rows.made) if row in new]] = fresh.to(made)
    return made.cpu()


# --- what is measured -------------------------------------------------------------------------------------------------


def _measured(context: StageContext, texts: _Texts, before: Any, after: Any, rows: Rows) -> list[dict[str, Any]]:
    """Rows of the report: how both tokenizers cut held-out text, and what changed in the source language."""
    language = context.registry.languages[context.plan.recipe.table.language]
    held_out, source = texts.held_out, texts.source_held_out
    found: list[dict[str, Any]] = []
    for stage, tokenizer in ((context.stage.parent, before), (context.stage.id, after)):
        for tag, some in ((language.tag, held_out), (language.source_language, source)):
            segment = context.registry.languages[tag].words if tag in context.registry.languages else language.words
            found += _cut(some, segment, tokenizer, {"stage": stage, "task": f"text in {tag}", "language": tag})
    if not rows.changes:
        return found
    return [*found, *_changed(context, held_out, source, _backend(before), _backend(after), rows)]


def _cut(
    texts: Sequence[str], segment: Callable[[str], list[str]], tokenizer: Any, about: dict[str, str]
) -> Iterator[dict[str, Any]]:
    from langadapt.corpus.tokens import TokenMeasure

    measure = TokenMeasure(tokenizer)
    for text in texts:
        measure.add(text, segment(text))
    counted = measure.to_json()
    for metric, unit, better in (
        ("fertility", "tokens/word", False),
        ("continued_words", "", False),
        ("bytes_per_token", "bytes/token", True),
    ):
        if counted[metric] is not None:
            yield about | _row(metric, counted[metric], measure.words, better, unit)


def _changed(
    context: StageContext, held_out: Sequence[str], source: Sequence[str], old: Tokenizer, new: Tokenizer, rows: Rows
) -> Iterator[dict[str, Any]]:
    from langadapt.tokenizer import checking

    language = context.registry.languages[context.plan.recipe.table.language]
    about = {"stage": context.stage.id, "task": "new tokens", "language": language.tag}
    yield about | _row("unreachable", len(checking.unreachable(new)), len(rows.new), False)
    if held_out:
        yield about | _row("used", checking.used(new, rows.new, held_out), len(rows.new), True)
    for tag, texts in ((language.tag, held_out), (language.source_language, source)):
        changes = checking.changes(old, new, texts)
        if changes.lines:
            about |= {"task": f"text in {tag}", "language": tag}
            yield about | _row("boundary_violations", changes.violations, changes.tokens, False)
            if tag != language.tag:
                yield about | _row("lines_changed", changes.lines_changed / changes.lines, changes.lines, None)
                yield about | _row("tokens_changed", changes.tokens_changed / changes.tokens, changes.tokens, None)


def _row(metric: str, value: float, n: int, better: bool | None, unit: str = "") -> dict[str, Any]:
    return {
        "suite": SUITE,
        "split": "held_out",
        "metric": metric,
        "value": value,
        "n": n,
        "ci_low": None,
        "ci_high": None,
        "higher_is_better": better,
        "unit": unit,
        "limited": False,
    }


STAGE = StageKind(
    name="tokenizer",
    description="The vocabulary: kept, extended, trimmed or replaced, with first rows for new tokens.",
    version=1,
    options=TokenizerOptions,
    makes="model",
    plan=plan,
    run=run,
)
