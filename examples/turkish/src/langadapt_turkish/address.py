"""How a text addresses its reader: with sen, with siz, with both, or with neither.

Only forms that can be nothing else count: pronouns, and verbs whose ending holds the person. Possessives are left alone,
because `evin` is "your house" and "of the house"; so are imperatives, because `gelin` is "come" and "bride". The polite
siz is also the plural of sen, which no form tells apart.
"""

from __future__ import annotations

import re

from langadapt_turkish.casing import lower

# The vowel of the ending follows the last one of the stem, so each comes in two or four forms.
_VERB = r"\w+(?:[ıiuü]yor|acak|ecek|malı|meli|abilir|ebilir|m[ıiuü]ş)s[ıiuü]n|m[ıiuü]s[ıiuü]n"
_FAMILIAR = re.compile(rf"(?<!\w)(?:sen|sana|seni|senin|sende|senden|seninle|sence|{_VERB})(?!\w)")
_POLITE = re.compile(rf"(?<!\w)(?:siz|size|sizi|sizin|sizde|sizden|sizinle|sizce|(?:{_VERB})[ıiuü]z)(?!\w)")


def address(text: str) -> str:
    """ "familiar", "polite", "mixed" or "" """
    lowered = lower(text)
    familiar, polite = _FAMILIAR.search(lowered), _POLITE.search(lowered)
    if familiar and polite:
        return "mixed"
    return "familiar" if familiar else "polite" if polite else ""
