"""When and how fast each weight learns: schedules, rates and unfreezing by name, noise, averages; and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HEAD, STAGE
from test_peft import BY_NAME, load
from transformers import TrainerCallback, TrainingArguments
from transformers.integrations.neftune import activate_neftune

from langadapt import training
from langadapt.errors import RecipeError, UserError
from langadapt.evaluation.bits_per_byte import Scored
from langadapt.loss import fused_loss
from langadapt.recipe import Recipe, Rehearsal
from langadapt.testing import tiny_model
from langadapt.training import MeasuredTrainer, Prepared, SeededTrainer

# --- what a recipe may say ------------------------------------------------------------------------------------------

REFUSED = {
    "a key that the schedule does not know": (
        'lr_scheduler_type = "cosine_with_min_lr"\nlr_scheduler_kwargs = { min_lr_rat = 0.1, min_lr = 1e-6 }',
        ["unknown key; the schedule cosine_with_min_lr has no such option", '"min_lr_rate"'],
    ),
    "a key of another schedule": (
        "lr_scheduler_kwargs = { min_lr_rate = 0.1 }",
        ["the schedule cosine has no such option"],
    ),
    "a value of another type": (
        'lr_scheduler_type = "warmup_stable_decay"\nlr_scheduler_kwargs = { num_decay_steps = "many" }',
        ['"many" is not of type int'],
    ),
    "a curve that there is none of": (
        'lr_scheduler_type = "warmup_stable_decay"\nlr_scheduler_kwargs = { num_decay_steps = 9, decay_type = "cosin" }',
        ['"cosin" is not one of its values', '"cosine"'],
    ),
    "no length of the decay": ('lr_scheduler_type = "warmup_stable_decay"', ["needs num_decay_steps"]),
    "no floor": ('lr_scheduler_type = "cosine_with_min_lr"', ["needs one of min_lr and min_lr_rate"]),
    "text": ('lr_scheduler_kwargs = "{}"', ['"{}" is no table']),
    "a warm-up that is ignored": (
        'lr_scheduler_type = "constant"\nwarmup_steps = 10',
        ["the schedule constant ignores it", '"constant_with_warmup"'],
    ),
    "a rate of zero": ('learning_rates = { "*embed*" = 0 }', ["0 is not a learning rate above 0"]),
    "a rate that is text": ('learning_rates = { "*embed*" = "1e-5" }', ['"1e-5" is not a learning rate above 0']),
    "rates that are one": ("learning_rates = 1e-4", ["0.0001 is not of type dict"]),
    "weights that wait for ever": ('max_steps = 10\nunfreeze = { "*" = 10 }', ["would not learn in 10 steps"]),
    "an average of nothing": ("ema_decay = 1.0", ["1.0 is not above 0 and below 1", "0.999"]),
}


def recipe(write, said: str, stage: str = STAGE) -> Recipe:
    return Recipe.load(write("recipe.toml", f"{HEAD}{stage}[stage.training]\n{said}\n"))


@pytest.mark.parametrize(("said", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_stand_is_refused_when_the_recipe_is_loaded(write, said: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(write, said)
    (problem,) = error.value.problems
    assert problem.key.startswith("adapt.training.") and problem.where.rpartition(":")[2].isdigit()
    assert all(word in f"{problem.message}; {problem.hint}" for word in words), str(problem)


@pytest.mark.parametrize(
    "said",
    [
        'lr_scheduler_type = "cosine_with_min_lr"\nlr_scheduler_kwargs = { min_lr_rate = 0.1 }',
        'lr_scheduler_type = "warmup_stable_decay"\nlr_scheduler_kwargs = { num_decay_steps = 0.2, min_lr_ratio = 0 }',
        'lr_scheduler_type = "constant"',
        'lr_scheduler_type = "polynomial"\nlr_scheduler_kwargs = { power = 2, lr_end = 1e-6 }',
        'learning_rates = { "*embed_tokens*" = 2e-5, "*lora_B*" = 3e-3 }\nunfreeze = { "*embed*" = 0.5 }',
    ],
)
def test_what_can_stand_stays_as_it_is_written_also_through_a_file(write, said: str) -> None:
    loaded = recipe(write, said)
    again = Recipe.load(write("again.toml", loaded.to_toml()))
    assert [stage.options for stage in again.stages] == [
        stage.options.model_copy(update={"from_": stage.parent}) for stage in loaded.stages
    ]


def test_a_rehearsal_keeps_the_shape_of_a_schedule_at_its_own_scale(write) -> None:
    said = """
