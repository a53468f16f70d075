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
from langadapt.artifacts import ModelRef, left_in
from langadapt.corpus.cache import cache_folder
from langadapt.errors import UserError, nearest
from langadapt.models import files_of_model, find_model
from langadapt.plugins import registry
from langadapt.recipe import BASE
from langadapt.run_state import FILE

ADAPTER = "adapter_config.json"  # what makes a folder an adapter of PEFT's


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model that is at hand, and how it was tuned as far as that is known.

    Attributes:
        name: as its user named it, with the stage where a run's folder was named.
        model: weights and adapters, all on this machine.
        tokenizer: folder or GGUF file that holds the tokenizer.
        base: how a recipe or an adapter names the weights; the folder of those that a stage has left.
        revision: of them, on the hub.
        stage: folder of the stage that left the model; None for any other.
        prompt: prompt format of the stage that tuned it last; "" when none did.
        system_prompt: of that stage.
        rendering: what that format made of a fixed dialogue then, as `prompt_ingredient` has it.
    """

    name: str
    model: ModelRef
    tokenizer: str
    base: str
    revision: str = "main"
    stage: Path | None = None
    prompt: str = ""
    system_prompt: str = ""
    rendering: str = ""


def find(reference: str, *, base: str = "", revision: str = "main") -> NamedModel:
    """The model that a reference names; one on the hub is fetched.

    Args:
        reference: what commands call MODEL: a run's folder for its last model, `RUN:STAGE`, a folder with an adapter or a
            model, a hub id, a GGUF file, or `package:NAME/FILE`.
        base: what an adapter is put on, in place of what its configuration names.
        revision: of a model on the hub.

    Raises:
        UserError: there is no such model, it is not done, or a part of it is missing.
    """
    named = None if base else _in_run(reference)
    if named is None:
        folder = Path(reference).expanduser()
        named = _in_folder(folder, base, name=reference) if folder.is_dir() else _elsewhere(reference, base, revision)
    if base and not named.model.adapters:
        raise UserError(f"{reference} is no adapter, so there is nothing to put on a base; leave --base out")
    return named


def fingerprint(reference: str, *, revision: str = "main") -> str:
    """What a reference names now, so that a change of it is noticed: of a stage its digest, of other files theirs, of a
    model on the hub its name and revision. Nothing is fetched.

    Raises:
        UserError: there is no such model.
    """
    run, colon, stage = reference.rpartition(":")
    folder = Path(reference).expanduser()
    if colon and _is_run(Path(run).expanduser()):
        return str(_about(Path(run).expanduser() / "stages" / stage).get("digest", ""))
    if _is_run(folder):
        return str(_about(folder / "stages" / _last(folder)).get("digest", ""))
    if folder.is_dir():
        return artifacts.digest_files(files_of_model(folder), memory=cache_folder() / "digests")
    path = find_model(reference, revision).path
    if path is None:
        return f"{reference}@{revision}"
    return artifacts.digest_files(files_of_model(path), memory=cache_folder() / "digests")


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
    if stage_folder and _is_run(stage_folder.parent.parent):
        return _of_run(stage_folder.parent.parent, stage_folder.name, name=reference)
    return None


def _is_run(folder: Path) -> bool:
    return (folder / FILE).is_file()


def _stage_folder(folder: Path) -> Path | None:
    """The stage's folder that a folder is, or is the artifact in."""
    return next((place for place in (folder.resolve(), folder.resolve().parent) if _about(place)), None)


def _about(folder: Path) -> Mapping[str, Any]:
    about = artifacts.read_json(folder / "stage.json")
    return about if isinstance(about, dict) else {}


def _parents(folder: Path) -> dict[str, str]:
    """What each stage of a run starts from, in the order of the run."""
    state = artifacts.read_json(folder / FILE) or {}
    return {stage["id"]: stage["from"] for stage in state.get("stages", [])}


def _with_models(folder: Path) -> list[str]:
    """The stages of a run that have left a model, in the order of the run; an `adapter` that was exported is none."""
    kinds, stages = registry().stages, (artifacts.read_json(folder / FILE) or {}).get("stages", [])
    makers = [stage["id"] for stage in stages if stage["kind"] not in kinds or kinds[stage["kind"]].makes == "model"]
    return [id for id in makers if left_in(folder / "stages" / id)]


def _last(folder: Path) -> str:
    made = _with_models(folder)
    if not made:
        raise UserError(f"{folder}: no stage of this run has left a model yet; {folder}:{BASE} is what it starts from")
    return made[-1]


def _of_run(folder: Path, stage: str, *, name: str) -> NamedModel:
    """The model of a stage, or the base that the run starts from."""
    parents = _parents(folder)
    if stage != BASE and stage not in parents:
        raise UserError(f'{folder}: there is no stage "{stage}"; {nearest(stage, [BASE, *parents])}')
    place = None if stage == BASE else folder / "stages" / stage
    made = _with_models(folder)
    if place and _about(place) and stage not in made:
        raise UserError(f'{folder}: the stage "{stage}" makes no model; {nearest(stage, made)}')
    below = _below(folder, stage, parents)
    return _tuned(
        replace(below, name=name, stage=place), [_about(folder / "stages" / id) for id in _road(stage, parents)]
    )


