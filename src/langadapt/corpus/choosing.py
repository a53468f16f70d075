"""Which corpus is looked into, and how it is read and cleaned: named on the command line, or an entry of a recipe."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langadapt.corpus.preparing import Preparation, Step
from langadapt.errors import UserError, nearest
from langadapt.inputs import Input, find_input
from langadapt.recipe import CorpusRef, FilterRef, Recipe, as_corpus
from langadapt.records import Filter, Language

if TYPE_CHECKING:
    from langadapt.plugins import Registry

_PLAIN = ("layout", "columns", "config", "max_documents", "deduplicate")  # what a wish says as an entry does


@dataclass(frozen=True, kw_only=True)
class NamedStep:
    """A cleaning step as it is configured.

    Attributes:
        name: of the filter; with a number behind it where a filter is used more than once.
        filter: the registered filter.
        options: values of all its options.
        run: the step, made ready.
    """

    name: str
    filter: Filter
    options: Mapping[str, Any]
    run: Step


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A corpus that was found, with what its steps are called and bound to."""

    input: Input
    language: Language | None
    steps: tuple[NamedStep, ...]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a user says about the corpus to look into.

    Attributes:
        corpus: a registered name, or a file, folder or glob; in a recipe, the entry's label, and "" for its only one.
        recipe: path or name of a recipe whose entry is meant; "" for none.
        stage: id of the recipe's stage; "" for its only one that reads corpora.
        path: a copy of a registered corpus.
        config: configuration of a registered corpus.
        layout: how rows become documents.
        columns: our column names to the user's.
        deduplicate: "exact", "near" or "none"; "" for what the entry says.
        language: BCP-47 tag of files that have no registered name.
        filters: further steps, `NAME` or `NAME,OPTION=VALUE`.
        max_documents: how many are read at most; 0 for all.
        hub: whether a registered corpus is read from the hub and not from its bundled sample.
    """

    corpus: str = ""
    recipe: str = ""
    stage: str = ""
    path: str = ""
    config: str = ""
    layout: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    deduplicate: str = ""
    language: str = ""
    filters: Sequence[str] = ()
    max_documents: int = 0
    hub: bool = False


def choose(wish: Wish, known: Registry) -> Chosen:
    """Finds the corpus and makes its steps ready.

    Raises:
        UserError: there is no such corpus, recipe, stage or filter, or it cannot be read.
    """
    recipe = Recipe.load(wish.recipe) if wish.recipe else None
    if wish.stage and not recipe:
        raise UserError("--stage names a stage of a recipe; say of which, with --recipe RECIPE")
    ref = _entry(wish, recipe, known) if recipe else _named(wish)
    changed = {key: value for key in _PLAIN if (value := getattr(wish, key))}
    filters = [*ref.filters, *map(parse_filter, wish.filters)]
    ref = CorpusRef(**(ref.model_dump() | changed | {"filters": [step.model_dump() for step in filters]}))
    for place, message, hint in ref.check(known):
        raise UserError("; ".join(filter(None, [": ".join(map(str, (*place, message))), hint])))
    tag = wish.language or (recipe.table.language if recipe else "")
    if wish.language and wish.language not in known.languages:
        raise UserError(f'no plugin offers the language "{wish.language}"; {known.languages.missing(wish.language)}')
    found = find_input(ref, known, language=tag, data=_copies(recipe, known), rehearsal=not wish.hub, pinned={})
    if found.problem:
        raise UserError(found.problem)
    spoken = known.languages.get(found.preparation.language)
    return Chosen(input=found, language=spoken, steps=steps_of(found.preparation, known))


def parse_filter(text: str) -> FilterRef:
    """`fineweb2,end_punctuation=0.2` as a recipe has it, `{ name = "fineweb2", end_punctuation = 0.2 }`.

    Raises:
        UserError: it is not written so.
    """
    name, _, options = text.partition(",")
    try:
        values = tomllib.loads(f"options = {{ {options} }}")["options"]
    except tomllib.TOMLDecodeError:
        key, value = _unread(options)
        if value:
            raise UserError(
                f'--filter {text}: "{value}" is no value for {key}; write a number, true or false, or a text in '
                "quotes, as in 'language,tag=\"it\"'"
            ) from None
        raise UserError(
            f"--filter {text}: it is no filter; write NAME or NAME,OPTION=VALUE, texts in quotes: 'language,tag=\"it\"'"
        ) from None
    return FilterRef(**{**values, "name": name.strip()})


def _unread(options: str) -> tuple[str, str]:
    """Key and value of the first option that cannot be read; "" for what it lacks."""
    waiting: list[str] = []  # an option, and more of it where its value has commas
    for part in options.split(","):
        waiting.append(part)
        try:
            tomllib.loads(",".join(waiting))
            waiting = []
        except tomllib.TOMLDecodeError:
            continue
    key, _, value = (waiting[0] if waiting else "").partition("=")
    return key.strip(), value.strip()


def _named(wish: Wish) -> CorpusRef:
    if not wish.corpus:
        raise UserError("no corpus is named; give a registered name, a file, a folder or a glob, or --recipe RECIPE")
    where = {"name": wish.corpus, "path": wish.path} if wish.path else as_corpus(wish.corpus)
    return CorpusRef(**where)


# --- an entry of a recipe ---------------------------------------------------------------------------------------------


def _entry(wish: Wish, recipe: Recipe, known: Registry) -> CorpusRef:
    """The recipe's entry that is meant, with the user's own path in place of the recipe's where one is given."""
    stages = {stage.id: stage.options.refs for stage in recipe.stages if stage.options.refs}
    if wish.stage and wish.stage not in stages:
        raise UserError(f'no stage "{wish.stage}" of {wish.recipe} reads a corpus; {nearest(wish.stage, stages)}')
    entries = [(id, ref) for id, refs in stages.items() if wish.stage in ("", id) for ref in refs]
    matching = [(id, ref) for id, ref in entries if not wish.corpus or _is_meant(wish.corpus, ref, known)]
    if not matching:
        labels = [ref.label for _, ref in entries]
        raise UserError(f'no stage of {wish.recipe} reads the corpus "{wish.corpus}"; {nearest(wish.corpus, labels)}')
    different = {ref.model_dump_json(): (id, ref) for id, ref in matching}
    if len(different) > 1:
        said = ", ".join(f"{ref.label} --stage {id}" for id, ref in different.values())
        raise UserError(f"{wish.recipe} has several corpora; say which one: {said}")
    ref = _made_by_stage(matching[0][1], recipe)
    return ref.model_copy(update={"path": wish.path}) if wish.path else ref


