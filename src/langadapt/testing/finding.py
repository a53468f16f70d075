"""Which plugin is meant: an installed one by its name, distribution or module, or the folder of one that is not installed.

A plugin that is not installed is put on the path as pip would leave it, so that everything sees it as any other.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import inspect
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.utils import canonicalize_name

from langadapt.errors import UserError, nearest
from langadapt.plugins import GROUP, HOOKS, Plugin, declared_contract, registry
from langadapt.testing.conformance import Subject
from langadapt.testing.probing import probe


def find(target: str | Path, *, options: Mapping[str, Mapping[str, Any]] | None = None) -> list[Subject]:
    """The plugins that are meant, ready to be checked; a distribution may have several.

    Args:
        target: name of an entry point or of a distribution, a module, or a folder with a `pyproject.toml`.
        options: by a record's name, values for options that have no default.

    Raises:
        UserError: there is no such plugin.
    """
    declared = True
    entries = _installed(str(target))
    if not entries and Path(target).is_dir():
        entries = _put_on_path(Path(target).resolve())
    elif not entries and _is_module(str(target)):
        entries, declared = _register(str(target), "0", {str(target): str(target)}, ()), False
    if not entries:
        known = [name for e in metadata.entry_points(group=GROUP) for name in (e.name, e.value)]
        raise UserError(
            f'there is no plugin "{target}": no entry point, distribution, module or folder is called so; '
            f"{nearest(str(target), known)}"
        )
    return [_subject(entry, declared, options or {}) for entry in entries]


def _installed(target: str) -> list[metadata.EntryPoint]:
    def is_meant(entry: metadata.EntryPoint) -> bool:
        distribution = canonicalize_name(entry.dist.name) if entry.dist else ""
        return target in (entry.name, entry.value, entry.module) or distribution == canonicalize_name(target)

    return [entry for entry in metadata.entry_points(group=GROUP) if is_meant(entry)]


def _is_module(target: str) -> bool:
    try:
        return all(part.isidentifier() for part in target.split(".")) and importlib.util.find_spec(target) is not None
    except (ImportError, ValueError):
        return False


def _put_on_path(folder: Path) -> list[metadata.EntryPoint]:
    """The entry points of a folder's `pyproject.toml`."""
    file = folder / "pyproject.toml"
    if not file.is_file():
        raise UserError(f"{folder} is no plugin's folder: it has no pyproject.toml; name the folder that has one")
    try:
        about = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from None
    project = about.get("project", {})
    points = project.get("entry-points", {}).get(GROUP, {})
    name = project.get("name", folder.name)
    if not points:
        module = str(name).replace("-", "_")
        raise UserError(
            f"{file}: no entry point in the group {GROUP}; write [project.entry-points.{GROUP}] and below it "
            f'{module.removeprefix("langadapt_")} = "{module}"'
        )
    sys.path[:0] = [str(root) for root in (folder / "src", folder) if root.is_dir()]
    importlib.invalidate_caches()
    entries = [entry for entry in _installed(str(name)) if entry.name in points]
    return entries or _register(str(name), str(project.get("version", "0")), points, project.get("dependencies", ()))


def _register(
    name: str, version: str, points: Mapping[str, str], requirements: Iterable[str]
) -> list[metadata.EntryPoint]:
    """Writes what pip would write of a distribution, into a folder that goes when the process ends."""
    site = Path(tempfile.mkdtemp(prefix="langadapt-plugin-"))
    atexit.register(shutil.rmtree, site, ignore_errors=True)
    about = site / f"{canonicalize_name(name).replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}", "utf-8")
    lines = "".join(f"{entry} = {value}\n" for entry, value in points.items())
    (about / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}", "utf-8")
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    registry.cache_clear()
    return _installed(name)


def _subject(entry: metadata.EntryPoint, declared: bool, options: Mapping[str, Mapping[str, Any]]) -> Subject:
    known = registry()
    found = [p for p in known.plugins if p.name == entry.name and entry.dist and p.distribution == entry.dist.name]
    plugin = found[0] if found else Plugin(name=entry.name, distribution="?", version="?", error="it was not found")
    module, records = _records(entry)
    return Subject(
        plugin=plugin,
        entry=entry.value,
        declared=declared,
        files=_files(module),
        contract=_contract(entry.module),
        requirements=tuple((entry.dist.requires if entry.dist else None) or ()),
        records=records,
        probe=probe(entry.value),
        known=known,
        options=options,
    )


def _records(entry: metadata.EntryPoint) -> tuple[ModuleType | None, dict[type, tuple[Any, ...]]]:
    """The module, and what its hooks give, as far as they give anything; what is wrong with them the probe knows."""
    records: dict[type, tuple[Any, ...]] = {}
    with redirect_stdout(StringIO()):
        try:
            plugin = entry.load()
            for hook, (wanted, _) in HOOKS.items():
                function = getattr(plugin, hook, None)
                if function is not None and hasattr(function, "langadapt_impl"):
                    records[wanted] = tuple(record for record in function() if isinstance(record, wanted))
        except (Exception, SystemExit):
            return sys.modules.get(entry.module), {}
    return sys.modules[entry.module], records


def _contract(module: str) -> int | None:
    try:
        return declared_contract(module)
    except (ImportError, SyntaxError):
        return None


def _files(module: ModuleType | None) -> tuple[Path, ...]:
    """The source files of a package, or the one of a module."""
    if module is None:
        return ()
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    if folders:
        return tuple(sorted(file for folder in folders for file in folder.rglob("*.py")))
    file = inspect.getsourcefile(module)
    return (Path(file),) if file else ()
