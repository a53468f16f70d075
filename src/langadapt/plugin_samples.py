"""What is made of an author's text: samples to train and to measure on, function words, cleaning thresholds.

No sentence comes twice, and what is measured on is looked for in what is learnt from as a run would do it, so that
decontamination leaves the samples whole.
"""

from __future__ import annotations

import math
import random
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from langadapt.cleaning.fineweb import END_MARKS
from langadapt.cleaning.fineweb import OPTIONS as LINES
from langadapt.cleaning.gopher import OPTIONS as QUALITY
from langadapt.corpus.preparing import content_hash, is_held_out
from langadapt.errors import UserError
from langadapt.pieces import piecewise
from langadapt.records import Document, Item, Message
from langadapt.tags import IN_SCRIPT, base, share_in_script

# Words, numbers and marks, as expressions of the library regex, which knows marks such as the vowel signs of Indic scripts
# as parts of words. Scripts that put no blank between words are cut letter by letter.
WORD = r"[\p{L}\p{M}\u200c\u200d]+(?:['’-][\p{L}\p{M}]+)*|\p{N}+(?:[.,]\p{N}+)*|[^\w\s]"
LETTER = r"\p{L}\p{M}*|\p{N}+(?:[.,]\p{N}+)*|[^\w\s]"
IDEOGRAPHIC = frozenset({"Hani", "Hans", "Hant", "Jpan"})  # without any blanks
PHRASED = frozenset({"Thai", "Laoo", "Khmr", "Mymr", "Tibt"})  # with blanks between phrases alone

DOCUMENT = 40  # words of a document of the sample, at least
PARAGRAPH = 8  # words of a paragraph, at least: where all are shorter, they are lines of a list or a dialogue
LETTERS = 3  # of these count as a word where there are no blanks
PARTS = ("prose", "prose", "prose", "instructions", "pairs")  # what becomes of every five documents in a row
LEAST = 25  # documents that a sample is made of
LEAST_PAIRS = 5  # pairs of sentences to measure on
MOST = 1000  # documents of a sample; a longer text is thinned
LONGEST, PIECE = 2 * DOCUMENT, DOCUMENT // 2  # words of what is still a sentence, and of pieces of what is none
FUNCTION_WORDS = 16
OFTEN = 3  # a word that comes less often is no function word
SHORTEST_PAIR, LONGEST_PAIR = 4, 25  # words of a sentence whose order is changed
MARKED = 0.9  # share of the documents that end with a mark from which on those without are left out
MARGIN = 0.3  # how far word lengths may be from those of the text
ALPHABETIC = 0.9  # of the least share of words with a letter in a document of the text
DOTLESS = 0.001  # share of the letters from which on ı is one of the language's own, and not part of a foreign name

_CLOSING = "\"'»”’)\\]」』"
_STOPS = re.compile(rf"([{re.escape(END_MARKS)}…]+[{_CLOSING}]*)\s+")
_FULL_WIDTH = re.compile(rf"([。！？]+[{_CLOSING}]*)")
_LINE_END = re.compile(rf"([{re.escape(END_MARKS)}…]+[{_CLOSING}]*)[^\S\n]*\n")
_LOREM = """\
lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna
aliqua enim ad minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat duis aute
irure in reprehenderit voluptate velit esse cillum eu fugiat nulla pariatur excepteur sint occaecat cupidatat non
proident sunt culpa qui officia deserunt mollit anim id est laborum"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What is made of a text.

    Attributes:
        prose: rows of running text.
        instructions: rows of the layout `alpaca`.
        pairs: rows of a sentence and the same with two words changed over.
        function_words: the most frequent words.
        thresholds: of the filter `fineweb2`, as far as they depend on the language.
        held_out: the least share that leaves something to measure on in prose and instructions.
        dotless: whether the language has ı, so that its small letters of I and İ are not everybody's.
    """

    prose: list[dict[str, Any]]
    instructions: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    function_words: list[str]
    thresholds: Mapping[str, float]
    held_out: float
    dotless: bool


