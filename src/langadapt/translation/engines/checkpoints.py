"""Translation models by reference: a local folder, or a repository of the Hugging Face Hub.

A repository that is on this machine already is used as it is, without asking the hub.
"""

from __future__ import annotations

import re
from pathlib import Path

from langadapt import artifacts, hub
from langadapt.models import snapshot

# Beside what `hub.fetch_model` takes: SentencePiece models, and CTranslate2's own format, which holds no code either.
_ALSO = ("*.spm", "model.bin", "*vocabulary.txt")
_WEIGHTS = ("*.safetensors", "model.bin")


def problem(reference: str) -> str:
    """What is wrong with a reference, or "". A repository that must be fetched first is no problem."""
    if not reference:
        return "it names no model; give a folder or the name of a hub repository in model"
    path = Path(reference).expanduser()
    if path.exists() or re.fullmatch(r"\w[\w.-]*/[\w.-]+", reference):
        return ""
    return f"{reference}: there is no such file or folder; a hub repository is written owner/name"


def at_hand(reference: str, revision: str) -> Path | None:
    """The folder or file, or the cached snapshot that holds weights; None when it must be fetched first."""
    path = Path(reference).expanduser()
    if path.exists():
        return path
    cached = snapshot(reference, revision)
    return cached if cached and any(next(cached.glob(name), None) for name in _WEIGHTS) else None


def fetch(reference: str, revision: str) -> Path:
    """The folder or file, fetched from the hub where needed.

    Raises:
        UserError: the hub does not have it, does not give it, or cannot be reached.
    """
    found = at_hand(reference, revision)
    # By its name and not its commit, so that the cache knows what the name stands for, and the next run asks nobody.
    return found or Path(hub.fetch_model(reference, revision, also=_ALSO))


def fingerprint(reference: str, revision: str) -> str:
    """Digest of local files, or a repository's name with its revision as the recipe writes it.

    It is the same before a repository is fetched and after, or else a second run would translate everything anew; so
    only a commit stands for one model and ever the same.
    """
    path = Path(reference).expanduser()
    if path.is_file():
        return artifacts.digest_files([path])
    if path.is_dir():
        return artifacts.digest_files(sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")))
    return f"{reference}@{revision}"
