"""Whole runs on a tiny model: what they leave behind, what they do not do twice, and how they stop and go on."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from langadapt import Recipe, RunError
from langadapt.artifacts import changes
from langadapt.testing import tiny_model

RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{model}"
seed = 7

[evaluation]
suites = ["wic-ita"]
max_documents = 6
max_items = 3

[[stage]]
id = "adapt"
kind = "cpt"
from = "base"
corpus = [{{ path = "{text}", held_out = 0.2 }}]
[stage.peft]
method = "qlora"
r = 4
[stage.training]
learning_rate = 1e-2
max_steps = 6
per_device_train_batch_size = 2
max_length = 64
logging_steps = 1
save_steps = 2
optim = "paged_adamw_32bit"

[[stage]]
id = "merged"
kind = "merge"
from = "adapt"

[[stage]]
id = "chat"
kind = "sft"
from = "adapt"
corpus = [{{ path = "{chat}", held_out = 0.2 }}]
prompt = "alpaca-it"
[stage.peft]
method = "full"
[stage.training]
learning_rate = 1e-3
num_train_epochs = 2.0
per_device_train_batch_size = 2
max_length = 192
logging_steps = 1

[[stage]]
id = "chat-lora"
kind = "sft"
from = "merged"
corpus = [{{ path = "{chat}", held_out = 0.2 }}]
prompt = "alpaca-it"
[stage.training]
learning_rate = 1e-3
max_steps = 2
per_device_train_batch_size = 1
max_length = 192
logging_steps = 1

[data]
"evalita-2023/wic-ita" = "{wic}"
"""

WIC = Path(__file__).parents[1] / "plugins/italian/src/langadapt_italian/samples/evalita-2023/wic-ita"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, corpora and a recipe."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model")
    texts = [
        f"Documento numero {i}: la barca {i} torna al porto con {i * 3} casse di pesce e il vento gira."
        for i in range(60)
    ]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in [*texts, texts[0], "  "]))
    chat = [{"instruction": f"Quanto fa {i} più uno?", "context": "", "response": f"Fa {i + 1}."} for i in range(40)]
    (folder / "chat.jsonl").write_text("".join(json.dumps(c) + "\n" for c in chat) + '{"instruction": "x"}\nnot json\n')
    (folder / "recipe.toml").write_text(
        RECIPE.format(model=folder / "model", text=folder / "text.jsonl", chat=folder / "chat.jsonl", wic=WIC)
    )
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """The folder of a finished run."""
    Recipe.load(place / "recipe.toml").execute(place / "run")
    return place / "run"


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def langadapt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "langadapt", *arguments], capture_output=True, text=True, timeout=300)


def test_a_run_leaves_everything_that_it_promises(done: Path) -> None:
    for name in ("recipe.toml", "lock.json", "run.json", "events.jsonl", "report.html", "report.json", "MODEL_CARD.md"):
        assert (done / name).stat().st_size > 0, name
    state = read(done / "run.json")
    assert state["status"] == "done"
    ids = [
        "evaluate-base",
        "adapt",
        "evaluate-adapt",
        "merged",
        "chat",
        "evaluate-chat",
        "chat-lora",
        "evaluate-chat-lora",
    ]
    assert [s["id"] for s in state["stages"]] == ids
    for stage in state["stages"]:
        assert {
            "id",
            "kind",
            "from",
            "status",
            "digest",
            "seconds",
            "reason",
            "accounting",
            "metrics",
            "artifact",
        } <= set(stage)
        assert (done / stage["artifact"] / "stage.json").is_file()
    assert not list((done / "stages").glob(".*")), "nothing half-written is left"
    assert Recipe.load(done / "recipe.toml").filled()["stage"], "the filled recipe can be run again"


def test_every_document_byte_and_token_is_accounted_for(done: Path) -> None:
    for stage in read(done / "run.json")["stages"]:
        if stage["kind"] not in ("cpt", "sft"):
            continue
        account = stage["accounting"]
        for unit in ("documents", "bytes"):
            assert account[unit]["read"] == account[unit]["kept"] + sum(account[unit]["dropped"].values())
        tokens = account["tokens"]
        assert tokens["read"] == tokens["trained"] + tokens["held_out"] + sum(tokens["dropped"].values())
        assert tokens["trained"] > 0 and tokens["learnt"] > 0
    adapt, chat = (next(s for s in read(done / "run.json")["stages"] if s["id"] == i) for i in ("adapt", "chat"))
    assert adapt["accounting"]["tokens"]["trained"] <= 6 * 2 * 64
    assert chat["accounting"]["documents"]["dropped"] == {"no response": 1, "not valid JSON": 1}
    assert chat["accounting"]["documents"]["read"] == 42
    assert chat["accounting"]["tokens"]["held_out"] > 0


