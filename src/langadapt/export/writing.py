"""Writes a model in the formats asked for, each into a folder of its own name, aside first and renamed when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from langadapt import artifacts, loading
from langadapt.errors import UserError
from langadapt.export import FORMATS, gguf_model
from langadapt.export.source import Source
from langadapt.prompts import templates
from langadapt.rounding import round_model
from langadapt.vocabulary import rows_of

_WEIGHTS = ("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json")


def export(
    source: Source, formats: Collection[str], out: Path, *, say: Callable[[str], None] = lambda line: None
) -> Mapping[str, int]:
    """Writes the formats into folders of `out`; what cannot be written is refused before anything is.

    Args:
        source: the model.
        formats: names of `FORMATS`.
        out: folder; made when it is not there.
        say: told what is done.

    Returns:
        Bytes of each format.

    Raises:
        UserError: the model cannot be written in one of them.
        RunError: an adapter cannot be merged.
    """
    if "adapter" in formats:
        _check_adapter(source)
    tokenizer = loading.load_tokenizer(source.named.tokenizer)
    gguf = None
    if any(FORMATS[name].quantisation for name in formats):
        config = AutoConfig.from_pretrained(source.named.model.weights)
        config.vocab_size = rows_of(source.named.model.vocabularies, config.vocab_size)
        gguf = gguf_model.prepare(source, tokenizer, config, say)
    if source.format and "safetensors" in formats:
        tokenizer.chat_template = _chat_template(source, tokenizer, say)
    out.mkdir(parents=True, exist_ok=True)
    with _whole_weights(source, formats, out, say) as weights:
        for name in formats:
            say(f"writing {name}")
            with _aside(out / name) as folder:
                if name == "safetensors":
                    _write_safetensors(source, tokenizer, weights, folder)
                elif name == "adapter":
                    _write_adapter(source, folder)
                else:
                    assert gguf
                    gguf.write(weights, folder, FORMATS[name].quantisation)
    return {name: sum(artifacts.files_in(out / name).values()) for name in formats}


def _check_adapter(source: Source) -> None:
    adapters = source.named.model.adapters
    if not adapters:
        raise UserError(f"{source.name} has no adapter: its weights are whole; export safetensors")
    if source.named.model.vocabularies:
        raise UserError(
            f"the adapter of {source.name} was trained on another vocabulary than its base has, so it is of no use without "
            "its rows; export safetensors"
        )
    if len(adapters) > 1:
        raise UserError(
            f"the adapter of {source.name} was trained on weights into which earlier ones are merged ({len(adapters) - 1}), "
            "so it is of no use without them; export safetensors"
        )


def _chat_template(source: Source, tokenizer: Any, say: Callable[[str], None]) -> str | None:
    """A chat template that gives what the model was tuned on; None where there is none: another one would mislead."""
    assert source.format
    try:
        return templates.chat_template(source.format, tokenizer, source.named.system_prompt)
    except UserError as error:
        say(f"safetensors get no chat template: {error}")
        return None


@contextmanager
def _whole_weights(source: Source, formats: Collection[str], out: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """A folder of safetensors: the model's own, or one with its adapters merged that is gone after the block."""
    if not source.named.model.adapters or set(formats) <= {"adapter"}:
        yield Path(source.named.model.weights)
        return
    say(f"merging adapters: {len(source.named.model.adapters)}")
    merged = out / ".merged.partial"
    try:
        # As a merge stage does it: added in what this machine computes in, kept in 16 bits.
        round_model(loading.load_model(source.named.model), torch.bfloat16).save_pretrained(merged)
        yield merged
    finally:
        shutil.rmtree(merged, ignore_errors=True)


@contextmanager
def _aside(final: Path) -> Iterator[Path]:
    """A folder that takes the place of `final` when the block ends well, and is gone when it does not."""
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        artifacts.publish(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_safetensors(source: Source, tokenizer: Any, weights: Path, folder: Path) -> None:
    for pattern in _WEIGHTS:
        for file in weights.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    tokenizer.save_pretrained(folder)
    if source.certificate:
        artifacts.write_json(folder / "certificate.json", source.certificate)


def _write_adapter(source: Source, folder: Path) -> None:
    """A copy that names the base model as the recipe does, and not a folder of this machine."""
    (adapter,) = source.named.model.adapters
    shutil.copytree(adapter, folder, dirs_exist_ok=True)
    config = artifacts.read_json(folder / "adapter_config.json")
    named = {"base_model_name_or_path": source.named.base, "revision": source.named.revision}
    artifacts.write_json(folder / "adapter_config.json", config | named)
