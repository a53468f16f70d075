"""How long measures will take, from how fast the model reads and writes on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from langadapt.evaluation.bits_per_byte import score_ids, start_of
from langadapt.evaluation.generating import BATCH
from langadapt.evaluation.methods import Subject, Work
from langadapt.models import WINDOW

READ, WRITTEN = WINDOW // 2, 8  # tokens that are read, and written by each row of a batch, to see how long it takes


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Tokens a second."""

    read: float
    written: float

    def seconds(self, works: Iterable[Work]) -> float:
        """What measures take that know what they read and write."""
        return math.fsum(work.read / self.read + work.written / self.written for work in works)


def pace(subject: Subject) -> Pace:
    """Lets the model read and write a little, and looks at the clock; what it warms up with is not counted."""
    token = start_of(subject.tokenizer)
    prompts = torch.full((BATCH, WRITTEN), token, device=subject.model.device)
    options = {"do_sample": False, "pad_token_id": token, "attention_mask": torch.ones_like(prompts)}

    def write(count: int) -> None:
        subject.model.generate(prompts, max_new_tokens=count, min_new_tokens=count, **options)

    read = _seconds(lambda count: score_ids(subject.model, [token] * count, token), READ)
    return Pace(read=READ / read, written=BATCH * WRITTEN / _seconds(write, WRITTEN))


def _seconds(act: Callable[[int], object], count: int) -> float:
    act(2)
    started = time.perf_counter()
    act(count)
    return max(time.perf_counter() - started, 1e-9)
