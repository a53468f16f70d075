"""How a conversation is put to a model, and what ends an answer: as it was tuned, or as its tokenizer says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langadapt.errors import UserError
from langadapt.named_models import NamedModel
from langadapt.plugins import Registry
from langadapt.prompts.rendering import encode
from langadapt.records import Message, PromptFormat
from langadapt.stages.trained import prompt_ingredient

TEMPLATE, PLAIN = "template", "plain"  # what stands for no format of ours


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How messages become the tokens that a model is asked to continue.

    Attributes:
        name: of the prompt format, or `template`, or `plain`.
        why: what it is, in words.
        encode: messages that end with the user's, and a system prompt or "", in; token ids out.
        end: text that ends an answer beside the tokenizer's end token; "" for none.
    """

    name: str
    why: str
    encode: Callable[[Sequence[Message], str], list[int]]
    end: str = ""


def framing(named: NamedModel, tokenizer: Any, known: Registry, *, prompt: str = "") -> Framing:
    """The prompt format that a model was tuned with, else its tokenizer's chat template, else none.

    Args:
        named: the model.
        tokenizer: its tokenizer.
        known: where formats are looked up.
        prompt: another format instead, or `template` or `plain`.

    Raises:
        UserError: no plugin offers the format, or the tokenizer has no template.
    """
    if prompt == TEMPLATE and not tokenizer.chat_template:
        raise UserError(
            f"{named.name}: its tokenizer has no chat template; name another format with --prompt, or plain"
        )
    chosen = prompt or named.prompt or (TEMPLATE if tokenizer.chat_template else PLAIN)
    if chosen == TEMPLATE:
        return Framing(name=TEMPLATE, why="its tokenizer's chat template", encode=_by_template(named.name, tokenizer))
    if chosen == PLAIN:
        return Framing(name=PLAIN, why="none: it continues the text", encode=_as_text(tokenizer))
    return _by_format(
        named, offered(named.name, chosen, known, otherwise=", or choose another with --prompt"), tokenizer, known
    )


def offered(model: str, name: str, known: Registry, *, otherwise: str = "") -> PromptFormat:
    """The prompt format of a name.

    Args:
        model: whose format it is, for the message.
        name: of the format.
        known: where it is looked up.
        otherwise: what else can be done when it is missing.

    Raises:
        UserError: no plugin offers it.
    """
    if name not in known.prompts:
        raise UserError(
            f'{model}: no plugin offers the prompt format "{name}"; install the plugin{otherwise}; '
            f"{known.prompts.missing(name)}"
        )
    format: PromptFormat = known.prompts[name]
    return format


def _by_format(named: NamedModel, format: PromptFormat, tokenizer: Any, known: Registry) -> Framing:
    tuned = format.name == named.prompt
    system_prompt = named.system_prompt if tuned else ""

    def encoded(messages: Sequence[Message], system: str) -> list[int]:
        return encode(format, messages, tokenizer, system or system_prompt).ids.tolist()  # type: ignore[no-any-return]

    why = f"{format.name}, which it was tuned with" if tuned else format.name
    if tuned and named.rendering != prompt_ingredient(format.name, known):
        why = f"{format.name}, which has changed since the model was tuned with it"
    return Framing(name=format.name, why=why, encode=encoded, end=end_of_answer(format))


def end_of_answer(format: PromptFormat) -> str:
    """The text that a format has a model learn to write after an answer; "" where that is the end token alone."""
    dialogue = [Message(role="user", content="u"), Message(role="assistant", content="answer")]
    learnt = "".join(s.text for s in format.render(dialogue, format.system_prompt) if s.loss and not s.special)
    return learnt.rpartition("answer")[2].strip()


def endings(framing: Framing, tokenizer: Any, generation_config: Any) -> tuple[list[int], list[str]]:
    """What ends an answer: tokens, and texts that do where these are several tokens.

    Args:
        framing: how the model is asked.
        tokenizer: its tokenizer.
        generation_config: its own, which may know further end tokens.
    """
    own = generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    marks = tokenizer(framing.end, add_special_tokens=False)["input_ids"] if framing.end else []
    return sorted(ends | set(marks[:1] if len(marks) == 1 else [])), [framing.end] if len(marks) > 1 else []


def _by_template(name: str, tokenizer: Any) -> Callable[[Sequence[Message], str], list[int]]:
    from jinja2 import TemplateError

    def encoded(messages: Sequence[Message], system: str) -> list[int]:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        before = [{"role": "system", "content": system}] if system else []
        try:
            text = tokenizer.apply_chat_template([*before, *turns], tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise UserError(
                f"{name}: its chat template refuses the conversation ({error}); name another format with --prompt"
            ) from None
        return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    return encoded


def _as_text(tokenizer: Any) -> Callable[[Sequence[Message], str], list[int]]:
    """What was said, line by line; nothing tells such a model who said it."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def encoded(messages: Sequence[Message], system: str) -> list[int]:
        text = "\n".join(filter(None, [system, *(m.content for m in messages)]))
        return [*start, *tokenizer(text, add_special_tokens=False)["input_ids"]]

    return encoded
