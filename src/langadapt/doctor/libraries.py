"""Tries the heavy libraries in a process of its own, so that one that crashes, hangs or ends it is only a finding.

What each is to do is in `trying`. A process tries them in order and tells after each; where it dies, the one that was being
tried is to blame, and a new process goes on with the next.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from langadapt.doctor.facts import Facts, Library

PATIENCE = 600.0  # seconds for all of them; torch alone can take a minute from a disk on the network
# Always tried, in this order: what a library stands on comes before it.
NEEDED = ("numpy", "torch", "tokenizers", "accelerate", "transformers", "peft", "trl", "datasets", "bitsandbytes")
# Tried where they are installed: other libraries import these when they are there, and fail with them. Module → package.
FOUND = {
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "flash_attn": "flash-attn",
    "xformers": "xformers",
    "deepspeed": "deepspeed",
    "liger_kernel": "liger-kernel",
    "sentencepiece": "sentencepiece",
}


def try_all(facts: Facts) -> dict[str, Library]:
    """What came of each; those that are not installed are left out."""
    there = [name for name in NEEDED if name in facts.packages]
    there += [name for name, package in FOUND.items() if package in facts.packages]
    if facts.machine.cuda and "torch" in there:
        there.insert(there.index("torch") + 1, "cuda")
    return tried(there)


def tried(names: Sequence[str], *, patience: float = PATIENCE) -> dict[str, Library]:
    """Tries libraries by the names of their modules, each a function of `trying` or no more than an import."""
    made: dict[str, Library] = {}
    left = list(names)
    while left:
        answers, end = _process(left, patience)
        made |= answers
        left = [name for name in left if name not in answers]
        if left:
            made[left.pop(0)] = Library(error=end)
    return made


def _process(names: Sequence[str], patience: float) -> tuple[dict[str, Library], str]:
    """What a process that tries these has answered, and how it ended."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # the same modules as here
    command = [sys.executable, "-P", "-m", "langadapt.doctor.trying", *names]
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=patience, check=False)
    except subprocess.TimeoutExpired as error:
        return _answers(error.stdout or b""), f"it had not answered after {patience:g} seconds"
    return _answers(done.stdout), _ended(done.returncode, done.stderr.decode("utf-8", "replace"))


def _answers(said: bytes) -> dict[str, Library]:
    lines = (json.loads(line) for line in said.decode("utf-8").splitlines())
    return {line.pop("name"): Library(**line) for line in lines}


def _ended(code: int, said: str) -> str:
    last = (said.strip().splitlines() or [""])[-1]
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"it ends the process that imports it ({how}){f': {last}' if last else ''}"
