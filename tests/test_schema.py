"""The JSON Schema says what the recipe check says: right recipes pass, slips are found where they stand."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator
from pydantic import Field

from langadapt import Recipe, StageOptions, upstream
from langadapt.cli import cli
from langadapt.plugins import Registry, registry
from langadapt.records import StageKind
from langadapt.schema import _of_field, experiment_schema, recipe_schema
from langadapt.stages.preference import METHODS
from langadapt.stages.trained import UPSTREAM

ROOT = Path(__file__).parents[1]
ITALIAN = ROOT / "plugins" / "italian" / "src" / "langadapt_italian"
RECIPES = sorted([
    *(ROOT / "recipes").glob("*.toml"),
    *(ITALIAN / "experiments").glob("*-recipe.toml"),
    *(ROOT / "examples").glob("*/src/*/recipes/*.toml"),
])  # fmt: skip
EXPERIMENTS = sorted(p for p in (ITALIAN / "experiments").glob("*.toml") if not p.stem.endswith("-recipe"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return recipe_schema()


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def errors(schema: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    found = Draft7Validator(schema).iter_errors(recipe)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def described(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that a schema describes; conditions and what they require describe none."""
    if isinstance(node, dict):
        for name, key in node.get("properties", {}).items():
            yield f"{place}.{name}", key
        for word, inner in node.items():
            if word not in ("if", "else") and not (word == "then" and set(inner) <= {"required", "properties"}):
                yield from described(inner, f"{place}.{word}" if word not in ("properties", "definitions") else place)
    elif isinstance(node, list):
        for number, inner in enumerate(node):
            yield from described(inner, f"{place}.{number}")


# --- the schemas themselves ---


def test_both_are_schemas(schema: dict[str, Any]) -> None:
    Draft7Validator.check_schema(schema)
    Draft7Validator.check_schema(experiment_schema())
    assert schema["$schema"] == Draft7Validator.META_SCHEMA["$schema"]
    json.dumps(schema)


def test_every_reference_leads_somewhere_and_every_definition_is_used(schema: dict[str, Any]) -> None:
    for whole in (schema, experiment_schema()):
        named = set(re.findall(r'"#/definitions/([^"]+)"', json.dumps(whole)))
        assert named == set(whole["definitions"])


def test_every_key_is_explained(schema: dict[str, Any]) -> None:
    for whole in (schema, recipe_schema(upstream_help=False), experiment_schema()):
        keys = dict(described(whole))
        assert len(keys) > 10
        assert [name for name, key in keys.items() if not key.get("description")] == []


def test_nothing_is_left_of_what_marks_names(schema: dict[str, Any]) -> None:
    assert "x-names" not in json.dumps([schema, experiment_schema()])


def test_fields_of_the_libraries_are_explained_in_their_words_only_where_that_is_wanted(schema: dict[str, Any]) -> None:
    said = upstream.help_of(UPSTREAM)["adam_beta1"]
    assert len(said) > 10
    assert (
        said in schema["definitions"]["stage-cpt"]["properties"]["training"]["properties"]["adam_beta1"]["description"]
    )
    published = json.dumps(recipe_schema(upstream_help=False), ensure_ascii=False)
    references = {UPSTREAM, *(s.upstream for s in registry().peft_strategies.values() if s.upstream)}
    sentences = {
        text for r in references | {m.upstream for m in METHODS.values()} for text in upstream.help_of(r).values()
    }
    assert len(sentences) > 300
    assert [text for text in sentences if len(text) > 20 and text in published] == []


def test_keys_have_their_defaults(schema: dict[str, Any]) -> None:
    kinds = schema["definitions"]
    rates = [
        kinds[f"stage-{k}"]["properties"]["training"]["properties"]["learning_rate"]["default"] for k in ("cpt", "sft")
    ]
    assert rates == [2e-4, 2e-5]
    assert kinds["training-simpo"]["properties"]["beta"]["default"] == 2.0
    assert kinds["peft-qdora"]["properties"]["r"]["default"] == 32
    assert schema["properties"]["seed"]["default"] == 42


