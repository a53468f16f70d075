"""What a recipe may say, and how a person is told what is wrong with one."""

from __future__ import annotations

import json
import tomllib

import pytest
import tomli_w
from conftest import HEAD, LLAMANTINO, STAGE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langadapt.errors import RecipeError, UserError
from langadapt.recipe import Recipe


@pytest.fixture
def load(write):
    def load_text(text: str, *overrides: str) -> Recipe:
        return Recipe.load(write("recipe.toml", text), overrides)

    return load_text


@pytest.fixture
def wrong(load):
    """What is wrong with a recipe: (line, key, message with its hint) of each problem."""

    def problems(text: str, *overrides: str) -> list[tuple[int | str, str, str]]:
        with pytest.raises(RecipeError) as error:
            load(text, *overrides)
        found = []
        for problem in error.value.problems:
            assert str(problem) in str(error.value)
            file, _, line = problem.where.rpartition(":")
            place = int(line) if file.endswith("recipe.toml") else problem.where
            found.append(
                (place, problem.key, f"{problem.message}; {problem.hint}" if problem.hint else problem.message)
            )
        return found

    return problems


def stage(recipe: Recipe, id: str):
    return next(s for s in recipe.stages if s.id == id)


def parents(recipe: Recipe) -> dict[str, str]:
    return {s.id: s.parent for s in recipe.stages if not s.automatic}


# --- what is wrong, and where ---

EVERYTHING = """\
schema = 1
name = "trial"
language = "xx"
base_model = "someone/model"
requires = ["langadapt-basque>=1", "langadapt-italian>=99", "not a requirement!"]
sed = 42

[data]
"dolly-itt" = "somewhere"

[evaluation]
suites = ["evalita-2032"]
max_item = 3

[rehearsal]
cpt_steps = "many"

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{ name = "clean-mc4-it", config = "mediun" }, { name = "dolly-it", layuot = "dolly" }]
promt = "x"
[stage.peft]                   # "as for the adaptation" [C]
method = "qlora"
lora_alpa = 16
[stage.training]
learning_rate = "1e-4"
warmup_ratio = 0.03
max_steps = 10.5
output_dir = "x"
optim = "adamw_troch"
max_length = 0

[[stage]]
id = "chat"
kind = "sft"
corpus = [{ name = "dolly-ti", filters = ["no-such-filter"] }, { path = "x.jsonl", layout = "doly" }, {}]
prompt = "alpaca-ti"
[stage.peft]
method = "qloar"

[[stage]]
id = "measure"
kind = "evaluate"
suites = ["english", "evalita"]

[[stage]]
id = "odd"
kind = "sfft"
"""


def test_a_language_that_nobody_offers_is_told_with_its_plugin_and_then_the_nearest(wrong):
    said = {key: said for _, key, said in wrong(EVERYTHING.replace('"xx"', '"itt"'))}["language"]
    assert said == 'no plugin offers the language "itt"; pip install its plugin; did you mean "it"?'


