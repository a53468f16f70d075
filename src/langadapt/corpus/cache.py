"""What is kept over runs: folders in the user's cache, each named by the digest of all that its content depends on.

An entry's `about.json` says in words what went into it, so that a miss can be explained: it is compared with the newest
entry of the same kind and label. Whoever reads or writes an entry marks it as used (`Entry.used`), and pruning leaves it
alone for as long as that process lives.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from langadapt import artifacts
from langadapt.errors import UserError

VARIABLE = "LANGADAPT_CACHE"
ABOUT = "about.json"
KINDS = ("prepared", "packed", "evaluations", "served")
TRANSLATIONS = "translations"
DAY = 24 * 3600.0
_SAID = 4  # changes that a miss names
_USE = ".used-by-"


def cache_folder() -> Path:
    """The user's cache of langadapt: `LANGADAPT_CACHE`, or where the system keeps caches."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("langadapt", appauthor=False))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A place in the cache for something that depends on `ingredients` and on nothing else.

    Attributes:
        kind: one of `KINDS`; the folder of the cache that it is in.
        label: what it was made of, as the recipe calls it.
        ingredients: name and value, in words or as digests, of all that the content depends on.
        path: its folder, whether or not it is there.
    """

    kind: str
    label: str
    ingredients: Mapping[str, str]
    path: Path

    @property
    def is_there(self) -> bool:
        """Whether something was put there; a corpus may be prepared in part."""
        return (self.path / ABOUT).is_file()

    def explain(self) -> str:
        """Why it is not there, as the end of a sentence; "" when it is."""
        if self.is_there:
            return ""
        others = [kept for kept in entries(self.kind) if kept.label == self.label]
        if not others:
            return "not done before"
        newest = max(others, key=lambda kept: kept.used)
        changes = artifacts.changes(newest.ingredients, self.ingredients)
        more = f"; and {len(changes) - _SAID} more" if len(changes) > _SAID else ""
        return "; ".join(changes[:_SAID]) + more or "what was kept is gone"

    def describe(self, folder: Path | None = None) -> None:
        """Writes `about.json`: into the entry itself, or into a folder that will be put in its place."""
        about = {"kind": self.kind, "label": self.label, "made": time.time(), "ingredients": dict(self.ingredients)}
        put((folder or self.path) / ABOUT, json.dumps(about, indent=2, ensure_ascii=False).encode("utf-8"))

    @contextmanager
    def used(self) -> Iterator[Path]:
        """Marks the entry as in use until the block or the process ends, and as used today.

        Raises:
            UserError: the cache cannot be written.
        """
        from filelock import FileLock

        mark = FileLock(self.path / f"{_USE}{os.getpid()}-{uuid4().hex[:8]}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            mark.acquire(timeout=0)
        except OSError as error:
            raise UserError(
                f"{self.path}: the cache cannot be written ({error.strerror}); free space there, or set {VARIABLE} to "
                "a folder that can be written"
            ) from None
        try:
            with suppress(FileNotFoundError):
                os.utime(self.path / ABOUT)
            yield self.path
        finally:
            mark.release()
            Path(mark.lock_file).unlink(missing_ok=True)
            with suppress(OSError):  # nothing was put there
                self.path.rmdir()


def entry(kind: str, label: str, ingredients: Mapping[str, str]) -> Entry:
    """The place for what is made of these ingredients."""
    key = artifacts.digest([kind, dict(ingredients)])[:32]
    return Entry(kind=kind, label=label, ingredients=dict(ingredients), path=cache_folder() / kind / key)


def put(path: Path, content: bytes) -> None:
    """Writes a file of an entry so that no reader ever sees a part of it, though several processes may write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Something that the cache holds.

    Attributes:
        kind: one of `KINDS`, or `translations`.
        name: of its folder or file.
        label: what it was made of.
        size: bytes on disk.
        made: seconds since 1970.
        used: when it was last read or written, the same way.
        in_use: whether a running process reads or writes it now.
        ingredients: as of `Entry`.
    """

    kind: str
    name: str
    label: str
    path: Path
    size: int
    made: float
    used: float
    in_use: bool
    ingredients: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "path": str(self.path)}


def entries(*kinds: str) -> list[Kept]:
    """What the cache holds of some kinds, or all of it; the longest unused first."""
    found = [kept for kind in kinds or KINDS for kept in _folders(cache_folder() / kind)]
    store = cache_folder() / f"{TRANSLATIONS}.sqlite"
    if (not kinds or TRANSLATIONS in kinds) and store.exists():
        found.append(_translations(store))
    return sorted(found, key=lambda kept: (kept.used, kept.name))


def prune(unused: float, *, dry_run: bool = False, everything: bool = False) -> list[Kept]:
    """Removes what was not used for so many seconds; what a running process uses stays.

    Translations stay too, because they may have cost days or money, unless `everything` is to go.

    Returns:
        What was removed, or would be.
    """
    for folder in () if dry_run else cache_folder().glob("*/.*.gone"):  # what a killed pruning left
        shutil.rmtree(folder, ignore_errors=True)
    now = time.time()
    going = [
        kept
        for kept in entries()
        if not kept.in_use and (everything or (kept.kind != TRANSLATIONS and now - kept.used >= unused))
    ]
    for kept in going if not dry_run else ():
        if kept.kind == TRANSLATIONS:
            for file in kept.path.parent.glob(f"{kept.path.name}*"):  # the journals beside it
                file.unlink(missing_ok=True)
        else:
            aside = kept.path.with_name(f".{kept.name}.gone")  # nobody takes a half-removed folder for an entry
            with suppress(FileNotFoundError):
                kept.path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
    return going


def _folders(folder: Path) -> Iterator[Kept]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        about = artifacts.read_json(path / ABOUT)
        if path.name.startswith(".") or not isinstance(about, dict):
            continue
        sizes, marks = [], []
        for file in path.iterdir():
            with suppress(FileNotFoundError):  # removed meanwhile
                marks += [file] if file.name.startswith(_USE) else []
                sizes.append(file.stat().st_size)
        yield Kept(
            kind=folder.name,
            name=path.name,
            label=str(about.get("label", "")),
            path=path,
            size=sum(sizes),
            made=float(about.get("made", 0)),
            used=(path / ABOUT).stat().st_mtime,
            in_use=any(_is_held(mark) for mark in marks),
            ingredients=about.get("ingredients", {}),
        )


def _is_held(mark: Path) -> bool:
    """Whether the process that left a mark still lives; the mark of a killed one is removed."""
    from filelock import FileLock, Timeout

    lock = FileLock(mark)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    mark.unlink(missing_ok=True)
    return False


def _translations(store: Path) -> Kept:
    files = [file for file in store.parent.glob(f"{store.name}*") if file.is_file()]
    return Kept(
        kind=TRANSLATIONS,
        name=store.name,
        label="translations of all recipes",
        path=store,
        size=sum(file.stat().st_size for file in files),
        made=store.stat().st_ctime,
        used=max(file.stat().st_mtime for file in files),
        in_use=_is_open(store),
        ingredients={},
    )


def _is_open(store: Path) -> bool:
    """Whether another process has the store of translations open: SQLite gives its journal up to the last one alone."""
    import sqlite3
    from contextlib import closing

    try:
        with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:  # damaged: nobody can use it
        return False
    return False