def test_the_command_prints_either() -> None:
    for words, title in (([], "langadapt recipe"), (["--experiment"], "langadapt experiment")):
        printed = CliRunner().invoke(cli, ["schema", *words])
        assert printed.exit_code == 0 and json.loads(printed.stdout)["title"] == title


# --- what is right ---


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_recipes_keep_to_it(schema: dict[str, Any], path: Path) -> None:
    assert errors(schema, read(path)) == []


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.name)
def test_experiments_keep_to_it(path: Path) -> None:
    assert errors(experiment_schema(), read(path)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.name)
def test_recipes_with_every_default_keep_to_it(schema: dict[str, Any], path: Path) -> None:
    recipe = Recipe.load(path)
    assert errors(schema, recipe.filled()) == [] == errors(schema, recipe.rehearse().filled())


@pytest.mark.parametrize("path", [*RECIPES, *EXPERIMENTS], ids=lambda p: p.name)
def test_every_recipe_names_a_schema_that_is_there(path: Path) -> None:
    words = path.read_text(encoding="utf-8").splitlines()[0].split()
    assert words[0] == "#:schema"
    named = json.loads((path.parent / words[1]).read_text(encoding="utf-8"))
    assert named["title"] == ("langadapt experiment" if path in EXPERIMENTS else "langadapt recipe")


HEAD = 'schema = 1\nname = "x"\nlanguage = "it"\nbase_model = "a/b"\n'
CPT = '[[stage]]\nid = "a"\nkind = "cpt"\ncorpus = ["clean-mc4-it"]\n'
PREFERENCE = '[[stage]]\nid = "p"\nkind = "preference"\ncorpus = ["pairs"]\n'
TOKENIZER = '[[stage]]\nid = "v"\nkind = "tokenizer"\ncorpus = ["x"]\n'
TRANSLATE = '[[stage]]\nid = "t"\nkind = "translate"\ncorpus = ["x"]\n'

RIGHT = [
    CPT,
    CPT.replace('["clean-mc4-it"]', '"texts/*.jsonl"'),
    CPT.replace('["clean-mc4-it"]', '{ path = "texts", filters = ["fineweb2", { name = "min-length", words = 3 }] }'),
    CPT.replace("clean-mc4-it", "of-a-plugin-that-is-not-installed"),
    f"{CPT}replay = 0.1\n",
    f'{CPT}replay = {{ share = 0.1, corpus = "fineweb-en" }}\n',
    f'{CPT}corpus = [{{ name = "x", deduplicate = {{ bands = 20 }} }}]\n'.replace('corpus = ["clean-mc4-it"]\n', ""),
    f"{CPT}[stage.training]\nlearning_rate = 1\nwarmup_steps = 0.1\n[stage.training.unfreeze]\n'*x*' = 2\n",
    f'{CPT}[stage.peft]\nr = 8\ninit_lora_weights = "pissa_niter_4"\n',
    f'{CPT}[stage.peft]\nmethod = "qlora"\ninit_lora_weights = true\nbnb_4bit_quant_type = "fp4"\n',
    f"{PREFERENCE}[stage.training]\nbeta = 0.2\n",
    f'{PREFERENCE}method = "simpo"\n[stage.training]\nsimpo_gamma = 0.2\n',
    f'{TOKENIZER}[stage.tokenizer]\nstrategy = "extend"\ntokens = "knee"\n[stage.embeddings]\ninit = "mean"\n',
    f'{TRANSLATE}[stage.translator]\nname = "ctranslate2"\nbeam_size = 2\n',
    '[[stage]]\nid = "e"\nkind = "export"\nformats = ["safetensors"]\n',
]


@pytest.mark.parametrize("stages", RIGHT)
def test_what_a_recipe_may_say_is_let_through(schema: dict[str, Any], stages: str) -> None:
    assert errors(schema, tomllib.loads(HEAD + stages)) == []


