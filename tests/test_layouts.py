"""How rows become documents, layout by layout."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langadapt.corpus.layouts import COLUMNS, LAYOUTS, BadRow, as_row, recognise
from langadapt.records import Document, Message


def turns(layout: str, row: dict) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in LAYOUTS[layout](row, "x").messages]


CHAT = [
    ("system", "Sii breve."),
    ("user", "Chi sei?"),
    ("assistant", "Un modello."),
    ("user", "E poi?"),
    ("assistant", "Basta."),
]


def test_text_is_kept_as_it_is_with_its_place_as_id():
    document = LAYOUTS["text"]({"text": "  uno\n due "}, "a.jsonl:3")
    assert (document.id, document.text, document.messages) == ("a.jsonl:3", "  uno\n due ", ())


def test_messages_keep_roles_and_order():
    assert turns("messages", {"messages": [{"role": r, "content": c} for r, c in CHAT]}) == CHAT


def test_sharegpt_speakers_become_roles():
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    assert turns("sharegpt", {"conversations": [{"from": names[r], "value": c} for r, c in CHAT]}) == CHAT


ASKED_AND_TOLD = [("user", "Chi sei?"), ("assistant", "Un modello.")]


@pytest.mark.parametrize(
    "row",
    [
        {"conversation": [{"from": "human", "value": "Chi sei?"}, {"from": "gpt", "value": "Un modello."}]},
        {"conversations": [{"from": "User", "value": "Chi sei?"}, {"from": "bing", "value": "Un modello."}]},
        {"conversations": [{"role": "user", "content": "Chi sei?"}, {"role": "assistant", "content": "Un modello."}]},
        {"conversation": [{"human": "Chi sei?", "assistant": "Un modello."}]},
        {"conversations": None, "conversation": [{"human": "Chi sei?", "assistant": "Un modello."}]},
        {"conversations": '[{"from": "human", "value": "Chi sei?"}, {"from": "gpt", "value": "Un modello."}]'},
    ],
    ids=["conversation", "speakers", "roles", "exchanges", "one of two columns", "as JSON"],
)
def test_sharegpt_is_read_in_its_variants(row):
    assert recognise(row) == "sharegpt" and turns("sharegpt", row) == ASKED_AND_TOLD


def test_messages_that_a_parquet_file_holds_as_json_are_read():
    row = {"messages": json.dumps([{"role": r, "content": c} for r, c in CHAT])}
    assert turns("messages", row) == CHAT
    with pytest.raises(BadRow, match="messages is not a list"):
        turns("messages", {"messages": "[{"})


# --- where a text is from ---

OSCAR = {
    "content": "Il testo.\nDue righe.",
    "warc_headers": {
        "warc-record-id": "<urn:uuid:1>",
        "warc-target-uri": "http://esempio.it/a",
        "warc-identified-content-language": "ita,eng",
    },
    "metadata": {"identification": {"label": "it", "prob": 0.97}, "quality_warnings": None, "categories": ["blog"]},
}
FINEWEB = {
    "text": "Il testo.", "id": "<urn:uuid:2>", "dump": "CC-MAIN-2023-14", "url": "https://esempio.it/b",
    "date": "2023-04-02T05:57:51Z", "language": "ita", "language_score": 0.99, "language_script": "Latn",
    "minhash_cluster_size": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "layout", "origin"),
    [
        (OSCAR, "oscar", {"id": "<urn:uuid:1>", "url": "http://esempio.it/a", "language": "it"}),
        ({"id": 7, "text": "Il testo."}, "text", {}),
        (
            {"id": 7, "text": "Il testo.", "meta": {k: v for k, v in OSCAR.items() if k != "content"}},
            "text",
            {"id": "<urn:uuid:1>", "url": "http://esempio.it/a"},
        ),
        (
            FINEWEB,
            "text",
            {"id": "<urn:uuid:2>", "url": "https://esempio.it/b", "language": "ita", "revision": "CC-MAIN-2023-14"},
        ),
        (
            {"text": "Il testo.", "timestamp": "2019-01-01", "url": "http://c.it", "source": "mC4"},
            "text",
            {"url": "http://c.it"},
        ),
        ({"text": "Il testo.", "url": 3, "license": "", "language": None, "metadata": "none"}, "text", {}),
        ({"text": "Il testo.", "license": "CC-BY-4.0"}, "text", {"licence": "CC-BY-4.0"}),
    ],
    ids=["OSCAR", "OSCAR 2019", "OSCAR 2301 as a table", "FineWeb-2", "mC4", "nothing usable", "licence"],
)
def test_running_text_of_published_sets_is_recognised_and_knows_where_it_is_from(row, layout, origin):
    assert recognise(row) == layout
    document = LAYOUTS[layout](row, "a:1")
    assert document.text.startswith("Il testo.") and document.id == "a:1" and document.origin == origin


def test_a_cleaned_document_still_knows_where_it_is_from_when_it_is_read_as_any_text():
    document = Document(id="a:1", text="Il testo.", origin={"url": "http://a.it/1", "language": "it"})
    again = LAYOUTS["text"](as_row(document), "b:7")
    assert (again.id, again.origin) == ("b:7", {"id": "a:1", "url": "http://a.it/1", "language": "it"})


def test_a_dialogue_knows_where_it_is_from():
    row = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": "x1", "lang": "it"}
    assert LAYOUTS["sharegpt"](row, "a:1").origin == {"id": "x1", "language": "it"}


@settings(max_examples=200)
@given(
    text=st.text(max_size=5),
    contexts=st.lists(st.text(max_size=3), max_size=3),
    rejected=st.text(max_size=3),
    origin=st.dictionaries(st.sampled_from(["id", "url", "language"]), st.text(max_size=3)),
)
def test_a_document_comes_back_from_its_row(text, contexts, rejected, origin):
    messages = [
        message
        for context in contexts
        for message in (Message(role="user", content="a", context=context), Message(role="assistant", content="b"))
    ]
    document = (
        Document(id="7", messages=tuple(messages), rejected=rejected, origin=origin)
        if messages
        else Document(id="7", text=text, origin=origin)
    )
    assert LAYOUTS["document"](json.loads(json.dumps(as_row(document))), "a:1") == document


def test_ultrachat_turns_alternate_from_the_user():
    assert turns("ultrachat", {"id": "1", "data": ["a", "b", "c", "d"]}) == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ]


@pytest.mark.parametrize(
    ("layout", "given", "answer"), [("dolly", "context", "response"), ("alpaca", "input", "output")]
)
def test_an_instruction_keeps_the_text_that_it_refers_to_apart(layout, given, answer):
    document = LAYOUTS[layout]({"instruction": "Riassumi.", given: "Lungo testo.", answer: "Breve."}, "x")
    assert document.messages == (
        Message(role="user", content="Riassumi.", context="Lungo testo."),
        Message(role="assistant", content="Breve."),
    )


@pytest.mark.parametrize(
    ("layout", "given", "answer"), [("dolly", "context", "response"), ("alpaca", "input", "output")]
)
@pytest.mark.parametrize("values", [[], [None], [""]])
def test_an_instruction_may_refer_to_nothing(layout, given, answer, values):
    row = {"instruction": "Saluta.", answer: "Ciao."} | dict.fromkeys([given][: len(values)], *values)
    assert LAYOUTS[layout](row, "x").messages[0] == Message(role="user", content="Saluta.")


@pytest.mark.parametrize(
    ("layout", "given", "answer"), [("dolly", "context", "response"), ("alpaca", "input", "output")]
)
def test_a_text_that_an_instruction_refers_to_is_never_lost_in_silence(layout, given, answer):
    with pytest.raises(BadRow, match=f"{given} is not text"):
        LAYOUTS[layout]({"instruction": "Somma.", given: [1, 2], answer: "3"}, "x")


def test_an_unanswered_last_question_is_left_out():
    assert turns("ultrachat", {"data": ["a", "b", "c"]}) == [("user", "a"), ("assistant", "b")]


def test_an_unanswered_last_question_is_left_out_with_what_follows_it():
    rows = [*CHAT, ("user", "E dopo?"), ("system", "Fine.")]
    assert turns("messages", {"messages": [{"role": r, "content": c} for r, c in rows]}) == CHAT


# --- preferences ---

ASKED, GOOD, BAD = ("user", "Chi sei?"), ("assistant", "Un modello."), ("assistant", "I am a model.")


def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED[1], "chosen": GOOD[1], "rejected": BAD[1]},
        {"prompt": said(ASKED), "chosen": said(GOOD), "rejected": said(BAD)},
        {"prompt": said(ASKED), "chosen": GOOD[1], "rejected": BAD[1]},
        {"chosen": said(ASKED, GOOD), "rejected": said(ASKED, BAD)},
        {"prompt": ASKED[1], "chosen": said(ASKED, GOOD), "rejected": said(ASKED, BAD)},
    ],
    ids=["texts", "explicit", "mixed", "implicit", "implicit beside a prompt"],
)
def test_a_preference_is_a_dialogue_and_the_answer_that_was_liked_less(row):
    document = LAYOUTS["preference"](row, "x")
    assert document.messages == (Message(role="user", content=ASKED[1]), Message(role="assistant", content=GOOD[1]))
    assert document.rejected == BAD[1]
    assert BAD[1] in document.content, "filters, digests and deduplication see both answers"


def test_a_prompt_column_that_repeats_the_first_question_does_not_hide_the_rest_of_the_dialogue():
    """UltraFeedback and its kin: `prompt` is the first question even where the answers come after several turns."""
    more = [ASKED, GOOD, ("user", "E poi?")]
    row = {"prompt": ASKED[1], "chosen": said(*more, ("assistant", "Basta.")), "rejected": said(*more, BAD)}
    assert turns("preference", row) == [*more, ("assistant", "Basta.")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": said(ASKED, GOOD), "rejected": said(("user", "Altro?"), BAD)}, "do not share their prompt"),
        ({"chosen": GOOD[1], "rejected": BAD[1]}, "no prompt"),
        ({"prompt": "a", "chosen": "b", "rejected": " b "}, "chosen and rejected are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty turn"),
        ({"prompt": "a", "chosen": "", "rejected": "b"}, "empty turn"),
        ({"prompt": "a", "chosen": "b"}, "no rejected"),
        ({"prompt": "a", "chosen": [], "rejected": "b"}, "chosen is no list of messages"),
        ({"prompt": said(ASKED, GOOD), "chosen": "b", "rejected": "c"}, "turns do not alternate"),
    ],
)
def test_a_row_that_is_no_preference_says_why(row, reason):
    with pytest.raises(BadRow, match=reason):
        LAYOUTS["preference"](row, "x")


def test_what_a_stage_writes_is_read_back_whole():
    from dataclasses import asdict

    asked = Message(role="user", content="Riassumi.", context="Un testo lungo.")
    pair = Document(id="7", messages=(asked, Message(role="assistant", content="Breve.")), rejected="Lungo.")
    assert LAYOUTS["document"]({**asdict(pair), "messages": [asdict(m) for m in pair.messages]}, "x:1") == pair
    assert LAYOUTS["document"]({"id": "8", "text": "ciao"}, "x:2") == Document(id="8", text="ciao")
    assert LAYOUTS["document"]({"text": "ciao"}, "x:3").id == "x:3"
    with pytest.raises(BadRow, match="rejected is not text"):
        LAYOUTS["document"]({"id": "9", "messages": said(ASKED, GOOD), "rejected": 3}, "x:4")


MESSAGES = [
    ({"messages": None}, "no messages"),
    ({}, "no messages"),
    ({"messages": "ciao"}, "messages is not a list"),
    ({"messages": []}, "no answer to learn from"),
    ({"messages": ["ciao", "salve"]}, "no role"),
    ({"messages": [{"role": "user"}, {"role": "assistant", "content": "b"}]}, "no content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "content is not text"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]}, "no content"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}, "unknown role"),
    ({"messages": [{"role": "user", "content": "a"}]}, "no answer to learn from"),
    ({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]}, "no answer to learn from"),
    (
        {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]},
        "turns do not alternate between user and assistant",
    ),
    ({"messages": [{"role": "user", "content": "a"}] * 2}, "turns do not alternate between user and assistant"),
    ({"messages": [{"role": "user", "content": " \n"}, {"role": "assistant", "content": "b"}]}, "empty turn"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}, "empty turn"),
]
OTHERS = [
    ("text", {"text": None}, "no text"),
    ("text", {"text": 3}, "text is not text"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "a"}, {"from": "bot", "value": "b"}]}, "unknown role"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt"}]}, "no value"),
    ("ultrachat", {"data": ["a", None]}, "a turn is not text"),
    ("ultrachat", {"data": {"0": "a"}}, "data is not a list"),
    ("ultrachat", {"data": ["a"]}, "no answer to learn from"),
    ("ultrachat", {"data": ["a", ""]}, "empty turn"),
    ("dolly", {"instruction": "a"}, "no response"),
    ("dolly", {"instruction": "a", "response": 3}, "response is not text"),
    ("dolly", {"instruction": " ", "response": "b"}, "empty instruction or answer"),
    ("alpaca", {"instruction": "a", "output": ""}, "empty instruction or answer"),
    ("alpaca", {"output": "b"}, "no instruction"),
]


@pytest.mark.parametrize(
    ("layout", "row", "reason"), [*(("messages", row, reason) for row, reason in MESSAGES), *OTHERS]
)
def test_a_row_that_is_no_document_says_why(layout, row, reason):
    with pytest.raises(BadRow) as error:
        LAYOUTS[layout](row, "x")
    assert str(error.value) == reason


value = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["user", "assistant", "system", "human", "gpt"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), inner)
    ),
    max_leaves=12,
)
turn = st.fixed_dictionaries(
    {
        **dict.fromkeys(("role", "from"), st.sampled_from(["user", "assistant", "system"])),
        **dict.fromkeys(("content", "value"), st.sampled_from(["a", "b", ""])),
    }
)
cell = (
    st.none()
    | st.text(max_size=3)
    | st.lists(turn, max_size=5)
    | st.lists(st.sampled_from(["a", "b", ""]), max_size=5)
    | value
)


@st.composite
def rows(draw):
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    return layout, draw(
        st.fixed_dictionaries(dict.fromkeys(COLUMNS[layout], cell), optional={"context": cell, "input": cell})
    )


@settings(max_examples=600)
@given(rows())
def test_any_row_becomes_a_document_or_a_reason(layout_and_row):
    """Whatever is accepted is a text, or a dialogue that alternates and ends with an answer."""
    layout, row = layout_and_row
    try:
        document = LAYOUTS[layout](row, "x")
    except BadRow as reason:
        assert str(reason)
        return
    assert isinstance(document.content, str)
    spoken = [m for m in document.messages if m.role != "system"]
    if not document.messages:
        assert layout in ("text", "oscar", "document")
    else:
        assert [m.role for m in spoken] == ["user", "assistant"] * (len(spoken) // 2) and spoken
        assert document.messages[-1].role != "user"
        assert all(m.content.strip() for m in document.messages)


@pytest.mark.parametrize(
    ("columns", "layout"),
    [
        ({"text", "url", "timestamp"}, "text"),
        ({"messages", "source"}, "messages"),
        ({"conversations", "id"}, "sharegpt"),
        ({"data", "id"}, "ultrachat"),
        ({"instruction", "context", "response", "category"}, "dolly"),
        ({"instruction", "input", "output"}, "alpaca"),
        ({"instruction", "output"}, "alpaca"),
        ({"prompt", "chosen", "rejected"}, "preference"),
        ({"source", "chosen", "rejected", "prompt", "messages"}, "preference"),
        ({"instruction", "risposta"}, ""),
        ({"body"}, ""),
        (set(), ""),
    ],
)
def test_the_layout_is_known_by_its_columns(columns, layout):
    assert recognise(columns) == layout


def test_every_layout_has_columns_that_it_is_known_by():
    assert set(COLUMNS) == set(LAYOUTS)
    for name, columns in COLUMNS.items():
        assert recognise(set(columns)) == ("" if name == "document" else name), "what stages write is read by name"


def test_instructions_that_repeat_their_prompt_in_a_text_column_are_still_instructions():
    assert recognise({"text", "instruction", "input", "output"}) == "alpaca"
    assert recognise({"text", "url"}) == "text"
