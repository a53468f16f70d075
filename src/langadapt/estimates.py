"""What memory a stage takes at its peak, by part, from the model's shape and the stage's options. Imports no torch.

A stage passes through moments: weights are read, a loss is taken, gradients come back, the optimizer steps. Each needs
other things at the same time; the peak is the largest sum. Every term below is something that exists, with the reason
why it does; `benchmarks/memory.py` holds the sums against measured peaks.

Figures are for one process: on a CPU its whole memory, on a GPU what is on the device.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from langadapt.models import LOSS_CHUNK, PROBS_CHUNK, ModelShape

if TYPE_CHECKING:
    from langadapt.machine import Machine

Parts = dict[str, int]

FP32 = 4  # bytes
# What a process holds before there is a model: on a CPU the interpreter and the imported libraries (torch,
# transformers, peft, trl, bitsandbytes); on a GPU the CUDA context, and what torch had allocated beside all terms below
# whatever was trained, probably workspaces of matrix products (about 700 and 200 MiB on one H100 with CUDA 13).
LIBRARIES_CPU = 720 * 2**20
IMPORTED_CPU = 610 * 2**20  # of those, what is there before anything is computed
CONTEXT_CUDA = 700 * 2**20
LIBRARIES_CUDA = CONTEXT_CUDA + 200 * 2**20
OPTIMIZER_BYTES = {"8bit": 2, "4bit": 1, "sgd": 0, "adafactor": 0}  # a weight, by a part of the name; AdamW keeps 8


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the memory of a training depends on.

    Attributes:
        shape: of the model.
        reached: names of base weights that learn, or that have an adapter beside them.
        trainable: weights that learn.
        trains_base: whether they are the base's own.
        weight_bits: of a frozen weight of the blocks' linear layers.
        rows: of one forward pass.
        length: tokens of a row.
        number: bytes of a number that the model computes with.
        cuda: whether it is on a GPU.
        separated: whether packed documents are kept apart by a mask.
        dropout: whether an adapter's inputs are dropped out.
        rank: of the adapter.
        dora: whether the adapter learns lengths apart from directions.
        checkpointing: whether blocks are computed a second time for the backward pass.
        reference: whether the model is compared with what it was.
        fused: whether `langadapt.fused` computes the blocks.
        average: whether an average of what learns is kept.
        rows_apart: whether rows of the embedding and the head learn apart from their matrices.
        optim: name of the optimizer.
    """

    shape: ModelShape
    reached: Collection[str]
    trainable: int
    trains_base: bool
    weight_bits: float
    rows: int
    length: int
    number: int
    cuda: bool = False
    separated: bool = True
    dropout: bool = False
    rank: int = 0
    dora: bool = False
    checkpointing: bool = False
    reference: bool = False
    fused: bool = False
    average: bool = False
    rows_apart: bool = False
    optim: str = "adamw_torch"

    @property
    def fused_adapters(self) -> bool:
        """Whether linear layers with adapters are fused too."""
        return self.fused and self.rank > 0 and not self.trains_base

    @property
    def tokens(self) -> int:
        """Of one forward pass."""
        return self.rows * self.length

    @cached_property
    def linears(self) -> dict[int, list[str]]:
        """Names of the linear layers that are reached, by block; plans ask for them thousands of times."""
        found: dict[int, list[str]] = {}
        for name in self.reached:
            parts = name.split(".")
            if name.startswith("model.layers.") and "norm" not in name:
                found.setdefault(int(parts[2]), []).append(parts[-2])
        return found


def evaluation(shape: ModelShape, machine: Machine, *, tokens: int) -> Parts:
    """Bytes by part at the peak of measuring a model on windows of `tokens`."""
    number = _number(machine)
    weights = {"libraries": libraries(machine.cuda), "weights": number * shape.parameters}
    logits = _logits(shape, tokens, number, machine.cuda)
    return _largest(_reading(shape, machine.cuda, number), weights | {"logits": logits})


