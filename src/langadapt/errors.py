"""What can go wrong, and how a person is told.

Two families, because a shell script wants to tell them apart: a `UserError` is a slip that the user can mend (exit
code 2), a `RunError` is a run that was asked for correctly and failed (exit code 1). Neither ever shows a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class LangadaptError(Exception):
    """Base of everything that langadapt raises on purpose; `exit_code` is that of a command which it ends."""

    exit_code = 1


class RunError(LangadaptError):
    """A stage failed although the recipe and its inputs were in order."""


class UserError(LangadaptError):
    """A mistake that the user can mend: the message says what happened, where, and what to do."""

    exit_code = 2


class Interrupted(UserError):
    """The user stopped the run (Ctrl-C or SIGTERM); the same command carries on where it stopped."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with a recipe.

    Attributes:
        where: file and line, `recipes/x.toml:12`, or the option that it came from, `--set adapt.corpus`.
        key: dotted key, stage by id: `adapt.training.learning_rate`.
        message: what is wrong.
        hint: what to do; empty when the message says it.
    """

    where: str
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        subject = f"{self.key}: " if self.key else ""
        return f"{self.where}: {subject}{self.message}" + (f"; {self.hint}" if self.hint else "")


class RecipeError(UserError):
    """The recipe is wrong.

    Attributes:
        problems: everything that was found, each with file, line and key.
    """

    def __init__(self, problems: Sequence[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def written(value: object) -> str:
    """A value as a recipe writes it, for messages."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things: `1 item`, `2,000 items`; `many` where that is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or lists the words when none is close and they are few."""
    words = sorted(set(known))
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    if not words:
        return "there are none"
    return f"known: {', '.join(words)}" if len(words) <= 16 else ""
