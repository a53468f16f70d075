"""PEFT strategies, tried on a random model of two layers: what learns, what stays, what is saved."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langadapt import upstream
from langadapt.models import ModelShape
from langadapt.records import PeftStrategy
from langadapt.testing.conformance import NotChecked, Subject, check
from langadapt.testing.models import load_base

RATE = 0.05  # of one step, which has to move what learns
CLOSE = 0.02  # greatest distance of logits, in standard deviations of them, for what is meant to be the same model


@check(
    PeftStrategy,
    right='upstream="peft.tuners.lora.config:LoraConfig"; defaults, owns and choices name its fields or your own',
)
def peft_strategy_options(strategy: PeftStrategy, subject: Subject) -> Iterator[str]:
    """The upstream class exists, and the options that are named are options."""
    try:
        fields = set(upstream.fields_of(strategy.upstream)) if strategy.upstream else set()
    except (ImportError, OSError, AttributeError):
        fields = set()
    if strategy.upstream and not fields:
        yield f"there is no class {strategy.upstream} with fields"
        return
    known = fields | set(strategy.defaults)
    for field in ("choices", "fixed"):
        for name in getattr(strategy, field):
            if name not in known:
                yield f'{field} names "{name}", which is no option'
    for name in strategy.owns:
        if strategy.upstream and name not in fields:
            yield f'owns names "{name}", which is no field of {strategy.upstream}'
    for name, words in strategy.choices.items():
        if name in strategy.defaults and strategy.defaults[name] not in words:
            yield f"the default of {name} is {strategy.defaults[name]!r}, which is none of {', '.join(words)}"


@check(PeftStrategy, right="4.5 for NF4 with its absmax, 16, or 32; between 1 and 32")
def peft_strategy_weight_bits(strategy: PeftStrategy, subject: Subject) -> Iterator[str]:
    """`weight_bits` is a number of bits that a weight may have."""
    bits = strategy.weight_bits(_options(strategy, subject))
    if isinstance(bits, bool) or not isinstance(bits, (int, float)) or not 1 <= bits <= 32:
        yield f"weight_bits gives {bits!r}"


@check(PeftStrategy, right="prepare returns the model, with requires_grad on what learns and on nothing else")
def peft_strategy_prepares(strategy: PeftStrategy, subject: Subject) -> Iterator[str]:
    """`prepare` gives a model in which something learns, and not everything unless it trains the base."""
    model = _prepared(strategy, subject)
    if not hasattr(model, "named_parameters"):
        yield f"prepare gives a {type(model).__name__} and no model"
        return
    flags = [parameter.requires_grad for parameter in model.parameters()]
    if not any(flags):
        yield "nothing learns"
    elif all(flags) and not strategy.trains_base:
        yield "every weight learns, those of the base too, and trains_base is False"


@check(PeftStrategy, right="trainable=lambda shape, options: …, exactly; None where that shows in the run alone")
def peft_strategy_counts(strategy: PeftStrategy, subject: Subject) -> Iterator[str]:
    """`trainable` counts the weights that really learn."""
    base = load_base(subject)
    expected = strategy.trainable(_shape(base), _options(strategy, subject))
    found = sum(p.numel() for p in _prepared(strategy, subject).parameters() if p.requires_grad)
    if expected is not None and expected != found:
        yield f"trainable says {expected:,} and {found:,} learn, in a model with {_described(base)}"


@check(PeftStrategy, right="learning names every parameter that learns, as model.named_parameters() does after prepare")
def peft_strategy_names(strategy: PeftStrategy, subject: Subject) -> Iterator[str]:
    """What `learning` names holds all that learns."""
    shape = _shape(load_base(subject))
    options = {**strategy.fixed, **_options(strategy, subject)}
    names = strategy.learning(shape, options) if strategy.learning else None
    if names is None:
        return
    for name, parameter in _prepared(strategy, subject).named_parameters():
        if parameter.requires_grad and name not in names:
            yield f"{name} learns, and learning does not name it"


@check(PeftStrategy, right="the loss depends on each of them: nothing is detached, or left out of the forward pass")
def peft_strategy_gradients(strategy: PeftStrategy, subject: Subject) -> Iterator[str]:
    """Everything that learns gets a gradient, and that is finite and not zero everywhere."""
    import torch

    model = _prepared(strategy, subject)
    _step(model, update=False)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in learning.items():
        if parameter.grad is None:
            yield f"{name} gets no gradient"
        elif not torch.isfinite(parameter.grad).all():
            yield f"the gradient of {name} is not finite"
    if learning and not any(p.grad is not None and p.grad.abs().sum() > 0 for p in learning.values()):
        yield "every gradient is zero"


@check(
    PeftStrategy, right="a step of the optimizer moves what learns, and not a bit of anything else, buffers included"
)
def peft_strategy_leaves_the_rest(strategy: PeftStrategy, subject: Subject) -> Iterator[str]:
    """A step moves something that learns, and leaves everything else bit for bit."""
    import torch

    model = _prepared(strategy, subject)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    _step(model)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    for name in sorted(moved - learning):
        yield f"{name} does not learn and has moved"
    if not moved & learning:
        yield "nothing has moved"


@check(
    PeftStrategy, right="save writes an adapter for the base as it was; finish gives a model of the base's own class"
)
def peft_strategy_is_saved(strategy: PeftStrategy, subject: Subject) -> Iterator[str]:
    """What is saved, put on the untouched base, is the model that was trained."""
    import torch

    options = _options(strategy, subject)
    model = _prepared(strategy, subject)
    _step(model)
    ids = _ids(1)
    with torch.no_grad():
        expected = model.eval()(ids).logits.float()
        with tempfile.TemporaryDirectory() as place:
            found = _saved(strategy, model, options, Path(place), subject).eval()(ids).logits.float()
    distance = float((found - expected).abs().max() / expected.std())
    if distance > CLOSE:
        yield f"the logits of what was saved are {distance:.2g} standard deviations from those of what was trained"


def _saved(strategy: PeftStrategy, model: Any, options: dict[str, Any], folder: Path, subject: Subject) -> Any:
    """The trained model as a later stage finds it."""
    from langadapt import loading

    if strategy.trains_base:
        (strategy.finish(model, options) if strategy.finish else model).save_pretrained(folder)
        return load_base(subject, folder)
    if strategy.save:
        strategy.save(model, options, folder)
    else:
        model.save_pretrained(folder, save_embedding_layers=False)
    base = load_base(subject)
    if strategy.freeze is None:
        return loading.merge_adapter(base, folder)
    from peft import PeftModel

    strategy.freeze(base, options)
    return PeftModel.from_pretrained(base, str(folder))


def _prepared(strategy: PeftStrategy, subject: Subject) -> Any:
    """The model as a stage trains it; a new one each time."""
    options = _options(strategy, subject)
    if misfits := list(strategy.misfits(_shape(load_base(subject)), options)) if strategy.misfits else []:
        raise NotChecked(f"its options do not fit a small model: {misfits[0]}; give others in `options`")
    model = strategy.prepare(load_base(subject), options)
    if strategy.calibrate:
        model = strategy.calibrate(model, options, iter(_ids(4).tolist()))
    return model


def _step(model: Any, *, update: bool = True) -> None:
    """The gradients of one batch, and a step down them."""
    import torch

    ids = _ids(2)
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    if update:
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0).step()


def _ids(rows: int) -> Any:
    import torch

    return torch.randint(3, 300, (rows, 30), generator=torch.Generator().manual_seed(rows))


def _options(strategy: PeftStrategy, subject: Subject) -> dict[str, Any]:
    return {**strategy.defaults, **subject.options.get(strategy.name, {})}


def _shape(model: Any) -> ModelShape:
    return ModelShape.from_config(model.config.to_dict())


def _described(model: Any) -> str:
    config = model.config
    return f"{config.num_hidden_layers} layers, hidden_size {config.hidden_size}, vocab_size {config.vocab_size}"
