"""Prompt formats of the LLaMAntino models; the framing is the model cards', the Italian sentences are ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from langadapt import Message, PromptFormat, Segment

WITH_INPUT = "Leggi l'istruzione e il testo che la accompagna, poi scrivi una risposta che soddisfi la richiesta."
WITHOUT_INPUT = "Leggi l'istruzione e scrivi una risposta che soddisfi la richiesta."

SYSTEM = (
    "Sei un assistente che parla italiano. Rispondi con garbo e in modo utile, onesto e prudente. "
    "Non scrivere nulla che possa fare del male a qualcuno. Quando una domanda non ha senso, spiega perché; "
    "quando non sai una cosa, dillo senza inventare."
)
# The same for a model that is to keep to one manner of address.
SYSTEM_TU = f"{SYSTEM} Dai sempre del tu a chi ti scrive, anche se ti dà del lei."
SYSTEM_LEI = f"{SYSTEM} Dai sempre del lei a chi ti scrive, anche se ti dà del tu."


def alpaca(messages: Sequence[Message], system_prompt: str) -> Iterable[Segment]:
    """Stanford Alpaca's frame with Italian headings; an instruction with or without a text that it refers to.

    A later turn of a dialogue repeats the headings without the opening sentence.
    """
    yield Segment(special="bos")
    system = next((m.content for m in messages if m.role == "system"), system_prompt)
    opening = True
    for message in messages:
        if message.role == "user":
            sentence = WITH_INPUT if message.context else WITHOUT_INPUT
            start = f"{system or sentence}\n\n" if opening else "\n\n"
            given = f"\n\n### Input:\n{message.context}" if message.context else ""
            yield Segment(text=f"{start}### Istruzione:\n{message.content}{given}\n\n### Risposta:\n")
            opening = False
        elif message.role == "assistant":
            yield Segment(text=message.content, loss=True)
            yield Segment(special="eos", loss=True)


def llamantino_chat(messages: Sequence[Message], system_prompt: str, *, opening: str = " [INST]") -> Iterable[Segment]:
    """Llama 2's chat frame as the UltraChat models use it: no space between `[INST]` and `<<SYS>>`.

    Only the card of the 70B model has one: its `opening` is " [INST] ".
    """
    system = next((m.content for m in messages if m.role == "system"), system_prompt)
    first = True
    for message in messages:
        content = f"{message.content}\n\n{message.context}" if message.context else message.content
        if message.role == "user":
            yield Segment(special="bos")
            instructions = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if first and system else ""
            yield Segment(text=f"{opening}{instructions}{content}[/INST]")
            first = False
        elif message.role == "assistant":
            yield Segment(text=f" {content} ", loss=True)
            yield Segment(special="eos", loss=True)


def llama3(messages: Sequence[Message], system_prompt: str) -> Iterable[Segment]:
    """Llama 3's chat frame: a header for each role, its text, `<|eot_id|>`, which is learnt after an answer.

    The marks are single tokens of Llama 3's tokenizer, which knows them in running text; another tokenizer spells them
    out, which is longer and works too.
    """
    if system_prompt and not any(m.role == "system" for m in messages):
        messages = [Message(role="system", content=system_prompt), *messages]
    yield Segment(special="bos")
    for message in messages:
        content = f"{message.content}\n\n{message.context}" if message.context else message.content
        yield Segment(text=f"<|start_header_id|>{message.role}<|end_header_id|>\n\n")
        yield Segment(text=f"{content}<|eot_id|>", loss=message.role == "assistant")
    if messages and messages[-1].role == "user":
        yield Segment(text="<|start_header_id|>assistant<|end_header_id|>\n\n")


FORMATS = (
    PromptFormat(name="alpaca-it", description="Instructions with Italian headings.", render=alpaca, version=2),
    PromptFormat(
        name="llamantino-chat",
        description="Dialogues in Llama 2's frame.",
        render=llamantino_chat,
        system_prompt=SYSTEM,
    ),
    PromptFormat(
        name="llamantino-chat-tu",
        description="The same with a system prompt that asks for the familiar tu.",
        render=llamantino_chat,
        system_prompt=SYSTEM_TU,
    ),
    PromptFormat(
        name="llamantino-chat-lei",
        description="The same with a system prompt that asks for the polite Lei.",
        render=llamantino_chat,
        system_prompt=SYSTEM_LEI,
    ),
    PromptFormat(
        name="llamantino-70b-chat",
        description="Dialogues as the card of the 70B model frames them, with a space after [INST].",
        render=partial(llamantino_chat, opening=" [INST] "),
        system_prompt=SYSTEM,
    ),
    PromptFormat(
        name="llama3-it",
        description="Dialogues in Llama 3's frame.",
        render=llama3,
        system_prompt=SYSTEM,
    ),
)
