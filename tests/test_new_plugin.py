"""`langadapt new-plugin` writes a plugin that passes every check and can be rehearsed, or nothing at all."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import textwrap
import tomllib
import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_conformance import own_path

from langadapt import Recipe
from langadapt.cli import cli
from langadapt.corpus.preparing import Accounting, clean
from langadapt.corpus.reading import read_documents
from langadapt.errors import UserError
from langadapt.new_plugin import Wish, write
from langadapt.plugin_samples import DOCUMENT, LEAST, MOST, Sample, Writing, _instruction, _pair, sample_of
from langadapt.testing.conformance import conform
from langadapt.testing.finding import find
from langadapt.testing.models import shape_alone

PYTHON = [sys.executable, "-m", "langadapt"]

# Sentences of parts whose numbers have no common divisor, so that neighbours share none and no sentence comes twice.
SUBJECTS = (
    "Der Bäcker", "Die Lehrerin", "Mein Nachbar", "Das alte Schiff", "Ihre Schwester", "Der kleine Hund", "Die Köchin",
    "Ein Fremder", "Unser Arzt", "Die Gärtnerin", "Der Wind", "Das Kind", "Eine Katze",
)  # fmt: skip
VERBS = ("wartet", "arbeitet", "schläft", "singt", "ruht", "bleibt", "lacht", "schweigt", "sitzt", "friert", "träumt")
PLACES = (
    "am Ufer", "hinter dem Haus", "auf dem Markt", "neben der Mühle", "in der Stadt", "unter den Bäumen", "vor dem Tor",
    "im Garten", "an der Brücke", "zwischen zwei Feldern", "über dem Tal", "bei den Ziegen", "im Keller", "auf der Treppe",
    "gegenüber der Schule", "am Brunnen", "im Schatten",
)  # fmt: skip
ENDS = (
    "bis der Regen nachlässt", "wenn alle gehen", "ohne ein Wort", "obwohl es kalt wird", "weil niemand fragt",
    "und zählt die Wolken", "seit dem frühen Morgen", "trotz der Müdigkeit", "als wäre nichts geschehen", "mit einem Korb",
    "und denkt an gestern", "während die Glocken läuten", "fast jeden Abend", "so lange es geht", "und hofft auf Post",
    "wie im letzten Jahr", "aus reiner Freude", "damit es still bleibt", "kurz vor der Ernte", "bei offenem Fenster",
    "nach einer langen Reise", "und niemand weiß warum", "zum ersten Mal",
)  # fmt: skip


def sentences(number: int = 420) -> list[str]:
    parts = (SUBJECTS, VERBS, PLACES, ENDS)
    chosen = ([part[n % len(part)] for part in parts] for n in range(number))
    return [f"{subject} {verb} {place}, {end}." for subject, verb, place, end in chosen]


@pytest.fixture
def german(tmp_path: Path) -> Path:
    """A text, hard-wrapped as a person may have it."""
    file = tmp_path / "text.txt"
    file.write_text(textwrap.fill(" ".join(sentences()), 80), encoding="utf-8")
    return file


def wish(**fields) -> Wish:
    return Wish(**{"plugin": "german", "language": "de", "name": "German", "autonym": "Deutsch"} | fields)


def sample(text: Path, *, language: str = "de", script: str = "Latn") -> tuple[Sample, list[str]]:
    """What is made of a text, and what is said of it."""
    said: list[str] = []
    return sample_of(text, language=language, script=script, say=said.append), said


def test_a_plugin_of_an_authors_text_passes_every_check(german: Path, tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(text=german, licence="CC0-1.0"), folder)
    with own_path():
        (subject,) = find(folder)
        result = conform(subject)
    assert [str(fault) for fault in result.faults] == []
    assert not [case for case in result.left_out if "sample" in case], "the text's language and script are checked"
    assert result.checked > 90


def test_a_plugin_without_a_text_passes_too_and_says_that_its_samples_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(), folder)
    with own_path():
        (subject,) = find(folder)
        result = conform(subject)
    assert [str(fault) for fault in result.faults] == []
    reasons = {reason for case, reason in result.left_out.items() if case.startswith("corpus-sample-language")}
    assert reasons == {"the sample is a placeholder (zxx): put text in de in its place"}


def test_its_own_tests_pass_and_its_code_is_formatted(tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-swiss-german"
    write(wish(plugin="swiss-german", language="gsw"), folder)
    site = tmp_path / "site" / "langadapt_swiss_german-0.1.0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: langadapt-swiss-german\nVersion: 0.1.0\nRequires-Dist: langadapt>=0.1\n"
    )
    (site / "entry_points.txt").write_text("[langadapt]\nswiss-german = langadapt_swiss_german\n")
    path = f"{site.parent}:{folder / 'src'}"
    done = python("pytest", "-q", "-p", "no:cacheprovider", "tests", folder=folder, path=path)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout and "failed" not in done.stdout
    for arguments in (("check",), ("format", "--check")):
        done = python("ruff", *arguments, "--no-cache", ".", folder=folder)
        assert done.returncode == 0, done.stdout


def python(module: str, *arguments: str, folder: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    known = os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"PYTHONPATH": f"{path}:{known}" if path else known, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


@pytest.mark.nightly
def test_it_is_rehearsed(german: Path, tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(text=german), folder)
    with own_path():
        find(folder)
        run = Recipe.load("german/small").rehearse().execute(tmp_path / "run")
    assert run.state["status"] == "done"
    pairs = [row for row in run.rows if row["task"] == "german-word-order" and row["metric"] == "acc"]
    assert pairs and all(row["value"] is not None for row in pairs)


def test_a_corpus_that_a_hook_forgets_is_named_with_the_plugin_and_the_evaluation(tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(), folder)
    hooks = folder / "src/langadapt_german/__init__.py"
    hooks.write_text(hooks.read_text().replace("corpora.CORPORA", "corpora.CORPORA[:2]"))
    with own_path():
        find(folder)
        with pytest.raises(UserError) as error:
            Recipe.load("german/small").rehearse().plan()
    said = 'the evaluation "german-word-order" reads the corpus "german-word-order", which nobody offers'
    assert said in str(error.value) and "langadapt check-plugin german" in str(error.value)


# --- what is made of a text ---


def test_a_text_is_cut_into_samples_that_have_no_sentence_in_common(german: Path) -> None:
    made, said = sample(german)
    known = set(sentences())
    prose = [s for row in made.prose for s in split(row["text"])]
    asked = [s for row in made.instructions for s in split(f"{row['instruction']} {row['output']}")]
    right = [row["text"] for row in made.pairs]
    assert set(prose) | set(asked) | set(right) <= known
    assert not set(prose) & set(asked) and not set(prose) & set(right) and not set(asked) & set(right)
    assert all(len(row["text"].split()) >= 30 for row in made.prose)
    assert said == []


@pytest.mark.parametrize("border", ["\n\n", "\n"], ids=["blank lines", "lines"])
def test_an_instruction_and_its_answer_are_of_one_paragraph(border: str, german: Path) -> None:
    """Paragraphs of three sentences, so that most documents of four reach over a border."""
    of = {sentence: number // 3 for number, sentence in enumerate(sentences())}
    parts = [" ".join(sentences()[at : at + 3]) for at in range(0, len(of), 3)]
    german.write_text(border.join(parts), encoding="utf-8")
    made, said = sample(german)
    assert len(made.instructions) > 20 and said == []
    for row in made.instructions:
        found = [of[s] for s in split(f"{row['instruction']} {row['output']}")]
        assert len(found) > 1 and len(set(found)) == 1, row


def test_a_sentence_that_is_a_paragraph_is_cut_between_words(german: Path) -> None:
    german.write_text("\n\n".join(sentences()), encoding="utf-8")
    made, _ = sample(german)
    assert all(f"{row['instruction']} {row['output']}" in sentences() for row in made.instructions)


def test_an_instruction_of_short_lines_has_an_answer() -> None:
    lines = ["Ja!", "Nein!", "Doch!", "Nie!"]
    row = _instruction(lines, {line: number for number, line in enumerate(lines)}, Writing("Latn"))
    assert (row["instruction"], row["output"]) == ("Ja! Nein!", "Doch! Nie!")


def split(text: str) -> list[str]:
    return [f"{part.strip()}." for part in text.split(".") if part.strip()]


def test_pairs_differ_in_the_order_of_two_words_alone(german: Path) -> None:
    pairs = sample(german)[0].pairs
    assert len(pairs) > 20
    for row in pairs:
        right, wrong = row["text"].split(), row["wrong"].split()
        places = [n for n, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b]
        assert len(places) == 2 and places[1] == places[0] + 1
        assert (right[places[0]], right[places[1]]) == (wrong[places[1]], wrong[places[0]])


@pytest.mark.parametrize(
    ("sentence", "wrong"),
    [
        ("Elle part, dit-on, sans un mot.", "Elle part, dit-on, un sans mot."),
        ("Il a plu : le pont est fermé.", "Il a plu : pont le est fermé."),
        ("Demain, peut-être, demain, jamais.", None),
    ],
)
def test_words_with_a_mark_at_them_are_not_changed_over(sentence: str, wrong: str | None) -> None:
    pair = _pair(sentence, Writing("Latn"))
    assert (pair and pair["wrong"]) == wrong


def test_function_words_and_thresholds_are_those_of_the_text(german: Path) -> None:
    made, _ = sample(german)
    assert {"der", "die", "dem"} <= set(made.function_words)
    text = " ".join(row["text"] for row in made.prose)
    letters = [w.strip(",.") for w in text.split()]
    mean = sum(map(len, letters)) / len(letters)
    assert made.thresholds["min_word_length"] < 0.75 * mean and made.thresholds["max_word_length"] > 1.25 * mean
    assert made.thresholds["end_punctuation"] == 0.12


def test_the_filter_of_the_recipe_keeps_the_sample(german: Path, tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(text=german), folder)
    with own_path():
        (subject,) = find(folder)
        step = subject.known.filters["fineweb2"]
        made = step.make({**step.options, "min_words": 20}, subject.language)
        outcomes = [made(d) for d in read_documents(str(subject.known.corpora["german-wikipedia"].sample))]
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == []


def test_the_command_of_the_readme_keeps_the_sample_without_the_hub(german: Path, tmp_path: Path) -> None:
    folder = tmp_path / "langadapt-german"
    write(wish(text=german), folder)
    (command,) = re.findall(r"`langadapt (corpus stats [^`]*)`", (folder / "README.md").read_text())
    with own_path():
        find(folder)
        done = CliRunner().invoke(cli, [*command.split(), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["where"] == "sample" and told["before"]["documents"] == told["after"]["documents"] > 20


# Words to draw from, by language: script, what ends a sentence, words. Whoever reads it finds no sense and every letter.
SCRIPTS = {
    "el": ("Grek", ".", """
        ο ψαράς η δασκάλα το παιδί και γιαγιά κοιμάται δίπλα στο ποτάμι πίσω από σπίτι κάτω δέντρα όταν φυσά βοριάς
        χωρίς λέξη στην αυλή μέχρι βράδυ κρύο θάλασσα βουνό ψωμί νερό φίλος δρόμος παράθυρο χέρι γράμμα νύχτα
        """),
    "hi": ("Deva", "।", """
        मछुआरे बच्चे पड़ोसी किसान नदी के किनारे घर पीछे पेड़ों नीचे शहर बाहर हर सुबह बिना कुछ कहे ठंड शाम होने तक
        पुराने दिनों को याद बारिश रुकने बाद गाते हैं सोते काम करते हँसते और पानी रोटी मित्र सड़क खिड़की हाथ चिट्ठी रात
        """),
    "ar": ("Arab", ".", """
        ينتظر الصياد قرب النهر حتى المساء المعلم الطفل الجار يغني خلف البيت تحت الأشجار على أطراف المدينة أمام الباب
        فوق التل في الحديقة البحر دون كلمة رغم برد الشتاء كل صباح سلة صغيرة وهو يفكر عندما تهب الريح خبز ماء صديق
        """),
    "th": ("Thai", "", """
        มา ไป กิน นอน บ้าน แม่ พ่อ ลูก น้ำ ปลา ข้าว ดี มาก ไม่ ใน ที่ และ ของ วัน คืน ฝน ลม ฟ้า ดิน ไฟ รัก เดิน ทาง ตา
        มือ ใจ คน เด็ก หมา แมว นก ไม้ ดู พูด ฟัง
        """),
    "zh": ("Hans", "。", """
        渔夫 老师 孩子 邻居 奶奶 等待 唱歌 睡觉 工作 大笑 河边 屋后 树下 城外 门前 山上 花园 海边 直到 晚上 什么 也
        不说 虽然 天气 很冷 因为 没有人 问 像 每天 早晨 提着 篮子 想起 昨天 面包 水 朋友 窗户 信 夜里
        """),
    "tr": ("Latn", ".", """
        balıkçı öğretmen çocuk komşu nine bekliyor şarkı söylüyor uyuyor çalışıyor gülüyor ırmağın kıyısında evin
        arkasında ağaçların altında şehrin dışında akşama kadar hiçbir şey demeden soğuk olsa da kimse sormadığı için
        her sabah elinde sepet dünü düşünerek ekmek su ışık iyi insan
        """),
}  # fmt: skip


def drawn(language: str) -> str:
    script, end, words = SCRIPTS[language]
    draw, unspaced = random.Random(0), script in ("Thai", "Hans")
    joined, between = ("", "" if script == "Hans" else " ") if unspaced else (" ", " ")
    drawn_words = (joined.join(draw.choices(words.split(), k=draw.randint(9, 13))) for _ in range(300))
    small = {"i": "İ", "ı": "I"}
    return between.join(f"{small.get(text[0], text[0].upper())}{text[1:]}{end}" for text in drawn_words)


@pytest.mark.parametrize("language", SCRIPTS)
def test_a_plugin_for_any_script_passes_every_check(language: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(drawn(language), encoding="utf-8")
    folder, said = tmp_path / "plugin", []
    asked = wish(plugin="own", language=language, script=SCRIPTS[language][0], text=tmp_path / "text.txt")
    write(asked, folder, say=said.append)
    assert said == []
    with own_path():
        (subject,) = find(folder)
        result = conform(subject)
        lower = subject.language.lower("ISI İZ")
    assert [str(fault) for fault in result.faults] == []
    assert not [case for case in result.left_out if case.startswith("corpus-sample")], "language and script are checked"
    assert lower == ("ısı iz" if language == "tr" else "isi i̇z")


def test_letters_are_words_where_there_are_no_blanks(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(drawn("zh"), encoding="utf-8")
    made, _ = sample(tmp_path / "text.txt", language="zh", script="Hans")
    assert len(made.prose) >= 15 and all(" " not in row["text"] for row in made.prose)
    assert made.thresholds["max_word_length"] < 2


def test_blanks_between_phrases_stay_where_words_have_none(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(drawn("th"), encoding="utf-8")
    made, _ = sample(tmp_path / "text.txt", language="th", script="Thai")
    phrases = set(drawn("th").split(" "))
    assert all(phrase in phrases for row in made.prose for phrase in row["text"].split(" "))
    assert all(" " not in row["text"] and unicodedata.category(row["wrong"][0])[0] == "L" for row in made.pairs)


def test_line_ends_do_not_matter(german: Path) -> None:
    made, _ = sample(german)
    german.write_bytes(german.read_bytes().replace(b"\n", b"\r\n"))
    assert sample(german)[0] == made


def test_a_text_of_one_line_without_marks_is_cut_and_thinned(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    draw = random.Random(0)
    file.write_text(" ".join(draw.choices(re.findall(r"\w+", " ".join(sentences())), k=160_000)), encoding="utf-8")
    assert b"\n" not in file.read_bytes() and file.stat().st_size > 900_000
    made, said = sample(file)
    assert said == [f"{file}: one in 4 of its 4,000 documents is taken, because a sample is small"]
    assert len(made.prose) == MOST * 3 // 5 and len(made.pairs) > MOST // 5 * 1.9
    assert {len(row["text"].split()) for row in made.prose} == {DOCUMENT}


@pytest.mark.parametrize(
    ("every", "least"), [(2, 0.0), (50, 0.12)], ids=["verse in between", "a heading here and there"]
)
def test_the_filter_keeps_a_sample_of_which_a_part_ends_without_marks(german: Path, every: int, least: float) -> None:
    """A document of the sample is one line, which `end_punctuation` keeps or drops."""
    marked = [s if n % (4 * every) < 4 * (every - 1) else s[:-1] for n, s in enumerate(sentences())]
    german.write_text("\n\n".join(marked), encoding="utf-8")
    made, _ = sample(german)
    assert made.thresholds["end_punctuation"] == least
    assert all(row["text"].endswith(".") for row in made.prose) == bool(least) and len(made.prose) > 40


@pytest.mark.parametrize("script", ["Hani", "Thai"])
def test_a_placeholder_for_a_script_without_blanks_passes_too(script: str, tmp_path: Path) -> None:
    write(wish(plugin="own", language="qab", script=script), tmp_path / "plugin")
    with own_path():
        (subject,) = find(tmp_path / "plugin")
        assert [str(fault) for fault in conform(subject).faults] == []


# --- texts that repeat themselves ---


def lost_to_decontamination(folder: Path, place: Path) -> int:
    """Documents of a plugin's samples that its rehearsal would not learn from because it measures on them."""
    with own_path():
        find(folder)
        model = shape_alone(place / "model")
        plan = Recipe.load("german/small", [f"rehearsal.base_model={model}"]).rehearse().plan(place / "run")
        accounting = Accounting()
        for found in (found for stage in plan.stages if stage.trains for found in stage.inputs):
            assert found.screen, "it is looked for"
            assert list(clean(found.source(), accounting))
    return sum(number for reason, number in accounting.documents.dropped.items() if reason.startswith("contaminated"))


