"""A BPE tokenizer of the library tokenizers as data: its kind, its merges, and the bytes that every token stands for.

Two kinds of BPE can write any text. One works on bytes, each written as one letter of an alphabet that GPT-2 made up (a
space is `Ġ`). The other is SentencePiece's: it works on characters, writes a space as `▁`, and falls back to tokens such as
`<0xE2>` for the bytes of a character that it lacks. Tokens are compared by bytes, never by the strings that stand for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from langadapt.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

SPACE = "▁"  # SentencePiece's
_PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
_UNPRINTABLE = [byte for byte in range(256) if byte not in _PRINTABLE]
LETTERS = [chr(byte) if byte in _PRINTABLE else chr(256 + _UNPRINTABLE.index(byte)) for byte in range(256)]
_BYTES = {letter: byte for byte, letter in enumerate(LETTERS)}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_UNDECODED = re.compile(
    "[\udc80-\udcff]|[^\udc80-\udcff]+"
)  # what "surrogateescape" makes of stray bytes, and the rest

Kind = Literal["bytes", "sentencepiece"]


@dataclass(frozen=True, kw_only=True)
class Bpe:
    """A view of a tokenizer.

    Attributes:
        made: its definition, as `tokenizer.json` has it.
        model: its BPE model, which cuts a word into tokens.
        kind: `bytes` for byte-level BPE, `sentencepiece` for characters with `▁` and byte fallback.
        vocab: id by token, as the model has them; an added token may be among them.
        merges: pairs of tokens in their order.
        added: id by added token, special or not.
        special: those of the added tokens that are special.
    """

    made: Mapping[str, Any]
    model: BPE
    kind: Kind
    vocab: Mapping[str, int]
    merges: Sequence[tuple[str, str]]
    added: Mapping[str, int]
    special: frozenset[str]

    @cached_property
    def last(self) -> int:
        """The highest id in use."""
        return max(max(self.vocab.values(), default=-1), max(self.added.values(), default=-1))

    @cached_property
    def ordinary(self) -> dict[str, int]:
        """Id by token, without the added ones."""
        return {token: id for token, id in self.vocab.items() if token not in self.added}

    @cached_property
    def by_bytes(self) -> dict[bytes, int]:
        """Id by bytes, without special tokens; of a piece and a byte token for the same byte, the piece."""
        found = {token.encode(): id for token, id in self.added.items() if token not in self.special}
        found |= {self.data(token): id for token, id in self.ordinary.items() if self.is_byte(token)}
        return found | {self.data(token): id for token, id in self.ordinary.items() if not self.is_byte(token)}

    def is_byte(self, token: str) -> bool:
        """Whether a token is one of SentencePiece's for single bytes."""
        return self.kind == "sentencepiece" and _BYTE_TOKEN.fullmatch(token) is not None

    def data(self, token: str) -> bytes:
        """The bytes of text that a token stands for."""
        if token in self.added:
            return token.encode()
        if self.kind == "sentencepiece":
            byte = _BYTE_TOKEN.fullmatch(token)
            return bytes.fromhex(byte[1]) if byte else token.replace(SPACE, " ").encode()
        if not _BYTES.keys() >= set(token):
            return token.encode()  # no text is ever cut into it
        return bytes(map(_BYTES.__getitem__, token))

    def pieces(self, data: bytes) -> list[int]:
        """The ids of the tokens that the BPE model alone cuts bytes into, as if they were one word.

        Nothing is normalised, and no space is put before them.
        """
        if self.kind == "bytes":
            return [token.id for token in self.model.tokenize("".join(map(LETTERS.__getitem__, data)))]
        found: list[int] = []
        for run in _UNDECODED.findall(data.decode("utf-8", "surrogateescape")):
            if _UNDECODED.match(run) and 0xDC80 <= ord(run[0]) <= 0xDCFF:
                found.append(self.vocab[f"<0x{ord(run) - 0xDC00:02X}>"])
            else:
                found += [token.id for token in self.model.tokenize(run.replace(" ", SPACE))]
        return found


def read(tokenizer: Tokenizer) -> Bpe:
    """A view of a tokenizer as it is now.

    Raises:
        UserError: it is no BPE that can write any text, or one whose tokens depend on where in a word they are.
    """
    made = json.loads(tokenizer.to_str())
    model = made["model"]
    if model["type"] != "BPE":
        raise _unsupported(f"its model is {model['type']} and not BPE")
    if model["dropout"]:
        raise _unsupported(f"its merges are left out at random (dropout = {model['dropout']})")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model[key]:
            raise _unsupported(f"its tokens are marked by their place in a word ({key} = {model[key]!r})")
    added = {token["content"]: int(token["id"]) for token in made["added_tokens"]}
    return Bpe(
        made=made,
        model=tokenizer.model,
        kind=_kind(made),
        vocab=model["vocab"],
        merges=[(left, right) for left, right in model["merges"]],
        added=added,
        special=frozenset(token["content"] for token in made["added_tokens"] if token["special"]),
    )


def _kind(made: Mapping[str, Any]) -> Kind:
    if made["model"]["byte_fallback"]:
        return "sentencepiece"
    if any(step["type"] == "ByteLevel" for step in steps(made["pre_tokenizer"], "pretokenizers")):
        return "bytes"
    raise _unsupported("it works neither on bytes (ByteLevel) nor falls back to them (byte_fallback)")


def _unsupported(why: str) -> UserError:
    return UserError(
        f"the tokenizer cannot be adapted: {why}; BPE on bytes and SentencePiece's BPE with byte fallback can be. "
        'Keep the tokenizer (strategy = "keep"), or start from another base model'
    )


def steps(made: Mapping[str, Any] | None, inner: str) -> list[Mapping[str, Any]]:
    """A step of a tokenizer's definition, or the steps of a sequence, or none."""
    if made is None:
        return []
    return list(made[inner]) if made["type"] == "Sequence" else [made]


def without_shortcut(tokenizer: Tokenizer) -> BPE:
    """The BPE model by its merges alone: where `ignore_merges` is set, a word that is a token is taken whole otherwise."""
    from tokenizers import Tokenizer as Made

    if not tokenizer.model.ignore_merges:
        return tokenizer.model
    made = json.loads(tokenizer.to_str())
    made["model"]["ignore_merges"] = False
    return Made.from_str(json.dumps(made)).model


def matched(old: Tokenizer, new: Tokenizer) -> list[int | None]:
    """The old id by new id, for tokens that stand for the same bytes or are the same special or added token.

    Raises:
        UserError: one of them is not supported, see `read`.
    """
    before, after = read(old), read(new)
    found: list[int | None] = [None] * (after.last + 1)
    for token, id in after.ordinary.items():
        same = before.vocab.get(token) if after.is_byte(token) and before.is_byte(token) else None
        found[id] = before.by_bytes.get(after.data(token)) if same is None else same
    for token, id in after.added.items():
        same = before.added.get(token)
        found[id] = before.by_bytes.get(token.encode()) if same is None and token not in after.special else same
    return found
