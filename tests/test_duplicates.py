"""Duplicates are found word for word or nearly: never too many, as many as the settings promise, in little memory."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import struct
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from conftest import HEAD, STAGE
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from langadapt import Recipe, RecipeError
from langadapt.corpus import duplicates
from langadapt.corpus.duplicates import NearSeen, Seen, signer, word_hashes
from langadapt.corpus.preparing import Accounting, Source, clean
from langadapt.inputs import find_input
from langadapt.plugins import registry
from langadapt.recipe import CorpusRef, NearDuplicates
from langadapt.schema import recipe_schema
from langadapt_italian.corpora import SAMPLES

REAL = Path(__file__).parents[2] / "shared" / "data" / "text"
DANTE = "Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura, ché la diritta via era smarrita."


# --- what was there before --------------------------------------------------------------------------------------------

words_of_few = st.integers(0, 3)  # so that they repeat, 0 among them
digests = st.builds(lambda first, second: struct.pack("<QQ", first, second), words_of_few, words_of_few)


@given(st.lists(digests))
def test_a_digest_is_new_exactly_once(given_digests):
    seen, model = Seen(), set()
    for digest in given_digests:
        assert seen.add(digest) == (digest not in model)
        model.add(digest)


@pytest.mark.parametrize("high", [0, 0x7FFFFFFF_FFFFF000, 0xFFFFFFFF_FFF80000], ids=["first", "middle", "last"])
def test_digests_that_all_want_the_same_place_are_told_apart_while_the_table_grows(high):
    crowd = [struct.pack("<QQ", high + 64 * (i // 2 + 1), i % 2) for i in range(3000)]
    random.Random(1).shuffle(crowd)
    seen = Seen()
    assert all([seen.add(digest) for digest in crowd])
    assert not any([seen.add(digest) for digest in crowd])


def test_a_hundred_thousand_digests_cost_a_third_of_a_set_of_bytes():
    chance, seen = random.Random(2), Seen()
    some = [chance.randbytes(16) for _ in range(100_000)]
    assert all([seen.add(digest) for digest in some])
    assert not any([seen.add(digest) for digest in some])
    assert 100_000 * 16 < seen.nbytes < 100_000 * 28
    assert seen.nbytes < (sys.getsizeof(set(some)) + sum(map(sys.getsizeof, some))) / 3


@given(st.lists(st.lists(st.integers(0, 12), min_size=0, max_size=4)))
def test_a_signature_is_new_when_none_of_its_bands_was_kept_before(signatures):
    seen, kept = NearSeen(), set()
    for bands in signatures:
        new = kept.isdisjoint(bands)
        assert seen.add(struct.pack(f"<{len(bands)}Q", *bands)) == new
        if new:
            kept.update(bands)


def test_a_repeated_text_hands_no_bands_on():
    seen = NearSeen()
    first, between, last = struct.pack("<2Q", 1, 2), struct.pack("<2Q", 2, 3), struct.pack("<2Q", 3, 4)
    assert [seen.add(signature) for signature in (first, between, last)] == [True, False, True]


def test_bands_cost_at_most_fourteen_bytes_each():
    chance, seen = random.Random(3), NearSeen()
    some = [chance.randbytes(14 * 8) for _ in range(20_000)]
    assert all([seen.add(signature) for signature in some])
    assert not any([seen.add(signature) for signature in some])
    assert seen.nbytes < 20_000 * 14 * 14


# --- what words are ---------------------------------------------------------------------------------------------------


@given(st.text(st.sampled_from("abcABCàÀèÈùßž019 '’.,;-_\n\t«»¡…🙂½"), max_size=60))
def test_words_are_the_runs_of_letters_and_digits_in_lower_case(text):
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())
    hashes = word_hashes(text).tolist()
    assert len(hashes) == len(words)
    assert len(set(zip(hashes, words, strict=True))) == len(set(hashes)) == len(set(words))


def test_no_two_words_of_real_text_have_the_same_hash():
    texts = [json.loads(line)["text"] for line in (SAMPLES / "prose.jsonl").open(encoding="utf-8")]
    words = {word for text in texts for word in re.findall(r"[^\W_]+", text.lower())}
    assert len(words) > 5000
    assert len({tuple(word_hashes(word).tolist()) for word in words}) == len(words)


def test_a_word_has_its_hash_wherever_it_stands_in_a_text_of_any_length():
    """Texts are taken in pieces: a piece's end may cut one word, and changes no other."""
    text = ", ".join(f"parola{i % 7}" for i in range(20_000))
    hashes = word_hashes(text).tolist()
    assert set(hashes[:7]) < set(hashes)
    assert sum(h not in hashes[:7] for h in hashes) <= 2 * (len(text) // duplicates.PIECE)
    assert hashes[:7] == [int(word_hashes(f"PAROLA{i}")[0]) for i in range(7)]


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        DANTE.upper(),
        unicodedata.normalize("NFD", DANTE),
        DANTE.replace(" ", "\n  ").replace(",", " —"),
        f"«{DANTE}» 🙂❤️",
        DANTE.replace("mezzo", "ｍｅｚｚｏ"),
    ],
    ids=["capitals", "NFD", "blanks and marks", "quoted", "wide letters"],
)
def test_writing_it_otherwise_makes_no_other_text(other):
    sign = signer(NearDuplicates())
    assert sign(other) == sign(DANTE)


