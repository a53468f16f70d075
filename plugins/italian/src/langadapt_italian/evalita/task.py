"""What makes a task: its few own parts in a record, and the corpus and the evaluation that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from langadapt import Answer, Corpus, Document, Evaluation, Item, Message, Rejected
from langadapt_italian.evalita.reading import BadRow, Row

T = TypeVar("T")

CAMPAIGN = "evalita-2023"
SAMPLES = Path(__file__).parents[1] / "samples" / CAMPAIGN


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row as a question: the instruction, the text that it is about, and the right answer as plain JSON."""

    instruction: str
    context: str
    gold: Any


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the campaign.

    Attributes:
        name: row name in reports and last part of the corpus name, `wic-ita`.
        folder: the folder of the task's files inside the campaign's; sub-tasks share one.
        description: one English sentence.
        licence: SPDX expression, or the name of the terms.
        where_to_get: what a person does to get the files, and under which names to keep them.
        gated: whether terms must be accepted first.
        train: files to learn from, development files included; what is not there is passed over.
        test: files to be measured on.
        rows: reader of the files' format.
        example: a row in, the question out; raises `BadRow` when it can't be one.
        encode: the right answer in, the text that a model should write out.
        decode: whatever text a model wrote in, prediction out, or None; never raises.
        score: answers in, official metrics out.
        metrics: metric name to whether higher is better.
        max_new_tokens: room for an answer.
    """

    name: str
    folder: str
    description: str
    licence: str
    where_to_get: str
    train: Sequence[str]
    test: Sequence[str]
    rows: Callable[[Path], Iterable[Row | Rejected]]
    example: Callable[[Row], Example]
    decode: Callable[[str], Any | None]
    score: Callable[[Sequence[Answer]], Mapping[str, float]]
    metrics: Mapping[str, bool]
    encode: Callable[[Any], str] = str
    gated: bool = False
    max_new_tokens: int = 16

    def documents(self, folder: Path) -> Iterator[Document | Rejected]:
        """Training rows as an instruction and its answer."""
        return self._read(folder, self.train, self._document)

    def items(self, folder: Path) -> Iterator[Item | Rejected]:
        """Test rows as an instruction to be answered."""
        return self._read(folder, self.test, _item)

    def corpus(self) -> Corpus:
        """The training rows, for recipes."""
        return Corpus(
            name=f"{CAMPAIGN}/{self.name}",
            language="it",
            licence=self.licence,
            description=self.description,
            read=self.documents,
            where_to_get=self.where_to_get,
            gated=self.gated,
            sample=SAMPLES / self.folder,
            sample_licence="CC0-1.0",
        )

    def evaluation(self) -> Evaluation:
        """The test rows and the official metric, for reports."""
        return Evaluation(
            name=self.name,
            language="it",
            description=self.description,
            corpus=f"{CAMPAIGN}/{self.name}",
            suites=(CAMPAIGN,),
            items=self.items,
            decode=self.decode,
            score=self.score,
            metrics=self.metrics,
            max_new_tokens=self.max_new_tokens,
        )

    def _read(self, folder: Path, names: Sequence[str], made: Callable[[str, Example], T]) -> Iterator[T | Rejected]:
        """What is made of each row, under an id that says where the row stands, `wic-ita/train/17`."""
        for file in (folder / name for name in names):
            for row in self.rows(file) if file.is_file() else ():
                if isinstance(row, Rejected):
                    yield row
                    continue
                try:
                    yield made(f"{self.name}/{file.stem}/{row.line}", self.example(row))
                except BadRow as problem:
                    yield row.rejected(str(problem))

    def _document(self, id: str, example: Example) -> Document:
        answer = Message(role="assistant", content=self.encode(example.gold))
        return Document(id=id, messages=(_question(example), answer))


def whole(tasks: Sequence[Task]) -> Corpus:
    """The campaign as one corpus: a folder with a folder for each task, of which any may be missing."""

    def read(root: Path) -> Iterator[Document | Rejected]:
        # By turns, so that a reading that ends early has still seen every task.
        for turn in zip_longest(*(task.documents(root / task.folder) for task in tasks)):
            yield from (found for found in turn if found is not None)

    return Corpus(
        name=CAMPAIGN,
        language="it",
        licence="; ".join(f"{task.name}: {task.licence}" for task in tasks),
        description="Training rows of the EVALITA 2023 tasks as Italian instructions, the tasks by turns.",
        read=read,
        where_to_get="make one folder with a folder for each task that you have, filled as that task's corpus says: "
        + ", ".join(dict.fromkeys(task.folder for task in tasks)),
        gated=any(task.gated for task in tasks),
        sample=SAMPLES,
        sample_licence="CC0-1.0",
    )


def _item(id: str, example: Example) -> Item:
    return Item(id=id, messages=(_question(example),), gold=example.gold)


def _question(example: Example) -> Message:
    return Message(role="user", content=example.instruction, context=example.context)
