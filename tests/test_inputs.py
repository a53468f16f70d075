"""What a plan finds out about corpora: their digests, what is bad in them, and what the hub said of them before."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from langadapt import Recipe, artifacts, inputs
from langadapt.errors import UserError
from langadapt.inputs import Input, find_input
from langadapt.plugins import registry
from langadapt.recipe import CorpusRef
from langadapt.records import Document

Write = Callable[..., Path]
ROWS = b"".join(json.dumps({"text": f"Il documento numero {n}."}).encode() + b"\n" for n in range(20))


def found(path: Path, **entry: object) -> Input:
    ref = CorpusRef.model_validate({"path": str(path), **entry})
    return find_input(ref, registry(), language="it", data={}, rehearsal=False, pinned={})


# --- digests ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose digests were taken by reading them."""
    names: list[str] = []
    digest = artifacts._digest_file
    monkeypatch.setattr(artifacts, "_digest_file", lambda file: names.append(file.name) or digest(file))
    monkeypatch.setattr(artifacts, "LARGE", 0)
    return names


def aged(path: Path, seconds: float = 60) -> Path:
    """A file that nobody touched for a while."""
    at = path.stat().st_mtime_ns - int(seconds * 1e9)
    os.utime(path, ns=(at, at))
    return path


def test_digests_of_unchanged_files_are_remembered(write: Write, tmp_path: Path, read: list[str]) -> None:
    files = [aged(write("data/a.jsonl", b"uno")), aged(write("data/b.jsonl", b"due"))]
    memory = tmp_path / "memory"
    first = artifacts.digest_files(files, memory)
    assert artifacts.digest_files(files, memory) == first == artifacts.digest_files(files)
    assert read[:2] == ["a.jsonl", "b.jsonl"] and len(read) == 2 + 2, "the last of three has no memory"


@pytest.mark.parametrize("change", ["longer", "as long, later", "replaced"])
def test_a_file_that_changed_is_read_again(write: Write, tmp_path: Path, read: list[str], change: str) -> None:
    files = [aged(write("data/a.jsonl", b"uno")), aged(write("data/b.jsonl", b"due"))]
    memory, was = tmp_path / "memory", files[1].stat()
    first = artifacts.digest_files(files, memory)
    if change == "replaced":  # with the size and the time of the old one, by another inode
        other = write("data/c", b"xyz")
        os.utime(other, ns=(was.st_mtime_ns, was.st_mtime_ns))
        other.replace(files[1])
    else:
        aged(write("data/b.jsonl", b"xyz" if change == "as long, later" else b"more"), 30)
    del read[:]
    second = artifacts.digest_files(files, memory)
    assert second != first and second == artifacts.digest_files(files)
    assert read[0] == "b.jsonl"


def test_what_was_written_just_now_is_not_remembered(write: Write, tmp_path: Path, read: list[str]) -> None:
    """A second change within the clock's tick could not be told from the first."""
    file = write("a.jsonl", b"uno")
    for _ in range(2):
        artifacts.digest_files([file], tmp_path / "memory")
    assert read == ["a.jsonl"] * 2


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[1]", b"{}"])
def test_a_damaged_memory_costs_time_alone(write: Write, tmp_path: Path, read: list[str], content: bytes) -> None:
    file = aged(write("data/a.jsonl", b"uno"))
    first = artifacts.digest_files([file], tmp_path / "memory")
    (remembered,) = (tmp_path / "memory").iterdir()
    remembered.write_bytes(content)
    assert artifacts.digest_files([file], tmp_path / "memory") == first


def test_a_memory_that_cannot_be_written_costs_time_alone(write: Write, read: list[str]) -> None:
    file = aged(write("data/a.jsonl", b"uno"))
    assert artifacts.digest_files([file], write("file", b"") / "memory") == artifacts.digest_files([file])


