"""Languages: tags, words, and what cleaning takes from them."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from langadapt.errors import UserError, nearest
from langadapt.recipe import suite_names
from langadapt.records import Language
from langadapt.tags import is_script, is_tag, tag_fault
from langadapt.testing.conformance import NotChecked, Subject, Wrong, check
from langadapt.testing.texts import HARD, quoted, texts

COVERED = 0.95  # share of the letters of running text that has to be in words
BEGINNING = 1000  # characters of a text that are looked at one by one
OWN = 0.001  # share of the letters of running text from which on one is the language's, and not part of a foreign name
ADDRESSES = ("familiar", "polite", "mixed", "")

_PHRASES = {
    "function_words": '("eta", "da", "ez")',
    "boilerplate": '("eskubide guztiak erreserbatuta", "irakurri gehiago")',
}
_NO_RAISING = "it takes any text, also an empty one and one without letters, and raises nothing"


@check(Language, right='a BCP-47 tag: tag="eu", tag="sr-Cyrl"')
def language_tag(language: Language, subject: Subject) -> Iterator[str]:
    """Tag and source language are BCP-47 tags, and not the same."""
    for tag in (language.tag, language.source_language):
        if problem := tag_fault(tag):
            yield problem
    if language.tag == language.source_language:
        yield f"its source language is {language.tag} itself"


@check(Language, right='an ISO 15924 code, four letters: script="Latn"')
def language_script(language: Language, subject: Subject) -> Iterator[str]:
    """The script is an ISO 15924 code."""
    if not is_script(language.script):
        yield f'"{language.script}" is no ISO 15924 code'


@check(Language, right='name="Basque", autonym="euskara"')
def language_names(language: Language, subject: Subject) -> Iterator[str]:
    """It has a name in English and one in itself."""
    for field, value in (("name", language.name), ("autonym", language.autonym)):
        if not value.strip():
            yield f"{field} is empty"


@check(
    Language,
    right="words take out of the text what stands there: no lower case, no stems, nothing twice",
    raises=_NO_RAISING,
)
def language_words_in_order(language: Language, subject: Subject) -> Iterator[str]:
    """`words` gives non-empty pieces of the text, in the order in which they stand there."""
    for text in [*texts(subject), *HARD.values()]:
        place = 0
        for word in language.words(text):
            if not isinstance(word, str) or not word.strip():
                yield f"{word!r} is a word of {quoted(text)}"
                break
            found = text.find(word, place)
            if found < 0:
                yield f"{quoted(word)} does not stand in {quoted(text[place:])}, behind the words before it"
                break
            place = found + len(word)


@check(
    Language,
    right="every letter is part of a word; marks such as the vowel signs of Indic scripts count as letters",
    raises=_NO_RAISING,
)
def language_words_cover(language: Language, subject: Subject) -> Iterator[str]:
    """`words` leaves out nearly no letter of the language's own text, and cuts it into more than one piece."""
    own = texts(subject)
    if not own:
        raise NotChecked("the plugin has no sample in its language")
    words = [word for text in own for word in language.words(text)]
    inside, all_letters = _letters(words), _letters(own)
    if inside < COVERED * all_letters:
        yield f"{inside / all_letters:.0%} of the letters of its samples are in words"
    if len(words) < 2 * len(own):
        yield f"{len(own)} texts have {len(words)} words"


def _letters(texts: Iterable[str]) -> int:
    return sum(unicodedata.category(character)[0] in "LM" for text in texts for character in text)


@check(
    Language,
    right='lower=str.lower; in Turkish lambda text: text.replace("İ", "i").replace("I", "ı").lower()',
    raises=_NO_RAISING,
)
def language_lower(language: Language, subject: Subject) -> Iterator[str]:
    """`lower` makes capitals small and changes nothing else, and each small letter of the language has a capital."""
    own = texts(subject)
    for text in [*own, *HARD.values()]:
        small = language.lower(text)
        if not isinstance(small, str):
            yield f"it gives a {type(small).__name__} of {quoted(text)}"
            return
        if language.lower(small) != small:
            yield f"it gives something else when it is called again with what it gave of {quoted(text)}"
        if _outline(language.lower(text[:BEGINNING])) != _outline(text[:BEGINNING]):
            yield f"it changes more than letters in {quoted(text)}"
        if small.lower() != small:
            yield f"it leaves capitals in {quoted(text)}"
    for letter in _smalls("".join(own)):
        if language.lower(letter) != letter:
            yield f'it makes "{language.lower(letter)}" of the small letter {letter} of the language\'s own text'
        elif language.lower(letter.upper()) != letter and letter not in map(language.lower, _capitals()):
            yield f"it makes {letter}, a letter of the language's own text, of no capital"


def _outline(text: str) -> str:
    """A text with all letters alike, whatever marks are on them."""
    kinds = ((unicodedata.category(character)[0], character) for character in text)
    return "".join("x" if kind == "L" else character for kind, character in kinds if kind != "M")


def _smalls(text: str) -> list[str]:
    """Its small letters that have a capital and are not another way to write one, as ς and ſ are."""
    counted = Counter(filter(str.isalpha, text))
    return [
        letter
        for letter, number in counted.items()
        if number >= OWN * counted.total()
        and len(letter.upper()) == 1
        and letter.upper() != letter == letter.casefold()
    ]


@cache
def _capitals() -> tuple[str, ...]:
    return tuple(filter(str.isupper, map(chr, range(sys.maxunicode + 1))))