def test_everything_that_is_wrong_is_said_at_once_with_its_line_and_the_nearest_name(wrong):
    found = {(line, key): said for line, key, said in wrong(EVERYTHING)}
    expected = {
        (3, "language"): 'no plugin offers the language "xx"; pip install its plugin; known: it',
        (5, "requires"): "",
        (6, "sed"): 'unknown key; did you mean "seed"?',
        (9, "data.dolly-itt"): 'no plugin offers the corpus "dolly-itt"; did you mean "dolly-it"?',
        (
            12,
            "evaluation.suites",
        ): 'no plugin offers the suite or evaluation "evalita-2032"; did you mean "evalita-2023"?',
        (13, "evaluation.max_item"): 'unknown key; did you mean "max_items"?',
        (16, "rehearsal.cpt_steps"): '"many" is not of type int',
        (21, "adapt.corpus.0.config"): 'clean-mc4-it has no config "mediun"; did you mean "medium"?',
        (21, "adapt.corpus.1.layuot"): 'unknown key; did you mean "layout"?',
        (22, "adapt.promt"): "unknown key",
        (25, "adapt.peft.lora_alpa"): 'unknown key; it is no field of LoraConfig; did you mean "lora_alpha"?',
        (27, "adapt.training.learning_rate"): '"1e-4" is not of type float',
        (28, "adapt.training.warmup_ratio"): "unknown key; it is no field of TrainingArguments; did you mean",
        (29, "adapt.training.max_steps"): "10.5 is not of type int",
        (30, "adapt.training.output_dir"): "langadapt sets this itself; checkpoints are kept in the run's folder",
        (31, "adapt.training.optim"): '"adamw_troch" is not one of its values; did you mean "adamw_torch"?',
        (32, "adapt.training.max_length"): "0 is not at least 1",
        (37, "chat.corpus.0"): 'no plugin offers the corpus "dolly-ti"; did you mean "dolly-it"?',
        (37, "chat.corpus.0.filters"): 'no plugin offers the filter "no-such-filter"; known: ',
        (37, "chat.corpus.1.layout"): 'there is no layout "doly"; did you mean "dolly"?',
        (37, "chat.corpus.2"): "a corpus needs a name, a path, or the stage that makes it",
        (38, "chat.prompt"): 'no plugin offers the prompt format "alpaca-ti"; did you mean "alpaca-it"?',
        (40, "chat.peft.method"): 'no plugin offers the PEFT strategy "qloar"; did you mean "qlora"?',
        (45, "measure.suites"): 'no plugin offers the suite or evaluation "evalita"; did you mean',
        (49, "odd.kind"): 'no plugin offers the stage kind "sfft"; did you mean "sft"?',
    }
    assert set(found) == set(expected)
    assert {place: said for place, said in found.items() if not said.startswith(expected[place])} == {}


def test_requirements_say_what_to_install(wrong):
    said = [message for line, key, message in wrong(EVERYTHING) if key == "requires"]
    assert said == [
        "langadapt-basque is not installed; run: pip install 'langadapt-basque>=1'",
        "langadapt-italian 0.1.0 is installed; run: pip install 'langadapt-italian>=99'",
        '"not a requirement!" is not a requirement; write it as "langadapt-italian>=0.1"',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STAGE, {"schema", "name", "language", "base_model"}),
        (HEAD, {"stage"}),
        (HEAD + '[[stage]]\nid = "a"\nkind = "cpt"\n', {"a.corpus"}),
        (HEAD + '[[stage]]\nkind = "cpt"\ncorpus = ["dolly-it"]\n', {"stage 1.id"}),
    ],
)
def test_keys_that_are_missing_are_named(wrong, text, expected):
    found = wrong(text)
    assert {key for _, key, _ in found} == expected
    assert {said for _, _, said in found} == {"this key is required; add it"}


def test_a_missing_key_of_the_recipe_does_not_hide_the_others(wrong):
    text = HEAD.replace('name = "trial"\n', "").replace('"it"', '"xx"') + STAGE + "[stage.training]\nlerning_rate = 1\n"
    assert [key for _, key, _ in wrong(text)] == ["name", "language", "adapt.training.lerning_rate"]


def test_a_stage_without_a_kind_is_told_the_kinds(wrong):
    ((line, key, said),) = wrong(HEAD + '[[stage]]\nid = "a"\n')
    assert (line, key) == (5, "a") and 'kind = "cpt"' in said and "evaluate" in said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("weight = 0", "greater than 0"),
        ("weight = -1.0", "greater than 0"),
        ("weight = true", "not of type float"),
        ('weight = "1"', "not of type float"),
        ("weight = nan", ""),
        ("held_out = 1", "less than 1"),
        ("held_out = -0.1", "greater than or equal to 0"),
        ("max_documents = 1.5", "not of type int"),
        ("max_documents = -1", "greater than or equal to 0"),
        ("columns = { text = 3 }", "not of type string"),
        ('filters = "a"', "not of type list"),
    ],
)
def test_a_corpus_value_out_of_its_bounds_is_refused(wrong, value, said):
    text = HEAD + f'[[stage]]\nid = "a"\nkind = "cpt"\ncorpus = [{{ name = "dolly-it", {value} }}]\n'
    ((line, key, message),) = wrong(text)
    assert line == 8 and key.startswith(f"a.corpus.0.{value.split(' ')[0]}") and said in message


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("schema = 1\nname = \n", 2, "not valid TOML"),
        ("schema = 1\nname = x\n", 2, "not valid TOML"),
        ("schema = 1\n\n\nschema = 1\n", 4, "not valid TOML"),
        ("a = [1,\n2\n3]\n", 3, "not valid TOML"),
    ],
)
def test_bad_toml_is_named_with_its_line(wrong, text, line, said):
    ((place, key, message),) = wrong(text)
    assert (place, key) == (line, "") and message.startswith(said)


