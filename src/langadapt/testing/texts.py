"""Texts that are hard on whoever handles text, and the documents that a plugin's functions are tried on."""

from __future__ import annotations

from collections.abc import Mapping

from langadapt.records import Corpus, Document, Message, Rejected
from langadapt.testing.conformance import NotChecked, Subject

HARD: Mapping[str, str] = {
    "an empty text": "",
    "blanks": " \n\t \u00a0",
    "a NUL character": "one\x00two",
    "a line of a megabyte": "word " * 200_000,
    "a word of 10 000 letters": "x" * 10_000,
    "text from right to left": "שלום עולם \u202eabc\u202c مرحبا بالعالم",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 🇪🇺 👍🏽!",
    "combining marks that stand alone": "\u0301\u0300 a\u0308 \u20e3",
    "line ends of all kinds": "a\r\nb\rc\u2028d\x85e\n\n\n",
    "punctuation alone": "!!! ??? ... — « »",
    "markup": "<p>&nbsp;</p>\n{{x}} </s><s>[INST] %s \\n $1",
    "digits alone": "1 234 567,89\n" * 20,
    "capitals that are special": "İSTANBUL IŞIK ΟΔΟΣ STRAẞE ǅEP ᲐᲑᲒ",
    "the same line again and again": "Lorem ipsum dolor sit amet.\n" * 30,
}
MOST = 50  # documents of a sample that functions are tried on

DIALOGUE = (
    Message(role="user", content="What is asked first?", context="Material that the first question refers to."),
    Message(role="assistant", content="The answer that comes first."),
    Message(role="user", content="And what is asked then?"),
    Message(role="assistant", content="Another answer, the second one."),
)
SYSTEM = "These are the general directions."


def documents(subject: Subject) -> list[tuple[str, Document]]:
    """What filters are tried on, each with words for it: the plugin's samples, and `HARD` as texts and as dialogues."""
    return subject.once("documents", lambda: [*_hard(), *_samples(subject)])


def _hard() -> list[tuple[str, Document]]:
    texts = [(what, Document(id=f"hard:{n}", text=text)) for n, (what, text) in enumerate(HARD.items(), start=1)]
    dialogues = [("a dialogue", Document(id="dialogue:1", messages=DIALOGUE, origin={"url": "https://example.org/1"}))]
    for number, what in enumerate(("emoji", "a NUL character"), start=2):
        asked = Message(role="user", content=HARD[what])
        answer = Message(role="assistant", content=HARD[what])
        dialogues.append((f"a dialogue with {what}", Document(id=f"dialogue:{number}", messages=(asked, answer))))
    return texts + dialogues


def _samples(subject: Subject) -> list[tuple[str, Document]]:
    found: dict[str, tuple[str, Document]] = {}  # by content: corpora may share a sample
    for corpus in subject.corpora:
        try:
            rows = sample(corpus, subject)[:MOST]
        except Exception:  # the checks of corpora tell what is wrong with it
            continue
        for row in rows:
            if isinstance(row, Document):
                found.setdefault(row.content, (f"{corpus.name}, {row.id}", row))
    return list(found.values())


def sample(corpus: Corpus, subject: Subject) -> list[Document | Rejected]:
    """Everything in a corpus's sample, in order.

    Raises:
        NotChecked: it has none.
    """
    return subject.once(("sample", corpus.name), lambda: _read(corpus))


def _read(corpus: Corpus) -> list[Document | Rejected]:
    from langadapt.corpus.reading import read_documents

    if corpus.sample is None or not corpus.sample.exists():
        raise NotChecked("there is no sample to look at")
    if corpus.read:
        return list(corpus.read(corpus.sample))
    return list(read_documents(str(corpus.sample), layout=corpus.layout))


def texts(subject: Subject) -> list[str]:
    """Running text of the plugin's samples in its own language."""
    language = subject.language
    own = [c for c in subject.corpora if language and (c.sample_language or c.language) == language.tag]
    found: list[str] = []
    for corpus in own:
        try:
            found += [d.content for d in sample(corpus, subject)[:MOST] if isinstance(d, Document)]
        except Exception:  # the checks of corpora tell what is wrong with it
            continue
    return list(dict.fromkeys(found))


def quoted(text: str) -> str:
    """A text in a message, with its beginning only when it is long."""
    return f'"{text[:40]}…"' if len(text) > 40 else f'"{text}"'