class Writing:
    """How a script is written.

    Attributes:
        pattern: of its words, for the library regex.
        words: the segmentation that the plugin's language has.
        spaced: whether there are blanks between words.
        joined: what stands between two sentences.
        scale: how many of `words`, and of `units`, count as a word.
    """

    def __init__(self, script: str) -> None:
        import regex

        self.spaced = script not in IDEOGRAPHIC | PHRASED
        self.pattern = WORD if self.spaced else LETTER
        self.words: Callable[[str], list[str]] = piecewise(regex.compile(self.pattern).findall)
        self.joined = "" if script in IDEOGRAPHIC else " "
        self.scale = 1 if self.spaced else LETTERS
        self._phrased = script in PHRASED
        self._letters = regex.compile(r"\X")

    def units(self, sentence: str) -> list[str]:
        """What a sentence is joined of: words, or letters with all that belongs to them."""
        return sentence.split() if self.spaced else self._letters.findall(sentence)

    def join(self, units: Sequence[str]) -> str:
        """A sentence of its units."""
        return (" " if self.spaced else "").join(units)

    def paragraphs(self, text: str) -> list[list[str]]:
        """Sentences that have a letter, by paragraph, in order.

        A blank line ends a paragraph, and so does a line that ends as a sentence does; any other line break is a blank,
        where there are blanks.
        """
        parts = re.split(r"\n\s*\n", _LINE_END.sub(r"\1\n\n", text))
        return [self._sentences(self.joined.join(part.split())) for part in parts]

    def _sentences(self, paragraph: str) -> list[str]:
        cut = _FULL_WIDTH.sub(r"\1\n", _STOPS.sub(r"\1\n", paragraph))
        lines = cut.split() if self._phrased else cut.split("\n")
        pieces = (piece.strip() for line in lines for piece in self._pieces(line))
        return [piece for piece in pieces if any(map(str.isalpha, piece))]

    def _pieces(self, sentence: str) -> Iterator[str]:
        """A sentence, or pieces of a text that has no end marks."""
        units = self.units(sentence)
        if len(units) <= LONGEST * self.scale:
            yield sentence
        else:
            step = PIECE * self.scale
            yield from (self.join(units[at : at + step]) for at in range(0, len(units), step))


def sample_of(
    text: Path | None, *, language: str, script: str, say: Callable[[str], None] = lambda line: None
) -> Sample:
    """The samples that a text gives, and what is measured on it.

    Args:
        text: a file of running text in UTF-8; None for a placeholder.
        language: BCP-47 tag of the text's language.
        script: ISO 15924 code.
        say: gets a line on what was left out, and what looks odd.

    Raises:
        UserError: the text cannot be read, is in another script, or is too short, also when nothing comes twice.
    """
    writing = Writing(script)
    whole = _read(text) if text else _placeholder(writing)
    if text:
        _look_at(text, whole, language, script, say)
    sentences = [(one, number) for number, paragraph in enumerate(writing.paragraphs(whole)) for one in paragraph]
    paragraph_of: dict[str, int] = {}
    for sentence, number in sentences:
        paragraph_of.setdefault(sentence, number)
    once = list(paragraph_of)
    repeated = len(sentences) - len(once)
    documents = _documents(once, writing)
    if len(documents) < LEAST:
        number = sum(len(writing.words(sentence)) for sentence in once)
        new = " that do not repeat what came before" if repeated else ""
        raise UserError(
            f"{text}: {number:,} words{new} make {len(documents)} documents of a sample, and {LEAST} are needed: "
            f"some {LEAST * DOCUMENT * writing.scale:,} words; take a longer text, or leave --text out for a placeholder"
        )
    if repeated:
        say(f"{text}: {repeated:,} of its {len(sentences):,} sentences repeat others and are left out")
    if len(documents) > MOST:
        step = math.ceil(len(documents) / MOST)
        say(f"{text}: one in {step} of its {len(documents):,} documents is taken, because a sample is small")
        documents = documents[::step]
    return _sample(text, documents, paragraph_of, writing, say)


