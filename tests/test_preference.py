"""Preferences: the losses are trl's, the reference is the base, nothing is cut, and a killed run goes on bit for bit."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import DPOConfig

from langadapt import Recipe, loading
from langadapt.corpus.packing import PairedRows, Sequence_, Writer, pair_up
from langadapt.errors import RecipeError, RunError, UserError
from langadapt.evaluation.preferences import METRICS, score_preferences
from langadapt.loss import answer_log_probs
from langadapt.peft import lora, qlora
from langadapt.plugins import registry
from langadapt.preference import PairTrainer
from langadapt.preference_losses import OBJECTIVES, compare
from langadapt.prompts.rendering import encode_pair
from langadapt.records import Document, Message
from langadapt.stages import preference as stage
from langadapt.stages.preference import METHODS
from langadapt.testing import tiny_model
from langadapt.training import Prepared

RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{folder}/model"
seed = 7

[evaluation]
suites = []

[[stage]]
id = "chat"
kind = "sft"
corpus = [{{ path = "{folder}/chat.jsonl", held_out = 0.2 }}]
prompt = "alpaca-it"
[stage.training]
max_steps = 1
per_device_train_batch_size = 1
max_length = 256

[[stage]]
id = "prefer"
kind = "preference"
corpus = [{{ path = "{folder}/pairs.jsonl", held_out = 0.2 }}]
prompt = "alpaca-it"
[stage.peft]
method = "qlora"
r = 4
[stage.training]
learning_rate = 1e-2
max_steps = 8
per_device_train_batch_size = 4
max_length = 160
logging_steps = 1
save_steps = 2

[[stage]]
id = "aside"
kind = "cpt"
from = "base"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0 }}]
[stage.training]
max_steps = 1
max_length = 64
"""


def pair(number: int, **changes: str) -> dict[str, str]:
    row = {"prompt": f"Che cosa fai, numero {number}?", "chosen": f"Rispondo in italiano: {number}."}
    return row | {"rejected": f"In English, and for the {number}th time."} | changes


