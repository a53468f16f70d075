"""What stages leave on disk: written aside and renamed, described by `stage.json`, recognised by a digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGE = 16 << 20  # bytes; less is read about as soon as its digests are looked up
VOCABULARY = "vocabulary"  # name of the folder of a changed tokenizer with the rows of its new tokens
SETTLED = 5 * 10**9  # nanoseconds after which a file's time of change tells any further one


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model as later stages take it: whole weights, and what is done to them in order.

    Attributes:
        weights: folder, GGUF file or hub id.
        revision: of a hub id.
        adapters: folders of adapters that are merged into the weights, and of vocabularies that they get (see
            `langadapt.vocabulary`).
    """

    weights: str
    revision: str = "main"
    adapters: tuple[Path, ...] = ()

    @property
    def vocabularies(self) -> tuple[Path, ...]:
        """Those of `adapters` that are none."""
        return tuple(folder for folder in self.adapters if folder.name == VOCABULARY)

    @property
    def tokenizer(self) -> str:
        """Where its tokenizer is: the last vocabulary, or else with the weights."""
        return str(self.vocabularies[-1]) if self.vocabularies else self.weights

    def with_adapter(self, folder: Path) -> ModelRef:
        """The model with the adapter in `folder` on top."""
        return ModelRef(weights=self.weights, revision=self.revision, adapters=(*self.adapters, folder))

    def after(self, artifact: Path) -> ModelRef:
        """The model after a stage that starts from this one, by what its folder `artifact` holds."""
        made = left_in(artifact)
        if made is None:
            return self
        return ModelRef(weights=str(made)) if made.name == "model" else self.with_adapter(made)


def left_in(stage: Path) -> Path | None:
    """Whole weights, adapter or vocabulary in a stage's folder; None where the stage makes none of them."""
    return next((stage / kind for kind in ("model", "adapter", VOCABULARY) if (stage / kind).is_dir()), None)


def digest(value: Any) -> str:
    """SHA-256 of a value as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def digest_files(files: Iterable[Path], memory: Path | None = None) -> str:
    """SHA-256 over the contents of files in order; names and places do not count.

    Args:
        files: what to read.
        memory: folder in which the digests of files that are large together are remembered, so that what did not
            change is read once.
    """
    files = list(files)
    total = hashlib.sha256()
    if memory is None or sum(file.stat().st_size for file in files) < LARGE:
        for file in files:
            total.update(_digest_file(file))
    else:
        for digest in _remembered(files, memory):
            total.update(bytes.fromhex(digest))
    return total.hexdigest()


def _digest_file(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _remembered(files: list[Path], memory: Path) -> list[str]:
    """Digests of files by their paths, sizes, inodes and times of change.

    What was written to within the last seconds is not remembered: a clock may be too coarse to tell a further change.
    """
    names = [str(file.resolve()) for file in files]
    place = memory / f"{digest(os.path.commonpath(names))[:32]}.json"
    kept = read_json(place)
    known: dict[str, list[Any]] = kept if isinstance(kept, dict) else {}
    before = dict(known)
    digests = []
    for name, file in zip(names, files, strict=True):
        stamp = stamp_of(file)
        if known.get(name, [])[:3] != list(stamp):
            known[name] = [*stamp, _digest_file(file).hex()]
        digests.append(str(known[name][3]))
        if stamp_of(file) != stamp or time.time_ns() - stamp[1] < SETTLED:
            del known[name]
    if known != before:
        with suppress(OSError):  # a cache that cannot be written makes plans slower and nothing else
            memory.mkdir(parents=True, exist_ok=True)
            write_json(place, known)
    return digests


def stamp_of(file: Path) -> tuple[int, int, int]:
    """Size, time of the last change and inode: what differs when a file was written to or replaced."""
    about = file.stat()
    return about.st_size, about.st_mtime_ns, about.st_ino


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old one or the new one and never a part."""
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file, or None when it is missing or unreadable."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def files_in(folder: Path) -> dict[str, int]:
    """Every file below a folder with its size; what `stage.json` records and a later run compares."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


def publish(partial: Path, final: Path) -> None:
    """Puts a finished folder in its place, instead of what was there."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of digest ingredients, in words."""
    said = []
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) == after.get(key):
            continue
        if key in before and key in after and not _is_digest(before[key]):
            said.append(f"{key}: {_moved(str(before[key]), str(after[key]))}")
        else:
            said.append(f"{key}: {'changed' if key in before and key in after else 'new' if key in after else 'gone'}")
    return said


def _moved(before: str, after: str) -> str:
    """Of two lists, only what is in one of them."""
    old, new = before.split(", "), after.split(", ")
    gone, come = ([part for part in one if part not in other] for one, other in ((old, new), (new, old)))
    if len(old) == len(new) == 1 or not (gone or come):
        return f"{before} → {after}"
    return f"{', '.join(gone) or 'nothing'} → {', '.join(come) or 'nothing'}"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)