def _made_by_stage(ref: CorpusRef, recipe: Recipe) -> CorpusRef:
    """An entry that names a stage, as the file that a run has made; others as they are."""
    if not ref.stage:
        return ref
    made = recipe.folder / "stages" / ref.stage / "corpus.jsonl"
    if not made.is_file():
        raise UserError(
            f"the corpus is made by stage {ref.stage}, which has not run (there is no {made}); run it first"
        )
    return ref.model_copy(update={"stage": "", "path": str(made), "layout": "document"})


def _is_meant(corpus: str, ref: CorpusRef, known: Registry) -> bool:
    if ref.name and corpus in known.corpora:
        return bool(known.corpora[corpus].name == known.corpora[ref.name].name)
    return corpus in (ref.label, ref.path, ref.stage)


def _copies(recipe: Recipe | None, known: Registry) -> dict[str, str]:
    """Where the recipe says that copies of registered corpora lie."""
    return {known.corpora[name].name: path for name, path in recipe.table.data.items()} if recipe else {}


# --- steps ------------------------------------------------------------------------------------------------------------


def steps_of(preparation: Preparation, known: Registry) -> tuple[NamedStep, ...]:
    """A corpus's cleaning steps with their names; a filter that is used again is called `NAME (2)`."""
    times: Counter[str] = Counter()
    language = known.languages.get(preparation.language)
    steps = []
    for (key, tuned), run in zip(preparation.steps, preparation.make_steps(known), strict=True):
        used = known.filters[key]
        times[used.name] += 1
        name = used.name if times[used.name] == 1 else f"{used.name} ({times[used.name]})"
        steps.append(NamedStep(name=name, filter=used, options=used.values(language, tuned), run=run))
    return tuple(steps)


def place_of(found: Input, name: Callable[[str], str] = str) -> str:
    """Where a corpus is read from, in words; `name` says how a path is called."""
    return {"sample": "bundled sample", "hub": "from the hub"}.get(found.where) or f"from {name(str(found.path))}"
