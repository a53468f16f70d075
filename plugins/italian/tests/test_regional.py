"""Regional languages are told apart from Italian, and Italian is never taken for one of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langadapt_italian import regional
from langadapt_italian.corpora import SAMPLES
from langadapt_italian.regional import tell_apart

REAL = Path(__file__).parents[3].parent / "shared" / "data"

# Written for this test.
SENTENCES = {
    "sc": "Custu est unu contu de unu pitzinnu chi bivet in bidda cun sos mannos suos e cheret imparare sa limba sarda.",
    "fur": "La int di chest paîs e fevele ancjemò la lenghe dai vons e lis feminis a cjantin cuant che a van tal cjamp.",
    "co": "Issu ghjornu u zitellu hè andatu incù u so babbu à piglià l'acqua à a funtana è ùn hà vistu nimu.",
    "lij": "O mæ amigo o l'é anæto into porto pe vedde e barche, ma o no gh'é ciù nisciun e o l'é tornòu a-a seu casa.",
    "vec": "El fio de me fradeo el ga catà na bea morosa e deso i xe drio sercar casa, ma no i ghe ne trova gnanca una.",
    "nap": "Chillo guaglione nun tene genio 'e faticà, e 'a mamma soja nun sape cchiù che ce ha da dicere 'a sera.",
    "scn": "Me frati nun vulìa iri a la scola, ma me matri ci dissi ca senza sapiri leggiri nun si po fari nenti di bonu.",
    "lmo": "El mè nònno l'era on òmm che 'l gh'aveva minga pagura de nagott, e anca adess tucc se regorden de lù.",
    "pms": "Mè grand a l'é nassù ant un cit pais ëd montagna e a l'ha sempe parlà piemontèis con soa famija.",
}
ITALIAN = [
    "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti.",
    "Il sindaco di Su Nuraxi parla sardo: «Sa limba est sa nostra», dice, e il pubblico della piazza applaude.",
    "Nel 2010 la Northern Rock è stata divisa; Hong Kong, Buenos Aires e Las Vegas ospitano le altre sedi.",
    "Ci vediamo a est del ponte, alle sei; porta con te un po' di pane, l'acqua e i libri che ti ho dato.",
    "O mangi questa minestra o salti dalla finestra, diceva 'o zio di Napoli quando non avevo fame.",
    "",
    "2 * pi",
]


@pytest.mark.parametrize(("tag", "sentence"), SENTENCES.items())
def test_a_sentence_in_a_regional_language_is_named(tag: str, sentence: str) -> None:
    assert tell_apart(sentence) == tag


@pytest.mark.parametrize("text", ITALIAN)
def test_italian_stays_italian_whatever_it_quotes(text: str) -> None:
    assert tell_apart(text) == ""


MIXED = st.lists(
    st.sampled_from([*" ".join([*SENTENCES.values(), *ITALIAN]).split(), "Las", "VEGAS", "sos,", "(unu", "dell’unu"]),
    max_size=40,
).map(" ".join)


@given(MIXED)
def test_the_quick_look_settles_only_what_the_long_one_would(text: str) -> None:
    assert tell_apart(text) == (_tell_apart_slowly(text) if text else "")


@given(st.text(st.sampled_from("abcdeghijlmnoprstuvzxùàèâêïłöḍœ-"), min_size=1, max_size=9))
@example("zzi")
def test_a_word_that_is_spelt_like_a_relative_is_looked_at(word: str) -> None:
    spelt = any(pattern.search(word) for pattern in regional._SPELT.values())
    assert regional._STRANGE.search(word) or not spelt


def _tell_apart_slowly(text: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regional, "_may_be_regional", lambda lowered: True)
        return tell_apart(text)


def test_every_text_of_the_samples_is_italian() -> None:
    texts = [json.loads(line)["text"] for line in (SAMPLES / "prose.jsonl").open(encoding="utf-8")]
    assert [t for t in texts if tell_apart(t)] == []


@pytest.mark.skipif(not REAL.is_dir(), reason="no real texts at hand")
def test_real_italian_is_kept() -> None:
    lines = (REAL / "flores" / "dev.it").read_text(encoding="utf-8").splitlines()
    with gzip.open(REAL / "text" / "libreoffice-help.it.jsonl.gz", "rt", encoding="utf-8") as file:
        lines += [json.loads(line)["text"] for line in file]
    assert [line for line in lines if tell_apart(line)] == []
