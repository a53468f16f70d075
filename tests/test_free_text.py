"""Free text: its language, its degeneration, its overlap with what people wrote, each against a reference of its own."""

from __future__ import annotations

import json
import random
import string
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from langadapt import Answer, Corpus, Document, Evaluation, Item, Language, Message, Rejected, UserError, translations
from langadapt import free_text as make
from langadapt.evaluation.generating import ask
from langadapt.evaluation.methods import Measure, Subject, rows, task
from langadapt.evaluation.statistics import paired_difference, resampled
from langadapt.identification import identify
from langadapt.loading import load_tokenizer
from langadapt.plugins import registry
from langadapt.recipe import EvaluationTable
from langadapt.testing import tiny_model

ITALIAN = Language(tag="it", name="Italian", autonym="italiano", script="Latn", words=str.split)
ENGLISH = ("the", "of", "and", "that", "you", "with", "this")
CORPUS = Corpus(name="asked", language="it", licence="CC0-1.0", description="Questions.", layout="dolly")


def evaluation(language: Language = ITALIAN, **more) -> Evaluation:
    return make("free", language=language, description="Questions.", corpus=CORPUS, source_words=ENGLISH, **more)


SCORE = evaluation().score
assert SCORE


def answers(*texts: str, gold: Sequence[str] = (), finished: bool = True) -> list[Answer]:
    return [
        Answer(item=Item(id=str(n), messages=(), gold=gold[n] if gold else ""), text=t, prediction=t, finished=finished)
        for n, t in enumerate(texts)
    ]


LINES = [
    "Il treno per Bologna parte fra dieci minuti dal terzo binario.",
    "«Non lo so», disse la nonna, e tornò a sbucciare le patate.",
    "Ogni mattina apro la finestra e guardo il mare in silenzio.",
    "The train to Bologna leaves in ten minutes from platform three.",
    "He closed the door — slowly — and walked back to the kitchen.",
    "Der Zug nach Bologna fährt in zehn Minuten vom dritten Gleis ab.",
    "Va bene.",
    "Sì!",
    "1. 2. 3. ... !!!",
    "",
]
DEGENERATE = ["", " ", "\n\n", ".", "?!…", "a", "�", "Sì.", "no no no no no no no no", "a b c\n" * 5, "🙂 🙂 🙂 🙂 🙂"]


# --- the language of answers ------------------------------------------------------------------------------------------


def written_out(completions: Sequence[str]) -> tuple[float, float, float]:
    """Line pass rate, line accuracy and skipped share as the benchmark's paper defines them, step by step."""
    judged, failing, accuracies = 0, 0, []
    for completion in completions:
        completion = completion.split("\nQ:")[0].strip()
        completion = "".join(c for c in completion if c not in string.punctuation + "،").replace("—", " ")
        lines = [line for line in completion.split("\n") if len(line.split()) >= 5]
        if not lines:
            continue
        judged += 1
        wrong = [line for line in lines if identify(line).tag != "it"]
        failing += bool(wrong)
        accuracies.append(1 - len(wrong) / len(lines))
    accuracy = sum(accuracies) / len(accuracies) if accuracies else 1.0
    return 1 - failing / max(1, judged), accuracy, 1 - judged / len(completions)


def fidelity_of(texts: Sequence[str]) -> tuple[float, float, float]:
    values = SCORE(answers(*texts))
    return values["line_pass_rate"], values["line_accuracy"], values["skipped"]


@pytest.mark.parametrize("seed", range(8))
def test_line_pass_rate_is_its_definition_on_random_answers(seed: int) -> None:
    draw = random.Random(seed)
    texts = ["\n".join(draw.choices(LINES, k=draw.randint(0, 5))) for _ in range(draw.randint(1, 12))]
    texts += draw.sample(DEGENERATE, 3)
    assert fidelity_of(texts) == pytest.approx(written_out(texts))


@pytest.mark.parametrize("texts", [*([text] for text in DEGENERATE), DEGENERATE, ["Va bene.", "Sì!"]])
def test_line_pass_rate_is_its_definition_where_nothing_can_be_judged(texts: list[str]) -> None:
    assert fidelity_of(texts) == pytest.approx(written_out(texts))


