"""Watches a training from inside its process, whichever program runs it: trl's command line, LLaMA-Factory, our own.

Python imports a module of this name at its start when the folder is on PYTHONPATH. Every `transformers.Trainer` then
gets a callback, and counts the labels of its batches; a loop without a Trainer calls the same four methods itself.
`WATCH` says, as JSON, where to write (`file`), where the bytes of each token are listed (`sizes`), and after how many
seconds of training to stop (`seconds`).
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import sys
import time
from typing import Any


class Watch:
    """The tokens that counted and their bytes of text by the end of every step, with its time."""

    def __init__(self, *, file: str, sizes: str, seconds: float):
        self.file, self.sizes, self.seconds = file, sizes, seconds

    def begin(self) -> None:
        import torch

        with open(self.sizes) as listed:
            self.size = torch.tensor(json.load(listed))
        self.tokens = self.bytes = 0
        self.steps: list[tuple[float, int, int]] = []
        self.began = time.monotonic()

    def batch(self, targets: Any) -> None:
        """Counts the tokens that are predicted; -100 stands where none is."""
        ids = targets[targets != -100].cpu()
        self.tokens += ids.numel()
        self.bytes += int(self.size[ids].sum())

    def step(self) -> bool:
        """Whether the time is up."""
        self._wait()
        now = time.monotonic()
        self.steps.append((now, self.tokens, self.bytes))
        return now - self.began >= self.seconds

    def _wait(self) -> None:
        """What a GPU was given to do is done when its time is taken."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def end(self) -> None:
        import torch

        gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
        with open(self.file, "w") as file:
            json.dump({"began": self.began, "steps": self.steps, "gpu": gpu}, file)


def watch_trainer(module: Any) -> None:
    """Has every Trainer of `transformers.trainer` watched."""
    watch = Watch(**json.loads(os.environ["WATCH"]))
    plain = module.Trainer.training_step

    def training_step(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        # Labels are those of the same places, and the model shifts them, unless they are there shifted already.
        watch.batch(inputs["shift_labels"] if "shift_labels" in inputs else inputs["labels"][..., 1:])
        return plain(self, model, inputs, *args, **options)

    class Watched(module.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if watch.step():
                control.should_training_stop = True

        def on_train_end(self, *_: Any, **__: Any) -> None:
            watch.end()

    module.Trainer.training_step = training_step
    module.DEFAULT_CALLBACKS.append(Watched)


class Finder(importlib.abc.MetaPathFinder):
    """Finds `transformers.trainer` as ever, and has it watched when it is loaded; importing it here would cost seconds."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "transformers.trainer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader
        plain = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            plain(module)
            watch_trainer(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "WATCH" in os.environ:
    sys.meta_path.insert(0, Finder())
