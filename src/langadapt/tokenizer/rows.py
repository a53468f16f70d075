"""The rows of a model's embedding matrices, read alone: from safetensors or GGUF, some thousand at a time, without torch.

A safetensors file begins with the length of a JSON header, 8 bytes, little-endian; the header says where each tensor's
bytes lie behind it (https://huggingface.co/docs/safetensors). So two matrices of a model of any size cost no more than
themselves, and a few rows cost a few pages of the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langadapt import artifacts
from langadapt.errors import UserError
from langadapt.tokenizer.gguf_header import Tensor, read_header

Floats = NDArray[np.float32]

PART = 1 << 24  # numbers of a matrix that are in memory in fp32 at the same time
_INPUT = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight", "token_embd.weight")
_OUTPUT = ("lm_head.weight", "embed_out.weight", "output.weight")
_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A matrix on disk.

    Attributes:
        name: of the tensor.
        rows: one for each token, and perhaps more.
        width: numbers of a row, the model's hidden size.
        read: first row and the one behind the last in; these rows in fp32 out, of shape (rows, width).
    """

    name: str
    rows: int
    width: int
    read: Callable[[int, int], Floats]

    def row(self, number: int) -> Floats:
        """One row."""
        values: Floats = self.read(number, number + 1)[0]
        return values

    @cached_property
    def norms(self) -> Floats:
        """Euclidean length of every row."""
        return np.concatenate([np.linalg.norm(part, axis=1) for part in self._parts()])

    def mean(self, rows: Iterable[int]) -> Floats:
        """The mean of some rows."""
        values: Floats = np.mean([self.row(number) for number in rows], axis=0)
        return values

    def distances(self, direction: Floats) -> Floats:
        """`1 - cosine` of every row and a vector; 1 for a row of zeros, which points nowhere."""
        dots = np.concatenate([part @ direction for part in self._parts()])
        lengths = self.norms * np.linalg.norm(direction)
        cosines: Floats = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
        return 1 - cosines

    def _parts(self) -> Iterator[Floats]:
        step = max(1, PART // self.width)
        return (self.read(first, min(first + step, self.rows)) for first in range(0, self.rows, step))


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The matrices that have a row for each token.

    Attributes:
        input: what tokens become.
        output: what the logits are made with; None where the input matrix serves for both.
    """

    input: Matrix
    output: Matrix | None

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        return (self.input,) if self.output is None else (self.input, self.output)


def read_rows(place: Path) -> Rows | None:
    """The matrices of a folder of safetensors or of a GGUF file; None where there are no weights.

    Raises:
        UserError: the weights cannot be read, or none of them is an embedding.
    """
    try:
        found = _of_gguf(place) if place.suffix == ".gguf" else _of_folder(place)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{place}: its weights cannot be read ({error}); fetch them again") from None
    if not found:
        return None
    given = next((matrix for name, matrix in found.items() if name.endswith(_INPUT)), None)
    if given is None:
        raise UserError(
            f"{place}: none of its weights is called as embeddings are ({', '.join(_INPUT)}); name another model"
        )
    config = artifacts.read_json(place / "config.json") or {}
    head = next((matrix for name, matrix in found.items() if name in _OUTPUT), None)
    return Rows(input=given, output=None if config.get("tie_word_embeddings") else head)


# --- safetensors ------------------------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> dict[str, Matrix]:
    """Embeddings and heads of a folder, by name; files that hold neither are not opened."""
    index = artifacts.read_json(folder / "model.safetensors.index.json")
    if index:
        files = sorted({file for name, file in index["weight_map"].items() if name.endswith((*_INPUT, *_OUTPUT))})
    else:
        files = [file.name for file in (folder / "model.safetensors",) if file.is_file()]
    return {name: matrix for file in files for name, matrix in _of_safetensors(folder / file)}


def _of_safetensors(file: Path) -> Iterator[tuple[str, Matrix]]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > file.stat().st_size:
            raise ValueError(f"{file.name} is no safetensors file or is cut short")
        header: Mapping[str, Any] = json.loads(stream.read(length))
    for name, about in header.items():
        if name.endswith((*_INPUT, *_OUTPUT)):
            yield name, _mapped(file, name, about, 8 + length)


def _mapped(file: Path, name: str, about: Mapping[str, Any], start: int) -> Matrix:
    kind, (rows, width) = about["dtype"], about["shape"]
    if kind not in _TYPES:
        raise ValueError(f"{name} is of type {kind}; known: {', '.join(_TYPES)}")
    stored = np.memmap(file, _TYPES[kind], "r", start + about["data_offsets"][0], (rows, width))

    def read(first: int, last: int) -> Floats:
        part = stored[first:last]
        if kind == "BF16":  # the upper half of a number in fp32
            return (part.astype(np.uint32) << 16).view(np.float32)
        return part.astype(np.float32)

    return Matrix(name=name, rows=rows, width=width, read=read)


# --- GGUF -------------------------------------------------------------------------------------------------------------


def _of_gguf(file: Path) -> dict[str, Matrix]:
    tensors = read_header(file).tensors
    return {name: _packed(file, name, tensors[name]) for name in (*_INPUT, *_OUTPUT) if name in tensors}


def _packed(file: Path, name: str, tensor: Tensor) -> Matrix:
    """A matrix of a GGUF file; blocks of quantised numbers never reach over a row."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    kind, (width, rows) = GGMLQuantizationType(tensor.type), tensor.shape
    block, size = GGML_QUANT_SIZES[kind]
    stored = np.memmap(file, np.uint8, "r", tensor.start, (rows, width // block * size))

    def read(first: int, last: int) -> Floats:
        values: Floats = dequantize(stored[first:last], kind)
        return values

    return Matrix(name=name, rows=rows, width=width, read=read)