def dialogue(number: int) -> Document:
    row = pair(number)
    messages = (Message(role="user", content=row["prompt"]), Message(role="assistant", content=row["chosen"]))
    return Document(id=str(number), messages=messages, rejected=row["rejected"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and corpora; three pairs are too long by one answer or by their prompt, and one has no rejected."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model")
    long = "parola " * 200
    rows = [pair(0, chosen=long), pair(1, rejected=long), pair(2, prompt=long), *(pair(n) for n in range(3, 60))]
    chat = [{"instruction": f"Di' {n}", "output": f"Ecco {n}."} for n in range(20)]
    text = [{"text": f"Una riga di testo numero {n}."} for n in range(20)]
    for name, content in (("pairs", [*rows, {"prompt": "a", "chosen": "b"}]), ("chat", chat), ("text", text)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    """The folder of a finished run."""
    Recipe.load(place / "recipe.toml").execute(place / "run")
    return place / "run"


def entry(folder: Path, id: str = "prefer"):
    return next(s for s in json.loads((folder / "run.json").read_text())["stages"] if s["id"] == id)


def only_preference(place: Path, folder: Path, *overrides: str):
    """Runs the preference stage alone, from the base."""
    text = (place / "recipe.toml").read_text()
    head, _, rest = text.partition("[[stage]]")
    start, end = rest.index("[[stage]]"), rest.rindex("[[stage]]")
    folder.mkdir(exist_ok=True)
    (folder / "alone.toml").write_text(head.replace("suites = []", "suites = []\nautomatic = false") + rest[start:end])
    return Recipe.load(folder / "alone.toml", overrides).execute(folder / "run")


# --- a run -----------------------------------------------------------------------------------------------------------


def test_training_starts_at_ln_2_with_no_margin_and_ends_with_one(done: Path) -> None:
    """A fresh adapter on NF4 weights is its own reference exactly: the very weights and the very arithmetic."""
    metrics = entry(done)["metrics"]
    assert metrics["loss_first"] == pytest.approx(math.log(2), abs=1e-6)
    assert metrics["rewards/margins_first"] == metrics["rewards/chosen_first"] == metrics["rewards/rejected_first"] == 0
    assert metrics["rewards/margins_last"] > 0.5 and metrics["rewards/accuracies_last"] == 1
    assert metrics["loss_last"] < 0.5
    steps = [json.loads(line) for line in (done / "events.jsonl").read_text().splitlines()]
    margins = [s["rewards/margins"] for s in steps if s["event"] == "step" and s["stage"] == "prefer"]
    assert len(margins) == 8 and margins[0] == 0 < margins[-1]


def test_pairs_that_are_too_long_are_dropped_and_counted_whole(place: Path, tmp_path: Path) -> None:
    run = only_preference(
        place,
        tmp_path,
        f'prefer.corpus=[{{ path = "{place}/pairs.jsonl", held_out = 0 }}]',
        "prefer.training.max_steps=-1",
        "prefer.training.num_train_epochs=1",
    )
    accounting = run.state["stages"][0]["accounting"]
    assert accounting["documents"] == {
        "read": 61, "kept": 57, "dropped": {"longer than max_length": 3, "no rejected": 1}
    }  # fmt: skip
    tokens = accounting["tokens"]
    assert tokens["read"] == tokens["trained"] + sum(tokens["dropped"].values())
    assert set(tokens["dropped"]) == {"longer than max_length"}
    assert run.state["stages"][0]["metrics"]["pairs"] == 57


def test_dialogues_without_a_rejected_answer_are_no_pairs(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no document is left to train on \(20 no rejected answer\)"):
        only_preference(place, tmp_path, f'prefer.corpus=[{{ path = "{place}/chat.jsonl", held_out = 0 }}]')


def test_held_out_pairs_are_measured_on_the_base_before_and_after_but_not_beside(done: Path) -> None:
    rows = [r for r in json.loads((done / "report.json").read_text()) if r["metric"] in METRICS]
    assert {r["stage"] for r in rows} == {"base", "chat", "prefer"}
    found = {(r["stage"], r["metric"]): r for r in rows}
    assert len(found) == len(rows) == 3 * len(METRICS)
    for row in rows:
        assert row["ci_low"] <= row["value"] <= row["ci_high"] and row["n"] > 5 and row["higher_is_better"]
    after = found["prefer", "preference_margin"]
    assert after["change"] == pytest.approx(after["value"] - found["base", "preference_margin"]["value"])
    assert after["change_ci_low"] > 0 and not after["change_is_relative"], "eight steps at this rate are surely seen"


def test_the_same_step_in_smaller_batches_gives_the_same_adapter(place: Path, tmp_path: Path) -> None:
    """The loss is a mean over the step's pairs however they are batched, also when the last batch is a small one."""
    plain = ["prefer.training.optim=sgd", "prefer.training.learning_rate=0.5"]  # Adam would blow rounding up
    plain += ["prefer.training.max_steps=-1", "prefer.training.num_train_epochs=1", "prefer.peft.method=lora"]
    adapters = []
    for rows, batches in ((16, 1), (8, 2)):
        size = f"prefer.training.per_device_train_batch_size={rows}"
        steps = f"prefer.training.gradient_accumulation_steps={batches}"
        run = only_preference(place, tmp_path / str(rows), *plain, size, steps)
        metrics = run.state["stages"][0]["metrics"]
        assert metrics["pairs_per_step"] == 16 and metrics["pairs"] % 16 > 8, "the last batches are unequal"
        weights = load_file(run.folder / "stages/prefer/adapter/adapter_model.safetensors")
        adapters.append(torch.cat([w.flatten() for name, w in sorted(weights.items()) if "lora_B" in name]))
    whole, parts = adapters
    assert (whole - parts).norm() < 0.03 * whole.norm(), "but for the rounding of 16 bits"


def test_a_loss_that_is_no_number_fails_the_stage(place: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="loss became nan"):
        only_preference(place, tmp_path, "prefer.training.learning_rate=1e30", "prefer.training.warmup_steps=0")


def test_an_adapter_that_does_not_start_as_its_base_is_refused(place: Path, tmp_path: Path) -> None:
    """PiSSA moves a part of the weights into the adapter, so what is left without it is no reference."""
    with pytest.raises(UserError, match=r"no reference to prefer against; leave peft\.init_lora_weights"):
        only_preference(place, tmp_path, "prefer.peft.method=lora", "prefer.peft.init_lora_weights=pissa")


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(done: Path, place: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "langadapt", "run", str(place / "recipe.toml"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "run/stages/.prefer.partial/checkpoints/checkpoint-2/seal.json"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert checkpoint.exists(), "killed too early for this test"
    assert not (tmp_path / "run/stages/prefer").exists(), "killed too late for this test"
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "goes on from checkpoint-" in result.stderr
    name = "stages/prefer/adapter/adapter_model.safetensors"
    first, second = load_file(done / name), load_file(tmp_path / "run" / name)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_every_strategy_starts_from_its_own_reference(place: Path, tmp_path: Path, method: str) -> None:
    run = only_preference(
        place, tmp_path, f'prefer.peft={{ method = "{method}" }}', "prefer.training.learning_rate=1e-3"
    )
    metrics = run.state["stages"][0]["metrics"]
    assert metrics["loss_first"] == pytest.approx(math.log(2), abs=1e-6) and metrics["rewards/margins_last"] > 0


# --- the reference and the gradients ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    tokenizer = loading.load_tokenizer(place / "model")
    format = registry().prompts["alpaca-it"]
    writer = Writer(tmp_path_factory.mktemp("pairs"), 160, pad=tokenizer.pad_token_id)
    pair_up((encode_pair(format, dialogue(n), tokenizer) for n in (3, 5, 700)), writer)
    pairs = PairedRows(writer.close())
    return PairTrainer.collate([pairs[i] for i in range(len(pairs))])


def model_of(place: Path, dtype: torch.dtype = torch.float32):
    return AutoModelForCausalLM.from_pretrained(place / "model", dtype=dtype)


def trainer_of(model, tmp_path: Path, **options) -> PairTrainer:
    arguments = DPOConfig(
        output_dir=str(tmp_path), report_to=[], bf16=False, use_cpu=True, activation_checkpointing=False,
        remove_unused_columns=False, disable_tqdm=True, **options,
    )  # fmt: skip
    prepared = Prepared(plain=model, model=model, adapter=True, trainable=0, strategy=lora.STRATEGY, options={})
    way, objective = METHODS["dpo"], OBJECTIVES["dpo"]
    return PairTrainer(way=way, objective=objective, prepared=prepared, training={}, args=arguments, train_dataset=[0])


def log_probs(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The plain way: all logits, their log-softmax, and of it the labels."""
    found = model(input_ids=batch["input_ids"]).logits.log_softmax(-1)
    labels = batch["labels"]
    picked = found.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    return torch.where(labels == -100, torch.zeros_like(picked), picked)


def stir(model) -> None:
    """An adapter that has learnt something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05, generator=generator)


@pytest.mark.parametrize(("strategy", "options"), [(lora, {}), (qlora, qlora.QUANTISATION)], ids=["lora", "qlora"])
def test_the_reference_is_what_the_training_started_from_whatever_was_learnt(
    place: Path, tmp_path: Path, batch, strategy, options
) -> None:
    model = strategy.prepare(model_of(place), lora.DEFAULTS | options)
    plain = model.get_base_model()
    with answer_log_probs(plain), torch.no_grad():
        before = model(**batch)["log_probs"]
        stir(model)
        trainer = trainer_of(model, tmp_path)
        with trainer.as_reference(model) as reference:
            assert torch.equal(reference(**batch)["log_probs"], before)
        assert model.training
        assert (model(**batch)["log_probs"] - before).abs().max() > 0.01, "the test can tell the two"
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning and all("lora_" in name for name in learning), (
        "asking the reference froze nothing and freed nothing"
    )


def test_log_probs_are_those_of_all_logits_and_padding_changes_none(place: Path, batch) -> None:
    model = model_of(place)
    expected = log_probs(model, batch)
    with answer_log_probs(model), torch.no_grad():
        torch.testing.assert_close(model(**batch)["log_probs"], expected, rtol=1e-4, atol=1e-5)
        wider = {
            "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 9), value=2),
            "labels": torch.nn.functional.pad(batch["labels"], (0, 9), value=-100),
        }
        torch.testing.assert_close(model(**wider)["log_probs"][:, :-9], expected, rtol=1e-4, atol=1e-5)
    model.config.final_logit_softcapping = 30.0  # not plainly hidden @ head.T: the model's own way is taken
    with answer_log_probs(model), torch.no_grad():
        torch.testing.assert_close(model(**batch)["log_probs"], expected, rtol=1e-4, atol=1e-5)
    assert model(input_ids=batch["input_ids"]).logits is not None, "the model's own forward is back"


def test_loss_and_gradients_are_those_of_a_computation_in_double_precision(place: Path, tmp_path: Path, batch) -> None:
    """Equation 7 of the DPO paper, written out; and nothing but the adapter has a gradient."""
    model = lora.prepare(model_of(place), lora.DEFAULTS | {"r": 4})
    stir(model)
    exact = lora.prepare(model_of(place, torch.float64), lora.DEFAULTS | {"r": 4}).double()
    exact.load_state_dict(model.state_dict())
    with torch.no_grad(), exact.disable_adapter():
        reference = log_probs(exact, batch).sum(1)
    ratios = log_probs(exact, batch).sum(1) - reference
    expected = -torch.log(torch.sigmoid(0.3 * (ratios[:3] - ratios[3:]))).mean()
    expected.backward()
    trainer = trainer_of(model, tmp_path, beta=0.3)
    trainer._begun = True
    with answer_log_probs(model.get_base_model()):
        loss = trainer.compute_loss(model, batch)
        loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for (name, found), other in zip(model.named_parameters(), exact.parameters(), strict=True):
        assert (found.grad is not None) == ("lora_" in name), name
        if found.grad is not None:
            torch.testing.assert_close(found.grad.double(), other.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_a_blank_pair_counts_in_no_loss_and_no_figure(place: Path, tmp_path: Path, batch) -> None:
    """Several processes fill up their last step with them."""
    model = lora.prepare(model_of(place), lora.DEFAULTS | {"r": 4})
    stir(model)
    blank = batch["labels"].clone()
    blank[[1, 4]] = -100
    found = []
    for given in ({**batch, "labels": blank}, {key: rows[[0, 2, 3, 5]] for key, rows in batch.items()}):
        trainer = trainer_of(model, tmp_path, loss_type=["sigmoid", "sft"], ld_alpha=0.5)
        trainer._begun = True
        (given,), pairs = trainer.get_batch_samples(iter([given]), 1, trainer.args.device)
        with answer_log_probs(model.get_base_model()), torch.no_grad():
            loss = trainer.compute_loss(model, given, num_items_in_batch=pairs)
        logs = {"loss": loss.item()}
        trainer.log(logs)
        found.append({**logs, "pairs": pairs, "mean_tokens": given["mean_tokens"].item()})
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0]["rewards/margins"] and found[0]["pairs"] == 2


# --- the losses ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(place: Path, tmp_path_factory: pytest.TempPathFactory):
    """trl's own trainer with two different models, fed our tokens; and what both models say of them."""
    from datasets import Dataset
    from trl import DPOTrainer

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset, *_):
            return dataset

        def _send_telemetry(self) -> None:
            pass

    tokenizer = loading.load_tokenizer(place / "model")
    format = registry().prompts["alpaca-it"]
    rows = []
    for number in (3, 41, 900):
        found = encode_pair(format, dialogue(number), tokenizer)
        start = list(found.chosen.learn).index(True)
        assert list(found.chosen.ids[:start]) == list(found.rejected.ids[:start])
        rows.append(
            {
                "prompt_ids": found.chosen.ids[:start].tolist(),
                "chosen_ids": found.chosen.ids[start:].tolist(),
                "rejected_ids": found.rejected.ids[start:].tolist(),
            }
        )
    other = tiny_model(tmp_path_factory.mktemp("other") / "model", seed=3)
    arguments = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("out")), report_to=[], bf16=False, use_cpu=True,
        activation_checkpointing=False, max_length=None,
    )  # fmt: skip
    models = [model_of(place), AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32)]
    trainer = Trainer(
        model=models[0], ref_model=models[1], args=arguments, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    batch = trainer.data_collator(rows)
    ours = {
        "input_ids": batch["input_ids"],
        "labels": torch.where(batch["completion_mask"] == 1, batch["input_ids"], -100).roll(-1, 1),
    }
    ours["labels"][:, -1] = -100
    with torch.no_grad():
        return trainer, arguments, batch, [log_probs(model, ours) for model in models], ours["labels"]


CASES = [
    *({"loss_type": [name]} for name in OBJECTIVES["dpo"].losses if name != "exo_pair"),
    {"loss_type": ["exo_pair"], "label_smoothing": 0.01},
    {"loss_type": ["robust"], "label_smoothing": 0.2},
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.7, 0.2]},
    {"loss_type": ["sigmoid"], "ld_alpha": 0.4},
    {"loss_type": ["discopop"], "discopop_tau": 0.3},
    *({"loss_type": ["sigmoid"], "f_divergence_type": kind} for kind in stage.DIVERGENCES),
    {"loss_type": ["hinge"], "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 1.5},
    {"loss_type": ["ipo"], "f_divergence_type": "js_divergence"},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case.values())))
