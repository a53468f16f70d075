"""Methods beside DPO: values and gradients are trl's, each raises its margin, a stopped run goes on bit for bit."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer

from langadapt import Recipe
from langadapt.corpus.layouts import BadRow, as_row, document, recognise, unpaired
from langadapt.corpus.packing import IGNORE, AnswerRows, Judged, Sequence_, Writer, set_apart
from langadapt.errors import RecipeError
from langadapt.evaluation.preferences import comparable, score_preferences
from langadapt.preference import AnswerTrainer, PreferenceTrainer, mismatched
from langadapt.preference_losses import OBJECTIVES, JudgedAnswers, compare
from langadapt.records import Message
from langadapt.stages.preference import METHODS
from langadapt.testing import tiny_model

RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{folder}/model"
seed = 7

[evaluation]
suites = []
automatic = false

[[stage]]
id = "prefer"
kind = "preference"
method = "orpo"
corpus = [{{ path = "{folder}/pairs.jsonl", held_out = 0.2 }}]
prompt = "alpaca-it"
[stage.peft]
r = 4
[stage.training]
learning_rate = 1e-2
max_steps = 8
per_device_train_batch_size = 4
max_length = 160
logging_steps = 1
save_steps = 2
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, pairs, and as many answers that were judged one by one, of which one is too long and one flawed."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model")
    asked = [f"Che cosa fai, numero {n}?" for n in range(60)]
    answers = [(f"Rispondo in italiano: {n}.", f"In English, and for the {n}th time.") for n in range(60)]
    pairs = [{"prompt": q, "chosen": a, "rejected": b} for q, (a, b) in zip(asked, answers, strict=True)]
    judged = [
        {"prompt": q, "completion": a if n % 2 else b, "label": bool(n % 2)}
        for n, (q, (a, b)) in enumerate(zip(asked, answers, strict=True))
    ]
    judged[2]["completion"] = "parola " * 200
    judged[4]["label"] = "maybe"
    for name, rows in (("pairs", pairs), ("judged", judged)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder))
    return folder


def run(place: Path, folder: Path, *overrides: str):
    return Recipe.load(place / "recipe.toml", overrides).execute(folder)


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "stages/prefer/adapter/adapter_model.safetensors")


# --- the losses are trl's --------------------------------------------------------------------------------------------

WORDS = 11
PROMPT = [3]  # one token, so that the cross-entropy that trl takes over prompt and answer is that of the answer
CHOSEN, REJECTED = [[5, 2, 7, 1], [4, 4, 9], [8, 1]], [[6, 1], [5, 2, 2, 8, 1], [10, 9, 1]]


def table(seed: int) -> torch.Tensor:
    """The logits of the next word by the last one: the smallest model that has log-probabilities and gradients."""
    return torch.randn(WORDS, WORDS, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def rows(answers: list[list[int]], prompts: list[list[int]] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels as trl has them, padded."""
    whole = [(p, [*p, *a]) for p, a in zip(prompts or [PROMPT] * len(answers), answers, strict=True)]
    length = max(len(ids) for _, ids in whole)
    ids = [row + [0] * (length - len(row)) for _, row in whole]
    labels = [[IGNORE] * len(p) + row[len(p) :] + [IGNORE] * (length - len(row)) for p, row in whole]
    return torch.tensor(ids), torch.tensor(labels)


