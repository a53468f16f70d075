"""NERMuD: named entities in three domains, speeches (ADG), fiction (FIC) and news (WN) of the KIND corpus.

Files: token TAB tag, a blank line between sentences; tags are O and B- or I- with PER, LOC or ORG. The answer lists the
mentions one by one, so that neighbours of one type stay apart; where a mention's words would be looked for in the wrong
place, its number among their occurrences stands beside the type.

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
    "punto e virgola, per esempio: Maria Rossi [PER]; Torino [LOC]. Se serve distinguere la menzione dalle stesse parole "
    "in un altro punto, aggiungi quale occorrenza è: Torino [LOC 2]. Se non ci sono entità, rispondi: nessuna."
)
TYPES = ("PER", "LOC", "ORG")
DOMAINS = ("ADG", "FIC", "WN")

_TAG = re.compile(r"O|[BI]-(?:PER|LOC|ORG)")
_TYPE = re.compile(r"\[\s*(PER|LOC|ORG)\b\W*?([1-9][0-9]{0,2})?\s*\]", re.IGNORECASE)
_BEFORE_MENTION = re.compile(r"[\s;,]*(?:[-*•]\s+|\d+[.)]\s+)?")
_LEAD_IN = re.compile(r"\A[^;:\n]{0,60}\b(?:entità|menzioni|risposta)\b[^;:\n]{0,60}:(?=\s)", re.IGNORECASE)
_NONE = re.compile(r"\bnessun[ao]?\b|\bnon ci sono\b", re.IGNORECASE)

Mention = tuple[str, str, int]  # words, type, and their number among the occurrences of these words; 0 for none given


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
    found: list[Mention] = []
    tokens, kinds = gold["tokens"], ["O"] * len(gold["tokens"])
    for place in _entities(gold["tags"]):
        words, kind = " ".join(tokens[place.start : place.stop]), _kind(gold["tags"][place.start])
        places = _places(tokens, words)
        number = 0 if _first_free(places, kinds) == place else places.index(place) + 1
        found.append((words, kind, number))
        _mark(kinds, place, kind)
    return found


def encode(gold: Mapping[str, Sequence[str]]) -> str:
    """`Maria Rossi [PER]; Torino [LOC 2]`, or `nessuna`."""
    return "; ".join(f"{text} [{kind}{f' {n}' if n else ''}]" for text, kind, n in mentions(gold)) or "nessuna"


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


def marked(tokens: Sequence[str], predicted: Iterable[Mention]) -> list[str]:
    """The type of each token: a mention marks the first span with its characters that no earlier mention has marked.

    A mention with a number marks that one of the spans. Spaces do not count, so "d'Europa" finds the tokens "d'" and
    "Europa". A mention that is not in the text marks nothing, because the official metric knows tokens only.
    """
    kinds = ["O"] * len(tokens)
    for text, kind, number in predicted:
        places = _places(tokens, text)
        _mark(kinds, (places[number - 1 : number] or [range(0)])[0] if number else _first_free(places, kinds), kind)
    return kinds


def _entities(tags: Sequence[str]) -> list[range]:
    """The places of the mentions that the tags mark."""
    starts = [
        n for n, tag in enumerate(tags) if tag != "O" and (tag[:1] == "B" or n == 0 or _kind(tags[n - 1]) != _kind(tag))
    ]
    ends = [n for n in range(1, len(tags) + 1) if n == len(tags) or tags[n] == "O" or n in starts]
    return [range(start, min(end for end in ends if end > start)) for start in starts]


def _places(tokens: Sequence[str], words: str) -> list[range]:
    """Every span of tokens with the characters of the words."""
    wanted, squeezed = "".join(words.split()), ["".join(token.split()) for token in tokens]
    return [range(start, end) for start in range(len(tokens)) if (end := _end(squeezed, start, wanted))]


def _end(tokens: Sequence[str], start: int, rest: str) -> int:
    """Where the span ends that begins at a token and has just these characters; 0 when there is none."""
    end = start
    while rest and end < len(tokens) and rest.startswith(tokens[end]):
        rest = rest.removeprefix(tokens[end])
        end += 1
    return 0 if rest else end


def _first_free(places: Iterable[range], kinds: Sequence[str]) -> range:
    return next((place for place in places if all(kinds[n] == "O" for n in place)), range(0))


def _mark(kinds: list[str], place: range, kind: str) -> None:
    kinds[place.start : place.stop] = [kind] * len(place)


def _listed(text: str) -> list[Mention]:
    pieces = _TYPE.split(_LEAD_IN.sub("", text, count=1))  # text, type, number, text, type, number, …, rest
    found = zip(pieces[::3], pieces[1::3], pieces[2::3], strict=False)
    return [(words, kind.upper(), int(n or 0)) for text, kind, n in found if (words := _trimmed(text))]


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