def test_what_follows_another_question_is_not_judged() -> None:
    assert fidelity_of([f"{LINES[0]}\nQ: what is that?\n{LINES[3]}"]) == (1, 1, 0)
    assert fidelity_of([f"{LINES[0]}\n{LINES[3]}"]) == (0, 0.5, 0)


def test_a_line_in_a_relative_of_the_language_does_not_pass() -> None:
    venetian = "El gato xe drio dormir soto la tola e no'l vol saverghene de noialtri."
    italian = registry().languages["it"]
    assert evaluation(italian).score(answers(venetian))["line_pass_rate"] == 0
    assert evaluation(italian).score(answers(LINES[0]))["line_pass_rate"] == 1


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        (LINES[0], True),
        ("Il capo ha detto che of the meeting non se ne parla fino a lunedì.", False),
        ("Ho comprato un biglietto per the the Cure, ma il concerto è domani sera.", False),
        ("La parola the si usa spesso, e anche la parola of, ma non insieme.", True),
        ("Gli piace dire: «You, with», e poi ride da solo per un'ora intera.", False),
    ],
)
def test_two_words_of_the_source_language_in_a_row_fail_the_word_pass_rate(text: str, passes: bool) -> None:
    assert SCORE(answers(text))["line_pass_rate"] == 1
    assert SCORE(answers(text))["word_pass_rate"] == passes


def test_the_word_pass_rate_is_of_answers_that_pass_line_by_line() -> None:
    mixed = "Il capo ha detto che of the meeting non se ne parla fino a lunedì."
    assert SCORE(answers(LINES[0], mixed, LINES[3], "Sì!"))["word_pass_rate"] == 0.5
    without = make("free", language=ITALIAN, description="", corpus=CORPUS)
    assert "word_pass_rate" not in without.score(answers(mixed)) and "word_pass_rate" not in without.metrics


def test_words_of_scripts_without_blanks_are_those_of_the_language() -> None:
    japanese = Language(tag="ja", name="Japanese", autonym="日本語", script="Jpan", words=list)
    line = "朝、港は町より早く目を覚まし、船が帰ってくる。"
    values = evaluation(japanese).score(answers(line))
    assert (values["skipped"], values["line_pass_rate"]) == (0, 1)


def test_a_language_that_the_detector_lacks_is_said_so() -> None:
    klingon = Language(tag="tlh", name="Klingon", autonym="tlhIngan Hol", script="Latn", words=str.split)
    with pytest.raises(UserError, match=r'the detector does not know Klingon \("tlh"\)'):
        evaluation(klingon).score(answers(LINES[0]))


def test_a_value_is_the_plain_mean_of_those_of_the_groups() -> None:
    score = evaluation(group=lambda item: item.id.partition("/")[0]).score
    texts = {"okapi/1": LINES[0], "okapi/2": LINES[3], "okapi/3": LINES[3], "sharegpt/1": LINES[0]}
    asked = [Answer(item=Item(id=i, messages=(), gold=""), text=t, prediction=t) for i, t in texts.items()]
    assert score(asked)["line_pass_rate"] == pytest.approx((1 / 3 + 1) / 2)
    assert SCORE(asked)["line_pass_rate"] == pytest.approx(1 / 2)


# --- degeneration -----------------------------------------------------------------------------------------------------


def grams_of(words: Sequence[str], n: int) -> list[str]:
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]


def mean_or(values: Sequence[float], otherwise: float = 0.0) -> float:
    return sum(values) / len(values) if values else otherwise


@pytest.mark.parametrize("seed", range(6))
def test_repetition_is_counted_as_by_hand(seed: int) -> None:
    draw = random.Random(seed)
    texts = [" ".join(draw.choices("abcd", k=draw.randint(0, 30))) for _ in range(draw.randint(1, 9))]
    texts += draw.sample(DEGENERATE, 4)
    values = SCORE(answers(*texts))
    cut = [text.split() for text in texts]
    for n in (2, 3, 4):
        grams = [grams_of(words, n) for words in cut if len(words) >= n]
        assert values[f"rep_{n}"] == pytest.approx(mean_or([1 - len(set(g)) / len(g) for g in grams]))
    assert values["distinct_1"] == pytest.approx(mean_or([len(set(words)) / len(words) for words in cut if words]))
    lines = [[line.strip() for line in text.splitlines() if line.strip()] for text in texts]
    assert values["repeated_lines"] == pytest.approx(mean_or([1 - len(set(a)) / len(a) for a in lines if a]))
    raw = sum(len(text.encode()) for text in texts)
    packed = sum(len(zlib.compress(text.encode())) for text in texts if text)
    assert values["zlib_ratio"] == pytest.approx(packed / raw if raw else 0)
    assert values["empty"] == sum(not text.strip() for text in texts) / len(texts)