def _sample(
    text: Path | None,
    documents: Sequence[Sequence[str]],
    paragraph_of: Mapping[str, int],
    writing: Writing,
    say: Callable[[str], None],
) -> Sample:
    parts: dict[str, list[Sequence[str]]] = {part: [] for part in PARTS}
    for number, document in enumerate(documents):
        parts[PARTS[number % len(PARTS)]].append(document)
    prose = [{"text": writing.joined.join(document)} for document in parts["prose"]]
    ended = [row for row in prose if row["text"][-1] in END_MARKS]
    marked = len(ended) >= MARKED * len(prose)
    prose = ended if marked else prose
    instructions = [_instruction(document, paragraph_of, writing) for document in parts["instructions"]]
    made = [pair for document in parts["pairs"] for sentence in document if (pair := _pair(sentence, writing))]
    pairs = _without_known(made, [*(row["text"] for row in prose), *(_dialogue(row).content for row in instructions)])
    if len(pairs) < LEAST_PAIRS:
        raise UserError(
            f"{text}: of {len(made)} sentences to measure on {len(pairs)} are not nearly the same as others to learn from, "
            f"and {LEAST_PAIRS} are needed; take a text that repeats itself less, or leave --text out for a placeholder"
        )
    if left := len(made) - len(pairs):
        say(f"{text}: {left} of {len(made)} sentences to measure on are nearly the same as others and are left out")
    joined = " ".join(sentence for document in documents for sentence in document)
    return Sample(
        prose=prose,
        instructions=instructions,
        pairs=pairs,
        function_words=_function_words(documents, writing),
        thresholds=_thresholds([row["text"] for row in prose], writing, marked),
        held_out=_held_out(prose, instructions),
        dotless=joined.count("ı") > DOTLESS * sum(map(str.isalpha, joined)),
    )