@check(Language, right='prompts={"sft": "alpaca-eu"} names a prompt format that a plugin offers')
def language_prompts(language: Language, subject: Subject) -> Iterator[str]:
    """The prompt formats that it names exist."""
    for kind, name in language.prompts.items():
        if name not in subject.known.prompts:
            yield f'no plugin offers the prompt format "{name}" of {kind}; {subject.known.prompts.missing(name)}'
        if kind not in subject.known.stages:
            yield f'there is no stage kind "{kind}"; {subject.known.stages.missing(kind)}'


@check(Language, right='suites=("basque",), where an evaluation has suites=("basque",)')
def language_suites(language: Language, subject: Subject) -> Iterator[str]:
    """The suites that it names have evaluations."""
    known = suite_names(subject.known)
    for name in language.suites:
        if name not in known:
            yield f'no evaluation is in the suite "{name}"; {nearest(name, known)}'


@check(
    Language,
    right='thresholds={"fineweb2": {"top_2": 0.19, …}}: a filter, its options, a number or a text as each is',
)
def language_thresholds(language: Language, subject: Subject) -> Iterator[str]:
    """Its thresholds are of filters that exist, of options of theirs, as these are, and as many as those need."""
    for name, values in language.thresholds.items():
        if name not in subject.known.filters:
            yield f'there is no filter "{name}"; {subject.known.filters.missing(name)}'
            continue
        step = subject.known.filters[name]
        wrong = list(_misfits(step.options, values))
        if wrong:
            yield from (f"{name}: {said}" for said in wrong)
            continue
        try:
            step.make(dict(step.options), language)
        except UserError as error:
            yield str(error)


def _misfits(options: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """What of a filter's thresholds is no option of it, or neither a number nor a text as the option is."""
    for key, value in values.items():
        if key not in options:
            yield "; ".join(filter(None, [f"it has no option {key}", nearest(key, options)]))
        elif isinstance(options[key], str) and not isinstance(value, str):
            yield f"{key} = {value!r} is no text"
        elif not isinstance(options[key], str) and (isinstance(value, bool) or not isinstance(value, (int, float))):
            yield f"{key} = {value!r} is no number"


@check(Language, right="lower case, as they are written, without blanks around them, each once", raises=_NO_RAISING)
def language_phrases(language: Language, subject: Subject) -> Iterator[Wrong]:
    """Function words and phrases of boilerplate are in lower case, without blanks around them, each once."""
    for field, example in _PHRASES.items():
        phrases, right = getattr(language, field), f"lower case, as they are written, each once: {field}={example}"
        for phrase in phrases:
            if phrase != language.lower(phrase).strip() or not phrase:
                said = f"{quoted(phrase)} in {field} is not in lower case, or has blanks around it"
                yield Wrong(said=said, right=right)
        for phrase in dict.fromkeys(p for p in phrases if phrases.count(p) > 1):
            yield Wrong(said=f"{quoted(phrase)} stands in {field} {phrases.count(phrase)} times", right=right)


@check(
    Language,
    right='tell_apart gives a tag or "", address "familiar", "polite", "mixed" or "", of any text',
    raises=_NO_RAISING,
)
def language_judges(language: Language, subject: Subject) -> Iterator[str]:
    """`tell_apart` and `address` take any text and give what they may."""
    for text in [*texts(subject)[:10], *HARD.values()]:
        if language.tell_apart and (said := language.tell_apart(text)) and not is_tag(said):
            yield f"tell_apart gives {said!r} of {quoted(text)}"
        if language.address and (said := language.address(text)) not in ADDRESSES:
            yield f"address gives {said!r} of {quoted(text)}"


@check(Language, right='replay="fineweb-en": a corpus in the source language that no evaluation measures on')
def language_replay(language: Language, subject: Subject) -> Iterator[str]:
    """The corpus for replay exists, is in the source language, and nothing is measured on it."""
    if not language.replay:
        return
    if language.replay not in subject.known.corpora:
        yield f'no plugin offers the corpus "{language.replay}"; {subject.known.corpora.missing(language.replay)}'
        return
    corpus = subject.known.corpora[language.replay]
    if corpus.language != language.source_language:
        yield f'"{corpus.name}" is in {corpus.language}, the source language is {language.source_language}'
    for evaluation in subject.known.evaluations.values():
        if evaluation.corpus in (corpus.name, *corpus.aliases):
            yield f'the evaluation "{evaluation.name}" measures on it'


@check(Language, right='JSON lines {"en": "…", "eu": "…"}, and length_ratio={"en": (0.6, 1.8)} that they keep to')
def language_parallel(language: Language, subject: Subject) -> Iterator[str]:
    """The sample of translations has texts in both languages, whose lengths are within `length_ratio`."""
    for source, (least, most) in language.length_ratio.items():
        if not 0 < least < most:
            yield f"length_ratio of {source} is {least} to {most}"
    if language.parallel_sample is None:
        return
    least, most = language.length_ratio.get(language.source_language, (0.0, float("inf")))
    lines = language.parallel_sample.read_text(encoding="utf-8").splitlines()
    if not lines:
        yield f"{language.parallel_sample.name} is empty"
    for number, line in enumerate(lines, start=1):
        row = json.loads(line)
        source, target = row.get(language.source_language), row.get(language.tag)
        where = f"{language.parallel_sample.name}:{number}"
        if not (isinstance(source, str) and source.strip() and isinstance(target, str) and target.strip()):
            yield f"{where} has no text in both {language.source_language} and {language.tag}"
        elif not least <= len(target) / len(source) <= most:
            yield f"{where}: the translation is {len(target) / len(source):.2f} times as long as its source"
