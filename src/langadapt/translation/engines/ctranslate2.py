"""`ctranslate2`: neural translation models in the format of the library CTranslate2, the fastest on a processor.

Four families are read, told apart by their files:

- `opus-mt`: conversions of OPUS-MT (Marian) models; `source.spm` and `target.spm` beside the model.
- `nllb`: NLLB-200 and M2M100; the source begins with its language's token, the translation with the target's.
- `madlad`: MADLAD-400; the source begins with `<2it>`.
- `argos`: packages of Argos Translate, `.argosmodel` files or folders with a `metadata.json`.

Texts are sorted by length, so that batches hold little padding, and come back in their own order. Nothing is cut: a text
of more than `max_tokens` pieces, and one whose translation found no end, come back as "", that is, not translated.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from langadapt.errors import RunError, UserError
from langadapt.recipe import Table
from langadapt.records import Translator
from langadapt.translation.engines import batching, checkpoints, codes

BATCH = 1024
_END = "</s>"
_VOCABULARIES = tuple(
    f"{side}_vocabulary.{kind}" for side in ("shared", "source", "target") for kind in ("json", "txt")
)
_PIECES = ("source.spm", "sentencepiece.model", "sentencepiece.bpe.model", "spiece.model", "spm.model")

Kind = Literal["", "opus-mt", "nllb", "madlad", "argos"]


class Options(Table):
    """Keys of `[stage.translator]` beside `name`."""

    model: str = Field("", description="Folder, `.argosmodel` file, or hub repository of a converted model.")
    revision: str = Field("main", description="Commit, tag or branch of a hub repository; only a commit never changes.")
    kind: Kind = Field("", description="Family of the model; found out from its files when empty.")
    source_code: str = Field(
        "", description='The model\'s token for the source language, "eng_Latn"; found when empty.'
    )
    target_code: str = Field(
        "", description='The model\'s token for the target language, "ita_Latn"; found when empty.'
    )
    compute_type: str = Field(
        "int8", description="Arithmetic, in the library's words: `int8`, `float32`, …; `int8_float16` suits a GPU."
    )
    beam_size: int = Field(4, gt=0, description="Translations that are followed at a time; 1 for the fastest.")
    max_tokens: int = Field(
        480, gt=0, description="A text of more pieces counts as not translated; models bear about 500."
    )
    batch_tokens: int = Field(4096, gt=0, description="Pieces translated together, padding included.")
    device: str = Field("cpu", description="`cpu`, `cuda` or `auto`.")
    inter_threads: int = Field(1, gt=0, description="Batches translated at the same time.")
    intra_threads: int = Field(0, ge=0, description="Threads for each; 0 for the library's choice.")


def problem(options: Options, source: str, target: str) -> str:
    """Missing packages, a model that is not there, not whole, of no known family, or for other languages."""
    missing = [name for name in ("ctranslate2", "sentencepiece") if importlib.util.find_spec(name) is None]
    if missing:
        return f"the package {missing[0]} is not installed; run: pip install 'langadapt[ctranslate2]'"
    if said := checkpoints.problem(options.model):
        return said
    path = checkpoints.at_hand(options.model, options.revision)
    try:
        if path:
            _layout(_files(path), options, source, target)
    except UserError as error:
        return str(error)
    return ""


def fingerprint(options: Options, source: str, target: str) -> str:
    """The model (see `checkpoints.fingerprint`) and the options that translations depend on."""
    settings = (options.kind, options.source_code, options.target_code, options.compute_type, options.beam_size)
    model = checkpoints.fingerprint(options.model, options.revision)
    return f"{model}; {', '.join(map(str, settings))}; {options.max_tokens}"


def open_engine(options: Options, source: str, target: str) -> Callable[[Sequence[str]], list[str]]:
    """Loads the model, fetching it first where needed.

    Raises:
        UserError: it cannot be had or loaded, or is not for these languages.
    """
    files = _files(checkpoints.fetch(options.model, options.revision))
    layout = _layout(files, options, source, target)
    translator = _load(files, layout, options)
    encoder, decoder = _pieces(files, layout.source_pieces), _pieces(files, layout.target_pieces)

    def translate(texts: Sequence[str]) -> list[str]:
        encoded = [layout.source(encoder.encode(layout.prefix + text, out_type=str)) for text in texts]
        short = [i for i, pieces in enumerate(encoded) if texts[i].strip() and len(pieces) <= options.max_tokens]
        done = [""] * len(texts)
        for batch in batching.batches([*map(len, encoded)], short, options.batch_tokens):
            for index, pieces in zip(batch, _translated(translator, encoded, batch, layout, options), strict=True):
                done[index] = str(decoder.decode(pieces)).strip()
        return done

    return translate


# --- the files of a model ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Files:
    """A model's files by name, in a folder or a zip archive, which is read without being unpacked.

    Attributes:
        path: the folder or archive.
        root: what stands before each name in it, "" or "translate-en_it-1_0/".
        names: all files below the root.
    """

    path: Path
    root: str
    names: frozenset[str]

    def read(self, name: str) -> bytes:
        if self.path.is_dir():
            return (self.path / self.root / name).read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.root + name)

    def json(self, name: str) -> Any:
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise UserError(f"{self.path}: {name} is no JSON ({error}); convert the model again") from None


def _files(path: Path) -> _Files:
    if path.is_dir():
        found = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                found = [name for name in archive.namelist() if not name.endswith("/")]
        except (OSError, zipfile.BadZipFile):
            raise UserError(
                f"{path}: neither a folder nor an .argosmodel file, which is a zip archive; fetch it again"
            ) from None
    top = [name for name in found if name == "metadata.json" or name.endswith("/metadata.json")]
    root = min(top, key=len).removesuffix("metadata.json") if top else ""
    return _Files(path=path, root=root, names=frozenset(n.removeprefix(root) for n in found if n.startswith(root)))


# --- what a family of models wants to be given -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How one model is fed.

    Attributes:
        model: folder of the weights among the files, "" or "model/".
        source_pieces: SentencePiece model that texts are cut with.
        target_pieces: and the one that translations are joined with.
        prefix: text before each text.
        first: tokens before its pieces.
        last: tokens after them.
        target: tokens that each translation begins with.
    """

    model: str
    source_pieces: str
    target_pieces: str
    prefix: str = ""
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    target: tuple[str, ...] = ()

    def source(self, pieces: Iterable[str]) -> list[str]:
        return [*self.first, *pieces, *self.last]


