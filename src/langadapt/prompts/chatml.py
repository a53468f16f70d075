"""ChatML, the one prompt format of the core, because it belongs to no language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from langadapt.records import Message, PromptFormat, Segment


def render(messages: Sequence[Message], system_prompt: str) -> Iterable[Segment]:
    """OpenAI's ChatML, which belongs to no language: `<|im_start|>role⏎text<|im_end|>⏎`."""
    if system_prompt and not any(m.role == "system" for m in messages):
        messages = [Message(role="system", content=system_prompt), *messages]
    for message in messages:
        answer = message.role == "assistant"
        content = f"{message.content}\n\n{message.context}" if message.context else message.content
        yield Segment(text=f"<|im_start|>{message.role}\n")
        yield Segment(text=f"{content}<|im_end|>", loss=answer)
        yield Segment(text="\n")
    if messages and messages[-1].role == "user":
        yield Segment(text="<|im_start|>assistant\n")


FORMAT = PromptFormat(name="chatml", description="ChatML, for tokenizers that have its two marks.", render=render)
