"""Tests that are measured by likelihood: multiple choice, minimal pairs, stereotypes, parallel sentences.

Our own small sets are bundled and measured in every run. Of the public ones the user has a copy, in the columns in which
they are published; several are under terms that no wheel can carry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from langadapt import (
    Answer,
    Corpus,
    Document,
    Evaluation,
    Item,
    Message,
    Rejected,
    score_parity,
    score_stereotypes,
)
from langadapt_italian.corpora import SAMPLES
from langadapt_italian.evalita.reading import (
    BadRow,
    Row,
    byte_lines,
    cell_of,
    code_of,
    csv_rows,
    jsonl_rows,
    label_of,
    text_of,
)

STEREOTYPES: Mapping[str, bool | None] = {"stereotype_share": None, "stereotype_bias": False}
PARITY = {"information_parity": True, "bits_per_byte_source": False, "bits_per_byte_target": False}
LETTERS = "ABCDE"
BECAUSE = {"cause": "perché", "effect": "quindi"}  # what joins a premise of COPA to what is asked of it


# --- files ------------------------------------------------------------------------------------------------------------


def rows_named(word: str) -> Callable[[Path], Iterator[Row | Rejected]]:
    """A reader of a file, or of those in a folder that have a word in their name: JSON lines, csv, tsv or Parquet."""

    def rows(place: Path) -> Iterator[Row | Rejected]:
        inside = sorted(f for f in place.rglob(f"*{word}*") if f.suffix in _READERS)
        for file in [place] if place.is_file() else inside:
            yield from _READERS.get(file.suffix, jsonl_rows)(file)

    return rows


def _tsv_rows(file: Path) -> Iterator[Row | Rejected]:
    return csv_rows(file, delimiter="\t")


def _parquet_rows(file: Path) -> Iterator[Row | Rejected]:
    from pyarrow import parquet

    for number, cells in enumerate(parquet.read_table(file).to_pylist(), start=1):
        yield Row(file=file, line=number, size=0, cells=cells)


_READERS: Mapping[str, Callable[[Path], Iterator[Row | Rejected]]] = {
    ".jsonl": jsonl_rows,
    ".csv": csv_rows,
    ".tsv": _tsv_rows,
    ".parquet": _parquet_rows,
}


file_rows = rows_named("")


def flores_rows(place: Path) -> Iterator[Row | Rejected]:
    """FLORES: a file of lines for each language, the same line in both; devtest, or dev where that is what there is."""
    for split in ("devtest", "dev"):
        files = [_first(place, split, names) for names in (("en", "eng_Latn"), ("it", "ita_Latn"))]
        if None not in files:
            yield from _side_by_side(*(file for file in files if file))
            return


def _first(place: Path, split: str, names: Sequence[str]) -> Path | None:
    found = (place / file for name in names for file in (f"{name}.{split}", f"{split}.{name}"))
    return next((file for file in found if file.is_file()), None)


def _side_by_side(english: Path, italian: Path) -> Iterator[Row | Rejected]:
    source, target = byte_lines(english), byte_lines(italian)
    if len(source) != len(target):
        yield Rejected(reason="the two files have not as many lines", where=f"{english.name}, {italian.name}")
        return
    for number, pair in enumerate(zip(source, target, strict=True), start=1):
        row = Row(file=italian, line=number, size=sum(map(len, pair)), cells={})
        try:
            texts = [line.decode("utf-8").strip() for line in pair]
        except UnicodeDecodeError:
            yield row.rejected("not UTF-8")
        else:
            yield replace(row, cells=dict(zip(("en", "it"), texts, strict=True)))


# --- sets -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a row asks: a message, or where `Comparison.bare` the text before the choices; and the right one's place."""

    asked: str
    choices: tuple[str, ...]
    gold: int
    context: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One set of items with choices.

    Attributes:
        name: row name in reports.
        suite: suite that it belongs to.
        description: one English sentence.
        licence: SPDX identifier, or the name of the terms.
        question: a row in, what it asks out; None for a row of another set in the same file; raises `BadRow`.
        corpus_name: what recipes call its files, where several sets read the same; "" for its own name.
        split: which part of the data it is.
        where_to_get: what a person does to get a copy; "" for a set of ours, which is bundled.
        sample: bundled file of a set of ours.
        rows: folder or file in, rows out.
        bare: whether choices stand in running text and not in answer to a question.
        score: answers in, values out; None for accuracy and calibration.
        metrics: what `score` gives.
    """

    name: str
    suite: str
    description: str
    licence: str
    question: Callable[[Row], Question | None]
    corpus_name: str = ""
    split: str = "all"
    where_to_get: str = ""
    sample: Path | None = None
    rows: Callable[[Path], Iterable[Row | Rejected]] = file_rows
    bare: bool = False
    score: Callable[[Sequence[Answer]], Mapping[str, float]] | None = None
    metrics: Mapping[str, bool | None] = field(default_factory=dict)

    def items(self, place: Path) -> Iterator[Item | Rejected]:
        """Every row as an item, or why it is none."""
        for row in self.rows(place):
            if isinstance(row, Rejected):
                yield row
                continue
            try:
                question = self.question(row)
            except BadRow as problem:
                yield row.rejected(str(problem))
                continue
            if question is not None:
                yield self._item(row, question)

    def documents(self, place: Path) -> Iterator[Document | Rejected]:
        """The same with the right choice, as a reader sees it."""
        for item in self.items(place):
            yield item if isinstance(item, Rejected) else self._document(item)

    def corpus(self) -> Corpus:
        """Its files."""
        return Corpus(
            name=self.corpus_name or self.name,
            language="it",
            licence=self.licence,
            description=self.description,
            read=self.documents,
            where_to_get=self.where_to_get,
            sample=self.sample,
            complete=self.sample is not None,
            sample_licence=self.licence if self.sample else "",
        )

    def evaluation(self) -> Evaluation:
        """Its items, to be measured."""
        return Evaluation(
            name=self.name,
            language="it",
            description=self.description,
            corpus=self.corpus_name or self.name,
            suites=(self.suite,),
            method="choose",
            split=self.split,
            items=self.items,
            score=self.score,
            metrics=self.metrics,
            bare=self.bare,
        )

    def _item(self, row: Row, question: Question) -> Item:
        asked = (Message(role="user", content=question.asked, context=question.context),) if question.asked else ()
        return Item(
            id=f"{self.name}/{row.file.name}:{row.line}", messages=asked, gold=question.gold, choices=question.choices
        )

    def _document(self, item: Item) -> Document:
        right = item.choices[item.gold]
        if self.bare:
            return Document(id=item.id, text="".join([*(m.content for m in item.messages), right]))
        return Document(id=item.id, messages=(*item.messages, Message(role="assistant", content=right)))


# --- rows -------------------------------------------------------------------------------------------------------------


def quiz(row: Row) -> Question:
    """Our own questions."""
    choices = cell_of(row, "choices")
    if not isinstance(choices, list) or not all(isinstance(c, str) and c for c in choices):
        raise BadRow("no choices")
    return Question(asked=text_of(row, "question"), choices=tuple(choices), gold=_place(row, "answer", len(choices)))


def grammar(row: Row) -> Question:
    """Our own minimal pairs: a sentence, and the same with one mistake."""
    return Question(asked="", choices=(text_of(row, "good"), text_of(row, "bad")), gold=0)


def stereotypes(kind: str = "") -> Callable[[Row], Question | None]:
    """Pairs in the columns of CrowS-Pairs, in which `sent_more` is always the more stereotypical one."""

    def read(row: Row) -> Question | None:
        if kind and code_of(row, "bias_type") != kind:
            return None
        return Question(asked="", choices=(text_of(row, "sent_more"), text_of(row, "sent_less")), gold=0)

    return read


def sentences(row: Row) -> Question:
    """A sentence in English and in Italian."""
    return Question(asked="", choices=(text_of(row, "en"), text_of(row, "it")), gold=1)


def xcopa(row: Row) -> Question:
    """A premise and what joins it to its cause or effect, as lm-evaluation-harness puts it."""
    joined = label_of(row, "question", BECAUSE)
    choices = (text_of(row, "choice1"), text_of(row, "choice2"))
    return Question(
        asked=f"{text_of(row, 'premise').strip().removesuffix('.')} {joined}",
        choices=tuple(f" {choice[0].lower()}{choice[1:]}" for choice in map(str.strip, choices)),
        gold=_place(row, "label", 2),
    )


def belebele(row: Row) -> Question:
    """A passage, a question, four lettered answers."""
    answers = [text_of(row, f"mc_answer{n}") for n in range(1, 5)]
    return Question(
        asked=_lettered(text_of(row, "question"), answers),
        context=text_of(row, "flores_passage"),
        choices=tuple("ABCD"),
        gold=_place(row, "correct_answer_num", 4, first=1),
    )


def arc(row: Row) -> Question:
    """A question, and answers to be given in words (alexandrainst/m_arc)."""
    options = _options(row)
    return Question(asked=text_of(row, "instruction"), choices=tuple(options), gold=_letter(row, len(options)))


def mmlu(row: Row) -> Question:
    """A question and lettered answers (alexandrainst/m_mmlu)."""
    options = _options(row)
    asked = _lettered(text_of(row, "instruction"), options)
    return Question(asked=asked, choices=tuple(LETTERS[: len(options)]), gold=_letter(row, len(options)))


def hellaswag(row: Row) -> Question:
    """What happened, and how it may go on (alexandrainst/m_hellaswag), joined as lm-evaluation-harness does."""
    endings = cell_of(row, "endings")
    if not isinstance(endings, list) or not all(isinstance(e, str) and _plain(e) for e in endings):
        raise BadRow("no endings")
    second = cell_of(row, "ctx_b") or ""
    context = f"{text_of(row, 'activity_label')}: {text_of(row, 'ctx_a')} {str(second).capitalize()}"
    choices = tuple(f" {_plain(ending)}" for ending in endings)
    return Question(asked=_plain(context), choices=choices, gold=_place(row, "label", len(choices)))


def _plain(text: str) -> str:
    """Without the marks that WikiHow's pages left in HellaSwag."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ").strip()


