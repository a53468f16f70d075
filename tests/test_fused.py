"""The blocks that are computed in fewer steps give what the libraries' own give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM

from langadapt import Recipe
from langadapt.fused import attention, fused_blocks
from langadapt.fused.attention import Documents, document_spans
from langadapt.fused.dora import Scratch, dora_forward
from langadapt.fused.linears import gated_mlp_forward, project
from langadapt.loss import fused_loss
from langadapt.machine import this_machine
from langadapt.peft import qlora
from langadapt.peft.columns import ShieldedLinear
from langadapt.testing import tiny_model

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied": {"tie_word_embeddings": True},
    "mistral": {},
    "qwen2": {},  # with biases
    "gemma": {"head_dim": 16},  # its norm and its activation are others
}
POSITIONS = torch.tensor([[*range(9), *range(15)], [*range(4), 0, *range(13), *[0] * 6]])


def model_of(family: str, *, targets: Any = "all-linear", bits: int = 32, **options: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family.partition("-")[0],
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        **FAMILIES[family],
    )
    plain = AutoModelForCausalLM.from_config(config)
    for name, parameter in plain.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    if bits == 4:
        qlora.quantise(plain, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    if targets:
        get_peft_model(plain, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=4, target_modules=targets, **options))
        for name, parameter in plain.named_parameters():
            if "lora_B" in name:  # zero at the start, so that A would have no gradient
                parameter.data.normal_()
            if "magnitude" in name:  # the weights' own lengths at the start, so that nothing would be turned
                parameter.data *= 1 + torch.rand(len(parameter))
    return (plain.double() if bits == 32 else plain).train()


def loss_of(plain: Any) -> torch.Tensor:
    """Of two packed rows."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(97, POSITIONS.shape, generator=generator)
    labels = ids.roll(-1, 1)
    labels[:, :-1][POSITIONS[:, 1:] == 0] = -100
    labels[:, -1] = -100
    with fused_loss(plain):
        loss: torch.Tensor = plain(input_ids=ids, position_ids=POSITIONS, shift_labels=labels)["loss"]
    return loss


def learn(plain: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients."""
    plain.zero_grad()
    loss = loss_of(plain)
    loss.backward()
    return float(loss), {n: p.grad.clone() for n, p in plain.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bits", [32, 4])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], None], ids=["all", "some", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_library(family: str, targets: Any, dora: bool, bits: int) -> None:
    if targets is None and (bits == 4 or dora):
        pytest.skip("nothing would learn" if bits == 4 else "without targets, DoRA is nowhere")
    plain = model_of(family, targets=targets, bits=bits, use_dora=dora)
    loss, gradients = learn(plain)
    with fused_blocks(plain) as count:
        assert count or family == "gemma"
        adapted = [m for m in plain.modules() if getattr(m, "lora_magnitude_vector", None)]
        assert all("forward" in vars(module) for module in adapted)
        ours, found = learn(plain)
    assert ours == pytest.approx(loss, rel=1e-5)
    assert found.keys() == gradients.keys()
    error = 1e-5 if bits == 32 else 1e-3  # in double precision but for the norms, which both take in fp32
    for name, gradient in gradients.items():
        assert (found[name] - gradient).norm() <= error * gradient.norm(), name


@pytest.mark.parametrize("bits", [16, 4])
def test_mixed_precision_is_as_with_the_library(bits: int) -> None:
    """Weights in bf16 or 4 bits, adapters in fp32, products in bf16: as a machine trains that multiplies bf16."""
    plain = model_of("llama", bits=32).to(torch.bfloat16)
    if bits == 4:
        plain = model_of("llama", targets=None).to(torch.bfloat16)
        qlora.quantise(plain, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False)
        get_peft_model(plain, LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=4, target_modules="all-linear"))
    for name, parameter in plain.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float().normal_(std=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradients = learn(plain.train())
        with fused_blocks(plain) as count:
            ours, found = learn(plain)
    assert count == 9
    assert ours == pytest.approx(loss, rel=1e-2)
    for name, gradient in gradients.items():
        assert found[name].dtype is torch.float32, name
        assert (found[name] - gradient).norm() <= 0.05 * gradient.norm(), name


def test_what_a_gpu_compiles_is_the_same_and_compiled_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's compiler but for its last step, which would need the GPU."""
    from langadapt.fused import elementwise

    compile_, graphs = torch.compile, []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return torch._dynamo.backends.debugging.aot_eager(graph, inputs)

    plain = model_of("llama", bits=4)
    loss, gradients = learn(plain)
    monkeypatch.setattr(elementwise, "_on_gpu", lambda tensor: True)
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=backend, **options))
    with fused_blocks(plain):
        ours, found = learn(plain)
        compiled = len(graphs)
        learn(plain)
    assert 7 <= compiled <= 14 and len(graphs) == compiled, "each of the functions once or twice"
    assert ours == pytest.approx(loss, rel=1e-5)
    assert all((found[n] - g).norm() <= 1e-3 * g.norm() for n, g in gradients.items())


