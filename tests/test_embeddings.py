"""Initialisations of embeddings: what each gives, against values that are computed in another way."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

from langadapt.artifacts import ModelRef
from langadapt.embeddings import INITS, company, snippets, texts
from langadapt.embeddings.distilling import Student
from langadapt.errors import UserError
from langadapt.loading import load_model
from langadapt.plugins import registry
from langadapt.records import EmbeddingTask
from langadapt.testing import TEXTS, tiny_model
from langadapt.tokenizer.tokens import matched, read

BY_NAME = {init.name: init for init in INITS}
CLOSED = ("subtoken-mean", "position-weighted", "align", "similarity")  # those whose rows are sums of old rows
NEW = 8
CORPUS = [text for text in TEXTS for _ in range(12)]


def extended(old: Tokenizer, corpus: Sequence[str]) -> Tokenizer:
    """The tokenizer with `NEW` more merges, each of the pair that is most frequent in words then."""
    made = json.loads(old.to_str())
    for _ in range(NEW):
        now = Tokenizer.from_str(json.dumps(made))
        words = [word for text in corpus for word, _ in now.pre_tokenizer.pre_tokenize_str(text)]
        cut = [[token.value for token in now.model.tokenize(word)] for word in words]
        counts = Counter(pair for tokens in cut for pair in pairwise(tokens))
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        made["model"]["vocab"]["".join(pair)] = now.get_vocab_size()
        made["model"]["merges"].append(list(pair))
    return Tokenizer.from_str(json.dumps(made))


def task_of(folder: Path, new: Tokenizer, *, corpus: Sequence[str] = CORPUS) -> EmbeddingTask:
    """What a stage would hand to an initialisation, without options."""
    old = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    before, after, kept = read(old), read(new), matched(old, new)
    fresh = {id: after.data(token) for token, id in after.vocab.items() if kept[id] is None}
    return EmbeddingTask(
        model=load_model(ModelRef(weights=str(folder)), torch.float32).eval(),
        old=old,
        new=new,
        ids=sorted(fresh),
        pieces=[before.pieces(fresh[id]) for id in sorted(fresh)],
        kept=kept,
        texts=lambda: iter(corpus),
        options=None,
        seed=1,
        say=[].append,
    )


def rows_of(task: EmbeddingTask, name: str, **options: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    init = BY_NAME[name]
    return init.initialise(replace(task, options=init.options(**options)))


def options_of(name: str) -> dict[str, Any]:
    """Options that let an initialisation work on the corpus of these tests."""
    few: dict[str, dict[str, Any]] = {
        "similarity": {"min_count": 2, "dimensions": 16},
        "token-distillation": {"snippets": 2, "snippet_tokens": 20, "batch_size": 2, "learning_rate": 1e-2},
    }
    return few.get(name, {})


def said(task: EmbeddingTask) -> tuple[EmbeddingTask, list[str]]:
    lines: list[str] = []
    return replace(task, say=lines.append), lines


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def task(request: Any, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingTask:
    folder = tmp_path_factory.mktemp("base")
    tiny_model(folder, words=300, tie_word_embeddings=request.param, vocab_size=320, num_hidden_layers=3)
    old = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    return task_of(folder, extended(old, TEXTS))


def matrices(task: EmbeddingTask) -> list[torch.Tensor]:
    """The input matrix, and the output matrix where there is another."""
    model = task.model
    tied = model.config.tie_word_embeddings
    heads = [] if tied else [model.get_output_embeddings().weight.detach()]
    return [model.get_input_embeddings().weight.detach(), *heads]


def both(rows: tuple[torch.Tensor, torch.Tensor | None]) -> list[torch.Tensor]:
    return [one for one in rows if one is not None]


# --- all of them -----------------------------------------------------------------------------------------------------


def test_every_initialisation_can_be_named_in_a_recipe() -> None:
    assert set(BY_NAME) == {
        "subtoken-mean", "position-weighted", "random", "mean", "align", "similarity", "donor", "token-distillation",
    }  # fmt: skip
    assert set(BY_NAME) <= set(registry().embedding_inits)


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - {"donor"}))
def test_rows_fit_the_model_and_are_the_same_each_time_and_leave_it_alone(task: EmbeddingTask, name: str) -> None:
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    first, again = (rows_of(task, name, **options_of(name)) for _ in range(2))
    assert (first[1] is None) == task.model.config.tie_word_embeddings
    for rows, same in zip(both(first), both(again), strict=True):
        assert rows.shape == (NEW, task.model.config.hidden_size)
        assert rows.dtype is torch.float32
        assert not rows.requires_grad
        assert torch.equal(rows, same)
        assert rows.abs().amax(1).min() > 0
    assert all(torch.equal(value, before[key]) for key, value in task.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in task.model.parameters())


@pytest.mark.parametrize("name", CLOSED)
def test_a_row_does_not_depend_on_the_other_tokens_or_their_order(task: EmbeddingTask, name: str) -> None:
    reversed_ids = replace(task, ids=task.ids[::-1], pieces=task.pieces[::-1])
    alone = replace(task, ids=task.ids[3:4], pieces=task.pieces[3:4])
    for rows, backwards, one in zip(
        *(both(rows_of(some, name, **options_of(name))) for some in (task, reversed_ids, alone)), strict=True
    ):
        # Cosines of several tokens at once are rounded otherwise than those of one.
        tolerance = {"atol": 1e-5, "rtol": 1e-4} if name == "similarity" else {"atol": 0, "rtol": 0}
        torch.testing.assert_close(rows.flip(0), backwards, **tolerance)
        torch.testing.assert_close(rows[3:4], one, **tolerance)


@pytest.mark.parametrize("name", ["random", "token-distillation"])
def test_another_seed_gives_other_rows(task: EmbeddingTask, name: str) -> None:
    first, other = (rows_of(replace(task, seed=seed), name, **options_of(name)) for seed in (1, 2))
    assert all(not torch.equal(rows, others) for rows, others in zip(both(first), both(other), strict=True))


@pytest.mark.parametrize("name", ["align", "similarity", "token-distillation"])
def test_tokens_that_the_texts_lack_get_their_subtoken_mean_and_are_counted(task: EmbeddingTask, name: str) -> None:
    empty, lines = said(replace(task, texts=lambda: iter(())))
    found, expected = rows_of(empty, name), rows_of(task, "subtoken-mean")
    assert all(torch.equal(rows, mean) for rows, mean in zip(both(found), both(expected), strict=True))
    assert any(f"{NEW} come less than 10 times" in line or f"{NEW} do not come in the texts" in line for line in lines)


def test_a_row_of_zeros_becomes_the_mean(task: EmbeddingTask) -> None:
    zeroed, lines = said(replace(task, ids=task.ids[:2], pieces=[[5, 5], [6]]))
    for place, matrix in enumerate(matrices(task)):
        trained = matrix[5].clone()
        matrix[5] = 0
        rows, means = both(rows_of(zeroed, "subtoken-mean"))[place], both(rows_of(zeroed, "mean"))[place]
        assert torch.equal(rows[0], means[0])
        assert torch.equal(rows[1], matrix[6])
        matrix[5] = trained
        assert "1 new tokens would have had rows of zeros" in lines.pop()


# --- pieces ----------------------------------------------------------------------------------------------------------


def test_subtoken_means_are_the_means_in_either_matrix(task: EmbeddingTask) -> None:
    for rows, matrix in zip(both(rows_of(task, "subtoken-mean")), matrices(task), strict=True):
        expected = torch.stack([matrix[pieces].mean(0) for pieces in task.pieces])
        torch.testing.assert_close(rows, expected, atol=1e-7, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(piece=st.integers(0, 319), name=st.sampled_from(["subtoken-mean", "position-weighted"]))
def test_a_token_of_one_piece_starts_as_that_piece(task: EmbeddingTask, piece: int, name: str) -> None:
    one = replace(task, ids=task.ids[:1], pieces=[[piece]])
    assert all(
        torch.equal(rows[0], matrix[piece])
        for rows, matrix in zip(both(rows_of(one, name)), matrices(task), strict=True)
    )


def test_positions_weigh_towards_the_last_piece_in_and_towards_the_first_out(task: EmbeddingTask) -> None:
    three = replace(task, ids=task.ids[:1], pieces=[[7, 11, 13]])
    for rows, matrix, sign in zip(both(rows_of(three, "position-weighted")), matrices(task), (1, -1), strict=False):
        weights = [math.exp(sign * 2 * place) for place in (1, 2, 3)]  # AdaptiVocab's formula, as it is written
        expected = sum(weight * matrix[piece] for weight, piece in zip(weights, (7, 11, 13), strict=True)) / sum(
            weights
        )
        torch.testing.assert_close(rows[0], expected, atol=1e-6, rtol=1e-5)
        assert (rows[0] - matrix[13 if sign > 0 else 7]).norm() < (rows[0] - matrix[7 if sign > 0 else 13]).norm()


def test_a_token_of_very_many_pieces_has_a_finite_row(task: EmbeddingTask) -> None:
    long = replace(task, ids=task.ids[:1], pieces=[[*range(3, 300)] * 3])
    assert all(rows.isfinite().all() for rows in both(rows_of(long, "position-weighted")))


# --- baselines -------------------------------------------------------------------------------------------------------


def test_random_rows_are_as_wide_as_the_models_own_initialisation(task: EmbeddingTask) -> None:
    many = replace(task, ids=list(range(2000)), pieces=[[3]] * 2000)
    found = both(rows_of(many, "random"))
    for rows in found:
        assert rows.std().item() == pytest.approx(task.model.config.initializer_range, rel=0.02)
        assert abs(rows.mean().item()) < 3e-4
    assert len(found) == 1 or not torch.equal(*found)


def test_the_mean_leaves_out_rows_that_no_token_has(task: EmbeddingTask) -> None:
    used = task.old.get_vocab_size()
    assert used < 320
    for rows, matrix in zip(both(rows_of(task, "mean")), matrices(task), strict=True):
        torch.testing.assert_close(rows, matrix[:used].mean(0).expand(NEW, -1), atol=1e-7, rtol=1e-5)


# --- align -----------------------------------------------------------------------------------------------------------


def byte_level(vocab: Sequence[str], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(vocab)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_align_weighs_old_tokens_by_how_often_a_new_one_stood_over_them(task: EmbeddingTask) -> None:
    letters = ["a", "b", "c", "Ġ", "Ã", "¨"]
    old, new = byte_level([*letters, "ab"], [("a", "b")]), byte_level([*letters, "bc"], [("b", "c")])
    some = replace(task, old=old, new=new, ids=[6], pieces=[[1, 2]], kept=[0, 1, 2, 3, 4, 5, None])
    some = replace(some, texts=lambda: iter(["abc è abc", "", "bc"]))  # `bc` over `ab c`, `ab c`, `b c`
    for rows, matrix in zip(both(rows_of(some, "align")), matrices(task), strict=True):
        expected = (2 * (matrix[6] + matrix[2]) / 2 + (matrix[1] + matrix[2]) / 2) / 3
        torch.testing.assert_close(rows[0], expected, atol=1e-7, rtol=1e-5)


def test_align_is_the_subtoken_mean_where_pieces_are_always_the_same(task: EmbeddingTask) -> None:
    corpus = [" ".join(["mattina"] * 5)]
    aligned, mean = (rows_of(replace(task, texts=lambda: iter(corpus)), name) for name in ("align", "subtoken-mean"))
    for rows, expected in zip(both(aligned), both(mean), strict=True):
        torch.testing.assert_close(rows, expected, atol=1e-7, rtol=1e-5)


# --- similarity ------------------------------------------------------------------------------------------------------


def test_sparsemax_is_the_nearest_point_of_the_simplex() -> None:
    assert company.sparsemax(torch.tensor([[1.0, 0.5, -1.0], [5.0, 0.0, 0.0], [0.2, 0.2, 0.2]])).tolist() == [
        pytest.approx([0.75, 0.25, 0.0]), pytest.approx([1.0, 0.0, 0.0]), pytest.approx([1 / 3] * 3),
    ]  # fmt: skip
    scores = torch.rand(50, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shares = company.sparsemax(scores)
    torch.testing.assert_close(shares.sum(1), torch.ones(50))
    slack = scores - shares  # equal on the support and no larger off it: the conditions of the projection
    for row, share in zip(slack, shares, strict=True):
        inside = row[share > 0]
        assert (inside.max() - inside.min()) < 1e-6
        assert row[share == 0].le(inside.max() + 1e-6).all()


def test_company_is_counted_on_both_sides_and_weighed_by_its_information(task: EmbeddingTask) -> None:
    new = byte_level(["a", "b", "c", "d"], [])
    some = replace(
        task, new=new, kept=[0, 1, 2, 3], texts=lambda: iter(["abacab", "c", "d"]),
        options=BY_NAME["similarity"].options(window=2, min_count=2),
    )  # fmt: skip
    frequent, counts = company.company(some)
    assert frequent.tolist() == [0, 1, 2]  # `d` comes once
    expected = np.zeros((3, 3))
    for (i, left), (j, right) in product(enumerate("abacab"), repeat=2):
        expected["abc".index(left), "abc".index(right)] += 0 < abs(i - j) <= 2
    assert counts.to_dense().tolist() == expected.tolist()
    totals = expected.sum(1)
    smoothed = totals**0.75 / (totals**0.75).sum()
    with np.errstate(divide="ignore"):
        information = np.log(expected / totals.sum() / (totals / totals.sum())[:, None] / smoothed)
    np.testing.assert_allclose(
        company.positive_information(counts).to_dense().numpy(), np.maximum(information, 0), atol=1e-6
    )


def test_a_token_starts_from_the_kept_token_that_keeps_the_same_company(task: EmbeddingTask) -> None:
    """Four groups of words, each with company of its own; of the new tokens each stands in for one group."""
    groups = [("abc", "m"), ("def", "n"), ("ghi", "o"), ("jkl", "p")]
    new = byte_level([*"abcdefghijklmnop", "W", "X", "Y", "Z"], [])
    draw = np.random.default_rng(0)
    corpus = [
        company_word.join(draw.choice([*members, word], 6))
        for word, (members, company_word) in zip("WXYZ", groups, strict=True)
        for _ in range(100)
    ]
    some, lines = said(
        replace(task, new=new, ids=[16, 17, 18, 19], pieces=[[200]] * 4, kept=[*range(3, 19), None, None, None, None])
    )
    found = rows_of(replace(some, texts=lambda: iter(corpus)), "similarity", dimensions=4, window=2)
    for rows, matrix in zip(both(found), matrices(task), strict=True):
        groups_of_rows = torch.stack([matrix[3 + 3 * group : 6 + 3 * group].mean(0) for group in range(4)])
        distances = torch.cdist(rows, groups_of_rows)
        assert distances.argmin(1).tolist() == [0, 1, 2, 3]
        assert (2 * distances.diagonal() < distances.sort(1).values[:, 1]).all()
    assert "compared 4 new tokens with 16 kept ones" in lines[0]
    assert lines[1].startswith("warning: the tokenizers have little in common: rows are combined of 16 kept tokens")


# --- donor -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """A base model whose rows follow from a donor's by known maps."""

    task: EmbeddingTask
    donor: Path
    expected: list[torch.Tensor]