def log_probs(logits: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every label as `langadapt.loss.answer_log_probs` gives them, and the labels as we have them."""
    after = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)
    return of_labels(logits, ids, after), after


def of_labels(logits: torch.Tensor, ids: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    found = logits[ids].log_softmax(-1).gather(-1, after.clamp(min=0)[..., None]).squeeze(-1)
    return torch.where(after == IGNORE, 0.0, found)


ACCELERATOR = SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=lambda value: value)


def theirs_on_pairs(kind: str, logits: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """What trl's own trainer makes of a batch, without anything of it but the loss."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.cpo.cpo_trainer import CPOTrainer
        from trl.experimental.orpo.orpo_trainer import ORPOTrainer
    trainer = object.__new__({"orpo": ORPOTrainer, "cpo": CPOTrainer}[kind])
    fixed = {"is_encoder_decoder": False, "padding_value": 0, "pad_token_id": 0, "aux_loss_enabled": False}
    for name, value in (fixed | {"accelerator": ACCELERATOR} | options).items():
        setattr(trainer, name, value)
    batch = {}
    for side, answers in (("chosen", CHOSEN), ("rejected", REJECTED)):
        ids, labels = rows(answers)
        batch |= {f"{side}_input_ids": ids, f"{side}_labels": labels}
        batch[f"{side}_attention_mask"] = ((labels != IGNORE) | (torch.arange(ids.shape[1]) < len(PROMPT))).long()
    loss, _ = trainer.get_batch_loss_metrics(lambda ids, **_: SimpleNamespace(logits=logits[ids]), batch)
    return loss


CPO = {"beta": 0.3, "label_smoothing": 0.0, "cpo_alpha": 1.0, "simpo_gamma": 0.5, "alpha": 0.0, "loss_type": "sigmoid"}
CASES = [
    ("orpo", {"beta": 0.1}),
    ("orpo", {"beta": 2.0}),
    ("cpo", CPO),
    ("cpo", CPO | {"label_smoothing": 0.2, "cpo_alpha": 0.4}),
    ("cpo", CPO | {"loss_type": "hinge"}),
    ("cpo", CPO | {"loss_type": "ipo", "cpo_alpha": 0.0}),
    ("cpo", CPO | {"loss_type": "simpo"}),
    ("cpo", CPO | METHODS["simpo"].defaults),
    ("cpo", CPO | METHODS["alphapo"].defaults),
    ("cpo", CPO | {"alpha": -0.2}),
]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_losses_and_gradients_of_pairs_are_trls(kind: str, options: dict[str, Any]) -> None:
    logits, ours = table(1), table(1)
    expected = theirs_on_pairs(kind, logits, options)
    expected.backward()
    found, labels = log_probs(ours, *rows([*CHOSEN, *REJECTED]))
    compared = compare(found, None, labels)
    settings = SimpleNamespace(**options)
    loss = OBJECTIVES[kind].loss(compared, settings)
    loss.mean().backward()
    assert loss.shape == (3,) and loss.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, logits.grad, rtol=1e-4, atol=1e-6)
    chosen, rejected = OBJECTIVES[kind].rewards(compared, settings)
    assert chosen.shape == rejected.shape == (3,) and not chosen.requires_grad


def test_the_odds_of_a_certain_answer_stay_a_number() -> None:
    found = torch.tensor([[0.0], [-200.0]], requires_grad=True)
    loss = OBJECTIVES["orpo"].loss(
        compare(found, None, torch.ones((2, 1), dtype=torch.long)), SimpleNamespace(beta=1.0)
    )
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(found.grad).all()


PROMPTS = [[3], [2, 6], [9, 9, 1]]
LIKED = torch.tensor([True, False, True])
KTO = {"beta": 0.4, "desirable_weight": 1.5, "undesirable_weight": 0.5}


class TableModel(torch.nn.Module):
    """A table as trl's trainer for KTO asks a model."""

    is_gradient_checkpointing = False

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, input_ids, labels, **_) -> SimpleNamespace:
        found = log_probs(self.logits, input_ids, labels)[0][:, :-1]
        nothing = torch.zeros_like(found)
        return SimpleNamespace(log_probs=found, entropy=nothing, mean_logits=nothing)


