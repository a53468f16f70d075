"""Bad words: documents that hold an entry of the user's own list.

No list comes with langadapt: which words make a text unfit is the user's choice, and the known lists drop much that is
harmless, medical and minority texts among it (arXiv 2104.08758). The rule is C4's: an entry counts where it is flanked
by characters that belong to no word, or by an edge; case does not matter, and what is the same but for it, the language
says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from langadapt.errors import UserError
from langadapt.records import Document, Filter, Language

_WORD = re.compile(r"\w+")


def make(options: Mapping[str, Any], language: Language | None) -> Callable[[Document], Document | str]:
    """Drops documents in which `least` different entries of the list at `path` occur; all messages are looked through.

    The list has an entry on each line, of one word or more; lines that begin with `#` are comments.

    Raises:
        UserError: there is no list, it cannot be read, or it is empty.
    """
    lower = language.lower if language else str.lower
    find = finder(_read(options["path"]), flanked=options["flanked"], lower=lower)

    def judge(document: Document) -> Document | str:
        return "a bad word" if len(find(document.content)) >= options["least"] else document

    return judge


def finder(
    entries: Iterable[str], *, flanked: bool = True, lower: Callable[[str], str] = str.lower
) -> Callable[[str], set[str]]:
    """A function from a text to the entries in it.

    Args:
        entries: words and phrases.
        flanked: whether an entry must stand by itself; False for scripts without blanks between words.
        lower: `Language.lower`.
    """
    patterns: list[tuple[frozenset[str], str, re.Pattern[str]]] = []
    for entry in dict.fromkeys(map(lower, entries)):
        escaped = re.escape(entry)
        pattern = re.compile(rf"(?<!\w){escaped}(?!\w)" if flanked else escaped)
        patterns.append((frozenset(_WORD.findall(entry)) if flanked else frozenset(), entry, pattern))

    def find(text: str) -> set[str]:
        lowered = lower(text)
        words = set(_WORD.findall(lowered))  # an entry can only stand where all its words do
        return {
            entry
            for needed, entry, pattern in patterns
            if needed <= words and entry in lowered and pattern.search(lowered)
        }

    return find


def _read(path: str) -> list[str]:
    if not path:
        raise UserError(
            'filter bad-words: it needs a list of yours, a word a line; { name = "bad-words", path = "words.txt" }'
        )
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"filter bad-words: {path} cannot be read: {reason}; name another file, or mend it") from None
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not entries:
        raise UserError(f"filter bad-words: {path} has no word in it; write one into each line")
    return entries


FILTER = Filter(
    name="bad-words",
    description="Drops documents that hold a word of your list; none comes with langadapt.",
    make=make,
    source="arXiv 1910.10683, section 2.2",
    options={"path": "", "least": 1, "flanked": True},
    files=("path",),
)
