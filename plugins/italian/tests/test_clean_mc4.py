"""The rules of clean_mc4_it, one by one, and its figures on real text."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from langadapt import Document, Message
from langadapt_italian.cleaning import CLEAN_MC4_IT, sentences

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "text"
BODY = "\n".join(
    f"Questa è la frase numero {n} di un testo lungo abbastanza, scritta per la prova e per altro." for n in range(6)
)


def outcome(text: str, **options: object) -> str:
    step = CLEAN_MC4_IT.make({**CLEAN_MC4_IT.options, **options}, None)
    left = step(Document(id="x", text=text))
    return f"[{left}]" if isinstance(left, str) else left.text


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("Una riga come tante.", "Una riga come tante."),
        ("   Una riga rientrata.  ", "Una riga rientrata."),
        ("Come si sa.[1][2] Già detto.[citation needed]", "Come si sa. Già detto."),
        ("Come si sa. [1]", ""),
        ("Voce[edit] di un'enciclopedia[] libera.", "Voce di un'enciclopedia libera."),
        ("Disse «così e così»", ""),
        ("E poi niente…", ""),
        ("E poi niente...", ""),
        ("Due parole.", ""),
        ("Attiva Javascript nel browser.", ""),
        ("Leggi l’Informativa sulla Privacy completa.", ""),
        ("Accetta le condizioni d’uso del sito.", ""),
        ("This site uses cookies to work.", ""),
        ("Una parola " + "a" * 1001 + ".", ""),
    ],
)
def test_lines(line: str, left: str) -> None:
    assert outcome(f"{BODY}\n{line}") == f"{BODY}\n{left}".strip()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{BODY}\nUna graffa {'{'} nel testo.", "[curly bracket]"),
        (f"{BODY}\nUna graffa {'{'}", BODY),
        (f"{BODY}\nLorem Ipsum dolor sit amet.", "[lorem ipsum]"),
        ("\n".join(BODY.split("\n")[:4]), "[too few sentences]"),
        ("Una frase di prova.\n" * 25, "[too short]"),  # 499 characters
        ("Una frase di prova.\n" * 24 + "Una frase di prova!!", "[kept]"),  # 500
        ("Una frase di prova.\n" * 2500 + "x", "[kept]"),  # 49 999
        ("Una frase di prova.\n" * 2501, "[too long]"),
    ],
)
def test_documents(text: str, left: str) -> None:
    got = outcome(text)
    assert got.startswith("Una frase") if left == "[kept]" else got == left, got[:80]


def test_the_corrected_profile_keeps_the_ends_of_lines_that_italian_has() -> None:
    lines = [
        "Disse «così e così»",
        "Disse “così e così”",
        "E poi più niente…",
        "E poi più niente...",
        "Le cose sono tre:",
    ]
    assert outcome("\n".join([BODY, *lines])) == BODY
    assert outcome("\n".join([BODY, *lines]), end_marks='.?!"»”…:') == "\n".join([BODY, *lines])


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("Il dott. Rossi e l'avv. Bianchi, pag. 3, arrivano.", 1), ("Arriva il sig. G. Verdi. Finalmente!", 2),
        ("Costa 3.50 euro. Poco.", 2), ("Che dire… niente. Fine", 2), ("«Vai!» Andò. «Bene?»", 3), ("senza segni", 1),
        ("Pane, latte, ecc. Poi basta.", 2),
    ],
)  # fmt: skip
def test_sentences(line: str, number: int) -> None:
    assert sentences(line) == number


def test_dialogues_pass() -> None:
    dialogue = Document(id="d", messages=(Message(role="user", content="{"),))
    assert CLEAN_MC4_IT.make(CLEAN_MC4_IT.options, None)(dialogue) is dialogue


@pytest.mark.skipif(not REAL.is_dir(), reason="no real texts at hand")
def test_figures_on_real_text() -> None:
    step = CLEAN_MC4_IT.make(CLEAN_MC4_IT.options, None)
    counts: Counter[str] = Counter()
    for name in ("debian-reference", "libreoffice-help"):
        with gzip.open(REAL / f"{name}.it.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                left = step(Document(id="x", text=json.loads(line)["text"]))
                counts[left if isinstance(left, str) else "kept"] += 1
    assert counts == {"kept": 1791, "too few sentences": 564, "too short": 173, "curly bracket": 28}
