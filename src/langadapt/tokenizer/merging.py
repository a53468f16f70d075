"""How merges join the tokens of a word, for both of the ways in which tokenizers rank them.

Most rank pairs: the pair that comes first in the list of merges is joined first. SentencePiece ranks pieces: any two
neighbours that are a piece together are joined, the best piece first. A list of pairs says the same where all the cuts of a
piece into two others stand in it together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import add

from langadapt.tokenizer.tokens import Bpe

Key = str | tuple[str, ...]  # what has a rank: a pair, or the piece that two neighbours make


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order in which neighbours are joined.

    Attributes:
        pieces: whether pieces are ranked, and not pairs.
        ranks: by pair or piece; the lowest is joined first.
    """

    pieces: bool
    ranks: dict[Key, int]

    @property
    def key(self) -> Callable[[str, str], Key]:
        """What has the rank of two neighbours."""
        return add if self.pieces else _pair

    def joined(self, symbols: list[str], *, least: int = 1) -> list[str]:
        """Symbols of a word after all merges, or when there are no more than `least` of them."""
        key, ranks, symbols = self.key, self.ranks, list(symbols)
        while len(symbols) > least:
            found = [
                (rank, place)
                for place, (left, right) in enumerate(pairwise(symbols))
                if (rank := ranks.get(key(left, right))) is not None
            ]
            if not found:
                break
            _, place = min(found)
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
        return symbols

    def parts(self, token: str) -> tuple[str, ...]:
        """The two tokens that are joined last when a token comes about; none of a character, or where merges do not lead."""
        last = self.joined(list(token), least=2)
        return tuple(last) if len(last) == 2 and self.key(*last) in self.ranks else ()


def _pair(left: str, right: str) -> tuple[str, str]:
    return left, right


def order_of(bpe: Bpe) -> Order:
    """The order of a tokenizer's merges."""
    ranks: dict[Key, int] = {}
    if bpe.kind == "sentencepiece":
        try:
            ranks.update(piece_ranks(bpe.merges, bpe.ordinary))
            return Order(pieces=True, ranks=ranks)
        except ValueError:
            pass  # not SentencePiece's: merges that were learnt as pairs
    ranks.update({pair: rank for rank, pair in enumerate(bpe.merges)})
    return Order(pieces=False, ranks=ranks)


def piece_ranks(merges: Iterable[tuple[str, str]], pieces: Collection[str]) -> dict[str, int]:
    """The place of each merged piece in the order of merges.

    Args:
        merges: in their order.
        pieces: that merges may make and be made of.

    Raises:
        ValueError: with the first piece whose merges do not stand together, or are not all of its cuts: then pairs have
            ranks that no ranks of pieces give.
    """
    ranks: dict[str, int] = {}
    for piece, pairs in groupby(merges, key="".join):
        if piece in ranks or {*pairs} != {*cuts(piece, pieces)}:
            raise ValueError(piece)
        ranks[piece] = len(ranks)
    return ranks


def cuts(piece: str, pieces: Collection[str]) -> list[tuple[str, str]]:
    """The ways to cut a piece into two others."""
    ways = ((piece[:place], piece[place:]) for place in range(1, len(piece)))
    return [(left, right) for left, right in ways if left in pieces and right in pieces]
