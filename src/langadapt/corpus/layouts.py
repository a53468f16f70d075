"""How a row of a data set becomes a document: one function per published layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from langadapt.records import Document, Message

Row = Mapping[str, Any]
Names = Mapping[str, "str | Names"]


class BadRow(ValueError):
    """The row does not have the layout; the message is the reason it is counted under."""


def text(row: Row, id: str) -> Document:
    """`{"text": …}`: running text."""
    return Document(id=id, text=_string(row, "text"), origin=origin(row))


def oscar(row: Row, id: str) -> Document:
    """`{"content", "warc_headers", "metadata"}` (OSCAR 22.01 and later); earlier versions have a `text`."""
    return Document(id=id, text=_string(row, "content"), origin=origin(row))


def messages(row: Row, id: str) -> Document:
    """`{"messages": [{"role": …, "content": …}]}`: OpenAI's and trl's chat layout."""
    turns = _list(row, "messages")
    return _dialogue(row, id, [(_string(t, "role"), _string(t, "content")) for t in turns])


def sharegpt(row: Row, id: str) -> Document:
    """`{"conversations": [{"from": "human", "value": …}]}`, or one of its variants.

    The column may be called `conversation`, a turn may be `{"role", "content"}`, and it may be a whole exchange
    `{"human": …, "assistant": …}`. Whatever a speaker is called, it is the user, the assistant or the system.
    """
    key = "conversation" if row.get("conversations") is None and "conversation" in row else "conversations"
    turns: list[tuple[str, str]] = []
    for turn in _list(row, key):
        if isinstance(turn, Mapping) and "human" in turn and "assistant" in turn:
            turns += [("user", _string(turn, "human")), ("assistant", _string(turn, "assistant"))]
        elif isinstance(turn, Mapping) and "from" not in turn and "role" in turn:
            turns.append((_string(turn, "role"), _string(turn, "content")))
        else:
            turns.append((_string(turn, "from"), _string(turn, "value")))
    return _dialogue(row, id, [(_SPEAKERS.get(who.lower(), who), content) for who, content in turns])


_SPEAKERS = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model", "chatbot"), "assistant"),
    "system": "system",
}


def ultrachat(row: Row, id: str) -> Document:
    """`{"id": …, "data": [user, assistant, user, …]}`, texts, the user's first (stingning/ultrachat)."""
    turns = _list(row, "data")
    if any(not isinstance(turn, str) for turn in turns):
        raise BadRow("a turn is not text")
    return _dialogue(row, id, [("user" if i % 2 == 0 else "assistant", turn) for i, turn in enumerate(turns)])


def dolly(row: Row, id: str) -> Document:
    """`{"instruction", "context", "response"}` (databricks-dolly-15k); the context is what the instruction refers to."""
    return _instruction(row, id, _string(row, "instruction"), _optional(row, "context"), _string(row, "response"))


def alpaca(row: Row, id: str) -> Document:
    """`{"instruction", "input", "output"}` (Stanford Alpaca); the input is what the instruction refers to."""
    return _instruction(row, id, _string(row, "instruction"), _optional(row, "input"), _string(row, "output"))


