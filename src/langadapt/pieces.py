"""What is known of a text piece by piece: every piece between blanks is looked at once, and remembered.

The pieces of a language come again and again (of 900 000 in Italian manuals 50 000 differ), so a look-up replaces nearly
every search. The memory is bounded, whatever is read.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")

# Pieces remembered; then all are forgotten, and the frequent ones are soon back. Four times as many make words found a
# tenth faster, and every process that cleans a large corpus larger by tens of megabytes.
LIMIT = 1 << 15
LONGEST = 40  # characters of a piece that is worth remembering


class KnownPieces(dict[str, T], Generic[T]):
    """What a function of a piece says, by piece; asking for a new one calls it.

    Args:
        find: the function; it must say the same of the same piece.
    """

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


class Piecewise:
    """A segmentation that looks at each piece between blanks by itself; see `piecewise`."""

    def __init__(self, find: Callable[[str], list[str]]) -> None:
        self.find = find
        self._known = KnownPieces(find)

    def __call__(self, text: str) -> list[str]:
        """The words of a text, in order."""
        return list(chain.from_iterable(map(self._known.__getitem__, text.split())))


def piecewise(find: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """A segmentation that gives the same words as `find`, faster; a language's `words`, as it stands.

    Args:
        find: text in, words out. It must never look over a blank: the words of a text must be those of its pieces between
            blanks, one after the other. A regular expression is such a function if neither a match nor a look-around
            reaches past white space.
    """
    return Piecewise(find)
