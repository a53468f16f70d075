"""tu and Lei are told apart where they are sure, and enclitics are found where they are written."""

from __future__ import annotations

import pytest

from langadapt_italian.address import address, enclitics
from langadapt_italian.corpora import SAMPLES


@pytest.mark.parametrize(
    ("text", "manner"),
    [
        ("Come posso aiutarti?", "familiar"),
        ("Scrivimi quando hai tempo.", "familiar"),
        ("Se vuoi, puoi provare con il tuo computer.", "familiar"),
        ("Dimmi che cosa ne pensi.", "familiar"),
        ("Posso portartelo domani.", "familiar"),
        ("Gentile signora, La ringrazio per la Sua lettera.", "polite"),
        ("Sono lieto di incontrarLa.", "polite"),
        ("Mi scusi, sa dov'è la stazione?", "polite"),
        ("Inserisca il codice e prema Invio.", "polite"),
        ("Se Lei preferisce, passo domani.", "polite"),
        ("Le scrivo per confermare.", "polite"),
        ("La ringrazio e ti saluto.", "mixed"),
        ("Il gatto dorme sul divano.", ""),
        ("Lei è partita ieri con suo fratello.", ""),
        ("I sei amici vengono dai monti; il te è freddo? No: il tè.", "familiar"),
        ("Sei libri, i rapporti, gli aeroporti e le controparti.", ""),
        ("Le leggi della fisica, i premi e i controlli.", ""),
        ("Fate clic su Modifica: vi serve il vostro nome.", ""),
        ("È bene che scriva e che legga.", ""),
        ("Gli rispose: «Tu non sai nulla».", ""),
        ("Il comando `ti` stampa.", ""),
        ("Da Sua Maestà e Sua Eccellenza.", ""),
    ],
)
def test_address(text: str, manner: str) -> None:
    assert address(text) == manner


@pytest.mark.parametrize(
    ("word", "verb", "clitics"),
    [
        ("dammelo", "da", ("me", "lo")),
        ("dimmi", "di", ("mi",)),
        ("Dimmelo", "Di", ("me", "lo")),
        ("digli", "di", ("gli",)),
        ("daglielo", "da", ("glie", "lo")),
        ("stacci", "sta", ("ci",)),
        ("parlargliene", "parlar", ("glie", "ne")),
        ("andarsene", "andar", ("se", "ne")),
        ("vederti", "veder", ("ti",)),
        ("facendolo", "facendo", ("lo",)),
        ("condurla", "condur", ("la",)),
        ("eccoci", "ecco", ("ci",)),
    ],
)
def test_enclitics_are_parted_from_their_verb(word: str, verb: str, clitics: tuple[str, ...]) -> None:
    assert enclitics(word) == (verb, clitics)


@pytest.mark.parametrize(
    "word",
    [
        "Carlo",
        "perla",
        "parla",
        "interne",
        "moderne",
        "concerti",
        "trasporti",
        "reparti",
        "dalla",
        "fatti",
        "gatto",
        "",
    ],
)
def test_words_that_only_look_so_stay_whole(word: str) -> None:
    assert enclitics(word) == (word, ())


def test_hardly_a_text_of_the_sample_has_both_manners() -> None:
    """Prose with letters, forums and recipes; a recipe that quotes a letter may have both."""
    import json

    manners = [address(json.loads(line)["text"]) for line in (SAMPLES / "prose.jsonl").open(encoding="utf-8")]
    assert manners.count("mixed") <= len(manners) / 50
    assert {"familiar", "polite", ""} <= set(manners)
