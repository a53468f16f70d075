"""Hands a model to a server that others have written: `transformers serve`, or vLLM's.

Both speak OpenAI's protocol. What they need is a folder with weights, a tokenizer and a chat template; a model that has
all three is served where it lies, and of any other such a folder is made.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langadapt import artifacts
from langadapt.artifacts import ModelRef
from langadapt.corpus.cache import entry
from langadapt.errors import UserError
from langadapt.named_models import ADAPTER, NamedModel
from langadapt.plugins import registry

if TYPE_CHECKING:
    from langadapt.prompts.framing import Framing

# Modules that must be there, by server; the first of which all are is taken.
SERVERS: Mapping[str, tuple[str, ...]] = {"vllm": ("vllm",), "transformers": ("fastapi", "uvicorn", "openai")}
INSTALL = {"vllm": "pip install vllm (it wants a GPU)", "transformers": 'pip install "langadapt[serve]"'}
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's max_lora_rank may be


@dataclass(frozen=True, kw_only=True)
class Service:
    """A server that is ready to be started.

    Attributes:
        server: which.
        model: what requests are to call the model.
        folder: what is served.
        prompt: how questions are put to it, in words.
        chats: whether it has a chat template; else it only continues texts.
        command: program and arguments.
        environment: variables to be set: everything is here, so nothing is looked for on the hub or told to anyone.
    """

    server: str
    model: str
    folder: Path
    prompt: str
    chats: bool
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def choose(server: str = "") -> str:
    """The server to use: the one that is asked for, or the first that is installed.

    Raises:
        UserError: it is not installed.
    """
    ready = [name for name, modules in SERVERS.items() if all(map(find_spec, modules))]
    if server and server not in ready:
        raise UserError(f"{server} cannot serve here yet; {INSTALL[server]}")
    if not ready:
        ways = "; or ".join(INSTALL[name] for name in ("transformers", "vllm"))
        raise UserError(f"no server is installed; {ways}")
    return server or ready[0]


def service(
    named: NamedModel,
    server: str,
    *,
    folder: Path | None = None,
    prompt: str = "",
    host: str = "localhost",
    port: int = 8000,
    extra: tuple[str, ...] = (),
) -> Service:
    """Prepares what a server needs.

    Args:
        named: the model.
        server: one of `SERVERS`.
        folder: where to put a model that must be made ready; not given: in the cache.
        prompt: another prompt format than the one that the model was tuned with.
        host: where to listen.
        port: the same.
        extra: further arguments of the server's own.

    Raises:
        UserError: there is a folder already, or the prompt format cannot be written as a chat template.
    """
    from langadapt import loading
    from langadapt.prompts.framing import PLAIN, framing

    lora = _lora(named.model) if server == "vllm" else ()
    below = ModelRef(weights=named.model.weights) if lora else named.model
    tokenizer = loading.load_tokenizer(named.tokenizer)
    way = framing(named, tokenizer, registry(), prompt=prompt)
    place = _place(named, below, tokenizer, way, folder)
    # By the module, because the program of that name may be another environment's.
    program = ("vllm",) if server == "vllm" else (sys.executable, "-m", "transformers.cli.transformers")
    names: tuple[str, ...] = ()  # transformers' server calls a model by its folder
    if server == "vllm":
        adapter = ("--lora-modules", f"{named.name}={named.model.adapters[0]}") if lora else ()
        names = (*lora, *adapter) or ("--served-model-name", named.name)
    return Service(
        server=server,
        model=named.name if names else str(place),
        folder=place,
        prompt=way.why,
        chats=way.name != PLAIN,
        command=(*program, "serve", str(place), "--host", host, "--port", str(port), *names, *extra),
        environment={"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
    )


def _lora(model: ModelRef) -> tuple[str, ...]:
    """vLLM's arguments for an adapter that it takes as it is; () for one that must be merged."""
    if len(model.adapters) != 1 or model.vocabularies:
        return ()
    config = artifacts.read_json(model.adapters[0] / ADAPTER)
    rank = max([config["r"], *config.get("rank_pattern", {}).values()]) if config.get("peft_type") == "LORA" else 0
    more = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")
    if not 0 < rank <= RANKS[-1] or any(config.get(key) for key in more) or config.get("bias", "none") != "none":
        return ()
    return ("--enable-lora", "--max-lora-rank", str(next(limit for limit in RANKS if limit >= rank)))


