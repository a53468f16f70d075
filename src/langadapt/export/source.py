"""What is exported: a model that is named, and what goes along with it into other programs' files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langadapt import artifacts, named_models
from langadapt.errors import UserError
from langadapt.models import licence_of
from langadapt.named_models import NamedModel, base_of_run
from langadapt.plugins import registry
from langadapt.prompts.framing import offered
from langadapt.records import PromptFormat
from langadapt.run_state import FILE

CERTIFICATE = "kl_sixteen_bit"  # the figure that a merge's metrics have when it wrote a certificate


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model to be exported.

    Attributes:
        named: the model.
        name: of its files.
        licence: of the base model; "unknown" where it is.
        format: the prompt format that it was tuned with; None for none.
        certificate: figures of the merge that made it; None for another artifact.
        card: the run's model card; None where there is none yet.
    """

    named: NamedModel
    name: str
    licence: str = "unknown"
    format: PromptFormat | None = None
    certificate: Mapping[str, Any] | None = None
    card: Path | None = None


def find(reference: str, *, base: str = "") -> Source:
    """The model that a reference names, with all that goes along with it.

    Args:
        reference: as of `langadapt.named_models.find`.
        base: the same.

    Raises:
        UserError: there is no such model, it is in a GGUF file, or no plugin offers its prompt format.
    """
    named = named_models.find(reference, base=base)
    if Path(named.model.weights).suffix == ".gguf":
        raise UserError(
            f"{reference}: the weights are in a GGUF file, and all formats are written from safetensors; a run with it as "
            "its base_model unpacks it, and RUN:base can be exported"
        )
    format = offered(named.name, named.prompt, registry()) if named.prompt else None
    name = Path(named.name).expanduser().resolve().name.replace(":", "-")
    if named.stage is None:
        return Source(named=named, name=name, licence=licence_of(named.base), format=format)
    run, metrics = named.stage.parent.parent, artifacts.read_json(named.stage / "stage.json").get("metrics", {})
    certificate = metrics if CERTIFICATE in metrics else None
    state = artifacts.read_json(run / FILE)
    if state is None:
        return Source(named=named, name=name, licence=licence_of(named.base), format=format, certificate=certificate)
    card = run / "MODEL_CARD.md"
    return Source(
        named=named,
        name=f"{state['name']}-{named.stage.name}",
        licence=licence_of(base_of_run(run)[0]),
        format=format,
        certificate=certificate,
        card=card if card.is_file() else None,
    )
