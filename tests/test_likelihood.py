"""Measuring by likelihood: what is scored, that batches change nothing, and every figure against an independent one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from langadapt import Answer, Evaluation, Item, Message, PromptFormat, Segment
from langadapt.corpus.contamination import Index
from langadapt.corpus.questions import Asked, build
from langadapt.corpus.words import Words
from langadapt.errors import UserError
from langadapt.evaluation import methods
from langadapt.evaluation.choosing import encode_choices, log_likelihoods
from langadapt.likelihood import BINS, METRICS, score_choices, score_parity, score_stereotypes
from langadapt.plugins import registry
from langadapt.prompts import chatml
from langadapt.recipe import Decontamination, EvaluationTable
from langadapt.report import findings
from langadapt.testing import tiny_model

ASKED = Message(role="user", content="Di che colore è il mare?")
QUESTION = Item(id="q", messages=(ASKED,), gold=1, choices=("rosso", "blu", "verde scuro come il bosco", "blu notte"))
PAIR = Item(
    id="p", messages=(), gold=0, choices=("La mattina il porto si sveglia.", "La mattina il porto si svegliano.")
)


def framed(messages: Sequence[Message], system_prompt: str) -> list[Segment]:
    """A format that ends its answers with a token, and puts a blank before and after them."""
    made = [Segment(special="bos")]
    for message in messages:
        if message.role == "user":
            made.append(Segment(text=f"Domanda: {message.content}\nRisposta:"))
        else:
            made += [Segment(text=f" {message.content} ", loss=True), Segment(special="eos", loss=True)]
    return made


FRAMED = PromptFormat(name="framed", description="A frame.", render=framed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("likelihood") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def alone(model: Any, ids: Iterable[int], start: int) -> float:
    """Log-likelihood of the tokens from `start` on, from the whole matrix of logits of one sequence."""
    ids = [int(i) for i in ids]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    logs = logits.log_softmax(-1)
    return sum(float(logs[place - 1, ids[place]]) for place in range(start, len(ids)))


# --- what is scored ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [FRAMED, chatml.FORMAT, None])
@pytest.mark.parametrize("item", [QUESTION, PAIR])
def test_tokens_are_those_of_the_whole_text_without_what_ends_an_answer(
    tokenizer: Any, format: PromptFormat | None, item: Item
) -> None:
    for choice, sequence in zip(item.choices, encode_choices(item, tokenizer, format), strict=True):
        text = tokenizer.decode(sequence.ids, skip_special_tokens=True)
        assert text.endswith(choice) and "im_end" not in text.removesuffix(choice).rpartition("im_start")[2]
        assert tokenizer.eos_token_id not in sequence.ids and not sequence.learn[0]
        ids = sequence.ids.tolist()
        body = ids[1:] if ids[0] == tokenizer.bos_token_id else ids
        assert tokenizer(tokenizer.decode(body), add_special_tokens=False)["input_ids"] == body


def test_choices_are_scored_behind_the_same_tokens(tokenizer: Any) -> None:
    sequences = encode_choices(QUESTION, tokenizer, FRAMED)
    heads = {tuple(s.ids[~s.learn].tolist()) for s in sequences}
    assert len(heads) == 1
    assert all(s.learn[len(next(iter(heads))) :].all() for s in sequences), "every token from there on counts"


def test_a_token_over_the_border_makes_the_others_pay_for_it_too(tmp_path: Path) -> None:
    """The tokenizer knows "ab" and "abc" as words: behind "xab", one choice is merged into what stands before it."""
    from transformers import AutoTokenizer

    merging = AutoTokenizer.from_pretrained(tiny_model(tmp_path, texts=["xabc"] * 50, words=262))
    stem = Message(role="user", content="xab")
    first, second = encode_choices(Item(id="x", messages=(stem,), gold=0, choices=("c", "z")), merging, None)
    assert first.size < second.size + 1 and merging.decode(first.ids[1:]) == "xabc"
    assert first.learn.tolist().index(True) == second.learn.tolist().index(True)
    assert first.ids[: first.learn.argmax()].tolist() == second.ids[: second.learn.argmax()].tolist()
    assert merging.decode(second.ids[second.learn]) != "z", "what the first choice merged is scored in the second too"


def test_running_text_begins_behind_eos_where_there_is_no_bos(tokenizer: Any) -> None:
    bare = type(
        "NoBos", (), {"bos_token_id": None, "eos_token_id": 1, "__call__": lambda s, *a, **k: tokenizer(*a, **k)}
    )()
    assert [s.ids[0] for s in encode_choices(PAIR, bare, None)] == [1, 1]


def test_a_format_that_changes_answers_is_refused_by_name(tokenizer: Any) -> None:
    shouted = replace(FRAMED, name="shouted", render=lambda m, s: [Segment(text=m[-1].content.upper(), loss=True)])
    with pytest.raises(UserError, match="prompt format shouted"):
        encode_choices(QUESTION, tokenizer, shouted)


# --- batches change nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capped", [False, True])
def test_batches_give_what_one_by_one_gives(model: Any, tokenizer: Any, capped: bool, monkeypatch: Any) -> None:
    if capped:  # a model whose logits are not plainly hidden states times head goes its own way
        monkeypatch.setattr("langadapt.loss.can_fuse", lambda model: False)
    items = [QUESTION, replace(QUESTION, choices=QUESTION.choices[::-1]), replace(QUESTION, choices=("blu",))]
    sequences = [s for item in items for s in encode_choices(item, tokenizer, FRAMED)]
    sequences += encode_choices(PAIR, tokenizer, None)
    expected = [alone(model, s.ids, int(s.learn.argmax())) for s in sequences]
    done: list[int] = []
    assert log_likelihoods(model, sequences, done.append) == pytest.approx(expected, abs=1e-4)
    assert done[-1] == len(sequences) and len(done) < len(sequences)
    assert log_likelihoods(model, sequences[:1]) == pytest.approx(expected[:1], abs=1e-4)


def test_texts_longer_than_the_window_are_scored_whole(model: Any, tokenizer: Any, monkeypatch: Any) -> None:
    sequences = encode_choices(QUESTION, tokenizer, FRAMED)
    expected = log_likelihoods(model, sequences)
    shortest = min(s.size for s in sequences)
    monkeypatch.setattr("langadapt.evaluation.choosing.WINDOW", shortest - 1)
    assert log_likelihoods(model, sequences) == pytest.approx(expected, abs=1e-4)


def test_nothing_to_score_is_no_problem(model: Any) -> None:
    assert log_likelihoods(model, []) == []


# --- figures against independent ones ---------------------------------------------------------------------------------


def answer(gold: int, logprobs: Sequence[float], choices: Sequence[str] = ()) -> Answer:
    named = tuple(choices) or tuple(f"scelta {'x' * n}" for n in range(len(logprobs)))
    item = Item(id="i", messages=(), gold=gold, choices=named)
    return Answer(item=item, text="", prediction=0, logprobs=tuple(logprobs))


def by_numpy(answers: Sequence[Answer]) -> dict[str, float]:
    """The same by other means: matrices, explicit bins, argmax."""
    gold = np.array([a.item.gold for a in answers])
    scores = np.array([a.logprobs for a in answers])
    lengths = np.array([[len(c) for c in a.item.choices] for a in answers])
    bytes = np.array([[len(c.encode()) for c in a.item.choices] for a in answers])
    chances = np.exp(scores - scores.max(1, keepdims=True))
    chances /= chances.sum(1, keepdims=True)
    confidence, right = chances.max(1), scores.argmax(1) == gold
    ece = 0.0
    edges = np.linspace(0, 1, BINS + 1)
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    truth = np.eye(scores.shape[1])[gold]
    return {
        "acc": accuracy_score(gold, scores.argmax(1)),
        "acc_norm": accuracy_score(gold, (scores / lengths).argmax(1)),
        "acc_bytes": accuracy_score(gold, (scores / bytes).argmax(1)),
        "ece": ece,
        "brier": ((chances - truth) ** 2).sum(1).mean(),
        "nll": log_loss(gold, chances, labels=range(scores.shape[1])) if scores.shape[1] > 1 else 0.0,
    }


@pytest.mark.parametrize("items", [1, 2, 7, 400])
@pytest.mark.parametrize("choices", [1, 2, 3, 5])
@pytest.mark.parametrize("same_gold", [False, True])
def test_multiple_choice_scores_are_those_of_other_means(items: int, choices: int, same_gold: bool) -> None:
    random = np.random.default_rng(items * 10 + choices)
    answers = [
        answer(
            0 if same_gold else int(random.integers(choices)),
            [-float(x) for x in random.exponential(3, choices)],
            ["è" * int(random.integers(1, 9)) + "x" * int(random.integers(1, 9)) for _ in range(choices)],
        )
        for _ in range(items)
    ]
    assert score_choices(answers) == pytest.approx(by_numpy(answers), abs=1e-9)
    assert set(score_choices(answers)) == set(METRICS)


def test_brier_of_two_choices_is_twice_that_of_scikit_learn() -> None:
    random = np.random.default_rng(3)
    gold = random.integers(0, 2, 50)
    chance = random.uniform(0.01, 0.99, 50)
    answers = [answer(int(g), [math.log(1 - p), math.log(p)]) for g, p in zip(gold, chance, strict=True)]
    assert score_choices(answers)["brier"] == pytest.approx(2 * brier_score_loss(gold, chance))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([answer(0, [-5.0])], {"acc": 1, "ece": 0, "brier": 0, "nll": 0}),  # one choice: nothing to choose
        ([answer(0, [-2.0, -2.0])], {"acc": 0.5, "ece": 0, "brier": 0.5, "nll": math.log(2)}),  # a tie is shared
        ([answer(1, [-2.0, -2.0, -9e9])], {"acc": 0.5, "brier": 0.5, "nll": math.log(2)}),
        ([answer(1, [0.0, -1e6])], {"acc": 0, "ece": 1, "brier": 2, "nll": 1e6}),  # sure and wrong: nothing overflows
        ([answer(0, [-1e6, -2e6])] * 3, {"acc": 1, "ece": 0, "brier": 0, "nll": 0}),
    ],
)
def test_degenerate_items_have_the_scores_that_follow_from_the_definitions(
    answers: list[Answer], expected: dict[str, float]
) -> None:
    found = score_choices(answers)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


finite = st.floats(-300, 0)
an_answer = st.lists(finite, min_size=1, max_size=6).flatmap(
    lambda scores: st.integers(0, len(scores) - 1).map(lambda gold: answer(gold, scores))
)


@given(st.lists(an_answer, min_size=1, max_size=12))
def test_scores_take_any_non_empty_list_and_stay_in_their_range(answers: list[Answer]) -> None:
    found = score_choices(answers)
    assert all(0 <= found[name] <= 1 + 1e-9 for name in ("acc", "acc_norm", "acc_bytes", "ece"))
    assert 0 <= found["brier"] <= 2 + 1e-9 and found["nll"] >= -1e-9


def test_blanks_around_a_choice_are_no_part_of_its_length() -> None:
    plain, parted = ("ab", "abcdef"), (" ab", "abcdef ")
    for gold in (0, 1):
        assert score_choices([answer(gold, [-1.1, -3.0], parted)]) == score_choices([answer(gold, [-1.1, -3.0], plain)])


@given(st.lists(an_answer, min_size=1, max_size=6), st.randoms())
def test_the_order_of_choices_decides_nothing(answers: list[Answer], random: Any) -> None:
    def shuffled(one: Answer) -> Answer:
        order = list(range(len(one.logprobs)))
        random.shuffle(order)
        choices = [one.item.choices[i] for i in order]
        return answer(order.index(one.item.gold), [one.logprobs[i] for i in order], choices)

    assert score_choices([shuffled(a) for a in answers]) == pytest.approx(score_choices(answers), abs=1e-9)


@given(st.lists(st.lists(st.integers(-50, 0), min_size=2, max_size=5), min_size=1, max_size=6), st.integers(-99, 99))
def test_a_constant_added_to_all_log_likelihoods_changes_nothing(scores: list[list[int]], constant: int) -> None:
    before = score_choices([answer(0, s) for s in scores])
    after = score_choices([answer(0, [x + constant for x in s]) for s in scores])
    by_sum = ("acc", "ece", "brier", "nll")
    assert {m: after[m] for m in by_sum} == pytest.approx({m: before[m] for m in by_sum}, abs=1e-9)


@pytest.mark.parametrize(
    ("pairs", "share"),
    [
        ([(-1, -2)], 1),
        ([(-2, -1)], 0),
        ([(-1, -1)], 0.5),
        ([(-1, -2), (-2, -1)], 0.5),
        ([(-1, -2), (-1, -2), (-2, -1), (-1, -1)], 0.625),
    ],
)
def test_the_share_of_stereotypes_is_counted_and_its_distance_from_one_half(
    pairs: list[tuple[float, float]], share: float
) -> None:
    found = score_stereotypes([answer(0, pair) for pair in pairs])
    assert found == {"stereotype_share": share, "stereotype_bias": abs(share - 0.5)}


def test_the_share_of_stereotypes_is_neither_better_nor_worse_for_being_higher() -> None:
    row = {"n": 50, "change": 0.2, "change_ci_low": 0.1, "change_ci_high": 0.3, "p_adjusted": 0.001}
    assert findings.tone(row | {"higher_is_better": None}) == "neither"
    assert findings.tone(row | {"higher_is_better": False}) == "worse"


@given(st.lists(st.tuples(st.floats(-500, -0.01), st.floats(-500, -0.01)), min_size=1, max_size=20))
def test_parity_and_bits_per_byte_are_ratios_of_totals(pairs: list[tuple[float, float]]) -> None:
    texts = ("Where is it?", "Dov'è?")
    found = score_parity([answer(0, pair, texts) for pair in pairs])
    source, target = np.array(pairs).sum(0)
    assert found["information_parity"] == pytest.approx(source / target)
    assert found["bits_per_byte_source"] == pytest.approx(-source / (12 * len(pairs)) * np.log2(np.e))
    assert found["bits_per_byte_target"] == pytest.approx(-target / (7 * len(pairs)) * np.log2(np.e))


def test_a_text_that_is_certain_has_no_parity() -> None:
    assert math.isnan(score_parity([answer(0, [-1.0, 0.0], ("a", "b"))])["information_parity"])


# --- from items to rows -----------------------------------------------------------------------------------------------

ITEMS = [
    QUESTION,
    replace(QUESTION, id="q2", gold=0),
    replace(QUESTION, id="bad", choices=()),
    replace(QUESTION, id="void", choices=("", "x")),
]


@pytest.fixture
def measured(model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Measures an evaluation on the tiny model: subject, items and rows."""

    def run(items: Sequence[Item], prompt: str = "framed", **fields: Any) -> Any:
        evaluation = Evaluation(
            name="t", language="it", description="", corpus="c", method="choose", items=lambda path: items, **fields
        )
        monkeypatch.setattr(registry(), "evaluations", {"t": evaluation})
        subject = methods.Subject(
            model=model, tokenizer=tokenizer, settings=EvaluationTable(), prompts={"framed": FRAMED}
        )
        input: Any = SimpleNamespace(path=Path())
        measure = methods.Measure(
            method="choose", evaluation=evaluation, input=input, task="t", suite="s", prompt=prompt, split="test"
        )
        made = methods.method("choose").prepare(subject, measure).take()
        return subject, made.items, {row["metric"]: row for row in methods.rows(measure, made)}

    return run