def test_toml_that_stops_in_the_middle_is_named(write):
    path = write("recipe.toml", 'name = """')
    with pytest.raises(RecipeError) as error:
        Recipe.load(path)
    assert str(error.value).startswith(f"{path}: not valid TOML")


def test_a_file_that_is_not_utf8_is_named(write):
    path = write("recipe.toml", HEAD.encode() + "# perché\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"recipe\.toml: not UTF-8 text \(byte \d+\); save it as UTF-8"):
        Recipe.load(path)


def test_a_bom_and_windows_line_ends_are_read(write, load):
    expected = load(HEAD + STAGE)
    written = write("other.toml", "\ufeff" + (HEAD + STAGE).replace("\n", "\r\n"))
    assert Recipe.load(written).filled() == expected.filled()


def test_another_schema_version_is_refused(wrong):
    ((line, key, said),) = wrong(HEAD.replace("schema = 1", "schema = 2") + STAGE)
    assert (line, key) == (1, "schema") and said == "format 2 is not known here; this version reads 1"


@pytest.mark.parametrize("name", ["a/b", "", "../up", ".hidden", "a b"])
def test_a_name_that_cannot_be_a_folder_is_refused(wrong, name):
    assert [(line, key) for line, key, _ in wrong(HEAD.replace('"trial"', json.dumps(name)) + STAGE)] == [(2, "name")]
    assert [line for line, *_ in wrong(HEAD + STAGE.replace('"adapt"', json.dumps(name)))] == [7]


def test_a_number_may_be_whole_where_a_float_is_expected(load):
    recipe = load(
        HEAD + STAGE + "[stage.training]\nlearning_rate = 1\nwarmup_steps = 100\n[stage.peft]\nlora_dropout = 0\n"
    )
    assert stage(recipe, "adapt").options.training["learning_rate"] == 1


def test_a_recipe_that_is_not_there_is_named_with_those_beside_it(write, tmp_path):
    write("recipe.toml", HEAD + STAGE)
    with pytest.raises(UserError, match=r'there is no recipe .*recipes\.toml"; did you mean ".*recipe\.toml"'):
        Recipe.load(tmp_path / "recipes.toml")
    with pytest.raises(UserError, match="is a folder"):
        Recipe.load(tmp_path)
    with pytest.raises(UserError, match='did you mean "italian/llamantino"'):
        Recipe.load("italian/lamantino")


# --- the tree of stages ---

TREE = HEAD + (
    '[[stage]]\nid = "a"\nkind = "cpt"\ncorpus = ["dolly-it"]\n{a}\n'
    '[[stage]]\nid = "m"\nkind = "merge"\n{m}\n'
    '[[stage]]\nid = "e"\nkind = "evaluate"\n{e}\n'
    '[[stage]]\nid = "s"\nkind = "sft"\ncorpus = ["dolly-it"]\n{s}\n'
)


def tree(**from_: str) -> str:
    return TREE.format(**{id: f'from = "{from_[id]}"' if id in from_ else "" for id in "ames"})


def test_a_stage_starts_from_the_nearest_model_above_it(load):
    assert parents(load(tree())) == {"a": "base", "m": "a", "e": "m", "s": "m"}


def test_from_makes_a_tree(load):
    assert parents(load(tree(m="a", e="base", s="a"))) == {"a": "base", "m": "a", "e": "base", "s": "a"}


def test_a_stage_may_start_from_one_that_is_written_below_it(load):
    recipe = load(tree(a="s", s="base"))
    order = [s.id for s in recipe.stages]
    assert order.index("s") < order.index("a") < order.index("m") < order.index("e")


def test_a_circle_is_shown(wrong):
    ((line, key, said),) = wrong(tree(a="s", s="m"))
    assert (
        key == "a.from"
        and line == 9
        and said == "goes in a circle: a → s → m → a; start one of them from another stage"
    )


def test_a_stage_cannot_start_from_itself(wrong):
    ((_, key, said),) = wrong(tree(a="a"))
    assert key == "a.from" and said == "goes in a circle: a → a; start one of them from another stage"


def test_every_from_that_names_nothing_is_told(wrong):
    found = wrong(tree(a="bse", e="aa", s="a"))
    assert [(key, said.split(";")[0]) for _, key, said in found] == [
        ("a.from", 'there is no stage "bse"'),
        ("e.from", 'there is no stage "aa"'),
    ]
    assert 'did you mean "base"?' in found[0][2] and [line for line, *_ in found] == [9, 17]


def test_nothing_starts_from_a_stage_that_only_measures(wrong):
    ((line, key, said),) = wrong(tree(s="e"))
    assert (line, key) == (22, "s.from") and 'stage "e" (evaluate) makes no model' in said


def test_ids_differ_and_base_is_the_base_model(wrong):
    assert [(k, s) for _, k, s in wrong(HEAD + STAGE + STAGE)] == [
        ("adapt", "this id is taken; ids of stages must differ")
    ]
    assert [line for line, *_ in wrong(HEAD + STAGE + STAGE)] == [12]
    assert [(k, s) for _, k, s in wrong(HEAD + STAGE.replace('"adapt"', '"base"'))] == [
        ("base", "this id is taken; ids of stages must differ")
    ]


def test_the_base_and_every_trained_model_are_measured_unless_told_otherwise(load):
    ids = [(s.id, s.parent, s.automatic) for s in load(tree()).stages if s.kind == "evaluate"]
    assert ids == [
        ("evaluate-base", "base", True),
        ("evaluate-a", "a", True),
        ("e", "m", False),
        ("evaluate-s", "s", True),
    ]
    without = load(tree().replace("[[stage]]", "[evaluation]\nautomatic = false\n[[stage]]", 1))
    assert [s.id for s in without.stages] == ["a", "m", "e", "s"]


def test_an_evaluation_that_is_written_out_takes_the_place_of_the_automatic_one(load):
    own = '[[stage]]\nid = "evaluate-base"\nkind = "evaluate"\nfrom = "base"\nsuites = []\n'
    recipe = load(HEAD + STAGE + own)
    assert [s.id for s in recipe.stages] == ["evaluate-base", "adapt", "evaluate-adapt"] or [
        s.id for s in recipe.stages
    ] == ["adapt", "evaluate-adapt", "evaluate-base"]
    assert stage(recipe, "evaluate-base").options.suites == []


# --- corpora ---


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ('"dolly-it"', [("dolly-it", "")]),
        ('["dolly-it", "texts.jsonl"]', [("dolly-it", ""), ("", "texts.jsonl")]),
        ('"data/*"', [("", "data/*")]),
        ('"oscar-filtered"', [("oscar-filtered", "")]),
        ('{ name = "dolly-it", path = "mine" }', [("dolly-it", "mine")]),
    ],
)
def test_a_corpus_is_a_name_a_path_or_a_table(load, corpus, expected):
    recipe = load(HEAD + STAGE.replace('["dolly-it"]', corpus))
    assert [(ref.name, ref.path) for ref in stage(recipe, "adapt").options.corpus] == expected


