"""The folders that a run writes to: how much is free, and whether their filesystems do what a run relies on."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from langadapt.corpus.cache import cache_folder
from langadapt.models import hub_cache

MOUNTS = Path("/proc/mounts")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder and the disk that it is or would be on.

    Attributes:
        use: what langadapt puts there.
        path: of the folder.
        free: bytes.
        filesystem: its type, as the kernel calls it; "" where that is not known.
        options: it is mounted with.
        fails: of `write`, `lock`, `link`, those that were tried there in vain, with the reason.
    """

    use: str
    path: Path
    free: int
    filesystem: str = ""
    options: tuple[str, ...] = ()
    fails: Mapping[str, str] = field(default_factory=dict)


def places(out: Path) -> tuple[Place, ...]:
    """The folders of runs, caches and temporary files; each is tried and left as it was.

    Args:
        out: where runs are to lie.
    """
    folders = {
        "runs": out,
        "langadapt's cache": cache_folder(),
        "the hub's cache": hub_cache(),
        "temporary files": Path(tempfile.gettempdir()),
    }
    return tuple(_look(use, path.absolute()) for use, path in folders.items())


def _look(use: str, path: Path) -> Place:
    there = next(folder for folder in (path, *path.parents) if folder.is_dir())
    kind, options = mount(there.resolve(), MOUNTS)
    free = shutil.disk_usage(there).free
    return Place(use=use, path=path, free=free, filesystem=kind, options=options, fails=dict(_failures(there)))


def mount(folder: Path, mounts: Path) -> tuple[str, tuple[str, ...]]:
    """Type and options of the filesystem that a folder is on, by the kernel's list; empty where there is none."""
    found: tuple[str, tuple[str, ...]] = ("", ())
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return found
    longest = -1
    for line in lines:
        _, point, kind, options, *_ = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), point)  # a space is written \040
        if folder.is_relative_to(point) and len(point) >= longest:  # of two on one point, the later one is seen
            longest, found = len(point), (kind, tuple(options.split(",")))
    return found


def _failures(folder: Path) -> Iterator[tuple[str, str]]:
    """What cannot be done in a folder: it is tried on files that are removed again."""
    try:
        with tempfile.TemporaryDirectory(prefix=".langadapt-doctor-", dir=folder) as made:
            if said := _locks(Path(made)):
                yield "lock", said
            if said := _links(Path(made)):
                yield "link", said
    except OSError as error:
        yield "write", error.strerror or str(error)


def _locks(folder: Path) -> str:
    """Why a lock is of no use in a folder; "" when it keeps a second one out.

    Where the kernel has no locks, filelock may warn and take a file for one, which stays when its owner is killed.
    """
    from filelock import FileLock, Timeout

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            with FileLock(folder / "lock"), FileLock(folder / "lock", timeout=0):
                return "a lock keeps nobody out"
        except Timeout:
            return str(told[0].message) if told else ""
        except (OSError, NotImplementedError) as error:
            return str(error)


def _links(folder: Path) -> str:
    """Why a symbolic link cannot be made in a folder; "" when it can."""
    try:
        os.symlink("target", folder / "link")
    except OSError as error:
        return error.strerror or str(error)
    return ""