def test_small_steps_of_doras_lengths_are_seen_in_sixteen_bits() -> None:
    """A factor of 1.003 is 1 in bf16; outputs that are rounded one by one grow by as much on average."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(64, 256, bias=False)).to(torch.bfloat16)
    adapted: Any = get_peft_model(layer, LoraConfig(r=4, target_modules=["0"], use_dora=True)).base_model.model[0]
    lengths = adapted.lora_magnitude_vector["default"].weight
    states, forward = torch.randn(500, 64).to(torch.bfloat16), dora_forward(adapted.train().forward, Scratch())
    norms = adapted.base_layer.weight.float().norm(dim=1)
    sizes = []
    for factor in (1.0, 1.003):
        lengths.data = norms * factor
        sizes.append(float(forward(adapted, states).detach().double().abs().mean()))
    assert sizes[1] / sizes[0] == pytest.approx(1.003, abs=1e-3)


def test_weights_of_two_precisions_are_tried_as_they_train() -> None:
    """What learns in fp32 beside frozen columns in bf16, as under `ssu` where bf16 is multiplied."""
    plain = model_of("llama", targets=None).to(torch.bfloat16)
    for block in plain.model.layers:
        block.self_attn.q_proj = ShieldedLinear(block.self_attn.q_proj, torch.arange(40))
    plain.model.embed_tokens.float()
    plain.lm_head.float()
    with fused_blocks(plain) as count, torch.autocast("cpu", torch.bfloat16):
        assert count
        loss, _ = learn(plain)
    assert 0 < loss < 20


def test_sharp_attention_is_fused_in_sixteen_bits_too() -> None:
    """Under large scores bf16 rounds its gradients by a tenth, as it does those of the library."""
    plain = model_of("llama", bits=32).to(torch.bfloat16)
    for block in plain.model.layers:
        block.self_attn.q_proj.base_layer.weight.data *= 300
    with fused_blocks(plain):
        assert all("forward" in vars(block.self_attn) for block in plain.model.layers)


@st.composite
def packed(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Lengths of documents, heads of keys and values, and heads that share each."""
    lengths = draw(st.lists(st.integers(1, 300) | st.sampled_from([1, 127, 128, 129, 256]), max_size=5))
    last = draw(st.integers(2, 300))  # of one token alone, it would be padding
    return [*lengths, last], draw(st.integers(1, 3)), draw(st.integers(1, 3))


