"""A plugin of strategies in which every record but the sound ones has one fault; see `tests/test_conformance.py`."""

from __future__ import annotations

import itertools
from dataclasses import replace

from langadapt import EmbeddingInit, PeftStrategy, Table, TokenizerStrategy, hookimpl

LANGADAPT_CONTRACT = 1
_CALLS = itertools.count()


# --- which weights learn ---


def norms(model, options):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" in name)
    return model


def nothing(model, options):
    return model.requires_grad_(False)


def spare(model, options):
    import torch

    model.model.spare_norm = torch.nn.Parameter(torch.ones(3))
    return norms(model, options)


def drifting(model, options):
    def grow(module, inputs):
        model.lm_head.weight.data.mul_(1.01)

    model.register_forward_pre_hook(grow)
    return norms(model, options)


def with_nan(model, options):
    model.model.norm.weight.register_hook(lambda gradient: gradient * float("nan"))
    return norms(model, options)


def untrained(model, options):
    model.model.norm.weight.data.fill_(1.0)
    return model


SOUND = PeftStrategy(
    name="sound-norms",
    description="The norms learn.",
    source="none",
    prepare=norms,
    trainable=lambda shape, options: (2 * shape.num_hidden_layers + 1) * shape.hidden_size,
    weight_bits=lambda options: 32,
    trains_base=True,
)


def strategy(name: str, **fields) -> PeftStrategy:
    return replace(SOUND, name=name, **fields)


STRATEGIES = (
    SOUND,
    strategy("counts-too-few", trainable=lambda shape, options: 2 * shape.num_hidden_layers * shape.hidden_size),
    strategy("nothing-learns", prepare=nothing, trainable=lambda shape, options: 0),
    strategy("all-learns", prepare=lambda model, options: model.requires_grad_(True), trains_base=False),
    strategy("no-gradient", prepare=spare),
    strategy("nan-gradient", prepare=with_nan),
    strategy("drifts", prepare=drifting),
    strategy("forgets", finish=untrained),
    strategy("words-for-bits", weight_bits=lambda options: "16"),
    strategy("names-too-few", learning=lambda shape, options: {"model.norm.weight"}),
    strategy("no-class", upstream="peft.tuners.lora.config:LoraConfigg"),
    strategy("odd-default", defaults={"grid": "rough"}, choices={"grid": ("fine", "coarse")}),
    strategy("odd-choice", choices={"grid": ("fine", "coarse")}),
)


# --- tokenizers ---


class Needy(Table):
    """An option without a default."""

    file: str


def shorter(task):
    """A tokenizer without the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    plain = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[]))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return plain


def in_capitals(task):
    from tokenizers import normalizers

    task.tokenizer.normalizer = normalizers.Lowercase()
    return task.tokenizer


def another(task):
    task.tokenizer.add_tokens([f"token-{next(_CALLS)}"])
    return task.tokenizer


def tokenizer(name: str, adapt, **fields) -> TokenizerStrategy:
    usual = {"name": name, "description": "A tokenizer.", "options": Table, "adapt": adapt}
    return TokenizerStrategy(**{**usual, "tokens": lambda options, before: before + 10} | fields)


TOKENIZERS = (
    tokenizer("sound-tokenizer", lambda task: task.tokenizer),
    tokenizer("gives-a-path", lambda task: "tokenizer.json"),
    tokenizer("loses-specials", shorter),
    tokenizer("loses-capitals", in_capitals),
    tokenizer("another-each-time", another),
    tokenizer("says-too-few", lambda task: task.tokenizer, tokens=lambda options, before: 7),
    tokenizer("needy-tokenizer", lambda task: task.tokenizer, options=Needy),
    tokenizer("dict-tokenizer", lambda task: task.tokenizer, options=dict),
)


# --- rows of new tokens ---


def first_piece(task):
    rows = [pieces[0] for pieces in task.pieces]
    tied = task.model.config.tie_word_embeddings
    head = None if tied else task.model.get_output_embeddings().weight[rows].detach().clone()
    return task.model.get_input_embeddings().weight[rows].detach().clone(), head


def changed(change):
    def initialise(task):
        inputs, outputs = first_piece(task)
        return change(inputs), outputs

    return initialise


def in_place(task):
    task.model.get_input_embeddings().weight.data[0] += 1
    return first_piece(task)


def a_view(task):
    weight = task.model.get_input_embeddings().weight
    return weight[: len(task.ids)], None if task.model.config.tie_word_embeddings else weight[: len(task.ids)]


def always_both(task):
    inputs, _ = first_piece(task)
    return inputs, inputs


def init(name: str, initialise, **fields) -> EmbeddingInit:
    usual = {"name": name, "description": "Rows.", "options": Table, "initialise": initialise}
    return EmbeddingInit(**usual | fields)


INITS = (
    init("sound-rows", first_piece),
    init("too-few-rows", changed(lambda rows: rows[1:])),
    init("zero-rows", changed(lambda rows: rows * 0)),
    init("nan-rows", changed(lambda rows: rows * float("nan"))),
    init("random-rows", changed(lambda rows: rows + rows.new_empty(rows.shape).normal_())),
    init("changes-the-model", in_place),
    init("a-view", a_view),
    init("two-matrices", always_both),
    init("no-text", first_piece, problem=lambda options: None),
    init("dict-rows", first_piece, options=dict),
)


@hookimpl
def langadapt_peft_strategies():
    return STRATEGIES


@hookimpl
def langadapt_tokenizers():
    return TOKENIZERS


@hookimpl
def langadapt_embedding_inits():
    return INITS
