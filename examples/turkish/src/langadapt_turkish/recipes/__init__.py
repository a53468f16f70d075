"""Recipes that ship with the plugin."""

from __future__ import annotations

from pathlib import Path

from langadapt import RecipeSource

ADAPT = RecipeSource(
    name="turkish/adapt",
    path=Path(__file__).parent / "adapt.toml",
    description="A model of half a billion weights: Turkish web text with English between, then instructions.",
)
