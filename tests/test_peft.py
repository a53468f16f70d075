"""Strategies: exactly the right weights learn, by the right gradients, and merging gives the model that was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, TrainingArguments

from langadapt import loading
from langadapt.errors import UserError
from langadapt.models import ModelShape
from langadapt.peft import STRATEGIES, lora, others, partial, qlora
from langadapt.records import PeftStrategy
from langadapt.rounding import round_model, stochastic_round
from langadapt.testing import tiny_model
from langadapt.training import Prepared, SeededTrainer, copy_frozen

LORA = lora.DEFAULTS | {"r": 4, "lora_alpha": 8}
QLORA = LORA | qlora.QUANTISATION


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def load(folder: Path, dtype: torch.dtype = torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def shape_of(model) -> ModelShape:
    return ModelShape.from_config(model.config.to_dict())


# What the tiny model needs beside a strategy's own defaults.
SMALL: dict[str, dict] = {
    **{name: {"r": 4, "lora_alpha": 8} for name in ("lora", "rslora", "dora", "pissa", "lora+", "qlora", "qdora")},
    "layers": {"first": 1, "last": 0}, "trainable_tokens": {"token_indices": [54, 175, 220]},
    "c3a": {"block_size": 16}, "fourierft": {"n_frequency": 50}, "road": {"group_size": 16}, "shira": {"r": 2},
    "vblora": {"vector_length": 16, "num_vectors": 8}, "waveft": {"n_frequency": 50},
}  # fmt: skip
BY_NAME = {strategy.name: strategy for strategy in STRATEGIES}


def options_of(name: str) -> dict:
    return {**BY_NAME[name].defaults, **SMALL.get(name, {})}


def prepare(name: str, model, options: dict):
    """As `langadapt.training.prepare` does, with random documents where a strategy asks for some."""
    strategy = BY_NAME[name]
    prepared = strategy.prepare(model, options)
    documents = torch.randint(3, 300, (4, 30), generator=torch.Generator().manual_seed(4)).tolist()
    return strategy.calibrate(prepared, options, iter(documents)) if strategy.calibrate else prepared


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in others.METHODS])
def test_the_plan_counts_the_weights_that_really_learn(folder: Path, name: str) -> None:
    model = load(folder)
    expected = BY_NAME[name].trainable(shape_of(model), options_of(name))
    prepared = prepare(name, model, options_of(name))
    assert sum(p.numel() for p in prepared.parameters() if p.requires_grad) == expected


@pytest.mark.parametrize("name", [name for name in BY_NAME if BY_NAME[name].learning])
def test_the_plan_knows_what_the_weights_that_learn_are_called(folder: Path, name: str) -> None:
    model = load(folder)
    strategy, options = BY_NAME[name], options_of(name)
    assert strategy.learning
    names = strategy.learning(shape_of(model), {**strategy.fixed, **options})
    learning = {n for n, p in prepare(name, model, options).named_parameters() if p.requires_grad}
    assert names and learning <= set(names)
    assert all(n.endswith("bias") for n in set(names) - learning), "but for biases, which this model has none of"


def test_the_plan_does_not_guess_what_learns_beside_the_targets(folder: Path) -> None:
    options = LORA | {"modules_to_save": ["lm_head"]}
    assert lora.learning(shape_of(load(folder)), options) is None


def test_the_names_of_weights_are_those_of_the_family(folder: Path) -> None:
    model = load(folder)
    assert shape_of(model).weights == {name: p.numel() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", list(BY_NAME))
def test_what_is_saved_on_the_untouched_base_is_what_was_trained(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compute_dtype", lambda: torch.float32)  # so that sums are exact enough to compare
    strategy, options = BY_NAME[name], options_of(name)
    trained = prepare(name, load(folder), options)
    trained.eval()  # no dropout, so that both see the same
    learning = {n for n, p in trained.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in trained.named_parameters()}
    step(trained, rate=0.05)
    for n, p in trained.named_parameters():
        assert n in learning or torch.equal(before[n], p), f"{n} does not learn and has moved"
    assert any(not torch.equal(before[n], p) for n, p in trained.named_parameters()), "nothing has learnt"
    ids = torch.randint(3, 300, (1, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = trained(ids).logits
    if strategy.trains_base:
        trained = strategy.finish(trained, options) if strategy.finish else trained
        trained.save_pretrained(tmp_path / "model")
        found = load(tmp_path / "model")
    else:
        if strategy.save:
            strategy.save(trained, options, tmp_path / "adapter")
        else:
            trained.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
        found = load(folder)
        if strategy.freeze:
            strategy.freeze(found, options)
            found = PeftModel.from_pretrained(found, str(tmp_path / "adapter")).eval()
        else:
            found = loading.merge_adapter(found, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(found(ids).logits, expected, rtol=1e-4, atol=2e-5)


def test_lora_plus_has_b_learn_faster(folder: Path, tmp_path: Path) -> None:
    strategy, options = BY_NAME["lora+"], options_of("lora+") | {"loraplus_lr_ratio": 8.0}
    model = strategy.prepare(load(folder), options)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), learning_rate=1e-3, weight_decay=0.1, use_cpu=True, report_to=[]
    )
    prepared = Prepared(plain=model, model=model, adapter=True, trainable=0, strategy=strategy, options=options)
    optimizer = SeededTrainer(prepared=prepared, training={}, args=arguments).create_optimizer()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(rates) == len(learning)
    for name, parameter in learning.items():
        assert rates[id(parameter)] == pytest.approx(8e-3 if "lora_B" in name else 1e-3), name


def test_a_learning_rate_of_the_recipe_takes_the_place_of_the_strategys_and_the_longest_pattern_decides(
    folder: Path, tmp_path: Path
) -> None:
    strategy, options = BY_NAME["lora+"], options_of("lora+")
    model = strategy.prepare(load(folder), options)
    arguments = TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-3, use_cpu=True, report_to=[])
    prepared = Prepared(plain=model, model=model, adapter=True, trainable=0, strategy=strategy, options=options)
    rates = {"*layers.1.*": 2e-5, "*layers.1.*q_proj.lora_B*": 5e-3}
    trainer = SeededTrainer(prepared=prepared, training={"learning_rates": rates}, args=arguments)
    found = {id(p): group["lr"] for group in trainer.create_optimizer().param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            first = 5e-3 if "layers.1." in name and "q_proj.lora_B" in name else 2e-5
            own = 16e-3 if "lora_B" in name else 1e-3
            assert found[id(parameter)] == pytest.approx(first if "layers.1." in name else own), name


# --- ssu --------------------------------------------------------------------------------------------------------------


def test_ssu_freezes_the_columns_that_the_text_and_the_weights_make_weigh_most(folder: Path) -> None:
    """Against the formula of the paper, computed from the inputs of one layer as they are."""
    options = options_of("ssu") | {"freeze_ratio": 0.25, "num_calibration_samples": 3, "calibration_max_length": 20}
    documents = torch.randint(3, 300, (4, 30), generator=torch.Generator().manual_seed(5))
    plain = load(folder)
    layer, seen = plain.get_submodule("model.layers.1.mlp.down_proj"), []
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    with torch.no_grad():
        for row in documents[:3]:
            plain(row[None, :20])
    norms = torch.cat(seen).norm(dim=0)
    scores = (layer.weight.abs() * norms).sum(0)
    expected = scores.topk(layer.in_features // 4).indices.sort().values
    model = prepare_with(documents.tolist(), load(folder), options)
    shielded = model.get_submodule("model.layers.1.mlp.down_proj")
    assert torch.equal(shielded.order.argsort()[: len(expected)], expected)
    assert torch.equal(shielded.matrix(torch.float32), layer.weight), "as long as nothing has learnt"


def prepare_with(documents: list, model, options: dict):
    strategy = BY_NAME["ssu"]
    return strategy.calibrate(strategy.prepare(model, options), options, iter(documents))


def test_frozen_columns_stay_bit_for_bit_under_adamw_with_weight_decay_and_the_others_learn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compute_dtype", lambda: torch.bfloat16)
    before = load(folder).state_dict()
    options = options_of("ssu")
    model = prepare("ssu", load(folder, torch.bfloat16), options)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.5)
    ids = torch.randint(3, 300, (2, 24), generator=torch.Generator().manual_seed(3))
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    frozen = {name: layer.order.argsort()[: layer.frozen.shape[1]] for name, layer in model.named_modules()
              if type(layer).__name__ == "ShieldedLinear"}  # fmt: skip
    assert len(frozen) == 14
    after = round_model(BY_NAME["ssu"].finish(model, options), torch.bfloat16).state_dict()
    assert after.keys() == before.keys(), "the saved model is an ordinary one"
    for name, columns in frozen.items():
        found, was = after[f"{name}.weight"].float(), before[f"{name}.weight"].float()
        assert torch.equal(found[:, columns], was[:, columns]), name
        others = torch.ones(found.shape[1], dtype=torch.bool)
        others[columns] = False
        assert (found[:, others] != was[:, others]).float().mean() > 0.9, name
    assert not torch.equal(after["lm_head.weight"].float(), before["lm_head.weight"].float())


def test_ssu_says_that_it_lacks_text(folder: Path) -> None:
    with pytest.raises(UserError, match="holds no text"):
        prepare_with([], load(folder), options_of("ssu"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"freeze_ratio": 1.0}, "peft.freeze_ratio = 1.0 is not above 0 and below 1"),
        ({"freeze_ratio": 0}, "peft.freeze_ratio = 0 is not above 0"),
        ({"num_calibration_samples": 0}, "peft.num_calibration_samples = 0 is not at least 1"),
    ],
)
def test_what_ssu_cannot_do_is_known_before_it_starts(folder: Path, changed: dict, said: str) -> None:
    misfits = BY_NAME["ssu"].misfits
    assert misfits and not list(misfits(shape_of(load(folder)), options_of("ssu")))
    (problem,) = misfits(shape_of(load(folder)), options_of("ssu") | changed)
    assert said in problem


def test_a_fixed_option_of_a_variant_says_where_it_can_be_set() -> None:
    assert BY_NAME["dora"].owns["use_dora"] == 'it is what "dora" is; use "lora" to set it'
    assert "use_dora" not in BY_NAME["dora"].defaults


def test_the_plan_counts_all_parameters(folder: Path) -> None:
    model = load(folder)
    assert shape_of(model).parameters == sum(p.numel() for p in model.parameters())


def test_lora_leaves_every_other_weight_bit_identical(folder: Path) -> None:
    model = load(folder)
    before = {name: p.clone() for name, p in model.named_parameters()}
    prepared = lora.prepare(model, LORA)
    step(prepared)
    after = prepared.get_base_model().state_dict()
    for name, value in before.items():
        inner = name.replace(".weight", ".base_layer.weight")
        assert torch.equal(after.get(inner, after.get(name)), value), name


def test_a_target_that_matches_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="matches no layer"):
        lora.prepare(load(folder), LORA | {"target_modules": ["no_such_proj"]})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_nf4_gradients_on_a_cpu_are_those_of_the_dequantised_matrix_also_after_an_evaluation(
    dtype: torch.dtype, tolerance: float
) -> None:
    """bitsandbytes repacks weights during an evaluation on some CPUs and then has no gradient; see docs/footguns.md."""
    from bitsandbytes.functional import dequantize_4bit

    torch.manual_seed(0)
    holder = torch.nn.Sequential(torch.nn.Linear(128, 64, bias=False).to(dtype))
    holder.get_output_embeddings = lambda: None
    qlora.quantise(holder, **qlora.FOUR_BITS)
    layer = holder[0]
    matrix = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    x = torch.randn(8, 128, dtype=dtype)

    def gradient(function) -> torch.Tensor:
        inputs = x.clone().requires_grad_()
        function(inputs).float().square().sum().backward()
        assert inputs.grad is not None, "no gradient reached the input"
        return inputs.grad

    expected = gradient(lambda inputs: inputs @ matrix.T)
    scale = expected.float().abs().max()
    assert (gradient(layer) - expected).abs().max() <= tolerance * scale
    holder.eval()
    with torch.no_grad():
        layer(x)
        layer(x[:1])
    holder.train()
    assert (gradient(layer) - expected).abs().max() <= tolerance * scale


def test_qlora_still_learns_after_an_evaluation(folder: Path) -> None:
    model = qlora.prepare(load(folder, torch.bfloat16), QLORA)
    ids = torch.randint(3, 300, (2, 24), generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        model(input_ids=ids)
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    learnt = {n: p.grad for n, p in model.named_parameters() if "lora_B" in n}
    assert learnt and all(g is not None and g.abs().sum() > 0 for g in learnt.values())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
@pytest.mark.parametrize(
    "strategy, options",
    [(qlora.STRATEGY, {}), (qlora.STRATEGY, {"load_in_8bit": True}), (partial.STRATEGIES[0], {"first": 1, "last": 0})],
    ids=["4 bits", "8 bits", "layers"],
)
def test_a_model_of_which_most_was_copied_lets_go_of_the_file_that_it_was_read_from(
    folder: Path, strategy: PeftStrategy, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compute_dtype", lambda: torch.bfloat16)
    plain = loading.load_weights(folder, torch.bfloat16)  # as it is stored, so that it lies where the file is mapped
    mapped = str(folder.resolve())
    assert mapped in Path("/proc/self/maps").read_text()
    model = strategy.prepare(plain, {**strategy.defaults, **options})
    copy_frozen(model)
    assert mapped not in Path("/proc/self/maps").read_text()
    assert {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad} <= {
        torch.bfloat16, torch.uint8, torch.int8,
    }  # fmt: skip


def test_only_the_blocks_are_quantised(folder: Path) -> None:
    model = load(folder, torch.bfloat16)
    qlora.quantise(model, **qlora.FOUR_BITS)
    names = {name for name, layer in model.named_modules() if type(layer).__name__ == "Linear4bit"}
    assert names == {f"model.layers.{i}.{part}.{name}" for i in range(2) for part, name in (
        ("self_attn", "q_proj"), ("self_attn", "k_proj"), ("self_attn", "v_proj"), ("self_attn", "o_proj"),
        ("mlp", "gate_proj"), ("mlp", "up_proj"), ("mlp", "down_proj"))}  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
def test_merged_weights_are_the_adapted_model(tmp_path: Path, tied: bool) -> None:
    folder = tiny_model(tmp_path / "model", tie_word_embeddings=tied)
    adapted = lora.prepare(load(folder), LORA)
    step(adapted, rate=0.1)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    merged = loading.merge_adapter(load(folder), tmp_path / "adapter")
    ids = torch.randint(3, 300, (1, 30))
    torch.testing.assert_close(merged(ids).logits, adapted.eval()(ids).logits, rtol=1e-4, atol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_a_small_update_survives_a_merge_into_bfloat16(tmp_path: Path) -> None:
    """Rounding to nearest would return the base model: the update is below half a step of bfloat16's grid."""
    folder = tiny_model(tmp_path / "model")
    adapted = lora.prepare(load(folder), LORA)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=8e-5, generator=torch.Generator().manual_seed(len(name)))
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    base, merged = (
        load(folder, torch.bfloat16),
        loading.merge_adapter(load(folder, torch.bfloat16), tmp_path / "adapter"),
    )
    exact = loading.merge_adapter(load(folder), tmp_path / "adapter")
    name = "model.layers.0.mlp.down_proj.weight"
    update = (exact.state_dict()[name] - base.state_dict()[name].float()).flatten()
    kept = (merged.state_dict()[name].float() - base.state_dict()[name].float()).flatten()
    nearest = (exact.state_dict()[name].bfloat16().float() - base.state_dict()[name].float()).flatten()
    assert torch.dot(kept, update) / torch.dot(update, update) == pytest.approx(1, abs=0.15)
    assert torch.dot(nearest, update) / torch.dot(update, update) < 0.6, (
        "the test can tell what rounding to nearest loses"
    )


def test_stochastic_rounding_keeps_the_mean_and_what_fits_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    step_size = 2.0**-7
    values = torch.full((200_000,), 1 + 0.3 * step_size)
    rounded = stochastic_round(values, torch.bfloat16, generator).float()
    assert set(rounded.unique().tolist()) == {1.0, 1.0 + step_size}
    assert (rounded.mean().item() - 1) / step_size == pytest.approx(0.3, abs=0.01)
    exact = torch.tensor([0.0, 1.0, -2.5, float("inf"), -float("inf")])
    assert torch.equal(stochastic_round(exact, torch.bfloat16, generator).float(), exact)
    assert stochastic_round(torch.tensor([float("nan")]), torch.bfloat16, generator).isnan().all()


def step(model, rate: float = 0.01) -> None:
    """One plain gradient step on every weight that learns."""
    ids = torch.randint(3, 300, (2, 24), generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    for _ in range(2):  # LoRA's A has no gradient while B is zero
        model(input_ids=ids, labels=ids).loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
                    parameter.grad = None
