"""Engines with the memory before them, and the ways in which they are given a paragraph.

The ways, for each engine in turn: by paragraph; by sentence, with numbers masked too; around everything that is
protected, so that spans cannot get lost.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from langadapt.errors import Interrupted, LangadaptError, RunError
from langadapt.records import Translator
from langadapt.translation import remembering, splitting
from langadapt.translation.checking import EMPTY, SPANS
from langadapt.translation.protecting import Masked, masked_pair, protect
from langadapt.translation.remembering import Memory

Unit = Masked | str  # something to translate, or what stays as it is


# --- one engine, with the memory before it ----------------------------------------------------------------------------


@dataclass(kw_only=True)
class Engine:
    """A translator for one pair of languages; it is opened when the memory lacks something, and not before.

    Attributes:
        fresh: texts that the translator was asked for.
        remembered: texts that were there already.
        seconds: that the translator took.
    """

    translator: Translator
    options: Any
    source: str
    target: str
    memory: Memory
    stop: threading.Event
    fresh: int = 0
    remembered: int = 0
    seconds: float = 0.0
    _fingerprint: str = ""
    _open: Callable[[Sequence[str]], Sequence[str]] | None = None

    @property
    def name(self) -> str:
        """As the recipe calls it."""
        return self.translator.name

    @property
    def fingerprint(self) -> str:
        """What translations are remembered under."""
        if not self._fingerprint:
            own = self.translator.fingerprint(self.options, self.source, self.target)
            self._fingerprint = f"{self.translator.name} {own}"
        return self._fingerprint

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Translations of paragraphs or sentences, "" where there is none; the same text is translated once.

        Raises:
            Interrupted: the user asked to stop; what was translated so far is remembered.
            RunError: the translator failed, or gave another number of texts than it got.
        """
        keys = [remembering.key(self.fingerprint, self.source, self.target, text) for text in texts]
        known = self.memory.find(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        self.remembered += len(texts) - len(missing)
        # Texts of like length come together, which is what engines are fast with.
        queue = iter(sorted(missing.items(), key=lambda item: len(item[1])))
        while batch := dict(islice(queue, self.translator.batch)):
            if self.stop.is_set():
                raise Interrupted("stopped while translating; what is translated is kept")
            made = dict(zip(batch, self._translated(list(batch.values())), strict=True))
            self.memory.keep({key: text for key, text in made.items() if text})
            known |= made
        return [known[key] for key in keys]

    def _translated(self, texts: list[str]) -> list[str]:
        started = time.monotonic()
        try:
            if self._open is None:
                self._open = self.translator.open(self.options, self.source, self.target)
            made = list(self._open(texts))
        except LangadaptError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise RunError(
                f"translator {self.name}, {self.source} to {self.target}, failed: {what}; "
                "the same command goes on from there"
            ) from error
        self.seconds += time.monotonic() - started
        if len(made) != len(texts) or not all(isinstance(text, str) for text in made):
            raise RunError(
                f"translator {self.name} gave {len(made)} translations of {len(texts)} texts, or some that are no text; "
                "this is a fault of the plugin that offers it"
            )
        self.fresh += len(texts)
        return [_on_one_line(text) for text in made]


def _on_one_line(text: str) -> str:
    """Without line breaks, which paragraphs do not have, and with the HTML entities undone that some engines write;
    those of the source are masked.
    """
    return " ".join(html.unescape(text).split())


# --- ways to cut a paragraph ------------------------------------------------------------------------------------------

Cut = Callable[[str], list[Unit]]


def by_paragraph(text: str, *, names: Sequence[str] = (), longest: int = 0) -> list[Unit]:
    """The paragraph in one unit; one of more than `longest` characters, which engines cut short, by sentence."""
    if len(text) > longest:
        return [_unit(part.text, names) if part.translate else part.text for part in splitting.sentences(text)]
    return [_unit(text, names)]


def by_sentence(text: str, *, names: Sequence[str] = ()) -> list[Unit]:
    """A unit for each sentence, with numbers masked too."""
    return [
        _unit(part.text, names, numbers=True) if part.translate else part.text for part in splitting.sentences(text)
    ]


def around(text: str, *, names: Sequence[str] = ()) -> list[Unit]:
    """A unit for each stretch between what is protected. Translates worst and loses nothing."""
    units: list[Unit] = []
    for part, spoken in protect(text, names).around():
        inner = part.strip()
        if not spoken or not any(character.isalpha() for character in inner):
            units.append(part)
            continue
        start = part.index(inner)
        units += [part[:start], Masked(inner, ()), part[start + len(inner) :]]
    return [unit for unit in units if unit]


def _unit(text: str, names: Sequence[str], *, numbers: bool = False) -> Unit:
    masked = protect(text, names, numbers=numbers)
    return text if masked.bare else masked


@dataclass(frozen=True, kw_only=True)
class Way:
    """An engine, and how it is given a paragraph."""

    name: str
    engine: Engine
    cut: Cut

    def translate(self, paragraphs: Sequence[str]) -> list[Rendered]:
        """Each paragraph's translation."""
        cuts = [self.cut(paragraph) for paragraph in paragraphs]
        made = iter(self.engine([unit.text for units in cuts for unit in units if isinstance(unit, Masked)]))
        return [_put_together(units, made) for units in cuts]


@dataclass(frozen=True)
class Rendered:
    """A paragraph's translation, or "" and the flaw that there is none for: `EMPTY` or `SPANS`."""

    text: str
    flaws: tuple[str, ...] = ()


def _put_together(units: Sequence[Unit], made: Iterator[str]) -> Rendered:
    """The paragraph out of its units; takes from `made` what is theirs, whatever becomes of it."""
    translations = [unit if isinstance(unit, str) else next(made) for unit in units]
    if not all(translations):
        return Rendered("", (EMPTY,))
    restored = [
        unit if isinstance(unit, str) else unit.restored(text) for unit, text in zip(units, translations, strict=True)
    ]
    if None in restored:
        return Rendered("", (SPANS,))
    return Rendered("".join(text for text in restored if text))


def ways(engines: Sequence[Engine], names: Sequence[str], longest: int) -> list[Way]:
    """Every way of every engine, in the order in which they are tried."""
    cuts: dict[str, Cut] = {
        "by paragraph": lambda text: by_paragraph(text, names=names, longest=longest),
        "by sentence": lambda text: by_sentence(text, names=names),
        "around what is protected": lambda text: around(text, names=names),
    }
    return [
        Way(name=f"{engine.name} {name}", engine=engine, cut=cut) for engine in engines for name, cut in cuts.items()
    ]


def known_units(text: str, translation: str, names: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """What a finished translation of a text says of the units that ways ask for: masked paragraphs and theirs.

    Nothing when the two are not made alike: other paragraphs, other spans.
    """
    left, right = ([p.text for p in splitting.pieces(t) if p.translate] for t in (text, translation))
    if len(left) == len(right):
        pairs = (masked_pair(*pair, names) for pair in zip(left, right, strict=True))
        yield from (pair for pair in pairs if pair is not None)
