"""Whether to extend a tokenizer: what it would save on a user's own text, what that costs, and when it pays.

The prediction is measured: tokens are learnt from one part of the text and counted on the rest. The advice follows from it
by a few rules, each of which can be read, and all of which must speak for an extension; else the tokenizer is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from langadapt.estimates import FP32
from langadapt.models import ModelShape
from langadapt.tokenizer.extend import KNEE
from langadapt.tokenizer.predicting import ROWS, SEEN, Prediction, Size

WORTH = 0.16  # of the tokens: the least that a published adaptation found worth it (SAVA on Llama-3.1-8B)
USED = 0.7  # of the new tokens, that must come in text which they were not learnt from
SOURCE_LINES, SOURCE_TOKENS = 0.05, 0.005  # of text in the source language, that may be cut otherwise
CAUGHT_UP = 4.25e9  # tokens of training after which tasks were as good as with the vocabulary kept; see `EVIDENCE`


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What others have found, in our words."""

    what: str
    found: str
    source: str


EVIDENCE = (
    Evidence(
        what="Apertus-8B to Greek, 17 408 tokens added by Token Distillation",
        found="tokens a word 2.693 → 1.735; bits per byte .5311 after 2.0 B tokens and .4953 after 4.25 B, with the "
        "vocabulary kept .4906 and .4657; tasks then alike (.4384, .4382)",
        source="fffoivos/glossapi-tokenizer-extension",
    ),
    Evidence(
        what="LLaMA to Chinese",
        found="grown and trained on 30 B tokens it was worse than the original vocabulary after 0.5 B",
        source="arXiv 2401.01055",
    ),
    Evidence(
        what="Mistral-7B and Llama-3.1-8B to Italian, vocabulary replaced (SAVA)",
        found="25 % and 16 % fewer tokens, with up to 12.6 B tokens of training",
        source="arXiv 2504.17025",
    ),
    Evidence(
        what="Swallow, Meltemi, EEVE",
        found="grew with 100 B and 40 B tokens, and with 2 B in seven stages of freezing",
        source="arXiv 2404.17790, 2407.20743, 2402.14714",
    ),
    Evidence(what="SEA-LION v4, LLaMAntino-3-ANITA", found="keep their vocabularies", source="arXiv 2405.07101"),
)


