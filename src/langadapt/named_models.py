"""Models that commands name: whatever a run leaves, adapters, and what recipes take as a base.

| `MODEL` | what it is |
|---|---|
| `runs/x` | the last model of a run |
| `runs/x:STAGE` | the model of a stage; `base` is the one that the run starts from |
| `runs/x/stages/STAGE`, its `adapter` or `model` | the same |
| another folder | an adapter with `adapter_config.json`, or a model with `config.json` |
| `owner/name`, `file.gguf`, `package:NAME/FILE` | as a recipe's `base_model`; on the hub also an adapter |
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langadapt import artifacts
from langadapt.artifacts import ModelRef
from langadapt.errors import UserError, nearest
from langadapt.models import find_model
from langadapt.recipe import BASE

ADAPTER = "adapter_config.json"  # what makes a folder an adapter of PEFT's


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model that is at hand, and how it was tuned as far as that is known.

    Attributes:
        name: as its user named it, with the stage where a run's folder was named.
        model: weights and adapters, all on this machine.
        tokenizer: folder or GGUF file that holds the tokenizer.
        prompt: prompt format of the stage that tuned it last; "" when none did.
        system_prompt: of that stage.
        rendering: what that format made of a fixed dialogue then, as `prompt_ingredient` has it.
    """

    name: str
    model: ModelRef
    tokenizer: str
    prompt: str = ""
    system_prompt: str = ""
    rendering: str = ""


def find(reference: str, *, base: str = "") -> NamedModel:
    """The model that a reference names; one on the hub is fetched.

    Args:
        reference: see the module.
        base: what an adapter is put on, in place of what its configuration names.

    Raises:
        UserError: there is no such model, it is not done, or a part of it is missing.
    """
    named = None if base else _in_run(reference)
    if named is None:
        folder = Path(reference).expanduser()
        named = _in_folder(folder, base, name=reference) if folder.is_dir() else _elsewhere(reference, base)
    if base and not named.model.adapters:
        raise UserError(f"{reference} is no adapter, so there is nothing to put on a base; leave --base out")
    return named


# --- runs ------------------------------------------------------------------------------------------------------------


def _in_run(reference: str) -> NamedModel | None:
    """The model of a run or of one of its stages; None when the reference is neither."""
    run, colon, stage = reference.rpartition(":")
    if colon and _is_run(Path(run).expanduser()):
        return _of_run(Path(run).expanduser(), stage, name=reference)
    folder = Path(reference).expanduser()
    if _is_run(folder):
        last = _last(folder)
        return _of_run(folder, last, name=f"{reference}:{last}")
    stage_folder = _stage_folder(folder)
    if stage_folder and _is_run(stage_folder.parents[1]):
        return _of_run(stage_folder.parents[1], stage_folder.name, name=reference)
    return None


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()


def _stage_folder(folder: Path) -> Path | None:
    """The stage's folder that a folder is, or is the artifact in."""
    return next((place for place in (folder.resolve(), folder.resolve().parent) if _about(place)), None)


def _about(folder: Path) -> Mapping[str, Any]:
    about = artifacts.read_json(folder / "stage.json")
    return about if isinstance(about, dict) else {}


def _artifact(folder: Path) -> Path | None:
    """Whole weights or the adapter that a stage has left."""
    return next((folder / kind for kind in ("model", "adapter") if (folder / kind).is_dir()), None)


def _parents(folder: Path) -> dict[str, str]:
    """What each stage of a run starts from, in the order of the run."""
    state = artifacts.read_json(folder / "run.json") or {}
    return {stage["id"]: stage["from"] for stage in state.get("stages", [])}


def _last(folder: Path) -> str:
    made = [id for id in _parents(folder) if _artifact(folder / "stages" / id)]
    if not made:
        raise UserError(f"{folder}: no stage of this run has left a model yet; {folder}:{BASE} is what it starts from")
    return made[-1]


