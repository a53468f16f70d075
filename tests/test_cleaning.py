"""The core's cleaning steps: every rule on both sides of its threshold, worked out by hand."""

from __future__ import annotations

import dataclasses
import gc
import gzip
import json
import re
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt import Document, Language, Message, UserError, pieces
from langadapt.cleaning import FILTERS, bad_words, c4, fineweb, gopher, pii, repetition, running_text
from langadapt.corpus.choosing import steps_of
from langadapt.corpus.preparing import Preparation
from langadapt.inputs import find_input
from langadapt.plugins import registry
from langadapt.recipe import CorpusRef

REAL = Path(__file__).parents[2] / "shared" / "data" / "text"
BY_NAME = {filter.name: filter for filter in FILTERS}
THRESHOLDS = {
    "duplicate_lines": 0.25, "top_2": 0.2, "top_3": 0.16, "top_4": 0.13, "repeated_5": 0.14, "repeated_6": 0.13,
    "repeated_7": 0.12, "repeated_8": 0.11, "repeated_9": 0.1, "repeated_10": 0.1, "end_punctuation": 0.025,
    "newlines": 0.2, "min_word_length": 3, "max_word_length": 21, "alphabetic_words": 0.8,
}  # fmt: skip
TOY = Language(
    tag="it",
    name="Toy",
    autonym="toy",
    script="Latn",
    words=str.split,
    function_words=("il", "l'", "che"),
    thresholds={"fineweb2": THRESHOLDS},
)
TURKISH = dataclasses.replace(
    TOY,
    tag="tr",
    boilerplate=("tüm hakları saklıdır",),
    lower=lambda text: text.replace("İ", "i").replace("I", "ı").lower(),
)
DIALOGUE = Document(
    id="d", messages=(Message(role="user", content="Ehi?", context="Ehi"), Message(role="assistant", content="Ehi"))
)


def step(name: str, language: Language | None = TOY, **options: object) -> Callable[[Document], Document | str]:
    made = BY_NAME[name]
    assert set(options) <= set(made.options), "an option that the recipe would refuse"
    return made.make({**made.options, **options}, language)


def outcome(text: str, name: str, language: Language | None = TOY, **options: object) -> str:
    """What is left of a text, or the reason it goes for, in brackets."""
    left = step(name, language, **options)(Document(id="x", text=text))
    return f"[{left}]" if isinstance(left, str) else left.text


# --- all steps --------------------------------------------------------------------------------------------------------


def test_steps_are_offered_with_names_of_their_own_and_said_where_they_come_from():
    assert {f.name for f in FILTERS} <= set(registry().filters)
    assert len(BY_NAME) == len(FILTERS)
    assert all(f.description.endswith(".") for f in FILTERS)
    assert [f.name for f in FILTERS if not f.source] == ["min-length"]


@pytest.mark.parametrize(
    "name", ["boilerplate", "c4-quality", "gopher-quality", "gopher-repetition", "fineweb-quality", "fineweb2"]
)
def test_rules_about_running_text_let_dialogues_pass(name: str):
    assert step(name)(DIALOGUE) is DIALOGUE


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_no_text_breaks_a_step_and_a_second_time_changes_nothing(text: str):
    for name in set(BY_NAME) - {"bad-words", "language", "c4-quality"}:
        made = step(name)
        once = made(Document(id="x", text=text))
        assert isinstance(once, str) or made(once) == once, name


# --- repetition -------------------------------------------------------------------------------------------------------


def upstream_characters(words: list[str], n: int) -> int:
    """The characters of repeated runs, found as the published code finds them: run by run, as strings."""
    runs = [words[i : i + n] for i in range(len(words) - n + 1)]
    if n in repetition.TOP:
        top, times = Counter(" ".join(run) for run in runs).most_common(1)[0]
        return len(top) * times
    seen: set[tuple[str, ...]] = set()
    characters = i = 0
    while i < len(runs):
        run = tuple(runs[i])
        if run in seen:
            characters += len("".join(run))
            i += n
        else:
            seen.add(run)
            i += 1
    return characters


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dd"]), max_size=80))
def test_repeated_runs_are_those_of_a_plain_search(words: list[str]):
    expected = [(n, upstream_characters(words, n)) for n in range(2, min(len(words), 10) + 1)]
    assert list(repetition.repeated_characters(words, 10)) == expected


def test_a_repeated_run_counts_from_its_second_time_on_and_covers_its_words():
    words = ["a", "b", "c", "d", "e", "x", "a", "b", "c", "d", "e", "y", "a", "b", "c", "d", "e"]
    found = dict(repetition.repeated_characters(words, 10))
    assert (found[5], found[6]) == (10, 0)
    assert found[2] == 3 * len("a b") and found[4] == 3 * len("a b c d")


