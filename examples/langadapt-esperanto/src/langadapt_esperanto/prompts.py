"""The prompt format: headings in Esperanto, loss on the answers and on the end token after each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from langadapt import Message, PromptFormat, Segment


def render(messages: Sequence[Message], system_prompt: str) -> Iterable[Segment]:
    """One heading for the task, one for the text that it refers to, one for the answer."""
    yield Segment(special="bos")
    system = next((m.content for m in messages if m.role == "system"), system_prompt)
    if system:
        yield Segment(text=f"{system}\n\n")
    for message in messages:
        if message.role == "user":
            material = f"\n\n### Teksto:\n{message.context}" if message.context else ""
            yield Segment(text=f"### Tasko:\n{message.content}{material}\n\n### Respondo:\n")
        elif message.role == "assistant":
            yield Segment(text=message.content, loss=True)
            yield Segment(special="eos", loss=True)


TASK = PromptFormat(name="tasko-eo", description="Instructions with Esperanto headings.", render=render)