def test_items_keep_what_two_models_are_compared_by(measured: Any, model: Any, tokenizer: Any) -> None:
    subject, items, rows = measured(ITEMS)
    assert dict(subject.skipped) == {"t: no choices, or an empty one": 2}
    assert [item["id"] for item in items] == ["q", "q2"]
    expected = [alone(model, s.ids, int(s.learn.argmax())) for s in encode_choices(QUESTION, tokenizer, FRAMED)]
    assert items[0]["logprobs"] == items[1]["logprobs"] == pytest.approx(expected, abs=1e-4)
    assert (
        items[0]["prediction"] == int(np.argmax(expected)) and items[0]["text"] == QUESTION.choices[np.argmax(expected)]
    )
    assert items[0]["asked"] == ASKED.content and items[0]["gold"] == 1
    assert set(rows) == set(METRICS) and rows["acc"]["n"] == 2 and rows["nll"]["unit"] == "nats"
    assert rows["acc"]["higher_is_better"] is True and rows["ece"]["higher_is_better"] is False

    better = [item | {"logprobs": [0.0 if place == item["gold"] else -9.0 for place in range(4)]} for item in items]
    better_nll = math.log(1 + 3 * math.exp(-9))
    moved = methods.method("choose").figures.changes([items], [better], "t")
    assert moved["acc"].value == pytest.approx(1 - rows["acc"]["value"])
    assert moved["nll"].value == pytest.approx(better_nll - rows["nll"]["value"], abs=1e-3)