@pytest.fixture
def planted(request: Any, task: EmbeddingTask, tmp_path: Path) -> Iterator[Planted]:
    """The donor has the new tokenizer; of the base model's rows, those of shared tokens are mapped rows of the donor's."""
    donor = tmp_path / "donor"
    tiny_model(donor, words=300, hidden_size=32, vocab_size=320, seed=5, tie_word_embeddings=False)
    AutoTokenizer.from_pretrained(donor).save_pretrained(donor)
    (donor / "tokenizer.json").write_text(task.new.to_str(), encoding="utf-8")
    weights = {
        name: tensor.float()
        for name, tensor in load_file(donor / "model.safetensors").items()
        if name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    save_file(weights, donor / "model.safetensors", metadata={"format": "pt"})  # nothing else of the donor is needed
    shared = {theirs: ours for theirs, ours in enumerate(matched(task.old, task.new)) if ours is not None}
    generator, expected, before = torch.Generator().manual_seed(3), [], []
    for matrix, theirs in zip(matrices(task), _in_order(weights), strict=False):
        width = matrix.shape[1]
        linear = torch.randn(32, width, generator=generator)
        if getattr(request, "param", "affine") == "orthogonal":
            linear = 3 * torch.linalg.qr(torch.randn(width, width, generator=generator)).Q[:32]
        shift = torch.randn(width, generator=generator)
        before.append(matrix.clone())
        matrix[list(shared.values())] = theirs[list(shared)] @ linear + shift
        expected.append(theirs[list(task.ids)] @ linear + shift)
    yield Planted(task, donor, expected)
    for matrix, old in zip(matrices(task), before, strict=True):
        matrix.copy_(old)


def _in_order(weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [weights["model.embed_tokens.weight"], weights["lm_head.weight"]]


def test_a_donors_rows_come_through_the_map_that_shared_tokens_show(planted: Planted) -> None:
    task, lines = said(planted.task)
    for rows, expected in zip(both(rows_of(task, "donor", donor=str(planted.donor))), planted.expected, strict=True):
        torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-4)
    assert f"{planted.donor} has {NEW} of {NEW} new tokens" in lines[0]


@pytest.mark.parametrize("planted", ["orthogonal"], indirect=True)
def test_a_rotation_is_found_as_such(planted: Planted) -> None:
    found = rows_of(planted.task, "donor", donor=str(planted.donor), map="orthogonal")
    for rows, expected in zip(both(found), planted.expected, strict=True):
        torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-4)


