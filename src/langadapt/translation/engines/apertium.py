"""`apertium`: rule-based translation by the program of that name (Forcada et al. 2011), as packaged by Debian.

It runs as a program of its own, so its licence (GPL) does not reach ours. It is fast (thousands of words a second on one
core) and weak, and the same everywhere: what tests and the "bad translator" arm of an experiment want.

Texts go through in Apertium's own stream format (wiki.apertium.org/wiki/Apertium_stream_format): characters with a
meaning there are escaped, what the programs cannot bear travels as a blank that they copy, and each text ends with a
zero byte, at which every program of the pipe forgets what came before. So no text can touch another, or be lost.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from pydantic import Field

from langadapt import artifacts
from langadapt.errors import RunError, nearest
from langadapt.recipe import Table
from langadapt.records import Translator
from langadapt.translation.engines import codes

PROGRAM = "apertium"
BATCH = 512  # a start of the programs takes about half a second and is shared by a batch
# Language pairs that Debian 13 has data packages for, as the packages are called.
PACKAGED = """
    afr-nld arg-cat bel-rus br-fr cat-ita cat-srd dan-nor en-gl eng-cat eng-spa eo-ca eo-en eo-es eo-fr es-gl es-pt es-ro
    eu-en eu-es fra-cat fra-frp hbs-eng hbs-mkd hbs-slv ind-zlm isl-eng isl-swe mkd-bul mkd-eng nno-nob oc-es oci-fra
    pol-szl por-cat pt-gl rus-ukr spa-arg spa-ast spa-cat spa-ita srd-ita swe-dan swe-nor urd-hin
    """
_SPECIAL = frozenset("[]{}^$/\\@<>")
# Ends of lines, of texts (zero byte) and of files (U+FFFF is the programs' own sign for it), halves of characters, and
# the tilde, with which the generator calls for contraction and which it then takes away.
_UNBEARABLE = re.compile("[\x00\n\r\x85\u2028\u2029\uffff\ud800-\udfff~]")
_STREAM = re.compile(r"\\(.)|\[u([0-9a-f]+)\]", re.DOTALL)
_END = ".[]"  # a full stop that is no text: what the programs put where a text ends without one


class Options(Table):
    """Keys of `[stage.translator]` beside `name`."""

    mode: str = Field(
        "", description="A translation direction as `apertium -l` lists it, for variants such as `eng-cat_valencia`."
    )
    via: list[str] = Field([], description='Languages to go by, in order, such as `["es"]`; found when empty.')
    timeout: float = Field(600.0, gt=0, description="Seconds that the program may take for a batch of texts.")


def problem(options: Options, source: str, target: str) -> str:
    """What this machine lacks: the program, or data packages for the way from source to target."""
    way = [source, *options.via, target]
    if shutil.which(PROGRAM) is None:
        return f"the program apertium is not installed; run: apt install apertium {' '.join(_packages(way))}".rstrip()
    modes = installed_modes()
    if options.mode and options.via:
        return "mode names the whole way, so via says nothing; leave one of them out"
    if options.mode and options.mode not in modes:
        return f'apertium has no mode "{options.mode}" here; {nearest(options.mode, modes)}'
    if options.mode and not _leads(options.mode, source, target):
        return f'mode = "{options.mode}" does not translate from {source} to {target}; leave it out, or name another'
    if chain(options, source, target, modes):
        return ""
    packages = " ".join(_packages(way))
    hint = f"run: apt install {packages} (a package may hold one direction only)" if packages else "use another engine"
    return f"apertium has no way here from {' by '.join(way[:-1])} to {target}; {hint}"


def fingerprint(options: Options, source: str, target: str) -> str:
    """Program version, the modes gone by, and a digest of every file that they name."""
    said = subprocess.run([PROGRAM, "-V"], capture_output=True, text=True, check=False, timeout=60).stdout.strip()
    modes = chain(options, source, target, installed_modes())
    files = [file for mode in modes for file in _files_of(mode)]
    return f"{said}; {' '.join(modes)}; {artifacts.digest_files(files)}"


def open_engine(options: Options, source: str, target: str) -> Callable[[Sequence[str]], list[str]]:
    """Texts in, translations out; a text at which the programs break comes back as "".

    Raises:
        RunError: (when translating) the program fails at everything, or takes too long.
    """
    modes = chain(options, source, target, installed_modes())
    assert modes, "the plan has asked `problem`"

    def translate(texts: Sequence[str]) -> list[str]:
        try:
            return _through(modes, texts, options.timeout)
        except _Broken as error:
            if len(texts) == 1:
                _check_alive(modes, options.timeout, error)
                return [""]
            middle = len(texts) // 2
            return translate(texts[:middle]) + translate(texts[middle:])

    return translate


# --- the way from language to language ---------------------------------------------------------------------------------


def installed_modes() -> list[str]:
    """Translation directions that this machine has data for, `eng-cat`, in alphabetical order."""
    said = subprocess.run([PROGRAM, "-l"], capture_output=True, text=True, check=False, timeout=60).stdout
    return sorted(said.split())


def chain(options: Options, source: str, target: str, modes: Sequence[str]) -> list[str]:
    """The modes to go by in order: what the options say, else the shortest way, and of equals the first by name."""
    if options.mode:
        return [options.mode]
    found: list[str] = []
    for start, end in _steps([source, *options.via, target]):
        part = _shortest(start, end, modes)
        if not part:
            return []
        found += part
    return found


def _steps(way: Sequence[str]) -> list[tuple[str, str]]:
    letters = [codes.three_letters(tag) for tag in way]
    return list(pairwise(letters))


def _packages(way: Sequence[str]) -> list[str]:
    """Data packages of Debian that would lead along a way; none when there is no such way."""
    package_of = {pair: f"apertium-{pair}" for pair in PACKAGED.split()}
    package_of |= {"-".join(reversed(pair.split("-"))): package for pair, package in package_of.items()}
    parts = [_shortest(start, end, list(package_of)) for start, end in _steps(way)]
    return list(dict.fromkeys(package_of[pair] for part in parts for pair in part)) if all(parts) else []


def _shortest(start: str, end: str, modes: Sequence[str]) -> list[str]:
    """Breadth-first search over the plain modes (`eng-cat`; variants such as `eng-cat_valencia` are chosen by name)."""
    waiting: deque[tuple[str, list[str]]] = deque([(start, [])])
    seen = {start}
    while waiting:
        here, way = waiting.popleft()
        if here == end:
            return way
        for mode in modes:
            ends = [codes.three_letters(code) for code in mode.split("-")]
            if len(ends) == 2 and ends[0] == here and ends[1] not in seen:
                seen.add(ends[1])
                waiting.append((ends[1], [*way, mode]))
    return []


def _leads(mode: str, source: str, target: str) -> bool:
    ends = [codes.three_letters(code.split("_")[0]) for code in mode.split("-")]
    return ends == [codes.three_letters(source), codes.three_letters(target)]


def _files_of(mode: str) -> Iterator[Path]:
    """The file that defines a mode and those that it names in quotes: compiled dictionaries, rules, taggers."""
    program = shutil.which(PROGRAM)
    beside = Path(program).parent.parent / "share" / "apertium" if program else Path()
    definition = Path(os.environ.get("APERTIUM_DATADIR", beside)) / "modes" / f"{mode}.mode"
    if definition.is_file():
        yield definition
        named = re.findall(r"'([^']+)'", definition.read_text(encoding="utf-8"))
        yield from (path for path in map(Path, named) if path.is_file())


# --- texts through the pipe --------------------------------------------------------------------------------------------


class _Broken(Exception):
    """The programs ended badly or gave another number of texts back."""


def _through(modes: Sequence[str], texts: Sequence[str], timeout: float) -> list[str]:
    stream = "".join(f"{to_stream(text)}{_END}\0" for text in texts).encode()
    for mode in modes:
        stream = _run(mode, stream, timeout)
    # The programs add empty pieces after the last; a piece that is missing means that one of them broke.
    pieces = stream.decode(errors="replace").split("\0")[: len(texts)]
    if len(pieces) < len(texts) or not all(piece.endswith("[]") for piece in pieces):
        raise _Broken(f"gave {sum(p.endswith('[]') for p in pieces)} texts back for {len(texts)}")
    return [from_stream(piece.removesuffix("[]").removesuffix(".")) for piece in pieces]


def _run(mode: str, stream: bytes, timeout: float) -> bytes:
    command = [PROGRAM, "-f", "none", "-z", "-u", mode]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        out, said = process.communicate(stream, timeout)
    except BaseException as error:
        _end(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise RunError(
                f"{' '.join(command)} had not answered after {timeout:g} s and was ended; if this machine is slow, "
                "raise translator.timeout"
            ) from None
        raise
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise _Broken(f"ended with code {process.returncode}" + (f": {last[0]}" if last else ""))
    return out


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the program with the dozen that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _check_alive(modes: Sequence[str], timeout: float, cause: _Broken) -> None:
    """Tells one text that breaks the programs from programs that are broken.

    Raises:
        RunError: they do not translate a full stop either.
    """
    try:
        _through(modes, ["."], timeout)
    except _Broken:
        raise RunError(
            f"apertium ({', '.join(modes)}) {cause}; try it by hand: echo hello | apertium {modes[0]}"
        ) from None


def to_stream(text: str) -> str:
    """A text as the programs take it.

    >>> print(to_stream("[a]\\n"))
    \\[a\\][ua]
    """
    escaped = "".join(f"\\{c}" if c in _SPECIAL else c for c in text)
    return _UNBEARABLE.sub(lambda found: f"[u{ord(found[0]):x}]", escaped)


def from_stream(stream: str) -> str:
    """The text that the programs gave back; undoes `to_stream`."""
    return _STREAM.sub(lambda found: found[1] or chr(int(found[2], 16)), stream)


TRANSLATOR = Translator(
    name="apertium",
    description="Rule-based, by the program apertium: fast, weak, reproducible.",
    options=Options,
    problem=problem,
    fingerprint=fingerprint,
    open=open_engine,
    batch=BATCH,
)
