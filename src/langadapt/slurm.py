"""Batch scripts of Slurm, and what the engine of corpora and `langadapt submit` share of them."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from langadapt.corpus.cache import VARIABLE as CACHE
from langadapt.corpus.cache import cache_folder
from langadapt.corpus.workers import VARIABLE as WORKERS

OWNED = ("array", "output", "parsable", "wait", "wrap")  # options of sbatch that langadapt always sets itself


def missing() -> str:
    """Why jobs cannot be submitted from this machine, and what to do; "" when they can."""
    return "" if shutil.which("sbatch") else "there is no sbatch here; start it on a node of the cluster"


def script(flags: Mapping[str, Any], lines: Iterable[str]) -> str:
    """A batch script; it is handed to `sbatch` as it stands, by us or by hand.

    Args:
        flags: options of sbatch by their names; one that is true has no value, one that is false is left out.
        lines: what the job does, in bash.
    """
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {flag}" for name, value in flags.items() if (flag := _flag(name, value))),
            f"export {CACHE}={shlex.quote(str(cache_folder().resolve()))}",
            f'export {WORKERS}="$SLURM_CPUS_ON_NODE"  # the cores that the job was given, not those of the node',
            *lines,
            "",
        ]
    )


def _flag(name: str, value: Any) -> str:
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else ""
    return f"--{name}={shlex.quote(str(value))}"


def output(path: Path | str) -> str:
    """A path as `--output` takes it, which fills in what stands behind a % sign."""
    return str(path).replace("%", "%%")


def langadapt(*words: str) -> str:
    """A command of langadapt, by the Python that runs now."""
    return shlex.join([sys.executable, "-P", "-m", "langadapt", *words])
