"""The audit of special tokens: a sound tokenizer is left in peace, and every planted fault is found and told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from langadapt import Recipe, UserError
from langadapt.tokenizer.auditing import Finding, Subject, audit, audit_place
from langadapt.tokenizer.files import TokenizerFiles, read_files
from langadapt.tokenizer.rows import Matrix, Rows, read_rows
from langadapt.tokenizer.undertrained import undertrained

TOKENS = ["<s>", "</s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "a", "b", "ab", "c"]
SPECIAL = TOKENS[:6]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BEFORE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
}
BEHIND = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
    "pair": [],
    "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
}
ROWS = torch.arange(1, len(TOKENS) * 8 + 1, dtype=torch.float32).reshape(len(TOKENS), 8).sin() + 2


def tokenizer_json(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
            for id, token in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {"type": "Sequence", "processors": [BEFORE]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: id for id, token in enumerate(TOKENS)}, "merges": [["a", "b"]]},
    }  # fmt: skip
    return made | changes


CONFIG = {"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<pad>", "chat_template": CHATML}
MODEL = {"vocab_size": len(TOKENS), "bos_token_id": 0, "eos_token_id": 5, "pad_token_id": 2}
GENERATION = {"eos_token_id": [5]}


@pytest.fixture
def base(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model's folder that is in order, but for what is changed."""

    def write(
        *,
        tokenizer: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        generation: dict[str, Any] | None = None,
        rows: torch.Tensor | None = ROWS,
        head: torch.Tensor | None = ROWS,
    ) -> Path:
        files = {
            "tokenizer.json": tokenizer or tokenizer_json(),
            "tokenizer_config.json": CONFIG | (config or {}),
            "config.json": MODEL | (model or {}),
            "generation_config.json": GENERATION if generation is None else generation,
        }
        for name, content in files.items():
            kept = {key: value for key, value in content.items() if value is not ...}
            (tmp_path / name).write_text(json.dumps(kept), encoding="utf-8")
        if rows is not None:
            tensors = {"model.embed_tokens.weight": rows, "lm_head.weight": head}
            save_file({k: v.clone() for k, v in tensors.items() if v is not None}, tmp_path / "model.safetensors")
        return tmp_path

    return write


def kinds(place: Path) -> list[str]:
    return [finding.kind for finding in audit_place(place)]


def changed(number: int, value: float) -> torch.Tensor:
    rows = ROWS.clone()
    rows[number] = value
    return rows


def vocabulary(**more: int) -> dict[str, Any]:
    made = tokenizer_json()
    made["model"]["vocab"] |= more
    return made


def test_nothing_is_found_in_a_sound_tokenizer(base: Callable[..., Path]) -> None:
    assert audit_place(base()) == []


