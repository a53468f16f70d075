"""The documents say what the code does: hooks, commands, keys, recipes, links, and the example plugin."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

import langadapt
from langadapt import Experiment, Recipe, cli, hookspecs, peft, plugins, recipe
from langadapt.corpus.layouts import COLUMNS
from langadapt.experiment import ExperimentTable
from langadapt.recipe import StageOptions
from langadapt.stages.cpt import CptOptions
from langadapt.stages.preference import METHODS, PREFERENCE_OWNED
from langadapt.stages.sft import SftOptions
from langadapt.stages.trained import OWNED
from langadapt.testing.conformance import all_checks
from langadapt.translation.checking import Checks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLE = ROOT / "examples" / "langadapt-esperanto"
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / n for n in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
                EXAMPLE / "README.md", ROOT / "examples" / "turkish" / "README.md",
                ROOT / "plugins" / "italian" / "README.md"])  # fmt: skip


def verbs(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, `run` and `corpus preview`; a group is none itself."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, f"{before}{name} ")
        else:
            yield before + name, command


VERBS: Mapping[str, click.Command] = dict(verbs(cli.cli))


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its page, the comment that stands right above it, the words after the fence, its text."""

    page: Path
    mark: str
    info: str
    text: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks() -> Iterator[Block]:
    fence = re.compile(r"(?:^<!-- (.+?) -->\n)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for page in PAGES:
        for found in fence.finditer(read(page)):
            yield Block(page, found.group(1) or "", found.group(2), found.group(3))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)


def tables(mark: str) -> dict[str, list[list[str]]]:
    """The rows of every table that stands right below a comment `<!-- mark: NAME -->`, by name."""
    found: dict[str, list[list[str]]] = {}
    for page in PAGES:
        for match in re.finditer(rf"^<!-- {mark}: (\S+) -->\n((?:\|.*\n)+)", read(page), re.MULTILINE):
            rows = [[cell.strip() for cell in row.strip()[1:-1].split(" |")] for row in match.group(2).splitlines()]
            found.setdefault(match.group(1), []).extend(rows[2:])
    return found


