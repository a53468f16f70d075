"""What a check is: a function that yields what is so here, with what comes of it, what to do, and who says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from langadapt.doctor.facts import Facts

Weight = Literal["wrong", "note"]
Look = Callable[[Facts], Iterator[str]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A thing that can be at odds.

    Attributes:
        name: which stays the same, for scripts.
        says: what is recognised, in a few words.
        weight: `wrong` where something fails or gives other results, `note` where one should know.
        happens: what comes of it.
        do: what to do.
        source: where that is documented or was met: an address, or a page of ours.
        look: yields what is so here, a sentence each; nothing where all is well.
    """

    name: str
    says: str
    weight: Weight
    happens: str
    do: str
    source: str
    look: Look


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check has found.

    Attributes:
        check: its name.
        weight: its weight.
        what: is so here.
        happens: what comes of it.
        do: what to do.
        source: who says so.
    """

    check: str
    weight: Weight
    what: str
    happens: str
    do: str
    source: str


def check(*, happens: str, do: str, source: str, weight: Weight = "wrong") -> Callable[[Look], Check]:
    """Makes a check of a function: its name is the function's, and its docstring what is recognised."""

    def make(look: Look) -> Check:
        name, says = look.__name__.replace("_", "-"), (look.__doc__ or "").strip().rstrip(".")
        return Check(name=name, says=says, weight=weight, happens=happens, do=do, source=source, look=look)

    return make


def findings(facts: Facts, checks: tuple[Check, ...]) -> list[Finding]:
    """What these checks find, what is wrong before what one should know."""
    found = [
        Finding(check=c.name, weight=c.weight, what=what, happens=c.happens, do=c.do, source=c.source)
        for c in checks
        for what in c.look(facts)
    ]
    return sorted(found, key=lambda finding: finding.weight == "note")