def test_turkish_capitals_make_no_other_text():
    sign = signer(NearDuplicates())
    assert sign("Kapının ışığı ILIK bir İzmir akşamında yandı.") == sign(
        "KAPININ IŞIĞI ılık BİR İZMİR AKŞAMINDA YANDI."
    )


def test_a_figure_makes_another_text():
    sign = signer(NearDuplicates())
    assert sign("alle 10 di sera") != sign("alle 11 di sera")


def test_a_text_shorter_than_a_run_is_compared_as_a_whole():
    sign, seen = signer(NearDuplicates()), NearSeen()
    assert [seen.add(sign(text)) for text in ("Sì, grazie.", "sì grazie", "no grazie", "grazie sì", "Sì.", "Sì, sì.")] == [
        True, False, True, True, True, True,
    ]  # fmt: skip


def test_texts_without_a_word_are_left_to_the_exact_comparison():
    sign, seen = signer(NearDuplicates()), NearSeen()
    assert [sign(text) for text in ("", "…?!", "🙂", "❤️", "☀️")] == [b""] * 5
    assert seen.add(b"") and seen.add(b"")


def test_in_scripts_without_blanks_letters_are_compared():
    sign = signer(NearDuplicates())
    text = "人生の道の半ばで、私は正しい道を失い、暗い森の中にいることに気がついた。それは恐ろしい荒れ野だった。" * 2
    other = (
        "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で泣いていた。" * 2
    )
    seen = NearSeen()
    assert [seen.add(sign(t)) for t in (text, text + "完", other)] == [True, False, True]


def test_settings_that_differ_never_meet():
    seen = NearSeen()
    for options in (
        NearDuplicates(),
        NearDuplicates(ngram=4),
        NearDuplicates(rows=7),
        NearDuplicates(bands=3),
    ):
        assert len(signer(options)(DANTE)) == 8 * options.bands
        assert seen.add(signer(options)(DANTE))
        assert not seen.add(signer(options)(DANTE))


GOLDEN = "9ed826a44d613c6caab2c06ee6c7afe7da63a4f4e17f223b"


def test_a_signature_stays_what_it_is():
    """If this fails because signing has changed, raise the version: shards in users' caches hold signatures."""
    assert NearDuplicates.version == 2
    assert signer(NearDuplicates(bands=3))(DANTE).hex() == GOLDEN