TEXT = st.one_of(
    st.sampled_from(DEGENERATE + LINES),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.lists(st.sampled_from(["a", "b", "è", "«", "\n"]), max_size=20).map(" ".join),
)


@given(st.lists(st.tuples(TEXT, TEXT, st.booleans()), min_size=1, max_size=6), st.data())
def test_every_figure_of_any_answers_is_a_number_in_its_range(rows, data) -> None:
    asked = [
        Answer(item=Item(id=str(n), messages=(), gold=gold), text=text, prediction=text, finished=finished)
        for n, (text, gold, finished) in enumerate(rows)
    ]
    some = data.draw(st.lists(st.sampled_from(asked), min_size=1, max_size=8))
    for name, value in SCORE(some).items():
        most = 100 + 1e-9 if name in ("chrf2", "chrf2++", "bleu") else np.inf if name == "zlib_ratio" else 1
        assert 0 <= value <= most, name


@pytest.mark.parametrize("count", [1, 2, 12])
def test_figures_have_intervals_whatever_was_written(count: int) -> None:
    one = answers(*(DEGENERATE + LINES)[:count], gold=(LINES + DEGENERATE)[:count])
    other = answers(*LINES[:count], gold=(LINES + DEGENERATE)[:count]) if count <= len(LINES) else one
    for interval in (*resampled(SCORE, one).values(), *paired_difference(SCORE, one, other).values()):
        assert np.isfinite([interval.value, interval.low, interval.high]).all()
    assert all(interval.value == 0 for interval in paired_difference(SCORE, one, one).values())


def test_a_loop_is_told_from_text_that_people_wrote() -> None:
    loop = SCORE(answers("il mare è blu e " * 40))
    people = SCORE(answers("\n".join(LINES[:3])))
    assert loop["rep_4"] > 0.9 and loop["zlib_ratio"] < 0.1 and loop["distinct_1"] < 0.05
    assert people["rep_4"] == 0 and people["zlib_ratio"] > 0.6 and people["distinct_1"] > 0.8


@pytest.mark.parametrize(
    ("text", "finished", "damaged"),
    [
        ("Perché no? È già così.", True, False),
        ("PerchÃ© no?", True, True),
        ("Câ€™Ã¨ posta", True, True),
        ("Perch� no?", True, True),
        ("Perch�", False, False),
        ("Perch�", True, True),
        ("Perch� no, ma �", False, True),
        ("", True, False),
    ],
)
def test_mojibake_is_text_that_was_decoded_wrongly(text: str, finished: bool, damaged: bool) -> None:
    assert SCORE(answers(text, finished=finished))["mojibake"] == damaged


def test_unfinished_answers_are_counted() -> None:
    asked = [*answers("Sì.", "No."), *answers("Forse perché il", finished=False)]
    assert SCORE(asked)["unfinished"] == pytest.approx(1 / 3)


# --- what people wrote ------------------------------------------------------------------------------------------------

METRICS = {
    "chrf2": sacrebleu.CHRF(),
    "chrf2++": sacrebleu.CHRF(word_order=2),
    "bleu": sacrebleu.BLEU(),
}


@pytest.mark.parametrize("seed", range(6))
def test_chrf_and_bleu_are_those_of_sacrebleu(seed: int) -> None:
    draw = random.Random(seed)
    words = " ".join(LINES).split()
    gold = [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(draw.randint(1, 8))]
    texts = [" ".join(w for w in text.split() if draw.random() < 0.7) for text in gold]
    some = DEGENERATE[seed : seed + 3]
    gold, texts = [*gold, *("Non lo so." for _ in some)], [*texts, *some]
    values = SCORE(answers(*texts, gold=gold))
    for name, metric in METRICS.items():
        assert values[name] == metric.corpus_score(texts, [gold]).score, name


