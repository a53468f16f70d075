"""A tokenizer of transformers in the words of llama.cpp, which must give the same ids, or a refusal.

llama.cpp has two tokenizers for such models. The one of bytes applies merges in order, inside of the words that regular
expressions cut; it knows those by a name (`tokenizer.ggml.pre`). That name is found from the definition of the
pre-tokenizer: the converters' usual way, a probe text whose ids are looked up in a list, knows no vocabulary that was
extended. The other one is SentencePiece's: any two neighbours that are a piece together are merged, the best score first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gguf import TokenType

from langadapt.errors import UserError
from langadapt.tokenizer.merging import piece_ranks
from langadapt.tokenizer.tokens import SPACE, steps

_GPT2 = ("ByteLevel", True)  # cut into words by GPT-2's expression, which belongs to the step
_BYTES = ("ByteLevel", False)
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# Names of llama.cpp by the steps of a pre-tokenizer and whether words that are tokens are taken whole, merges or not.
_PRE: Mapping[tuple[Any, ...], str] = {
    (_GPT2, False): "gpt-2",
    (("Digits", True), _GPT2, False): "smollm",
    (("Split", _LLAMA3), _BYTES, True): "llama-bpe",
    (("Split", _LLAMA3), _BYTES, False): "smaug-bpe",
    (("Split", _QWEN2), _BYTES, False): "qwen2",
}
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        model: `gpt2` for merges of bytes, `llama` for SentencePiece.
        pre: llama.cpp's name of the way in which text is cut into words.
        tokens: by id, one for each row of the embedding.
        types: `gguf.TokenType` of each.
        scores: of each; empty for `gpt2`.
        merges: in order; empty for `llama`.
        special: ids by `bos`, `eos`, `unknown`, `padding`.
        add_bos: whether an encoded text begins with BOS.
        add_eos: whether it ends with EOS.
        space_prefix: whether a text, and what follows a special token, gets a space before it.
        joins_space: whether that space is left out where the text begins with one, which llama.cpp does not do.
    """

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    special: dict[str, int] = field(default_factory=dict)
    add_bos: bool = False
    add_eos: bool = False
    space_prefix: bool = False
    joins_space: bool = False


