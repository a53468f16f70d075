"""`export`: a stage's model in the formats that others run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from langadapt import estimates
from langadapt.errors import nearest
from langadapt.export import FORMATS
from langadapt.export.architecture import problems
from langadapt.models import WINDOW, snapshot
from langadapt.recipe import BASE, StageOptions
from langadapt.records import StageKind

if TYPE_CHECKING:
    from langadapt.models import BaseModel
    from langadapt.plan import PlannedStage, Planner
    from langadapt.plugins import Registry
    from langadapt.run import StageContext, StageResult


class ExportOptions(StageOptions):
    """Options of `export`."""

    formats: list[str] = Field(
        min_length=1,
        description=f"What to write, each once: {', '.join(f'`{name}`' for name in FORMATS)}.",
        json_schema_extra={"items": {"type": "string", "enum": list(FORMATS)}},
    )

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        for place, name in enumerate(self.formats):
            if name not in FORMATS:
                yield ("formats", place), f'there is no format "{name}"', nearest(name, FORMATS)
            elif name in self.formats[:place]:
                yield ("formats", place), f'"{name}" stands there twice', "leave one out"


def plan(stage: PlannedStage, planner: Planner) -> None:
    """Sizes the formats, and refuses what can be known now to be impossible."""
    options = stage.options
    assert isinstance(options, ExportOptions)
    if any(FORMATS[name].quantisation for name in options.formats):
        config = _config(planner.base, planner)
        stage.problems += [f"stage {stage.id}: {said}" for said in (problems(config) if config else ())]
    if "adapter" in options.formats and (why := _no_adapter(stage.parent, planner)):
        stage.problems.append(f"stage {stage.id}: {why}")
    if shape := planner.shape_of(stage.parent):
        stage.estimate.memory = estimates.evaluation(shape, planner.machine, tokens=WINDOW)
        merged = 2 * shape.parameters  # of weights that adapters are merged into, for as long as it takes
        sizes = (FORMATS[name].bytes * shape.parameters for name in options.formats)
        stage.estimate.disk = merged + round(sum(sizes))


def _config(base: BaseModel, planner: Planner) -> Mapping[str, Any]:
    """The model's configuration as far as it is on this machine; empty when nothing is known before the run."""
    folder = snapshot(base.reference, planner.recipe.table.revision) if base.kind == "hub" else base.path
    if folder and (folder / "config.json").is_file():
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return config
    return {"model_type": base.shape.model_type} if base.shape and base.shape.model_type else {}


def _no_adapter(id: str, planner: Planner) -> str:
    """Why the stage to be exported leaves no adapter that is of use alone; "" where it does."""
    adapters = []
    while id != BASE:
        stage = planner.planned[id]
        peft = getattr(stage.options, "peft", None)
        if peft is None or planner.registry.peft_strategies[peft["method"]].trains_base:
            break
        adapters.append(id)
        id = stage.parent
    if id != BASE and planner.planned[id].kind == "tokenizer":
        return f"the vocabulary is changed by {id}, so an adapter is of no use without its rows; export safetensors"
    if not adapters:
        return f"{id} leaves whole weights and no adapter; export safetensors"
    if len(adapters) > 1:
        return (
            f"the adapter of {adapters[0]} is trained on weights into which that of {adapters[1]} is merged, so it is of no "
            "use without them; export safetensors"
        )
    return ""


def run(context: StageContext) -> StageResult:
    """Writes every format into a folder of its name."""
    from langadapt.export.source import find
    from langadapt.export.writing import export
    from langadapt.run import StageResult

    options = context.stage.options
    assert isinstance(options, ExportOptions)
    source = find(f"{context.plan.folder}:{context.stage.parent}")
    sizes = export(source, options.formats, context.folder, say=context.log.info)
    return StageResult(metrics={f"bytes_{name}": size for name, size in sizes.items()})


STAGE = StageKind(
    name="export",
    description="A model as safetensors, adapter or GGUF with an Ollama Modelfile.",
    version=2,
    options=ExportOptions,
    makes="results",
    plan=plan,
    run=run,
)