@given(
    st.lists(st.sampled_from(["a", "bb", "ccc", "dd"]), min_size=1, max_size=80),
    st.dictionaries(st.integers(2, 10), st.sampled_from([0.05, 0.1, 0.2, 0.5, 1.0]), min_size=1),
)
def test_no_text_that_repeats_itself_is_let_off_for_being_quick(words: list[str], limits: dict[int, float]):
    text = " ".join(words)
    shares = ((n, upstream_characters(words, n) / len(text)) for n in sorted(limits) if n <= len(words))
    expected = next((n for n, share in shares if share > limits[n]), 0)
    assert repetition.first_exceeded(running_text.RunningText(text, str.split), limits) == expected


@pytest.mark.skipif(not REAL.is_dir(), reason="no real texts at hand")
def test_real_texts_repeat_themselves_as_a_plain_search_says():
    limits = dict(zip(range(2, 11), (0.2, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.1), strict=True))
    with gzip.open(REAL / "libreoffice-help.it.jsonl.gz", "rt", encoding="utf-8") as rows:
        texts = [json.loads(row)["text"] for row in list(rows)[::12]]
    found = []
    for text in texts:
        running, words = running_text.RunningText(text, running_text.words), running_text.words(text)
        shares = ((n, upstream_characters(words, n) / len(text)) for n in limits if n <= len(words))
        found.append((repetition.first_exceeded(running, limits), next((n for n, s in shares if s > limits[n]), 0)))
    assert [ours for ours, _ in found] == [plain for _, plain in found]
    assert len({ours for ours, _ in found}) > 4, "several of the limits decide"


def test_runs_are_found_in_texts_too_long_to_sort_in_one_number():
    large = (1 << 29) - 1  # no word has a greater number
    numbers = np.concatenate((np.arange(40), [large, 5, large, 5], np.arange(40, 80)))
    runs = {found.words: found for found in repetition.find_runs(numbers, 4)}
    assert (runs[2].places.tolist(), runs[2].again.tolist()) == ([40, 42], [False, True])
    assert runs[3].places.tolist() == []


@pytest.mark.parametrize(
    ("text", "limits", "left"),
    [
        ("uno\ndue\ntre\nuno", {"duplicate_lines": 0.25}, "kept"),  # 1 of 4 lines
        ("uno\ndue\nuno", {"duplicate_lines": 0.3}, "[repeated lines]"),  # 1 of 3
        ("uno\n\ndue\n\nuno", {"duplicate_paragraphs": 0.3}, "[repeated paragraphs]"),
        ("abcd\nab\nab", {"duplicate_line_characters": 0.2}, "kept"),  # 2 of 10 characters
        ("abc\nab\nab", {"duplicate_line_characters": 0.2}, "[repeated lines]"),  # 2 of 9
        ("aa bb aa bb " + "c" * 8, {"top_2": 0.5}, "kept"),  # 2 times 5 of 20 characters
        ("aa bb aa bb " + "c" * 7, {"top_2": 0.5}, "[repeated runs of 2 words]"),
        ("a b c d e a b c d e " + "f" * 30, {"repeated_5": 0.1}, "kept"),  # 5 of 50
        ("a b c d e a b c d e " + "f" * 29, {"repeated_5": 0.1}, "[repeated runs of 5 words]"),
    ],
)
def test_repetition_at_its_thresholds(text: str, limits: dict[str, float], left: str):
    off = dict.fromkeys(repetition.OPTIONS, 0)
    assert outcome(text, "gopher-repetition", **{**off, **limits}) == (text if left == "kept" else left)


def test_with_all_limits_off_nothing_is_repeated():
    text = "ancora " * 500
    assert outcome(text, "gopher-repetition", **dict.fromkeys(repetition.OPTIONS, 0)) == text


# --- Gopher -----------------------------------------------------------------------------------------------------------