def test_losses_are_trls(theirs, case) -> None:
    trainer, arguments, batch, (found, expected), labels = theirs
    options = copy.copy(arguments)  # a new one would reset what the trainer holds of the device
    for name, value in ({"beta": 0.05} | case).items():
        setattr(options, name, value)
    trainer.beta, trainer.args = options.beta, options
    trainer.loss_types, trainer.loss_weights = options.loss_type, options.loss_weights or [1.0] * len(options.loss_type)
    for name in ("ld_alpha", "f_divergence_type", "f_alpha_divergence_coef", "label_smoothing"):
        setattr(trainer, name, getattr(options, name))
    with torch.no_grad():
        reference = float(trainer._compute_loss(trainer.model, batch, return_outputs=False))
    ours = OBJECTIVES["dpo"].loss(compare(found, expected, labels, ld_alpha=options.ld_alpha), options)
    assert ours.shape == (3,) and float(ours.mean()) == pytest.approx(reference, rel=2e-4, abs=1e-5)


def test_every_loss_that_is_offered_is_computed() -> None:
    assert set(OBJECTIVES) == set(METHODS)
    for name, way in METHODS.items():
        assert set(way.losses) <= set(OBJECTIVES[name].losses)
    assert set(stage.DIFFERENCES) <= set(METHODS["dpo"].losses)


