"""JSON Schema of recipes and experiments, by which editors complete, explain and check them.

It is draft-07, which every editor of TOML reads. Where one key says which others there are (`kind`, `method`, `strategy`),
a table is described twice: by `anyOf`, with a member that any table meets, because editors complete keys from there; and by
`if` and `then`, because only so a message names the key that is wrong and not the whole table. Names that plugins offer are
proposed, and other text is let through: what is not installed here may be elsewhere. `langadapt check` is what refuses it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from langadapt import peft, upstream
from langadapt.corpus.layouts import LAYOUTS
from langadapt.experiment import ExperimentTable
from langadapt.plugins import Registry, registry
from langadapt.recipe import NAMES, RecipeTable, StageOptions, suite_names
from langadapt.stages.preference import METHODS, PreferenceOptions
from langadapt.stages.tokenizer import INIT, TokenizerOptions
from langadapt.stages.trained import KERNELS, MEANINGS, TrainedOptions
from langadapt.stages.translate import TranslateOptions

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
_REFERENCE = re.compile(r'"#/definitions/([^"]+)"')
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}
_RATES: Schema = {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}}
# Of keys beside a library's fields, what their types alone do not say.
_OWN: Mapping[str, Schema] = {"kernels": {"enum": list(KERNELS)}, "learning_rates": _RATES, "unfreeze": _RATES}


def recipe_schema(known: Registry | None = None, *, upstream_help: bool = True) -> Schema:
    """The schema of recipes.

    Args:
        known: whose stage kinds, strategies and names are described; None for all that is installed.
        upstream_help: whether options of the libraries are explained in the words of their installed source.
    """
    return _Recipes(known or registry(), upstream_help).schema()


def experiment_schema(known: Registry | None = None) -> Schema:
    """The schema of experiments."""
    definitions, refs = _described([ExperimentTable])
    schema = definitions.pop(_last(refs[ExperimentTable]))
    _propose(schema, known or registry())
    return {"$schema": DRAFT, **schema, "title": "langadapt experiment", "definitions": definitions}


class _Generator(GenerateJsonSchema):
    """Without what TOML does not have, and without titles that repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: Any) -> Schema:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> Schema:
        made = super().default_schema(schema)
        if made.get("default") is None or isinstance(schema.get("default"), BaseModel):
            made.pop("default", None)
        return made

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        return {}  # a type of a plugin's own: anything may stand there, as far as an editor can tell


def _described(models: Iterable[type[BaseModel]]) -> tuple[dict[str, Schema], dict[type, Schema]]:
    """Definitions of the models and of all that is in them, and a reference to each."""
    refs, made = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)],
        by_alias=True,
        ref_template="#/definitions/{model}",
        schema_generator=_Generator,
    )
    return made["$defs"], {model: ref for (model, _), ref in refs.items()}


def _last(ref: Schema) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _propose(node: Any, known: Registry) -> None:
    """Puts names that plugins offer in place of the marks that say of what kind they are, here and below."""
    if isinstance(node, list):
        for inner in node:
            _propose(inner, known)
    elif isinstance(node, dict):
        if kind := node.pop(NAMES, None):
            names = _names(kind, known)
            if node["type"] == "object":
                node["properties"] = {
                    name: {"type": "string", "description": f"Your copy of {name}."} for name in names
                }
            else:
                (node["items"] if node["type"] == "array" else node)["anyOf"] = _open(names)
        for inner in list(node.values()):
            _propose(inner, known)


def _names(kind: str, known: Registry) -> list[str]:
    if kind == "layouts":
        return list(LAYOUTS)
    if kind == "suites":
        return sorted({"lm-eval", *suite_names(known)})
    return list(getattr(known, kind))


def _open(names: Sequence[str]) -> list[Schema]:
    """Any text, of which some is proposed."""
    return [{"enum": list(names)}, {"type": "string"}]


def _chosen(by: str, tables: Mapping[str, Schema], *, default: str = "") -> Schema:
    """A table whose other keys follow from what it says in one.

    Args:
        by: the key.
        tables: what the table is, by the key's value.
        default: its value where it is left out; "" where nothing follows then.
    """
    one_of_them = {"properties": {by: {"enum": list(tables)}}}
    # Some editors take keys that are described here for all that there are; so they get to see it where it is wrong alone.
    known = {"if": one_of_them, "else": one_of_them}
    return {
        "type": "object",
        "additionalProperties": True,  # which some editors want said
        "anyOf": [*tables.values(), {"type": "object"}],
        "allOf": [known, *(_when(by, name, table, required=name != default) for name, table in tables.items())],
    }


def _when(key: str, value: str, then: Schema, *, required: bool = True) -> Schema:
    """What holds where a key has a value; also where it is missing, unless it is required."""
    return {"if": {"properties": {key: {"const": value}}} | ({"required": [key]} if required else {}), "then": then}


