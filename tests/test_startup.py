"""A command answers at once: what is heavy is imported by those who need it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import LLAMANTINO

from langadapt.new_plugin import Wish, write

HEAVY = {
    "torch",
    "transformers",
    "peft",
    "trl",
    "datasets",
    "bitsandbytes",
    "accelerate",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "matplotlib",
    "jinja2",
    "huggingface_hub",
    "tokenizers",
    "gguf",
    "requests",
    "httpx",
}
MODULES = """
import json, sys
from langadapt.cli import cli
try:
    cli({arguments!r}, standalone_mode=True)
except SystemExit as stop:
    assert not stop.code, stop.code
finally:
    sys.stderr.write(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def modules(*arguments: str) -> set[str]:
    """What is imported when a command has been answered."""
    code = MODULES.format(arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["corpus", "stats", "--help"]])
def test_help_imports_nothing_that_it_does_not_need(arguments):
    assert modules(*arguments) & (HEAVY | {"pydantic", "rich", "tomllib"}) == set()


@pytest.mark.parametrize("arguments", [["plugins"], ["check", str(LLAMANTINO)], ["fill", str(LLAMANTINO)], ["schema"]])
def test_commands_that_only_read_words_import_nothing_heavy(arguments):
    assert modules(*arguments) & HEAVY == set()


def test_importing_langadapt_is_enough_for_a_plugin_and_imports_nothing_heavy():
    code = "import langadapt, sys; langadapt.Corpus, langadapt.hookimpl; print(*{m.split('.')[0] for m in sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(found) & (HEAVY | {"pydantic", "rich", "click"}) == set()


def test_every_name_of_the_package_can_be_imported_from_it():
    import langadapt

    assert [name for name in langadapt.__all__ if not hasattr(langadapt, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'Recipee'"):
        _ = langadapt.Recipee


@pytest.fixture(scope="module", params=[0, 10], ids=["no more plugins", "ten more plugins"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH, with so many more plugins on it as pip would leave them, each with a language, corpora, a recipe."""
    site = tmp_path_factory.mktemp("site")
    for number in range(request.param):
        wish = Wish(plugin=f"own{number}", language=f"qa{'abcdefghij'[number]}", name="Own", autonym="own")
        write(wish, site / wish.plugin)
        (site / wish.plugin / "src" / wish.module).rename(site / wish.module)
        about = site / f"{wish.module}-0.1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {wish.distribution}\nVersion: 0.1.0\n")
        (about / "entry_points.txt").write_text(f"[langadapt]\n{wish.plugin} = {wish.module}\n")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    told = subprocess.run(
        [sys.executable, "-m", "langadapt", "plugins", "--json"],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    found = [plugin for plugin in json.loads(told.stdout) if plugin["name"].startswith("own")]
    assert len(found) == request.param and not any(plugin["error"] or plugin["warnings"] for plugin in found)
    return path


def seconds(*arguments: str, says: str, runs: int, path: str) -> float:
    """The shortest of several runs: what the command takes when nothing else is in its way.

    Modules may keep their compiled form, as those that pip has installed do: compiling them all takes half a second.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = path
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "langadapt", *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        )
        taken.append(time.perf_counter() - started)
        assert says in done.stdout
    return min(taken)


@pytest.mark.alone
def test_help_is_there_at_once(path: str):
    assert seconds("--help", says="Usage:", runs=5, path=path) < 0.3


@pytest.mark.alone
def test_the_llamantino_plan_is_made_within_a_second_and_a_half(path: str):
    assert seconds("plan", str(LLAMANTINO), says="ultrachat", runs=3, path=path) < 1.5
