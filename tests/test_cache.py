"""What is kept over runs is found again by what it was made of, listed in words, and never removed from under a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from langadapt.cli import cli
from langadapt.corpus import cache
from langadapt.corpus.cache import DAY, entries, entry, prune
from langadapt.errors import UserError
from langadapt.translation.remembering import Memory


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(label: str = "corpus", kind: str = "prepared", days: float = 0, **ingredients: str) -> cache.Entry:
    """An entry with some content that was used so many days ago."""
    made = entry(kind, label, ingredients)
    with made.used() as folder:
        made.describe()
        (folder / "content").write_bytes(b"x" * 1000)
    used = time.time() - days * DAY
    os.utime(made.path / cache.ABOUT, (used, used))
    return made


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["cache", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


# --- entries ---


def test_an_entry_is_found_by_its_ingredients_alone():
    made = kept(label="one", filters="a")
    assert entry("prepared", "another name", {"filters": "a"}).path == made.path
    assert entry("packed", "one", {"filters": "a"}).path != made.path
    assert entry("prepared", "one", {"filters": "b"}).path != made.path


def test_a_miss_is_explained_against_the_newest_entry_of_the_same_label():
    kept(days=3, filters="length", content="0" * 64)
    kept(days=1, filters="length, c4", content="0" * 64)
    kept(label="other", filters="nothing")
    wanted = entry("prepared", "corpus", {"filters": "pii", "content": "1" * 64, "near": "no"})
    assert wanted.explain() == "filters: length, c4 → pii; content: changed; near: new"
    assert entry("prepared", "never seen", {}).explain() == "not done before"
    assert entry("prepared", "corpus", {"filters": "length", "content": "0" * 64}).explain() == ""


def test_many_changes_are_not_all_told():
    kept(**{f"i{n}": "1" for n in range(9)})
    told = entry("prepared", "corpus", {f"i{n}": "2" for n in range(9)}).explain()
    assert told.endswith("i3: 1 → 2; and 5 more")


def test_an_entry_that_was_opened_and_got_nothing_leaves_nothing():
    made = entry("prepared", "corpus", {})
    with made.used() as folder:
        assert folder.is_dir()
    assert not folder.exists() and entries() == []


def test_a_cache_that_cannot_be_written_says_how_to_choose_another(own_cache):
    own_cache.write_text("a file")
    with pytest.raises(UserError, match="LANGADAPT_CACHE"), entry("prepared", "x", {}).used():
        pass


# --- pruning ---


def test_what_was_not_used_for_long_goes_and_using_it_keeps_it():
    old, new = kept(days=31, n="1"), kept(days=29, n="2")
    assert [one.path for one in prune(30 * DAY, dry_run=True)] == [old.path] and old.is_there
    with old.used():
        pass
    assert prune(30 * DAY) == []
    assert [one.path for one in prune(28 * DAY)] == [new.path]
    assert not new.path.exists() and old.is_there and list(new.path.parent.glob(".*")) == []


USER = """
import sys, time
from langadapt.corpus.cache import entry
with entry("prepared", "corpus", {"n": "1"}).used():
    print("using", flush=True)
    time.sleep(600)
"""


def test_what_a_running_process_uses_stays_until_it_ends_even_by_a_kill():
    used = kept(days=90, n="1")
    user = subprocess.Popen([sys.executable, "-c", textwrap.dedent(USER)], stdout=subprocess.PIPE, text=True)
    try:
        assert user.stdout and user.stdout.readline() == "using\n"
        (listed,) = entries()
        assert listed.in_use and prune(0, everything=True) == [] and used.is_there
        assert '"in_use": true' in run("list", "--json")
    finally:
        user.kill()
        user.wait()
    assert [one.path for one in prune(0)] == [used.path] and not used.path.exists()


def test_translations_go_only_with_everything_and_not_while_they_are_open():
    with Memory() as memory:
        memory.keep({b"k": "testo"})
        kept(days=90)
        assert [one.kind for one in prune(DAY)] == ["prepared"]
        assert prune(0, everything=True) == []
        assert memory.find([b"k"]) == {b"k": "testo"}
    assert [one.kind for one in prune(0)] == []
    assert [one.kind for one in prune(0, everything=True)] == ["translations"]
    assert list(cache.cache_folder().glob("translations*")) == []


def test_a_damaged_store_of_translations_can_be_removed(own_cache):
    own_cache.mkdir()
    (own_cache / "translations.sqlite").write_bytes(b"no database at all, " * 100)
    assert [one.kind for one in prune(0, everything=True)] == ["translations"] and not list(own_cache.iterdir())


# --- the commands ---


def test_the_list_says_what_is_kept_of_which_corpus_and_how_it_was_made():
    kept(label="clean-mc4-it", days=3, filters="mojibake, c4-quality", near="no")
    with Memory() as memory:
        memory.keep({b"k": "testo"})
    told = run("list")
    assert "clean-mc4-it" in told and "filters: mojibake, c4-quality" in told and "3 d ago" in told
    assert "translations" in told and "2 entries" in told
    first, _ = json.loads(run("list", "--json"))
    assert first["label"] == "clean-mc4-it" and first["ingredients"]["near"] == "no"
    assert first["size"] >= 1000 and not first["in_use"] and Path(first["path"]).is_dir()


def test_an_empty_cache_is_no_error():
    assert "0 entries" in run("list") and run("list", "--json").strip() == "[]"
    assert "0 entries" in run("prune", "--all")


def test_pruning_says_what_goes_and_takes_days_hours_and_weeks():
    old = kept(label="old", days=8)
    assert "0 entries" in run("prune") and "0 entries" in run("prune", "--older-than", "2w")
    assert "would be removed" in run("prune", "--older-than", "1w", "--dry-run") and old.is_there
    assert "old" in run("prune", "--older-than", "48h") and not old.is_there


@pytest.mark.parametrize("age", ["30", "d", "1.5d", "-3d", "30 days"])
def test_an_age_that_is_none_is_refused(age):
    done = CliRunner().invoke(cli, ["cache", "prune", f"--older-than={age}"])
    assert done.exit_code == 2 and "30d" in done.output
