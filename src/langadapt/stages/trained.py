"""What the stages that train have in common: their options, their checks and their estimates."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from langadapt import compute, estimates, trackers
from langadapt.errors import UserError, nearest, written
from langadapt.machine import Machine, optimizer
from langadapt.models import FUSED, ModelShape
from langadapt.plugins import Registry, registry
from langadapt.recipe import Corpora, CorpusRef, ReadingOptions, Rehearsal, ReplayField, SourceField, check_fields
from langadapt.upstream import SHARES, schedule

if TYPE_CHECKING:
    from langadapt.inputs import Input
    from langadapt.plan import PlannedStage, Planner
    from langadapt.records import PeftStrategy

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
# Keys beside the fields of TrainingArguments, each with a value of its type: trl's, EarlyStoppingCallback's, and ours.
BESIDE: dict[str, Any] = {
    "max_length": 1,
    "max_bytes": 1,
    "early_stopping_patience": 1,
    "early_stopping_threshold": 0.0,
    "learning_rates": {},
    "unfreeze": {},
    "ema_decay": 0.0,
    "kernels": "auto",
}
# What these keys mean, for the documentation and for editors; all others are explained by the libraries.
MEANINGS = {
    "learning_rate": "The highest learning rate.",
    "lr_scheduler_type": "A schedule of transformers, by its name.",
    "warmup_steps": "Below 1 a share of all steps, else a number of steps.",
    "weight_decay": "Decoupled weight decay.",
    "max_grad_norm": "Gradients are clipped to this norm.",
    "num_train_epochs": "Passes over the rows, when `max_steps` does not decide.",
    "max_steps": "Optimizer steps; above 0 it decides, and epochs do not count.",
    "per_device_train_batch_size": "Rows in a forward pass; of preferences, pairs.",
    "gradient_accumulation_steps": "Forward passes in a step.",
    "max_length": "Tokens in a row.",
    "optim": "Optimizer; those that need CUDA are replaced where there is none.",
    "activation_checkpointing": "Compute activations twice and keep few: less memory, more time.",
    "logging_steps": "Steps between lines of `events.jsonl`.",
    "save_steps": "Steps between checkpoints, from which a stopped run goes on.",
    "max_bytes": "Bytes of text with which the training ends, in place of `max_steps`.",
    "early_stopping_patience": "Measurements that were no better, after which the training ends.",
    "early_stopping_threshold": "How much better counts as better, in bits per byte.",
    "learning_rates": 'A highest rate of their own for weights whose names match: `{ "*embed_tokens*" = 5e-6 }`.',
    "unfreeze": "Steps, or below 1 a share of them, for which weights whose names match stand still.",
    "ema_decay": "Keep a moving average of the weights that learn, and save that; 0.999 averages over 1 000 steps.",
    "kernels": '`"auto"` fuses the blocks of models that it knows, `"fused"` insists on it, `"plain"` does not.',
}
KERNELS = ("auto", "fused", "plain")
BYTES_PER_TOKEN = 3.5  # of text, usually
WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")  # schedules that do not look at warmup_steps
WSD_CURVES = ("linear", "cosine", "1-sqrt")  # what transformers' get_wsd_schedule knows


# Which values of an option make sense, and how that is said.
_FROM_1: tuple[Callable[[float], bool], str] = (lambda value: value >= 1, "at least 1")
_FROM_0: tuple[Callable[[float], bool], str] = (lambda value: value >= 0, "0 or more")
_ABOVE_0: tuple[Callable[[float], bool], str] = (lambda value: value > 0, "above 0")
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "max_length": _FROM_1, "max_bytes": _FROM_1,
    "per_device_train_batch_size": _FROM_1, "gradient_accumulation_steps": _FROM_1,
    "learning_rate": _ABOVE_0, "num_train_epochs": _ABOVE_0, "logging_steps": _ABOVE_0, "save_steps": _ABOVE_0,
    "eval_steps": _ABOVE_0, "weight_decay": _FROM_0, "max_grad_norm": _FROM_0,
    "max_steps": (lambda value: value >= 1 or value == -1, "at least 1, or -1 for as many as the epochs need"),
    "warmup_steps": (
        lambda value: 0 <= value < 1 or (value >= 1 and value == int(value)),
        "a share of the steps below 1, or a number of them",
    ),
}  # fmt: skip


class TrainedOptions(ReadingOptions):
    """Options of a stage that trains."""

    corpus: Corpora = Field(
        min_length=1,
        description="What to train on: names of registered corpora, paths of yours, or tables with weights.",
    )
    weight_by: Literal["tokens", "documents"] = Field(
        "tokens", description='What the weights are shares of: `"tokens"` or `"documents"`.'
    )
    temperature: float | None = Field(
        None, ge=1, description="Shares in proportion to (weight × size)^(1/T); not set: to the weights alone."
    )
    replay: ReplayField = Field(None, description="Share of text in the source language, or `{ share, corpus }`.")
    calibration: SourceField = Field(
        None,
        description="Text in the source language for a strategy that asks for it, such as `ssu`; not set: the "
        "replayed corpus, or what the language's plugin names.",
    )
    peft: dict[str, Any] = Field(
        {"method": "lora"},
        validate_default=True,
        description="Which weights learn: a strategy by its `method`, and its options, by PEFT's names.",
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
        still = {"warmup_steps": 0} if value.get("lr_scheduler_type") in WITHOUT_WARMUP else {}
        return {**cls.defaults, **still, **value}

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
        replayed = self.replay.corpus if self.replay else None
        return (*self.corpus, *(ref for ref in (replayed, self.calibration) if ref))

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
                    yield (
                        ("peft", key),
                        f"{written(options[key])} is not one of its values",
                        nearest(str(options[key]), words),
                    )
            yield from check_fields(strategy.upstream, options, ("peft",), strategy.defaults, strategy.owns)
            yield from self._calibration_problems(known, strategy)
        yield from check_fields(self.upstream, self.training, ("training",), self.beside, self.owned)
        for message, hint in trackers.problems(self.training):
            yield ("training", "report_to"), message, hint
        if self.max_bytes and self.max_steps:
            yield ("training", "max_bytes"), "max_steps says already when the training ends", "leave one of them out"
        for key, message, hint in self._measuring_problems():
            yield ("training", key), message, hint
        for key, message, hint in _pattern_problems(self.training):
            yield ("training", *key), message, hint
        for key, message, hint in _schedule_problems(self.training):
            yield ("training", *key), message, hint
        kernels = self.training.get("kernels", "auto")
        if isinstance(kernels, str) and kernels not in KERNELS:
            yield ("training", "kernels"), f'"{kernels}" is not one of its values', nearest(kernels, KERNELS)
        elif kernels == "fused" and self.measured == "preferences":
            yield ("training", "kernels"), "pairs of answers are not trained on by fused blocks", "leave it out"
        for key, (right, wanted) in RANGES.items():
            value = self.training.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not right(value):
                yield ("training", key), f"{value} is not {wanted}", ""

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
            yield (
                "save_steps",
                f"{message}, so the best model may not be among those that are saved",
                "make it a multiple",
            )

    def _calibration_problems(
        self, known: Registry, strategy: PeftStrategy
    ) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        if self.calibration and not strategy.calibrate:
            yield ("calibration",), f"{strategy.name} asks for no text in the source language", "leave it out"
        elif self.calibration:
            for place, message, hint in self.calibration.check(known):
                yield ("calibration", *place), message, hint

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
    def fuses(self) -> bool:
        """Whether the model's blocks are computed by `langadapt.fused` as far as they fit: not those of pairs of answers."""
        return self.measured != "preferences" and self.training.get("kernels", "auto") != "plain"

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step, on all processes together; see `langadapt.compute`."""
        return int(self.training["per_device_train_batch_size"]) * int(self.training["gradient_accumulation_steps"])

    @property
    def max_steps(self) -> int | None:
        """Steps that the recipe fixes; None when epochs decide."""
        steps = int(self.training["max_steps"])
        return steps if steps > 0 else None

    @property
    def max_bytes(self) -> int | None:
        """Bytes of text with which the training ends; None when steps or epochs say it."""
        return self.training.get("max_bytes")

    def _as_share(self, steps: float) -> float:
        """A number of steps as a share of those that the recipe fixes; a tenth where epochs decide."""
        return steps if steps < 1 else min(steps / self.max_steps, 0.99) if self.max_steps else 0.1

    def shrunk(self, rehearsal: Rehearsal, *, steps: int, length: int) -> TrainedOptions:
        """At the scale of a rehearsal: few and small steps, a higher learning rate, a larger held-out share."""
        training = dict(self.training)
        training["max_length"] = min(length, training["max_length"])
        rows = max(1, rehearsal.batch_tokens // training["max_length"])
        training["per_device_train_batch_size"] = min(rows, training["per_device_train_batch_size"])
        training["gradient_accumulation_steps"] = 1
        if self.max_bytes:
            tokens = steps * training["max_length"] * training["per_device_train_batch_size"]
            training["max_bytes"] = min(self.max_bytes, int(BYTES_PER_TOKEN * tokens))
        else:
            training["max_steps"] = min(steps, self.max_steps or steps)
        whole = registry().peft_strategies[self.peft["method"]].trains_base
        scale = rehearsal.full_learning_rate_scale if whole else rehearsal.learning_rate_scale
        training["learning_rate"] = _scaled(training["learning_rate"], scale)
        if rates := training.get("learning_rates"):
            training["learning_rates"] = {pattern: _scaled(rate, scale) for pattern, rate in rates.items()}
        if training["warmup_steps"] >= 1:  # a number of steps that the few here would never reach
            training["warmup_steps"] = TRAINING["warmup_steps"]
        if waits := training.get("unfreeze"):
            training["unfreeze"] = {pattern: self._as_share(wait) for pattern, wait in waits.items()}
        if kwargs := training.get("lr_scheduler_kwargs"):
            shares = {key: self._as_share(kwargs[key]) for key in SHARES if key in kwargs}
            lowest = {key: _scaled(kwargs[key], scale) for key in ("min_lr", "lr_end") if key in kwargs}
            training["lr_scheduler_kwargs"] = kwargs | shares | lowest
        training.update(activation_checkpointing=False, logging_steps=1, save_steps=100)
        if training.get("eval_steps"):
            last = training["max_steps"] if self.max_steps else steps
            training["eval_steps"] = training["save_steps"] = max(1, last // 4)
        peft = dict(self.peft)
        if "lora_dropout" in peft:  # it keeps many epochs from overfitting; here every token is seen once
            peft["lora_dropout"] = 0.0
        corpus = [ref.model_copy(update={"held_out": max(ref.held_out, rehearsal.held_out)}) for ref in self.corpus]
        return self.model_copy(update={"training": training, "corpus": corpus, "peft": peft})


def _scaled(rate: float, scale: float) -> float:
    return float(f"{rate * scale:.6g}")


def _pattern_problems(training: Mapping[str, Any]) -> Iterable[tuple[tuple[str, ...], str, str]]:
    """What is wrong with `learning_rates`, `unfreeze` and `ema_decay`: key, message, hint."""
    for key, wanted in (("learning_rates", "a learning rate above 0"), ("unfreeze", "a number of steps, or a share")):
        table = training.get(key)
        for pattern, value in table.items() if isinstance(table, dict) else ():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                yield (key, pattern), f"{written(value)} is not {wanted}", ""
            elif key == "unfreeze" and 1 <= training["max_steps"] <= value:
                yield (
                    (key, pattern),
                    f"its weights would not learn in {training['max_steps']} steps",
                    "lower it, or raise max_steps",
                )
    decay = training.get("ema_decay")
    if isinstance(decay, (int, float)) and not 0 < decay < 1:
        yield ("ema_decay",), f"{decay} is not above 0 and below 1", "0.999 averages over the last thousand steps"


def _schedule_problems(training: Mapping[str, Any]) -> Iterable[tuple[tuple[str, ...], str, str]]:
    """What is wrong with the schedule's options, which the library would find when the model is loaded."""
    name, given = training["lr_scheduler_type"], training.get("lr_scheduler_kwargs", {})
    found = schedule(name) if isinstance(name, str) else None
    if found is None:
        return
    if name in WITHOUT_WARMUP and training["warmup_steps"]:
        hint = 'use "constant_with_warmup"' if name == "constant" else "leave it out"
        yield ("warmup_steps",), f"the schedule {name} ignores it", hint
    if not isinstance(given, dict):
        yield ("lr_scheduler_kwargs",), f"{written(given)} is no table", "lr_scheduler_kwargs = { min_lr_rate = 0.1 }"
        return
    for key, value in given.items() if not found.open else ():
        place = ("lr_scheduler_kwargs", key)
        if key not in found.fields:
            yield place, f"unknown key; the schedule {name} has no such option", nearest(key, found.fields)
        elif key in SHARES and isinstance(value, float) and 0 < value < 1:
            pass  # a share of all steps, which becomes a number when that is known
        elif problem := found.fields[key].problem(value):
            yield place, problem, ""
        elif key in ("warmup_type", "decay_type") and value not in WSD_CURVES:
            yield place, f"{written(value)} is not one of its values", nearest(str(value), WSD_CURVES)
    for key in found.required:
        if key not in given:
            yield (
                ("lr_scheduler_kwargs",),
                f"the schedule {name} needs {key}",
                f"lr_scheduler_kwargs = {{ {key} = 0.2 }}",
            )
    if "min_lr_rate" in found.fields and len({"min_lr", "min_lr_rate"} & set(given)) != 1:
        message = f"the schedule {name} needs one of min_lr and min_lr_rate"
        yield ("lr_scheduler_kwargs",), message, "lr_scheduler_kwargs = { min_lr_rate = 0.1 } ends at a tenth"


