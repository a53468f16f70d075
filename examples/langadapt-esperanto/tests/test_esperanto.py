"""What every language plugin should test; nothing here loads a model."""

from __future__ import annotations

import pytest
from langadapt_esperanto import corpora, evaluations, language, prompts

from langadapt import Answer, Document, Item, Message, Segment

DIALOGUE = [
    Message(role="user", content="Kalkulu.", context="du plus du"),
    Message(role="assistant", content="kvar"),
    Message(role="user", content="Ĉu vere?"),
    Message(role="assistant", content="Jes."),
]


def test_words() -> None:
    assert language.words("La 3 ĉevaloj, ĉu?") == ["La", "3", "ĉevaloj", ",", "ĉu", "?"]


@pytest.mark.parametrize("corpus", corpora.CORPORA, ids=lambda c: c.name)
def test_samples_are_there(corpus) -> None:
    assert corpus.sample.stat().st_size > 0
    assert corpus.sample_licence == "CC0-1.0"


@pytest.mark.parametrize(
    ("text", "kept"), [("Ĉu?", True), ("no", True), ("la " * 100, False), ("la ĉielo " * 50, True)]
)
def test_long_documents_without_a_letter_of_the_language_are_dropped(text: str, kept: bool) -> None:
    outcome = corpora.has_letters(Document(id="1", text=text))
    assert (outcome == Document(id="1", text=text)) if kept else (outcome == "no Esperanto letter")


@pytest.mark.parametrize("turns", [1, 3])
def test_the_prompt_is_how_the_training_example_begins(turns: int) -> None:
    prompt = list(prompts.render(DIALOGUE[:turns], ""))
    example = list(prompts.render(DIALOGUE[: turns + 1], ""))
    assert example[: len(prompt)] == prompt
    learnt = Segment(text=DIALOGUE[turns].content, loss=True)
    assert example[len(prompt) :] == [learnt, Segment(special="eos", loss=True)]


@pytest.mark.parametrize(("text", "prediction"), [("23", "23"), ("Estas 23!", "23"), ("dudek tri", None), ("", None)])
def test_any_text_is_decoded_or_refused(text: str, prediction: str | None) -> None:
    assert evaluations.decode(text) == prediction


def test_right_answers_score_one_and_no_answer_scores_nothing() -> None:
    questions = list(evaluations.items(corpora.NUMBERS.sample))
    assert len(questions) == 24 and all(isinstance(q, Item) for q in questions)
    right = [Answer(item=q, text=q.gold, prediction=evaluations.decode(q.gold)) for q in questions]
    assert evaluations.score(right) == {"accuracy": 1.0}
    assert evaluations.score([Answer(item=questions[0], text="ne", prediction=None)]) == {"accuracy": 0.0}