def theirs_on_answers(logits: torch.Tensor, reference: torch.Tensor, loss_type: str, longest: int) -> Any:
    examples = [
        {"prompt_ids": p, "completion_ids": a, "KL_completion_ids": other, "label": bool(liked)}
        for p, a, other, liked in zip(PROMPTS, CHOSEN, [CHOSEN[-1], *CHOSEN[:-1]], LIKED, strict=True)
    ]
    trainer = object.__new__(KTOTrainer)
    trainer.model, trainer.ref_model, trainer.accelerator = TableModel(logits), TableModel(reference), ACCELERATOR
    trainer.args = SimpleNamespace(gradient_checkpointing_kwargs=None)
    trainer.calculate_KL, trainer.precompute_ref_logps, trainer.aux_loss_enabled = loss_type == "kto", False, False
    trainer._metrics = {"train": defaultdict(list)}
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    for name, value in (KTO | {"loss_type": loss_type}).items():
        setattr(trainer, name, value)
    batch = DataCollatorForUnpairedPreference(pad_token_id=0, max_length=longest)(examples)
    return trainer._compute_loss(trainer.model, batch, False), trainer._metrics["train"]


@pytest.mark.parametrize(("loss_type", "seeds"), [("kto", (1, 2)), ("kto", (2, 1)), ("apo_zero_unpaired", (1, 2))])
@pytest.mark.parametrize("cut", [1, 2, 3], ids=lambda size: f"batches of {size}")
def test_losses_and_gradients_of_answers_are_trls_however_a_step_is_cut(loss_type: str, seeds, cut: int) -> None:
    """trl takes the three answers as one batch; the reference point is that of the step, of whatever batches it is."""
    longest = 5  # one mismatched row is longer
    logits, ours, reference = table(seeds[0]), table(seeds[0]), table(seeds[1]).detach()
    expected, metrics = theirs_on_answers(logits, reference, loss_type, longest)
    expected.backward()
    ids, labels = rows(CHOSEN, PROMPTS)
    after = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE)
    batches = [{"input_ids": ids[i : i + cut], "labels": after[i : i + cut]} for i in range(0, 3, cut)]

    def ratio(of: torch.Tensor, batch) -> torch.Tensor:
        return sum(s * of_labels(t, batch["input_ids"], batch["labels"]).sum(1) for s, t in ((1, of), (-1, reference)))

    with torch.no_grad():
        kl = torch.cat([ratio(ours, batch) for batch in mismatched(batches, longest)]).mean().clamp(min=0)
    liked = LIKED.split(cut)
    judged = [JudgedAnswers(ratio=ratio(ours, b), liked=y, kl=kl) for b, y in zip(batches, liked, strict=True)]
    settings = SimpleNamespace(loss_type=loss_type, **KTO)
    loss = torch.cat([OBJECTIVES["kto"].loss(one, settings) for one in judged]).mean()
    loss.backward()
    if loss_type == "kto":
        assert kl.item() == pytest.approx(metrics["kl"][0], abs=1e-5)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, logits.grad, rtol=1e-4, atol=1e-6)


def test_the_reference_point_is_above_zero_in_one_of_those_cases() -> None:
    """Otherwise they would not tell a point that is left out."""
    found = [theirs_on_answers(table(a), table(b), "kto", 5)[1]["kl"][0] for a, b in ((1, 2), (2, 1))]
    assert max(found) > 0.1 and min(found) == 0


def test_answers_change_places_within_their_step() -> None:
    ids = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7], [8, 9, 0, 0]])
    labels = torch.tensor([[-100, 3, 33, -100], [-100, -100, 7, 77], [9, 99, -100, -100]])
    batches = [{"input_ids": ids[:2], "labels": labels[:2]}, {"input_ids": ids[2:], "labels": labels[2:]}]
    first, second = mismatched(batches, longest=5)
    assert first["input_ids"].tolist() == [[1, 2, 9, 0], [4, 5, 6, 3]]
    assert first["labels"].tolist() == [[-100, 9, 99, -100], [-100, -100, 3, 33]]
    assert second["input_ids"].tolist() == [[8, 7]] and second["labels"].tolist() == [[7, 77]]
    (cut,) = mismatched(batches[:1], longest=4)
    assert cut["input_ids"].tolist() == [[1, 2, 7], [4, 5, 6]], "as long as the model may see"
    blank = {"input_ids": ids[:1], "labels": torch.full((1, 4), IGNORE)}
    *same, last = mismatched([*batches, blank], longest=5)
    assert [batch["labels"].tolist() for batch in same] == [first["labels"].tolist(), second["labels"].tolist()]
    assert last["input_ids"].tolist() == ids[:1].tolist() and (last["labels"] == IGNORE).all()


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["orpo", "cpo", "simpo", "alphapo", "kto"])
def test_every_method_raises_the_margin(place: Path, tmp_path: Path, method: str) -> None:
    done = run(place, tmp_path / "run", f'prefer.method="{method}"')
    metrics = done.state["stages"][0]["metrics"]
    assert metrics["method"] == method
    assert metrics["rewards/margins_last"] > metrics["rewards/margins_first"]
    assert ("rewards/accuracies_last" in metrics) == METHODS[method].paired
    if METHODS[method].asks_reference:
        assert metrics["rewards/margins_first"] == 0 and metrics["loss_first"] == pytest.approx(0.5, abs=1e-6)
    assert f"(preference, {method}, lora)" in (done.folder / "MODEL_CARD.md").read_text()


