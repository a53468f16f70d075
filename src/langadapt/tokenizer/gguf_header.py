"""What stands at the beginning of a GGUF file, read in a tenth of a second where the library's reader takes several.

That reader makes an array of every string, and a vocabulary has a hundred thousand. The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from langadapt import artifacts

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_ALIGNMENT = 32


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Where a tensor is.

    Attributes:
        shape: rows last, as GGUF has it.
        type: number of its `gguf.GGMLQuantizationType`.
        start: byte of the file.
    """

    shape: tuple[int, ...]
    type: int
    start: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """Values by key, and tensors by name."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read_header(file: Path) -> Header:
    """The header of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no GGUF file, or is cut short.
    """
    return _read(file, artifacts.stamp_of(file))


@lru_cache(maxsize=1)  # what is said of tokens and of weights is asked for one after the other
def _read(file: Path, stamp: tuple[int, int, int]) -> Header:
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _header(_Reader(data))
        except (struct.error, KeyError) as error:
            raise ValueError(f"no GGUF file, or cut short ({error})") from None


class _Reader:
    """Reads one thing after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self.at = data, 0

    def numbers(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self._data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def string(self) -> str:
        (length,) = self.numbers("Q")
        start, self.at = self.at, self.at + length
        return self._data[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.numbers(_SCALARS[kind])[0]
        inner, length = self.numbers("IQ")
        if inner in _SCALARS:
            return list(self.numbers(f"{length}{_SCALARS[inner]}"))
        return [self.value(inner) for _ in range(length)]


def _header(reader: _Reader) -> Header:
    magic, version, tensors, values = reader.numbers("4sIQQ")
    if magic != b"GGUF" or version not in _VERSIONS:
        raise ValueError(f"no GGUF file of version {' or '.join(map(str, _VERSIONS))}")
    found = {reader.string(): reader.value(*reader.numbers("I")) for _ in range(values)}
    listed = [(reader.string(), *_info(reader)) for _ in range(tensors)]
    step = found.get("general.alignment", _ALIGNMENT)
    start = math.ceil(reader.at / step) * step
    return Header(
        values=found,
        tensors={name: Tensor(shape=shape, type=kind, start=start + place) for name, shape, kind, place in listed},
    )


def _info(reader: _Reader) -> tuple[tuple[int, ...], int, int]:
    (dimensions,) = reader.numbers("I")
    shape = reader.numbers(f"{dimensions}Q")
    kind, place = reader.numbers("IQ")
    return shape, kind, place