def test_a_folder_that_exists_is_a_path(load, tmp_path):
    (tmp_path / "texts").mkdir()
    recipe = load(HEAD + STAGE.replace('"dolly-it"', f'"{tmp_path / "texts"}"'))
    assert stage(recipe, "adapt").options.corpus[0].path == str(tmp_path / "texts")


def test_a_stage_needs_at_least_one_corpus(wrong):
    ((line, key, said),) = wrong(HEAD + STAGE.replace('["dolly-it"]', "[]"))
    assert (line, key) == (9, "adapt.corpus") and "at least 1" in said


# --- strategies ---


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", {"method": "lora", "r": 16, "target_modules": "all-linear"}),
        ('method = "lora"\nr = 64\nuse_dora = true', {"method": "lora", "r": 64, "use_dora": True}),
        ("use_rslora = true", {"method": "lora", "use_rslora": True}),
        ('target_modules = ["q_proj", "v_proj"]', {"target_modules": ["q_proj", "v_proj"]}),
        ('modules_to_save = ["lm_head"]\nlayers_to_transform = [0]', {"modules_to_save": ["lm_head"]}),
        (
            'method = "qlora"\nbnb_4bit_quant_type = "fp4"\nbnb_4bit_use_double_quant = true',
            {"method": "qlora", "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True, "lora_dropout": 0.0},
        ),
        ('method = "full"', {"method": "full"}),
    ],
)
def test_strategies_take_pefts_own_options_and_fill_in_the_rest(load, table, expected):
    peft = stage(load(HEAD + STAGE + f"[stage.peft]\n{table}\n"), "adapt").options.peft
    assert expected.items() <= peft.items()
    if expected.get("method") == "full":
        assert peft == expected


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [
        ('method = "full"\nr = 8', "r", "unknown key; this method takes no options"),
        (
            'method = "lora"\nbnb_4bit_quant_type = "nf4"',
            "bnb_4bit_quant_type",
            "unknown key; it is no field of LoraConfig",
        ),
        ('method = "qlora"\nbnb_4bit_use_double_quant = 1', "bnb_4bit_use_double_quant", "is not of type bool"),
        ('method = "qlora"\nbnb_4bit_quant_type = 4', "bnb_4bit_quant_type", "is not of type str"),
        ('r = "64"', "r", '"64" is not of type int'),
        ("r = 64.0", "r", "64.0 is not of type int"),
        ("target_modules = 3", "target_modules", "3 is not of type"),
        ('bias = "yes"', "bias", '"yes" is not one of its values'),
        ('task_type = "CAUSAL_LM"', "task_type", "langadapt sets this itself"),
        ("method = 3", "method", 'no plugin offers the PEFT strategy "3"'),
        ('lora_dropout = "0.1"', "lora_dropout", "is not of type float"),
        ("use_rslora = 1", "use_rslora", "is not of type bool"),
    ],
)
def test_options_that_a_strategy_does_not_have_are_refused(wrong, table, key, said):
    ((line, full_key, message),) = wrong(HEAD + STAGE + f"[stage.peft]\n{table}\n")
    assert full_key == f"adapt.peft.{key}" and said in message
    assert line == 11 + table.split("\n").index(next(row for row in table.split("\n") if row.startswith(key)))


