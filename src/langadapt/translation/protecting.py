"""What no engine may touch, masked before translation and put back after it.

Code, addresses, formulas, tags, placeholders, paths and names become masks such as ⟦0⟧, which engines leave alone more
often than what they stand for. Each must come back exactly once; where one does not, there is no translation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_MASK = re.compile(r"⟦\s*(\d{1,6})\s*⟧")
_BRACKETS = re.compile(r"[⟦⟧]")

_EXTENSIONS = (
    "py|ipynb|js|ts|jsx|tsx|java|c|h|cpp|cs|go|rs|rb|php|sh|bat|ps1|sql|html?|css|xml|json|jsonl|ya?ml|toml|ini|cfg|"
    "conf|env|md|txt|log|csv|tsv|xlsx?|docx?|pptx?|pdf|png|jpe?g|gif|svg|mp[34]|wav|zip|tar|gz|exe|dll|so|parquet"
)

# What is protected, in this order: where two overlap, the one that begins first counts, then the one that stands first
# here. Bounded repetition keeps hostile text from costing more than its length times a constant.
_CONTENT = {
    # Brackets of masks in the text itself are spans of their own, so that no mask can be forged.
    "bracket": r"[⟦⟧]+",
    "code": r"(?<!`)(?P<ticks>`{1,3})(?!`).{1,2000}?(?<!`)(?P=ticks)(?!`)",
    "formula": (
        r"\$\$.{1,2000}?\$\$|\\\(.{1,2000}?\\\)|\\\[.{1,2000}?\\\]|\\begin\{(?P<block>\w{1,40}\*?)\}.{1,2000}?\\end\{(?P=block)\}"
        r"|(?<![\\$\w])\$(?=[^\s$])[^$]{0,500}(?<=[^\s\\$])\$(?![\d$])"  # pandoc's rule: $5 and $10 are no formula
    ),
    "tag": (
        r"<!--.{0,2000}?-->|</[A-Za-z][\w:.-]{0,60}\s{0,8}>"
        r"|<[A-Za-z][\w:.-]{0,60}(?:\s{1,8}[\w:@.-]{1,60}(?:\s?=\s?(?:\"[^\"<>]{0,500}\"|'[^'<>]{0,500}'|[^\s\"'<>]{1,200}))?){0,20}\s{0,8}/?>"
    ),
    "entity": r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});",
    "link": r"!?\[(?=[^\[\]]{1,300}\]\([^()]{1,500}\))|\]\((?=[^()]{1,500}\))[^()]{1,500}\)",
    "address": (
        r"\b[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s<>\"'⟦⟧«»“”]{0,1999}[^\s<>\"'⟦⟧«»“”.,;:!?)\]}*_]"
        r"|\bwww\.[^\s<>\"'⟦⟧«»“”]{0,1999}[^\s<>\"'⟦⟧«»“”.,;:!?)\]}*_]"
        r"|(?:\bmailto:)?\b[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2,24}\b"
    ),
    "placeholder": (
        r"\{\{[^{}]{1,100}\}\}|\$?\{[^{}\s][^{}]{0,60}\}|%\([A-Za-z_]\w{0,60}\)[#0+-]?[\d.]{0,6}[a-z]"
        r"|%(?:\d{1,2}\$)?[#0+-]?\d{0,4}(?:\.\d{1,3})?(?:[sdifgxXoueEGc]|ld|lu|lf)(?![\w%])"
    ),
    "path": (
        r"(?<![\w/.:])(?:~|\.{1,2})?/[\w.@+~-]{1,100}(?:/[\w.@+~*-]{0,100}){1,20}|(?<![\w/.])(?:~|\.{1,2})/[\w.@+~-]{1,100}"
        r"|\b[A-Za-z]:\\[^\s\"'<>|?*]{1,300}"
        rf"|(?<![\w.])[\w-]{{1,80}}(?:\.[\w-]{{1,40}}){{0,4}}\.(?:{_EXTENSIONS})\b(?!\.\w)"
    ),
    "version": (
        r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})?)?\b"
        r"|\bv\d{1,4}(?:\.\d{1,4}){0,4}\b|(?<![\w.,])\d{1,4}(?:\.\d{1,5}){2,4}(?:-[\w.]{1,20})?(?![\w,])|\b0[xX][0-9A-Fa-f]{1,64}\b"
    ),
    # Names of programs: snake_case, calls, camelCase.
    "identifier": (
        r"\b[A-Za-z]\w{0,60}(?:\.\w{1,60}){0,6}\(\)|\b(?=\w{0,80}[A-Za-z0-9]_[A-Za-z0-9])\w{3,120}\b|\b__\w{1,60}__\b"
        r"|\b[a-z]{1,30}[A-Z]\w{0,60}\b"
    ),
    "mention": r"(?<![\w/&])[@#][A-Za-z_]\w{1,60}",
    "emphasis": (
        r"(?<![*\w\\])\*{1,3}(?=[^\s*])|(?<=[^\s*\\])\*{1,3}(?![*\w])|(?<![_\w\\])_{1,3}(?=[^\s_])|(?<=[^\s_\\])_{1,3}(?![_\w])|~~"
    ),
    "emoji": r"[\U0001F000-\U0001FAFF\u2600-\u27BF\u2B00-\u2BFF\uFE0F\u200D\u20E3]+",
}
_NUMBER = r"(?<!\w)[+-]?\d(?:[\d.,:/]{0,40}\d)?[A-Za-z]{0,2}(?!\w)"  # 1980s, 9am, 5th and 5km in one
_MARKUP = ("emphasis", "tag", "link")  # what opens and closes around words: its order and its spaces count


@dataclass(frozen=True)
class Span:
    """What a mask stands for.

    Attributes:
        text: as it stands in the source.
        markup: whether it marks words up, and so must keep its place among the others.
        before: whether a space, or the text's edge, stands before it.
        after: the same behind it.
    """

    text: str
    markup: bool
    before: bool
    after: bool


@dataclass(frozen=True)
class Masked:
    """A text with masks in place of its spans."""

    text: str
    spans: tuple[Span, ...]

    @property
    def bare(self) -> bool:
        """Whether no letter is left that an engine could translate."""
        return not any(character.isalpha() for character in _MASK.sub("", self.text))

    def restored(self, translation: str) -> str | None:
        """The translation with every span in its mask's place, or None when they did not all come back, each once.

        The order of markup must be the source's too. Spaces between markup and the words that it marks are taken out
        where the source has none, and put between words and spans where it has them.
        """
        found = list(_MASK.finditer(translation))
        order = [int(mask.group(1)) for mask in found]
        if sorted(order) != list(range(len(self.spans))) or _BRACKETS.search(_MASK.sub("", translation)):
            return None
        markup = [number for number in order if self.spans[number].markup]
        if markup != sorted(markup):
            return None
        texts = _MASK.split(translation)[::2]
        made = texts[0]
        for number, following in zip(order, texts[1:], strict=True):
            span = self.spans[number]
            made = _spaced(made, span.text, span.before, span.markup)
            made += _spaced(following[::-1], "", span.after, span.markup)[::-1] if following else ""
        return made

    def around(self) -> list[tuple[str, bool]]:
        """The text cut at its masks: stretches that may be translated (True) and spans (False), in order."""
        parts: list[tuple[str, bool]] = []
        for number, part in enumerate(_MASK.split(self.text)):
            parts.append((self.spans[int(part)].text, False) if number % 2 else (part, True))
        return [(text, spoken) for text, spoken in parts if text]


def protect(text: str, names: Sequence[str] = (), *, numbers: bool = False) -> Masked:
    """Masks everything in `text` that must come back as it is.

    Args:
        text: a paragraph or sentence.
        names: words that are not to be translated, as they are written.
        numbers: whether plain numbers are masked too; otherwise an engine may write them as its language does.
    """
    spans: list[Span] = []

    def mask(found: re.Match[str]) -> str:
        before, after = text[: found.start()][-1:], text[found.end() : found.end() + 1]
        spans.append(
            Span(
                text=found.group(),
                markup=found.lastgroup in _MARKUP,
                before=not before or before.isspace(),
                after=not after or after.isspace(),
            )
        )
        return f"⟦{len(spans) - 1}⟧"

    return Masked(_pattern(tuple(names), numbers).sub(mask, text), tuple(spans))


def prose_of(text: str, names: Sequence[str] = ()) -> str:
    """The text without what is protected in it."""
    return _MASK.sub("", protect(text, names).text)


def masked_pair(source: str, translation: str, names: Sequence[str] = ()) -> tuple[str, str] | None:
    """Source and translation with the same masks, or None when they do not hold the same spans.

    What a store of finished translations looks its texts up by: the stage asks for masked text.
    """
    left, right = protect(source, names), protect(translation, names)
    if Counter(s.text for s in left.spans) != Counter(s.text for s in right.spans):
        return None
    numbers: dict[str, list[int]] = {}
    for number, span in enumerate(left.spans):
        numbers.setdefault(span.text, []).append(number)
    return left.text, _MASK.sub(lambda m: f"⟦{numbers[right.spans[int(m.group(1))].text].pop(0)}⟧", right.text)


@lru_cache(maxsize=64)
def _pattern(names: tuple[str, ...], numbers: bool) -> re.Pattern[str]:
    kinds = dict(_CONTENT)
    if names:
        words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        kinds = {
            "bracket": kinds.pop("bracket"),
            "code": kinds.pop("code"),
            "name": rf"(?<!\w)(?:{words})(?!\w)",
        } | kinds
    if numbers:
        kinds["number"] = _NUMBER
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in kinds.items()))


def _spaced(text: str, span: str, space: bool, markup: bool) -> str:
    """`text`, then `span`, with a space between them where the source has one, and none where it has none."""
    if markup and not space:
        return text.rstrip() + span
    return text + (" " if space and text[-1:].isalnum() else "") + span
