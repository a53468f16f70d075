"""What the machine is asked, and what it is given back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GROWTH = """
import torch
from contextlib import nullcontext
from langadapt.machine import peak_memory, unpooled_memory

torch.ones(5_000_000)  # 20 MB, freed: from now on what is smaller comes from the pool
kept, before = [], peak_memory()
with {around}:
    for _ in range(60):
        large = torch.ones(1_000_000)  # 4 MB
        small = torch.ones(20_000)
        del large
        kept += [small, torch.ones(20_000)]
print((peak_memory() - before) >> 20)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_large_pieces_go_back_to_the_system_although_small_ones_stay() -> None:
    grown = {
        around: int(subprocess.run([sys.executable, "-c", GROWTH.format(around=around)], capture_output=True, text=True,
                                   check=True).stdout)
        for around in ("nullcontext()", "unpooled_memory()")
    }  # fmt: skip
    assert grown["unpooled_memory()"] < 30, "60 small pieces are 10 MB"
    assert grown["nullcontext()"] > 100, "else this shows nothing"


def test_libraries_do_not_say_what_nobody_can_act_on() -> None:
    """Whichever of them a stage imports first, as one does that goes on from its checkpoint."""
    done = subprocess.run(
        [sys.executable, "-c", "import langadapt.run, bitsandbytes"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
