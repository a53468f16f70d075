"""Checks of what a sound installation has anywhere: packages, libraries, GPUs, disks, plugins, the way to the hub."""

from __future__ import annotations

from collections.abc import Iterator

from langadapt.doctor.checking import check
from langadapt.doctor.combinations import explained
from langadapt.doctor.facts import Facts
from langadapt.doctor.installed import TRIED, needed, public, unmet

FULL = 10**9  # bytes; with less, not even a rehearsal's checkpoints can be written
PIP = "https://pip.pypa.io/en/stable/cli/pip_check/"
REFERENCE = "docs/reference.md"
NF4_OFF = 0.152  # half the widest gap of NF4's sixteen values, -1 to -0.6962 (QLoRA, arXiv 2305.14314, appendix E)


def roots(facts: Facts) -> list[str]:
    """The packages that a run needs on its own account: langadapt and the plugins that were found."""
    return list(dict.fromkeys(["langadapt", *(plugin.distribution for plugin in facts.plugins)]))


# --- packages ---------------------------------------------------------------------------------------------------------


@check(
    happens="what needs it stops with an ImportError",
    do="pip install what is in the quotes",
    source=PIP,
)
def package_missing(facts: Facts) -> Iterator[str]:
    """A package that langadapt, a plugin or one of their packages requires is not installed."""
    for owner in needed(facts.packages, roots(facts)):
        for one in unmet(facts.packages, owner):
            if not one.installed:
                yield f'{owner.name} {owner.version} requires "{_wanted(one.requirement)}", which is not installed'


@check(
    happens="it may fail on import, as transformers does where tokenizers is too new, or behave otherwise than tested",
    do="pip install what is in the quotes; where two want different versions, upgrade both, or use a fresh environment",
    source=PIP,
)
def version_unmet(facts: Facts) -> Iterator[str]:
    """A package is older or newer than langadapt, a plugin or one of their packages requires."""
    for owner in needed(facts.packages, roots(facts)):
        for one in unmet(facts.packages, owner):
            if one.installed:
                there = f"{one.requirement.name} {one.installed} is installed"
                yield f'{owner.name} {owner.version} requires "{_wanted(one.requirement)}", and {there}'


@check(
    weight="note",
    happens="options may behave otherwise; whether they exist is checked against the installed version",
    do="rehearse before a long run; where something breaks, go back to the version that was tried",
    source=f"{REFERENCE}#langadapt-doctor",
)
def newer_than_tried(facts: Facts) -> Iterator[str]:
    """A library is of a newer release than langadapt's own tests run with."""
    for name, tried in TRIED.items():
        there = public(facts.packages[name].version) if name in facts.packages else None
        known = public(tried)
        if there and known and there.release[:2] > known.release[:2]:
            yield f"{name} {there} is installed, and {tried} was tried"


@check(
    happens="the rest of an installation that was broken off: metadata tells of one version, and another may be imported",
    do="pip uninstall it until nothing is left, then install it again",
    source="https://packaging.python.org/en/latest/specifications/recording-installed-packages/",
)
def two_versions(facts: Facts) -> Iterator[str]:
    """One folder holds two versions of a package."""
    for package in needed(facts.packages, roots(facts)):
        if package.others:
            yield f"{package.name} is there as {package.version} and as {', '.join(package.others)}"


@check(
    happens="requirements were met by the one and the other runs",
    do="look at PYTHONPATH and at the folder you are in, and uninstall the one that is not meant",
    source="https://docs.python.org/3/library/sys_path_init.html",
)
def another_imported(facts: Facts) -> Iterator[str]:
    """What is imported is another version than what is installed."""
    for name, library in facts.libraries.items():
        package = facts.packages.get(name)
        imported, there = public(library.version), public(package.version) if package else None
        if imported and there and imported != there:
            yield f"{name} {there} is installed, and {imported} is imported"


