"""CLinkaRT: which results in a clinical case belong to which laboratory tests and measurements?

Files: `training.txt` and `test.txt`, in a format after PubTator. A case is a line `ID|t|text` and, below it, a line for each
relation, `ID TAB REL TAB start-end of the result TAB start-end of the test TAB result TAB test`, places in characters of the
text, the two mentions optional; a blank line stands between cases. A file without any relation is one that was
published without answers, and its cases are refused as "no label". Layout as on the task page (e3c.fbk.eu/clinkart) and
that of its twin TESTLINK, and as participants' programs read it; the files were not seen.

The answer lists the relations in the order of their results. Where a mention would be looked for in the wrong place,
its number among the occurrences of those characters is written after it: `negativo [2] → test`.

Metric: F1 on relations, which are right when both mentions are at the right places (overview, CEUR-WS Vol-3473 paper 43;
counted over all cases together, as the BioCreative V CDR evaluation kit does that the organisers point to).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from langadapt import Answer, Rejected
from langadapt_italian.evalita.answers import first_paragraph
from langadapt_italian.evalita.reading import BadRow, Row, byte_lines
from langadapt_italian.evalita.task import Example, Task

INSTRUCTION = (
    "Trova nel caso clinico i risultati di esami e misurazioni e collegali all'esame o alla misurazione da cui vengono. "
    "Scrivi ogni coppia come risultato → esame, con le parole del testo, nell'ordine in cui compaiono i risultati, e "
    "separa le coppie con un punto e virgola, per esempio: 38 °C → temperatura; negativo → tampone. Se le stesse parole "
    "compaiono più volte e serve distinguerle, indica tra parentesi quadre quale occorrenza è: negativo [2] → tampone. "
    "Se non ci sono risultati, rispondi: nessuno."
)

Span = tuple[int, int]
Relation = tuple[int, int, int, int]  # start and end of the result, start and end of the test
Mention = tuple[str, int]  # words, and their number among the occurrences of these words; 0 where none is given

_HEAD = re.compile(r"([^|\t]+)\|t\|(.*)", re.DOTALL)
_PLACE = re.compile(r"\s*(\d{1,7})\s*-\s*(\d{1,7})\s*")
_ARROW = re.compile(r"→|[-=]+>")
_NUMBERED = re.compile(r"(.*\S)\s*\[\s*([1-9]\d{0,3})\s*\]", re.DOTALL)
_BULLET = re.compile(r"(?m)^\s*(?:[-*•]|\d+[.)])\s+")
_NONE = re.compile(r"\bnessun[oa]?\b|\bnon ci sono\b", re.IGNORECASE)


def cases(file: Path) -> Iterator[Row | Rejected]:
    """Cases as `text` and `relations`, lists of the four places of a `Relation`, in the order of the text.

    One bad line refuses its whole case, because without it the answer would be incomplete.
    """
    found = list(_cases(file))
    labelled = any(len(lines) > 1 for lines in found)
    for lines in found:
        row = Row(file=file, line=lines[0][0], size=sum(len(line) for _, line in lines), cells={"labelled": labelled})
        yield _case(row, lines)


def example(row: Row) -> Example:
    """A case with its relations."""
    text, relations = row.cells["text"], row.cells["relations"]
    if not row.cells["labelled"]:
        raise BadRow("no label")
    gold = {"text": text, "relations": relations}
    if places(text, decode(encode(gold)) or ()) != set(map(tuple, relations)):
        raise BadRow("a mention holds the marks of the answer")
    return Example(instruction=INSTRUCTION, context=text, gold=gold)


def mentions(gold: Mapping[str, Any]) -> list[tuple[Mention, Mention]]:
    """The relations in words, each mention with its number where the words alone would be looked for elsewhere."""
    text, start, pairs = gold["text"], 0, []
    for relation in gold["relations"]:
        result, test = (relation[0], relation[1]), (relation[2], relation[3])
        pairs.append((_worded(text, result, _from(start)), _worded(text, test, _beside(result))))
        start = result[0]
    return pairs


def encode(gold: Mapping[str, Any]) -> str:
    """`66 bpm → FC; negativo [2] → test`, or `nessuno`."""
    written = ((_written(result), _written(test)) for result, test in mentions(gold))
    return "; ".join(f"{result} → {test}" for result, test in written) or "nessuno"


def decode(text: str) -> list[tuple[Mention, Mention]] | None:
    """The pairs of the first paragraph; an empty list when it says that there are none."""
    first, *pieces = _ARROW.split(_BULLET.sub("", first_paragraph(text)))
    tests, results = [], [first]
    for piece in pieces:  # a test, and after it the result of the next pair
        test, _, result = piece.replace("\n", ";").partition(";")
        tests.append(test)
        results.append(result)
    pairs = [(_mention(result), _mention(test)) for result, test in zip(results, tests, strict=False)]
    pairs = [(result, test) for result, test in pairs if result[0] and test[0]]
    if not pairs and _NONE.search(first):
        return []
    return pairs or None


def places(text: str, pairs: Sequence[tuple[Mention, Mention]]) -> set[Relation]:
    """Where the mentions of an answer stand in the text; a pair with words that are not in it stands nowhere.

    A mention without a number is, if it is a result, the first one from the previous result on, and if it is a test,
    the one nearest to its result; whole words come first.
    """
    found, start = set(), 0
    for result, test in pairs:
        at = _place(text, result, _from(start))
        beside = at and _place(text, test, _beside(at))
        if at and beside:
            found.add((*at, *beside))
        start = at[0] if at else start
    return found


def score(answers: Sequence[Answer]) -> Mapping[str, float]:
    """F1 over the relations of all cases. A case without a readable answer has no predicted relation."""
    hits = total = 0
    for answer in answers:
        gold = set(map(tuple, answer.item.gold["relations"]))
        predicted = places(answer.item.gold["text"], answer.prediction or ())
        hits += len(gold & predicted)
        total += len(gold) + len(predicted)
    return {"f1": 2 * hits / total if total else 0.0}


def _mention(written: str) -> Mention:
    numbered = _NUMBERED.fullmatch(written.strip())
    return (numbered[1], int(numbered[2])) if numbered else (written.strip(), 0)


def _written(mention: Mention) -> str:
    words, number = mention
    return f"{words} [{number}]" if number else words


def _worded(text: str, span: Span, key: Callable[[Span], Any]) -> Mention:
    words = text[slice(*span)]
    if _mention(words) == (words, 0) and _place(text, (words, 0), key) == span:
        return words, 0
    return words, _spans(text, words).index(span) + 1


def _place(text: str, mention: Mention, key: Callable[[Span], Any]) -> Span | None:
    words, number = mention
    spans = _spans(text, words)
    if number:
        return spans[number - 1] if number <= len(spans) else None
    return min(spans, key=lambda span: (_in_a_word(text, span), key(span)), default=None)


def _spans(text: str, words: str) -> list[Span]:
    """Every place of the words, overlapping ones too, in whatever spacing.

    Only where there is none, their case does not count, and then the marks at their edges do not either.
    """
    for wanted, flags in ((words, re.NOFLAG), (words, re.IGNORECASE), (words.strip(" .,:"), re.IGNORECASE)):
        pattern = r"\s+".join(map(re.escape, wanted.split()))
        if pattern and (found := [m.span(1) for m in re.finditer(f"(?=({pattern}))", text, flags)]):
            return found
    return []


def _from(start: int) -> Callable[[Span], Any]:
    """Orders places by how soon they come from a place on, those before it last."""
    return lambda span: (span[0] < start, span)


def _beside(result: Span) -> Callable[[Span], Any]:
    """Orders places by their distance from a result, of two equally near the one before it first."""
    return lambda span: (max(span[0] - result[1], result[0] - span[1]), span)


def _in_a_word(text: str, span: Span) -> bool:
    return any(text[max(edge - 1, 0) : edge + 1].isalnum() for edge in span if 0 < edge < len(text))


def _cases(file: Path) -> Iterator[list[tuple[int, bytes]]]:
    """Lines with their numbers, from each head of a case to the next; blank lines left out."""
    lines: list[tuple[int, bytes]] = []
    for number, line in enumerate(byte_lines(file), start=1):
        if b"|t|" in line and lines:
            yield lines
            lines = []
        if line.strip():
            lines.append((number, line))
    if lines:
        yield lines


def _case(row: Row, lines: Sequence[tuple[int, bytes]]) -> Row | Rejected:
    case, text, relations = "", "", set()
    for number, line in lines:
        try:
            written = line.decode("utf-8").rstrip("\r\n")
            if number == row.line:
                case, text = _head(written)
            else:
                relations.add(_relation(written, case, text))
        except (UnicodeDecodeError, BadRow) as problem:
            reason = str(problem) if isinstance(problem, BadRow) else "not UTF-8"
            return replace(row, line=number).rejected(reason)
    return replace(row, cells={**row.cells, "text": text, "relations": sorted(map(list, relations))})


def _head(line: str) -> tuple[str, str]:
    """The id of a case and its text."""
    if not (head := _HEAD.fullmatch(line)) or not head[2].strip():
        raise BadRow("not a case")
    return head[1].strip(), head[2]


def _relation(line: str, case: str, text: str) -> Relation:
    """The places in a line `ID TAB REL TAB 10-16 TAB 4-6`, and the mentions after it if they are there."""
    cells = line.split("\t")
    if len(cells) < 4 or (cells[0].strip(), cells[1].strip()) != (case, "REL"):
        raise BadRow("not a relation of this case")
    result, test = (_span(text, cell) for cell in cells[2:4])
    for span, mention in zip((result, test), cells[4:6], strict=False):
        if mention.strip() and mention.split() != text[slice(*span)].split():
            raise BadRow("a mention is not at its place")
    return (*result, *test)


def _span(text: str, written: str) -> Span:
    """A place in the text, without spaces at its edges, which no answer could tell."""
    place = _PLACE.fullmatch(written)
    start, end = (int(place[1]), int(place[2])) if place else (0, 0)
    words = text[start:end]
    if end > len(text) or not words.strip():
        raise BadRow("no mention at the given place")
    start += len(words) - len(words.lstrip())
    return start, start + len(words.strip())


TASK = Task(
    name="clinkart",
    folder="clinkart",
    description="Which results in an Italian clinical case belong to which laboratory tests and measurements.",
    licence="CC-BY-NC-4.0",
    where_to_get="download the training and the annotated test data of https://e3c.fbk.eu/clinkart, and keep "
    "training.txt and test.txt",
    train=(("training.txt", "Clinkart_training_data/training.txt"),),
    test=(("test.txt", "Clinkart_test_data/test.txt"),),
    text=("text",),
    rows=cases,
    example=example,
    encode=encode,
    decode=decode,
    score=score,
    metrics={"f1": True},
    max_new_tokens=512,
)
