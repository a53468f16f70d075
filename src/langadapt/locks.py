"""Who may work in a run's folder: one run of all its stages, or runs of different stages side by side.

A run of all stages holds `.lock`, a run of single stages holds `.locks/ID` for each of them, both until they end; a process
that dies lets go. What they share (`run.json`, the report, the taking of these locks) is for one at a time, which holds
`.guard` for that moment.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from langadapt.errors import UserError

_WHOLE, _STAGES, _GUARD = ".lock", ".locks", ".guard"


@contextmanager
def locked(folder: Path, stages: Collection[str] = ()) -> Iterator[None]:
    """Makes a run's folder and keeps out of it whoever would run the same stages.

    Args:
        folder: of the run.
        stages: ids of those that are run; all when empty.

    Raises:
        UserError: another run is at work on them, or the folder cannot be written.
    """
    wanted = [folder / _STAGES / id for id in stages] or [folder / _WHOLE]
    shared = (folder / "events.jsonl", folder / _STAGES, folder / "stages", folder / _GUARD, folder, *folder.parents)
    ours = [path for path in (*wanted, *shared) if not path.exists()]
    with ExitStack() as held:
        with alone(folder):
            refuse_others(folder, stages)
            for path in wanted:
                held.enter_context(FileLock(path))
        try:
            yield
        finally:
            if not (folder / "run.json").exists():  # nothing was begun, so nothing is left behind but what was there
                _remove(ours)


@contextmanager
def alone(folder: Path, name: str = _GUARD) -> Iterator[None]:
    """Has one process at a time in the block, of all that work in a run's folder; the others wait.

    Raises:
        UserError: the folder cannot be written.
    """
    lock = FileLock(folder / name)
    try:
        for path in (folder, folder / "stages", folder / _STAGES):
            path.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
        lock.acquire()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --out") from None
    try:
        yield
    finally:
        lock.release()


def refuse_others(folder: Path, stages: Collection[str] = ()) -> None:
    """To be asked in an `alone` block.

    Args:
        folder: of the run.
        stages: ids; all when empty.

    Raises:
        UserError: a run is at work on one of these stages.
    """
    if _is_held(folder / _WHOLE):
        raise UserError(f"{folder} is in use by another run; wait for it, or choose another folder with --out")
    for id in stages or [path.name for path in (folder / _STAGES).glob("*")]:
        if is_running(folder, id):
            raise UserError(
                f"{folder}: stage {id} is being run already; wait for it, or choose another folder with --out"
            )


def is_running(folder: Path, stage: str) -> bool:
    """Whether a run of single stages is at work on this one."""
    return _is_held(folder / _STAGES / stage)


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _remove(paths: Collection[Path]) -> None:
    for path in paths:
        with suppress(OSError):  # not empty: somebody else's files
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