def _read(text: Path) -> str:
    try:
        read = unicodedata.normalize("NFC", text.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{text} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{text} cannot be read: {error.strerror}; name another file") from None
    if "\0" in read:
        raise UserError(f"{text} has NUL characters, as UTF-16 and files that are no text have; save it as UTF-8")
    return read


def _look_at(text: Path, whole: str, language: str, script: str, say: Callable[[str], None]) -> None:
    """Refuses a text that is in another script, and says which language it looks like."""
    from langadapt.identification import LOOKED_AT, identify, knows

    share = share_in_script(whole, script)
    if share is not None and share < IN_SCRIPT:
        names = Counter(unicodedata.name(letter, "?").split()[0] for letter in whole if letter.isalpha())
        raise UserError(
            f"{share:.0%} of the letters of {text} are {script}, most are {max(names, key=names.__getitem__).capitalize()}; "
            "say by --script which it is in, by its ISO 15924 code"
        )
    found = identify(whole[:LOOKED_AT]) if knows(base(language)) else None
    if found and found.reliable and found.tag != base(language):
        say(f'{text} looks like "{found.tag}", and the plugin is for "{language}"')


def _placeholder(writing: Writing) -> str:
    """Sentences that nobody takes for a text, the same every time."""
    draw = random.Random(0)
    sentences = (draw.choices(_LOREM.split(), k=draw.randint(8, 14)) for _ in range(400))
    return " ".join(f"{writing.join(sentence).capitalize()}." for sentence in sentences)


def _documents(sentences: Sequence[str], writing: Writing) -> list[list[str]]:
    """Sentences in documents of so many words; what is left over at the end is left out."""
    found: list[list[str]] = []
    document: list[str] = []
    words = 0
    for sentence in sentences:
        document.append(sentence)
        words += len(writing.words(sentence))
        if words >= DOCUMENT * writing.scale:
            found.append(document)
            document, words = [], 0
    return found


def _instruction(document: Sequence[str], paragraph_of: Mapping[str, int], writing: Writing) -> dict[str, Any]:
    """The beginning of a paragraph, to be gone on with: what comes after its end need not follow from it."""

    def length(sentences: Sequence[str]) -> int:
        return sum(len(writing.units(sentence)) for sentence in sentences)

    paragraphs: list[Sequence[str]] = [list(part) for _, part in groupby(document, key=paragraph_of.__getitem__)]
    long = [sentences for sentences in paragraphs if length(sentences) >= PARAGRAPH * writing.scale]
    sentences = max(long or [document], key=lambda sentences: (len(sentences) > 1, length(sentences)))
    half = len(sentences) // 2
    if half:
        first, rest = writing.joined.join(sentences[:half]), writing.joined.join(sentences[half:])
    else:  # one sentence
        units = writing.units(sentences[0])
        half = max(len(units) // 2, 1)
        first, rest = writing.join(units[:half]).rstrip(), writing.join(units[half:]).lstrip()
    return {"instruction": first, "input": "", "output": rest}


def _dialogue(row: Mapping[str, Any]) -> Document:
    asked = Message(role="user", content=row["instruction"])
    return Document(id="", messages=(asked, Message(role="assistant", content=row["output"])))


def _pair(sentence: str, writing: Writing) -> dict[str, Any] | None:
    """A sentence, and the same with two neighbours near its middle changed over; None where it has no such.

    The first unit and those with a mark at them stay where they are: a capital or a comma that is out of place would tell.
    """

    def bare(unit: str) -> bool:
        return len(writing.words(unit)) == 1 and unit[0].isalnum()

    units = writing.units(sentence)
    middle = len(units) // 2
    places = [n for n in range(2, len(units)) if units[n] != units[n - 1] and bare(units[n]) and bare(units[n - 1])]
    if not places or not SHORTEST_PAIR <= len(units) / writing.scale <= LONGEST_PAIR:
        return None
    place = min(places, key=lambda n: abs(n - middle))
    changed = [*units[: place - 1], units[place], units[place - 1], *units[place + 1 :]]
    return {"text": writing.join(units), "wrong": writing.join(changed)}


def _without_known(pairs: list[dict[str, Any]], learnt: Sequence[str]) -> list[dict[str, Any]]:
    """Pairs that stand in no text to learn from: decontamination would drop that text.

    What many questions share counts as their instruction, so fewer of them may be found in more texts.
    """
    from langadapt.corpus import contamination, questions
    from langadapt.corpus.words import Words
    from langadapt.recipe import Decontamination

    texts = [Words.of(text) for text in learnt]
    while True:
        items = [
            Item(id=str(number), messages=(), choices=(pair["text"], pair["wrong"]), gold=0)
            for number, pair in enumerate(pairs)
        ]
        with tempfile.TemporaryDirectory() as place:
            asked = questions.Asked(evaluation="pairs", items=items)
            index = contamination.Index(questions.build([asked], Decontamination(), Path(place)))
            known = {leak.item for text in texts for leak in index.leaks(text)}
        if not known:
            return pairs
        pairs = [pair for number, pair in enumerate(pairs) if str(number) not in known]


def _function_words(documents: Sequence[Sequence[str]], writing: Writing) -> list[str]:
    words = (word.lower() for document in documents for sentence in document for word in writing.words(sentence))
    counted = Counter(word for word in words if word[0].isalpha())
    return [word for word, count in counted.most_common(FUNCTION_WORDS) if count >= OFTEN]


def _thresholds(texts: Sequence[str], writing: Writing, marked: bool) -> dict[str, float]:
    """What of the rules of FineWeb-2 depends on how long words are and on how a text is written."""
    lengths, alphabetic = [], []
    for text in texts:
        found = writing.words(text)
        real = [word for word in found if any(character.isalnum() for character in word)]
        lengths.append(sum(map(len, real)) / len(real))
        alphabetic.append(sum(any(character.isalpha() for character in word) for word in real) / len(found))
    return {
        "end_punctuation": LINES["end_punctuation"] if marked else 0.0,
        "min_word_length": math.floor((1 - MARGIN) * min(lengths) * 10) / 10,
        "max_word_length": math.ceil((1 + MARGIN) * max(lengths) * 10) / 10,
        "alphabetic_words": math.floor(min(QUALITY["alphabetic_words"], ALPHABETIC * min(alphabetic)) * 100) / 100,
    }


def _held_out(prose: Sequence[Mapping[str, Any]], instructions: Sequence[Mapping[str, Any]]) -> float:
    """The least share that leaves something to measure on, and more to learn from, in both samples."""
    made = ([Document(id="", text=row["text"]) for row in prose], list(map(_dialogue, instructions)))
    hashes = [[content_hash(document) for document in documents] for documents in made]
    for hundredths in range(5, 50):
        share = hundredths / 100
        parts = [sum(is_held_out(one, share) for one in found) / len(found) for found in hashes]
        if all(0 < part <= 0.5 for part in parts):
            return share
    raise UserError("no share of this text leaves documents both to learn from and to measure on; take a longer text")