@pytest.mark.parametrize("text", DEGENERATE)
def test_chrf_and_bleu_are_those_of_sacrebleu_for_one_answer_without_substance(text: str) -> None:
    for gold in ("Non lo so.", "a", "."):
        values = SCORE(answers(text, gold=[gold]))
        assert [values[n] for n in METRICS] == [m.corpus_score([text], [[gold]]).score for m in METRICS.values()]


def test_answers_without_a_reference_do_not_count_for_overlap() -> None:
    with_one = SCORE(answers("Va bene così.", LINES[0], gold=["Va molto bene.", ""]))
    alone = SCORE(answers("Va bene così.", gold=["Va molto bene."]))
    for name in (*METRICS, "length_match"):
        assert with_one[name] == alone[name]


@pytest.mark.parametrize(
    ("text", "gold", "match"), [("abcd", "ab", 0.5), ("ab", "abcd", 0.5), ("", "a", 0), ("a", "b", 1)]
)
def test_lengths_match_by_the_shorter_in_the_longer(text: str, gold: str, match: float) -> None:
    assert SCORE(answers(text, gold=[gold]))["length_match"] == match


# --- asked of a model -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


ITEMS = [Item(id=str(n), messages=(Message(role="user", content=text),), gold="") for n, text in enumerate(LINES[:3])]


class Writes:
    """A model that writes what it is told to, and pads where it has ended."""

    device = torch.device("cpu")

    def __init__(self, *rows: list[int]):
        self.rows = rows

    def generate(self, input_ids, max_new_tokens, pad_token_id, **_):
        rows = [row[:max_new_tokens] for row in self.rows]
        width = max(map(len, rows))
        return torch.cat([input_ids, torch.tensor([row + [pad_token_id] * (width - len(row)) for row in rows])], 1)


@pytest.mark.parametrize("pad", ["<pad>", "</s>"])
def test_an_answer_is_finished_where_the_model_ended_it(folder: Path, pad: str) -> None:
    tokenizer, chatml = load_tokenizer(str(folder)), registry().prompts["chatml"]
    tokenizer.pad_token = pad
    end, asked = tokenizer.eos_token_id, [ITEMS[0]] * 3
    words, lines = (tokenizer("acqua " * n + text).input_ids for n, text in ((40, ""), (2, "\nmare " * 40)))
    model = Writes([*words[:3], end], words, lines)

    def finished(**more) -> list[bool]:
        return [answer.finished for answer in ask(model, tokenizer, replace(evaluation(), **more), asked, chatml)]

    assert finished(max_new_tokens=20) == [True, False, False]
    assert finished(max_new_tokens=4) == [True, False, False], "the end token is the last that there was room for"
    assert finished(max_new_tokens=3) == [False, False, False]
    assert finished(max_new_tokens=20, one_line=True) == [True, False, True]