def test_a_recipe_that_extends_another_may_leave_out_what_is_required(schema: dict[str, Any]) -> None:
    change = 'extends = "x"\n[[stage]]\nid = "a"\n[stage.training]\nlearning_rate = 1e-5\n'
    assert errors(schema, tomllib.loads(change)) == []
    assert (
        errors(schema, tomllib.loads('extends = "x"\n[[stage]]\nid = "a"\nkind = "cpt"\nweight_by = "tokens"\n')) == []
    )
    assert errors(schema, tomllib.loads(change.replace("stage.training", "stage.trainin")))


# --- what is wrong ---

WRONG = {
    f"langage = 'it'\n{HEAD}{CPT}": ": Additional properties are not allowed ('langage' was unexpected)",
    HEAD.replace('language = "it"\n', "") + CPT: ": 'language' is a required property",
    HEAD + CPT.replace('kind = "cpt"', 'kind = "ctp"'): "stage.0.kind: 'ctp' is not one of",
    HEAD + CPT.replace('kind = "cpt"\n', ""): "stage.0: 'kind' is a required property",
    HEAD + CPT.replace('id = "a"\n', ""): "stage.0: 'id' is a required property",
    HEAD + CPT.replace('corpus = ["clean-mc4-it"]\n', ""): "stage.0: 'corpus' is a required property",
    f"{HEAD}{CPT}corpora = []\n": "stage.0: Additional properties are not allowed ('corpora' was unexpected)",
    f"{HEAD}{CPT}weight_by = 'lines'\n": "stage.0.weight_by: 'lines' is not one of",
    f"{HEAD}{CPT}[stage.training]\nlerning_rate = 1e-4\n": "stage.0.training: Additional properties are not allowed",
    f"{HEAD}{CPT}[stage.training]\nlearning_rate = '1e-4'\n": "stage.0.training.learning_rate: '1e-4' is not of type",
    f"{HEAD}{CPT}[stage.training]\noutput_dir = 'x'\n": "stage.0.training: Additional properties are not allowed",
    f"{HEAD}{CPT}[stage.training]\nbeta = 0.1\n": "stage.0.training: Additional properties are not allowed",
    f"{HEAD}{CPT}[stage.training]\nkernels = 'fast'\n": "stage.0.training.kernels: 'fast' is not one of",
    f"{HEAD}{CPT}[stage.training]\nsave_strategy = 'often'\n": "stage.0.training.save_strategy: 'often' is not",
    f"{HEAD}{CPT}[stage.training.learning_rates]\n'*x*' = 'high'\n": "stage.0.training.learning_rates.*x*: 'high' is not",
    f"{HEAD}{CPT}[stage.peft]\nload_in_8bit = true\n": "stage.0.peft: Additional properties are not allowed",
    f"{HEAD}{CPT}[stage.peft]\nmethod = 'lora2'\n": "stage.0.peft.method: 'lora2' is not one of",
    f"{HEAD}{CPT}[stage.peft]\nr = 8.5\n": "stage.0.peft.r: 8.5 is not of type 'integer'",
    f"{HEAD}{CPT}[stage.peft]\nmethod = 'qlora'\nbnb_4bit_quant_type = 'nf3'\n": "stage.0.peft.bnb_4bit_quant_type: 'nf3'",
    HEAD
    + CPT.replace('["clean-mc4-it"]', "[{ nam = 'x' }]"): "stage.0.corpus.0: Additional properties are not allowed",
    HEAD + CPT.replace('["clean-mc4-it"]', "[{ path = 'x', held_out = 2 }]"): "stage.0.corpus.0.held_out: 2",
    HEAD + CPT.replace('["clean-mc4-it"]', "[{ path = 'x', filters = [{ name = 'min-length', word = 3 }] }]"): (
        "stage.0.corpus.0.filters.0: Additional properties are not allowed ('word' was unexpected)"
    ),
    f"{HEAD}{CPT}replay = 2\n": "stage.0.replay: 2 is greater than or equal to the maximum of 1",
    f"{HEAD}{PREFERENCE}[stage.training]\nsimpo_gamma = 0.2\n": "stage.0.training: Additional properties are not allowed",
    f"{HEAD}{PREFERENCE}method = 'ppo'\n": "stage.0.method: 'ppo' is not one of",
    f"{HEAD}{TOKENIZER}[stage.tokenizer]\nstrategy = 'keep'\ntokens = 3\n": "stage.0.tokenizer: Additional properties",
    f"{HEAD}{TOKENIZER}[stage.embeddings]\ninit = 'average'\n": "stage.0.embeddings.init: 'average' is not one of",
    f"{HEAD}{TRANSLATE}[stage.translator]\nname = 'memory'\nmodel = 'x'\n": "stage.0.translator: Additional properties",
    f"{HEAD}{CPT}[evaluation]\nsuites = 'english'\n": "evaluation.suites: 'english' is not of type 'array'",
    f"{HEAD}{CPT}[compute]\nbackend = 'dp'\n": "compute.backend: 'dp' is not one of",
    f"{HEAD}[[stage]]\nid = 'e'\nkind = 'export'\nformats = ['gguf']\n": "stage.0.formats.0: 'gguf' is not one of",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text.splitlines()[-1])