def test_the_losses_of_a_pair_by_hand() -> None:
    """log p of two tokens each: chosen -3 against -4 of the reference, rejected -5 against -4."""
    found, expected = torch.tensor([[-1.0, -2.0], [-2.0, -3.0]]), torch.full((2, 2), -2.0)
    labels = torch.zeros((2, 2), dtype=torch.long)

    def loss(**options) -> float:
        settings = DPOConfig(output_dir="x", bf16=False, use_cpu=True, beta=0.5, **options)
        return float(OBJECTIVES["dpo"].loss(compare(found, expected, labels), settings))

    assert loss() == pytest.approx(math.log(1 + math.exp(-1)))  # margin 2, times beta
    assert loss(loss_type=["hinge"]) == 0
    assert loss(loss_type=["ipo"]) == 0  # margin 1 a token, and 1 / (2 beta) is 1
    assert loss(loss_type=["sft"]) == pytest.approx(1.5)
    assert loss(loss_type=["apo_zero"]) == pytest.approx(2 / (1 + math.exp(0.5)))
    assert loss(loss_type=["sppo_hard"]) == 0


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(registry().prompts))
def test_both_answers_share_their_prompts_tokens_and_the_last_answer_alone_is_learnt(place: Path, name: str) -> None:
    tokenizer = loading.load_tokenizer(place / "model")
    turns = ["Che ore sono?", "Le tre.", "E a Tokyo?", "Le undici."]
    messages = [Message(role="user" if i % 2 == 0 else "assistant", content=t) for i, t in enumerate(turns)]
    document = Document(id="x", messages=tuple(messages), rejected="It is eleven there.")
    found = encode_pair(registry().prompts[name], document, tokenizer)
    starts = [list(side.learn).index(True) for side in (found.chosen, found.rejected)]
    assert starts[0] == starts[1] > 0
    assert list(found.chosen.ids[: starts[0]]) == list(found.rejected.ids[: starts[0]])
    ids = found.chosen.ids.tolist()
    assert (tokenizer.bos_token_id,) * 2 not in itertools.pairwise(ids), "begun twice"
    for side, answer in ((found.chosen, "Le undici."), (found.rejected, "It is eleven there.")):
        learnt = tokenizer.decode([i for i, learn in zip(side.ids, side.learn, strict=True) if learn])
        assert learnt.strip().startswith(answer) and "Le tre" not in learnt
        assert len(learnt.strip()) > len(answer), "the mark that ends an answer is learnt with it"


