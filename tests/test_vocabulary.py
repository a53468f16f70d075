"""Changed vocabularies: rows come from where they should, new ones alone learn, and nothing of them is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_gradients import in_double
from test_peft import BY_NAME, load, options_of

from langadapt import loading, vocabulary
from langadapt.artifacts import VOCABULARY, ModelRef
from langadapt.errors import RunError
from langadapt.loss import fused_loss
from langadapt.testing import tiny_model
from langadapt.vocabulary import Rows, plan_rows

WORDS = 384  # of the tiny model
NEW = [384, 385, 386]


@pytest.mark.parametrize(
    ("kept", "before", "tokens_before", "expected", "new"),
    [
        pytest.param([0, 1, 2, None], 3, 3, [0, 1, 2, None], [3], id="extended"),
        pytest.param([0, 1, 2, None], 6, 3, [0, 1, 2, None, 4, 5], [3], id="extended into padding"),
        pytest.param([0, 1, 2], 6, 3, [0, 1, 2, 3, 4, 5], [], id="kept with its padding"),
        pytest.param([0, 2], 6, 3, [0, 2], [], id="trimmed"),
        pytest.param([0, 1], 6, 3, [0, 1], [], id="trimmed at its end"),
        pytest.param([1, 0, None], 3, 3, [1, 0, None], [2], id="replaced"),
    ],
)
def test_rows_come_from_where_their_tokens_were(
    kept: list[int | None], before: int, tokens_before: int, expected: list[int | None], new: list[int]
) -> None:
    rows = plan_rows(kept, before=before, tokens_before=tokens_before)
    assert (rows.kept, rows.new) == (expected, new)
    assert rows.changes == (expected != list(range(before)))


def test_an_id_without_a_token_is_padding_and_no_new_token() -> None:
    rows = plan_rows([0, None, 2, None, None], before=3, tokens_before=3, holes=[1, 3])
    assert (rows.kept, rows.new, rows.made) == ([0, 1, 2, None, None], [4], [3, 4])


# --- in a model -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["two matrices", "one matrix"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), tie_word_embeddings=request.param)


@pytest.fixture
def extended(base: Path, tmp_path: Path) -> ModelRef:
    """The model with three more tokens, and a row of padding behind them."""
    model = load(base)
    generator = torch.Generator().manual_seed(1)
    tied = model.config.tie_word_embeddings
    made = 0.1 * torch.randn(4, 64, generator=generator)
    output = None if tied else 0.1 * torch.randn(4, 64, generator=generator)
    folder = tmp_path / VOCABULARY
    folder.mkdir()
    rows = Rows(before=WORDS, kept=[*range(WORDS), None, None, None, None], new=NEW)
    vocabulary.save(folder, rows, (made, output), {})
    return ModelRef(weights=str(base), adapters=(folder,))


def test_old_rows_are_those_of_the_model_and_new_ones_those_that_were_made(base: Path, extended: ModelRef) -> None:
    before, after = load(base), loading.load_model(extended, torch.float32)
    assert after.config.vocab_size == WORDS + 4
    for of in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, of)().weight, getattr(after, of)().weight
        assert new.shape == (WORDS + 4, 64) and torch.equal(new[:WORDS], old)
        assert new[WORDS:].abs().sum(1).min() > 0
    assert (after.get_input_embeddings().weight is after.get_output_embeddings().weight) == (
        before.config.tie_word_embeddings
    )
    ids = torch.tensor([[5, 6, 386, 7]])
    with torch.no_grad():
        torch.testing.assert_close(after(ids).logits[:, :2, :WORDS], before(ids[:, :2]).logits)


def test_a_model_with_other_rows_can_be_saved_and_loaded(extended: ModelRef, tmp_path: Path) -> None:
    model = loading.load_model(extended, torch.float32)
    model.save_pretrained(tmp_path / "whole")
    ids = torch.tensor([[5, 384, 386, 7]])
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "whole")(ids).logits, model(ids).logits)


def test_special_tokens_are_renumbered_with_their_rows(base: Path, tmp_path: Path) -> None:
    model = load(base)
    made = torch.zeros(0, 64)
    rows = Rows(before=WORDS, kept=[2, 0, 1, *range(3, WORDS - 10)], new=[])
    vocabulary.save(tmp_path, rows, (made, None if model.config.tie_word_embeddings else made), {})
    model.generation_config.eos_token_id = [1, 2]
    changed = vocabulary.put_in(model, tmp_path)
    config = changed.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 0)
    assert changed.generation_config.eos_token_id == [2, 0]
    assert changed.get_input_embeddings().padding_idx == 0 and config.vocab_size == WORDS - 10


def test_a_vocabulary_of_another_model_is_refused(extended: ModelRef, tmp_path: Path) -> None:
    other = load(tiny_model(tmp_path / "other", hidden_size=32))
    with pytest.raises(RunError, match=r"is for a model whose embedding and head are one|rows of 32"):
        vocabulary.put_in(other, extended.vocabularies[0])


def test_damaged_rows_are_refused(extended: ModelRef, base: Path) -> None:
    (extended.vocabularies[0] / vocabulary.ROWS).write_bytes(b"x")
    with pytest.raises(RunError, match="run the tokenizer stage again"):
        vocabulary.put_in(load(base), extended.vocabularies[0])


# --- training ---------------------------------------------------------------------------------------------------------

METHODS = ("lora", "dora", "pissa", "lora+", "qlora", "trainable_tokens")


def matrices(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The input and the output matrix as the model uses them now."""
    with torch.no_grad():
        embedding = model.get_input_embeddings()
        every = embedding(torch.arange(WORDS + 4)).clone()
        return every, model.get_output_embeddings()(torch.eye(64)).T.clone()