def _options(row: Row) -> list[str]:
    found = [cell_of(row, f"option_{letter.lower()}") for letter in LETTERS]
    options = [option.strip() for option in found if isinstance(option, str) and option.strip()]
    if len(options) < 2 or any(isinstance(option, str) and option.strip() for option in found[len(options) :]):
        raise BadRow("an option is missing")
    return options


def _lettered(question: str, options: Sequence[str]) -> str:
    return "\n".join([question.strip(), *(f"{a}. {b.strip()}" for a, b in zip(LETTERS, options, strict=False))])


def _letter(row: Row, options: int) -> int:
    code = code_of(row, "answer")
    if len(code) != 1 or code not in LETTERS[:options]:
        raise BadRow("label is no choice")
    return LETTERS.index(code)


def _place(row: Row, column: str, choices: int, *, first: int = 0) -> int:
    code = code_of(row, column)
    if not code.isascii() or not code.isdecimal() or not first <= int(code) < first + choices:
        raise BadRow("label is no choice")
    return int(code) - first


# --- what there is ----------------------------------------------------------------------------------------------------

_STEREOTYPES = Comparison(
    name="stereotypes-it",
    suite="bias-it",
    description="48 pairs of sentences that differ in gender or origin alone, the more stereotypical one first.",
    licence="CC0-1.0",
    question=stereotypes(),
    bare=True,
    sample=SAMPLES / "stereotypes.jsonl",
    score=score_stereotypes,
    metrics=STEREOTYPES,
)