def merge(shape: ModelShape, machine: Machine, *, tokens: int) -> Parts:
    """Bytes by part at the peak of a merge whose certificate compares distributions at `tokens` places: those of the
    merged model, of the one compared last, and of the one that is asked.
    """
    number = _number(machine)
    logits = 3 * tokens * shape.vocab_size * FP32
    weights = {"libraries": libraries(machine.cuda), "weights": number * shape.parameters}
    return _largest(_reading(shape, machine.cuda, number), weights | {"logits": logits})


def training(stage: Training) -> Parts:
    """Bytes by part at the peak of a training."""
    number = FP32 if stage.weight_bits == 32 else stage.number
    reading = _reading(stage.shape, stage.cuda, number)
    reading["weights"] -= _unread(stage)
    if stage.weight_bits < 16 and stage.cuda:  # quantised on the way to it, layer by layer
        reading["weights"] = _weights(stage)
    elif stage.weight_bits < 16 and "files" not in reading:  # beside the mapped file
        reading["weights"] += _weights(stage)
    return _largest(reading, _forward(stage), _loss(stage), _backward(stage), _step(stage), _saving(stage))


def _largest(*moments: Parts) -> Parts:
    return max(moments, key=lambda parts: sum(parts.values()))


def _number(machine: Machine) -> int:
    """Bytes of a number that a model computes with."""
    return 2 if machine.bf16 else FP32


# --- what is there all the time -------------------------------------------------------------------------------------


def libraries(cuda: bool) -> int:
    """What a process takes before it has a model."""
    return LIBRARIES_CUDA if cuda else LIBRARIES_CPU


def _kept(stage: Training) -> Parts:
    """From the first step's end to the last's."""
    return {
        "libraries": libraries(stage.cuda),
        "weights": _weights(stage),
        **({"reference": _weights(stage)} if stage.reference and stage.trains_base else {}),
        "adapters": 0 if stage.trains_base else FP32 * stage.trainable,
        "optimizer": _optimizer_bytes(stage.optim) * stage.trainable,
        **({"average": FP32 * stage.trainable} if stage.average else {}),
    }


def _weights(stage: Training) -> int:
    """Those that learn in fp32; the others in the type of the arithmetic, or quantised."""
    shape = stage.shape
    if stage.trains_base:
        return FP32 * stage.trainable + stage.number * (shape.parameters - stage.trainable) - _unread(stage)
    linear = stage.weight_bits / 8 if stage.weight_bits < 16 else stage.number
    whole = int(shape.linear_parameters * linear) + stage.number * (shape.parameters - shape.linear_parameters)
    return whole - _unread(stage)


def _unread(stage: Training) -> int:
    """Rows of an embedding that no text asks for are never read from a mapped file. A head is; and what learns, or lies
    beside quantised weights, has been copied.
    """
    shape = stage.shape
    copied = stage.cuda or stage.weight_bits < 16 or stage.trains_base or stage.rows_apart
    if copied or shape.tie_word_embeddings or not _as_stored(shape, stage.number):
        return 0
    return stage.number * shape.vocab_size * shape.hidden_size


def _optimizer_bytes(optim: str) -> int:
    """Of a weight that learns: two moments in fp32 unless the optimizer's name says otherwise."""
    return next((size for word, size in OPTIMIZER_BYTES.items() if word in optim), 2 * FP32)


# --- the moments -----------------------------------------------------------------------------------------------------


def _reading(shape: ModelShape, cuda: bool, number: int) -> Parts:
    """While the weights are read: the whole model, before anything is quantised.

    On a CPU, the files that it comes from are mapped into the process, and count as far as they were read. Weights that
    are stored as they are computed with stay where they are mapped; others exist beside.
    """
    reading = {"libraries": LIBRARIES_CUDA if cuda else IMPORTED_CPU, "weights": number * shape.parameters}
    if not cuda and not _as_stored(shape, number):
        reading["files"] = (FP32 if shape.dtype == "float32" else 2) * shape.parameters
    return reading


