"""Finds plugins, asks them what they offer, and keeps the answers by name.

Entry points are loaded one at a time, each followed by a check of its hook names, so that one broken plugin is known by
name and harms nothing else. A listing shows it; a run that needs it is stopped (see `Registry.require`).
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from typing import Any, TypeVar

import pluggy

from langadapt import hookspecs, records
from langadapt.errors import UserError, nearest

GROUP = "langadapt"

# Hook, record class and the word that messages use, in the order in which listings show them.
HOOKS: Mapping[str, tuple[type, str]] = {
    "langadapt_languages": (records.Language, "language"),
    "langadapt_corpora": (records.Corpus, "corpus"),
    "langadapt_filters": (records.Filter, "filter"),
    "langadapt_tokenizers": (records.TokenizerStrategy, "tokenizer strategy"),
    "langadapt_embedding_inits": (records.EmbeddingInit, "embedding initialisation"),
    "langadapt_peft_strategies": (records.PeftStrategy, "PEFT strategy"),
    "langadapt_stages": (records.StageKind, "stage kind"),
    "langadapt_recipes": (records.RecipeSource, "recipe"),
    "langadapt_experiments": (records.ExperimentSource, "experiment"),
    "langadapt_prompts": (records.PromptFormat, "prompt format"),
    "langadapt_evaluations": (records.Evaluation, "evaluation"),
    "langadapt_translators": (records.Translator, "translator"),
}

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin as it was found: what it offers by word, or why it could not be used."""

    name: str
    distribution: str
    version: str
    file: str = ""
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""
    details: str = ""


class Offers(Mapping[str, Record]):
    """Records of one hook by name and alias; a missing name raises with the nearest one."""

    def __init__(self, word: str, failed: tuple[Plugin, ...]):
        self._word, self._failed = word, failed
        self._records: dict[str, Record] = {}
        self._aliases: dict[str, str] = {}
        self._owners: dict[str, Plugin] = {}

    def __getitem__(self, name: str) -> Record:
        key = self._aliases.get(name, name)
        if key not in self._records:
            raise KeyError(name)
        return self._records[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def owner(self, name: str) -> Plugin:
        """The plugin that offers `name`."""
        return self._owners[self._aliases.get(name, name)]

    def missing(self, name: str) -> str:
        """Why `name` is not there and what to do, as the second half of a message."""
        hint = nearest(name, [*self._records, *self._aliases])
        broken = "; ".join(f"plugin {p.name} ({p.distribution} {p.version}) failed: {p.error}" for p in self._failed)
        return "; ".join(part for part in (hint, broken) if part)


class Registry:
    """Everything that the core and the installed plugins offer.

    Raises:
        UserError: two plugins offer the same name.
    """

    def __init__(self) -> None:
        from langadapt import builtin

        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        core = Plugin(name="core", distribution="langadapt", version=metadata.version("langadapt"), file=_file(builtin))
        loaded: list[tuple[Plugin, dict[str, list[Any]]]] = [(core, self._collect(builtin))]
        failed: list[Plugin] = []
        for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: e.name):
            plugin, offers = self._load(entry)
            if plugin.error:
                failed.append(plugin)
            else:
                loaded.append((plugin, offers))
        self._offers: dict[str, Offers[Any]] = {hook: Offers(word, tuple(failed)) for hook, (_, word) in HOOKS.items()}
        self.plugins: list[Plugin] = []
        for plugin, offers in loaded:
            self._add(plugin, offers)
        self.plugins += failed
        self.failed = tuple(failed)

    def __getattr__(self, name: str) -> Offers[Any]:
        offers: Offers[Any] | None = self.__dict__.get("_offers", {}).get(f"langadapt_{name}")
        if offers is None:
            raise AttributeError(name)
        return offers

    def require(self, requirement: str) -> str:
        """What is wrong with a requirement such as `langadapt-italian>=0.1`; "" when it is met."""
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            wanted = Requirement(requirement)
        except InvalidRequirement:
            return f'"{requirement}" is not a requirement; write it as "langadapt-italian>=0.1"'
        for plugin in self.failed:
            if _same(plugin.distribution, wanted.name):
                return f"plugin {plugin.name} of {plugin.distribution} {plugin.version} is broken: {plugin.error}"
        try:
            installed = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            return f"{wanted.name} is not installed; run: pip install '{requirement}'"
        if not wanted.specifier.contains(installed, prereleases=True):
            return f"{wanted.name} {installed} is installed; run: pip install '{requirement}'"
        return ""

    # --- loading -----------------------------------------------------------------------------------------------------

    def _load(self, entry: metadata.EntryPoint) -> tuple[Plugin, dict[str, list[Any]]]:
        known = Plugin(
            name=entry.name,
            distribution=entry.dist.name if entry.dist else "?",
            version=entry.dist.version if entry.dist else "?",
        )
        try:
            module = entry.load()
            return replace(known, file=_file(module)), self._collect(module)
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises must not stop a listing
            message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return replace(known, error=message, details=traceback.format_exc()), {}

    def _collect(self, module: Any) -> dict[str, list[Any]]:
        try:
            self._manager.register(module)
            self._manager.check_pending()
            offers: dict[str, list[Any]] = {}
            for hook, (record_class, word) in HOOKS.items():
                for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                    if implementation.plugin is not module:
                        continue
                    for record in implementation.function() or ():
                        if not isinstance(record, record_class):
                            raise TypeError(
                                f"{hook} gave a {type(record).__name__} where a {record_class.__name__} "
                                f"({word}) is expected"
                            )
                        offers.setdefault(hook, []).append(record)
            return offers
        except BaseException:
            if self._manager.is_registered(module):
                self._manager.unregister(module)
            raise

    def _add(self, plugin: Plugin, offers: dict[str, list[Any]]) -> None:
        names: dict[str, tuple[str, ...]] = {}
        for hook, found in offers.items():
            table, word = self._offers[hook], HOOKS[hook][1]
            for record in found:
                name = getattr(record, "tag", None) or record.name
                for key in (name, *getattr(record, "aliases", ())):
                    if key in table or key in table._aliases:
                        other = table.owner(key)
                        raise UserError(
                            f'two plugins offer the {word} "{key}": {other.name} ({other.distribution} {other.version}) '
                            f"and {plugin.name} ({plugin.distribution} {plugin.version}); uninstall one of them"
                        )
                table._records[name] = record
                table._owners[name] = plugin
                table._aliases.update(dict.fromkeys(getattr(record, "aliases", ()), name))
            names[word] = tuple(getattr(r, "tag", None) or r.name for r in found)
        self.plugins.append(replace(plugin, offers=names))


@lru_cache(maxsize=1)
def registry() -> Registry:
    """The registry of this process, made at the first call."""
    return Registry()


def _file(module: Any) -> str:
    try:
        return inspect.getfile(module if inspect.ismodule(module) else type(module))
    except TypeError:
        return ""


def _same(left: str, right: str) -> bool:
    from packaging.utils import canonicalize_name

    return canonicalize_name(left) == canonicalize_name(right)
