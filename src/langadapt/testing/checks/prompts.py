"""Prompt formats: what is learnt of a dialogue, and whether a model is asked as it was trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from langadapt.records import Message, PromptFormat, Segment
from langadapt.testing.conformance import Subject, check
from langadapt.testing.texts import DIALOGUE, HARD, SYSTEM

_SPECIAL = {"bos": "\ue000", "eos": "\ue001"}  # one character each, so that text and special tokens stand in one string
_PLAIN = (replace(DIALOGUE[0], context=""), DIALOGUE[1])
_DIALOGUES = {
    "one question with its answer": _PLAIN,
    "a question with material": DIALOGUE[:2],
    "two questions": DIALOGUE,
    "a dialogue with a system message": (Message(role="system", content=SYSTEM), *DIALOGUE),
}


@dataclass(frozen=True)
class _Rendered:
    """A dialogue as one string, and which of its characters are learnt."""

    text: str
    learnt: Sequence[bool]


@check(PromptFormat, right='yield Segment(text="…"), Segment(special="eos"), never a plain string')
def prompt_segments(format: PromptFormat, subject: Subject) -> Iterator[str]:
    """Any dialogue is rendered into segments of text or of one special token; nothing is raised, nothing changes."""
    hard = {what: (Message(role="user", content=t), Message(role="assistant", content=t)) for what, t in HARD.items()}
    for what, dialogue in {**_DIALOGUES, **hard}.items():
        segments = list(format.render(list(dialogue), ""))
        for segment in segments:
            if not isinstance(segment, Segment):
                yield f"it gives a {type(segment).__name__} on {what}"
            elif segment.text and segment.special:
                yield f"a segment has both a text and a special token on {what}"
            elif segment.special not in ("", *_SPECIAL):
                yield f'"{segment.special}" is no special token on {what}'
        if segments != list(format.render(list(dialogue), "")):
            yield f"it gives something else when it is called again on {what}"


@check(PromptFormat, right="render messages one after the other, and never look at those that come later")
def prompt_prefix(format: PromptFormat, subject: Subject) -> Iterator[str]:
    """The prompt of a question is how the same dialogue with the answer begins, segment by segment."""
    for what, dialogue in _DIALOGUES.items():
        for place, message in enumerate(dialogue):
            if message.role != "assistant":
                continue
            prompt = list(format.render(dialogue[:place], ""))
            whole = list(format.render(dialogue[: place + 1], ""))
            if whole[: len(prompt)] != prompt:
                number = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(whole))
                asked = prompt[number] if number < len(prompt) else None
                trained = whole[number] if number < len(whole) else None
                yield f"segment {number + 1} of {what} is {_said(asked)} when it is asked and {_said(trained)} in training"


@check(PromptFormat, right="every question, its context and every answer, in their order")
def prompt_says_all(format: PromptFormat, subject: Subject) -> Iterator[str]:
    """Every question, its material and every answer stand in what is rendered, in order."""
    for what, dialogue in _DIALOGUES.items():
        rendered, place = _rendered(format, dialogue), 0
        for message in dialogue:
            for part in (message.content, message.context) if message.role != "system" else ():
                found = rendered.text.find(part, 0 if part == message.context else place) if part else place
                if found < 0:
                    yield f'"{part}" is missing, or out of order, in {what}'
                elif part == message.content:
                    place = found


@check(
    PromptFormat,
    right="system = next((m.content for m in messages if m.role == 'system'), system_prompt), and render it",
)
def prompt_system(format: PromptFormat, subject: Subject) -> Iterator[str]:
    """The system prompt is rendered, and a system message of the dialogue in its place."""
    if SYSTEM not in _rendered(format, DIALOGUE, SYSTEM).text:
        yield "the system prompt that a recipe gives is left out"
    own = (Message(role="system", content=SYSTEM), *DIALOGUE)
    if SYSTEM not in _rendered(format, own).text:
        yield "a system message of the dialogue is left out"
    if "What the recipe says." in _rendered(format, own, "What the recipe says.").text:
        yield "the system prompt of the recipe stands there although the dialogue has a system message"


@check(PromptFormat, right="loss=True on the answers, and on nothing that the user says or that frames it")
def prompt_loss(format: PromptFormat, subject: Subject) -> Iterator[str]:
    """Every answer is learnt whole, and nothing of questions, material or system prompt is."""
    for what, dialogue in _DIALOGUES.items():
        rendered = _rendered(format, dialogue, SYSTEM)
        place = 0
        for message in dialogue:
            for part in filter(None, (message.content, message.context)):
                found = rendered.text.find(part, place if message.role == "assistant" else 0)
                learnt = rendered.learnt[found : found + len(part)] if found >= 0 else ()
                if message.role == "assistant" and not all(learnt):
                    yield f'"{part}" is an answer and is not learnt, or only in part, in {what}'
                elif message.role != "assistant" and any(learnt):
                    yield f'"{part}" is what the {message.role} says, and is learnt, in {what}'
        if not any(rendered.learnt):
            yield f"nothing is learnt of {what}"


@check(
    PromptFormat, right='yield Segment(special="eos", loss=True) after each answer: else the model never learns to stop'
)
def prompt_end(format: PromptFormat, subject: Subject) -> Iterator[str]:
    """After each answer an end mark is learnt."""
    for what, dialogue in _DIALOGUES.items():
        rendered = _rendered(format, dialogue)
        place = 0
        for message in dialogue:
            if message.role != "assistant":
                continue
            found = rendered.text.find(message.content, place)
            if found < 0:
                continue  # another check tells
            place = found + len(message.content)
            end = next((i for i in range(place, len(rendered.text)) if not rendered.learnt[i]), len(rendered.text))
            behind = rendered.text[place:end]
            if behind.strip():
                continue
            if rendered.text[end : end + 1] == _SPECIAL["eos"]:
                yield f'the end token after "{message.content}" is there and is not learnt, in {what}'
            else:
                yield f'nothing ends "{message.content}" in {what}'


def _rendered(format: PromptFormat, dialogue: Sequence[Message], system_prompt: str = "") -> _Rendered:
    text, learnt = "", list[bool]()
    for segment in format.render(list(dialogue), system_prompt):
        piece = _SPECIAL.get(segment.special, segment.text)
        text += piece
        learnt += [segment.loss] * len(piece)
    return _Rendered(text, learnt)


def _said(segment: Segment | None) -> str:
    if segment is None:
        return "missing"
    shown = f"<{segment.special}>" if segment.special else repr(segment.text[-40:])
    return f"{shown}{' (learnt)' if segment.loss else ''}"
