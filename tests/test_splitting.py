"""Dialogues that are too long: cut between exchanges, each part behind the system prompt, nothing lost or doubled."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt.corpus.mixing import plan_mix
from langadapt.corpus.preparing import Source
from langadapt.corpus.splitting import exchanges, last, split
from langadapt.corpus.tokenising import LEFT_OUT, Packed
from langadapt.loading import load_tokenizer
from langadapt.plugins import registry
from langadapt.records import Document, Message, StageKind
from langadapt.stages.preference import STAGE as PREFERENCE
from langadapt.stages.sft import STAGE as SFT
from langadapt.testing import tiny_model


def said(*turns: str) -> tuple[Message, ...]:
    """`s:`, `u:` or `a:` and what was said."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return tuple(Message(role=roles[turn[0]], content=turn[2:]) for turn in turns)


def fits(limit: int):
    return lambda messages: sum(len(m.content) for m in messages) <= limit


turns = st.lists(st.tuples(st.sampled_from("ua"), st.text("xy", min_size=1, max_size=6)), min_size=1, max_size=12)


@given(opening=st.integers(0, 2), turns=turns, limit=st.integers(1, 30))
def test_parts_are_the_dialogue_again_each_behind_the_system_prompt(opening, turns, limit):
    system = said(*["s:zz"] * opening)
    dialogue = system + said(*(f"{role}:{text}" for role, text in turns))
    parts = list(split(dialogue, fits(limit)))
    assert all(part[:opening] == system for part in parts)
    assert tuple(m for part in parts for m in part[opening:]) == dialogue[opening:]
    for part in parts:
        assert fits(limit)(part) or len(exchanges(part)[1]) == 1, "only one exchange may be too long"
    for one, next_ in pairwise(parts):
        assert not fits(limit)((*one, *exchanges(next_)[1][0])), "as many exchanges stay together as fit"


@given(turns=turns, limit=st.integers(1, 30))
def test_the_last_exchanges_that_fit_are_an_end_of_the_dialogue(turns, limit):
    dialogue = said("s:zz", *(f"{role}:{text}" for role, text in turns))
    kept = last(dialogue, fits(limit))
    assert kept[0] == dialogue[0] and kept[1:] == dialogue[len(dialogue) - len(kept) + 1 :]
    assert fits(limit)(kept) or len(exchanges(kept)[1]) == 1


def test_an_exchange_is_what_is_asked_up_to_the_end_of_the_answer():
    opening, found = exchanges(said("s:1", "u:2", "a:3", "u:4", "u:5", "a:6", "a:7", "s:8", "u:9"))
    assert opening == said("s:1")
    assert found == [said("u:2", "a:3"), said("u:4", "u:5", "a:6", "a:7"), said("s:8", "u:9")]


def test_a_dialogue_of_nothing_but_a_system_prompt_has_no_parts():
    assert list(split(said("s:1"), fits(1))) == []


# --- in the stages ---


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What a stage would train on, of the given documents."""
    tokenizer = load_tokenizer(tiny_model(tmp_path / "model"))
    for module in ("langadapt.training", "langadapt.preference"):
        monkeypatch.setattr(f"{module}.train", lambda context, packed, options, **_: packed)

    def pack(kind: StageKind, documents: list[Document], **options: Any) -> tuple[Packed, Any]:
        source = Source(label="x", read=lambda: documents)
        stage = SimpleNamespace(
            id="chat",
            inputs=[SimpleNamespace(label="x", bytes=1, screen=None, source=lambda: source)],
            work=plan_mix([1.0], []),
            ingredients={},
            options=kind.options.model_validate({"id": "chat", "kind": kind.name, "corpus": ["dolly-it"], **options}),
        )
        context: Any = SimpleNamespace(
            folder=tmp_path, stage=stage, stop=threading.Event(), rows=None, log=SimpleNamespace(info=lambda line: None),
            tokenizer=lambda: tokenizer, registry=registry(),
        )  # fmt: skip
        return kind.run(context), tokenizer  # type: ignore[return-value]

    return pack


def texts(rows: Any, tokenizer: Any) -> list[str]:
    """The sequences in rows, by their positions."""
    found: list[list[int]] = []
    for number in range(len(rows)):
        row = rows[number]
        for token, position in zip(row["input_ids"], row["position_ids"], strict=True):
            if position == 0:
                found.append([])
            found[-1].append(int(token))
    return [tokenizer.decode(ids) for ids in found if ids != [tokenizer.pad_token_id]]


LONG = Document(
    id="d",
    messages=said(
        "s:Sei breve.", *(f"{'ua'[i % 2]}:turno numero {i}" for i in range(12)), "u:e?", f"a:{'lungo ' * 200}"
    ),
)


def test_a_long_dialogue_is_dropped_unless_the_recipe_says_otherwise(packed):
    found, _ = packed(SFT, [LONG, Document(id="e", messages=said("u:Ciao", "a:Salve"))], training={"max_length": 200})
    assert found.accounting.documents.dropped == {"longer than max_length": 1}


def test_a_long_dialogue_becomes_parts_with_the_system_prompt_and_every_answer_once(packed):
    found, tokenizer = packed(SFT, [LONG], training={"max_length": 200}, too_long="split")
    parts = texts(found.rows, tokenizer)
    assert len(parts) > 1 and all(part.startswith("<|im_start|>system\nSei breve.") for part in parts)
    for number in range(12):
        assert sum(f"turno numero {number}<" in part for part in parts) == 1
    assert not any("lungo" in part for part in parts)
    tokens = found.accounting.tokens
    assert set(tokens.dropped) == {"exchange longer than max_length"} and found.given[0].split == 1
    assert tokens.read == tokens.trained + sum(tokens.dropped.values()) and found.accounting.documents.kept == 1
    learnt = sum((found.rows[row]["labels"] != -100).sum() for row in range(len(found.rows)))
    answers = sum(len(tokenizer(f"turno numero {n}<|im_end|>")["input_ids"]) for n in range(1, 12, 2))
    assert learnt == pytest.approx(answers, abs=12), "answers alone are learnt; a token may reach over their border"


def test_a_long_pair_keeps_the_last_exchanges_that_fit(packed):
    pair = Document(id="p", messages=LONG.messages[:13], rejected="turno sbagliato")
    found, tokenizer = packed(PREFERENCE, [pair], training={"max_length": 130}, too_long="split")
    chosen, rejected = texts(found.rows.rows, tokenizer)
    assert "turno numero 11<" in chosen and "turno sbagliato<" in rejected
    assert chosen.startswith("<|im_start|>system\nSei breve.") and "turno numero 0<" not in chosen
    assert chosen.partition("turno numero 11")[0] == rejected.partition("turno sbagliato")[0]
    tokens = found.accounting.tokens
    assert set(tokens.dropped) == {LEFT_OUT} and tokens.read == tokens.trained + tokens.dropped[LEFT_OUT]
    found.accounting.check()
