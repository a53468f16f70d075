"""`transformers`: any sequence-to-sequence checkpoint that the library of that name loads.

Marian (OPUS-MT), NLLB, M2M100, mBART, MADLAD and T5 are told which languages to go by from and to as each was taught
(see `codes`). Decoding is by greedy or beam search, never by sampling, so a text is always translated alike. Nothing is
cut: a text longer than the model takes, and one whose translation found no end, come back as "", that is, not translated.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from langadapt.errors import UserError
from langadapt.recipe import Table
from langadapt.records import Translator
from langadapt.translation.engines import batching, checkpoints, codes

BATCH = 256
_NEEDS_SENTENCEPIECE = frozenset({"marian", "m2m_100"})
_UNBOUNDED = 1024  # pieces that a model takes whose configuration sets no bound


class Options(Table):
    """Keys of `[stage.translator]` beside `name`."""

    model: str = Field("", description="Folder or hub repository of a sequence-to-sequence model.")
    revision: str = Field(
        "main",
        description="Commit, tag or branch of a hub repository, of which only a commit never changes; "
        "`refs/pr/N` for a pull request with safetensors.",
    )
    num_beams: int = Field(4, gt=0, description="Translations that are followed at a time; 1 for greedy search.")
    max_new_tokens: int = Field(0, ge=0, description="Longest translation in pieces; 0 for twice the text's length.")
    batch_tokens: int = Field(4096, gt=0, description="Pieces translated together, padding included.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="`float32`, `bfloat16`, `float16`, or `auto`: what suits the hardware."
    )
    source_code: str = Field("", description="The model's token for the source language, `eng_Latn`; found when empty.")
    target_code: str = Field("", description="The model's token for the target language, `ita_Latn`; found when empty.")
    prefix: str = Field("", description="Text before each text, such as `translate English to Italian: ` for T5.")


def problem(options: Options, source: str, target: str) -> str:
    """A model that is not there, is of another kind, brings no safetensors, or whose tokenizer needs a package."""
    if said := checkpoints.problem(options.model):
        return said
    path = checkpoints.at_hand(options.model, options.revision)
    if path is None:
        return ""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{path} holds no config.json that can be read, so it is no transformers model ({error}); name another"
    if not config.get("is_encoder_decoder"):
        return (
            f"{path} is no sequence-to-sequence model (model_type {config.get('model_type', 'unknown')}); name another"
        )
    if not any(path.glob("*.safetensors")):
        return f"{path} holds no safetensors; other formats may hold code and are not loaded"
    if config.get("model_type") in _NEEDS_SENTENCEPIECE and importlib.util.find_spec("sentencepiece") is None:
        return "the model's tokenizer needs the package sentencepiece; run: pip install sentencepiece"
    return ""


def fingerprint(options: Options, source: str, target: str) -> str:
    """The model (see `checkpoints.fingerprint`) and the options that translations depend on."""
    settings = (options.num_beams, options.max_new_tokens, options.dtype, options.source_code, options.target_code)
    model = checkpoints.fingerprint(options.model, options.revision)
    return f"{model}; {', '.join(map(str, settings))}; {options.prefix}"


def open_engine(options: Options, source: str, target: str) -> Callable[[Sequence[str]], list[str]]:
    """Loads the model, fetching it first where needed.

    Raises:
        UserError: it cannot be had or loaded, or does not know a language.
    """
    folder = checkpoints.fetch(options.model, options.revision)
    tokenizer, model = _load(folder, options)
    speech = _speech(tokenizer, options, source, target)
    room = _room(tokenizer, model)

    def translate(texts: Sequence[str]) -> list[str]:
        encoded = [tokenizer(speech.prefix + text).input_ids for text in texts]
        short = [i for i, ids in enumerate(encoded) if texts[i].strip() and len(ids) <= room]
        done = [""] * len(texts)
        for batch in batching.batches([*map(len, encoded)], short, options.batch_tokens):
            made = _generate(tokenizer, model, [encoded[i] for i in batch], speech, options, room)
            for index, ids in zip(batch, made, strict=True):
                done[index] = tokenizer.decode(ids, skip_special_tokens=True).strip()
        return done

    return translate


# --- how a model is told the languages ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Speech:
    """What is put before each text, and the token that each translation begins with (None for no such token)."""

    prefix: str
    begins_with: int | None


def _speech(tokenizer: Any, options: Options, source: str, target: str) -> _Speech:
    """Sets the tokenizer to the source language and finds how to ask for the target.

    Raises:
        UserError: the model has language tokens, and none for one of the two.
    """
    tokens = _language_tokens(tokenizer)
    if not tokens and not options.target_code:
        return _Speech(prefix=options.prefix, begins_with=None)  # a model of one pair, or one that is told by `prefix`
    if options.prefix and not hasattr(tokenizer, "src_lang"):
        return _Speech(prefix=options.prefix, begins_with=None)
    spoken = options.target_code or codes.language_token(target, tokens, "target_code")
    if not hasattr(tokenizer, "src_lang"):  # told by text: <2it>, >>ita<<
        return _Speech(prefix=f"{spoken} ", begins_with=None)
    heard = options.source_code or codes.language_token(source, tokens, "source_code")
    # M2M100 wants "it" for its token __it__, the others the token itself.
    tokenizer.src_lang = codes.code_in(heard) if heard.startswith("__") else heard
    return _Speech(prefix=options.prefix, begins_with=tokenizer.convert_tokens_to_ids(spoken))


def _language_tokens(tokenizer: Any) -> list[str]:
    """Tokens for languages: those that the tokenizer sets apart, by one of two ways, or else any in its vocabulary."""
    # M2M100's tokenizer counts its own neither to the special tokens nor to the vocabulary.
    apart = [*getattr(tokenizer, "lang_code_to_token", {}).values(), *tokenizer.all_special_tokens]
    return [t for t in apart if codes.code_in(t)] or [t for t in tokenizer.get_vocab() if codes.code_in(t)]


# --- translating -------------------------------------------------------------------------------------------------------


def _load(folder: Path, options: Options) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    from langadapt.loading import compute_dtype, device

    dtype = compute_dtype() if options.dtype == "auto" else getattr(torch, options.dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        model = AutoModelForSeq2SeqLM.from_pretrained(str(folder), dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise UserError(
            f"{folder}: no translation model can be loaded ({str(error).splitlines()[0]}); fetch it again, or name another"
        ) from None
    return tokenizer, model.to(device()).eval()


def _room(tokenizer: Any, model: Any) -> int:
    """Pieces that the model takes and gives: the least of what tokenizer and configuration say."""
    said = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
    return min([int(n) for n in said if n and n < 1_000_000] or [_UNBOUNDED])


def _generate(
    tokenizer: Any, model: Any, encoded: Sequence[Sequence[int]], speech: _Speech, options: Options, room: int
) -> list[list[int]]:
    """Tokens of each translation; none when it found no end."""
    import torch

    padded = tokenizer.pad({"input_ids": list(encoded)}, padding=True, return_tensors="pt").to(model.device)
    longest = int(padded["input_ids"].shape[1])
    told = {} if speech.begins_with is None else {"forced_bos_token_id": speech.begins_with}
    with torch.inference_mode():
        made = model.generate(
            input_ids=padded["input_ids"],
            attention_mask=padded["attention_mask"],
            num_beams=options.num_beams,
            do_sample=False,
            max_new_tokens=min(options.max_new_tokens or 2 * longest + 20, room - 1),
            forced_eos_token_id=None,  # some models put an end where there is only a limit
            **told,
        )
    # The first token starts the decoder, and is the end token in some models; the language's, if any, is the second.
    start = 1 if speech.begins_with is None else 2
    return [ids[start:] if tokenizer.eos_token_id in ids[start:] else [] for ids in made.tolist()]


TRANSLATOR = Translator(
    name="transformers",
    description="Neural, by transformers: Marian, NLLB, M2M100, mBART, MADLAD, T5.",
    options=Options,
    problem=problem,
    fingerprint=fingerprint,
    open=open_engine,
    batch=BATCH,
)
