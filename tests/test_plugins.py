"""Plugins: a broken one is listed by name and harms nothing else, and stops a run that needs it."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest
from conftest import HEAD, STAGE

import langadapt
from langadapt import hookspecs, records
from langadapt.corpus.reading import read_documents
from langadapt.errors import UserError
from langadapt.plugins import HOOKS, Registry, fault_of_plugin

START = "from langadapt import Corpus, Filter, PromptFormat, Translator, hookimpl\n"
GOOD = (
    "@hookimpl\ndef langadapt_filters():\n"
    "    yield Filter(name='{name}', description='', make=lambda options, language: lambda document: document)\n"
)

TRANSLATOR = (
    "@hookimpl\ndef langadapt_translators():\n    yield Translator(name='{name}', description='', options=dict, problem=max,"
    " fingerprint=max, open=max)\n"
)
REST = "language='eu', licence='x', description=''"


def corpora_of(fields: str) -> str:
    return f"@hookimpl\ndef langadapt_corpora():\n    yield Corpus({fields})\n"


BROKEN = {
    "raises": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "says nothing": ("raise RuntimeError", "RuntimeError"),
    "leaves": (
        "import sys; sys.exit('this plugin needs a licence key')",
        "SystemExit: this plugin needs a licence key",
    ),
    "does not parse": ("def (:", "SyntaxError"),
    "misspelt hook": ("@hookimpl\ndef langadapt_corpus(): return []", "langadapt_corpus"),
    "hook with an argument": ("@hookimpl\ndef langadapt_corpora(folder): return []", "folder"),
    "misspelt hook and another with an argument": (
        "@hookimpl\ndef langadapt_aaa(): return []\n@hookimpl\ndef langadapt_corpora(folder): return []",
        "folder",
    ),
    "hook that raises": ("@hookimpl\ndef langadapt_corpora():\n    yield from {}['x']", "KeyError: 'x'"),
    "hook that gives no iterable": ("@hookimpl\ndef langadapt_corpora(): return 3", "TypeError"),
    "wrong record": (
        "@hookimpl\ndef langadapt_corpora():\n    yield Filter(name='f', description='', make=str)",
        "TypeError: langadapt_corpora gave a Filter where a Corpus (corpus) is expected",
    ),
    "record without a field": ("@hookimpl\ndef langadapt_filters():\n    yield Filter(name='f')", "TypeError"),
    "no module": (None, "ModuleNotFoundError"),
}


NUMBERS = itertools.count()


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Installs a distribution with an entry point, as pip would leave it, into a folder on the path."""
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install_plugin(name: str, source: str | None, version: str = "1.0", entry: str = "") -> Path:
        site, module = tmp_path / "site", f"plugin_of_test_{next(NUMBERS)}"  # every name is imported once
        about = site / f"langadapt_{name}-{version}.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: langadapt-{name}\nVersion: {version}\n")
        with (about / "entry_points.txt").open("a") as stream:
            stream.write(f"[langadapt]\n{entry or name} = {module}\n")
        if source is not None:
            (site / f"{module}.py").write_text(START + source)
        return site / f"{module}.py"

    return install_plugin


def plugin(registry: Registry, name: str):
    return next(p for p in registry.plugins if p.name == name)


# --- what is found ---


def test_an_installed_plugin_is_found_with_its_distribution_version_file_and_offers(install):
    file = install("basque", GOOD.format(name="eu-short"), version="2.3")
    registry = Registry()
    found = plugin(registry, "basque")
    assert (found.distribution, found.version, found.file, found.error) == ("langadapt-basque", "2.3", str(file), "")
    assert found.offers == {"filter": ("eu-short",)}
    assert registry.filters["eu-short"].name == "eu-short" and registry.filters.owner("eu-short").name == "basque"


def test_an_object_may_be_a_plugin(install, tmp_path):
    source = textwrap.dedent("""
        class Plugin:
            @hookimpl
            def langadapt_filters(self):
                return [Filter(name="o", description="", make=str)]
        plugin = Plugin()
    """)
    file = install("object", source)
    entry_points = next((tmp_path / "site").glob("*.dist-info")) / "entry_points.txt"
    entry_points.write_text(entry_points.read_text().replace(file.stem, f"{file.stem}:plugin"))
    assert plugin(Registry(), "object").offers == {"filter": ("o",)}


