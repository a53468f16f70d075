"""What a run says while it runs: every event a line of `events.jsonl`, and a person's view of it on the screen.

On a terminal there is one live line with stage, step, tokens, loss and time left; elsewhere plain lines, not too many.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0  # between plain lines of one stage


class EventLog:
    """Events of one run, appended to a file and shown on a console."""

    def __init__(self, path: Path, console: Console):
        self._file = path.open("ab", buffering=0)  # a line in one piece, beside those of other runs of single stages
        self.console = console
        self._stage = ""
        self._progress: Progress | None = None
        self._task: Any = None
        self._spoke = 0.0

    def close(self) -> None:
        """Closes the file; nothing can be written afterwards."""
        self._file.close()

    def event(self, kind: str, **fields: Any) -> None:
        """Writes one line to the file.

        Args:
            kind: what happened, in a word.
            fields: values that JSON knows; anything else is written as text.
        """
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": kind,
            "stage": self._stage,
            **fields,
        }
        self._file.write((json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8"))

    def info(self, message: str) -> None:
        """Something worth a line on the screen: the `message`."""
        self.event("info", message=message)
        self.console.print(f"  {message}", highlight=False, markup=False)

    def warning(self, message: str) -> None:
        """Something that went wrong and did not stop the run; the report tells the `message` too."""
        self.event("warning", message=message)
        self.console.print(f"  {message}", highlight=False, markup=False, style="yellow")

    def step(self, *, step: int, steps: int, loss: float, tokens: int, **fields: Any) -> None:
        """A training step.

        Args:
            step: its number, from 1.
            steps: that there are.
            loss: of this step.
            tokens: trained on so far.
            fields: further figures.
        """
        self.event("step", step=step, steps=steps, loss=loss, tokens=tokens, **fields)
        self._show(step, steps, f"loss {loss:.3f} · {tokens:,} tokens")

    def advance(self, done: int, total: int, text: str) -> None:
        """Progress of anything else that has a known length.

        Args:
            done: how much of it is done.
            total: how much there is.
            text: what stands beside it on the screen.
        """
        self._show(done, total, text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """While open, events belong to the stage `name` and the live line shows it."""
        self._stage, self._spoke = name, time.monotonic()
        if self.console.is_terminal:
            columns = (
                TextColumn("  [bold]{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self.console, transient=True)
            self._progress.start()
        try:
            yield
        finally:
            if self._progress is not None:
                self._progress.stop()
            self._progress = self._task = None
            self._stage = ""

    def _show(self, done: int, total: int, text: str) -> None:
        if self._progress is not None:
            if self._task is None:
                self._task = self._progress.add_task(self._stage, total=total, text=text)
            self._progress.update(self._task, completed=done, total=total, text=text)
            return
        now = time.monotonic()
        if now - self._spoke >= PLAIN_SECONDS or done == total:
            self._spoke = now
            self.console.print(f"  {self._stage} {done}/{total} {text}", highlight=False, markup=False)