PROSE = "il cane che abbaia " * 12 + "non morde ."  # 50 words, 1 mark


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (PROSE, "kept"),
        (PROSE.replace("non ", "", 1), "[too few words]"),  # 49 words, and a mark that is none
        ("il che abcdefgh " * 40, "kept"),  # (2 + 3 + 8) / 3 = 4.3 letters a word
        ("il che ab " * 40, "[words too short]"),  # 2.3
        ("il che abcdefghijklmnopqrstuvwxyz " * 40, "[words too long]"),  # 10.3
        ("il che cane # " * 40, "[too many hash signs]"),  # 1 of 4
        (PROSE + " # # # # #", "kept"),  # 5 of 56
        ("il che cane... cane " * 40, "[too many ellipses]"),
        (
            "- il cane che abbaia forte\n" * 9 + "non morde e non scappa mai più da qui oggi , pare",
            "kept",
        ),  # 9 of 10 lines
        ("- il cane che abbaia forte\n" * 19 + "non morde", "[too many lines with a bullet]"),
        ("il cane che …\n" + "il cane che abbaia a lungo\n" * 12, "kept"),
        (
            "il cane che dorme ancora nella sua cuccia …\nil cane che dorme lì\n" * 6,
            "[too many lines end with an ellipsis]",
        ),
        ("il cane che abbaia 1234 " * 20, "kept"),  # 4 of 5 have a letter
        ("il cane che abbaia 1234 5678 " * 20, "[too few words with a letter]"),
        ("il cane abbaia ancora " * 20, "[too few function words]"),  # one, however often
        ("il cane l’ abbaia ancora " * 20, "kept"),  # l’ is l'
    ],
)
def test_gopher_at_its_thresholds(text: str, left: str):
    assert outcome(text, "gopher-quality") == (text if left == "kept" else left)


@given(st.lists(st.text(st.sampled_from("abè1_.-€#’'"), min_size=1, max_size=6), max_size=40))
def test_words_marks_and_letters_are_counted_as_one_by_one(found: list[str]):
    real = [word for word in found if any(c.isalnum() for c in word)]
    letters = [word for word in found if any(c.isalpha() for c in word)]
    expected = (len(found), len(real), len(letters), sum(map(len, real)))
    assert gopher._count(running_text.RunningText("", lambda _: found)) == expected


def test_word_counts_have_an_upper_limit_that_can_be_lifted():
    text = "il cane che abbaia " * 30
    assert outcome(text, "gopher-quality", max_words=119) == "[too many words]"
    assert outcome(text, "gopher-quality", max_words=120) == outcome(text, "gopher-quality", max_words=0) == text


def test_without_a_language_nobody_asks_for_function_words():
    text = "zum zam zuppete bum " * 20
    assert outcome(text, "gopher-quality", language=None) == text


# --- FineWeb ----------------------------------------------------------------------------------------------------------

LONG = "una riga abbastanza lunga da non essere un titolo"


@pytest.mark.parametrize(
    ("lines", "options", "left"),
    [
        ([f"{LONG} {i}." for i in range(3)] + [f"{LONG} {i}" for i in range(22)], {"newlines": 0}, "kept"),  # 3 of 25
        (
            [f"{LONG} {i}." for i in range(3)] + [f"{LONG} {i}" for i in range(23)],
            {},
            "[too few lines end with a mark]",
        ),
        ([f"{LONG}. "], {}, "kept"),  # the blank does not hide the mark
        ([f"{LONG}。"], {}, "kept"),
        ([LONG + ".", "corta.", "breve."], {}, "kept"),  # 2 of 3
        ([LONG + ".", "corta.", "breve.", "poca."], {}, "[too many short lines]"),
        ([LONG + ".", "ab.", "c" * 250 + "."], {"short_lines": 0}, "kept"),
        (["x" * 296 + ".", "abc", "abc"], {"short_lines": 0, "newlines": 0}, "kept"),  # 3 of 303 < .01
        (["x" * 292 + ".", "abc", "abc"], {"short_lines": 0, "newlines": 0}, "[repeated lines]"),  # 3 of 299
        (["a b c.", "d e f g."], {"short_lines": 0, "newlines": 0.14}, "[too many line breaks]"),  # 1 of 7
        (["a b c.", "d e f g."], {"short_lines": 0, "newlines": 0.15}, "kept"),
    ],
)
def test_fineweb_at_its_thresholds(lines: list[str], options: dict[str, float], left: str):
    text = "\n".join(lines)
    assert outcome(text, "fineweb-quality", **options) == (text if left == "kept" else left)


def test_marks_of_many_scripts_end_a_sentence_and_other_characters_do_not():
    import unicodedata

    assert {".", "!", "?", "。", "।", "؟", "።"} <= set(fineweb.END_MARKS)
    assert all(unicodedata.category(mark) in ("Po", "Lm") for mark in fineweb.END_MARKS)


# --- FineWeb-2 --------------------------------------------------------------------------------------------------------