def test_slips_are_found_where_they_stand(schema: dict[str, Any], text: str) -> None:
    (found,) = errors(schema, tomllib.loads(text))
    assert found.startswith(WRONG[text])


VALUES: list[Any] = [True, 3, 2.5, "text", "steps", "none", "pissa_niter_4", ["a"], [1], {}, {"a": 1}]


@pytest.mark.parametrize(
    "reference",
    [UPSTREAM, *sorted({m.upstream for m in METHODS.values()}), "peft.tuners.lora.config:LoraConfig"],
    ids=lambda r: r.split(":")[1],
)
def test_fields_of_the_libraries_take_what_the_check_of_recipes_lets_through(reference: str) -> None:
    for field in upstream.fields_of(reference).values():
        valid = Draft7Validator(_of_field(field)).is_valid
        assert [v for v in VALUES if valid(v)] == [v for v in VALUES if not field.problem(v)], field


# --- plugins ---


class GuessOptions(StageOptions):
    """Options of a stage kind of a plugin's."""

    times: int = Field(3, ge=1, description="How often it guesses.")


def test_options_of_a_plugins_own_stage_kind_are_described() -> None:
    known = Registry()
    kind = StageKind(
        name="guess",
        description="Guesses.",
        version=1,
        options=GuessOptions,
        makes="results",
        plan=lambda stage, planner: None,
        run=lambda context: None,  # type: ignore[arg-type,return-value]
    )
    known.stages.add(kind, known.plugins[0])
    schema = recipe_schema(known)
    stage = '[[stage]]\nid = "g"\nkind = "guess"\ntimes = 4\n'
    assert errors(schema, tomllib.loads(HEAD + stage)) == []
    assert errors(schema, tomllib.loads(HEAD + stage.replace("4", "0"))) == [
        "stage.0.times: 0 is less than the minimum of 1"
    ]
    assert schema["definitions"]["stage-guess"]["properties"]["times"]["description"] == "How often it guesses."
    assert "guess" not in json.dumps(recipe_schema())


def test_names_that_plugins_offer_are_proposed(schema: dict[str, Any]) -> None:
    proposed = schema["properties"]["language"]["anyOf"][0]["enum"]
    assert proposed == list(registry().languages)
    corpus = schema["definitions"]["CorpusRef"]
    assert (
        "clean-mc4-it" in corpus["anyOf"][0]["enum"]
        and "clean-mc4-it" in corpus["properties"]["name"]["anyOf"][0]["enum"]
    )
    suites = schema["definitions"]["EvaluationTable"]["properties"]["suites"]["items"]["anyOf"][0]["enum"]
    assert {"lm-eval", *registry().languages["it"].suites} <= set(suites)
    assert "clean-mc4-it" not in json.dumps(recipe_schema(Registry(only=())))
