"""Prompt formats as chat templates, for servers and runtimes that know no others, learnt by rendering dialogues.

A prompt format is a function, and a tokenizer's chat template is a program; servers want a template in Jinja, Ollama one in
the language of Go. What most have in common is a frame: fixed text before, between and after the messages. A frame is
learnt from four dialogues and believed only if it gives, for others of every kind, exactly what the format gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langadapt.errors import UserError
from langadapt.prompts.rendering import encode
from langadapt.records import Message, PromptFormat

Render = Callable[[Sequence[Message]], str]

_SYSTEM, _USER, _ANSWER, _AGAIN = "Kalix", "Borund", "Mirvet", "Tesolk"  # words that no format has in its frame
_INSTRUCTION = "Be brief.\nBe kind."
_SAID = ("Is it late?\n\n- yes\n- no", "Answer: 'no'.", "Why {{ not }}?", "A < b.", "And now?", "3.", "So?\n\n*", "So.")
_RAGGED = (
    "Is it late?",
    "No.\n",
    ' And "now"?',
    "  3 {{ o'clock }}",
    "Thanks\n\n",
)  # may be joined with what is around


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The fixed text around messages.

    Attributes:
        opening: before the first message of the user.
        system: before and after a system message that comes first, up to the user's; None where the format takes none.
        answer: behind the user's message, where a prompt ends.
        lead: between that and the answer, which the model writes itself.
        end: after an answer.
        again: after that, before a further message of the user.
    """

    opening: str
    system: tuple[str, str] | None
    answer: str
    lead: str
    end: str
    again: str

    def render(self, messages: Sequence[Message]) -> str:
        """A dialogue in the frame; one that ends with the user's message is a prompt to be continued."""
        system, turns = _apart(messages)
        text = f"{self.system[0]}{system}{self.system[1]}" if self.system and system else self.opening
        for place, message in enumerate(turns):
            if message.role == "user":
                text += f"{self.again if place else ''}{message.content}{self.answer}"
            else:
                text += f"{self.lead}{message.content}{self.end}"
        return text

    def stop(self, marks: Sequence[str]) -> str:
        """What ends an answer: the first of the tokenizer's special tokens behind it, else all that stands there."""
        places = {self.end.find(mark): mark for mark in marks if mark and mark in self.end}
        return places[min(places)] if places else self.end.strip()

    def edited(self, change: Callable[[str], str]) -> Frame:
        """The frame with every text in it changed."""
        system = (change(self.system[0]), change(self.system[1])) if self.system else None
        return replace(
            self,
            opening=change(self.opening),
            system=system,
            answer=change(self.answer),
            lead=change(self.lead),
            end=change(self.end),
            again=change(self.again),
        )

    def jinja(self) -> str:
        """The frame as a chat template of transformers and llama.cpp; a system message that is empty counts as none."""
        before, after = map(_jinja, self.system or ("", ""))
        opening, answer, lead, end, again = map(_jinja, (self.opening, self.answer, self.lead, self.end, self.again))
        instructed = f"{before}{{{{ messages[0]['content'] }}}}{after}"
        second = f"{{% if messages[0]['content'] %}}{instructed}{{% else %}}{opening}{{% endif %}}"
        return (
            "{% for message in messages %}{% if message['role'] == 'user' %}"
            f"{{% if loop.first %}}{opening}"
            f"{{% elif loop.index0 == 1 and messages[0]['role'] == 'system' %}}{second if self.system else opening}"
            f"{{% else %}}{again}{{% endif %}}"
            f"{{{{ message['content'] }}}}{answer}"
            "{% elif message['role'] == 'assistant' %}"
            f"{lead}{{{{ message['content'] }}}}{end}"
            "{% endif %}{% endfor %}"
        )


