"""Asks a model the items of a task and takes down what it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from langadapt.prompts.rendering import encode
from langadapt.records import Answer, Evaluation, Item, PromptFormat

BATCH = 8


@torch.no_grad()
def ask(
    model: Any,
    tokenizer: Any,
    evaluation: Evaluation,
    items: Sequence[Item],
    format: PromptFormat,
    advance: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Greedy answers to all items, in order; prompts of like length share a batch.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        evaluation: for its decoder and the room for an answer.
        items: the questions.
        format: how a question is put.
        advance: told how many items are done.
    """
    prompts = [encode(format, item.messages, tokenizer).ids.tolist() for item in items]
    order = sorted(range(len(items)), key=lambda i: len(prompts[i]))
    written: dict[int, tuple[str, bool]] = {}
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        written.update(zip(batch, _generate(model, tokenizer, [prompts[i] for i in batch], evaluation), strict=True))
        advance(len(written))
    decode = evaluation.decode or (lambda text: text)
    return [
        Answer(item=item, text=text, prediction=decode(text), finished=finished)
        for item, (text, finished) in ((item, written[i]) for i, item in enumerate(items))
    ]


def _generate(model: Any, tokenizer: Any, prompts: list[list[int]], evaluation: Evaluation) -> list[tuple[str, bool]]:
    """Texts, and whether each was ended: by the end token or, where one line is asked for, by its end."""
    width = max(map(len, prompts))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    rows = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=evaluation.max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        pad_token_id=pad,
        eos_token_id=tokenizer.eos_token_id,
        stopping_criteria=StoppingCriteriaList([_FirstLine(tokenizer, width)] if evaluation.one_line else []),
    )
    texts = tokenizer.batch_decode(rows[:, width:], skip_special_tokens=True)
    ended = (rows[:, width:] == tokenizer.eos_token_id).any(1).tolist()
    return [
        (text.strip(), end or (evaluation.one_line and _has_line(text))) for text, end in zip(texts, ended, strict=True)
    ]


def _has_line(text: str) -> bool:
    """Whether a line that is not empty has come to its end."""
    return "\n" in text.lstrip()


class _FirstLine(StoppingCriteria):  # type: ignore[misc]
    """Ends an answer after its first line that is not empty."""

    def __init__(self, tokenizer: Any, width: int):
        self.tokenizer, self.width = tokenizer, width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.width :], skip_special_tokens=True)
        return torch.tensor([_has_line(text) for text in texts], device=input_ids.device)
