"""What the plan says about memory is what torch keeps, what would make a stage fit does, and what cannot fit is refused."""

from __future__ import annotations

import dataclasses
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch

from langadapt import Recipe, UserError, estimates
from langadapt import plan as planning
from langadapt.fused import fused_blocks
from langadapt.loading import device, load_weights
from langadapt.loss import fused_loss
from langadapt.machine import Machine, this_machine
from langadapt.models import find_model
from langadapt.plugins import registry
from langadapt.testing import tiny_model

ROWS, LENGTH = 2, 128
GPU = Machine(cores=8, memory=2**36, gpus=(("NVIDIA A100", 2**35),), bf16=True)
SMALL = Machine(cores=2, memory=2**30, gpus=(), bf16=False)
RECIPE = """
schema = 1
name = "memory"
language = "it"
base_model = "{model}"
[evaluation]
automatic = false
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{corpus}", held_out = 0 }}]
[stage.training]
max_steps = 2
max_length = 256
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape: dict[str, Any] = {
        "hidden_size": 96,
        "intermediate_size": 320,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    }
    return tiny_model(tmp_path_factory.mktemp("base") / "model", num_hidden_layers=4, **shape)


@pytest.fixture
def recipe(model: Path, tmp_path: Path) -> Path:
    (tmp_path / "texts.jsonl").write_text('{"text": "La barca torna al porto."}\n')
    (tmp_path / "recipe.toml").write_text(RECIPE.format(model=model, corpus=tmp_path / "texts.jsonl"))
    return tmp_path / "recipe.toml"


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plans as if on another machine."""
    return lambda machine: monkeypatch.setattr(planning, "this_machine", lambda: machine)