def test_fineweb2_takes_what_is_not_set_from_the_language():
    text = "il cane che abbaia a lungo non morde quasi mai nessuno di noi. " * 3 + "\n" + ("altre parole che il " * 20)
    strict = dataclasses.replace(TOY, thresholds={"fineweb2": {**THRESHOLDS, "max_word_length": 3.5}})
    loose = dict.fromkeys([k for k in THRESHOLDS if k.startswith(("top", "rep"))], 0)
    assert outcome(text, "fineweb2", **loose) == text
    assert outcome(text, "fineweb2", strict, **loose) == "[words too long]"
    assert outcome(text, "fineweb2", strict, **loose, max_word_length=21) == text


def test_a_languages_own_thresholds_stand_in_for_the_defaults_of_any_step_and_the_recipes_for_both():
    wordy = dataclasses.replace(TOY, thresholds={"gopher-quality": {"max_word_length": 4, "min_words": 3}})
    known: Any = SimpleNamespace(languages={"it": wordy}, filters=registry().filters)
    text = Document(id="x", text="il gatto che dorme nel giardino")
    plain, tuned = steps_of(
        Preparation(
            language="it", steps=(("gopher-quality", {}), ("gopher-quality", {"max_word_length": 9, "min_words": 2}))
        ),
        known,
    )
    assert (plain.options["max_word_length"], plain.options["min_words"]) == (4.0, 3) and plain.run(
        text
    ) == "words too long"
    assert (tuned.options["max_word_length"], tuned.options["min_words"]) == (9, 2) and tuned.run(text) == text
    assert plain.options["symbols"] == gopher.OPTIONS["symbols"]
    assert BY_NAME["gopher-quality"].values(None) == gopher.OPTIONS


def test_a_languages_own_end_marks_stand_in_for_the_defaults():
    greek = dataclasses.replace(TOY, thresholds={"c4-quality": {"end_marks": ".;!", "min_sentences": 1}})
    known: Any = SimpleNamespace(languages={"it": greek}, filters=registry().filters)
    (step,) = steps_of(Preparation(language="it", steps=(("c4-quality", {}),)), known)
    asked = Document(id="x", text="Τι ώρα φεύγει το καράβι από το λιμάνι;")
    assert step.options["end_marks"] == ".;!" and step.run(asked) == asked
    assert BY_NAME["c4-quality"].make(BY_NAME["c4-quality"].values(None, {"min_sentences": 1}), None)(asked) != asked


@pytest.mark.parametrize(("option", "value", "kind"), [("end_marks", 3, "text"), ("min_words", "viele", "number")])
def test_a_threshold_of_the_wrong_kind_is_the_plugins_to_mend(option: str, value: Any, kind: str):
    language = dataclasses.replace(TOY, thresholds={"c4-quality": {option: value}})
    with pytest.raises(UserError, match=f"filter c4-quality: {option} = .* is no {kind}; its plugin has to"):
        BY_NAME["c4-quality"].values(language)