@settings(max_examples=30, deadline=None)
@given(case=packed(), seed=st.integers(0, 999))
def test_attention_by_blocks_has_the_gradients_of_each_document_alone(
    case: tuple[list[int], int, int], seed: int
) -> None:
    lengths, groups, shared = case
    generator = torch.Generator().manual_seed(seed)
    documents = Documents()
    documents.find(torch.cat([torch.arange(length) for length in lengths])[None], 1)
    assert documents.lengths == lengths
    query, key, value = (
        torch.randn(sum(lengths), heads, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        for heads in (groups * shared, groups, groups)
    )
    outer = torch.randn(query.shape, generator=generator, dtype=torch.float64)
    each = zip(*(x.split(lengths) for x in (query, key, value)), strict=True)
    wanted = torch.cat([attention_by_hand(*parts, scale=0.7) for parts in each])
    found = attention.by_blocks(query, key, value, documents, 0.7)
    torch.testing.assert_close(found, wanted)
    inputs = [query, key, value]
    for one, other in zip(
        torch.autograd.grad(found, inputs, outer), torch.autograd.grad(wanted, inputs, outer), strict=True
    ):
        torch.testing.assert_close(one, other)


def attention_by_hand(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float) -> torch.Tensor:
    """Of one document, (tokens, heads, head_dim), as its definition says."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * scale
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(later, -torch.inf).softmax(-1), value)


@pytest.mark.parametrize("length", [40, 300])
def test_gradients_of_attention_in_sixteen_bits_are_as_near_as_the_librarys(length: int) -> None:
    torch.manual_seed(0)
    documents = Documents()
    documents.find(torch.arange(length)[None], 1)
    inputs = [torch.randn(length, 3, 64).bfloat16().requires_grad_() for _ in range(3)]
    outer = torch.randn(length, 3, 64).bfloat16()
    whole = [x.detach().double().requires_grad_() for x in inputs]
    wanted = torch.autograd.grad(attention_by_hand(*whole, scale=0.125), whole, outer.double())
    heads_first = (x.transpose(0, 1)[None] for x in inputs)
    theirs = scaled_dot_product_attention(*heads_first, is_causal=True)[0].transpose(0, 1)
    before = torch.backends.mkldnn.matmul.fp32_precision
    ours = attention.by_blocks(*inputs, documents, 0.125)
    for mine, other, exact in zip(
        torch.autograd.grad(ours, inputs, outer), torch.autograd.grad(theirs, inputs, outer), wanted, strict=True
    ):
        assert (mine - exact).norm() <= 1.05 * (other - exact).norm()
    assert torch.backends.mkldnn.matmul.fp32_precision == before, "products of others are left as they were"


def test_all_of_a_llama_fits() -> None:
    plain = model_of("llama")
    with fused_blocks(plain) as count:
        assert count == 2 * (1 + 1 + 2) + 1, "attention, MLP and two norms of each block, and the last norm"
        assert all("forward" in vars(block.mlp) for block in plain.model.layers)
    assert not any("forward" in vars(module) for module in plain.modules()), "all is as it was"


def test_what_the_libraries_do_in_another_way_is_left_to_them() -> None:
    """A block by a known name that computes something else is found out by trying it."""
    plain = model_of("llama")
    for block in plain.model.layers:
        theirs = type(block.mlp).forward
        strange = type("LlamaMLP", (type(block.mlp),), {"forward": lambda self, x, f=theirs: 2 * f(self, x)})
        block.mlp.__class__ = strange
    with fused_blocks(plain) as count:
        assert count == 2 * (1 + 2) + 1
        assert not any("forward" in vars(block.mlp) for block in plain.model.layers)


def test_an_adapter_that_is_no_plain_lora_is_left_to_peft() -> None:
    plain = model_of("llama", lora_bias=True)
    loss, _ = learn(plain)
    with fused_blocks(plain):
        assert not any("forward" in vars(block.mlp) for block in plain.model.layers)
        assert not any("forward" in vars(block.mlp.up_proj) for block in plain.model.layers)
        assert learn(plain)[0] == pytest.approx(loss, rel=1e-5)


def test_dora_learns_with_lengths_held_still_and_what_dropout_left() -> None:
    """Against the formula of its paper, with the mask that was drawn."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(12, 20))
    options = LoraConfig(r=3, lora_alpha=5, lora_dropout=0.3, target_modules=["0"], use_dora=True)
    adapted: Any = get_peft_model(layer, options).base_model.model[0].double().train()
    a, b = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    lengths = adapted.lora_magnitude_vector["default"].weight
    b.data.normal_()
    states = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    outer = torch.randn(2, 5, 20, dtype=torch.float64)
    torch.manual_seed(1)
    ours = dora_forward(adapted.forward, Scratch())(adapted, states)
    found = torch.autograd.grad(ours, [states, a, b, lengths], outer)

    torch.manual_seed(1)
    mask = torch.empty(10, 12, dtype=torch.bool).bernoulli_(0.7).view(2, 5, 12)
    seen = states * mask / 0.7
    weight, bias = adapted.base_layer.weight, adapted.base_layer.bias
    turned = weight + 5 / 3 * b @ a
    factors = lengths / turned.norm(dim=1).detach()
    wanted = (states - seen) @ weight.T + bias + factors * (seen @ turned.T)
    assert torch.allclose(ours, wanted)
    for one, other in zip(found, torch.autograd.grad(wanted, [states, a, b, lengths], outer), strict=True):
        assert torch.allclose(one, other)


class _Mlp(torch.nn.Module):
    def __init__(self, share: float):
        super().__init__()
        self.gate_proj, self.up_proj = torch.nn.Linear(12, 20, bias=False), torch.nn.Linear(12, 20)
        self.down_proj, self.act_fn = torch.nn.Linear(20, 12, bias=False), torch.nn.SiLU()
        config = LoraConfig(r=3, lora_alpha=5, lora_dropout=share, target_modules=["gate_proj", "up_proj", "down_proj"])
        get_peft_model(self, config)
        for name, parameter in self.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_()
        self.double().train()

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down_proj(self.act_fn(self.gate_proj(states)) * self.up_proj(states))
        return out


@pytest.mark.parametrize("together", [True, False], ids=["mlp", "linears"])
def test_gradients_under_dropout_are_those_of_the_masks_that_were_drawn(together: bool) -> None:
    mlp = _Mlp(0.3)
    learnt = [parameter for parameter in mlp.parameters() if parameter.requires_grad]
    states = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    forward = gated_mlp_forward(mlp.forward)

    def same_masks(states: torch.Tensor, *_: torch.Tensor) -> Any:
        torch.manual_seed(0)
        return forward(mlp, states) if together else tuple(project(states, mlp.gate_proj, mlp.up_proj))

    used = learnt if together else learnt[:4]
    assert torch.autograd.gradcheck(same_masks, (states, *used))


def test_what_dropout_leaves_is_the_same_on_average() -> None:
    mlp = _Mlp(0.3)
    states = torch.randn(1, 5, 12, dtype=torch.float64)
    with torch.no_grad():
        drawn = torch.stack([project(states, mlp.gate_proj)[0] for _ in range(4000)])
        whole = mlp.eval().gate_proj(states)
    error = drawn.std(0) / 4000**0.5
    assert bool((drawn.mean(0) - whole).abs().le(5 * error).all())
    assert float(error.min()) > 0, "each time something else is dropped"


def test_an_adapter_can_be_switched_off() -> None:
    plain = model_of("llama", targets=None)
    adapted = get_peft_model(plain, LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear"))
    for name, parameter in plain.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    adapted.train()
    with fused_blocks(plain), adapted.disable_adapter():
        loss = float(loss_of(plain))
    assert loss == pytest.approx(float(loss_of(model_of("llama", targets=None))), rel=1e-5)


def test_activations_are_checkpointed_as_ever() -> None:
    plain = model_of("llama")
    loss, gradients = learn(plain)
    plain.gradient_checkpointing_enable({"use_reentrant": False})
    plain.enable_input_require_grads()
    with fused_blocks(plain):
        ours, found = learn(plain)
    assert ours == pytest.approx(loss, rel=1e-5)
    assert all(torch.allclose(found[n], g, rtol=1e-3, atol=1e-5) for n, g in gradients.items())


def test_less_is_kept_for_the_backward_pass() -> None:
    plain = model_of("llama")

    def kept() -> int:
        seen: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            learn(plain)
        return sum(seen.values())

    before = kept()
    with fused_blocks(plain):
        assert kept() < 0.7 * before


RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{folder}/model"
[evaluation]
automatic = false
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0.2 }}]
[stage.peft]
method = "{method}"
[stage.training]
kernels = "{kernels}"
learning_rate = 1e-2
max_steps = 6
max_length = 48
per_device_train_batch_size = 2
gradient_accumulation_steps = 2
logging_steps = 1
eval_strategy = "steps"
eval_steps = 3
save_steps = 3
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qlora", "full"])
def test_a_training_has_the_same_losses_either_way(tmp_path: Path, method: str) -> None:
    tiny_model(tmp_path / "model")
    rows = [{"text": f"Questa è la riga numero {n}, e dopo di lei ne viene un'altra."} for n in range(40)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    losses, measured = {}, {}
    for kernels in ("plain", "fused"):
        file = tmp_path / f"{kernels}.toml"
        file.write_text(RECIPE.format(folder=tmp_path, method=method, kernels=kernels))
        run = Recipe.load(file).execute(tmp_path / kernels)
        events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
        losses[kernels] = [event["loss"] for event in events if event["event"] == "step"]
        measured[kernels] = run.state["stages"][0]["metrics"]["held_out_bits_per_byte"]
        assert any("modules of the model are fused" in str(event) for event in events) == (kernels == "fused")
    assert len(losses["plain"]) == 6
    rounding = 1e-3 if this_machine().bf16 else 1e-4  # six steps on, where products have 8 bits and where they have 24
    assert losses["fused"] == pytest.approx(losses["plain"], rel=rounding)
    for ours, theirs in zip(measured["fused"], measured["plain"], strict=True):
        assert ours == pytest.approx(theirs, rel=rounding)


# --- documents of a row ----------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=3), st.integers(0, 4))
def test_spans_are_the_documents_that_were_packed(lengths: list[list[int]], padding: int) -> None:
    width = max(map(sum, lengths)) + padding
    rows = [[p for n in row for p in range(n)] + [0] * (width - sum(row)) for row in lengths]
    for row, found, positions in zip(lengths, document_spans(torch.tensor(rows)), rows, strict=True):
        assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])] and found[-1][1] == width
        cut = {start for start, _ in found}
        starts = {sum(row[:n]) for n in range(len(row))}
        text = max((n for n, p in enumerate(positions) if p), default=-1) + 1
        assert {s for s in starts if s < text} <= cut, "no document that is learnt from sees another"
        assert cut <= starts | {sum(row)}, "and none is cut"
