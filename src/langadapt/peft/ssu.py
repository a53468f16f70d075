"""`ssu`: source-shielded updates (Yamaguchi et al. 2025, arXiv 2512.04844): what the source language needs stays as it is.

A few texts in the source language go through the model. Of every linear layer of the blocks, the input columns that
weigh most there are frozen; the other columns, the norms, the embeddings and the head learn as in `full`. A column
weighs the sum of its |weights| times the norm of its input, which is the score of Wanda (Sun et al. 2023, arXiv
2306.11695). Frozen columns are no parameters, so no momentum and no weight decay can move them, and neither gradients
nor optimizer states are kept for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any

from langadapt.models import ModelShape
from langadapt.peft.partial import learn
from langadapt.peft.qlora import linears
from langadapt.records import PeftStrategy

if TYPE_CHECKING:
    from torch import Tensor

# Names and values of the paper's own code.
DEFAULTS: dict[str, Any] = {"freeze_ratio": 0.5, "num_calibration_samples": 500, "calibration_max_length": 2048}


def prepare(model: Any, options: Mapping[str, Any]) -> Any:
    """Has everything learn but the matrices of the blocks; which of their columns do is for `calibrate` to say."""
    matrices = {id(layer.weight) for _, _, layer in linears(model)}
    return learn(model, {name for name, p in model.named_parameters() if id(p) not in matrices}.__contains__)


def calibrate(model: Any, options: Mapping[str, Any], documents: Iterator[list[int]]) -> Any:
    """Splits every matrix of the blocks into the columns that the source language needs and those that learn.

    Raises:
        UserError: there is no document.
    """
    from langadapt.peft.columns import ShieldedLinear

    layers = linears(model)
    norms = _input_norms(model, [layer for _, _, layer in layers], options, documents)
    for (parent, child, layer), norm in zip(layers, norms, strict=True):
        scores = layer.weight.detach().float().abs().sum(0) * norm
        frozen = scores.topk(_frozen(layer.in_features, options)).indices
        setattr(parent, child, ShieldedLinear(layer, frozen.sort().values))
    return model


def _input_norms(
    model: Any, layers: list[Any], options: Mapping[str, Any], documents: Iterator[list[int]]
) -> list[Tensor]:
    """Of each layer, the Euclidean norms over all tokens of its inputs, (inputs,) in fp32."""
    import torch

    from langadapt.errors import UserError
    from langadapt.loading import compute_dtype

    squares = [torch.zeros(layer.in_features, device=layer.weight.device) for layer in layers]

    def adding(total: Tensor) -> Any:
        def add(layer: Any, inputs: tuple[Tensor, ...]) -> None:  # what a hook returns would take the inputs' place
            total.add_(inputs[0].detach().float().square().flatten(0, -2).sum(0))

        return add

    device, tokens = layers[0].weight.device, 0
    mixed = torch.autocast(device.type, dtype=torch.bfloat16, enabled=compute_dtype() is torch.bfloat16)
    with ExitStack() as hooks, torch.no_grad(), mixed:
        for layer, total in zip(layers, squares, strict=True):
            hooks.callback(layer.register_forward_pre_hook(adding(total)).remove)
        for ids in islice(documents, options["num_calibration_samples"]):
            row = torch.tensor([ids[: options["calibration_max_length"]]], device=device)
            model.get_decoder()(input_ids=row, use_cache=False)
            tokens += row.numel()
    if not tokens:
        raise UserError('peft.method = "ssu": the corpus to calibrate on holds no text; name another with calibration')
    return [total.sqrt() for total in squares]


def finish(model: Any, options: Mapping[str, Any]) -> Any:
    """The model with ordinary layers again, in place."""
    from langadapt.peft.columns import ShieldedLinear

    for name, layer in list(model.named_modules()):
        if isinstance(layer, ShieldedLinear):
            model.set_submodule(name, layer.plain())
    return model


def misfits(shape: ModelShape, options: Mapping[str, Any]) -> Iterator[str]:
    """A share that is none, and nothing to calibrate on."""
    if not 0 < options["freeze_ratio"] < 1:
        yield f"peft.freeze_ratio = {options['freeze_ratio']} is not above 0 and below 1; 0.5 freezes half"
    for key in ("num_calibration_samples", "calibration_max_length"):
        if options[key] < 1:
            yield f"peft.{key} = {options[key]} is not at least 1; leave it out for the default"


def _frozen(inputs: int, options: Mapping[str, Any]) -> int:
    return int(inputs * options["freeze_ratio"])


def trainable(shape: ModelShape, options: Mapping[str, Any]) -> int:
    """All parameters but the frozen columns."""
    frozen = sum(outputs * _frozen(inputs, options) for inputs, outputs in shape.linears.values())
    return shape.parameters - shape.num_hidden_layers * frozen


STRATEGY = PeftStrategy(
    name="ssu",
    description="All weights learn but those columns of each matrix that weigh most on text in the source language.",
    source="Yamaguchi et al. 2025, arXiv 2512.04844",
    defaults=DEFAULTS,
    prepare=prepare,
    trainable=trainable,
    misfits=misfits,
    weight_bits=lambda options: 16,
    calibrate=calibrate,
    finish=finish,
    trains_base=True,
)
