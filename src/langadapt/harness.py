"""lm-evaluation-harness: which tasks it has, what they read, and how a recipe names them.

A recipe writes `lm-eval/NAME` for a task, group or tag of the harness, and `lm-eval` for the tasks that the language's
plugin chose. The harness is an extra. Nothing of it is imported here but its index of tasks, which takes seconds to
read and is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from langadapt import artifacts
from langadapt.corpus.cache import cache_folder
from langadapt.errors import UserError, nearest
from langadapt.models import WINDOW

SUITE = "lm-eval"
PACKAGE = "lm_eval"
MISSING = "lm-evaluation-harness is not installed; pip install 'langadapt[lm-eval]'"
FORMAT = 1  # of the index that is kept
MOST_ROWS = 8
LOGITS = 2**28  # in one batch at most, for rows of WINDOW tokens: 1 GiB in fp32

# What the data loader calls a kind of file; a task that names one of them as its data set brings files of its own.
BUILDERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
_OWN_DATA = {
    "arrow",
    "audiofolder",
    "csv",
    "generator",
    "imagefolder",
    "json",
    "pandas",
    "parquet",
    "text",
    "webdataset",
}
# Keys of a group that say what it is and how it is averaged; any other is a setting that it gives to its tasks.
_OF_GROUPS = {"aggregate_metric_list", "group", "group_alias", "include", "metadata", "tag", "task", "version"}


@dataclass(frozen=True, kw_only=True)
class HarnessTask:
    """A task of the harness.

    Attributes:
        name: the harness's.
        named: what a recipe may call it by: its own name, then that of each group or tag through which it was named.
        file: of its definition, below the harness's folder of tasks.
        dataset: its data set on the hub.
        config: configuration of the data set; "" for none.
        options: for the data set's loader.
        version: of the task, as its authors count.
        evaluated: split whose items are asked.
        shots: split that examples are drawn from; "" where they stand in the definition.
        num_fewshot: examples before each question.
        problem: why it cannot be asked here; "" when it can.
    """

    name: str
    named: tuple[str, ...]
    file: str
    dataset: str
    config: str
    options: Mapping[str, Any] = field(hash=False)
    version: str
    evaluated: str
    shots: str
    num_fewshot: int
    problem: str

    @property
    def splits(self) -> set[str]:
        """Splits that it cannot do without."""
        return {self.evaluated, self.shots} - {""} if self.num_fewshot else {self.evaluated}

    @property
    def path(self) -> Path:
        """Of its definition."""
        return _folder() / self.file


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy of a task's data: files by split, or a folder that was cloned from the hub whole."""

    path: Path
    files: Mapping[str, Path]

    @cached_property
    def builder(self) -> str:
        """What the data loader calls the kind of its files."""
        return BUILDERS[_kind(next(iter(self.files.values())))]

    @property
    def digest(self) -> str:
        """Of the contents of all files."""
        whole = (p for p in self.path.rglob("*") if p.is_file() and not _is_hidden(p.relative_to(self.path)))
        return artifacts.digest_files(sorted({*self.files.values()}) or sorted(whole), cache_folder() / "digests")


def is_named(name: str) -> bool:
    """Whether a recipe means the harness by that name of a suite or of data."""
    return name == SUITE or name.startswith(f"{SUITE}/")


def own_name(name: str) -> str:
    """What the harness calls what a recipe names."""
    return name.removeprefix(f"{SUITE}/")


def version() -> str:
    """Of the installed harness; "" for none."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return ""


def quieten() -> None:
    """Stops the harness's warnings: of its own definitions, and of what it is used for here on purpose."""
    logging.getLogger(PACKAGE).setLevel(logging.ERROR)


def unknown(name: str) -> tuple[str, str] | None:
    """What is wrong with a name, and a hint; None where it is right, or where nobody can tell for want of the harness."""
    own = own_name(name)
    if name == SUITE or not version() or own in _index():
        return None
    hint = nearest(own, _index()).replace('"', f'"{SUITE}/', 1)
    return f'{PACKAGE} {version()} has no task, group or tag "{own}"', hint


def in_words(task: HarnessTask) -> str:
    """All that a task's figures depend on beside its data."""
    return f"version {task.version or 'not stated'}, {task.num_fewshot} shots, {PACKAGE} {version()}"


