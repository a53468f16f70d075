"""Prompt formats as chat templates in Jinja, for servers and runtimes that know no others.

A format is code, so its template is found out by asking it: dialogues of marks are rendered, and what stands around the
marks becomes the template. Whether that is all there is to the format is then tried on dialogues of every shape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langadapt.errors import UserError
from langadapt.prompts.rendering import encode
from langadapt.records import Message, PromptFormat

_SYSTEM, _FIRST, _ANSWER, _LATER = (
    f"\N{SYMBOL FOR UNIT SEPARATOR}{name}" for name in ("SYSTEM", "FIRST", "ANSWER", "LATER")
)
_FIELD = {_SYSTEM: "system", _FIRST: "message['content']", _ANSWER: "message['content']", _LATER: "message['content']"}
_TEMPLATE = """\
{{%- if messages and messages[0]['role'] == 'system' and messages[0]['content'] -%}}
{{%- set system = messages[0]['content'] -%}}
{{%- else -%}}
{{%- set system = '' -%}}
{{%- endif -%}}
{{%- for message in messages if message['role'] != 'system' -%}}
{{%- if message['role'] == 'assistant' -%}}
{{{{- {answer} -}}}}
{{%- elif not loop.first -%}}
{{{{- {later} -}}}}
{{%- elif system -%}}
{{{{- {first_with_system} -}}}}
{{%- else -%}}
{{{{- {first} -}}}}
{{%- endif -%}}
{{%- endfor -%}}
"""


def chat_template(format: PromptFormat, tokenizer: Any, system_prompt: str = "") -> str:
    """A chat template that gives the tokens that a prompt format gives.

    A system message at the beginning takes the place of the system prompt.

    Args:
        format: the prompt format.
        tokenizer: for the texts of its special tokens.
        system_prompt: in place of the format's own.

    Raises:
        UserError: no template of this kind gives the same tokens.
    """
    default = system_prompt or format.system_prompt
    user, answer, again = _turn("user", _FIRST), _turn("assistant", _ANSWER), _turn("user", _LATER)

    def rendered(messages: Sequence[Message], system: str = default) -> str:
        special = {"bos": tokenizer.bos_token or "", "eos": tokenizer.eos_token or ""}
        return "".join(special[s.special] if s.special else s.text for s in format.render(messages, system))

    first, answered, asked = rendered([user]), rendered([user, answer]), rendered([user, answer, again])
    template = _TEMPLATE.format(
        first=_expression(first),
        first_with_system=_expression(rendered([user], _SYSTEM)),
        answer=_expression(answered.removeprefix(first)),
        later=_expression(asked.removeprefix(answered)),
    )
    for system in ("", "Rispondi."):
        for dialogue in _dialogues():
            if (
                _tokens(template, dialogue, tokenizer, system)
                != encode(format, dialogue, tokenizer, system or system_prompt).ids.tolist()
            ):
                raise UserError(f"the prompt format {format.name} cannot be written as a chat template")
    return template


def _turn(role: str, content: str) -> Message:
    return Message(role=role, content=content)  # type: ignore[arg-type]


def _expression(text: str) -> str:
    """Text with marks as a Jinja expression."""
    parts = re.split("|".join(map(re.escape, _FIELD)), text)
    marks = re.findall("|".join(map(re.escape, _FIELD)), text)
    fields = [_FIELD[mark] for mark in marks]
    pieces = [
        piece for part, field in zip(parts, [*fields, ""], strict=True) for piece in (part and ascii(part), field)
    ]
    return " + ".join(filter(None, pieces)) or "''"


def _dialogues() -> list[list[Message]]:
    """Prompts of one, two and three exchanges, with text that a tokenizer might join with what stands around it."""
    said = ["Che ora è?", "Le tre.\n", " E a Roma?", "Anche.", "Grazie\n\n"]
    turns = [_turn("user" if number % 2 == 0 else "assistant", text) for number, text in enumerate(said)]
    return [turns[:1], turns[:3], turns]


def _tokens(template: str, messages: Sequence[Message], tokenizer: Any, system: str) -> list[int]:
    before = [{"role": "system", "content": system}] if system else []
    text = tokenizer.apply_chat_template(
        [*before, *({"role": m.role, "content": m.content} for m in messages)], chat_template=template, tokenize=False
    )
    return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]
