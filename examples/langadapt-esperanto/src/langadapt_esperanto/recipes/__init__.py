"""Recipes that ship with the plugin."""

from __future__ import annotations

from pathlib import Path

from langadapt import RecipeSource

SMALL = RecipeSource(
    name="esperanto/small",
    path=Path(__file__).parent / "small.toml",
    description="A small model: Wikipedia, then instructions.",
)
