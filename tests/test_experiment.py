"""The words of an experiment: what its variants are, what is refused, and what a sweep of it would do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from langadapt import Experiment, Recipe, RecipeError, UserError
from langadapt.peft.lora import DEFAULTS
from langadapt.recipe_text import read

RECIPE = """
schema = 1
name = "trial"
language = "it"
base_model = "{model}"
seed = 7
[evaluation]
suites = []
[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{{ path = "{text}", held_out = 0.2 }}]
[stage.peft]
method = "qlora"
r = 4
[stage.training]
max_steps = 3
[[stage]]
id = "release"
kind = "merge"
"""
HEAD = 'schema = 1\nname = "ranks"\nquestion = "Does the rank matter?"\nrecipe = "recipe.toml"\n'

Make = Callable[[str], Path]


@pytest.fixture
def make(write: Callable[..., Path], model_folder: Path) -> Make:
    """Writes an experiment beside a recipe that can be planned."""
    text = write("text.jsonl", "".join(json.dumps({"text": f"Riga numero {n} di un testo."}) + "\n" for n in range(9)))
    write("recipe.toml", RECIPE.format(model=model_folder, text=text))
    return lambda body: write("experiment.toml", HEAD + body)


def refused(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        Experiment.load(path, overrides)
    return [str(problem).removeprefix(str(path)) for problem in caught.value.problems]


def values(experiment: Experiment, option: str) -> dict[str, object]:
    """Of every trial's recipe, an option of the strategy."""
    return {t.name: t.recipe.stages[1].options.peft.get(option) for t in experiment.trials}  # type: ignore[attr-defined]


# --- what the variants are --------------------------------------------------------------------------------------------


def test_variants_change_what_they_say_and_nothing_else(make: Make) -> None:
    experiment = Experiment.load(
        make('[variant.plain]\n[variant.wide]\nadapt.peft.r = 32\nbase_model = "other/model"\n')
    )
    plain, wide = experiment.trials
    assert (plain.name, wide.name, experiment.baseline) == ("plain", "wide", "plain")
    assert plain.recipe.filled() == Recipe.load(make("").with_name("recipe.toml")).filled()
    assert values(experiment, "r") == {"plain": 4, "wide": 32} and wide.recipe.table.base_model == "other/model"
    assert values(experiment, "method") == {"plain": "qlora", "wide": "qlora"}
    change = wide.recipe.changes[0]
    assert (change.key, change.before, change.after, change.why) == ("adapt.peft.r", 4, 32, "variant.wide")


def test_a_key_in_quotes_takes_the_whole_value(make: Make) -> None:
    body = (
        '[variant.part]\nadapt.peft = { r = 8 }\n[variant.whole]\n"adapt.peft" = { method = "lora", lora_alpha = 3 }\n'
    )
    experiment = Experiment.load(make(body))
    assert values(experiment, "method") == {"part": "qlora", "whole": "lora"}
    assert values(experiment, "r") == {"part": 8, "whole": DEFAULTS["r"]} and DEFAULTS["r"] != 4


def test_a_grid_combines_all_its_values_with_all_variants_and_seeds(make: Make) -> None:
    grid = "[grid]\nadapt.peft.r = [8, 16]\nadapt.training.learning_rate = [1e-4, 0.5]\n"
    alone = Experiment.load(make(grid))
    assert alone.variants == [f"r={r},learning_rate={rate}" for r in (8, 16) for rate in ("0.0001", "0.5")]
    both = Experiment.load(
        make('seeds = [1, 2]\n[variant.a]\n[variant.b]\n"adapt.peft" = { method = "lora" }\n' + grid)
    )
    assert len(both.trials) == 2 * 4 * 2
    assert both.trials[-1].name == "b,r=16,learning_rate=0.5-seed2"
    assert both.trials[-1].recipe.table.seed == 2 and values(both, "r")["b,r=8,learning_rate=0.5-seed1"] == 8


def test_points_of_a_grid_have_names_that_folders_can_have(make: Make) -> None:
    experiment = Experiment.load(
        make('[grid]\nbase_model = ["a/b", "models/c d"]\nadapt.corpus = [["x/*.txt"], ["y.txt"]]\n')
    )
    assert experiment.variants == [f"base_model={m},corpus={n}" for m in ("a-b", "models-c-d") for n in (1, 2)]


def test_seeds_alone_are_an_experiment(make: Make) -> None:
    assert [t.name for t in Experiment.load(make("seeds = [3, 4]\n")).trials] == ["recipe-seed3", "recipe-seed4"]


def test_values_for_all_variants_give_way_to_their_own(make: Make) -> None:
    body = "[set]\nadapt.peft.r = 9\nadapt.training.max_steps = 5\n[variant.a]\n[variant.b]\nadapt.peft.r = 2\n"
    experiment = Experiment.load(make(body), ["adapt.training.max_steps=6"])
    assert values(experiment, "r") == {"a": 9, "b": 2}
    assert {t.recipe.stages[1].options.training["max_steps"] for t in experiment.trials} == {6}  # type: ignore[attr-defined]


def test_a_variant_leaves_a_stage_out(make: Make) -> None:
    experiment = Experiment.load(make('[variant.all]\n[variant.unmerged]\nstages = ["adapt"]\n'))
    ids = [[s.id for s in t.recipe.stages] for t in experiment.trials]
    assert ids == [
        ["evaluate-base", "adapt", "evaluate-adapt", "release"],
        ["evaluate-base", "adapt", "evaluate-adapt"],
    ]


