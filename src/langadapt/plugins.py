"""Finds plugins, asks them what they offer, and keeps the answers by name.

Entry points are loaded one at a time, each followed by a check of its hook names, so that one broken plugin is known by
name and harms nothing else. A listing shows it; a run that needs it is stopped (see `Registry.require`). A name that two
plugins offer is nobody's: whoever asks for it is told of both.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import re
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from langadapt import hookspecs, records
from langadapt.errors import LangadaptError, UserError, nearest

GROUP = "langadapt"
OURS = Path(__file__).parent
DECLARED = "LANGADAPT_CONTRACT"  # the name under which a plugin's module says which contract it was written for

# What takes a tenth of a second and more to import. Every command loads all plugins, so none of them may need these at once.
HEAVY = frozenset({
    "accelerate", "bitsandbytes", "ctranslate2", "datasets", "deepspeed", "jax", "matplotlib", "nltk", "numpy", "pandas",
    "peft", "pyarrow", "scipy", "sentence_transformers", "sklearn", "spacy", "stanza", "tensorflow", "tokenizers", "torch",
    "transformers", "trl",
})  # fmt: skip

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
    """A plugin as it was found.

    Attributes:
        name: of its entry point.
        distribution: name of the package that it is from.
        version: of that package.
        file: of its module; "" when it was not found.
        contract: the number of the contract that it was written for.
        offers: names of its records, by word: `{"corpus": ("dolly-it",)}`.
        error: why it could not be used; "" when it can.
        details: the traceback of that.
        warnings: what its author should mend.
    """

    name: str
    distribution: str
    version: str
    file: str = ""
    contract: int = hookspecs.CONTRACT
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""
    details: str = ""
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


class Offers(Mapping[str, Record]):
    """Records of one hook by name and alias; a missing name raises with the nearest one.

    Asking for a name that several plugins offer raises a `UserError`, also by `in`: nobody can tell which is meant.
    """

    def __init__(self, word: str, failed: Iterable[Plugin]):
        self._word, self._failed = word, failed
        self._records: dict[str, Record] = {}
        self._aliases: dict[str, str] = {}
        self._owners: dict[str, Plugin] = {}
        self._contested: dict[str, list[Plugin]] = {}

    def __getitem__(self, name: str) -> Record:
        key = self._key(name)
        if key not in self._records:
            raise KeyError(name)
        return self._records[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record, owner: Plugin) -> None:
        """Takes a record in under its name and aliases; what is offered already is nobody's from now on."""
        own = name_of(record)
        for name in names_of(record):
            if name in self._contested:
                self._contested[name].append(owner)
            elif name in self._owners:
                self._contested[name] = [self._owners.pop(name), owner]
                self._records.pop(name, None)
                self._aliases.pop(name, None)
            else:
                self._owners[name] = owner
                if name == own:
                    self._records[name] = record
                else:
                    self._aliases[name] = own

    def owner(self, name: str) -> Plugin:
        """The plugin that offers `name`."""
        return self._owners[self._key(name)]

    def clashes(self, plugin: Plugin) -> Iterator[str]:
        """What others offer too of that which a plugin offers."""
        for name, owners in self._contested.items():
            if plugin in owners:
                others = " and ".join(str(other) for other in owners if other != plugin)
                said = f'the {self._word} "{name}" is offered by {others} too'
                yield f"{said}, so nobody can ask for it; uninstall one of them"

    def missing(self, name: str, *others: str) -> str:
        """Why `name` is not there and what to do, as the second half of a message.

        Args:
            name: what was asked for.
            others: names that could have been meant too, beside those that are offered.
        """
        hint = nearest(name, [*self._records, *self._aliases, *others])
        broken = "; ".join(
            f"plugin {plugin} failed: {plugin.error} (langadapt check-plugin {plugin.name} says where)"
            for plugin in self._failed
        )
        return "; ".join(part for part in (broken, hint) if part) or "langadapt plugins lists what there is"

    def _key(self, name: str) -> str:
        key = self._aliases.get(name, name)
        if owners := self._contested.get(key):
            both = " and ".join(map(str, owners))
            raise UserError(f'two plugins offer the {self._word} "{key}": {both}; uninstall one of them')
        return key


