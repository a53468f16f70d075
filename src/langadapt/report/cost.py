"""What a run cost: time, tokens, memory, and energy as it was counted or as the recipe lets it be estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langadapt.plan import Plan

Entry = Mapping[str, Any]  # of a stage in `run.json`
NAMES = {"processors": "the processors", "gpus": "the GPUs"}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The sums over stages that are done, also those that were done earlier.

    Attributes:
        seconds: wall time.
        tokens: that were trained on.
        joules: by stage, of those whose energy is known.
        basis: what the energy is computed from, in words.
    """

    seconds: float
    tokens: int
    joules: Mapping[str, float]
    basis: str


def cost(plan: Plan, stages: Sequence[Entry]) -> Cost:
    """The cost of a run.

    Args:
        plan: of the run; the recipe may say how many watts a machine draws.
        stages: what `run.json` says of them.
    """
    done = [stage for stage in stages if stage["seconds"] is not None]
    table = plan.recipe.table.compute
    counted = {stage["id"]: stage["joules"] for stage in done if stage.get("joules")}
    if counted:
        joules = {id: sum(parts.values()) for id, parts in counted.items()}
        parts = " and ".join(name for part, name in NAMES.items() if any(part in found for found in counted.values()))
        where = ", on the first machine alone" if table.machines > 1 else ""
        basis = (
            f"Energy was counted by {parts}{where}, with whatever else ran on them and without the rest of the machine."
        )
    elif table.watts:
        watts = table.watts * table.machines
        joules = {stage["id"]: watts * stage["seconds"] for stage in done}
        basis = f"Energy is an estimate: time × the {watts:g} W that the recipe states."
    else:
        joules = {}
        basis = "Energy is not known: no counter of the machine could be read, and the recipe states no watts."
    return Cost(
        seconds=sum(stage["seconds"] for stage in done),
        tokens=sum((stage["accounting"] or {}).get("tokens", {}).get("trained", 0) for stage in done),
        joules=joules,
        basis=basis,
    )


def energy(joules: float | None) -> str:
    """Joules in the unit that suits them, "" when they are not known."""
    if joules is None:
        return ""
    hours = joules / 3600
    return f"{hours / 1000:.2f} kWh" if hours >= 1000 else f"{hours:.1f} Wh" if hours >= 0.1 else f"{joules:.0f} J"
