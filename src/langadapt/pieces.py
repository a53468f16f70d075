"""What is known of a text piece by piece: every piece between blanks is looked at once, and remembered.

The pieces of a language come again and again (of 900 000 in Italian manuals 50 000 differ), so a look-up replaces nearly
every search. The memory is bounded, whatever is read.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")

LIMIT = 1 << 17  # pieces remembered; then all are forgotten, and the frequent ones are soon back
LONGEST = 40  # characters of a piece that is worth remembering


class KnownPieces(dict[str, T], Generic[T]):
    """What a function of a piece says, by piece; asking for a new one calls it."""

    def __init__(self, find: Callable[[str], T]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, piece: str) -> T:
        found = self._find(piece)
        if len(piece) <= LONGEST:
            if len(self) >= LIMIT:
                self.clear()
            self[piece] = found
        return found


def piecewise(find: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """A segmentation that gives the same words as `find`, faster.

    `find` must never look over a blank: the words of a text must be those of its pieces between blanks, one after the
    other. A regular expression is such a function if neither a match nor a look-around reaches past white space.
    """
    known = KnownPieces(find)

    def words(text: str) -> list[str]:
        return list(chain.from_iterable(map(known.__getitem__, text.split())))

    return words
