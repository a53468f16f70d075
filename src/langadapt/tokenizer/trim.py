"""`trim`: the tokens that text does without are taken out, leaf by leaf (arXiv 2512.03989), and new ones may be learnt then.

A leaf is a token that no other is made of. The rarest one goes first; what was cut into it is cut into its two parts
then, which count for more and may have become leaves. So every token that stays can still be reached.
"""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from pydantic import Field

from langadapt.errors import UserError
from langadapt.recipe import Table
from langadapt.records import TokenizerStrategy, TokenizerTask
from langadapt.tokenizer import extend as extension

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from langadapt.tokenizer.tokens import Bpe
    from langadapt.tokenizer.words import Words


class Options(Table):
    """Keys of `[stage.tokenizer]` beside `strategy`."""

    tokens: int = Field(ge=1, description="Tokens that stay, in total.")
    extend: extension.Options | None = Field(
        None, description="New tokens that are learnt then: `tokens` and the other keys of `extend`."
    )
    multiple_of: int = Field(
        128,
        ge=1,
        description="The number of tokens is rounded down to a multiple of it, unless new ones are learnt then.",
    )


def adapt(task: TokenizerTask) -> Tokenizer:
    from langadapt.tokenizer.building import restricted
    from langadapt.tokenizer.tokens import read
    from langadapt.tokenizer.words import count, segmented

    options: Options = task.options
    bpe = read(task.tokenizer)
    target, source = count(task.tokenizer, task.texts()), count(task.tokenizer, task.source_texts())
    words = segmented(bpe, target.words, source.words)
    wanted, before = tokens_kept(options), len({*bpe.vocab, *bpe.added})
    if wanted >= before:
        raise UserError(
            f"the tokenizer has {before:,} tokens, so it cannot be trimmed to {wanted:,}; ask for fewer tokens"
        )
    staying = pruned(bpe, words, wanted)
    task.say(f"{before - wanted:,} tokens taken out that are rare in {target} and {source}")
    made = restricted(bpe, staying)
    if options.extend is None:
        return made
    return extension.extended(made, options.extend, rows=wanted, target=target, source=source, say=task.say)


def tokens_kept(options: Options) -> int:
    """Tokens after the trimming, before any are learnt."""
    return options.tokens if options.extend else options.tokens // options.multiple_of * options.multiple_of


def pruned(bpe: Bpe, words: Words, wanted: int) -> set[str]:
    """The ordinary tokens that stay when the rarest leaves have gone, one by one.

    Raises:
        UserError: as few tokens cannot write any text.
    """
    from langadapt.tokenizer.merging import order_of

    order = order_of(bpe)
    parts = {token: order.parts(token) for token in bpe.ordinary}
    made_of = Counter(part for pair in parts.values() for part in pair)
    counts = _occurrences(words)
    going = len({*bpe.vocab, *bpe.added}) - wanted
    leaves = [
        (counts[token], -id, token) for token, id in bpe.ordinary.items() if not made_of[token] and _may_go(bpe, token)
    ]
    heapify(leaves)
    staying = {*bpe.ordinary}
    for _ in range(going):
        if not leaves:
            raise UserError(
                f"tokens = {wanted:,} is too few: special tokens, bytes and characters alone are "
                f"{len(staying) + len(bpe.added):,}; ask for more"
            )
        count, _, token = heappop(leaves)
        staying.remove(token)
        for part in parts[token]:
            counts[part] += count
            made_of[part] -= 1
            if not made_of[part] and part in staying and _may_go(bpe, part):
                heappush(leaves, (counts[part], -bpe.ordinary[part], part))
    return staying


def _may_go(bpe: Bpe, token: str) -> bool:
    """Bytes and single characters stay, and what stands for the unknown."""
    return len(token) > 1 and not bpe.is_byte(token) and token != bpe.made["model"]["unk_token"]


def _occurrences(words: Words) -> Counter[str]:
    counts: Counter[str] = Counter()
    for symbols, *times in zip(words.symbols, words.target, words.source, strict=True):
        for symbol in symbols:
            counts[symbol] += sum(times)
    return counts


def tokens(options: Options, before: int) -> int:
    kept = tokens_kept(options)
    return extension.tokens(options.extend, kept) if options.extend else kept


def rehearsed(options: Options) -> Options:
    """Fewer tokens than the small model of a rehearsal has."""
    grow = options.extend and extension.rehearsed(options.extend)
    return options.model_copy(update={"tokens": min(options.tokens, 40_000), "extend": grow})


STRATEGY = TokenizerStrategy(
    name="trim",
    description="Tokens that the text does without are taken out, and new ones may be learnt then (leaf pruning).",
    options=Options,
    adapt=adapt,
    tokens=tokens,
    rehearsed=rehearsed,
    source="arXiv 2512.03989",
)