class Registry:
    """Everything that the core and the installed plugins offer.

    Each hook has an attribute of its name without `langadapt_`, a mapping from names to records: `corpora["dolly-it"]`. A
    name that nobody offers raises an error with the nearest one.

    Args:
        only: names of the plugins to load; None for all that are installed.

    Attributes:
        plugins: the core, the plugins that were loaded, and those that failed, with what each offers.
        failed: those that could not be loaded, with the reason.
    """

    def __init__(self, only: Collection[str] | None = None) -> None:
        from langadapt import builtin

        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        failed: list[Plugin] = []
        self._offers: dict[str, Offers[Any]] = {hook: Offers(word, failed) for hook, (_, word) in HOOKS.items()}
        core = Plugin(name="core", distribution="langadapt", version=metadata.version("langadapt"), file=_file(builtin))
        self._core = self._add(core, self._collect(builtin))
        loaded: list[Plugin] = []
        entries = [e for e in metadata.entry_points(group=GROUP) if only is None or e.name in only]
        for entry in sorted(entries, key=lambda e: e.name):
            plugin, offers = self._load(entry)
            if plugin.error:
                failed.append(plugin)
            else:
                loaded.append(self._add(plugin, offers))
        self.plugins = [self._core, *map(self._with_clashes, loaded), *failed]
        self.failed = tuple(failed)

    def __getattr__(self, name: str) -> Offers[Any]:
        offers: Offers[Any] | None = self.__dict__.get("_offers", {}).get(f"langadapt_{name}")
        if offers is None:
            raise AttributeError(name)
        return offers

    def require(self, requirement: str) -> str:
        """What is wrong with a `requirement` such as `langadapt-italian>=0.1`; "" when it is met."""
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            wanted = Requirement(requirement)
        except InvalidRequirement:
            return f'"{requirement}" is not a requirement; write it as "langadapt-italian>=0.1"'
        for plugin in self.failed:
            if _same(plugin.distribution, wanted.name):
                said = f"plugin {plugin.name} of {plugin.distribution} {plugin.version} is broken: {plugin.error}"
                return f"{said}; upgrade or uninstall it"
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
            with _watched() as warnings:
                known = replace(known, contract=declared_contract(entry.module) or 1)
                if problem := contract_problem(known.contract, known.distribution):
                    raise UserError(problem)
                module = entry.load()
                known, offers = replace(known, file=_file(module)), self._collect(module)
            self._refuse_taken(offers)
            return replace(known, warnings=tuple(warnings)), offers
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises must not stop a listing
            return replace(known, error=in_words(error), details=traceback.format_exc()), {}

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

    def _with_clashes(self, plugin: Plugin) -> Plugin:
        clashes = (clash for table in self._offers.values() for clash in table.clashes(plugin))
        return replace(plugin, warnings=(*plugin.warnings, *clashes))

    def _refuse_taken(self, offers: Mapping[str, list[Any]]) -> None:
        """Raises where a plugin takes a name of the core's, or gives one twice."""
        for hook, found in offers.items():
            word, table = HOOKS[hook][1], self._offers[hook]
            names = [name for record in found for name in names_of(record)]
            for name in names:
                if name in table._owners and table.owner(name) == self._core:
                    raise UserError(f'the {word} "{name}" is the core\'s; give yours another name')
                if names.count(name) > 1:
                    raise UserError(f'it offers the {word} "{name}" twice; leave one out')

    def _add(self, plugin: Plugin, offers: Mapping[str, list[Any]]) -> Plugin:
        """The plugin with what it offers, which can now be asked for."""
        plugin = replace(plugin, offers={HOOKS[hook][1]: tuple(map(name_of, found)) for hook, found in offers.items()})
        for hook, found in offers.items():
            for record in found:
                self._offers[hook].add(record, plugin)
        return plugin