def _forward(stage: Training) -> Parts:
    """At the end of the forward pass through the blocks."""
    return _kept(stage) | {"activations": activations(stage) + _holes(stage)}


def _as_stored(shape: ModelShape, number: int) -> bool:
    """Whether weights are stored as they are computed with, so that they stay where they are mapped."""
    return shape.dtype == ("float32" if number == FP32 else "bfloat16")


def _loss(stage: Training) -> Parts:
    """When all activations are kept and the logits of a chunk exist; before them, holes are given back. In 16 bits, a head
    that learns in fp32 is cast.
    """
    gradient = _head_gradient(stage)
    cast = stage.shape.vocab_size * stage.shape.hidden_size * stage.number if gradient and stage.number < FP32 else 0
    held = {"activations": activations(stage), "gradients": gradient, "working": _with_rows(stage) + cast}
    return _kept(stage) | held | {"logits": _logits(stage.shape, stage.tokens, stage.number, stage.cuda)}


def _logits(shape: ModelShape, tokens: int, number: int, cuda: bool) -> int:
    """Those of one chunk as the head makes them, and on a GPU the probabilities of some of its tokens in fp32."""
    return shape.vocab_size * (number * min(tokens, LOSS_CHUNK) + FP32 * min(tokens, PROBS_CHUNK) * cuda)


def _backward(stage: Training) -> Parts:
    """When the gradients come back into the topmost block: its activations still exist, and the gradients of the widest
    of them beside.
    """
    shape = stage.shape
    wide = 3 * stage.tokens * shape.intermediate_size * stage.number
    again = sum(saved(stage, shape.num_hidden_layers - 1).values()) if stage.checkpointing else 0
    return _kept(stage) | {"activations": activations(stage) + again + wide, "gradients": _head_gradient(stage)}


def _step(stage: Training) -> Parts:
    """When the optimizer steps: all gradients exist. It works in one kernel (`fused`), else on one matrix after the other on
    a CPU, on a GPU on all of them at once (`foreach`). There, activations are gone; the C library of a CPU cannot give
    their memory back to the system, because gradients and moments were put between them.
    """
    shape = stage.shape
    sizes = [size for name, size in shape.weights.items() if name in stage.reached] if stage.trains_base else [0]
    working = FP32 * stage.trainable if stage.cuda else 2 * FP32 * max(sizes, default=0)
    working *= "fused" not in stage.optim
    working = max(working, _with_rows(stage))  # whose gradient comes as that of a whole matrix, last of all
    left = 0 if stage.cuda else activations(stage)
    return _kept(stage) | {"gradients": FP32 * stage.trainable, "activations": left, "working": working}


def _saving(stage: Training) -> Parts:
    """When a model whose own weights learnt is rounded to 16 bits, one matrix after the other: beside the largest are the
    chances that round it, their sum, and the outcome.
    """
    sizes = [n for name, n in stage.shape.weights.items() if stage.number == FP32 or name in stage.reached]
    rounding = (2 * FP32 + 2) * max(sizes, default=0) if stage.trains_base else 0
    return _kept(stage) | {"activations": 0 if stage.cuda else activations(stage), "working": rounding}


# --- activations -----------------------------------------------------------------------------------------------------


def activations(stage: Training) -> int:
    """What the forward pass keeps for the backward pass, of all blocks and around them."""
    shape, tokens = stage.shape, stage.tokens
    first = lowest(stage)
    learning = range(first, shape.num_hidden_layers)
    blocks = (
        len(learning) * tokens * shape.hidden_size * stage.number
        if stage.checkpointing
        else sum(sum(saved(stage, number).values()) for number in learning)
    )
    # The last norm's input, what it gives, its learnt rows and their gradient.
    around = (_normed(stage) + 3 * stage.number) * tokens * shape.hidden_size
    return blocks + around + _casts(stage)