def batch_size(vocabulary: int) -> int:
    """Rows that the harness is given at a time: it keeps every logit of a batch, so a large vocabulary leaves few."""
    return max(1, min(MOST_ROWS, LOGITS // (WINDOW * vocabulary)))


def tasks(names: Iterable[str], shots: Mapping[str, int]) -> list[HarnessTask]:
    """The tasks behind known names of tasks, groups and tags, each once.

    Args:
        names: the harness's own.
        shots: examples before each question by name in a recipe, where they are not the task's own number.
    """
    found: dict[str, HarnessTask] = {}
    for name in names:
        for leaf, path in _leaves(name, ()):
            if leaf not in found:
                found[leaf] = _task(leaf, path, shots)
    return list(found.values())


def _leaves(name: str, above: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Tasks below a name, each with the names on the way up from it."""
    path = (name, *above)
    members = _index().get(name, {}).get("members")
    if members is None:
        yield name, path
    for member in members or ():
        yield from _leaves(member, path)


def _task(name: str, path: tuple[str, ...], shots: Mapping[str, int]) -> HarnessTask:
    about = dict(_index().get(name) or {"problem": f"{path[1] if path[1:] else SUITE} names it, and nobody defines it"})
    named = (*(f"{SUITE}/{part}" for part in path), SUITE)
    own = about.pop("num_fewshot", None)
    chosen = next((shots[n] for n in named if n in shots), None)
    problem = about.pop("problem", "")
    if chosen and own == 0:
        problem = problem or "its definition fixes num_fewshot at 0: its prompt holds its own examples, or bears none"
    empty = {"file": "", "dataset": "", "config": "", "options": {}, "version": "", "evaluated": "", "shots": ""}
    number = (own or 0) if chosen is None else chosen
    return HarnessTask(name=name, named=named, num_fewshot=number, problem=problem, **(empty | about))


# --- the index --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _index() -> Mapping[str, Mapping[str, Any]]:
    """Every name of the installed harness: fields of `HarnessTask` for a task, `members` for a group or tag."""
    place = cache_folder() / SUITE / f"{artifacts.digest([FORMAT, version()])[:32]}.json"
    found: dict[str, Any] | None = artifacts.read_json(place)
    if found is None:
        found = _read_index()
        with suppress(OSError):  # a cache that cannot be written costs these seconds again and nothing else
            place.parent.mkdir(parents=True, exist_ok=True)
            artifacts.write_json(place, found)
    return found


def _read_index() -> dict[str, Any]:
    quieten()
    from lm_eval.tasks import TaskManager

    entries = TaskManager().task_index
    return {name: _described(entry) for name, entry in sorted(entries.items())}


def _described(entry: Any) -> dict[str, Any]:
    kind, about = entry.kind.name, entry.cfg or {}
    if kind == "TAG":
        return {"members": sorted(entry.tags)}
    if kind == "GROUP":
        return _group(about)
    return _definition(about, str(entry.yaml_path.relative_to(_folder())))


def _group(about: Mapping[str, Any]) -> dict[str, Any]:
    listed = about["task"] if isinstance(about["task"], list) else [about["task"]]
    members = [m.get("task") if isinstance(m, dict) and set(m) == {"task"} else m for m in listed]
    if set(about) <= _OF_GROUPS and all(isinstance(m, str) for m in members):
        return {"members": members}
    return {"problem": "this group gives its tasks settings of its own; name its tasks instead"}


def _definition(about: Mapping[str, Any], file: str) -> dict[str, Any]:
    shots = about.get("fewshot_config") or {}
    drawn = (shots.get("split"), *(about.get(f"{k}_split") for k in ("fewshot", "training", "validation", "test")))
    options = {k: v for k, v in (about.get("dataset_kwargs") or {}).items() if k != "trust_remote_code"}
    return {
        "file": file,
        "dataset": about.get("dataset_path") or "",
        "config": str(about.get("dataset_name") or ""),
        "options": options,
        "version": str((about.get("metadata") or {}).get("version", "")),
        "evaluated": about.get("test_split") or about.get("validation_split") or "",
        "shots": "" if "samples" in shots else next(filter(None, drawn), ""),
        "num_fewshot": about.get("num_fewshot"),
        "problem": _refusal(about),
    }


def _refusal(about: Mapping[str, Any]) -> str:
    if about.get("unsafe_code"):
        return "it runs code that the model writes; name another task"
    if "class" in about or "custom_dataset" in about:
        return "code of its own loads its data, and nobody could say what that is; name another task"
    if about.get("doc_to_image") or about.get("doc_to_audio"):
        return "it asks about pictures or sounds; name another task"
    return ""


def _folder() -> Path:
    """The harness's folder of tasks, found without importing it."""
    spec = find_spec(PACKAGE)
    assert spec and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "tasks"


# --- data -------------------------------------------------------------------------------------------------------------


def brings_files(task: HarnessTask) -> bool:
    """Whether its data is no data set of the hub but files that its definition names."""
    return not task.dataset or task.dataset in _OWN_DATA or task.dataset.startswith((".", "/"))


def copy_of(task: HarnessTask, place: str) -> Copy:
    """A copy of a task's data.

    Args:
        task: which.
        place: a file of the items that are asked, a folder with a file for each split (`test.jsonl`, `train.jsonl`), or
            a clone of the data set's repository.

    Raises:
        UserError: it is not there, or a split that the task needs is not in it.
    """
    path = Path(place).expanduser().absolute()
    if path.is_file() and _kind(path) in BUILDERS:
        if task.splits == {task.evaluated}:
            return Copy(path=path, files={task.evaluated: path})
        lacking, given = task.splits - {task.evaluated}, f"{task.evaluated}{_kind(path)}"
        raise UserError(f"its {task.num_fewshot} examples are drawn from the split {', '.join(sorted(lacking))}; give a "
                        f"folder, with {given} and a file of that name")  # fmt: skip
    if (path / "README.md").is_file():
        return Copy(path=path, files={})
    files = {p.name.split(".")[0]: p for p in sorted(path.glob("*")) if _kind(p) in BUILDERS}
    if absent := sorted(task.splits - set(files)):
        raise UserError(f"{place} has no {' and no '.join(f'{split}.jsonl' for split in absent)}; add what is missing")
    chosen = {split: files[split] for split in sorted(task.splits)}
    if len({BUILDERS[_kind(file)] for file in chosen.values()}) > 1:
        raise UserError(
            f"{place}: {' and '.join(file.name for file in chosen.values())} must be of one kind; "
            "write all as JSONL, or all as another"
        )
    return Copy(path=path, files=chosen)


def _kind(path: Path) -> str:
    return "".join(s for s in path.suffixes if s in BUILDERS)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