def _layout(files: _Files, options: Options, source: str, target: str) -> _Layout:
    """The layout of a model, found from its files.

    Raises:
        UserError: a file is missing, the family cannot be told, or the model does not know a language.
    """
    model = "model/" if "model/model.bin" in files.names else ""
    if f"{model}model.bin" not in files.names:
        raise UserError(f"{files.path} holds no model.bin, so it is no CTranslate2 model; convert it first")
    pieces = next((name for name in _PIECES if name in files.names), "")
    if not pieces:
        raise UserError(f"{files.path} holds no SentencePiece model ({', '.join(_PIECES)}); copy it from the original")
    tokens = _language_tokens(files, model)
    kind = options.kind or _kind(files, tokens)
    place = _Layout(model=model, source_pieces=pieces, target_pieces=pieces)
    # Some converters write into the configuration that the library adds the end token by itself.
    adds_end = f"{model}config.json" in files.names and files.json(f"{model}config.json").get("add_source_eos", False)
    end = () if adds_end else (_END,)
    if kind == "argos":
        return _argos(files, place, source, target)
    if kind == "opus-mt":
        several = options.target_code or any(token.startswith(">>") for token in tokens)
        first = (options.target_code or codes.language_token(target, tokens, "target_code"),) if several else ()
        joined = "target.spm" if "target.spm" in files.names else pieces
        return replace(place, target_pieces=joined, first=first, last=end)
    spoken = options.target_code or codes.language_token(target, tokens, "target_code")
    if kind == "madlad":
        return replace(place, prefix=f"{spoken} ", last=end)
    heard = options.source_code or codes.language_token(source, tokens, "source_code")
    return replace(place, first=(heard,), last=end, target=(spoken,))