def test_set_chooses_stages(make: Make) -> None:
    recipe = make("").with_name("recipe.toml")
    text = read(recipe, ['stages=["release"]', "release.from=base"])
    assert [stage["id"] for stage in text.raw["stage"]] == ["release"]
    assert (text.changes[0].before, text.changes[0].after) == (["adapt", "release"], ["release"])
    with pytest.raises(
        UserError, match=r'--set stages=\["adpat"\]: stages: .* has no stage "adpat"; did you mean "adapt"\?'
    ):
        read(recipe, ['stages=["adpat"]'])
    with pytest.raises(UserError, match="stages is not a list of stage ids"):
        read(recipe, ["stages=adapt"])


# --- what is refused --------------------------------------------------------------------------------------------------


def test_unknown_words_are_refused_with_line_and_nearest_name(make: Make) -> None:
    assert refused(make('baselin = "a"\nseeds = ["one"]\n[variant.a]\n')) == [
        ':6: seeds.0: "one" is not of type int',
        ':5: baselin: unknown key; did you mean "baseline"?',
    ]


def test_what_is_wrong_in_any_variant_is_said_at_once_and_once(make: Make) -> None:
    body = """\
seeds = [1, 2]
[variant.a]
adpat.peft.r = 1
[variant.b]
adapt.training.max_step = 2
[variant.c]
adapt.training.max_steps = "many"
"""
    assert refused(make(body)) == [
        ':7: "adpat" is no stage and no key of the recipe; did you mean "adapt"?',
        ':9: adapt.training.max_step: unknown key; it is no field of TrainingArguments; did you mean "max_steps"?',
        ':11: adapt.training.max_steps: "many" is not of type int',
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "nothing varies"),
        ('baseline = "b"\n[variant.a]\n', ':5: baseline: there is no variant "b"; known: a'),
        ('models = ["adpt"]\n[variant.a]\n', ':5: models: no variant has a stage "adpt"; did you mean "adapt"?'),
        ('[variant."a b"]\n', ":5: variant.a b: is no name for a folder"),
        ("[grid]\nadapt.peft.r = 8\n", ":6: grid: adapt.peft.r is not a list of values"),
        ('[grid]\nbase_model = ["a/b", "a-b"]\n', ":5: grid: two of its points have the same name"),
        ("seeds = [1, 1]\n[variant.a]\n", ':5: seeds: two runs would have the folder "a-seed1"'),
        ("[variant.a]\n[variant.A]\n", 'two runs would have the folder "a"'),
    ],
)
def test_what_makes_no_experiment_is_refused(make: Make, body: str, said: str) -> None:
    assert any(said in problem for problem in refused(make(body)))


def test_recipe_and_experiment_that_are_not_there_are_named(make: Make, tmp_path: Path) -> None:
    path = make("seeds = [1]\n")
    path.write_text(path.read_text().replace('"recipe.toml"', '"recpie.toml"'))
    assert refused(path) == [':4: recipe: there is no recipe "recpie.toml"; did you mean "recipe.toml"?']
    with pytest.raises(
        UserError, match='there is no experiment "italian/quantization"; did you mean "italian/quantisation"'
    ):
        Experiment.load("italian/quantization")


# --- what it would do -------------------------------------------------------------------------------------------------


def test_stages_that_variants_share_are_planned_once(make: Make, tmp_path: Path) -> None:
    body = "[variant.a]\n[variant.few]\nevaluation.max_documents = 2\n[variant.wide]\nadapt.peft.r = 8\n"
    plan = Experiment.load(make(body)).plan(tmp_path / "out")
    assert plan.problems == [] and plan.stages == 12
    assert [(planned.name, stage.id) for planned, stage in plan.to_do] == [
        ("a", "evaluate-base"),
        ("a", "adapt"),
        ("a", "evaluate-adapt"),
        ("a", "release"),
        ("few", "evaluate-base"),
        ("few", "evaluate-adapt"),
        ("wide", "adapt"),
        ("wide", "evaluate-adapt"),
        ("wide", "release"),
    ]
    assert plan.alike == [] and not (tmp_path / "out").exists()


def test_stages_of_models_that_are_not_at_hand_are_told_apart(make: Make, tmp_path: Path) -> None:
    """Where revisions on the hub are not known, digests are not either."""
    plan = Experiment.load(make('[grid]\nbase_model = ["some/one", "some/other"]\n[variant.a]\n[variant.b]\n')).plan(
        tmp_path
    )
    assert len(plan.to_do) == 8, "a and b are alike, the models are not"
    assert plan.alike == [[f"{v},base_model=some-{m}" for v in "ab"] for m in ("one", "other")]


def test_variants_that_a_rehearsal_makes_alike_are_named(make: Make, tmp_path: Path) -> None:
    body = '[set]\nrehearsal.base_model = "{}"\n[grid]\nbase_model = ["some/one", "some/other"]\n'
    experiment = Experiment.load(make(body.format(tmp_path / "model")))
    assert experiment.plan(tmp_path / "out").alike == []
    assert experiment.rehearse().plan(tmp_path / "out").alike == [["base_model=some-one", "base_model=some-other"]]


def test_all_that_is_in_the_way_is_said_before_anything_runs(make: Make, tmp_path: Path) -> None:
    body = '[variant.a]\n[variant.b]\n"adapt.corpus" = ["nowhere.txt"]\n[variant.c]\n"adapt.corpus" = ["nowhere.txt"]\n'
    experiment = Experiment.load(make('measures = ["bits_per_bite"]\n' + body))
    with pytest.raises(UserError) as caught:
        experiment.execute(tmp_path / "out")
    missing, measures = str(caught.value).splitlines()
    assert missing.startswith("b, c: ") and "nowhere.txt" in missing
    assert 'measures: no variant measures "bits_per_bite"; did you mean "bits_per_byte"?' in measures
    assert not (tmp_path / "out").exists()
