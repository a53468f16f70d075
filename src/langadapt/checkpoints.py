"""Checkpoints of a training: sealed once they are whole, and looked over before one is trusted.

The Trainer writes a checkpoint file by file into its final folder. A process that is killed meanwhile, or a disk that
loses what it had promised, leaves a folder that may load and then train something else. So the last file of a checkpoint
is a list of the others with their digests, and a checkpoint that does not match its list is put away.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from langadapt import artifacts

SEAL = "seal.json"


def seal(checkpoint: Path) -> None:
    """Notes the digest of every file of a checkpoint that is complete."""
    artifacts.write_json(checkpoint / SEAL, {name: _digest(checkpoint / name) for name in _files(checkpoint)})


def newest(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole; those after it, which are not, are removed.

    Args:
        folder: where the checkpoints are, as `checkpoint-STEP`.
        say: gets a line on each that cannot be used.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for checkpoint in reversed(found):
        flaw = _flaw(checkpoint)
        if not flaw:
            return checkpoint
        say(f"{checkpoint.name} cannot be used: {flaw}")
        shutil.rmtree(checkpoint)
    return None


def _flaw(checkpoint: Path) -> str:
    sealed = artifacts.read_json(checkpoint / SEAL)
    if sealed is None:
        return "it was cut short"
    for name, digest in sealed.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if _digest(file) != digest:
            return f"{name} is damaged"
    return ""


def _files(checkpoint: Path) -> list[str]:
    return sorted(str(p.relative_to(checkpoint)) for p in checkpoint.rglob("*") if p.is_file() and p.name != SEAL)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