# --- overrides ---


@pytest.mark.parametrize(
    ("assignment", "read", "expected"),
    [
        ("adapt.training.learning_rate=1e-4", lambda r: stage(r, "adapt").options.training["learning_rate"], 1e-4),
        ("adapt.training.max_steps = 7", lambda r: stage(r, "adapt").options.training["max_steps"], 7),
        ("seed=7", lambda r: r.table.seed, 7),
        ("evaluation.automatic=false", lambda r: [s.id for s in r.stages], ["adapt"]),
        ('evaluation.suites=["english"]', lambda r: r.table.evaluation.suites, ["english"]),
        ("base_model=/models/llama 2", lambda r: r.table.base_model, "/models/llama 2"),
        ("base_model=models/x.gguf", lambda r: r.table.base_model, "models/x.gguf"),
        ("base_model='quoted/name'", lambda r: r.table.base_model, "quoted/name"),
        ("description=a=b", lambda r: r.table.description, "a=b"),
        ("adapt.corpus=mine/*.jsonl", lambda r: [c.path for c in stage(r, "adapt").options.corpus], ["mine/*.jsonl"]),
        ('adapt.corpus=[{ name = "dolly-it", weight = 2 }]', lambda r: stage(r, "adapt").options.corpus[0].weight, 2),
        ("adapt.peft.method=full", lambda r: stage(r, "adapt").options.peft, {"method": "full"}),
        ("adapt.id=other", lambda r: stage(r, "other").kind, "cpt"),
        ('data."evalita-2023/nermud"=x', lambda r: r.table.data, {"evalita-2023/nermud": "x"}),
    ],
)
def test_an_override_puts_a_value_in_place(load, assignment, read, expected):
    recipe = load(HEAD + STAGE, assignment)
    assert read(recipe) == expected