def of_answers(place: Path, held_out: float) -> list[str]:
    return ['prefer.method="kto"', f'prefer.corpus=[{{ path = "{place}/judged.jsonl", held_out = {held_out} }}]']


def test_answers_that_were_judged_one_by_one_are_counted_learnt_and_measured(place: Path, tmp_path: Path) -> None:
    epoch = ("prefer.training.max_steps=-1", "prefer.training.num_train_epochs=1", "evaluation.automatic=true")
    done = run(place, tmp_path / "run", *of_answers(place, 0.2), *epoch)
    stage = next(s for s in done.state["stages"] if s["id"] == "prefer")
    dropped = stage["accounting"]["documents"]["dropped"]
    assert dropped == {"longer than max_length": 1, "label is neither true nor false": 1}
    metrics = stage["metrics"]
    assert metrics["answers"] + 2 <= 60 and metrics["answers_per_step"] == 4
    assert metrics["steps"] == -(-metrics["answers"] // 4)
    assert metrics["rewards/chosen_last"] > 0 > metrics["rewards/rejected_last"]
    found = {(r["stage"], r["metric"]): r for r in json.loads((done.folder / "report.json").read_text())}
    margin = found["prefer", "preference_margin"]
    assert margin["change"] > 0 and margin["change_ci_low"] < margin["change"] < margin["change_ci_high"]
    assert ("prefer", "preference_accuracy") not in found


@pytest.mark.parametrize("method", ["orpo", "kto"])
def test_a_stopped_training_ends_with_the_weights_of_an_undisturbed_one(
    place: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two batches a step, and a last step that is a smaller one."""
    chosen = [f'prefer.method="{method}"', "prefer.training.gradient_accumulation_steps=2"]
    run(place, tmp_path / "whole", *chosen)
    own = PreferenceTrainer.log

    class Killed(BaseException):
        pass

    def log(self, logs, start_time=None) -> None:
        if self.state.global_step == 5:
            raise Killed
        own(self, logs, start_time)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(PreferenceTrainer, "log", log)
        run(place, tmp_path / "cut", *chosen)
    assert not (tmp_path / "cut/stages/prefer").exists()
    steps: list[int] = []
    monkeypatch.setattr(
        PreferenceTrainer, "log", lambda self, *args: (steps.append(self.state.global_step), own(self, *args))
    )
    run(place, tmp_path / "cut", *chosen)
    assert steps[0] == 5, "it went on from the checkpoint of step 4"
    first, second = adapter(tmp_path / "whole"), adapter(tmp_path / "cut")
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_the_cross_entropy_is_a_mean_over_the_tokens_of_the_step() -> None:
    """A pair's share does not depend on which others are in its batch."""
    found, labels = log_probs(table(1), *rows([*CHOSEN, *REJECTED]))
    mean_tokens = torch.tensor(sum(map(len, CHOSEN)) / 3)
    settings = SimpleNamespace(beta=0.1)
    whole = OBJECTIVES["orpo"].loss(compare(found, None, labels), settings)
    one = compare(found[[1, 4]], None, labels[[1, 4]], mean_tokens=mean_tokens)
    torch.testing.assert_close(OBJECTIVES["orpo"].loss(one, settings), whole[1:2])


# --- what a recipe may say, and what the plan says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method=orpoo"], ('no method "orpoo"', 'did you mean "orpo"')),
        (["training.loss_type=orpo"], ("no field of ORPOConfig",)),
        (["training.bta=0.1"], ("no field of ORPOConfig", 'did you mean "beta"')),
        (["training.desirable_weight=2.0"], ("no field of ORPOConfig",)),
        (["method=dpo", "training.loss_type=kto"], ('no loss "kto"', 'it belongs to method = "kto"')),
        (["method=dpo", "training.loss_type=alphapo"], ('it belongs to method = "alphapo"',)),
        (["method=cpo", "training.loss_type=sigmoyd"], ('no loss "sigmoyd"', 'did you mean "sigmoid"')),
        (["method=cpo", 'training.loss_type=["sigmoid"]'], ("not of type str",)),
        (["method=cpo", "training.cpo_alpha=-1"], ("-1 is not 0 or more",)),
        (["method=simpo", "training.beta=0"], ("0 is not above 0",)),
        (["method=kto", "training.undesirable_weight=-0.5"], ("-0.5 is not 0 or more",)),
        (["method=kto", "training.per_device_train_batch_size=1"], ("this is the only one", "2 at least")),
        (["method=kto", "training.train_sampling_strategy=random"], ("sets this itself", "the recipe's seed")),
        (["method=kto", "peft.bias=all"], ("no reference any more",)),
    ],
)
def test_options_that_cannot_stand_are_refused(place: Path, overrides: list[str], words: tuple[str, ...]) -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.load(place / "recipe.toml", [f"prefer.{one}" for one in overrides])
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("overrides", [[], ["method=kto"], ["method=kto", "training.gradient_accumulation_steps=2"]])
def test_what_is_right_is_not_refused(place: Path, overrides: list[str]) -> None:
    Recipe.load(place / "recipe.toml", ["prefer.peft.bias=none", *(f"prefer.{one}" for one in overrides)])


