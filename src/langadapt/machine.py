"""What this machine can do, found out without importing torch, because plans must be quick."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# On a processor bitsandbytes warns, when it is imported, that an optional kernel package is missing; what it does without it
# is right, and tested. Whatever imports it has imported this before.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
# Parameters of glibc's mallopt(3). Left alone, it raises the first by itself to at most 32 MiB, the second to twice that.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
SMALL_PIECE, LARGEST_POOLED = 1 << 18, 1 << 25  # bytes
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the kernel's words for bfloat16 products, on x86 and on Arm


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Processor, memory and accelerators.

    Attributes:
        cores: processor cores that this process may use.
        memory: bytes of main memory that this process may use.
        gpus: (name, bytes of memory) of each CUDA device.
        bf16: whether bfloat16 matrix products are fast here.
    """

    cores: int
    memory: int
    gpus: tuple[tuple[str, int], ...]
    bf16: bool

    @property
    def cuda(self) -> bool:
        """Whether there is a CUDA device."""
        return bool(self.gpus)

    @property
    def room(self) -> int:
        """Bytes that one process has for a model: the first GPU's, or main memory where there is no GPU."""
        return self.gpus[0][1] if self.gpus else self.memory

    def __str__(self) -> str:
        processor = f"{self.cores} CPU cores, {self.memory / 2**30:.0f} GiB of memory"
        return ", ".join([processor, *(f"{name} {size / 2**30:.0f} GiB" for name, size in self.gpus)])


@lru_cache(maxsize=1)
def this_machine() -> Machine:
    """The machine that this process runs on; honours CUDA_VISIBLE_DEVICES as the CUDA driver does."""
    gpus = _cuda_devices()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    memory = min(memory, memory_of_limit(Path("/sys/fs/cgroup/memory.max")) or memory)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(cores, cores_of_quota(Path("/sys/fs/cgroup/cpu.max")) or cores)
    return Machine(cores=cores, memory=memory, gpus=gpus, bf16=bool(gpus) or _cpu_has_bf16())


def cores_of_quota(limit: Path) -> int:
    """Cores' worth of time that a container may use, rounded up, by the kernel's file; 0 where there is no limit."""
    with suppress(OSError, ValueError):  # no such file, or "max"
        quota, period = map(int, limit.read_text().split())
        return max(1, -(-quota // period))
    return 0


def memory_of_limit(limit: Path) -> int:
    """Bytes that a container may use before its processes are killed, by the kernel's file; 0 where there is no limit."""
    with suppress(OSError, ValueError):  # no such file, or "max"
        return int(limit.read_text())
    return 0


def cpu_flags() -> frozenset[str]:
    """What the processor can do beside the least, in the kernel's words; empty where no kernel says it."""
    with suppress(OSError):
        return frozenset(Path("/proc/cpuinfo").read_text().split())
    return frozenset()


def optimizer(name: str, *, cuda: bool) -> tuple[str, str]:
    """The optimizer that this machine can run, and a note when it is not the one that was asked for.

    The steps of `adamw_torch` are taken by one kernel.
    """
    note = ""
    if not cuda and ("paged" in name or "8bit" in name or "bnb" in name):
        name, note = "adamw_torch", f"optim {name} needs CUDA; adamw_torch takes its place"
    return "adamw_torch_fused" if name == "adamw_torch" else name, note


def free_disk(folder: Path) -> int:
    """Bytes free on the disk that `folder` is or would be on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def release_memory() -> None:
    """Gives what this process has freed back to the system, where its C library can (glibc)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def unpooled_memory() -> Iterator[None]:
    """While open, what is freed goes back to the system piece by piece, where the C library can do that (glibc).

    It is for work with many large and short-lived tensors between which small ones stay, such as quantising: else the
    memory of the large ones comes from a common pool and cannot be given back, because it has small ones in it. Each piece
    costs a call of the system, so trainings do not run inside.
    """
    _pool_below(SMALL_PIECE)
    try:
        yield
    finally:
        _pool_below(LARGEST_POOLED)


def _pool_below(size: int) -> None:
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, size)
        library.mallopt(_M_TRIM_THRESHOLD, 2 * size)


def reset_peak_memory() -> None:
    """Starts `peak_memory` anew, where the kernel lets it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The most main memory that this process has held since `reset_peak_memory`, in bytes."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def _cuda_devices() -> tuple[tuple[str, int], ...]:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    devices = []
    for index in range(count.value):
        name, size, handle = ctypes.create_string_buffer(128), ctypes.c_size_t(), ctypes.c_int()
        driver.cuDeviceGet(ctypes.byref(handle), index)
        driver.cuDeviceGetName(name, 128, handle)
        driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle)
        devices.append((name.value.decode(), size.value))
    return tuple(devices)


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it emulates that, fp32 is faster."""
    if platform.machine() == "arm64" and platform.system() == "Darwin":
        return True
    return bool(cpu_flags() & BF16)
