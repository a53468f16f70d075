"""Recipes that ship with the plugin: one for each model that the authors released, and one with all stages at 7B."""

from __future__ import annotations

from pathlib import Path

from langadapt import RecipeSource

HERE = Path(__file__).parent

DESCRIPTIONS = {
    "llamantino": "LLaMAntino-2-7b: adaptation, then dialogues, Dolly and EVALITA 2023, each from the adapted model.",
    "llamantino-2-7b-hf-ita": "Llama 2 7B adapted to Italian.",
    "llamantino-2-13b-hf-ita": "Llama 2 13B adapted to Italian.",
    "llamantino-2-chat-7b-hf-ita": "Llama 2 7B Chat adapted to Italian.",
    "llamantino-2-chat-13b-hf-ita": "Llama 2 13B Chat adapted to Italian.",
    "llamantino-2-chat-7b-hf-ultrachat-ita": "Llama 2 7B Chat, adapted, then Italian dialogues.",
    "llamantino-2-chat-13b-hf-ultrachat-ita": "Llama 2 13B Chat, adapted, then Italian dialogues.",
    "llamantino-2-70b-hf-ultrachat-ita": "Llama 2 70B on Italian dialogues.",
    "llamantino-2-7b-hf-dolly-ita": "Llama 2 7B, adapted, then Dolly's instructions.",
    "llamantino-2-13b-hf-dolly-ita": "Llama 2 13B, adapted, then Dolly's instructions.",
    "llamantino-2-7b-hf-evalita-ita": "Llama 2 7B, adapted, then the tasks of EVALITA 2023.",
    "llamantino-2-13b-hf-evalita-ita": "Llama 2 13B, adapted, then the tasks of EVALITA 2023.",
    "anita": "LLaMAntino-3-ANITA: Llama 3 8B Instruct on instructions, then preferences, then adapted to Italian.",
}

RECIPES = tuple(
    RecipeSource(name=f"italian/{name}", path=HERE / f"{name}.toml", description=description)
    for name, description in DESCRIPTIONS.items()
)
