"""Evaluations: their questions, and what they make of right, wrong and strange answers."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from langadapt.likelihood import METRICS, score_choices, score_parity, score_stereotypes
from langadapt.records import Answer, Document, Evaluation, Item
from langadapt.tags import tag_fault
from langadapt.testing.conformance import NotChecked, Subject, check
from langadapt.testing.texts import HARD, quoted, sample

MOST = 200  # items that answers are made for
ROUNDING = 1e-9  # differences of metrics that are none
_LIKELY, _UNLIKELY = -1.0, -50.0  # nats
_BY_ITSELF = (score_parity, score_stereotypes)  # which know no right answer


@check(Evaluation, right='a BCP-47 tag: language="eu"')
def evaluation_language(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """Its language is a BCP-47 tag."""
    if problem := tag_fault(evaluation.language):
        yield problem


@check(Evaluation, right='corpus="eu-quiz", which a plugin offers')
def evaluation_corpus(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """The corpus that it reads exists."""
    if evaluation.corpus not in subject.known.corpora:
        yield f'no plugin offers the corpus "{evaluation.corpus}"; {subject.known.corpora.missing(evaluation.corpus)}'


@check(Evaluation, right='suites=("basque",): recipes ask for evaluations by it')
def evaluation_suites(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """A recipe gets it without naming it: it is in a suite, or a language names it in its suites."""
    named = {name for language in subject.known.languages.values() for name in language.suites}
    if not any(suite.strip() for suite in evaluation.suites) and evaluation.name not in named:
        yield "it is in no suite"


@check(Evaluation, right="generate: items, score, metrics, perhaps decode; choose: items; bits_per_byte: none of them")
def evaluation_method(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """It has the functions that its method needs, and no others."""
    needed = {"generate": ("items", "score", "metrics"), "choose": ("items",), "bits_per_byte": ()}
    unused = {"generate": ("bare",), "choose": ("decode",), "bits_per_byte": ("items", "decode", "score")}
    if evaluation.method not in needed:
        yield f'there is no method "{evaluation.method}"'
        return
    for field in needed[evaluation.method]:
        if not getattr(evaluation, field):
            yield f"{evaluation.method} needs {field}"
    for field in unused[evaluation.method]:
        if getattr(evaluation, field):
            yield f"{evaluation.method} does not use {field}"
    if evaluation.score and not evaluation.metrics:
        yield "score gives metrics that metrics does not name"
    if evaluation.method == "generate" and evaluation.max_new_tokens < 1:
        yield f"max_new_tokens is {evaluation.max_new_tokens}"


@check(Evaluation, right="a Rejected with a reason for a row that is no question; here every row of the sample is one")
def evaluation_items(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """Every row of the sample becomes a question."""
    found = _read(evaluation, subject)
    if not found:
        yield "there is no item in the sample"
    for item in found:
        if not isinstance(item, Item):
            reason = getattr(item, "reason", f"a {type(item).__name__} is no Item")
            yield f"{getattr(item, 'where', '?')}: {reason}"


@check(Evaluation, right='id=f"{file.name}:{number}": comparisons pair items of two models by it')
def evaluation_ids(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """Ids of items are unique, and the same at a second reading."""
    ids = [item.id for item in _items(evaluation, subject)]
    yield from (f'{count} items have the id "{id}"' for id, count in Counter(ids).items() if count > 1)
    if ids != [item.id for item in _again(evaluation, subject) if isinstance(item, Item)]:
        yield "a second reading gives other ids"


@check(Evaluation, right="messages end with a Message(role='user'); () only where bare sentences are compared")
def evaluation_messages(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """What is asked ends with the user's message, which is not empty."""
    for item in _items(evaluation, subject):
        if not item.messages:
            if not evaluation.bare:
                yield f"{item.id} asks nothing"
        elif not evaluation.bare and item.messages[-1].role != "user":
            yield f"{item.id} ends with what the {item.messages[-1].role} says"
        elif not item.messages[-1].content.strip():
            yield f"{item.id} has an empty question"