def test_a_text_that_repeats_itself_is_taken_once_and_nothing_is_lost_in_a_rehearsal(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    again = sentences(300) + sentences(299)[::-1] + sentences(200)
    file.write_text(" ".join(again), encoding="utf-8")
    folder, said = tmp_path / "plugin", []
    write(wish(text=file), folder, say=said.append)
    assert said == [f"{file}: 499 of its 799 sentences repeat others and are left out"]
    assert lost_to_decontamination(folder, tmp_path) == 0


def test_sentences_to_measure_on_that_are_nearly_those_of_other_documents_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    first = sentences(300)
    file.write_text(" ".join([*first, *(f"Ja, {s[0].lower()}{s[1:]}" for s in first[:150])]), encoding="utf-8")
    folder, said = tmp_path / "plugin", []
    write(wish(text=file), folder, say=said.append)
    assert len(said) == 1 and said[0].endswith("to measure on are nearly the same as others and are left out")
    assert lost_to_decontamination(folder, tmp_path) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" ".join(sentences(60) * 20), "words that do not repeat what came before make 1"),
        (
            " ".join(f"{word}, {s}" for word in ("Ja", "Nein", "Doch", "Nun") for s in sentences(120)),
            "sentences to measure on 0 are",
        ),
    ],
    ids=["the same again and again", "nearly the same"],
)
def test_a_text_of_which_too_little_is_left_is_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        write(wish(text=file), tmp_path / "plugin")
    assert str(error.value).startswith(f"{file}: ") and said in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["text.txt"]


