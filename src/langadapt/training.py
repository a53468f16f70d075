"""Trains a model on packed rows: transformers' Trainer with our rows, our loss and the recipe's own words.

`cpt` and `sft` differ in how documents become token sequences and in how these are packed; all that follows is here,
once. What `langadapt.preference` shares with them are the functions without an underscore.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import transformers
from torch.distributed.tensor import DTensor
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

from langadapt import checkpoints, compute, loading, processes, trackers
from langadapt.averaging import Average
from langadapt.corpus.packing import IGNORE
from langadapt.corpus.preparing import Accounting, clean
from langadapt.errors import Interrupted, RunError, UserError
from langadapt.fused import fused_blocks
from langadapt.loss import fused_loss
from langadapt.machine import optimizer, peak_memory, release_memory, this_machine, unpooled_memory
from langadapt.rounding import round_model
from langadapt.run import StageContext, StageResult
from langadapt.upstream import SHARES
from langadapt.vocabulary import new_tokens

if TYPE_CHECKING:
    from langadapt.corpus.packing import AnswerRows, PackedRows, PairedRows
    from langadapt.corpus.tokenising import Packed
    from langadapt.evaluation.bits_per_byte import Scored
    from langadapt.records import Document, PeftStrategy
    from langadapt.stages.trained import TrainedOptions

Arguments = TypeVar("Arguments", bound=TrainingArguments)

BLANK = -1  # the number of a row in which nothing is to be learnt
HELD_OUT = 200  # documents of a corpus that are scored while a model learns, where [evaluation] sets no other limit


def train(
    context: StageContext, packed: Packed, options: TrainedOptions, *, score: Callable[[Any, Document], Scored]
) -> StageResult:
    """Trains on packed rows and saves the stage's model.

    With `eval_strategy`, held-out documents are scored while the model learns; `load_best_model_at_end` then keeps the
    weights under which they took the fewest bits per byte, and `early_stopping_patience` ends a training that has stopped
    to lower them.

    Leaves `adapter/` (a PEFT adapter) or `model/` (whole weights, when the strategy trains the base itself) in the
    stage's folder; checkpoints are in `checkpoints/` while it runs, and a run that was killed goes on from the last.

    Args:
        context: of the stage.
        packed: rows, and where everything went that was read for them.
        options: of the stage.
        score: model and held-out document in, the document's bits out.

    Returns:
        Where every token went, and metrics: steps, losses, tokens per second, trainable parameters, peak memory.

    Raises:
        UserError: the options do not fit the model or the machine.
        RunError: the loss is not a number.
        Interrupted: the user stopped it.
    """
    if processes.wanted(context):
        assert packed.place
        return processes.train(context, packed.place.folder)
    rows = packed.rows
    prepared = prepare(context, options.peft)
    arguments = make_arguments(context, options, TrainingArguments)
    held_out = _held_out(context, options) if arguments.eval_strategy != "no" else []
    trainer = MeasuredTrainer(
        held_out=held_out,
        score=score,
        prepared=prepared,
        training=options.training,
        args=arguments,
        train_dataset=Shared(rows),
        data_collator=_collate,
    )
    if patience := options.training.get("early_stopping_patience"):
        trainer.add_callback(Patience(patience, options.training.get("early_stopping_threshold", 0.0)))
    progress = Progress(context, trainer, packed)
    with fused_loss(prepared.plain), _kernels(context, prepared.plain, options):
        run_trainer(context, trainer, progress)
    save(prepared, context, trainer)
    account(context, packed, trainer)
    metrics = {
        "trainable_parameters": prepared.trainable,
        "rows": len(rows),
        "rows_per_step": rows_per_step(arguments),
        "epochs": round(float(trainer.state.epoch or 0), 3),
        **trainer.best(),
    }
    return StageResult(accounting=packed.to_json(), metrics=progress.metrics() | metrics)


@contextmanager
def _kernels(context: StageContext, plain: Any, options: TrainedOptions) -> Iterator[None]:
    """While open, blocks are fused where the recipe and the machine say so."""
    if not options.fuses:
        yield
        return
    with fused_blocks(plain) as count:
        context.log.info(f"{count} modules of the model are fused" if count else "no module of the model can be fused")
        yield


def _held_out(context: StageContext, options: TrainedOptions) -> list[Document]:
    """The first held-out documents of each corpus of the stage that is not replayed."""
    limit = context.plan.recipe.table.evaluation.max_documents or HELD_OUT
    documents: list[Document] = []
    for found in context.stage.inputs[: len(options.corpus)]:
        if found.ref.held_out:
            sides = clean(found.source(), Accounting())
            documents += islice((document for side, document in sides if side == "held_out"), limit)
    if not documents:
        raise UserError(
            f"stage {context.stage.id}: no document is held out, so nothing can be measured; raise held_out"
        )
    return documents


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model that is ready to be trained.

    Attributes:
        plain: the causal language model itself.
        model: what is trained: the same with its adapter around it, or the same.
        adapter: whether an adapter is saved and not the weights themselves.
        trainable: number of weights that learn.
        strategy: what marked them.
        options: of the strategy.
    """

    plain: Any
    model: Any
    adapter: bool
    trainable: int
    strategy: PeftStrategy
    options: Mapping[str, Any]