def preference(row: Row, id: str) -> Document:
    """`{"prompt", "chosen", "rejected"}`, each a text or a list of messages; trl's explicit and implicit prompts.

    With an implicit prompt, `chosen` and `rejected` are whole dialogues that differ in their last message. A column
    `prompt` beside such dialogues (UltraFeedback and its kin have one) repeats their first question, and is not read.
    """
    chosen, rejected = _turns(row, "chosen"), _turns(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise BadRow("chosen and rejected do not share their prompt")
    whole = len(chosen) > 1 and chosen[0][0] != "assistant"
    prompt = chosen[:-1] if whole else [*_asked(row), *chosen[:-1]]
    if chosen[-1][1].strip() == rejected[-1][1].strip():
        raise BadRow("chosen and rejected are the same")
    if not rejected[-1][1].strip():
        raise BadRow("empty turn")
    return _judged(row, id, [*prompt, ("assistant", chosen[-1][1])], rejected[-1][1])


def unpaired(row: Row, id: str) -> Document:
    """`{"prompt", "completion", "label"}`, the first two each a text or a list of messages: trl's unpaired preference.

    The label says whether the answer was liked: true or false, also as 1 or 0 and as text.
    """
    *before, (_, answer) = _turns(row, "completion")
    if not answer.strip():
        raise BadRow("empty turn")
    prompt = [*_asked(row), *before]
    if _truth(row, "label"):
        return _judged(row, id, [*prompt, ("assistant", answer)], "")
    return _judged(row, id, prompt, answer)


def document(row: Row, id: str) -> Document:
    """What langadapt's own stages write; taken only when it is asked for by name.

    `{"id", "text"}` or `{"id", "messages": [{"role", "content", "context"}], "rejected"}`, perhaps with an `origin`.
    """
    own = _optional(row, "id") or id
    known = row.get("origin")
    kept = {k: v for k, v in known.items() if isinstance(v, str)} if isinstance(known, Mapping) else {}
    if row.get("messages") is None:
        return Document(id=own, text=_string(row, "text"), origin=kept)
    turns = _list(row, "messages")
    rejected = _optional(row, "rejected")
    made = _judged(row, own, [(_string(t, "role"), _string(t, "content")) for t in turns], rejected)
    contexts = [_optional(t, "context") for t in turns]
    messages = tuple(replace(m, context=c) for m, c in zip(made.messages, contexts, strict=False))
    return replace(made, messages=messages, origin=kept)


LAYOUTS: dict[str, Callable[[Row, str], Document]] = {
    "text": text, "oscar": oscar, "messages": messages, "sharegpt": sharegpt, "ultrachat": ultrachat, "dolly": dolly,
    "alpaca": alpaca, "preference": preference, "unpaired": unpaired, "document": document,
}  # fmt: skip

COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("text",), "oscar": ("content", "warc_headers"), "messages": ("messages",),
    "sharegpt": ("conversations",), "ultrachat": ("data",), "dolly": ("instruction", "response"),
    "alpaca": ("instruction", "output"), "preference": ("chosen", "rejected"),
    "unpaired": ("prompt", "completion", "label"), "document": ("id",),
}  # fmt: skip

_INSTEAD = {"conversations": "conversation"}  # what a needed column is also called


def lacking(layout: str, columns: Iterable[str]) -> list[str]:
    """Columns that the layout needs and that are not there under any name."""
    have = set(columns)
    return [column for column in COLUMNS[layout] if not have & {column, _INSTEAD.get(column, column)}]


def recognise(columns: Iterable[str]) -> str:
    """The layout whose columns are all there; "" when none fits. Running text comes last: some sets of instructions
    repeat the whole prompt in a column `text`."""
    have = set(columns)
    names = sorted((n for n in COLUMNS if n != "document"), key=lambda name: (name == "text", name != "preference"))
    return next((name for name in names if not lacking(name, have)), "")


# What data sets call that which is known of a row, nested as in the row.
_WARC: Names = {"warc-record-id": "id", "warc-target-uri": "url"}
_META: Names = {
    "url": "url", "license": "licence", "licence": "licence", "dump": "revision", "warc_headers": _WARC,
    "headers": _WARC, "identification": {"label": "language"},
}  # fmt: skip
_COLUMNS_OF_ORIGIN: Names = {
    "id": "id", "url": "url", "language": "language", "lang": "language", "license": "licence", "licence": "licence",
    "dump": "revision", "revision": "revision", "warc_headers": _WARC, "metadata": _META, "meta": _META,
    "origin": {kind: kind for kind in ("id", "url", "language", "licence", "revision")},  # of our own writing
}  # fmt: skip


