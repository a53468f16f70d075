"""Documents become packed rows of tokens, as many as a training needs, and the rest is named."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt.corpus.contamination import Findings, in_words
from langadapt.corpus.duplicates import NearSeen, Seen
from langadapt.corpus.encoding import Encoder
from langadapt.corpus.mixing import Given, Marks, Mix, is_in_pass, mix
from langadapt.corpus.packed import Place, place_of, read
from langadapt.corpus.packing import (
    TOO_LONG,
    AnswerRows,
    PackedRows,
    Pair,
    PairedRows,
    Sequence_,
    Writer,
    fit,
    pair_up,
    set_apart,
    wrap,
)
from langadapt.corpus.preparing import Accounting, Prepared, Source, admit, is_held_out, prepared
from langadapt.errors import Interrupted, UserError, counted
from langadapt.records import Document, Rejected

if TYPE_CHECKING:
    from langadapt.run import StageContext
    from langadapt.stages.trained import TrainedOptions

FIRST, MOST = 2**14, 2**20  # bytes of text of a source that are tokenised together: few at first, then twice as many
# Tokens that the rows of a few steps are chosen from: the first documents of a corpus are seldom like the rest of it.
POOL = 2**22
_ITEMS = 4096  # records, those that were refused included, that are looked at together
# What is dropped of a dialogue that is split, and of a pair's that is shortened.
TOO_LONG_PART, LEFT_OUT = "exchange longer than max_length", "exchange before those that fit into max_length"


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows, pairs or answers ready for training, and what became of everything that was read for them.

    Attributes:
        rows: what is trained on.
        accounting: where everything went.
        given: what each corpus gave.
        contamination: what was found of evaluations, see `langadapt.corpus.contamination.Findings`.
        place: where the rows are.
    """

    rows: PackedRows | PairedRows | AnswerRows
    accounting: Accounting
    given: list[Given] = field(default_factory=list)
    contamination: dict[str, Any] = field(default_factory=dict)
    place: Place | None = None

    def to_json(self) -> dict[str, Any]:
        """The `accounting` of `run.json`."""
        found = {"contamination": self.contamination} if self.contamination else {}
        return self.accounting.to_json() | {"mix": [given.to_json() for given in self.given]} | found


def pack(
    context: StageContext,
    options: TrainedOptions,
    tokenizer: Any,
    encoder: Encoder,
    *,
    encode: Callable[[list[Document]], list[Sequence_]],
    split: Callable[[Document], list[Sequence_]] | None = None,
    whole: bool,
) -> Packed:
    """Reads, mixes, tokenises and packs the corpora of a stage, or takes what an earlier run packed of the same.

    Reading stops when there are rows for `max_steps` steps, or with the document that completes `max_bytes` of text, so a
    corpus of terabytes is read only as far as needed. Of fewer
    than `POOL` tokens there are rows for more steps, from which the order of training chooses, unless a corpus runs out
    on the way: what else would come would not be in the proportions of the mix.

    Args:
        context: of the stage.
        options: corpora, lengths and steps.
        tokenizer: for its padding token.
        encoder: the same, as text goes through it.
        encode: documents to token sequences.
        split: a document that is too long to the sequences that are made of it instead; None to drop it.
        whole: whether a sequence must stay whole in one row; one that is longer than a row is then dropped by name.

    Raises:
        UserError: the corpora cannot be read, or hold nothing to train on.
    """
    length = int(options.training["max_length"])
    wanted = options.max_steps * options.rows_per_step * length if options.max_steps else None
    reading = _Reading(
        context, encode, split=split, longest=length if whole else None, wanted=wanted, pool=POOL,
        measure=lambda s: s.size, most_bytes=options.max_bytes,
    )  # fmt: skip
    what = f"rows of {length} tokens"
    return _packed(context, reading, tokenizer, encoder, length=length, write=fit if whole else wrap, what=what)


