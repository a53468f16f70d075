"""Recipes that ship with the plugin."""

from __future__ import annotations

from pathlib import Path

from langadapt import RecipeSource

RECIPES = (
    RecipeSource(
        name="italian/llamantino",
        path=Path(__file__).parent / "llamantino.toml",
        description="LLaMAntino-2-7b: adaptation, then chat, Dolly and EVALITA 2023, each from the adapted model.",
    ),
)
