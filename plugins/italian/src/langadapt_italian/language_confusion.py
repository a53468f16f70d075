"""The Italian prompts of the Language Confusion Benchmark (Marchisio et al. 2024, arXiv 2406.20052), read from a copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from langadapt import Corpus, Document, Message, Rejected
from langadapt_italian.evalita.reading import BadRow, csv_rows, text_of

NAME = "language-confusion-it"
TASKS = ("monolingual", "crosslingual")  # asked in Italian; asked in English to answer in Italian


def read(folder: Path) -> Iterator[Document | Rejected]:
    """The prompts of one task or, from the folder above, of both; from TASK/SOURCE/it.csv, a column `prompt`."""
    for file in sorted(folder.rglob("it.csv")):
        for row in csv_rows(file):
            if isinstance(row, Rejected):
                yield row
                continue
            try:
                prompt = Message(role="user", content=text_of(row, "prompt"))
            except BadRow as problem:
                yield row.rejected(str(problem))
            else:
                yield Document(id=f"{file.parts[-3]}/{file.parts[-2]}/{row.line}", messages=(prompt,))


def _corpus(name: str, what: str) -> Corpus:
    return Corpus(
        name=name,
        language="it",
        licence="Apache-2.0",
        description=f"{what} of the Language Confusion Benchmark (for-ai/language-confusion).",
        read=read,
        where_to_get="clone github.com/for-ai/language-confusion, unpack test_sets.zip in it and name the folder test_sets "
        f'as "{NAME}"',
    )


PARTS = tuple(_corpus(f"{NAME}/{task}", f"The {task} prompts for Italian") for task in TASKS)
CORPORA = (_corpus(NAME, "All prompts for Italian"), *PARTS)
