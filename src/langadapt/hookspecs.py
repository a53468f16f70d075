"""The contract between langadapt and its plugins: this file and the records it names.

A plugin is a package with an entry point in the group `langadapt`:

```toml
[project.entry-points.langadapt]
basque = "langadapt_basque"
```

and a module (or object) whose functions are marked with `langadapt.hookimpl`. Every hook takes nothing and returns an
iterable of records. Names are unique across all plugins; when two offer the same one, langadapt stops and names both.
The core's own parts come in by the same hooks, from `langadapt.builtin`.

The module says `LANGADAPT_CONTRACT = 1`: the contract that it was written for, `CONTRACT` below.

Import nothing heavy at module level: hooks are called whenever a recipe is loaded or plugins are listed.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from langadapt import records

PROJECT = "langadapt"
CONTRACT = 1  #: raised with every change of a hook or a record, also when something is only added
OLDEST = 1  #: the oldest contract whose plugins work here
hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def langadapt_languages() -> Iterable[records.Language]:  # type: ignore[empty-body]
    """Languages that a recipe can name in `language`.

    Called once, when a recipe is loaded or plugins are listed.

    ```python
    @hookimpl
    def langadapt_languages():
        yield Language(tag="eu", name="Basque", autonym="euskara", script="Latn", words=str.split)
    ```
    """


@hookspec
def langadapt_corpora() -> Iterable[records.Corpus]:  # type: ignore[empty-body]
    """Corpora that a stage can name in `corpus` and an evaluation in its `corpus` field.

    Bundle a small `sample`, so that recipes that use the corpus can be rehearsed.

    ```python
    @hookimpl
    def langadapt_corpora():
        yield Corpus(
            name="berria", language="eu", licence="CC-BY-SA-4.0", description="News in Basque.",
            source=HubSource(repo_id="someone/berria", pattern="data/*.jsonl.gz"), sample=HERE / "berria.jsonl",
        )
    ```
    """


@hookspec
def langadapt_filters() -> Iterable[records.Filter]:  # type: ignore[empty-body]
    """Cleaning steps that a corpus or a recipe can name in `filters`.

    ```python
    def long_enough(options, language):
        def step(document):
            return document if len(document.text) >= options["characters"] else "too short"

        return step

    @hookimpl
    def langadapt_filters():
        yield Filter(
            name="long-enough", description="Drops short documents.", make=long_enough, options={"characters": 200}
        )
    ```
    """


@hookspec
def langadapt_tokenizers() -> Iterable[records.TokenizerStrategy]:  # type: ignore[empty-body]
    """Ways to adapt a tokenizer, for `tokenizer.strategy` of a `tokenizer` stage.

    ```python
    class SuffixOptions(Table):
        file: str

    def add_suffixes(task):
        task.tokenizer.add_tokens(Path(task.options.file).read_text().split())
        return task.tokenizer

    @hookimpl
    def langadapt_tokenizers():
        yield TokenizerStrategy(
            name="suffixes", description="Adds suffixes of a list.", options=SuffixOptions, adapt=add_suffixes,
            tokens=lambda options, before: before,
        )
    ```
    """


@hookspec
def langadapt_embedding_inits() -> Iterable[records.EmbeddingInit]:  # type: ignore[empty-body]
    """First values of the rows of new tokens, for `embeddings.init` of a `tokenizer` stage.

    ```python
    def first_piece(task):
        rows = [pieces[0] for pieces in task.pieces]
        head = task.model.get_output_embeddings().weight
        tied = task.model.config.tie_word_embeddings
        return task.model.get_input_embeddings().weight[rows].clone(), None if tied else head[rows].clone()

    @hookimpl
    def langadapt_embedding_inits():
        yield EmbeddingInit(
            name="first-piece", description="The rows of the first old piece.", options=Table, initialise=first_piece
        )
    ```
    """


@hookspec
def langadapt_peft_strategies() -> Iterable[records.PeftStrategy]:  # type: ignore[empty-body]
    """Training strategies that a stage can name in `peft.method`.

    ```python
    def train_norms(model, options):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("norm" in name)
        return model

    @hookimpl
    def langadapt_peft_strategies():
        yield PeftStrategy(
            name="norms", description="Only the norms learn.", source="none", prepare=train_norms, trains_base=True,
            trainable=lambda shape, options: 2 * shape.num_hidden_layers * shape.hidden_size,
            weight_bits=lambda options: 16,
        )
    ```
    """


@hookspec
def langadapt_stages() -> Iterable[records.StageKind]:  # type: ignore[empty-body]
    """Kinds of stage. `langadapt.builtin` registers the core's own, and is the example to read.

    ```python
    class CountOptions(StageOptions):
        pattern: str

    @hookimpl
    def langadapt_stages():
        yield StageKind(
            name="count", description="Counts a pattern.", version=1, options=CountOptions, makes="results",
            plan=lambda stage, planner: None, run=count,
        )
    ```
    """


@hookspec
def langadapt_recipes() -> Iterable[records.RecipeSource]:  # type: ignore[empty-body]
    """Recipes that ship with the plugin, run as `langadapt run NAME`.

    ```python
    @hookimpl
    def langadapt_recipes():
        yield RecipeSource(name="basque/small", path=HERE / "small.toml", description="Basque on one GPU.")
    ```
    """


@hookspec
def langadapt_experiments() -> Iterable[records.ExperimentSource]:  # type: ignore[empty-body]
    """Experiments that ship with the plugin, run as `langadapt sweep NAME`.

    ```python
    @hookimpl
    def langadapt_experiments():
        yield ExperimentSource(name="basque/ranks", path=HERE / "ranks.toml", description="Ranks of LoRA compared.")
    ```
    """


@hookspec
def langadapt_prompts() -> Iterable[records.PromptFormat]:  # type: ignore[empty-body]
    """Prompt formats that a stage can name in `prompt`.

    ```python
    def render(messages, system_prompt):
        yield Segment(special="bos")
        for message in messages:
            answer = message.role == "assistant"
            yield Segment(text=message.content if answer else f"G: {message.content}\\nE: ", loss=answer)
            if answer:
                yield Segment(special="eos", loss=True)

    @hookimpl
    def langadapt_prompts():
        yield PromptFormat(name="galde-erantzun", description="Question and answer.", render=render)
    ```
    """


@hookspec
def langadapt_evaluations() -> Iterable[records.Evaluation]:  # type: ignore[empty-body]
    """What can be measured on a model; a recipe names evaluations one by one or by suite.

    ```python
    @hookimpl
    def langadapt_evaluations():
        yield Evaluation(
            name="english", language="en", description="Bits per byte on English.", corpus="replay-en",
            method="bits_per_byte", suites=("basque",),
        )
    ```
    """


@hookspec
def langadapt_translators() -> Iterable[records.Translator]:  # type: ignore[empty-body]
    """Translation engines for corpora that exist in another language only; a `translate` stage names one.

    ```python
    class Options(Table):
        mirrored: bool = False

    @hookimpl
    def langadapt_translators():
        yield Translator(
            name="echo", description="Changes nothing.", options=Options, problem=lambda options, source, target: "",
            fingerprint=lambda options, source, target: "echo 1", open=lambda options, source, target: list,
        )
    ```
    """
