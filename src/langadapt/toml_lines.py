"""Where each key of a TOML file stands, so that a message can name the line.

The standard parser tells values and not places. This walks the text beside it and is only as exact as messages need:
a key inside an inline table is at the line where its statement begins.
"""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.)?""")
_TRIPLE = re.compile(r'"""|' + "'''")


def split_key(text: str) -> tuple[str, ...] | None:
    """Parts of a dotted TOML key, or None when `text` is not one."""
    parts, at = [], 0
    while True:
        found = _PART.match(text, at)
        if not found:
            return None
        parts.append(next(group for group in found.groups()[:3] if group is not None))
        at = found.end()
        if not found.group(4):
            return tuple(parts) if not text[at:].strip() else None


def locate(text: str) -> dict[Path, int]:
    """Line number (from 1) of every table header and key; arrays of tables count their entries from 0."""
    places: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    depth, closing = 0, ""  # open brackets, and the quotes that end a multi-line string
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            if closing in line:
                closing = ""
            continue
        bare = _without_strings(line)
        if depth == 0:
            if header := re.match(r"\s*\[\[(.+?)\]\]\s*$", bare):
                table = _entry(split_key(_header(line, "[[", "]]")) or (header.group(1),), counts)
                places[table] = number
                continue
            if header := re.match(r"\s*\[(.+?)\]\s*$", bare):
                table = _resolve(split_key(_header(line, "[", "]")) or (header.group(1),), counts)
                places[table] = number
                continue
            key, equals, _ = line.partition("=")
            parts = split_key(key) if equals else None
            if parts:
                for end in range(1, len(parts) + 1):
                    places.setdefault((*table, *parts[:end]), number)
        quotes = _TRIPLE.findall(line)
        if len(quotes) % 2:
            closing = quotes[-1]
        depth += sum(bare.count(c) for c in "[{") - sum(bare.count(c) for c in "]}")
    return places


def line_of(places: dict[Path, int], path: Path) -> int | None:
    """The line of `path`, or of the nearest table around it."""
    for end in range(len(path), 0, -1):
        if path[:end] in places:
            return places[path[:end]]
    return None


def _header(line: str, opening: str, closing: str) -> str:
    return line[line.index(opening) + len(opening) : line.rindex(closing)]


def _without_strings(line: str) -> str:
    return re.sub(r"""("(?:[^"\\]|\\.)*"|'[^']*'|\#.*$)""", "", line)


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