def test_a_languages_own_thresholds_are_part_of_the_digest():
    ref = CorpusRef(name="clean-mc4-it", filters=["fineweb2"])  # type: ignore[list-item]
    said = find_input(ref, registry(), language="it", data={}, rehearsal=True, pinned={}).cleaners
    own = registry().languages["it"].thresholds["fineweb2"]
    assert said["fineweb2.top_2"] == str(own["top_2"]) and said["fineweb2.symbols"] == "0.1"


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds": {"fineweb2": dict(registry().languages["it"].thresholds["fineweb2"]) | {"top_2": 0.5}}},
        {"words": str.split},
        {"lower": str.casefold},
        {"function_words": ("il",)},
        {"boilerplate": ("cookie",)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_language_that_its_author_changes_is_noticed_before_it_has_another_version(monkeypatch, change):
    def reader() -> str:
        ref = CorpusRef(name="clean-mc4-it", filters=["fineweb2"])  # type: ignore[list-item]
        return find_input(ref, registry(), language="it", data={}, rehearsal=True, pinned={}).reader

    before = reader()
    assert reader() == before
    changed = dataclasses.replace(registry().languages["it"], **change)
    monkeypatch.setitem(registry().languages._records, "it", changed)
    assert reader() != before


@pytest.mark.parametrize(
    ("language", "said"),
    [(None, "no plugin offers the language"), (dataclasses.replace(TOY, thresholds={}), "Toy has none")],
)
def test_fineweb2_without_thresholds_says_what_to_set(language: Language | None, said: str):
    with pytest.raises(UserError, match=f"duplicate_lines, top_2.*{said}.*set them as options"):
        step("fineweb2", language)


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(UserError, match=r'top_2 = "much" is no number; write it as top_2 = 0\.2'):
        step("fineweb2", top_2="much")


def test_every_threshold_of_fineweb2_is_read_by_one_of_its_rules():
    read = {*repetition.OPTIONS, *fineweb.OPTIONS, *gopher.OPTIONS}
    assert set(BY_NAME["fineweb2"].options) <= read


# --- C4 ---------------------------------------------------------------------------------------------------------------

FIVE = "Il sole è alto. Fa caldo! Chi dorme? Nessuno dorme. Tutti nuotano."


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("Una riga come tante.", "Una riga come tante."),
        ('Disse: "Una riga come tante"', 'Disse: "Una riga come tante"'),
        ("Una riga senza fine", ""),
        ("Una riga sospesa...", ""),
        ("Due parole.", ""),
        ("Come si sa.[12] Anche qui.[citation needed]", "Come si sa. Anche qui."),
        ("Come si sa anche qui. [1]", ""),  # a blank is left, and no mark ends the line
        ("Attivare JavaScript per leggere.", ""),
        ("Leggi la nostra Privacy Policy qui.", ""),
        ("Una parola di mille " + "a" * 1000 + ".", ""),
        ("Una parola di mille " + "a" * 999 + ".", "Una parola di mille " + "a" * 999 + "."),
    ],
)
def test_c4_judges_line_by_line(line: str, left: str):
    assert outcome(f"{FIVE}\n{line}", "c4-quality") == f"{FIVE}\n{left}".strip()


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("Qui c'è { una graffa.", "[curly bracket]"),
        ("Lorem ipsum dolor sit amet.", "[lorem ipsum]"),
        ("Qui c'è { una graffa", FIVE),  # the line is gone before anyone looks
        ("Lorem ipsum", FIVE),
    ],
)
def test_c4_drops_documents_for_what_stands_in_lines_that_would_stay(line: str, left: str):
    assert outcome(f"{FIVE}\n{line}", "c4-quality") == left


def test_c4_wants_five_sentences():
    assert outcome(FIVE, "c4-quality") == FIVE
    assert outcome(FIVE.replace(" Chi dorme?", ""), "c4-quality") == "[too few sentences]"


def test_mc4_wants_three_long_lines():
    text = "\n".join(["Una frase di prova. " * 10 + "Fine della riga."] * 3)
    assert outcome(text, "c4-quality", long_lines=3) == text
    assert outcome(text, "c4-quality", long_lines=4) == "[too few long lines]"


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("Una sola.", 1), ("Nessun segno", 1), ("Una. Due! Tre?", 3), ("Costa 3.50 euro. Poco.", 2),
        ("Vide J. Smith passare.", 1), ("Attese… e poi andò. Fine", 2), ('Disse: "Vai." Andò.', 2),
        ("Elma, armut vb. şeyler aldı. Gitti.", 2), ("В 5 гл. есть ответ. Да.", 2),
    ],
)  # fmt: skip
def test_sentences_are_counted_by_their_marks(line: str, number: int):
    assert c4.sentences(line) == number


@pytest.mark.parametrize(
    ("line", "goes"),
    [
        ("SİTEMİZDE ÇEREZLER KULLANILIR, KAPATILAMAZ.", True),
        ("Sitemizde çerezler kullanılır, kapatılamaz.", True),
        ("BY USING THIS PAGE YOU ACCEPT OUR PRIVACY POLICY.", True),  # English notices keep English capitals
        ("BU SAYFA OKUMAK İSTEYENLERE AÇIKTIR.", False),
    ],
)
def test_c4_finds_phrases_in_the_languages_own_capitals_and_in_everybodys(line: str, goes: bool):
    left = outcome(f"{FIVE}\n{line}", "c4-quality", TURKISH, policy=["ÇEREZLER KULLANILIR", "privacy policy"])
    assert left == (FIVE if goes else f"{FIVE}\n{line}")


# --- mojibake ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["perché", "È l’età", "“così” — forse…", "naïve", "日本語", "привет", "città à"])
@pytest.mark.parametrize("wrong", ["latin-1", "cp1252"])
def test_text_that_was_decoded_wrongly_is_repaired(text: str, wrong: str):
    try:
        damaged = text.encode().decode(wrong)
    except UnicodeDecodeError:
        pytest.skip("Windows-1252 has no such byte")
    assert outcome(f"Si legge: {damaged}\nintatto “così” ﬁne", "mojibake", per_thousand=1000.0) == (
        f"Si legge: {text}\nintatto “così” ﬁne"
    )


