"""What is exported: a model with all that has to go along with it, of a stage while it runs or of a run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langadapt import artifacts
from langadapt.artifacts import ModelRef
from langadapt.errors import UserError, nearest
from langadapt.models import BaseModel, find_model
from langadapt.plugins import registry
from langadapt.recipe import BASE, Recipe
from langadapt.records import PromptFormat

CERTIFICATE = "kl_sixteen_bit"  # the figure that a merge's metrics have when it wrote a certificate


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model to be exported.

    Attributes:
        name: of its files.
        model: its weights and the adapters on them.
        tokenizer: folder of its tokenizer.
        base: the base model as the recipe names it.
        revision: of that, on the hub.
        licence: of the base model; "unknown" where it is.
        format: the prompt format that it was tuned with; None for none.
        system_prompt: that the recipe gave to it.
        certificate: figures of the merge that made it; None for another artifact.
        card: the run's model card; None where there is none yet.
    """

    name: str
    model: ModelRef
    tokenizer: str
    base: str
    revision: str = "main"
    licence: str = "unknown"
    format: PromptFormat | None = None
    system_prompt: str = ""
    certificate: Mapping[str, Any] | None = None
    card: Path | None = None


def of_stage(
    id: str, recipe: Recipe, folder: Path, base: BaseModel, *, model: ModelRef, tokenizer: str, commit: str = "main"
) -> Source:
    """The model of a stage in a run's folder.

    Args:
        id: of the stage; `base` for the base model.
        recipe: of the run.
        folder: of the run.
        base: its base model.
        model: what the stage left, on what it started from.
        tokenizer: folder of the tokenizer.
        commit: of a base model of the hub.
    """
    made = artifacts.read_json(folder / "stages" / id / "stage.json") or {}
    metrics = made.get("metrics", {})
    name, system_prompt = tuned_with(recipe, id)
    card = folder / "MODEL_CARD.md"
    return Source(
        name=f"{recipe.table.name}-{id}",
        model=model,
        tokenizer=tokenizer,
        base=recipe.table.base_model,
        revision=commit,
        licence=base.licence,
        format=registry().prompts[name] if name else None,
        system_prompt=system_prompt,
        certificate=metrics if CERTIFICATE in metrics else None,
        card=card if card.is_file() else None,
    )


def tuned_with(recipe: Recipe, id: str) -> tuple[str, str]:
    """Prompt format and system prompt of the last stage, up to this one, that learnt answers; "" for none."""
    stages = {stage.id: stage for stage in recipe.stages}
    while id != BASE:
        options = stages[id].options
        if prompt := getattr(options, "prompt", ""):
            return prompt, getattr(options, "system_prompt", "")
        id = stages[id].parent
    return "", ""


def find(reference: str) -> Source:
    """What `RUN`, `RUN:STAGE`, a stage's folder or a folder of safetensors stands for.

    Raises:
        UserError: it is none of these, or the stage is not done.
    """
    path, id = Path(reference), ""
    if not path.is_dir():
        place, colon, id = reference.rpartition(":")
        path = Path(place)
        if not colon or not path.is_dir():
            raise UserError(f"{reference}: there is no such folder; give that of a run, RUN:STAGE, or that of a model")
    if (path / "run.json").is_file():
        return _of_run(path, id)
    if (path / "stage.json").is_file() and path.resolve().parent.name == "stages":
        return _of_run(path.resolve().parents[1], path.resolve().name)
    base = find_model(str(path))
    model = ModelRef(weights=str(path))
    return Source(name=path.resolve().name, model=model, tokenizer=str(path), base=str(path), licence=base.licence)


def _of_run(folder: Path, id: str) -> Source:
    recipe = Recipe.load(str(folder / "recipe.toml"))
    id = _chosen(folder, recipe, id)
    base = find_model(recipe.table.base_model, recipe.table.revision)
    key = f"{recipe.table.base_model}@{recipe.table.revision}"
    commit = (artifacts.read_json(folder / "lock.json") or {}).get("model", {}).get(key, recipe.table.revision)
    weights = _base_folder(folder, base, commit)
    parents = {stage.id: stage.parent for stage in recipe.stages}
    way = [id]
    while way[0] != BASE:
        way.insert(0, parents[way[0]])
    model = ModelRef(weights=weights)
    for step in way[1:]:
        model = model.after(folder / "stages" / step)
    return of_stage(id, recipe, folder, base, model=model, tokenizer=weights, commit=commit)


def _chosen(folder: Path, recipe: Recipe, id: str) -> str:
    """The stage that is meant; without a word of it, the last one that made a model."""
    makers = [stage.id for stage in recipe.stages if registry().stages[stage.kind].makes == "model"]
    done = [maker for maker in makers if (folder / "stages" / maker / "stage.json").is_file()]
    if id and id not in (*makers, BASE):
        raise UserError(f'{folder}: no stage "{id}" makes a model; {nearest(id, makers)}')
    if (id and id not in (*done, BASE)) or not done:
        raise UserError(
            f"{folder}: stage {id or makers[-1] if makers else '?'} is not done; run it first: langadapt run"
        )
    return id or done[-1]


def _base_folder(folder: Path, base: BaseModel, commit: str) -> str:
    if base.kind == "hub":
        from langadapt.hub import fetch_model

        return fetch_model(base.reference, commit)
    if base.kind == "gguf":
        return str(folder / "base")  # where the run unpacked it
    return str(base.path)
