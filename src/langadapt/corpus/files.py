"""The files of a corpus as bytes: found by path, unpacked piece by piece, watched for changes while they are read."""

from __future__ import annotations

import glob
import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from langadapt import artifacts
from langadapt.errors import UserError

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet")
PACKED = (".gz", ".zst")
FLAWS = CUT_SHORT, DAMAGED = "file cut short", "file damaged"  # reasons that what follows in the file is not read
_PIECE = 1 << 18  # bytes that are unpacked at a time


def files_of(path: str) -> list[Path]:
    """The files that a path stands for: a file, a folder's files of known kinds, or a glob; in name order.

    Raises:
        UserError: nothing is there, or nothing that can be read.
    """
    expanded = Path(path).expanduser()
    kinds = f"{', '.join(ENDINGS)}, or with {' or '.join(PACKED)}"
    if expanded.is_dir():
        found = sorted(
            p for p in expanded.rglob("*") if p.is_file() and ending(p) in ENDINGS and not _beside(p, expanded)
        )
        if not found:
            raise UserError(
                f"corpus {path}: the folder holds no file that can be read ({kinds}); name another folder, or a file"
            )
        return found
    if expanded.is_file():
        found = [expanded]
    else:
        found = sorted(Path(p) for p in glob.glob(str(expanded), recursive=True) if Path(p).is_file())
    if not found:
        raise UserError(f"corpus {path}: there is no such file, folder or match{in_here(path)}; name one that is there")
    for file in found:
        if ending(file) not in ENDINGS:
            raise UserError(f"corpus {file}: files of this kind are not read; known: {kinds}")
    return found


def in_here(path: str) -> str:
    """Where a path that is not found was looked for, in a message."""
    return "" if Path(path).expanduser().is_absolute() else " in the current folder"


def placed(path: str) -> list[tuple[str, Path]]:
    """The files of `files_of`, each with its place: its path below the folder or the fixed part of the glob.

    Files of one name in several folders have places of their own, which stay the same when the whole is moved.
    """
    files, expanded = files_of(path), Path(path).expanduser()
    if expanded.is_dir():
        root = expanded
    elif expanded.is_file():
        root = expanded.parent
    else:
        fixed = next(i for i, part in enumerate(expanded.parts) if glob.has_magic(part))
        root = Path(*expanded.parts[:fixed])
    return [(file.relative_to(root).as_posix(), file) for file in files]


def ending(file: Path) -> str:
    """The kind of a file by its name, whether it is packed or not: `.jsonl` of `a.JSONL.gz`."""
    inner, outer = Path(file.stem).suffix.lower(), file.suffix.lower()
    return inner if outer in PACKED and inner != ".parquet" else outer


def _beside(file: Path, folder: Path) -> bool:
    """Whether a file only accompanies a data set: hidden, or its card or licence."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return hidden or file.stem.lower() in ("readme", "license", "licence")


class Content:
    """The content of a file, piece by piece, unpacked where the file is packed.

    Attributes:
        file: which one.
        flaw: after the last piece: why more should have come (`CUT_SHORT` or `DAMAGED`), or "". What was unpacked
            before the flaw was noticed has been handed out.
    """

    def __init__(self, file: Path):
        self.file, self.flaw = file, ""

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of at most 256 KiB.

        Raises:
            UserError: the file cannot be opened or read, or changes meanwhile.
        """
        watch = Watch(self.file)
        try:
            with _opened(self.file) as stream:
                while piece := self._next(stream):
                    watch.check()
                    yield piece
        except OSError as error:
            raise unreadable(self.file, error) from None
        watch.check()

    def _next(self, stream: IO[bytes]) -> bytes:
        damage: tuple[type[Exception], ...] = (gzip.BadGzipFile, zlib.error)
        if self.file.suffix.lower() == ".zst":
            damage = (*damage, zstd().ZstdError)
        try:
            return cast(bytes, stream.read1(_PIECE))  # type: ignore[attr-defined]
        except EOFError:
            self.flaw = CUT_SHORT
        except damage:
            self.flaw = DAMAGED
        return b""


class Watch:
    """Notices that a file was written to, or replaced, since the watch began."""

    def __init__(self, file: Path):
        self.file = file
        self._before = self._stamp()

    def check(self) -> None:
        """
        Raises:
            UserError: it was.
        """
        if self._stamp() != self._before:
            raise UserError(
                f"corpus {self.file}: the file changed while it was read; wait until it is complete, then run again"
            )

    def _stamp(self) -> tuple[int, int, int]:
        try:
            return artifacts.stamp_of(self.file)
        except OSError as error:
            raise unreadable(self.file, error) from None


def unreadable(file: Path, error: OSError) -> UserError:
    """What the system says about a file, in words."""
    return UserError(f"corpus {file}: cannot be read ({error.strerror or error}); mend or replace it")


def _opened(file: Path) -> IO[bytes]:
    if file.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(file, "rb"))
    if file.suffix.lower() == ".zst":
        widest = {zstd().DecompressionParameter.window_log_max: 31}  # what `zstd --long=31` made is read too
        return cast(IO[bytes], zstd().open(file, "rb", options=widest))
    return file.open("rb")


def zstd() -> Any:
    """Python's own module, which older Pythons have from elsewhere under another name."""
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        from backports import zstd as module
    return module
