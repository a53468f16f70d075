"""Strategies for a tokenizer. Each module of one has the same order: options, adapt, tokens, the record.

What they are made of: `tokens.py` (a tokenizer as data), `words.py` (text as counted words), `merging.py` (in which
order tokens are joined), `noise.py` (what may be a token), `learning.py` (continued BPE), `building.py` (a tokenizer from
another), `checking.py` (what must hold of it), `saving.py` (its files).
"""

from langadapt.tokenizer import extend, keep, replace, trim

STRATEGIES = (keep.STRATEGY, extend.STRATEGY, trim.STRATEGY, replace.STRATEGY)
