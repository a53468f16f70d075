"""What the doctor says of an installation and a machine, section by section: a name and a value a line, all of it text."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from langadapt.corpus.cache import cache_folder, entries
from langadapt.doctor.checks import CHECKS
from langadapt.doctor.combinations import BF16_IN_HARDWARE, COMBINATIONS
from langadapt.doctor.facts import TELLING, Facts, shown
from langadapt.doctor.installed import TRIED, requirements
from langadapt.doctor.libraries import NEEDED
from langadapt.errors import counted
from langadapt.machine import BF16
from langadapt.models import hub_cache, hub_home

ALL = (*CHECKS, *COMBINATIONS)
TOLD = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "amx_bf16",
    "bf16",
    "sve",
)  # of what a processor can do, what models are faster by
MOST = 20_000  # files of the hub's cache that are counted; more would take longer than the rest of the doctor

Rows = Iterator[tuple[str, str]]


def versions(facts: Facts) -> Rows:
    """langadapt, Python and the libraries that results come from."""
    langadapt = facts.packages.get("langadapt")
    yield "langadapt", f"{langadapt.version if langadapt else 'not installed'}, in {_home(Path(__file__).parents[1])}"
    yield "python", f"{platform.python_version()}, {_home(Path(sys.executable))}"
    yield "system", platform.platform()
    least = {r.name.lower(): str(r.specifier) for r in requirements(langadapt)} if langadapt else {}
    for name in sorted({*TRIED, *NEEDED}):
        package = facts.packages.get(name)
        known = [f"needs {least[name]}" if name in least else "", f"tried with {TRIED[name]}" if name in TRIED else ""]
        said = "; ".join(filter(None, known))
        yield name, f"{package.version if package else 'not installed'}{f'  ({said})' if said else ''}"


def plugins(facts: Facts) -> Rows:
    """Plugins, with what they offer or why they could not be loaded."""
    for plugin in facts.plugins:
        offers = ", ".join(f"{len(names)} × {word}" for word, names in plugin.offers.items())
        said = f"could not be loaded: {plugin.error}" if plugin.error else offers
        yield plugin.name, f"{plugin.distribution} {plugin.version}, contract {plugin.contract}: {said}"


def disk(facts: Facts) -> Rows:
    """Where a run writes, how much is free there, and what the filesystem is."""
    for place in facts.places:
        fails = "; ".join(f"{deed} failed: {why}" for deed, why in place.fails.items())
        kind = f", {place.filesystem}" if place.filesystem else ""
        yield place.use, f"{_home(place.path)}: {place.free / 1e9:.1f} GB free{kind}{f'; {fails}' if fails else ''}"


def caches(facts: Facts) -> Rows:
    """What lies in the caches."""
    kept = entries()
    yield (
        "langadapt's cache",
        f"{_home(cache_folder())}: {counted(len(kept), 'entry', 'entries')}, {sum(e.size for e in kept) / 1e9:.2f} GB",
    )
    models = {kind: len(list(hub_cache().glob(f"{kind}--*"))) for kind in ("models", "datasets")}
    blobs = [file.stat().st_size for file in islice(hub_cache().glob("*/blobs/*"), MOST)]
    more = " and more" if len(blobs) == MOST else ""
    yield (
        "the hub's cache",
        f"{_home(hub_cache())}: {counted(models['models'], 'model')}, {counted(models['datasets'], 'data set')}, "
        f"{sum(blobs) / 1e9:.2f} GB{more}",
    )


def hub(facts: Facts) -> Rows:
    """The way to the hub; a token is never shown."""
    yield (
        "token",
        f"set, in {_home(Path(facts.tokens[0]))}" if facts.tokens else "none; gated models need one: hf auth login",
    )
    yield "endpoint", shown("HF_ENDPOINT", facts.environment.get("HF_ENDPOINT", "")) or "https://huggingface.co"
    yield "home", _home(hub_home())


def variables(facts: Facts) -> Rows:
    """The variables that change what langadapt or a library does."""
    for name, value in sorted(facts.environment.items()):
        if TELLING.match(name):
            yield name, shown(name, value)


def devices(facts: Facts) -> Rows:
    """Processor, memory, GPUs, and what langadapt makes of them."""
    name, can = facts.processor
    told = ", ".join(flag for flag in TOLD if flag in can)
    yield "processor", f"{name or platform.machine()}: {facts.machine.cores} cores{f'; {told}' if told else ''}"
    yield "memory", f"{facts.machine.memory / 2**30:.1f} GiB"
    for number, gpu in enumerate(facts.gpus):
        memory = f"{gpu.memory / 2**30:.0f} GiB, {gpu.used / 2**30:.1f} in use"
        capability = ".".join(map(str, gpu.capability))
        yield f"GPU {number}", f"{gpu.name}, {memory}, compute capability {capability}, driver {gpu.driver}"
    if not facts.gpus:
        yield "GPUs", "none"
    yield "precision", _precision(facts)


def libraries(facts: Facts) -> Rows:
    """What came of trying the libraries."""
    for name, library in facts.libraries.items():
        found = ", ".join(f"{key} {_short(value)}" for key, value in library.found.items() if value not in ("", []))
        yield (
            name,
            f"FAILS: {' '.join(library.error.split())}" if library.error else f"works{f': {found}' if found else ''}",
        )


EARLY: Mapping[str, Callable[[Facts], Rows]] = {
    "versions": versions,
    "plugins": plugins,
    "devices": devices,
    "disk": disk,
    "caches": caches,
    "hub": hub,
    "variables": variables,
}
LATE: Mapping[str, Callable[[Facts], Rows]] = {"libraries": libraries}


def _precision(facts: Facts) -> str:
    if not facts.machine.bf16:
        return "fp32: this processor has no bf16 instructions"
    if facts.machine.cuda:
        emulated = any(gpu.capability < BF16_IN_HARDWARE for gpu in facts.gpus)
        return "bf16: there is a GPU" + (", which emulates it" if emulated else "")
    return f"bf16: this processor multiplies it ({', '.join(sorted(facts.processor[1] & BF16)) or platform.machine()})"


def _short(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float)
        else " ".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )


def _home(path: Path) -> str:
    """A path without the name of whoever's home folder it is in."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) and home != Path("/") else str(path)