def _of_run(folder: Path, stage: str, *, name: str) -> NamedModel:
    """The model of a stage, its adapters on what the stages before it have left."""
    parents = _parents(folder)
    road = list(_road(stage, parents))
    if stage != BASE and stage not in parents:
        raise UserError(f'{folder}: there is no stage "{stage}"; {nearest(stage, [BASE, *parents])}')
    adapters: list[Path] = []
    weights = None
    for id in road:
        place = folder / "stages" / id
        if not _about(place):
            raise UserError(f"{folder}: stage {id} is not done; run it first")
        made = _artifact(place)
        if made and made.name == "model":
            weights = made
            break
        adapters += [made] if made else []
    source = str(weights) if weights else _base_of_run(folder)
    model = ModelRef(weights=source, adapters=tuple(reversed(adapters)))
    return _tuned(NamedModel(name=name, model=model, tokenizer=source), [_about(folder / "stages" / id) for id in road])


def _road(stage: str, parents: Mapping[str, str]) -> Iterator[str]:
    """A stage and those before it, without the base."""
    while stage in parents:
        yield stage
        stage = parents[stage]


def _base_of_run(folder: Path) -> str:
    if (folder / "base" / "config.json").is_file():
        return str(folder / "base")
    try:
        recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
        reference, revision = str(recipe["base_model"]), str(recipe["revision"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}/recipe.toml does not say what the run starts from ({error})") from None
    pinned = (artifacts.read_json(folder / "lock.json") or {}).get("model", {})
    return _local(reference, pinned.get(f"{reference}@{revision}", revision))


def _tuned(named: NamedModel, road: list[Mapping[str, Any]]) -> NamedModel:
    """The model with how it was tuned by the last stage on its road that has a prompt format.

    Args:
        named: the model.
        road: what `stage.json` says of each stage, the last one first.
    """
    for ingredients in (about.get("ingredients", {}) for about in road):
        if ingredients.get("prompt"):
            return replace(
                named,
                prompt=ingredients["prompt"],
                system_prompt=ingredients.get("system_prompt", ""),
                rendering=ingredients.get("prompt rendering", ""),
            )
    return named


# --- everything else -------------------------------------------------------------------------------------------------


def _elsewhere(reference: str, base: str) -> NamedModel:
    """A model of the hub or in a GGUF file; what the hub has may be an adapter."""
    source = _local(reference)
    if (Path(source) / ADAPTER).is_file():
        return _adapter(Path(source), base, name=reference)
    return NamedModel(name=reference, model=ModelRef(weights=source), tokenizer=source)


def _in_folder(folder: Path, base: str, *, name: str) -> NamedModel:
    """An adapter or a model; of one that a stage has left without the rest of its run, what `stage.json` says counts."""
    stage = _stage_folder(folder)
    if stage is None:
        return _whole(folder, base, name=name)
    about, made = _about(stage), _artifact(stage) or folder
    if made.name == "adapter" and about.get("from") != BASE and not base:
        raise UserError(
            f"{name} was trained on what the stage {about.get('from')} of its run has left, and the run is not here; say "
            "with --base what it is put on"
        )
    return _tuned(_whole(made, base, name=name), [about])


def _whole(folder: Path, base: str, *, name: str) -> NamedModel:
    if (folder / ADAPTER).is_file():
        return _adapter(folder, base, name=name)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} is no run, stage, adapter or model: it holds no run.json, stage.json, {ADAPTER} or config.json"
        )
    return NamedModel(name=name, model=ModelRef(weights=str(folder)), tokenizer=str(folder))


def _adapter(folder: Path, base: str, *, name: str) -> NamedModel:
    config = artifacts.read_json(folder / ADAPTER)
    named = base or (config.get("base_model_name_or_path") if isinstance(config, dict) else "") or ""
    if not named:
        raise UserError(f"{folder}/{ADAPTER} does not say of which model it is an adapter; say it with --base")
    try:
        below = find(named)
    except UserError as error:
        raise UserError(f"{name} is an adapter of {named}: {error}; to name another place: --base") from None
    tokenizer = str(folder) if (folder / "tokenizer_config.json").is_file() else below.tokenizer
    return replace(below, name=name, model=below.model.with_adapter(folder), tokenizer=tokenizer)


def _local(reference: str, revision: str = "main") -> str:
    """A base model's folder or file; fetched when the hub has it."""
    try:
        found = find_model(reference, revision)
    except UserError as error:
        raise UserError(str(error).removeprefix("base_model ")) from None
    if found.path:
        return str(found.path)
    from langadapt.hub import fetch_model

    return fetch_model(reference, revision)