def plan_training(stage: PlannedStage, planner: Planner, options: TrainedOptions) -> None:
    """Inputs, steps, tokens, memory, disk and time of a stage that trains."""
    from langadapt.plan import REFERENCE, UTILISATION

    shared = compute.processes(planner.recipe.table.compute, planner.machine)
    stage.inputs = [planner.input(ref) for ref in options.corpus]
    _plan_mix(stage, planner, options)
    if options.measured != "text":
        stage.problems += [_no_dialogue(found) for found in stage.inputs if found.first and not found.first.messages]
    strategy = planner.registry.peft_strategies[options.peft["method"]]
    if strategy.calibrate:
        _plan_calibration(stage, planner, options)
    owner = planner.registry.peft_strategies.owner(options.peft["method"])
    stage.ingredients["strategy"] = f"{strategy.name} of {owner.distribution} {owner.version}"
    stage.notes += _substitutions(options, planner.machine.cuda, planner.machine.bf16)
    _plan_processes(stage, shared, options, weight_bits=strategy.weight_bits(options.peft))
    length, rows = int(options.training["max_length"]), options.rows_per_step * options.answers
    estimated = _steps_from_pairs if options.measured == "preferences" else _steps_from_bytes
    stage.steps = options.max_steps or estimated(stage, options)
    stage.tokens = stage.steps * rows * length if stage.steps else None
    stage.lacks += [f"stage {stage.id}: {lack}" for lack in _beyond_machine(options, planner.machine)]
    shape = planner.shape_of(stage.parent)
    if shape is None:
        return
    stage.problems += [f"stage {stage.id}: {problem}" for problem in _misfits(options, shape)]
    if not planner.recipe.rehearsal:  # whose model may lack weights that the real one has
        stage.problems += [f"stage {stage.id}: {problem}" for problem in _unmatched(options, shape)]
    trainable = strategy.trainable(shape, options.peft)
    if options.asks_reference and strategy.trains_base:
        stage.notes.append("the base learns, so a frozen copy of it is kept in memory as the reference")
    if trainable is None:
        stage.notes.append("how many weights learn shows in the run; the estimates leave them out")
        trainable = 0
    else:
        stage.notes.append(f"{trainable / 1e6:,.1f} M of {shape.parameters / 1e6:,.1f} M weights learn")
    if shape.new_tokens and not strategy.trains_base and not _rows_apart(options, shape):
        stage.notes.append(
            f"rows of the {shape.new_tokens:,} new tokens keep their first values: they do not learn here"
        )
    of_process = options.model_copy(update={"training": options.training | shared.share(options.training)})
    stage.estimate.memory = memory(of_process, shape, planner.machine)
    stage.estimate.changed = _changed(of_process, shape, planner.machine)
    checkpoint = trainable * 12
    stage.estimate.disk = (2 * shape.parameters if strategy.trains_base else 4 * trainable) + 2 * checkpoint
    if stage.tokens:
        # Forward 2 FLOPs a weight and token, the same again for the input's gradient, and for the weights' own where they
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


