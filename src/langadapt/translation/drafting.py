"""Texts in, drafts out: each text translated in one way after the other until the signals are content with it.

text → paragraphs → units, masked → remembered, or else the engine → masks restored → paragraphs → text → verdict
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from langadapt.translation import splitting
from langadapt.translation.checking import EMPTY, SPANS, Pair, Signal, Verdict, examine, in_order
from langadapt.translation.protecting import prose_of
from langadapt.translation.translating import Rendered, Way


@dataclass(kw_only=True)
class Draft:
    """A text on its way.

    Attributes:
        source: the text.
        done: its paragraphs as they are so far.
        verdict: of the whole.
        rejecting: the flaws of the verdict that reject it.
        way: that it was last changed in, `apertium by sentence`; "" when there was nothing to translate.
    """

    source: str
    done: list[Rendered] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    rejecting: tuple[str, ...] = ()
    way: str = ""

    @classmethod
    def of(cls, source: str) -> Draft:
        """Of a text that nothing is done of yet."""
        draft = cls(source=source)
        draft.done = [Rendered("", (EMPTY,)) for _ in draft.paragraphs]
        draft.rejecting = (EMPTY,) if draft.done else ()
        return draft

    @cached_property
    def _parts(self) -> list[splitting.Piece]:
        return splitting.pieces(self.source)

    @property
    def paragraphs(self) -> list[str]:
        """What there is to translate."""
        return [part.text for part in self._parts if part.translate]

    @property
    def target(self) -> str:
        """The translation, "" while a paragraph has none."""
        return "" if _missing(self.done) else self.with_paragraphs(self.done)

    @property
    def again(self) -> list[int]:
        """Numbers of the paragraphs to translate: those with flaws, or all when it is the whole that has one."""
        flawed = [number for number, paragraph in enumerate(self.done) if paragraph.flaws]
        return flawed or list(range(len(self.done)))

    def with_paragraphs(self, done: Sequence[Rendered]) -> str:
        """The text with these paragraphs in it."""
        return splitting.joined(self._parts, (paragraph.text for paragraph in done))

    def paired(self, done: Sequence[Rendered]) -> list[tuple[str, str]]:
        """Each paragraph with its translation."""
        return [(source, paragraph.text) for source, paragraph in zip(self.paragraphs, done, strict=True)]

    def take(self, new: Draft) -> None:
        """Becomes the new draft where that is better, or the first."""
        if not self.way or new._faults() < self._faults():
            self.done, self.verdict, self.rejecting, self.way = new.done, new.verdict, new.rejecting, new.way

    def _faults(self) -> tuple[int, int, int, int]:
        """The fewer the better, the first counting most: paragraphs missing, flaws that reject, flaws, bad paragraphs."""
        missing = sum(not paragraph.text for paragraph in self.done)
        return missing, len(self.rejecting), len(self.verdict.flaws), sum(bool(p.flaws) for p in self.done)


class Translation:
    """All that texts of one pair of languages are translated and judged with."""

    def __init__(
        self, ways: Sequence[Way], signals: Sequence[Signal], reject: Sequence[str], names: Sequence[str] = ()
    ):
        self.ways, self.signals, self.names = ways, signals, names
        self._reject = {EMPTY, SPANS, *reject}
        self._quick = [signal for signal in signals if signal.paragraphs and signal.name in reject]

    def __call__(self, texts: Sequence[str]) -> list[Draft]:
        """A draft for each text; those that end with `rejecting` flaws were tried in every way."""
        drafts = [Draft.of(text) for text in texts]
        for way in self.ways:
            if rejected := [draft for draft in drafts if draft.rejecting]:
                self._try(way, rejected)
        return drafts

    def _try(self, way: Way, drafts: Sequence[Draft]) -> None:
        """Translates what each draft lacks, and takes the outcome where it is better than what there was."""
        asked = [(draft, number) for draft in drafts for number in draft.again]
        sources = [draft.paragraphs[number] for draft, number in asked]
        candidates = {id(draft): list(draft.done) for draft in drafts}
        for (draft, number), new in zip(asked, self._judged(sources, way.translate(sources)), strict=True):
            if _badness(new) <= _badness(draft.done[number]):
                candidates[id(draft)][number] = new
        tried = [candidates[id(draft)] for draft in drafts]
        for draft, done, verdict in zip(drafts, tried, self._verdicts(drafts, tried), strict=True):
            rejecting = tuple(flaw for flaw in verdict.flaws if flaw in self._reject)
            draft.take(Draft(source=draft.source, done=done, verdict=verdict, rejecting=rejecting, way=way.name))

    def _judged(self, sources: Sequence[str], rendered: Sequence[Rendered]) -> list[Rendered]:
        """Paragraphs with the flaws that can be told of them alone."""
        whole = [(s, r.text) for s, r in zip(sources, rendered, strict=True) if r.text]
        verdicts = iter(examine([self._pair(s, t, [(s, t)]) for s, t in whole], self._quick))
        return [Rendered(r.text, next(verdicts).flaws) if r.text else r for r in rendered]

    def _verdicts(self, drafts: Sequence[Draft], tried: Sequence[list[Rendered]]) -> list[Verdict]:
        """Of whole texts; one that lacks a paragraph has that flaw alone."""
        pairs = [
            self._pair(draft.source, draft.with_paragraphs(done), draft.paired(done))
            for draft, done in zip(drafts, tried, strict=True)
            if not _missing(done)
        ]
        examined = iter(examine(pairs, self.signals))
        return [Verdict(flaws=missing) if (missing := _missing(done)) else next(examined) for done in tried]

    def _pair(self, source: str, target: str, paragraphs: Sequence[tuple[str, str]]) -> Pair:
        prose = tuple((prose_of(s, self.names), prose_of(t, self.names)) for s, t in paragraphs)
        return Pair(source=source, target=target, prose=prose)


def _badness(paragraph: Rendered) -> tuple[bool, int]:
    return not paragraph.text, len(paragraph.flaws)


def _missing(done: Sequence[Rendered]) -> tuple[str, ...]:
    """Why paragraphs have no translation; nothing when all have one."""
    return in_order(flaw for paragraph in done if not paragraph.text for flaw in paragraph.flaws)