@check(
    weight="note",
    happens="they win over those of the environment, in every environment of this user with the same Python",
    do="pip uninstall them there, or set PYTHONNOUSERSITE=1",
    source="https://docs.python.org/3/using/cmdline.html#envvar-PYTHONNOUSERSITE",
)
def users_own_packages(facts: Facts) -> Iterator[str]:
    """Some packages lie in the user's own folder and others in the environment."""
    used = needed(facts.packages, roots(facts))
    own = sorted(package.name for package in used if package.of_user)
    if own and len(own) < len(used):
        yield f"in the user's own folder: {', '.join(own[:6])}{f' and {len(own) - 6} more' if len(own) > 6 else ''}"


@check(
    happens="every stage that needs it fails",
    do="read its message; pip install --force-reinstall it, and show both in an issue where that does not help",
    source=f"{REFERENCE}#langadapt-doctor",
)
def library_broken(facts: Facts) -> Iterator[str]:
    """A library cannot be imported, or not do one small thing, and none of the known combinations is why."""
    for name, library in facts.libraries.items():
        if name != "cuda" and library.error and not explained(name, library.error):
            yield f"{name}: {_one_line(library.error)}"


# --- GPUs and processor -----------------------------------------------------------------------------------------------


@check(
    happens="everything runs on the processor",
    do="set CUDA_VISIBLE_DEVICES to the numbers of GPUs, or unset it; in a container, start it with --gpus all",
    source="https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables",
)
def gpu_hidden(facts: Facts) -> Iterator[str]:
    """The driver lists GPUs, and this process may use none of them."""
    if facts.gpus and not facts.machine.cuda:
        chosen = facts.environment.get("CUDA_VISIBLE_DEVICES")
        why = f' (CUDA_VISIBLE_DEVICES is "{chosen}")' if chosen is not None else ""
        names = " and ".join(dict.fromkeys(gpu.name for gpu in facts.gpus))
        yield f"the driver lists {names}, and this process sees no GPU{why}"


@check(
    happens="a plan counts on the GPU, and the models then run on the processor or fail",
    do="install a torch that is built for this GPU and for the CUDA that its driver knows, or a newer driver",
    source="https://docs.nvidia.com/deploy/cuda-compatibility/",
)
def gpu_unusable(facts: Facts) -> Iterator[str]:
    """There is a GPU, and torch cannot compute on it."""
    if error := facts.error("cuda"):
        names = " and ".join(dict.fromkeys(name for name, _ in facts.machine.gpus))
        torch = facts.libraries.get("torch")
        built = torch.found.get("built for") if torch else None
        yield f"torch, built for {built or 'nothing known'}, cannot use {names}: {_one_line(error)}"


@check(
    happens="QLoRA, 8-bit optimizers and 8-bit weights fail, or are so slow that they seem to",
    do="pip install --force-reinstall bitsandbytes; where it has no library for torch's CUDA, install a torch of another",
    source="https://huggingface.co/docs/bitsandbytes/main/en/installation",
)
def no_four_bits(facts: Facts) -> Iterator[str]:
    """bitsandbytes has no library for this machine, or what it takes to four bits does not come back."""
    library = facts.libraries.get("bitsandbytes")
    if library is None or library.error:
        return  # not installed, or told about as a library
    found = library.found
    if not found["library"]:
        yield f"bitsandbytes {library.version} has found no library of its own for the {found['device']}"
    elif not found["off"] <= NF4_OFF:  # not a number is no small number
        yield (
            f"bitsandbytes {library.version} ({found['library']}): weights come back from four bits {found['off']:.2g} off, "
            f"and NF4 is never more than {NF4_OFF} off"
        )


# --- disks ------------------------------------------------------------------------------------------------------------


@check(
    happens="what is to lie there cannot be written",
    do="choose another folder: --out for runs, LANGADAPT_CACHE and HF_HOME for the caches, TMPDIR for temporary files",
    source=f"{REFERENCE}#the-run-folder",
)
def not_writable(facts: Facts) -> Iterator[str]:
    """A folder that a run writes to cannot be written."""
    for place in facts.places:
        if "write" in place.fails:
            yield f"{place.use}: {place.path}: {place.fails['write']}"


@check(
    happens="nothing can be written there any more, and a run stops in its midst",
    do="make room (langadapt cache prune, hf cache rm), or choose a folder on another disk",
    source=f"{REFERENCE}#how-a-plan-estimates",
)
def disk_full(facts: Facts) -> Iterator[str]:
    """Less than 1 GB is free where a run writes to."""
    for place in facts.places:
        if place.free < FULL:
            yield f"{place.use}: {place.path}: {place.free / 1e6:.0f} MB are free"