def prepare(context: StageContext, peft: Mapping[str, Any]) -> Prepared:
    """Loads the model that a stage starts from and lets the strategy of `[stage.peft]` mark what learns.

    Raises:
        UserError: the options do not fit the model.
    """
    strategy = context.registry.peft_strategies[peft["method"]]
    transformers.set_seed(context.seed)
    if context.machine.cuda:
        torch.cuda.reset_peak_memory_stats()
    options = {k: v for k, v in peft.items() if k != "method"}
    if options.get("new_tokens"):
        options["new_tokens"] = new_tokens(context.model.vocabularies)
    bits = strategy.weight_bits(options)
    # What is to be quantised need not fit on a GPU before it is.
    place = torch.device("cpu") if bits < 16 else None
    with unpooled_memory():
        plain = loading.load_model(context.model, torch.float32 if bits == 32 else None, to=place)
        model = strategy.prepare(plain, options).to(loading.device())
    if strategy.calibrate:
        model = strategy.calibrate(model, options, _source_texts(context))
    if bits < 16 or strategy.trains_base:
        copy_frozen(model)
    if not strategy.trains_base:  # a checkpoint would take all rows along where the vocabulary has changed
        model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)
    release_memory()  # whole weights that were quantised are freed now, and the system has not got them back yet
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not trainable:
        raise UserError(
            f'stage {context.stage.id}: the strategy "{strategy.name}" leaves no weight to train; see [stage.peft]'
        )
    context.log.info(
        f"{trainable:,} of {sum(p.numel() for p in model.parameters()):,} stored weights learn ({strategy.name})"
    )
    return Prepared(
        plain=plain,
        model=model,
        adapter=not strategy.trains_base,
        trainable=trainable,
        strategy=strategy,
        options=options,
    )