def test_methods_without_a_reference_may_train_biases_and_need_no_copy(place: Path, tmp_path: Path) -> None:
    Recipe.load(place / "recipe.toml", ["prefer.peft.bias=all"])

    def planned(method: str):
        chosen = [f'prefer.method="{method}"', 'prefer.peft={ method = "full" }']
        return Recipe.load(place / "recipe.toml", chosen).plan(tmp_path).stage("prefer")

    stages = {method: planned(method) for method in ("dpo", "orpo", "kto")}
    assert {m for m, s in stages.items() if "reference" in s.estimate.memory} == {"dpo", "kto"}
    assert {m for m, s in stages.items() if any("frozen copy" in note for note in s.notes)} == {"dpo", "kto"}
    work = {m: s.estimate.reference_seconds / s.tokens for m, s in stages.items()}
    assert work["dpo"] / work["orpo"] == pytest.approx(4 / 3) and work["kto"] / work["orpo"] == pytest.approx(2)
    assert stages["dpo"].tokens == stages["orpo"].tokens == 2 * stages["kto"].tokens


def test_a_rehearsal_keeps_more_than_one_answer_a_step(place: Path) -> None:
    small = ["prefer.method=kto", "prefer.training.per_device_train_batch_size=1"]
    recipe = Recipe.load(place / "recipe.toml", [*small, "prefer.training.gradient_accumulation_steps=8"]).rehearse()
    training = next(s.options for s in recipe.stages if s.id == "prefer").training
    assert (training["per_device_train_batch_size"], training["gradient_accumulation_steps"]) == (4, 1)


def test_pairs_are_packed_once_for_methods_that_learn_from_pairs(place: Path, tmp_path: Path) -> None:
    def ingredients(method: str) -> dict[str, Any]:
        from langadapt.corpus.packed import _OF_TRAINING

        plan = Recipe.load(place / "recipe.toml", [f'prefer.method="{method}"']).plan(tmp_path)
        given = plan.stage("prefer").ingredients
        return {name: value for name, value in given.items() if not name.startswith(_OF_TRAINING)}

    assert ingredients("dpo") == ingredients("orpo")