def _jinja(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"{{{{ '{quoted}' }}}}" if text else ""


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
    frame = learn(of_format(format, tokenizer, system_prompt))
    template = frame.jinja() if frame else ""
    for system in ("", _INSTRUCTION):
        for prompt in list(_dialogues(_RAGGED, system))[::2]:
            ids = encode(format, _apart(prompt)[1], tokenizer, system or system_prompt).ids.tolist()
            if not frame or ids != _tokens(template, prompt, tokenizer):
                raise UserError(
                    f'the prompt format "{format.name}" cannot be written as a chat template; name another with --prompt'
                )
    return template


def _tokens(template: str, messages: Sequence[Message], tokenizer: Any) -> list[int]:
    text = tokenizer.apply_chat_template(_plain(messages), chat_template=template, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]


def of_format(format: PromptFormat, tokenizer: Any, system_prompt: str = "") -> Render:
    """Renders by a prompt format, with the names of the tokenizer's special tokens for them.

    A system message takes the place of the system prompt.
    """
    special = {"bos": tokenizer.bos_token or "", "eos": tokenizer.eos_token or "", "": ""}

    def render(messages: Sequence[Message]) -> str:
        system, turns = _apart(messages)
        segments = format.render(turns, system or system_prompt or format.system_prompt)
        return "".join(special[segment.special] + segment.text for segment in segments)

    return render


def of_tokenizer(tokenizer: Any) -> Render:
    """Renders by the tokenizer's own chat template."""

    def render(messages: Sequence[Message]) -> str:
        asks = messages[-1].role == "user"
        return str(tokenizer.apply_chat_template(_plain(messages), tokenize=False, add_generation_prompt=asks))

    return render


def learn(render: Render) -> Frame | None:
    """The frame of a format, or None where there is none that gives what it gives."""
    system, user, answer, again = (
        _message("system", _SYSTEM),
        _message("user", _USER),
        _message("assistant", _ANSWER),
        _message("user", _AGAIN),
    )
    try:
        opening, _, gap = render([user]).partition(_USER)
        lead, _, end = render([user, answer]).removeprefix(f"{opening}{_USER}{gap}").partition(_ANSWER)
        longer = render([user, answer, again]).removeprefix(f"{opening}{_USER}{gap}{lead}{_ANSWER}{end}")
        frame = Frame(opening=opening, system=None, answer=gap, lead=lead, end=end, again=longer.partition(_AGAIN)[0])
    except Exception:  # a chat template is somebody's program, and raises what it likes
        return None
    frame = replace(frame, system=_around_system(render, [system, user]))
    tried = [dialogue for text in ("", _INSTRUCTION)[: 1 + bool(frame.system)] for dialogue in _dialogues(_SAID, text)]
    return frame if all(_agrees(frame, render, dialogue) for dialogue in tried) else None


def _around_system(render: Render, messages: Sequence[Message]) -> tuple[str, str] | None:
    try:
        before, found, rest = render(messages).partition(_SYSTEM)
    except Exception:  # as some templates do when they meet a system message
        return None
    return (before, rest.partition(_USER)[0]) if found else None


def _agrees(frame: Frame, render: Render, dialogue: Sequence[Message]) -> bool:
    try:
        return frame.render(dialogue) == render(dialogue)
    except Exception:
        return False


# --- dialogues --------------------------------------------------------------------------------------------------------


def _dialogues(said: Sequence[str], system: str) -> Iterator[list[Message]]:
    """Every beginning of a dialogue: it ends with a question or with an answer."""
    turns = [_message("system", system)] if system else []
    for place, text in enumerate(said):
        turns = [*turns, _message("assistant" if place % 2 else "user", text)]
        yield turns


def _message(role: Literal["system", "user", "assistant"], content: str) -> Message:
    return Message(role=role, content=content)


def _apart(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """The system message's text, "" where there is none, and all other messages."""
    system = next((m.content for m in messages if m.role == "system"), "")
    return system, [m for m in messages if m.role != "system"]


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as chat templates take them."""
    return [{"role": m.role, "content": m.content} for m in messages]
