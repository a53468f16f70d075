"""Trains a model on packed rows: transformers' Trainer with our rows, our loss and the recipe's own words.

`cpt` and `sft` differ in how documents become token sequences and in how these are packed; all that follows is here,
once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

from langadapt import loading
from langadapt.errors import Interrupted, RunError, UserError
from langadapt.loss import fused_loss
from langadapt.machine import optimizer, peak_memory, this_machine
from langadapt.rounding import round_model
from langadapt.run import StageContext, StageResult

if TYPE_CHECKING:
    from langadapt.corpus.packing import PackedRows
    from langadapt.corpus.tokenising import Packed
    from langadapt.stages.trained import TrainedOptions

OURS = ("max_length",)  # names of trl's SFTConfig that [stage.training] takes beside those of TrainingArguments


def train(context: StageContext, packed: Packed, options: TrainedOptions) -> StageResult:
    """Trains on packed rows and saves the stage's model.

    Leaves `adapter/` (a PEFT adapter) or `model/` (whole weights, when the strategy trains the base itself) in the
    stage's folder; checkpoints are in `checkpoints/` while it runs, and a run that was killed goes on from the last.

    Returns:
        Where every token went, and metrics: steps, losses, tokens per second, trainable parameters, peak memory.

    Raises:
        UserError: the options do not fit the model or the machine.
        RunError: the loss is not a number.
        Interrupted: the user stopped it.
    """
    peft, rows = options.peft, packed.rows
    strategy = context.registry.peft_strategies[peft["method"]]
    transformers.set_seed(context.seed)
    model = loading.load_model(context.model, torch.float32 if strategy.trains_base else None)
    plain = model
    model = strategy.prepare(model, {k: v for k, v in peft.items() if k != "method"})
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not trainable:
        raise UserError(f"stage {context.stage.id}: the strategy {strategy.name} leaves no weight to train")
    context.log.info(
        f"{trainable:,} of {sum(p.numel() for p in model.parameters()):,} stored weights learn ({strategy.name})"
    )

    arguments = _arguments(context, options.training)
    trainer = _Trainer(model=model, args=arguments, train_dataset=rows, data_collator=_collate)
    progress = _Progress(context, trainer, tokens_per_step=_rows_per_step(arguments) * rows.length)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(progress)
    checkpoint = _last_checkpoint(Path(arguments.output_dir))
    if checkpoint:
        context.log.info(f"goes on from {checkpoint.name}")
    with fused_loss(plain):
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        final = result.training_loss if context.stop.is_set() else _loss_after(trainer, rows)
    if context.stop.is_set():
        raise Interrupted(
            f"stopped in stage {context.stage.id} at step {trainer.state.global_step} of {trainer.state.max_steps}"
        )
    for loss in (result.training_loss, final):
        if not np.isfinite(loss):
            raise RunError(f"stage {context.stage.id}: the loss became {loss}; lower training.learning_rate")
    _save(model, context, adapter=not strategy.trains_base)
    steps = trainer.state.global_step
    _account(packed, _Permutation(len(rows), context.seed).first(steps * _rows_per_step(arguments)))
    metrics = {
        "trainable_parameters": trainable,
        "rows": len(rows),
        "rows_per_step": _rows_per_step(arguments),
        "epochs": round(float(trainer.state.epoch or 0), 3),
    }
    packed.accounting.check()
    return StageResult(accounting=packed.accounting.to_json(), metrics=progress.metrics() | metrics)


class _Permutation(torch.utils.data.Sampler[int]):
    """Row numbers in an order that follows from seed and epoch alone, so that it is known beforehand and after a
    resume.
    """

    def __init__(self, rows: int, seed: int):
        self.rows, self.seed, self.epoch = rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng((self.seed, self.epoch)).permutation(self.rows).tolist()

    def first(self, count: int) -> list[int]:
        """The different rows among the first `count` of a training."""
        return list(self)[:count]


class _Trainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with our order of rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> _Permutation:
        return _Permutation(len(self.train_dataset), self.args.data_seed)


def _loss_after(trainer: Trainer, rows: PackedRows) -> float:
    """Loss of one row with the weights as the last step left them; no other loss has seen that step."""
    batch = {key: value.to(trainer.args.device) for key, value in _collate([rows[0]]).items()}
    with torch.no_grad(), trainer.accelerator.autocast():
        return float(trainer.model(**batch, use_cache=False)["loss"])


def _account(packed: Packed, used: list[int]) -> None:
    """Moves tokens of rows that the steps did not reach from `trained` to where they belong."""
    tokens = packed.accounting.tokens
    trained, tokens.learnt = packed.rows.tokens_in(used)
    if trained < tokens.trained:
        tokens.dropped["not reached in max_steps"] += tokens.trained - trained
        tokens.trained = trained


def _arguments(context: StageContext, training: Mapping[str, Any]) -> TrainingArguments:
    machine = this_machine()
    options = {k: v for k, v in training.items() if k not in OURS}
    options["optim"], note = optimizer(str(options["optim"]), cuda=machine.cuda)
    if note:
        context.log.info(note)
    own: dict[str, Any] = {
        "output_dir": str(context.folder / "checkpoints"),
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": not machine.cuda,
        "seed": context.seed,
        "data_seed": context.seed,
        "save_total_limit": 2,
        "logging_nan_inf_filter": False,
        "dataloader_pin_memory": machine.cuda,
    }
    try:
        arguments = TrainingArguments(**(own | {"bf16": machine.bf16} | options))
    except (ValueError, TypeError) as error:
        raise UserError(f"stage {context.stage.id}: transformers refuses [stage.training]: {error}") from None
    if arguments.n_gpu > 1:  # one process is one GPU's; the Trainer would split batches over all by DataParallel
        arguments._n_gpu = 1
    return arguments


def _rows_per_step(arguments: TrainingArguments) -> int:
    accumulated = int(arguments.gradient_accumulation_steps)
    return int(arguments.train_batch_size) * accumulated * max(1, int(arguments.world_size))


def _collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    batch = {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}
    # Labels are aligned with the token they follow from, hence upstream's name for that; it counts tokens in `labels`.
    return {**batch, "shift_labels": batch["labels"]}


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; the Trainer writes its state last, so a folder without it was cut short."""
    whole = [p for p in folder.glob("checkpoint-*") if (p / "trainer_state.json").is_file()]
    return max(whole, key=lambda p: int(p.name.split("-")[1]), default=None)


