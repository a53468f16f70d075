"""Writes a language plugin that works at once: it can be installed, passes its conformance tests and can be rehearsed.

What a person knows of the language goes in (its tag, its names, a text of theirs), and everything else is made from that:
samples to train and to measure on, function words and cleaning thresholds measured on the text. Whoever has no text at hand
gets a placeholder that says so. The files are templates in `templates/plugin`.
"""

from __future__ import annotations

import json
import math
import random
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.utils import InvalidName, canonicalize_name

from langadapt.cleaning.fineweb import END_MARKS
from langadapt.cleaning.fineweb import OPTIONS as LINES
from langadapt.cleaning.gopher import OPTIONS as QUALITY
from langadapt.corpus.preparing import content_hash, is_held_out
from langadapt.errors import UserError
from langadapt.hookspecs import CONTRACT
from langadapt.pieces import piecewise
from langadapt.plugins import registry
from langadapt.records import Document, Message
from langadapt.tags import NO_LANGUAGE, base, is_script, is_tag

TEMPLATES = Path(__file__).parent / "templates" / "plugin"
ENDING = ".jinja"
PLACE = "MODULE"  # in the paths of templates, what the module is called

# Words, numbers and marks, as expressions of the library regex, which knows marks such as the vowel signs of Indic scripts
# as parts of words. Scripts that put no blank between words are cut letter by letter.
WORD = r"[\p{L}\p{M}\u200c\u200d]+(?:['’-][\p{L}\p{M}]+)*|\p{N}+(?:[.,]\p{N}+)*|[^\w\s]"
LETTER = r"\p{L}\p{M}*|\p{N}+(?:[.,]\p{N}+)*|[^\w\s]"
WITHOUT_BLANKS = frozenset({"Hani", "Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})

DOCUMENT = 40  # words of a document of the sample, at least
LETTERS = 3  # of these count as a word where there are no blanks
PARTS = ("prose", "prose", "prose", "instructions", "pairs")  # what becomes of every five documents in a row
LEAST = 25  # documents that a sample is made of
FUNCTION_WORDS = 16
OFTEN = 3  # a word that comes less often is no function word
SHORTEST_PAIR, LONGEST_PAIR = 4, 25  # words of a sentence whose order is changed
MARGIN = 0.3  # how far word lengths may be from those of the text
ALPHABETIC = 0.9  # of the least share of words with a letter in a document of the text

_CLOSING = "\"'»”’)\\]」』"
_STOPS = re.compile(rf"([{re.escape(END_MARKS)}…]+[{_CLOSING}]*)\s+")
_FULL_WIDTH = re.compile(rf"([。！？]+[{_CLOSING}]*)")
_LOREM = """\
lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna
aliqua enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat duis aute
irure in reprehenderit voluptate velit esse cillum eu fugiat nulla pariatur excepteur sint occaecat cupidatat non
proident sunt culpa qui officia deserunt mollit anim id est laborum"""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What its author says of a plugin.

    Attributes:
        plugin: what it is called, `basque`.
        language: BCP-47 tag.
        name: of the language in English.
        autonym: of the language in itself.
        script: ISO 15924 code.
        source_language: BCP-47 tag of the language that base models come with.
        text: a file of running text in the language, in UTF-8; None for a placeholder.
        licence: of that text.
    """

    plugin: str
    language: str
    name: str
    autonym: str
    script: str = "Latn"
    source_language: str = "en"
    text: Path | None = None
    licence: str = "all rights reserved"

    @property
    def distribution(self) -> str:
        return f"langadapt-{self.plugin}"

    @property
    def module(self) -> str:
        return self.distribution.replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is made of a text: rows of the three samples, and what is measured on it."""

    prose: list[dict[str, Any]]
    instructions: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    function_words: list[str]
    thresholds: Mapping[str, float]
    held_out: float


def write(wish: Wish, folder: Path) -> list[Path]:
    """Writes the plugin into a folder, all of it or nothing.

    Args:
        wish: what it is about.
        folder: where to; made if it is not there.

    Returns:
        The files.

    Raises:
        UserError: something of the wish cannot be, or the folder cannot be written or has something in it.
    """
    _refuse(wish, folder)
    files = _rendered(wish, sample_of(wish))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
            whole = Path(place) / folder.name
            for name, content in files.items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                (whole / name).write_text(content, encoding="utf-8")
            whole.replace(folder)  # an empty folder gives way
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; say another place with --folder") from None
    return [folder / name for name in files]


def _refuse(wish: Wish, folder: Path) -> None:
    try:
        good = canonicalize_name(wish.distribution, validate=True) == wish.distribution
    except InvalidName:
        good = False
    if not good or not wish.module.isidentifier():
        raise UserError(f'"{wish.plugin}" cannot be part of a distribution\'s name; write it as basque or swiss-german')
    for tag in (wish.language, wish.source_language):
        if not is_tag(tag):
            raise UserError(f'"{tag}" is no BCP-47 tag; write it as eu, sr-Cyrl or pt-BR')
    if wish.language == wish.source_language:
        raise UserError(f"the language and the source language are both {wish.language}; base models come with another")
    if not is_script(wish.script):
        raise UserError(f'"{wish.script}" is no ISO 15924 code; write it as Latn, Grek or Deva')
    known = registry().languages
    if wish.language in known:
        raise UserError(
            f"{known.owner(wish.language)} offers {wish.language} already; add to that plugin, or uninstall it"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; say another place with --folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"the folder {folder} is not empty; say another one with --folder")


def _rendered(wish: Wish, sample: Sample) -> dict[str, str]:
    """The files by their paths inside the plugin's folder."""
    import jinja2

    room = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    room.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    values = {
        "wish": wish,
        "sample": sample,
        "contract": CONTRACT,
        "langadapt": ".".join(metadata.version("langadapt").split(".")[:2]),
        "pattern": _pattern(wish.script),
        "letter_by_letter": wish.script in WITHOUT_BLANKS,
        "wikipedia": base(wish.language),
        "sample_licence": wish.licence if wish.text else "CC0-1.0",
        "constant": wish.plugin.upper().replace("-", "_"),
        "class_name": "".join(part.capitalize() for part in wish.plugin.split("-")),
        "no_language": NO_LANGUAGE,
        "words_of_a_document": DOCUMENT,
    }
    files = {}
    for name in room.list_templates():
        path = name.removesuffix(ENDING).replace(PLACE, wish.module)
        files[path] = room.get_template(name).render(values)
    for part in ("prose", "instructions", "pairs"):
        rows = (json.dumps(row, ensure_ascii=False) for row in getattr(sample, part))
        files[f"src/{wish.module}/samples/{part}.jsonl"] = "".join(f"{row}\n" for row in rows)
    return files


# --- from a text to samples -------------------------------------------------------------------------------------------


def sample_of(wish: Wish) -> Sample:
    """The samples that a text gives, and what is measured on it.

    Raises:
        UserError: the text cannot be read, or is too short.
    """
    joined = "" if wish.script in WITHOUT_BLANKS else " "
    words = _words(wish.script)
    documents = _documents(_sentences(_read(wish.text), joined), words, wish.script)
    if len(documents) < LEAST:
        number = sum(len(words(sentence)) for document in documents for sentence in document)
        raise UserError(
            f"{wish.text}: {number} words make {len(documents)} documents of a sample, and {LEAST} are needed: "
            f"some {LEAST * _least(wish.script)} words; take a longer text, or leave --text out for a placeholder"
        )
    parts: dict[str, list[list[str]]] = {part: [] for part in PARTS}
    for number, document in enumerate(documents):
        parts[PARTS[number % len(PARTS)]].append(document)
    prose = [{"text": joined.join(document)} for document in parts["prose"]]
    instructions = [_instruction(document, joined) for document in parts["instructions"]]
    pairs = [pair for document in parts["pairs"] for sentence in document if (pair := _pair(sentence, joined))]
    return Sample(
        prose=prose,
        instructions=instructions,
        pairs=pairs,
        function_words=_function_words(documents, words),
        thresholds=_thresholds([row["text"] for row in prose], words),
        held_out=_held_out(prose, instructions),
    )


def _pattern(script: str) -> str:
    return LETTER if script in WITHOUT_BLANKS else WORD


def _words(script: str) -> Callable[[str], list[str]]:
    """The segmentation that the plugin's language will have."""
    import regex

    return piecewise(regex.compile(_pattern(script)).findall)


def _read(text: Path | None) -> str:
    if text is None:
        return _placeholder()
    try:
        return unicodedata.normalize("NFC", text.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{text} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{text} cannot be read: {error.strerror}; name another file") from None


def _placeholder() -> str:
    """Sentences that nobody takes for a text, the same every time."""
    draw = random.Random(0)
    sentences = (" ".join(draw.choices(_LOREM.split(), k=draw.randint(8, 14))).capitalize() + "." for _ in range(400))
    return " ".join(sentences)


def _sentences(text: str, joined: str) -> list[str]:
    """Sentences in order; a line break inside a paragraph is a blank."""
    paragraphs = (joined.join(part.split()) if joined else "".join(part.split()) for part in re.split(r"\n\s*\n", text))
    cut = (_FULL_WIDTH.sub(r"\1\n", _STOPS.sub(r"\1\n", paragraph)) for paragraph in paragraphs)
    return [line.strip() for paragraph in cut for line in paragraph.splitlines() if line.strip()]


def _least(script: str) -> int:
    return DOCUMENT * (LETTERS if script in WITHOUT_BLANKS else 1)


def _documents(sentences: Sequence[str], words: Callable[[str], list[str]], script: str) -> list[list[str]]:
    """Sentences in documents of so many words, none of which comes twice; what is left over at the end is left out."""
    found: dict[tuple[str, ...], None] = {}
    document: list[str] = []
    for sentence in sentences:
        document.append(sentence)
        if sum(len(words(one)) for one in document) >= _least(script):
            found[tuple(document)] = None
            document = []
    return [list(document) for document in found]


def _instruction(document: Sequence[str], joined: str) -> dict[str, Any]:
    """The beginning of a text, to be gone on with."""
    half = max(len(document) // 2, 1)
    first, rest = joined.join(document[:half]), joined.join(document[half:])
    if not rest:  # one long sentence
        middle = len(first) // 2
        first, rest = first[:middle].rstrip(), first[middle:].lstrip()
    return {"instruction": first, "input": "", "output": rest}


def _pair(sentence: str, joined: str) -> dict[str, Any] | None:
    """A sentence, and the same with two neighbours in its middle changed over; None where that makes no difference."""
    units = sentence.split() if joined else list(sentence)
    middle = len(units) // 2
    if not SHORTEST_PAIR <= len(units) <= LONGEST_PAIR or units[middle] == units[middle - 1]:
        return None
    changed = [*units[: middle - 1], units[middle], units[middle - 1], *units[middle + 1 :]]
    return {"text": joined.join(units), "wrong": joined.join(changed)}


def _function_words(documents: Sequence[Sequence[str]], words: Callable[[str], list[str]]) -> list[str]:
    counted = Counter(
        word.lower() for document in documents for sentence in document for word in words(sentence) if word[0].isalpha()
    )
    return [word for word, count in counted.most_common(FUNCTION_WORDS) if count >= OFTEN]


def _thresholds(texts: Sequence[str], words: Callable[[str], list[str]]) -> dict[str, float]:
    """What of the rules of FineWeb-2 depends on how long words are and on how a text is written."""
    lengths, alphabetic, ended = [], [], []
    for text in texts:
        found = words(text)
        real = [word for word in found if any(character.isalnum() for character in word)]
        lengths.append(sum(map(len, real)) / len(real))
        alphabetic.append(sum(any(character.isalpha() for character in word) for word in real) / len(found))
        ended.append(text[-1] in END_MARKS)
    return {
        "end_punctuation": round(min(LINES["end_punctuation"], sum(ended) / len(ended) / 2), 3),
        "min_word_length": math.floor((1 - MARGIN) * min(lengths) * 10) / 10,
        "max_word_length": math.ceil((1 + MARGIN) * max(lengths) * 10) / 10,
        "alphabetic_words": math.floor(min(QUALITY["alphabetic_words"], ALPHABETIC * min(alphabetic)) * 100) / 100,
    }


def _held_out(prose: Sequence[Mapping[str, Any]], instructions: Sequence[Mapping[str, Any]]) -> float:
    """The least share that leaves something to measure on, and more to learn from, in both samples."""
    hashes = [[content_hash(Document(id="", text=row["text"])) for row in prose], list(map(_hash, instructions))]
    for hundredths in range(5, 50):
        share = hundredths / 100
        parts = [sum(is_held_out(one, share) for one in found) / len(found) for found in hashes]
        if all(0 < part <= 0.5 for part in parts):
            return share
    raise UserError("no share of this text leaves documents both to learn from and to measure on; take a longer text")


def _hash(row: Mapping[str, Any]) -> bytes:
    asked = Message(role="user", content=row["instruction"])
    return content_hash(Document(id="", messages=(asked, Message(role="assistant", content=row["output"]))))