def _casts(stage: Training) -> int:
    """Copies in 16 bits of weights that learn in fp32, which are kept for the backward pass; what is fused casts anew."""
    if stage.number == FP32 or stage.fused_adapters:
        return 0
    if not stage.trains_base:
        return stage.number * stage.trainable
    shape = stage.shape
    return stage.number * sum(
        shape.weights[name] for name in stage.reached if name.split(".")[-2] in shape.linears and "layers." in name
    )


def _normed(stage: Training) -> int:
    """Bytes of a number that norms keep of their inputs: they compute in fp32, and those of the library keep that."""
    return FP32 if not stage.fused or _embedding_learns(stage) else stage.number


def saved(stage: Training, block: int) -> Parts:
    """Bytes of every tensor that one block keeps for its backward pass, by name.

    As torch's autograd saves them of transformers' Llama, or of it with `langadapt.fused`: shared tensors stand here
    once.
    """
    shape, tokens, number, fused = stage.shape, stage.tokens, stage.number, stage.fused
    hidden, inner, heads = shape.hidden_size, shape.intermediate_size, shape.num_attention_heads
    # For SDPA, keys are repeated for every head where there is a mask, and by us where documents go one by one.
    keys = hidden if _one_by_one(stage) or (stage.separated and not fused) else shape.linears["k_proj"][1]
    return {
        "inputs of the norms": (1 if block == _unasked(stage) else 2) * tokens * hidden * _normed(stage),
        "normalised": 0 if fused else _normalised(stage, block),
        "queries": tokens * hidden * number,
        "keys and values": 2 * tokens * keys * number,
        # SDPA turns it into numbers, in every block.
        "mask": tokens * stage.length * number if stage.separated and not fused else 0,
        "attended": tokens * hidden * number,
        "sums of the softmax": tokens * heads * FP32 * (not fused or stage.cuda),
        # SiLU keeps its input, the product both factors; what is fused makes the activation again.
        "gate, its activation, up": (2 if _fused_mlp(stage, block) else 3) * tokens * inner * number,
        "inputs of linear layers": _inputs(stage, block),
        "adapters": sum(_beside(stage, name) for name in _adapted(stage, block)),
    }


def _flash(stage: Training) -> bool:
    """Whether attention runs in one kernel for documents of unequal length."""
    return stage.fused and stage.cuda and stage.number == 2


def _one_by_one(stage: Training) -> bool:
    """Whether attention runs document by document, each with a part in torch's autograd of its own."""
    return stage.fused and stage.cuda and not _flash(stage)


def _fused_mlp(stage: Training, block: int) -> bool:
    layers = set(_linears(stage, block))
    return stage.fused_adapters and not stage.dora and {"gate_proj", "up_proj", "down_proj"} <= layers


def _normalised(stage: Training, block: int) -> int:
    """A norm whose weight learns keeps what it multiplies it with, in the type that blocks hand on."""
    norms = [name for name in stage.reached if name.startswith(f"model.layers.{block}.") and "norm" in name]
    number = FP32 if _embedding_learns(stage) else stage.number
    return len(norms) * stage.tokens * stage.shape.hidden_size * number if stage.trains_base else 0


# Linear layers of a block by what they read.
SOURCES = {
    "q_proj": "attention", "k_proj": "attention", "v_proj": "attention", "o_proj": "attended", "gate_proj": "mlp",
    "up_proj": "mlp", "down_proj": "down",
}  # fmt: skip