# --- what it costs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What an extension changes for a model; ratios are to the model as it is.

    Attention is left out: it grows with the square of the tokens, so that fewer save more than stands here.

    Attributes:
        context: text that fits into the same window.
        training: arithmetic that a text costs in training: a head of more rows, whose new ones learn, for fewer tokens.
        inference: the same when text is read or written.
        weights: bytes that the new rows add to the model in 16 bits.
        learning: bytes that they take beside that while they learn: weight, gradient and AdamW's two moments in fp32.
    """

    context: float
    training: float
    inference: float
    weights: int
    learning: int


def costs(shape: ModelShape, size: Size) -> Costs:
    """What a size costs a model of a shape.

    For each token, a multiplication and an addition with each weight of the blocks and of the head; twice that in training,
    where the gradient comes back through all of them, and three times that of rows that learn.
    """
    kept = 1 - size.saved
    head, rows = shape.vocab_size * shape.hidden_size, size.new * shape.hidden_size
    base = shape.linear_parameters + head
    matrices = 1 if shape.tie_word_embeddings else 2
    return Costs(
        context=1 / kept,
        training=kept * (2 * base + 3 * rows) / (2 * base),
        inference=kept * (base + rows) / base,
        weights=2 * matrices * rows,
        learning=4 * FP32 * matrices * rows,
    )


# --- what follows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One rule, and what it says of this text and model."""

    rule: str
    speaks_for: bool
    said: str


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to do.

    Attributes:
        strategy: `keep` or `extend`.
        new: tokens to add; 0 to keep.
        reasons: every rule, in order.
        pays_after: tokens of training from which an extension is worth trying; None where it never is.
        said: the advice in a sentence.
    """

    strategy: Literal["keep", "extend"]
    new: int
    reasons: tuple[Reason, ...]
    pays_after: float | None
    said: str


def advise(prediction: Prediction, shape: ModelShape | None, *, tokens: float | None = None) -> Advice:
    """The advice: `extend` only where every rule speaks for it.

    Args:
        prediction: what was measured.
        shape: of the model; None where only a tokenizer is at hand, and then it cannot be said that it gets faster.
        tokens: of the training that is planned, counted with the tokenizer as it is; None where it is not known.
    """
    size = prediction.knee
    if size is None:
        reason = Reason(
            rule="knee", speaks_for=False, said="no size saves 1 % of the tokens for each 1 000 that it adds"
        )
        return Advice(
            strategy="keep",
            new=0,
            reasons=(reason,),
            pays_after=None,
            said="Keep the tokenizer: it cuts this text well.",
        )
    pays_after = max(CAUGHT_UP, size.seen_after / (1 - size.saved))
    reasons = (
        Reason(rule="knee", speaks_for=True, said=_at_knee(size, prediction)),
        _saves(size),
        _is_used(size),
        _is_faster(size, shape),
        *_keeps_source(size),
        _rows_are_seen(size, tokens),
        _catches_up(tokens),
    )
    against = [reason.rule for reason in reasons if not reason.speaks_for]
    never = math.isinf(pays_after) or not set(against) <= {"rows-seen", "catches-up"}
    if not against:
        said = f"Extend it by {size.new:,} tokens: {_percent(size.saved)} are saved, for speed and context, not for quality."
    elif never:
        said = "Keep the tokenizer."
    else:
        said = f"Keep the tokenizer, unless you train on {_tokens(pays_after)} tokens or more."
    return Advice(
        strategy="keep" if against else "extend",
        new=0 if against else size.new,
        reasons=reasons,
        pays_after=None if never else pays_after,
        said=said,
    )


def _at_knee(size: Size, prediction: Prediction) -> str:
    if size is prediction.sizes[-1]:
        return f"{size.new:,} new tokens, the most that were tried, or that this text gives; more of it may show more"
    return f"{size.new:,} new tokens; 1 000 more save less than {_percent(KNEE)}"


def _saves(size: Size) -> Reason:
    enough = size.surely_saved >= WORTH
    said = f"it saves {_percent(size.saved)} of the tokens"
    if math.isinf(size.error):
        return Reason(rule="saves", speaks_for=False, said=f"{said} of one text, from which nothing follows for others")
    said += f", surely {_percent(max(0.0, size.surely_saved))}; {_percent(WORTH)} is the least that was found worth it"
    return Reason(rule="saves", speaks_for=enough, said=said)


def _is_used(size: Size) -> Reason:
    said = (
        f"{_percent(size.used)} of the new tokens come in text that they were not learnt from; {_percent(USED)} should"
    )
    return Reason(rule="used", speaks_for=size.used >= USED, said=said)


def _is_faster(size: Size, shape: ModelShape | None) -> Reason:
    if shape is None:
        return Reason(rule="faster", speaks_for=False, said="the model is not known, nor what its larger head costs")
    cost = costs(shape, size)
    said = f"a text costs {_percent(cost.training)} of the arithmetic in training, {_percent(cost.inference)} in use"
    return Reason(rule="faster", speaks_for=max(cost.training, cost.inference) < 1, said=said)


def _keeps_source(size: Size) -> Iterator[Reason]:
    """Whether the source language is cut as before; nothing where there is no text in it."""
    if size.source is None or not size.source.tokens:
        return
    lines = size.source.lines_changed / size.source.lines
    tokens = size.source.tokens_changed / size.source.tokens
    holds = lines <= SOURCE_LINES and tokens <= SOURCE_TOKENS
    said = f"{100 * lines:.1f} % of the lines and {100 * tokens:.2f} % of the tokens in the source language change"
    said += "" if holds else "; a lower source_veto refuses more of what comes there"
    yield Reason(rule="source", speaks_for=holds, said=said)


def _rows_are_seen(size: Size, tokens: float | None) -> Reason:
    needed = size.seen_after / (1 - size.saved)
    said = f"{_percent(ROWS)} of the new rows are seen {SEEN} times after {_tokens(needed)} tokens of such text"
    return Reason(rule="rows-seen", speaks_for=tokens is not None and tokens >= needed, said=_planned(said, tokens))


def _catches_up(tokens: float | None) -> Reason:
    said = (
        f"the best public comparison had caught up in tasks after {_tokens(CAUGHT_UP)} tokens, and not in bits per byte"
    )
    return Reason(rule="catches-up", speaks_for=tokens is not None and tokens >= CAUGHT_UP, said=_planned(said, tokens))


def _planned(said: str, tokens: float | None) -> str:
    return f"{said}; {'how long you train is not said' if tokens is None else f'you train on {_tokens(tokens)}'}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _tokens(number: float) -> str:
    """A number of tokens in the unit that suits it."""
    if math.isinf(number):
        return "no number of"
    for unit, factor in ((" B", 1e9), (" M", 1e6), (" k", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return f"{number:.0f}"


def to_json(prediction: Prediction, advice: Advice, shape: ModelShape | None) -> dict[str, Any]:
    """Prediction and advice with stable keys; what never happens is None."""
    return {
        "learnt_from": prediction.learnt_from,
        "held_out": prediction.held_out,
        "tokens": prediction.tokens,
        "fertility": prediction.tokens / prediction.words if prediction.words else None,
        "sizes": [_size_json(size, prediction, shape) for size in prediction.sizes],
        "knee": prediction.knee.new if prediction.knee else None,
        "strategy": advice.strategy,
        "new": advice.new,
        "pays_after": advice.pays_after,
        "reasons": [asdict(reason) for reason in advice.reasons],
        "said": advice.said,
        "evidence": [asdict(evidence) for evidence in EVIDENCE],
    }


def _size_json(size: Size, prediction: Prediction, shape: ModelShape | None) -> dict[str, Any]:
    return {
        **{name: None if value in (math.inf, -math.inf) else value for name, value in asdict(size).items()},
        "fertility": size.tokens / prediction.words if prediction.words else None,
        "costs": asdict(costs(shape, size)) if shape else None,
    }
