"""The records that plugins hand to langadapt: values, not subclasses.

Every record is frozen and keyword-only. What a record does is a function in one of its fields. Functions that need a
heavy library import it inside, because records are made whenever a recipe is loaded or plugins are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel
    from tokenizers import Tokenizer
    from torch import Tensor

    from langadapt.machine import Machine
    from langadapt.models import ModelShape
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult


# --- what flows through a corpus -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Message:
    """One utterance.

    Attributes:
        role: `"system"`, `"user"` or `"assistant"`.
        content: what is said.
        context: material that an instruction refers to; formats without a place for it append it.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    context: str = ""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One unit of a corpus: running `text`, or the `messages` of a dialogue or instruction, never both.

    Attributes:
        id: where it stands, `prose.jsonl:3`.
        text: running text; empty where there are `messages`.
        messages: a dialogue or instruction; empty where there is `text`.
        rejected: in a set of preferences, the answer that was liked less than the last message; where that is the user's,
            because answers were judged one by one, the only answer that there is.
        origin: what the data set says of where it is from, as far as it does: its `id` there, `url`, `language`, `licence`,
            `revision`. No part of the content.
    """

    id: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    rejected: str = ""
    origin: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def content(self) -> str:
        """Everything a reader of the document sees, as one string; what digests and byte counts are taken from."""
        if not self.messages:
            return self.text
        parts = [part for m in self.messages for part in (m.content, m.context)]
        return "\n".join(part for part in (*parts, self.rejected) if part)

    def edited(self, change: Callable[[str], str]) -> Document:
        """The document with every text in it changed: the running text, or each message, its context and `rejected`.

        Args:
            change: gives the text in place of another.
        """
        messages = tuple(replace(m, content=change(m.content), context=change(m.context)) for m in self.messages)
        return replace(self, text=change(self.text), messages=messages, rejected=change(self.rejected))


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A record that could not become a document.

    Attributes:
        reason: what it is counted under.
        where: file and line.
        size: bytes.
        found: set by langadapt: what a document that was dropped held of evaluations; `""` for everything else.
    """

    reason: str
    where: str
    size: int = 0
    found: str = ""


