"""The mix: shares exact to one document, replay that never grows, passes over a source, shares by size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt.corpus.mixing import Given, Marks, Mix, is_in_pass, mix, plan_mix
from langadapt.corpus.preparing import content_hash
from langadapt.errors import UserError
from langadapt.records import Document

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=40)


def drawn(streams: list[list[int]], plan: Mix) -> list[tuple[int, int]]:
    """Stream numbers and sizes in the order of the draws; what is spent is what was drawn."""
    spent = [0.0] * len(streams)
    found = []
    for number, size in mix([iter(s) for s in streams], plan, spent.__getitem__):
        spent[number] += plan.spending(size)
        found.append((number, size))
    return found


@given(st.lists(st.tuples(sizes, st.sampled_from([0.1, 0.5, 0.9, 1.0, 3.0])), min_size=1, max_size=4))
def test_the_mix_keeps_to_its_shares_within_a_document(streams):
    """As long as no source has run out, what a source is ahead of another is less than one document of its own."""
    plan = plan_mix([weight for _, weight in streams], [])
    assert sum(plan.shares) == pytest.approx(1)
    order = drawn([stream for stream, _ in streams], plan)
    spent, taken = [0] * len(streams), [0] * len(streams)
    for number, size in order:
        assert size == streams[number][0][taken[number]], "a source's own order is kept"
        spent[number] += size
        taken[number] += 1
        if all(t < len(stream) for t, (stream, _) in zip(taken, streams, strict=True)):
            progress = [s / share for s, share in zip(spent, plan.shares, strict=True)]
            for i, (stream, _) in enumerate(streams):
                assert progress[i] - min(progress) <= max(stream) / plan.shares[i] + 1e-6
    assert taken == [len(stream) for stream, _ in streams], "everything is drawn in the end"


def test_shares_are_of_tokens_or_of_documents():
    long, short = [100] * 300, [1] * 3000
    by_tokens = drawn([long, short], plan_mix([0.5, 0.5], []))
    assert sum(s for n, s in by_tokens[:1000] if n == 1) == pytest.approx(1000 / 101 * 100, abs=100)
    by_documents = drawn([long, short], plan_mix([0.5, 0.5], [], by="documents"))
    assert [n for n, _ in by_documents[:6]] == [0, 1, 0, 1, 0, 1]


def test_a_source_that_runs_out_leaves_the_mix_to_the_others_in_their_proportion():
    order = drawn([[1], [1] * 300, [1] * 300], plan_mix([10, 2, 1], []))
    first = [number for number, _ in order[:301]]
    assert [first.count(i) for i in range(3)] == [1, 200, 100]


@given(st.lists(sizes, min_size=1, max_size=3), sizes, st.sampled_from([0.05, 0.1, 0.5]))
def test_replay_never_gives_more_than_its_share_and_one_document(streams, replayed, share):
    plan = plan_mix([1.0] * len(streams), [], replay=share)
    assert plan.replays == len(streams) and plan.shares[-1] == share
    order = drawn([*streams, replayed * 50], plan)
    assert [sum(n == i for n, _ in order) for i in range(len(streams))] == [len(s) for s in streams]
    gave = sum(size for number, size in order if number == plan.replays)
    total = sum(size for _, size in order)
    assert gave <= share * total + max(replayed) + max(map(max, streams))


def test_what_has_nothing_to_replay_goes_on_without():
    assert len(drawn([[1] * 50, [1] * 2], plan_mix([1.0], [], replay=0.5))) == 52


# --- shares by size ---


def test_without_a_temperature_shares_are_the_weights():
    assert plan_mix([3, 1], [("a", None), ("b", 5)]).shares == (0.75, 0.25)


def test_temperature_1_is_in_proportion_to_weight_times_size():
    assert plan_mix([1, 2], [("a", 900), ("b", 50)], temperature=1.0).shares == pytest.approx((0.9, 0.1))


@given(st.lists(st.integers(1, 10**12), min_size=2, max_size=5), st.floats(1, 20), st.floats(1.01, 5))
def test_a_higher_temperature_lifts_the_small_and_keeps_the_order(counts, temperature, factor):
    sized = [(str(i), float(n)) for i, n in enumerate(counts)]
    cool = plan_mix([1.0] * len(counts), sized, temperature=temperature).shares
    warm = plan_mix([1.0] * len(counts), sized, temperature=temperature * factor).shares
    least, most = counts.index(min(counts)), counts.index(max(counts))
    assert warm[least] >= cool[least] - 1e-12 and warm[most] <= cool[most] + 1e-12
    assert sum(warm) == pytest.approx(1)


def test_temperature_5_by_hand():
    """32 ^ (1/5) is 2, so a corpus 32 times as large is drawn twice as often."""
    assert plan_mix([1, 1], [("a", 32e9), ("b", 1e9)], temperature=5.0).shares == pytest.approx((2 / 3, 1 / 3))


def test_temperature_with_replay_leaves_replay_its_share():
    assert plan_mix([1, 1], [("a", 32), ("b", 1)], temperature=5.0, replay=0.1).shares == pytest.approx((0.6, 0.3, 0.1))


def test_a_size_that_is_not_known_is_named():
    with pytest.raises(UserError, match="that of corpus b is not known"):
        plan_mix([1, 1], [("a", 5), ("b", None)], temperature=2.0)


# --- passes ---


def test_two_and_a_half_passes_take_half_of_the_documents_a_third_time():
    digests = [content_hash(Document(id="", text=f"testo {i}")) for i in range(4000)]
    in_passes = [sum(is_in_pass(d, number, 2.5) for d in digests) for number in range(4)]
    assert in_passes[:2] == [4000, 4000] and abs(in_passes[2] - 2000) < 130 and in_passes[3] == 0


def test_a_part_of_a_pass_is_part_of_a_larger_one_and_apart_from_the_held_out_split():
    from langadapt.corpus.preparing import is_held_out

    digests = [content_hash(Document(id="", text=f"testo {i}")) for i in range(4000)]
    quarter = {d for d in digests if is_in_pass(d, 0, 0.25)}
    assert quarter < {d for d in digests if is_in_pass(d, 0, 0.5)}
    held_out = sum(is_held_out(d, 0.5) for d in quarter)
    assert abs(held_out - len(quarter) / 2) < 65


@given(st.sets(st.integers(0, 3000)))
def test_marks_are_a_set_of_numbers(numbers):
    marks = Marks()
    for number in sorted(numbers):
        marks.add(number)
    assert {n for n in range(3100) if n in marks} == numbers


def test_what_a_source_gave_is_said():
    given_ = Given(corpus="a", share=0.9, drawn=80, documents=4, tokens=80, repeated=2, ran_out=True)
    assert given_.sentence(100, "tokens") == (
        "a: 80.0% of the tokens (planned 90.0%), 80 tokens of 4 documents, 2 times one of them again, "
        "and has no more to give"
    )
