"""A plugin as a fresh process sees it: what it imports, prints and takes, and what its hooks give.

`python -m langadapt.testing.probing MODULE` prints what it found as JSON. What every command imports anyway is imported
before the clock starts, so that only the plugin's own part counts.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from langadapt import recipe  # noqa: F401
from langadapt.plugins import HEAVY, HOOKS, in_words, name_of

PREFIX = "langadapt_"
_MARK = "langadapt-probe "  # begins the line with the answer, whatever a plugin prints before it


@dataclass(kw_only=True)
class HookAnswer:
    """What one hook gave.

    Attributes:
        milliseconds: of processor time that the call took.
        error: what it raised, with the place; "" for nothing.
        arguments: that it wants and nobody gives it.
        strange: names of the types of records that are not the hook's.
        names: of its records.
        again: the same at a second call.
    """

    milliseconds: float = 0.0
    error: str = ""
    arguments: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Probe:
    """What a fresh process found.

    Attributes:
        error: why the module could not be imported, with the place; "" when it could.
        milliseconds: of processor time that the import took.
        imported: heavy packages that came with it.
        printed: what it printed on its way.
        hooks: by name, of those that the contract has.
        unknown: marked functions whose names are no hooks.
        unmarked: functions with the name of a hook and without the mark.
    """

    error: str = ""
    milliseconds: float = 0.0
    imported: list[str] = field(default_factory=list)
    printed: str = ""
    hooks: dict[str, HookAnswer] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    unmarked: list[str] = field(default_factory=list)


def probe(entry: str) -> Probe:
    """Asks a fresh process about the module that an entry point names, `module` or `module:attribute`."""
    command = [sys.executable, "-m", __name__, entry]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    *printed, answer = done.stdout.split(_MARK) if _MARK in done.stdout else ("", "")
    if not answer:
        return Probe(error=f"the process that imported it ended with code {done.returncode}: {done.stderr[-400:]}")
    found = json.loads(answer)
    hooks = {name: HookAnswer(**about) for name, about in found.pop("hooks").items()}
    made = Probe(**found, hooks=hooks)
    made.printed = "".join(printed) + made.printed
    return made


def environment() -> dict[str, str]:
    """That of a process that finds the same modules as this one."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _look(entry: str) -> Probe:
    found, printed = Probe(), io.StringIO()
    before = HEAVY & sys.modules.keys()
    with redirect_stdout(printed):
        try:
            module, found.milliseconds = _timed(lambda: metadata.EntryPoint(name="", value=entry, group="").load())
        except (Exception, SystemExit) as error:
            found.error = f"{in_words(error)}{_place(error)}"
        else:
            _ask(module, found)
    found.imported = sorted((HEAVY & sys.modules.keys()) - before)
    found.printed = printed.getvalue()
    return found


def _ask(module: Any, found: Probe) -> None:
    for name in dir(module):
        function = getattr(module, name, None)
        marked = hasattr(function, f"{PREFIX}impl")
        if name in HOOKS and marked:
            found.hooks[name] = _answer(name, function)
        elif marked:
            found.unknown.append(name)
        elif name in HOOKS and callable(function):
            found.unmarked.append(name)


def _answer(hook: str, function: Any) -> HookAnswer:
    answer = HookAnswer(arguments=list(inspect.signature(function).parameters))
    if answer.arguments:
        return answer
    try:
        records, answer.milliseconds = _timed(lambda: list(function()))
        wanted = HOOKS[hook][0]
        answer.strange = [type(record).__name__ for record in records if not isinstance(record, wanted)]
        answer.names = [name_of(record) for record in records if isinstance(record, wanted)]
        answer.again = [name_of(record) for record in function() if isinstance(record, wanted)]
    except (Exception, SystemExit) as error:
        answer.error = f"{in_words(error)}{_place(error)}"
    return answer


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    result = call()
    return result, 1000 * (time.process_time() - started)


def _place(error: BaseException) -> str:
    """Where it was raised, as far as that is not in Python's own files."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


if __name__ == "__main__":
    print(_MARK + json.dumps(asdict(_look(sys.argv[1]))))  # noqa: T201