def test_a_text_that_looks_like_another_language_is_told(german: Path) -> None:
    assert sample(german, language="eu")[1] == [f'{german} looks like "de", and the plugin is for "eu"']


# --- refusals ---


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"plugin": "ba sque"}, '"ba sque" cannot be part of a distribution\'s name'),
        ({"plugin": "Basque"}, "cannot be part of a distribution's name"),
        ({"plugin": "basque.small"}, "cannot be part of a distribution's name"),
        ({"plugin": "../basque"}, "cannot be part of a distribution's name"),
        ({"language": "german"}, '"german" is no BCP-47 tag'),
        ({"language": "zz"}, '"zz" has a code that is not registered'),
        ({"language": "ell"}, '"ell" is written "el"'),
        ({"language": "rum-Latn"}, '"rum-Latn" is written "ro-Latn"'),
        ({"source_language": "English"}, '"English" is no BCP-47 tag'),
        ({"language": "en"}, "the language and the source language are both en"),
        ({"script": "Latin"}, '"Latin" is no ISO 15924 code'),
        ({"language": "it"}, "italian (langadapt-italian"),
        ({"plugin": "italian", "language": "scn"}, "there is a plugin italian (langadapt-italian"),
        ({"plugin": "core"}, "there is a plugin core (langadapt"),
        ({"plugin": "bäsque"}, "cannot be part of a distribution's name"),
        ({"plugin": ""}, "cannot be part of a distribution's name"),
        ({"name": 'Bas"que'}, "cannot be the name of a language"),
        ({"autonym": "eus\nkara"}, "cannot be the name of a language"),
        ({"autonym": "eus\\kara"}, "cannot be the name of a language"),
        ({"name": " "}, "cannot be the name of a language"),
        ({"text": Path("no-such-file.txt")}, "no-such-file.txt cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(fields: dict, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "place" / "plugin"
    with pytest.raises(UserError) as error:
        write(wish(**fields), folder)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"Ein Satz.\n", "are needed"),
        (b"", ": 0 words make 0 documents"),
        (b"?! ... 1, 2, 3. " * 1000, ": 0 words make 0 documents"),
        (b"Gr\xfc\xdfe", "is not UTF-8 (byte 2)"),
        (" ".join(sentences()).encode("utf-16"), "is not UTF-8 (byte 0)"),
        ("Ein Satz. ".encode("utf-16-le"), "has NUL characters"),
        (bytes(range(256)), "is not UTF-8"),
        ("Ο ψαράς κοιμάται. ".encode() * 100, "0% of the letters of"),
    ],
)
def test_a_text_that_is_too_short_or_no_text_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        write(wish(text=file), tmp_path / "plugin")
    assert said in str(error.value) and str(file) in str(error.value)
    assert not (tmp_path / "plugin").exists()


