"""Options of the libraries, read from their source: the names are theirs, and a wrong value is refused before a run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from enum import Enum

import pytest

from langadapt import upstream
from langadapt.upstream import fields_of

TRAINING = "transformers.training_args:TrainingArguments"
LORA = "peft.tuners.lora.config:LoraConfig"


def problem(reference: str, name: str, value: object) -> str:
    return fields_of(reference)[name].problem(value)


# --- against the real classes ---


@pytest.mark.slow
@pytest.mark.parametrize("reference", [TRAINING, LORA])
def test_the_fields_are_those_of_the_real_class(reference):
    """And every default that the class itself has would be accepted from a recipe."""
    import importlib

    module, _, name = reference.partition(":")
    real = {f.name: f for f in dataclasses.fields(getattr(importlib.import_module(module), name))}
    assert set(fields_of(reference)) == set(real)
    for field in real.values():
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if isinstance(default, Enum):
            default = default.value
        if isinstance(default, (bool, int, float, str, list, dict)):
            assert problem(reference, field.name, default) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "enumeration"),
    [
        ("lr_scheduler_type", "transformers.trainer_utils:SchedulerType"),
        ("optim", "transformers.training_args:OptimizerNames"),
        ("save_strategy", "transformers.trainer_utils:SaveStrategy"),
        ("logging_strategy", "transformers.trainer_utils:IntervalStrategy"),
    ],
)
def test_enumerations_are_those_of_the_real_classes(name, enumeration):
    import importlib

    module, _, class_name = enumeration.partition(":")
    words = {member.value for member in getattr(importlib.import_module(module), class_name)}
    assert set(fields_of(TRAINING)[name].words) == words and words
    assert all(problem(TRAINING, name, word) == "" for word in words)


def test_reading_the_fields_imports_neither_library():
    code = (
        f"import sys; from langadapt.upstream import fields_of; "
        f"assert fields_of({TRAINING!r}) and fields_of({LORA!r}); "
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- values ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "1e-4"),
        ("learning_rate", True),
        ("learning_rate", [1e-4]),
        ("max_steps", 1.5),
        ("max_steps", True),
        ("max_steps", "100"),
        ("bf16", 1),
        ("bf16", "true"),
        ("optim", 3),
        ("optim", True),
        ("lr_scheduler_kwargs", 1),
        ("label_names", {"a": 1}),
        ("neftune_noise_alpha", "5"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_the_right_one(name, value):
    said = problem(TRAINING, name, value)
    assert "is not of type" in said
    assert fields_of(TRAINING)[name].annotation in said
    assert (f'"{value}"' if isinstance(value, str) else str(value).lower()) in said.lower()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 1),
        ("learning_rate", 1e-4),
        ("max_steps", 10),
        ("bf16", False),
        ("warmup_steps", 0.03),
        ("warmup_steps", 100),
        ("optim_target_modules", "all-linear"),
        ("optim_target_modules", ["q_proj"]),
        ("lr_scheduler_kwargs", {"num_cycles": 2}),
        ("lr_scheduler_kwargs", '{"num_cycles": 2}'),
        ("neftune_noise_alpha", 5),
        ("trackio_static_space_id", False),
    ],
)
def test_a_value_of_any_type_that_the_annotation_names_is_taken(name, value):
    assert problem(TRAINING, name, value) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target_modules", "all-linear"),
        ("target_modules", ["q_proj", "v_proj"]),
        ("layers_to_transform", [0, 1]),
        ("layers_to_transform", 3),
        ("rank_pattern", {"q_proj": 4}),
        ("trainable_token_indices", {"embed_tokens": [1, 2]}),
        ("init_lora_weights", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_16"),
        ("bias", "lora_only"),
    ],
)
def test_values_that_peft_documents_are_taken(name, value):
    assert problem(LORA, name, value) == ""


@pytest.mark.parametrize(
    ("reference", "name", "value", "hint"),
    [
        (TRAINING, "lr_scheduler_type", "cosin", '"cosine"'),
        (TRAINING, "optim", "adamw_torhc", '"adamw_torch"'),
        (TRAINING, "save_strategy", "never", "steps"),
        (LORA, "bias", "lora-only", '"lora_only"'),
        (LORA, "init_lora_weights", "gausian", '"gaussian"'),
        (LORA, "init_lora_weights", "pissa_niter_", '"pissa_niter_'),
    ],
)
def test_a_word_that_is_none_of_an_enumerations_is_refused_with_the_nearest(reference, name, value, hint):
    said = problem(reference, name, value)
    assert said.startswith(f'"{value}" is not one of its values; ') and hint in said


# --- source of every style ---

SOURCE = """
import typing
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, Optional, Union

class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"

class Parent:
    inherited: int = 1
    changed: int = 1

class Options(Parent):
    changed: str = "now text"
    old: Optional[Union[int, str]] = None
    new: "int | list[str] | None" = None
    qualified: typing.Optional[bool] = None
    colour: Colour = Colour.RED
    colour_or_text: Colour | str = "red"
    numbers: Literal[1, 2] = 1
    off: str | Literal[False] = False
    foreign: Unknown = None
    mixed: Unknown | str = None
    constant = 3

    def method(self):
        local: int = 1
"""


@pytest.fixture
def options(tmp_path, monkeypatch):
    package = tmp_path / "options_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "options.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    upstream.fields_of.cache_clear()
    upstream._parse.cache_clear()
    return fields_of("options_of_a_test.options:Options")


def test_annotated_names_are_fields_and_nothing_else_is(options):
    assert set(options) == {
        "inherited",
        "changed",
        "old",
        "new",
        "qualified",
        "colour",
        "colour_or_text",
        "numbers",
        "off",
        "foreign",
        "mixed",
    }


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("inherited", [1], ["1", 1.5, True]),
        ("changed", ["a"], [1]),
        ("old", [1, "a"], [1.5, [1], True]),
        ("new", [1, ["a"]], ["a", True]),
        ("qualified", [True], [1, "true"]),
        ("colour", ["red", "blue"], ["rd", 1]),
        ("colour_or_text", ["red"], [1]),
        ("numbers", [1, 2], ["1", True]),
        ("off", ["a", False], [1]),
        ("foreign", [1, "a", {}, True], []),
        ("mixed", [1, "a", {}], []),
    ],
)
def test_annotations_of_every_style_are_understood(options, name, good, bad):
    assert [v for v in good if options[name].problem(v)] == []
    assert [v for v in bad if not options[name].problem(v)] == []


def test_a_library_that_is_not_installed_is_named():
    with pytest.raises(ModuleNotFoundError, match="no_such_library is not installed"):
        fields_of("no_such_library.options:Options")