max_steps = 1000
learning_rate = 1e-4
learning_rates = { "*embed*" = 1e-5 }
unfreeze = { "*layers.0.*" = 250, "*embed*" = 0.5 }
lr_scheduler_type = "warmup_stable_decay"
lr_scheduler_kwargs = { num_decay_steps = 200 }
"""
    options: Any = next(stage.options for stage in recipe(write, said).stages if stage.id == "adapt")
    small = options.rehearsed(Rehearsal()).training
    assert small["learning_rates"]["*embed*"] / small["learning_rate"] == pytest.approx(0.1)
    assert small["unfreeze"] == {"*layers.0.*": 0.25, "*embed*": 0.5}
    assert small["lr_scheduler_kwargs"] == {"num_decay_steps": 0.2}


def test_a_strategy_that_needs_text_is_refused_where_there_is_none_and_another_takes_none(
    write, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from langadapt.plugins import registry

    text = write("text.jsonl", '{"text": "a"}\n')
    head = HEAD.replace("someone/model", str(model_folder)) + "[evaluation]\nautomatic = false\n"
    stage = f'[[stage]]\nid = "adapt"\nkind = "cpt"\ncorpus = ["{text}"]\n'
    method = '[stage.peft]\nmethod = "ssu"\n'
    planned = Recipe.load(write("a.toml", head + stage + method)).plan()
    assert planned.stages[0].inputs[-1].label == "fineweb-en", "what the language's plugin names"
    named = Recipe.load(write("b.toml", head + stage + f'calibration = "{text}"\n' + method)).plan()
    assert named.stages[0].inputs[-1].label == str(text) and not named.problems
    assert named.stages[0].digest != planned.stages[0].digest
    with pytest.raises(RecipeError, match="lora asks for no text in the source language"):
        Recipe.load(write("c.toml", head + stage + f'calibration = "{text}"\n'))
    silent = dataclasses.replace(registry().languages["it"], replay="")
    monkeypatch.setitem(registry().languages._records, "it", silent)
    (problem,) = Recipe.load(write("a.toml", head + stage + method)).plan().problems
    assert "ssu needs text in the source language" in problem and 'calibration = "…" names one' in problem


# --- what a training does -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def rows() -> list[dict[str, np.ndarray]]:
    ids = np.random.default_rng(0).integers(3, 300, (8, 17))
    return [{"input_ids": r[:-1], "labels": r[1:], "position_ids": np.arange(16)} for r in ids]


def trainer_of(folder: Path, out: Path, said: dict[str, Any], kind: Any = SeededTrainer, **arguments: Any) -> Any:
    strategy = BY_NAME["full"]
    model = strategy.prepare(load(folder), {})
    prepared = Prepared(plain=model, model=model, adapter=False, trainable=0, strategy=strategy, options={})
    common = {
        "max_steps": 4,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "use_cpu": True,
        "report_to": [],
        "data_seed": 0,
    }
    args = TrainingArguments(output_dir=str(out), disable_tqdm=True, **(common | arguments))
    more = {} if kind is SeededTrainer else {"held_out": [None], "score": lambda *_: Scored(1.0, 1, 1)}
    return kind(
        prepared=prepared, training=said, args=args, train_dataset=rows(), data_collator=training._collate, **more
    )


def trained(trainer: Any) -> list[dict[str, torch.Tensor]]:
    """The weights before the first step and after each."""
    model = trainer.prepared.model
    history = [{name: p.detach().clone() for name, p in model.named_parameters()}]

    class After(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            history.append({name: p.detach().clone() for name, p in model.named_parameters()})
            trainer.states = getattr(trainer, "states", [])
            trainer.states.append({id(p) for p in trainer.optimizer.state})

    trainer.add_callback(After())
    with fused_loss(model):
        trainer.train()
    return history


def test_weights_stand_still_bit_for_bit_and_without_a_state_until_their_step(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_of(folder, tmp_path, {"unfreeze": {"*layers.0.*": 2, "*embed*": 0.75}})
    history = trained(trainer)
    first = {"layers.0.": 2, "embed": 3}
    for name, parameter in trainer.prepared.model.named_parameters():
        wait = next((steps for part, steps in first.items() if part in name), 0)
        for step in range(1, 5):
            assert torch.equal(history[step][name], history[step - 1][name]) == (step <= wait), (name, step)
            assert (id(parameter) in trainer.states[step - 1]) == (step > wait), (name, step)


def test_unfreezing_that_leaves_nothing_to_learn_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leaves no weight to learn in the first steps"):
        trained(trainer_of(folder, tmp_path, {"unfreeze": {"*": 2}}))


@pytest.mark.parametrize("key", ["learning_rates", "unfreeze"])
def test_a_pattern_that_names_no_weight_that_learns_is_refused(folder: Path, tmp_path: Path, key: str) -> None:
    trainer = trainer_of(folder, tmp_path, {key: {"*layers.7.*": 0.5}})
    plan = SimpleNamespace(recipe=SimpleNamespace(rehearsal=False))
    context: Any = SimpleNamespace(stage=SimpleNamespace(id="adapt"), plan=plan)
    with pytest.raises(UserError, match=rf'training\.{key}: no weight that learns matches "\*layers\.7\.\*"'):
        training._check_patterns(context, trainer)


def test_a_decay_that_is_a_share_lasts_that_share_of_the_steps(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_of(
        folder,
        tmp_path,
        {},
        max_steps=8,
        warmup_steps=0.25,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": 0.5, "decay_type": "linear"},
        logging_steps=1,
    )
    trained(trainer)
    rates = [entry["learning_rate"] / 1e-2 for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([0, 0.5, 1, 1, 1, 0.75, 0.5, 0.25])


def test_the_average_is_the_one_of_the_formula_and_is_what_is_measured(folder: Path, tmp_path: Path) -> None:
    measured = []

    class Looking(MeasuredTrainer):
        def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
            self.score = lambda model, _: measured.append(model.lm_head.weight.detach().clone()) or Scored(1.0, 1, 1)
            return super().evaluate(*args, **options)

    trainer = trainer_of(folder, tmp_path, {"ema_decay": 0.15}, Looking, eval_strategy="steps", eval_steps=1)
    history = trained(trainer)
    average, name = history[0]["lm_head.weight"].double(), "lm_head.weight"
    for step in range(1, 5):
        decay = min(0.15, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * history[step][name].double()
        torch.testing.assert_close(measured[step - 1].double(), average, rtol=1e-5, atol=1e-7)
    assert torch.equal(trainer.prepared.model.lm_head.weight, history[4][name]), (
        "the training goes on from its own weights"
    )
    trainer.average.swap()
    torch.testing.assert_close(trainer.prepared.model.lm_head.weight.double(), average, rtol=1e-5, atol=1e-7)


def test_neftune_reaches_the_fused_loss_while_a_model_trains_and_no_other_time(folder: Path) -> None:
    model = load(folder)
    row = {key: torch.from_numpy(value)[None] for key, value in rows()[0].items()}
    batch = {"input_ids": row["input_ids"], "position_ids": row["position_ids"], "shift_labels": row["labels"]}
    with fused_loss(model), torch.no_grad():
        plain = float(model.train()(**batch)["loss"])
        handle = activate_neftune(model, 5.0)
        noisy = {float(model(**batch)["loss"]) for _ in range(3)}
        assert len(noisy) == 3 and plain not in noisy
        assert float(model.eval()(**batch)["loss"]) == plain
        handle.remove()
