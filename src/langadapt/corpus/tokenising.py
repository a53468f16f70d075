"""Documents become packed rows of tokens, as many as a training needs, and the rest is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from langadapt.corpus.packing import PackedRows, Pair, PairedRows, Sequence_, Writer, fit, pair_up, wrap
from langadapt.corpus.preparing import Accounting, mix
from langadapt.errors import Interrupted, UserError
from langadapt.records import Document

if TYPE_CHECKING:
    from langadapt.run import StageContext
    from langadapt.stages.trained import TrainedOptions

BATCH = 64  # documents tokenised together; the tokenizer spreads them over the cores


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows or pairs ready for training, and what became of everything that was read for them."""

    rows: PackedRows | PairedRows
    accounting: Accounting


def pack(
    context: StageContext,
    options: TrainedOptions,
    tokenizer: Any,
    *,
    encode: Callable[[list[Document]], list[Sequence_]],
    whole: bool,
) -> Packed:
    """Reads, splits, tokenises and packs the corpora of a stage.

    Reading stops when there are rows for `max_steps` steps, so a corpus of terabytes is read only as far as needed.

    Args:
        context: of the stage; rows are written to its `packed` folder.
        options: corpora, lengths and steps.
        tokenizer: for its padding token.
        encode: documents to token sequences.
        whole: whether a sequence must stay whole in one row; one that is longer than a row is then dropped by name.

    Raises:
        UserError: the corpora cannot be read, or hold nothing to train on.
    """
    length = int(options.training["max_length"])
    wanted = options.max_steps * options.rows_per_step * length if options.max_steps else None
    reading = _Reading(context, encode, longest=length if whole else None, wanted=wanted, measure=lambda s: s.size)
    rows = _written(context, reading, fit if whole else wrap, length, tokenizer)
    _say(context, reading, len(rows), f"rows of {length} tokens")
    return Packed(rows=rows, accounting=reading.accounting)


def pack_pairs(
    context: StageContext,
    options: TrainedOptions,
    tokenizer: Any,
    *,
    encode: Callable[[list[Document]], list[Pair]],
) -> Packed:
    """As `pack`, for pairs of answers: each answer stays whole with its prompt, a pair of a longer one is dropped.

    Raises:
        UserError: the corpora cannot be read, or hold no pair to train on.
    """
    length = int(options.training["max_length"])
    wanted = options.max_steps * options.rows_per_step if options.max_steps else None
    reading = _Reading(context, encode, longest=length, wanted=wanted, measure=lambda pair: 1)
    rows = PairedRows(_written(context, reading, pair_up, length, tokenizer))
    _say(context, reading, len(rows), f"pairs of at most {length} tokens an answer")
    return Packed(rows=rows, accounting=reading.accounting)


def _written(
    context: StageContext,
    reading: _Reading,
    write: Callable[[Iterable[Any], Writer], None],
    length: int,
    tokenizer: Any,
) -> PackedRows:
    writer = Writer(context.folder / "packed", length, pad=tokenizer.pad_token_id)
    write(reading.sequences(), writer)
    rows = writer.close()
    if not len(rows):
        counts = reading.accounting
        reasons = [f"{n} {reason}" for reason, n in counts.documents.dropped.most_common()]
        reasons += [f"{counts.tokens.held_out} tokens held out"] if counts.tokens.held_out else []
        raise UserError(
            f"stage {context.stage.id}: no document is left to train on ({', '.join(reasons)}); "
            "see held_out, filters and training.max_length"
        )
    return rows


def _say(context: StageContext, reading: _Reading, number: int, what: str) -> None:
    documents = reading.accounting.documents
    context.log.info(f"{documents.read:,} documents read, {documents.kept:,} kept, {number:,} {what}")


class _Reading:
    """Draws documents from the mix until there is enough to train on, and counts.

    Args:
        context: of the stage.
        encode: documents to what is trained on: sequences, or pairs of them.
        longest: tokens that can stay together; None where a sequence may be cut.
        wanted: where to stop, in what `measure` gives; None to read everything.
        measure: how much one of them is.
    """

    def __init__(
        self,
        context: StageContext,
        encode: Callable[[list[Document]], list[Any]],
        *,
        longest: int | None,
        wanted: int | None,
        measure: Callable[[Any], int],
    ):
        self.context, self.encode, self.longest, self.wanted = context, encode, longest, wanted
        self.measure, self.taken = measure, 0
        self.accounting = Accounting()
        self.sources = [i.source() for i in context.stage.inputs]
        self.spent = [0] * len(self.sources)

    def sequences(self) -> Iterator[Any]:
        """What is to be trained on, in reading order."""
        documents = mix(self.sources, self.accounting, self.spent.__getitem__)
        tokens = self.accounting.tokens
        while batch := list(islice(documents, BATCH if self.wanted is None else 8)):
            if self.context.stop.is_set():
                raise Interrupted(f"stopped in stage {self.context.stage.id} while reading its corpora")
            for (number, side, document), encoded in zip(batch, self.encode([d for _, _, d in batch]), strict=True):
                tokens.read += encoded.size
                if side == "held_out":
                    tokens.held_out += encoded.size
                elif flaw := encoded.flaw(self.longest):
                    tokens.dropped[flaw] += encoded.size
                    self.accounting.take_back(flaw, len(document.content.encode("utf-8", "replace")))
                else:
                    tokens.trained += encoded.size  # put right at the end, if the steps end before the rows do
                    self.spent[number] += encoded.size
                    self.taken += self.measure(encoded)
                    yield encoded
            if self.wanted is not None and self.taken >= self.wanted:
                return