@check(
    happens="runs and downloads stop with an error, or two of them write the same file",
    do="choose a folder on a disk of this machine, or have the filesystem mounted with locks (Lustre: -o flock)",
    source="https://github.com/huggingface/huggingface_hub/issues/2399",
)
def no_locks(facts: Facts) -> Iterator[str]:
    """A lock cannot be taken where a run writes to, or keeps nobody out."""
    for place in facts.places:
        if "lock" in place.fails:
            yield f"{place.use}: {place.path} ({place.filesystem or 'filesystem not known'}): {place.fails['lock']}"


@check(
    weight="note",
    happens="the hub library copies a file for every revision, and a model takes its room on the disk several times",
    do="set HF_HOME to a folder on a filesystem with links; on Windows, turn on developer mode",
    source="https://huggingface.co/docs/huggingface_hub/en/guides/manage-cache#limitations",
)
def no_links(facts: Facts) -> Iterator[str]:
    """Symbolic links cannot be made in the hub's cache."""
    for place in facts.places:
        if place.use == "the hub's cache" and "link" in place.fails:
            yield f"{place.use}: {place.path} ({place.filesystem or 'filesystem not known'}): {place.fails['link']}"


# --- plugins ----------------------------------------------------------------------------------------------------------


@check(
    happens="no command that reads a recipe works",
    do="mend what is said above about packages, or install langadapt again",
    source=f"{REFERENCE}#langadapt-plugins",
)
def core_broken(facts: Facts) -> Iterator[str]:
    """langadapt's own parts cannot be loaded."""
    if facts.broken:
        yield _one_line(facts.broken)


@check(
    happens="what it offers is not there, and a recipe that requires it is refused",
    do="upgrade it, or show the message to its authors; langadapt check-plugin says more",
    source="docs/plugins.md",
)
def plugin_broken(facts: Facts) -> Iterator[str]:
    """A plugin could not be loaded."""
    for plugin in facts.plugins:
        if plugin.error:
            yield f"{plugin}: {_one_line(plugin.error)}"


@check(
    happens="whoever asks for the name is told of both plugins, and nothing else",
    do="uninstall one of them",
    source="docs/plugins.md",
)
def plugins_clash(facts: Facts) -> Iterator[str]:
    """Two plugins offer the same name."""
    for plugin in facts.plugins:
        for clash in facts.clashes.get(plugin.name, ()):
            yield f"{plugin}: {clash}"


@check(
    weight="note",
    happens="every command waits for it, or has its output spoilt",
    do="show it to the plugin's authors",
    source="docs/plugins.md",
)
def plugin_ill_mannered(facts: Facts) -> Iterator[str]:
    """A plugin prints when it is loaded, or imports heavy libraries."""
    for plugin in facts.plugins:
        for warning in plugin.warnings:
            if warning not in facts.clashes.get(plugin.name, ()):
                yield f"{plugin}: {warning}"


@check(
    weight="note",
    happens="recipes find no language, no corpora and no prompts",
    do="pip install a language's plugin, such as langadapt-italian, or write one: langadapt new-plugin",
    source="docs/plugins.md",
)
def no_language(facts: Facts) -> Iterator[str]:
    """No plugin that is installed offers a language."""
    if not facts.broken and not any("language" in plugin.offers for plugin in facts.plugins):
        yield "no plugin offers a language"


def _wanted(requirement: object) -> str:
    return str(requirement).partition(";")[0].strip()


def _one_line(message: str) -> str:
    return " ".join(message.split())


CHECKS = (
    package_missing,
    version_unmet,
    two_versions,
    another_imported,
    users_own_packages,
    newer_than_tried,
    library_broken,
    gpu_hidden,
    gpu_unusable,
    no_four_bits,
    not_writable,
    disk_full,
    no_locks,
    no_links,
    core_broken,
    plugin_broken,
    plugins_clash,
    plugin_ill_mannered,
    no_language,
)