@check(
    Evaluation, right='choices=("bai", "ez"), gold=0: two or more, none empty, no two alike, gold is a place among them'
)
def evaluation_choices(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """Items to choose from have two choices or more, and `gold` is the place of one."""
    if evaluation.method != "choose":
        return
    for item in _items(evaluation, subject):
        if len(item.choices) < 2:
            yield f"{item.id} has {len(item.choices)} choices"
        elif not all(isinstance(choice, str) and choice.strip() for choice in item.choices):
            yield f"{item.id} has an empty choice"
        elif len(set(item.choices)) < len(item.choices):
            yield f"{item.id} has the same choice twice"
        elif not isinstance(item.gold, int) or isinstance(item.gold, bool) or not 0 <= item.gold < len(item.choices):
            yield f"{item.id} has {len(item.choices)} choices and gold = {item.gold!r}"


@check(Evaluation, right="text, numbers, lists and tables of them: items are kept as JSON and read again")
def evaluation_gold_is_json(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """`gold` comes back from JSON as it was."""
    for item in _items(evaluation, subject):
        if not _survives(item.gold):
            yield f"{item.id}: {item.gold!r} is not the same after it was written as JSON"


@check(
    Evaluation,
    right="decode takes the text that the corpus teaches, or gold where that is text, and gives what score calls right",
)
def evaluation_gold_is_decoded(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """A model that writes the right answer is understood: it gives a prediction, and `gold` where both are of one type."""
    if evaluation.decode is None:
        return
    for item, text in _written(evaluation, subject):
        found = _read_as(evaluation, text)
        if found is None or (type(found) is type(item.gold) and _plain(found) != _plain(item.gold)):
            yield f"{item.id}: the right answer is {quoted(text)}, gold is {item.gold!r}, and decode gives {found!r}"


@check(Evaluation, right="decode never raises, and gives None where there is no answer in the text")
def evaluation_decodes_any_text(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """`decode` takes whatever a model wrote, and gives a JSON value or None."""
    if evaluation.decode is None:
        return
    for what, text in HARD.items():
        try:
            found = evaluation.decode(text)
        except Exception as error:  # which is what the check is about
            yield f"decode raises {type(error).__name__} on {what}"
            continue
        if not _survives(found):
            yield f"decode gives {found!r} on {what}, which is no JSON value"


@check(
    Evaluation,
    right='score(answers) gives {"accuracy": 0.5}: a number for every name in metrics, of any non-empty list',
)
def evaluation_scores_any_answers(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """`score` takes any non-empty list, answers that could not be decoded included, and gives the metrics it names."""
    if evaluation.score is None:
        return
    right, wrong = _answers(evaluation, subject)
    nothing = [replace(answer, text="", prediction=None if evaluation.decode else "") for answer in right]
    if evaluation.method == "choose":
        nothing = []
    tried = {"one answer": right[:1], "one wrong answer": wrong[:1], "right answers": right, "wrong answers": wrong}
    tried |= {"an answer that cannot be read": nothing[:1], "answers that cannot be read": nothing}
    for what, answers in ((what, answers) for what, answers in tried.items() if answers):
        try:
            found = evaluation.score(answers)
        except Exception as error:  # which is what the check is about
            yield f"score raises {type(error).__name__}: {error}, on {what}"
            continue
        if set(found) != set(evaluation.metrics):
            yield f"score gives {', '.join(found) or 'nothing'}, metrics names {', '.join(evaluation.metrics)}"
        for metric, value in found.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                yield f"{metric} is {value!r} on {what}"
        if repr(again := evaluation.score([_kept(answer) for answer in answers])) != repr(found):
            yield f"score gives {found} on {what}, and {again} when they were kept as JSON and read again"


@check(Evaluation, right='metrics={"accuracy": True} where more is better, {"error": False} where less is')
def evaluation_right_answers_score_best(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """Right answers score no worse than wrong ones in any metric, by its direction, and better in one."""
    if evaluation.method == "bits_per_byte" or evaluation.score in _BY_ITSELF:
        return
    score = evaluation.score or score_choices
    directions: Mapping[str, bool | None] = evaluation.metrics or METRICS
    right, wrong = (score(answers) for answers in _answers(evaluation, subject))
    better = 0
    for metric, higher in directions.items():
        if higher is None or metric not in right or metric not in wrong:
            continue
        if math.isnan(right[metric]):
            yield f"{metric} of right answers is not a number"
            continue
        gain = (right[metric] - wrong[metric]) * (1 if higher else -1)
        better += gain > ROUNDING or math.isnan(wrong[metric])
        if gain < -ROUNDING:
            told = f"{right[metric]:g} for right answers and {wrong[metric]:g} for wrong ones"
            yield f"{metric} is {told}, and {'more' if higher else 'less'} is better"
    if not better:
        yield "no metric is better for right answers than for wrong ones"


@check(Evaluation, right='signatures=lambda: {"bleu": "BLEU|nrefs:1|…"} for metrics that it names')
def evaluation_signatures(evaluation: Evaluation, subject: Subject) -> Iterator[str]:
    """Signatures are of its metrics."""
    for name in (evaluation.signatures or dict)():
        if name not in evaluation.metrics:
            yield f'there is a signature of "{name}", which is none of its metrics'


def _read(evaluation: Evaluation, subject: Subject) -> list[Any]:
    return subject.once(("items", evaluation.name), lambda: _again(evaluation, subject))


def _again(evaluation: Evaluation, subject: Subject) -> list[Any]:
    if evaluation.items is None:
        raise NotChecked("it asks nothing")
    if evaluation.corpus not in subject.known.corpora:
        raise NotChecked(f'there is no corpus "{evaluation.corpus}"')
    path = subject.known.corpora[evaluation.corpus].sample
    if path is None or not path.exists():
        raise NotChecked(f'the corpus "{evaluation.corpus}" has no sample')
    return list(evaluation.items(path))


def _items(evaluation: Evaluation, subject: Subject) -> list[Item]:
    found = [item for item in _read(evaluation, subject) if isinstance(item, Item)]
    if not found:
        raise NotChecked("it has no items")
    return found


def _written(evaluation: Evaluation, subject: Subject) -> list[tuple[Item, str]]:
    """Items with the text of their right answer: that of the corpus, or `gold` where that is text.

    Raises:
        NotChecked: no item has one.
    """
    learnt = subject.once(("answers", evaluation.corpus), lambda: _learnt(evaluation, subject))
    found = []
    for item in _items(evaluation, subject)[:MOST]:
        asked = item.messages[-1] if item.messages else None
        text = learnt.get((asked.content, asked.context)) if asked else None
        if text is None and isinstance(item.gold, str):
            text = item.gold
        if text is not None:
            found.append((item, text))
    if not found:
        raise NotChecked("gold is no text, and no document of the corpus has the question with its answer")
    return found


def _learnt(evaluation: Evaluation, subject: Subject) -> dict[tuple[str, str], str]:
    """By question and material, the answer that the corpus teaches."""
    dialogues = [
        d.messages for d in sample(subject.known.corpora[evaluation.corpus], subject) if isinstance(d, Document)
    ]
    return {
        (asked.content, asked.context): answer.content
        for messages in dialogues
        for asked, answer in pairwise(messages)
        if asked.role == "user" and answer.role == "assistant"
    }


def _answers(evaluation: Evaluation, subject: Subject) -> tuple[Sequence[Answer], Sequence[Answer]]:
    """Right answers to the items, and wrong ones: the right ones of others."""
    if evaluation.method == "choose":
        items = [
            i
            for i in _items(evaluation, subject)[:MOST]
            if isinstance(i.gold, int) and 0 <= i.gold < len(i.choices) > 1
        ]
        if not items:
            raise NotChecked("it has no items with choices")
        return [_chosen(i, i.gold) for i in items], [_chosen(i, (i.gold + 1) % len(i.choices)) for i in items]
    written = _written(evaluation, subject)
    right = [_answer(evaluation, item, text) for item, text in written]
    wrong = [_answer(evaluation, item, _other(item, number, written)) for number, (item, _) in enumerate(written)]
    return right, wrong


def _other(item: Item, number: int, written: Sequence[tuple[Item, str]]) -> str:
    """The next text that is the right answer to something else; "" where there is none."""
    behind = (*written[number + 1 :], *written[:number])
    return next((text for other, text in behind if _plain(other.gold) != _plain(item.gold)), "")


def _answer(evaluation: Evaluation, item: Item, text: str) -> Answer:
    return Answer(item=item, text=text, prediction=_read_as(evaluation, text))


def _read_as(evaluation: Evaluation, text: str) -> Any:
    """What a text that a model writes is taken for; it stops at the end of the line where answers are lines."""
    said = text.split("\n", 1)[0] if evaluation.one_line else text
    return evaluation.decode(said) if evaluation.decode else said


def _chosen(item: Item, place: int) -> Answer:
    scores = tuple(_LIKELY if number == place else _UNLIKELY for number in range(len(item.choices)))
    return Answer(item=item, text=item.choices[place], prediction=place, logprobs=scores)


def _kept(answer: Answer) -> Answer:
    """An answer as it is read from where items are kept."""
    gold, prediction = json.loads(json.dumps([answer.item.gold, answer.prediction]))
    return replace(answer, item=replace(answer.item, gold=gold, messages=()), prediction=prediction)


def _survives(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == _plain(value))
    except (TypeError, ValueError):
        return False


def _plain(value: Any) -> Any:
    """With lists in the place of tuples, which JSON does not tell apart."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value
