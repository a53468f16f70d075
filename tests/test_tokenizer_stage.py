"""Whole runs with a changed vocabulary: it is measured, nothing of it is lost, and every later stage works with it."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_export import file_in, llama_cpp, needs_runtime
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from langadapt import Recipe, UserError, loading
from langadapt.artifacts import ModelRef
from langadapt.export.source import find as source_of
from langadapt.export.writing import export
from langadapt.named_models import find
from langadapt.testing import tiny_model

RECIPE = """
schema = 1
name = "tiny"
language = "it"
base_model = "{folder}/model"
[evaluation]
suites = []

[[stage]]
id = "vocabulary"
kind = "tokenizer"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0.2 }}]
source = "{folder}/english.jsonl"
[stage.tokenizer]
strategy = "extend"
tokens = 60
min_frequency = 3
multiple_of = 1

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{folder}/text.jsonl", held_out = 0.2 }}]
[stage.peft]
method = "qlora"
r = 4
[stage.training]
learning_rate = 1e-2
learning_rates = {{ "*trainable_tokens*" = 3e-2 }}
unfreeze = {{ "*lora_*" = 2 }}
max_steps = 4
max_length = 64
per_device_train_batch_size = 2
logging_steps = 1

[[stage]]
id = "release"
kind = "merge"