def test_the_last_answer_is_the_last_stretch() -> None:
    marks = [False, True, True, False, False, True, True, False]
    assert Sequence_.of(range(8), marks).last_answer().learn.tolist() == [False] * 5 + [True, True, False]
    assert Sequence_.of(range(3), [False] * 3).last_answer().learn.tolist() == [False] * 3
    assert Sequence_.of(range(2), [True] * 2).last_answer().learn.tolist() == [True] * 2


# --- what a recipe may say -------------------------------------------------------------------------------------------


def problems(place: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        Recipe.load(place / "recipe.toml", overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.bta=0.1", ("no field of DPOConfig", 'did you mean "beta"')),
        ('training.loss_type=["sigmoyd"]', ('no loss "sigmoyd"', 'did you mean "sigmoid"')),
        ('training.loss_type=["aot"]', ("sorts a batch",)),
        ("training.loss_type=[]", ("at least one loss",)),
        ("training.loss_type=3", ("not of type list[str]",)),
        ("training.beta=0", ("not above 0",)),
        ("training.beta=true", ("not of type float",)),
        ("training.ld_alpha=1.5", ("not from 0 to 1",)),
        ("training.label_smoothing=0.5", ("from 0 to below 0.5",)),
        ('training.loss_type=["exo_pair"]', ("needs it above 0",)),
        ("training.loss_weights=[1.0, 2.0]", ("2 weights for 1 losses",)),
        ('training.f_divergence_type="forward"', ('did you mean "forward_kl"',)),
        ('training.truncation_mode="keep_start"', ("sets this itself", "dropped and counted")),
        ("training.sync_ref_model=true", ("sets this itself", "the reference stays")),
        ("training.precompute_ref_log_probs=true", ("sets this itself",)),
        ('peft.bias="all"', ("no reference any more", 'use "none"')),
        ('prompt="alpaca"', ('did you mean "alpaca-it"',)),
    ],
)
def test_options_that_cannot_stand_are_refused(place: Path, override: str, words: tuple[str, ...]) -> None:
    said = problems(place, f"prefer.{override}")
    assert re.search(r"(--set prefer\.|recipe\.toml:\d+: prefer\.)", said), "where it stands"
    for word in words:
        assert word in said


