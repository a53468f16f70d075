"""The prompt format of a model as a template of text, learnt by rendering dialogues and looking where their words went.

A prompt format is a function, and a tokenizer's chat template is a program; Ollama wants a template in the language of Go.
What most have in common is a frame: fixed text before, between and after the messages. A frame is learnt from four
dialogues and believed only if it gives, for others of every kind, exactly what the format gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langadapt.records import Message, PromptFormat

Render = Callable[[Sequence[Message]], str]

_SYSTEM, _USER, _ANSWER, _AGAIN = "Kalix", "Borund", "Mirvet", "Tesolk"  # words that no format has in its frame
_TURNS = 4  # exchanges of the longest dialogue that a frame is tried on


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
        system = next((m.content for m in messages if m.role == "system"), None)
        text = self.opening if self.system is None or system is None else f"{self.system[0]}{system}{self.system[1]}"
        turns = [m for m in messages if m.role != "system"]
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


def of_format(format: PromptFormat, tokenizer: Any, system_prompt: str = "") -> Render:
    """Renders by a prompt format, with the names of the tokenizer's special tokens for them."""
    special = {"bos": tokenizer.bos_token or "", "eos": tokenizer.eos_token or "", "": ""}

    def render(messages: Sequence[Message]) -> str:
        segments = format.render(messages, system_prompt or format.system_prompt)
        return "".join(special[segment.special] + segment.text for segment in segments)

    return render


def of_tokenizer(tokenizer: Any) -> Render:
    """Renders by the tokenizer's own chat template."""

    def render(messages: Sequence[Message]) -> str:
        said = [{"role": m.role, "content": m.content} for m in messages]
        asks = messages[-1].role == "user"
        return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=asks))

    return render


def learn(render: Render) -> Frame | None:
    """The frame of a format, or None where there is none that gives what it gives."""
    system, user, answer, again = (
        Message(role=role, content=word)  # type: ignore[arg-type]
        for role, word in (("system", _SYSTEM), ("user", _USER), ("assistant", _ANSWER), ("user", _AGAIN))
    )
    try:
        opening, _, gap = render([user]).partition(_USER)
        lead, _, end = render([user, answer]).removeprefix(f"{opening}{_USER}{gap}").partition(_ANSWER)
        longer = render([user, answer, again]).removeprefix(f"{opening}{_USER}{gap}{lead}{_ANSWER}{end}")
        frame = Frame(opening=opening, system=None, answer=gap, lead=lead, end=end, again=longer.partition(_AGAIN)[0])
    except Exception:  # a chat template is somebody's program, and raises what it likes
        return None
    frame = replace(frame, system=_around_system(render, [system, user]))
    return frame if all(_agrees(frame, render, dialogue) for dialogue in _dialogues(frame)) else None


def _around_system(render: Render, messages: Sequence[Message]) -> tuple[str, str] | None:
    try:
        before, found, rest = render(messages).partition(_SYSTEM)
    except Exception:  # as some templates do when they meet a system message
        return None
    return (before, rest.partition(_USER)[0]) if found else None


def _dialogues(frame: Frame) -> Iterator[list[Message]]:
    """Dialogues of every length, ending with a question or an answer, with and without a system message."""
    for with_system in (False, True) if frame.system else (False,):
        turns = [Message(role="system", content="Be brief.\nBe kind.")] if with_system else []
        for number in range(_TURNS):
            turns = [*turns, Message(role="user", content=f"Question {number}?\n\n- one\n- two")]
            yield turns
            turns = [*turns, Message(role="assistant", content=f"Answer {number}: 'yes'.")]
            yield turns


def _agrees(frame: Frame, render: Render, dialogue: Sequence[Message]) -> bool:
    try:
        return frame.render(dialogue) == render(dialogue)
    except Exception:
        return False


# --- written out ------------------------------------------------------------------------------------------------------


def jinja(frame: Frame) -> str:
    """The frame as a chat template of transformers and llama.cpp."""
    before, after = map(_jinja, frame.system or ("", ""))
    opening, answer, lead, end, again = map(_jinja, (frame.opening, frame.answer, frame.lead, frame.end, frame.again))
    second = f"{before}{{{{ messages[0]['content'] }}}}{after}" if frame.system else opening
    return (
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        f"{{% if loop.first %}}{opening}"
        f"{{% elif loop.index0 == 1 and messages[0]['role'] == 'system' %}}{second}"
        f"{{% else %}}{again}{{% endif %}}"
        f"{{{{ message['content'] }}}}{answer}"
        "{% elif message['role'] == 'assistant' %}"
        f"{lead}{{{{ message['content'] }}}}{end}"
        "{% endif %}{% endfor %}"
    )


def _jinja(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"{{{{ '{quoted}' }}}}" if text else ""


def go(frame: Frame) -> str:
    """The frame as a template of Ollama's (Go's `text/template`, https://docs.ollama.com/template)."""
    before, after = map(_go, frame.system or ("", ""))
    opening, answer, lead, end, again = map(_go, (frame.opening, frame.answer, frame.lead, frame.end, frame.again))
    second = f"{before}{{{{ $.System }}}}{after}" if frame.system else opening
    return (
        '{{ range $i, $message := .Messages }}{{ if eq $message.Role "user" }}'
        f"{{{{ if eq $i 0 }}}}{opening}"
        f"{{{{ else if and (eq $i 1) $.System }}}}{second}"
        f"{{{{ else }}}}{again}{{{{ end }}}}"
        f"{{{{ $message.Content }}}}{answer}"
        '{{ else if eq $message.Role "assistant" }}'
        f"{lead}{{{{ $message.Content }}}}{end}"
        "{{ end }}{{ end }}"
    )


def _go(text: str) -> str:
    """Text as it stands in the template; the two marks that Go would read are said as a string."""
    return text.replace("{{", '{{ "{{" }}')