[[stage]]
id = "files"
kind = "export"
formats = ["gguf-f16", "safetensors"]
"""
WHO = ("la pescatrice", "il falegname", "una vicina", "il maestro", "la dottoressa", "un ragazzo")
DOES = ("ripara", "racconta", "ascolta", "restituisce", "dimentica", "disegna")
WHAT = ("la finestra azzurra", "una vecchia storia", "il concerto di domenica", "la bicicletta", "i quaderni del nonno")
PROBE = ("Perché la pescatrice racconta una vecchia storia?  È così: 3.14, don't ÀÉÎ 日本 🙂…", "<s>a</s>", "")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny_model(folder / "model", words=320)
    texts = [f"Ogni mattina {' '.join(words)}." for words in itertools.product(WHO, DOES, WHAT)]
    english = [f"Line {number} tells of a window and an old story." for number in range(60)]
    for name, some in (("text", texts), ("english", english)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> Path:
    Recipe.load(place / "recipe.toml").execute(place / "run")
    return place / "run"


def rows(run: Path, **wanted: str) -> list[dict[str, Any]]:
    found = json.loads((run / "report.json").read_text())
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_the_vocabulary_loads_with_the_libraries_alone_and_old_ids_are_as_they_were(place: Path, done: Path) -> None:
    folder = done / "stages/vocabulary/vocabulary"
    before, after = AutoTokenizer.from_pretrained(place / "model"), AutoTokenizer.from_pretrained(folder)
    alone = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len(after) == len(before) + 60 and before.get_vocab().items() <= after.get_vocab().items()
    for text in PROBE:
        assert ids(after, text) == alone.encode(text, add_special_tokens=False).ids
        assert after.decode(ids(after, text)) == text
    assert len(ids(after, PROBE[0])) < len(ids(before, PROBE[0]))
    about = json.loads((folder / "vocabulary.json").read_text())
    assert about["new"] == list(range(len(before), len(before) + 60))


def test_the_report_says_how_text_is_cut_before_and_after(done: Path) -> None:
    target = {row["stage"]: row["value"] for row in rows(done, suite="tokenizer", metric="fertility", language="it")}
    assert target["vocabulary"] < 0.7 * target["base"]
    (unreachable,) = rows(done, metric="unreachable")
    violations = rows(done, metric="boundary_violations")
    assert unreachable["value"] == 0 and {row["language"] for row in violations} == {"it", "en"}
    assert all(row["value"] == 0 for row in violations)
    (used,) = rows(done, metric="used")
    tokenizer = AutoTokenizer.from_pretrained(done / "stages/vocabulary/vocabulary")
    texts = [json.loads(line)["text"] for line in (done.parent / "text.jsonl").read_text().splitlines()]
    anywhere = {id for text in texts for id in ids(tokenizer, text)} & set(range(len(tokenizer) - 60, len(tokenizer)))
    assert used["n"] == 60 and 0.3 < used["value"] <= len(anywhere) / 60
    (lines,) = rows(done, metric="lines_changed")
    assert 0 <= lines["value"] <= 1 and lines["n"] > 0


def test_bits_per_byte_are_measured_by_each_models_own_tokenizer(done: Path) -> None:
    text = {row["stage"]: row for row in rows(done, metric="bits_per_byte")}
    assert set(text) == {"base", "vocabulary", "adapt"}
    assert (
        text["vocabulary"]["tokens"] < text["base"]["tokens"] and text["vocabulary"]["bytes"] == text["base"]["bytes"]
    )
    assert text["adapt"]["value"] < text["vocabulary"]["value"]


def test_new_rows_have_learnt_and_every_artifact_has_them(place: Path, done: Path) -> None:
    before = AutoModelForCausalLM.from_pretrained(place / "model", dtype=torch.float32)
    words = before.config.vocab_size
    start = loading.load_model(
        ModelRef(weights=str(place / "model"), adapters=find(f"{done}:vocabulary").model.adapters)
    )
    shipped = AutoModelForCausalLM.from_pretrained(done / "stages/release/model", dtype=torch.float32)
    for of in ("get_input_embeddings", "get_output_embeddings"):
        old, new, trained = (getattr(model, of)().weight for model in (before, start.float(), shipped))
        assert new.shape == trained.shape == (words + 60, 64)
        assert torch.equal(new[:words], old) and torch.equal(trained[:words], old), "old rows stay to the bit"
        assert (trained[words:] - new[words:]).abs().max() > 1e-3
    adapter = load_file(done / "stages/adapt/adapter/adapter_model.safetensors")
    assert sum(value.shape[0] == 60 for value in adapter.values()) == 2, "rows of both matrices"
    assert not any(value.shape[0] >= words for value in adapter.values()), "and no whole matrix"
    on_base = PeftModel.from_pretrained(start.float(), str(done / "stages/adapt/adapter")).eval()
    probe = torch.tensor([ids(AutoTokenizer.from_pretrained(done / "stages/release/model"), PROBE[0])])
    with torch.no_grad():
        close = torch.nn.functional.kl_div(
            shipped(probe).logits.log_softmax(-1), on_base(probe).logits.log_softmax(-1), log_target=True
        )
    assert close < 1e-3
    metrics = next(s for s in json.loads((done / "run.json").read_text())["stages"] if s["id"] == "release")["metrics"]
    assert metrics["adapters"] == 1 and metrics["kl_sixteen_bit"] < 1e-3


def test_what_is_named_and_what_is_exported_has_the_new_tokenizer(done: Path) -> None:
    expected = ids(AutoTokenizer.from_pretrained(done / "stages/vocabulary/vocabulary"), PROBE[0])
    for place in (find(f"{done}:adapt").tokenizer, done / "stages/release/model", done / "stages/files/safetensors"):
        assert ids(AutoTokenizer.from_pretrained(place), PROBE[0]) == expected, place


def test_an_adapter_that_was_not_merged_is_exported_with_its_rows(done: Path, tmp_path: Path) -> None:
    export(source_of(f"{done}:adapt"), ["gguf-f16"], tmp_path)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file_in(tmp_path / "gguf-f16")).tensors}
    words = len(AutoTokenizer.from_pretrained(done / "stages/vocabulary/vocabulary"))
    assert tensors["token_embd.weight"].shape[1] == words


@needs_runtime
def test_llama_cpp_cuts_text_as_the_new_tokenizer_does(place: Path, done: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(done / "stages/vocabulary/vocabulary")
    texts = [json.loads(line)["text"] for line in (place / "text.jsonl").read_text().splitlines()] + [PROBE[0]]
    (answer,) = llama_cpp(
        {"file": str(file_in(done / "stages/files/gguf-f16")), "texts": texts, "prompts": [], "tokens": 0}
    )
    assert answer["texts"] == [ids(tokenizer, text) for text in texts]


def test_a_second_run_does_nothing_again_and_another_strategy_does(place: Path, done: Path) -> None:
    assert {stage.status for stage in Recipe.load(place / "recipe.toml").plan(done).stages} == {"cached"}
    plan = Recipe.load(place / "recipe.toml", ["vocabulary.tokenizer.tokens=61"]).plan(done)
    reasons = {stage.id: stage.reason for stage in plan.stages if stage.status != "cached"}
    assert reasons["vocabulary"] == "tokenizer.tokens: 60 → 61" and "model of vocabulary" in reasons["adapt"]


def test_the_plan_sizes_later_stages_with_the_new_rows(place: Path, tmp_path: Path) -> None:
    def plan(*overrides: str) -> dict[str, Any]:
        return {s.id: s for s in Recipe.load(place / "recipe.toml", overrides).plan(tmp_path).stages}

    grown, kept = plan(), plan('vocabulary.tokenizer={ strategy = "keep" }', "adapt.training.learning_rates={}")
    assert grown["adapt"].estimate.peak > kept["adapt"].estimate.peak
    (said,) = (note for note in grown["vocabulary"].notes if "tokens a word" in note)
    before, after = map(float, re.findall(r"\d\.\d\d", said))
    assert after < before
    more = 60 * 64 * 2
    assert any(note.startswith(f"{(more + 5440) / 1e6:,.1f} M") for note in grown["adapt"].notes) or (
        grown["adapt"].estimate.disk - kept["adapt"].estimate.disk == 28 * more
    )


def test_a_kept_vocabulary_leaves_nothing_and_later_stages_start_from_the_base(place: Path, tmp_path: Path) -> None:
    overrides = [
        'vocabulary.tokenizer={ strategy = "keep" }',
        "adapt.training.learning_rates={}",
        "adapt.training.unfreeze={}",
        'stages=["vocabulary", "adapt"]',
    ]
    Recipe.load(place / "recipe.toml", [*overrides, "evaluation.automatic=false"]).execute(tmp_path / "run")
    assert [file.name for file in (tmp_path / "run/stages/vocabulary").iterdir()] == ["stage.json"]
    model = find(f"{tmp_path / 'run'}:adapt")
    assert model.model.vocabularies == () and model.tokenizer == str(place / "model")


def test_a_tokenizer_of_any_kind_can_be_kept(place: Path, tmp_path: Path) -> None:
    other_kind(tmp_path)
    overrides = [f"base_model={tmp_path / 'model'}", 'vocabulary.tokenizer={ strategy = "keep" }']
    overrides += ['stages=["vocabulary"]', "evaluation.automatic=false"]
    run = Recipe.load(place / "recipe.toml", overrides).execute(tmp_path / "run")
    assert run.state["stages"][0]["metrics"] == {"new_tokens": 0}


def other_kind(folder: Path) -> None:
    """A model with a tokenizer that is no BPE."""
    tiny_model(folder / "model")
    words = {word: number for number, word in enumerate(("<s>", "</s>", "<pad>", "[UNK]", "la"))}
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder / "model")


def test_padding_of_the_model_is_used_before_it_grows(place: Path, tmp_path: Path) -> None:
    padded = AutoModelForCausalLM.from_pretrained(place / "model", dtype=torch.float32)
    words = padded.config.vocab_size
    padded.resize_token_embeddings(words + 100)
    padded.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(place / "model").save_pretrained(tmp_path / "model")
    overrides = [f"base_model={tmp_path / 'model'}", 'stages=["vocabulary"]', "evaluation.automatic=false"]
    Recipe.load(place / "recipe.toml", overrides).execute(tmp_path / "run")
    start = loading.load_model(find(f"{tmp_path / 'run'}:vocabulary").model, torch.float32)
    old, new = padded.get_input_embeddings().weight, start.get_input_embeddings().weight
    assert new.shape == old.shape
    assert torch.equal(new[:words], old[:words]) and torch.equal(new[words + 60 :], old[words + 60 :])
    assert not torch.equal(new[words : words + 60], old[words : words + 60])


def test_text_on_an_amount_is_the_same_under_both_tokenizers(place: Path, done: Path, tmp_path: Path) -> None:
    """`max_bytes` counts text, so a tokenizer with longer tokens takes fewer steps for it."""
    common = ["adapt.training.max_steps=-1", "adapt.training.max_bytes=3000", "adapt.training.unfreeze={}"]
    common += ["adapt.training.learning_rates={}", 'stages=["vocabulary", "adapt"]', "evaluation.automatic=false"]
    kept = 'vocabulary.tokenizer={ strategy = "keep" }'
    found = []
    for name, more in (("grown", []), ("kept", [kept])):
        run = Recipe.load(place / "recipe.toml", [*common, *more]).execute(tmp_path / name)
        found.append(next(stage for stage in run.state["stages"] if stage["id"] == "adapt"))
    grown, kept_ = found
    assert grown["accounting"]["documents"] == kept_["accounting"]["documents"]
    assert 3000 <= grown["accounting"]["bytes"]["kept"] < 3000 * 1.4, "with what is held out beside"
    assert grown["metrics"]["steps"] < 0.8 * kept_["metrics"]["steps"]


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(place: Path, folder: Path, *overrides: str) -> str:
    overrides = (*overrides, 'stages=["vocabulary"]', "evaluation.automatic=false")
    with pytest.raises(UserError) as error:
        Recipe.load(place / "recipe.toml", list(overrides)).execute(folder / "run")
    left = [path for path in (folder / "run/stages").glob("*") if any(path.rglob("*"))]
    assert not left, "nothing is written"
    return str(error.value)


def test_too_little_text_is_refused_with_what_it_would_give(place: Path, tmp_path: Path) -> None:
    said = refused(place, tmp_path, "vocabulary.tokenizer.tokens=5000")
    assert "5,000 new tokens are asked for" in said and "can be learnt" in said


def test_a_tokenizer_that_is_no_bpe_is_refused(place: Path, tmp_path: Path) -> None:
    other_kind(tmp_path)
    assert "its model is WordPiece and not BPE" in refused(place, tmp_path, f"base_model={tmp_path / 'model'}")


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused(place: Path, tmp_path: Path) -> None:
    tiny_model(tmp_path / "model", words=320)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(tmp_path / "model")
    assert "do not belong together" in refused(place, tmp_path, f"base_model={tmp_path / 'model'}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("vocabulary.tokenizer.strategy=extent", "extend"),
        ("vocabulary.tokenizer.token=5", "tokens"),
        ("vocabulary.tokenizer.tokens=0", "tokens"),
        ("vocabulary.embeddings.init=subtoken-meen", "subtoken-mean"),
        ("vocabulary.embeddings.word=1", "unknown key"),
        ("adapt.training.max_bytes=100", "max_steps says already"),
    ],
)
def test_slips_are_told_with_the_recipe(place: Path, override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Recipe.load(place / "recipe.toml", [override])


def test_an_adapter_on_another_vocabulary_is_not_exported_alone(place: Path, tmp_path: Path) -> None:
    plan = Recipe.load(place / "recipe.toml", ['files.formats=["adapter"]', 'files.from="adapt"']).plan(tmp_path)
    assert any("changed by vocabulary" in problem for problem in plan.problems)
