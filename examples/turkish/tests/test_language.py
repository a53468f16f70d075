"""What the record of Turkish promises: its capitals, its words, and what its texts are measured by."""

from __future__ import annotations

import json

import pytest

from langadapt import Document
from langadapt.plugins import registry
from langadapt_turkish import corpora, language, spelling
from langadapt_turkish.language import FUNCTION_WORDS, TURKISH, lower, words

PROSE = [
    json.loads(line)["text"]
    for name in ("prose", "encyclopedia", "measured")
    for line in (corpora.SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
]


# --- capitals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capitals", "small"),
    [
        ("ISI", "ısı"),
        ("İYİ", "iyi"),
        ("IŞIK İÇİNDE", "ışık içinde"),
        ("I\u0307stanbul", "istanbul"),
        ("ÇĞÖŞÜ", "çğöşü"),
    ],
)
def test_small_letters_are_those_of_turkish(capitals: str, small: str) -> None:
    assert lower(capitals) == small and lower(small) == small
    assert TURKISH.lower(capitals) == small


def test_python_alone_gets_turkish_wrong() -> None:
    assert "ISI".lower() == "isi" and len("İ".lower()) == 2


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("İstanbul'da, Ankara’dan.", ["İstanbul'da", ",", "Ankara’dan", "."]),
        ("TBMM'nin 1923'te", ["TBMM'nin", "1923'te"]),
        ("Geliyor musun?", ["Geliyor", "musun", "?"]),
        ("Saat 12.30'da, %20'si", ["Saat", "12.30'da", ",", "%", "20'si"]),
        ("1.234,56 lira 5'inci kez", ["1.234,56", "lira", "5'inci", "kez"]),
        ("19. yüzyıl, 3 Mayıs 1915.", ["19", ".", "yüzyıl", ",", "3", "Mayıs", "1915", "."]),
        ("T.C.'nin M.Ö. 300", ["T.C.'nin", "M.Ö.", "300"]),
        ("Türk-Yunan ve/veya", ["Türk", "-", "Yunan", "ve", "/", "veya"]),
        ("'Kitap' dedi… “Peki!”", ["'", "Kitap", "'", "dedi", "…", "“", "Peki", "!", "”"]),
        ("kâğıt, hâlâ...", ["kâğıt", ",", "hâlâ", "..."]),
        ("a@b.com.tr, https://x.tr/a?b=c.", ["a@b.com.tr", ",", "https://x.tr/a?b=c", "."]),
        ("Çekoslovakyalılaştıramadıklarımızdan mısınız", ["Çekoslovakyalılaştıramadıklarımızdan", "mısınız"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize("text", PROSE[::7])
def test_words_found_piece_by_piece_are_the_text_without_its_blanks(text: str) -> None:
    assert words(text) == language._WORD.findall(text)
    assert "".join(words(text)) == "".join(text.split())


# --- what texts are measured by ---------------------------------------------------------------------------------------


def test_function_words_are_words_and_hold_in_nearly_every_text() -> None:
    assert [words(word) for word in FUNCTION_WORDS] == [[word] for word in FUNCTION_WORDS]
    held = [len({*words(text)} & {*FUNCTION_WORDS}) for text in PROSE]
    assert min(held) >= 2


@pytest.mark.parametrize("name", ["fineweb2", "gopher-quality", "gopher-repetition"])
def test_prose_passes_the_quality_rules(name: str) -> None:
    step = registry().filters[name]
    judge = step.make(step.values(TURKISH), TURKISH)
    reasons = [left for text in PROSE if isinstance(left := judge(Document(id="x", text=text)), str)]
    assert len(reasons) <= 0.02 * len(PROSE), reasons


def test_the_defaults_made_for_english_throw_good_turkish_away() -> None:
    """Why the language brings thresholds of its own; if this fails, it need not."""
    step = registry().filters["gopher-quality"]
    judge = step.make(step.options, TURKISH)
    reasons = [judge(Document(id="x", text=text)) for text in PROSE]
    assert reasons.count("too few words with a letter") > 0.2 * len(PROSE)


def test_thresholds_name_options_that_steps_have() -> None:
    filters = registry().filters
    for name, values in TURKISH.thresholds.items():
        assert {*values} <= {*filters[name].options}


@pytest.mark.parametrize(
    ("line", "goes"),
    [
        ("TÜM HAKLARI SAKLIDIR © 2024", True),
        ("Tüm Hakları Saklıdır", True),
        ("ÇEREZ POLİTİKASI | GİZLİLİK POLİTİKASI | İLETİŞİM", True),
        ("Sitemizde çerezler kullanılmaktadır. Tümünü kabul et", True),
        ("Twitter’da paylaş", True),
        ("Çerez, bir sitenin tarayıcıya bıraktığı küçük bir metin dosyasıdır ve kendi başına zararsızdır.", False),
        ("Müdür, “Üye ol demekle kimse üye olmuyor, önce kapıyı açık tutacaksınız,” diye yakınıyordu.", False),
    ],
)
def test_notices_of_turkish_pages_are_known(line: str, goes: bool) -> None:
    boilerplate = registry().filters["boilerplate"]
    step = boilerplate.make(boilerplate.options, TURKISH)
    body = "Sayfanın asıl metni budur ve burada biter."
    left = step(Document(id="x", text=f"{body}\n{line}"))
    assert isinstance(left, Document) and left.text == (body if goes else f"{body}\n{line}")


def test_phrases_of_boilerplate_are_as_the_step_compares_them() -> None:
    assert all(phrase == lower(phrase).strip().replace("’", "'") for phrase in TURKISH.boilerplate)
    assert len({*TURKISH.boilerplate}) == len(TURKISH.boilerplate) > 80


def test_translations_keep_to_the_length_ratio() -> None:
    least, most = TURKISH.length_ratio["en"]
    for name in ("parallel", "translation"):
        for line in (corpora.SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert least <= len(row["tr"]) / len(row["en"]) <= most, row


# --- relatives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Mən dünən bazara getdim, alma və armud aldım, sonra evə qayıtdım.", "az"),
        ("Qırımnıñ tabiatı, halqnıñ tili ve onıñ evleri.", "crh"),
        ("Türkmenistanyň paýtagty Aşgabat şäheridir. Ýurduň ilaty köpelýär.", "tk"),
        ("Bizim kasabada hepsi evdä, babamêr da bän da annatmaa başladım.", "gag"),
        ("Schäfer, Žižek ve Ştefan Bükreş'te buluştu; akşam da birlikte yemek yediler.", ""),
        ("x = query(q) işlevi, w ile x değerlerini döndürür.", ""),
        ("", ""),
    ],
)
def test_relatives_are_told_by_their_letters(text: str, tag: str) -> None:
    assert TURKISH.tell_apart is not None and TURKISH.tell_apart(text) == tag


def test_no_line_of_turkish_is_taken_for_a_relative() -> None:
    assert TURKISH.tell_apart is not None
    assert {TURKISH.tell_apart(line) for text in PROSE for line in text.split("\n")} == {""}


# --- address ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "manner"),
    [
        ("Bu akşam bize geliyor musun?", "familiar"),
        ("SANA BİR ŞEY SÖYLEYECEĞİM.", "familiar"),
        ("İstersen yarın gidebilirsin.", "familiar"),
        ("Nereye gideceksiniz?", "polite"),
        ("Size yardım edebilir miyim?", "polite"),
        ("Siz beklerken sana bir çay getireyim.", "mixed"),
        ("Evin kapısı açıktı, gelin içeri girdi.", ""),
        ("Gelsin, otursun, denizi seyretsin.", ""),
    ],
)
def test_address(text: str, manner: str) -> None:
    assert TURKISH.address is not None and TURKISH.address(text) == manner