class Measured:
    """What a run does with an evaluation: items of a model, then rows."""

    def __init__(self, folder: Path, model, file: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(task, "registry", lambda: type("Known", (), {"evaluations": {"free": free}}))
        free = evaluation(max_new_tokens=6)
        measure = Measure(
            method="task", task="free", suite="free", split="test", prompt="chatml", evaluation=free,
            input=type("Input", (), {"path": file})(),
        )  # fmt: skip
        subject = Subject(
            model=model,
            tokenizer=load_tokenizer(str(folder)),
            settings=EvaluationTable(),
            prompts=registry().prompts,
        )
        self.skipped = subject.skipped
        made = task.prepare(subject, measure).take()
        self.items = [json.loads(json.dumps(item)) for item in made.items]
        self.rows = {row["metric"]: row for row in rows(measure, made)}


@pytest.fixture
def measured(folder: Path, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    file = tmp_path / "asked.jsonl"
    made = [{"instruction": "Che ore sono adesso?", "context": "", "response": LINES[0]}] * 2 + [{"instruction": "Ma"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    return Measured(folder, model, file, monkeypatch)


def test_rows_have_the_figures_of_people_beside_them(measured: Measured) -> None:
    assert set(measured.rows) == set(evaluation().metrics)
    assert measured.rows["unfinished"]["value"] == 1 and measured.rows["unfinished"]["human"] == 0
    people = SCORE(answers(LINES[0], gold=[LINES[0]]))
    for name, row in measured.rows.items():
        assert row["n"] == 2 and row["characters"] > 0
        if name in METRICS:
            assert "version:" + sacrebleu.__version__ in row["signature"] and "human" not in row
        else:
            assert row["human"] == people[name] and "signature" not in row
    assert measured.rows["chrf2++"]["signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:2|")
    assert measured.rows["bleu"]["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|")


def test_kept_items_give_the_figures_again(measured: Measured) -> None:
    assert [(item["finished"], item["gold"]) for item in measured.items] == [(False, LINES[0])] * 2
    again = task.METHOD.figures.values(measured.items, "free")
    assert again == {name: row["value"] for name, row in measured.rows.items()}
    assert sum(measured.skipped.values()) == 1


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_a_dialogue_is_asked_without_its_last_answer(tmp_path: Path) -> None:
    turns = [("user", "Ciao!"), ("assistant", "Ciao a te."), ("user", "Che fai?"), ("assistant", "Leggo.")]
    rows = [{"messages": [{"role": role, "content": content} for role, content in turns]}]
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps(rows[0]) + "\n")
    corpus = Corpus(name="chats", language="it", licence="CC0-1.0", description="Chats.", layout="messages")
    (item,) = make("free", language=ITALIAN, description="", corpus=corpus).items(file)
    assert [m.content for m in item.messages] == ["Ciao!", "Ciao a te.", "Che fai?"] and item.gold == "Leggo."


def test_running_text_asks_nothing(tmp_path: Path) -> None:
    corpus = Corpus(
        name="prose", language="it", licence="CC0-1.0", description="", read=lambda _: [Document(id="1", text="Ciao.")]
    )
    (found,) = make("free", language=ITALIAN, description="", corpus=corpus).items(tmp_path)
    assert found == Rejected(reason="no dialogue", where="1", size=5)


PAIRS = [("Good morning.", "Buongiorno."), ("It is late.", "È tardi.")]


def said(found: Sequence[Document | Rejected]) -> list[tuple[str, ...] | str]:
    return [
        found.reason
        if isinstance(found, Rejected)
        else (found.messages[0].content, found.messages[0].context, found.messages[1].content)
        for found in found
    ]


def test_parallel_text_becomes_requests_for_a_translation(tmp_path: Path) -> None:
    read = translations("en", "it", instruction="Traduci.")
    rows = tmp_path / "pairs.jsonl"
    rows.write_text("".join(json.dumps({"en": e, "it": i}, ensure_ascii=False) + "\n" for e, i in PAIRS), "utf-8")
    (tmp_path / "aligned").mkdir()
    for end, lines in zip(("en", "it"), zip(*PAIRS, strict=True), strict=True):
        (tmp_path / "aligned" / f"dev.{end}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    wanted = [("Traduci.", e, i) for e, i in PAIRS]
    assert said(read(rows)) == said(read(tmp_path / "aligned")) == wanted
    assert [d.id for d in read(tmp_path / "aligned")] == ["dev.en:1", "dev.en:2"]


def test_what_is_no_pair_is_refused_with_its_place(tmp_path: Path) -> None:
    read, reason = translations("en", "it", instruction="Traduci."), "no text in both en and it"
    rows = tmp_path / "pairs.jsonl"
    rows.write_bytes(b'{"en": "a", "it": "b"}\n\n{"en": "a"}\n{"en": 1, "it": "b"}\n[]\n{\n{"en": "\xff", "it": "b"}\n')
    assert said(read(rows)) == [("Traduci.", "a", "b"), *[reason] * 5]
    assert next(found.where for found in read(rows) if isinstance(found, Rejected)) == "pairs.jsonl:3"
    (tmp_path / "aligned").mkdir()
    (tmp_path / "aligned" / "dev.en").write_bytes(b"one\n\n\xff\nfour\nfive\n")
    (tmp_path / "aligned" / "dev.it").write_bytes(b"uno\n\ntre\n \n")
    assert said(read(tmp_path / "aligned")) == [("Traduci.", "one", "uno"), *[reason] * 3]