def _place(named: NamedModel, model: ModelRef, tokenizer: Any, way: Framing, folder: Path | None) -> Path:
    """The folder to serve; made when there is none that has everything."""
    from langadapt.prompts.framing import PLAIN, TEMPLATE
    from langadapt.prompts.templates import chat_template

    whole = not model.adapters and Path(model.weights).is_dir() and named.tokenizer == model.weights
    if whole and way.name in (TEMPLATE, PLAIN) and folder is None:
        return Path(model.weights)
    if way.name not in (TEMPLATE, PLAIN):
        system_prompt = named.system_prompt if way.name == named.prompt else ""
        tokenizer.chat_template = chat_template(registry().prompts[way.name], tokenizer, system_prompt)
    if folder is not None:
        if folder.exists():
            raise UserError(f"{folder} is there already; choose another folder, or remove it")
        _make(model, tokenizer, way, folder)
        return folder
    kept = entry("served", named.name, _ingredients(named, model, tokenizer))
    with kept.used():
        if not kept.is_there:
            _make(model, tokenizer, way, kept.path)
            kept.describe()
    return kept.path


def _ingredients(named: NamedModel, model: ModelRef, tokenizer: Any) -> dict[str, str]:
    return {
        "weights": _digest(Path(model.weights)),
        "adapters": artifacts.digest([_digest(adapter) for adapter in model.adapters]),
        "tokenizer": _digest(Path(named.tokenizer)),
        "chat template": artifacts.digest(tokenizer.chat_template),
    }


def _digest(place: Path) -> str:
    """Of names, sizes and times of change: contents may be many gigabytes."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return artifacts.digest([(str(file.resolve()), *artifacts.stamp_of(file)) for file in files if file.is_file()])


def _make(model: ModelRef, tokenizer: Any, way: Framing, folder: Path) -> None:
    """A folder with weights, tokenizer and template; the weights of a model that is whole are linked to.

    What is written is put in its place when it is complete.
    """
    from transformers import AutoConfig, GenerationConfig

    from langadapt.prompts.framing import endings

    aside = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.partial")
    try:
        aside.mkdir(parents=True)
        if model.adapters or not Path(model.weights).is_dir():
            _merge(model, aside)
        else:
            _link(Path(model.weights), aside)
        try:
            generation = GenerationConfig.from_pretrained(aside)
        except OSError:  # it has none
            generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(aside))
        generation.eos_token_id, stops = endings(way, tokenizer, generation)
        generation.stop_strings = stops or None
        generation.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        folder.mkdir(parents=True, exist_ok=True)
        for file in aside.iterdir():
            file.replace(folder / file.name)
    except OSError as error:
        raise UserError(f"{folder}: the model cannot be written there ({error}); name another with --folder") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _merge(model: ModelRef, folder: Path) -> None:
    """Whole weights in bfloat16, as the stage `merge` writes them."""
    import torch

    from langadapt import loading
    from langadapt.rounding import round_model

    round_model(loading.load_model(model, to=torch.device("cpu")), torch.bfloat16).save_pretrained(folder)


def _link(weights: Path, folder: Path) -> None:
    """The same files; small ones are copied, because some are written to."""
    for file in weights.iterdir():
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file.resolve())
        elif file.suffix in (".json", ".model", ".jinja", ".txt"):
            with suppress(shutil.SameFileError):
                shutil.copyfile(file, folder / file.name)