def copy_frozen(model: Any) -> None:
    """Copies the weights that do not learn. They may lie in the mapped file, which would stay in memory for their sake, with
    all that was quantised or copied from it.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.device.type == "cpu" and not parameter.requires_grad:
            parameter.data = parameter.data.clone()


def _source_texts(context: StageContext) -> Iterator[list[int]]:
    """Documents in the source language for a strategy to calibrate on, as token ids; held-out ones are not among them."""
    tokenizer = context.tokenizer()
    context.log.info(f"calibrated on {context.stage.inputs[-1].label}")
    for side, document in clean(context.stage.inputs[-1].source(), Accounting()):
        if side == "train" and (ids := tokenizer(document.content)["input_ids"]):
            yield ids


def run_trainer(context: StageContext, trainer: SeededTrainer, progress: Progress) -> None:
    """Trains to the last step, from the newest whole checkpoint when there is one.

    Raises:
        UserError: a pattern of `learning_rates` or `unfreeze` names no weight that learns.
        RunError: the loss is not a number.
        Interrupted: the user stopped it.
    """
    _check_patterns(context, trainer)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(progress)
    with trainer.accelerator.main_process_first():  # which takes those away that are no good
        checkpoint = checkpoints.newest(Path(trainer.args.output_dir), context.log.warning)
    if checkpoint:
        context.log.info(f"goes on from {checkpoint.name}")
    if trainer.args.process_index:  # dropout is another in every process; the first one's is that of a single one
        transformers.set_seed(context.seed + trainer.args.process_index)
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if progress.stopped:
        raise Interrupted(
            f"stopped in stage {context.stage.id} at step {trainer.state.global_step} of {trainer.state.max_steps}; "
            "the same command goes on"
        )
    if trainer.average:
        trainer.average.swap()
    for loss in (result.training_loss, trainer.loss_of_first()):
        if not np.isfinite(loss):
            raise RunError(f"stage {context.stage.id}: the loss became {loss}; lower training.learning_rate")


def _check_patterns(context: StageContext, trainer: SeededTrainer) -> None:
    """Whether every pattern names a weight that learns; the model of a rehearsal may lack some that the real one has."""
    names = [name for name, parameter in trainer.prepared.model.named_parameters() if parameter.requires_grad]
    for key in ("learning_rates", "unfreeze"):
        for pattern in trainer.training.get(key, {}):
            if not any(fnmatchcase(name, pattern) for name in names):
                problem = f'stage {context.stage.id}: training.{key}: no weight that learns matches "{pattern}"'
                if not context.plan.recipe.rehearsal:
                    raise UserError(f"{problem}; there are {len(names)}, such as {names[0]} and {names[-1]}")
                context.log.warning(f"{problem}; in the model of a rehearsal")


def account(context: StageContext, packed: Packed, trainer: SeededTrainer) -> None:
    """Moves tokens of rows that the steps did not reach from `trained` to where they belong."""
    reached = trainer.state.global_step * rows_per_step(trainer.args)
    tokens = packed.accounting.tokens
    trained, tokens.learnt = packed.rows.tokens_in(_Permutation(len(packed.rows), context.seed).first(reached))
    if trained < tokens.trained:
        tokens.dropped["not reached in max_steps"] += tokens.trained - trained
        tokens.trained = trained
    packed.accounting.check()


class _Permutation(torch.utils.data.Sampler[int]):
    """Row numbers in an order that follows from seed and epoch alone, so that it is known beforehand and after a
    resume.

    Args:
        rows: how many there are.
        seed: of the order.
        multiple: what the length is filled up to a multiple of, with `BLANK`. Several processes draw equally many
            batches, and accelerate would take the first rows a second time for that.
    """

    def __init__(self, rows: int, seed: int, multiple: int = 1):
        self.rows, self.seed, self.epoch, self.blanks = rows, seed, 0, -rows % multiple

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows + self.blanks

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng((self.seed, self.epoch)).permutation(self.rows).tolist()
        yield from [BLANK] * self.blanks

    def first(self, count: int) -> list[int]:
        """The different rows among the first `count` of a training."""
        return list(self)[:count]


class Shared(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows, pairs or answers, and a blank one in which nothing is to be learnt."""

    def __init__(self, rows: PackedRows | PairedRows | AnswerRows):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return _blank(self.rows[0]) if number == BLANK else self.rows[number]


def _blank(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: np.full_like(value, IGNORE) if key == "labels" else _blank(value) if isinstance(value, Mapping) else value
        for key, value in row.items()
    }


class SeededTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with our order of rows, and each weight at its own pace and from its own step on.

    Args:
        prepared: the model with its strategy.
        training: `[stage.training]`, of which `learning_rates`, `unfreeze` and `ema_decay` are read here.
        options: of transformers' Trainer, without the model.
    """

    def __init__(self, *, prepared: Prepared, training: Mapping[str, Any], **options: Any):
        super().__init__(model=prepared.model, **options)
        self.prepared, self.training = prepared, training
        self.average = Average(prepared.model, training["ema_decay"]) if training.get("ema_decay") else None
        if self.average:
            self.add_callback(self.average)
        if unfreeze := training.get("unfreeze"):
            self.add_callback(Unfreezing(prepared.model, unfreeze))

    def _save_checkpoint(self, *args: Any, **options: Any) -> None:
        super()._save_checkpoint(*args, **options)
        self.accelerator.wait_for_everyone()  # every process adds a file of its own
        if self.args.should_save:
            checkpoint = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            if self.average:
                self.average.save(checkpoint)
            checkpoints.seal(checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.average:
            self.average.load(Path(self.state.best_model_checkpoint))

    def create_optimizer(self, *args: Any, **options: Any) -> Any:
        optimizer = super().create_optimizer(*args, **options)
        pace(optimizer, self.prepared, self.training.get("learning_rates", {}))
        return optimizer

    def create_scheduler(self, num_training_steps: int, *args: Any, **options: Any) -> Any:
        given = self.args.lr_scheduler_kwargs or {}
        steps = {key: in_steps(given[key], num_training_steps) for key in SHARES if key in given}
        self.args.lr_scheduler_kwargs = {**given, **steps}
        return super().create_scheduler(num_training_steps, *args, **options)

    def _get_train_sampler(self, train_dataset: Any = None) -> _Permutation:
        world = int(self.args.world_size)
        multiple = world * int(self.args.train_batch_size) if world > 1 else 1
        return _Permutation(len(self.train_dataset), self.args.data_seed, multiple)

    def loss_of_first(self) -> float:
        """Loss of the first row with the weights as the last step left them; no other loss has seen that step."""
        batch = {k: v.to(self.args.device) for k, v in self.data_collator([self.train_dataset[0]]).items()}
        with torch.no_grad(), self.accelerator.autocast():
            return float(self.compute_loss(self.model, batch))


class MeasuredTrainer(SeededTrainer):
    """A trainer that measures bits per byte on held-out documents when `eval_strategy` says so.

    Args:
        held_out: documents to score.
        score: model and document in, the document's bits out.
        options: as of `SeededTrainer`.
    """

    control: Any  # TrainerControl; the library does not say so

    def __init__(self, *, held_out: list[Document], score: Callable[[Any, Document], Scored], **options: Any):
        super().__init__(eval_dataset=held_out or None, **options)
        self.score = score

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Scores the held-out documents, each process a share of them; called by the library's own loop."""
        plain = self.prepared.plain
        learning = self.model.training
        self.model.eval()
        average = self.average.in_place() if self.average else nullcontext()
        mine = self.eval_dataset[self.args.process_index :: self.args.world_size]
        with average, torch.no_grad(), self.accelerator.autocast():
            scored = [self.score(plain, document) for document in mine]
        self.model.train(learning)
        sums = torch.tensor(
            [math.fsum(s.nll for s in scored), sum(s.bytes for s in scored)],
            dtype=torch.float64,
            device=self.args.device,
        )
        nll, size = self.accelerator.reduce(sums).tolist()
        measured = {"eval_bits_per_byte": nll / math.log(2) / size}
        self.log(dict(measured))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measured)
        return measured

    def best(self) -> dict[str, Any]:
        """What was measured, step by step, and which weights were kept."""
        measured = [
            [entry["step"], entry["eval_bits_per_byte"]]
            for entry in self.state.log_history
            if "eval_bits_per_byte" in entry
        ]
        kept = {"best_step": self.state.best_global_step} if self.args.load_best_model_at_end and measured else {}
        return ({"held_out_bits_per_byte": measured} if measured else {}) | kept


