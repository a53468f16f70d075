"""What a model's files say of its tokenizer, read as they stand: no library rebuilds anything on the way.

Read by the plan too, so nothing heavy is imported, and nothing is tokenised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langadapt import artifacts
from langadapt.tokenizer.gguf_header import read_header

ROLES = ("bos", "eos", "unk", "pad")
_CONTROL = 3  # type of a token in a GGUF file that is never cut out of text
_IN_GGUF = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """A tokenizer, as it is described.

    Attributes:
        name: how a person called it.
        vocabulary: ids of all tokens by their text, those that were added included.
        control: special tokens among them.
        special: text of the token that plays each of the `ROLES`.
        before: tokens that the tokenizer puts before a text by itself.
        after: tokens that it puts behind.
        template: chat template in Jinja; "" for none.
        configured: ids by role, as the model's configuration has them.
        stops: ids that end a generation, as `generation_config.json` has them.
        rows: of the embedding, as the model's configuration has them.
    """

    name: str
    vocabulary: Mapping[str, int] = field(repr=False)
    control: frozenset[str] = frozenset()
    special: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    template: str = field(default="", repr=False)
    configured: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stops: tuple[int, ...] = ()
    rows: int | None = None

    @property
    def ids(self) -> int:
        """The highest id, and one for id 0: how many rows the tokenizer needs."""
        return max(self.vocabulary.values(), default=-1) + 1

    def id(self, role: str) -> int | None:
        """The id of the token that plays a role; None where none does, or the vocabulary lacks it."""
        return self.vocabulary.get(self.special.get(role, ""))


def read_files(place: Path, *, name: str = "") -> TokenizerFiles | None:
    """What a folder, a `tokenizer.json` or a GGUF file says; None where nothing of the kind is there.

    Args:
        place: folder or file.
        name: how findings call it; its path when empty.
    """
    if place.suffix == ".gguf":
        return _of_gguf(place, name or str(place))
    folder = place if place.is_dir() else place.parent
    made = artifacts.read_json(folder / "tokenizer.json" if place.is_dir() else place)
    if not isinstance(made, dict) or "model" not in made:
        return None
    about = {file: _object(folder / f"{file}.json") if place.is_dir() else {} for file in _FILES}
    return _of_folder(made, about, _template(folder, about["tokenizer_config"]), name or str(place))


_FILES = ("tokenizer_config", "special_tokens_map", "config", "generation_config")


def _object(file: Path) -> dict[str, Any]:
    read = artifacts.read_json(file)
    return read if isinstance(read, dict) else {}


# --- folders ----------------------------------------------------------------------------------------------------------


def _of_folder(made: Any, about: Mapping[str, dict[str, Any]], template: str, name: str) -> TokenizerFiles:
    added = made.get("added_tokens") or []
    model, tokenizer = about["config"], about["tokenizer_config"]
    model = model | (model.get("text_config") or {})  # of a model that also sees
    special = {role: _text(about["special_tokens_map"].get(f"{role}_token")) for role in ROLES}
    special |= {role: text for role in ROLES if (text := _text(tokenizer.get(f"{role}_token")))}
    special = {role: text for role, text in special.items() if text}
    before, after = _around(made.get("post_processor"))
    if tokenizer.get("add_bos_token") and special.get("bos", "") not in before:
        before = (special["bos"], *before) if "bos" in special else before
    if tokenizer.get("add_eos_token") and special.get("eos", "") not in after:
        after = (*after, special["eos"]) if "eos" in special else after
    return TokenizerFiles(
        name=name,
        vocabulary=_vocabulary(made["model"].get("vocab")) | {token["content"]: token["id"] for token in added},
        control=frozenset(token["content"] for token in added if token["special"]),
        special=special,
        before=before,
        after=after,
        template=template,
        configured={role: _ids(model.get(f"{role}_token_id")) for role in ROLES},
        stops=_ids(about["generation_config"].get("eos_token_id")),
        rows=model.get("vocab_size"),
    )


def _vocabulary(made: Any) -> dict[str, int]:
    """The vocabulary of a BPE or WordPiece model, or of a Unigram model, which lists pieces with their scores."""
    if isinstance(made, list):
        return {piece: id for id, (piece, _) in enumerate(made)}
    return dict(made or {})


def _text(token: Any) -> str:
    """A token that a configuration writes as a text or as a table."""
    return str(token.get("content") or "") if isinstance(token, dict) else str(token or "")


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else () if value is None else (value,)


def _around(processor: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens that a post-processor puts before and behind a text."""
    before: list[str] = []
    after: list[str] = []
    for step in _steps(processor):
        match step:
            case {"type": "TemplateProcessing", "single": pieces}:
                side = before
                for piece in pieces:
                    if "Sequence" in piece:
                        side = after
                    else:
                        side.append(piece["SpecialToken"]["id"])
            case {"type": "BertProcessing" | "RobertaProcessing", "cls": [first, _], "sep": [last, _]}:
                before.append(first)
                after.append(last)
    return tuple(before), tuple(after)


def _steps(processor: Any) -> Iterator[Any]:
    if isinstance(processor, dict):
        yield from processor["processors"] if processor.get("type") == "Sequence" else (processor,)


def _template(folder: Path, tokenizer: Mapping[str, Any]) -> str:
    """The chat template: of its own file, or of the tokenizer's configuration, where several have names."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    made = tokenizer.get("chat_template") or ""
    if isinstance(made, list):
        made = {one["name"]: one["template"] for one in made}.get("default", "")
    return str(made)


# --- GGUF -------------------------------------------------------------------------------------------------------------


def _of_gguf(file: Path, name: str) -> TokenizerFiles | None:
    try:
        values = read_header(file).values
    except (OSError, ValueError):
        return None

    def value(key: str, otherwise: Any = None) -> Any:
        return values.get(f"tokenizer.{key}", otherwise)

    tokens: list[str] = value("ggml.tokens", [])
    if not tokens:
        return None
    ids = {role: value(f"ggml.{theirs}_token_id") for role, theirs in _IN_GGUF.items()}
    special = {role: tokens[id] for role, id in ids.items() if id is not None and id < len(tokens)}
    types = value("ggml.token_type", [])
    return TokenizerFiles(
        name=name,
        vocabulary={token: id for id, token in enumerate(tokens)},
        control=frozenset(token for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL),
        special=special,
        before=(special["bos"],) if value("ggml.add_bos_token") and "bos" in special else (),
        after=(special["eos"],) if value("ggml.add_eos_token") and "eos" in special else (),
        template=value("chat_template", ""),
        configured={role: _ids(id) for role, id in ids.items()},
        stops=_ids(value("ggml.eot_token_id")) + _ids(ids["eos"]),
        rows=len(tokens),
    )