def _misfits(options: TrainedOptions, shape: ModelShape) -> Iterator[str]:
    """What of the options does not fit the model."""
    strategy = registry().peft_strategies[options.peft["method"]]
    if strategy.misfits:
        yield from strategy.misfits(shape, options.peft)
    length, limit = int(options.training["max_length"]), shape.max_position_embeddings
    if limit and length > limit:
        yield f"training.max_length = {length}, and the model knows positions up to {limit}; set at most that"


def _unmatched(options: TrainedOptions, shape: ModelShape) -> Iterator[str]:
    """Patterns of names that no weight which learns has."""
    strategy = registry().peft_strategies[options.peft["method"]]
    patterns = [(key, pattern) for key in ("learning_rates", "unfreeze") for pattern in options.training.get(key, {})]
    if not (patterns and strategy.learning and shape.named):
        return
    if names := strategy.learning(shape, {**strategy.fixed, **options.peft}):
        for key, pattern in patterns:
            if not fnmatch.filter(names, pattern):
                yield (
                    f'training.{key}: no weight that learns matches "{pattern}"; there are such as {names[0]} and '
                    f"{names[-1]}"
                )


def _beyond_machine(options: TrainedOptions, machine: Machine) -> Iterator[str]:
    """What is asked for and the machine lacks: arithmetic, packages."""
    training, strategy = options.training, registry().peft_strategies[options.peft["method"]]
    if strategy.lacks:
        yield from strategy.lacks(machine, {**strategy.fixed, **options.peft})
    yield from trackers.missing(training)
    if training.get("bf16") and not machine.bf16:
        yield "training.bf16 = true, and this machine has no bf16 instructions; leave it out, and fp32 is used"
    if training.get("use_liger_kernel") and not (machine.cuda and find_spec("liger_kernel")):
        yield "training.use_liger_kernel = true needs CUDA, and pip install liger-kernel; leave it out"
    if training.get("fp16") and not machine.cuda:
        yield "training.fp16 = true needs CUDA; leave it out"
    elif training.get("fp16") and training.get("bf16", True):
        yield "training.fp16 = true, and bf16 is used on this machine; leave it out, or set bf16 = false"


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
        if options.max_steps is None and options.max_bytes is None:
            stage.notes.append(
                "max_steps is not set, so the corpora are read to their ends, whatever their shares"
                + (", and replayed text ends with them" if options.replay else "")
            )