class Patience(EarlyStoppingCallback):  # type: ignore[misc]
    """Early stopping that goes on counting where the training that left a checkpoint had come to."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        super().on_train_begin(args, state, control, **options)
        kept = state.stateful_callbacks.get(type(self).__name__, self.state())  # as of the checkpoint, by the library
        self.early_stopping_patience_counter = kept["attributes"]["early_stopping_patience_counter"]


class Unfreezing(TrainerCallback):  # type: ignore[misc]
    """Has weights stand still until their step; they take no gradient before, so they have no optimizer state either.

    Args:
        model: what is trained.
        unfreeze: pattern of names to the steps, or share of the steps, that pass before its weights learn.
    """

    def __init__(self, model: Any, unfreeze: Mapping[str, float]):
        learning = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        found = [(parameter, best_match(unfreeze, name)) for name, parameter in learning]
        self.waiting = [(parameter, wait) for parameter, wait in found if wait is not None]
        self.all_wait = len(self.waiting) == len(learning)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        learn = [state.global_step >= in_steps(wait, state.max_steps) for _, wait in self.waiting]
        if self.all_wait and not any(learn):
            raise UserError("training.unfreeze leaves no weight to learn in the first steps; leave one pattern out")
        for (parameter, _wait), learns in zip(self.waiting, learn, strict=True):
            parameter.requires_grad_(learns)


def in_steps(value: float, steps: int) -> int:
    """A number of steps, which below 1 is a share of all `steps`, as transformers reads `warmup_steps`."""
    return int(value) if value >= 1 else math.ceil(value * steps)


def best_match(patterns: Mapping[str, float], name: str) -> float | None:
    """The value of the longest pattern that a weight's name matches; None when none does.

    Not of the first, because the order of a table's keys is no part of a digest.
    """
    found = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
    return patterns[max(found, key=lambda pattern: (len(pattern), pattern))] if found else None


def pace(optimizer: Any, prepared: Prepared, learning_rates: Mapping[str, float]) -> None:
    """Splits the groups of a fresh optimizer where a strategy has weights learn faster, or not decay, and where the
    recipe gives them a learning rate of their own; that takes the place of the strategy's.
    """
    strategy, options = prepared.strategy, prepared.options
    if strategy.rate is None and strategy.decay is None and not learning_rates:
        return
    names = {id(parameter): name for name, parameter in prepared.model.named_parameters()}
    split: dict[tuple[float, float], list[Any]] = {}
    given = list(optimizer.param_groups)
    for group in given:
        for parameter in group["params"]:
            name = names[id(parameter)]
            rate: float | None = best_match(learning_rates, name)
            if rate is None:
                rate = group["lr"] * (strategy.rate(name, options) if strategy.rate else 1.0)
            decay = group["weight_decay"] if strategy.decay is None or strategy.decay(name, options) else 0.0
            split.setdefault((rate, decay), []).append(parameter)
    shared = {key: value for key, value in given[0].items() if key not in ("params", "lr", "weight_decay")}
    optimizer.param_groups.clear()
    for (rate, decay), parameters in split.items():
        optimizer.add_param_group({**shared, "params": parameters, "lr": rate, "weight_decay": decay})


def make_arguments(context: StageContext, stage: TrainedOptions, kind: type[Arguments]) -> Arguments:
    """The recipe's `[stage.training]` as the library's own options, completed by what follows from run and machine.

    Raises:
        UserError: the library refuses them.
    """
    machine = this_machine()
    shared = processes.of(context)
    options = {key: value for key, value in stage.training.items() if key not in stage.beside}
    options |= shared.share(stage.training) | compute.arguments(context.plan.recipe.table.compute, shared)
    options["optim"], note = optimizer(str(options["optim"]), cuda=machine.cuda)
    if note:
        context.log.warning(note)
    own: dict[str, Any] = {
        "output_dir": str(context.folder / "checkpoints"),
        "report_to": [],
        **trackers.arguments(context.plan, context.stage),
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": not machine.cuda,
        "seed": context.seed,
        "data_seed": context.seed,
        "save_total_limit": 2,
        "logging_nan_inf_filter": False,
        "dataloader_pin_memory": machine.cuda,
        # Weights that wait for their step get no gradient until then, and processes would wait for it.
        "ddp_find_unused_parameters": True if stage.training.get("unfreeze") else None,
    }
    try:
        arguments: Arguments = kind(**(own | {"bf16": machine.bf16} | options))
    except (ValueError, TypeError) as error:
        library = kind.__module__.split(".")[0]
        raise UserError(f"stage {context.stage.id}: {library} refuses [stage.training] ({error}); change it") from None
    if arguments.eval_strategy != "no":
        arguments.metric_for_best_model, arguments.greater_is_better = "eval_bits_per_byte", False
    if arguments.n_gpu > 1:  # one process is one GPU's; the Trainer would split batches over all by DataParallel
        arguments._n_gpu = 1
    return arguments


def rows_per_step(arguments: TrainingArguments) -> int:
    """Rows of one optimizer step on all devices."""
    accumulated = int(arguments.gradient_accumulation_steps)
    return int(arguments.train_batch_size) * accumulated * max(1, int(arguments.world_size))


def _collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    batch = {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}
    # Labels are aligned with the token they follow from, hence upstream's name for that; it counts tokens in `labels`.
    return {**batch, "shift_labels": batch["labels"]}


def save(prepared: Prepared, context: StageContext, trainer: SeededTrainer) -> None:
    """Writes `adapter/`, or `model/` with its tokenizer, into the stage's folder; the first process does."""
    if trainer.is_fsdp_enabled:
        _gather(prepared.model, keep=trainer.is_world_process_zero())
    if not trainer.is_world_process_zero():
        return
    folder = context.folder
    if prepared.strategy.save:
        prepared.strategy.save(prepared.model, prepared.options, folder / "adapter")
    elif prepared.adapter:
        prepared.model.save_pretrained(folder / "adapter")
    else:
        model = (
            prepared.strategy.finish(prepared.model, prepared.options) if prepared.strategy.finish else prepared.model
        )
        round_model(model, torch.bfloat16, seed=context.seed).save_pretrained(folder / "model")
        context.tokenizer().save_pretrained(folder / "model")


