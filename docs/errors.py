"""Makes docs/errors.md of the source: every message of an error or a warning, by when it comes, with what to do.

`python docs/errors.py` writes the page. `messages` is also what tests/test_voice.py holds against the house's voice.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "langadapt"
PAGE = ROOT / "docs" / "errors.md"

# Whose messages are on other pages, or further down: what `check-plugin` finds, what `doctor` finds.
ELSEWHERE = ("templates/", "testing/checks/", "doctor/")
# What is raised with a message as its first argument.
RAISED = {"UserError", "RunError", "Interrupted", "UsageError", "BadParameter", "NoReferenceError"}
# Functions that give messages to whoever raises or shows them, by their names.
SPEAKERS = re.compile(
    r"_in_words|_?(\w+_)?(problems?|missing|misfits|lacks|warnings|clashes|require|check|fields|refusal|unknown|suite|adapter|unmatched|"
    r"machines?|too_large|too_many|measured|measured_on|patterns?|needs|engine|in_the_way|watched|wrong|way)"
)
# A place, and behind it the message of somebody else.
PASSED_ON = re.compile(r"(?:(?:stage|translator|embeddings\.\w+|from) [^:;]*: )+(?:‹WHAT›: )?‹(?:REASON|…)›")
HOLE = re.compile("‹(.*?)›")  # where a message has a word of the moment

# Words for what stands in a hole, where the name in the source is none that says it.
HOLES: Mapping[str, str] = {
    "error": "REASON",
    "strerror": "REASON",
    "first": "REASON",
    "said": "REASON",
    "why": "REASON",
    "problem": "REASON",
    "reasons": "REASONS",
    "id": "STAGE",
    "ref": "CORPUS",
    "label": "CORPUS",
    "repo_id": "OWNER/NAME",
    "path": "PATH",
    "folder": "FOLDER",
    "out": "PATH",
    "place": "PATH",
}


@dataclass(frozen=True, kw_only=True)
class Message:
    """Something that a user may be told.

    Attributes:
        file: of the source, from `src/langadapt` on.
        line: where it stands there.
        text: what happened, with holes as ‹NAME›.
        hint: what to do, where it is said apart.
        of_recipe: whether file, line and key of a recipe come before it.
    """

    file: str
    line: int
    text: str
    hint: str = ""
    of_recipe: bool = False


@dataclass(frozen=True, kw_only=True)
class Group:
    """Messages that come at one time.

    Attributes:
        title: when.
        about: what is before each of them, or what they have in common.
        files: whose messages they are, by beginnings of names; the first group that has a file takes it.
    """

    title: str
    about: str
    files: tuple[str, ...]


# --- reading the source -----------------------------------------------------------------------------------------------


@cache
def messages() -> list[Message]:
    """Every message of the source, in the order of its files and lines, each once."""
    found: dict[tuple[str, str], Message] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith(ELSEWHERE):
            for message in sorted(
                _Reader(name).read(ast.parse(path.read_text(encoding="utf-8"))), key=lambda m: m.line
            ):
                found.setdefault((message.text, message.hint), message)
    return list(found.values())


class _Reader(ast.NodeVisitor):
    """Collects the messages of one file."""

    def __init__(self, file: str):
        self.file = file
        self.found: list[Message] = []
        self.functions: list[ast.FunctionDef] = []
        self.constants: dict[str, ast.expr] = {}

    def read(self, tree: ast.Module) -> list[Message]:
        self.constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self.visit(tree)
        return self.found

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions.append(node)
        self.generic_visit(node)
        self.functions.pop()

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in RAISED and node.args:
            self._add(node.args[0])
        elif name == "Problem" and "message" in given:
            self._add(given["message"], given.get("hint"), of_recipe=True)
        elif name in ("report", "_problem", "_refused"):
            self._add_reported(node.args[1:])
        elif (name == "append" and node.args and self._is_message_list(node.func)) or (name == "warning" and node.args):
            self._add(node.args[0])
        self.generic_visit(node)

    def visit_Yield(self, node: ast.Yield) -> None:
        if node.value is not None and self._speaks():
            self._give(node.value)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and self._speaks():
            self._give(node.value)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Attribute) and node.targets[0].attr == "problem":
            self._add(node.value)
        self.generic_visit(node)

    def _give(self, value: ast.expr) -> None:
        """A yielded or returned value: (place, message, hint), (message, hint) or the message alone."""
        if isinstance(value, ast.ListComp):
            self._add(value.elt)
        elif not isinstance(value, ast.Tuple):
            self._add(value)
        elif len(value.elts) == 3:
            self._add(*value.elts[1:], of_recipe=True)
        elif len(value.elts) == 2:
            self._add(*value.elts, of_recipe=True)

    def _speaks(self) -> bool:
        return bool(self.functions) and bool(SPEAKERS.fullmatch(self.functions[-1].name))

    def _is_message_list(self, function: ast.expr) -> bool:
        of = function.value if isinstance(function, ast.Attribute) else function
        name = of.attr if isinstance(of, ast.Attribute) else getattr(of, "id", "")
        return name in ("problems", "warnings") or (name == "found" and self._speaks())

    def _add_reported(self, given: Sequence[ast.expr]) -> None:
        """What is reported of a place: a key in some cases, then the message and in some cases a hint."""
        for index, value in enumerate(given):
            if isinstance(value, ast.Name) and value.id in ("message", "what", "problem") and not self._words(value):
                return  # told about where it is made
            if " " in HOLE.sub("", self._words(value)):
                self._add(*given[index : index + 2], of_recipe=True)
                return

    def _add(self, text: ast.expr, hint: ast.expr | None = None, *, of_recipe: bool = False) -> None:
        said = self._words(text)
        if len(HOLE.sub("", said).split()) > 1 and not PASSED_ON.fullmatch(said):  # told about where it is made
            empty = hint is None or (isinstance(hint, ast.Constant) and not hint.value)
            told = "" if hint is None or empty else self._words(hint) or "…"
            self.found.append(Message(file=self.file, line=text.lineno, text=said, hint=told, of_recipe=of_recipe))

    def _words(self, node: ast.expr) -> str:
        """A string as a message has it; "" for what is none."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else ""
        if isinstance(node, ast.JoinedStr):
            return "".join(self._piece(piece) for piece in node.values)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._words(node.left) + self._words(node.right)
        if isinstance(node, ast.IfExp):
            return self._words(node.body) or self._words(node.orelse)
        if isinstance(node, ast.Name):
            value = self._assigned(node)
            return self._words(value) if value is not None and not isinstance(value, ast.Name) else ""
        if isinstance(node, ast.Call):
            return self._joined(node) or (f"‹{_name(node)}›" if _name(node) else "")
        return ""

    def _joined(self, call: ast.Call) -> str:
        """`"; ".join(…)` of a list that stands there; "" for any other call."""
        of = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr == "join" else None
        parts = next((node for node in ast.walk(call) if isinstance(node, ast.List)), None)
        if not (isinstance(of, ast.Constant) and parts):
            return ""
        return str(of.value).join(filter(None, map(self._words, parts.elts)))

    def _piece(self, piece: ast.expr) -> str:
        if isinstance(piece, ast.Constant):
            return str(piece.value)
        assert isinstance(piece, ast.FormattedValue)
        value = piece.value
        if isinstance(value, ast.Name):
            known = self._assigned(value)
            if isinstance(known, ast.Constant | ast.JoinedStr | ast.BinOp) and self._words(known):
                return self._words(known)
        repr_of = "!r" if piece.conversion == ord("r") else ""
        return f"‹{_name(value) or '…'}{repr_of}›"

    def _assigned(self, name: ast.Name) -> ast.expr | None:
        """What a name stands for: what its function gave it last, or its file."""
        for function in reversed(self.functions):
            given = [
                node
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and node.lineno < name.lineno
                if any(isinstance(target, ast.Name) and target.id == name.id for target in node.targets)
            ]
            if given:
                return max(given, key=lambda node: node.lineno).value
        return self.constants.get(name.id)


