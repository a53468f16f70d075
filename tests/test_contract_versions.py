"""The contract's own policy: what is served stays, what is added may be left out, and every change has a number."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import pytest

import langadapt
from langadapt import hookspecs, records
from langadapt.plugins import HOOKS

HERE = Path(__file__).parent

# By contract: hooks, names that plugins may import, and of each record its fields, those that it must have first.
CONTRACTS = json.loads((HERE / "contracts.json").read_text(encoding="utf-8"))


def contract() -> dict:
    """The contract as the code has it, as `contracts.json` has those of all numbers."""
    public = {name: vars(records)[name] for name in langadapt.__all__ if name in vars(records)}
    return {
        "hooks": sorted(HOOKS),
        "names": sorted(langadapt.__all__),
        "records": {name: fields(record) for name, record in public.items()},
    }


def fields(record: type) -> dict[str, list[str]]:
    def optional(field: dataclasses.Field) -> bool:
        return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING

    found = dataclasses.fields(record)
    return {
        "required": [field.name for field in found if not optional(field)],
        "optional": [field.name for field in found if optional(field)],
    }


def test_a_change_of_the_contract_has_a_number() -> None:
    """Where it fails: raise `CONTRACT` if the last one is released (CONTRIBUTING.md), and put this into contracts.json."""
    assert contract() == CONTRACTS[str(hookspecs.CONTRACT)], json.dumps(contract(), indent=1)


def test_every_number_is_known() -> None:
    assert list(CONTRACTS) == [str(number) for number in range(1, hookspecs.CONTRACT + 1)]
    assert 1 <= hookspecs.OLDEST <= hookspecs.CONTRACT


def served() -> list[str]:
    return [number for number in CONTRACTS if int(number) >= hookspecs.OLDEST]


@pytest.mark.parametrize("number", served())
def test_nothing_that_is_served_has_gone(number: str) -> None:
    then, now = CONTRACTS[number], contract()
    assert set(then["hooks"]) <= set(now["hooks"]) and set(then["names"]) <= set(now["names"])
    for name, record in then["records"].items():
        known = now["records"][name]
        assert {*record["required"], *record["optional"]} <= {*known["required"], *known["optional"]}, name


@pytest.mark.parametrize("number", served())
def test_nothing_was_added_that_older_plugins_would_have_to_give(number: str) -> None:
    then, now = CONTRACTS[number]["records"], contract()["records"]
    for name, record in then.items():
        assert set(now[name]["required"]) <= set(record["required"]), name


def test_the_plugin_of_the_first_contract_uses_every_hook_and_every_field_that_it_had() -> None:
    tree = ast.parse((HERE / "first_contract.py").read_text(encoding="utf-8"))
    hooks = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    given = {
        (node.func.id, keyword.arg)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        for keyword in node.keywords
    }
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    first = CONTRACTS["1"]
    assert set(first["hooks"]) <= hooks
    for name, record in first["records"].items():
        unused = [f for f in (*record["required"], *record["optional"]) if (name, f) not in given and f not in read]
        assert unused == [], name