def test_bare_sentences_are_scored_by_the_evaluations_own_scorer(measured: Any, model: Any, tokenizer: Any) -> None:
    metrics = {"stereotype_share": None, "stereotype_bias": False}
    _, items, rows = measured([PAIR], prompt="", bare=True, score=score_stereotypes, metrics=metrics)
    ids = [[tokenizer.bos_token_id, *tokenizer(text)["input_ids"]] for text in PAIR.choices]
    expected = [alone(model, one, 1) for one in ids]
    assert items[0]["logprobs"][0] - items[0]["logprobs"][1] == pytest.approx(expected[0] - expected[1], abs=1e-4)
    assert rows["stereotype_share"]["higher_is_better"] is None
    assert rows["stereotype_share"]["value"] == float(expected[0] > expected[1])


# --- decontamination --------------------------------------------------------------------------------------------------


def test_training_text_is_searched_for_questions_right_choices_and_bare_sentences(tmp_path: Path) -> None:
    right = "perché la rotazione della terra sposta le masse d'aria verso oriente ogni giorno"
    wrong = "perché i pescatori di Ancona hanno deciso di remare sempre nella stessa direzione"
    sentence = "Le barche che il vento aveva spinto al largo tornarono in porto prima di sera."
    question = Message(role="user", content="Come mai i venti delle medie latitudini soffiano da ovest verso est?")
    items = [
        Item(id="q", messages=(question,), gold=1, choices=(wrong, right)),
        Item(id="s", messages=(), gold=None, choices=(sentence, "Il cane.")),
    ]
    index = Index(build([Asked(evaluation="e", items=items)], Decontamination(), tmp_path))

    def found(text: str) -> list[str]:
        return [leak.item for leak in index.leaks(Words.of(text))]

    assert found(f"Ho letto che {question.content}") == ["q"]
    assert found(f"Succede {right}, dicono.") == ["q"]
    assert found(f"Succede {wrong}, dicono.") == [], "a wrong choice gives nothing away"
    assert found(f"Ieri: {sentence} Poi piovve.") == ["s"]
