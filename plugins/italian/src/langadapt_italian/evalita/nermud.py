"""NERMuD: named entities in three domains, speeches (ADG), fiction (FIC) and news (WN) of the KIND corpus.

Files: token TAB tag, a blank line between sentences; tags are O and B- or I- with PER, LOC or ORG. The answer lists the
mentions one by one, so that neighbours of one type stay apart.

Metric: `evalita-2023/scripts/get-results.py` in github.com/dhfbk/KIND: F1 on tokens without B- and I-, macro over the
three types; the micro average is shown beside it because FIC's test set has a single ORG token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from langadapt import Answer
from langadapt_italian.evalita.answers import first_paragraph
from langadapt_italian.evalita.reading import BadRow, Row, token_rows
from langadapt_italian.evalita.scoring import macro_f1, micro_f1
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = (
    "Elenca le entità nominate del testo nell'ordine in cui compaiono: persone (PER), luoghi (LOC) e organizzazioni "
    "(ORG). Scrivi ogni menzione come sta nel testo, con il tipo tra parentesi quadre, e separa le menzioni con un "
    "punto e virgola, per esempio: Maria Rossi [PER]; Torino [LOC]. Se non ce ne sono, rispondi: nessuna."
)
TYPES = ("PER", "LOC", "ORG")
DOMAINS = ("ADG", "FIC", "WN")

_TAG = re.compile(r"O|[BI]-(?:PER|LOC|ORG)")
_TYPE = re.compile(r"\[\s*(PER|LOC|ORG)\s*\]", re.IGNORECASE)
_BEFORE_MENTION = re.compile(r"[\s;,]*(?:[-*•]\s+|\d+[.)]\s+)?")
_LEAD_IN = re.compile(r"\A[^;:\n]{0,60}\b(?:entità|menzioni|risposta)\b[^;:\n]{0,60}:(?=\s)", re.IGNORECASE)
_NONE = re.compile(r"\bnessun[ao]?\b|\bnon ci sono\b", re.IGNORECASE)

Mention = tuple[str, str]


def example(row: Row) -> Example:
    """A sentence, its tokens parted by spaces."""
    tokens = row.cells["tokens"]
    # The official script ignores case and whatever follows a bar.
    tags = [tag.upper().partition("|")[0].strip() for tag in row.cells["tags"]]
    if not all(map(_TAG.fullmatch, tags)):
        raise BadRow("unknown tag")
    return Example(instruction=INSTRUCTION, context=" ".join(tokens), gold={"tokens": tokens, "tags": tags})


def mentions(gold: Mapping[str, Sequence[str]]) -> list[Mention]:
    """The mentions of a tagged sentence in order; an I- that continues nothing (16 in WN's test set) begins one."""
    found: list[tuple[list[str], str]] = []
    previous = "O"
    for token, tag in zip(gold["tokens"], gold["tags"], strict=True):
        if tag[:1] == "I" and _kind(tag) == _kind(previous):
            found[-1][0].append(token)
        elif tag != "O":
            found.append(([token], _kind(tag)))
        previous = tag
    return [(" ".join(tokens), kind) for tokens, kind in found]


def encode(gold: Mapping[str, Sequence[str]]) -> str:
    """`Maria Rossi [PER]; Torino [LOC]`, or `nessuna`."""
    return "; ".join(f"{text} [{kind}]" for text, kind in mentions(gold)) or "nessuna"


def decode(text: str) -> list[Mention] | None:
    """The mentions of the first paragraph, or of the whole text when it neither has any nor says there are none."""
    answer = first_paragraph(text)
    found = _listed(answer)
    if not found and _NONE.search(answer):
        return []
    return found or _listed(text) or None


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """Token F1 over all sentences together. A sentence without a readable answer has no predicted entity."""
    gold: list[str] = []
    predicted: list[str] = []
    for answer in answers:
        gold += map(_kind, answer.item.gold["tags"])
        predicted += marked(answer.item.gold["tokens"], answer.prediction or ())
    return {"macro_f1": macro_f1(gold, predicted, TYPES), "micro_f1": micro_f1(gold, predicted, TYPES)}


def marked(tokens: Sequence[str], predicted: Iterable[Sequence[str]]) -> list[str]:
    """The type of each token: a mention marks the first span with its characters that no earlier mention has marked.

    Spaces do not count, so "d'Europa" finds the tokens "d'" and "Europa". A mention that is not in the text marks
    nothing, because the official metric knows tokens only.
    """
    tokens = ["".join(token.split()) for token in tokens]
    kinds = ["O"] * len(tokens)
    for text, kind in predicted:
        for place in _free_span(tokens, kinds, "".join(text.split())):
            kinds[place] = kind
    return kinds


def _free_span(tokens: Sequence[str], kinds: Sequence[str], wanted: str) -> range:
    for start in range(len(tokens)):
        end, rest = start, wanted
        while rest and end < len(tokens) and kinds[end] == "O" and rest.startswith(tokens[end]):
            rest = rest.removeprefix(tokens[end])
            end += 1
        if not rest:
            return range(start, end)
    return range(0)


def _listed(text: str) -> list[Mention]:
    pieces = _TYPE.split(_LEAD_IN.sub("", text, count=1))  # text, type, text, type, …, rest
    found = [(_trimmed(text), kind.upper()) for text, kind in zip(pieces[::2], pieces[1::2], strict=False)]
    return [(text, kind) for text, kind in found if text]


def _trimmed(piece: str) -> str:
    line = piece.strip().rpartition("\n")[2]
    return _BEFORE_MENTION.sub("", line, count=1).strip()


def _kind(tag: str) -> str:
    return tag.rpartition("-")[2]


def _files(split: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{domain}_{split}.tsv", f"evalita-2023/{domain}_{split}.tsv") for domain in DOMAINS)


TASK = Task(
    name="nermud",
    folder="nermud",
    description="Named entities (people, places, organisations) in Italian speeches, fiction and news.",
    licence="CC-BY-NC-4.0 AND CC-BY-NC-SA-4.0",  # the second is that of the ADG files
    where_to_get="copy the folder evalita-2023 of https://github.com/dhfbk/KIND ({ADG,FIC,WN}_{train,dev,test}.tsv)",
    train=_files("train"),
    dev=_files("dev"),
    test=_files("test"),
    rows=token_rows,
    example=example,
    encode=encode,
    decode=decode,
    score=score,
    metrics={"macro_f1": True, "micro_f1": True},
    max_new_tokens=64,
)