def _plan_calibration(stage: PlannedStage, planner: Planner, options: TrainedOptions) -> None:
    """The corpus that the strategy calibrates on, as the last of the stage's inputs: of those that the recipe and the
    language's plugin name, the first.
    """
    language = planner.registry.languages[planner.recipe.table.language]
    ref = options.calibration or (options.replay.corpus if options.replay else None)
    if not (ref or language.replay):
        stage.problems.append(
            f"stage {stage.id}: {options.peft['method']} needs text in the source language, and {language.name} names "
            'no corpus of it; calibration = "…" names one'
        )
        return
    found = planner.input(ref or CorpusRef(name=language.replay, held_out=0))
    if stage.inputs[-1] is not found:
        stage.inputs.append(found)
    stage.notes.append(f"calibrated on {found.label}")


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
    """Steps of `num_train_epochs` over corpora of known size, or over `max_bytes` of them, at the usual three to four bytes
    of text a token.
    """
    sizes = [_bytes(found) for found in stage.inputs[: len(options.corpus)]]
    text = sum(math.inf if size is None else size * ref.epochs for size, ref in zip(sizes, options.corpus, strict=True))
    text /= 1 - (options.replay.share if options.replay else 0)
    read = min(text, options.max_bytes or math.inf)
    if read == math.inf:
        return None
    tokens = read / BYTES_PER_TOKEN * float(options.training["num_train_epochs"])
    stage.notes.append(f"steps are estimated from the size of the text at {BYTES_PER_TOKEN} bytes a token")
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


