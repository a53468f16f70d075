"""A plugin written against the first contract: every hook, and every field of every record that it had.

It is never changed. What breaks it needs a new `OLDEST` in `langadapt.hookspecs`, and a word in the changelog.
"""

from __future__ import annotations

from pathlib import Path

from langadapt import (
    Answer,
    Corpus,
    Document,
    EmbeddingInit,
    Evaluation,
    ExperimentSource,
    Filter,
    HubSource,
    Item,
    Language,
    Message,
    PeftStrategy,
    PromptFormat,
    RecipeSource,
    Rejected,
    Segment,
    StageKind,
    StageOptions,
    Table,
    TokenizerStrategy,
    Translator,
    hookimpl,
)

LANGADAPT_CONTRACT = 1

FILES = Path(__file__).parent / "first_contract_files"


def read(path: Path) -> list[Document | Rejected]:
    rows = path.read_text(encoding="utf-8").splitlines()
    return [
        Document(id=f"{number}", text=row, messages=(), rejected="", origin={"id": str(number)})
        if row
        else Rejected(reason="empty", where=f"{path.name}:{number}", size=0, found="")
        for number, row in enumerate(rows, start=1)
    ]


def render(messages, system_prompt):
    yield Segment(text="", special="bos", loss=False)
    system = next((message.content for message in messages if message.role == "system"), system_prompt)
    if system:
        yield Segment(text=f"{system}\n")
    for message in messages:
        if message.role == "assistant":
            yield Segment(text=message.content, loss=True)
            yield Segment(special="eos", loss=True)
        elif message.role == "user":
            yield Segment(text=f"Q: {message.content}\n{message.context}\nA: ")


def items(path: Path) -> list[Item]:
    asked = (Message(role="user", content="Which word comes first?", context=""),)
    return [Item(id=d.id, messages=asked, gold=d.text.split()[0], split="", choices=()) for d in read(path)]


def score(answers: list[Answer]) -> dict[str, float]:
    right = [a.prediction == a.item.gold and a.finished and not a.logprobs and bool(a.text) for a in answers]
    return {"accuracy": sum(right) / len(answers)}


def norms(model, options):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" in name)
    return model


def same(task):
    task.say(
        f"{task.rows} rows, {len(list(task.texts()))} texts, {len(list(task.source_texts()))} of the source language"
    )
    assert isinstance(task.options, Table)
    return task.tokenizer


def first_piece(task):
    rows = [pieces[0] for pieces in task.pieces]
    task.say(f"{len(task.ids)} of {task.new.get_vocab_size()} tokens are new, {task.seed} is the seed")
    assert len(task.kept) >= task.old.get_vocab_size() and next(iter(task.texts())) and isinstance(task.options, Table)
    tied = task.model.config.tie_word_embeddings
    head = None if tied else task.model.get_output_embeddings().weight[rows].detach().clone()
    return task.model.get_input_embeddings().weight[rows].detach().clone(), head


@hookimpl
def langadapt_languages():
    yield Language(
        tag="qca",
        name="First",
        autonym="first",
        script="Latn",
        words=str.split,
        lower=str.lower,
        source_language="en",
        prompts={"sft": "first-prompt"},
        suites=("first",),
        thresholds={},
        function_words=("the", "of"),
        boilerplate=("all rights reserved",),
        tell_apart=lambda text: "",
        address=lambda text: "",
        length_ratio={"en": (0.5, 2.0)},
        parallel_sample=FILES / "parallel.jsonl",
        replay="first-replay",
        lm_eval=(),
    )


@hookimpl
def langadapt_corpora():
    yield Corpus(
        name="first-corpus",
        language="qca",
        licence="CC0-1.0",
        description="Lines.",
        layout="text",
        read=read,
        source=HubSource(repo_id="someone/first", pattern="*.txt", revision="main", limits={"small": 10}),
        where_to_get="",
        gated=False,
        documents=6,
        bytes=600,
        sample=FILES / "lines.txt",
        sample_licence="CC0-1.0",
        sample_language="qca",
        complete=False,
        filters=("first-filter",),
        aliases=("first-alias",),
    )
    yield Corpus(
        name="first-replay",
        language="en",
        licence="CC0-1.0",
        description="Lines.",
        where_to_get="ask",
        sample=FILES / "lines.txt",
        sample_licence="CC0-1.0",
        read=read,
    )


@hookimpl
def langadapt_filters():
    yield Filter(
        name="first-filter",
        description="Drops long documents.",
        make=lambda options, language: lambda d: d if len(d.content) < options["characters"] else "too long",
        source="",
        options={"characters": 1000, "list": ""},
        files=("list",),
        version=1,
    )


@hookimpl
def langadapt_tokenizers():
    yield TokenizerStrategy(
        name="first-tokenizer",
        description="Changes nothing.",
        options=Table,
        adapt=same,
        tokens=lambda options, before: before,
        rehearsed=lambda options: options,
        fingerprint=lambda options: "1",
        source="",
        version=1,
    )


@hookimpl
def langadapt_embedding_inits():
    yield EmbeddingInit(
        name="first-rows",
        description="The rows of the first old piece.",
        options=Table,
        initialise=first_piece,
        problem=lambda options: "",
        rehearsed=lambda options: options,
        fingerprint=lambda options: "1",
        source="",
        version=1,
    )


@hookimpl
def langadapt_peft_strategies():
    yield PeftStrategy(
        name="first-norms",
        description="The norms learn.",
        source="none",
        prepare=norms,
        trainable=lambda shape, options: (2 * shape.num_hidden_layers + 1) * shape.hidden_size,
        weight_bits=lambda options: 32,
        reached=lambda shape, options: [name for name in shape.weights if "norm" in name],
        learning=lambda shape, options: [name for name in shape.weights if "norm" in name],
        misfits=lambda shape, options: (),
        lacks=lambda machine, options: (),
        upstream="",
        defaults={"how": "all"},
        owns={},
        fixed={},
        choices={"how": ("all",)},
        freeze=None,
        save=None,
        rate=lambda name, options: 1.0,
        decay=lambda name, options: False,
        calibrate=lambda model, options, documents: model,
        finish=lambda model, options: model,
        trains_base=True,
    )


@hookimpl
def langadapt_stages():
    yield StageKind(
        name="first-kind",
        description="Does nothing.",
        version=1,
        options=StageOptions,
        makes="results",
        plan=lambda stage, planner: None,
        run=lambda context: None,
    )


@hookimpl
def langadapt_recipes():
    yield RecipeSource(name="first/recipe", path=FILES / "recipe.toml", description="A recipe.")


@hookimpl
def langadapt_experiments():
    yield ExperimentSource(name="first/experiment", path=FILES / "experiment.toml", description="An experiment.")


@hookimpl
def langadapt_prompts():
    yield PromptFormat(name="first-prompt", description="Q and A.", render=render, system_prompt="", version=1)


@hookimpl
def langadapt_evaluations():
    yield Evaluation(
        name="first-word",
        language="qca",
        description="The first word of a line.",
        corpus="first-corpus",
        suites=("first",),
        method="generate",
        split="test",
        items=items,
        decode=lambda text: text.split()[0] if text.split() else None,
        score=score,
        metrics={"accuracy": True},
        max_new_tokens=16,
        one_line=True,
        signatures=lambda: {"accuracy": "exact"},
        bare=False,
    )


@hookimpl
def langadapt_translators():
    yield Translator(
        name="first-translator",
        description="Changes nothing.",
        options=Table,
        problem=lambda options, source, target: "",
        fingerprint=lambda options, source, target: "1",
        open=lambda options, source, target: list,
        batch=64,
    )
