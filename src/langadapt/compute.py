"""Which processes train the stages of a recipe, and what each of them does of a step.

The batch of a recipe is that of a step on all processes together: `per_device_train_batch_size` ·
`gradient_accumulation_steps` rows, wherever it runs. So one recipe goes from a laptop to a cluster without a change of
meaning, and `[compute]` is no part of a stage's digest. Imports no torch.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from langadapt.errors import counted
from langadapt.machine import Machine

if TYPE_CHECKING:
    from langadapt.recipe import Compute, Recipe
    from langadapt.stages.trained import TrainedOptions

PORT = 29500  # of the first machine, where MASTER_PORT says no other; it is torch.distributed's own default
# What `options` of fsdp may hold: keys of transformers' fsdp_config, each with a value of its type.
FSDP: Mapping[str, Any] = {
    "reshard_after_forward": True,
    "cpu_offload": False,
    "auto_wrap_policy": "",
    "transformer_layer_cls_to_wrap": [],
    "min_num_params": 0,
    "activation_checkpointing": False,
}
FSDP_OWNED = {
    "version": "it is 2",
    "state_dict_type": "checkpoints are whole, so that any number of processes can go on from them",
    "cpu_ram_efficient_loading": "every process reads the model, because strategies change it while it is loaded",
}
DEEPSPEED: Mapping[str, Any] = {"zero_optimization": {"stage": 2}}  # where the recipe says nothing
DEEPSPEED_OWNED = {
    key: "it follows from [stage.training]"
    for key in (
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "optimizer",
        "scheduler",
        "bf16",
        "fp16",
    )
}


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes that train together.

    Attributes:
        backend: of the recipe's `[compute]`.
        here: how many there are on each machine.
        machines: how many machines.
    """

    backend: str
    here: int
    machines: int

    @property
    def total(self) -> int:
        return self.here * self.machines

    @property
    def apart(self) -> bool:
        """Whether the training happens in processes of its own and not in the one that runs the stages."""
        return self.total > 1 or self.backend == "deepspeed"

    def share(self, training: Mapping[str, Any]) -> dict[str, int]:
        """The two keys of `[stage.training]` as each process has them, so that all make up the recipe's batch.

        Fewer micro-batches come before smaller ones, which use a device less well. Empty when the batch cannot be
        shared.
        """
        batch, accumulated = (int(training[key]) for key in BATCH)
        fewer = math.gcd(accumulated, self.total)
        smaller, rest = divmod(batch, self.total // fewer)
        return {} if rest else dict(zip(BATCH, (smaller, accumulated // fewer), strict=True))

    def __str__(self) -> str:
        where = f" on each of {self.machines} machines" if self.machines > 1 else ""
        return f"{counted(self.here, 'process', 'processes')}{where} by {self.backend}"


BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")


def processes(table: Compute, machine: Machine) -> Processes:
    """The processes that a recipe's `[compute]` means on a machine, and on others like it."""
    alone = table.backend == "single"
    here = 1 if alone else table.processes or max(1, len(machine.gpus))
    return Processes(backend=table.backend, here=here, machines=table.machines)


def explain(recipe: Recipe, machine: Machine) -> str:
    """Which processes train, in words; "" where this one does, as always."""
    found = processes(recipe.table.compute, machine)
    return str(found) if found.apart else ""


def missing(recipe: Recipe, machine: Machine) -> Iterator[str]:
    """What this machine lacks for the recipe's `[compute]`; another one, such as a node of a cluster, may have it."""
    found = processes(recipe.table.compute, machine)
    if machine.gpus and found.here > len(machine.gpus):
        yield (
            f"compute.processes is {found.here} and this machine has {len(machine.gpus)} GPUs, one for a process; "
            f"--set compute.processes={len(machine.gpus)}"
        )
    if found.backend in ("fsdp", "deepspeed") and found.apart and not machine.gpus:
        yield (
            f"compute.backend is {found.backend} and this machine has no GPU: accelerate shares a model out among GPUs "
            "alone; --set compute.backend=ddp"
        )
    if found.backend == "deepspeed" and not find_spec("deepspeed"):
        yield (
            "compute.backend is deepspeed, which is not installed; pip install 'langadapt[deepspeed]', or "
            "--set compute.backend=fsdp"
        )
    if found.machines > 1:
        yield from _missing_machines(found.machines)


def _missing_machines(machines: int) -> Iterator[str]:
    said = f"compute.machines is {machines}"
    if not first_machine():
        yield (
            f"{said} and nothing says where the first one is; start the same command on each of them with MASTER_ADDR "
            "set to the address of the first one and NODE_RANK to 0, 1, …, or by srun; or --set compute.machines=1"
        )
    elif (number := this_number()) is None:
        yield f"{said} and nothing says which one this is; set NODE_RANK to 0, 1, …"
    elif not 0 <= number < machines:
        yield f"{said} and this one is number {number}, counted from 0; set NODE_RANK to 0 to {machines - 1}"


def first_machine() -> str:
    """Address of the first machine: MASTER_ADDR, or the first of Slurm's node list; "" where neither is known."""
    if given := os.environ.get("MASTER_ADDR", ""):
        return given
    nodes = os.environ.get("SLURM_JOB_NODELIST", "")
    if not nodes or not shutil.which("scontrol"):
        return ""
    said = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=False)
    return said.stdout.partition("\n")[0].strip()


def port() -> int:
    """Of the first machine, at which the others find it."""
    given = os.environ.get("MASTER_PORT", "")
    return int(given) if given.isdecimal() else PORT


def this_number() -> int | None:
    """Which of the machines this one is, from 0, as torch's launchers and Slurm say it; None where nobody does."""
    for name in ("NODE_RANK", "GROUP_RANK", "SLURM_NODEID"):
        if (given := os.environ.get(name, "")).isdecimal():
            return int(given)
    return None


def problems(options: TrainedOptions, found: Processes, *, weight_bits: float) -> Iterator[str]:
    """Why a stage cannot be trained by these processes, on any machine.

    Args:
        options: of the stage.
        found: the processes.
        weight_bits: bits of a stored weight under the stage's strategy.
    """
    if not found.share(options.training):
        batch, accumulated = (options.training[key] for key in BATCH)
        yield (
            f"the batch of a step, {batch} · {accumulated} rows, cannot be shared out among {found.total} processes; "
            f"make training.{BATCH[1]} or training.{BATCH[0]} a multiple of {found.total}"
        )
    if not found.apart or found.backend != "fsdp":
        return
    if weight_bits < 16:
        yield (
            f'fsdp cannot share out weights of {weight_bits:g} bits; compute.backend = "ddp", or peft.method = "lora", '
            "whose 16-bit weights it can"
        )
    if options.training.get("eval_strategy", "no") != "no":
        yield 'fsdp shares out the weights, so held-out text cannot be scored meanwhile; compute.backend = "ddp"'
    if options.asks_reference:
        yield 'fsdp shares out the weights, so the reference cannot be asked; compute.backend = "ddp"'


def arguments(table: Compute, found: Processes) -> dict[str, Any]:
    """What transformers' TrainingArguments are told of the backend."""
    if found.backend == "fsdp" and found.apart:
        return {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT", **table.options}}
    if found.backend == "deepspeed":
        follows = dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
        clipping = {"gradient_clipping": "auto", "bf16": {"enabled": "auto"}}
        return {"deepspeed": {**DEEPSPEED, **follows, **clipping, **table.options}}
    return {}


def option_problems(table: Compute) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What is wrong with the options of a backend: place inside `[compute]`, message, hint."""
    from langadapt.recipe import check_fields

    if table.backend == "fsdp":
        yield from check_fields("", table.options, ("options",), FSDP, FSDP_OWNED)
    elif table.backend == "deepspeed":
        for name in table.options:
            if name in DEEPSPEED_OWNED:
                yield ("options", name), "langadapt sets this itself", DEEPSPEED_OWNED[name]
        zero = table.options.get("zero_optimization", {})
        if isinstance(zero, dict) and zero.get("stage", 2) == 3:
            message = "stage 3 shares out the weights too, and strategies have to see them whole"
            yield ("options", "zero_optimization", "stage"), message, 'stage = 2, or backend = "fsdp"'
