"""Tokenizers that are adapted: what is learnt is the reference's, and nothing that was there before changes."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from langadapt.errors import RunError, UserError
from langadapt.export.vocabulary import vocabulary
from langadapt.plugins import registry
from langadapt.records import TokenizerTask
from langadapt.tokenizer import STRATEGIES, saving, words
from langadapt.tokenizer.building import restricted
from langadapt.tokenizer.checking import changes, occurrences, round_trip, unreachable, used
from langadapt.tokenizer.learning import Learner, learn
from langadapt.tokenizer.noise import Noise
from langadapt.tokenizer.tokens import LETTERS, matched, read

SAMPLES = Path(__file__).parents[1] / "plugins" / "italian" / "src" / "langadapt_italian" / "samples"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KINDS = ("gpt-2", "llama-3", "sentencepiece")
BY_NAME = {strategy.name: strategy for strategy in STRATEGIES}


def texts_of(name: str) -> list[str]:
    rows = (SAMPLES / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(row)["text"] for row in rows]


ITALIAN, ENGLISH = texts_of("prose.jsonl"), texts_of("english.jsonl")
TRAINED, HELD_OUT = ITALIAN[::2], ITALIAN[1::2]


def byte_level(kind: str) -> Tokenizer:
    """Trained on English: GPT-2's words, or Llama 3's, whose special tokens stand outside of the model's vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    pre = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if kind == "llama-3":
        split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
        pre = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pre)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=[] if kind == "llama-3" else ["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(ENGLISH, trainer)
    if kind == "llama-3":
        tokenizer.model.ignore_merges = True
        tokenizer.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>"])
        tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
        begin = tokenizer.token_to_id("<|begin_of_text|>")
        template = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
        )
        tokenizer.post_processor = template
    return tokenizer


