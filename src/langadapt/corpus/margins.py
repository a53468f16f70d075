"""How far a document was from being kept: which value of one option of the step that dropped it would have let it pass.

Rules give their reason as a fixed phrase, so that documents can be counted by it. What a rule has measured is found from
outside, by asking the step again with other values of each of its options; that works for every plugin's filters.
"""

from __future__ import annotations

from langadapt.corpus.choosing import NamedStep
from langadapt.corpus.curves import numbers_of, spread
from langadapt.errors import UserError
from langadapt.records import Document, Language


def margin(document: Document, step: NamedStep, language: Language | None) -> str:
    """What would have kept a document, in words: `kept with min_words = 45 (is 50)`.

    Args:
        document: as it came to the step, which dropped it.
        step: the step.
        language: the corpus's.

    Returns:
        Of each option that alone would do, the tried value that is nearest to the configured one; that there is none,
        where several rules would drop the document; "" where the step has no numbers.
    """
    numbers = numbers_of(step.options)
    found = []
    for option, value in numbers.items():
        tried = spread(value)
        above, below = [v for v in tried if v > value], [v for v in reversed(tried) if 0 < v < value]
        sides = (below, above, [0] if value else [])  # 0 often stands for off, which says less than a value
        kept = (_nearest(document, step, language, option, [type(value)(v) for v in side]) for side in sides if side)
        if (nearest := next((v for v in kept if v is not None), None)) is not None:
            found.append(f"{option} = {nearest:g} (is {value:g})")
    if found:
        return f"kept with {' or '.join(found)}"
    return "no single option would have kept it" if numbers else ""


def _nearest(
    document: Document, step: NamedStep, language: Language | None, option: str, values: list[float]
) -> float | None:
    """The first of values, which lead away from the configured one, that keeps the document.

    A threshold that keeps it keeps it from there on, so most options are done with after the farthest value.
    """

    def keeps(value: float) -> bool:
        try:
            run = step.filter.make({**step.options, option: value}, language)
        except UserError:  # no value for this filter
            return False
        return not isinstance(run(document), str)

    if not keeps(values[-1]):
        return None
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(values[middle]) else (middle + 1, high)
    return values[high]
