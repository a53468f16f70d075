"""Sweeps on a tiny model: what variants share, what is compared and how, what fails, and how a killed one goes on."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from langadapt import Experiment, UserError
from langadapt.sweep import Sweep
from langadapt.testing import tiny_model

ROOT = Path(__file__).parents[1]
WIC = ROOT / "plugins/italian/src/langadapt_italian/samples/evalita-2023/wic-ita"
RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{folder}/model"
[data]
"evalita-2023/wic-ita" = "{wic}"
[evaluation]
suites = ["wic-ita"]
max_items = 4
max_new_tokens = 4
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0.3 }}]
[stage.training]
learning_rate = 5e-3
max_steps = {steps}
max_length = 64
per_device_train_batch_size = 1
save_steps = 1
"""
EXPERIMENT = """
schema = 1
name = "rates"
question = "Which learning rate?"
recipe = "recipe.toml"
limits = "A tiny model shows nothing."
seeds = [1, 2]
models = ["adapt"]

[variant.plain]

[variant.alike]
adapt.training.logging_steps = 7

[variant.fewer]
evaluation.max_items = 3

[variant.hot]
adapt.training.learning_rate = 5e-2
{more}
"""
BROKEN = "[variant.broken]\nadapt.training.learning_rate = 1e30\nadapt.training.max_grad_norm = 0.0\n"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def prepare(folder: Path, *, steps: int = 2, more: str = "") -> Path:
    """An experiment, its recipe, a model and a corpus."""
    tiny_model(folder / "model")
    texts = [f"Il signor {n} pesca {n} trote nel lago e ne rende {n % 3} al fiume, come ogni sera." for n in range(30)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder, wic=WIC, steps=steps))
    path = folder / "experiment.toml"
    path.write_text(EXPERIMENT.format(more=more))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def done(place: Path) -> Sweep:
    """A finished sweep of four variants with two seeds, and one that cannot but fail."""
    return Experiment.load(prepare(place, more=BROKEN)).execute(place / "out")


def row(sweep: Sweep, metric: str) -> dict[str, Any]:
    return next(r for r in sweep.state["table"] if r["metric"] == metric)


def figures(folder: Path, metric: str) -> dict[str, Any]:
    return next(r for r in read(folder / "report.json") if (r["stage"], r["metric"]) == ("adapt", metric))


def items(folder: Path, method: str) -> dict[str, dict[str, Any]]:
    lines = (folder / "stages/evaluate-adapt/items.jsonl").read_text().splitlines()
    return {item["id"]: item for item in map(json.loads, lines) if item["method"] == method}


# --- what is compared -------------------------------------------------------------------------------------------------


def test_every_variant_is_a_run_with_a_folder_of_its_own(done: Sweep) -> None:
    names = [trial["name"] for trial in done.state["trials"]]
    assert names == [f"{v}-seed{s}" for v in ("plain", "alike", "fewer", "hot", "broken") for s in (1, 2)]
    for name in names[:8]:
        assert read(done.folder / name / "run.json")["status"] == "done"
        assert (done.folder / name / "report.html").stat().st_size > 0
    assert {row["model"] for row in done.state["table"]} == {"adapt"}


def test_values_are_means_over_seeds_with_their_spread(done: Sweep) -> None:
    for variant in ("plain", "hot"):
        cell = row(done, "bits_per_byte")["cells"][variant]
        of_seeds = [figures(done.folder / f"{variant}-seed{seed}", "bits_per_byte") for seed in (1, 2)]
        assert cell["values"] == [r["value"] for r in of_seeds] and cell["values"][0] != cell["values"][1]
        assert cell["value"] == pytest.approx(statistics.fmean(cell["values"]))
        assert cell["sd"] == pytest.approx(statistics.stdev(cell["values"]))
        assert cell["ci_low"] == pytest.approx(statistics.fmean(r["ci_low"] for r in of_seeds))


def test_changes_are_against_the_baseline_with_the_same_seed_and_items(done: Sweep) -> None:
    moves = []
    for seed in (1, 2):
        before, after = (items(done.folder / f"{variant}-seed{seed}", "text") for variant in ("plain", "hot"))
        assert before.keys() == after.keys()
        moves.append(sum(i["nll"] for i in after.values()) / sum(i["nll"] for i in before.values()) - 1)
    cell = row(done, "bits_per_byte")["cells"]["hot"]
    assert cell["change"] == pytest.approx(statistics.fmean(moves)) and cell["change_is_relative"]
    assert cell["change_sd"] == pytest.approx(statistics.stdev(moves))
    assert cell["change_ci_low"] < cell["change"] < cell["change_ci_high"]
    assert "change" not in row(done, "bits_per_byte")["cells"]["plain"]


def test_a_variant_that_changes_nothing_shows_no_difference(done: Sweep) -> None:
    for found in done.state["table"]:
        cell = found["cells"]["alike"]
        assert (cell["change"], cell["change_ci_low"], cell["change_ci_high"]) == (0, 0, 0)
        assert cell["tone"] == "unclear"


def test_a_variant_that_is_asked_less_is_compared_on_what_both_were_asked(done: Sweep) -> None:
    metric = next(r["metric"] for r in done.state["table"] if r["task"] == "wic-ita")
    cells = row(done, metric)["cells"]
    assert (cells["plain"]["n"], cells["fewer"]["n"], cells["fewer"]["change"]) == (4, 3, 0)