# --- memory ----------------------------------------------------------------------------------------------------------


def memory(options: TrainedOptions, shape: ModelShape, machine: Machine) -> estimates.Parts:
    """Bytes by part at the peak of a stage with these options."""
    training, strategy = options.training, registry().peft_strategies[options.peft["method"]]
    peft = {**strategy.fixed, **options.peft}
    linears = [name for name in shape.weights if name.split(".")[-2] in shape.linears]
    return estimates.training(
        estimates.Training(
            shape=shape,
            reached=frozenset(strategy.reached(shape, peft) if strategy.reached else linears),
            trainable=strategy.trainable(shape, options.peft) or 0,
            trains_base=strategy.trains_base,
            weight_bits=strategy.weight_bits(peft),
            rows=int(training["per_device_train_batch_size"]) * options.answers,
            length=int(training["max_length"]),
            number=2 if machine.bf16 else 4,
            cuda=machine.cuda,
            separated=options.measured != "preferences",  # each answer has a row of its own
            dropout=bool(peft.get("lora_dropout")),
            rank=int(peft.get("r", 0)),
            dora=bool(peft.get("use_dora")),
            checkpointing=bool(training["activation_checkpointing"]),
            reference=options.asks_reference,
            fused=options.fuses and shape.model_type in FUSED,
            average=bool(training.get("ema_decay")),
            rows_apart=_rows_apart(options, shape),
            optim=optimizer(str(training["optim"]), cuda=machine.cuda)[0],
        )
    )