def test_the_core_offers_its_own_parts_by_the_same_hooks():
    registry = Registry()
    assert plugin(registry, "core").distribution == "langadapt"
    assert {"cpt", "sft", "merge", "evaluate"} <= set(registry.stages)
    assert {"lora", "qlora", "full"} <= set(registry.peft_strategies)


def test_an_alias_leads_to_the_record(install):
    install("aliased", corpora_of(f"name='long-name', aliases=('short',), {REST}"))
    corpora = Registry().corpora
    assert corpora["short"] is corpora["long-name"] and "short" in corpora and list(corpora).count("short") == 0
    assert corpora.owner("short").name == "aliased"
    assert 'did you mean "short"?' in corpora.missing("shor")
    with pytest.raises(KeyError):
        corpora["shor"]


def test_a_hook_that_does_not_exist_is_no_attribute():
    with pytest.raises(AttributeError):
        _ = Registry().corpuses


# --- broken plugins ---


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_listed_with_its_error_and_harms_nothing_else(install, kind):
    source, said = BROKEN[kind]
    install("before", GOOD.format(name="before"), entry="a-before")
    install("broken", source, version="0.9", entry="b-broken")
    install("after", GOOD.format(name="after"), entry="c-after")
    registry = Registry()
    found = plugin(registry, "b-broken")
    assert said in found.error and "Traceback" in found.details
    assert (found.distribution, found.version, dict(found.offers)) == ("langadapt-broken", "0.9", {})
    assert [p.name for p in registry.failed] == ["b-broken"]
    assert {"before", "after"} <= set(registry.filters) and "it" in registry.languages and "cpt" in registry.stages
    assert not plugin(registry, "a-before").error and not plugin(registry, "c-after").error


def test_what_a_broken_plugin_offered_before_it_broke_is_not_used(install):
    install("half", GOOD.format(name="half") + "@hookimpl\ndef langadapt_corpora():\n    raise ValueError('late')\n")
    assert "half" not in Registry().filters


def test_a_name_that_is_missing_is_explained_by_the_plugin_that_failed(install):
    install("broken", "import no_such_module_at_all", version="0.9")
    filters = Registry().filters
    assert "plugin broken (langadapt-broken 0.9) failed: ModuleNotFoundError" in filters.missing("x")
    assert filters.missing("min-lenght").endswith('; did you mean "min-length"?'), "a question comes last"


@pytest.mark.parametrize("requirement", ["langadapt-broken", "Langadapt_Broken>=0.1"])
def test_a_requirement_on_a_broken_plugin_is_not_met(install, requirement):
    install("broken", "raise ValueError('no GPU')", version="0.9")
    said = Registry().require(requirement)
    assert said == "plugin broken of langadapt-broken 0.9 is broken: ValueError: no GPU; upgrade or uninstall it"


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("langadapt-good", ""),
        ("langadapt-good>=1.0,<3", ""),
        ("langadapt-good>=2", "langadapt-good 1.5rc1 is installed; run: pip install 'langadapt-good>=2'"),
        ("langadapt-other", "langadapt-other is not installed; run: pip install 'langadapt-other'"),
        (">=1", "is not a requirement"),
        ("", "is not a requirement"),
    ],
)
def test_requirements_are_held_against_what_is_installed(install, requirement, said):
    install("good", GOOD.format(name="good"), version="1.5rc1")
    found = Registry().require(requirement)
    assert said in found and bool(found) == bool(said)


