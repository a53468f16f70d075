"""Names of languages and scripts: BCP-47 tags (RFC 5646) and ISO 15924 codes."""

from __future__ import annotations

import re
from functools import cache

NO_LANGUAGE = "zxx"  # the tag of what is in no language, such as the text of a placeholder
IN_SCRIPT = 0.5  # least share of the letters of a text in a script: names and quotations are in others

_TAG = re.compile(
    r"[a-z]{2,3}(?:-[A-Z][a-z]{3})?(?:-(?:[A-Z]{2}|\d{3}))?(?:-(?:[a-z\d]{5,8}|\d[a-z\d]{3}))*(?:-x(?:-[a-z\d]{1,8})+)?"
)
_SCRIPT = re.compile(r"[A-Z][a-z]{3}")
# Codes that stand for several scripts of Unicode, or for a variant of one.
_SEVERAL = {
    "Aran": ("Arab",), "Hans": ("Hani",), "Hant": ("Hani",), "Hrkt": ("Hira", "Kana"), "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"), "Cyrs": ("Cyrl",), "Latf": ("Latn",), "Latg": ("Latn",),
}  # fmt: skip


def is_tag(text: str) -> bool:
    """Whether it has the form of a BCP-47 tag as it is usually written: `eu`, `sr-Cyrl`, `pt-BR`, `ca-valencia`."""
    return _TAG.fullmatch(text) is not None


def tag_fault(tag: str) -> str:
    """What is wrong with the tag of a language: its form, a code that is not registered (IANA's registry, as langcodes has
    it), or one that is written otherwise; "" for nothing.

    Codes for private use (`qaa` to `qtz`) pass.
    """
    if not is_tag(tag):
        return f'"{tag}" is no BCP-47 tag'
    from langcodes import standardize_tag, tag_is_valid

    if not tag_is_valid(tag):
        return f'"{tag}" has a code that is not registered'
    usual = standardize_tag(base(tag))
    return f'"{tag}" is written "{usual}{tag.removeprefix(base(tag))}"' if usual != base(tag) else ""


def is_script(text: str) -> bool:
    """Whether it has the form of an ISO 15924 code: `Latn`."""
    return _SCRIPT.fullmatch(text) is not None


def base(tag: str) -> str:
    """The language of a tag without script and region: `pt` of `pt-BR`."""
    return tag.split("-")[0]


def share_in_script(text: str, code: str) -> float | None:
    """The share of the letters of a text that are of a script; None where Unicode does not know the script.

    Letters of no script, such as ª, count for every one.
    """
    inside = _letters(code)
    if inside is None:
        return None
    letters = len(_all_letters().findall(text))
    return len(inside.findall(text)) / letters if letters else 1.0


@cache
def _letters(code: str) -> re.Pattern[str] | None:
    import regex

    scripts = "".join(rf"\p{{Script_Extensions={one}}}" for one in (*_SEVERAL.get(code, (code,)), "Zyyy", "Zinh"))
    try:
        found: re.Pattern[str] = regex.compile(rf"(?V1)[\p{{L}}&&[{scripts}]]")
    except regex.error:
        return None
    return found


@cache
def _all_letters() -> re.Pattern[str]:
    import regex

    found: re.Pattern[str] = regex.compile(r"\p{L}")
    return found