def pack_pairs(
    context: StageContext,
    options: TrainedOptions,
    tokenizer: Any,
    encoder: Encoder,
    *,
    encode: Callable[[list[Document]], list[Pair]],
    split: Callable[[Document], list[Pair]] | None = None,
    apart: bool = False,
) -> Packed:
    """As `pack`, for pairs of answers: each answer stays whole with its prompt, a pair of a longer one is dropped.

    Args:
        context: of the stage.
        options: as of `pack`.
        tokenizer: as of `pack`.
        encoder: as of `pack`.
        encode: documents to pairs; to `Judged` ones with `apart`.
        split: as of `pack`.
        apart: whether every answer is an example by itself, so that a pair is two of them.

    Raises:
        UserError: the corpora cannot be read, or hold nothing to train on.
    """
    length = int(options.training["max_length"])
    wanted = options.max_steps * options.rows_per_step if options.max_steps else None
    reading = _Reading(
        context, encode, split=split, longest=length, wanted=wanted, pool=POOL // length,
        measure=(lambda judged: len(judged.answers)) if apart else (lambda pair: 1), most_bytes=options.max_bytes,
    )  # fmt: skip
    write, view, unit = (set_apart, AnswerRows, "answers") if apart else (pair_up, PairedRows, "pairs of answers")
    what = f"{unit} of at most {length} tokens with the prompt"
    return _packed(context, reading, tokenizer, encoder, length=length, write=write, view=view, what=what)


def _packed(
    context: StageContext,
    reading: _Reading,
    tokenizer: Any,
    encoder: Encoder,
    *,
    length: int,
    write: Callable[[Iterable[Any], Writer], None],
    view: Callable[[PackedRows], Any] = lambda rows: rows,
    what: str,
) -> Packed:
    if context.rows is not None:
        return _packed_before(context.rows, view)
    place = place_of(
        context, encoder, wanted=reading.wanted, most_bytes=reading.most_bytes, length=length, written=write.__name__
    )
    with place.alone():
        if found := place.read():
            rows, reading.accounting, reading.given, contamination = found
        else:
            writer = Writer(place.folder, length, pad=tokenizer.pad_token_id, start=tokenizer.bos_token_id)
            write(reading.sequences(), writer)
            rows = writer.close()
            _some(context, reading, rows)
            contamination = reading.findings.to_json()
            place.keep(reading.accounting, reading.given, contamination)
    examples = view(rows)
    documents = reading.accounting.documents
    context.log.info(f"{counted(documents.read, 'document')} read, {documents.kept:,} kept, {len(examples):,} {what}")
    for given in reading.given if len(reading.given) > 1 else ():
        context.log.info(given.sentence(sum(g.drawn for g in reading.given), reading.plan.by))
    for line in in_words(contamination):
        context.log.info(line)
    return Packed(
        rows=examples, accounting=reading.accounting, given=reading.given, contamination=contamination, place=place
    )


def _packed_before(folder: Path, view: Callable[[PackedRows], Any]) -> Packed:
    """What the process that started this one has packed."""
    kept = read(folder)
    assert kept is not None
    rows, accounting, given, contamination = kept
    return Packed(rows=view(rows), accounting=accounting, given=given, contamination=contamination)