def test_a_signature_is_the_same_in_every_process():
    code = (
        "from langadapt.corpus.duplicates import signer\nfrom langadapt.recipe import NearDuplicates\n"
        f"print(signer(NearDuplicates())({DANTE!r}).hex())"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert made == {signer(NearDuplicates())(DANTE).hex()}


def pair(shared: int, own: int, start: int) -> tuple[str, str]:
    """Two texts with so many words in common, and so many of their own each; with runs of 1 word, Jaccard is known."""
    common = [f"w{start + i}" for i in range(shared)]
    return tuple(" ".join([*common, *(f"{side}{start + i}" for i in range(own))]) for side in "xy")  # type: ignore[return-value]


@pytest.mark.parametrize(("shared", "own"), [(50, 75), (100, 50), (150, 25), (4000, 1000)])
def test_the_share_of_equal_values_is_the_share_of_common_runs(shared, own):
    """MinHash's own law: 60 pairs with 256 single values each, against the binomial distribution."""
    sign = signer(NearDuplicates(ngram=1, bands=256, rows=1))
    equal = 0
    for number in range(60):
        one, other = (struct.unpack("<256Q", sign(text)) for text in pair(shared, own, 10_000 * number))
        equal += sum(a == b for a, b in zip(one, other, strict=True))
    assert equal in _likely(60 * 256, shared / (shared + 2 * own))


@pytest.mark.parametrize(
    "options", [NearDuplicates(ngram=1), NearDuplicates(ngram=1, bands=20, rows=5)], ids=["14×8", "20×5"]
)
@pytest.mark.parametrize("shared", [90, 120, 140, 160, 180])
def test_pairs_are_found_as_often_as_the_curve_says(options, shared):
    sign, pairs, found = signer(options), 400, 0
    for number in range(pairs):
        seen = NearSeen()
        one, other = pair(shared, (200 - shared) // 2, 1000 * number)
        found += seen.add(sign(one)) and not seen.add(sign(other))
    assert found in _likely(pairs, options.found(shared / 200))


def _likely(number: int, chance: float) -> range:
    """Counts that all but one in a hundred thousand experiments give."""
    low, high = binom.interval(1 - 1e-5, number, chance)
    return range(int(low), int(high) + 1)


# --- planted in real text ---------------------------------------------------------------------------------------------

HEADER = (
    "Questo sito usa i cookie per funzionare meglio: continuando la lettura ne accetti l'uso. Home Notizie Contatti"
)
FOOTER = "Tutti i diritti riservati. Condividi l'articolo con gli amici e iscriviti alla nostra newsletter settimanale."


def samples() -> list[str]:
    return [json.loads(line)["text"] for line in (SAMPLES / "prose.jsonl").open(encoding="utf-8")]


def real() -> list[str]:
    with gzip.open(REAL / "libreoffice-help.it.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def passages(texts: list[str], words: int) -> list[str]:
    parts = [re.findall(r"\S+\s*", text) for text in texts]
    return ["".join(p[i : i + words]) for p in parts for i in range(0, len(p) - words + 1, words)]


def edited(text: str, share: float, chance: random.Random, vocabulary: list[str]) -> str:
    words = text.split(" ")
    for place in chance.sample(range(len(words)), round(share * len(words))):
        words[place] = chance.choice(vocabulary)
    return " ".join(words)


def copies(text: str, chance: random.Random, vocabulary: list[str]) -> dict[str, str]:
    return {
        "exact": text,
        "capitals": text.upper(),
        "boilerplate": f"{HEADER}\n{text}\n{FOOTER}",
        **{f"{p} %": edited(text, p / 100, chance, vocabulary) for p in (2, 5, 10)},
    }


def share(one: str, other: str) -> float:
    """Jaccard's index of the 5-word runs, counted one by one."""
    a, b = runs_of(one), runs_of(other)
    return len(a & b) / len(a | b)


def runs_of(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    return set(zip(*(words[k:] for k in range(5)), strict=False))


OF_TEXTS = pytest.mark.parametrize(
    "texts",
    [samples, pytest.param(real, marks=pytest.mark.skipif(not REAL.is_dir(), reason="no real texts at hand"))],
    ids=["samples", "real text"],
)


@OF_TEXTS
def test_planted_copies_are_found(texts):
    originals = passages(texts(), 300)[:250]
    assert len(originals) >= 100
    chance, sign, vocabulary = random.Random(5), signer(NearDuplicates()), " ".join(originals).split(" ")
    found, expected = Counter(), Counter()
    for text in originals:
        for kind, copy in copies(text, chance, vocabulary).items():
            seen = NearSeen()
            found[kind] += (seen.add(sign(text)) and not seen.add(sign(copy))) / len(originals)
            expected[kind] += NearDuplicates().found(share(text, copy)) / len(originals)
    assert found["exact"] == found["capitals"] == pytest.approx(1)
    assert found["boilerplate"] > 0.95
    assert found["2 %"] > 0.95
    assert found["10 %"] < 0.3, "texts with a tenth of their words replaced are other texts"
    assert found == pytest.approx(expected, abs=0.1)


@OF_TEXTS
def test_what_is_dropped_is_much_like_something_that_stayed(texts):
    originals = passages(texts(), 100)[:2000]
    chance, sign, vocabulary = random.Random(6), signer(NearDuplicates()), " ".join(originals).split(" ")
    mixed = [*originals, *(edited(text, 0.03, chance, vocabulary) for text in originals[::3])]
    chance.shuffle(mixed)
    seen, kept, likeness = NearSeen(), defaultdict(list), []
    for text in mixed:
        runs = runs_of(text)
        if seen.add(sign(text)):
            for run in runs:
                kept[run].append(runs)
        else:
            candidates = {id(other): other for run in runs for other in kept[run]}
            likeness.append(max((len(runs & other) / len(runs | other) for other in candidates.values()), default=0))
    assert len(likeness) > 0.7 * len(originals) / 3
    assert min(likeness) > 0.3
    assert sum(found >= 0.5 for found in likeness) > 0.98 * len(likeness)


# --- in a corpus ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def crawl(write: Callable[..., Path]) -> Path:
    """A text, its word-for-word copy, a copy with another header and footer, a short one twice, and another text."""
    text, other = passages(samples(), 300)[:2]
    texts = [text, text, f"{HEADER}\n{text}\n{FOOTER}", "Sì, grazie.", "sì grazie", other]
    return write("crawl.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in texts))


def source_of(corpus: Path, deduplicate: object) -> Source:
    entry = CorpusRef.model_validate({"path": str(corpus), "deduplicate": deduplicate})
    return find_input(entry, registry(), language="it", data={}, rehearsal=False, pinned={}).source()


@pytest.mark.parametrize(
    ("deduplicate", "dropped"),
    [
        ("none", {}),
        ("exact", {"exact duplicate": 1}),
        ("near", {"exact duplicate": 1, "near duplicate": 2}),
        ({"bands": 1, "rows": 64}, {"exact duplicate": 1, "near duplicate": 1}),
    ],
    ids=["none", "exact", "near", "only the same words"],
)
def test_an_entry_says_which_copies_go_and_all_are_counted(crawl, deduplicate, dropped):
    accounting = Accounting()
    kept = list(clean(source_of(crawl, deduplicate), accounting))
    accounting.check()
    assert accounting.documents.dropped == dropped
    assert accounting.documents.kept == len(kept) == 6 - sum(dropped.values())


def test_corpora_are_compared_with_each_other_the_first_stays(crawl):
    seen, near, accounting = Seen(), NearSeen(), Accounting()
    first, again = (list(clean(source_of(crawl, "near"), accounting, seen, near)) for _ in range(2))
    assert [document.id[-1] for _, document in first] == ["1", "4", "6"]
    assert again == []
    assert list(clean(source_of(crawl, "exact"), accounting, seen, near)) == []
    assert len(list(clean(source_of(crawl, "none"), accounting, seen, near))) == 6


def test_what_goes_is_part_of_a_stages_digest(write, crawl, model_folder, tmp_path):
    def ingredients(deduplicate: str) -> dict[str, object]:
        text = HEAD.replace("someone/model", str(model_folder))
        corpus = f'corpus = [{{ path = "{crawl}", deduplicate = {deduplicate} }}]'
        path = write("trial.toml", text + STAGE.replace('corpus = ["dolly-it"]', corpus))
        return next(s.ingredients for s in Recipe.load(path).plan(tmp_path / "run").stages if s.id == "adapt")

    exact, near, none, other, same = map(
        ingredients, ('"exact"', '"near"', '"none"', "{ bands = 15 }", "{ ngram = 5 }")
    )
    assert near == same
    assert all(one != two for one, two in combinations((exact, near, none, other), 2))


# --- what the recipe says ---------------------------------------------------------------------------------------------


def ref(value: object) -> CorpusRef:
    return CorpusRef.model_validate({"name": "dolly-it", "deduplicate": value})


def test_near_stands_for_fineweb_2s_settings():
    assert ref("near").near == ref({}).near == NearDuplicates(ngram=5, bands=14, rows=8)
    assert ref({"bands": 20, "rows": 5}).near == NearDuplicates(ngram=5, bands=20, rows=5)
    assert ref("exact").near is ref("none").near is CorpusRef(name="dolly-it").near is None
    assert CorpusRef(name="dolly-it").deduplicate == "exact"


def test_the_settings_say_what_they_find():
    assert NearDuplicates().threshold == pytest.approx(0.719, abs=0.0005)
    assert NearDuplicates().found(0.8) == pytest.approx(1 - (1 - 0.8**8) ** 14) == pytest.approx(0.924, abs=0.0005)
    assert NearDuplicates().explain() == (
        "texts that share about 72% of their runs of 5 words "
        "(14 bands of 8 values find 5% at 50%, 21% at 60%, 56% at 70%, 92% at 80%, 100% at 90%)"
    )


def load(write: Callable[..., Path], deduplicate: str) -> Recipe:
    corpus = f'corpus = [{{ name = "dolly-it", deduplicate = {deduplicate} }}]'
    return Recipe.load(write("trial.toml", HEAD + STAGE.replace('corpus = ["dolly-it"]', corpus)))


@pytest.mark.parametrize(
    ("written", "key", "message", "hint"),
    [
        ('"nearly"', "", "Input should be 'exact', 'near' or 'none'", ""),
        ("true", "", "Input should be 'exact', 'near' or 'none'", ""),
        ("{ band = 3 }", ".band", "unknown key", 'did you mean "bands"?'),
        ("{ bands = 0 }", ".bands", "Input should be greater than or equal to 1", ""),
        ("{ rows = 2.5 }", ".rows", "2.5 is not of type int", ""),
    ],
)
def test_a_slip_is_one_problem_with_its_place(write, written, key, message, hint):
    with pytest.raises(RecipeError) as error:
        load(write, written)
    (problem,) = error.value.problems
    assert problem.key == f"adapt.corpus.0.deduplicate{key}"
    assert problem.where.endswith(":9")
    assert (problem.message, problem.hint) == (message, hint)


def test_a_filled_recipe_says_the_settings_and_means_the_same(write):
    filled = load(write, '"near"').to_toml()
    assert "bands = 14" in filled
    again = Recipe.load(write("filled.toml", filled))
    assert next(s for s in again.stages if s.id == "adapt").options.corpus[0].near == NearDuplicates()
    assert 'deduplicate = "exact"' in load(write, '"exact"').to_toml()


def test_editors_know_the_words_and_the_table():
    said = json.dumps(recipe_schema()["definitions"]["CorpusRef"]["properties"]["deduplicate"])
    assert all(word in said for word in ("exact", "near", "none", "NearDuplicates"))