@pytest.mark.parametrize(
    "text", ["“così” è l’età", "São Paulo, ÅNGSTRÖM, Ân", "ﬁne &amp; <b>", "AÃO £5 ½", "’ndrangheta"]
)
def test_text_that_shows_no_mojibake_is_left_alone(text: str):
    assert outcome(text, "mojibake") == text


def test_documents_that_stay_damaged_are_dropped():
    assert outcome("a" * 999 + "�", "mojibake") == "a" * 999 + "�"
    assert outcome("a" * 998 + "��", "mojibake") == "[mojibake]"


def test_mojibake_is_repaired_in_every_message():
    damaged = DIALOGUE.edited(lambda text: text and "perchÃ©")
    mended = step("mojibake")(damaged)
    assert isinstance(mended, Document)
    assert [(m.content, m.context) for m in mended.messages] == [("perché", "perché"), ("perché", "")]


# --- language ---------------------------------------------------------------------------------------------------------

ITALIAN = "Il gatto dorme sul divano mentre fuori piove e il vento scuote le finestre della vecchia casa."
ENGLISH = "The cat sleeps on the sofa while it rains outside and the wind shakes the windows of the house."


def test_documents_in_another_language_are_dropped():
    assert outcome(ITALIAN, "language") == ITALIAN
    assert outcome(ENGLISH, "language") == "[another language]"
    assert outcome(ENGLISH, "language", None, tag="en") == ENGLISH
    assert outcome("The cat", "language") == "The cat", "too short to tell"


def test_foreign_paragraphs_go_and_headings_stay():
    mixed = f"Overview\n{ITALIAN}\n{ENGLISH}\n{ITALIAN}"
    assert outcome(mixed, "language", paragraphs=True) == f"Overview\n{ITALIAN}\n{ITALIAN}"
    assert outcome(f"{ENGLISH}\n{ENGLISH}", "language", paragraphs=True) == "[another language]"


def test_relatives_that_the_language_itself_tells_apart_go():
    wary = dataclasses.replace(TOY, tell_apart=lambda text: "sc" if "gatto" in text else "")
    assert outcome(ITALIAN, "language", wary) == "[a related language]"
    assert outcome(
        f"{ITALIAN.replace('gatto', 'cane')}\n{ITALIAN}", "language", wary, paragraphs=True
    ) == ITALIAN.replace("gatto", "cane")


def test_dialogues_are_judged_as_a_whole():
    spoken = Document(
        id="d", messages=(Message(role="user", content=ENGLISH), Message(role="assistant", content=ENGLISH))
    )
    assert step("language")(spoken) == "another language"


@pytest.mark.parametrize(("options", "said"), [({}, "say which"), ({"tag": "tlh"}, 'does not know "tlh"')])
def test_a_language_that_nobody_knows_is_an_error(options: dict[str, str], said: str):
    with pytest.raises(UserError, match=said):
        step("language", None, **options)


# --- bad words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Che Cavolo!", {"cavolo"}), ("cavolo", {"cavolo"}), ("cavolfiore e scavolo", set()), ("un cavolo_nero", set()),
        ("porca  miseria", set()), ("Porca miseria.", {"porca miseria"}), ("è c@volo?", {"c@volo"}), ("🖕", {"🖕"}),
    ],
)  # fmt: skip
def test_bad_words_count_where_they_stand_by_themselves(text: str, found: set[str]):
    assert bad_words.finder(["Cavolo", "porca miseria", "c@volo", "🖕"])(text) == found


@pytest.mark.parametrize(("text", "goes"), [("KIR ÇİÇEĞİ", False), ("kır çiçeği", False), ("KİR TUTMAZ", True)])
def test_bad_words_are_compared_in_the_languages_own_lower_case(write: Callable[..., Path], text: str, goes: bool):
    path = str(write("words.txt", "kir\n"))  # dirt; kır is a meadow
    assert outcome(text, "bad-words", TURKISH, path=path) == ("[a bad word]" if goes else text)


def test_scripts_without_blanks_need_no_flanks():
    assert bad_words.finder(["野菜"], flanked=False)("この野菜は") == {"野菜"}
    assert bad_words.finder(["野菜"])("この野菜は") == set()


def test_the_list_of_bad_words_is_the_users(write: Callable[..., Path]):
    path = str(write("words.txt", "# mine\ncavolo\n\nrapa\n"))
    assert outcome("Che cavolo.", "bad-words", path=path) == "[a bad word]"
    assert outcome("Che cavolo.", "bad-words", path=path, least=2) == "Che cavolo."
    assert outcome("# mine", "bad-words", path=path) == "# mine"
    assert step("bad-words", path=path)(DIALOGUE) is DIALOGUE


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "it needs a list of yours"), ("", "has no word in it"), (b"\xff", "it is not UTF-8 text")],
)
def test_a_list_that_cannot_be_read_is_an_error(write: Callable[..., Path], content: str | bytes | None, said: str):
    with pytest.raises(UserError, match=said):
        step("bad-words", path="" if content is None else str(write("words.txt", content)))


