"""Makes tokenizers out of another: with more tokens, or with fewer. What else defines it stays as it is."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langadapt.tokenizer.learning import Learnt
from langadapt.tokenizer.merging import cuts, order_of
from langadapt.tokenizer.tokens import Bpe, steps

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def grown(bpe: Bpe, learnt: Sequence[Learnt]) -> Tokenizer:
    """A tokenizer with new tokens behind its last one and new merges below all its own.

    Where pieces have ranks, the merges of a piece are all its cuts, as SentencePiece has them: old pieces also get those of
    which a new piece is a part, at their own rank.
    """
    new = sorted(learnt, key=lambda each: each.rank)
    vocab = {**bpe.vocab, **{each.token: bpe.last + 1 + place for place, each in enumerate(new)}}
    if not order_of(bpe).pieces:
        return _built(
            bpe, vocab, [*bpe.merges, *((left, right) for left, right in (each.pair for each in new if each.pair))]
        )
    pieces = {**bpe.ordinary, **{each.token: vocab[each.token] for each in new}}
    known: dict[str, dict[tuple[str, str], None]] = {}
    for pair in bpe.merges:
        known.setdefault("".join(pair), {})[pair] = None
    merges = [
        pair
        for piece in (*known, *(each.token for each in new))
        for pair in known.get(piece, {}) | dict.fromkeys(cuts(piece, pieces))
    ]
    return _built(bpe, vocab, merges)


def restricted(bpe: Bpe, tokens: Collection[str]) -> Tokenizer:
    """A tokenizer with some of its ordinary tokens and all of its added ones, numbered anew in the same order.

    Args:
        bpe: the tokenizer.
        tokens: that stay; with each the two that it is made of.
    """
    staying = {*tokens, *bpe.added}
    order = sorted((id, token) for token, id in {**bpe.vocab, **bpe.added}.items() if token in staying)
    vocab = {token: place for place, (_, token) in enumerate(order)}
    merges = [pair for pair in bpe.merges if {*pair, "".join(pair)} <= vocab.keys()]
    return _built(bpe, vocab, merges)


def _built(bpe: Bpe, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """A tokenizer with other tokens and merges.

    Added tokens stand in the model's vocabulary, too: those that do not are numbered anew when the file is read, behind the
    model's last.
    """
    from tokenizers import Tokenizer

    ids = {**bpe.added, **vocab}
    made = copy.copy(dict(bpe.made))
    made["model"] = {**made["model"], "vocab": ids, "merges": merges}
    made["added_tokens"] = [{**token, "id": ids[token["content"]]} for token in made["added_tokens"]]
    made["post_processor"] = _renumbered(made["post_processor"], ids)
    if made["padding"]:
        made["padding"] = {**made["padding"], "pad_id": ids[made["padding"]["pad_token"]]}
    return Tokenizer.from_str(json.dumps(made))


def _renumbered(made: Mapping[str, Any] | None, ids: Mapping[str, int]) -> Any:
    """A post-processor with the ids of the special tokens that it puts around a text."""
    if made is None:
        return None
    if made["type"] == "Sequence":
        return {**made, "processors": [_renumbered(step, ids) for step in steps(made, "processors")]}
    if made["type"] == "TemplateProcessing":
        special = {
            name: {**token, "ids": [ids[each] for each in token["tokens"]]}
            for name, token in made["special_tokens"].items()
        }
        return {**made, "special_tokens": special}
    if made["type"] in ("BertProcessing", "RobertaProcessing"):
        return {**made, **{side: [made[side][0], ids[made[side][0]]] for side in ("sep", "cls")}}
    return made
