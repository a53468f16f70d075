"""Every strategy learns by the right gradients: those of a computation in double precision, of exactly its own weights."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from test_peft import BY_NAME, load, options_of, prepare, shape_of
from torch.nn import functional

from langadapt import loading
from langadapt.loss import fused_loss
from langadapt.machine import Machine
from langadapt.testing import tiny_model

# By strategy, what is in the names of exactly the weights that learn; of PEFT's other methods, what their classes say.
LEARNS = {
    **dict.fromkeys(("lora", "rslora", "pissa", "lora+", "qlora"), r"lora_[AB]\."),
    **dict.fromkeys(("dora", "qdora"), r"lora_([AB]|magnitude_vector)\."),
    **dict.fromkeys(("full", "ssu"), ""),
    "layers": r"layers\.0\.|embed_tokens|lm_head",
    "freeze": r"layers\.|model\.norm",
    "trainable_tokens": r"trainable_tokens_delta",
}
IDS = torch.randint(3, 300, (1, 40), generator=torch.Generator().manual_seed(3))
ROWS = sorted(
    {*IDS[0, [2, 9, 30]].tolist(), 383}
)  # of tokens in the input, and of one that is never there but in the head
QUANTISED = {
    "fp4": {"bnb_4bit_quant_type": "fp4"},
    "double": {"bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}
# In units of a gradient's own length. 8-bit layers round their inputs to 8 bits too, about half a percent of each; what
# that makes of a gradient of two blocks was 1 to 2 percent. All others compute in fp32.
TOLERANCE, TOLERANCE_8_BITS = 1e-4, 0.03
# What cannot be compared so: `adamss` multiplies in fp32 whatever its weights are, `osf` changes its gradients by hooks
# of its own, and `pvera` draws its noise anew.
NOT_COMPARED = {"adamss", "osf", "pvera"}
CASES = (
    [(name, "", {}) for name in BY_NAME if name not in NOT_COMPARED]
    + [
        (name, kind, options)
        for name in ("qlora", "qdora")
        for kind, options in QUANTISED.items()
        if (name, kind) != ("qdora", "int8")
    ]
    + [(name, "rows", {"new_tokens": ROWS}) for name in ("lora", "dora", "pissa", "qlora")]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def packed() -> dict[str, torch.Tensor]:
    """A row of two documents, of which some tokens bear loss."""
    ids = IDS
    labels = torch.cat([ids[:, 1:], torch.full((1, 1), -100)], dim=1)
    labels[0, [5, 6, 22]] = -100  # the last of the first document, and two that are not learnt
    labels[0, 23] = -100
    places = torch.cat([torch.arange(24), torch.arange(16)])[None]
    return {"input_ids": ids, "position_ids": places, "shift_labels": labels}


def gradients(model: Any, packed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By our loss, as a training step takes it."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    model.zero_grad()
    with fused_loss(plain):
        model(**packed)["loss"].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def reference_gradients(model: Any, packed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """In double precision, document by document, by all logits and torch's own loss."""
    exact = in_double(model)
    ids, labels = packed["input_ids"], packed["shift_labels"]
    logits = torch.cat([exact(input_ids=part, use_cache=False).logits for part in ids.split([24, 16], dim=1)], dim=1)
    functional.cross_entropy(logits[0], labels[0]).backward()
    return {name: p.grad for name, p in exact.named_parameters() if p.grad is not None}


def in_double(model: Any) -> Any:
    """A copy with float64 weights, where a quantised layer is the matrix that it multiplies unit vectors by."""
    quantised = {n: layer for n, layer in model.named_modules() if isinstance(layer, (Linear4bit, Linear8bitLt))}
    for name, layer in quantised.items():
        plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False).requires_grad_(False)
        with torch.no_grad():
            plain.weight.copy_(layer(torch.eye(layer.in_features)).T)
        model.set_submodule(name, plain)
    exact = copy.deepcopy(model).double()
    for name, layer in quantised.items():
        model.set_submodule(name, layer)
    return exact


def stir(model: Any) -> None:
    """Moves what learns away from its start, where half of the gradients are zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                size = 0.1 * parameter.std() if parameter.numel() > 1 and parameter.std() > 0 else 0.02
                parameter += size * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


def ready(name: str, folder: Path, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    chosen = options_of(name) | options
    chosen |= {key: 0.0 for key in chosen if key == "lora_dropout"}
    return prepare(name, load(folder), chosen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "options"), CASES, ids=[f"{name}-{kind}".strip("-") for name, kind, _ in CASES]
)
def test_gradients_are_those_of_double_precision_also_after_an_evaluation(
    folder: Path, name: str, kind: str, options: dict[str, Any], packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compute_dtype", lambda: torch.float32)
    model = ready(name, folder, options)
    stir(model)
    model.train()
    found, expected = gradients(model, packed), reference_gradients(model, packed)
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == expected.keys() == learning
    tolerance = TOLERANCE_8_BITS if options.get("load_in_8bit") else TOLERANCE
    for weight, gradient in expected.items():
        assert (found[weight].double() - gradient).norm() <= tolerance * gradient.norm() + 1e-9, weight
    assert all(gradient.norm() > 0 for gradient in expected.values()), "a gradient of zero would prove nothing"
    model.eval()
    with torch.no_grad():
        model(input_ids=packed["input_ids"])
        model(input_ids=packed["input_ids"][:, :1])
    model.train()
    for weight, gradient in gradients(model, packed).items():
        assert torch.equal(gradient, found[weight]), f"{weight} learns otherwise after an evaluation"


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNS)
def test_exactly_the_weights_that_a_strategy_says_learn_and_nothing_else_moves(
    folder: Path, name: str, packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compute_dtype", lambda: torch.float32)
    model = ready(name, folder, {})
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert learning.keys() == {n for n, _ in model.named_parameters() if re.search(LEARNS[name], n)}
    assert sum(p.numel() for p in learning.values()) == BY_NAME[name].trainable(shape_of(model), options_of(name))
    still = {n: v.clone() for n, v in model.state_dict().items() if n not in learning}
    optimizer = torch.optim.AdamW(learning.values(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        gradients(model, packed)
        optimizer.step()
    after = model.state_dict()
    for weight, value in still.items():
        assert torch.equal(after[weight], value), f"{weight} does not learn and has moved"


def test_dora_beside_8_bit_weights_is_refused_on_a_processor() -> None:
    """PEFT drops the scales there, and the second step would end in an error of bitsandbytes."""
    strategy = BY_NAME["qdora"]
    assert strategy.lacks
    options = {**strategy.fixed, **strategy.defaults, "load_in_8bit": True}
    (said,) = strategy.lacks(Machine(cores=1, memory=1, gpus=(), bf16=True), options)
    assert "DoRA beside 8-bit weights needs a GPU" in said
    assert not list(strategy.lacks(Machine(cores=1, memory=1, gpus=(("a GPU", 1),), bf16=True), options))


def test_every_strategy_of_the_core_is_covered() -> None:
    from langadapt.peft import others

    assert {name for name, _, _ in CASES} == set(BY_NAME) - NOT_COMPARED
    assert set(LEARNS) == set(BY_NAME) - set(others.METHODS)