# --- answers one by one: layout, rows, measures ----------------------------------------------------------------------


def test_the_layout_of_unpaired_preferences() -> None:
    assert recognise(["prompt", "completion", "label"]) == "unpaired"
    plain = {"prompt": "Chi?", "completion": "Io.", "label": True}
    good, bad = unpaired(plain, "a"), unpaired(plain | {"label": 0}, "b")
    asked = Message(role="user", content="Chi?")
    assert good.messages == (asked, Message(role="assistant", content="Io.")) and not good.rejected
    assert bad.messages == (asked,) and bad.rejected == "Io.", "nobody who learns answers would learn this one"
    turns = [{"role": "user", "content": "Chi?"}, {"role": "assistant", "content": "Tu."}]
    talk = {"prompt": [*turns, {"role": "user", "content": "E poi?"}], "label": "false"}
    said = unpaired(talk | {"completion": [{"role": "assistant", "content": "Io."}]}, "c")
    assert [m.content for m in said.messages] == ["Chi?", "Tu.", "E poi?"] and said.rejected == "Io."
    for made in (good, bad, said):
        assert document(as_row(made), "x") == made, "it is read back as it was written"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "maybe"}, "label is neither true nor false"),
        ({"label": None}, "no label"),
        ({"completion": " "}, "empty turn"),
        ({"completion": None}, "no completion"),
        ({"prompt": None}, "no prompt"),
        ({"prompt": [{"role": "assistant", "content": "a"}]}, "turns do not alternate between user and assistant"),
    ],
)
@pytest.mark.parametrize("label", [True, False])
def test_rows_that_are_no_unpaired_preference_are_refused_with_the_reason(changes, reason: str, label: bool) -> None:
    with pytest.raises(BadRow, match=f"^{re.escape(reason)}$"):
        unpaired({"prompt": "a", "completion": "b", "label": label} | changes, "x")


def test_answers_are_rows_that_know_whether_they_were_liked(tmp_path: Path) -> None:
    good, bad, none = Sequence_.of([1, 2, 3], [0, 1, 1]), Sequence_.of([1, 4], [0, 1]), Sequence_.of([], [])
    judged = [Judged(good, bad), Judged(none, bad), Judged(good, none)]
    assert [one.flaw(3) for one in judged] == ["", "", ""] and judged[0].flaw(2) == "longer than max_length"
    assert Judged(none, none).flaw(3) == "nothing to learn"
    writer = Writer(tmp_path, 4, pad=0)
    set_apart(judged, writer)
    found = AnswerRows(writer.close())
    assert [row["liked"] for row in map(found.__getitem__, range(len(found)))] == [True, False, False, True]
    batch = AnswerTrainer.collate([found[1], found[3]])
    assert batch["labels"].tolist() == [[4, IGNORE, IGNORE], [2, 3, IGNORE]] and batch["liked"].tolist() == [
        False,
        True,
    ]
    assert found.tokens_in(range(4)) == (3 + 2 + 2 + 3, 2 + 1 + 1 + 2)


def test_preferences_one_by_one_by_hand() -> None:
    liked = [{"chosen": 10.0, "chosen_bytes": 10}, {"chosen": 20.0, "chosen_bytes": 5}]
    others = [{"rejected": 18.0, "rejected_bytes": 6}]
    assert score_preferences([*liked, *others]) == pytest.approx(
        {"preference_margin": 18 - 15, "preference_margin_by_length": 3 - (1 + 4) / 2}
    )
    assert comparable([*liked, *others])[0] == [*liked, *others]
    assert comparable(liked) == ([], {"no rejected answer": 2})
    pair = liked[0] | others[0]
    assert comparable([pair, *liked]) == ([pair], {"no rejected answer": 2}), "pairs are measured where there are any"