# --- letters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("Ýstanbul'da baþka bir yaðmur, ýlýk ve aðýr.", "İstanbul'da başka bir yağmur, ılık ve ağır."),
        ("Guðmundur, İzlanda'dan geldi.", "Guðmundur, İzlanda'dan geldi."),  # its ð is meant: there is an İ
        ("i̇yi ki İzmir'deyiz", "iyi ki İzmir'deyiz"),
        ("Eskișehir", "Eskişehir"),
        ("Ankara`da, İzmir´de, Van‘da, 5ʼte", "Ankara'da, İzmir'de, Van'da, 5'te"),
        ("`ls`de ve `cd` komutunda", "`ls`de ve `cd` komutunda"),
        ("‘Kitap’ dedi", "‘Kitap’ dedi"),
    ],
)
def test_letters_are_mended(text: str, mended: str) -> None:
    step = spelling.LETTERS.make(spelling.LETTERS.options, TURKISH)
    outcome = step(Document(id="x", text=text))
    assert isinstance(outcome, Document) and outcome.text == mended
    assert step(outcome) == outcome


@pytest.mark.parametrize(
    ("text", "kept"),
    [("Bugun hava cok guzel, disari cikalim. " * 9, False), ("Bugun hava", True), ("Bugün hava güzel. " * 20, True)],
)
def test_long_texts_without_a_letter_of_their_own_are_dropped(text: str, kept: bool) -> None:
    outcome = spelling.LETTERS.make(spelling.LETTERS.options, TURKISH)(Document(id="x", text=text))
    assert isinstance(outcome, Document) if kept else outcome == "no Turkish letter"


def test_good_text_is_left_as_it_is() -> None:
    step = spelling.LETTERS.make(spelling.LETTERS.options, TURKISH)
    for text in PROSE:
        assert step(Document(id="x", text=text)) == Document(id="x", text=text)