def _below(folder: Path, stage: str, parents: Mapping[str, str]) -> NamedModel:
    """What a stage has left, an adapter on what the stages before it have."""
    if stage == BASE:
        base, revision = base_of_run(folder)
        unpacked = folder / "base"  # of a GGUF file
        weights = str(unpacked) if (unpacked / "config.json").is_file() else _local(base, revision)
        return NamedModel(name=base, model=ModelRef(weights=weights), tokenizer=weights, base=base, revision=revision)
    place = folder / "stages" / stage
    if not _about(place):
        raise UserError(f"{folder}: stage {stage} is not done; run it first")
    made = left_in(place)
    if made and made.name == "model":
        return _plain(made)
    below = _below(folder, parents[stage], parents)
    model = below.model.after(place)
    return replace(below, model=model, tokenizer=model.tokenizer if model.vocabularies else below.tokenizer)


def _road(stage: str, parents: Mapping[str, str]) -> Iterator[str]:
    """A stage and those before it, without the base."""
    while stage in parents:
        yield stage
        stage = parents[stage]


def base_of_run(folder: Path) -> tuple[str, str]:
    """The base model as a run's recipe names it, and its revision: on the hub the commit that the run has read.

    Raises:
        UserError: the run's folder holds no recipe.
    """
    try:
        recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
        reference, revision = str(recipe["base_model"]), str(recipe["revision"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}/recipe.toml does not say what the run starts from ({error}); run it again") from None
    pinned = (artifacts.read_json(folder / "lock.json") or {}).get("model", {})
    return reference, pinned.get(f"{reference}@{revision}", revision)


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


def _elsewhere(reference: str, base: str, revision: str) -> NamedModel:
    """A model of the hub or in a GGUF file; what the hub has may be an adapter."""
    _refuse_lost_run(reference)
    source = _local(reference, revision)
    if (Path(source) / ADAPTER).is_file():
        return _adapter(Path(source), base, name=reference)
    return NamedModel(
        name=reference, model=ModelRef(weights=source), tokenizer=source, base=reference, revision=revision
    )


def _refuse_lost_run(reference: str) -> None:
    """
    Raises:
        UserError: it stands beside runs and is none, so it is no name of the hub either.
    """
    run, colon, _ = reference.rpartition(":")
    folder = Path(run if colon else reference).expanduser()
    beside = [str(file.parent) for file in folder.parent.glob(f"*/{FILE}")] if folder.parent.name else []
    if beside and not folder.exists():
        raise UserError(f"{folder}: there is no such run; {nearest(str(folder), beside)}")


def _in_folder(folder: Path, base: str, *, name: str) -> NamedModel:
    """An adapter or a model; of one that a stage has left without the rest of its run, what `stage.json` says counts."""
    stage = _stage_folder(folder)
    if stage is None:
        return _whole(folder, base, name=name)
    about, made = _about(stage), left_in(stage) or folder
    if made.name == "adapter" and about.get("from") != BASE and not base:
        raise UserError(
            f"{name} was trained on what stage {about.get('from')} of its run has left, and the run is not here; say "
            "with --base what it is put on"
        )
    return _tuned(replace(_whole(made, base, name=name), stage=stage), [about])


def _whole(folder: Path, base: str, *, name: str) -> NamedModel:
    if (folder / ADAPTER).is_file():
        return _adapter(folder, base, name=name)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} is no run, stage, adapter or model: it holds no {FILE}, stage.json, {ADAPTER} or "
            "config.json; name another"
        )
    return replace(_plain(folder), name=name)


def _plain(folder: Path) -> NamedModel:
    """A folder of whole weights."""
    return NamedModel(name=str(folder), model=ModelRef(weights=str(folder)), tokenizer=str(folder), base=str(folder))


def _adapter(folder: Path, base: str, *, name: str) -> NamedModel:
    read = artifacts.read_json(folder / ADAPTER)
    config = read if isinstance(read, dict) else {}
    named = base or config.get("base_model_name_or_path") or ""
    if not named:
        raise UserError(f"{folder}/{ADAPTER} does not say of which model it is an adapter; say it with --base")
    try:
        below = find(named, revision=(not base and config.get("revision")) or "main")
    except UserError as error:
        raise UserError(f"{name} is an adapter of {named}: {error}; to name another place: --base") from None
    tokenizer = str(folder) if (folder / "tokenizer_config.json").is_file() else below.tokenizer
    return replace(below, name=name, model=below.model.with_adapter(folder), tokenizer=tokenizer, stage=None)


def _local(reference: str, revision: str) -> str:
    """A base model's folder or file; fetched when the hub has it."""
    try:
        found = find_model(reference, revision)
    except UserError as error:
        raise UserError(str(error).removeprefix("base_model ")) from None
    if found.path:
        return str(found.path)
    from langadapt.hub import fetch_model

    return fetch_model(reference, revision)
