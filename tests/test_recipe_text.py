"""What a recipe extends, what it changes of that, and what is said of where its words come from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from langadapt.errors import RecipeError
from langadapt.recipe import Recipe
from langadapt.recipe_text import read

PARENT = """\
schema = 1
name = "parent"  # whose name is not inherited
language = "it"
base_model = "small"  # [P]
seed = 7

[[stage]]
id = "adapt"
kind = "cpt"
corpus = ["clean-mc4-it"]

[stage.peft]
method = "qlora"  # [P]
r = 64  # [P]

[stage.training]
max_steps = 100  # [ours]

[[stage]]
id = "release"
kind = "merge"

[[stage]]
id = "tune"
kind = "sft"
from = "adapt"
corpus = ["dolly-it"]
"""


@pytest.fixture
def family(write):
    """Writes a parent and a child that extends it; the child's path comes back."""

    def make(child: str, parent: str = PARENT) -> Path:
        write("parent.toml", parent)
        return write("child.toml", child)

    return make


def problem(path: Path) -> tuple[str, str, str]:
    with pytest.raises(RecipeError) as error:
        Recipe.load(path)
    (found,) = error.value.problems
    return Path(found.where.rpartition(":")[0]).name + ":" + found.where.rpartition(":")[2], found.key, str(found)


def options(recipe: Recipe, id: str):
    return next(s for s in recipe.stages if s.id == id).options


def test_a_recipe_says_only_what_differs(family):
    path = family('extends = "parent.toml"\nname = "child"\nbase_model = "large"\n')
    parent, child = Recipe.load(path.with_name("parent.toml")), Recipe.load(path)
    assert (child.table.name, child.table.base_model, child.table.seed) == ("child", "large", 7)
    assert child.stages == parent.stages


def test_stages_are_chosen_changed_and_added(family):
    path = family("""\
extends = "parent.toml"
name = "child"
stages = ["adapt", "tune"]

[[stage]]
id = "tune"
prompt = "alpaca-it"
[stage.training]
learning_rate = 1e-5

[[stage]]
id = "more"
kind = "sft"
corpus = ["dolly-it"]
""")
    recipe = Recipe.load(path)
    assert [(s.id, s.parent) for s in recipe.stages if not s.automatic] == [
        ("adapt", "base"),
        ("tune", "adapt"),
        ("more", "tune"),
    ]
    assert options(recipe, "tune").prompt == "alpaca-it"
    assert options(recipe, "tune").training["learning_rate"] == 1e-5
    assert options(recipe, "tune").corpus[0].name == "dolly-it"
    assert options(recipe, "adapt").peft["r"] == 64


def test_another_method_starts_its_table_afresh(family):
    path = family('extends = "parent.toml"\n[[stage]]\nid = "adapt"\n[stage.peft]\nmethod = "full"\n')
    assert options(Recipe.load(path), "adapt").peft == {"method": "full"}
    same = family('extends = "parent.toml"\n[[stage]]\nid = "adapt"\n[stage.peft]\nmethod = "qlora"\nlora_alpha = 8\n')
    assert (
        options(Recipe.load(same), "adapt").peft | {"r": 64, "lora_alpha": 8}
        == options(Recipe.load(same), "adapt").peft
    )


def test_lists_are_replaced_whole(family):
    path = family('extends = "parent.toml"\n[[stage]]\nid = "adapt"\ncorpus = ["replay-en"]\n')
    assert [c.name for c in options(Recipe.load(path), "adapt").corpus] == ["replay-en"]


def test_a_chain_of_recipes_and_overrides_on_top(family, write):
    family('extends = "parent.toml"\nname = "child"\nseed = 8\n')
    last = write("last.toml", 'extends = "child.toml"\nname = "last"\n')
    recipe = Recipe.load(last, ["adapt.peft.r=32"])
    assert (recipe.table.name, recipe.table.seed) == ("last", 8)
    assert options(recipe, "adapt").peft["r"] == 32


def test_a_plugins_recipe_is_extended_by_its_name(write):
    path = write("mine.toml", 'extends = "italian/llamantino"\nname = "mine"\nbase_model = "x/y"\nstages = ["adapt"]\n')
    recipe = Recipe.load(path)
    assert recipe.table.base_model == "x/y" and [s.id for s in recipe.stages if not s.automatic] == ["adapt"]


@pytest.mark.parametrize(
    ("child", "where", "key", "said"),
    [
        ('extends = "parnt.toml"\n', "child.toml:1", "extends", 'did you mean "parent.toml"?'),
        ("extends = 3\n", "child.toml:1", "extends", "is not the path or name of a recipe"),
        ('stages = ["adapt"]\n', "child.toml:1", "stages", "it extends none"),
        ('extends = "parent.toml"\nstages = ["adpt"]\n', "child.toml:2", "stages", 'did you mean "adapt"?'),
        ('extends = "parent.toml"\nstages = "adapt"\n', "child.toml:2", "stages", "is not a list of stage ids"),
        ('extends = "child.toml"\n', "child.toml:1", "extends", "goes in a circle"),
        ('extends = "parent.toml"\nsed = 1\n', "child.toml:2", "sed", 'did you mean "seed"?'),
        ('extends = "parent.toml"\n[[stage]]\nid = "adapt"\nprompt = "x"\n', "child.toml:4", "adapt.prompt", "unknown"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_that_says_it(family, child, where, key, said):
    path = family(child)
    found = problem(path)
    assert found[:2] == (where, key) and said in found[2]


def test_a_slip_in_the_parent_is_shown_there(family):
    path = family('extends = "parent.toml"\nname = "child"\n', PARENT.replace("r = 64", "rr = 64"))
    assert problem(path)[:2] == ("parent.toml:14", "adapt.peft.rr")


def test_what_has_no_line_of_its_own_has_that_of_the_table_around_it(write):
    text = read(write("recipe.toml", PARENT))
    at = {place: text.origin(place).rpartition(":")[2] for place in (
        ("stage", 0, "id"), ("stage", 0, "held_out"), ("stage", 2, "training", "x", "y"), ("stage",),
    )}  # fmt: skip
    assert list(at.values()) == ["8", "7", "23", "7"]
    assert text.origin(("nothing",)) == str(text.path)


def test_a_filled_recipe_says_where_every_value_comes_from(family):
    path = family('extends = "parent.toml"\nname = "child"\n[[stage]]\nid = "adapt"\n[stage.peft]\nr = 8  # tried\n')
    recipe = Recipe.load(path, ["adapt.training.max_steps=5"])
    text = recipe.to_toml()
    tomllib.loads(text)
    assert "extends" not in text
    for line in ("r = 8  # tried", 'method = "qlora"  # [P]', "max_steps = 5  # --set; was 100", "seed = 7"):
        assert line in text.splitlines()
    assert 'base_model = "small"  # [P]' in text
    assert 'lr_scheduler_type = "cosine"  # default' in text
    assert 'base_model = "package:' in recipe.rehearse().to_toml()
    assert "# rehearsal; was 'small'" in recipe.rehearse().to_toml()
