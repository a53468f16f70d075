"""What the machine is asked, and what it is given back."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

ASKED = """
import ctypes
import torch
from langadapt.machine import unpooled_memory

class Mallinfo(ctypes.Structure):  # mallinfo(3)
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Mallinfo

def of_the_system():
    before = library.mallinfo2().hblkhd
    large = torch.ones(1_000_000)  # 4 MB
    return (library.mallinfo2().hblkhd - before) >> 20

with unpooled_memory():
    print(of_the_system(), of_the_system())
print(of_the_system(), of_the_system())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc tells, from 2.33 on")
def test_large_pieces_come_from_the_system_and_from_the_pool_again_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "3", "0", "0"]


def test_libraries_do_not_say_what_nobody_can_act_on() -> None:
    """Whichever of them a stage imports first, as one does that goes on from its checkpoint."""
    done = subprocess.run(
        [sys.executable, "-c", "import langadapt.run, bitsandbytes"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
