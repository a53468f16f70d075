"""Tokenises a rendered prompt so that exactly the tokens of the answers, and the end after them, bear loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from langadapt.corpus.encoding import Encoder
from langadapt.corpus.packing import Pair, Sequence_
from langadapt.records import Document, Message, PromptFormat, Segment


def encode(format: PromptFormat, messages: Sequence[Message], tokenizer: Any, system_prompt: str = "") -> Sequence_:
    """Token ids of a dialogue and which of them are learnt; see `encode_all`.

    Args:
        format: the prompt format.
        messages: a dialogue; ends with the user's message when it is a prompt to be continued.
        tokenizer: a tokenizer of transformers that says where its tokens stand.
        system_prompt: instead of the format's own; a system message among `messages` comes before both.
    """
    return encode_all(format, [messages], tokenizer, Encoder(tokenizer), system_prompt)[0]


def encode_all(
    format: PromptFormat,
    dialogues: Sequence[Sequence[Message]],
    tokenizer: Any,
    encoder: Encoder,
    system_prompt: str = "",
) -> list[Sequence_]:
    """Token ids of dialogues and which of them are learnt.

    Text between two special tokens is tokenised in one piece, because a tokenizer may merge across a border between
    segments; a token is learnt when any character of it belongs to an answer.

    Args:
        format: the prompt format.
        dialogues: as of `encode`.
        tokenizer: for its special tokens.
        encoder: the same tokenizer, made ready for bulk.
        system_prompt: as of `encode`.
    """
    runs = [list(_runs(format.render(messages, system_prompt or format.system_prompt))) for messages in dialogues]
    texts = ["".join(s.text for s in run) for dialogue in runs for run in dialogue if not run[0].special]
    placed = iter(encoder.placed(texts))
    special = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    return [_sequence(dialogue, placed, special) for dialogue in runs]


def encode_pair(
    format: PromptFormat, document: Document, tokenizer: Any, system_prompt: str = "", *, kind: type[Pair] = Pair
) -> Pair:
    """Both answers of a preference, each with the prompt before it; see `encode_pairs`."""
    return encode_pairs(format, [document], tokenizer, Encoder(tokenizer), system_prompt, kind=kind)[0]


def encode_pairs(
    format: PromptFormat,
    documents: Sequence[Document],
    tokenizer: Any,
    encoder: Encoder,
    system_prompt: str = "",
    *,
    kind: type[Pair] = Pair,
) -> list[Pair]:
    """Both answers of preferences, each with the prompt before it; only the last answer is learnt.

    Args:
        format: the prompt format.
        documents: dialogues with a `rejected` answer; where one of the two is missing, that side is empty.
        tokenizer: as above.
        encoder: as above.
        system_prompt: as above.
        kind: `Pair`, or `Judged` where an answer can do without the other.
    """
    sides = [side for document in documents for side in _sides(document)]
    encoded = iter(encode_all(format, [side for side in sides if side], tokenizer, encoder, system_prompt))
    answers = [next(encoded).last_answer() if side else Sequence_.of([], []) for side in sides]
    return [kind(chosen, rejected) for chosen, rejected in zip(answers[::2], answers[1::2], strict=True)]


def _sides(document: Document) -> tuple[Sequence[Message], Sequence[Message]]:
    """The dialogue with the answer that was liked, and with the one that was not; nothing for one that is missing."""
    answered = bool(document.messages) and document.messages[-1].role == "assistant"
    prompt = document.messages[:-1] if answered else document.messages
    rejected = Message(role="assistant", content=document.rejected)
    return document.messages if answered else (), (*prompt, rejected) if document.rejected else ()


def _sequence(
    runs: Iterable[list[Segment]], placed: Iterator[tuple[Any, Any]], special: Mapping[str, int | None]
) -> Sequence_:
    """One dialogue out of its runs; takes from `placed` what stands for those of text."""
    ids, learn = [np.empty(0, np.uint32)], [np.empty(0, np.bool_)]
    for run in runs:
        if run[0].special:
            token = special[run[0].special]
            ids.append(np.array([] if token is None else [token], np.uint32))
            learn.append(np.array([] if token is None else [run[0].loss], np.bool_))
        else:
            tokens, places = next(placed)
            learnt = np.repeat([s.loss for s in run], [len(s.text) for s in run])  # character by character
            before = np.concatenate([[0], np.cumsum(learnt)])
            ids.append(tokens)
            learn.append(before[places[:, 1]] > before[places[:, 0]])
    return Sequence_(np.concatenate(ids), np.concatenate(learn))


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