class _Recipes:
    """Puts the schema of recipes together."""

    def __init__(self, known: Registry, upstream_help: bool):
        self.known, self.upstream_help = known, upstream_help
        self.kinds = {name: kind.options for name, kind in known.stages.items()}
        named = (known.tokenizers, known.embedding_inits, known.translators)
        tables = [record.options for offers in named for record in offers.values()]
        self.definitions, self.refs = _described([RecipeTable, *self.kinds.values(), *tables])

    def schema(self) -> Schema:
        self._shorten()
        self._tables_by_name()
        required = {name: self._stage(name, options) for name, options in self.kinds.items()}
        whole = self.definitions.pop(_last(self.refs[RecipeTable]))
        needed = whole.pop("required")
        whole["properties"]["stage"]["items"] = self._any_stage()
        alone = {"required": needed, "properties": {"stage": {"items": _complete(required)}}}
        schema = {
            "$schema": DRAFT,
            **whole,
            "title": "langadapt recipe",
            "allOf": [{"if": {"not": {"required": ["extends"]}}, "then": alone}],
            "definitions": self.definitions,
        }
        _propose(schema, self.known)
        _drop_unused(schema)
        return schema

    def _define(self, name: str, table: Schema) -> Schema:
        """A reference to a table that is defined under a name."""
        self.definitions[name] = table
        return {"$ref": f"#/definitions/{name}"}

    # --- the recipe's own tables -------------------------------------------------------------------------------------

    def _shorten(self) -> None:
        """Lets a bare word, or a number, stand for a table where a recipe may write it so."""
        corpus, replay, filter_ = (self.definitions[name] for name in ("CorpusRef", "Replay", "FilterRef"))
        corpus |= {"type": ["string", "object"], "anyOf": [*_open(list(self.known.corpora)), {"type": "object"}]}
        replay |= {"type": ["number", "object"], "exclusiveMinimum": 0, "exclusiveMaximum": 1}
        filter_ |= {"type": ["string", "object"], "anyOf": [*_open(list(self.known.filters)), {"type": "object"}]}
        filter_["allOf"] = [_when("name", name, self._step(name)) for name in self.known.filters]
        for definition in self.definitions.values():
            for name, key in definition.get("properties", {}).items():
                if key.get("items") == {"$ref": "#/definitions/CorpusRef"}:
                    about = {"description": key["description"]} if "description" in key else {}
                    either = [{"$ref": "#/definitions/CorpusRef"}, {"type": "array"}]
                    definition["properties"][name] = about | {"anyOf": either, "items": key["items"], "minItems": 1}

    def _step(self, name: str) -> Schema:
        """A cleaning step with its options."""
        step = self.known.filters[name]
        keys = {key: _like(value) | {"description": f"An option of {name}."} for key, value in step.options.items()}
        about = {"const": name, "description": step.description}
        return {"properties": {"name": about, **keys}, "additionalProperties": False}

    # --- stages ------------------------------------------------------------------------------------------------------

    def _any_stage(self) -> Schema:
        """A stage of any kind; without a kind, a change of one that is inherited."""
        kinds = {name: {"$ref": f"#/definitions/stage-{name}"} for name in self.kinds}
        table = _chosen("kind", kinds)
        keys = sorted({key for name in kinds for key in self.definitions[f"stage-{name}"]["properties"]})
        change = {"if": {"not": {"required": ["kind"]}}, "then": {"propertyNames": {"enum": keys}}}
        return table | {"required": ["id"], "allOf": [*table["allOf"], change]}

    def _stage(self, name: str, options: type[BaseModel]) -> list[str]:
        """Defines a kind of stage; gives its keys that are required, unless the recipe extends another."""
        stage = copy.deepcopy(self.definitions[_last(self.refs[options])])
        keys = stage["properties"]
        keys["kind"] = {"const": name, "description": self.known.stages[name].description}
        if issubclass(options, TrainedOptions):
            _put(keys, "peft", {"$ref": "#/definitions/peft"})
        if issubclass(options, PreferenceOptions):
            stage |= self._methods(options, keys)
        elif issubclass(options, TrainedOptions):
            _put(keys, "training", self._training(options))
        if issubclass(options, TokenizerOptions):
            _put(keys, "tokenizer", {"$ref": "#/definitions/tokenizer"})
            _put(keys, "embeddings", {"$ref": "#/definitions/embeddings"})
        if issubclass(options, TranslateOptions):
            for key in ("translator", "retry_with"):
                _put(keys, key, {"$ref": "#/definitions/translator"})
        needed = stage.pop("required", [])
        self.definitions[f"stage-{name}"] = stage
        return [key for key in needed if key not in StageOptions.model_fields]

    def _tables_by_name(self) -> None:
        """Defines the tables whose keys follow from a name in them."""
        known = self.known
        strategies = {name: self._define(f"peft-{name}", self._strategy(name)) for name in known.peft_strategies}
        self._define("peft", _chosen("method", strategies, default="lora"))
        for table, by, offers, default in (
            ("tokenizer", "strategy", known.tokenizers, ""),
            ("embeddings", "init", known.embedding_inits, INIT),
            ("translator", "name", known.translators, ""),
        ):
            tables = {name: self._define(f"{table}-{name}", self._options(by, offers[name])) for name in offers}
            self._define(table, _chosen(by, tables, default=default))

    def _options(self, by: str, record: Any) -> Schema:
        """The table of a record's own options, with the key that names the record."""
        table = copy.deepcopy(self.definitions[_last(self.refs[record.options])])
        about = {"const": record.name, "description": record.description}
        return table | {"description": record.description, "properties": {by: about, **table.get("properties", {})}}

    # --- tables whose keys are a library's ---------------------------------------------------------------------------

    def _strategy(self, name: str) -> Schema:
        strategy = self.known.peft_strategies[name]
        keys = self._keys(strategy.upstream, strategy.owns, strategy.defaults, strategy.defaults, peft.MEANINGS, name)
        for key, words in strategy.choices.items():
            keys[key]["enum"] = list(words)
        about = {"const": name, "description": strategy.description}
        return {"type": "object", "properties": {"method": about, **keys}, "additionalProperties": False}

    def _training(self, options: type[TrainedOptions], **given: Any) -> Schema:
        """`[stage.training]`, whose keys are those of the class that the options name."""
        filled = options.model_construct(**given)
        defaults = {**options.defaults, **(METHODS[given["method"]].defaults if given else {})}
        keys = self._keys(filled.upstream, options.owned, options.beside, defaults, MEANINGS, "training")
        return {"type": "object", "properties": keys, "additionalProperties": False}

    def _methods(self, options: type[PreferenceOptions], keys: dict[str, Schema]) -> Schema:
        """Has the keys of `[stage.training]` follow from the method."""
        tables = {}
        for method in METHODS:
            tables[method] = self._define(f"training-{method}", self._training(options, method=method))
        keys["training"] = {
            "description": keys["training"]["description"],
            "anyOf": [*tables.values(), {"type": "object"}],
        }
        default = options.model_fields["method"].default
        return {
            "allOf": [
                _when("method", method, {"properties": {"training": table}}, required=method != default)
                for method, table in tables.items()
            ]
        }

    def _keys(
        self,
        reference: str,
        owned: Mapping[str, str],
        beside: Mapping[str, Any],
        defaults: Mapping[str, Any],
        meanings: Mapping[str, str],
        of: str,
    ) -> dict[str, Schema]:
        """Keys of a table that is handed to a library's class, as `langadapt.recipe.check_fields` takes them.

        Args:
            reference: the class.
            owned: its fields that a recipe may not set.
            beside: further keys, each with a value of its type.
            defaults: values where the recipe is silent.
            meanings: what keys are, in our words.
            of: what keys of ours belong to, where nothing is said of them.
        """
        keys = {}
        if reference:
            said = upstream.help_of(reference) if self.upstream_help else {}
            owner = reference.rpartition(":")[2]
            for name, field in upstream.fields_of(reference).items():
                what = f"A field of {owner}: `{field.annotation}`."
                keys[name] = _of_field(field) | {"description": " ".join(filter(None, [said.get(name), what]))}
        for name, value in beside.items():
            keys.setdefault(name, _like(value) | _OWN.get(name, {}) | {"description": f"An option of {of}."})
        for name in keys.keys() & meanings.keys():
            keys[name]["description"] = meanings[name]
        for name in keys.keys() & defaults.keys():
            keys[name]["default"] = defaults[name]
        return {name: key for name, key in keys.items() if name not in owned}


