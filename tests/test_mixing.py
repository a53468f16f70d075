"""The mix: shares exact to one document, replay that never grows, passes over a source, shares by size."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt.corpus.mixing import Given, Marks, Mix, is_in_pass, mix, plan_mix
from langadapt.corpus.preparing import content_hash
from langadapt.errors import RecipeError, UserError
from langadapt.recipe import Recipe
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


# --- in a recipe ---


@pytest.fixture
def planned(write, model_folder, tmp_path):
    """The plan of a recipe with one stage, of which the corpus and what comes after it are given."""
    write("a.jsonl", "".join(json.dumps({"text": f"testo {i} " * 40}) + "\n" for i in range(32)))
    write("b.jsonl", json.dumps({"text": f"altro {0} " * 40}) + "\n")
    write("chat.jsonl", json.dumps({"messages": [{"role": "user", "content": "x"}]}) + "\n")

    def plan(lines: str, kind: str = "cpt"):
        lines = lines.replace("PLACE", str(tmp_path))
        head = f'schema = 1\nname = "trial"\nlanguage = "it"\nbase_model = "{model_folder}"\n'
        stage = f'[evaluation]\nautomatic = false\n[[stage]]\nid = "adapt"\nkind = "{kind}"\n{lines}\n'
        return Recipe.load(write("recipe.toml", head + stage)).plan(tmp_path / "run")

    return plan


TWO = 'corpus = ["PLACE/a.jsonl", "PLACE/b.jsonl"]\n'


def test_a_plan_shows_the_shares(planned):
    (stage,) = planned(TWO.replace('"PLACE/a.jsonl"', '{ path = "PLACE/a.jsonl", weight = 3, epochs = 2.5 }')).stages
    assert stage.work.shares == (0.75, 0.25)
    (said,) = [note for note in stage.notes if note.startswith("mix by tokens")]
    assert "a.jsonl 75 %, up to 2.5 times; " in said and said.endswith("b.jsonl 25 %")
    assert any("max_steps is not set" in note for note in stage.notes)


def test_a_share_of_replay_is_from_the_corpus_that_the_language_names(planned):
    plan = planned(TWO + "replay = 0.1\ntraining = { max_steps = 5 }")
    (stage,) = plan.stages
    assert [found.label for found in stage.inputs][2] == "fineweb-en" and not stage.inputs[2].ref.held_out
    assert stage.work == Mix(shares=(0.45, 0.45, 0.1), replays=2) and plan.problems == []
    assert any(note.endswith("fineweb-en 10 % (replay)") for note in stage.notes)
    rehearsed = plan.recipe.rehearse().plan(plan.folder).stages[0]
    assert rehearsed.inputs[2].where == "sample" and not rehearsed.inputs[2].problem


def test_replay_can_name_files_or_a_stage_entry_and_holds_nothing_out_unless_told(planned):
    (stage,) = planned('corpus = "PLACE/a.jsonl"\nreplay = { share = 0.2, corpus = "PLACE/b.jsonl" }').stages
    assert stage.inputs[1].ref.held_out == 0 and stage.inputs[1].path.name == "b.jsonl"
    (stage,) = planned(
        'corpus = "PLACE/a.jsonl"\nreplay = { share = 0.2, corpus = { path = "PLACE/b.jsonl", held_out = 0.5 } }'
    ).stages
    assert stage.inputs[1].ref.held_out == 0.5


def test_a_corpus_that_is_measured_on_is_not_replayed(planned):
    (problem,) = [p for p in planned(TWO + 'replay = { share = 0.1, corpus = "replay-en" }').problems if "replay" in p]
    assert "the evaluation english measures on replay-en" in problem


def test_a_dialogue_stage_must_name_what_it_replays(planned):
    with pytest.raises(RecipeError, match=r"adapt\.replay: a corpus must be named.*replay = \{ share = 0\.1, corpus"):
        planned('corpus = "PLACE/chat.jsonl"\nreplay = 0.1', kind="sft")
    planned('corpus = "PLACE/chat.jsonl"\nreplay = { share = 0.1, corpus = "ultrachat" }', kind="sft")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("replay = 1.0", r"adapt\.replay\.share: .*less than 1"),
        ("replay = true", r"adapt\.replay: "),
        ('replay = { share = 0.1, corpus = "fineweb" }', r'no plugin offers the corpus "fineweb".*fineweb-en'),
        ('replay = { share = 0.1, corpus = { name = "fineweb-en", weight = 2 } }', "this corpus has no weight"),
        ("temperature = 0.5", r"adapt\.temperature: .*greater than or equal to 1"),
        ('weight_by = "bytes"', r"adapt\.weight_by: .*'tokens' or 'documents'"),
        ('too_long = "split"', r"adapt\.too_long: unknown key"),
    ],
)
def test_what_is_wrong_with_the_mix_is_said(planned, lines, message):
    with pytest.raises(RecipeError, match=message):
        planned(TWO + lines)


def test_temperature_goes_by_the_sizes_that_the_plan_found(planned):
    (stage,) = planned(TWO + "temperature = 5").stages
    a, b = (found.bytes for found in stage.inputs)
    assert stage.work.shares[0] / stage.work.shares[1] == pytest.approx((a / b) ** 0.2)
    unknown = planned('corpus = ["PLACE/a.jsonl", "ultrachat"]\ntemperature = 2').problems
    assert any(
        "stage adapt: temperature goes by sizes, and that of corpus ultrachat is not known" in p for p in unknown
    )


@pytest.mark.parametrize(
    "changed",
    ['weight_by = "documents"', "temperature = 2", "replay = 0.2", 'replay = { share = 0.1, corpus = "ultrachat" }'],
)
def test_each_of_them_makes_another_stage(planned, changed):
    before, after = (planned(TWO + lines).stages[0] for lines in ("replay = 0.1", changed))
    assert before.ingredients != after.ingredients
    epochs = planned(TWO.replace('"PLACE/a.jsonl"', '{ path = "PLACE/a.jsonl", epochs = 2 }')).stages[0]
    assert epochs.digest and epochs.digest != planned(TWO).stages[0].digest


def test_a_filled_recipe_means_the_same(planned, write, tmp_path):
    plan = planned(TWO + 'replay = { share = 0.1, corpus = "PLACE/b.jsonl" }\ntemperature = 2')
    again = Recipe.load(write("filled.toml", plan.recipe.to_toml())).plan(tmp_path / "run")
    assert again.stages[0].digest == plan.stages[0].digest != "" and again.stages[0].work == plan.stages[0].work


def test_the_sample_to_replay_is_no_text_that_is_measured_on():
    from langadapt.plugins import registry
    from langadapt.records import Corpus

    def texts(corpus: Corpus) -> set[str]:
        assert corpus.sample is not None
        return {json.loads(line)["text"] for line in Path(corpus.sample).read_text(encoding="utf-8").splitlines()}

    known = registry()
    replayed = texts(known.corpora[known.languages["it"].replay])
    assert len(replayed) == 16
    for evaluation in known.evaluations.values():
        if evaluation.method == "bits_per_byte":
            assert not replayed & texts(known.corpora[evaluation.corpus])


def test_draws_end_early_without_reading_on():
    """The mix asks for one item at a time."""
    asked = []

    def stream(number: int):
        for item in range(100):
            asked.append(number)
            yield item

    found = list(islice(mix([stream(0), stream(1)], plan_mix([1, 1], []), lambda i: asked.count(i)), 10))
    assert len(found) == len(asked) == 10