def run_cli(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(tmp_path / "site"), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-c", "from langadapt.cli import main; main()", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_listing_shows_a_broken_plugin_and_goes_on(install, tmp_path):
    install("broken", "raise ValueError('no GPU')", version="0.9")
    done = run_cli(tmp_path, "plugins", "--json")
    assert done.returncode == 0
    listed = {p["name"]: p for p in json.loads(done.stdout)}
    assert listed["broken"]["error"] == "ValueError: no GPU"
    assert listed["italian"]["error"] == "" and "it" in listed["italian"]["offers"]["language"]


def test_a_recipe_that_requires_a_broken_plugin_stops_and_names_it(install, tmp_path, write):
    install("broken", "raise ValueError('no GPU')", version="0.9")
    recipe = write("recipe.toml", HEAD + 'requires = ["langadapt-broken"]\n' + STAGE)
    done = run_cli(tmp_path, "check", str(recipe))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{recipe}:5: requires: plugin broken of langadapt-broken 0.9 is broken: ValueError: no GPU" in done.stderr


def test_a_recipe_that_needs_nothing_of_a_broken_plugin_goes_on(install, tmp_path, write):
    install("broken", "raise ValueError('no GPU')")
    done = run_cli(tmp_path, "check", str(write("recipe.toml", HEAD + STAGE)))
    assert done.returncode == 0, done.stderr


# --- what goes wrong in a plugin's own code ---

FAULTY = """
def make(options, language):
    {prepare}

    def step(document):
        return {judge}

    return step

@hookimpl
def langadapt_filters():
    yield Filter(name="of-theirs", description="", make=make)
"""


@pytest.mark.parametrize(
    ("prepare", "judge", "said"),
    [
        ("options['shore']", "document", "KeyError: 'shore', in make of "),
        ("", "document.text.splitt()", "AttributeError: 'str' object has no attribute 'splitt', in step of "),
        ("", "__import__('json').loads(document.text) and document", "JSONDecodeError"),
    ],
    ids=["preparing", "judging", "in a library"],
)
def test_an_error_in_a_plugins_own_code_names_the_plugin_and_the_line(install, tmp_path, prepare, judge, said):
    module = install("theirs", FAULTY.format(prepare=prepare or "pass", judge=judge))
    (tmp_path / "text.jsonl").write_text('{"text": "La barca torna al porto."}\n')
    done = run_cli(
        tmp_path, "corpus", "stats", str(tmp_path / "text.jsonl"), "--language", "it", "--filter", "of-theirs"
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("langadapt: plugin theirs (langadapt-theirs 1.0): ") and said in line
    assert f" of {module}:" in line and "langadapt check-plugin theirs" in line


def test_an_error_elsewhere_is_no_fault_of_a_plugin(install):
    install("theirs", "def raises(): raise ValueError\n\ndef calls(other): other()\n")
    assert fault_of_plugin(ValueError("of ours")) is None
    try:
        langadapt.Recipe.load(3)  # type: ignore[arg-type]
    except Exception as error:
        assert fault_of_plugin(error) is None


def test_an_error_in_another_process_names_the_plugin_too(install, monkeypatch):
    module = install("theirs", FAULTY.format(prepare="options['shore']", judge="document"))
    known = Registry()
    monkeypatch.setattr("langadapt.plugins.registry", lambda: known)
    with ProcessPoolExecutor(1) as pool, pytest.raises(KeyError) as caught:
        pool.submit(known.filters["of-theirs"].make, {}, None).result()
    assert f"KeyError: 'shore', in make of {module}:4" in str(fault_of_plugin(caught.value))


def test_a_layout_that_does_not_exist_is_told_where_it_is_read(tmp_path):
    (tmp_path / "text.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(UserError, match='there is no layout "alpacca"; did you mean "alpaca"'):
        list(read_documents(str(tmp_path / "text.jsonl"), layout="alpacca"))


# --- clashes ---

CLASHES = {
    "name": ("name='x'", "name='x'"),
    "alias and name": ("name='y', aliases=('x',)", "name='x'"),
    "name and alias": ("name='x'", "name='y', aliases=('x',)"),
    "two aliases": ("name='y', aliases=('x',)", "name='z', aliases=('x',)"),
}


@pytest.mark.parametrize("kind", CLASHES)
def test_whoever_asks_for_a_name_that_two_plugins_offer_is_told_of_both(install, kind):
    for name, version, fields in zip(("one", "two"), ("1.0", "2.0"), CLASHES[kind], strict=True):
        install(name, corpora_of(f"{fields}, {REST}"), version=version)
    registry = Registry()
    for ask in (lambda: registry.corpora["x"], lambda: "x" in registry.corpora, lambda: registry.corpora.owner("x")):
        with pytest.raises(UserError) as error:
            ask()
        assert str(error.value).startswith('two plugins offer the corpus "x": ')
        assert "one (langadapt-one 1.0)" in str(error.value) and "two (langadapt-two 2.0)" in str(error.value)
    assert "x" not in list(registry.corpora) and "dolly-it" in registry.corpora
    (said,) = plugin(registry, "one").warnings
    assert (
        said
        == 'the corpus "x" is offered by two (langadapt-two 2.0) too, so nobody can ask for it; uninstall one of them'
    )


def test_what_does_not_clash_of_two_plugins_that_do_can_be_had(install):
    install("one", corpora_of(f"name='x', {REST}") + f"    yield Corpus(name='mine', {REST})\n")
    install("two", corpora_of(f"name='x', {REST}"))
    assert Registry().corpora["mine"].name == "mine"


def test_a_name_that_three_plugins_offer_is_nobodys(install):
    for name in ("one", "two", "three"):
        install(name, corpora_of(f"name='x', {REST}"))
    with pytest.raises(UserError, match=r"one \(.*\) and three \(.*\) and two \(.*\); uninstall one"):
        _ = Registry().corpora["x"]


def test_a_plugin_that_takes_the_name_of_a_part_of_the_core_is_broken_and_the_core_goes_on(install):
    install(
        "mine",
        "@hookimpl\ndef langadapt_prompts():\n    yield PromptFormat(name='chatml', description='', render=list)\n"
        + GOOD.format(name="also-mine"),
    )
    registry = Registry()
    assert plugin(registry, "mine").error == 'the prompt format "chatml" is the core\'s; give yours another name'
    assert registry.prompts.owner("chatml").name == "core" and "also-mine" not in registry.filters


def test_a_plugin_that_gives_a_name_twice_is_broken(install):
    install("mine", corpora_of(f"name='x', {REST}") + f"    yield Corpus(name='y', aliases=('x',), {REST})\n")
    assert plugin(Registry(), "mine").error == 'it offers the corpus "x" twice; leave one out'


def test_two_plugins_that_clash_harm_no_listing_and_no_other_recipe(install, tmp_path, write):
    for name in ("one", "two"):
        install(name, corpora_of(f"name='x', {REST}"))
    listed = run_cli(tmp_path, "plugins")
    assert listed.returncode == 0 and 'the corpus "x" is offered by two' in " ".join(listed.stdout.split())
    assert run_cli(tmp_path, "check", str(write("other.toml", HEAD + STAGE))).returncode == 0
    done = run_cli(tmp_path, "check", str(write("x.toml", HEAD + STAGE.replace("dolly-it", "x"))))
    assert done.returncode == 2 and done.stderr.startswith('langadapt: two plugins offer the corpus "x": one (')


def test_the_same_name_in_two_hooks_is_no_clash(install):
    install("one", GOOD.format(name="italian"))
    install("two", TRANSLATOR.format(name="italian"))
    registry = Registry()
    assert "italian" in registry.filters and "italian" in registry.translators


# --- plugins that disturb ---

LOUD = "print('loading the dictionary')\n"


def test_what_a_plugin_prints_when_it_is_loaded_is_not_in_the_output(install, tmp_path, write):
    install("loud", LOUD + GOOD.format(name="loud"))
    done = run_cli(tmp_path, "check", str(write("recipe.toml", HEAD + STAGE)), "--json")
    assert done.returncode == 0 and json.loads(done.stdout) == {"ok": True, "problems": []}
    assert "loading the dictionary" not in done.stderr


def test_a_plugin_that_prints_and_imports_torch_is_told_so_and_no_other_is(install, tmp_path):
    install("loud", LOUD + "import torch\n" + GOOD.format(name="loud"))
    install("quiet", GOOD.format(name="quiet"))
    warnings = {p["name"]: p["warnings"] for p in json.loads(run_cli(tmp_path, "plugins", "--json").stdout)}
    assert warnings["loud"][0] == 'it prints when it is loaded: "loading the dictionary"; leave that out'
    imported = "it imports torch when it is loaded, which slows every command; import it where it is used"
    assert imported in warnings["loud"] and warnings["quiet"] == warnings["italian"] == []


def test_a_plugin_that_prints_in_a_hook_leaves_output_clean(install, capsys):
    install("loud", "@hookimpl\ndef langadapt_filters():\n    print('hello')\n    return []\n")
    assert plugin(Registry(), "loud").warnings == ('it prints when it is loaded: "hello"; leave that out',)
    assert capsys.readouterr().out == ""


# --- versions of the contract ---


@pytest.mark.parametrize(
    ("declared", "oldest", "said"),
    [
        (1, 1, ""),
        (2, 1, ""),
        (3, 1, "it was written for contract 3, this langadapt ({}) has 2; pip install --upgrade langadapt"),
        (
            1,
            2,
            "it was written for contract 1, this langadapt ({}) has 2 and takes plugins from 2 on; "
            "pip install --upgrade langadapt-mine, or ask its authors for a version that fits",
        ),
    ],
)
def test_a_plugin_for_another_contract_is_not_loaded_and_says_what_to_do(install, monkeypatch, declared, oldest, said):
    monkeypatch.setattr(hookspecs, "CONTRACT", 2)
    monkeypatch.setattr(hookspecs, "OLDEST", oldest)
    install("mine", f"LANGADAPT_CONTRACT = {declared}\n" + GOOD.format(name="mine"))
    registry = Registry()
    found = plugin(registry, "mine")
    assert (found.error, found.contract) == (said.format(metadata.version("langadapt")), declared)
    assert ("mine" in registry.filters) == (not said) and "cpt" in registry.stages


def test_what_a_plugin_for_another_contract_would_raise_does_not_hide_which_it_was_written_for(install):
    install("mine", "LANGADAPT_CONTRACT: int = 99\nfrom langadapt import NoSuchRecord\n")
    assert plugin(Registry(), "mine").error.startswith("it was written for contract 99, ")


def test_a_plugin_that_declares_no_contract_was_written_for_the_first(install):
    install("mine", GOOD.format(name="mine"))
    assert plugin(Registry(), "mine").contract == 1


# --- the contract ---

SPECS = {name: spec for name, spec in vars(hookspecs).items() if name.startswith("langadapt_")}


def test_every_hook_of_the_contract_is_asked_for():
    assert set(HOOKS) == set(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_takes_nothing_and_yields_its_record(name):
    signature = inspect.signature(SPECS[name])
    record, _ = HOOKS[name]
    assert not signature.parameters
    assert signature.return_annotation == f"Iterable[records.{record.__name__}]"


@pytest.mark.parametrize("name", SPECS)
def test_every_hooks_docstring_holds_an_example_that_works(name):
    doc = inspect.getdoc(SPECS[name])
    assert doc and doc.splitlines()[0].endswith(".")
    (example,) = re.findall(r"```python\n(.*?)```", doc, re.DOTALL)
    stand_ins = {"HERE": Path(), "count": print, "add_suffixes": print}
    namespace = {n: getattr(langadapt, n) for n in langadapt.__all__} | stand_ins
    exec(compile(example, name, "exec"), namespace)
    offered = list(namespace[name]())
    assert offered and all(isinstance(record, HOOKS[name][0]) for record in offered)
    assert "@hookimpl" in example


def test_every_record_of_the_contract_is_frozen_and_keyword_only():
    for record, _ in HOOKS.values():
        assert record.__dataclass_params__.frozen, record
        assert all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(record).parameters.values()), record
        assert getattr(langadapt, record.__name__) is record, "a plugin imports it from langadapt"


def test_the_records_import_nothing_but_the_standard_library_at_the_top():
    """They are made on every start."""
    tree = ast.parse(Path(records.__file__).read_text())
    modules = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert {m.split(".")[0] for m in modules} <= set(sys.stdlib_module_names)


def test_the_example_in_the_readme_of_the_contract_is_an_entry_point_of_the_right_group():
    assert textwrap.dedent(hookspecs.__doc__).count("[project.entry-points.langadapt]") == 1