def test_the_report_measures_every_model_and_says_how_it_changed(done: Path) -> None:
    rows = read(done / "report.json")
    text = {r["stage"]: r for r in rows if r["metric"] == "bits_per_byte"}
    assert set(text) == {"base", "adapt", "chat", "chat-lora"}
    assert text["adapt"]["change"] == pytest.approx(text["adapt"]["value"] / text["base"]["value"] - 1, abs=1e-9)
    assert text["adapt"]["change_ci_low"] <= text["adapt"]["change"] <= text["adapt"]["change_ci_high"]
    assert text["adapt"]["value"] < text["base"]["value"], "six steps at this rate teach a random model something"
    answers = {r["stage"] for r in rows if r["metric"] == "answer_bits_per_byte"}
    assert answers == {"base", "chat", "chat-lora"}
    assert {r["stage"] for r in rows if r["task"] == "wic-ita"} == {"base", "adapt", "chat", "chat-lora"}
    for row in rows:
        assert {
            "stage",
            "suite",
            "task",
            "split",
            "metric",
            "value",
            "n",
            "ci_low",
            "ci_high",
            "higher_is_better",
        } <= set(row)


def test_artifacts_load_with_the_libraries_alone(done: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(done.parent / "model")
    assert PeftModel.from_pretrained(base, str(done / "stages/adapt/adapter"))
    for stage in ("merged", "chat"):
        model = AutoModelForCausalLM.from_pretrained(done / "stages" / stage / "model")
        tokenizer = AutoTokenizer.from_pretrained(done / "stages" / stage / "model")
        assert model.dtype == torch.bfloat16 and len(tokenizer) == model.config.vocab_size


def test_the_merge_states_how_far_it_is_from_what_was_trained(done: Path) -> None:
    metrics = next(s for s in read(done / "run.json")["stages"] if s["id"] == "merged")["metrics"]
    assert 0 <= metrics["kl_sixteen_bit"] < 0.01
    assert metrics["kl_as_trained"] > metrics["kl_sixteen_bit"], "NF4 weights are another model than 16-bit ones"


def test_a_second_run_is_cached_quick_and_imports_no_torch(done: Path) -> None:
    code = (
        "import sys; from langadapt import Recipe; "
        f"run = Recipe.load({str(done.parent / 'recipe.toml')!r}).execute({str(done)!r}); "
        "assert all(s['status'] == 'cached' for s in run.state['stages']), run.state; "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    before = processor_seconds()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert processor_seconds() - before < 10


def processor_seconds() -> float:
    """Of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_of_a_list_that_changed_only_what_changed_is_told() -> None:
    before = {"reader": "greek 0.1.0, fineweb2 1 of langadapt, el of greek 0.1.0 (as of 7da)", "seed": 1, "a": "x"}
    after = {
        "reader": "greek 0.1.0, letters 1 of greek, fineweb2 1 of langadapt, el of greek 0.1.0 (as of 321)",
        "seed": 2,
    }
    assert changes(before, after) == [
        "reader: el of greek 0.1.0 (as of 7da) → letters 1 of greek, el of greek 0.1.0 (as of 321)",
        "seed: 1 → 2",
        "a: gone",
    ]
    assert changes({"order": "a, b"}, {"order": "b, a"}) == ["order: a, b → b, a"]


def test_a_changed_value_reruns_what_depends_on_it_and_says_why(done: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    recipe = Recipe.load(done.parent / "recipe.toml", ["chat.training.learning_rate=2e-3"])
    status = {s.id: s.status for s in recipe.plan(folder).stages}
    assert status == {
        "evaluate-base": "cached", "adapt": "cached", "evaluate-adapt": "cached", "merged": "cached", "chat": "pending",
        "evaluate-chat": "pending", "chat-lora": "cached", "evaluate-chat-lora": "cached",
    }  # fmt: skip
    run = recipe.execute(folder)
    chat = next(s for s in run.state["stages"] if s["id"] == "chat")
    assert chat["status"] == "done" and "training.learning_rate: 0.001 → 0.002" in chat["reason"]
    assert [s["id"] for s in run.state["stages"] if s["status"] == "done"] == ["chat", "evaluate-chat"]


def test_a_damaged_artifact_is_made_again(done: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done, folder)
    (folder / "stages/chat/model/model.safetensors").unlink()
    stages = {s.id: s for s in Recipe.load(done.parent / "recipe.toml").plan(folder).stages}
    assert stages["chat"].status == "pending" and "missing or damaged" in stages["chat"].reason


def test_the_same_recipe_gives_the_same_weights_bit_for_bit(done: Path, place: Path, tmp_path: Path) -> None:
    Recipe.load(place / "recipe.toml").execute(tmp_path / "again")
    for file in (
        "adapt/adapter/adapter_model.safetensors",
        "merged/model/model.safetensors",
        "chat/model/model.safetensors",
    ):
        first, second = load_file(done / "stages" / file), load_file(tmp_path / "again/stages" / file)
        assert all(torch.equal(first[k], second[k]) for k in first), file


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    done: Path, place: Path, tmp_path: Path
) -> None:
    """The run is killed (SIGKILL) after a checkpoint; the same command goes on and ends bit for bit the same."""
    command = [sys.executable, "-m", "langadapt", "run", str(place / "recipe.toml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "run/stages/.adapt.partial/checkpoints/checkpoint-2/seal.json"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "run/stages/adapt").exists(), "killed too late for this test"
    result = langadapt("run", str(place / "recipe.toml"), "--out", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    assert "goes on from checkpoint-" in result.stderr
    name = "adapt/adapter/adapter_model.safetensors"
    first, second = load_file(done / "stages" / name), load_file(tmp_path / "run/stages" / name)
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_held_out_documents_are_never_trained_on(done: Path, place: Path) -> None:
    """What the evaluation scores must not be among what the packing took."""
    from langadapt.corpus.preparing import Accounting, clean

    plan = Recipe.load(place / "recipe.toml").plan(done)
    source = plan.stage("adapt").inputs[0].source()
    sides = {"train": set(), "held_out": set()}
    for side, document in clean(source, Accounting(), set()):
        sides[side].add(document.text)
    items = [json.loads(line) for line in (done / "stages/evaluate-adapt/items.jsonl").read_text().splitlines()]
    scored = {i["id"] for i in items if i["method"] == "text"}
    texts = {
        f"text.jsonl:{n}": json.loads(line)["text"]
        for n, line in enumerate((place / "text.jsonl").read_text().splitlines(), 1)
    }
    assert scored and {texts[i] for i in scored} <= sides["held_out"]
    assert not sides["train"] & sides["held_out"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "out of memory; smaller: "),
        (MemoryError(), "out of memory; smaller: "),
        (OSError(28, "No space left on device"), "is full; make room"),
        (RuntimeError("PytorchStreamWriter failed writing file data/3"), "is full; make room"),
    ],
    ids=["gpu", "memory", "disk", "disk, as torch says it"],
)
def test_a_machine_that_is_too_small_is_said_so(place, tmp_path, monkeypatch, error, said) -> None:
    monkeypatch.setattr("langadapt.run.free_disk", lambda folder: 0 if "full" in said else 2**40)
    monkeypatch.setattr("langadapt.run._Execution._check_room", lambda self: None)
    recipe = Recipe.load(place / "recipe.toml", ["evaluation.automatic=false"])

    def fails(*_, **__):
        raise error

    monkeypatch.setattr("langadapt.training.train", fails)
    with pytest.raises(RunError, match=re.escape(said)):
        recipe.execute(tmp_path / "run")
    assert read(tmp_path / "run/run.json")["status"] == "failed"


def test_a_mistake_of_ours_keeps_its_traceback(place, tmp_path, monkeypatch) -> None:
    def fails(*_, **__):
        raise RuntimeError("something that should not happen")

    monkeypatch.setattr("langadapt.training.train", fails)
    recipe = Recipe.load(place / "recipe.toml", ["evaluation.automatic=false"])
    with pytest.raises(RuntimeError, match="should not happen"):
        recipe.execute(tmp_path / "run")
