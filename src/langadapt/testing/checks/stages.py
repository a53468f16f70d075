"""Stage kinds: their options, and a plan that loads nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from langadapt.plugins import HEAVY
from langadapt.recipe import StageOptions
from langadapt.records import RecipeSource, StageKind
from langadapt.testing.conformance import NotChecked, Subject, check
from langadapt.testing.models import shape_alone
from langadapt.testing.probing import environment

MAKES = ("model", "corpus", "results")
# Everything that a plan may not load; it may look into the index of a tokenizer or count with numpy.
TOO_HEAVY = HEAVY - {"numpy", "tokenizers", "pyarrow"}
_PLAN = """
import json, sys
from langadapt import Recipe
plan = Recipe.load(sys.argv[1]).plan(sys.argv[2])
print("planned " + json.dumps([sorted(sys.modules.keys() & set(sys.argv[3].split(","))), plan.problems]))
"""


@check(StageKind, right="class CountOptions(StageOptions): pattern: str; from langadapt import StageOptions")
def stage_kind_options(kind: StageKind, subject: Subject) -> Iterator[str]:
    """Its options inherit from `StageOptions`, so that unknown keys are refused and every stage has an id."""
    if not _are_of_a_stage(kind.options):
        yield f"{kind.options!r} is no subclass of StageOptions"
    elif kind.options.model_config.get("extra") != "forbid":
        yield f"{kind.options.__name__} takes keys that it does not know"


@check(StageKind, right=f"one of {', '.join(MAKES)}")
def stage_kind_makes(kind: StageKind, subject: Subject) -> Iterator[str]:
    """What it makes is known, because that decides what may come after it."""
    if kind.makes not in MAKES:
        yield f'it makes "{kind.makes}"'


@check(StageKind, right="plan fills in the stage and imports nothing heavy; run does the work")
def stage_kind_plans(kind: StageKind, subject: Subject) -> Iterator[str]:
    """A recipe with such a stage is planned without loading torch and the like."""
    with tempfile.TemporaryDirectory() as place:
        recipe = _recipe(kind, subject, Path(place))
        command = [sys.executable, "-c", _PLAN, str(recipe), str(Path(place) / "run"), ",".join(TOO_HEAVY)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode:
        yield f"planning it fails: {done.stderr.strip().splitlines()[-1]}"
        return
    imported, _ = json.loads(done.stdout.rpartition("planned ")[2])
    yield from (f"planning it imports {name}" for name in imported)


def _are_of_a_stage(options: object) -> bool:
    return isinstance(options, type) and issubclass(options, StageOptions)


def _recipe(kind: StageKind, subject: Subject, folder: Path) -> Path:
    """A recipe with a stage of the kind: one that the plugin ships, or the shortest that there can be.

    Raises:
        NotChecked: neither is there.
    """
    for source in subject.records.get(RecipeSource, ()):
        try:
            stages = tomllib.loads(source.path.read_text(encoding="utf-8")).get("stage", ())
        except (OSError, tomllib.TOMLDecodeError):
            continue
        if any(stage.get("kind") == kind.name for stage in stages):
            return Path(source.path)
    if not _are_of_a_stage(kind.options):
        raise NotChecked("its options are none of a stage")
    fields = kind.options.model_fields
    needed = [name for name, field in fields.items() if field.is_required() and name not in ("id", "kind")]
    if needed or not subject.known.languages:
        raise NotChecked(f"no recipe of the plugin has such a stage, and it needs {', '.join(needed) or 'a language'}")
    language = subject.language or next(iter(subject.known.languages.values()))
    model = shape_alone(folder / "model")
    file = folder / "recipe.toml"
    head = f'schema = 1\nname = "trial"\nlanguage = "{language.tag}"\nbase_model = "{model}"\n'
    file.write_text(f'{head}[evaluation]\nautomatic = false\n[[stage]]\nid = "trial"\nkind = "{kind.name}"\n', "utf-8")
    return file
