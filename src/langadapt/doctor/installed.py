"""The packages that are installed, as their metadata tells, and what they require of each other. Nothing is imported."""

from __future__ import annotations

import site
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

# The versions that langadapt's own tests run with, of the libraries that its results come from.
TRIED: Mapping[str, str] = {
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "peft": "0.21.2",
    "trl": "1.16.0",
    "datasets": "5.2.0",
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "tokenizers": "0.23.3",
}


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed distribution.

    Attributes:
        name: as it calls itself.
        version: of the one that is imported.
        requires: its requirements, as its metadata has them.
        others: versions of it that lie in the same folder too, which no sound installation leaves there.
        of_user: whether it lies in the user's own folder (`~/.local`) and not in the environment.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    of_user: bool = False


@dataclass(frozen=True, kw_only=True)
class Unmet:
    """A requirement that is not met: whose, what, and the version that is there instead, "" for none."""

    owner: Package
    requirement: Requirement
    installed: str


def installed() -> dict[str, Package]:
    """Every distribution on the path by its normalised name; of several, the one that comes first, as an import finds it."""
    found: dict[str, Package] = {}
    folders: dict[str, str] = {}
    others: dict[str, list[str]] = {}
    of_user = site.getusersitepackages()
    for distribution in metadata.distributions():
        if not (name := distribution.metadata["Name"]):
            continue  # the remains of an installation that was broken off
        key, folder = str(canonicalize_name(name)), str(distribution.locate_file(""))
        if key in found:
            if folder == folders[key]:
                others.setdefault(key, []).append(distribution.version)
            continue
        folders[key] = folder
        found[key] = Package(
            name=name,
            version=distribution.version,
            requires=tuple(distribution.requires or ()),
            of_user=folder.rstrip("/\\") == of_user,
        )
    for key, versions in others.items():
        different = tuple(sorted(set(versions) - {found[key].version}))
        found[key] = Package(**{**vars(found[key]), "others": different})
    return found


def requirements(package: Package) -> Iterator[Requirement]:
    """What a package requires on this platform, without extras; what cannot be parsed is left out, as pip does."""
    for text in package.requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def needed(packages: Mapping[str, Package], roots: Iterable[str]) -> list[Package]:
    """The installed packages that these need, themselves included, each once."""
    seen: dict[str, Package] = {}
    left = [str(canonicalize_name(root)) for root in roots]
    while left:
        key = left.pop()
        if key in seen or key not in packages:
            continue
        seen[key] = packages[key]
        left += (str(canonicalize_name(requirement.name)) for requirement in requirements(packages[key]))
    return list(seen.values())


def unmet(packages: Mapping[str, Package], owner: Package) -> Iterator[Unmet]:
    """The requirements of a package that what is installed does not meet."""
    for requirement in requirements(owner):
        there = packages.get(str(canonicalize_name(requirement.name)))
        if there is None:
            yield Unmet(owner=owner, requirement=requirement, installed="")
        elif not requirement.specifier.contains(there.version, prereleases=True):
            yield Unmet(owner=owner, requirement=requirement, installed=there.version)


def public(version: str) -> Version | None:
    """A version without what it says of its build (`+cu128`); None for what is no version."""
    try:
        return Version(Version(version).public)
    except InvalidVersion:
        return None