# --- personal data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Scrivi a mario.rossi@posta.it.", "Scrivi a email@example.com."),
        ("mario@localhost e @mario", "mario@localhost e @mario"),
        ("Il server 8.8.8.8, non 192.168.1.1", "Il server 192.0.2.1, non 192.168.1.1"),
        ("versione 1.2.3 e 300.1.1.1 e 1.2.3.4.5", "versione 1.2.3 e 300.1.1.1 e 1.2.3.4.5"),
        ("2001:4860:4860::8888 alle 12:30:45", "192.0.2.1 alle 12:30:45"),
    ],
)
def test_addresses_are_masked(text: str, masked: str):
    assert outcome(text, "pii") == masked


def test_accounts_and_telephone_numbers_are_masked_on_request():
    text = "IBAN IT60 X054 2811 1010 0000 0123 456, tel. +39 06 1234 5678, non IT61 X054 2811 1010 0000 0123 456"
    assert outcome(text, "pii") == text
    assert outcome(text, "pii", iban="[conto]", phone="[telefono]") == (
        "IBAN [conto], tel. [telefono], non IT61 X054 2811 1010 0000 0123 456"
    )


def test_a_kind_without_a_mask_is_left_alone():
    assert outcome("a@b.it 8.8.8.8", "pii", email="") == "a@b.it 192.0.2.1"


@pytest.mark.parametrize(
    ("number", "right"), [("GB82 WEST 1234 5698 7654 32", True), ("GB82 WEST 1234 5698 7654 33", False)]
)
def test_check_digits_of_accounts(number: str, right: bool):
    assert pii.is_iban(number) is right


# --- length -----------------------------------------------------------------------------------------------------------


def test_length_is_counted_in_characters_and_words():
    assert outcome("a" * 200, "min-length") == "a" * 200
    assert outcome("a" * 199, "min-length") == "[too short]"
    assert outcome("uno due", "min-length", characters=0, words=3) == "[too short]"
    assert step("min-length")(DIALOGUE) == "too short"


def test_a_language_that_no_plugin_knows_has_words_too():
    assert running_text.words("L'età: 3,5 anni... (forse)") == ["L'età", ":", "3,5", "anni", "...", "(", "forse", ")"]


def test_words_found_piece_by_piece_are_those_of_the_whole():
    find = re.compile(r"\w+|[^\w\s]").findall
    assert pieces.piecewise(find)("a,b  c\u2003d\n") == find("a,b  c\u2003d\n") == ["a", ",", "b", "c", "d"]


def test_what_is_known_of_pieces_is_bounded(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(pieces, "LIMIT", 3)
    known = pieces.KnownPieces(lambda piece: asked.append(piece) or len(piece))
    text = ["a", "bb", "a", "c" * 100, "c" * 100, "ddd", "eeee", "a"]
    assert [known[piece] for piece in text] == [len(piece) for piece in text]
    assert asked == ["a", "bb", "c" * 100, "c" * 100, "ddd", "eeee", "a"], (
        "long ones are not kept, a full memory is emptied"
    )
    assert len(known) <= 3


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1), max_size=30))
def test_what_is_known_of_words_is_what_they_are(found: list[str]):
    running = running_text.RunningText("", lambda _: found)
    assert running.lengths.tolist() == [len(word) for word in found]
    assert [found[i] == found[j] for i, j in pairs(found)] == [
        bool(running.numbers[i] == running.numbers[j]) for i, j in pairs(found)
    ]
    letters = (running.facts & running_text.LETTER).tolist()
    assert letters == [any(re.match(r"[^\W\d_]", c) is not None for c in word) for word in found]


def pairs(values: list[str]) -> list[tuple[int, int]]:
    return [(i, j) for i in range(len(values)) for j in range(i)]


@given(st.text(st.sampled_from("abc d\n.,")))
def test_facts_found_piece_by_piece_are_those_of_the_words(text: str):
    running = running_text.RunningText(text, running_text.words)
    whole = running_text.RunningText(text, lambda text: running_text.words(text))
    assert running.facts.tolist() == whole.facts.tolist()
    assert running.among(["a", "b", ",", "x"]) == [w for w in ("a", "b", ",") if w in running_text.words(text)]