def test_a_stage_whose_id_has_a_dot_is_overridden_by_its_quoted_id(load):
    recipe = load(HEAD + STAGE.replace('"adapt"', '"adapt.1"'), '"adapt.1".training.max_steps=3')
    assert stage(recipe, "adapt.1").options.training["max_steps"] == 3


def test_overrides_are_remembered_with_what_they_replaced(load):
    recipe = load(HEAD + STAGE + "[stage.training]\nmax_steps = 5\n", "adapt.training.max_steps=7", "seed=1")
    assert [(c.key, c.before, c.after, c.why) for c in recipe.changes] == [
        ("adapt.training.max_steps", 5, 7, "--set"),
        ("seed", None, 1, "--set"),
    ]


def test_later_overrides_win(load):
    assert load(HEAD + STAGE, "seed=1", "seed=2").table.seed == 2


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("adapt.training.learning_rate=fast", "adapt.training.learning_rate"),
        ("adapt.trainig.max_steps=1", "adapt.trainig"),
        ("adapt.corpus=dolly-ti", "adapt.corpus.0"),
        ("seed=-1", "seed"),
        ("language=xx", "language"),
        ("stage=3", "stage"),
        ("evaluation.suites=english", "evaluation.suites"),
    ],
)
def test_what_is_wrong_with_an_override_is_said_of_the_override(wrong, assignment, key):
    ((where, found, _),) = wrong(HEAD + STAGE, assignment)
    assert (where, found) == (f"--set {assignment}", key)


def test_a_problem_beside_an_override_keeps_its_line(wrong):
    found = wrong(HEAD + STAGE + "[stage.training]\nmax_stesp = 5\n", "adapt.training.max_steps=7")
    assert [(line, key) for line, key, _ in found] == [(11, "adapt.training.max_stesp")]


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("adpat.training.max_steps=1", '"adpat" is no stage and no key of the recipe; did you mean "adapt"?'),
        ("sed=1", 'is no stage and no key of the recipe; did you mean "seed"?'),
        ("adapt=1", "say which key of the stage"),
        ("seed", "write it as KEY=VALUE"),
        ("=1", "write it as KEY=VALUE"),
        ("a b=1", "write it as KEY=VALUE"),
        ("adapt.kind.x=1", '"kind" is not a table'),
        ("name.x.y=1", '"name" is not a table'),
    ],
)
def test_an_override_that_goes_nowhere_is_refused(load, assignment, said):
    with pytest.raises(UserError) as error:
        load(HEAD + STAGE, assignment)
    assert str(error.value).startswith(f"--set {assignment}: ") and said in str(error.value)


# --- filled recipes ---

RICH = f"""{HEAD}
description = "Con «virgolette», \\"quotes\\" and a line\\nbreak"
seed = 7
requires = ["langadapt-italian>=0.1"]
[data]
"evalita-2023" = "data/evalita"
[evaluation]
suites = ["english"]
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [
    {{ name = "clean-mc4-it", config = "tiny", weight = 0.9 }},
    {{ path = "x.csv", columns = {{ text = "body" }} }},
]
[stage.peft]
method = "qlora"
target_modules = ["q_proj", "v_proj"]
rank_pattern = {{ q_proj = 4 }}
[stage.training]
lr_scheduler_kwargs = {{ num_cycles = 0.5 }}
[[stage]]
id = "chat"
kind = "sft"
from = "adapt"
corpus = "dolly-it"
prompt = "alpaca-it"
system_prompt = "Sii breve."
[[stage]]
id = "plain"
kind = "merge"
[[stage]]
id = "look"
kind = "evaluate"
from = "base"
suites = []
"""


