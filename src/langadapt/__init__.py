"""langadapt: one recipe takes a base language model to a new language.

```python
from langadapt import Recipe

recipe = Recipe.load("recipes/llamantino.toml")  # every word checked
plan = recipe.plan()                             # every input found, every stage sized
run = plan.execute()                             # every stage leaves an artifact
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

from langadapt.likelihood import score_parity, score_stereotypes
from langadapt.pieces import KnownPieces, piecewise
from langadapt.records import (
    Answer,
    Corpus,
    Document,
    EmbeddingInit,
    EmbeddingTask,
    Evaluation,
    ExperimentSource,
    Filter,
    HubSource,
    Item,
    Language,
    Message,
    PeftStrategy,
    PromptFormat,
    RecipeSource,
    Rejected,
    Segment,
    StageKind,
    TokenizerStrategy,
    TokenizerTask,
    Translator,
)

if TYPE_CHECKING:
    from langadapt.chat import Chat, Reply
    from langadapt.comparing import compare
    from langadapt.errors import LangadaptError, RecipeError, RunError, UserError
    from langadapt.evaluation.free_text import free_text, translations
    from langadapt.experiment import Experiment
    from langadapt.plan import PlannedStage, Planner
    from langadapt.recipe import Recipe, StageOptions, Table
    from langadapt.run import StageContext, StageResult

hookimpl = pluggy.HookimplMarker("langadapt")

_LAZY = {
    "free_text": "langadapt.evaluation.free_text",
    "translations": "langadapt.evaluation.free_text",
    "Chat": "langadapt.chat",
    "Reply": "langadapt.chat",
    "Experiment": "langadapt.experiment",
    "Recipe": "langadapt.recipe",
    "StageOptions": "langadapt.recipe",
    "Table": "langadapt.recipe",
    "PlannedStage": "langadapt.plan",
    "Planner": "langadapt.plan",
    "StageContext": "langadapt.run",
    "StageResult": "langadapt.run",
    "LangadaptError": "langadapt.errors",
    "RecipeError": "langadapt.errors",
    "RunError": "langadapt.errors",
    "UserError": "langadapt.errors",
    "compare": "langadapt.comparing",
}

__all__ = [
    "Answer",
    "Chat",
    "Corpus",
    "Document",
    "EmbeddingInit",
    "EmbeddingTask",
    "Evaluation",
    "Experiment",
    "ExperimentSource",
    "Filter",
    "HubSource",
    "Item",
    "KnownPieces",
    "LangadaptError",
    "Language",
    "Message",
    "PeftStrategy",
    "PlannedStage",
    "Planner",
    "PromptFormat",
    "Recipe",
    "RecipeError",
    "RecipeSource",
    "Rejected",
    "Reply",
    "RunError",
    "Segment",
    "StageContext",
    "StageKind",
    "StageOptions",
    "StageResult",
    "Table",
    "TokenizerStrategy",
    "TokenizerTask",
    "Translator",
    "UserError",
    "compare",
    "free_text",
    "hookimpl",
    "piecewise",
    "score_parity",
    "score_stereotypes",
    "translations",
]


def __getattr__(name: str) -> Any:
    """Imports what needs pydantic only when it is asked for, so that `langadapt --help` is quick."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'langadapt' has no attribute {name!r}")
