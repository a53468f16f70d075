"""What the doctor knows; gathered without importing a heavy library, so that it is known whatever they do."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langadapt.doctor.installed import Package, installed
from langadapt.doctor.places import Place, places
from langadapt.machine import Machine, cpu_flags, this_machine
from langadapt.models import hub_home
from langadapt.plugins import HOOKS, Plugin, in_words, registry

# Variables that change what langadapt or a library does, by the beginnings of their names.
TELLING = re.compile(
    "LANGADAPT_|HF_|HUGGING_?FACE_|TRANSFORMERS_|TOKENIZERS_|ACCELERATE_|BNB_|CUDA_|NVIDIA_|PYTORCH_|TORCH|NCCL_|GLOO_|OMP_|MKL_|"
    "KMP_|GOMP_|OPENBLAS_|XDG_CACHE_HOME$|TMPDIR$|PYTHON|LD_LIBRARY_PATH$|LD_PRELOAD$|VIRTUAL_ENV$|CONDA_PREFIX$|RANK$|"
    "LOCAL_RANK$|WORLD_SIZE$|NODE_RANK$|GROUP_RANK$|MASTER_|PMI_SIZE$|OMPI_COMM_WORLD_SIZE$|MV2_COMM_WORLD_SIZE$|SLURM_JOB|SLURM_NODEID$|"
    "[A-Za-z]*_(?:proxy|PROXY)$|SSL_CERT_|REQUESTS_CA_BUNDLE$"
)
_SECRET = re.compile(r"(?:^|_)(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD)S?(?:_|$)", re.IGNORECASE)
_TOKEN_INSIDE = re.compile(r"hf_\w{8,}|(?<=://)[^/@\s]+(?=@)")  # a hub token, or a user with a password in an address
_SMI = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,memory.used,compute_cap,driver_version",
    "--format=csv,noheader,nounits",
)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU that the driver lists, whether or not this process may use it.

    Attributes:
        name: of the model.
        memory: bytes.
        used: bytes of it, by all processes.
        capability: compute capability, such as (8, 0).
        driver: version of the driver.
    """

    name: str
    memory: int
    used: int
    capability: tuple[int, int]
    driver: str


@dataclass(frozen=True, kw_only=True)
class Library:
    """What came of trying a library in a process of its own.

    Attributes:
        version: as it says itself.
        error: why it cannot be used; "" when it can.
        found: what it said of itself and of the machine, by name.
    """

    version: str = ""
    error: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that checks look at.

    Attributes:
        packages: installed, by normalised name.
        environment: the variables of this process.
        machine: as plans see it.
        processor: its name and what it can do, in the kernel's words.
        gpus: of the driver's list.
        shared_memory: bytes of /dev/shm; None where there is none.
        interfaces: names of the network's.
        kernel: name and version of the operating system's.
        places: that a run writes to.
        plugins: as they were found.
        clashes: of each plugin by name, what others offer too.
        broken: why nothing could be asked of the core or its plugins; "" when it could.
        tokens: where a hub token lies, in the order in which the hub library looks.
        libraries: what came of trying them; empty before.
    """

    packages: Mapping[str, Package]
    environment: Mapping[str, str]
    machine: Machine
    processor: tuple[str, frozenset[str]] = ("", frozenset())
    gpus: tuple[Gpu, ...] = ()
    shared_memory: int | None = None
    interfaces: tuple[str, ...] = ()
    kernel: str = ""
    places: tuple[Place, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    clashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    broken: str = ""
    tokens: tuple[str, ...] = ()
    libraries: Mapping[str, Library] = field(default_factory=dict)

    def error(self, library: str) -> str:
        """Why a library that was tried cannot be used; "" when it can, and when it was not tried."""
        return self.libraries[library].error if library in self.libraries else ""


def collect(out: Path) -> Facts:
    """What can be known of this process and machine without the libraries.

    Args:
        out: where runs are to lie.
    """
    plugins, clashes, broken = _plugins()
    shared = Path("/dev/shm")
    return Facts(
        packages=installed(),
        environment=dict(os.environ),
        machine=this_machine(),
        processor=(_processor(), cpu_flags()),
        gpus=_gpus(),
        shared_memory=shutil.disk_usage(shared).total if shared.is_dir() else None,
        interfaces=tuple(name for _, name in socket.if_nameindex()),
        kernel=" ".join(os.uname()[i] for i in (0, 2)) if hasattr(os, "uname") else "",
        places=places(out),
        plugins=plugins,
        clashes=clashes,
        broken=broken,
        tokens=tuple(_tokens(os.environ, hub_home())),
    )


def shown(name: str, value: str) -> str:
    """A variable's value as it may be pasted into an issue: secrets are left out."""
    return "(set, not shown)" if _SECRET.search(name) else _TOKEN_INSIDE.sub("…", value)


def _plugins() -> tuple[tuple[Plugin, ...], dict[str, tuple[str, ...]], str]:
    try:
        known = registry()
    except Exception as error:  # what is missing or broken below the core is a finding
        return (), {}, in_words(error)
    tables = [getattr(known, hook.removeprefix("langadapt_")) for hook in HOOKS]
    clashes = {p.name: tuple(clash for table in tables for clash in table.clashes(p)) for p in known.plugins}
    return tuple(known.plugins), clashes, ""


def _processor() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return found[1] if found else ""
    return ""


def _gpus() -> tuple[Gpu, ...]:
    """All GPUs that NVIDIA's driver knows; its own program tells of those too that CUDA_VISIBLE_DEVICES hides."""
    try:
        said = subprocess.run(_SMI, capture_output=True, text=True, check=True, timeout=60).stdout
        return tuple(read_gpu(line) for line in said.splitlines())
    except (OSError, subprocess.SubprocessError, ValueError):  # no driver, or one that is too old to be asked this
        return ()


def read_gpu(line: str) -> Gpu:
    """A line of nvidia-smi's answer.

    Raises:
        ValueError: it is no such line.
    """
    name, memory, used, capability, driver = (part.strip() for part in line.rsplit(",", 4))
    major, _, minor = capability.partition(".")
    return Gpu(
        name=name,
        memory=int(memory) * 2**20,
        used=int(used) * 2**20,
        capability=(int(major), int(minor)),
        driver=driver,
    )


def _tokens(environment: Mapping[str, str], home: Path) -> Iterator[str]:
    """Where the hub library finds a token, in its order; what the token is, is not looked at."""
    for name in ("HF_OIDC_RESOURCE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environment.get(name, "").strip():
            yield name
    file = Path(environment.get("HF_TOKEN_PATH", home / "token")).expanduser()
    with suppress(OSError):
        if file.stat().st_size:
            yield str(file)
