"""Dialogues that are too long: cut between exchanges, each part behind the system prompt, nothing lost or doubled."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from langadapt.corpus.splitting import exchanges, last, split
from langadapt.records import Message


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
