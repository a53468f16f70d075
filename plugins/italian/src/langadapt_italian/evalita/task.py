"""What makes a task: its few own parts in a record, and the corpus and the evaluation that follow from them.

Train, development and test files are taken as the organisers distribute them. Development files are learnt from where
the answers of the test set are at hand; where they are not, they are what is measured on, and nothing is learnt from
them. A training row with a text that is measured on is refused, so that no reading of the corpus holds a test text.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from langadapt import Answer, Corpus, Document, Evaluation, Item, Message, Rejected
from langadapt_italian.evalita.reading import BadRow, Row, cell_of

CAMPAIGN = "evalita-2023"
SAMPLES = Path(__file__).parents[1] / "samples" / CAMPAIGN

Files = Sequence[str | tuple[str, ...]]


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
        name: row name in reports and, where it has training rows, last part of the corpus name, `wic-ita`.
        folder: the folder of the task's files inside the campaign's; sub-tasks share one.
        description: one English sentence.
        licence: SPDX expression, or the name of the terms.
        where_to_get: what a person does to get the files, and under which names to keep them.
        gated: whether terms must be accepted first.
        train: files to learn from; what is not there is passed over. A file that goes by several names is a tuple of
            them, of which the first that is there is read.
        test: files to be measured on.
        dev: files to be measured on while `test` has no answers, and to learn from otherwise.
        beside: other test files in the folder, of sub-tasks or without answers, whose texts are not learnt from.
        text: columns of the text that a question is about, by which test texts are told, in files without answers
            too; a cell that is a list holds several texts. Where it is empty, the text is what `example` makes of rows
            with answers.
        learns_as: for a further test set of another task, that task's name: its corpus has the training rows.
        rows: reader of the files' format.
        example: a row in, the question out; None for a row that another task of the folder asks; raises `BadRow` when
            it can't be a question.
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
    train: Files
    test: Files
    rows: Callable[[Path], Iterable[Row | Rejected]]
    example: Callable[[Row], Example | None]
    decode: Callable[[str], Any | None]
    score: Callable[[Sequence[Answer]], Mapping[str, float]]
    metrics: Mapping[str, bool]
    dev: Files = ()
    beside: Files = ()
    text: Sequence[str] = ()
    learns_as: str = ""
    encode: Callable[[Any], str] = str
    gated: bool = False
    max_new_tokens: int = 16

    def documents(self, folder: Path) -> Iterator[Document | Rejected]:
        """Training rows as an instruction and its answer, those refused that have a text to be measured on."""
        split, measured = self._measured(folder)
        kept_back = self._digests(folder, (*measured, *self.beside))
        for found in self._examples(folder, self.train if split == "dev" else (*self.train, *self.dev)):
            if isinstance(found, Rejected):
                yield found
            elif kept_back.isdisjoint(map(_digest, self._texts(found[0]))):
                yield self._document(*found)
            else:
                yield found[0].rejected(f"also in the {split} set")

    def items(self, folder: Path) -> Iterator[Item | Rejected]:
        """Test rows as an instruction to be answered; development rows where the test set has no answers."""
        split, measured = self._measured(folder)
        for found in self._examples(folder, measured):
            yield found if isinstance(found, Rejected) else self._item(*found, split)

    @property
    def corpus_name(self) -> str:
        """What recipes call the corpus that the task's files are read as."""
        return f"{CAMPAIGN}/{self.learns_as or self.name}"

    def corpus(self) -> Corpus:
        """The training rows, for recipes."""
        return Corpus(
            name=self.corpus_name,
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
            corpus=self.corpus_name,
            suites=(CAMPAIGN,),
            items=self.items,
            decode=self.decode,
            score=self.score,
            metrics=self.metrics,
            max_new_tokens=self.max_new_tokens,
        )

    def _measured(self, folder: Path) -> tuple[str, Files]:
        """The split to be measured on and its files; with development files go those of the test set, to be refused."""
        answered = any(not isinstance(found, Rejected) for found in self._examples(folder, self.test))
        if answered or not _found(folder, self.dev):
            return "test", self.test
        return "dev", (*self.test, *self.dev)

    def _examples(self, folder: Path, files: Files) -> Iterator[tuple[Row, Example] | Rejected]:
        for file in _found(folder, files):
            for row in self.rows(file):
                if isinstance(row, Rejected):
                    yield row
                    continue
                try:
                    example = self.example(row)
                except BadRow as problem:
                    yield row.rejected(str(problem))
                    continue
                if example is not None:
                    yield row, example

    def _digests(self, folder: Path, files: Files) -> set[bytes]:
        rows = (row for file in _found(folder, files) for row in self.rows(file) if isinstance(row, Row))
        return {_digest(text) for row in rows for text in self._texts(row)}

    def _texts(self, row: Row) -> list[str]:
        """The texts that a row's question is about; none when there is nothing to tell it by."""
        cells = [cell_of(row, column) for column in self.text]
        if len(cells) == 1 and isinstance(cells[0], list):
            return cells[0]
        try:
            example = None if cells else self.example(row)
        except BadRow:
            return []
        text = example.context if example else " ".join(str(cell) for cell in cells if cell is not None)
        return [text] if text.strip() else []

    def _document(self, row: Row, example: Example) -> Document:
        answer = Message(role="assistant", content=self.encode(example.gold))
        return Document(id=self._id(row), messages=(_question(example), answer))

    def _item(self, row: Row, example: Example, split: str) -> Item:
        return Item(id=self._id(row), messages=(_question(example),), gold=example.gold, split=split)

    def _id(self, row: Row) -> str:
        """Says where the row stands, `wic-ita/train/17`."""
        return f"{self.name}/{row.file.stem}/{row.line}"


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


def _question(example: Example) -> Message:
    return Message(role="user", content=example.instruction, context=example.context)


def _found(folder: Path, files: Files) -> list[Path]:
    """The files that are there, each under the first of its names."""
    names = (names if isinstance(names, tuple) else (names,) for names in files)
    there = ([folder / name for name in entry if (folder / name).is_file()] for entry in names)
    return [paths[0] for paths in there if paths]


def _digest(text: str) -> bytes:
    """Digest of the letters and digits of a text, so that case, spaces, marks and emoji do not hide a leak."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(filter(str.isalnum, folded)) or folded.strip()
    return hashlib.blake2b(letters.encode(), digest_size=16).digest()
