"""Real text made larger, for measurements: each copy says something else in the same way.

In every copy a third of the longer words is replaced by others of the same length from the same texts, the same word by
the same other one all through; a rare word becomes one that was never there, so that a larger text has more words, as
real text does. A copy is no near duplicate of its original, while its lines, its repetitions and the frequencies of its
words are as they were. One document in ten stands there again: every other of these word for word, the rest with one more
line.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from zlib import crc32

_WORD = re.compile(r"[^\W\d_]{5,}")
RARE = 2  # times that a word comes in the originals
_REST = "\nQuesta pagina è stata aggiornata di recente."


def texts(path: Path) -> list[str]:
    """The texts of a .jsonl(.gz) file with a field `text`, of .txt files, or of all such files in a folder."""
    found: list[str] = []
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.name.endswith((".jsonl", ".jsonl.gz")):
            with gzip.open(file, "rt", "utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as rows:
                found += [json.loads(row)["text"] for row in rows]
        elif file.suffix == ".txt":
            found.append(file.read_text("utf-8"))
    return found


class _Vocabulary:
    """The longer words of some texts, with another one for each of them in every copy."""

    def __init__(self, originals: list[str]) -> None:
        self.times = Counter(word.lower() for text in originals for word in _WORD.findall(text))
        self.by_length: dict[int, list[str]] = defaultdict(list)
        for word in sorted(self.times):
            self.by_length[len(word)].append(word)
        self.rank = {word: number for group in self.by_length.values() for number, word in enumerate(group)}

    def other(self, word: str, copy: int) -> str:
        group = self.by_length[len(word)]
        new = group[(self.rank[word] + copy * 37) % len(group)]
        half = len(word) // 2
        return word[:half] + new[half:] if self.times[word] <= RARE else new


def enlarge(originals: list[str], size: int) -> Iterator[str]:
    """Texts of `size` bytes together, UTF-8; always the same for the same originals."""
    vocabulary = _Vocabulary(originals)
    done = 0
    for copy in count():
        for number, text in enumerate(originals):
            made = _perturbed(text, copy, vocabulary) if copy else text
            for again in _with_repeats(made, number + copy):
                yield again
                done += len(again.encode())
                if done >= size:
                    return


def _perturbed(text: str, copy: int, vocabulary: _Vocabulary) -> str:
    def other(found: re.Match[str]) -> str:
        word = found[0]
        lowered = word.lower()
        if crc32(lowered.encode()) % 3 != copy % 3 or lowered not in vocabulary.rank:
            return word
        new = vocabulary.other(lowered, copy)
        return new.upper() if word.isupper() else new.capitalize() if word[0].isupper() else new

    return _WORD.sub(other, text)


def _with_repeats(text: str, number: int) -> list[str]:
    if number % 10:
        return [text]
    return [text, text if number % 20 else text + _REST]


def write(originals: list[str], folder: Path, size: int, files: int = 1) -> tuple[int, int]:
    """Writes the texts as JSON lines into so many files of about one size; their number and bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    number = written = 0
    share = size / files
    open_ = [(folder / f"{part:03d}.jsonl").open("w", encoding="utf-8") for part in range(files)]
    for text in enlarge(originals, size):
        part = min(int(written / share), files - 1)
        open_[part].write(json.dumps({"id": f"{number:08d}", "text": text}, ensure_ascii=False) + "\n")
        number += 1
        written += len(text.encode())
    for file in open_:
        file.close()
    return number, written
