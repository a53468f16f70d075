"""`langadapt compare`: what is compared and what is refused, seeds, gates, a model with itself and with a damaged one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner

from langadapt import Recipe, UserError, compare
from langadapt.cli import cli, main
from langadapt.evaluation import pairing
from langadapt.evaluation.methods import Items, Measure, rows
from langadapt.testing import tiny_model

SAMPLES = Path(__file__).parents[1] / "plugins" / "italian" / "src" / "langadapt_italian" / "samples"
DOCUMENTS = 20


def documents(bits: float, *, noise: int = 0, tokens: int = 30, count: int = DOCUMENTS) -> list[dict[str, Any]]:
    """Results of a model on texts of 100 bytes: about so many bits a byte, hard texts and easy ones, as `noise` has it."""
    hard = np.random.default_rng(99).normal(1, 0.2, count)
    own = np.random.default_rng(noise).normal(0, 0.01, count)
    nats = (bits * hard + own) * 100 * math.log(2)
    return [{"id": f"d:{i}", "nll": nll, "bytes": 100, "tokens": tokens} for i, nll in enumerate(nats)]


def choices(right: set[int], *, count: int = 24, gold: str = "sì") -> list[dict[str, Any]]:
    """Results of a model on questions of WiC-ITA that it answers right or wrong."""
    golds = [gold if i % 2 else "no" for i in range(count)]
    other = {"sì": "no", "no": "sì", "forse": "no"}
    return [
        {"id": f"q:{i}", "asked": f"Domanda {i}?", "gold": g, "text": "", "prediction": g if i in right else other[g]}
        for i, g in enumerate(golds)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of a finished run: a base model and an adapted one, and what each did."""

    def write_run(name: str, *, seed: int = 1, split: str = "held_out", torch: str = "2.13", rate: float = 1e-4,
                  ingredients: dict[str, Any] | None = None, limited: bool = False,
                  **models: dict[str, list[dict[str, Any]]]) -> Path:  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        stages = [{"id": "adapt", "kind": "cpt", "from": "base", "status": "done"}]
        for model, measures in models.items():
            stage = {"id": f"evaluate-{model}", "kind": "evaluate", "from": model, "status": "done"}
            stages.append(stage)
            place = folder / "stages" / stage["id"]
            place.mkdir(parents=True)
            rows, lines = [], []
            for task, items in measures.items():
                method, metric = ("text", "bits_per_byte") if "nll" in items[0] else ("task", "f1")
                key = {"suite": "suite", "task": task}
                rows.append(key | {"stage": model, "split": split, "metric": metric, "value": 0.0, "n": len(items),
                                   "ci_low": 0.0, "ci_high": 0.0, "higher_is_better": method == "task", "unit": "",
                                   "language": "it", "limited": limited})  # fmt: skip
                lines += [json.dumps(key | {"method": method} | item) for item in items]
            (place / "items.jsonl").write_text("\n".join(lines), encoding="utf-8")
            about = {"rows": rows, "ingredients": {"max_documents": 0, "seed": seed} | (ingredients or {})}
            (place / "stage.json").write_text(json.dumps(about), encoding="utf-8")
        environment = {"python": "3.11", "machine": "a machine", "bf16": True, "packages": {"torch": torch}}
        state = {"stages": stages, "rehearsal": False, "environment": environment}
        (folder / "run.json").write_text(json.dumps(state), encoding="utf-8")
        recipe = {"name": name, "seed": seed, "base_model": "m", "stage": [{"id": "adapt", "rate": rate}]}
        (folder / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
        return folder

    return write_run


def test_the_last_measured_models_are_compared_on_the_items_that_both_have(run) -> None:
    one = run("one", base={"t": documents(3.0)}, adapt={"t": documents(2.0, noise=1)})
    two = run("two", base={"t": documents(3.0)}, adapt={"t": documents(1.8, noise=2, count=DOCUMENTS + 5)[3:]})
    found = compare([one, two])
    before, after = found.rows
    assert found.systems == [f"{one}:adapt", f"{two}:adapt"]
    assert before["n"] == after["n"] == DOCUMENTS - 3 and found.differs["t: items"] == [DOCUMENTS, DOCUMENTS + 2]
    shared = [documents(2.0, noise=1)[3:], documents(1.8, noise=2, count=DOCUMENTS + 5)[3:DOCUMENTS]]
    bits = [sum(i["nll"] for i in side) / math.log(2) / (100 * (DOCUMENTS - 3)) for side in shared]
    assert [before["value"], after["value"]] == pytest.approx(bits)
    assert after["change"] == pytest.approx(bits[1] / bits[0] - 1)


def test_a_named_model_takes_the_place_of_the_last_one_and_three_are_held_against_the_first(run) -> None:
    folder = run("one", base={"t": documents(3.0)}, adapt={"t": documents(2.0, noise=1)})
    found = compare([f"{folder}:base", f"{folder}:adapt", folder])
    assert [row["system"] for row in found.rows] == [0, 1, 2]
    assert [row.get("baseline") for row in found.rows] == [None, f"{folder}:base", f"{folder}:base"]
    assert found.rows[1]["change"] == found.rows[2]["change"] == pytest.approx(-1 / 3, abs=0.01)
    assert not found.worse and [row["system"] for row in compare([folder, f"{folder}:base"]).worse] == [1]


def test_a_model_compared_with_itself_shows_no_difference_at_all(run) -> None:
    folder = run("one", adapt={"t": documents(2.0), "wic-ita": choices(set(range(15)))})
    found = compare([folder, folder])
    for row in found.rows[1::2]:
        assert (row["change"], row["change_ci_low"], row["change_ci_high"]) == (0, 0, 0)
        assert row["p_value"] == row["p_adjusted"] == 1 and row["effect_size"] == 0
    assert len(found.rows) == 4 and not found.worse and not found.differs and not found.left_out


def test_scores_of_tasks_are_compared_by_swapping_answers_and_corrected_with_the_rest_of_the_suite(run) -> None:
    one = run("one", adapt={"wic-ita": choices(set(range(12))), "t": documents(2.0)})
    two = run("two", adapt={"wic-ita": choices(set(range(20))), "t": documents(2.0, noise=3)})
    by_task = {row["task"]: row for row in compare([one, two]).rows if row["system"] == 1}
    f1, bits = by_task["wic-ita"], by_task["t"]
    assert f1["change"] == pytest.approx(20 / 24 - 12 / 24, abs=0.01) and f1["change_ci_low"] > 0
    assert f1["p_value"] == pytest.approx(2 / 2**8), "of 8 answers that differ, all are for the second model"
    assert bits["p_value"] > 0.05 and f1["p_adjusted"] == 2 * f1["p_value"] and bits["p_adjusted"] == bits["p_value"]


def test_items_that_say_of_what_cluster_they_are_are_swapped_with_the_others_of_it(run) -> None:
    def grouped(bits: float) -> list[dict[str, Any]]:
        return [item | {"cluster": f"passage {i % 4}"} for i, item in enumerate(documents(bits))]

    found = compare([run("one", adapt={"t": grouped(2.0)}), run("two", adapt={"t": grouped(1.0)})]).rows[1]
    assert found["p_value"] == pytest.approx(2 / 2**4), "twenty documents, but four passages"


def test_a_gain_is_a_share_of_what_chance_leaves_where_chance_is_known(run) -> None:
    """Of pairs, half are ranked rightly by guessing; of bits per byte nobody knows."""
    sides = {"chosen_bytes": 10, "rejected_bytes": 10}
    pairs = [
        [{"id": str(i), "chosen": 2.0, "rejected": 1.0 + 2 * (i < right), **sides} for i in range(10)]
        for right in (5, 9)
    ]
    changes = pairing.changes(("suite", "task", "preferences"), [pairs[0]], [pairs[1]])
    row = {"metric": "preference_accuracy", "n": 10}
    found = pairing.changed(row, changes["preference_accuracy"], against="base")
    assert found["change"] == pytest.approx(0.4) and found["normalised_gain"] == pytest.approx(0.8)
    assert "normalised_gain" not in pairing.changed(
        {"metric": "preference_margin", "n": 10}, changes["preference_margin"], against=""
    )


def test_one_item_has_no_interval(run) -> None:
    """Drawn again and again it is the same one: an interval of no width would look like certainty."""
    measure = cast(Measure, SimpleNamespace(suite="suite", task="task", method="preferences"))
    items = [
        {"id": str(i), "chosen": 2.0, "rejected": 1.0 + i, "chosen_bytes": 9, "rejected_bytes": 8} for i in range(3)
    ]
    (one, *_), (some, *_) = (rows(measure, Items(items=found, limited=False)) for found in (items[:1], items))
    assert (one["n"], one["ci_low"], one["ci_high"]) == (1, None, None)
    assert some["ci_low"] <= some["value"] <= some["ci_high"]
    for n, found in ((1, items[:1]), (3, items)):
        changes = pairing.changes(("suite", "task", "preferences"), [found], [found])
        told = pairing.changed({"metric": one["metric"], "n": n}, changes[one["metric"]], against="base")
        assert (told["change_ci_low"] is None) == (n == 1) and told["change"] == 0


@pytest.mark.parametrize(
    ("first", "second", "settings", "says"),
    [
        ({"t": documents(2.0)}, {"u": documents(2.0)}, {}, "u: not measured of .*one:adapt"),
        ({"t": documents(2.0)}, {"t": documents(2.0)}, {"split": "test"}, "t: measured on different splits"),
        ({"t": documents(2.0)[:9]}, {"t": documents(2.0)[9:]}, {}, "t: no item was asked of all"),
        (
            {"t": documents(2.0)},
            {"t": [item | {"bytes": 101 if item["id"] == "d:3" else 100} for item in documents(2.0)]},
            {},
            "t: 1 of 20 items have the same id and are not the same data",
        ),
        ({"wic-ita": choices({1})}, {"wic-ita": choices({1}, gold="forse")}, {}, "wic-ita: 12 of 24 items"),
        (
            {"gone": choices({1})},
            {"gone": choices({2})},
            {},
            "gone: no plugin that is installed here scores .gone.; install",
        ),
    ],
)
def test_what_is_not_the_same_is_not_compared_and_the_reason_is_said(run, first, second, settings, says) -> None:
    one, two = run("one", adapt=first), run("two", adapt=second, **settings)
    with pytest.raises(UserError, match=says):
        compare([one, two])


def test_what_cannot_be_compared_does_not_keep_the_rest_from_it(run) -> None:
    one = run("one", adapt={"t": documents(2.0), "u": documents(2.0)})
    two = run("two", adapt={"t": documents(2.0), "gone": choices({1})})
    found = compare([one, two])
    assert [row["task"] for row in found.rows] == ["t", "t"]
    assert found.left_out == [
        f"u: not measured of {two}:adapt; measure it there too",
        f"gone: not measured of {one}:adapt; measure it there too",
    ]
    three = run("three", adapt={"t": documents(2.0)})
    several = compare([one, two, f"{one}:adapt", three])
    assert [(row["task"], row["system"]) for row in several.rows] == [*(("t", i) for i in range(4)), ("u", 0), ("u", 2)]
    assert f"u: not measured of {two}:adapt, {three}:adapt; measure it there too" in several.left_out
    assert "not compared: u: not measured of" in CliRunner().invoke(cli, ["compare", str(one), str(two)]).output


def test_what_differs_beside_the_models_is_said_and_what_does_not_is_not(run) -> None:
    digest = "ab" * 32
    before = {"max_documents": 10, "corpus 1 t": digest, "corpus 1 t.weight": 1.0, "model of adapt": digest}
    after = {"max_documents": 0, "corpus 2 t": digest[::-1], "corpus 2 t.weight": 0.5, "model of adapt": ""}
    one = run("one", adapt={"t": documents(2.0)}, ingredients=before)
    texts = {"t": documents(2.0, tokens=25)}
    two = run("two", seed=2, torch="2.14", limited=True, adapt=texts, ingredients=after)
    assert compare([one, two]).differs == {
        "seed": [1, 2],
        "max_documents": [10, 0],
        "corpus t": [digest, digest[::-1]],
        "torch": ["2.13", "2.14"],
        "t: tokens of the same text": [600, 500],
    }
    shown = CliRunner().invoke(cli, ["compare", str(one), str(two)], terminal_width=200).output
    assert "torch: 2.13 | 2.14" in shown and "corpus t: abababababab… | " in shown and "not a measurement" in shown


def test_runs_that_differ_in_their_seeds_alone_are_one_system_when_asked(run) -> None:
    plain = [run(f"plain-{s}", seed=s, adapt={"t": documents(2.0 + s / 100, noise=s)}) for s in (1, 2, 3)]
    tuned = [run(f"tuned-{s}", seed=s, rate=2e-4, adapt={"t": documents(1.9, noise=10 + s)}) for s in (3, 1, 2)]
    found = compare([*plain, *tuned], seeds=True)
    before, after = found.rows
    alone = [compare([plain[0], other]).rows for other in plain[1:]]
    values = [alone[0][0]["value"], *(rows[1]["value"] for rows in alone)]
    assert (before["value"], before["sd"], before["seeds"]) == pytest.approx(
        (np.mean(values), np.std(values, ddof=1), 3)
    )
    assert after["change"] == pytest.approx(after["value"] / before["value"] - 1) and after["change_ci_high"] < 0
    assert [label.partition(" ")[2] for label in found.systems] == ["(3 seeds)", "(3 seeds)"]
    assert "seed" not in found.differs, "both have the same ones"
    assert len(compare([*plain, *tuned]).systems) == 6, "without being asked, every run is its own"
    with_base = compare([run("base", base={"t": documents(3.0)}), *plain], seeds=True)
    assert len(with_base.systems) == 2 and with_base.rows[1]["change"] < 0
    shown = CliRunner().invoke(cli, ["compare", "--seeds", *map(str, [*plain, *tuned])], terminal_width=200).output
    assert f"{before['value']:.3f} ± {before['sd']:.3f}" in shown


def test_seeds_of_tasks_are_scored_run_by_run(run) -> None:
    one = [run(f"one-{s}", seed=s, adapt={"wic-ita": choices(set(range(10 + s)))}) for s in (1, 2)]
    two = [run(f"two-{s}", seed=s, rate=1.0, adapt={"wic-ita": choices(set(range(18 + s)))}) for s in (1, 2)]
    before, after = compare([*one, *two], seeds=True).rows
    assert before["value"] == pytest.approx(np.mean([11 / 24, 12 / 24]), abs=0.01) and before["sd"] > 0
    assert after["change"] == pytest.approx(after["value"] - before["value"]) and after["p_value"] < 0.05


def test_seeds_that_cannot_be_taken_together_are_refused(run) -> None:
    measured = {"adapt": {"t": documents(2.0)}}
    one, two, three = (run(f"one-{s}", seed=s, **measured) for s in (1, 2, 3))
    again, other = run("again", seed=1, **measured), run("other", rate=2e-4, **measured)
    pair = run("other-2", seed=2, rate=2e-4, **measured)
    with pytest.raises(UserError, match="one recipe with one seed, 1"):
        compare([one, again, other], seeds=True)
    with pytest.raises(UserError, match="2 runs give 1 model to compare"):
        compare([one, two], seeds=True)
    with pytest.raises(UserError, match="have not as many seeds"):
        compare([one, two, three, other, pair], seeds=True)


def test_a_slip_is_told_in_words_and_with_exit_code_2(run, tmp_path: Path, monkeypatch, capsys) -> None:
    folder = run("one", base={"t": documents(2.0)}, adapt={"t": documents(2.0)})
    for reference, says in ((str(tmp_path), "holds no run.json"), (f"{folder}:adapd", 'did you mean "adapt"?')):
        monkeypatch.setattr("sys.argv", ["langadapt", "compare", str(folder), reference])
        with pytest.raises(SystemExit) as stop:
            main()
        told = capsys.readouterr().err
        assert stop.value.code == 2 and says in told and "Traceback" not in told
    with pytest.raises(UserError, match="no model was measured yet"):
        compare([folder, run("empty")])
    (folder / "stages" / "evaluate-adapt" / "stage.json").unlink()
    with pytest.raises(UserError, match=r"evaluate-adapt holds no stage\.json"):
        compare([folder, folder])


@pytest.mark.slow
def test_a_model_damaged_on_purpose_is_worse_and_a_gate_stops_it(tmp_path: Path) -> None:
    """From the weights to the exit code: two models measured by runs of their own."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sound = tiny_model(tmp_path / "sound")
    model = AutoModelForCausalLM.from_pretrained(sound)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    model.save_pretrained(tmp_path / "damaged")
    AutoTokenizer.from_pretrained(sound).save_pretrained(tmp_path / "damaged")
    folders = [measure(tmp_path, model, name) for model, name in (("sound", "a"), ("sound", "b"), ("damaged", "c"))]
    same = CliRunner().invoke(cli, ["compare", *folders[:2], "--fail-if-worse", "--json"])
    row = json.loads(same.output)["rows"][1]
    assert same.exit_code == 0 and row["verdict"] == "unclear"
    assert (row["change"], row["change_ci_low"], row["change_ci_high"], row["p_value"]) == (0, 0, 0, 1)
    worse = CliRunner().invoke(cli, ["compare", folders[0], folders[2], "--fail-if-worse", "--json"])
    row = json.loads(worse.output)["rows"][1]
    assert worse.exit_code == 1 and row["verdict"] == "worse"
    assert row["metric"] == "bits_per_byte" and row["change_ci_low"] > 0 and row["p_adjusted"] < 0.05
    assert CliRunner().invoke(cli, ["compare", folders[0], folders[2]]).exit_code == 0


def measure(place: Path, model: str, name: str) -> str:
    """A run that measures a model on English text and does nothing else."""
    recipe = place / f"{name}.toml"
    recipe.write_text(
        f"""schema = 1
name = "{name}"
language = "it"
base_model = "{place / model}"
[data]
replay-en = "{SAMPLES / "english.jsonl"}"
[evaluation]
automatic = false
max_documents = 7
[[stage]]
id = "measure"
kind = "evaluate"
from = "base"
suites = ["english"]
""",
        encoding="utf-8",
    )
    return str(Recipe.load(recipe).plan(place / name).execute().folder)
