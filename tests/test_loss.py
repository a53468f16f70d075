"""The fused loss against torch's own, and the traps around packing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForCausalLM

from langadapt import loss as loss_module
from langadapt.loss import fused_loss, linear_cross_entropy, token_losses
from langadapt.machine import peak_memory, reset_peak_memory
from langadapt.testing import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def load(folder: Path, dtype: torch.dtype = torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(1, 40), chunk=st.integers(1, 17), seed=st.integers(0, 9999))
def test_loss_and_both_gradients_equal_torchs_in_double_precision(tokens: int, chunk: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(23, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 23, (tokens,), generator=generator)
    expected = functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    expected.backward()
    ours_h, ours_w = hidden.detach().clone().requires_grad_(), weight.detach().clone().requires_grad_()
    found = linear_cross_entropy(ours_h, ours_w, targets, chunk=chunk)
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours_h.grad, hidden.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours_w.grad, weight.grad, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(0, 40), chunk=st.integers(1, 17), seed=st.integers(0, 9999))
def test_losses_of_tokens_and_both_gradients_equal_torchs_in_double_precision(
    tokens: int, chunk: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(23, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 23, (tokens,), generator=generator)
    outer = torch.randn(tokens, generator=generator, dtype=torch.float64)
    expected = functional.cross_entropy(hidden @ weight.T, targets, reduction="none")
    found = token_losses(hidden, weight, targets, chunk=chunk)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, [hidden, weight], outer),
        torch.autograd.grad(expected, [hidden, weight], outer),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_extreme_logits_neither_overflow_nor_vanish() -> None:
    hidden = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]])
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(2000.0)
    loss.backward()
    assert torch.isfinite(hidden.grad).all()


def test_the_model_in_training_has_the_gradients_of_its_own_loss(folder: Path) -> None:
    """`fused_loss` replaces the forward method; what is learnt must be what transformers' own loss would teach."""
    ids = torch.randint(3, 300, (2, 20), generator=torch.Generator().manual_seed(1))
    labels = ids.roll(-1, 1)
    labels[:, -1] = -100
    labels[0, :7] = -100
    plain, fused = load(folder), load(folder)
    plain(input_ids=ids, labels=labels, shift_labels=labels, use_cache=False).loss.backward()
    positions = torch.arange(20).expand(2, 20)
    with fused_loss(fused):
        fused(input_ids=ids, position_ids=positions, shift_labels=labels)["loss"].backward()
    for (name, expected), found in zip(plain.named_parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert fused(input_ids=ids).logits.shape == (2, 20, plain.config.vocab_size), "the model's own forward is back"


def test_loss_over_accumulated_batches_is_the_mean_over_all_their_tokens(folder: Path) -> None:
    """Averaging per micro-batch would weigh a batch of few tokens like one of many."""
    model = load(folder)
    ids = torch.randint(3, 300, (2, 16), generator=torch.Generator().manual_seed(2))
    labels = ids.roll(-1, 1)
    labels[0, 3:] = -100
    positions = torch.arange(16).expand(2, 16)
    count = (labels != -100).sum()
    with fused_loss(model):
        whole = model(input_ids=ids, position_ids=positions, shift_labels=labels)["loss"]
        parts = [
            model(
                input_ids=ids[i : i + 1],
                position_ids=positions[:1],
                shift_labels=labels[i : i + 1],
                num_items_in_batch=count,
            )["loss"]
            for i in range(2)
        ]
    assert sum(p.item() for p in parts) == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_packed_documents_do_not_see_each_other(folder: Path, training: bool) -> None:
    """The second document of a row must get the very states that it gets alone (pitfalls: 0.41 against 1.5e-7)."""
    model = load(folder).train(training)
    first, second = torch.randint(3, 300, (9,)), torch.randint(3, 300, (14,))
    packed = torch.cat([first, second])[None].expand(2, -1)
    positions = torch.cat([torch.arange(9), torch.arange(14)])[None].expand(2, -1)
    labels = torch.full_like(packed, -100)
    labels[:, 9:-1] = packed[:, 10:]
    alone_labels = labels[:1, 9:]
    with fused_loss(model), torch.no_grad():
        together = model(input_ids=packed, position_ids=positions, shift_labels=labels)["loss"]
        alone = model(input_ids=second[None], position_ids=torch.arange(14)[None], shift_labels=alone_labels)["loss"]
        leaking = model(input_ids=packed, position_ids=torch.arange(23)[None].expand(2, -1), shift_labels=labels)[
            "loss"
        ]
    assert together.item() == pytest.approx(alone.item(), abs=1e-6)
    assert abs(leaking.item() - alone.item()) > 1e-4, "the test can tell a leak"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a peak of memory anew")
def test_the_logits_of_one_chunk_exist_at_a_time() -> None:
    head, hidden = torch.randn(49_152, 64), torch.randn(768, 64, requires_grad=True)
    targets = torch.randint(0, 49_152, (768,))
    reset_peak_memory()
    before = peak_memory()
    linear_cross_entropy(hidden, head, targets, chunk=256).backward()
    assert peak_memory() - before < 1.7 * 256 * 49_152 * 4, "those of the chunk before were still there"


def test_what_blocks_left_in_pieces_is_given_back_before_logits_are_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(folder)
    order: list[str] = []
    monkeypatch.setattr(loss_module, "release_memory", lambda: order.append("given back"))
    monkeypatch.setattr(
        loss_module, "linear_cross_entropy", lambda *_: order.append("logits") or torch.zeros((), requires_grad=True)
    )
    model.model.register_forward_hook(lambda *_: order.append("blocks"))
    ids = torch.randint(3, 90, (1, 12))
    with fused_loss(model):
        model(input_ids=ids, shift_labels=ids)
    assert order == ["blocks", "given back", "logits"]