def test_a_full_vocabulary_gives_way_to_a_new_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running_text, "LIMIT", 3)
    first = running_text.RunningText("uno due tre quattro uno", running_text.words)
    assert first.numbers[0] == first.numbers[4]
    second = running_text.RunningText("cinque uno", running_text.words)
    assert (second.numbers.tolist(), second.among(["uno", "due"])) == ([0, 1], ["uno"])
    assert first.among(["uno", "cinque"]) == ["uno"], "an earlier text keeps the one that it was read with"


def test_words_are_found_once_for_all_steps_of_a_document():
    asked: list[str] = []
    counting = dataclasses.replace(TOY, words=lambda text: asked.append(text) or text.split())
    text = PROSE + "\n" + LONG
    document = Document(id="x", text=text)
    for name in ("gopher-repetition", "fineweb-quality", "gopher-quality", "fineweb2"):
        step(name, counting)(document)
    assert asked == [text]


# --- boilerplate ------------------------------------------------------------------------------------------------------

WEB = dataclasses.replace(TOY, boilerplate=("tutti i diritti riservati", "accetta i cookie"))
BODY = "Il primo paragrafo dice qualcosa.\nIl secondo lo conferma, e poi tace."
IN_PASSING = (
    "Chi scrive che tutti i diritti riservati ad altri spettano a lui solo non ha capito che cosa sia la legge."
)
MENU = ["Home", "Notizie", "Sport", "Contatti"]


def left_of(lines: list[str], **options: object) -> str:
    return outcome("\n".join(lines), "boilerplate", WEB, **options)


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([*MENU, BODY], f"Contatti\n{BODY}"),  # the last one may be the title
        (["Home", "", "Notizie", "Sport", "", "Il titolo", "", BODY], f"Il titolo\n\n{BODY}"),
        ([*MENU[:3], BODY], "\n".join([*MENU[:3], BODY])),  # three lines are no menu
        ([BODY, *MENU], BODY),
        ([BODY, "Elenco:", *MENU], f"{BODY}\nElenco:"),
        ([BODY, *MENU, BODY], "\n".join([BODY, *MENU, BODY])),  # a list within the text
        (["Home › Notizie › Sport › " + "Approfondimenti e analisi " * 3, *MENU[:3], BODY], f"Sport\n{BODY}"),
        ([BODY, "© 2020 Editore. Tutti i diritti riservati", "Fine della storia."], f"{BODY}\nFine della storia."),
        ([BODY, "ACCETTA I COOKIE"], BODY),
        ([IN_PASSING, BODY], f"{IN_PASSING}\n{BODY}"),
        (MENU, "[only boilerplate]"),
        (MENU[:2], "\n".join(MENU[:2])),
        (["Accetta i cookie"], "[only boilerplate]"),
    ],
)
def test_what_stands_around_a_text_goes(lines: list[str], left: str):
    assert left_of(lines) == left


def test_each_rule_about_boilerplate_can_be_switched_off_or_added_to():
    lines = [*MENU, BODY, "Accetta i cookie"]
    assert left_of(lines, stub=0) == "\n".join([*MENU, BODY])
    assert left_of(lines, title=False) == BODY
    assert left_of(lines, phrase_share=0, stub=0) == "\n".join(lines)
    assert left_of([BODY, "Torna su"], phrases=["Torna su"]) == BODY
    assert outcome("\n".join(lines), "boilerplate", language=None, stub=0) == "\n".join(lines)


@pytest.mark.parametrize("line", ["TÜM HAKLARI SAKLIDIR", "Tüm Hakları Saklıdır", "tüm hakları saklıdır"])
def test_boilerplate_is_known_by_the_languages_own_capitals(line: str):
    assert outcome(f"{BODY}\n{line}", "boilerplate", TURKISH) == BODY


@given(st.lists(st.sampled_from([*MENU, "", BODY, "Accetta i cookie", "Una frase intera."]), max_size=14))
def test_boilerplate_goes_at_once_or_not_at_all(lines: list[str]):
    once = left_of(lines)
    assert once.startswith("[") or left_of(once.split("\n")) == once


def test_a_vocabulary_that_nobody_asks_any_more_is_gone_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running_text, "LIMIT", 3)
    gc.disable()
    try:
        vocabulary = weakref.ref(running_text.vocabulary())
        assert len(running_text.RunningText("uno due tre quattro", running_text.words).facts) == 4
        running_text.RunningText("cinque", running_text.words)
        assert vocabulary() is None, "something in it refers to it"
    finally:
        gc.enable()
