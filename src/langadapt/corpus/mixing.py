"""Several corpora in one order, each with its share; what was repeated, and what each of them gave.

The mix draws one document at a time from the source that is furthest behind its share, so shares are exact to one
document whatever is read ahead. What is counted, and what is a duplicate of what, follows from the order of the draws
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from langadapt.errors import UserError, counted

if TYPE_CHECKING:
    from langadapt.inputs import Input

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What each source is to give.

    Attributes:
        shares: of each source, in their order; they sum to 1.
        by: what they are shares of.
        replays: number of the source that replays the source language: it never gives more than its share, so reading
            ends when the others have run out. None where there is no such source.
    """

    shares: tuple[float, ...]
    by: Literal["tokens", "documents"] = "tokens"
    replays: int | None = None

    def spending(self, tokens: int) -> int:
        """What a document of so many tokens takes of its source's share."""
        return tokens if self.by == "tokens" else 1


def plan_mix(
    weights: Sequence[float],
    sized: Sequence[tuple[str, float | None]],
    *,
    by: Literal["tokens", "documents"] = "tokens",
    temperature: float | None = None,
    replay: float | None = None,
) -> Mix:
    """The shares of sources.

    Args:
        weights: of the sources without the one that replays.
        sized: their labels and bytes, None where unknown; asked for by `temperature` alone.
        by: what the shares are of.
        temperature: None for shares in proportion to the weights; else T for shares in proportion to
            (weight × size)^(1/T) (Arivazhagan et al. 2019, arXiv 1907.05019): 1 takes everything as often as it occurs,
            and the larger it is, the more small sources are lifted.
        replay: share of the last source, which replays; None where there is none.

    Raises:
        UserError: the size of a source is asked for and not known.
    """
    if temperature is not None:
        if unknown := [label for label, size in sized if not size]:
            raise UserError(
                f"temperature goes by sizes, and that of corpus {', '.join(unknown)} is not known; "
                "take temperature out and say the shares by weight"
            )
        largest = max(size or 0 for _, size in sized)
        weights = [
            (weight * (size or 0) / largest) ** (1 / temperature)
            for weight, (_, size) in zip(weights, sized, strict=True)
        ]
    left = 1 - (replay or 0)
    shares = [weight * left / sum(weights) for weight in weights]
    return Mix(shares=(*shares, *([replay] if replay else [])), by=by, replays=len(shares) if replay else None)


def mix(streams: Sequence[Iterator[T]], plan: Mix, spent: Callable[[int], float]) -> Iterator[tuple[int, T]]:
    """Items of all streams, drawn so that each stream's spending keeps to its share.

    Args:
        streams: one for each share.
        plan: the shares.
        spent: what stream number i took so far; asked before every draw.

    Yields:
        Stream number, item. A stream that runs out leaves the mix to the others in their proportion; the one that
        replays keeps to its share of the whole.
    """
    open_ = dict(enumerate(streams))
    replays, others = plan.replays, [number for number in range(len(streams)) if number != plan.replays]
    while going := [number for number in others if number in open_]:
        number = min(going, key=lambda i: (spent(i) / plan.shares[i], i))
        if replays is not None and replays in open_:
            share = plan.shares[replays]
            if spent(replays) / share < sum(map(spent, others)) / (1 - share):
                number = replays
        for item in open_[number]:
            yield number, item
            break
        else:
            del open_[number]


@dataclass(kw_only=True)
class Given:
    """What a source gave to a mix.

    Attributes:
        corpus: its label.
        share: what it was to give, of tokens or of documents.
        drawn: what it gave of it.
        documents: trained on, each counted once.
        tokens: trained on, repeated ones included.
        repeated: documents that were drawn again, each as often as it was.
        split: documents that were cut between exchanges.
        ran_out: whether it had nothing more to give.
    """

    corpus: str
    share: float
    drawn: int = 0
    documents: int = 0
    tokens: int = 0
    repeated: int = 0
    split: int = 0
    ran_out: bool = False

    def sentence(self, total: int, by: str) -> str:
        """What it gave, in words; `total` is what all gave."""
        return (
            f"{self.corpus}: {self.drawn / total if total else 0:.1%} of the {by} (planned {self.share:.1%}), "
            f"{counted(self.tokens, 'token')} of {counted(self.documents, 'document')}"
            + (f", {self.repeated:,} times one of them again" if self.repeated else "")
            + (", and has no more to give" if self.ran_out else "")
        )

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


class Marks:
    """Truth values by number, one bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        place, bit = divmod(number, 8)
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits) + len(self._bits) // 8))
        self._bits[place] |= 1 << bit

    def __contains__(self, number: int) -> bool:
        place, bit = divmod(number, 8)
        return place < len(self._bits) and bool(self._bits[place] >> bit & 1)


def is_in_pass(digest: bytes, number: int, epochs: float) -> bool:
    """Whether a document is drawn in pass `number`, from 0, of a source that is to be drawn `epochs` times.

    The last pass of 2.5 takes half of the documents, chosen by the second half of their hash; the first one is what the
    held-out split goes by.
    """
    return int.from_bytes(digest[8:16], "big") < (epochs - number) * 2**64


def shares_in_words(inputs: Sequence[Input], plan: Mix) -> str:
    """`mix by tokens: clean-mc4-it 90 %, fineweb-en 10 % (replay)`."""
    said = [
        f"{found.label} {100 * share:.4g} %{' (replay)' if number == plan.replays else ''}"
        f"{f', up to {found.ref.epochs:g} times' if found.ref.epochs > 1 else ''}"
        for number, (found, share) in enumerate(zip(inputs, plan.shares, strict=True))
    ]
    return f"mix by {plan.by}: {'; '.join(said)}"