def _name(node: ast.expr) -> str:
    """A word for what is put into a hole; "" where the source has none."""
    if isinstance(node, ast.Name):
        return HOLES.get(node.id, node.id.strip("_").upper())
    if isinstance(node, ast.Attribute):
        of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
        if node.attr in ("id", "name", "label", "source", "tag") and isinstance(node.value, ast.Name | ast.Attribute):
            return HOLES.get(node.attr, node.attr.upper()) if of_self else _name(node.value)
        return HOLES.get(node.attr, node.attr.strip("_").upper())
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "written":
            return _name(node.args[0])
        return {"nearest": "NEAREST", "missing": "NEAREST", "smaller": "SMALLER"}.get(name, "")
    if isinstance(node, ast.BoolOp):
        return _name(node.values[0])
    return ""


# --- the page ---------------------------------------------------------------------------------------------------------

GROUPS: Sequence[Group] = (
    Group(
        title="Commands and what they are given",
        about="Before anything is read or written.",
        files=(
            *("commands/", "new_plugin", "plugin_samples"),
            *("corpus/choosing", "corpus/curves", "corpus/differences", "corpus/writing"),
        ),
    ),
    Group(
        title="Plugins",
        about="In `langadapt plugins`, or when a name of theirs is asked for. `langadapt check-plugin` says more.",
        files=("plugins", "testing/", "hookspecs", "records"),
    ),
    Group(
        title="The base model and the hub",
        about="In a plan, and when a model is fetched or loaded.",
        files=("models", "hub", "named_models", "loading"),
    ),
    Group(
        title="Corpora",
        about="In a plan, which reads as far as the first document, and while a corpus is prepared.",
        files=("corpus/", "inputs", "cleaning/", "decontamination", "preparation", "identification"),
    ),
    Group(
        title="Before a run starts",
        about="In a plan under `in the way`; `run` refuses with the same words.",
        files=("plan", "run_state", "run", "locks", "compute", "machine.py", "trackers", "sweep", "estimates", "artifacts"),
    ),
    Group(
        title="The vocabulary",
        about="In `langadapt tokenizer report`, and in a `tokenizer` stage.",
        files=("tokenizer/", "embeddings/", "vocabulary", "stages/tokenizer"),
    ),
    Group(
        title="Translating",
        about="In a plan, where an engine cannot be used as it is, and in a `translate` stage.",
        files=("translation/", "stages/translate"),
    ),
    Group(
        title="Training",
        about="In a plan, where options do not fit the model or the machine, and while a stage learns.",
        files=(
            "training", "preference", "peft/", "stages/trained", "stages/cpt", "stages/sft", "stages/preference", "loss",
            "processes", "machines", "checkpoints", "fused/", "averaging",
        ),
    ),
    Group(title="Merging", about="In a `merge` stage.", files=("stages/merge", "rounding")),
    Group(
        title="Measuring and comparing",
        about="In an `evaluate` stage, in `langadapt evaluate` and in `langadapt compare`.",
        files=("evaluation/", "evaluating", "comparing", "harness", "prompts/", "stages/evaluate", "likelihood", "report/"),
    ),
    Group(title="Exporting", about="In an `export` stage and in `langadapt export`.", files=("export/", "stages/export")),
    Group(title="Talking and serving", about="In `langadapt chat` and `langadapt serve`.", files=("chat", "serving")),
    Group(title="On a cluster", about="In `langadapt submit`.", files=("submit", "slurm")),
)  # fmt: skip
OF_RECIPE = Group(
    title="Words of a recipe or an experiment",
    about="Before each stand file, line and key: `recipes/mine.toml:14: adapt.training.lerning_rate: …`. All that is wrong "
    "is told at once; `langadapt check` does nothing else. Keys and their types: [recipe.md](recipe.md).",
    files=("recipe", "recipe_text", "experiment", "upstream", "toml_lines"),
)