def test_a_divergence_beside_a_loss_that_does_not_know_it_is_refused(place: Path) -> None:
    said = problems(
        place, 'prefer.training.f_divergence_type="forward_kl"', 'prefer.training.loss_type=["apo_zero", "sigmoid"]'
    )
    assert "the loss apo_zero knows reverse_kl alone" in said


def test_one_loss_may_be_written_without_a_list(place: Path) -> None:
    recipe = Recipe.load(place / "recipe.toml", ['prefer.training.loss_type="ipo"'])
    options = next(s.options for s in recipe.stages if s.id == "prefer")
    assert options.training["loss_type"] == ["ipo"]


def test_the_plan_counts_the_frozen_copy_where_the_base_learns(place: Path, tmp_path: Path) -> None:
    def planned(method: str):
        recipe = Recipe.load(place / "recipe.toml", [f'prefer.peft={{ method = "{method}" }}'])
        return recipe.plan(tmp_path).stage("prefer")

    full, adapter = planned("full"), planned("lora")
    assert full.estimate.memory["reference"] == 4 * sum(p.numel() for p in model_of(place).parameters())
    assert any("frozen copy" in note for note in full.notes)
    assert "reference" not in adapter.estimate.memory
    chat = Recipe.load(place / "recipe.toml").plan(tmp_path).stage("chat").estimate.memory
    assert adapter.estimate.memory["activations"] > chat["activations"] * 4 * 160 / 256, "two answers a pair"


