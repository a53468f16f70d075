"""Which language a text is in, offline.

eldc (Apache-2.0, 60 languages, data in its wheel) answers; on machines that it has no wheel for, py3langid does. eldc's
scores are no probabilities, but its `reliable` flag tells Italian from the regional languages that look like it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

SURE = 0.9  # py3langid's normalised probability above which its answer counts as reliable
LOOKED_AT = 50_000  # characters that the language of a longer text is told by


@dataclass(frozen=True)
class Identified:
    """The most likely language as an ISO 639-1 tag, "" when nothing points to any, and whether it is to be relied on."""

    tag: str
    reliable: bool


def identify(text: str) -> Identified:
    """The language that a text is written in; meant for 25 characters or more.

    Line breaks do not matter; lone surrogates, which the detector would refuse, are left out.
    """
    return _detector()(text.encode("utf-8", "ignore").decode("utf-8"))


@lru_cache
def knows(tag: str) -> bool:
    """Whether the detector has a language at all; a text in one that it lacks is always taken for another."""
    try:
        import eldc
    except ImportError:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        return tag in LanguageIdentifier.from_pickled_model(MODEL_FILE).nb_classes
    return tag in eldc.LANGUAGES


@lru_cache(maxsize=1)
def _detector() -> Callable[[str], Identified]:
    try:
        import eldc
    except ImportError:
        return _py3langid()
    eldc.init()

    def detect(text: str) -> Identified:
        found = eldc.detect_details(text)
        return Identified(found.language or "", bool(found.reliable))

    return detect


def _py3langid() -> Callable[[str], Identified]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_pickled_model(MODEL_FILE, norm_probs=True)

    def detect(text: str) -> Identified:
        tag, probability = identifier.classify(text)
        return Identified(tag if text.strip() else "", float(probability) >= SURE)

    return detect