@pytest.mark.parametrize(
    "text",
    [RICH, HEAD + STAGE, HEAD + "[evaluation]\nautomatic = false\n" + STAGE, LLAMANTINO.read_text()],
    ids=["rich", "short", "unmeasured", "llamantino"],
)
@pytest.mark.parametrize("rehearsal", [False, True])
def test_a_filled_recipe_loads_again_to_the_same(load, write, text, rehearsal):
    recipe = load(text)
    recipe = recipe.rehearse() if rehearsal else recipe
    again = Recipe.load(write("filled.toml", recipe.to_toml()))
    assert again.filled() == recipe.filled()
    assert [(s.id, s.kind, s.parent, s.options) for s in again.stages] == [
        (s.id, s.kind, s.parent, s.options.model_copy(update={"from_": s.parent})) for s in recipe.stages
    ]


def test_a_filled_recipe_shows_every_default(load):
    filled = tomllib.loads(load(HEAD + STAGE).to_toml())
    assert filled["seed"] == 42 and filled["rehearsal"]["sft_steps"] > 0
    adapt = next(s for s in filled["stage"] if s["id"] == "adapt")
    assert adapt["from"] == "base"
    assert adapt["corpus"][0]["held_out"] == 0.05 and adapt["corpus"][0]["weight"] == 1.0
    assert adapt["peft"]["r"] == 16 and adapt["training"]["per_device_train_batch_size"] == 4
    assert [s["id"] for s in filled["stage"]] == ["evaluate-base", "adapt", "evaluate-adapt"]


# --- rehearsal ---


def flat(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict) and value:
        return {k: v for name, inner in value.items() for k, v in flat(inner, f"{prefix}.{name}".strip(".")).items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        named = {str(v.get("id", i)): v for i, v in enumerate(value)}
        return flat(named, "" if prefix == "stage" else prefix)
    return {prefix: value}


@pytest.mark.parametrize("text", [RICH, LLAMANTINO.read_text()], ids=["rich", "llamantino"])
def test_a_rehearsal_records_every_change_with_what_was_there_before(load, text):
    recipe = load(text)
    small = recipe.rehearse()
    before, after = flat(recipe.filled()), flat(small.filled())
    differing = {key for key in {*before, *after} - {"rehearsed"} if before.get(key) != after.get(key)}
    assert {c.key: (c.before, c.after) for c in small.changes} == {k: (before.get(k), after.get(k)) for k in differing}
    assert {c.why for c in small.changes} == {"rehearsal"}
    assert small.rehearsal and small.original is recipe and "rehearsal" in str(small.folder)


def test_a_rehearsal_keeps_the_stages_their_kinds_methods_and_prompts():
    recipe = Recipe.load(LLAMANTINO)
    small = recipe.rehearse()
    assert [(s.id, s.kind, s.parent) for s in small.stages] == [(s.id, s.kind, s.parent) for s in recipe.stages]
    for large, little in zip(recipe.stages, small.stages, strict=True):
        if hasattr(little.options, "peft"):  # dropout is for many epochs, and the list of changes says that it is off
            assert little.options.peft == large.options.peft | {
                k: 0.0 for k in large.options.peft if k == "lora_dropout"
            }
        assert getattr(little.options, "prompt", None) == getattr(large.options, "prompt", None)
        if hasattr(little.options, "training"):
            kept = ("lr_scheduler_type", "optim", "weight_decay", "max_grad_norm", "warmup_steps")
            assert [little.options.training.get(k) for k in kept] == [large.options.training.get(k) for k in kept]
    assert small.table.base_model == recipe.table.rehearsal.base_model != recipe.table.base_model


def test_a_rehearsal_is_never_larger_than_the_recipe(load):
    text = (
        f"{HEAD}[evaluation]\nmax_documents = 2\nmax_items = 1\n{STAGE}"
        "[stage.training]\nmax_steps = 4\nmax_length = 32\nper_device_train_batch_size = 1\n"
    )
    small = load(text).rehearse()
    training = stage(small, "adapt").options.training
    assert (training["max_steps"], training["max_length"], training["per_device_train_batch_size"]) == (4, 32, 1)
    assert (small.table.evaluation.max_documents, small.table.evaluation.max_items) == (2, 1)


def test_a_rehearsal_holds_out_more_of_its_small_samples_and_never_less(load):
    text = HEAD + STAGE.replace(
        '["dolly-it"]', '[{ name = "dolly-it", held_out = 0.01 }, { name = "replay-en", held_out = 0.4 }]'
    )
    assert [ref.held_out for ref in stage(load(text).rehearse(), "adapt").options.corpus] == [0.1, 0.4]


def test_a_recipe_sizes_its_own_rehearsal(load):
    recipe = load(HEAD + "[rehearsal]\ncpt_steps = 3\nbase_model = 'my/small'\nlearning_rate_scale = 1.0\n" + STAGE)
    small = recipe.rehearse()
    assert stage(small, "adapt").options.training["max_steps"] == 3
    assert small.table.base_model == "my/small"
    assert "adapt.training.learning_rate" not in {c.key for c in small.changes}


values = st.recursive(
    st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.dates()
    | st.text(max_size=4)
    | st.sampled_from(["cpt", "base"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "text", "id", "x"]), inner),
    max_leaves=4,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_value_anywhere_makes_a_recipe_fail_without_words(tmp_path, data):
    """A recipe with any value in any place is good, or every problem is said with its line."""
    table = tomllib.loads(RICH)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(sorted(_paths(table), key=str)))
        around = table
        for part in path[:-1]:
            around = around[part]
        around[path[-1]] = data.draw(values)
    file = tmp_path / "recipe.toml"
    file.write_text(tomli_w.dumps(table), encoding="utf-8")
    try:
        recipe = Recipe.load(file)
    except RecipeError as error:
        assert error.problems
        assert all(p.message and p.where.removeprefix(f"{file}:").isdigit() for p in error.problems)
    else:
        recipe.rehearse()
        file.write_text(recipe.to_toml(), encoding="utf-8")
        assert Recipe.load(file).to_toml() == recipe.to_toml()


