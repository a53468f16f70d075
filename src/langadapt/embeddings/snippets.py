"""Stretches of text around new tokens, cut by the old and by the new tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langadapt.embeddings.texts import Cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Snippet:
    """The same bytes as ids of the old and of the new tokenizer.

    `places` says of each new id at which place among the old ones a token ends where it does; -1 for nowhere.
    """

    old: Numbers
    new: Numbers
    places: Numbers


def snippets(pairs: Iterable[tuple[Cut, Cut]], ids: Sequence[int], *, times: int, tokens: int) -> Iterator[Snippet]:
    """Snippets that together hold each of the ids so many times, where the texts do.

    A snippet is put around a token that is still short of them, and counts for all new tokens in it.

    Args:
        pairs: of texts, as the old and the new tokenizer cut them.
        ids: of new tokens.
        times: in how many snippets each shall come.
        tokens: of the old tokenizer, in a snippet; fewer where a text begins or ends, or no boundary is shared there.
    """
    short = dict.fromkeys(ids, times)
    for old, new in pairs:
        shared = _Shared(old, new)
        done = 0  # up to this new token, snippets of this text reach already
        for place, id in enumerate(new.ids.tolist()):
            if place < done or id not in short:
                continue
            snippet, done = shared.around(place, tokens // 2)
            for held in set(snippet.new.tolist()) & short.keys():
                short[held] -= 1
                if not short[held]:
                    del short[held]
            yield snippet
        if not short:
            return


class _Shared:
    """A text in two tokenizers, with the places at which tokens of both end."""

    def __init__(self, old: Cut, new: Cut):
        self._old, self._new = old, new
        last = np.searchsorted(old.ends, new.ends)
        self._places = np.where(old.ends[last] == new.ends, last, -1)
        self._ends = np.flatnonzero(self._places >= 0)  # places of new tokens that end where an old one does

    def around(self, place: int, reach: int) -> tuple[Snippet, int]:
        """The stretch from about `reach` old tokens before a new token to as many after it, and where it ends in new ones.

        It begins and ends where tokens of both do.
        """
        ends, at = self._ends, self._places[self._ends]
        middle = int(np.searchsorted(self._old.ends, self._new.ends[place]))
        before = min(np.searchsorted(at, middle - reach), np.searchsorted(ends, place)) - 1
        after = max(np.searchsorted(at, middle + reach, side="right") - 1, np.searchsorted(ends, place))
        start, old_start = (ends[before] + 1, at[before] + 1) if before >= 0 else (0, 0)
        end, old_end = int(ends[after]) + 1, at[after] + 1
        places = self._places[start:end]
        snippet = Snippet(
            old=self._old.ids[old_start:old_end],
            new=self._new.ids[start:end],
            places=np.where(places >= 0, places - old_start, -1),
        )
        return snippet, end
