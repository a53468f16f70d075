"""A plugin for tests: two strategies that use every field of the record between them."""

from __future__ import annotations

from langadapt import PeftStrategy, hookimpl

STEPS = {"fine": 64, "coarse": 16}


def to_grid(model, options):
    """Rounds the matrices of the blocks, in place."""
    for name, parameter in model.named_parameters():
        if name.endswith("_proj.weight"):
            parameter.data = (parameter.data * STEPS[options["grid"]]).round() / STEPS[options["grid"]]


def beside_grid(model, options):
    from peft import LoraConfig, get_peft_model

    to_grid(model, options)
    return get_peft_model(model, LoraConfig(r=options["r"], target_modules=["q_proj"], task_type="CAUSAL_LM"))


def by_text(model, options, documents):
    """Starts further from zero the shorter the text is."""
    seen = sum(map(len, documents))
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            parameter.data *= 1 + 1 / seen
    return model


def save(model, options, folder):
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "grid.txt").write_text(options["grid"])


def norms(model, options):
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    return model


def with_note(model, options, documents):
    """Adds something that no model of the base's class has, so that only `finish` makes it one that can be loaded."""
    import torch

    model.note = torch.nn.Parameter(torch.tensor(float(len(next(documents)))), requires_grad=False)
    return model


def without_note(model, options):
    del model.note
    return model


@hookimpl
def langadapt_peft_strategies():
    yield PeftStrategy(
        name="grid-lora",
        description="LoRA beside weights on a grid.",
        source="none",
        upstream="peft.tuners.lora.config:LoraConfig",
        defaults={"r": 2, "grid": "fine"},
        owns={"task_type": "it is known"},
        choices={"grid": tuple(STEPS)},
        prepare=beside_grid,
        calibrate=by_text,
        freeze=to_grid,
        save=save,
        trainable=lambda shape, options: shape.num_hidden_layers * options["r"] * sum(shape.linears["q_proj"]),
        weight_bits=lambda options: 16,
        rate=lambda name, options: 2.0 if "lora_B" in name else 1.0,
        decay=lambda name, options: "lora_A" not in name,
    )
    yield PeftStrategy(
        name="noted-norms",
        description="The norms learn.",
        source="none",
        prepare=norms,
        calibrate=with_note,
        finish=without_note,
        trainable=lambda shape, options: (2 * shape.num_hidden_layers + 1) * shape.hidden_size,
        weight_bits=lambda options: 16,
        trains_base=True,
    )