def _gather(model: Any, *, keep: bool) -> None:
    """Puts whole weights in the place of those that processes share out, in main memory.

    Args:
        model: in all processes.
        keep: whether this one needs them; the others only hand over what they have.
    """
    whole: dict[int, torch.nn.Parameter] = {}  # by the part that is held here: a tied weight stands in two places
    for module in model.modules():
        for name, part in module._parameters.items():
            if isinstance(part, DTensor):
                if id(part) not in whole:
                    full = part.full_tensor().detach()
                    whole[id(part)] = torch.nn.Parameter(full.cpu() if keep else full.new_empty(0), part.requires_grad)
                module._parameters[name] = whole[id(part)]


class Progress(TrainerCallback):  # type: ignore[misc]
    """Sends every logged step to the run's log, and stops the training when the user asks to.

    Figures of a trainer's own, which it logs by names with a slash (`rewards/margins`), go there too. Tokens are those of
    documents, without padding; a step has as many as rows have in the mean.
    """

    def __init__(self, context: StageContext, trainer: Trainer, packed: Packed):
        self.context, self.trainer = context, trainer
        self.tokens_per_step = rows_per_step(trainer.args) * packed.accounting.tokens.trained / len(packed.rows)
        self.logged: dict[str, list[float]] = {"loss": []}
        self.started = time.monotonic()
        self.first_step = 0
        self.step_seconds: list[float] = []
        self.stopped = False
        self._agreeing: Any = None
        self._last = self.started

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step = state.global_step
        if args.world_size > 1:
            self._agreeing = torch.distributed.new_group(backend="gloo")  # so that no GPU has to be waited for
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        self.step_seconds.append(now - self._last)
        self._last = now
        self.stopped = self._agreed(self.context.stop.is_set())
        if self.stopped:
            control.should_save = control.should_training_stop = True

    def _agreed(self, stop: bool) -> bool:
        """Whether any of the processes is asked to stop: all of them stop after the same step."""
        if self._agreeing is None:
            return stop
        flag = torch.tensor(int(stop))
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=self._agreeing)
        return bool(flag)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "eval_bits_per_byte" in logs:
            self.context.log.info(
                f"step {state.global_step}: {logs['eval_bits_per_byte']:.4f} bits per byte of held-out text"
            )
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        figures = {name: value for name, value in logs.items() if "/" in name}
        for name, value in {"loss": loss, **figures}.items():
            self.logged.setdefault(name, []).append(value)
        self.context.log.step(
            step=state.global_step,
            steps=state.max_steps,
            loss=loss,
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens=round(state.global_step * self.tokens_per_step),
            **figures,
        )
        if not np.isfinite(loss):
            raise RunError(
                f"stage {self.context.stage.id}: the loss became {loss} at step {state.global_step}; "
                "lower training.learning_rate"
            )

    def metrics(self) -> dict[str, Any]:
        steady = self.step_seconds[1:] or self.step_seconds  # the first step also allocates and warms up
        return {
            "steps": self.first_step + len(self.step_seconds),
            **{f"{name}_first": values[0] if values else None for name, values in self.logged.items()},
            **{f"{name}_last": _end(values) for name, values in self.logged.items()},
            "tokens_per_second": self.tokens_per_step * len(steady) / sum(steady) if steady else None,
            "peak_memory": peak_memory(),
            "peak_gpu_memory": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        }


def _end(values: list[float]) -> float | None:
    """Mean of the last tenth."""
    return float(np.mean(values[-max(1, len(values) // 10) :])) if values else None