# What explains more than a message does, by a part of it.
EXPLAINED: Mapping[str, str] = {
    "unknown key": (
        "Names are those of the installed version of the library: an option that a release renamed is unknown to it "
        "([why](footguns.md#options-that-were-renamed))."
    ),
    "is not of type": "Nothing is converted: `1e-4` is a number, and in quotes it is text.",
    "langadapt sets this itself": "[What it sets](recipe.md), and why, stands there.",
    "no plugin offers the corpus": "A file of your own is not asked for by `name` but by `path`.",
    "two plugins offer the": (
        "Nobody can tell which is meant, so neither is taken. `langadapt plugins` lists who offers what."
    ),
    "it was written for contract": ("[Which versions understand which contract](plugins.md#versions-of-the-contract)."),
    "is gated; accept": (
        "Terms are accepted once, by the account whose token is used. `langadapt doctor` says where the token is "
        "from; `HF_TOKEN` wins over a login."
    ),
    "is not on this machine and the hub cannot be reached": (
        "With `HF_HUB_OFFLINE=1` this is so on purpose. A folder, a `.gguf` file or `package:NAME/FILE` needs no hub."
    ),
    "no known layout has its columns": "[What columns each layout has](recipe.md).",
    "changed since the plan was made": (
        "A plan reads the content of files, and a digest must be that of what is trained on."
    ),
    "is in use by another run": (
        "The lock is gone when the process that holds it ends, however it ends: no file needs to be removed. On a "
        "filesystem without locks, `langadapt doctor` tells."
    ),
    "GB of disk are needed": (
        "[How it is estimated](reference.md#how-a-plan-estimates). `langadapt cache prune` makes room."
    ),
    "GiB of memory and this machine has": (
        "[How it is estimated](reference.md#how-a-plan-estimates). Above 1.5 times the memory, a run is refused "
        "unless it is told `--try-anyway`."
    ),
    "out of memory": (
        "The change that is named is the first that fits by estimate. On a GPU that others use too, less is free than "
        "a plan counts on: `langadapt doctor` shows it."
    ),
    "the loss became": (
        "A step was too large, or a row is broken. Only checkpoints are left of the stage. [Why it is not smoothed "
        "over](footguns.md#a-loss-that-is-not-a-number-is-smoothed-over)."
    ),
    "no document is left to train on": (
        "The reasons are counted. `langadapt corpus stats` shows what each step drops, and how much another threshold "
        "would keep."
    ),
    "no document is held out": "Held out is by a hash of the text, so of a few documents it may be none.",
    "cannot be shared out among": "[The batch of a recipe is that of all processes](scale.md), so it must divide.",
    "process ‹NUMBER› of the": (
        "The last words of its log are in the message. When memory is short, the kernel ends it without a word: a "
        "smaller batch, activation checkpointing or fewer processes help."
    ),
    "plans another stage than the machine that runs it": (
        "Digests differ, so something that the stage is made from does."
    ),
    "with a fresh adapter, the model is": "[Why](footguns.md#preferences-against-a-wrong-reference).",
    "the merged model is not the adapted one": (
        "The merge itself went wrong, so no figure of it would mean anything: [tied "
        "embeddings](footguns.md#lora-on-tied-embeddings), "
        "[QLoRA](footguns.md#merging-a-qlora-adapter-into-16-bit-weights)."
    ),
    "no text to compare the models on": (
        "A merge's certificate is computed on held-out text of the stage that was trained."
    ),
    "rows, so they do not belong together": "[Why](footguns.md#special-tokens-that-files-do-not-agree-on).",
    "can be learnt from": "[What an extension saves on your text, by size](vocabulary.md).",
    "have the same id and are not the same data": (
        "Figures of other questions say nothing of the models. A copy was changed, or read by another version of a "
        "plugin."
    ),
    "was trained on another vocabulary than its base has": (
        "[A vocabulary is a change of the weights](design.md#a-vocabulary-is-a-change-of-the-weights)."
    ),
    "jobs of another version of this recipe": "Two versions of a stage would write one folder.",
}

