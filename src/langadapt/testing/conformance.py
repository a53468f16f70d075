"""What a plugin has to keep to, check by check; behind `langadapt check-plugin` and behind a class for pytest.

A check is a function of a record, or of the plugin as a whole, that yields what is wrong. Its name is the function's, its
docstring says what has to hold, `right` what that looks like; a `Wrong` says that for itself. The functions are in
`langadapt.testing.checks`, a module for each kind of record.
"""

from __future__ import annotations

import ast
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from langadapt.plugins import HOOKS, Plugin, Registry, in_words, name_of
from langadapt.records import Corpus, Language
from langadapt.testing.probing import Probe

MOST = 3  # faults of one check in one record that are told; the others are mostly the same again, and are counted
PAGE = "docs/plugins.md"

T = TypeVar("T")


class NotChecked(Exception):
    """Raised by a check that cannot be made here, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A plugin that is checked.

    Attributes:
        plugin: as the registry found it.
        entry: what the entry point names, `module` or `module:attribute`.
        declared: whether an entry point names it.
        files: its source files.
        contract: that it declares; None for none.
        requirements: of its distribution, as its metadata has them.
        records: what its hooks gave, by type.
        probe: what a fresh process found.
        known: everything that is offered here.
        options: by a record's name, values for options that have no default.
        made: what checks have made and others use too.
    """

    plugin: Plugin
    entry: str
    declared: bool
    files: tuple[Path, ...]
    contract: int | None
    requirements: tuple[str, ...]
    records: Mapping[type, tuple[Any, ...]]
    probe: Probe
    known: Registry
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    made: dict[Any, Any] = field(default_factory=dict)

    @property
    def language(self) -> Language | None:
        """The first language that it offers."""
        return next(iter(self.records.get(Language, ())), None)

    @property
    def corpora(self) -> tuple[Corpus, ...]:
        """The corpora that it offers."""
        return self.records.get(Corpus, ())

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gives, made at the first call."""
        if key not in self.made:
            self.made[key] = make()
        found: T = self.made[key]
        return found

    def place(self, record: Any) -> str:
        """File and line that a record's name is given in; the plugin's file where it is not written out."""
        name = name_of(record) if record is not None else ""
        for file, number in self._named(name, type(record).__name__) if name else ():
            return f"{shown(file)}:{number}"
        return shown(Path(self.plugin.file)) if self.plugin.file else self.entry

    def _named(self, name: str, kind: str) -> Iterator[tuple[Path, int]]:
        """Where a record of that kind may be named, the surest first: others may have the same name."""
        called = [(file, *call) for file in self.files for call in _calls(self.tree(file), name)]
        yield from ((file, line) for file, callee, line in called if callee == kind)
        others = {record.__name__ for record, _ in HOOKS.values()}  # what is left makes records, as `free_text` does
        yield from ((file, line) for file, callee, line in called if callee not in others)
        for pattern in (rf"\b(?:name|tag)\s*=\s*[\"']{re.escape(name)}[\"']", rf"[\"']{re.escape(name)}[\"']"):
            for file in self.files:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                yield from ((file, number) for number, line in enumerate(lines, start=1) if re.search(pattern, line))

    def tree(self, file: Path) -> ast.Module:
        """A source file as Python reads it; an empty one where it cannot, which the check of the import says."""
        return self.once(("tree", file), lambda: _parsed(file.read_text(encoding="utf-8", errors="replace")))


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """What a check finds wrong, where something else than its own `right` shows what a right one looks like."""

    said: str
    right: str


Find = Callable[[Any, Subject], Iterable[str | Wrong]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that has to hold.

    Attributes:
        name: by which tests and messages call it.
        record: type of the records that it looks at; None for the plugin as a whole.
        says: what has to hold, a sentence.
        right: what that looks like.
        raises: what it looks like where a function of the plugin's raises; "" for `right`.
        anchor: heading of `docs/plugins.md` that explains it.
        find: record (or None) and subject in, what is wrong out.
    """

    name: str
    record: type | None
    says: str
    right: str
    raises: str
    anchor: str
    find: Find


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that does not hold: which check, in which record of which file, and what to do.

    `more` are others that the check found in the record, and that are not told.
    """

    check: str
    record: str
    where: str
    wrong: str
    right: str
    docs: str
    more: int = 0

    def __str__(self) -> str:
        about = f" of the {self.record}" if self.record else ""
        lines = [f"{self.check}{about}, {self.where}", f"  wrong: {self.wrong}"]
        lines += [f"         and {self.more:,} more"] if self.more else []
        return "\n".join([*lines, f"  right: {self.right}", f"  docs:  {self.docs}"])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A check of one record; of the plugin as a whole where there is none."""

    check: Check
    record: Any
    subject: Subject

    @property
    def about(self) -> str:
        """The record in words, `filter "eo-letters"`; "" for the plugin."""
        words = {record: word for record, word in HOOKS.values()}
        return f'{words[type(self.record)]} "{name_of(self.record)}"' if self.record is not None else ""

    def __str__(self) -> str:
        return f"{self.check.name} {name_of(self.record)}" if self.record is not None else self.check.name

    def faults(self) -> list[Fault]:
        """What is wrong.

        Raises:
            NotChecked: it cannot be told here.
        """
        found: list[Fault] = []
        try:
            for wrong in self.check.find(self.record, self.subject):
                if len(found) < MOST:
                    told = wrong if isinstance(wrong, Wrong) else Wrong(said=wrong, right=self.check.right)
                    found.append(self._fault(told))
                else:
                    found[-1] = replace(found[-1], more=found[-1].more + 1)
        except NotChecked:
            if not found:
                raise
        except Exception as error:  # whatever a plugin's function raises is what the check has found
            told = Wrong(said=f"it raises {in_words(error)}", right=self.check.raises or self.check.right)
            found.append(self._fault(told, self._raised(error)))
        return found

    def _fault(self, wrong: Wrong, where: str = "") -> Fault:
        return Fault(
            check=self.check.name,
            record=self.about,
            where=where or self.subject.place(self.record),
            wrong=wrong.said,
            right=wrong.right,
            docs=f"{PAGE}#{self.check.anchor}",
        )

    def _raised(self, error: Exception) -> str:
        """The plugin's own line that an exception came through last; "" for none."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename) in self.subject.files]
        return f"{shown(Path(own[-1].filename))}:{own[-1].lineno}" if own else ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that was found in one plugin; `left_out` says by case why something was not checked."""

    plugin: Plugin
    checked: int
    faults: tuple[Fault, ...]
    left_out: Mapping[str, str]

    @property
    def wrong(self) -> int:
        """How many faults there are, those included that are not told."""
        return sum(1 + fault.more for fault in self.faults)

    def to_json(self) -> dict[str, Any]:
        return {
            "plugin": self.plugin.name,
            "distribution": self.plugin.distribution,
            "version": self.plugin.version,
            "checked": self.checked,
            "faults": [vars(fault) for fault in self.faults],
            "left_out": dict(self.left_out),
        }