def section(page: Path, heading: str) -> str:
    """What stands below a heading, up to the next of the same or a higher level."""
    level = heading.split(" ")[0]
    assert f"\n{heading}\n" in read(page), f"{name_of(page)} has no heading {heading}"
    rest = read(page).split(f"\n{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def load(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


# --- keys of the recipe -----------------------------------------------------------------------------------------------


def type_word(annotation: Any) -> str:
    """What the tables call a type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_word(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_word(a) for a in arguments if a is not type(None))
    if origin is list:
        inner = type_word(arguments[0])
        return "list of corpora" if inner == "corpus" else f"list of {inner}s"
    if origin is typing.Literal:
        return "text"
    if origin is dict:
        return "table of texts" if arguments[1] is str else "table"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "corpus" if annotation.__name__ == "CorpusRef" else "table"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[annotation]


def toml_value(value: Any) -> str:
    """A value as a recipe writes it."""
    if isinstance(value, dict) and value:
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def default_word(key: str, field: Any) -> str:
    """What the tables say of a default."""
    if field.is_required():
        return "required"
    if field.default is None:
        return "not set"
    if isinstance(field.default, BaseModel):
        return "all defaults"
    return "see below" if key == "training" else f"`{toml_value(field.default)}`"


KEY_TABLES = tables("keys")


@pytest.mark.parametrize("reference", KEY_TABLES)
def test_key_tables_are_the_models(reference: str) -> None:
    model = load(reference)
    common = set(StageOptions.model_fields) if model is not StageOptions and issubclass(model, StageOptions) else set()
    expected = {
        f"`{field.alias or name}`": [type_word(field.annotation), default_word(name, field)]
        for name, field in model.model_fields.items()
        if name not in common
    }
    assert {row[0]: row[1:3] for row in KEY_TABLES[reference]} == expected
    assert all(row[3] for row in KEY_TABLES[reference])


def test_every_table_and_stage_kind_of_the_core_has_its_keys_listed() -> None:
    known = plugins.registry()
    core = known.plugins[0]
    kinds = {known.stages[name].options for name in core.offers["stage kind"]}
    tables_of_recipe = (
        "RecipeTable",
        "CorpusRef",
        "Replay",
        "Rehearsal",
        "EvaluationTable",
        "Decontamination",
        "Preparation",
        "Compute",
    )
    of_recipe = {getattr(recipe, name) for name in tables_of_recipe}
    inits = {known.embedding_inits[name].options for name in core.offers["embedding initialisation"]} - {recipe.Table}
    inner = {Checks, StageOptions, ExperimentTable} | inits
    assert core.name == "core" and {load(reference) for reference in KEY_TABLES} == kinds | of_recipe | inner


def test_training_defaults_are_those_of_the_stages() -> None:
    rows = {row[0].strip("`"): [cell.strip("`") for cell in row[1:3]] for row in tables("defaults")["training"]}
    assert rows == {k: [toml_value(v), toml_value(SftOptions.defaults[k])] for k, v in CptOptions.defaults.items()}


def test_strategy_defaults_are_those_of_the_strategies() -> None:
    by_name = {s.name: s.defaults for s in peft.STRATEGIES}
    rows = {row[0].strip("`"): [cell.strip("`") for cell in row[1:3]] for row in tables("defaults")["peft"]}
    keys = dict.fromkeys(k for name in ("lora", "qlora") for k in by_name[name])
    cell = {name: {k: toml_value(by_name[name][k]) if k in by_name[name] else "" for k in keys} for name in by_name}
    assert rows == {k: [cell["lora"][k], cell["qlora"][k]] for k in keys}
    methods = re.findall(r"`([\w+]+)`", section(DOCS / "recipe.md", "## `[stage.peft]`"))
    assert set(methods) >= set(by_name)


def test_keys_that_langadapt_sets_itself_are_listed_with_the_reason() -> None:
    owned = {name: {row[0].strip("`"): row[1] for row in rows} for name, rows in tables("owned").items()}
    of_pairs = {key: why for key, why in PREFERENCE_OWNED.items() if key not in OWNED}
    assert owned == {"training": dict(OWNED), "peft": dict(peft.lora.OWNS), "preference": of_pairs}


def test_losses_are_listed_with_what_they_are() -> None:
    found = re.search(r"<!-- losses -->\n((?:\|.*\n)+)", read(DOCS / "recipe.md"))
    assert found
    rows = [row.strip("|").split("|") for row in found.group(1).splitlines()[2:]]
    listed = [tuple(cell.strip(" `") for cell in row) for row in rows]
    assert listed == [(name, loss, what) for name, way in METHODS.items() for loss, what in way.losses.items()]


def test_methods_are_listed_with_what_they_need() -> None:
    found = re.search(r"<!-- methods -->\n((?:\|.*\n)+)", read(DOCS / "recipe.md"))
    assert found
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in found.group(1).splitlines()[2:]]
    assert rows == [
        [
            f"`{name}`",
            "pairs" if way.paired else "answers",
            "yes" if way.asks_reference else "no",
            f"`{way.upstream.split(':')[1]}`",
            ", ".join(f"`{key} = {toml_value(value)}`" for key, value in way.defaults.items()),
        ]
        for name, way in METHODS.items()
    ]


def test_layouts_are_listed_with_their_columns() -> None:
    found = re.search(r"<!-- layouts -->\n((?:\|.*\n)+)", read(DOCS / "recipe.md"))
    assert found
    rows = [row.split("|")[1:3] for row in found.group(1).splitlines()[2:]]
    assert {name.strip(" `"): tuple(re.findall(r"`(\w+)`", columns)) for name, columns in rows} == COLUMNS


# --- hooks and records ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", plugins.HOOKS)
def test_every_hook_is_documented_with_its_record(hook: str) -> None:
    text = section(DOCS / "plugins.md", f"### `{hook}`")
    assert f"<!-- fields: {plugins.HOOKS[hook][0].__name__} -->" in text


FIELD_TABLES = tables("fields")


@pytest.mark.parametrize("name", FIELD_TABLES)
def test_field_tables_are_the_records(name: str) -> None:
    def default(field: dataclasses.Field[Any]) -> str:
        if field.default is not dataclasses.MISSING:
            return f"`{getattr(field.default, '__qualname__', repr(field.default))}`"
        return "required" if field.default_factory is dataclasses.MISSING else f"`{field.default_factory()!r}`"

    fields = dataclasses.fields(getattr(langadapt, name))
    assert {row[0]: row[1] for row in FIELD_TABLES[name]} == {f"`{f.name}`": default(f) for f in fields}


def test_every_record_of_the_contract_has_its_fields_listed() -> None:
    records = {n for n in langadapt.__all__ if getattr(langadapt, n).__module__ == "langadapt.records"}
    assert set(FIELD_TABLES) == records


def test_checks_of_plugins_are_listed_with_what_they_say() -> None:
    listed = {name: [tuple(row) for row in rows] for name, rows in tables("checks").items()}
    expected: dict[str, list[tuple[str, ...]]] = {}
    for check in all_checks():
        expected.setdefault(check.record.__name__ if check.record else "plugin", []).append(
            (f"`{check.name}`", check.says)
        )
    assert listed == expected


def test_every_check_of_plugins_points_at_a_heading_of_the_plugin_page() -> None:
    assert {check.anchor for check in all_checks()} <= anchors(DOCS / "plugins.md")


def test_the_contract_of_this_version_is_listed() -> None:
    rows = section(DOCS / "plugins.md", "## Versions of the contract").splitlines()
    assert [row.split("|")[1].strip() for row in rows if row.startswith("|")][-1] == str(hookspecs.CONTRACT)


def test_keys_of_written_files_are_written() -> None:
    for file, rows in tables("written").items():
        source = read(ROOT / file)
        for key in (k for row in rows for k in re.findall(r"`(\w+)`", row[0])):
            assert f'"{key}"' in source, f"{file} writes no {key}"


# --- commands ---------------------------------------------------------------------------------------------------------


def options_of(verb: str) -> set[str]:
    return {o for p in VERBS[verb].params if isinstance(p, click.Option) for o in p.opts if o.startswith("--")}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_documented_with_its_options(verb: str) -> None:
    text = section(DOCS / "reference.md", f"### `langadapt {verb}`")
    rows = re.findall(r"^\| `(--[a-z-]+)", text, re.MULTILINE)
    assert set(rows) == options_of(verb) - {"--help"}


def one_verb(words: list[str]) -> list[str]:
    """`corpus preview x` with its verb as one word."""
    grouped = " ".join(words[:2])
    return [grouped, *words[2:]] if grouped in VERBS else words


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `langadapt VERB …` in code spans and shell blocks, as words."""
    for page in PAGES:
        spans = re.findall(r"`((?:langadapt) [a-z][^`]*)`", prose(page))
        shell = [b.text for b in blocks() if b.page == page and b.info in ("", "bash", "sh", "console")]
        lines = [line.strip().removeprefix("$ ") for text in shell for line in text.splitlines()]
        for line in [*spans, *lines]:
            if re.match(r"langadapt +[a-z]", line) and "→" not in line:
                words = shlex.split(line.split(" > ")[0], comments=True)
                yield name_of(page), one_verb(words[1:])


COMMANDS = list(commands())


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 25
    assert {words[0] for _, words in COMMANDS} == set(VERBS)


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{p}: {' '.join(w)}"[:90] for p, w in COMMANDS])
def test_commands_use_verbs_and_options_that_exist(page: str, words: list[str]) -> None:
    verb, *arguments = words
    assert verb in VERBS, f"{page}: langadapt {verb}"
    taken = {a.split("=")[0] for a in arguments if a.startswith("-")}
    assert taken <= options_of(verb) | {"-h", "--help"}, page
    overrides = [arguments[i + 1] for i, a in enumerate(arguments) if a == "--set" and "KEY" not in arguments[i + 1]]
    named = next((a for a in arguments if (ROOT / a).is_file() or a in plugins.registry().recipes), "")
    if named and verb in ("run", "plan", "check", "fill"):
        Recipe.load(ROOT / named if (ROOT / named).is_file() else named, overrides)


# --- snippets ---------------------------------------------------------------------------------------------------------

RECIPES = [b for b in blocks() if b.info == "toml recipe"]


def test_recipes_are_found() -> None:
    assert {b.page.name for b in RECIPES} >= {"recipe.md", "tutorial.md"}


@pytest.mark.parametrize("block", RECIPES, ids=lambda b: b.page.name)
def test_whole_recipes_load(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(block.text, encoding="utf-8")
    assert Recipe.load(file).rehearse().changes


@pytest.mark.parametrize("block", [b for b in blocks() if b.info == "toml experiment"], ids=lambda b: b.page.name)
def test_whole_experiments_load(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(block.text, encoding="utf-8")
    assert len(Experiment.load(file).variants) > 1


def test_experiments_that_ship_are_listed() -> None:
    found = re.search(r"<!-- experiments -->\n((?:\|.*\n)+)", read(DOCS / "experiments.md"))
    assert found
    listed = [row.split("|")[1].strip(" `") for row in found.group(1).splitlines()[2:]]
    assert sorted(listed) == sorted(plugins.registry().experiments)


@pytest.mark.parametrize("block", [b for b in blocks() if b.info.startswith("toml")], ids=lambda b: b.page.name)
def test_toml_is_toml(block: Block) -> None:
    tomllib.loads(block.text)


@pytest.mark.parametrize("block", [b for b in blocks() if b.info == "python"], ids=lambda b: b.page.name)
def test_python_is_python(block: Block) -> None:
    compile(block.text, name_of(block.page), "exec")


QUOTES = [b for b in blocks() if b.mark.startswith("from: ")]


@pytest.mark.parametrize("block", QUOTES, ids=lambda b: b.mark)
def test_quotes_are_what_the_file_says(block: Block) -> None:
    assert block.text in read(ROOT / block.mark.removeprefix("from: "))


def test_the_plugin_page_quotes_every_module_of_the_example() -> None:
    quoted = {Path(b.mark.removeprefix("from: ")) for b in QUOTES}
    modules = {p.relative_to(ROOT) for p in EXAMPLE.rglob("*.py") if "tests" not in p.parts}
    assert quoted >= modules


# --- links and tests that are named -----------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert not lost


def test_the_map_of_the_house_names_every_module_and_package() -> None:
    rooms = section(ROOT / "CONTRIBUTING.md", "## The map of the house")
    package = ROOT / "src" / "langadapt"
    inside = [f.name for f in package.glob("*.py") if not f.name.startswith("__")]
    inside += [f"{f.parent.name}/" for f in package.glob("*/__init__.py")]
    assert [name for name in inside if name not in rooms] == []


def test_the_walk_to_the_optimizer_goes_by_functions_that_exist() -> None:
    walk = section(ROOT / "CONTRIBUTING.md", "## One value, from the recipe to the optimizer")
    named = re.findall(r"`(?:\w+\.)?(\w+)` \(`([\w/]+\.py)`\)", walk)
    assert len(named) > 4
    source = ROOT / "src" / "langadapt"
    assert [
        f"{file}: {name}" for name, file in named if not re.search(rf"(?:def|class) {name}\b", read(source / file))
    ] == []


def test_tests_that_guard_footguns_exist() -> None:
    named = re.findall(r"`((?:tests|plugins)/[\w/]+\.py)::(\w+)`", read(DOCS / "footguns.md"))
    assert named
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in read(ROOT / file)]
    assert not missing


def test_every_footgun_says_what_happens_what_is_done_and_what_guards_it() -> None:
    parts = re.split(r"^### ", prose(DOCS / "footguns.md"), flags=re.MULTILINE)[1:]
    words = ("**What happens.**", "**What langadapt does.**", "**Guarded by**")
    assert [p.splitlines()[0] for p in parts if any(w not in p for w in words)] == []


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folders for PYTHONPATH in which the example plugin is installed: its source, and an entry point."""
    project = tomllib.loads(read(EXAMPLE / "pyproject.toml"))["project"]
    site = tmp_path_factory.mktemp("site")
    about = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["langadapt"].items())
    (about / "entry_points.txt").write_text(f"[langadapt]\n{points}")
    return os.pathsep.join([str(site), str(EXAMPLE / "src")])


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The example plugin's module."""
    monkeypatch.syspath_prepend(str(EXAMPLE / "src"))
    return importlib.import_module("langadapt_esperanto")


def python(*arguments: str, path: str = "", folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, env=environment, cwd=folder
    )


def test_the_example_plugin_offers_what_the_contract_asks_for(example: types.ModuleType) -> None:
    offered = {name: list(getattr(example, name)()) for name in plugins.HOOKS if hasattr(example, name)}
    wrong = [r for name, found in offered.items() for r in found if not isinstance(r, plugins.HOOKS[name][0])]
    assert not wrong and all(offered.values())
    hooks = {n for n, f in vars(example).items() if getattr(f, "langadapt_impl", None)}
    assert hooks == set(offered) and hooks <= set(plugins.HOOKS)


def test_the_example_plugin_uses_the_public_contract_alone() -> None:
    for file in EXAMPLE.rglob("*.py"):
        assert not re.findall(r"^\s*(?:from|import) langadapt\.", read(file), re.MULTILINE), file


def test_every_sample_of_the_example_is_read_whole(example: types.ModuleType) -> None:
    from langadapt.corpus.preparing import content_hash, is_held_out
    from langadapt.corpus.reading import read_documents

    (shipped,) = example.langadapt_recipes()
    share = tomllib.loads(shipped.path.read_text(encoding="utf-8"))["rehearsal"]["held_out"]
    filters = {f.name: f for f in example.langadapt_filters()}
    for corpus in example.langadapt_corpora():
        documents = list(read_documents(str(corpus.sample), layout=corpus.layout))
        assert not [d for d in documents if isinstance(d, langadapt.Rejected)]
        assert all(
            filters[n].make({}, None)(d) == d
            for n in corpus.filters
            for d in documents
            if isinstance(d, langadapt.Document)
        )
        held_out = [d for d in documents if is_held_out(content_hash(d), share)]  # type: ignore[arg-type]
        assert 0 < len(held_out) < len(documents) / 2, "a rehearsal has something to measure and something to learn"


def test_the_example_plugin_is_found_and_its_recipe_plans(example_path: str, tmp_path: Path) -> None:
    listed = python("-m", "langadapt", "plugins", "--json", path=example_path)
    found = {p["name"]: p for p in json.loads(listed.stdout)}
    assert found["esperanto"]["error"] == "" and found["esperanto"]["offers"]["recipe"] == ["esperanto/small"]
    planned = python(
        "-m", "langadapt", "plan", "esperanto/small", "--rehearse", "--json", path=example_path, folder=tmp_path
    )
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["problems"] == [] and [s["id"] for s in plan["stages"]][1] == "adapt"
    measured = next(s for s in plan["stages"] if s["id"] == "evaluate-base")
    assert {i["corpus"] for i in measured["inputs"]} == {"eo-wikipedia", "eo-instructions", "eo-numbers"}
    assert list(tmp_path.iterdir()) == [], "planning leaves nothing behind"


def test_the_example_plugins_own_tests_pass(example_path: str) -> None:
    done = python("-m", "pytest", "-p", "no:cacheprovider", str(EXAMPLE / "tests"), path=example_path)
    assert done.returncode == 0, done.stdout


def test_the_python_example_plans() -> None:
    done = python("examples/python_api.py")
    assert done.returncode == 0, done.stderr
    assert "adapt" in done.stdout and "rehearsal" in done.stdout
