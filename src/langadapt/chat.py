"""Talks with a model: one conversation, answered word by word.

```python
from langadapt import Chat

chat = Chat("runs/llamantino-2-7b:ultrachat")
answer = chat.ask("Che cosa si vede dal porto?", watch=lambda piece: print(piece, end=""))
chat.ask("E di notte?")                          # knows what was said before
chat.save("dialogues.jsonl")                     # a corpus in the layout `messages`
```
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers.generation.streamers import BaseStreamer

from langadapt import loading
from langadapt.errors import UserError
from langadapt.named_models import NamedModel, find
from langadapt.plugins import registry
from langadapt.prompts.framing import endings, framing
from langadapt.records import Message

Finish = Literal["end", "length", "stopped"]

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # what a character decodes to of which a token is still missing


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a model has answered.

    Attributes:
        text: without the space around it; "" when the model ended at once.
        tokens: how many it has written, the end among them.
        seconds: from the question to the last of them.
        finish: how it ended: by itself, because `max_new_tokens` or the context window was full, or by Ctrl-C.
        left_out: messages of the conversation that the model was not shown, since its window has no room for all.
    """

    text: str
    tokens: int
    seconds: float
    finish: Finish
    left_out: int


class Chat:
    """A conversation with a model.

    Answers are greedy unless a `temperature` or `top_p` is given, so that two models differ by what they are and not by
    a throw of the dice, and so that the model is the one that `evaluate` measures.

    Args:
        model: what `langadapt.named_models.find` takes, or what it gave.
        base: what an adapter is put on, in place of what it names.
        prompt: a prompt format in place of the one that it was tuned with, or `template`, `plain`.
        system_prompt: in place of the format's own.
        max_new_tokens: tokens of an answer, at most.
        temperature: as of transformers' `GenerationConfig`; 0 is greedy, too.
        top_p: the same.
        seed: makes sampled answers the same for the same conversation.

    Raises:
        UserError: there is no such model, or the prompt format is not to be had.

    Attributes:
        name: of the model.
        framing: how questions are put to it.
        messages: what was said, without the system prompt.
    """

    def __init__(
        self,
        model: str | NamedModel,
        *,
        base: str = "",
        prompt: str = "",
        system_prompt: str = "",
        max_new_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ):
        named = find(model, base=base) if isinstance(model, str) else model
        self.name, self.system_prompt, self.seed = named.name, system_prompt, seed
        self.messages: list[Message] = []
        self._tokenizer = loading.load_tokenizer(named.tokenizer)
        self.framing = framing(named, self._tokenizer, registry(), prompt=prompt)
        self._model = loading.load_model(named.model).eval()
        self._max_new_tokens = max_new_tokens
        sampled = {"temperature": temperature, "top_p": top_p}
        given = {key: value for key, value in sampled.items() if value is not None}
        self._sampling = {"do_sample": bool(given) and temperature != 0, **(given if temperature != 0 else {})}
        self._ends, self._stops = endings(self.framing, self._tokenizer, self._model.generation_config)
        self._left_out = 0

    @property
    def window(self) -> int:
        """Tokens that the model takes at most, question and answer together."""
        config = self._model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or sys.maxsize)

    def ask(self, text: str, *, watch: Callable[[str], None] = lambda piece: None) -> Reply:
        """The model's answer; question and answer become part of the conversation.

        Ctrl-C ends the answer where it is. When the conversation outgrows the window, its oldest exchanges are no longer
        shown to the model.

        Args:
            text: the question.
            watch: gets the answer piece by piece.

        Raises:
            UserError: the question alone is longer than the window, or the chat template does not take it.
        """
        question = Message(role="user", content=text)
        ids, left_out = self._prompt([*self.messages, question])
        reply = self._generate(ids, left_out, watch)
        self.messages += [question, Message(role="assistant", content=reply.text)]
        self._left_out = left_out
        return reply

    def undo(self) -> bool:
        """Takes the last question and its answer back; False when there is none."""
        taken = bool(self.messages)
        del self.messages[-2:]
        self._left_out = 0
        return taken

    def reset(self) -> None:
        """Forgets what was said; the system prompt stays."""
        self.messages, self._left_out = [], 0

    def save(self, file: str | Path) -> None:
        """Adds the conversation to a `file` of JSON lines, in the layout `messages`; questions without an answer are left
        out.

        Raises:
            UserError: nothing was answered, or the file cannot be written.
        """
        pairs = zip(self.messages[::2], self.messages[1::2], strict=True)
        said = [message for question, answer in pairs if answer.content for message in (question, answer)]
        if not said:
            raise UserError(
                f"{file}: {self.name} has answered nothing yet, so there is nothing to save; ask it something first"
            )
        system = [Message(role="system", content=self.system_prompt)] if self.system_prompt else []
        turns = [{"role": m.role, "content": m.content} for m in (*system, *said)]
        try:
            with Path(file).expanduser().open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"messages": turns, "model": self.name}, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"{file}: cannot be written: {error.strerror}; name another file") from None

    def _prompt(self, messages: list[Message]) -> tuple[list[int], int]:
        """Token ids of a conversation that leave room for an answer, and how many messages were left out for that."""
        room = self.window - min(self._max_new_tokens, self.window // 2)
        left_out = self._left_out
        while len(ids := self.framing.encode(messages[left_out:], self.system_prompt)) > room:
            if left_out + 1 == len(messages):
                raise UserError(
                    f"{self.name}: the question takes {len(ids):,} tokens, and {room:,} of the model's {self.window:,} are "
                    "left when there is to be room for an answer; ask less, or set a lower max_new_tokens"
                )
            left_out += 2
        return ids, left_out

    def _generate(self, ids: list[int], left_out: int, watch: Callable[[str], None]) -> Reply:
        if self.seed is not None:
            transformers.set_seed(self.seed)
        stream = _Stream(self._tokenizer, self._stops, watch)
        given = torch.tensor([ids], device=self._model.device)
        room = min(self._max_new_tokens, self.window - len(ids))
        started = time.monotonic()
        finish: Finish = "end"
        try:
            with torch.no_grad():
                self._model.generate(
                    input_ids=given,
                    attention_mask=torch.ones_like(given),
                    max_new_tokens=room,
                    num_beams=1,
                    use_cache=True,
                    pad_token_id=self._tokenizer.pad_token_id,
                    eos_token_id=self._ends or None,
                    stop_strings=self._stops or None,
                    tokenizer=self._tokenizer,
                    streamer=stream,
                    **self._sampling,
                )
            if len(stream.ids) == room and stream.ids[-1] not in self._ends and not stream.ended:
                finish = "length"
        except KeyboardInterrupt:
            stream.end()
            finish = "stopped"
        return Reply(
            text=stream.text().strip(),
            tokens=len(stream.ids),
            seconds=time.monotonic() - started,
            finish=finish,
            left_out=left_out,
        )


class _Stream(BaseStreamer):  # type: ignore[misc]
    """Hands on an answer while it is written, without what ends it.

    All its tokens are decoded together each time: the library's own `TextStreamer` begins anew after each line, where
    tokenizers of the Llama family then lose a space.
    """

    def __init__(self, tokenizer: Any, stops: list[str], watch: Callable[[str], None]):
        self.tokenizer, self.stops, self.watch = tokenizer, stops, watch
        self.ids: list[int] = []
        self._asked = False
        self._shown = ""

    def put(self, value: torch.Tensor) -> None:
        if self._asked:
            self.ids += value.tolist()
            self._show(self._settled(self.text()))
        self._asked = True  # the first that comes is the prompt

    def end(self) -> None:
        self._show(self.text().rstrip())

    @property
    def ended(self) -> bool:
        """Whether a text that ends answers has been written."""
        return any(stop in self._decoded() for stop in self.stops)

    def text(self) -> str:
        """The answer so far, without the space before it."""
        text = self._decoded()
        for stop in self.stops:
            text = text.partition(stop)[0]
        return text.lstrip()

    def _decoded(self) -> str:
        return str(self.tokenizer.decode(self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _settled(self, text: str) -> str:
        """As much of a text as later tokens will not change: no part of a character, of an end, and no last space."""
        for stop in self.stops:
            begun = next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)
            text = text[: len(text) - begun]
        return text.rstrip(_INCOMPLETE).rstrip()

    def _show(self, text: str) -> None:
        if len(text) > len(self._shown) and text.startswith(self._shown):
            self.watch(text[len(self._shown) :])
            self._shown = text
