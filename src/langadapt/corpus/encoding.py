"""Text to token ids in bulk: what calling the tokenizer gives, as arrays, at the speed of its own threads."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from langadapt import artifacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids = NDArray[np.uint32]

BATCH = 2**20  # characters that go through the tokenizer together; it spreads them over the cores
LONG, PIECE = (
    2**20,
    2**18,
)  # characters of a text that goes through in pieces, where that makes no difference; of a piece
_PROBE = "Perché l’acqua bolle?  \n\nTL;DR: 1234 km/h\t(x_y) <s> </s> <|endoftext|> 日本語 e\u0301 🇮🇹 "
_WINDOW = 2000  # characters on both sides of a seam that are encoded whole and in two, to see whether it holds
_SEAMS = 16  # places that are tried before a text is taken as one that cannot be cut here
# After a line end between words, or before a blank between words, or else before a mark that follows a word: there hardly
# any tokenizer goes on.
_SEAM = tuple(map(re.compile, (r"(?<=\S)\n(?=\w)", r"(?<=\w)(?= \w)", r"(?<=\w)(?=[^\w\s])")))


class Encoder:
    """A tokenizer as text goes through it.

    Args:
        tokenizer: of transformers. One with a Rust backend is used directly where it gives the same ids; any other is
            called.
    """

    def __init__(self, tokenizer: Any):
        self._call = tokenizer
        self._backend = _backend(tokenizer)
        self._cuts_words = self._backend is not None and _cuts_words(self._backend.pre_tokenizer)

    def ids(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, without the special tokens that a tokenizer adds by itself."""
        if self._backend is None:
            if not texts:
                return []
            return [
                np.asarray(ids, np.uint32) for ids in self._call(list(texts), add_special_tokens=False)["input_ids"]
            ]
        pieces = [list(self._pieces(text)) for text in texts]
        encoded = self._encoded(chain.from_iterable(pieces), self._backend.encode_batch_fast)
        return [_joined([_ids(next(encoded)) for _ in some]) for some in pieces]

    def placed(self, texts: Sequence[str]) -> list[tuple[Ids, NDArray[np.int64]]]:
        """Token ids of each text, and where each token's characters begin and end: an array of shape (tokens, 2)."""
        pairs: Iterable[tuple[Any, Any]]
        if self._backend is None:
            found = self._call(list(texts), add_special_tokens=False, return_offsets_mapping=True)
            pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
        else:
            pairs = ((e.ids, e.offsets) for e in self._encoded(texts, self._backend.encode_batch))
        return [(np.asarray(ids, np.uint32), np.asarray(places, np.int64).reshape(-1, 2)) for ids, places in pairs]

    @property
    def digest(self) -> str:
        """Digest of everything in the tokenizer that ids depend on; "" where that is not known."""
        return artifacts.digest(self._backend.to_str()) if self._backend is not None else ""

    def _encoded(self, texts: Iterable[str], encode: Callable[..., list[Any]]) -> Iterator[Any]:
        """Encodings in order, made in batches of bounded size: each one takes some hundred bytes a token."""
        for batch in batches(texts):
            yield from encode(batch, add_special_tokens=False)

    def _pieces(self, text: str) -> Iterator[str]:
        """The text in pieces that give, one after the other, the ids of the whole; the text itself where there are none.

        Only tokenizers that cut a text into words first can be asked for pieces: then no token reaches over a seam
        where, with all that stands around it, one word ends and the next begins.
        """
        start = 0
        while len(text) > LONG and len(text) - start > PIECE and self._cuts_words:
            seam = self._seam(text, start + PIECE)
            if seam is None:
                break
            yield text[start:seam]
            start = seam
        yield text[start:] if start else text

    def _seam(self, text: str, near: int) -> int | None:
        """A place at or after `near` where the text may be cut."""
        for pattern in _SEAM:
            for match in islice(pattern.finditer(text, near, near + PIECE), _SEAMS):
                if self._holds(text, match.end()):
                    return match.end()
        return None

    def _holds(self, text: str, seam: int) -> bool:
        """Whether the text around a place has the same ids whole and in two."""
        before, after = text[max(0, seam - _WINDOW) : seam], text[seam : seam + _WINDOW]
        whole, first, second = (
            e.ids for e in self._backend.encode_batch_fast([before + after, before, after], add_special_tokens=False)
        )
        return bool(whole == first + second)


def _backend(tokenizer: Any) -> Any:
    """The Rust tokenizer inside, where it alone decides about ids; else None."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(backend, "encode_batch_fast"):
        return None
    called = tokenizer([_PROBE], add_special_tokens=False)["input_ids"][0]  # which also sets up the backend
    same = backend.truncation is None and backend.padding is None
    return backend if same and backend.encode_batch_fast([_PROBE], add_special_tokens=False)[0].ids == called else None


def _cuts_words(pre_tokenizer: Any) -> bool:
    return pre_tokenizer is not None and len(pre_tokenizer.pre_tokenize_str("ab cd")) > 1


def _ids(encoding: Any) -> Ids:
    return np.frombuffer(array("I", encoding.ids), np.uint32)  # a quarter faster than numpy reads a list


def _joined(parts: list[Ids]) -> Ids:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts, as many at a time as are worth spreading over the cores; a longer one alone."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch
