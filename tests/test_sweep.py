"""Sweeps: what is compared and how, what variants share, what fails, and how a killed one goes on, on a tiny model."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langadapt import Experiment, RunError, UserError
from langadapt.cli import cli
from langadapt.commands.sweep import _lines
from langadapt.report.variants import compare, costs
from langadapt.sweep import SweepPlan
from langadapt.testing import tiny_model

ROOT = Path(__file__).parents[1]
WIC = ROOT / "plugins/italian/src/langadapt_italian/samples/evalita-2023/wic-ita"
RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{model}"
[data]
"evalita-2023/wic-ita" = "{wic}"
[evaluation]
suites = {suites}
max_items = 4
max_new_tokens = 4
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{text}", held_out = 0.3 }}]
[stage.training]
learning_rate = 5e-3
max_steps = 24
max_length = 64
per_device_train_batch_size = 1
save_steps = 4
logging_steps = 1
"""
HEAD = """
schema = 1
name = "rates"
question = "Which learning rate?"
recipe = "recipe.toml"
limits = "A tiny model shows nothing."
models = ["adapt"]
"""


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def prepare(folder: Path, model: Path, experiment: str, *, suites: str = "[]") -> Path:
    """An experiment beside its recipe and corpus."""
    texts = [f"Il signor {n} pesca {n} trote nel lago e ne rende {n % 3} al fiume, come ogni sera." for n in range(30)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    words = {"model": model, "text": folder / "text.jsonl", "wic": WIC, "suites": suites}
    (folder / "recipe.toml").write_text(RECIPE.format(**words))
    path = folder / "experiment.toml"
    path.write_text(HEAD + experiment)
    return path


def row(table: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    return next(row for row in table if row["metric"] == metric)


# --- what is compared: runs that were written by hand -----------------------------------------------------------------

SEEDS = (1, 2, 3)
ITEMS = 40


@dataclass(frozen=True)
class Written:
    """A plan whose runs are in their folders, and what they measured: nats by variant and seed, an item each."""

    plan: SweepPlan
    nats: dict[tuple[str, int], np.ndarray[Any, Any]]

    @property
    def table(self) -> list[dict[str, Any]]:
        return compare(self.plan.experiment, self.plan.trials)


@pytest.fixture
def written(tmp_path: Path, model_folder: Path) -> Written:
    """`cold` is worse than `plain` on every item and seed, `odd` better with one seed and worse with two, `same` equal."""
    path = prepare(tmp_path, model_folder, "seeds = [1, 2, 3]\n[grid]\nadapt.peft.r = [1, 2, 3, 4]\n")
    text = path.read_text().replace("[grid]\nadapt.peft.r = [1, 2, 3, 4]\n", "")
    path.write_text(text + "".join(f"[variant.{n}]\nadapt.peft.r = {r}\n" for r, n in enumerate(NAMES, start=1)))
    plan = Experiment.load(path).plan(tmp_path / "out")
    random = np.random.default_rng(0)
    noise = {seed: random.normal(0, 0.2, ITEMS) for seed in SEEDS}
    easy = random.uniform(20, 60, ITEMS)
    factors = {"plain": {}, "same": {}, "cold": dict.fromkeys(SEEDS, 1.1), "odd": {1: 0.9, 2: 1.3, 3: 1.3}}
    nats = {(name, seed): easy * f.get(seed, 1.0) + noise[seed] for name, f in factors.items() for seed in SEEDS}
    for planned in plan.trials:
        write_run(planned.plan.folder, nats[planned.trial.variant, planned.trial.seed or 0])
    return Written(plan, nats)


NAMES = ("plain", "same", "cold", "odd")


def write_run(folder: Path, nats: np.ndarray[Any, Any]) -> None:
    """What a run leaves that measured these nats on texts of 50 bytes."""
    key = {"suite": "held-out", "task": "text", "method": "text"}
    lines = [json.dumps(key | {"id": str(n), "nll": nll, "bytes": 50, "tokens": 9}) for n, nll in enumerate(nats)]
    place = folder / "stages" / "evaluate-adapt"
    place.mkdir(parents=True)
    (place / "items.jsonl").write_text("\n".join(lines))
    value = float(nats.sum() / np.log(2) / (50 * ITEMS))
    measured = {"stage": "adapt", "split": "held_out", "metric": "bits_per_byte", "value": value, "n": ITEMS}
    measured |= {"ci_low": value - 0.1, "ci_high": value + 0.3, "higher_is_better": False, "unit": "bits/byte"}
    base = {"stage": "base", "suite": "held-out", "task": "text"}
    (folder / "report.json").write_text(json.dumps([measured | base, key | measured]))


def test_values_are_means_over_seeds_with_their_spread(written: Written) -> None:
    (found,) = written.table
    assert (found["model"], found["task"], found["metric"]) == ("adapt", "text", "bits_per_byte"), (
        "base is not asked for"
    )
    for name in NAMES:
        values = [written.nats[name, seed].sum() / np.log(2) / (50 * ITEMS) for seed in SEEDS]
        cell = found["cells"][name]
        assert cell["values"] == pytest.approx(values)
        assert (cell["value"], cell["sd"]) == pytest.approx((statistics.fmean(values), statistics.stdev(values)))
        assert (cell["ci_low"], cell["ci_high"]) == pytest.approx((cell["value"] - 0.1, cell["value"] + 0.3))


def test_changes_are_against_the_baseline_with_the_same_seed_and_items(written: Written) -> None:
    cells = written.table[0]["cells"]
    cold_nats, plain_nats = (sum(written.nats[name, seed].sum() for seed in SEEDS) for name in ("cold", "plain"))
    cold = cells["cold"]
    assert cold["change"] == pytest.approx(cold_nats / plain_nats - 1) and cold["change_is_relative"]
    low, high = 0.1 - 1e-3, 0.1 + 1e-3  # every item is a tenth worse, so that pairs leave next to nothing to chance
    assert low < cold["change_ci_low"] <= cold["change"] <= cold["change_ci_high"] < high
    assert "change" not in cells["plain"]


def test_a_variant_that_changes_nothing_shows_no_difference(written: Written) -> None:
    same = written.table[0]["cells"]["same"]
    assert (same["change"], same["change_ci_low"], same["change_ci_high"]) == (0, 0, 0)
    assert same["tone"] == "unclear"


def test_a_change_is_sure_when_no_seed_moves_the_other_way(written: Written) -> None:
    cells = written.table[0]["cells"]
    assert cells["cold"]["tone"] == "worse"
    assert cells["odd"]["change_ci_low"] > 0 and cells["odd"]["tone"] == "unclear"


def test_only_what_is_asked_for_is_compared(written: Written) -> None:
    path = Path(written.plan.experiment.source)
    path.write_text(path.read_text().replace('models = ["adapt"]', 'measures = ["held-out"]'))
    assert [r["model"] for r in compare(Experiment.load(path), written.plan.trials)] == ["base", "adapt"]


# --- what is run ------------------------------------------------------------------------------------------------------

PLAIN = "[variant.plain]\n"
SLOW = "[variant.other]\nadapt.training.learning_rate = 1e-2\n"
FEWER = "[variant.fewer]\nevaluation.max_items = 3\n"
BROKEN = "[variant.broken]\nadapt.training.learning_rate = 1e30\nadapt.training.max_grad_norm = 0.0\n"


@dataclass(frozen=True)
class Killed:
    """A sweep that was killed in its second run and then gone on with: its file, folder and state, and what it said."""

    path: Path
    out: Path
    error: RunError
    said: str
    before: dict[Path, int]

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = read(self.out / "experiment.json")
        return state


def times(folder: Path) -> dict[Path, int]:
    """When each file of a run was last written to; locks are taken again and again."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("place")
    model, out = tiny_model(folder / "model"), folder / "out"
    path = prepare(folder, model, PLAIN + SLOW + FEWER + BROKEN, suites='["wic-ita"]')
    command = [sys.executable, "-m", "langadapt", "sweep", str(path), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    checkpoints = out / "other/stages/.adapt.partial/checkpoints"
    deadline = time.monotonic() + 300
    while (
        not list(checkpoints.glob("checkpoint-*/seal.json")) and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read(out / "experiment.json")["trials"][0]["status"] == "done"
    assert read(out / "other/run.json")["status"] == "running"
    before = times(out / "plain")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RunError) as caught:
        screen: list[str] = []
        patch.setattr("rich.console.Console.print", printed(screen))
        cli(command[3:], standalone_mode=False)
    return Killed(path, out, caught.value, "\n".join(screen), before)


def printed(screen: list[str]) -> Callable[..., None]:
    """In the place of a console's `print`: tables as their cells, anything else as its text."""

    def keep(console: Any, *what: Any, **how: Any) -> None:
        for one in what:
            cells = [str(cell) for column in getattr(one, "columns", ()) for cell in column.cells]
            screen.extend(cells or [str(one)])

    return keep


def test_a_killed_sweep_goes_on_where_it_was(killed: Killed) -> None:
    assert times(killed.out / "plain") == killed.before, "what was finished is left alone"
    events = [json.loads(line) for line in (killed.out / "other/events.jsonl").read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "step"]
    begun = [n for n, event in enumerate(events) if event["event"] == "stage" and event["id"] == "adapt"]
    again = [e["step"] for e in events[begun[-2] :] if e["event"] == "step"]
    assert steps[-1] == 24 and again[0] > 4, "it went on from a checkpoint"


def test_a_variant_that_fails_does_not_lose_the_others(killed: Killed) -> None:
    state = killed.state
    assert [t["status"] for t in state["trials"]] == ["done", "done", "done", "failed"] and state["status"] == "failed"
    assert killed.error.exit_code == 1
    assert str(killed.error).startswith("1 of 4 runs failed") and "broken: stage adapt: the loss became" in str(
        killed.error
    )
    assert set(row(state["table"], "bits_per_byte")["cells"]) == {"plain", "other", "fewer"}


def test_variants_that_differ_in_evaluation_only_train_once(killed: Killed) -> None:
    made, taken = (killed.out / name / "stages/adapt/stage.json" for name in ("plain", "fewer"))
    assert made.stat().st_ino == taken.stat().st_ino, "a hard link and no copy"
    assert '"event": "step"' not in (killed.out / "fewer/events.jsonl").read_text()
    stages = {stage["id"]: stage for stage in read(killed.out / "fewer/run.json")["stages"]}
    assert (stages["adapt"]["status"], stages["adapt"]["reason"]) == ("cached", "made by plain")
    assert stages["evaluate-adapt"]["status"] == "done", "what differs is done"


def test_a_variant_that_is_asked_less_is_compared_on_what_both_were_asked(killed: Killed) -> None:
    cells = next(r for r in killed.state["table"] if r["task"] == "wic-ita")["cells"]
    assert (cells["plain"]["n"], cells["fewer"]["n"], cells["fewer"]["change"]) == (4, 3, 0)


def test_the_table_holds_what_the_runs_measured(killed: Killed) -> None:
    for name, cell in row(killed.state["table"], "bits_per_byte")["cells"].items():
        rows = read(killed.out / name / "report.json")
        found = next(r for r in rows if (r["stage"], r["metric"]) == ("adapt", "bits_per_byte"))
        assert (cell["value"], cell["ci_low"], cell["n"]) == (found["value"], found["ci_low"], found["n"])


def test_the_screen_has_a_line_for_each_variant_and_one_where_they_do_not_differ() -> None:
    shared = {"sd": None, "n": 9, "ci_low": 1.0, "ci_high": 3.0}
    against = shared | {"change": 0.5, "change_is_relative": False, "change_ci_low": 0.1, "change_ci_high": 0.9}
    of = {"model": "adapt", "task": "quiz", "metric": "acc", "higher_is_better": True}

    def lines(other: float) -> list[tuple[str, ...]]:
        cells = {"plain": shared | {"value": 2.0}, "other": against | {"value": other, "tone": "better"}}
        return list(_lines(of | {"cells": cells}, ["plain", "missing", "other"]))

    assert lines(2.5) == [
        ("adapt: quiz", "plain", "2.000", "", "1.000 to 3.000"),
        ("  acc ↑", "other", "2.500", "+0.500", "+0.100 to +0.900"),
    ]
    assert lines(2.0) == [
        ("adapt: quiz", "every variant", "2.000", "", "1.000 to 3.000"),
        ("  acc ↑", "", "", "", ""),
    ]


def test_costs_are_those_of_the_runs_and_of_what_was_taken_over(killed: Killed) -> None:
    by_name = {trial["name"]: trial["cost"] for trial in killed.state["trials"]}
    stages = read(killed.out / "other/run.json")["stages"]
    adapt = next(stage for stage in stages if stage["id"] == "adapt")
    assert by_name["other"]["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages), abs=0.1)
    assert by_name["other"]["tokens"] == adapt["accounting"]["tokens"]["trained"] > 0
    assert by_name["other"]["peak_memory"] == adapt["metrics"]["peak_memory"] > 0
    assert by_name["other"]["tokens_per_second"] == pytest.approx(adapt["metrics"]["tokens_per_second"])
    assert by_name["fewer"]["tokens"] == by_name["plain"]["tokens"]
    assert by_name["fewer"]["shared"] == {"adapt": "made by plain"} and by_name["broken"] == {}
    planned = Experiment.load(killed.path).plan(killed.out).trials[1]
    assert costs(planned) == by_name["other"]


def test_screen_and_page_say_scale_limits_and_failures(killed: Killed) -> None:
    page = (killed.out / "experiment.html").read_text(encoding="utf-8")
    for said in ("Which learning rate?", "A tiny model shows nothing.", "broken"):
        assert said in page and said in killed.said, said
    for said in ("signs of life", "One seed", "the loss became", "made by plain", "learning_rate</code>", "0.01"):
        assert said in page, said
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert page.count("<svg") == 1, "the text that was measured"


def test_only_what_is_not_done_is_run_again(killed: Killed) -> None:
    kept = {name: times(killed.out / name) for name in ("plain", "other", "fewer")}
    killed.path.write_text(killed.path.read_text().replace("1e30", "1e-3"))
    mended = Experiment.load(killed.path)
    assert {planned.name for planned, _ in mended.plan(killed.out).to_do} == {"broken"}
    done = mended.execute(killed.out)
    assert done.failed == [] and done.state["status"] == "done"
    assert {name: times(killed.out / name) for name in kept} == kept
    assert len(row(done.state["table"], "bits_per_byte")["cells"]) == 4


def test_a_folder_that_another_sweep_works_in_is_left_alone(killed: Killed) -> None:
    from filelock import FileLock

    with FileLock(killed.out / ".lock"), pytest.raises(UserError, match="in use by another sweep"):
        Experiment.load(killed.path).execute(killed.out)
