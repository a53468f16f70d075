"""Serving: which server is used, what is prepared for it, and the command that starts it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from langadapt import UserError, plugins, serving
from langadapt.cli import cli
from langadapt.corpus.cache import entries
from langadapt.loading import load_model
from langadapt.named_models import NamedModel, find
from langadapt.prompts.rendering import encode
from langadapt.records import Message
from langadapt.stages.trained import prompt_ingredient
from langadapt.testing import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("place") / "model")


def adapter(model: Path, folder: Path, **options: object) -> Path:
    """An adapter that changes what the model says, in the folder of a stage that has tuned it."""
    base = AutoModelForCausalLM.from_pretrained(model)
    tuned = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"], **options))  # type: ignore[arg-type]
    torch.manual_seed(1)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    tuned.save_pretrained(folder / "adapter")
    ingredients = {
        "prompt": "chatml",
        "system_prompt": "Sii breve.",
        "prompt rendering": prompt_ingredient("chatml", plugins.registry()),
    }
    (folder / "stage.json").write_text(json.dumps({"id": "tuned", "from": "base", "ingredients": ingredients}))
    return folder


@pytest.fixture(scope="module")
def tuned(model: Path) -> NamedModel:
    return find(str(adapter(model, model.parent / "tuned", r=12)))


def test_a_server_that_is_not_installed_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = set()
    monkeypatch.setattr(serving, "find_spec", lambda name: name in there or None)
    with pytest.raises(UserError, match=r"langadapt\[serve\].*pip install vllm"):
        serving.choose()
    there |= {"fastapi", "uvicorn", "openai"}
    assert serving.choose() == "transformers"
    with pytest.raises(UserError, match="vllm cannot serve here yet; pip install vllm"):
        serving.choose("vllm")
    there.add("vllm")
    assert serving.choose() == "vllm" and serving.choose("transformers") == "transformers"


def test_an_adapter_is_served_merged_with_the_template_of_its_format_and_made_once(tuned: NamedModel) -> None:
    service = serving.service(tuned, "transformers", port=8123, extra=("--log-level", "info"))
    start = (sys.executable, "-m", "transformers.cli.transformers", "serve", str(service.folder))
    assert service.command == (*start, "--host", "localhost", "--port", "8123", "--log-level", "info")
    assert service.model == str(service.folder) and service.chats and service.environment["HF_HUB_OFFLINE"] == "1"
    tokenizer = AutoTokenizer.from_pretrained(service.folder)
    asked = [Message(role="user", content="Che si vede?")]
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Che si vede?"}], tokenize=False)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert ids == encode(plugins.registry().prompts["chatml"], asked, tokenizer, "Sii breve.").ids.tolist()
    given = torch.tensor([ids])
    served = AutoModelForCausalLM.from_pretrained(service.folder, dtype=torch.float32)(given).logits
    base = AutoModelForCausalLM.from_pretrained(tuned.model.weights, dtype=torch.float32)(given).logits
    merged = load_model(tuned.model, torch.float32)(given).logits
    assert (served - merged).abs().max() < 0.1 * (served - base).abs().max()
    assert GenerationConfig.from_pretrained(service.folder).stop_strings == ["<|im_end|>"], "no token of this tokenizer"
    made = (service.folder / "model.safetensors").stat().st_mtime_ns
    again = serving.service(tuned, "transformers")
    assert again.folder == service.folder and (again.folder / "model.safetensors").stat().st_mtime_ns == made
    assert [kept.label for kept in entries("served")] == [tuned.name]


def test_a_model_that_has_everything_is_served_where_it_lies(model: Path, tmp_path: Path) -> None:
    service = serving.service(find(str(model)), "transformers")
    assert service.folder == model and not service.chats
    chatty = tmp_path / "chatty"
    shutil.copytree(model, chatty)
    (chatty / "chat_template.jinja").write_text("{{ messages[0].content }}")
    service = serving.service(find(str(chatty)), "vllm")
    assert service.folder == chatty and service.chats
    assert service.command[-2:] == ("--served-model-name", str(chatty))


def test_vllm_takes_a_plain_adapter_beside_its_base_and_any_other_merged(
    model: Path, tuned: NamedModel, tmp_path: Path
) -> None:
    service = serving.service(tuned, "vllm")
    assert service.command[:2] == ("vllm", "serve") and service.model == tuned.name
    lora = ("--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"{tuned.name}={tuned.model.adapters[0]}")
    assert service.command[-5:] == lora
    weights = service.folder / "model.safetensors"
    assert weights.is_symlink() and weights.resolve() == model.resolve() / "model.safetensors"
    assert AutoTokenizer.from_pretrained(service.folder).chat_template
    dora = find(str(adapter(model, tmp_path / "dora", r=4, use_dora=True)))
    service = serving.service(dora, "vllm", folder=tmp_path / "made")
    assert "--enable-lora" not in service.command and service.folder == tmp_path / "made"
    assert not (service.folder / "model.safetensors").is_symlink()
    with pytest.raises(UserError, match="is there already"):
        serving.service(dora, "vllm", folder=tmp_path / "made")


def test_the_command_is_printed_as_it_would_be_run(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "find_spec", lambda name: True)
    started = []
    monkeypatch.setattr("os.execvpe", lambda file, command, environment: started.append((file, command, environment)))
    said = CliRunner().invoke(cli, ["serve", str(model), "--with", "transformers", "--", "--log-level", "info"])
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith(f"HF_HUB_OFFLINE=1 DO_NOT_TRACK=1 {sys.executable} -m transformers.cli.transformers")
    assert said.stdout.endswith(f"serve {model} --host localhost --port 8000 --log-level info\n")
    assert "/v1/completions" in said.stderr
    ((file, command, environment),) = started
    assert file == sys.executable and command[-2:] == ("--log-level", "info")
    assert environment["HF_HUB_OFFLINE"] == "1" and "PATH" in environment
    CliRunner().invoke(cli, ["serve", str(model), "--no-start"], catch_exceptions=False)
    assert len(started) == 1