def _save(model: Any, context: StageContext, *, adapter: bool) -> None:
    folder = context.folder
    if adapter:
        # "auto" would look the base model up on the hub; the vocabulary is unchanged, so no embedding needs saving.
        model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    else:
        round_model(model, torch.bfloat16, seed=context.seed).save_pretrained(folder / "model")
        context.tokenizer().save_pretrained(folder / "model")


class _Progress(TrainerCallback):  # type: ignore[misc]
    """Sends every logged step to the run's log, and stops the training when the user asks to."""

    def __init__(self, context: StageContext, trainer: Trainer, tokens_per_step: int):
        self.context, self.trainer, self.tokens_per_step = context, trainer, tokens_per_step
        self.losses: list[float] = []
        self.started = time.monotonic()
        self.first_step = 0
        self.step_seconds: list[float] = []
        self._last = self.started

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step = state.global_step
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        self.step_seconds.append(now - self._last)
        self._last = now
        if self.context.stop.is_set():
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        self.losses.append(loss)
        self.context.log.step(
            step=state.global_step,
            steps=state.max_steps,
            loss=loss,
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens=state.global_step * self.tokens_per_step,
        )
        if not np.isfinite(loss):
            raise RunError(
                f"stage {self.context.stage.id}: the loss became {loss} at step {state.global_step}; "
                "lower training.learning_rate"
            )

    def metrics(self) -> dict[str, Any]:
        steady = self.step_seconds[1:] or self.step_seconds  # the first step also allocates and warms up
        first, last = self.losses[:1], self.losses[-max(1, len(self.losses) // 10) :]
        return {
            "steps": self.first_step + len(self.step_seconds),
            "loss_first": first[0] if first else None,
            "loss_last": float(np.mean(last)) if last else None,
            "tokens_per_second": self.tokens_per_step * len(steady) / sum(steady) if steady else None,
            "peak_memory": peak_memory(),
            "peak_gpu_memory": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        }
