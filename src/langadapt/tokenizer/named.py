"""Tokenizers that commands name: of a model, or by themselves.

| reference | what it is |
|---|---|
| what `langadapt.named_models.find` takes | the tokenizer of that model; of one on the hub no weights are fetched |
| a folder with a `tokenizer.json` | that tokenizer, with weights where it has some |
| a file `NAME.json` | a tokenizer of the library tokenizers alone |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langadapt.errors import UserError
from langadapt.models import ModelShape, find_model

Tokenizer = Any  # of transformers, with a Rust backend


@dataclass(frozen=True, kw_only=True)
class NamedTokenizer:
    """A tokenizer that is at hand.

    Attributes:
        name: as its user named it.
        place: folder, `tokenizer.json` or GGUF file.
        weights: folder or GGUF file of the model's weights; None where none are at hand.
        shape: of the model; None where that is not known.
    """

    name: str
    place: Path
    weights: Path | None = None
    shape: ModelShape | None = None

    def load(self) -> Tokenizer:
        """The tokenizer, as every stage loads it.

        Raises:
            UserError: there is none, or it does not say where its tokens stand.
        """
        from langadapt.loading import load_tokenizer

        if self.place.is_file() and self.place.suffix == ".json":
            return _alone(self.place)
        if (self.place / "tokenizer.json").is_file() and not (self.place / "tokenizer_config.json").is_file():
            return _alone(self.place / "tokenizer.json")
        tokenizer = load_tokenizer(self.place)
        if not tokenizer.is_fast:
            raise UserError(
                f"{self.name}: it has no tokenizer.json, so places of its tokens are not known; name another tokenizer"
            )
        return tokenizer


def find(reference: str) -> NamedTokenizer:
    """The tokenizer that a reference names; see the module.

    Raises:
        UserError: there is none.
    """
    path = Path(reference).expanduser()
    if path.is_file() and path.suffix == ".json":
        return NamedTokenizer(name=reference, place=path)
    if (path / "tokenizer.json").is_file() and not (path / "config.json").is_file():
        return NamedTokenizer(name=reference, place=path)
    if not path.exists() and ":" not in reference:
        return _on_hub(reference)
    from langadapt import named_models

    named = named_models.find(reference)
    return NamedTokenizer(
        name=reference,
        place=Path(named.tokenizer),
        weights=Path(named.model.weights),
        shape=find_model(named.base, named.revision).shape,
    )


def _on_hub(reference: str) -> NamedTokenizer:
    try:
        model = find_model(reference)
    except UserError as error:
        raise UserError(str(error).removeprefix("base_model ")) from None
    from langadapt.hub import fetch_tokenizer

    folder = Path(fetch_tokenizer(reference, "main"))
    weights = folder if any(folder.glob("*.safetensors")) else None
    shape = find_model(str(folder)).shape if (folder / "config.json").is_file() else model.shape
    return NamedTokenizer(name=reference, place=folder, weights=weights, shape=shape)


def _alone(file: Path) -> Tokenizer:
    """A `tokenizer.json` that no configuration stands beside.

    Raises:
        UserError: it is none.
    """
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast(tokenizer_object=Backend.from_file(str(file)))
    except Exception as error:  # the library raises this class itself
        raise UserError(
            f"{file}: it cannot be read as a tokenizer ({str(error).splitlines()[0]}); name another"
        ) from None
