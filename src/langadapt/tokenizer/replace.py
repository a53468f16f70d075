"""`replace`: a vocabulary learnt anew, or another tokenizer.

Learnt anew, it keeps the base's kind, normaliser, pre-tokenizer and special tokens, and of the others those without a
letter: digits, blanks and punctuation are cut as before, because a model whose numbers are cut otherwise forgets how to
count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from langadapt.errors import UserError
from langadapt.named_models import fingerprint
from langadapt.recipe import Table
from langadapt.records import TokenizerStrategy, TokenizerTask
from langadapt.tokenizer import extend
from langadapt.tokenizer.noise import has_letters

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from langadapt.tokenizer.tokens import Bpe
    from langadapt.tokenizer.words import Counted


class Options(Table):
    """Keys of `[stage.tokenizer]` beside `strategy`."""

    from_: str = Field(
        "",
        alias="from",
        description="A tokenizer to take: hub id, folder, `.gguf` file, `package:NAME/FILE`; empty to learn one.",
    )
    tokens: int = Field(0, ge=0, description="Tokens in total; 0 for as many as the base has.")
    source_share: float = Field(0.0, ge=0, lt=1, description="Share of the source language in what it is learnt from.")
    min_frequency: int = Field(10, ge=1, description="Tokens of the text that a new one must save.")
    max_length: int = Field(16, ge=2, description="Characters of a token, a space before it not counted.")
    multiple_of: int = Field(128, ge=1, description="The number of tokens is rounded up to a multiple of it.")

    @model_validator(mode="after")
    def _taken_or_learnt(self) -> Options:
        fields = type(self).model_fields
        others = [name for name in fields if name != "from_" and getattr(self, name) != fields[name].default]
        if self.from_ and others:
            raise ValueError(f"a tokenizer that is taken from elsewhere is not learnt: leave out {', '.join(others)}")
        return self


def adapt(task: TokenizerTask) -> Tokenizer:
    options: Options = task.options
    return _taken(task.tokenizer, options.from_) if options.from_ else _learnt(task, options)


def _taken(base: Tokenizer, reference: str) -> Tokenizer:
    """Another tokenizer, with the added tokens of the base that it lacks."""
    from langadapt.loading import load_tokenizer
    from langadapt.models import find_model
    from langadapt.tokenizer.tokens import read

    tokenizer: Tokenizer | None = getattr(
        load_tokenizer(find_model(reference).path or reference), "backend_tokenizer", None
    )
    if tokenizer is None:
        raise UserError(f"from = {reference}: its tokenizer is none of the library tokenizers; name another model")
    known = read(tokenizer).added
    for token in base.get_added_tokens_decoder().values():
        if token.content not in known:
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def _learnt(task: TokenizerTask, options: Options) -> Tokenizer:
    from langadapt.tokenizer.building import restricted
    from langadapt.tokenizer.tokens import read
    from langadapt.tokenizer.words import count

    bpe = read(task.tokenizer)
    text = count(task.tokenizer, task.texts())
    if options.source_share:
        text = _mixed(text, count(task.tokenizer, task.source_texts()), options.source_share)
    bare = restricted(bpe, [token for token in bpe.ordinary if _stays(bpe, token)])
    ids, wanted = bare.get_vocab_size(), tokens(options, task.tokenizer.get_vocab_size())
    if wanted <= ids:
        raise UserError(
            f"tokens = {wanted:,} is too few: special tokens, bytes, digits and punctuation alone are {ids:,}; ask for more"
        )
    grow = extend.Options(
        tokens=wanted - ids,
        min_frequency=options.min_frequency,
        max_length=options.max_length,
        multiple_of=options.multiple_of,
    )
    return extend.extended(bare, grow, rows=ids, target=text, source=None, say=task.say)


def _stays(bpe: Bpe, token: str) -> bool:
    """Whether a token is a single byte, the unknown one, or has no letter."""
    data = bpe.data(token)
    return len(data) == 1 or token == bpe.made["model"]["unk_token"] or not has_letters(data.decode("utf-8", "ignore"))


def _mixed(target: Counted, source: Counted, share: float) -> Counted:
    """Words of both languages, the source's scaled to their share."""
    if not source.bytes:
        raise UserError(
            f"source_share = {share}: the stage has no text in the source language; give it some, or leave it out"
        )
    scale = share / (1 - share) * target.bytes / source.bytes
    words = target.words + Counter({word: ceil(scale * times) for word, times in source.words.items()})
    return replace(target, words=words, texts=target.texts + source.texts, bytes=target.bytes + source.bytes)


def tokens(options: Options, before: int) -> int:
    return extend.upwards(options.tokens, options.multiple_of) if options.tokens else before


def rehearsed(options: Options) -> Options:
    """As many tokens as the few hundred kilobytes of a sample give."""
    if options.from_:
        return options
    few = {"tokens": min(options.tokens or 4096, 4096), "min_frequency": min(options.min_frequency, 4)}
    return options.model_copy(update=few)


STRATEGY = TokenizerStrategy(
    name="replace",
    description="A vocabulary learnt anew on the text, or another tokenizer.",
    options=Options,
    adapt=adapt,
    tokens=tokens,
    rehearsed=rehearsed,
    fingerprint=lambda options: fingerprint(options.from_) if options.from_ else "",
)
