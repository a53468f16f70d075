"""A look into a corpus before anything is made of it: what it is, a few documents as they are read, what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from langadapt.corpus.preparing import Accounting, clean
from langadapt.errors import UserError
from langadapt.inputs import Input, find_input
from langadapt.recipe import CorpusRef
from langadapt.records import Document, Evaluation, Item, Rejected

if TYPE_CHECKING:
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


def preview(ref: CorpusRef, known: Registry, *, count: int, hub: bool) -> Preview:
    """The first documents of a corpus.

    Args:
        ref: a registered name, files, or both.
        known: the registry.
        count: documents to show.
        hub: whether to read a registered corpus from the hub rather than its bundled sample.

    Raises:
        UserError: there is no such corpus, or it cannot be read.
    """
    for place, message, hint in ref.check(known):
        raise UserError("; ".join(filter(None, [": ".join(map(str, (*place, message))), hint])))
    found = find_input(ref, known, language="", data={}, rehearsal=not hub, pinned={})
    if found.problem:
        raise UserError(found.problem)
    accounting = Accounting()
    shown = Preview(input=found, refused=accounting.documents.dropped)
    shown.documents = [document for _, document in islice(clean(found.source(), accounting, set()), count)]
    for evaluation in known.evaluations.values():
        if found.record and found.path and evaluation.items and evaluation.corpus == found.record.name:
            items = (i for i in evaluation.items(found.path) if not isinstance(i, Rejected))
            shown.questions += [(evaluation, item) for item in islice(items, 1)]
    return shown
