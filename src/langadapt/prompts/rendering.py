"""Tokenises a rendered prompt so that exactly the tokens of the answers, and the end after them, bear loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langadapt.corpus.packing import Pair, Sequence_
from langadapt.records import Document, Message, PromptFormat, Segment


def encode(format: PromptFormat, messages: Sequence[Message], tokenizer: Any, system_prompt: str = "") -> Sequence_:
    """Token ids of a dialogue and which of them are learnt.

    Text between two special tokens is tokenised in one piece, because a tokenizer may merge across a border between
    segments; a token is learnt when any character of it belongs to an answer.

    Args:
        format: the prompt format.
        messages: a dialogue; ends with the user's message when it is a prompt to be continued.
        tokenizer: a fast tokenizer of transformers.
        system_prompt: instead of the format's own; a system message among `messages` comes before both.
    """
    ids: list[int] = []
    learn: list[bool] = []
    for run in _runs(format.render(messages, system_prompt or format.system_prompt)):
        if run[0].special:
            token = tokenizer.bos_token_id if run[0].special == "bos" else tokenizer.eos_token_id
            if token is not None:
                ids.append(token)
                learn.append(run[0].loss)
            continue
        encoded = tokenizer("".join(s.text for s in run), add_special_tokens=False, return_offsets_mapping=True)
        loss = [s.loss for s in run for _ in s.text]
        ids += encoded["input_ids"]
        learn += [any(loss[start:end]) for start, end in encoded["offset_mapping"]]
    return Sequence_(ids, learn)


def encode_pair(format: PromptFormat, document: Document, tokenizer: Any, system_prompt: str = "") -> Pair:
    """Both answers of a preference, each with the prompt before it; only the last answer is learnt.

    Args:
        format: the prompt format.
        document: a dialogue with its `rejected` answer; without one, that side of the pair is empty.
        tokenizer: as above.
        system_prompt: as above.
    """
    *prompt, chosen = document.messages
    last = [chosen, Message(role="assistant", content=document.rejected)]
    sides = [encode(format, [*prompt, answer], tokenizer, system_prompt).last_answer() for answer in last]
    return Pair(sides[0], sides[1] if document.rejected else Sequence_((), ()))


def _runs(segments: Iterable[Segment]) -> Iterable[list[Segment]]:
    """Segments grouped into single special tokens and stretches of text."""
    run: list[Segment] = []
    for segment in segments:
        if segment.special:
            if run:
                yield run
            run = []
            yield [segment]
        elif segment.text:
            run.append(segment)
    if run:
        yield run
