"""What an extension would save: learnt from one part of a user's text, counted on the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from langadapt.corpus.preparing import content_hash, is_held_out
from langadapt.errors import UserError
from langadapt.records import Document
from langadapt.tokenizer.building import grown
from langadapt.tokenizer.checking import Changes, changes, occurrences
from langadapt.tokenizer.extend import KNEE, Options
from langadapt.tokenizer.learning import Learner, learn
from langadapt.tokenizer.noise import Noise
from langadapt.tokenizer.tokens import read
from langadapt.tokenizer.words import Cutter, count, first, segmented

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Numbers = NDArray[np.int64]

SIZES = (500, 1000, 2000, 4000, 8000, 16000)  # new tokens that are tried
HELD_OUT = 0.2  # of the documents, that an extension is counted on and not learnt from
LEARNT = 10 << 20  # bytes of text that an extension is learnt from, at most
PREVIEWED = 1 << 18  # bytes of text of a preview: a plan should not take long
SEEN = 100  # contexts in which a row is learnt: Token Distillation takes 25 to 100 (arXiv 2505.20133)
ROWS = 0.9  # share of the new rows that must have been seen as often
_SURE = 1.96  # standard errors: 95 %


@dataclass(frozen=True, kw_only=True)
class Size:
    """An extension of one size, on text that it was not learnt from.

    Attributes:
        new: tokens that were learnt; fewer than asked for where the text has no more.
        tokens: of that text.
        saved: share of the base's tokens that it saves.
        error: standard error of that share, over documents.
        used: share of the new tokens that come at all.
        seen_after: tokens of training text, counted with the extension, after which `ROWS` of the new rows have been seen
            `SEEN` times; infinite where too many never come.
        source: what it changes of text in the source language; None where none is at hand.
    """

    new: int
    tokens: int
    saved: float
    error: float
    used: float
    seen_after: float
    source: Changes | None = None

    @property
    def surely_saved(self) -> float:
        """What it saves at least, with 95 % confidence."""
        return self.saved - _SURE * self.error


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What extending would do.

    Attributes:
        learnt_from: UTF-8 bytes of the text that tokens were learnt from.
        held_out: of the text that they were counted on.
        tokens: of that, as the tokenizer is.
        words: in it.
        sizes: what was tried, the smallest first.
        knee: the size that is worth looking at; None where the first step saves too little.
    """

    learnt_from: int
    held_out: int
    tokens: int
    words: int
    sizes: tuple[Size, ...]
    knee: Size | None


def predict(
    base: Tokenizer,
    *,
    training: Sequence[str],
    held_out: Sequence[str],
    words: int,
    extend: Callable[[int], Tokenizer],
    source: Sequence[str] = (),
    sizes: Iterable[int] = SIZES,
) -> Prediction:
    """Learns extensions of several sizes and counts what they do.

    Args:
        base: the tokenizer.
        training: texts that tokens are learnt from.
        held_out: texts that they are counted on.
        words: in the latter.
        extend: a number of new tokens in, the extended tokenizer out.
        source: texts in the source language.
        sizes: numbers of new tokens, rising.
    """
    before = _lengths(base, held_out)
    first = _last(base) + 1
    tried: list[Size] = []
    for asked in sizes:
        extended = extend(asked)
        new = _last(extended) + 1 - first
        if new <= (tried[-1].new if tried else 0):  # the text has no more
            break
        ids = range(first, first + new)
        changed = changes(base, extended, source) if source else None
        tried.append(_size(extended, ids, before=before, training=training, held_out=held_out, source=changed))
    return Prediction(
        learnt_from=_bytes(training),
        held_out=_bytes(held_out),
        tokens=int(before.sum()),
        words=words,
        sizes=tuple(tried),
        knee=knee(int(before.sum()), tried),
    )


def knee(tokens: int, sizes: Sequence[Size], *, least: float = KNEE) -> Size | None:
    """The last size up to which every further 1 000 tokens saved at least a share of the tokens that were left.

    Args:
        tokens: of the text, without an extension.
        sizes: the smallest first.
        least: that share.
    """
    found, new = None, 0
    for size in sizes:
        gain = 1 - (size.tokens / tokens) ** (1000 / (size.new - new))
        if gain < least:
            break
        found, tokens, new = size, size.tokens, size.new
    return found


def _size(
    extended: Tokenizer,
    ids: range,
    *,
    before: Numbers,
    training: Sequence[str],
    held_out: Sequence[str],
    source: Changes | None,
) -> Size:
    after, seen = _lengths(extended, held_out), occurrences(extended, training)
    rarest = float(np.quantile(_of(ids, seen), 1 - ROWS, method="lower"))
    saved, error = saving(before, after)
    return Size(
        new=len(ids),
        tokens=int(after.sum()),
        saved=saved,
        error=error,
        used=float((_of(ids, occurrences(extended, held_out)) > 0).mean()),
        seen_after=SEEN * float(seen.sum()) / rarest if rarest else math.inf,
        source=source,
    )