def _some(context: StageContext, reading: _Reading, rows: PackedRows) -> None:
    """
    Raises:
        UserError: there is nothing to train on.
    """
    if len(rows):
        return
    counts = reading.accounting
    reasons = [f"{n} {reason}" for reason, n in counts.documents.dropped.most_common()]
    reasons += [f"{counts.tokens.held_out} tokens held out"] if counts.tokens.held_out else []
    raise UserError(
        f"stage {context.stage.id}: no document is left to train on ({', '.join(reasons)}); "
        "see held_out, filters and training.max_length"
    )


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A document that was admitted, as tokens; `again` says whether it was trained on before."""

    source: int
    item: Prepared
    encoded: Any
    held_out: bool = False
    again: bool = False


_Batch = list[tuple[int, Prepared | Rejected, bool]]  # number, record, and whether it is to be tokenised


class _Reading:
    """Draws documents from the mix until there is enough to train on, and counts.

    Documents are tokenised ahead of the draw; what was read ahead and never drawn is nowhere counted.

    Args:
        context: of the stage; its `work` is the mix.
        encode: documents to what is trained on: sequences, or pairs of them.
        split: see `pack`.
        longest: tokens that can stay together; None where a sequence may be cut.
        wanted: how much is needed, in what `measure` gives; None to read everything.
        pool: how much to choose that from, where all corpora have it.
        measure: how much one of them is.
        most_bytes: of text, with which reading ends; None for no such end.
    """

    def __init__(
        self,
        context: StageContext,
        encode: Callable[[list[Document]], list[Any]],
        *,
        split: Callable[[Document], list[Any]] | None,
        longest: int | None,
        wanted: int | None,
        pool: int,
        measure: Callable[[Any], int],
        most_bytes: int | None,
    ):
        self.context, self.encode, self.split = context, encode, split
        self.longest, self.wanted, self.pool, self.measure = longest, wanted, pool, measure
        self.most_bytes, self.bytes = most_bytes, 0
        self.accounting, self.seen, self.near = Accounting(), Seen(), NearSeen()
        screens = [found.screen for found in context.stage.inputs if found.screen]
        self.findings = Findings(screens[0].index() if screens else None)
        self.plan: Mix = context.stage.work
        self.sources: list[Source] = [found.source() for found in context.stage.inputs[: len(self.plan.shares)]]
        self.given = [
            Given(corpus=source.label, share=share)
            for source, share in zip(self.sources, self.plan.shares, strict=True)
        ]

    def sequences(self) -> Iterator[Any]:
        """What is to be trained on, in the order of the draws."""
        taken = 0
        with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as pool:
            streams = [self._draws(number, pool) for number in range(len(self.sources))]
            for _, drawn in mix(streams, self.plan, lambda number: self.given[number].drawn):
                for encoded in self._taken(drawn):
                    taken += self.measure(encoded)
                    yield encoded
                if self._enough(taken, drawn):
                    break
            for stream in streams:
                stream.close()

    def _enough(self, taken: int, drawn: _Drawn) -> bool:
        """Whether what was taken suffices, and leaves a choice where corpora have more, without repeating themselves."""
        if self.most_bytes is not None:
            return self.bytes >= self.most_bytes
        if self.wanted is None or taken < self.wanted:
            return False
        return taken >= self.pool or drawn.again or any(given.ran_out for given in self.given)

    def _taken(self, drawn: _Drawn) -> list[Any]:
        """Counts a document and gives what is trained on of it."""
        tokens, size, given = self.accounting.tokens, drawn.item.size, self.given[drawn.source]
        if drawn.held_out:
            self.accounting.keep(size, drawn.item.document.origin)
            tokens.read += drawn.encoded.size
            tokens.held_out += drawn.encoded.size
            return []
        parts = self._parts(drawn)
        good = [encoded for encoded, flaw in parts if not flaw]
        if drawn.again:
            parts = [(encoded, "") for encoded in good]  # what it lacks was counted the first time
            given.repeated += bool(good)
        elif good:
            self.accounting.keep(size, drawn.item.document.origin)
            given.documents += 1
        else:
            self.accounting.drop(parts[0][1], size)
        for encoded, flaw in parts:
            tokens.read += encoded.size
            if flaw:
                tokens.dropped[flaw] += encoded.size
        trained = sum(encoded.size for encoded in good)
        tokens.trained += trained  # put right at the end, if the steps end before the rows do
        given.tokens += trained
        given.drawn += self.plan.spending(trained) if good else 0
        self.bytes += size if good else 0
        return good

    def _parts(self, drawn: _Drawn) -> list[tuple[Any, str]]:
        """What a document is made into, at least one part, and what each part lacks."""
        flaw = drawn.encoded.flaw(self.longest)
        if flaw != TOO_LONG or self.split is None:
            return [(drawn.encoded, flaw)]
        parts = self.split(drawn.item.document) or [drawn.encoded]
        if not drawn.again:
            self.given[drawn.source].split += 1
            if isinstance(drawn.encoded, Pair):
                left_out = drawn.encoded.size - sum(part.size for part in parts)
                self.accounting.tokens.read += left_out
                self.accounting.tokens.dropped.update({LEFT_OUT: left_out} if left_out else {})
        named = {TOO_LONG: TOO_LONG_PART}
        return [(part, named.get(flaw := part.flaw(self.longest), flaw)) for part in parts]

    def _draws(self, number: int, pool: ThreadPoolExecutor) -> Generator[_Drawn, None, None]:
        """Everything that a source gives, pass after pass; what it refuses is counted on the way."""
        source, trained = self.sources[number], Marks()
        yield from self._first_pass(number, trained, pool)
        for again in range(1, math.ceil(source.epochs)):

            def due(place: int, item: Prepared, again: int = again) -> bool:
                return place in trained and is_in_pass(item.digest, again, source.epochs)

            for _, item, encoded in self._encoded(source, due, pool):
                if encoded is not None:
                    assert isinstance(item, Prepared)
                    yield _Drawn(source=number, item=item, encoded=encoded, again=True)
        self.given[number].ran_out = True

    def _first_pass(self, number: int, trained: Marks, pool: ThreadPoolExecutor) -> Iterator[_Drawn]:
        source = self.sources[number]

        def held_out(item: Prepared) -> bool:
            return is_held_out(item.digest, source.held_out)

        def chosen(item: Prepared) -> bool:
            return is_in_pass(item.digest, 0, source.epochs) or held_out(item)

        def due(place: int, item: Prepared) -> bool:
            return chosen(item) and (source.repeats or item.digest not in self.seen)  # which would only be refused

        stream = self._encoded(source, due, pool)
        for place, item, encoded in stream:
            self.findings.add(item.document.id if isinstance(item, Prepared) else item.where, item.found)
            if isinstance(item, Prepared):
                if not chosen(item):
                    item = Rejected(reason="beyond epochs", where=item.document.id, size=item.size)
                else:
                    (item,) = admit([item], None if source.repeats else self.seen, self.near)
            if isinstance(item, Rejected):
                self.accounting.drop(item.reason, item.size)
            else:
                kept_back = held_out(item)
                if not kept_back:
                    trained.add(place)
                yield _Drawn(source=number, item=item, encoded=encoded, held_out=kept_back)

    def _encoded(
        self, source: Source, due: Callable[[int, Prepared], bool], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, Prepared | Rejected, Any]]:
        """Everything in a source with its number, and as tokens where it is `due`.

        While one batch is drawn, the next is tokenised in a thread: the tokenizer needs no Python for that.
        """
        with closing(prepared(source, say=self.context.log.info)) as items:
            waiting: deque[tuple[_Batch, Future[list[Any]]]] = deque()
            for batch in self._batches(items, due):
                documents = [item.document for _, item, is_due in batch if is_due and isinstance(item, Prepared)]
                waiting.append((batch, pool.submit(self.encode, documents)))
                if len(waiting) > 1:
                    yield from _done(*waiting.popleft())
            while waiting:
                yield from _done(*waiting.popleft())

    def _batches(self, items: Iterable[Prepared | Rejected], due: Callable[[int, Prepared], bool]) -> Iterator[_Batch]:
        batch: _Batch = []
        size, room = 0, FIRST
        for place, item in enumerate(items):
            is_due = isinstance(item, Prepared) and due(place, item)
            batch.append((place, item, is_due))
            size += item.size if is_due else 0
            if size >= room or len(batch) == _ITEMS:
                if self.context.stop.is_set():
                    raise Interrupted(
                        f"stopped in stage {self.context.stage.id} while reading its corpora; the same command goes on"
                    )
                yield batch
                batch, size, room = [], 0, min(2 * room, MOST)
        if batch:
            yield batch


def _done(batch: _Batch, tokenised: Future[list[Any]]) -> Iterator[tuple[int, Prepared | Rejected, Any]]:
    encoded = iter(tokenised.result())
    for place, item, is_due in batch:
        yield place, item, next(encoded) if is_due else None