def name_of(record: Any) -> str:
    """What a record is called; a language goes by its tag."""
    return str(getattr(record, "tag", None) or record.name)


def names_of(record: Any) -> tuple[str, ...]:
    """The name of a record, and its aliases."""
    return (name_of(record), *getattr(record, "aliases", ()))


def in_words(error: BaseException) -> str:
    """An exception as a listing shows it; those that are raised on purpose speak for themselves."""
    if isinstance(error, LangadaptError):
        return str(error)
    said = _misspelt_field(error) or str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _misspelt_field(error: BaseException) -> str:
    """What a record of ours was given that is no field of it, with the nearest one; "" for any other error."""
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    record = getattr(records, found[1], None) if found else None
    if not found or not is_dataclass(record):
        return ""
    hint = nearest(found[2], (one.name for one in fields(record)))
    return "; ".join(filter(None, [f'{found[1]} has no field "{found[2]}"', hint]))


def fault_of_plugin(error: BaseException) -> UserError | None:
    """An error that rose in a plugin's own code, or in a library that it called, as its user is told of it; None for one
    that rose elsewhere.
    """
    for file, line, function in reversed(_frames(error)):
        if Path(file).is_relative_to(OURS):
            return None
        owner = next((p for p in registry().plugins if p.file and Path(file).is_relative_to(_package(p.file))), None)
        if owner:
            return UserError(
                f"plugin {owner}: {in_words(error)}, in {function} of {file}:{line}; "
                f"langadapt check-plugin {owner.name} says more, and its authors can mend it"
            )
    return None


def _frames(error: BaseException) -> list[tuple[str, int, str]]:
    """Where an error came through, file, line and function; from another process it brings only its printed traceback."""
    printed = str(error.__cause__) if type(error.__cause__).__name__ == "_RemoteTraceback" else ""
    if found := re.findall(r'File "(.+)", line (\d+), in (.+)', printed):
        return [(file, int(line), function) for file, line, function in found]
    return [(f.filename, f.lineno or 0, f.name) for f in traceback.extract_tb(error.__traceback__)]


def _package(file: str) -> Path:
    """The folder of the package that a module is in; the module itself where it is in none."""
    path = Path(file)
    while (path.parent / "__init__.py").exists():
        path = path.parent
    return path


def declared_contract(module: str) -> int | None:
    """The contract that a module says it was written for; None when it says nothing.

    It is read and not run: a plugin for another contract may not even import.
    """
    spec = importlib.util.find_spec(module)
    read = getattr(spec and spec.loader, "get_source", None)
    found = re.search(rf"^{DECLARED}\b[^=\n]*=\s*(\d+)", (read and read(module)) or "", re.MULTILINE)
    return int(found[1]) if found else None


def contract_problem(contract: int, distribution: str) -> str:
    """Why a plugin for that contract does not work here, and what to do; "" when it does."""
    mine = f"this langadapt ({metadata.version('langadapt')}) has {hookspecs.CONTRACT}"
    if contract > hookspecs.CONTRACT:
        return f"it was written for contract {contract}, {mine}; pip install --upgrade langadapt"
    if contract < hookspecs.OLDEST:
        return (
            f"it was written for contract {contract}, {mine} and takes plugins from {hookspecs.OLDEST} on; "
            f"pip install --upgrade {distribution}, or ask its authors for a version that fits"
        )
    return ""


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Keeps what a plugin prints away from what the command prints, and tells of that and of what it should not import."""
    printed, before, warnings = io.StringIO(), HEAVY & sys.modules.keys(), list[str]()
    with redirect_stdout(printed):
        yield warnings
    if said := printed.getvalue().strip():
        warnings.append(f'it prints when it is loaded: "{said[:60]}"; leave that out')
    for name in sorted((HEAVY & sys.modules.keys()) - before):
        warnings.append(f"it imports {name} when it is loaded, which slows every command; import it where it is used")


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
