"""How the figures came about: what another figure has to have in common with them before the two are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langadapt.recipe import BASE
from langadapt.report import findings

if TYPE_CHECKING:
    from langadapt.plan import Plan

Row = Mapping[str, Any]


def conditions(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """What holds for the figures of a run, in sentences."""
    measured = {row["metric"] for row in findings.compared(rows)}
    tasks = any("undecoded" in row for row in rows)
    return [
        *_bits(rows),
        *(_tasks(plan) if tasks else ()),
        *(_limits(plan) if measured else ()),
        *(_seed(plan) if measured else ()),
    ]


def windows(row: Row) -> str:
    """`L 1,024, S 512`: how bits per byte were taken, or "" of a row that does not say."""
    return f"L {row['window']:,}, S {row['stride']:,}" if row.get("window") else ""


def _bits(rows: Sequence[Row]) -> Iterable[str]:
    for said in dict.fromkeys(filter(None, map(windows, rows))):
        yield (
            f"Bits per byte ({said}): a model read windows of at most L tokens, each window scored S new ones, and every "
            "byte was scored once; sums over all documents. They may be compared across tokenizers, with figures of the "
            "same text, L and S; lm-evaluation-harness takes S = L."
        )


def _tasks(plan: Plan) -> Iterable[str]:
    measures = [m for stage in plan.stages if stage.kind == "evaluate" for m in stage.work if m.evaluation and m.prompt]
    prompts = " and ".join(dict.fromkeys(m.prompt for m in measures)) or "the recipe's prompt format"
    room = plan.recipe.table.evaluation.max_new_tokens
    most = f", at most {room} tokens of each" if room else ""
    yield f"Tasks were asked in the format {prompts} without examples (0 shots), and answers are greedy{most}."


def _limits(plan: Plan) -> Iterable[str]:
    table = plan.recipe.table.evaluation
    limits = {"documents of a text": table.max_documents, "items of a task": table.max_items}
    if said := [f"{limit:,} {what}" for what, limit in limits.items() if limit]:
        yield f"At most {' and '.join(said)} were measured, the same ones for every model."


def _seed(plan: Plan) -> Iterable[str]:
    yield (
        f"Every model was trained once, with seed {plan.recipe.table.seed}: intervals are over documents and items, and say "
        "nothing of how another seed would have turned out."
    )


@dataclass(frozen=True, kw_only=True)
class Tokenised:
    """How a tokenizer cuts a text that was measured: more bytes in a token are fewer steps for the same text."""

    text: str
    bytes: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens


def tokenised(plan: Plan, rows: Sequence[Row]) -> list[Tokenised]:
    """Every text whose bits per byte were measured with the base model, whose tokenizer all models of a run share."""
    found = [row for row in rows if row["metric"] == findings.TEXT and row["stage"] == BASE and row.get("tokens")]
    return [Tokenised(text=findings.text_of(plan, row), bytes=row["bytes"], tokens=row["tokens"]) for row in found]
