"""Prompt formats; the first is sound."""

from __future__ import annotations

import random

from langadapt import PromptFormat, Segment

EOS = Segment(special="eos", loss=True)


def render(messages, system_prompt, *, heading="Q", context=True, system=True, answer=True, end=(EOS,), question=False):
    yield Segment(special="bos")
    said = next((m.content for m in messages if m.role == "system"), system_prompt)
    if system and said:
        yield Segment(text=f"{said}\n")
    for message in messages:
        if message.role == "user":
            material = f"\n{message.context}" if context else ""
            yield Segment(text=f"{heading}: {message.content}{material}\nA: ", loss=question)
        elif message.role == "assistant":
            yield Segment(text=message.content, loss=answer)
            yield from end


def with_fault(name, render):
    return PromptFormat(name=name, description="A format.", render=render)


def options(**fields):
    return lambda messages, system_prompt: render(messages, system_prompt, **fields)


def looks_ahead(messages, system_prompt):
    whole = messages[-1].role == "assistant"
    return render(messages, system_prompt, heading="Question" if whole else "Q")


def one_turn(messages, system_prompt):
    question, answer = messages
    return render([question, answer], system_prompt)


def half(messages, system_prompt):
    for segment in render(messages, system_prompt):
        middle = len(segment.text) // 2
        if segment.loss and segment.text:
            yield Segment(text=segment.text[:middle])
            yield Segment(text=segment.text[middle:], loss=True)
        else:
            yield segment


def both(messages, system_prompt):
    yield from render(messages, system_prompt)
    yield Segment(text="end", special="eos")


FORMATS = (
    with_fault("sound-format", render),
    with_fault("gives-text", lambda messages, system_prompt: [m.content for m in messages]),
    with_fault("pads", lambda messages, system_prompt: [*render(messages, system_prompt), Segment(special="pad")]),
    with_fault("text-and-special", both),
    with_fault("varies", lambda messages, system_prompt: [Segment(text=str(random.random()))]),
    with_fault("looks-ahead", looks_ahead),
    with_fault("one-turn", one_turn),
    with_fault("loses-context", options(context=False)),
    with_fault("loses-system", options(system=False)),
    with_fault("learns-questions", options(question=True)),
    with_fault("learns-no-answers", options(answer=False)),
    with_fault("learns-half", half),
    with_fault("never-ends", options(end=())),
    with_fault("end-not-learnt", options(end=(Segment(special="eos"),))),
)