_CHECKS: list[Check] = []

Function = TypeVar("Function", bound=Find)


def check(record: type | None, *, right: str, raises: str = "", anchor: str = "") -> Callable[[Function], Function]:
    """Makes a check of a function; its name and docstring are those of the check."""
    hook = next((hook for hook, (kind, _) in HOOKS.items() if kind is record), "")

    def register(function: Function) -> Function:
        made = Check(
            name=function.__name__.replace("_", "-"),
            record=record,
            says=(function.__doc__ or "").strip(),
            right=right,
            raises=raises,
            anchor=anchor or hook,
            find=function,
        )
        _CHECKS.append(made)
        return function

    return register


@cache
def all_checks() -> tuple[Check, ...]:
    """Every check, in the order in which they are made."""
    from langadapt.testing import checks

    assert checks.MODULES
    return tuple(_CHECKS)


def cases(subject: Subject) -> Iterator[Case]:
    """Every check of every record; of a plugin that cannot be loaded, those of the plugin as a whole."""
    for one in all_checks():
        if one.record is None:
            yield Case(check=one, record=None, subject=subject)
        elif not subject.plugin.error:
            for record in subject.records.get(one.record, ()):
                yield Case(check=one, record=record, subject=subject)


def conform(subject: Subject, *, leave_out: Mapping[str, str] | None = None) -> Result:
    """Makes all checks.

    Args:
        subject: the plugin; see `langadapt.testing.finding`.
        leave_out: checks that are not made, with the reason: a check's name, or that and a record's.
    """
    faults: list[Fault] = []
    left: dict[str, str] = {}
    checked = 0
    for case in cases(subject):
        if reason := (leave_out or {}).get(str(case)) or (leave_out or {}).get(case.check.name):
            left[str(case)] = reason
            continue
        try:
            faults += case.faults()
            checked += 1
        except NotChecked as reason_here:
            left[str(case)] = str(reason_here)
    return Result(plugin=subject.plugin, checked=checked, faults=tuple(faults), left_out=left)


class PluginConformance:
    """All checks of a plugin as tests, one for each record and check; a plugin's tests inherit from it.

    ```python
    class TestBasque(PluginConformance):
        plugin = "langadapt_basque"
    ```

    Attributes:
        plugin: its module, the name of its entry point or distribution, or its folder.
        options: by a record's name, values for options of strategies, filters and translators that have no default.
        leave_out: checks that are not made, with the reason: a check's name, or that and a record's.
    """

    plugin: ClassVar[str | Path]
    options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    leave_out: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def pytest_generate_tests(cls, metafunc: Any) -> None:
        """Makes a test of every case; pytest calls it with its `metafunc` while it collects."""
        from langadapt.testing.finding import find

        if "case" in metafunc.fixturenames:
            found = [case for subject in find(cls.plugin, options=cls.options) for case in cases(subject)]
            metafunc.parametrize("case", found, ids=str)

    def test_conforms(self, case: Case) -> None:
        """What the check of this `case` says holds."""
        import pytest

        reason = self.leave_out.get(str(case)) or self.leave_out.get(case.check.name)
        if reason:
            pytest.skip(reason)
        try:
            faults = case.faults()
        except NotChecked as error:
            pytest.skip(str(error))
        if faults:
            pytest.fail("\n\n".join(map(str, faults)), pytrace=False)


def shown(file: Path) -> str:
    """A file as messages give it: from the current folder, where it is below it."""
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _calls(tree: ast.Module, name: str) -> Iterator[tuple[str, int]]:
    """What is called with that name, by keyword or first of all, and the line on which the name stands."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            callee = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            for value in (*(given.value for given in call.keywords if given.arg in ("name", "tag")), *call.args[:1]):
                if isinstance(value, ast.Constant) and value.value == name:
                    yield callee, value.lineno


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):  # ValueError: a NUL character
        return ast.Module(body=[], type_ignores=[])
