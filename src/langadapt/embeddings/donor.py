"""`donor`: a new token starts from its row in another model, mapped into this model's space.

The map is fitted to the tokens that both models have (SAVA, Moroni et al. 2025), for the input and the output matrix
apart. A token that the donor lacks gets its sub-token mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from langadapt.errors import UserError
from langadapt.models import find_model
from langadapt.named_models import fingerprint
from langadapt.recipe import Table
from langadapt.records import EmbeddingInit, EmbeddingTask

if TYPE_CHECKING:
    from torch import Tensor

    from langadapt.embeddings.matrices import Rows


class Options(Table):
    """Keys of `[stage.embeddings]` beside `init`."""

    donor: str = Field(
        min_length=1,
        description="A model whose tokenizer has many of the new tokens: a run, a stage, a folder, a GGUF file, "
        "a hub id.",
    )
    revision: str = Field("main", description="Branch, tag or commit of a donor on the hub.")
    map: Literal["affine", "orthogonal"] = Field(
        "affine",
        description="`affine`: least squares; `orthogonal`: a rotation with one scale, which keeps angles "
        "(Procrustes).",
    )


def problem(options: Options) -> str:
    """Whether there is such a donor, as far as that can be seen without fetching anything."""
    if Path(options.donor.partition(":")[0]).expanduser().is_dir():
        return ""  # a run, one of its stages, an adapter or a model: what it holds is looked at when it is opened
    try:
        find_model(options.donor, options.revision)
    except UserError as error:
        return f"embeddings.donor: {str(error).removeprefix('base_model ')}"
    return ""


def initialise(task: EmbeddingTask) -> Rows:
    """Mapped rows of the donor for the tokens that it has, sub-token means for the others.

    Raises:
        UserError: there is no such model, its tokenizer cannot be compared with the base model's, or the two have too
            few tokens in common.
    """
    from langadapt.embeddings.donor_model import open_donor
    from langadapt.embeddings.matrices import input_matrix, output_matrix
    from langadapt.embeddings.pieces import subtoken_mean
    from langadapt.tokenizer.tokens import matched

    donor = open_donor(task.options.donor, task.options.revision)
    shared = {theirs: ours for theirs, ours in enumerate(matched(task.old, donor.tokenizer)) if ours is not None}
    _check(task.options.donor, shared=len(shared), dimensions=donor.input.shape[1])
    theirs = matched(donor.tokenizer, task.new)
    had = {place: theirs[id] for place, id in enumerate(task.ids) if theirs[id] is not None}
    task.say(
        f"{task.options.donor} has {len(had)} of {len(task.ids)} new tokens, and {len(shared)} that the base model has "
        "too; the other new tokens get their sub-token mean"
    )

    def mapped(rows: Tensor, base: Tensor, of_donor: Tensor) -> Tensor:
        from langadapt.embeddings.mapping import fitted

        move = fitted(task.options.map, of_donor[list(shared)], base[list(shared.values())].to("cpu"))
        rows[list(had)] = move(of_donor[list(had.values())]).to(rows)
        return rows

    rows, output_rows = subtoken_mean(task)
    rows = mapped(rows, input_matrix(task.model), donor.input)
    output = output_matrix(task.model)
    if output is not None and output_rows is not None:
        output_rows = mapped(output_rows, output, donor.output)
    return rows, output_rows


def _check(donor: str, *, shared: int, dimensions: int) -> None:
    """Whether the tokens in common say more than the map has unknowns in each dimension."""
    if shared <= dimensions + 1:
        raise UserError(
            f'embeddings.donor "{donor}" does not fit: a map from its {dimensions} dimensions needs more than '
            f"{dimensions + 1} tokens that both models have, and they have {shared} in common; name a donor whose "
            'vocabulary is nearer to the base model\'s, or say init = "subtoken-mean"'
        )


INIT = EmbeddingInit(
    name="donor",
    description="The rows of another model that has the tokens, mapped by what both models have in common.",
    options=Options,
    initialise=initialise,
    problem=problem,
    fingerprint=lambda options: fingerprint(options.donor, revision=options.revision),
    source="Moroni et al. 2025, SAVA, arXiv 2504.17025",
)
