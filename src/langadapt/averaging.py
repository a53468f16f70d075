"""An exponential moving average of the weights that learn (Polyak and Juditsky 1992; Tarvainen and Valpola 2017,
arXiv 1703.01780), which is measured and saved in their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

FILE = "average.safetensors"


class Average(TrainerCallback):  # type: ignore[misc]
    """Keeps the average beside the model, one more copy of what learns, and takes it up from a checkpoint.

    Args:
        model: what is trained.
        decay: how much of the average stays at a step; of early steps at most (1 + step) / (10 + step), so that a short
            training does not end with its own beginning.
    """

    def __init__(self, model: Any, decay: float):
        self.decay = decay
        self.learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = {name: p.detach().clone() for name, p in self.learning.items()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step:
            self.load(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        with torch.no_grad():
            for name, parameter in self.learning.items():
                self.weights[name].lerp_(parameter, 1 - decay)

    def save(self, checkpoint: Path) -> None:
        """Adds the average to a checkpoint."""
        save_file({name: value.contiguous() for name, value in self.weights.items()}, checkpoint / FILE)

    def load(self, checkpoint: Path) -> None:
        """Takes the average from a checkpoint."""
        for name, value in load_file(checkpoint / FILE).items():
            self.weights[name].copy_(value)

    def swap(self) -> None:
        """Puts the average into the model and what was there into its place; a second call undoes that."""
        for name, parameter in self.learning.items():
            parameter.data, self.weights[name] = self.weights[name], parameter.data

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While open, the model is the average."""
        self.swap()
        try:
            yield
        finally:
            self.swap()