def test_a_text_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        write(wish(text=tmp_path), tmp_path / "plugin")


def test_a_text_in_another_script_is_refused_with_the_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(drawn("el"), encoding="utf-8")
    with pytest.raises(UserError, match="are Latn, most are Greek; say by --script which it is in"):
        sample(tmp_path / "text.txt", language="el")


def test_names_that_mean_something_to_python_or_to_templates_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "plugin"
    write(wish(plugin="2-class", name="Côte d'Ivoire {{ x }} #1", autonym="ਪੰਜਾਬੀ 'x'"), folder)
    with own_path():
        (subject,) = find(folder)
        assert [str(fault) for fault in conform(subject).faults] == []


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; say another one with --folder"):
        write(wish(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"plugin cannot be written: .*; say another place"):
        write(wish(), tmp_path / "file" / "plugin")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    files = write(wish(), tmp_path)
    assert all(file.is_file() for file in files) and (tmp_path / "pyproject.toml") in files


# --- the command ---


def test_the_command_writes_what_its_options_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "new-plugin", "basque", "--language", "eu", "--autonym", "euskara"],
        capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pip install --editable langadapt-basque" in done.stdout
    project = tomllib.loads((tmp_path / "langadapt-basque" / "pyproject.toml").read_text())["project"]
    assert project["name"] == "langadapt-basque" and project["dependencies"] == ["langadapt>=0.1", "regex"]
    rows = (tmp_path / "langadapt-basque/src/langadapt_basque/samples/prose.jsonl").read_text().splitlines()
    assert len(rows) >= LEAST // 2 and all(json.loads(row)["text"] for row in rows)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["langadapt-basque"]


