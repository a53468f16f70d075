"""Writes an adapted tokenizer beside what the base's files say of chat template, special tokens and lengths."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt.artifacts import read_json, write_json
from langadapt.corpus.encoding import batches
from langadapt.errors import RunError, written

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# transformers builds normaliser and pre-tokenizer of other classes anew by their names; this one takes them from the file.
CLASS = "TokenizersBackend"
PROBES = (
    "",
    " ",
    "  two  spaces \t tab \r\n line\n\n\n",
    "Perché l’acqua bolle? È così: 1 234,56 € (50 %)…",
    "e\u0301 \u00a0\u200b\u200d\ufeff\u2028 ﬁ Ⅳ ½ ǆ",
    "日本語 한국어 ไทย العربية हिन्दी Ελληνικά עברית 👩‍👩‍👧‍👦 🇮🇹",
    "\x00\x01\x1f\x7f\x85 \ufffd \U0010ffff \ue000",
    "▁ Ġ Ċ <0x0A> <s> </s> <unk> <pad> <|endoftext|> <|im_start|>user\nciao<|im_end|>",
    "https://example.org/?q=%20&x=[1](2){3}#__init__ camelCase snake_case CONSTANT",
    "a" * 300,
)


def save(tokenizer: Any, adapted: Tokenizer, folder: Path, *, probe: Iterable[str] = ()) -> None:
    """Writes the tokenizer so that `AutoTokenizer` and the library tokenizers alone load what was adapted.

    Args:
        tokenizer: the base model's, of transformers, whose chat template, special tokens and lengths are kept.
        adapted: the tokenizer to write.
        folder: where to; files of the same names are replaced, others stay.
        probe: texts that must have the same ids after loading, beside some that are hard to keep.

    Raises:
        RunError: the files, once loaded, cut a text otherwise; nothing is written then.
    """
    aside = folder / ".tokenizer.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        tokenizer.save_pretrained(aside)
        adapted.save(str(aside / "tokenizer.json"))
        settings = aside / "tokenizer_config.json"
        write_json(settings, {**read_json(settings), "tokenizer_class": CLASS})
        _compare(adapted, aside, probe)
        for file in sorted(aside.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _compare(adapted: Tokenizer, folder: Path, probe: Iterable[str]) -> None:
    """Loads the files in both ways and encodes texts, with and without the special tokens around them."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    alone, loaded = Tokenizer.from_file(str(folder / "tokenizer.json")), AutoTokenizer.from_pretrained(folder)
    for texts in batches(chain(PROBES, probe)):
        for special in (False, True):
            wanted = [found.ids for found in adapted.encode_batch(texts, add_special_tokens=special)]
            ways = {
                "the library tokenizers": [
                    found.ids for found in alone.encode_batch(texts, add_special_tokens=special)
                ],
                "AutoTokenizer": loaded(texts, add_special_tokens=special)["input_ids"],
            }
            for way, found in ways.items():
                for text, right, ids in zip(texts, wanted, found, strict=True):
                    if ids != right:
                        raise _differs(way, text, right, ids)


def _differs(way: str, text: str, right: list[int], ids: list[int]) -> RunError:
    place = next((i for i, (a, b) in enumerate(zip(right, ids, strict=False)) if a != b), min(len(right), len(ids)))
    return RunError(
        f"the adapted tokenizer was not saved: loaded by {way}, it cuts {written(text[:60])} otherwise from token "
        f"{place} on ({right[place : place + 4]} before, {ids[place : place + 4]} after), which is a fault of "
        "langadapt or of a library; report it with the name of the base model"
    )
