"""How a row of a data set becomes a document: one function per published layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from langadapt.records import Document, Message

Row = Mapping[str, Any]


class BadRow(ValueError):
    """The row does not have the layout; the message is the reason it is counted under."""


def text(row: Row, id: str) -> Document:
    """`{"text": …}`: running text."""
    return Document(id=id, text=_string(row, "text"))


def messages(row: Row, id: str) -> Document:
    """`{"messages": [{"role": …, "content": …}]}`: OpenAI's and trl's chat layout."""
    turns = _list(row, "messages")
    return _dialogue(id, [(_string(t, "role"), _string(t, "content")) for t in turns])


def sharegpt(row: Row, id: str) -> Document:
    """`{"conversations": [{"from": "human", "value": …}]}`."""
    roles = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
    turns = [(_string(t, "from"), _string(t, "value")) for t in _list(row, "conversations")]
    return _dialogue(id, [(roles.get(who, who), content) for who, content in turns])


def ultrachat(row: Row, id: str) -> Document:
    """`{"id": …, "data": [user, assistant, user, …]}` (stingning/ultrachat)."""
    turns = _list(row, "data")
    if any(not isinstance(turn, str) for turn in turns):
        raise BadRow("a turn is not text")
    return _dialogue(id, [("user" if i % 2 == 0 else "assistant", turn) for i, turn in enumerate(turns)])


def dolly(row: Row, id: str) -> Document:
    """`{"instruction", "context", "response"}` (databricks-dolly-15k)."""
    return _instruction(id, _string(row, "instruction"), _optional(row, "context"), _string(row, "response"))


def alpaca(row: Row, id: str) -> Document:
    """`{"instruction", "input", "output"}` (Stanford Alpaca)."""
    return _instruction(id, _string(row, "instruction"), _optional(row, "input"), _string(row, "output"))


def preference(row: Row, id: str) -> Document:
    """`{"prompt", "chosen", "rejected"}`, each a text or a list of messages; trl's explicit and implicit prompts.

    With an implicit prompt, `chosen` and `rejected` are whole dialogues that differ in their last message. A column
    `prompt` beside such dialogues (UltraFeedback and its kin have one) repeats their first question, and is not read.
    """
    chosen, rejected = _turns(row, "chosen"), _turns(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise BadRow("chosen and rejected do not share their prompt")
    if len(chosen) > 1 and chosen[0][0] != "assistant":
        prompt = chosen[:-1]
    elif row.get("prompt") is None:
        raise BadRow("no prompt")
    else:
        asked = [("user", row["prompt"])] if isinstance(row["prompt"], str) else _turns(row, "prompt")
        prompt = [*asked, *chosen[:-1]]
    if chosen[-1][1].strip() == rejected[-1][1].strip():
        raise BadRow("chosen and rejected are the same")
    if not rejected[-1][1].strip():
        raise BadRow("empty turn")
    made = _dialogue(id, [*prompt, ("assistant", chosen[-1][1])])
    return replace(made, rejected=rejected[-1][1])


def document(row: Row, id: str) -> Document:
    """What langadapt's own stages write: `{"id", "text"}` or `{"id", "messages": [{"role", "content", "context"}],
    "rejected"}`.
    """
    own = _optional(row, "id") or id
    if row.get("messages") is None:
        return Document(id=own, text=_string(row, "text"))
    turns = _list(row, "messages")
    made = _dialogue(own, [(_string(t, "role"), _string(t, "content")) for t in turns])
    contexts = [_optional(t, "context") for t in turns]
    messages = tuple(replace(m, context=c) for m, c in zip(made.messages, contexts, strict=False))
    return replace(made, messages=messages, rejected=_optional(row, "rejected"))


LAYOUTS: dict[str, Callable[[Row, str], Document]] = {
    "text": text, "messages": messages, "sharegpt": sharegpt, "ultrachat": ultrachat, "dolly": dolly, "alpaca": alpaca,
    "preference": preference, "document": document,
}  # fmt: skip

COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("text",), "messages": ("messages",), "sharegpt": ("conversations",), "ultrachat": ("data",),
    "dolly": ("instruction", "response"), "alpaca": ("instruction", "output"), "preference": ("chosen", "rejected"),
    "document": ("id",),
}  # fmt: skip


def recognise(columns: set[str]) -> str:
    """The layout whose columns are all there; "" when none fits. Running text comes last: some sets of instructions
    repeat the whole prompt in a column `text`."""
    names = sorted((n for n in COLUMNS if n != "document"), key=lambda name: (name == "text", name != "preference"))
    return next((name for name in names if columns.issuperset(COLUMNS[name])), "")


def _turns(row: Row, key: str) -> list[tuple[str, str]]:
    """A text is one turn of the assistant; a list is its messages."""
    if isinstance(row.get(key), str):
        return [("assistant", row[key])]
    turns = _list(row, key)
    if not turns or any(not isinstance(turn, Mapping) for turn in turns):
        raise BadRow(f"{key} is no list of messages")
    return [(_string(t, "role"), _string(t, "content")) for t in turns]


def _dialogue(id: str, turns: list[tuple[str, str]]) -> Document:
    if any(role not in ("system", "user", "assistant") for role, _ in turns):
        raise BadRow("unknown role")
    spoken = [role for role, _ in turns if role != "system"]
    if any(role != ("user" if i % 2 == 0 else "assistant") for i, role in enumerate(spoken)):
        raise BadRow("turns do not alternate between user and assistant")
    if len(spoken) < 2:
        raise BadRow("no answer to learn from")
    if len(spoken) % 2:  # an unanswered last question teaches nothing
        turns = turns[: max(i for i, (role, _) in enumerate(turns) if role == "user")]
    if any(not content.strip() for _, content in turns):
        raise BadRow("empty turn")
    return Document(id=id, messages=tuple(Message(role=r, content=c) for r, c in turns))  # type: ignore[arg-type]


def _instruction(id: str, instruction: str, context: str, response: str) -> Document:
    if not instruction.strip() or not response.strip():
        raise BadRow("empty instruction or answer")
    asked = Message(role="user", content=instruction, context=context)
    return Document(id=id, messages=(asked, Message(role="assistant", content=response)))


def _string(row: Row, key: str) -> str:
    value = row.get(key) if isinstance(row, Mapping) else None
    if value is None:
        raise BadRow(f"no {key}")
    if not isinstance(value, str):
        raise BadRow(f"{key} is not text")
    return value


def _optional(row: Row, key: str) -> str:
    return "" if row.get(key) is None else _string(row, key)


def _list(row: Row, key: str) -> list[Any]:
    value = row.get(key)
    if not isinstance(value, list):
        raise BadRow(f"no {key}" if value is None else f"{key} is not a list")
    return value
