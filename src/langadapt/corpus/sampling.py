"""A few documents that stand for a whole corpus, the same ones whenever it is looked at."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from langadapt.corpus.preparing import content_hash
from langadapt.records import Document, Rejected

PLACES = 3  # of refused records, that are kept for each reason


class Sample:
    """The documents whose content hashes are smallest, in reading order; what is read and refused is counted meanwhile.

    A document's hash has nothing to do with its place, so the sample is spread over all that is read; a larger sample
    holds the smaller one; and all copies of a document are in it or none (bottom-k sampling, Cohen and Kaplan 2007), so
    that the share of exact duplicates is that of the whole. Near duplicates are not drawn together, and seem fewer.

    Args:
        documents: all of them, with the records that could not be read.
        number: how many documents to take; 0 for all, which are then not held in memory.
    """

    def __init__(self, documents: Iterable[Document | Rejected], number: int) -> None:
        self._documents, self._number = documents, number
        self.read = 0  # documents, taken or not
        self.refused: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}

    def __iter__(self) -> Iterator[Document]:
        return self._readable() if not self._number else iter(self._smallest())

    def _readable(self) -> Iterator[Document]:
        for document in self._documents:
            if isinstance(document, Rejected):
                self.refused[document.reason] += 1
                places = self.places.setdefault(document.reason, [])
                places += [document.where] if len(places) < PLACES else []
            else:
                self.read += 1
                yield document

    def _smallest(self) -> list[Document]:
        heap: list[tuple[int, int, Document]] = []  # the largest hash first, so that it is the first to go
        for order, document in enumerate(self._readable()):
            entry = (-int.from_bytes(hash_of(document), "big"), -order, document)
            if len(heap) < self._number:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
        return [document for _, _, document in sorted(heap, key=lambda entry: -entry[1])]


def hash_of(document: Document) -> bytes:
    """`content_hash`, of any document."""
    try:
        return content_hash(document)
    except UnicodeEncodeError:  # a lone surrogate, which cleaning will name
        return hashlib.blake2b(document.content.encode("utf-8", "surrogatepass"), digest_size=16).digest()
