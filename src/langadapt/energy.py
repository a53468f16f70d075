"""Energy that processors and GPUs use, by their own counters; where there are none, nothing is said.

Linux shows the counters of Intel's and AMD's processors (RAPL) under /sys/class/powercap, most often to root alone, and
virtual machines have none. NVIDIA's GPUs count since Volta, and NVML tells. A counter knows nothing of who used the
energy: other programs on the same device are in it, and the rest of the machine is not.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

PERIOD = 30.0  # seconds between readings; a processor's counter goes round in some minutes at full load
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, kw_only=True)
class Counter:
    """A counter of energy.

    Attributes:
        part: what it counts for, `processors` or `gpus`.
        read: joules so far; raises OSError when it cannot be read any more.
        range: joules after which it begins at 0 again.
    """

    part: str
    read: Callable[[], float]
    range: float = math.inf


class _Tally:
    """What a counter has moved by since the tally was made."""

    def __init__(self, counter: Counter):
        self.counter, self.last, self.joules = counter, counter.read(), 0.0

    def read(self) -> None:
        now = self.counter.read()
        self.joules += now - self.last if now >= self.last else now - self.last + self.counter.range
        self.last = now


@contextmanager
def metered(counters: Sequence[Counter] | None = None, *, period: float = PERIOD) -> Iterator[dict[str, float]]:
    """Counts while it is open; then the dictionary that it gave holds joules by part, of all parts that were counted.

    Args:
        counters: what to read; those of this machine when not given.
        period: seconds between readings.
    """
    used: dict[str, float] = {}
    tallies = [_Tally(counter) for counter in (_counters() if counters is None else counters)]
    closed = threading.Event()
    watch = threading.Thread(target=_watch, args=(tallies, closed, period), daemon=True)
    watch.start()
    try:
        yield used
    finally:
        closed.set()
        watch.join()
        with suppress(OSError):
            for tally in tallies:
                tally.read()
            for tally in tallies:
                part = tally.counter.part
                used[part] = round(used.get(part, 0.0) + tally.joules, 1)


def _watch(tallies: Sequence[_Tally], closed: threading.Event, period: float) -> None:
    while tallies and not closed.wait(period):
        with suppress(OSError):  # the last reading fails too, and then nothing is said
            for tally in tallies:
                tally.read()


def _counters() -> list[Counter]:
    return [*processors(POWERCAP), *gpus()]


def processors(folder: Path) -> list[Counter]:
    """Counters of packages and of memory, which is no part of them; none where one of them cannot be read.

    Args:
        folder: where the kernel shows them.
    """
    try:
        zones = sorted(zone for zone in folder.glob("intel-rapl:*") if _name(zone).startswith(("package", "dram")))
        return [
            Counter(part="processors", read=read, range=_joules(zone / "max_energy_range_uj"))
            for zone in zones
            if (read := partial(_joules, zone / "energy_uj"))() >= 0
        ]
    except (OSError, ValueError):
        return []


def _name(zone: Path) -> str:
    return (zone / "name").read_text().strip()


def _joules(file: Path) -> float:
    return int(file.read_text()) / 1e6


def gpus(cuda: Any = None, nvml: Any = None) -> list[Counter]:
    """Counters of the GPUs that CUDA sees; none where one of them does not count.

    Args:
        cuda: the driver's library, libcuda; loaded when not given.
        nvml: NVIDIA's management library; loaded when not given.
    """
    try:
        cuda, nvml = cuda or ctypes.CDLL("libcuda.so.1"), nvml or ctypes.CDLL("libnvidia-ml.so.1")
        return [Counter(part="gpus", read=partial(_nvml_joules, nvml, handle)) for handle in _handles(cuda, nvml)]
    except (OSError, AttributeError):  # no such library, device or, in old ones, function
        return []


def _handles(cuda: Any, nvml: Any) -> list[ctypes.c_void_p]:
    """NVML's handles of CUDA's devices, which CUDA_VISIBLE_DEVICES may have chosen and put in another order."""
    count, handles = ctypes.c_int(), []
    _done(cuda.cuInit(0), nvml.nvmlInit_v2(), cuda.cuDeviceGetCount(ctypes.byref(count)))
    for index in range(count.value):
        place, handle = ctypes.create_string_buffer(32), ctypes.c_void_p()
        _done(
            cuda.cuDeviceGetPCIBusId(place, 32, index),
            nvml.nvmlDeviceGetHandleByPciBusId_v2(place, ctypes.byref(handle)),
        )
        _nvml_joules(nvml, handle)
        handles.append(handle)
    return handles


def _nvml_joules(nvml: Any, handle: ctypes.c_void_p) -> float:
    millijoules = ctypes.c_ulonglong()
    _done(nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)))
    return millijoules.value / 1e3


def _done(*codes: int) -> None:
    if any(codes):
        raise OSError(f"NVIDIA's driver says {codes}")
