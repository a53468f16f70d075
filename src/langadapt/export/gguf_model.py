"""A GGUF file with its Modelfile: what both say is found out, and refused where it must be, before weights are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gguf import TokenType

from langadapt import artifacts
from langadapt.errors import UserError
from langadapt.export import gguf_file
from langadapt.export.architecture import problems
from langadapt.export.modelfile import modelfile
from langadapt.export.source import Source
from langadapt.export.vocabulary import Vocabulary, vocabulary
from langadapt.prompts import templates
from langadapt.prompts.templates import Frame


@dataclass(frozen=True, kw_only=True)
class GgufModel:
    """What files of any quantisation have in common.

    Attributes:
        source: the model.
        config: its configuration, an object of transformers.
        vocabulary: its tokenizer.
        chat_template: in Jinja; "" for none.
        frame: of the Modelfile's template; None for none.
        stops: texts that end an answer, the prompt format's own first.
    """

    source: Source
    config: Any
    vocabulary: Vocabulary
    chat_template: str
    frame: Frame | None
    stops: list[str]

    def write(self, weights: Path, folder: Path, quantisation: str) -> None:
        """Writes file and Modelfile into a folder, from a folder of whole weights in safetensors."""
        file = folder / f"{self.source.name}-{quantisation.lower()}.gguf"
        about = {"name": self.source.name}
        if self.source.licence != "unknown":
            about["license"] = self.source.licence
        gguf_file.write(
            file,
            weights,
            self.config,
            self.vocabulary,
            quantisation=quantisation,
            about=about,
            template=self.chat_template,
            end_of_turn=self._end_of_turn(),
        )
        generation = artifacts.read_json(weights / "generation_config.json") or {}
        text = modelfile(file.name, self.frame, stops=self.stops, generation=generation)
        artifacts.write_text(folder / "Modelfile", text)

    def _end_of_turn(self) -> int | None:
        id = next((id for id, mark in _marks(self.vocabulary).items() if mark == self.stops[0]), None)
        return None if id == self.vocabulary.special.get("eos") else id


def prepare(source: Source, tokenizer: Any, config: Any, say: Callable[[str], None]) -> GgufModel:
    """Everything but the weights.

    Raises:
        UserError: llama.cpp does not compute such a model, or would cut text into other tokens.
    """
    if said := list(problems(config.to_dict())):
        raise UserError("\n".join(said))
    words = vocabulary(tokenizer, config.vocab_size)
    eos = tokenizer.eos_token or ""
    if source.format is None and not tokenizer.chat_template:
        return GgufModel(source=source, config=config, vocabulary=words, chat_template="", frame=None, stops=[eos])
    if source.format:
        frame = templates.learn(templates.of_format(source.format, tokenizer, source.named.system_prompt))
    else:
        frame = templates.learn(templates.of_tokenizer(tokenizer))
    if frame is None:
        say("the prompt format is not the same text around all messages, so no template of it can be written")
    stops = [frame.stop(list(_marks(words).values())), eos] if frame else [eos]
    if frame and source.format:
        frame = _as_trained(frame, words, tokenizer)
    return GgufModel(
        source=source,
        config=config,
        vocabulary=words,
        chat_template=_chat_template(source, frame, tokenizer),
        frame=_begun(frame, words, tokenizer) if frame else None,
        stops=stops,
    )


def _marks(words: Vocabulary) -> dict[int, str]:
    """The tokens that are read as marks and not as text, by id."""
    marks = zip(words.tokens, words.types, strict=True)
    return {id: token for id, (token, type) in enumerate(marks) if type == TokenType.CONTROL}


def _chat_template(source: Source, frame: Frame | None, tokenizer: Any) -> str:
    if source.format is None:
        return str(tokenizer.get_chat_template())
    return frame.jinja() if frame else ""


def _as_trained(frame: Frame, words: Vocabulary, tokenizer: Any) -> Frame:
    """The frame without the spaces that llama.cpp adds by itself.

    In training every stretch of text between special tokens was encoded by itself. Where the tokenizer puts a space before
    a text only if there is none yet, llama.cpp puts one before every stretch.
    """
    if not words.joins_space:
        return frame
    marks = [mark for mark in (tokenizer.bos_token, tokenizer.eos_token) if mark]

    def change(text: str) -> str:
        for mark in marks:
            text = text.replace(f"{mark} ", mark)
        return text

    def start(text: str) -> str:
        return change(text) if text.startswith(tuple(marks)) else change(text).removeprefix(" ")

    return _started(frame.edited(change), start(frame.opening), start(frame.system[0]) if frame.system else "")


def _begun(frame: Frame, words: Vocabulary, tokenizer: Any) -> Frame:
    """The frame without the BOS that llama.cpp puts before a prompt; what renders the file's own template knows of it."""
    if not words.add_bos:
        return frame
    bos = tokenizer.bos_token
    system = frame.system[0].removeprefix(bos) if frame.system else ""
    return _started(frame, frame.opening.removeprefix(bos), system)


def _started(frame: Frame, opening: str, system: str) -> Frame:
    """The frame with other text at the start of a prompt."""
    return replace(frame, opening=opening, system=(system, frame.system[1]) if frame.system else None)
