"""Continued BPE (arXiv 2512.03989): merges that are learnt on from where a tokenizer's own merges end.

Words are cut by the tokenizer as it is; then the most frequent pair of neighbours is joined everywhere, and again. New
merges rank below all others, so old ones are done first and every boundary of a new token is one of an old token. A token
is learnt where the merges before it leave its two parts side by side, and they do the same with the token alone: no new
token is out of reach. That stays so if a token is left out together with those that are made of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise

from langadapt.tokenizer.merging import Key, order_of
from langadapt.tokenizer.noise import Noise
from langadapt.tokenizer.tokens import Bpe
from langadapt.tokenizer.words import Words

STEP = 1000  # new tokens after which the tokens of the text are counted


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A token that was learnt.

    Attributes:
        token: in the letters of the vocabulary.
        pair: the two that it is made of, where pairs have ranks; else none.
        rank: its place in the order in which tokens were learnt.
    """

    token: str
    pair: tuple[str, ...]
    rank: int


class Learner:
    """Joins the most frequent neighbours, again and again, as it is iterated over.

    Of equally frequent ones those that come first in the order of their strings are taken. What is refused once is refused
    for good. A character that SentencePiece has no token for is learnt, too, where that saves tokens.

    Args:
        bpe: the tokenizer that is learnt on from.
        words: of the text, cut by it; they are joined in place.
        noise: what may become a token.
        least: tokens of the target language's text that a new one must save.
        veto: occurrences in the source language's text at which a token is refused; 0 for never.

    Attributes:
        tokens: that the target language's text has by now.
    """

    def __init__(self, bpe: Bpe, words: Words, noise: Noise, *, least: int, veto: int = 0) -> None:
        self._order = order_of(bpe)
        self._taken = {*bpe.vocab, *bpe.added}
        self._words, self._noise, self._least, self._veto = words, noise, least, veto
        self._target: Counter[Key] = Counter()
        self._source: Counter[Key] = Counter()
        self._where: defaultdict[Key, list[int]] = defaultdict(list)  # words; some have lost the pair since
        self._refused: set[Key] = set()
        self._waiting: defaultdict[str, list[Key]] = defaultdict(list)  # keys by a character that has no token yet
        self.tokens = 0
        for index, symbols in enumerate(words.symbols):
            self.tokens += words.target[index] * sum(map(self._size, symbols))
            for key in self._keys(symbols):
                self._tally(index, key, 1)
                self._where[key].append(index)
        self._heap = [(-count, key) for key, count in self._target.items() if count >= least]
        heapify(self._heap)

    def __iter__(self) -> Iterator[Learnt]:
        rank = 0
        while self._heap:
            count, key = heappop(self._heap)
            if self._target[key] != -count:
                self._push(key, below=-count)
            elif self._is_wanted(key):
                self._join(key)
                yield Learnt(
                    token="".join(key), pair=() if self._order.pieces or len(key) == 1 else tuple(key), rank=rank
                )
                rank += 1

    def _size(self, symbol: str) -> int:
        """Tokens that a symbol is written in."""
        return 1 if symbol in self._taken else len(symbol.encode())

    def _keys(self, symbols: list[str]) -> list[Key]:
        """What may be learnt of a word: neighbours, and characters without a token."""
        key = self._order.key
        found: list[Key] = [key(left, right) for left, right in pairwise(symbols)]
        missing = (symbol for symbol in symbols if symbol not in self._taken)
        return found + [symbol if self._order.pieces else (symbol,) for symbol in missing]

    def _tally(self, index: int, key: Key, sign: int) -> None:
        """Counts what a key saves in a word: a token, or all bytes but one of a character."""
        saved = sign if len(key) > 1 else sign * (self._size(key[0]) - 1)
        self._target[key] += saved * self._words.target[index]
        self._source[key] += saved * self._words.source[index]

    def _push(self, key: Key, *, below: int | None = None) -> None:
        """Puts a key where its count belongs, unless it stands there already, as one does whose count has grown."""
        count = self._target[key]
        if count >= self._least and key not in self._refused and (below is None or count < below):
            heappush(self._heap, (-count, key))
        elif not count and not self._source[key]:
            for known in (self._target, self._source, self._where):
                known.pop(key, None)

    def _is_wanted(self, key: Key) -> bool:
        """Whether the most frequent key becomes a token now."""
        token = "".join(key)
        if len(key) > 1 and (missing := next((letter for letter in token if letter not in self._taken), "")):
            self._waiting[missing].append(key)
            return False
        vetoed = self._veto and self._source[key] >= self._veto
        if vetoed or token in self._taken or self._noise.refuses(token):
            self._refused.add(key)
            return False
        return True

    def _join(self, key: Key) -> None:
        """Makes a token and joins it in all words."""
        if len(key) == 1:
            self.tokens -= self._target.pop(key)
            self._taken.add(key[0])
            for waiting in self._waiting.pop(key[0], ()):
                self._push(waiting)
            return
        self._taken.add("".join(key))
        self._order.ranks[key] = len(self._order.ranks)
        touched: set[Key] = set()
        for index in self._where.pop(key):
            before = self._words.symbols[index]
            after = self._order.joined(before)
            if len(after) < len(before):
                touched |= self._replace(index, before, after)
        for each in touched:
            self._push(each)

    def _replace(self, index: int, before: list[str], after: list[str]) -> set[Key]:
        """Puts a joined word in the place of what it was, and gives the keys whose counts that changes."""
        self._words.symbols[index] = after
        self.tokens -= self._words.target[index] * (len(before) - len(after))
        old, new = self._keys(before), self._keys(after)
        for key in old:
            self._tally(index, key, -1)
        for key in new:
            self._tally(index, key, 1)
        for key in {*new} - {*old}:
            self._where[key].append(index)
        return {*old, *new}


def learn(
    learner: Learner, *, wanted: int, complete: Callable[[str], bool], enough: Callable[[list[int]], bool] | None = None
) -> tuple[list[Learnt], list[int]]:
    """The first tokens of whole characters, each behind the parts of characters that it is made of.

    A part of a character is a token only where a whole one needs it.

    Args:
        learner: of tokens.
        wanted: tokens, at most; fewer where there are no more to learn.
        complete: whether a token is whole characters.
        enough: whether to stop, asked after every `STEP` tokens with what is the second result by then.

    Returns:
        The tokens; and the tokens that the text had at first and after each `STEP` of them.
    """
    kept: list[Learnt] = []
    waiting: dict[str, Learnt] = {}
    curve = [learner.tokens]
    for learnt in learner:
        waiting[learnt.token] = learnt
        needed = _needed(learnt, waiting) if complete(learnt.token) else []
        if not needed or len(kept) + len(needed) > wanted:
            continue
        kept += (waiting.pop(each.token) for each in needed)
        if len(kept) // STEP >= len(curve):
            curve.append(learner.tokens)
            if enough and enough(curve):
                break
        if len(kept) == wanted:
            break
    return kept, curve


def _needed(learnt: Learnt, waiting: Mapping[str, Learnt]) -> list[Learnt]:
    """A token behind those of its parts, and of theirs, that have not been kept yet."""
    found = {learnt.token: learnt}
    for each in (waiting[part] for part in learnt.pair if part in waiting):
        found |= {needed.token: needed for needed in _needed(each, waiting)}
    return sorted(found.values(), key=lambda each: each.rank)
