"""What stages leave on disk: written aside and renamed, described by `stage.json`, recognised by a digest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model as later stages take it: whole weights, and adapters to be merged into them in order.

    Attributes:
        weights: folder, GGUF file or hub id.
        revision: of a hub id.
        adapters: adapter folders.
    """

    weights: str
    revision: str = "main"
    adapters: tuple[Path, ...] = ()

    def with_adapter(self, folder: Path) -> ModelRef:
        return ModelRef(weights=self.weights, revision=self.revision, adapters=(*self.adapters, folder))


def digest(value: Any) -> str:
    """SHA-256 of a value as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def digest_files(files: Iterable[Path]) -> str:
    """SHA-256 over the contents of files in order; names and places do not count."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


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
            said.append(f"{key}: {before[key]} → {after[key]}")
        else:
            said.append(f"{key}: {'changed' if key in before and key in after else 'new' if key in after else 'gone'}")
    return said


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)
