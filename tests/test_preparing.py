"""Cleaning, deduplication, split and mix: every document is on one side, or dropped under a name."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from langadapt.corpus.preparing import Accounting, Source, clean, content_hash, is_held_out, mix
from langadapt.records import Document, Message, Rejected


def source(items, **options) -> Source:
    options.setdefault("label", "x")
    return Source(read=lambda: iter(items), **options)


def documents(*texts: str) -> list[Document]:
    return [Document(id=str(i), text=text) for i, text in enumerate(texts)]


def cleaned(*sources: Source, seen: set[bytes] | None = None):
    """What is kept as (side, text), and the accounting."""
    accounting, seen = Accounting(), set() if seen is None else seen
    kept = [(side, d.text) for s in sources for side, d in clean(s, accounting, seen)]
    accounting.check()
    return kept, accounting


def shouting(d):
    return "shouts" if d.text.isupper() else d


def short(d):
    return "short" if len(d.text) < 3 else d


def no_digits(d):
    return replace(d, text="".join(c for c in d.text if not c.isdigit()))


anything = st.one_of(
    st.builds(Document, id=st.just("d"), text=st.text("aAàÀ1 \u0300\ud800", max_size=6)),
    st.builds(
        lambda question, answer: Document(
            id="m", messages=(Message(role="user", content=question), Message(role="assistant", content=answer))
        ),
        st.text("ab ", max_size=3),
        st.text("ab\ud800", max_size=3),
    ),
    st.builds(
        Rejected, reason=st.sampled_from(["not UTF-8", "no text"]), where=st.just("f:1"), size=st.integers(0, 50)
    ),
)
some_steps = st.lists(st.sampled_from([shouting, short, no_digits]), max_size=3).map(tuple)


# --- accounting ---


@given(
    sources=st.lists(st.tuples(st.lists(anything, max_size=12), some_steps, st.sampled_from([0, 0.3])), max_size=3),
    stop=st.integers(0, 20),
)
def test_sums_agree_at_every_moment_whatever_is_read(sources, stop):
    made = [source(items, steps=steps, held_out=share) for items, steps, share in sources]
    accounting = Accounting()
    for kept, _ in enumerate(islice(mix(made, accounting, lambda i: 0), stop or None), start=1):
        accounting.check()
        assert accounting.documents.kept == kept
    accounting.check()
    if not stop:
        items = [item for found, _, _ in sources for item in found]
        assert accounting.documents.read == len(items)
        sizes = [i.size if isinstance(i, Rejected) else len(i.content.encode("utf-8", "replace")) for i in items]
        assert accounting.bytes.read == sum(sizes)
        assert all(accounting.documents.dropped) and "" not in accounting.documents.dropped


def test_each_reason_is_counted_in_documents_and_bytes():
    items = [
        *documents("uno due", "URLA", "è", "uno due", "  \n", "x\ud800y"),
        Rejected(reason="not UTF-8", where="a:7", size=11),
    ]
    kept, accounting = cleaned(source(items, steps=(shouting, short)))
    assert kept == [("train", "uno due")]
    assert accounting.to_json()["documents"] == {
        "read": 7,
        "kept": 1,
        "dropped": {"shouts": 1, "short": 1, "exact duplicate": 1, "empty": 1, "lone surrogate": 1, "not UTF-8": 1},
    }
    assert accounting.to_json()["bytes"] == {
        "read": 37,
        "kept": 7,
        "dropped": {"shouts": 4, "short": 2, "exact duplicate": 7, "empty": 3, "lone surrogate": 3, "not UTF-8": 11},
    }


def test_a_sum_that_does_not_agree_is_noticed():
    for spoil in (
        lambda a: setattr(a.documents, "kept", 5),
        lambda a: a.bytes.dropped.update(x=1),
        lambda a: setattr(a.tokens, "held_out", 1),
    ):
        accounting = Accounting()
        spoil(accounting)
        with pytest.raises(AssertionError):
            accounting.check()


# --- filters and normalisation ---


def test_filters_change_documents_in_their_order():
    def tail(d):
        return replace(d, text=d.text + "1")

    assert cleaned(source(documents("a1b"), steps=(no_digits, tail)))[0] == [("train", "ab1")]
    assert cleaned(source(documents("a1b"), steps=(tail, no_digits)))[0] == [("train", "ab")]


def test_a_document_that_filters_leave_empty_is_dropped_by_name():
    kept, accounting = cleaned(source(documents("123", "uno"), steps=(no_digits,)))
    assert kept == [("train", "uno")]
    assert accounting.documents.dropped == {"empty": 1}


def test_documents_that_become_equal_by_filters_are_duplicates():
    kept, accounting = cleaned(source(documents("testo 1", "testo 2"), steps=(no_digits,)))
    assert kept == [("train", "testo ")] and accounting.documents.dropped == {"exact duplicate": 1}


def test_filters_see_composed_characters():
    def long(d):
        return "too long" if len(d.text) > 1 else d

    assert cleaned(source(documents("e\u0300"), steps=(long,)))[0] == [("train", "è")]


def test_messages_are_composed_too():
    asked = Message(role="user", content="perche\u0301", context="e\u0300")
    given = Document(id="d", messages=(asked, Message(role="assistant", content="sì")), rejected="e\u0300")
    ((_, kept),) = clean(Source(label="x", read=lambda: [given]), Accounting(), set())
    assert [(m.content, m.context) for m in kept.messages] == [("perché", "è"), ("sì", "")] and kept.rejected == "è"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_texts_that_are_equal_after_normalisation_are_kept_once(text):
    assume(text.strip())
    forms = dict.fromkeys(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    kept, accounting = cleaned(source(documents(text, *forms)))
    assert [t for _, t in kept] == [unicodedata.normalize("NFC", text)]
    assert accounting.documents.dropped["exact duplicate"] == len(forms)


def test_dialogues_with_equal_words_are_duplicates_and_with_other_words_are_not():
    def dialogue(answer: str) -> Document:
        return Document(
            id="", messages=(Message(role="user", content="Chi?"), Message(role="assistant", content=answer))
        )

    kept, accounting = cleaned(source([dialogue("Sì"), dialogue("Sì"), dialogue("Si\u0300"), dialogue("No")]))
    assert len(kept) == 2 and accounting.documents.dropped == {"exact duplicate": 2}


def test_duplicates_are_found_across_sources():
    accounting = Accounting()
    drawn = list(mix([source(documents("a", "b")), source(documents("b", "c"))], accounting, lambda i: 0))
    assert sorted(d.text for _, _, d in drawn) == ["a", "b", "c"]
    assert accounting.documents.dropped == {"exact duplicate": 1}


def test_only_as_many_documents_are_read_as_asked_for_and_refused_ones_count():
    pulled = []

    def endless():
        for number in range(1000):
            pulled.append(number)
            yield Rejected(reason="bad", where="", size=1) if number % 2 else Document(id="", text=f"testo {number}")

    accounting = Accounting()
    kept = list(clean(Source(label="x", read=endless, max_documents=7), accounting, set()))
    assert len(kept) == 4 and accounting.documents.read == 7 and len(pulled) == 7


# --- split ---


@given(
    texts=st.lists(st.text("abcdefgh", min_size=1, max_size=4), unique=True, max_size=30),
    share=st.sampled_from([0.05, 0.3, 0.9]),
    data=st.data(),
)
def test_the_same_text_is_on_the_same_side_whatever_its_file_its_place_and_its_neighbours(texts, share, data):
    first = dict((text, side) for side, text in cleaned(source(documents(*texts), held_out=share))[0])
    order = data.draw(st.permutations(texts))
    cut = data.draw(st.integers(0, len(texts)))
    renamed = [Document(id=f"other/{i}", text=text) for i, text in enumerate(order)]
    parts = [
        source(renamed[:cut], held_out=share, label="y"),
        source(renamed[cut:], held_out=share, weight=3, label="z"),
    ]
    again = {d.text: side for _, side, d in mix(parts, Accounting(), lambda i: 0)}
    assert again == first


@given(text=st.text(max_size=20), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_text_that_a_small_share_holds_out_a_larger_share_holds_out_too(text, low, high):
    low, high = sorted((low, high))
    digest = content_hash(Document(id="", text=text))
    assert is_held_out(digest, high) or not is_held_out(digest, low)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_the_held_out_share_is_what_was_asked_for(share):
    count = 20_000
    kept, _ = cleaned(source(documents(*(f"documento numero {i}" for i in range(count))), held_out=share))
    held_out = sum(side == "held_out" for side, _ in kept)
    assert abs(held_out - count * share) < 4 * math.sqrt(count * share * (1 - share))


def test_a_share_of_nothing_holds_nothing_out():
    kept, _ = cleaned(source(documents(*map(str, range(5000))), held_out=0.0))
    assert {side for side, _ in kept} == {"train"}


# --- mix ---

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@settings(max_examples=200)
@given(streams=st.lists(st.tuples(sizes, st.sampled_from([0.1, 0.5, 0.9, 1.0, 3.0])), min_size=1, max_size=4))
def test_the_mix_keeps_to_its_weights_within_a_document(streams):
    """As long as no source has run out, what a source is ahead of another is less than one document of its own."""
    made = [
        source([Document(id=str(size), text=f"{number}/{i}") for i, size in enumerate(stream)], weight=weight)
        for number, (stream, weight) in enumerate(streams)
    ]
    spent, drawn = [0] * len(made), [0] * len(made)
    for number, side, document in mix(made, Accounting(), spent.__getitem__):
        assert side == "train" and document.text == f"{number}/{drawn[number]}"
        spent[number] += int(document.id)
        drawn[number] += 1
        progress = [s / m.weight for s, m in zip(spent, made, strict=True)]
        slack = [max(stream) / weight for stream, weight in streams]
        if all(d < len(stream) for d, (stream, _) in zip(drawn, streams, strict=True)):
            for i in range(len(made)):
                assert progress[i] - min(progress) <= slack[i] + 1e-9
    assert drawn == [len(stream) for stream, _ in streams]


def test_a_source_that_runs_out_leaves_the_mix_to_the_others_in_their_proportion():
    made = [
        source(documents("breve"), weight=10),
        source([Document(id="", text=f"a{i}") for i in range(300)], weight=2),
        source([Document(id="", text=f"b{i}") for i in range(300)], weight=1),
    ]
    spent = [0, 0, 0]
    for number, _, _ in islice(mix(made, Accounting(), spent.__getitem__), 301):
        spent[number] += 1
    assert spent == [1, 200, 100]


def test_a_source_of_nothing_but_refused_rows_does_not_stop_the_mix():
    refused = [Rejected(reason="bad", where="", size=1)] * 3
    accounting = Accounting()
    drawn = list(mix([source(refused, weight=5), source(documents("a", "b"))], accounting, lambda i: 0))
    assert [d.text for _, _, d in drawn] == ["a", "b"] and accounting.documents.dropped == {"bad": 3}
