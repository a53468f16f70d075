"""Evaluations of free text for any language: whether it is in the language, whether it degenerates, and how near it comes to
what people wrote, all of one generation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from itertools import zip_longest
from pathlib import Path

from langadapt.evaluation import degeneration, overlap
from langadapt.evaluation.fidelity import fidelity
from langadapt.evaluation.written import scorer
from langadapt.records import Corpus, Document, Evaluation, Item, Language, Message, Rejected


def free_text(
    name: str,
    *,
    language: Language,
    description: str,
    corpus: Corpus,
    suites: tuple[str, ...] = (),
    source_words: Collection[str] = (),
    references: bool = True,
    group: Callable[[Item], str] = lambda item: "",
    max_new_tokens: int = 100,
) -> Evaluation:
    """An evaluation that asks the questions of dialogues and measures what is written in answer.

    Args:
        name: row name in reports.
        language: what the answers should be in.
        description: one sentence.
        corpus: dialogues; each is asked without its last answer, which is the reference.
        suites: suites that it belongs to.
        source_words: function words of the source language, in lower case, that the language does not have.
        references: whether the dialogues end with an answer.
        group: where an item is from; values are plain means of those of the groups.
        max_new_tokens: room for an answer; 100 as in the Language Confusion Benchmark (arXiv 2406.20052).

    Returns:
        A record for `langadapt_evaluations`; docs/measures.md says what its metrics are.
    """
    metrics = fidelity(language, source_words) | degeneration.METRICS | (overlap.METRICS if references else {})
    return Evaluation(
        name=name,
        language=language.tag,
        description=description,
        corpus=corpus.name,
        suites=suites,
        items=lambda path: _items(corpus, path),
        score=scorer(metrics, words=language.words, group=group),
        metrics={name: metric.higher_is_better for name, metric in metrics.items()},
        max_new_tokens=max_new_tokens,
        one_line=False,
        signatures=overlap.signatures if references else None,
    )


def _items(corpus: Corpus, path: Path) -> Iterator[Item | Rejected]:
    from langadapt.corpus.reading import read_documents

    for found in corpus.read(path) if corpus.read else read_documents(str(path), layout=corpus.layout):
        if isinstance(found, Rejected):
            yield found
        elif not found.messages:
            yield Rejected(reason="no dialogue", where=found.id, size=len(found.text))
        else:
            answered = found.messages[-1].role == "assistant"
            asked = found.messages[:-1] if answered else found.messages
            yield Item(id=found.id, messages=asked, gold=found.messages[-1].content if answered else "")


def translations(source: str, target: str, *, instruction: str) -> Callable[[Path], Iterator[Document | Rejected]]:
    """What reads parallel text as requests for a translation, for the field `read` of a `Corpus`.

    The text is a JSONL file of rows `{"en": …, "it": …}`, or a folder with files such as `dev.en` and `dev.it`, where a line
    of one is the translation of the same line of the other.

    Args:
        source: tag of the language to translate from: key or ending.
        target: tag of the language to translate to.
        instruction: what the model is told, in any language.

    Returns:
        A function from a file or folder to documents, and to rejects for rows without text in both languages.
    """

    def read(path: Path) -> Iterator[Document | Rejected]:
        for where, (said, meant) in _folder(path, source, target) if path.is_dir() else _rows(path, source, target):
            if said == meant == "":  # a blank line
                continue
            if not (isinstance(said, str) and isinstance(meant, str) and said.strip() and meant.strip()):
                yield Rejected(reason=f"no text in both {source} and {target}", where=where)
                continue
            question = Message(role="user", content=instruction, context=said.strip())
            yield Document(id=where, messages=(question, Message(role="assistant", content=meant.strip())))

    return read


def _rows(file: Path, source: str, target: str) -> Iterator[tuple[str, tuple[object, object]]]:
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else {source: "", target: ""}
        except ValueError:
            row = None
        yield f"{file.name}:{number}", (row.get(source), row.get(target)) if isinstance(row, dict) else (None, None)


def _folder(folder: Path, source: str, target: str) -> Iterator[tuple[str, tuple[object, object]]]:
    for file in sorted(folder.glob(f"*.{source}")):
        both_files = zip_longest(_lines(file), _lines(file.with_suffix(f".{target}")))
        for number, both in enumerate(both_files, start=1):
            yield f"{file.name}:{number}", both


def _lines(file: Path) -> Iterator[str | None]:
    """The lines of a file, None for one that is not UTF-8; nothing of a file that is not there."""
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            yield None
