"""LangLearn: were two essays of one learner written in the order in which they are shown?

Files: for each of two corpora a folder with pairs and essays. Pairs: tsv `Essay_1, Essay_2, Order_1, Order_2`, ids of two
essays and when the earlier and the later were written (`1_4` is the fourth essay of the first year, `F20` autumn 2020).
Essays: XML whose `doc` elements have an `id` and the text. Training pairs all stand in the order of writing, so every
other one is turned round here. Test pairs are shuffled; the labelled ones have a further column `Pred` or `Label`, 0 where
Essay_1 was written first and 1 where Essay_2 was. CItA is Italian, of pupils aged 11 to 13; COWS-L2H is Spanish, of
American students. Layout as in the READMEs of the two releases; the files were not seen.

Metric: macro-F1 in each corpus, and the mean of the two (task page, CEUR-WS Vol-3473 paper 18).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from langadapt import Answer, Rejected
from langadapt_italian.evalita.answers import NO, YES, decode_yes_or_no
from langadapt_italian.evalita.reading import BadRow, Row, cell_of, code_of, csv_rows
from langadapt_italian.evalita.scoring import macro_f1
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = (
    "Questi due temi sono della stessa persona, che sta imparando a scrivere. Il tema 1 è stato scritto prima del "
    "tema 2? Rispondi solo con sì o no."
)
CORPORA = ("CItA", "COWS-L2H")

_IN_ORDER = {"0": YES, "1": NO}


def pairs(file: Path) -> Iterator[Row | Rejected]:
    """Pairs with the essays' texts beside their ids, from the XML file of the same folder."""
    corpus = next((corpus for corpus in CORPORA if corpus in file.name), "")
    essays_file = file.with_name(f"Essays_{'' if _of_training(file) else 'Test_'}{corpus}.xml")
    essays = _essays(essays_file)
    for row in csv_rows(file, delimiter="\t"):
        if isinstance(row, Rejected):
            yield row
        elif essays is None:
            yield row.rejected(f"{essays_file.name} is missing or not valid XML")
        else:
            texts = [essays.get(str(cell_of(row, f"Essay_{n}")).strip(), "") for n in (1, 2)]
            yield replace(row, cells={**row.cells, "corpus": corpus, "essays": texts})


def example(row: Row) -> Example:
    """Two essays and whether they are in order, with the corpus that they are from."""
    essays = [essay.strip() for essay in row.cells["essays"]]
    if not all(essays):
        raise BadRow("no essay with that id")
    label = _label(row)
    if _of_training(row.file) and label == NO:
        essays.reverse()
    return Example(
        instruction=INSTRUCTION,
        context="\n\n".join(f"Tema {n}:\n{essay}" for n, essay in enumerate(essays, start=1)),
        gold={"corpus": row.cells["corpus"], "in_order": label},
    )


def encode(gold: Mapping[str, str]) -> str:
    """`sì` or `no`."""
    return gold["in_order"]


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Macro-F1 over `sì` and `no` in each corpus, averaged over the corpora that there are answers for."""
    by_corpus: dict[str, list[Answer]] = {}
    for answer in answers:
        by_corpus.setdefault(answer.item.gold["corpus"], []).append(answer)
    scores = [
        macro_f1([a.item.gold["in_order"] for a in some], [a.prediction for a in some], (YES, NO))
        for some in by_corpus.values()
    ]
    return {"macro_f1": sum(scores) / len(scores)}


def _label(row: Row) -> str:
    if _of_training(row.file):
        return YES if row.line % 2 else NO
    code = code_of(row, "Label", "Pred")
    if code not in _IN_ORDER:
        raise BadRow("unknown label")
    return _IN_ORDER[code]


def _essays(file: Path) -> Mapping[str, str] | None:
    """The texts of an essay file by id; None when there is no reading it."""
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    return {str(doc.get("id")).strip(): "".join(doc.itertext()) for doc in root.iter("doc")}


def _of_training(file: Path) -> bool:
    return file.name.startswith("Train")


def _files(*starts: str) -> tuple[tuple[str, ...], ...]:
    """The pairs of each corpus, in its folder or without one."""
    return tuple(tuple(f"{folder}{start}_{c}.tsv" for start in starts for folder in (f"{c}/", "")) for c in CORPORA)


TASK = Task(
    name="langlearn",
    folder="langlearn",
    description="Whether two essays of one learner of Italian or Spanish are in the order of writing.",
    licence="LangLearn organisers' terms (password)",
    where_to_get="ask the organisers (https://sites.google.com/view/langlearn2023/data) for the training and test data "
    "with the labels, and keep the folders CItA and COWS-L2H with Training_*.tsv, Test_*.tsv and the Essays_*.xml",
    gated=True,
    train=_files("Training", "Train"),
    test=_files("Test"),
    text=("essays",),
    rows=pairs,
    example=example,
    encode=encode,
    decode=decode_yes_or_no,
    score=score,
    metrics={"macro_f1": True},
)
