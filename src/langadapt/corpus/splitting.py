"""Dialogues that are longer than a row, cut between exchanges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from langadapt.records import Message

Messages = tuple[Message, ...]


def exchanges(messages: Sequence[Message]) -> tuple[Messages, list[Messages]]:
    """The system messages that a dialogue opens with, and its exchanges: what is asked, up to the end of the answer."""
    opening = 0
    while opening < len(messages) and messages[opening].role == "system":
        opening += 1
    found: list[list[Message]] = []
    before = ""
    for message in messages[opening:]:
        if not found or (message.role != "assistant" and before == "assistant"):
            found.append([])
        found[-1].append(message)
        before = message.role
    return tuple(messages[:opening]), [tuple(exchange) for exchange in found]


def split(messages: Sequence[Message], fits: Callable[[Messages], bool]) -> Iterator[Messages]:
    """Consecutive exchanges that fit, as many together as do, each part behind the system messages.

    An exchange that does not fit by itself is a part of its own; whoever packs the parts drops it. A later part lacks
    what was said before it.

    Args:
        messages: a dialogue.
        fits: whether a part is short enough.
    """
    opening, rest = exchanges(messages)
    part: Messages = ()
    for exchange in rest:
        if part and not fits((*opening, *part, *exchange)):
            yield (*opening, *part)
            part = ()
        part += exchange
    if part:
        yield (*opening, *part)


def last(messages: Sequence[Message], fits: Callable[[Messages], bool]) -> Messages:
    """The last exchanges that fit, at least one of them, behind the system messages."""
    opening, rest = exchanges(messages)
    first = max(0, len(rest) - 1)
    while first and fits((*opening, *(message for exchange in rest[first - 1 :] for message in exchange))):
        first -= 1
    return (*opening, *(message for exchange in rest[first:] for message in exchange))