@pytest.mark.parametrize("name", METHODS)
def test_new_rows_learn_in_both_matrices_and_old_ones_stay_to_the_bit_and_the_merged_model_is_the_adapted_one(
    extended: ModelRef, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "compute_dtype", lambda: torch.float32)
    strategy, options = BY_NAME[name], {k: v for k, v in options_of(name).items() if k != "token_indices"}
    options["new_tokens"] = vocabulary.new_tokens(extended.vocabularies)
    options |= {key: 0.0 for key in options if key == "lora_dropout"}
    base = loading.load_model(extended, torch.float32)
    before = matrices(base)
    adapted = strategy.prepare(base, options)
    plain = adapted.get_base_model()
    ids = torch.tensor([[5, 384, 9, 386, 11, 385, 384, 20]])
    labels = torch.tensor([[384, 9, 386, 11, 385, 384, 20, -100]])
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        with fused_loss(plain):
            adapted(input_ids=ids, position_ids=torch.arange(8)[None], shift_labels=labels)["loss"].backward()
        optimizer.step()
    after = matrices(plain)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[:WORDS], new[:WORDS]) and torch.equal(old[-1], new[-1]), "old rows and padding stay"
        assert (old[NEW] - new[NEW]).abs().amax(1).min() > 1e-3, "every new row has moved"
    adapted.eval()
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
    if strategy.save:
        strategy.save(adapted, options, tmp_path / "adapter")
    else:
        adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    size = sum(file.stat().st_size for file in (tmp_path / "adapter").glob("*.safetensors"))
    learnt = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert size < 4 * learnt * (2 if name == "pissa" else 1) + 8192, "no whole matrix is saved"
    again = loading.load_model(extended, torch.float32)
    if strategy.freeze:
        strategy.freeze(again, options)
        again = in_double(again).float()
    merged = loading.merge_adapter(again, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=0, atol=1e-5)
    for old, new in zip(before, matrices(merged), strict=True):
        assert torch.equal(old[:WORDS], new[:WORDS])


@pytest.mark.parametrize("option", ["modules_to_save", "target_modules"])
def test_a_matrix_that_learns_otherwise_has_no_rows_apart(tmp_path: Path, option: str) -> None:
    model = load(tiny_model(tmp_path / "model"))
    names = ["lm_head"] if option == "modules_to_save" else ["q_proj", "lm_head"]
    adapted = BY_NAME["lora"].prepare(model, options_of("lora") | {option: names, "new_tokens": [5, 6]})
    learning = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert any("embed_tokens" in name and "trainable_tokens" in name for name in learning)
    assert any("lm_head" in name for name in learning)
    assert not any("lm_head" in name and "trainable_tokens" in name for name in learning)


def test_without_new_tokens_an_adapter_is_what_it_was(base: Path) -> None:
    model = BY_NAME["lora"].prepare(load(base), options_of("lora") | {"new_tokens": []})
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)


def test_a_list_of_pefts_own_trains_the_head_too(base: Path) -> None:
    model = BY_NAME["lora"].prepare(load(base), options_of("lora") | {"trainable_token_indices": [4, 5]})
    learning = [name for name, p in model.named_parameters() if "trainable_tokens" in name and p.requires_grad]
    assert len(learning) == (1 if model.config.tie_word_embeddings else 2)