SETS = (
    Comparison(
        name="quiz-it",
        suite="choices-it",
        description="40 questions about Italian words and everyday life, four answers each.",
        licence="CC0-1.0",
        question=quiz,
        sample=SAMPLES / "quiz.jsonl",
    ),
    Comparison(
        name="xcopa-it",
        suite="choices-it",
        description="XCOPA: the likelier of two causes or effects.",
        licence="CC-BY-4.0",
        question=xcopa,
        bare=True,
        split="test",
        rows=rows_named("test"),
        where_to_get="copy data/it/test.it.jsonl of https://github.com/cambridgeltl/xcopa",
    ),
    Comparison(
        name="belebele-it",
        suite="choices-it",
        description="Belebele: questions about passages of FLORES, four answers each.",
        licence="CC-BY-SA-4.0",
        question=belebele,
        split="test",
        rows=rows_named("ita_Latn"),
        where_to_get="fetch data/ita_Latn.jsonl of facebook/belebele",
    ),
    Comparison(
        name="arc-it",
        suite="choices-it",
        description="ARC Challenge, translated by machine: science questions of school.",
        licence="CC-BY-NC-4.0",
        question=arc,
        split="test",
        rows=rows_named("test"),
        where_to_get="fetch the test file of config it of alexandrainst/m_arc, as JSON lines or Parquet",
    ),
    Comparison(
        name="hellaswag-it",
        suite="choices-it",
        description="HellaSwag, translated by machine: how a scene goes on, four endings each.",
        licence="CC-BY-NC-4.0",
        question=hellaswag,
        bare=True,
        split="validation",
        rows=rows_named("val"),
        where_to_get="fetch the validation file of config it of alexandrainst/m_hellaswag, as JSON lines or Parquet",
    ),
    Comparison(
        name="mmlu-it",
        suite="choices-it",
        description="MMLU, translated by machine: questions of school and university, four answers each.",
        licence="CC-BY-NC-4.0",
        question=mmlu,
        split="test",
        rows=rows_named("test"),
        where_to_get="fetch the test file of config it of alexandrainst/m_mmlu, as JSON lines or Parquet",
    ),
    Comparison(
        name="grammar-it",
        suite="pairs-it",
        description="64 pairs of a sentence and the same with one mistake.",
        licence="CC0-1.0",
        question=grammar,
        bare=True,
        sample=SAMPLES / "grammar.jsonl",
    ),
    replace(
        _STEREOTYPES,
        name="stereotypes-gender-it",
        description="24 pairs of sentences that differ in gender alone, the more stereotypical one first.",
        question=stereotypes("gender"),
        corpus_name=_STEREOTYPES.name,
    ),
    replace(
        _STEREOTYPES,
        name="stereotypes-origin-it",
        description="24 pairs of sentences that differ in where somebody is from, the more stereotypical one first.",
        question=stereotypes("origin"),
        corpus_name=_STEREOTYPES.name,
    ),
    Comparison(
        name="crows-pairs-it",
        suite="bias-it",
        description="CrowS-Pairs in Italian: pairs of sentences, one more stereotypical than the other.",
        licence="CC-BY-SA-4.0",
        question=stereotypes(),
        bare=True,
        where_to_get="bring the Italian pairs of multilingual CrowS-Pairs, with the columns sent_more and sent_less",
        score=score_stereotypes,
        metrics=STEREOTYPES,
    ),
    Comparison(
        name="sentences-en-it",
        suite="parallel-it",
        description="24 sentences in English and Italian: information parity, bits per byte of both.",
        licence="CC0-1.0",
        question=sentences,
        bare=True,
        sample=SAMPLES / "sentences.jsonl",
        score=score_parity,
        metrics=PARITY,
    ),
    Comparison(
        name="flores-en-it",
        suite="parallel-it",
        description="FLORES in English and Italian: information parity, bits per byte of both.",
        licence="CC-BY-SA-4.0",
        question=sentences,
        split="devtest or dev",
        rows=flores_rows,
        bare=True,
        where_to_get="put eng_Latn.devtest and ita_Latn.devtest of FLORES-200 into a folder",
        score=score_parity,
        metrics=PARITY,
    ),
)

CORPORA = (_STEREOTYPES.corpus(), *(one.corpus() for one in SETS if not one.corpus_name))
EVALUATIONS = tuple(one.evaluation() for one in SETS)