OPENED = "<s>" + CHATML
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "bos-doubled": ({"config": {"chat_template": "{{ bos_token }}" + CHATML}}, "<s>"),
    "eos-doubled": (
        {"tokenizer": tokenizer_json(post_processor=BEHIND), "config": {"eos_token": "</s>",
         "chat_template": "<s>" + CHATML + "</s>"}, "generation": {"eos_token_id": [1, 5]}}, "</s>"),
    "bos-missing": ({"tokenizer": tokenizer_json(post_processor=None)}, "<s>"),
    "eos-appended": (
        {"tokenizer": tokenizer_json(post_processor=BEHIND), "config": {"eos_token": "</s>", "chat_template": OPENED},
         "generation": {"eos_token_id": [1, 5]}}, "</s>"),
    "eos-none": ({"config": {"eos_token": ...}}, "EOS"),
    "special-missing": ({"config": {"eos_token": "<|eot_id|>"}}, "<|eot_id|>"),
    "pad-is-eos": ({"config": {"pad_token": "<|im_end|>"}, "model": {"pad_token_id": 5}}, "<|im_end|>"),
    "eos-differs": ({"model": {"eos_token_id": 1}, "generation": {}}, "has the id 5"),
    "bos-differs": ({"model": {"bos_token_id": 4}}, "has the id 0"),
    "pad-differs": ({"model": {"pad_token_id": 3}}, "has the id 2"),
    "answer-not-ended": ({"config": {"chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}"}}, "answer"),
    "stop-differs": ({"config": {"eos_token": "</s>"}, "model": {"eos_token_id": 1}, "generation": {"eos_token_id": 1}},
                     "<|im_end|>"),
    "template-tokens": ({"config": {"chat_template": CHATML + "<|eot_id|>"}}, "<|eot_id|>"),
    "template-fails": ({"config": {"chat_template": CHATML + "{{ raise_exception('no') }}"}}, "rendered"),
    "ids-beyond-rows": ({"tokenizer": vocabulary(zz=10)}, "zz"),
    "rows-padded": ({"rows": torch.cat([ROWS, ROWS[:2]]), "head": torch.cat([ROWS, ROWS[:2]]),
                     "model": {"vocab_size": 12}}, "12 rows"),
    "rows-differ": ({"head": ROWS[:9]}, "9 rows"),
    "zero-rows": ({"rows": changed(5, 0.0)}, "<|im_end|>"),
    "tiny-rows": ({"head": changed(4, 0.001)}, "<|im_start|>"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_found_and_named(kind: str, base: Callable[..., Path]) -> None:
    changes, word = FAULTS[kind]
    found = {finding.kind: finding for finding in audit_place(base(**changes))}
    assert kind in found, list(found)
    told = found[kind]
    assert word in told.what and told.where and told.why and told.do
    assert set(found) <= {kind, *ALONG.get(kind, ())}, "one fault is told once"


ALONG = {  # what a fault brings with it
    "eos-doubled": ("eos-appended", "bos-missing"),
    "eos-appended": ("bos-missing",),
    "special-missing": ("eos-differs",),
    "eos-differs": ("stop-differs",),
    "rows-differ": ("ids-beyond-rows",),
}


def test_the_row_of_padding_may_be_zero(base: Callable[..., Path]) -> None:
    assert kinds(base(rows=changed(2, 0.0), head=changed(2, 0.0))) == []


def test_what_cannot_work_stands_first(base: Callable[..., Path]) -> None:
    found = audit_place(base(config={"eos_token": ..., "pad_token": "<s>"}, rows=changed(5, 0.0)))
    weights = [finding.weight for finding in found]
    assert weights == sorted(weights, key=["error", "warning", "note"].index) and weights[0] == "error"


def test_ids_that_depend_on_who_loads_the_tokenizer_are_told() -> None:
    files = TokenizerFiles(name="x", vocabulary={"</s>": 0}, special={"eos": "</s>"})
    same, other = {"a": [1, 2], "b": [1, 2]}, {"a": [1, 2], "b": [1, 3]}
    assert [f.kind for f in audit(Subject(files=files, ids=same))] == []
    assert [f.kind for f in audit(Subject(files=files, ids=other))] == ["loads-differently"]


def test_an_answer_may_end_with_a_token_that_only_generation_knows(base: Callable[..., Path]) -> None:
    place = base(config={"eos_token": "</s>"}, model={"eos_token_id": 1}, generation={"eos_token_id": [1, 5]})
    assert kinds(place) == []


def test_a_template_of_its_own_file_counts(base: Callable[..., Path]) -> None:
    place = base(config={"chat_template": ...})
    (place / "chat_template.jinja").write_text(CHATML + "<|eot_id|>", encoding="utf-8")
    assert kinds(place) == ["template-tokens"]


def test_a_template_cannot_do_anything_but_write(base: Callable[..., Path], tmp_path: Path) -> None:
    spy = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    assert kinds(base(config={"chat_template": spy + CHATML})) == ["template-fails"]


def test_the_sentence_says_what_where_why_and_what_to_do() -> None:
    told = Finding(kind="k", weight="note", where="here", what="this is so", why="it matters", do="do that")
    assert str(told) == "this is so (here): it matters; do that"


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_gguf_file_says_the_same_as_a_folder(base: Callable[..., Path], tmp_path: Path) -> None:
    folder, file = base(), tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 6 + [1] * 4)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(5)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHATML)
    writer.add_tensor("token_embd.weight", ROWS.numpy())
    writer.add_tensor("output.weight", changed(5, 0.0).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours, theirs = read_files(folder), read_files(file)
    assert ours and theirs
    for name in ("vocabulary", "control", "special", "before", "after", "template", "rows"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert kinds(file) == ["zero-rows"]


def test_a_folder_without_a_tokenizer_says_nothing(tmp_path: Path) -> None:
    assert read_files(tmp_path) is None and audit_place(tmp_path) == []
    (tmp_path / "tokenizer.json").write_text("not json")
    assert read_files(tmp_path) is None


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_are_those_of_the_weights(dtype: torch.dtype, base: Callable[..., Path]) -> None:
    wanted = ROWS.to(dtype)
    found = read_rows(base(rows=wanted, head=wanted * 2))
    assert found and found.output
    assert np.array_equal(found.input.read(0, 10), wanted.float().numpy())
    assert np.array_equal(found.output.row(7), (wanted[7] * 2).float().numpy())
    assert found.input.norms == pytest.approx(wanted.float().norm(dim=1).numpy(), rel=1e-6)


def test_rows_in_several_files_are_found_and_tied_ones_are_one(base: Callable[..., Path]) -> None:
    folder = base(rows=None, model={"tie_word_embeddings": True})
    save_file({"model.embed_tokens.weight": ROWS}, folder / "one.safetensors")
    save_file({"lm_head.weight": ROWS, "model.norm.weight": ROWS[0].clone()}, folder / "two.safetensors")
    index = {"model.embed_tokens.weight": "one.safetensors", "lm_head.weight": "two.safetensors",
             "model.norm.weight": "lost.safetensors"}  # fmt: skip
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    found = read_rows(folder)
    assert found and found.output is None and found.matrices == (found.input,)


def test_weights_that_cannot_be_read_are_refused_with_their_place(base: Callable[..., Path]) -> None:
    folder = base()
    (folder / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(UserError, match="its weights cannot be read"):
        read_rows(folder)
    assert audit_place(folder) == [], "whoever loads the weights tells it"
    save_file({"model.norm.weight": ROWS[0].clone()}, folder / "model.safetensors")
    assert read_rows(folder) is None, "a norm is no embedding"


def matrix(values: np.ndarray) -> Matrix:
    return Matrix(name="m", rows=len(values), width=values.shape[1], read=lambda first, last: values[first:last])


def test_short_rows_are_under_trained_where_input_and_output_differ() -> None:
    values = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    values[190:] *= 0.01  # never seen
    values[[5, 60]] *= 0.005
    rows = Rows(input=matrix(values), output=matrix(values))
    found = undertrained(rows, ids=range(190), unused=range(190, 200))
    assert found.indicator == "length of the input row" and found.ids == tuple(sorted((5, 60), key=found.ids.index))
    assert set(found.ids) == {5, 60} and found.reference == 10 and not found.unsure


def test_rows_that_point_where_unused_ones_do_are_under_trained_where_they_are_tied() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(200, 16)).astype(np.float32)
    values[190:] = 1 + 0.05 * random.normal(size=(10, 16))
    values[7] = 1.0  # the mean of them
    found = undertrained(Rows(input=matrix(values), output=None), ids=range(190), unused=range(190, 200))
    assert found.indicator == "distance to the mean of unused rows" and found.ids == (7,)


def test_nothing_is_told_where_unused_rows_are_unknown_or_like_others() -> None:
    values = np.random.default_rng(2).normal(size=(50, 16)).astype(np.float32)
    rows = Rows(input=matrix(values), output=matrix(values))
    assert undertrained(rows, ids=range(50), unused=[]).unsure == "no row is known to be unused"
    alike = undertrained(rows, ids=range(40), unused=range(40, 50))
    assert "do not differ" in alike.unsure and alike.ids == ()


# --- in a plan --------------------------------------------------------------------------------------------------------

RECIPE = """
schema = 1
name = "audited"
language = "it"
base_model = "{base}"
[evaluation]
automatic = false
[[stage]]
id = "adapt"
kind = "cpt"
corpus = ["clean-mc4-it"]
"""


def test_a_plan_warns_of_what_its_base_suffers_from(base: Callable[..., Path], write: Callable[..., Path]) -> None:
    folder = base(config={"eos_token": "</s>"}, model={"eos_token_id": 1}, generation={"eos_token_id": 1})
    recipe = write("recipe.toml", RECIPE.format(base=folder))
    said = [w for w in Recipe.load(recipe).plan().warnings if "chat template" in w]
    assert len(said) == 1 and "<|im_end|>" in said[0] and "generation_config.json" in said[0]
    base(config={"pad_token": "<|im_end|>"}, model={"pad_token_id": 5})
    assert not [w for w in Recipe.load(recipe).plan().warnings if "PAD" in w], "a note is for the report alone"