def _no_dialogue(found: Input) -> str:
    assert found.first is not None
    return (
        f"corpus {found.label}: {found.first.id} is running text, and this stage learns from answers; its rows need "
        "messages, instruction and output, or another layout of dialogues"
    )


def _rows_apart(options: TrainedOptions, shape: ModelShape) -> bool:
    """Whether rows of tokens learn while the matrices that they are in do not."""
    given = any(options.peft.get(key) for key in ("trainable_token_indices", "token_indices"))
    return given or bool(options.peft.get("new_tokens") and shape.new_tokens)


def _changed(options: TrainedOptions, shape: ModelShape, machine: Machine) -> dict[str, int]:
    """The peak with one thing changed, by what the recipe would say; what changes the result least comes first."""
    changed = {}
    for words, change in _changes(options, machine):
        peak = sum(memory(change, shape, machine).values())
        changed[words] = peak
    now = sum(memory(options, shape, machine).values())
    return {words: peak for words, peak in changed.items() if peak < now}


def _changes(options: TrainedOptions, machine: Machine) -> Iterator[tuple[str, TrainedOptions]]:
    training = options.training

    def changed(**values: Any) -> TrainedOptions:
        return options.model_copy(update={"training": training | values})

    rows, accumulated = int(training["per_device_train_batch_size"]), int(training["gradient_accumulation_steps"])
    while rows > 1 and rows % 2 == 0:
        rows, accumulated = rows // 2, accumulated * 2
        values = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulated}
        yield ", ".join(f"training.{key} = {value}" for key, value in values.items()), changed(**values)
    if not training["activation_checkpointing"]:
        yield "training.activation_checkpointing = true", changed(activation_checkpointing=True)
        if rows < int(training["per_device_train_batch_size"]):
            yield (
                f"training.activation_checkpointing = true, training.per_device_train_batch_size = {rows}, "
                f"training.gradient_accumulation_steps = {accumulated}",
                changed(activation_checkpointing=True, **values),
            )
    if machine.cuda and "8bit" not in str(training["optim"]):
        yield 'training.optim = "adamw_8bit"', changed(optim="adamw_8bit")
    if (length := int(training["max_length"])) >= 512:
        yield f"training.max_length = {length // 2}", changed(max_length=length // 2)
    if options.peft["method"] != "qlora":
        peft = type(options)._with_strategy_defaults({"method": "qlora"})
        yield 'peft.method = "qlora"', options.model_copy(update={"peft": peft})
