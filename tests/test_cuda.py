"""On a GPU: the blocks give the libraries' results, quantising takes no more room than it must, and a run works whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from langadapt import Recipe, loading
from langadapt.artifacts import ModelRef
from langadapt.fused import fused_blocks
from langadapt.loss import fused_loss
from langadapt.machine import this_machine
from langadapt.peft import qlora
from langadapt.testing import tiny_model

pytestmark = pytest.mark.skipif(not this_machine().cuda, reason="needs a GPU")

WORDS = 512
SHAPE: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 2048,
}  # fmt: skip


def adapted(bits: int, dropout: float = 0.0) -> Any:
    """A model in bf16 with LoRA in fp32, on the GPU."""
    torch.manual_seed(0)
    plain = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch.bfloat16)
    if bits == 4:
        qlora.quantise(plain, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=False)
    plain.to("cuda")
    config = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=16, lora_dropout=dropout, target_modules="all-linear")
    get_peft_model(plain, config)
    for name, parameter in plain.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    return plain.train()


def batch() -> dict[str, torch.Tensor]:
    """Two rows of three documents each, the second with padding behind."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(WORDS, (2, 256), generator=generator)
    positions = torch.tensor([[*range(100), *range(90), *range(66)], [*range(20), *range(200), *[0] * 36]])
    labels = ids.roll(-1, 1)
    labels[:, :-1][positions[:, 1:] == 0] = -100
    labels[:, -1] = -100
    return {name: x.cuda() for name, x in (("input_ids", ids), ("position_ids", positions), ("shift_labels", labels))}


def learn(plain: Any) -> tuple[float, dict[str, torch.Tensor]]:
    plain.zero_grad()
    with torch.autocast("cuda", torch.bfloat16), fused_loss(plain):
        loss = plain(**batch())["loss"]
    loss.backward()
    return float(loss), {n: p.grad.float() for n, p in plain.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bits", [16, 4])
def test_fused_blocks_are_the_libraries_blocks(bits: int) -> None:
    plain = adapted(bits)
    loss, gradients = learn(plain)
    exact = in_single(plain)
    true_loss, truth = learn_exactly(exact)
    with fused_blocks(plain) as count:
        assert count == 4 * 4 + 1, "attention, MLP and two norms of each block, and the last norm"
        ours, found = learn(plain)
    assert abs(ours - true_loss) <= 2 * abs(loss - true_loss) + 2e-3
    assert found.keys() == gradients.keys()
    for name, gradient in truth.items():
        error = (found[name] - gradient).norm() / gradient.norm()
        theirs = (gradients[name] - gradient).norm() / gradient.norm()
        assert error <= 1.5 * theirs + 1e-3, f"{name}: {error:.4f}, the library's {theirs:.4f}"


def in_single(plain: Any) -> Any:
    """The same weights in fp32, on the GPU, unpacked where they are in 4 bits."""
    import copy

    from bitsandbytes.functional import dequantize_4bit

    exact = copy.deepcopy(plain)
    for module in exact.modules():
        base = getattr(module, "base_layer", None)
        if base is not None and hasattr(base.weight, "quant_state"):
            linear = torch.nn.Linear(base.in_features, base.out_features, bias=False, device="cuda")
            linear.weight.data = dequantize_4bit(base.weight.data, base.weight.quant_state).float()
            linear.weight.requires_grad_(False)
            module.base_layer = linear
    return exact.float()


def learn_exactly(exact: Any) -> tuple[float, dict[str, torch.Tensor]]:
    exact.zero_grad()
    torch.backends.cuda.matmul.allow_tf32 = False
    with fused_loss(exact):
        loss = exact(**batch())["loss"]
    loss.backward()
    return float(loss), {n: p.grad for n, p in exact.named_parameters() if p.grad is not None}


def test_attention_runs_in_one_kernel_and_arithmetic_is_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("langadapt.fused.attention._one_by_one", None)
    plain = adapted(16)
    with fused_blocks(plain):
        learn(plain)
    assert not [record for record in caplog.records if "compile" in record.getMessage()]


def test_dropout_drops_and_learns() -> None:
    plain = adapted(4, dropout=0.1)
    with fused_blocks(plain) as count:
        assert count == 17
        torch.manual_seed(1)
        first, gradients = learn(plain)
        torch.manual_seed(1)
        again, same = learn(plain)
        other, _ = learn(plain)
    assert first == pytest.approx(again, rel=1e-4) and first != other
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in gradients.values())
    assert all((same[n] - g).norm() <= 0.02 * g.norm() for n, g in gradients.items())


def test_quantising_never_holds_the_whole_model_on_the_gpu(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", **{**SHAPE, "hidden_size": 1024, "num_hidden_layers": 12})
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    plain = loading.load_model(ModelRef(weights=folder), to=torch.device("cpu"))
    qlora.freeze(plain, qlora.QUANTISATION)
    kept, peak = torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before
    largest = 2 * 1024 * 1408
    assert peak <= kept + 3 * largest
    assert all(p.is_cuda for p in plain.parameters())


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
r = 8
[stage.training]
learning_rate = 1e-3
max_steps = 12
max_length = 128
per_device_train_batch_size = 2
logging_steps = 1
save_steps = 3
[[stage]]
id = "release"
kind = "merge"
from = "adapt"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny_model(tmp_path / "model", hidden_size=128, intermediate_size=256, num_hidden_layers=4)
    rows = [{"text": f"Questa è la riga numero {n}, e dopo di lei ne viene un'altra." * 8} for n in range(80)]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("method", ["qlora", "lora", "dora", "pissa"])
def test_a_run_is_whole(place: Path, method: str) -> None:
    file = place / "recipe.toml"
    file.write_text(RECIPE.format(folder=place, method=method))
    run = Recipe.load(file).execute(place / "run")
    stages = {stage["id"]: stage for stage in run.state["stages"]}
    assert all(stage["status"] == "done" for stage in stages.values())
    metrics = stages["adapt"]["metrics"]
    assert metrics["loss_last"] < metrics["loss_first"]
    assert metrics["peak_gpu_memory"] > 0
    assert stages["release"]["metrics"]["kl_sixteen_bit"] < 0.01


def test_a_killed_run_goes_on_with_the_same_losses(place: Path) -> None:
    file = place / "recipe.toml"
    file.write_text(RECIPE.format(folder=place, method="qlora"))
    losses = []
    for name, kill in (("whole", False), ("killed", True)):
        out = place / name
        command = [sys.executable, "-m", "langadapt", "run", str(file), "--out", str(out)]
        if kill:
            child = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
            while child.poll() is None and not list(out.glob("stages/adapt/checkpoints/checkpoint-6/seal.json")):
                time.sleep(0.02)
            child.send_signal(signal.SIGKILL)
            child.wait()
        subprocess.run(command, check=True, env=os.environ, stdout=subprocess.DEVNULL)
        events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        seen = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
        assert sorted(seen) == list(range(1, 13))
        losses.append([seen[step] for step in sorted(seen)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
