"""`extend`: new tokens behind the old ones, by continued BPE (arXiv 2512.03989).

Text is cut by the base's own merges first, so every boundary of a new token is one of an old token; ids, special tokens,
normaliser, pre-tokenizer, post-processor and decoder stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Discriminator, Field, Tag

from langadapt.errors import UserError
from langadapt.recipe import Table
from langadapt.records import TokenizerStrategy, TokenizerTask

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from langadapt.tokenizer.learning import Learnt
    from langadapt.tokenizer.words import Counted

KNEE = 0.01  # of its tokens that text must lose with the next thousand new ones, else they are not worth it

Tokens = Annotated[
    Annotated[Literal["knee"], Tag("tag-word")] | Annotated[int, Field(ge=1), Tag("tag-number")],
    Discriminator(lambda value: "tag-word" if isinstance(value, str) else "tag-number"),
]


class Options(Table):
    """Keys of `[stage.tokenizer]` beside `strategy`."""

    tokens: Tokens = Field(
        "knee",
        description='How many new tokens; `"knee"`: thousands, as long as the last thousand saves 1 % of the '
        "text's tokens.",
    )
    most: int = Field(16_384, ge=1, description='New tokens at most, with `"knee"`.')
    min_frequency: int = Field(10, ge=1, description="Tokens of the text that a new one must save.")
    max_length: int = Field(16, ge=2, description="Characters of a new token, a space before it not counted.")
    source_veto: float = Field(
        5.0,
        ge=0,
        description="A token is refused that would come so often in a million tokens of the source language; 0 for none.",
    )
    multiple_of: int = Field(
        128,
        ge=1,
        description="The rows of the model's matrix become a multiple of it, by some more new tokens, with "
        '`"knee"` by fewer; 1 for as asked.',
    )


def adapt(task: TokenizerTask) -> Tokenizer:
    from langadapt.tokenizer.words import count

    options: Options = task.options
    return extended(
        task.tokenizer,
        options,
        rows=task.rows,
        target=count(task.tokenizer, task.texts()),
        source=count(task.tokenizer, task.source_texts()) if options.source_veto else None,
        say=task.say,
    )


def extended(
    tokenizer: Tokenizer,
    options: Options,
    *,
    rows: int,
    target: Counted,
    source: Counted | None,
    say: Callable[[str], None],
) -> Tokenizer:
    """The tokenizer with new tokens.

    Args:
        tokenizer: to learn on from.
        options: how many tokens, and which.
        rows: of the model's embedding matrix; those of padding are used before the matrix grows.
        target: words of the target language.
        source: words of the source language, for the veto.
        say: takes a line for the run's log.

    Raises:
        UserError: the text is too little for as many tokens.
    """
    from langadapt.tokenizer.building import grown
    from langadapt.tokenizer.learning import Learner, learn
    from langadapt.tokenizer.noise import Noise
    from langadapt.tokenizer.tokens import read
    from langadapt.tokenizer.words import Cutter, segmented

    bpe = read(tokenizer)
    ids, knee = bpe.last + 1, options.tokens == "knee"
    wanted = _room(options, ids, rows)
    noise = Noise(bpe, longest=options.max_length, words=Cutter(tokenizer).cuts)
    words = segmented(bpe, target.words, source.words if source else None)
    veto = ceil(options.source_veto * words.source_tokens / 1e6)
    learner = Learner(bpe, words, noise, least=options.min_frequency, veto=veto)
    learnt, curve = learn(learner, wanted=wanted, complete=noise.complete, enough=_is_past_knee if knee else None)
    if knee:
        learnt = learnt[: _at_knee(options, ids, rows, len(learnt), curve)]
    elif len(learnt) < wanted:
        raise _too_little(options, wanted, _most(options, ids, rows, len(learnt)), len(learnt), target)
    for line in _told(learnt, curve, ids=ids, rows=rows, text=target):
        say(line)
    return grown(bpe, learnt) if learnt else tokenizer


def _room(options: Options, ids: int, rows: int) -> int:
    """New tokens, so many that the rows divide; those that fit into rows of padding need no more rows."""
    asked = options.most if options.tokens == "knee" else options.tokens
    return asked if ids + asked <= rows else upwards(ids + asked, options.multiple_of) - ids


def upwards(total: int, multiple_of: int) -> int:
    """The next multiple."""
    return -(-total // multiple_of) * multiple_of


def _most(options: Options, ids: int, rows: int, learnt: int) -> int:
    """New tokens, no more than were learnt, so many that the rows divide."""
    total = ids + learnt
    return learnt if total <= rows else max(total // options.multiple_of * options.multiple_of, rows) - ids


def _is_past_knee(curve: Sequence[int]) -> bool:
    return curve[-2] - curve[-1] < KNEE * curve[-2]


def _at_knee(options: Options, ids: int, rows: int, learnt: int, curve: Sequence[int]) -> int:
    """New tokens before the thousand that saves too little."""
    from langadapt.tokenizer.learning import STEP

    past = len(curve) > 1 and _is_past_knee(curve)
    return _most(options, ids, rows, STEP * (len(curve) - 2) if past else learnt)


def _too_little(options: Options, wanted: int, possible: int, learnt: int, text: Counted) -> UserError:
    return UserError(
        f"{wanted:,} new tokens are asked for, but only {learnt:,} can be learnt from {text}: no other would save "
        f"{options.min_frequency} tokens there (min_frequency); give more text, ask for {wanted - possible:,} tokens fewer, "
        "or set a lower min_frequency"
    )


def _told(learnt: Sequence[Learnt], curve: Sequence[int], *, ids: int, rows: int, text: Counted) -> Iterator[str]:
    """What the run's log says."""
    saved = ", ".join(
        f"{thousands},000: {1 - tokens / curve[0]:.1%}" for thousands, tokens in enumerate(curve) if thousands
    )
    yield f"{len(learnt):,} new tokens from {text}" + (f"; tokens saved in it by the first {saved}" if saved else "")
    if padding := min(len(learnt), rows - ids):
        yield f"{padding:,} of them take rows of padding, which the model has already"
    if not learnt:
        yield f"the tokenizer stays as it is: the first thousand would save less than {KNEE:.0%}"


def tokens(options: Options, before: int) -> int:
    return before + _room(options, before, before)


def rehearsed(options: Options) -> Options:
    """As many tokens as the few hundred kilobytes of a sample give."""
    asked = options.most if options.tokens == "knee" else options.tokens
    return options.model_copy(update={"tokens": min(asked, 512), "min_frequency": min(options.min_frequency, 4)})


STRATEGY = TokenizerStrategy(
    name="extend",
    description="New tokens behind the old ones, learnt on from the base's own merges (continued BPE).",
    options=Options,
    adapt=adapt,
    tokens=tokens,
    rehearsed=rehearsed,
    source="arXiv 2512.03989",
)
