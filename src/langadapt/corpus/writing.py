"""Cleaned documents as files: whole or not there at all, with everything that was left out and why."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from langadapt import artifacts
from langadapt.corpus.choosing import Chosen
from langadapt.corpus.layouts import as_row
from langadapt.corpus.preparing import Accounting
from langadapt.corpus.tracing import Trace, outcomes
from langadapt.errors import UserError
from langadapt.records import Rejected

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
SHARD = 256 << 20  # bytes of text in a file of a folder, before compression
_SHARD_NAME = re.compile(r"\d{5}\.jsonl\.gz")
Outcome = Trace | Rejected
READING = "reading"  # the step that records are dropped by which cannot be read


@dataclass(kw_only=True)
class Written:
    """What `write_clean` made.

    Attributes:
        out: the file or folder.
        files: how many there are of it.
        dialogues: whether there are messages in it, which only the layout `document` reads whole.
        accounting: of what was read.
        steps: documents dropped by each step.
    """

    out: Path
    files: int = 0
    dialogues: bool = False
    accounting: Accounting = field(default_factory=Accounting)
    steps: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        counted = self.accounting.to_json()
        return {
            "out": str(self.out),
            "files": self.files,
            "documents": counted["documents"],
            "bytes": counted["bytes"],
            "dropped_by": self.steps,
        }


def write_clean(
    chosen: Chosen,
    out: Path,
    *,
    rejects: Path | None = None,
    force: bool = False,
    watch: Callable[[Iterator[Outcome]], Iterator[Outcome]] = iter,
) -> Written:
    """Reads a corpus, cleans it and writes what is left, in the layout `document`.

    Args:
        chosen: the corpus and its steps.
        out: a file that ends in one of `ENDINGS`, or a folder, which gets files of about 256 MiB of text.
        rejects: a file for what is left out: place, step, reason, text.
        force: whether earlier files may be replaced.
        watch: passes on what it gets, and may say how far the work is.

    Raises:
        UserError: the corpus cannot be read, or a file may not or cannot be written.
    """
    for target in filter(None, (out, rejects)):
        _refuse(target, chosen, force, folder_ok=target is out)
    written = Written(out=out)
    try:
        with ExitStack() as stack:
            files: AbstractContextManager[_Single | _Shards] = _folder(out) if _is_folder(out) else _single(out)
            keep = stack.enter_context(files)
            drop = stack.enter_context(_file(rejects)) if rejects else None
            for outcome in watch(outcomes(chosen)):
                _account(written, outcome)
                if isinstance(outcome, Trace) and outcome.kept:
                    keep.write(as_row(outcome.last))
                    written.dialogues |= bool(outcome.last.messages)
                elif drop:
                    _put(drop, _reject_row(outcome))
            written.accounting.check()
            if not written.accounting.documents.kept:
                reasons = ", ".join(f"{n} {r}" for r, n in written.accounting.documents.dropped.most_common())
                raise UserError(f"corpus {chosen.input.label}: no document is left ({reasons}); nothing is written")
            written.files = keep.files
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror or error}; name another place") from None
    return written


def _account(written: Written, outcome: Outcome) -> None:
    if isinstance(outcome, Rejected):
        written.accounting.drop(outcome.reason, outcome.size)
        by = READING
    elif outcome.kept:
        written.accounting.keep(outcome.size)
        return
    else:
        written.accounting.drop(outcome.reason, outcome.size)
        by = outcome.dropped_by
    written.steps[by] = written.steps.get(by, 0) + 1


def _reject_row(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Rejected):
        return {"where": outcome.where, "step": READING, "reason": outcome.reason}
    row = as_row(outcome.before)
    del row["id"]
    return {"where": outcome.before.id, "step": outcome.dropped_by, "reason": outcome.reason, **row}


# --- files ------------------------------------------------------------------------------------------------------------


def _is_folder(out: Path) -> bool:
    return not out.name.endswith(ENDINGS)


def _refuse(target: Path, chosen: Chosen, force: bool, *, folder_ok: bool) -> None:
    """Raises where a file would be lost, or the corpus would read what is made of it."""
    if _is_folder(target) and (not folder_ok or target.suffix):
        raise UserError(
            f"{target}: no file of this kind is written; name one that ends in {', '.join(ENDINGS)}"
            f"{', or a folder' * folder_ok}"
        )
    read = chosen.input.path.resolve() if chosen.input.path else None
    if read and (read == target.resolve() or (read.is_dir() and target.resolve().is_relative_to(read))):
        raise UserError(f"{target}: lies in the corpus that is read; write somewhere else")
    if not target.parent.is_dir():
        raise UserError(f"{target}: there is no folder {target.parent}; make it first")
    there = any(target.iterdir()) if target.is_dir() else target.exists()
    if there and not force:
        raise UserError(f"{target}: is there already; --force replaces it")
    if target.is_dir() and (not _is_folder(target) or any(not _SHARD_NAME.fullmatch(p.name) for p in target.iterdir())):
        raise UserError(f"{target}: the folder holds other files than those of a cleaned corpus; it is not replaced")
    if target.is_file() and _is_folder(target):
        raise UserError(f"{target}: is a file; name a folder, or a file that ends in {', '.join(ENDINGS)}")


class _Single:
    """One file."""

    files = 1

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, row: Mapping[str, Any]) -> None:
        _put(self._stream, row)


class _Shards:
    """Numbered files of a folder, a new one whenever one is full."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack, self._size, self.files = folder, ExitStack(), SHARD, 0
        self._stream: IO[bytes] | None = None

    def write(self, row: Mapping[str, Any]) -> None:
        if self._size >= SHARD:
            self._stack.close()
            self._stream = self._stack.enter_context(_file(self._folder / f"{self.files:05}.jsonl.gz"))
            self.files, self._size = self.files + 1, 0
        assert self._stream
        self._size += _put(self._stream, row)

    def close(self) -> None:
        self._stack.close()


@contextmanager
def _single(path: Path) -> Iterator[_Single]:
    with _file(path) as stream:
        yield _Single(stream)


@contextmanager
def _folder(path: Path) -> Iterator[_Shards]:
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    shards = _Shards(aside)
    try:
        try:
            yield shards
        finally:
            shards.close()
        artifacts.publish(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _file(path: Path) -> Iterator[IO[bytes]]:
    """A file that is put in its place when all of it is written."""
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as raw, _compressed(raw, path) as stream:
            yield stream
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _compressed(raw: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """A stream that compresses as the file's name says; equal rows make equal files."""
    if path.suffix == ".gz":
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as stream:
            yield cast(IO[bytes], stream)
    elif path.suffix == ".zst":
        import pyarrow

        with pyarrow.CompressedOutputStream(pyarrow.PythonFile(raw, mode="w"), "zstd") as stream:
            yield stream
    else:
        yield raw


def _put(stream: IO[bytes], row: Mapping[str, Any]) -> int:
    """Writes a row as a line and gives its size; what UTF-8 cannot hold, a lone surrogate, is written as an escape."""
    try:
        line = json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        line = json.dumps(row).encode("ascii")
    stream.write(line + b"\n")
    return len(line) + 1