def test_steps_follow_from_the_number_of_pairs(place: Path, tmp_path: Path) -> None:
    text = (place / "recipe.toml").read_text().replace(f'path = "{place}/pairs.jsonl"', 'name = "orpo-dpo-mix-40k"')
    (tmp_path / "recipe.toml").write_text(text.replace("max_steps = 8", "num_train_epochs = 2.0"))
    planned = Recipe.load(tmp_path / "recipe.toml").plan(tmp_path).stage("prefer")
    assert planned.steps == round(2 * 44_245 / 4) and planned.tokens == planned.steps * 4 * 2 * 160


def test_a_rehearsal_takes_a_few_small_steps(place: Path) -> None:
    recipe = Recipe.load(place / "recipe.toml", ["prefer.training.max_steps=-1"]).rehearse()
    training = next(s.options for s in recipe.stages if s.id == "prefer").training
    assert training["max_steps"] == 12 and training["per_device_train_batch_size"] == 4
    assert training["max_length"] == 160 and training["beta"] == 0.1 and training["learning_rate"] == 1e-4


# --- measuring -------------------------------------------------------------------------------------------------------


def test_preferences_by_hand() -> None:
    items = [
        {"chosen": 10.0, "rejected": 14.0, "chosen_bytes": 10, "rejected_bytes": 7},  # likelier in sum and a byte
        {"chosen": 30.0, "rejected": 24.0, "chosen_bytes": 60, "rejected_bytes": 12},  # likelier a byte alone
        {"chosen": 8.0, "rejected": 8.0, "chosen_bytes": 4, "rejected_bytes": 4},  # neither
    ]
    assert score_preferences(items) == pytest.approx(
        {
            "preference_accuracy": (1 + 0 + 0.5) / 3,
            "preference_margin": (4 - 6 + 0) / 3,
            "preference_accuracy_by_length": (1 + 1 + 0.5) / 3,
            "preference_margin_by_length": (2 - 1 + 2 - 0.5) / 3,
        }
    )
    assert set(score_preferences(items)) == set(METRICS)


def test_a_corpus_measured_in_two_ways_is_compared_way_by_way(tmp_path: Path) -> None:
    """An sft and a preference stage may hold out pairs of one corpus."""
    from langadapt.report.rows import collect_rows

    def items(shift: float) -> str:
        key = {"suite": "held-out", "task": "pairs"}
        rows = [key | {"method": "answers", "id": str(i), "nll": 10.0 - shift, "bytes": 5} for i in range(8)]
        sizes = {"chosen_bytes": 4, "rejected_bytes": 4}
        rows += [
            key | {"method": "preferences", "id": str(i), "chosen": 9.0 - shift, "rejected": 9.0} | sizes
            for i in range(8)
        ]
        return "".join(json.dumps(row) + "\n" for row in rows)

    stages = []
    for model, shift in (("base", 0.0), ("prefer", 2.0)):
        folder = tmp_path / "stages" / f"evaluate-{model}"
        folder.mkdir(parents=True)
        (folder / "items.jsonl").write_text(items(shift))
        row = {"stage": model, "suite": "held-out", "task": "pairs", "n": 8}
        rows = [row | {"metric": m} for m in ("answer_bits_per_byte", "preference_margin")]
        (folder / "stage.json").write_text(json.dumps({"rows": rows}))
        stages.append(SimpleNamespace(id=f"evaluate-{model}", kind="evaluate", parent=model))
    rows = collect_rows(SimpleNamespace(folder=tmp_path, stages=stages))
    changed = {r["metric"]: r["change"] for r in rows if r["stage"] == "prefer"}
    assert changed == {"answer_bits_per_byte": pytest.approx(-0.2), "preference_margin": pytest.approx(2.0)}