def _drop_unused(schema: Schema) -> None:
    """Takes out what nothing refers to: models whose copies have become definitions of their own."""
    definitions: dict[str, Schema] = schema["definitions"]
    while unused := definitions.keys() - set(_REFERENCE.findall(json.dumps(schema))):
        for name in unused:
            del definitions[name]


def _put(keys: dict[str, Schema], name: str, table: Schema) -> None:
    """Says what is in a table, and keeps what is said of it."""
    about = {word: keys[name][word] for word in ("description", "default") if word in keys[name]}
    keys[name] = about | ({"allOf": [table]} if "$ref" in table else table)


def _complete(required: Mapping[str, Sequence[str]]) -> Schema:
    """What a stage needs in a recipe that extends no other."""
    kinds = [_when("kind", name, {"required": list(keys)}) for name, keys in required.items()]
    return {"required": ["kind"], "allOf": kinds}


def _like(value: Any) -> Schema:
    """The type of a value; anything where that is none of TOML's."""
    word = "array" if isinstance(value, tuple) else _TYPES.get(type(value))
    return {"type": word} if word else {}


def _of_field(field: upstream.Field) -> Schema:
    """The values that `upstream.Field.problem` lets through."""
    types = [_TYPES[kind] for kind in _TYPES if kind in field.types and not (kind is int and float in field.types)]
    if not field.words:
        return {"type": types if len(types) > 1 else types[0]} if types else {}
    words: list[Schema] = [{"enum": [word for word in field.words if "[" not in word]}]
    words += [{"type": "string", "pattern": f"^{word.partition('[')[0]}."} for word in field.words if "[" in word]
    others: list[Schema] = [{"type": name} for name in types if name != "string"]
    return words[0] if len(words) == 1 and not others else {"anyOf": [*words, *others]}
