"""Stage kinds; the first is sound."""

from __future__ import annotations

from pydantic import BaseModel

from langadapt import StageKind, StageOptions


class Options(StageOptions):
    """None of its own."""


class Needy(StageOptions):
    """An option that no recipe gives."""

    pattern: str


class Bare(BaseModel):
    """No options of a stage."""


def imports(stage, planner):
    import matplotlib  # noqa: F401


def fails(stage, planner):
    raise RuntimeError("this plan fails")


def kind(name: str, **fields) -> StageKind:
    usual = {"name": name, "description": "A kind.", "version": 1, "options": Options, "makes": "results"}
    return StageKind(**{**usual, "plan": lambda stage, planner: None, "run": print} | fields)


KINDS = (
    kind("sound-kind"),
    kind("bare-options", options=Bare),
    kind("makes-adapters", makes="adapter", options=Needy),
    kind("heavy-plan", plan=imports),
    kind("failing-plan", plan=fails),
    kind("needy-kind", options=Needy),
)