def _of(ids: range, counts: Numbers) -> Numbers:
    """Counts of some ids; those behind the last that came are none."""
    found = counts[ids.start : ids.stop]
    return np.pad(found, (0, len(ids) - len(found)))


def saving(before: Numbers, after: Numbers) -> tuple[float, float]:
    """The share of tokens that is saved, and its standard error over documents, as of any ratio of sums.

    Args:
        before: tokens of each document.
        after: the same of the extended tokenizer.
    """
    kept, documents = float(after.sum() / before.sum()), len(before)
    if documents < 2:
        return 1 - kept, math.inf
    spread = float(np.sum((after - kept * before) ** 2)) * documents / (documents - 1)
    return 1 - kept, math.sqrt(spread) / float(before.sum())


def _lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> Numbers:
    return np.array([len(found.ids) for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)])


def _last(tokenizer: Tokenizer) -> int:
    """The highest id."""
    return max(tokenizer.get_vocab().values())


def _bytes(texts: Sequence[str]) -> int:
    return sum(len(text.encode("utf-8")) for text in texts)


# --- text and candidates ----------------------------------------------------------------------------------------------


def split(texts: Iterable[str], *, held_out: float = HELD_OUT, most: int = LEARNT) -> tuple[list[str], list[str]]:
    """Texts to learn from, and texts to count on; a text is held out by its content, so no copy is on both sides.

    The second half of the content's hash decides: a sample is made of those texts whose first half is smallest.

    Args:
        texts: all of them.
        held_out: share to count on.
        most: bytes to learn from, about.

    Raises:
        UserError: there are too few for both.
    """
    learnt: list[str] = []
    out: list[str] = []
    size = 0
    for text in texts:
        if is_held_out(content_hash(Document(id="", text=text))[8:], held_out):
            out.append(text)
        elif size < most:
            learnt.append(text)
            size += len(text.encode("utf-8"))
    if not (learnt and out):
        raise UserError(
            f"{len(learnt) + len(out)} documents are too few to learn an extension from some and to count it "
            "on others; take more text"
        )
    return learnt, out


def extender(
    base: Tokenizer, texts: Iterable[str], *, source: Iterable[str] = (), most: int = max(SIZES)
) -> Callable[[int], Tokenizer]:
    """Learns once, by continued BPE with the defaults of the strategy `extend`; gives extensions of any size up to `most`.

    Args:
        base: the tokenizer.
        texts: what is learnt from.
        source: text in the source language, whose tokens are left alone.
        most: new tokens.

    Raises:
        UserError: the tokenizer is of a kind that cannot be extended.
    """
    bpe, options = read(base), Options()
    noise = Noise(bpe, longest=options.max_length, words=Cutter(base).cuts)
    words = segmented(bpe, count(base, texts).words, count(base, source).words)
    veto = math.ceil(options.source_veto * words.source_tokens / 1e6)
    learner = Learner(bpe, words, noise, least=options.min_frequency, veto=veto)
    learnt, _ = learn(learner, wanted=most, complete=noise.complete)
    return lambda new: grown(bpe, learnt[:new]) if learnt and new else base


def preview(place: Path, texts: Iterable[str], *, words: Callable[[str], list[str]], new: int = 0) -> str:
    """What a plan can say of a base model's tokenizer on a sample of its text, in a sentence; "" where it would take long.

    Nothing heavier than the library tokenizers is imported, and no more than `PREVIEWED` bytes are looked at, which takes
    about a second with new tokens and less without.

    Args:
        place: the model's folder, with a `tokenizer.json`; from anything else nothing follows.
        texts: sample of the text that the model will be trained on; drawn as far as it is needed.
        words: the language's segmentation.
        new: tokens that will be learnt; 0 for none.
    """
    from tokenizers import Tokenizer

    file = place / "tokenizer.json"
    if not file.is_file():
        return ""
    base = Tokenizer.from_file(str(file))
    sample = list(first(texts, PREVIEWED))
    try:
        training, held_out = split(sample)
        number = sum(len(words(text)) for text in held_out)
        extended = extender(base, training, most=new)(new) if new else base
    except UserError:  # too little text, or a tokenizer that the stage itself will refuse
        return ""
    if not number:
        return ""
    before, after = int(_lengths(base, held_out).sum()), int(_lengths(extended, held_out).sum())
    said = f"on a sample of its text {before / number:.2f} tokens a word"
    learnt = _last(extended) - _last(base)
    if not learnt:
        return said
    return f"{said}, {after / number:.2f} with {learnt:,} new ones learnt from {_bytes(training) / 1000:,.0f} kB of it"