def test_files_that_changed_since_the_plan_are_not_read(write: Write) -> None:
    path = write("a.jsonl", ROWS)
    one = found(path)
    assert len(list(one.source().read())) == 20
    path.write_bytes(ROWS + ROWS)
    with pytest.raises(UserError, match="changed since the plan was made; run again"):
        one.source()


# --- bad records ------------------------------------------------------------------------------------------------------


def test_a_bad_record_is_dropped_by_name_or_stops_the_reading(write: Write) -> None:
    path = write("a.jsonl", ROWS + b"{\n" + ROWS)
    assert [getattr(item, "reason", "") for item in found(path).documents()] == [""] * 20 + ["not valid JSON"] + [
        ""
    ] * 20
    strict = found(path, on_bad_record="stop")
    assert not strict.problem
    with pytest.raises(UserError, match=r"a\.jsonl: a\.jsonl:21: not valid JSON"):
        list(strict.documents())
    with pytest.raises(UserError, match=r"a\.jsonl:21: not valid JSON"):
        list(strict.preparation.of_portions(registry())(next(strict.portions())))


def test_a_first_record_that_is_bad_is_in_the_way_of_a_plan_where_none_may_be(write: Write) -> None:
    path = write("a.jsonl", b"{\n" + ROWS)
    assert not found(path).problem
    assert "a.jsonl:1: not valid JSON" in found(path, on_bad_record="stop").problem


def test_a_corpus_of_which_nothing_can_be_read_says_why(write: Write) -> None:
    assert "can be read (1 file damaged)" in found(write("a.jsonl.gz", b"plain text")).problem
    assert "can be read (1 file cut short)" in found(write("b.txt.gz", gzip.compress(ROWS)[:-9])).problem


def test_a_stage_is_done_again_when_bad_records_are_to_stop_it(write: Write, model_folder: Path) -> None:
    path = write("texts.jsonl", ROWS)
    digests = []
    for rule in ("drop", "stop"):
        recipe = write(
            "recipe.toml",
            f'schema = 1\nname = "trial"\nlanguage = "it"\nbase_model = "{model_folder}"\n[evaluation]\nautomatic = false\n'
            f'[[stage]]\nid = "adapt"\nkind = "cpt"\n'
            f'corpus = [{{ path = "{path}", on_bad_record = "{rule}" }}]\n',
        )
        digests.append(Recipe.load(str(recipe)).plan(path.parent / "out").stage("adapt").digest)
    assert digests[0] and digests[0] != digests[1]


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_the_files_of_a_commit_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    names = ["clean/b.json.gz", "README.md", "clean/a.json.gz"]
    monkeypatch.setattr(inputs, "_listed", lambda repo, revision: asked.append((repo, revision)) or names)
    record = registry().corpora["clean-mc4-it"]
    for _ in range(2):
        assert inputs.hub_files(record, "0123abcd") == ["clean/a.json.gz", "clean/b.json.gz"]
    assert asked == [(record.source.repo_id, "0123abcd")]
    inputs.hub_files(record, "")
    inputs.hub_files(record, "")
    assert asked[1:] == [(record.source.repo_id, record.source.revision)] * 2, "what a branch holds changes"


def test_files_of_the_hub_are_fetched_one_at_a_time(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    for name in ("a", "b"):
        write(f"{name}.json.gz", gzip.compress(ROWS))
    monkeypatch.setattr(inputs, "hub_files", lambda record, commit: ["a.json.gz", "b.json.gz"])
    monkeypatch.setattr(inputs, "fetch_hub_file", lambda record, name, commit: fetched.append(name) or tmp_path / name)
    ref = CorpusRef(name="clean-mc4-it")
    one = find_input(ref, registry(), language="it", data={}, rehearsal=False, pinned={})
    portions = one.portions()
    first = list(one.preparation.read(next(portions)))
    assert fetched == ["a.json.gz"] and len(first) == 20
    assert isinstance(first[4], Document) and first[4].id == "a.json.gz:5"
    next(portions)
    assert fetched == ["a.json.gz", "b.json.gz"]