# --- activations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "peft"),
    [
        ("lora", {}),
        ("lora", {"target_modules": ["q_proj", "v_proj"]}),
        ("lora", {"lora_dropout": 0.1}),
        ("qlora", {}),
        ("dora", {"lora_dropout": 0.0}),
        ("dora", {}),
        ("full", {}),
        ("layers", {"first": 1, "last": 1}),
        ("layers", {"first": 0, "last": 2, "embeddings": False}),
        ("freeze", {"frozen": ["*mlp*"]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("number", [4, 2], ids=["fp32", "bf16"])
def test_a_block_keeps_what_torch_keeps(
    model: Path, method: str, peft: dict[str, Any], fused: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype = torch.float32 if number == 4 else torch.bfloat16
    monkeypatch.setattr("langadapt.loading.compute_dtype", lambda: dtype)  # whatever this machine computes in
    strategy, shape = registry().peft_strategies[method], find_model(str(model)).shape
    assert shape is not None and strategy.reached is not None
    options = {**strategy.defaults, **peft}
    filled = {**strategy.fixed, **options}
    stage = estimates.Training(
        shape=shape,
        reached=frozenset(strategy.reached(shape, filled)),
        trainable=strategy.trainable(shape, options) or 0,
        trains_base=strategy.trains_base,
        weight_bits=strategy.weight_bits(options),
        rows=ROWS,
        length=LENGTH,
        number=number,
        cuda=this_machine().cuda,
        dropout=bool(filled.get("lora_dropout")),
        rank=int(filled.get("r", 0)),
        dora=bool(filled.get("use_dora")),
        fused=fused,
    )
    passing = (
        2 * stage.tokens * shape.hidden_size * number
    )  # there while the loss is taken: the last norm's output, its rows
    found = kept(model, method, options, fused, dtype)
    assert estimates.activations(stage) - passing == pytest.approx(found, rel=0.05)


@dataclasses.dataclass(frozen=True, eq=False)
class _Saved:
    tensor: torch.Tensor


def kept(folder: Path, method: str, options: dict[str, Any], fused: bool, dtype: torch.dtype) -> int:
    """Bytes of what autograd saves in a forward pass, weights not counted."""
    strategy = registry().peft_strategies[method]
    plain = load_weights(folder, torch.float32 if strategy.weight_bits(options) == 32 else dtype)
    model = strategy.prepare(plain, options).to(device()).train()
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    saved: WeakSet[_Saved] = WeakSet()  # without what nothing in the graph that is left needs

    def note(tensor: torch.Tensor) -> _Saved:
        saved.add(noted := _Saved(tensor))
        return noted

    ids = torch.randint(3, 300, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0)).to(device())
    positions = torch.cat([torch.arange(50), torch.arange(LENGTH - 50)]).expand(ROWS, -1).to(device())
    blocks = fused_blocks(plain) if fused else nullcontext()
    mixed = torch.autocast(device().type, dtype, enabled=dtype.itemsize == 2)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda noted: noted.tensor)
    with fused_loss(plain), blocks, mixed, hooks:
        output = model(input_ids=ids, position_ids=positions, shift_labels=ids)
    storages = {noted.tensor.untyped_storage().data_ptr(): noted.tensor.untyped_storage() for noted in saved}
    assert output["loss"].requires_grad
    return sum(storage.nbytes() for pointer, storage in storages.items() if pointer not in weights)


# --- moments ---------------------------------------------------------------------------------------------------------


def test_four_bits_are_read_as_sixteen_first_but_not_on_a_gpu(recipe: Path, tmp_path: Path, on: Any) -> None:
    strategy = registry().peft_strategies["qlora"]
    for machine, cuda in ((dataclasses.replace(SMALL, bf16=True), False), (GPU, True)):
        on(machine)
        planned = Recipe.load(recipe, ["adapt.peft.method=qlora", "adapt.training.per_device_train_batch_size=1"])
        shape = planned.plan(tmp_path / "run").base.shape
        assert shape is not None and strategy.reached is not None
        # So large that reading is what takes most.
        large = dataclasses.replace(shape, num_hidden_layers=400, intermediate_size=3200)
        memory = estimates.training(
            estimates.Training(
                shape=large, reached=frozenset(strategy.reached(large, strategy.defaults)), trainable=1,
                trains_base=False, weight_bits=4.5, rows=1, length=4, number=2, cuda=cuda, rank=1, fused=True,
            )
        )  # fmt: skip
        quantised = int(large.linear_parameters * 4.5 / 8) + 2 * (large.parameters - large.linear_parameters)
        assert large.dtype == "bfloat16"
        assert memory["weights"] == quantised + (0 if cuda else 2 * large.parameters)  # beside the mapped file
        assert "files" not in memory


@pytest.mark.parametrize(
    ("stored", "bf16", "files"),
    [("bfloat16", True, 0), ("float32", False, 0), ("bfloat16", False, 2), ("float16", True, 2), ("float32", True, 4)],
)
def test_files_count_beside_weights_that_are_made_from_them(model: Path, stored: str, bf16: bool, files: int) -> None:
    shape = find_model(str(model)).shape
    assert shape is not None
    large = dataclasses.replace(shape, num_hidden_layers=400, intermediate_size=3200, dtype=stored)
    memory = estimates.evaluation(large, dataclasses.replace(SMALL, bf16=bf16), tokens=1)
    assert memory.get("files", 0) == files * large.parameters


def test_rows_of_a_mapped_embedding_that_no_text_asks_for_are_not_counted(model: Path) -> None:
    shape = find_model(str(model)).shape
    assert shape is not None
    for bf16, unread in ((True, 2 * shape.vocab_size * shape.hidden_size), (False, 0)):
        mapped, copied = (
            estimates.Training(
                shape=dataclasses.replace(shape, tie_word_embeddings=False, dtype=dtype), reached=frozenset(),
                trainable=0, trains_base=False, weight_bits=16, rows=1, length=8, number=2 if bf16 else 4,
            )
            for dtype in ("bfloat16", "float16")
        )  # fmt: skip
        parts = estimates.training(mapped), estimates.training(copied)
        assert parts[1]["weights"] - parts[0]["weights"] == unread


def test_rounding_the_largest_matrix_counts_where_whole_weights_are_saved(model: Path) -> None:
    shape = find_model(str(model)).shape
    assert shape is not None
    wide = dataclasses.replace(shape, vocab_size=10**6, tie_word_embeddings=False)
    stage = estimates.Training(
        shape=wide, reached=frozenset({"model.norm.weight"}), trainable=wide.hidden_size, trains_base=True,
        weight_bits=16, rows=1, length=1, number=4,
    )  # fmt: skip
    assert estimates.training(stage)["working"] == 10 * 10**6 * wide.hidden_size
    assert estimates.training(dataclasses.replace(stage, number=2)).get("working", 0) < 10**6, (
        "frozen ones are in 16 bits"
    )


def test_an_average_is_one_more_copy_of_what_learns(recipe: Path, tmp_path: Path, on: Any) -> None:
    on(SMALL)
    parts = Recipe.load(recipe, ["adapt.training.ema_decay=0.99"]).plan(tmp_path / "run").stage("adapt").estimate.memory
    assert parts["average"] == parts["adapters"] > 0


def test_sixteen_bits_and_a_gpu_take_less(recipe: Path, tmp_path: Path, on: Any) -> None:
    on(SMALL)
    processor = Recipe.load(recipe).plan(tmp_path / "run").stage("adapt").estimate
    on(dataclasses.replace(SMALL, bf16=True))
    sixteen = Recipe.load(recipe).plan(tmp_path / "run").stage("adapt").estimate
    on(GPU)
    gpu = Recipe.load(recipe).plan(tmp_path / "run").stage("adapt").estimate
    beside = [estimate.peak - estimate.memory["libraries"] for estimate in (gpu, sixteen, processor)]
    assert beside == sorted(beside) and beside[0] < beside[2]
    assert gpu.memory["libraries"] == estimates.LIBRARIES_CUDA and "files" not in gpu.memory


# --- what would make it fit, and what cannot ----------------------------------------------------------------------------


def tight(recipe: Path, folder: Path, on: Any, *, below: float) -> Any:
    """The stage's plan on a machine that has a share of what it needs beside the libraries."""
    on(SMALL)
    needed = Recipe.load(recipe, BIG).plan(folder).stage("adapt").estimate.peak - estimates.LIBRARIES_CPU
    on(dataclasses.replace(SMALL, memory=int(estimates.LIBRARIES_CPU + below * needed)))
    return Recipe.load(recipe, BIG).plan(folder)


BIG = ["adapt.training.per_device_train_batch_size=256"]


def test_the_first_change_that_fits_is_named_with_what_it_takes(recipe: Path, tmp_path: Path, on: Any) -> None:
    plan = tight(recipe, tmp_path / "run", on, below=0.6)
    (said,) = (warning for warning in plan.warnings if "adapt is estimated at" in warning)
    change = "training.per_device_train_batch_size = 128, training.gradient_accumulation_steps = 2"
    assert f"smaller: {change}, estimated at" in said
    smaller = ["adapt.training.per_device_train_batch_size=128", "adapt.training.gradient_accumulation_steps=2"]
    peak = Recipe.load(recipe, smaller).plan(tmp_path / "run").stage("adapt").estimate.peak
    assert peak == plan.stage("adapt").estimate.changed[change] <= plan.machine.memory


def test_where_nothing_is_enough_the_best_is_named(recipe: Path, tmp_path: Path, on: Any) -> None:
    on(dataclasses.replace(SMALL, memory=2**28))
    plan = Recipe.load(recipe, BIG).plan(tmp_path / "run")
    assert any("is not enough: take a smaller base model or a larger machine" in warning for warning in plan.warnings)


def test_what_cannot_fit_is_refused_unless_it_is_tried_anyway(
    recipe: Path, tmp_path: Path, on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(dataclasses.replace(SMALL, memory=2**28))
    plan = Recipe.load(recipe, BIG).plan(tmp_path / "run")
    with pytest.raises(UserError, match=r"(?s)adapt is estimated at .* smaller: .* --try-anyway"):
        plan.execute()
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("langadapt.run._Execution.run", lambda self, siblings: "begun")
    assert plan.execute(try_anyway=True) == "begun"  # type: ignore[comparison-overlap]


# --- what does not fit the model or the machine -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ('peft.target_modules=["c_attn"]', "['c_attn'] matches no layer of the model; use \"all-linear\""),
        ("peft.target_modules=.*attention.*", '".*attention.*" matches no layer'),
        ("peft.r=4096", "peft.r = 4096 is more than the rank of any layer that it adapts; 96 is the most"),
        ('peft={ method = "layers", first = 3, last = 2 }', "peft.first + peft.last = 5, and the model has 4 blocks"),
        (
            'peft={ method = "layers", first = -1 }',
            "peft.first = -1 and peft.last = 2 cannot be below 0; say how many blocks learn",
        ),
        ("training.max_length=4096", "the model knows positions up to 2048; set at most that"),
        (
            'training.learning_rates={ "*layers.9.*" = 1e-3 }',
            'learning_rates: no weight that learns matches "*layers.9.*"',
        ),
        (
            'training.unfreeze={ "*embed*" = 1 }',
            "there are such as base_model.model.model.layers.0.self_attn.q_proj.lora_A",
        ),
        ('peft={ method = "ssu", freeze_ratio = 2.0 }', "peft.freeze_ratio = 2.0 is not above 0 and below 1"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_plan(
    recipe: Path, tmp_path: Path, on: Any, override: str, said: str
) -> None:
    on(SMALL)
    assert Recipe.load(recipe).plan(tmp_path / "run").problems == []
    problems = Recipe.load(recipe, [f"adapt.{override}"]).plan(tmp_path / "run").problems
    assert len(problems) == 1 and problems[0].startswith("stage adapt: ") and said in problems[0]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learning_rate=0.0", "0.0 is not above 0"),
        ("learning_rate=-1e-4", "-0.0001 is not above 0"),
        ("max_steps=0", "0 is not at least 1, or -1"),
        ("num_train_epochs=0.0", "0.0 is not above 0"),
        ("warmup_steps=1.5", "1.5 is not a share of the steps below 1"),
        ("warmup_steps=-1", "-1 is not a share of the steps below 1"),
        ("max_grad_norm=-1.0", "-1.0 is not 0 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(recipe: Path, override: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Recipe.load(recipe, [f"adapt.training.{override}"])
    assert f"adapt.training.{override.partition('=')[0]}: {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.bf16=true", "this machine has no bf16 instructions; leave it out"),
        ("training.fp16=true", "training.fp16 = true needs CUDA"),
        ("training.use_liger_kernel=true", "training.use_liger_kernel = true needs CUDA"),
        ('peft={ method = "qdora", load_in_8bit = true }', "DoRA beside 8-bit weights needs a GPU"),
    ],
)
def test_arithmetic_that_the_machine_lacks_is_told_and_not_run(
    recipe: Path, tmp_path: Path, on: Any, override: str, said: str
) -> None:
    on(SMALL)
    plan = Recipe.load(recipe, [f"adapt.{override}"]).plan(tmp_path / "run")
    assert plan.problems == []
    assert len(plan.lacks) == 1 and plan.lacks[0].startswith("stage adapt: ") and said in plan.lacks[0]
    with pytest.raises(UserError, match=re.escape(said)):
        plan.execute()
