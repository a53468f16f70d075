"""Which documents have been there before, word for word or nearly.

Under construction: the public names and their types stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langadapt.recipe import NearDuplicates

VERSION = 1  # raised when a signature would come out otherwise, so that caches notice


class Seen:
    """Digests that were there before."""

    def add(self, digest: bytes) -> bool:
        """Whether a digest of 16 bytes is new; from now on it is not."""
        raise NotImplementedError


class NearSeen:
    """Band hashes of texts that were kept; one table serves texts signed under any settings."""

    def add(self, signature: bytes) -> bool:
        """Whether none of a signature's bands was there before; if so, they are from now on. `b""` is always new."""
        raise NotImplementedError


def signer(options: NearDuplicates) -> Callable[[str], bytes]:
    """Text in, MinHash bands out, 8 bytes each; b"" for a text without a single word."""
    raise NotImplementedError
