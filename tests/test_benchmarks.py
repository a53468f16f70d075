"""The benchmark of trainings counts what it says it counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "watch")]

import training  # noqa: E402
from sitecustomize import Watch  # noqa: E402

from langadapt.testing import tiny_model  # noqa: E402


def test_a_watch_counts_tokens_that_are_predicted_and_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text("[0, 1, 4]")
    watch = Watch(file=str(tmp_path / "watch.json"), sizes=str(tmp_path / "sizes.json"), seconds=3600)
    watch.begin()
    watch.batch(torch.tensor([[-100, 1, 2], [0, -100, -100]]))
    assert not watch.step()
    watch.batch(torch.tensor([[2, 2, 2]]))
    watch.seconds = 0
    assert watch.step()
    watch.end()
    steps = json.loads((tmp_path / "watch.json").read_text())["steps"]
    assert [step[1:] for step in steps] == [[3, 5], [6, 17]]


def test_speeds_are_of_the_time_in_which_both_sides_trained() -> None:
    early = [(float(second), 10 * second, 30 * second) for second in range(10)]
    late = [(float(second), 5 * second, 15 * second) for second in range(6, 20)]
    early[8:] = [(8.0, 1000, 3000), (9.0, 1010, 3030)]  # a burst while the other trains too
    since, until = training.shared_interval([early, late])
    assert (since, until) == (6, 9)
    seen = {"memory": 2e6, "gpu": 0, "family": 3e6, "began": -1.0, "started": -5.0, "seconds": 20.0}
    figures = training.digested({**seen, "steps": early}, since, until)
    assert figures["tokens"] == pytest.approx((1010 - 60) / 3) and figures["bytes"] == pytest.approx((3030 - 180) / 3)
    assert (figures["first"], figures["trained"], figures["steps"], figures["memory"]) == (5, 10, 10, 2)


def test_held_out_text_is_whole_documents_that_no_side_trains_on() -> None:
    texts = [f"documento {number} " * 10 for number in range(100)]
    parts = training.split(texts, 1500)
    assert sorted(text for part in parts.values() for text in part) == sorted(texts)
    assert all(1000 < sum(map(training.size, parts[name])) <= 1500 for name in ("held_out", "tuning"))
    assert parts == training.split(texts, 1500)


def test_bytes_of_tokens_add_up_to_the_text(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path / "tiny"))
    text = "Perché la città è così? — Già."
    sizes = training.token_sizes(tokenizer, [text])
    assert sum(sizes[i] for i in tokenizer(text, add_special_tokens=False)["input_ids"]) == len(text.encode())
    assert sizes[tokenizer.eos_token_id] == 0
