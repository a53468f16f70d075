"""The Turkish example: found as an installed plugin is, its own tests pass, and its recipe runs from end to end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from langadapt.testing import tiny_model

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "turkish"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folders for PYTHONPATH in which the example is installed: its source, and metadata as pip writes them."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tmp_path_factory.mktemp("site")
    about = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    needs = "".join(f"Requires-Dist: {needed}\n" for needed in project["dependencies"])
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{needs}"
    (about / "METADATA").write_text(metadata, encoding="utf-8")
    points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["langadapt"].items())
    (about / "entry_points.txt").write_text(f"[langadapt]\n{points}", encoding="utf-8")
    return os.pathsep.join([str(site), str(EXAMPLE / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])


def python(*arguments: str, path: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=600, env=environment, cwd=folder
    )


def test_its_own_tests_pass(path: str) -> None:
    done = python("-m", "pytest", "-p", "no:cacheprovider", str(EXAMPLE / "tests"), path=path)
    assert done.returncode == 0, done.stdout


def test_the_real_run_needs_nothing_but_what_has_a_name(path: str, tmp_path: Path) -> None:
    planned = python("-m", "langadapt", "plan", "turkish/adapt", "--json", path=path, folder=tmp_path)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["problems"] == []
    inputs = {i["corpus"]: i["where"] for stage in plan["stages"] for i in stage["inputs"]}
    assert {name for name, where in inputs.items() if where == "hub"} == {
        "tr-fineweb2", "tr-wikipedia", "tr-fineweb-en", "tr-c4", "tr-c4-en",
    }  # fmt: skip
    assert {where for where in inputs.values()} == {"hub", "sample"}


@pytest.mark.nightly
def test_its_recipe_runs_from_end_to_end(path: str, tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny")
    small = (f"base_model={tmp_path / 'tiny'}", "cpt_steps=2", "sft_steps=1", "evaluation_documents=2")
    options = [word for value in small for word in ("--set", f"rehearsal.{value}")]
    done = python(
        "-m", "langadapt", "run", "turkish/adapt", "--rehearse", "--out", str(tmp_path / "run"), *options, path=path
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    measured = {row["task"] for row in report if row["stage"] == "base"}
    assert measured >= {"tr-web", "tr-english", "tr-inflection", "tr-grammar", "tr-parallel", "tr-translation"}


def test_it_uses_the_public_contract_alone_and_the_core_does_not_know_it() -> None:
    for file in (EXAMPLE / "src").rglob("*.py"):
        assert not re.findall(r"^\s*(?:from|import) langadapt\.", file.read_text(encoding="utf-8"), re.MULTILINE), file
    for file in (ROOT / "src").rglob("*.py"):
        assert "langadapt_turkish" not in file.read_text(encoding="utf-8"), file
