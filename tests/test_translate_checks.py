"""The signals that judge a translation, each by an example on both sides of its limit, and by people's translations."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from langadapt.plugins import registry
from langadapt.records import Language
from langadapt.translation import checking
from langadapt.translation.checking import Checks, Pair, Verdict
from langadapt.translation.fluency import CharacterModel

FLORES = Path(__file__).parents[2] / "shared" / "data" / "flores"
ENCODER = importlib.util.find_spec(checking.MEANING_PACKAGE) is not None
needs_flores = pytest.mark.skipif(not FLORES.is_dir(), reason="FLORES is not at hand")
needs_encoder = pytest.mark.skipif(not ENCODER, reason="the extra translation-quality is not installed")

ENGLISH = "The mayor promised to repair the bridge before winter, but nobody in the village believed him."
ITALIAN = "Il sindaco ha promesso di riparare il ponte prima dell'inverno, ma in paese non gli ha creduto nessuno."


def pair(source: str, target: str, *more: tuple[str, str]) -> Pair:
    prose = ((source, target), *more)
    return Pair(source="\n".join(s for s, _ in prose), target="\n".join(t for _, t in prose), prose=prose)


def judged(
    *pairs: Pair, checks: Checks | None = None, source: str = "en", known: Language | None = None
) -> list[Verdict]:
    italian = registry().languages["it"]
    return checking.examine(pairs, checking.signals_of(checks or Checks(), source, italian, known))


def flaws(source: str, target: str, **given: object) -> tuple[str, ...]:
    return judged(pair(source, target), **given)[0].flaws  # type: ignore[arg-type]


def test_a_good_translation_has_no_flaw() -> None:
    assert flaws(ENGLISH, ITALIAN) == ()


@pytest.mark.parametrize(
    ("source", "target", "flaw"),
    [
        (ENGLISH, "Il sindaco ha promesso.", "length"),
        (ENGLISH, ITALIAN * 3, "length"),
        (ENGLISH, "El alcalde prometió reparar el puente antes del invierno, pero nadie en el pueblo le creyó.", "language"),
        (ENGLISH, "Il sindaco promised to repair the bridge before winter, ma nessuno gli ha creduto.", "copied"),
        (ENGLISH, ITALIAN.replace("dell'inverno", "de l&#39;inverno"), "characters"),
        (ENGLISH, ITALIAN.replace("promesso", "pro⁇messo"), "characters"),
        (ENGLISH, "Il sindaco ha promesso " + "di riparare il ponte " * 6, "repetition"),
        (ENGLISH, "Il ponte ponte ponte ponte ponte del paese che il sindaco voleva riparare.", "repetition"),
        ("It took 12 years and 3 months, 1,500 workers.", "Ci vollero 12 anni e 4 mesi, 1.500 operai.", "numbers"),
        ("The *first* of the houses was sold.", "La prima delle case fu venduta.", "markup"),
    ],
)  # fmt: skip
def test_each_fault_is_found(source: str, target: str, flaw: str) -> None:
    assert flaw in flaws(source, target)


@pytest.mark.parametrize(
    ("flaw", "source", "target"),
    [
        ("numbers", "It took 1,500.25 euros at 9:30.", "Ci vollero 1.500,25 euro alle 9.30."),
        ("length", "Home", "Pagina iniziale del sito"),
        ("repetition", "no no no no no no no no no no no no", "no no no no no no no no no no no no"),
        ("copied", "I met Anna Maria Rossi and Paolo Di Bianchi of Banca Monte dei Paschi di Siena.",
         "Ho incontrato Anna Maria Rossi e Paolo Di Bianchi della Banca Monte dei Paschi di Siena."),
        ("copied", 'It says "expecting a property name enclosed in double quotes" and stops.',
         "Dice «expecting a property name enclosed in double quotes» e si ferma."),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_fault_is_none(flaw: str, source: str, target: str) -> None:
    assert flaw not in flaws(source, target)


def test_one_paragraph_that_was_left_as_it_was_is_found_in_a_long_text() -> None:
    long = [(ENGLISH, ITALIAN)] * 4
    assert judged(pair(*long[0], *long[1:]))[0].flaws == ()
    found = judged(pair(*long[0], *long[1:], (ENGLISH, ENGLISH.replace("before winter", "in spring"))))[0]
    assert {"language", "copied"} <= set(found.flaws) and 0.1 < found.figures["language"] < 0.3


def test_figures_are_kept_whether_or_not_they_are_beyond_a_limit() -> None:
    found = judged(pair(ENGLISH, ITALIAN))[0].figures
    assert found["length"] == round(len(ITALIAN) / len(ENGLISH), 3)
    assert {"language", "copied", "repetition", "numbers", "markup", "characters", "leftover"} <= found.keys()


def test_limits_are_the_recipes() -> None:
    assert "length" in flaws(ENGLISH, ITALIAN, checks=Checks(length_ratio=[1.2, 2.0]))
    assert "copied" not in flaws(
        ENGLISH, "Il sindaco promised to repair the bridge before winter.", checks=Checks(copied_words=9)
    )


def test_the_length_ratio_is_the_target_languages_own_or_else_a_wide_one() -> None:
    basque = Language(
        tag="eu", name="Basque", autonym="euskara", script="Latn", words=str.split, length_ratio={"en": (0.7, 1.6)}
    )
    assert checking.length_ratio(Checks(), "en", basque) == (0.7, 1.6)
    assert checking.length_ratio(Checks(), "fi", basque) == checking.ANY_LENGTH
    assert checking.length_ratio(Checks(length_ratio=[0.5, 1.0]), "en", basque) == (0.5, 1.0)


def test_a_language_that_the_detector_lacks_is_not_taken_for_another() -> None:
    esperanto = Language(tag="eo", name="Esperanto", autonym="esperanto", script="Latn", words=str.split)
    target = "La urbestro promesis ripari la ponton antaŭ la vintro, sed neniu en la vilaĝo kredis lin."
    signals = checking.signals_of(Checks(), "en", esperanto)
    assert checking.examine([pair(ENGLISH, target)], signals)[0].flaws == ()
    assert "language" in checking.examine([pair(ENGLISH, ENGLISH)], signals)[0].flaws  # the source language is known


def test_frequent_words_of_a_known_source_language_count_as_left_over() -> None:
    english = Language(tag="en", name="English", autonym="English", script="Latn", words=str.split,
                       function_words=("the", "of", "in", "and", "to"))  # fmt: skip
    source, target = "the end of the war in the north and the south", "the fine of the guerra in the nord and the sud"
    assert "leftover" in flaws(source, target, known=english)
    assert "leftover" not in flaws(source, target)


def test_repetition_and_fluency_are_measured_in_the_languages_own_lower_case() -> None:
    turkish = Language(
        tag="tr", name="Turkish", autonym="Türkçe", script="Latn", words=str.split,
        lower=lambda text: text.replace("İ", "i").replace("I", "ı").lower(),
    )  # fmt: skip
    target = "İyi insan ılık ışık ister, iyi insan ılık ışık sever, iyi insan ılık ışık bekler."
    signals = [
        *checking.signals_of(Checks(), "en", turkish),
        checking.fluency(Checks(), ["İki kız ılık ışıkta sınırdan çıktı."], turkish),
    ]
    small, capital = checking.examine([pair(ENGLISH, target), pair(ENGLISH, turkish_capitals(target))], signals)
    for name in ("repetition", "fluency"):
        assert small.figures[name] == capital.figures[name]


def turkish_capitals(text: str) -> str:
    return text.replace("i", "İ").upper()


def test_wrong_checks_are_named_with_what_is_near() -> None:
    found = list(Checks(reject=["lenght"], length_ratio=[2.0, 1.0]).problems())
    assert [(place, hint) for place, _, hint in found] == [
        (("reject",), 'did you mean "length"?'), (("length_ratio",), "write it as [0.6, 1.8]"),
    ]  # fmt: skip


def test_a_character_model_gives_no_more_than_the_whole_of_probability() -> None:
    model = CharacterModel(["abracadabra", "la casa"])
    for context in ("abr", "la c", "zz"):
        before = model.bits(context) * len(context)
        chances = [2 ** (before - model.bits(context + c) * (len(context) + 1)) for c in "abcdlrs"]
        assert 0 < sum(chances) < 1  # what is missing to 1 is the space, and characters never seen
    assert model.bits("abracadabra") < model.bits("arbadacabra") < model.bits("zzzzzzzzzzz")
    assert model.bits("") == 0


def test_prose_of_the_language_is_likelier_than_another_or_word_salad() -> None:
    texts = [ITALIAN, "La mattina il porto si sveglia prima della città, e le barche tornano piene di pesce."] * 3
    measure = checking.fluency(Checks(), texts, registry().languages["it"]).measure
    good, foreign = measure([pair(ENGLISH, ITALIAN), pair(ENGLISH, ENGLISH)])
    assert good is not None and foreign is not None and good < 1 < foreign


def test_a_round_trip_is_measured_against_the_source() -> None:
    signal = checking.round_trip(
        Checks(), lambda texts: [ENGLISH if text == ITALIAN else "Nothing of the kind" for text in texts]
    )
    same, other, nothing = signal.measure(
        [pair(ENGLISH, ITALIAN), pair(ENGLISH, "altro"), Pair(source="1", target="1", prose=())]
    )
    assert same == 100 and other is not None and other < 30 and nothing is None


@needs_encoder
def test_another_meaning_is_found_whatever_its_language_and_length() -> None:
    signal = checking.adequacy(Checks())
    right, wrong, nothing = signal.measure(
        [
            pair(ENGLISH, ITALIAN),
            pair(ENGLISH, "Mescolare la farina con il lievito e lasciare riposare l'impasto."),
            pair("1", " "),
        ]
    )
    assert right is not None and right > 0.6 and not signal.flawed(right)
    assert wrong is not None and signal.flawed(wrong) and nothing is None


@needs_flores
@pytest.mark.slow
def test_peoples_translations_pass_and_exchanged_ones_do_not() -> None:
    english, italian = ((FLORES / f"dev.{tag}").read_text(encoding="utf-8").splitlines() for tag in ("en", "it"))
    language = registry().languages["it"]
    signals = checking.signals_of(Checks(), "en", language)
    if ENCODER:
        signals.append(checking.adequacy(Checks()))
    reject = set(Checks().reject) - {"numbers"}  # people write ten for 10; engines that do are asked again
    right = checking.examine([pair(*p) for p in zip(english, italian, strict=True)], signals)
    wrong = checking.examine([pair(*p) for p in zip(english, [*italian[1:], italian[0]], strict=True)], signals)
    left = checking.examine([pair(s, s) for s in english], signals)
    assert sum(bool(reject & set(v.flaws)) for v in right) <= 0.01 * len(right)
    assert sum("numbers" in v.flaws for v in right) <= 0.03 * len(right)
    assert sum(bool({"copied", "language"} & set(v.flaws)) for v in left) >= 0.99 * len(left)
    if ENCODER:
        assert sum("adequacy" in v.flaws for v in wrong) > 0.85 * len(wrong)


def test_every_signal_is_documented_with_what_it_finds_and_whether_it_rejects() -> None:
    text = (Path(__file__).parents[1] / "docs" / "translation.md").read_text(encoding="utf-8")
    table = text.split("<!-- signals -->\n")[1].split("\n\n")[0].splitlines()[2:]
    found = {
        cells[0].strip(" `"): (cells[1].strip(), cells[3].strip())
        for row in table
        if (cells := row.strip("|").split("|"))
    }
    rejects = Checks().reject
    assert found == {
        name: (says, "always" if name in (checking.EMPTY, checking.SPANS) else "yes" if name in rejects else "no")
        for name, says in checking.SAYS.items()
    }
