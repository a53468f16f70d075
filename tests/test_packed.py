"""Rows that are kept: taken again where nothing that they depend on changed, made anew with the reason where it did."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from langadapt.corpus import cache, packed
from langadapt.corpus.encoding import Encoder
from langadapt.corpus.mixing import plan_mix
from langadapt.corpus.packing import IGNORE
from langadapt.corpus.preparing import Source
from langadapt.corpus.tokenising import Packed, pack
from langadapt.errors import UserError
from langadapt.loading import load_tokenizer
from langadapt.records import Document
from langadapt.stages.cpt import text_sequences
from langadapt.testing import TEXTS, tiny_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(autouse=True)
def small_is_worth_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packed, "LEAST", 0)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))


class Trial:
    """A stage that packs two corpora, again and again."""

    def __init__(self, folder: Path, tokenizer: Any):
        self.folder, self.tokenizer = folder, tokenizer
        self.said: list[str] = []
        self.read = 0
        self.ingredients: dict[str, Any] = {"corpus 1 web": "0" * 64, "training.learning_rate": 1e-4, "seed": 42}
        self.texts = [f"{text} ({number})" for number in range(20) for text in TEXTS]

    def __call__(self, *, length: int = 32, steps: int | None = None, tokenizer: Any = None, **changed: Any) -> Packed:
        self.said.clear()
        self.read = 0
        tokenizer = tokenizer or self.tokenizer
        stage = SimpleNamespace(
            id="adapt",
            inputs=[SimpleNamespace(label="web", bytes=10_000, screen=None, source=self._source)],
            work=plan_mix([1.0], []),
            ingredients=self.ingredients | changed,
        )
        context: Any = SimpleNamespace(
            folder=self.folder,
            stage=stage,
            stop=threading.Event(),
            log=SimpleNamespace(info=self.said.append),
            rows=None,
        )
        options: Any = SimpleNamespace(
            training={"max_length": length}, max_steps=steps, max_bytes=None, rows_per_step=1
        )
        encoder = Encoder(tokenizer)
        return pack(
            context,
            options,
            tokenizer,
            encoder,
            encode=lambda documents: text_sequences(documents, tokenizer, encoder),
            whole=False,
        )

    def _source(self) -> Source:
        return Source(label="web", read=self._documents, held_out=0.1)

    def _documents(self) -> Iterator[Document]:
        for text in self.texts:
            self.read += 1
            yield Document(id="", text=text)


@pytest.fixture
def trial(tmp_path: Path, tokenizer: Any) -> Trial:
    return Trial(tmp_path / "stage", tokenizer)


def rows(found: Packed) -> list[dict[str, list[int]]]:
    return [{name: values.tolist() for name, values in found.rows[i].items()} for i in range(len(found.rows))]


def test_the_same_rows_are_taken_again_without_reading_anything(trial):
    first = trial()
    assert trial.read == 60 and "to be packed: not done before" in trial.said
    again = trial()
    assert trial.read == 0 and any(line.startswith("packed before: ") for line in trial.said)
    assert rows(again) == rows(first) and again.to_json() == first.to_json()
    assert trial.said[-1].startswith("60 documents read"), "what was counted then is said now"
    again.accounting.check()
    assert not (trial.folder / "packed").exists(), "there is no second copy"


def test_what_only_the_training_depends_on_changes_nothing(trial):
    trial()
    trial(**{"training.learning_rate": 3e-4, "peft.r": 64, "seed": 7, "from": "other", "model of other": "1" * 64})
    assert trial.read == 0


def test_whatever_the_rows_depend_on_makes_them_anew_and_is_named(trial, tmp_path):
    trial()
    for changed, reason in (
        ({"corpus 1 web": "1" * 64}, "corpus 1 web: changed"),
        ({"corpus 1 web.held_out": 0.2}, "corpus 1 web.held_out: new"),
        ({"replay.share": 0.1}, "replay.share: new"),
        ({"prompt rendering": "2" * 64}, "prompt rendering: new"),
        ({"code": "langadapt 99"}, "code: new"),
        ({"length": 64}, "training.max_length"),
        ({"steps": 3}, "rows: "),
        ({"tokenizer": load_tokenizer(tiny_model(tmp_path / "other", texts=["altro testo"]))}, "tokenizer: changed"),
    ):
        trial(**changed)
        (line,) = [line for line in trial.said if line.startswith("to be packed: ")]
        assert trial.read > 0 and reason in line, changed
    trial()
    assert trial.read == 0, "the first ones are still there"


def test_rows_that_were_cut_short_are_made_anew(trial):
    first = rows(trial())
    (kept,) = cache.entries("packed")
    (kept.path / "accounting.json").unlink()
    (kept.path / "tokens.bin").write_bytes(b"x")
    assert rows(trial()) == first
    assert "to be packed: an earlier run was stopped while it packed them" in trial.said


def test_a_stage_that_finds_nothing_to_train_on_keeps_nothing_that_looks_whole(trial):
    trial.texts = [" "]
    for _ in range(2):
        with pytest.raises(UserError, match="no document is left"):
            trial()
        assert trial.read == 1


def test_rows_are_in_use_as_long_as_they_are_held(trial):
    found = trial()
    assert [kept.in_use for kept in cache.entries("packed")] == [True]
    assert cache.prune(0) == []
    del found
    assert [kept.label for kept in cache.prune(0)] == ["web"]


def test_a_run_that_finds_another_packing_the_same_waits_and_takes_its_rows(trial):
    first = rows(trial())
    (kept,) = cache.entries("packed")
    counts = (kept.path / "accounting.json").read_bytes()
    (kept.path / "accounting.json").unlink()  # as while the other one is at it
    lock = FileLock(kept.path / ".making", thread_local=False)
    lock.acquire()

    def finish() -> None:
        (kept.path / "accounting.json").write_bytes(counts)
        lock.release()

    timer = threading.Timer(0.7, finish)
    timer.start()
    assert rows(trial()) == first and trial.read == 0
    assert "another run is packing the same; this one waits for its rows" in trial.said


def test_little_text_is_packed_in_the_stages_own_folder(trial, monkeypatch):
    monkeypatch.setattr(packed, "LEAST", 2**20)
    trial()
    assert (trial.folder / "packed" / "tokens.bin").exists() and cache.entries("packed") == []
    trial()
    assert trial.read == 60


def test_rows_that_the_cache_has_no_room_for_stay_with_the_stage(trial, monkeypatch):
    monkeypatch.setattr(packed, "free_disk", lambda folder: 100)
    trial()
    assert (trial.folder / "packed" / "tokens.bin").exists() and any("not kept there" in line for line in trial.said)


def test_rows_hold_the_ids_of_the_tokenizer(trial, tokenizer):
    found = trial(length=64)
    rows = [found.rows[i] for i in range(len(found.rows))]
    # A text's own <s> is followed by its first token, the <s> before what goes on from the row before by nothing learnt.
    text = tokenizer.decode(np.concatenate([row["input_ids"][int(row["labels"][0] == IGNORE) :] for row in rows]))
    assert all(f"<s>{kept}</s>" in text for kept in trial.texts if kept in text)
    assert sum(kept in text for kept in trial.texts) == found.given[0].documents
