"""`langadapt tokenizer report`: measures are what their papers say, and advice follows from what was measured."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from langadapt import cli
from langadapt.corpus.sampling import Sample
from langadapt.models import ModelShape
from langadapt.plugins import registry
from langadapt.records import Document
from langadapt.testing import TEXTS, tiny_model
from langadapt.tokenizer import measuring
from langadapt.tokenizer.advising import CAUGHT_UP, EVIDENCE, Advice, advise, costs
from langadapt.tokenizer.checking import Changes
from langadapt.tokenizer.measuring import Counts, by_domain, count, figures, parity, renyi_efficiency, single_tokens
from langadapt.tokenizer.predicting import Prediction, Size, extender, knee, predict, preview, saving, split
from langadapt.tokenizer.reporting import sampled

MERGES = [("l", "a"), ("c", "a"), ("s", "a"), ("ca", "sa"), ("Ġ", "casa")]
LINE = "la casa la cosa"  # la | Ġcasa | Ġ la | Ġ c o sa: 8 tokens


def fast(backend: Tokenizer, **special: str) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def byte_level() -> Any:
    """A tokenizer of bytes with five merges."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]
    backend = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return fast(backend)


def sentencepiece() -> Any:
    """A tokenizer as Llama 2 has one: a space is put before the text, and bytes stand for what it lacks."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "l", "a", "m", "la", "▁la", "ma", "▁ma"]
    merges = [("l", "a"), ("▁", "la"), ("▁", "ma"), ("m", "a")]
    backend = Tokenizer(
        models.BPE({token: id for id, token in enumerate(tokens)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return fast(backend, unk_token="<unk>")


def counted(tokenizer: Any, *texts: str) -> Counts:
    return count(tokenizer, [(text, text.split()) for text in texts])


# --- measures ---------------------------------------------------------------------------------------------------------


def test_measures_of_a_line_are_those_counted_by_hand() -> None:
    tokenizer = byte_level()
    found = figures(tokenizer, counted(tokenizer, LINE))
    assert (found.texts, found.bytes, found.words, found.tokens) == (1, 15, 4, 8)
    assert found.fertility == 2 and found.continued_words == 0.25, "cosa alone is in pieces"
    assert found.bytes_per_token == found.characters_per_token == 15 / 8
    assert found.single_token_bare == pytest.approx(2 / 3), "la and casa"
    assert found.single_token_spaced == pytest.approx(1 / 3), "casa alone"
    assert found.vocabulary_used == 6 / 261 and found.unknown == 0
    assert found.renyi_efficiency == pytest.approx(0.2959, abs=5e-5), "la and the space twice, four others once"


def test_characters_are_no_bytes() -> None:
    tokenizer = byte_level()
    found = figures(tokenizer, counted(tokenizer, "è"))
    assert (found.bytes_per_token, found.characters_per_token) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("counts", "vocabulary", "alpha", "efficiency"),
    [
        ({1: 5, 2: 5}, 2, 2.5, 1.0),  # even over all that there is
        ({1: 5, 2: 5}, 4, 2.5, 0.5),
        ({1: 7}, 8, 2.5, 0.0),
        ({1: 1, 2: 1, 3: 2}, 16, 2.0, -math.log2(6 / 16) / 4),
    ],
)
def test_renyi_efficiency_by_hand(counts: dict[int, int], vocabulary: int, alpha: float, efficiency: float) -> None:
    assert renyi_efficiency(counts, vocabulary, alpha=alpha) == pytest.approx(efficiency)


def test_a_word_is_bare_at_the_beginning_of_a_line_with_every_kind_of_tokenizer() -> None:
    assert single_tokens(byte_level(), ["la", "casa", "cosa"]) == (2, 1)
    assert single_tokens(sentencepiece(), ["la", "ma", "al"]) == (2, 2), "not the space that is put before a text"


def test_line_ends_that_are_normalised_away_do_not_count() -> None:
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "la": 1, "casa": 2}, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace("\n", " ")
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    assert single_tokens(fast(backend, unk_token="<unk>"), ["la", "casa"]) == (2, 2)


def test_fertility_is_not_given_where_much_is_unknown() -> None:
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "la": 1, "casa": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = fast(backend, unk_token="<unk>")
    known = figures(tokenizer, counted(tokenizer, "la casa " * 9 + "ohi"))
    assert known.unknown == pytest.approx(3 / 75) and known.fertility == 1.0
    strange = figures(tokenizer, counted(tokenizer, "la casa sul lago"))
    assert strange.unknown == pytest.approx(7 / 16) and strange.fertility is None


def test_all_domains_together_are_ratios_of_totals() -> None:
    tokenizer = byte_level()
    found = by_domain(tokenizer, {"a": [("la", ["la"])], "b": [(LINE, LINE.split())] * 3})
    assert list(found) == ["a", "b", "all"] and found["all"].texts == 4
    assert found["all"].fertility == (1 + 3 * 8) / (1 + 3 * 4)
    assert list(by_domain(tokenizer, {"a": [("la", ["la"])]})) == ["a"]


def test_nothing_is_divided_by_nothing() -> None:
    tokenizer = byte_level()
    found = figures(tokenizer, Counts())
    assert found.fertility is found.renyi_efficiency is found.bytes_per_token is found.single_token_bare is None


def test_parity_is_the_ratio_of_tokens_on_the_same_text() -> None:
    found = parity(byte_level(), [("la casa", "sa"), ("cosa", "ca")])
    assert (found.rows, found.tokens, found.source_tokens, found.ratio) == (2, 2 + 3, 2, 2.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tokenizers") / "tiny", tie_word_embeddings=False)


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    return fast(Tokenizer.from_file(str(model / "tokenizer.json")))


def test_figures_agree_with_glotscope(tokenizer: Any) -> None:
    glotscope = pytest.importorskip("glotscope", reason="glotscope 0.1.0 is not installed")
    from glotscope.aggregate import aggregate_documents, aggregate_words
    from glotscope.metrics import parity as their_parity
    from glotscope.metrics import renyi_efficiency_from_counts

    texts = [" ".join(TEXTS[n % 3].split()[n:]) for n in range(9)]
    ours = figures(tokenizer, counted(tokenizer, *texts))
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    documents = aggregate_documents(ids, list(map(len, texts)), [len(text.encode()) for text in texts])
    compression = glotscope.compression.compression(
        documents, unit_lengths=documents.per_document_tokens, language="it"
    )
    assert ours.bytes_per_token == pytest.approx(compression.bpt)
    assert ours.characters_per_token == pytest.approx(compression.cpt)
    renyi = renyi_efficiency_from_counts(
        documents.type_counts, alpha=2.5, normalizer="nominal", nominal_vocab_size=len(tokenizer)
    )
    assert ours.renyi_efficiency == pytest.approx(renyi.value)
    words = sorted({word for text in texts for word in text.split() if any(map(str.isalpha, word))})
    bare, spaced = (
        aggregate_words([tokenizer(before + word, add_special_tokens=False)["input_ids"] for word in words])
        for before in ("", " ")
    )
    retained = glotscope.strr.strr(bare, spaced, language="it", lowercased=False)
    assert ours.single_token_bare == pytest.approx(retained.bare)
    assert ours.single_token_spaced == pytest.approx(retained.leading_space)
    pairs = list(zip(texts, reversed(texts), strict=True))
    lengths = {
        "it": [len(tokenizer(a, add_special_tokens=False)["input_ids"]) for a, _ in pairs],
        "en": [len(tokenizer(b, add_special_tokens=False)["input_ids"]) for _, b in pairs],
    }
    assert parity(tokenizer, pairs).ratio == pytest.approx(their_parity(lengths, reference="en").per_language["it"])


# --- predictions ------------------------------------------------------------------------------------------------------


def size(new: int, tokens: int, **more: Any) -> Size:
    made = {"saved": 1 - tokens / 1000, "error": 0.001, "used": 0.9, "seen_after": 1e6}
    return Size(new=new, tokens=tokens, **(made | more))


def test_the_knee_is_where_a_thousand_tokens_save_less_than_a_hundredth() -> None:
    rising = [size(1000, 900), size(2000, 860), size(4000, 840), size(8000, 830)]
    assert knee(1000, rising) == rising[2], "840 / 860 in two thousands is 1.2 % each; 830 / 840 in four is 0.3 %"
    assert knee(1000, [size(500, 996)]) is None and knee(1000, []) is None


def test_the_error_of_a_saving_is_that_of_a_ratio() -> None:
    random = np.random.default_rng(0)
    before = random.integers(50, 150, 400)
    after = np.round(before * random.uniform(0.5, 0.9, 400)).astype(int)
    saved, error = saving(before, after)
    drawn = [random.integers(0, 400, 400) for _ in range(2000)]
    resampled = [1 - after[i].sum() / before[i].sum() for i in drawn]
    assert saved == pytest.approx(1 - after.sum() / before.sum())
    assert error == pytest.approx(np.std(resampled), rel=0.1)
    assert saving(before[:1], after[:1])[1] == math.inf


@pytest.fixture(scope="module")
def prose() -> list[str]:
    lines = registry().corpora["clean-mc4-it"].sample.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines][:36]


def test_texts_to_count_on_are_not_learnt_from(prose: list[str]) -> None:
    training, held_out = split([*prose, *prose])
    assert not set(training) & set(held_out) and set(training) | set(held_out) == set(prose)
    some, rest = split(prose, most=1000)
    assert rest == held_out[: len(rest)] and 1000 <= sum(len(text.encode()) for text in some) < 20_000


def test_of_a_sample_by_hash_no_more_is_held_out_than_of_all() -> None:
    documents = [Document(id=str(n), text=f"Documento numero {n}.") for n in range(2000)]
    sample = [document.text for document in Sample(documents, 200)]
    training, held_out = split(sample)
    assert len(training) + len(held_out) == 200 and 20 <= len(held_out) <= 60


def test_a_prediction_is_what_extending_does(tokenizer: Any, prose: list[str]) -> None:
    base = tokenizer.backend_tokenizer
    training, held_out = split(prose)
    words = sum(len(text.split()) for text in held_out)
    found = predict(
        base, training=training, held_out=held_out, words=words, extend=extender(base, training), source=[TEXTS[1]],
        sizes=(50, 200, 10**6),
    )  # fmt: skip
    extended = extender(base, training)(200)
    assert extended.get_vocab_size() == base.get_vocab_size() + 200
    after = sum(len(extended.encode(text).ids) for text in held_out)
    assert found.tokens == sum(len(base.encode(text).ids) for text in held_out)
    assert found.sizes[1].tokens == after and found.sizes[1].saved == 1 - after / found.tokens > 0.1
    assert [s.new for s in found.sizes[:2]] == [50, 200] and 200 < found.sizes[2].new < 10**6, "what the text has"
    ids = Counter(id for text in training for id in extended.encode(text).ids)
    new = sorted(ids[id] for id in range(base.get_vocab_size(), extended.get_vocab_size()))
    assert found.sizes[1].seen_after == pytest.approx(100 * ids.total() / new[len(new) // 10 - 1], rel=0.05)
    assert found.sizes[0].source and found.sizes[0].source.violations == 0


def test_a_plan_can_say_what_an_extension_would_do(model: Path, prose: list[str], tmp_path: Path) -> None:
    said = preview(model, prose, words=str.split, new=200)
    numbers = re.findall(r"\d+\.\d\d", said)
    assert "200 new ones" in said and float(numbers[0]) > float(numbers[1]) > 1
    assert "new" not in preview(model, prose, words=str.split)
    assert preview(tmp_path, prose, words=str.split) == "" == preview(model, prose[:1], words=str.split)


# --- advice -----------------------------------------------------------------------------------------------------------

SHAPE = ModelShape(
    hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
    vocab_size=128256, tie_word_embeddings=False,
)  # fmt: skip
GOOD = size(4000, 640, source=Changes(lines=1000, lines_changed=20, tokens=9000, tokens_changed=20))


def advice(knee: Size | None = GOOD, *, shape: ModelShape | None = SHAPE, tokens: float | None = 10e9) -> Advice:
    made = Prediction(learnt_from=10**6, held_out=10**5, tokens=1000, words=500, sizes=(GOOD,), knee=knee)
    return advise(made, shape, tokens=tokens)


def against(advice: Advice) -> list[str]:
    return [reason.rule for reason in advice.reasons if not reason.speaks_for]


def test_an_extension_is_advised_where_every_rule_speaks_for_it() -> None:
    found = advice()
    assert (found.strategy, found.new, against(found)) == ("extend", 4000, [])
    assert "36 %" in found.said and "not for quality" in found.said


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"knee": None}, "knee"),
        ({"knee": replace(GOOD, saved=0.159, error=0)}, "saves"),
        ({"knee": replace(GOOD, saved=0.2, error=0.05)}, "saves"),
        ({"knee": replace(GOOD, error=math.inf)}, "saves"),
        ({"knee": replace(GOOD, used=0.69)}, "used"),
        ({"shape": None}, "faster"),
        (
            {"shape": replace(SHAPE, num_hidden_layers=1, hidden_size=64, intermediate_size=64, vocab_size=600)},
            "faster",
        ),
        ({"knee": replace(GOOD, source=Changes(lines=100, lines_changed=6, tokens=9000, tokens_changed=9))}, "source"),
        ({"knee": replace(GOOD, source=Changes(lines=100, lines_changed=5, tokens=900, tokens_changed=5))}, "source"),
        ({"tokens": 4e9}, "catches-up"),
        ({"tokens": 5e9, "knee": replace(GOOD, seen_after=6e9)}, "rows-seen"),
        ({"knee": replace(GOOD, seen_after=math.inf)}, "rows-seen"),
    ],
)
def test_one_rule_that_speaks_against_it_keeps_the_tokenizer(changes: dict[str, Any], rule: str) -> None:
    found = advice(**changes)
    assert (found.strategy, found.new, against(found)) == ("keep", 0, [rule])
    assert found.said.startswith("Keep")


def test_keeping_is_the_default_and_says_from_when_on_it_would_pay() -> None:
    found = advice(tokens=None)
    assert found.strategy == "keep" and against(found) == ["rows-seen", "catches-up"]
    assert found.pays_after == CAUGHT_UP and "4.25 B tokens or more" in found.said
    rare = advice(replace(GOOD, seen_after=6.4e9), tokens=None)
    assert rare.pays_after == pytest.approx(10e9), "in tokens of the tokenizer as it is"
    assert advice(None).pays_after is advice(replace(GOOD, used=0.1)).pays_after is None


def test_costs_by_hand() -> None:
    small = ModelShape(
        hidden_size=10, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=100, tie_word_embeddings=False,
    )  # fmt: skip
    assert small.linear_parameters == 2 * (4 * 100 + 3 * 200)
    found = costs(small, size(50, 500))
    assert found.context == 2 and found.inference == 0.5 * (2000 + 1000 + 500) / 3000
    assert found.training == 0.5 * (2 * 3000 + 3 * 500) / (2 * 3000)
    assert (found.weights, found.learning) == (2 * 2 * 500, 16 * 2 * 500)
    tied = costs(replace(small, tie_word_embeddings=True), size(50, 500))
    assert (tied.weights, tied.learning, tied.inference) == (2 * 500, 16 * 500, found.inference)


def test_evidence_has_its_source() -> None:
    assert all(e.what and e.found and re.search(r"arXiv \d{4}\.\d{5}|\w+/\w+", e.source) for e in EVIDENCE)


# --- the command ------------------------------------------------------------------------------------------------------

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs the command in a folder that holds nothing else; code, output and messages."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, language: str = "it") -> tuple[int, str, str]:
        words = ["langadapt", "tokenizer", "report", *map(str, arguments), "--language", language]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return int(code or 0), shown.out, shown.err

    return run


@pytest.fixture
def text(tmp_path: Path, prose: list[str]) -> Path:
    path = tmp_path / "prosa.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in prose), encoding="utf-8")
    return path


def test_the_figures_of_a_report_are_those_of_the_text(
    report: Command, model: Path, text: Path, prose: list[str], tmp_path: Path
) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("La barca torna.\n")
    code, out, _ = report(model, text, plain, "--against", model / "tokenizer.json", "--tokens", "2B", "--json")
    made = json.loads(out)
    assert code == 0 and made["schema"] == 1
    assert [(d["name"], d["documents"]) for d in made["domains"]] == [("prosa.jsonl", 36), ("plain.txt", 1)]
    first, second = made["tokenizers"]
    assert first["domains"] == second["domains"] and list(first["domains"]) == ["prosa.jsonl", "plain.txt", "all"]
    backend, words = Tokenizer.from_file(str(model / "tokenizer.json")), registry().languages["it"].words
    tokens = sum(len(backend.encode(one).ids) for one in prose)
    assert first["domains"]["prosa.jsonl"]["tokens"] == tokens
    assert first["domains"]["prosa.jsonl"]["fertility"] == tokens / sum(len(words(one)) for one in prose)
    assert first["parity"]["rows"] > 50 and first["parity"]["ratio"] > 0.8, "by the sample of the plugin"
    assert first["rows"] == first["vocabulary"] == 384 and second["rows"] is None
    assert first["unreachable"] == [] and first["undertrained"]["unsure"], "a random model has no unused rows to tell"
    assert [f["kind"] for f in first["findings"]] == ["bos-missing"] and second["findings"][0]["kind"] == "eos-none"
    tried = made["advice"]
    assert tried["strategy"] == "keep" and {r["rule"] for r in tried["reasons"]} >= {"saves", "faster", "source"}
    assert tried["sizes"][0]["costs"] and tried["evidence"] and tried["learnt_from"] > tried["held_out"]


def test_the_screen_fits_and_the_plot_is_drawn(report: Command, model: Path, text: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "figures.svg"
    code, out, err = report(model, text, "--plot", drawn)
    assert code == 0 and "written" in err
    assert max(len(line) for line in out.splitlines() if str(tmp_path) not in line) <= 80
    assert "Keep the tokenizer" in out and "glossapi" in out and "note: <s> is the BOS token" in out
    svg = ElementTree.fromstring(drawn.read_text(encoding="utf-8"))
    words = " ".join("".join(element.itertext()) for element in svg.iter() if element.tag.endswith("}text"))
    assert "tokens a word" in words and "% of tokens saved" in words and "prosa.jsonl" in words
    assert "#0101" not in drawn.read_text(), "no stand-in colour is left"


def test_without_text_the_samples_of_the_language_are_taken() -> None:
    known = registry()
    names = sampled("it", known)
    assert {"clean-mc4-it", "dolly-it", "ultrachat-it"} <= set(names)
    measured = {known.corpora[e.corpus].name for e in known.evaluations.values() if e.corpus in known.corpora}
    assert not measured & set(names), "nothing should be learnt from what is measured"
    samples = [known.corpora[name].sample for name in names]
    assert len(samples) == len(set(samples)) and sampled("xx", known) == []


def test_a_slip_is_told_in_one_line(report: Command, model: Path, text: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "pairs.jsonl").write_text('{"en": "a"}\n')
    slips: list[tuple[tuple[Any, ...], str, str]] = [
        (("no-such-model", text), "it", "no such folder"),
        ((model, "no-such-text"), "it", "no-such-text"),
        ((model, text), "xx", "--language xx"),
        ((model, tmp_path / "empty.txt"), "it", "empty.txt"),
        ((bare, text), "it", "tokenizer"),
        ((tmp_path / "bad.json", text), "it", "bad.json"),
        ((model, text, "--parallel", "lost.jsonl"), "it", "lost.jsonl"),
        ((model, text, "--parallel", "pairs.jsonl"), "it", '"it"'),
        ((model, text, "--plot", tmp_path / "no" / "x.svg"), "it", "cannot be written"),
    ]
    for arguments, language, word in slips:
        code, _, err = report(*arguments, language=language)
        told = [line for line in err.splitlines() if line.startswith("langadapt: ")]
        assert code == 2 and len(told) == 1 and word in told[0] and "Traceback" not in err, err
    code, _, err = report(model, text, "--tokens", "many")
    assert code == 2 and "write it as 2e9, 2B or 500M" in err


def test_too_little_text_gives_figures_and_no_advice(report: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("La barca torna al porto.")
    code, out, _ = report(model, "one.txt", "--json")
    made = json.loads(out)
    assert code == 0 and made["advice"] is None and "too few" in made["no_advice"]
    assert made["tokenizers"][0]["domains"]["one.txt"]["tokens"] > 4


def test_a_vocabulary_of_another_kind_is_measured_and_not_extended(report: Command, text: Path, tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "la": 1}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "words.json"))
    code, out, _ = report("words.json", text, "--json")
    made = json.loads(out)
    assert code == 0 and made["tokenizers"][0]["unreachable"] is None and "not BPE" in made["no_advice"]


def test_every_figure_is_documented() -> None:
    pages = Path(__file__).parents[1] / "docs" / "vocabulary.md"
    page = pages.read_text(encoding="utf-8")
    missing = [name for name in measuring.Figures.__dataclass_fields__ if f"`{name}`" not in page]
    assert not missing