def sentencepiece(folder: Path) -> Tokenizer:
    """Trained on English, laid out as Llama 2's."""
    import sentencepiece as spm

    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in ENGLISH for line in text.splitlines()),
        model_prefix=str(folder / "spm"), vocab_size=1100, model_type="bpe", byte_fallback=True,
        character_coverage=0.999, split_digits=True, minloglevel=2, allow_whitespace_only_pieces=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity",
    )  # fmt: skip
    pieces = spm.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    vocab = {pieces.id_to_piece(id): id for id in range(pieces.get_piece_size())}
    learnt = sorted(
        (piece for piece, id in vocab.items() if id >= 259), key=lambda piece: -pieces.get_score(vocab[piece])
    )
    merges = [
        (piece[:cut], piece[cut:])
        for piece in learnt
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    made = {kind: byte_level(kind) for kind in ("gpt-2", "llama-3")}
    return made | {"sentencepiece": sentencepiece(tmp_path_factory.mktemp("spm"))}


def adapted(
    strategy: str,
    base: Tokenizer,
    *,
    texts: Sequence[str] = TRAINED,
    rows: int = 0,
    log: list[str] | None = None,
    **given: Any,
) -> Tokenizer:
    record = BY_NAME[strategy]
    task = TokenizerTask(
        tokenizer=Tokenizer.from_str(base.to_str()),
        rows=rows or read(base).last + 1,
        texts=lambda: iter(texts),
        source_texts=lambda: iter(ENGLISH),
        options=record.options.model_validate(given),
        say=(log if log is not None else []).append,
    )
    return record.adapt(task)


@pytest.fixture(scope="module")
def extended(bases: dict[str, Tokenizer]) -> dict[str, Tokenizer]:
    return {
        kind: adapted("extend", base, tokens=600, min_frequency=4, multiple_of=1, source_veto=0.0)
        for kind, base in bases.items()
    }


# --- the learner beside a reference -----------------------------------------------------------------------------------


class Anything:
    """No noise."""

    def refuses(self, token: str) -> bool:
        return False


def naive(base: Tokenizer, counts: Counter[str], number: int, least: int, *, pieces: bool) -> list[str]:
    """Continued BPE as it is written down: count all pairs, join the first of the most frequent, and so on."""
    taken = set(base.get_vocab())
    texts = {word: [token.value for token in base.model.tokenize(word)] for word in counts}
    ranks = {"".join(pair): None for pair in json.loads(base.to_str())["model"]["merges"]} if pieces else {}
    order = list(ranks)
    made: list[str] = []
    while len(made) < number:
        tally: Counter[Any] = Counter()
        for word, tokens in texts.items():
            for left, right in pairwise(tokens):
                tally[left + right if pieces else (left, right)] += counts[word]
        best = min((-count, key) for key, count in tally.items() if "".join(key) not in taken)
        if -best[0] < least:
            break
        token = "".join(best[1])
        made.append(token)
        taken.add(token)
        order.append(token)
        for word, tokens in texts.items():
            texts[word] = joined_pieces(tokens, order) if pieces else joined_pair(tokens, *best[1])
    return made


def joined_pair(tokens: Sequence[str], left: str, right: str) -> list[str]:
    out: list[str] = []
    at = 0
    while at < len(tokens):
        pair = list(tokens[at : at + 2]) == [left, right]
        out.append(left + right if pair else tokens[at])
        at += 1 + pair
    return out


def joined_pieces(tokens: Sequence[str], order: Sequence[str]) -> list[str]:
    """SentencePiece's rule: of all neighbours that are a piece together, the best piece, the leftmost first."""
    place = {piece: rank for rank, piece in enumerate(order)}
    out = list(tokens)
    while found := [(place[a + b], at) for at, (a, b) in enumerate(pairwise(out)) if a + b in place]:
        at = min(found)[1]
        out[at : at + 2] = [out[at] + out[at + 1]]
    return out


@pytest.mark.parametrize("kind", ["gpt-2", "sentencepiece"])
@settings(max_examples=15)
@given(text=st.text(alphabet="abnostra ", min_size=20, max_size=300), number=st.integers(1, 30))
def test_learnt_is_what_a_naive_reference_learns(
    bases: dict[str, Tokenizer], kind: str, text: str, number: int
) -> None:
    base = bases[kind]
    bpe = read(base)
    counts = Counter(words.Cutter(base).words(text))
    counts = counts if kind == "gpt-2" else Counter(word for word in text.split(" ") if word)
    learner = Learner(bpe, words.segmented(bpe, counts), Anything(), least=2)  # type: ignore[arg-type]
    learnt, _ = learn(learner, wanted=number, complete=lambda token: True)
    assert [each.token for each in learnt] == naive(base, counts, number, 2, pieces=kind == "sentencepiece")


def test_learnt_of_real_text_is_what_a_naive_reference_learns(bases: dict[str, Tokenizer]) -> None:
    for kind in ("gpt-2", "sentencepiece"):
        base = bases[kind]
        bpe = read(base)
        counts = Counter(word for word in words.count(base, TRAINED[:20]).words if word.isascii())
        learner = Learner(bpe, words.segmented(bpe, counts), Anything(), least=2)  # type: ignore[arg-type]
        learnt, _ = learn(learner, wanted=60, complete=lambda token: True)
        assert [each.token for each in learnt] == naive(base, counts, 60, 2, pieces=kind == "sentencepiece")


def test_a_pair_that_is_frequent_in_the_source_language_is_not_learnt(bases: dict[str, Tokenizer]) -> None:
    for base in bases.values():
        free, vetoed = (
            adapted("extend", base, tokens=300, min_frequency=3, multiple_of=1, source_veto=veto) for veto in (0.0, 1.0)
        )
        before, with_veto, without = (
            [found.tokens for found in tokenizer.encode_batch(ENGLISH)] for tokenizer in (base, vetoed, free)
        )
        assert before == with_veto != without


def test_parts_of_characters_are_tokens_only_where_whole_ones_need_them(bases: dict[str, Tokenizer]) -> None:
    base = bases["gpt-2"]
    georgian = ["ქართული ენა მრავალფეროვანი და ძველი ენაა, რომელსაც აქვს საკუთარი დამწერლობა. " * 4]
    for number in range(3, 40, 3):
        made = adapted("extend", base, texts=georgian, tokens=number, min_frequency=2, multiple_of=1)
        bpe, last = read(made), read(base).last
        new = [token for token, id in bpe.ordinary.items() if id > last]
        needed = {part for pair in bpe.merges[len(read(base).merges) :] for part in pair}
        partial = {token for token in new if not whole(bpe.data(token))}
        assert len(new) == number and partial <= needed and len(partial) < number
        assert unreachable(made) == unreachable(base)
    assert "ენა" in {bpe.data(token).decode("utf-8", "replace").strip() for token in new}


def whole(data: bytes) -> bool:
    return data.decode("utf-8", "replace").encode() == data


def test_sentencepiece_learns_characters_that_it_has_no_token_for(bases: dict[str, Tokenizer]) -> None:
    base = bases["sentencepiece"]
    greek = ["Η ελληνική γλώσσα είναι μία από τις παλαιότερες γλώσσες. " * 6]
    made = adapted("extend", base, texts=greek, tokens=40, min_frequency=6, multiple_of=1)
    assert "λ" not in base.get_vocab() and "λ" in made.get_vocab()
    assert "γλώσσ" in "".join(made.get_vocab()) and unreachable(made) == []
    assert len(made.encode(greek[0]).ids) < len(base.encode(greek[0]).ids) / 3
    assert made.decode(made.encode(greek[0]).ids) == greek[0]


# --- what must hold of an extended tokenizer --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text())
def test_any_text_comes_back(extended: dict[str, Tokenizer], kind: str, text: str) -> None:
    made = extended[kind]
    back = made.decode(made.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
    assert back == (
        text.replace("▁", " ") if kind == "sentencepiece" else text
    )  # which SentencePiece takes for a space


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.lists(st.sampled_from(" ".join(ITALIAN[:40]).split()) | st.text(max_size=5)).map(" ".join))
def test_every_new_boundary_is_an_old_one(
    bases: dict[str, Tokenizer], extended: dict[str, Tokenizer], kind: str, text: str
) -> None:
    old, new = (boundaries(tokenizer, text) for tokenizer in (bases[kind], extended[kind]))
    assert new <= old


def boundaries(tokenizer: Tokenizer, text: str) -> set[int]:
    """Bytes of the text at which tokens end."""
    bpe = read(tokenizer)
    data = [bpe.data(token) for token in tokenizer.encode(text, add_special_tokens=False).tokens]
    prefix = " " if bpe.kind == "sentencepiece" and text else ""
    assert b"".join(data) == (prefix + text).replace("▁", " " if prefix else "▁").encode()
    return {sum(map(len, data[:place])) for place in range(len(data))}


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_text_is_cut_into_fewer_tokens_and_english_hardly_changes(
    bases: dict[str, Tokenizer], extended: dict[str, Tokenizer], kind: str
) -> None:
    base, made = bases[kind], extended[kind]
    italian, english = changes(base, made, HELD_OUT), changes(base, made, ENGLISH)
    assert italian.tokens_after < 0.8 * italian.tokens
    assert english.tokens_changed < 0.2 * english.tokens  # the sample is small, and so is the base
    assert italian.violations == english.violations == 0
    new = range(read(base).last + 1, read(made).last + 1)
    assert len(new) == 600 and used(made, new, HELD_OUT) > 0.7 and used(base, new, HELD_OUT) == 0
    assert unreachable(made) == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_was_there_changes(bases: dict[str, Tokenizer], extended: dict[str, Tokenizer], kind: str) -> None:
    before, after = (json.loads(made[kind].to_str()) for made in (bases, extended))
    vocab, merges = after["model"].pop("vocab"), after["model"].pop("merges")
    old_vocab, old_merges = before["model"].pop("vocab"), before["model"].pop("merges")
    assert after == before
    old = old_vocab | {token["content"]: token["id"] for token in before["added_tokens"]}
    assert old.items() <= vocab.items()
    assert sorted(vocab[token] for token in vocab.keys() - old.keys()) == list(range(len(old), len(old) + 600))
    if kind == "sentencepiece":
        assert [pair for pair in merges if pair in old_merges] == old_merges
    else:
        assert merges[: len(old_merges)] == old_merges
    assert extended[kind].encode("<s>").ids == bases[kind].encode("<s>").ids


def test_sentencepiece_itself_gives_the_same_ids(
    bases: dict[str, Tokenizer], extended: dict[str, Tokenizer], tmp_path: Path
) -> None:
    """The new pieces with the scores that a GGUF file has, put behind a model's own in the library sentencepiece."""
    import sentencepiece as spm

    made = extended["sentencepiece"]
    fast = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    written = vocabulary(fast, len(fast))
    sentencepiece(tmp_path)  # the same training again
    own, old = (tmp_path / "spm.model").read_bytes(), read(bases["sentencepiece"]).last + 1
    new = map(piece_of_model, written.tokens[old:], written.scores[old:])
    reference = spm.SentencePieceProcessor(model_proto=own + b"".join(new))
    assert reference.get_piece_size() == old + 600
    for text in (*HELD_OUT, *ENGLISH, "aaaaaaa mmmm", "  ancora  "):
        assert made.encode(text, add_special_tokens=False).ids == reference.encode(text)


def piece_of_model(piece: str, score: float) -> bytes:
    """One more of the repeated field `pieces` of a ModelProto, in protobuf's wire format."""
    inner = b"\x0a" + bytes([len(piece.encode())]) + piece.encode() + b"\x15" + struct.pack("<f", score)
    return b"\x0a" + bytes([len(inner)]) + inner


def test_checks_see_what_is_wrong(bases: dict[str, Tokenizer], extended: dict[str, Tokenizer]) -> None:
    """Merges before the old ones break boundaries; tokens without merges are out of reach, with `ignore_merges` too."""
    base, made = (json.loads(tokenizers["llama-3"].to_str()) for tokenizers in (bases, extended))
    old = len(base["model"]["merges"])
    merges = made["model"]["merges"]
    made["model"]["merges"] = merges[old:] + merges[:old]
    prepended = Tokenizer.from_str(json.dumps(made))
    assert changes(bases["llama-3"], prepended, HELD_OUT).violations > 100
    made["model"]["merges"] = merges[:old]
    assert unreachable(Tokenizer.from_str(json.dumps(made))) == list(range(read(bases["llama-3"]).last + 1, 1803))


def test_changes_are_counted(bases: dict[str, Tokenizer]) -> None:
    base = bases["gpt-2"]
    made = Tokenizer.from_str(base.to_str())
    made.add_tokens(["zq"])
    found = changes(base, made, ["a zq\n\nb", "c"])
    assert (found.lines, found.lines_changed, found.violations) == (3, 1, 0)
    assert found.tokens - found.tokens_after == found.tokens_changed - 1 > 0
    lossy = Tokenizer.from_str(base.to_str())
    lossy.normalizer = normalizers.Lowercase()
    assert list(round_trip(lossy, ["ABC", "abc"])) == ["ABC"]


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_rows_divide_and_padding_is_used_first(bases: dict[str, Tokenizer]) -> None:
    base = bases["gpt-2"]  # 1 200 tokens
    log: list[str] = []
    assert adapted("extend", base, tokens=100, min_frequency=2, log=log).get_vocab_size() == 1408  # 11 times 128
    assert "208 new tokens from" in log[0]
    log = []
    assert adapted("extend", base, tokens=100, min_frequency=2, rows=1400, log=log).get_vocab_size() == 1300
    assert "100 of them take rows of padding" in log[1]
    assert adapted("extend", base, tokens=300, min_frequency=2, rows=1400).get_vocab_size() == 1536
    assert BY_NAME["extend"].tokens(BY_NAME["extend"].options(tokens=100), 1200) == 1408


def test_too_little_text_says_how_much_could_be_learnt(bases: dict[str, Tokenizer]) -> None:
    with pytest.raises(
        UserError, match=r"5,072 new tokens are asked for, but only \d+ can be learnt from 0\.\d MB of text in"
    ):
        adapted("extend", bases["gpt-2"], tokens=5000)
    try:
        adapted("extend", bases["gpt-2"], tokens=5000)
    except UserError as error:
        fewer = int(str(error).partition("ask for ")[2].partition(" tokens fewer")[0].replace(",", ""))
    assert adapted("extend", bases["gpt-2"], tokens=5072 - fewer).get_vocab_size() % 128 == 0


def test_the_knee_is_where_the_next_step_saves_too_little(
    bases: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.tokenizer.learning.STEP", 100)
    base = bases["gpt-2"]
    log: list[str] = []
    made = adapted("extend", base, tokens="knee", min_frequency=2, multiple_of=1, log=log)
    number = made.get_vocab_size() - 1200

    def tokens(number: int) -> int:
        grown = adapted("extend", base, tokens=number, min_frequency=2, multiple_of=1)
        return sum(len(found.ids) for found in grown.encode_batch(TRAINED))

    here, before, after = tokens(number), tokens(number - 100), tokens(number + 100)
    assert number % 100 == 0 and before - here >= 0.01 * before and here - after < 0.01 * here
    aligned = adapted("extend", base, tokens="knee", min_frequency=2).get_vocab_size()
    assert aligned % 128 == 0 and 0 <= made.get_vocab_size() - aligned < 128


def test_without_a_gain_the_tokenizer_stays_as_it_is(
    bases: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.tokenizer.learning.STEP", 1)
    log: list[str] = []
    made = adapted("extend", bases["gpt-2"], log=log)
    assert made.to_str() == bases["gpt-2"].to_str() and "stays as it is" in log[-1]


# --- trim and replace -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_trimmed_tokenizers_keep_what_is_used_and_can_be_reached(bases: dict[str, Tokenizer], kind: str) -> None:
    base = bases[kind]
    made = adapted("trim", base, tokens=1000, multiple_of=1)
    bpe = read(made)
    assert sorted({**bpe.vocab, **bpe.added}.values()) == list(range(1000))
    assert bpe.added.keys() == read(base).added.keys() and unreachable(made) == unreachable(base) == []
    old = matched(base, made)
    assert None not in old and old == sorted(old)  # type: ignore[type-var]
    assert {byte for byte in range(256)} <= {data[0] for token in bpe.ordinary if len(data := bpe.data(token)) == 1}
    assert list(round_trip(made, HELD_OUT)) == list(round_trip(base, HELD_OUT)) == []
    begins = [tokenizer.encode("ciao").tokens[:1] for tokenizer in (base, made)]
    assert begins[0] == begins[1]
    last = sorted(read(base).ordinary.items(), key=lambda entry: entry[1])[: 1000 - len(bpe.added)]
    shorter = restricted(read(base), [token for token, _ in last])
    both = [*TRAINED, *ENGLISH]
    assert occurrences(made, both).sum() < occurrences(shorter, both).sum()


def test_trimmed_and_extended(bases: dict[str, Tokenizer]) -> None:
    made = adapted("trim", bases["llama-3"], tokens=900, extend={"tokens": 300, "min_frequency": 3})
    assert made.get_vocab_size() == 1280
    assert unreachable(made) == []
    assert (
        changes(bases["llama-3"], made, HELD_OUT).tokens_after < 0.9 * changes(bases["llama-3"], made, HELD_OUT).tokens
    )
    assert BY_NAME["trim"].tokens(BY_NAME["trim"].options(tokens=900, extend={"tokens": 300}), 1203) == 1280


@pytest.mark.parametrize(
    ("strategy", "given", "said"),
    [
        ("trim", {"tokens": 5000}, "has 1,200 tokens, so it cannot be trimmed to 4,992"),
        ("trim", {"tokens": 128}, "tokens = 128 is too few: special tokens, bytes and characters alone are 257"),
        ("replace", {"tokens": 128}, "tokens = 128 is too few"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    bases: dict[str, Tokenizer], strategy: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        adapted(strategy, bases["gpt-2"], **given)


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_vocabularies_are_of_the_same_kind_and_cut_numbers_alike(
    bases: dict[str, Tokenizer], kind: str
) -> None:
    base = bases[kind]
    made = adapted("replace", base, tokens=1100, min_frequency=2, source_share=0.2)
    bpe = read(made)
    assert made.get_vocab_size() == 1152 and bpe.kind == read(base).kind and unreachable(made) == []
    assert bpe.added.keys() == read(base).added.keys()
    assert list(round_trip(made, [*HELD_OUT, *ENGLISH])) == []
    tokens = [sum(len(found.ids) for found in tokenizer.encode_batch(HELD_OUT)) for tokenizer in (base, made)]
    assert tokens[1] < 0.85 * tokens[0]
    sums = "12345 + 678 = 13023; 3,14 (2024)"
    assert made.encode(sums).tokens == base.encode(sums).tokens


def test_another_tokenizer_gets_the_special_tokens_that_it_lacks(bases: dict[str, Tokenizer], tmp_path: Path) -> None:
    donor = PreTrainedTokenizerFast(tokenizer_object=bases["gpt-2"], eos_token="<|endoftext|>")
    donor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    made = adapted("replace", bases["llama-3"], **{"from": str(tmp_path)})
    assert made.encode("<|begin_of_text|>ciao<tool>").tokens[:1] == ["<|begin_of_text|>"]
    assert read(made).added.keys() == read(bases["gpt-2"]).added.keys() | read(bases["llama-3"]).added.keys()
    with pytest.raises(ValueError, match="leave out tokens"):
        BY_NAME["replace"].options.model_validate({"from": "x", "tokens": 3})


# --- tokens as data ---------------------------------------------------------------------------------------------------


def test_tokens_are_matched_by_bytes_across_kinds(bases: dict[str, Tokenizer]) -> None:
    old, new = bases["gpt-2"], bases["sentencepiece"]
    before, after = read(old), read(new)
    found = matched(old, new)
    for token, id in after.ordinary.items():
        if found[id] is not None:
            assert before.data(old.id_to_token(found[id])) == after.data(token)
    assert found[new.token_to_id("▁the")] == old.token_to_id("Ġthe")
    assert found[new.token_to_id("<0xC3>")] == old.token_to_id("Ã")
    assert found[new.token_to_id("<s>")] is None
    back = matched(new, old)
    assert back[old.token_to_id("e")] == new.token_to_id("e") and back[old.token_to_id("Ã")] == new.token_to_id(
        "<0xC3>"
    )


@given(data=st.binary(max_size=20))
def test_any_bytes_are_cut_into_pieces_that_stand_for_them(bases: dict[str, Tokenizer], data: bytes) -> None:
    for tokenizer in bases.values():
        bpe = read(tokenizer)
        pieces = [bpe.data(tokenizer.id_to_token(id)) for id in bpe.pieces(data)]
        assert b"".join(pieces) == (data.replace("▁".encode(), b" ") if bpe.kind == "sentencepiece" else data)


def test_bytes_have_the_letters_of_the_library() -> None:
    assert sorted(LETTERS) == sorted(pre_tokenizers.ByteLevel.alphabet())
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(map(chr, range(1, 0x800)))
    assert "".join(LETTERS[byte] for byte in text.encode()) == cut.pre_tokenize_str(text)[0][0]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (models.Unigram([("a", 0.0)], 0, False), "Unigram and not BPE"),
        (models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"), "WordPiece"),
        (models.WordLevel({"a": 0}, "a"), "WordLevel"),
        (models.BPE(dropout=0.1), "dropout = 0.1"),
        (models.BPE(continuing_subword_prefix="##"), "continuing_subword_prefix"),
        (models.BPE(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (models.BPE(), "neither on bytes"),
    ],
)
def test_other_tokenizers_are_refused(model: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        adapted("extend", Tokenizer(model), rows=10, tokens=10)


# --- noise, words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("della", False), (" della", False), ("perché", False), ("così", False), ("ελλ", False), ("漢字かな", False),
        ("«", False), ("...", False), ("नमस्ते", False), ("a" * 16, False), (" " + "a" * 16, False), ("nº", False),
        ("a" * 17, True), ("di la", True), ("  della", True), ("a\n", True), ("\n", True), ("e\u0301", True),
        ("a1", True), ("20", True), ("aя", True), ("漢a", True), ("a\u200b", True),
    ],
)  # fmt: skip
def test_noise_is_refused(bases: dict[str, Tokenizer], text: str, refused: bool) -> None:
    bpe = read(bases["gpt-2"])
    token = "".join(LETTERS[byte] for byte in text.encode())
    assert Noise(bpe, longest=16, words=True).refuses(token) is refused


def test_punctuation_joins_letters_only_where_the_pre_tokenizer_does_so(bases: dict[str, Tokenizer]) -> None:
    bpe = read(bases["sentencepiece"])
    assert Noise(bpe, longest=16, words=False).refuses("▁l'") and not Noise(bpe, longest=16, words=True).refuses("▁l'")
    assert not words.Cutter(bases["sentencepiece"]).cuts and words.Cutter(bases["llama-3"]).cuts


@pytest.mark.parametrize("kind", ["gpt-2", "llama-3"])
def test_words_are_those_of_the_pre_tokenizer(bases: dict[str, Tokenizer], kind: str) -> None:
    base = bases[kind]
    counted = words.count(base, [*ITALIAN, *ENGLISH])
    reference = Counter(word for text in (*ITALIAN, *ENGLISH) for word, _ in base.pre_tokenizer.pre_tokenize_str(text))
    assert (counted.words & reference).total() >= 0.999 * reference.total() == 0.999 * counted.words.total()
    assert (counted.texts, counted.forgotten) == (len(ITALIAN) + len(ENGLISH), 0)


def test_a_pre_tokenizer_that_cuts_elsewhere_gets_whole_texts() -> None:
    base = byte_level("gpt-2")
    base.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"[.,0-9]"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    counted = words.count(base, ["una frase, e un'altra. ", "una frase"])
    assert counted.words == {"unaĠfrase": 2, ",": 1, "ĠeĠun'altra": 1, ".": 1, "Ġ": 1}


def test_words_are_remembered_in_bounded_memory(bases: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "LIMIT", 500)
    counted = words.count(bases["gpt-2"], ITALIAN)
    whole = Counter(word for text in ITALIAN for word in words.Cutter(bases["gpt-2"]).words(text))
    assert len(counted.words) <= 1000 < len(whole) and counted.forgotten > 0
    assert {word for word, _ in whole.most_common(20)} <= counted.words.keys()


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tokenizers_load_alike_in_both_ways(
    extended: dict[str, Tokenizer], bases: dict[str, Tokenizer], kind: str, tmp_path: Path
) -> None:
    end = {"gpt-2": "<|endoftext|>", "llama-3": "<|end_of_text|>", "sentencepiece": "</s>"}[kind]
    base = PreTrainedTokenizerFast(tokenizer_object=bases[kind], eos_token=end, pad_token=end, model_max_length=777)
    base.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    saving.save(base, extended[kind], tmp_path / "out", probe=HELD_OUT)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    written, wanted = (json.loads(made.to_str()) for made in (loaded.backend_tokenizer, extended[kind]))
    assert all(
        written[part] == wanted[part] for part in ("model", "added_tokens", "normalizer", "pre_tokenizer", "decoder")
    )
    assert (loaded.chat_template, loaded.model_max_length) == (base.chat_template, 777)
    assert (loaded.eos_token_id, loaded.pad_token_id) == (base.eos_token_id, base.pad_token_id)
    assert not list((tmp_path / "out").glob(".*"))


def test_a_tokenizer_that_would_load_otherwise_is_not_written(
    extended: dict[str, Tokenizer], bases: dict[str, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers builds the pre-tokenizer of a `GPT2Tokenizer` anew, whatever the file says."""
    monkeypatch.setattr(saving, "CLASS", "GPT2Tokenizer")
    base = PreTrainedTokenizerFast(tokenizer_object=bases["llama-3"], eos_token="<|end_of_text|>")
    with pytest.raises(RunError, match=r"loaded by AutoTokenizer, it cuts .* otherwise"):
        saving.save(base, extended["llama-3"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_strategies_are_offered_as_a_plugins_would_be() -> None:
    assert [record.name for record in STRATEGIES] == ["keep", "extend", "trim", "replace"]
    assert all(name in registry().tokenizers for name in BY_NAME)
