"""Where each key of a TOML file stands, so that a message can name the line.

The standard parser tells values and not places. This walks the text beside it and is only as exact as messages need:
a key inside an inline table is at the line where its statement begins.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.)?""")
_TOKEN = re.compile(
    r'''
    """(?:\\.|[^\\])*?"""(?:"{0,2})   # strings over several lines, which may end with quotes of their own
    | \'\'\'.*?\'\'\'(?:'{0,2})
    | "(?:\\.|[^"\\\n])*"
    | '[^'\n]*'
    | \#[^\n]*
    | [\w.-]+
    | .
    ''',
    re.DOTALL | re.VERBOSE,
)


def split_key(text: str) -> tuple[str, ...] | None:
    """Parts of a dotted TOML key, or None when `text` is not one."""
    parts, at = [], 0
    while True:
        found = _PART.match(text, at)
        if not found:
            return None
        basic, literal, bare = found.groups()[:3]
        parts.append(_unescaped(basic) if basic is not None else bare if literal is None else literal)
        at = found.end()
        if not found.group(4):
            return tuple(parts) if not text[at:].strip() else None


def locate(text: str) -> dict[Path, int]:
    """Line number (from 1) of every table header and key; arrays of tables count their entries from 0."""
    places: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, tokens in _statements(text):
        whole = "".join(tokens).strip()
        if whole.startswith("[["):
            table = _entry(split_key(whole[2:].removesuffix("]]")) or (whole,), counts)
            places[table] = number
        elif whole.startswith("["):
            table = _resolve(split_key(whole[1:].removesuffix("]")) or (whole,), counts)
            places[table] = number
        elif "=" in tokens:
            parts = split_key("".join(tokens[: tokens.index("=")])) or ()
            for end in range(1, len(parts) + 1):
                places.setdefault((*table, *parts[:end]), number)
    return places


def comments(text: str) -> dict[int, str]:
    """The comment at the end of each line that holds something before it, without its mark."""
    found: dict[int, str] = {}
    line, written = 1, False
    for token in _TOKEN.findall(text + "\n"):
        if token.startswith("#") and written:
            found[line] = token[1:].strip()
        written = False if token == "\n" else written or not token.isspace()
        line += token.count("\n")
    return found


def inline(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_key(key)} = {inline(inner)}" for key, inner in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Headers and assignments with the line that they begin on, cut into tokens; comments are left out."""
    line = start = 1
    depth = 0  # open brackets, in which a line's end is no statement's end
    tokens: list[str] = []
    for token in _TOKEN.findall(text + "\n"):
        if token == "\n" and depth == 0:
            if tokens:
                yield start, tokens
            tokens = []
        elif not token.startswith("#") and (tokens or not token.isspace()):
            start = start if tokens else line
            tokens.append(token)
            depth += (token in "[{") - (token in "]}")
        line += token.count("\n")


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        return str(tomllib.loads(f'key = "{text}"')["key"])
    except tomllib.TOMLDecodeError:
        return text


def _entry(parts: tuple[str, ...], counts: dict[Path, int]) -> Path:
    parent = _resolve(parts[:-1], counts)
    name: Path = (*parent, parts[-1])
    counts[name] = counts.get(name, -1) + 1
    return (*name, counts[name])


def _resolve(parts: tuple[str, ...], counts: dict[Path, int]) -> Path:
    path: Path = ()
    for part in parts:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return path