# --- what plugins offer ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Language:
    """A language that recipes can name.

    Attributes:
        tag: BCP-47 tag, `it`.
        name: in English, `Italian`.
        autonym: in itself, `italiano`.
        script: ISO 15924 code, `Latn`.
        words: word segmentation, text in, list of words out; fertility and cleaning thresholds are bound to it.
        source_language: tag of the language that base models come with.
        lower: a text in lower case, where the language's capitals are not everybody's: `str.lower` makes `ISI` into `isi`,
            Turkish has `ısı`.
        prompts: default prompt format per stage kind, `{"sft": "alpaca-it"}`; tasks are asked in that of `sft`.
        suites: evaluation suites that a recipe gets when it names none.
        thresholds: by the name of a cleaning step, values of its options in place of the defaults: numbers, bound to
            `words`, and texts such as `end_marks` of `c4-quality`.
        function_words: its most frequent words, in lower case: what running text cannot do without.
        boilerplate: phrases of the notices and links around texts of the web ("all rights reserved"), in lower case; the
            step `boilerplate` reads them.
        tell_apart: text that a detector takes for this language in; tag of the related language that it is in truth out, or
            `""` for this language.
        address: text in; `"familiar"` or `"polite"` out, by how it addresses its reader, `"mixed"` for both, `""` for
            neither.
        length_ratio: by source language, the least and the most characters that a translation may have for each
            character of its source.
        parallel_sample: bundled JSONL of translations, `{"en": …, "it": …}`, that rehearsals translate with.
        replay: registered corpus in the source language that `replay = SHARE` mixes in; `""` for none. No evaluation may
            measure on it.
        lm_eval: tasks and groups of lm-evaluation-harness that the suite `lm-eval` asks.
    """

    tag: str
    name: str
    autonym: str
    script: str
    words: Callable[[str], list[str]]
    source_language: str = "en"
    lower: Callable[[str], str] = str.lower
    prompts: Mapping[str, str] = field(default_factory=dict)
    suites: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    function_words: tuple[str, ...] = ()
    boilerplate: tuple[str, ...] = ()
    tell_apart: Callable[[str], str] | None = None
    address: Callable[[str], str] | None = None
    length_ratio: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    parallel_sample: Path | None = None
    replay: str = ""
    lm_eval: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """Files of a dataset repository on the Hugging Face Hub, read one by one and only as far as needed.

    Attributes:
        repo_id: `owner/name` of a data set on the Hugging Face Hub.
        pattern: glob of the files to read, in name order; they are fetched one by one, only as far as needed.
        revision: branch, tag or commit; a run pins the commit.
        limits: documents to read at most, by `config`; `{}` when the set has no configurations.
    """

    repo_id: str
    pattern: str
    revision: str = "main"
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Text or dialogues by name.

    Attributes:
        name: what recipes call it.
        language: BCP-47 tag.
        licence: SPDX identifier, or the name of the terms.
        description: one sentence.
        layout: how a row becomes a document: a name of `langadapt.corpus.layouts.LAYOUTS`.
        read: for files of a kind of their own: folder or file in, `Document` and `Rejected` out.
        source: a `HubSource` to get it from; None when the user must bring a copy.
        where_to_get: what a person does to get a copy, for the message when it is missing.
        gated: whether terms must be accepted first.
        documents: how many there are, when that is known; for the plan.
        bytes: UTF-8 bytes of text, when that is known; the plan estimates epochs from it.
        sample: a bundled file or folder in the same layout, for rehearsals and tests.
        sample_licence: licence of the sample.
        sample_language: BCP-47 tag of the sample, where it is in another language than the corpus.
        complete: whether the sample is the whole corpus; real runs then read it too, unless the user brings a copy.
        filters: cleaning steps that every reading of this corpus applies, by name.
        aliases: other names for it.
    """

    name: str
    language: str
    licence: str
    description: str
    layout: str = "text"
    read: Callable[[Path], Iterable[Document | Rejected]] | None = None
    source: HubSource | None = None
    where_to_get: str = ""
    gated: bool = False
    documents: int | None = None
    bytes: int | None = None
    sample: Path | None = None
    sample_licence: str = ""
    sample_language: str = ""
    complete: bool = False
    filters: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A cleaning step.

    Attributes:
        name: what corpora and recipes call it.
        description: one sentence.
        make: option values and the corpus's `Language` in, or None when no plugin offers it; the step out: a function from
            a `Document` to the document, perhaps changed, or to the reason for dropping it. Called once in each process
            that cleans, so that the step can prepare itself; what it decides must follow from these alone, because it is
            kept over runs. A reason is a fixed phrase: documents are counted by it.
        source: paper or documentation that it follows; `""` for none.
        options: what a recipe may tune, `{ name = "long-enough", characters = 500 }`, with the default values.
        files: those of the options that name a file of the user's; caches go by its content.
        version: raised when the step would decide otherwise, so that caches notice.
    """

    name: str
    description: str
    make: Callable[[Mapping[str, Any], Language | None], Callable[[Document], Document | str]]
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    version: int = 1

    def values(self, language: Language | None, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The value of every option: what is given, else the language's own threshold, else the default.

        Args:
            language: whose `thresholds` are asked; None when no plugin offers it.
            given: what a recipe says, by option.

        Raises:
            UserError: a threshold is a text where the option is a number, or the other way round.
        """
        known = language.thresholds.get(self.name, {}) if language else {}
        own = {key: self._like_default(key, value) for key, value in known.items() if key in self.options}
        return {**self.options, **own, **(given or {})}

    def _like_default(self, option: str, value: float | str) -> float | str:
        """A language's threshold in the type of the option's default; a default of None leaves it to the step."""
        default = self.options[option]
        if default is None or (isinstance(default, str) and isinstance(value, str)):
            return value
        if isinstance(default, str) or isinstance(value, str):
            from langadapt.errors import UserError, written

            kind = "text" if isinstance(default, str) else "number"
            raise UserError(
                f"filter {self.name}: {option} = {written(value)} in the language's thresholds is no {kind}; "
                "its plugin has to mend it"
            )
        return int(value) if isinstance(default, int) else float(value)


@dataclass(frozen=True, kw_only=True)
class TokenizerTask:
    """What a tokenizer strategy works on.

    Attributes:
        tokenizer: the base model's, of the library tokenizers; a copy, which may be changed.
        rows: of the model's embedding matrix; never fewer than the ids of the tokenizer.
        texts: gives an iterator over training text in the target language, each time from its beginning.
        source_texts: the same of the source language; over nothing where no corpus of it is at hand.
        options: the strategy's own, checked.
        say: takes a line for the run's log.
    """

    tokenizer: Tokenizer
    rows: int
    texts: Callable[[], Iterator[str]]
    source_texts: Callable[[], Iterator[str]]
    options: Any
    say: Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TokenizerStrategy:
    """A way to get from the base model's tokenizer to the adapted one.

    Attributes:
        name: what `tokenizer.strategy` says.
        description: one sentence.
        options: pydantic model of the other keys of `[stage.tokenizer]`, a `langadapt.Table`; unknown keys are refused.
        adapt: a `TokenizerTask` in, the adapted tokenizer of the library tokenizers out. A token that stands for the same
            bytes as one before, or is the same special token, keeps that one's rows in the model's matrices; the others are
            new.
        tokens: options and the number of tokens before in; the number after out, as far as the options say. For the plan.
        rehearsed: options in, the same at the scale of a rehearsal out: for a few hundred kilobytes of text. None where
            they serve.
        fingerprint: options in; out: what files that they name hold, so that caches notice a change. Asked by the plan.
            None where they name none.
        source: paper or documentation that it follows; `""` for none.
        version: raised when the same text would give another tokenizer, so that caches notice.
    """

    name: str
    description: str
    options: type[BaseModel]
    adapt: Callable[[TokenizerTask], Tokenizer]
    tokens: Callable[[Any, int], int]
    rehearsed: Callable[[Any], Any] | None = None
    fingerprint: Callable[[Any], str] | None = None
    source: str = ""
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class EmbeddingTask:
    """What an initialisation of embeddings works on.

    Attributes:
        model: the causal language model with its old matrices, in evaluation mode, on the machine's device.
        old: the tokenizer that it was trained with.
        new: the adapted one.
        ids: of the new tokens, which need rows; in the adapted tokenizer.
        pieces: for each of them, the old ids that its bytes are cut into, at least one.
        kept: by new id, the old id whose rows it keeps; None for `ids` and for rows of padding.
        texts: gives an iterator over training text in the target language, each time from its beginning.
        options: the initialisation's own, checked.
        seed: of whatever is drawn at random.
        say: takes a line for the run's log.
    """

    model: Any
    old: Tokenizer
    new: Tokenizer
    ids: Sequence[int]
    pieces: Sequence[Sequence[int]]
    kept: Sequence[int | None]
    texts: Callable[[], Iterator[str]]
    options: Any
    seed: int
    say: Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class EmbeddingInit:
    """How the rows of new tokens start.

    Attributes:
        name: what `embeddings.init` says.
        description: one sentence.
        options: pydantic model of the other keys of `[stage.embeddings]`, a `langadapt.Table`; unknown keys are refused.
        initialise: an `EmbeddingTask` in; the rows of its `ids` out, in their order: of the input matrix, and of the output
            matrix, each of shape (new tokens, hidden_size), None instead of the latter where one matrix serves for both.
        problem: options in; why they cannot be met on this machine and what to do out, or `""`. Asked by the plan: quick,
            without heavy imports. None where nothing can be in the way.
        rehearsed: options in, the same at the scale of a rehearsal out. None where they serve.
        fingerprint: as of `TokenizerStrategy`.
        source: paper or documentation that it follows; `""` for none.
        version: raised when the same would give other rows, so that caches notice.
    """

    name: str
    description: str
    options: type[BaseModel]
    initialise: Callable[[EmbeddingTask], tuple[Tensor, Tensor | None]]
    problem: Callable[[Any], str] | None = None
    rehearsed: Callable[[Any], Any] | None = None
    fingerprint: Callable[[Any], str] | None = None
    source: str = ""
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class PeftStrategy:
    """Which weights learn, and how.

    Attributes:
        name: what `peft.method` says.
        description: one sentence.
        source: paper or documentation that it follows.
        upstream: the class whose fields `[stage.peft]` may set, `peft.tuners.lora.config:LoraConfig`; `""` for none.
        defaults: option values when the recipe is silent; their keys are allowed beside the upstream fields.
        owns: upstream fields that the strategy sets itself, with the reason.
        fixed: values of those that its memory is estimated by.
        choices: the words that an option may have, where there are only some.
        prepare: 16-bit or 32-bit model and options in; model with its trainable parameters marked out. The model is on
            the machine's device, or in main memory where `weight_bits` says that it will be quantised.
        trainable: number of parameters that learn, from the model's shape and the options; None when that shows in the
            run alone.
        reached: names of the base's weights that learn, or beside which something learns, as `ModelShape.weights` has
            them, from the model's shape and the options. None when that shows in the run alone; memory is then estimated
            as if it were every linear layer.
        learning: names of the parameters that learn as a recipe's patterns meet them in the run, or of more than those,
            from shape and options; None when they show in the run alone.
        misfits: what of the options does not fit a model of this shape, and what to do; asked by the plan.
        lacks: what of the options a machine cannot do, from the machine and the options, and what to do instead; asked by
            the plan.
        weight_bits: bits per frozen base weight in memory (4.5 for NF4 with its absmax), from the options.
        freeze: what `prepare` does to the base before it adds an adapter, such as quantising it, in place; the merge
            certificate does it again: a saved adapter on a base that went through it is the model as it was trained. None
            when nothing is done to it.
        save: trained model, options and folder in; writes the adapter, for the base as it was before `prepare`. None
            when PEFT's own `save_pretrained` does that.
        rate: name of a parameter and options in; its factor on the learning rate out. None when all have the same.
        decay: name of a parameter and options in; whether weight decay may move it. None when it may move all.
        calibrate: what `prepare` gave, options, and documents in the source language, each as its token ids, in; the
            model with its trainable parameters marked out. Documents are read as they are drawn. None when the strategy
            needs no text; with it, a stage must have a corpus to take the text from.
        finish: trained model and options in; the model as it is to be saved out, of the base's own class and with its
            weights' own names. None where that is the trained model itself, or an adapter is saved.
        trains_base: whether base weights themselves learn, so that the stage saves whole weights and not an adapter.
    """

    name: str
    description: str
    source: str
    prepare: Callable[[Any, Mapping[str, Any]], Any]
    trainable: Callable[[Any, Mapping[str, Any]], int | None]
    weight_bits: Callable[[Mapping[str, Any]], float]
    reached: Callable[[ModelShape, Mapping[str, Any]], Collection[str]] | None = None
    learning: Callable[[ModelShape, Mapping[str, Any]], Collection[str] | None] | None = None
    misfits: Callable[[ModelShape, Mapping[str, Any]], Iterable[str]] | None = None
    lacks: Callable[[Machine, Mapping[str, Any]], Iterable[str]] | None = None
    upstream: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    owns: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    freeze: Callable[[Any, Mapping[str, Any]], None] | None = None
    save: Callable[[Any, Mapping[str, Any], Path], None] | None = None
    rate: Callable[[str, Mapping[str, Any]], float] | None = None
    decay: Callable[[str, Mapping[str, Any]], bool] | None = None
    calibrate: Callable[[Any, Mapping[str, Any], Iterator[list[int]]], Any] | None = None
    finish: Callable[[Any, Mapping[str, Any]], Any] | None = None
    trains_base: bool = False


@dataclass(frozen=True, kw_only=True)
class StageKind:
    """A kind of stage.

    Attributes:
        name: what `kind` says.
        description: one sentence.
        version: raised whenever the same options would give another artifact, so that caches notice.
        options: subclass of `langadapt.StageOptions` (pydantic) with the stage's own keys; unknown keys are refused.
        makes: `"model"` when later stages can start from it, `"corpus"` when they can read it by `{ stage = "ID" }` (a file
            `corpus.jsonl` of documents in its folder), `"results"` when it only measures.
        plan: fills in the planned stage: steps, tokens, memory, inputs, and what is in the way.
        run: does it, in the folder that it is given.
    """

    name: str
    description: str
    version: int
    options: type[BaseModel]
    makes: Literal["model", "corpus", "results"]
    plan: Callable[[PlannedStage, Planner], None]
    run: Callable[[StageContext], StageResult]


@dataclass(frozen=True, kw_only=True)
class RecipeSource:
    """A packaged recipe, run as `langadapt run NAME`.

    Attributes:
        name: `language/recipe`.
        path: the TOML file in the package.
        description: one sentence.
    """

    name: str
    path: Path
    description: str


@dataclass(frozen=True, kw_only=True)
class ExperimentSource:
    """A packaged experiment, run as `langadapt sweep NAME`.

    Attributes:
        name: `language/experiment`.
        path: the TOML file in the package.
        description: one sentence.
    """

    name: str
    path: Path
    description: str


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of a rendered prompt.

    Attributes:
        text: a piece of text; empty for a special token.
        special: one special token, `"bos"` or `"eos"`; left out when the tokenizer has none.
        loss: whether its tokens are learnt.
    """

    text: str = ""
    special: Literal["", "bos", "eos"] = ""
    loss: bool = False


@dataclass(frozen=True, kw_only=True)
class PromptFormat:
    """A chat or instruction template.

    Attributes:
        name: what `prompt` says.
        description: one sentence.
        render: messages and system prompt in, segments out. Text between two special tokens is tokenised in one go, so the
            pieces may be cut wherever the loss begins and ends. A list that ends with a user message gives the prompt that
            a model is asked to continue; the same list with the answer must begin with exactly those segments.
        system_prompt: used when the messages bring none and the recipe sets none; `""` for none.
        version: raised when the rendering changes in a way that a two-turn dialogue does not show, so that caches notice.
    """

    name: str
    description: str
    render: Callable[[Sequence[Message], str], Iterable[Segment]]
    system_prompt: str = ""
    version: int = 1


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question of an evaluation.

    Attributes:
        id: says where it is from; unique in the evaluation, and stable: comparisons pair by it.
        messages: what the model is asked; ends with a user message; `()` where bare sentences are compared.
        gold: what `score` compares with, a JSON value; of `choices`, the place of the right one.
        split: which part of the data it is from, where that depends on the files at hand; `""` for what the evaluation
            says.
        choices: texts whose likelihood is compared (`choose`).
    """

    id: str
    messages: tuple[Message, ...]
    gold: Any
    split: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer to an item.

    Attributes:
        item: the question; in comparisons its `messages` are empty.
        text: what the model wrote, or the likeliest choice.
        prediction: what `decode` made of it, or None when it could not be decoded; of choices, the place of the likeliest.
        finished: whether the model ended it; otherwise it wrote until there was no more room.
        logprobs: log-likelihood of each of the item's choices, in nats (`choose`).
    """

    item: Item
    text: str
    prediction: Any | None
    finished: bool = True
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Something that is measured on a model.

    Attributes:
        name: row name in reports, `wic-ita`.
        language: BCP-47 tag of the text.
        description: one sentence.
        corpus: the corpus that it reads; its licence and where to get it hold here too.
        suites: suites that it belongs to.
        method: `"bits_per_byte"` scores the corpus's text; `"generate"` asks the items and scores the answers; `"choose"`
            compares the likelihood of each item's choices.
        split: which part of the data, for the report.
        items: folder or file in, `Item` and `Rejected` out (`generate`, `choose`).
        decode: whatever text a model wrote in; a prediction out, or None when there is none in it (`generate`); without it,
            the text is the prediction.
        score: a non-empty list of `Answer` in, value per metric out (`generate`, `choose`); without it, `choose` gives
            accuracy and calibration.
        metrics: metric name to whether higher is better, None where neither is; every metric that `score` gives.
        max_new_tokens: room for an answer (`generate`).
        one_line: an answer ends with its first line, so generation does too (`generate`).
        signatures: nothing in; by metric, how exactly and with which version of what it is computed out, such as
            sacrebleu's signature; kept in the report's rows (`generate`).
        bare: messages and choice are one running text without a prompt format around it (`choose`).
    """

    name: str
    language: str
    description: str
    corpus: str
    suites: tuple[str, ...] = ()
    method: Literal["bits_per_byte", "generate", "choose"] = "generate"
    split: str = "test"
    items: Callable[[Path], Iterable[Item | Rejected]] | None = None
    decode: Callable[[str], Any | None] | None = None
    score: Callable[[Sequence[Answer]], Mapping[str, float]] | None = None
    metrics: Mapping[str, bool | None] = field(default_factory=dict)
    max_new_tokens: int = 16
    one_line: bool = True
    signatures: Callable[[], Mapping[str, str]] | None = None
    bare: bool = False


@dataclass(frozen=True, kw_only=True)
class Translator:
    """A translation engine.

    Attributes:
        name: what `name` in `[stage.translator]` says.
        description: one sentence.
        options: pydantic model of the table's other keys, a `langadapt.Table`; unknown keys are refused.
        problem: options, source and target tag in; out: why this machine cannot translate so (no such program, package,
            model or pair) and what to do, or `""`. Asked by the plan: quick, without network or heavy imports.
        fingerprint: options, source and target tag in; out: all that translations depend on, such as program version
            and digest of the model's files. Translations are remembered under it.
        open: options, source and target tag in; out: a function from texts to as many translations, in their order.
            Called once in a run; texts are paragraphs or sentences without line breaks.
        batch: texts that the function gets at a time, at most.
    """

    name: str
    description: str
    options: type[BaseModel]
    problem: Callable[[Any, str, str], str]
    fingerprint: Callable[[Any, str, str], str]
    open: Callable[[Any, str, str], Callable[[Sequence[str]], Sequence[str]]]
    batch: int = 64