def test_the_command_fills_the_folder_that_it_is_called_in(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "new-plugin", "basque", "--language", "eu", "--folder", "."],
        capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "pyproject.toml", "src", "tests"]


def test_the_command_says_what_it_left_out(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(" ".join(sentences(300) * 2), encoding="utf-8")
    done = subprocess.run(
        [*PYTHON, "new-plugin", "german", "--language", "de", "--text", "text.txt"],
        capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "text.txt: 300 of its 600 sentences repeat others and are left out\n"


def test_the_command_asks_for_nothing_where_nobody_can_answer(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "new-plugin", "basque"], capture_output=True, text=True, cwd=tmp_path, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr
        == "langadapt: nobody can be asked here which language it is for; say it by its BCP-47 tag: --language eu\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_command_asks_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langadapt.commands import new_plugin as command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "on_terminal", lambda: True)
    answers = "eu\nBasque\neuskara\n\n\n\n"
    done = CliRunner().invoke(command.new_plugin, ["basque"], input=answers)
    assert done.exit_code == 0, done.output
    assert 'autonym="euskara"' in (tmp_path / "langadapt-basque/src/langadapt_basque/language.py").read_text()


def test_an_answer_that_cannot_be_is_asked_again_with_the_reason(
    german: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langadapt.commands import new_plugin as command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "on_terminal", lambda: True)
    (tmp_path / "short.txt").write_text("Ein Satz.")
    answers = [
        "german", "it", "de", 'Ger"man', "German", "Deutsch", "Latin", "Latn", "English", "de", "en",
        "no-such-file.txt", "short.txt", german.name,
    ]  # fmt: skip
    done = CliRunner().invoke(command.new_plugin, ["german"], input="\n".join([*answers, ""]))
    assert done.exit_code == 0, done.output
    reasons = [line.removeprefix("Error: ") for line in done.output.splitlines() if line.startswith("Error: ")]
    said = (
        '"german" is no BCP-47 tag', "italian (", '"Ger\\"man" cannot be the name', '"Latin" is no ISO 15924 code',
        '"English" is no BCP-47 tag', "both de", "no-such-file.txt cannot be read", "short.txt: 3 words make 0 documents",
    )  # fmt: skip
    assert len(reasons) == len(said) and all(part in reason for part, reason in zip(said, reasons, strict=True)), (
        reasons
    )
    module = tmp_path / "langadapt-german/src/langadapt_german"
    assert 'autonym="Deutsch"' in (module / "language.py").read_text()
    assert "Lorem" not in (module / "samples/prose.jsonl").read_text()


def test_a_plugin_that_cannot_be_is_refused_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langadapt.commands import new_plugin as command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "on_terminal", lambda: True)
    (tmp_path / "langadapt-basque").mkdir()
    (tmp_path / "langadapt-basque" / "mine.txt").write_text("mine")
    for name, reason in (
        ("Basque", "cannot be part of a distribution's name"),
        ("basque", "is not empty; say another"),
    ):
        done = CliRunner().invoke(command.new_plugin, [name], input="")
        assert isinstance(done.exception, UserError) and reason in str(done.exception) and done.output == ""
