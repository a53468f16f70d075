"""Asks a model how likely each choice of an item is.

A prompt and a choice are tokenised in one piece, because a tokenizer may merge across the border between them. What counts
for a choice is every token from the first on that any choice of the item is part of, or from an earlier one where the
tokens of the prompt differ already. So all are likelihoods behind the very same tokens, and can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from langadapt.corpus.encoding import Encoder
from langadapt.corpus.packing import IGNORE, Sequence_
from langadapt.errors import UserError
from langadapt.evaluation.bits_per_byte import score_ids, start_of
from langadapt.loss import answer_log_probs
from langadapt.models import WINDOW
from langadapt.prompts.rendering import encode_all
from langadapt.records import Item, Message, PromptFormat, Segment


def encode_choices(item: Item, tokenizer: Any, format: PromptFormat | None) -> list[Sequence_]:
    """Each choice behind what comes before it, and which of the tokens its likelihood is made of.

    Args:
        item: what is asked, with its choices, none of them empty.
        tokenizer: a tokenizer of transformers.
        format: how a question is put; None for a running text, which stands behind BOS.

    Raises:
        UserError: the format changes answers.
    """
    answered = [(*item.messages, Message(role="assistant", content=choice)) for choice in item.choices]
    if format is None:
        start = Sequence_.of([start_of(tokenizer)], [False])
        texts = encode_all(_RUNNING, answered, tokenizer, Encoder(tokenizer))
        return _comparable([_joined(start, text) for text in texts])
    open_ended = replace(format, render=lambda messages, system: _open_ended(format, messages, system))
    return _comparable(encode_all(open_ended, answered, tokenizer, Encoder(tokenizer)))


def _open_ended(format: PromptFormat, messages: Sequence[Message], system_prompt: str) -> Iterator[Segment]:
    """A dialogue that ends with the last character of its last answer, without the mark that ends an answer."""
    segments = list(format.render(messages, system_prompt))
    answer = messages[-1].content
    places = [place for place, segment in enumerate(segments) if segment.loss and answer in segment.text]
    if not places:
        raise UserError(
            f"prompt format {format.name}: no learnt segment has the answer as it is, so its likelihood cannot be told; "
            "let the format render answers unchanged"
        )
    last = places[-1]
    yield from segments[:last]
    text = segments[last].text
    yield replace(segments[last], text=text[: text.rindex(answer) + len(answer)])


def _running(messages: Sequence[Message], system_prompt: str) -> Iterable[Segment]:
    return [Segment(text=m.content, loss=m.role == "assistant") for m in messages]


_RUNNING = PromptFormat(name="", description="Running text.", render=_running)


def _joined(start: Sequence_, text: Sequence_) -> Sequence_:
    return Sequence_(np.concatenate([start.ids, text.ids]), np.concatenate([start.learn, text.learn]))


def _comparable(choices: list[Sequence_]) -> list[Sequence_]:
    """The same tokens; those count that stand behind what all choices have in common before the first of them begins."""
    begins = min(int(np.argmax(c.learn)) for c in choices)
    heads = np.stack([c.ids[:begins] for c in choices])
    differ = np.flatnonzero((heads != heads[0]).any(0))
    shared = int(differ[0]) if len(differ) else begins
    return [Sequence_(c.ids, np.arange(c.size) >= shared) for c in choices]


@torch.no_grad()
def log_likelihoods(
    model: Any, sequences: Sequence[Sequence_], advance: Callable[[int], None] = lambda done: None
) -> list[float]:
    """Sum of log p over the tokens that count, in nats, of each sequence in order.

    Sequences of like length go through the model together, as many as the window of a text that is scored holds; a longer
    one goes through by windows.

    Args:
        model: a causal language model in evaluation mode.
        sequences: as `encode_choices` gives them; the first token of each is the context of the second.
        advance: told how many are done.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].size)
    found: dict[int, float] = {}
    with answer_log_probs(model):
        for batch in _batches([i for i in order if sequences[i].size <= WINDOW + 1], sequences):
            found.update(zip(batch, _batch(model, [sequences[i] for i in batch]), strict=True))
            advance(len(found))
    for i in order[len(found) :]:
        found[i] = _long(model, sequences[i])
        advance(len(found))
    return [found[i] for i in range(len(sequences))]


def _batches(order: Sequence[int], sequences: Sequence[Sequence_]) -> Iterator[list[int]]:
    """Places in an order from short to long, so many together that they fit into the window, padding included."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * sequences[i].size > WINDOW:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _batch(model: Any, sequences: Sequence[Sequence_]) -> list[float]:
    width = max(s.size for s in sequences) - 1
    inputs, labels = np.zeros((len(sequences), width), np.int64), np.full((len(sequences), width), IGNORE)
    for row, s in enumerate(sequences):
        inputs[row, : s.size - 1] = s.ids[:-1]
        labels[row, : s.size - 1] = np.where(s.learn[1:], s.ids[1:].astype(np.int64), IGNORE)
    given, wanted = (torch.from_numpy(a).to(model.device) for a in (inputs, labels))
    log_probs = model(input_ids=given, labels=wanted)["log_probs"]
    return [float(total) for total in log_probs.double().sum(1)]


def _long(model: Any, sequence: Sequence_) -> float:
    first, *rest = sequence.ids.tolist()
    losses = score_ids(model, rest, first)
    return -math.fsum(loss for loss, counts in zip(losses, sequence.learn[1:], strict=True) if counts)
