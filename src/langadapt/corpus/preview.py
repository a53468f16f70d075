"""A look into a corpus before anything is made of it: what it is, a few documents as they are read, what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from langadapt.corpus.preparing import Accounting, clean
from langadapt.inputs import Input
from langadapt.records import Document, Evaluation, Item, Rejected

if TYPE_CHECKING:
    from langadapt.corpus.choosing import Chosen
    from langadapt.plugins import Registry


@dataclass(kw_only=True)
class Preview:
    """What a look into a corpus shows.

    Attributes:
        input: where it was found, its licence and its registered record.
        documents: the first kept ones, after the corpus's own cleaning steps.
        refused: reasons among the records read so far, with how often each occurred.
        questions: the first item of every registered evaluation that reads this corpus.
    """

    input: Input
    documents: list[Document] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    questions: list[tuple[Evaluation, Item]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        record = self.input.record
        return {
            **self.input.to_json(),
            "description": record.description if record else "",
            "language": record.language if record else "",
            "where_to_get": record.where_to_get if record else "",
            "documents": [asdict(d) for d in self.documents],
            "refused": dict(self.refused),
            "questions": [{"evaluation": e.name, "split": e.split, **asdict(item)} for e, item in self.questions],
        }


def preview(chosen: Chosen, known: Registry, *, count: int) -> Preview:
    """The first documents of a corpus.

    Args:
        chosen: the corpus.
        known: the registry, for the evaluations that read it.
        count: documents to show.

    Raises:
        UserError: it cannot be read.
    """
    found, accounting = chosen.input, Accounting()
    shown = Preview(input=found, refused=accounting.documents.dropped)
    shown.documents = [document for _, document in islice(clean(found.source(), accounting), count)]
    for evaluation in known.evaluations.values():
        if found.record and found.path and evaluation.items and evaluation.corpus == found.record.name:
            items = (i for i in evaluation.items(found.path) if not isinstance(i, Rejected))
            shown.questions += [(evaluation, item) for item in islice(items, 1)]
    return shown