HEAD = """\
# Errors and warnings

<!-- made by docs/errors.py; change that, or the message itself -->

Everything that langadapt refuses or warns of on purpose, by when it comes. Words in CAPITALS and `…` stand for names and
figures of the moment, so search this page for the words between them. What exit codes mean is in
[the reference](reference.md#exit-codes). A traceback is a mistake of ours: please report it, with what
[`langadapt doctor`](reference.md#langadapt-doctor) prints.
"""


DOCTORS = """\
## What the doctor finds

Of [`langadapt doctor`](reference.md#langadapt-doctor). A *note* is only to be known: the exit code stays 0.

| check | what is recognised | what comes of it | what to do | source |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    found = messages()
    left = dict(EXPLAINED)
    parts = [HEAD]
    for group in (OF_RECIPE, *GROUPS):
        rows = [_row(message, left) for message in found if group_of(message) is group]
        parts.append(f"## {group.title}\n\n{group.about}\n\n| message | what to do |\n|---|---|\n" + "".join(rows))
    assert not left, f"these explain no message: {list(left)}"
    parts.append(_doctors())
    return "\n".join(parts)


def group_of(message: Message) -> Group:
    """When a message comes.

    Raises:
        LookupError: its file is in no group.
    """
    if message.of_recipe:
        return OF_RECIPE
    for group in (OF_RECIPE, *GROUPS):
        if any(message.file.startswith(name if "/" in name or "." in name else f"{name}.py") for name in group.files):
            return group
    raise LookupError(f"{message.file} is in no group of docs/errors.py")


def _row(message: Message, left: dict[str, str]) -> str:
    """A line of the table; what explains it is taken out of what is left."""
    what, do = parted(message)
    said = [_plain(do)] if do not in ("", "…") else []
    for part in [part for part in EXPLAINED if part in message.text]:
        said.append(EXPLAINED[part])
        left.pop(part, None)
    return f"| {_plain(what)} | {'. '.join(said).replace('?. ', '? ')} |\n"


def parted(message: Message) -> tuple[str, str]:
    """What happened, and what to do: a hint, or what stands behind the first semicolon."""
    if message.hint:
        return message.text, message.hint
    what, _, do = message.text.partition("; ")
    return what, do


def _plain(text: str) -> str:
    """A message as Markdown shows it: nothing in it is a mark, and holes are words in capitals."""
    text = HOLE.sub(lambda hole: hole[1].removesuffix("!r"), text)
    text = text.replace("NEAREST", "did you mean …?").replace("SMALLER", "; smaller: …")
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _doctors() -> str:
    sys.path.insert(0, str(SOURCE.parent))
    from langadapt.doctor.sections import ALL

    rows = ""
    for check in ALL:
        said = " | ".join(map(_plain, (check.says, check.happens, check.do)))
        rows += f"| {'*note*: ' * (check.weight == 'note')}`{check.name}` | {said} | {_source(check.source)} |\n"
    return DOCTORS + rows


def _source(source: str) -> str:
    """A link that is called by its site, or by its page of ours."""
    if source.startswith("http"):
        return f"[{source.split('/')[2]}]({source})"
    page = source.removeprefix("docs/")
    return f"[{page.split('#')[0]}]({page})"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
