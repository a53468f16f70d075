"""Documents become packed rows of tokens, as many as a training needs, and the rest is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from langadapt.corpus.packing import PackedRows, Sequence_, Writer, fit, wrap
from langadapt.corpus.preparing import Accounting, mix
from langadapt.errors import Interrupted, UserError
from langadapt.records import Document

if TYPE_CHECKING:
    from langadapt.run import StageContext
    from langadapt.stages.trained import TrainedOptions

BATCH = 64  # documents tokenised together; the tokenizer spreads them over the cores


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows ready for training, and what became of everything that was read for them."""

    rows: PackedRows
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
    steps = options.max_steps
    wanted = steps * options.rows_per_step * length if steps else None
    reading = _Reading(context, encode, length if whole else None, wanted)
    writer = Writer(context.folder / "packed", length, pad=tokenizer.pad_token_id)
    (fit if whole else wrap)(reading.sequences(), writer)
    rows = writer.close()
    if not len(rows):
        counts = reading.accounting
        reasons = [f"{n} {reason}" for reason, n in counts.documents.dropped.most_common()]
        reasons += [f"{n} tokens {reason}" for reason, n in counts.tokens.dropped.most_common()]
        reasons += [f"{counts.tokens.held_out} tokens held out"] if counts.tokens.held_out else []
        raise UserError(
            f"stage {context.stage.id}: no document is left to train on ({', '.join(reasons)}); "
            "see held_out, filters and training.max_length"
        )
    documents = reading.accounting.documents
    context.log.info(
        f"{documents.read:,} documents read, {documents.kept:,} kept, {len(rows):,} rows of {length} tokens"
    )
    return Packed(rows=rows, accounting=reading.accounting)


class _Reading:
    """Draws documents from the mix until there are tokens enough, and counts."""

    def __init__(
        self,
        context: StageContext,
        encode: Callable[[list[Document]], list[Sequence_]],
        longest: int | None,
        wanted: int | None,
    ):
        self.context, self.encode, self.longest, self.wanted = context, encode, longest, wanted
        self.accounting = Accounting()
        self.sources = [i.source() for i in context.stage.inputs]
        self.spent = [0] * len(self.sources)

    def sequences(self) -> Iterator[Sequence_]:
        """Token sequences to train on, in reading order."""
        documents = mix(self.sources, self.accounting, self.spent.__getitem__)
        tokens = self.accounting.tokens
        while batch := list(islice(documents, BATCH if self.wanted is None else 8)):
            if self.context.stop.is_set():
                raise Interrupted(f"stopped in stage {self.context.stage.id} while reading its corpora")
            for (number, side, _), sequence in zip(batch, self.encode([d for _, _, d in batch]), strict=True):
                size = len(sequence.ids)
                tokens.read += size
                if side == "held_out":
                    tokens.held_out += size
                elif self.longest is not None and size > self.longest:
                    tokens.dropped["longer than max_length"] += size
                elif not any(sequence.learn):
                    tokens.dropped["nothing to learn"] += size
                else:
                    tokens.trained += size  # put right at the end, if the steps end before the rows do
                    self.spent[number] += size
                    yield sequence
            if self.wanted is not None and tokens.trained >= self.wanted:
                return