def test_seeds_that_do_not_agree_make_no_change_sure() -> None:
    from langadapt.evaluation.statistics import Interval
    from langadapt.report.variants import _cell

    rows = [{"metric": "accuracy", "value": v, "n": 50, "ci_low": v, "ci_high": v, "higher_is_better": True} for v in (1, 2)]
    up, down = Interval(0.3, 0.2, 0.4), Interval(-0.1, -0.15, -0.05)
    assert _cell(rows, [up, up])["tone"] == "better"
    assert _cell(rows, [up, down])["change_ci_low"] > 0 and _cell(rows, [up, down])["tone"] == "unclear"


def test_costs_are_those_of_the_runs(done: Sweep) -> None:
    by_name = {trial["name"]: trial["cost"] for trial in done.state["trials"]}
    stages = read(done.folder / "hot-seed1/run.json")["stages"]
    adapt = next(stage for stage in stages if stage["id"] == "adapt")
    cost = by_name["hot-seed1"]
    assert cost["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages), abs=0.1)
    assert cost["tokens"] == adapt["accounting"]["tokens"]["trained"] > 0
    assert cost["peak_memory"] == adapt["metrics"]["peak_memory"] > 0
    assert cost["tokens_per_second"] == pytest.approx(adapt["metrics"]["tokens_per_second"])
    assert by_name["fewer-seed1"]["tokens"] == by_name["plain-seed1"]["tokens"], "though another run had trained it"


# --- what is shared, what fails, what is not done again ---------------------------------------------------------------


def test_variants_that_differ_in_evaluation_only_train_once(done: Sweep) -> None:
    weights = [done.folder / f"{variant}-seed1/stages/adapt/stage.json" for variant in ("plain", "fewer")]
    assert weights[0].stat().st_ino == weights[1].stat().st_ino, "a hard link and no copy"
    assert '"event": "step"' not in (done.folder / "fewer-seed1/events.jsonl").read_text()
    stages = {stage["id"]: stage for stage in read(done.folder / "fewer-seed1/run.json")["stages"]}
    assert (stages["adapt"]["status"], stages["adapt"]["reason"]) == ("cached", "made by plain-seed1")
    assert stages["evaluate-adapt"]["status"] == "done", "what differs is done"
    shared = next(t["cost"]["shared"] for t in done.state["trials"] if t["name"] == "fewer-seed1")
    assert shared == {"adapt": "made by plain-seed1"}


def test_a_variant_that_fails_does_not_lose_the_others(done: Sweep) -> None:
    assert done.state["status"] == "failed" and len(done.failed) == 2
    assert all("the loss became" in said and said.startswith("broken-seed") for said in done.failed)
    assert all("broken" not in row["cells"] for row in done.state["table"])


def test_the_page_says_scale_limits_and_failures_and_needs_nothing_else(done: Sweep) -> None:
    page = done.report.read_text(encoding="utf-8")
    for said in ("Which learning rate?", "A tiny model shows nothing.", "Two seeds", "the loss became", "made by plain-seed1"):
        assert said in page, said
    assert "At the scale of a rehearsal" not in page and "signs of life" in page, "four items are no measurement"
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert page.count("<svg") == 1, "the text that was measured"


def test_only_what_is_not_done_is_run_again(done: Sweep, place: Path, tmp_path: Path) -> None:
    """The same experiment with the failing variant mended, by the command line."""
    before = {path: path.stat().st_mtime_ns for path in (place / "out").glob("*/*.json")}
    path = place / "experiment.toml"
    path.write_text(EXPERIMENT.format(more=BROKEN.replace("1e30", "1e-3")))
    ran = sweep(path, place / "out", "--json")
    assert ran.returncode == 0, ran.stderr
    state = json.loads(ran.stdout)["experiment"]
    assert state["status"] == "done" and {t["status"] for t in state["trials"]} == {"done"}
    changed = {p.parent.name for p, when in before.items() if p.stat().st_mtime_ns != when}
    assert changed <= {"broken-seed1", "broken-seed2"}
    assert set(row(Sweep(folder=place, state=state), "bits_per_byte")["cells"]) == {"plain", "alike", "fewer", "hot", "broken"}


def test_a_folder_that_another_sweep_works_in_is_left_alone(done: Sweep, place: Path) -> None:
    from filelock import FileLock

    with FileLock(done.folder / ".lock"), pytest.raises(UserError, match="in use by another sweep"):
        Experiment.load(place / "experiment.toml").execute(done.folder)


def sweep(path: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "langadapt", "sweep", str(path), "--out", str(out), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    path = prepare(tmp_path, steps=60)
    path.write_text(path.read_text().replace("seeds = [1, 2]", "seeds = [1]").split("[variant.fewer]")[0] + BROKEN)
    out, second = tmp_path / "out", tmp_path / "out/alike-seed1/run.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "langadapt", "sweep", str(path), "--out", str(out)], stderr=subprocess.DEVNULL
    )
    checkpoints = out / "alike-seed1/stages/.adapt.partial/checkpoints"
    deadline = time.monotonic() + 200
    while not list(checkpoints.glob("checkpoint-*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read(out / "experiment.json")["trials"][0]["status"] == "done", "killed in the second"
    assert read(second)["status"] == "running"
    first = {p: p.stat().st_mtime_ns for p in (out / "plain-seed1").rglob("*") if p.is_file()}
    again = sweep(path, out)
    assert again.returncode == 1 and "1 of 3 runs failed" in again.stderr, again.stderr
    assert "bits_per_byte" in again.stdout and "broken-seed1" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in (out / "plain-seed1").rglob("*") if p.is_file()} == first
    steps = [json.loads(line) for line in (out / "alike-seed1/events.jsonl").read_text().splitlines()]
    assert [e["step"] for e in steps if e["event"] == "step"][-1] == 60
    assert any("checkpoint" in e.get("message", "") for e in steps), "it went on and did not begin again"