def vocabulary(tokenizer: Any, rows: int) -> Vocabulary:
    """The tokenizer as it encodes in this process, whatever its files say.

    Args:
        tokenizer: a tokenizer of transformers that has a `backend_tokenizer`.
        rows: of the model's embedding; those beyond the tokens are written as unused.

    Raises:
        UserError: llama.cpp would cut text into other tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused("it is none of the library tokenizers")
    made = json.loads(backend.to_str())
    if made["model"]["type"] != "BPE":
        raise _refused(f"its model is {made['model']['type']} and not BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if made["model"].get(key):
            raise _refused(f"its model has {key} = {made['model'][key]!r}")
    added = {token["content"]: token for token in made["added_tokens"]}
    for content, token in added.items():
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise _refused(f'its token "{content}" also takes the spaces around it, or only whole words')
    tokens = _tokens(made["model"]["vocab"], added, rows)
    common: dict[str, Any] = {"tokens": tokens, "special": _special(tokenizer), **_ends(tokenizer)}
    return _sentencepiece(made, added, common) if made["model"]["byte_fallback"] else _bytes(made, added, common)


def _refused(why: str) -> UserError:
    return UserError(
        f"the tokenizer cannot be written as GGUF: {why}; export safetensors and try llama.cpp's own convert_hf_to_gguf.py"
    )


def _tokens(vocab: Mapping[str, int], added: Mapping[str, Any], rows: int) -> list[str]:
    by_id = {id: token for token, id in vocab.items()} | {token["id"]: content for content, token in added.items()}
    if max(by_id) >= rows:
        raise UserError(
            f"the tokenizer has a token with the id {max(by_id)} and the model only {rows} rows of embedding; "
            "export safetensors"
        )
    return [by_id.get(id, f"[PAD{id}]") for id in range(rows)]


def _special(tokenizer: Any) -> dict[str, int]:
    ids = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unknown": tokenizer.unk_token_id,
        "padding": tokenizer.pad_token_id,
    }
    return {name: id for name, id in ids.items() if id is not None}


def _ends(tokenizer: Any) -> dict[str, bool]:
    ids = tokenizer("a")["input_ids"]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return {"add_bos": bos is not None and ids[0] == bos, "add_eos": eos is not None and ids[-1] == eos}


def _type(token: str, id: int, added: Mapping[str, Any], known: Mapping[str, int]) -> int:
    if token in added:
        return int(TokenType.CONTROL if added[token]["special"] else TokenType.USER_DEFINED)
    return int(TokenType.NORMAL if known.get(token) == id else TokenType.UNUSED)


# --- merges of bytes --------------------------------------------------------------------------------------------------


def _bytes(made: Mapping[str, Any], added: Mapping[str, Any], common: dict[str, Any]) -> Vocabulary:
    model = made["model"]
    if [step for step in steps(made["normalizer"], "normalizers") if step["type"] != "NFC"]:
        raise _refused(f"llama.cpp does not normalise text as its normaliser does: {_brief(made['normalizer'])}")
    cut = tuple(_named(step) for step in steps(made["pre_tokenizer"], "pretokenizers"))
    pre = _PRE.get((*cut, bool(model["ignore_merges"])))
    if pre is None:
        whole = ", with ignore_merges" if model["ignore_merges"] else ""
        raise _refused(f"no name of llama.cpp's is known for its pre-tokenizer: {_brief(made['pre_tokenizer'])}{whole}")
    types = [_type(token, id, added, model["vocab"]) for id, token in enumerate(common["tokens"])]
    return Vocabulary(model="gpt2", pre=pre, types=types, merges=[" ".join(pair) for pair in model["merges"]], **common)


def _named(step: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a pre-tokenizer's step tells how it cuts."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": by_word}:
            return "ByteLevel", by_word
        case {"type": "Digits", "individual_digits": single}:
            return "Digits", single
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return "Split", pattern
    return (json.dumps(step),)


def _brief(made: Any) -> str:
    text = json.dumps(made, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}…"


# --- SentencePiece ----------------------------------------------------------------------------------------------------


def _sentencepiece(made: Mapping[str, Any], added: Mapping[str, Any], common: dict[str, Any]) -> Vocabulary:
    model = made["model"]
    prefix, joins = _spaces(made)
    ranks = _ranks(model["vocab"], model["merges"], added)
    types = [_type(token, id, added, model["vocab"]) for id, token in enumerate(common["tokens"])]
    for id, token in enumerate(common["tokens"]):
        if token not in added and _BYTE.fullmatch(token):
            types[id] = int(TokenType.BYTE)
    if (unknown := common["special"].get("unknown")) is not None:
        types[unknown] = int(TokenType.UNKNOWN)
    return Vocabulary(
        model="llama",
        pre="default",
        types=types,
        scores=[float(-ranks.get(token, len(ranks))) for token in common["tokens"]],
        space_prefix=prefix,
        joins_space=joins,
        **common,
    )


def _spaces(made: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether a space is put before a text, and whether not before one that has a space there already."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = {"type": "Prepend", "prepend": SPACE}
    normalizer, cut = steps(made["normalizer"], "normalizers"), made["pre_tokenizer"]
    if cut is None and normalizer in ([prepend, replace], [replace]):
        return prepend in normalizer, False
    if not normalizer and cut and cut["type"] == "Metaspace" and cut["replacement"] == SPACE and not cut["split"]:
        prefix = cut["prepend_scheme"] != "never"
        return prefix, prefix
    raise _refused(
        f"it is like SentencePiece's, but for its normaliser {_brief(made['normalizer'])} "
        f"and its pre-tokenizer {_brief(cut)}"
    )


def _ranks(vocab: Mapping[str, int], merges: list[list[str]], added: Mapping[str, Any]) -> dict[str, int]:
    """The place of each merged piece in the order of merges; its score falls with it."""
    try:
        return piece_ranks(((left, right) for left, right in merges), vocab.keys() - added.keys())
    except ValueError as error:
        raise _refused(f'the merges that make "{error}" are not those of a SentencePiece model') from None