def origin(row: Row) -> dict[str, str]:
    """What a row says of where its text is from: `id`, `url`, `language`, `licence`, `revision`, as far as it does.

    Follows the cards of OSCAR, FineWeb and FineWeb-2, CulturaX, mC4, Wikipedia and RedPajama. What is no text, or
    empty, is left out; nothing here is a reason to refuse a row.
    """
    known: dict[str, str] = {}
    _gather(row, _COLUMNS_OF_ORIGIN, known)
    return known


def _gather(row: Row, names: Names, known: dict[str, str]) -> None:
    for column, value in row.items():
        name = names.get(column)
        if name is None or not value:
            continue
        if isinstance(name, str):
            if isinstance(value, str):
                known.setdefault(name, value)
        elif isinstance(value, Mapping):
            _gather(value, name, known)


def as_row(document: Document) -> dict[str, Any]:
    """A document as the layout `document` reads it back."""
    about: dict[str, Any] = {"id": document.id}
    if document.messages:
        about["messages"] = [
            {"role": m.role, "content": m.content} | ({"context": m.context} if m.context else {})
            for m in document.messages
        ]
    else:
        about["text"] = document.text
    about |= {"rejected": document.rejected} if document.rejected else {}
    return about | ({"origin": dict(document.origin)} if document.origin else {})


def _turns(row: Row, key: str) -> list[tuple[str, str]]:
    """A text is one turn of the assistant; a list is its messages."""
    if isinstance(row.get(key), str):
        return [("assistant", row[key])]
    turns = _list(row, key)
    if not turns or any(not isinstance(turn, Mapping) for turn in turns):
        raise BadRow(f"{key} is no list of messages")
    return [(_string(t, "role"), _string(t, "content")) for t in turns]


def _asked(row: Row) -> list[tuple[str, str]]:
    if row.get("prompt") is None:
        raise BadRow("no prompt")
    return [("user", row["prompt"])] if isinstance(row["prompt"], str) else _turns(row, "prompt")


def _judged(row: Row, id: str, turns: list[tuple[str, str]], rejected: str) -> Document:
    """A dialogue beside whose last answer, or in whose place when it ends with a question, stands a rejected one."""
    if rejected and turns and turns[-1][0] == "user":
        made = _dialogue(row, id, [*turns, ("assistant", rejected)])
        return replace(made, messages=made.messages[:-1], rejected=rejected)
    return replace(_dialogue(row, id, turns), rejected=rejected)


def _dialogue(row: Row, id: str, turns: list[tuple[str, str]]) -> Document:
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
    messages = tuple(Message(role=r, content=c) for r, c in turns)  # type: ignore[arg-type]
    return Document(id=id, messages=messages, origin=origin(row))


def _instruction(row: Row, id: str, instruction: str, context: str, response: str) -> Document:
    if not instruction.strip() or not response.strip():
        raise BadRow("empty instruction or answer")
    asked = Message(role="user", content=instruction, context=context)
    return Document(id=id, messages=(asked, Message(role="assistant", content=response)), origin=origin(row))


def _string(row: Row, key: str) -> str:
    value = row.get(key) if isinstance(row, Mapping) else None
    if value is None:
        raise BadRow(f"no {key}")
    if not isinstance(value, str):
        raise BadRow(f"{key} is not text")
    return value


def _truth(row: Row, key: str) -> bool:
    value = row.get(key)
    if value is None:
        raise BadRow(f"no {key}")
    found = _TRUTHS.get(str(value).strip().lower())
    if found is None:
        raise BadRow(f"{key} is neither true nor false")
    return found


_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def _optional(row: Row, key: str) -> str:
    return "" if row.get(key) is None else _string(row, key)


def _list(row: Row, key: str) -> list[Any]:
    value = row.get(key)
    if isinstance(value, str) and value[:1] == "[":  # Parquet files hold lists as JSON at times
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRow(f"{key} is not a list") from None
    if not isinstance(value, list):
        raise BadRow(f"no {key}" if value is None else f"{key} is not a list")
    return value