def test_what_a_donor_lacks_gets_its_subtoken_mean(planted: Planted) -> None:
    made = json.loads(planted.task.new.to_str())
    del made["model"]["merges"][-NEW // 2 :]
    for token in list(made["model"]["vocab"])[-NEW // 2 :]:
        del made["model"]["vocab"][token]
    (planted.donor / "tokenizer.json").write_text(json.dumps(made), encoding="utf-8")
    found = rows_of(planted.task, "donor", donor=str(planted.donor))
    for rows, expected, mean in zip(
        both(found), planted.expected, both(rows_of(planted.task, "subtoken-mean")), strict=True
    ):
        torch.testing.assert_close(rows[: NEW // 2], expected[: NEW // 2], atol=1e-4, rtol=1e-4)
        assert torch.equal(rows[NEW // 2 :], mean[NEW // 2 :])


def test_a_donor_with_too_few_shared_tokens_for_its_width_is_refused(task: EmbeddingTask, tmp_path: Path) -> None:
    tiny_model(tmp_path, words=300, hidden_size=384, num_hidden_layers=1)
    with pytest.raises(UserError, match=r"does not fit: a map from its 384 dimensions needs more than 385 tokens"):
        rows_of(task, "donor", donor=str(tmp_path))


def test_a_donor_that_is_none_is_refused_by_its_name(task: EmbeddingTask, tmp_path: Path) -> None:
    init = BY_NAME["donor"]
    for reference, why in [("nowhere.gguf", "there is no such file"), ("nowhere", "there is no such folder")]:
        assert why in init.problem(init.options(donor=reference))
        with pytest.raises(UserError, match=f'embeddings.donor "{reference}": .*{why}'):
            rows_of(task, "donor", donor=reference)
    tiny_model(tmp_path / "words")
    assert init.problem(init.options(donor=str(tmp_path / "words"))) == ""
    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<pad>": 2}, unk_token="<s>"))
    (tmp_path / "words" / "tokenizer.json").write_text(words.to_str(), encoding="utf-8")
    with pytest.raises(UserError, match=r"words\": it does not fit: its tokenizer is neither BPE on bytes nor"):
        rows_of(task, "donor", donor=str(tmp_path / "words"))


# --- token distillation ----------------------------------------------------------------------------------------------


def found_snippets(task: EmbeddingTask, *, times: int = 3, tokens: int = 20) -> list[snippets.Snippet]:
    return list(snippets.snippets(texts.pairs(task), task.ids, times=times, tokens=tokens))


def test_snippets_hold_every_new_token_often_enough_and_are_the_same_bytes_twice(task: EmbeddingTask) -> None:
    found = found_snippets(task)
    times = Counter(id for text in CORPUS for id in task.new.encode(text).ids if id in task.ids)
    assert len(times) >= 3  # others are parts of these, and no text has them alone
    assert all(sum(id in snippet.new for snippet in found) >= 3 for id in times)
    for snippet in found:
        old, new = task.old.decode(snippet.old.tolist()), task.new.decode(snippet.new.tolist())
        assert old == new
        assert len(snippet.old) <= 22
        for place, shared in enumerate(snippet.places.tolist()):
            whole = shared >= 0
            until = task.old.decode(snippet.old[: shared + 1].tolist())
            assert whole and until == task.new.decode(snippet.new[: place + 1].tolist())


def test_snippets_of_a_replaced_vocabulary_compare_only_what_ends_alike(task: EmbeddingTask) -> None:
    letters = ["a", "b", "c", "Ġ"]
    old, new = byte_level([*letters, "ab"], [("a", "b")]), byte_level([*letters, "bc"], [("b", "c")])
    some = replace(task, old=old, new=new, ids=[4], kept=[0, 1, 2, 3, None], texts=lambda: iter(["abc bc"]))
    (snippet,) = found_snippets(some)
    assert (snippet.old.tolist(), snippet.new.tolist()) == ([4, 2, 3, 1, 2], [0, 4, 3, 4])
    assert snippet.places.tolist() == [-1, 1, 2, 4]


def distilling_of(task: EmbeddingTask, **options: Any) -> EmbeddingTask:
    init = BY_NAME["token-distillation"]
    return replace(task, options=init.options(**(options_of("token-distillation") | options)))


def test_states_are_compared_as_transformers_has_them_after_the_layer(task: EmbeddingTask) -> None:
    student = Student(distilling_of(task, layer=2))
    old = torch.tensor([[0, 10, 20, 30], [0, 40, 50, 60]])
    expected = task.model(old, output_hidden_states=True)
    inner, last = student._teach(old)
    torch.testing.assert_close(inner, expected.hidden_states[2])
    torch.testing.assert_close(student._read(old), expected.hidden_states[2])
    assert last is not None
    torch.testing.assert_close(last, expected.hidden_states[-1])


def test_a_student_that_reads_the_same_tokens_is_not_off(task: EmbeddingTask) -> None:
    """A new token of one piece, whose row therefore starts as that piece's."""
    ids = np.array([10, 11, 12, 13])
    alias = snippets.Snippet(old=ids, new=np.where(ids == 12, task.ids[0], ids), places=np.arange(4))
    student = Student(distilling_of(replace(task, pieces=[[12]] * NEW)))
    assert student.loss([alias]).states.item() < 1e-12
    other = snippets.Snippet(old=ids, new=np.where(ids == 11, task.ids[0], ids), places=np.arange(4))
    assert student.loss([other]).states.item() > 1e-6


def test_tokens_cost_what_a_model_with_the_rows_would_make_them_cost(task: EmbeddingTask) -> None:
    some = found_snippets(task)[:3]
    student = Student(distilling_of(task))
    head = task.model.get_output_embeddings().weight[: task.old.get_vocab_size()]
    costs = []
    for snippet in some:
        states = task.model.get_decoder()(torch.tensor([[0, *snippet.old.tolist()]])).last_hidden_state[0]
        logits = states @ torch.cat([head, student.learnt[-1]]).T
        before = [0, *(snippet.places + 1).tolist()]
        for context, target in zip(before[:-1], snippet.new.tolist(), strict=True):
            place = len(head) + task.ids.index(target) if target in task.ids else task.kept[target]
            costs.append(-logits[context].log_softmax(0)[place].item())
    tokens = student.loss(some).tokens
    assert tokens is not None
    assert tokens.item() == pytest.approx(sum(costs) / len(costs), rel=1e-4)


def test_distilled_rows_are_nearer_to_the_teacher_than_subtoken_means(task: EmbeddingTask) -> None:
    started = distilling_of(task, snippets=12)
    found = found_snippets(task, times=12)
    student = Student(started)
    before = student.loss(found)
    rows = BY_NAME["token-distillation"].initialise(started)
    for learnt, row in zip(student.learnt, both(rows), strict=True):
        learnt.data.copy_(row)
    after = student.loss(found)
    assert before.tokens is not None and after.tokens is not None
    assert after.states < 0.8 * before.states
    if len(student.learnt) == 2:  # where one matrix serves for both, it learns from the sum of both
        assert after.tokens < before.tokens
    assert after.states / before.states + after.tokens / before.tokens < 1.9


def test_a_layer_that_the_model_lacks_is_refused(task: EmbeddingTask) -> None:
    with pytest.raises(UserError, match=r"embeddings.layer = 4, and the model has 3 blocks"):
        rows_of(task, "token-distillation", layer=4)
