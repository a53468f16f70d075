"""What the stages that train have in common: their options, their checks and their estimates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from langadapt import compute
from langadapt.errors import UserError, nearest
from langadapt.machine import optimizer
from langadapt.models import LOSS_CHUNK, ModelShape
from langadapt.plugins import Registry, registry
from langadapt.recipe import CorpusRef, ReadingOptions, Rehearsal, ReplayField, check_fields

if TYPE_CHECKING:
    from langadapt.inputs import Input
    from langadapt.plan import PlannedStage, Planner

UPSTREAM = "transformers.training_args:TrainingArguments"

# What the trainer gets when the recipe is silent; names are TrainingArguments', `max_length` is trl's.
TRAINING: dict[str, Any] = {
    "learning_rate": 2e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "num_train_epochs": 1.0,
    "max_steps": -1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_length": 1024,
    "optim": "adamw_torch",
    "activation_checkpointing": False,
    "logging_steps": 10,
    "save_steps": 500,
}
OWNED = {
    "output_dir": "checkpoints are kept in the run's folder",
    "report_to": "metrics go to events.jsonl",
    "seed": "it is the recipe's seed",
    "data_seed": "it is the recipe's seed",
    "remove_unused_columns": "rows are already packed",
    "use_cpu": "it follows from the machine",
    "disable_tqdm": "progress is shown by langadapt",
    "gradient_checkpointing": "transformers 5 calls it activation_checkpointing",
    "do_eval": "eval_strategy says whether the training is measured on held-out text while it runs",
    "metric_for_best_model": "it is bits per byte of held-out text",
    "greater_is_better": "fewer bits are better",
    "average_tokens_across_devices": "a step's loss is a mean over the tokens of all processes",
    "fsdp": "[compute] says which processes train, and how they share the work",
    "fsdp_config": "they are the options of [compute]",
    "deepspeed": "[compute] says which processes train, and how they share the work",
    "push_to_hub": "uploads are asked for, never a side effect of training",
    "max_seq_length": "trl calls it max_length",
}
# Keys beside the fields of TrainingArguments, each with a value of its type: trl's, and EarlyStoppingCallback's.
BESIDE = {"max_length": 1, "early_stopping_patience": 1, "early_stopping_threshold": 0.0}


class TrainedOptions(ReadingOptions):
    """Options of a stage that trains."""

    weight_by: Literal["tokens", "documents"] = Field("tokens", description="What the weights are shares of.")
    temperature: float | None = Field(
        None, ge=1, description="Shares in proportion to (weight x size)^(1/T); not set: to the weights alone."
    )
    replay: ReplayField = Field(None, description="Share of text in the source language, or { share, corpus }.")
    peft: dict[str, Any] = Field(
        {"method": "lora"}, validate_default=True, description="Strategy and its options, by PEFT's names."
    )
    training: dict[str, Any] = Field({}, validate_default=True, description="Options of the trainer, by its own names.")

    defaults: ClassVar[Mapping[str, Any]] = TRAINING
    beside: ClassVar[Mapping[str, Any]] = BESIDE
    owned: ClassVar[Mapping[str, str]] = OWNED
    measured: ClassVar[Literal["text", "answers", "preferences"]] = "text"  # how its held-out documents are measured

    @field_validator("peft")
    @classmethod
    def _with_strategy_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        method = value.get("method", "lora")
        strategies = registry().peft_strategies
        defaults = strategies[method].defaults if isinstance(method, str) and method in strategies else {}
        return {"method": method, **defaults, **value}

    @field_validator("training")
    @classmethod
    def _with_training_defaults(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {**cls.defaults, **value}

    @property
    def upstream(self) -> str:
        """The class whose fields [stage.training] may set."""
        return UPSTREAM

    @property
    def answers(self) -> int:
        """Sequences that an example is trained on: two of a pair."""
        return 1

    @property
    def asks_reference(self) -> bool:
        """Whether every step also asks the model that the stage starts from."""
        return False

    @property
    def passes(self) -> int:
        """Forward passes over an example beside the one that it is learnt by."""
        return 0

    @property
    def refs(self) -> tuple[CorpusRef, ...]:
        return (*self.corpus, *([self.replay.corpus] if self.replay and self.replay.corpus else []))

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        yield from super().check(known)
        yield from self._replay_problems(known)
        method = self.peft["method"]
        if not isinstance(method, str) or method not in known.peft_strategies:
            yield (
                ("peft", "method"),
                f'no plugin offers the PEFT strategy "{method}"',
                known.peft_strategies.missing(str(method)),
            )
        else:
            strategy = known.peft_strategies[method]
            options = {k: v for k, v in self.peft.items() if k != "method"}
            for key, words in strategy.choices.items():
                if isinstance(options[key], str) and options[key] not in words:
                    yield ("peft", key), f"{options[key]!r} is not one of its values", nearest(str(options[key]), words)
            yield from check_fields(strategy.upstream, options, ("peft",), strategy.defaults, strategy.owns)
        yield from check_fields(self.upstream, self.training, ("training",), self.beside, self.owned)
        for key, message, hint in self._measuring_problems():
            yield ("training", key), message, hint
        for key in ("max_length", "per_device_train_batch_size", "gradient_accumulation_steps"):
            value = self.training[key]
            if isinstance(value, int) and value < 1:
                yield ("training", key), f"{value} is not at least 1", ""

    def _measuring_problems(self) -> Iterable[tuple[str, str, str]]:
        """What is wrong with measuring while training: key, message, hint."""
        training = self.training
        measured = training.get("eval_strategy", "no") != "no"
        for key in ("early_stopping_patience", "load_best_model_at_end"):
            if training.get(key) and not measured:
                yield key, "nothing is measured while the model learns", 'set eval_strategy = "steps" and eval_steps'
        if not measured:
            return
        if not any(ref.held_out for ref in self.corpus):
            yield "eval_strategy", "no corpus of the stage holds text out", "raise held_out"
        if training.get("early_stopping_patience") and not training.get("load_best_model_at_end"):
            yield (
                "early_stopping_patience",
                "the model would be the last and not the best",
                "set load_best_model_at_end",
            )
        steps = training.get("eval_steps")
        if training["eval_strategy"] == "steps" and not steps:
            yield "eval_steps", 'eval_strategy = "steps" needs it', "a number of steps"
        elif training.get("load_best_model_at_end") and steps and training["save_steps"] % steps:
            message = f"save_steps = {training['save_steps']} is no multiple of eval_steps = {steps}"
            yield "save_steps", f"{message}, so the best model may not be among those that are saved", ""

    def _replay_problems(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        if self.replay and self.replay.corpus:
            for place, message, hint in self.replay.corpus.check(known):
                yield ("replay", "corpus", *place), message, hint
            if self.replay.corpus.weight != 1:
                yield ("replay", "corpus", "weight"), "this corpus has no weight in the mix", "say it as replay.share"
        elif self.replay and self.measured != "text":
            hint = f'replay = {{ share = {self.replay.share:g}, corpus = "…" }}'
            yield ("replay",), "a corpus must be named, because languages name one of running text alone", hint

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step, on all processes together; see `langadapt.compute`."""
        return int(self.training["per_device_train_batch_size"]) * int(self.training["gradient_accumulation_steps"])

    @property
    def max_steps(self) -> int | None:
        """Steps that the recipe fixes; None when epochs decide."""
        steps = int(self.training["max_steps"])
        return steps if steps > 0 else None

    def shrunk(self, rehearsal: Rehearsal, *, steps: int, length: int) -> TrainedOptions:
        """At the scale of a rehearsal: few and small steps, a higher learning rate, a larger held-out share."""
        training = dict(self.training)
        training["max_steps"] = min(steps, self.max_steps or steps)
        training["max_length"] = min(length, training["max_length"])
        rows = max(1, rehearsal.batch_tokens // training["max_length"])
        training["per_device_train_batch_size"] = min(rows, training["per_device_train_batch_size"])
        training["gradient_accumulation_steps"] = 1
        whole = registry().peft_strategies[self.peft["method"]].trains_base
        scale = rehearsal.full_learning_rate_scale if whole else rehearsal.learning_rate_scale
        training["learning_rate"] = float(f"{training['learning_rate'] * scale:.6g}")
        if training["warmup_steps"] >= 1:  # a number of steps that the few here would never reach
            training["warmup_steps"] = TRAINING["warmup_steps"]
        training.update(activation_checkpointing=False, logging_steps=1, save_steps=100)
        if training.get("eval_steps"):
            training["eval_steps"] = training["save_steps"] = max(1, training["max_steps"] // 4)
        peft = dict(self.peft)
        if "lora_dropout" in peft:  # it keeps many epochs from overfitting; here every token is seen once
            peft["lora_dropout"] = 0.0
        corpus = [ref.model_copy(update={"held_out": max(ref.held_out, rehearsal.held_out)}) for ref in self.corpus]
        return self.model_copy(update={"training": training, "corpus": corpus, "peft": peft})


def plan_training(stage: PlannedStage, planner: Planner, options: TrainedOptions) -> None:
    """Inputs, steps, tokens, memory, disk and time of a stage that trains."""
    from langadapt.plan import REFERENCE, UTILISATION

    shared = compute.processes(planner.recipe.table.compute, planner.machine)
    stage.inputs = [planner.input(ref) for ref in options.corpus]
    _plan_mix(stage, planner, options)
    strategy = planner.registry.peft_strategies[options.peft["method"]]
    owner = planner.registry.peft_strategies.owner(options.peft["method"])
    stage.ingredients["strategy"] = f"{strategy.name} of {owner.distribution} {owner.version}"
    stage.notes += _substitutions(options, planner.machine.cuda, planner.machine.bf16)
    _plan_processes(stage, shared, options, weight_bits=strategy.weight_bits(options.peft))
    length, rows = int(options.training["max_length"]), options.rows_per_step * options.answers
    estimated = _steps_from_pairs if options.measured == "preferences" else _steps_from_bytes
    stage.steps = options.max_steps or estimated(stage, options)
    stage.tokens = stage.steps * rows * length if stage.steps else None
    shape = planner.shape
    if shape is None:
        return
    trainable = strategy.trainable(shape, options.peft)
    if options.asks_reference and strategy.trains_base:
        stage.notes.append("the base learns, so a frozen copy of it is kept in memory as the reference")
    if trainable is None:
        stage.notes.append("how many weights learn shows in the run; the estimates leave them out")
        trainable = 0
    else:
        stage.notes.append(f"{trainable / 1e6:,.1f} M of {shape.parameters / 1e6:,.1f} M weights learn")
    of_process = options.model_copy(update={"training": options.training | shared.share(options.training)})
    bits = strategy.weight_bits(options.peft)
    stage.estimate.memory = _memory(shape, trainable, bits, of_process, strategy.trains_base)
    checkpoint = trainable * 12
    stage.estimate.disk = (2 * shape.parameters if strategy.trains_base else 4 * trainable) + 2 * checkpoint
    if stage.tokens:
        # Forward 2 FLOPs a weight and token, the same again for the input's gradient, and for the weights' own where
        # they
        # learn; checkpointing repeats the forward pass.
        per_token = 2 * shape.parameters * (2 + trainable / shape.parameters)
        per_token += 2 * shape.parameters if options.training["activation_checkpointing"] else 0
        per_token += 2 * shape.parameters * options.passes
        devices = shared.total if planner.machine.cuda else shared.machines  # processes on one CPU share its cores
        stage.estimate.seconds = planner.seconds(stage.tokens * per_token / devices)
        stage.estimate.reference_seconds = stage.tokens * per_token / (REFERENCE[1] * UTILISATION)


def _plan_processes(
    stage: PlannedStage, shared: compute.Processes, options: TrainedOptions, *, weight_bits: float
) -> None:
    """What each of several processes does of a step."""
    stage.problems += [f"stage {stage.id}: {p}" for p in compute.problems(options, shared, weight_bits=weight_bits)]
    if shared.apart and (each := shared.share(options.training)):
        share = ", ".join(f"{key} {value}" for key, value in each.items())
        stage.notes.append(f"trained by {shared}, memory is that of one: {share}")


def _plan_mix(stage: PlannedStage, planner: Planner, options: TrainedOptions) -> None:
    """The shares of the corpora, as the stage's `work`; the one that replays comes last."""
    from langadapt.corpus.mixing import plan_mix, shares_in_words

    sized = [(found.label, _bytes(found)) for found in stage.inputs]
    if options.replay:
        language = planner.registry.languages[planner.recipe.table.language]
        if not (options.replay.corpus or language.replay):
            stage.problems.append(
                f"stage {stage.id}: {language.name} names no corpus to replay; "
                f'replay = {{ share = {options.replay.share:g}, corpus = "…" }} names one'
            )
            return
        ref = options.replay.corpus or CorpusRef(name=language.replay, held_out=0)
        stage.inputs.append(planner.input(ref))
        stage.problems += _measured_on(ref, planner)
    try:
        mix = plan_mix(
            [ref.weight for ref in options.corpus],
            sized,
            by=options.weight_by,
            temperature=options.temperature,
            replay=options.replay.share if options.replay else None,
        )
    except UserError as error:
        stage.problems.append(f"stage {stage.id}: {error}")
        return
    stage.work = mix
    if len(stage.inputs) > 1:
        stage.notes.append(shares_in_words(stage.inputs, mix))
        if options.max_steps is None:
            stage.notes.append(
                "max_steps is not set, so the corpora are read to their ends, whatever their shares"
                + (", and replayed text ends with them" if options.replay else "")
            )


def _measured_on(ref: CorpusRef, planner: Planner) -> Iterable[str]:
    """Whether an evaluation scores all the text of a corpus that is to be replayed."""
    corpora = planner.registry.corpora
    for evaluation in planner.registry.evaluations.values():
        if ref.name and evaluation.method == "bits_per_byte" and corpora[evaluation.corpus] is corpora[ref.name]:
            yield (
                f"replay: the evaluation {evaluation.name} measures on {ref.name}, so a model that was trained on it "
                "would seem to have kept more than it did; replay another corpus"
            )


def prompt_ingredient(name: str, known: Registry) -> str:
    """What a prompt format makes of a fixed dialogue, as an ingredient of the digest: it changes when the template
    does.
    """
    import dataclasses

    from langadapt.artifacts import digest
    from langadapt.records import Message

    format = known.prompts[name]
    probe = [
        Message(role="user", content="a", context="b"),
        Message(role="assistant", content="c"),
        Message(role="user", content="d"),
        Message(role="assistant", content="e"),
    ]
    return digest([format.version, *(dataclasses.astuple(s) for s in format.render(probe, format.system_prompt))])


def _substitutions(options: TrainedOptions, cuda: bool, bf16: bool) -> list[str]:
    notes = []
    if note := optimizer(str(options.training["optim"]), cuda=cuda)[1]:
        notes.append(note)
    if not bf16:
        notes.append("this processor has no bf16 instructions; fp32 is used")
    return notes


def _steps_from_bytes(stage: PlannedStage, options: TrainedOptions) -> int | None:
    """Steps of `num_train_epochs` over corpora of known size, at the usual three to four bytes of text a token."""
    sizes = [_bytes(found) for found in stage.inputs[: len(options.corpus)]]
    if any(size is None for size in sizes):
        return None
    read = sum((size or 0) * ref.epochs for size, ref in zip(sizes, options.corpus, strict=True))
    read /= 1 - (options.replay.share if options.replay else 0)
    tokens = read / 3.5 * float(options.training["num_train_epochs"])
    stage.notes.append("steps are estimated from the size of the text at 3.5 bytes a token")
    return max(1, round(tokens / (int(options.training["max_length"]) * options.rows_per_step)))


def _steps_from_pairs(stage: PlannedStage, options: TrainedOptions) -> int | None:
    """Steps of `num_train_epochs` over sets whose number of pairs is known; one by one, their answers are twice as many."""
    sizes = [_documents(found) for found in stage.inputs[: len(options.corpus)]]
    if any(size is None for size in sizes):
        return None
    stage.notes.append("tokens are estimated as if every answer were max_length long with its prompt")
    read = sum((size or 0) * ref.epochs for size, ref in zip(sizes, options.corpus, strict=True))
    read /= 1 - (options.replay.share if options.replay else 0)
    examples = read * 2 / options.answers * float(options.training["num_train_epochs"])
    return max(1, round(examples / options.rows_per_step))


def _bytes(found: Input) -> float | None:
    """Bytes of text that are read: all, or the share of them that the first documents are."""
    all_, limit = found.record.documents if found.record else None, found.ref.max_documents
    return (
        found.bytes * min(1, limit / all_) if found.bytes and all_ and limit and found.where == "hub" else found.bytes
    )


def _documents(found: Input) -> int | None:
    """How many documents are read, when that is known."""
    all_ = found.record.documents if found.record and found.where == "hub" else None
    return min(all_, found.ref.max_documents or all_) if all_ else None


def _memory(
    shape: ModelShape, trainable: int, weight_bits: float, options: TrainedOptions, trains_base: bool
) -> dict[str, int]:
    """Bytes by part. Activations: what a block of the Llama family keeps for its backward pass, in 16 bits."""
    rows = int(options.training["per_device_train_batch_size"]) * options.answers
    tokens = int(options.training["max_length"]) * rows
    hidden, inner = shape.hidden_size, shape.intermediate_size
    block = 2 * tokens * (10 * hidden + 4 * inner) + (0 if trains_base else 2 * tokens * (4 * hidden + 3 * inner))
    layers = shape.num_hidden_layers
    kept = 2 * tokens * hidden * layers + block if options.training["activation_checkpointing"] else block * layers
    if trains_base:
        weights = 4 * trainable + 2 * (shape.parameters - trainable)
    else:
        weights = int(shape.linear_parameters * weight_bits / 8) + 2 * shape.embedding_parameters
    return {
        "weights": weights,
        **({"reference": 4 * shape.parameters} if options.asks_reference and trains_base else {}),
        "adapters": 0 if trains_base else 4 * trainable,
        "gradients": 4 * trainable,
        "optimizer": 8 * trainable,
        "activations": kept,
        "logits": min(tokens, LOSS_CHUNK) * shape.vocab_size * 6,
    }
