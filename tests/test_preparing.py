"""Cleaning, deduplication and split: every document is on one side, or dropped under a name."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from langadapt.corpus.duplicates import Seen
from langadapt.corpus.preparing import Accounting, Source, Work, clean, content_hash, is_held_out
from langadapt.records import Document, Message, Rejected


def source(items, *, steps=(), label: str = "x", **options) -> Source:
    return Source(label=label, read=lambda: iter(items), work=Work(steps=steps), **options)


def documents(*texts: str) -> list[Document]:
    return [Document(id=str(i), text=text) for i, text in enumerate(texts)]


def cleaned(*sources: Source):
    """What is kept as (side, text), and the accounting; duplicates are looked for over all sources."""
    accounting, seen = Accounting(), Seen()
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
    accounting, seen = Accounting(), Seen()
    drawn = (document for one in made for document in clean(one, accounting, seen))
    for kept, _ in enumerate(islice(drawn, stop or None), start=1):
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
    ((_, kept),) = clean(source([given]), Accounting())
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
    kept, accounting = cleaned(source(documents("a", "b")), source(documents("b", "c")))
    assert [text for _, text in kept] == ["a", "b", "c"]
    assert accounting.documents.dropped == {"exact duplicate": 1}


def test_a_source_that_may_repeat_itself_keeps_its_duplicates_and_all_it_shares_with_others():
    kept, accounting = cleaned(source(documents("a", "a"), repeats=True), source(documents("a", "b")))
    assert [text for _, text in kept] == ["a", "a", "a", "b"] and not accounting.documents.dropped


def test_only_as_many_documents_are_read_as_asked_for_and_refused_ones_count():
    pulled = []

    def endless():
        for number in range(1000):
            pulled.append(number)
            yield Rejected(reason="bad", where="", size=1) if number % 2 else Document(id="", text=f"testo {number}")

    accounting = Accounting()
    kept = list(clean(Source(label="x", read=endless, max_documents=7), accounting))
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
    assert {text: side for side, text in cleaned(*parts)[0]} == first


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