def _inputs(stage: Training, block: int) -> int:
    """Inputs of linear layers whose own weight or adapter learns. Layers that read the same share it in fp32, where they
    are fused, and on a GPU beside quantised weights, and the output projection's is what attention gave; elsewhere
    each casts a copy of its own, or drops out of it what the others do not.
    """
    shape, names = stage.shape, _linears(stage, block)
    uncast = (stage.number == FP32 or (stage.cuda and stage.weight_bits < 16)) and not stage.dropout
    kept: Parts = {}  # by source where it is shared, else by layer
    dropped = 0
    for name in names:
        source, size, fused = SOURCES[name], shape.linears[name][0], _fused_linear(stage, block, name)
        kept[source if fused or uncast else name] = size
        if stage.dropout:  # which inputs, as truth values, or by the library on a CPU as factors
            dropped += size * (1 if stage.cuda or fused else FP32)
    if _fused_mlp(stage, block):  # which makes it again
        kept.pop("down", None)
    if not _one_by_one(stage):  # which puts documents' outputs together, a copy
        kept.pop("attended", None)
    return stage.tokens * (sum(kept.values()) * stage.number + dropped)


def _fused_linear(stage: Training, block: int, name: str) -> bool:
    """Whether a layer is fused: only with all those that read the same, and in the MLP with all of it; under DoRA alone."""
    if stage.dora:
        return stage.fused_adapters
    if SOURCES[name] in ("mlp", "down"):
        return _fused_mlp(stage, block)
    alike = {other for other, source in SOURCES.items() if source == SOURCES[name]}
    return stage.fused_adapters and alike <= set(_linears(stage, block))


def _beside(stage: Training, name: str) -> int:
    """What the adapter of a linear layer keeps beside the input: what lies between its matrices, and under DoRA the
    output that it scales, which the library keeps in two parts.
    """
    scaled = stage.dora * (1 if stage.fused_adapters else 2)
    return stage.tokens * (stage.rank + scaled * stage.shape.linears[name][1]) * stage.number


def _holes(stage: Training) -> int:
    """What adapted layers leave unusable on a CPU: outputs that are freed before the block ends, into whose places the C
    library puts small tensors that are kept, so that no other output fits there. A GPU has a pool of its own for small
    tensors.
    """
    if stage.cuda or stage.checkpointing:
        return 0
    wide = 0
    for block in stage.linears:
        if _fused_mlp(stage, block):  # what the down projection reads
            wide += stage.shape.intermediate_size
        elif not stage.fused_adapters:  # a base's output and its adapter's, once they are added up
            wide += 2 * sum(stage.shape.linears[name][1] for name in _adapted(stage, block))
        elif stage.dora and stage.dropout:  # inputs of which some are dropped
            wide += sum(stage.shape.linears[name][0] for name in _adapted(stage, block))
    return stage.tokens * wide * stage.number


def _adapted(stage: Training, block: int) -> list[str]:
    """Names of the block's linear layers that have an adapter beside them."""
    return [] if stage.trains_base else _linears(stage, block)


def _linears(stage: Training, block: int) -> list[str]:
    """Names of the block's linear layers that are reached."""
    return stage.linears.get(block, [])


def _with_rows(stage: Training) -> int:
    """A matrix in which rows that learn apart from it are put in their places."""
    return stage.number * stage.shape.vocab_size * stage.shape.hidden_size if stage.rows_apart else 0


def lowest(stage: Training) -> int:
    """The lowest block that gradients come back to."""
    shape = stage.shape
    if _embedding_learns(stage) or stage.rows_apart:
        return 0
    blocks = [int(name.split(".")[2]) for name in stage.reached if name.startswith("model.layers.")]
    return min(blocks, default=shape.num_hidden_layers)


def _unasked(stage: Training) -> int | None:
    """The block whose own input needs no gradient, because nothing below it learns; None where something does."""
    return None if _embedding_learns(stage) or stage.rows_apart else lowest(stage)


def _embedding_learns(stage: Training) -> bool:
    return stage.trains_base and "model.embed_tokens.weight" in stage.reached


def _head_gradient(stage: Training) -> int:
    """That of the matrix that makes the logits, twice: summed up, and of one chunk or scaled by the loss's own."""
    shape = stage.shape
    name = "model.embed_tokens.weight" if shape.tie_word_embeddings else "lm_head.weight"
    learns = stage.trains_base and name in stage.reached
    return 2 * FP32 * shape.vocab_size * shape.hidden_size if learns else 0