def _paths(value: object, path: tuple = ()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


def test_tomli_writes_what_tomllib_reads(load):
    """The filled recipe goes through two libraries; odd text must survive both."""
    odd = 'a "b" \\ \t è 🌊 \u2028 = [x]'
    recipe = load(HEAD + tomli_w.dumps({"description": odd}) + STAGE)
    assert tomllib.loads(recipe.to_toml())["description"] == odd


def test_a_quantisation_that_does_not_exist_is_refused_when_the_recipe_is_loaded():
    with pytest.raises(RecipeError, match=r"adapt\.peft\.bnb_4bit_quant_type: .nf5. is not one of its values"):
        Recipe.load(LLAMANTINO, ["adapt.peft.bnb_4bit_quant_type=nf5"])


def test_a_warm_up_in_steps_becomes_a_share_when_a_rehearsal_has_fewer_steps():
    recipe = Recipe.load(LLAMANTINO, ["adapt.training.warmup_steps=750"]).rehearse()
    assert stage(recipe, "adapt").options.training["warmup_steps"] == 0.03


def test_a_rehearsals_own_recipe_is_the_same_rehearsal_again(tmp_path):
    recipe = Recipe.load(LLAMANTINO).rehearse()
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    again = Recipe.load(tmp_path / "recipe.toml")
    assert again.rehearsal and again.rehearse().filled() == again.filled() == recipe.filled()


EVERY_7 = 'eval_strategy = "steps"\neval_steps = 7\n'


@pytest.mark.parametrize(
    ("training", "key", "message"),
    [
        ("early_stopping_patience = 2", "early_stopping_patience", "nothing is measured while the model learns"),
        ("load_best_model_at_end = true", "load_best_model_at_end", "nothing is measured while the model learns"),
        ('eval_strategy = "steps"', "eval_steps", 'eval_strategy = "steps" needs it'),
        (EVERY_7 + "early_stopping_patience = 1", "early_stopping_patience", "would be the last"),
        (EVERY_7 + "load_best_model_at_end = true", "save_steps", "no multiple of eval_steps = 7"),
    ],
)  # fmt: skip
def test_measuring_while_training_is_asked_for_as_a_whole(write, training, key, message):
    path = write("recipe.toml", HEAD + STAGE + f"[stage.training]\n{training}\n")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert [(p.key, message in p.message) for p in caught.value.problems] == [(f"adapt.training.{key}", True)]