def _argos(files: _Files, place: _Layout, source: str, target: str) -> _Layout:
    about = files.json("metadata.json") if "metadata.json" in files.names else {}
    for key, tag in (("from_code", source), ("to_code", target)):
        if about.get(key) and not codes.spellings(tag) & codes.spellings(about[key]):
            raise UserError(
                f"{files.path} translates from {about.get('from_code')} to {about.get('to_code')}, not from {source} "
                f"to {target}; name another model"
            )
    prefix = about.get("target_prefix", "")
    return replace(place, target=(prefix,) if prefix else ())


def _kind(files: _Files, tokens: Sequence[str]) -> str:
    if "metadata.json" in files.names:
        return "argos"
    if "source.spm" in files.names:
        return "opus-mt"
    if any(token.startswith("<2") for token in tokens):
        return "madlad"
    if tokens:
        return "nllb"
    raise UserError(
        f"{files.path}: cannot tell which family the model is of; set kind to opus-mt, nllb, madlad or argos"
    )


def _language_tokens(files: _Files, model: str) -> list[str]:
    """Tokens of the vocabulary that stand for languages."""
    name = next((model + name for name in _VOCABULARIES if model + name in files.names), "")
    if not name:
        return []
    words = files.json(name) if name.endswith(".json") else files.read(name).decode("utf-8").splitlines()
    return [word for word in words if codes.code_in(word)]


# --- translating -------------------------------------------------------------------------------------------------------


def _load(files: _Files, layout: _Layout, options: Options) -> Any:
    import ctranslate2

    inside = {n.removeprefix(layout.model): n for n in files.names if n.startswith(layout.model)}
    in_memory = None if files.path.is_dir() else {name: files.read(full) for name, full in inside.items()}
    try:
        return ctranslate2.Translator(
            str(files.path / files.root / layout.model) if in_memory is None else files.path.name,
            device=options.device,
            compute_type=options.compute_type,
            inter_threads=options.inter_threads,
            intra_threads=options.intra_threads,
            files=in_memory,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{files.path}: CTranslate2 cannot load the model ({str(error).splitlines()[0]}); convert it again"
        ) from None


def _pieces(files: _Files, name: str) -> Any:
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=files.read(name))
    except RuntimeError as error:
        raise UserError(
            f"{files.path}: {name} is no SentencePiece model ({str(error).splitlines()[0]}); copy it from the original again"
        ) from None


def _translated(
    translator: Any, encoded: Sequence[list[str]], batch: Sequence[int], layout: _Layout, options: Options
) -> list[list[str]]:
    """Pieces of each translation, without language tokens; none when it found no end within twice the source's length."""
    longest = max(len(encoded[i]) for i in batch)
    try:
        results = translator.translate_batch(
            [encoded[i] for i in batch],
            target_prefix=[list(layout.target)] * len(batch) if layout.target else None,
            beam_size=options.beam_size,
            max_input_length=0,
            max_decoding_length=min(2 * longest + 20, max(options.max_tokens, longest)),
            disable_unk=True,
            return_end_token=True,
        )
    except (ValueError, RuntimeError) as error:
        raise RunError(
            f"CTranslate2 failed ({str(error).splitlines()[0]}); run again, or use a smaller batch"
        ) from None
    found = [result.hypotheses[0] for result in results]
    return [_without_marks(pieces, layout) if pieces and pieces[-1] == _END else [] for pieces in found]


def _without_marks(pieces: Sequence[str], layout: _Layout) -> list[str]:
    start = len(layout.target) if tuple(pieces[: len(layout.target)]) == layout.target else 0
    return list(pieces[start:-1])


TRANSLATOR = Translator(
    name="ctranslate2",
    description="Neural, by CTranslate2: OPUS-MT, NLLB, MADLAD and Argos models, fast on a processor.",
    options=Options,
    problem=problem,
    fingerprint=fingerprint,
    open=open_engine,
    batch=BATCH,
)
