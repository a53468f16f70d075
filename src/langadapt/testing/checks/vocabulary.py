"""Tokenizer strategies and initialisations of embeddings, tried on a small tokenizer and a random model of two layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from langadapt.records import EmbeddingInit, EmbeddingTask, TokenizerStrategy, TokenizerTask
from langadapt.testing.conformance import NotChecked, Subject, check
from langadapt.testing.models import PROSE, WORDS, base_folder, load_base
from langadapt.testing.texts import HARD, quoted

SPECIAL = ("<s>", "</s>", "<pad>")
MORE = 64  # tokens that the adapted tokenizer has more
SEED = 1

_OPTIONS = "class Options(Table): with the other keys of the table; from langadapt import Table"


@check(TokenizerStrategy, right=_OPTIONS)
def tokenizer_strategy_options(strategy: TokenizerStrategy, subject: Subject) -> Iterator[str]:
    """Its options are a pydantic model that refuses unknown keys."""
    yield from _refuses_unknown(strategy.options)


@check(TokenizerStrategy, right="return the tokenizer, of the library tokenizers, with ids from 0 on without a gap")
def tokenizer_strategy_adapts(strategy: TokenizerStrategy, subject: Subject) -> Iterator[str]:
    """`adapt` gives a tokenizer with the special tokens of the old one and with ids without gaps."""
    from tokenizers import Tokenizer

    adapted = _adapted(strategy, subject)
    if not isinstance(adapted, Tokenizer):
        yield f"adapt gives a {type(adapted).__name__} and no tokenizers.Tokenizer"
        return
    ids = sorted(adapted.get_vocab(with_added_tokens=True).values())
    if ids != list(range(len(ids))):
        yield f"its {len(ids)} ids go from {ids[0]} to {ids[-1]} with gaps"
    for token in SPECIAL:
        if adapted.token_to_id(token) is None:
            yield f"the special token {token} is gone"


@check(TokenizerStrategy, right="every text that went in comes out again: keep the bytes of the old alphabet")
def tokenizer_strategy_loses_no_text(strategy: TokenizerStrategy, subject: Subject) -> Iterator[str]:
    """Decoding what was encoded gives the same text, for any text that the old tokenizer keeps."""
    adapted, old = _adapted(strategy, subject), _tokenizer(subject)
    for text in (*PROSE, HARD["emoji"], HARD["text from right to left"], HARD["combining marks that stand alone"]):
        ids = adapted.encode(text, add_special_tokens=False).ids
        if adapted.decode(ids) != text and old.decode(old.encode(text, add_special_tokens=False).ids) == text:
            yield f"{quoted(text)} becomes {quoted(adapted.decode(ids))}"


@check(
    TokenizerStrategy,
    right="the same text and options give the same tokenizer; version is raised when they give another",
)
def tokenizer_strategy_repeats(strategy: TokenizerStrategy, subject: Subject) -> Iterator[str]:
    """`adapt` gives the same tokenizer when it is called again."""
    if _adapted(strategy, subject).to_str() != strategy.adapt(_task(strategy, subject)).to_str():
        yield "a second call gives another tokenizer"


@check(TokenizerStrategy, right="tokens=lambda options, before: before + options.tokens")
def tokenizer_strategy_counts(strategy: TokenizerStrategy, subject: Subject) -> Iterator[str]:
    """`tokens` gives a number of tokens for the plan, and no fewer than come of it."""
    found = strategy.tokens(_values(strategy, subject), WORDS)
    made = _adapted(strategy, subject).get_vocab_size(with_added_tokens=True)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        yield f"tokens gives {found!r}"
    elif found < made:
        yield f"tokens says {found}, and {made} come of it"


@check(EmbeddingInit, right=_OPTIONS)
def embedding_initialisation_options(init: EmbeddingInit, subject: Subject) -> Iterator[str]:
    """Its options are a pydantic model that refuses unknown keys."""
    yield from _refuses_unknown(init.options)


@check(EmbeddingInit, right='"" where it can be done here; else why not and what to do')
def embedding_initialisation_problem(init: EmbeddingInit, subject: Subject) -> Iterator[str]:
    """`problem` gives a text."""
    if init.problem and not isinstance(said := init.problem(_values(init, subject)), str):
        yield f"problem gives {said!r}"


@check(
    EmbeddingInit,
    right="(rows of the input matrix, rows of the output matrix or None), each of shape (new tokens, hidden_size)",
)
def embedding_initialisation_rows(init: EmbeddingInit, subject: Subject) -> Iterator[str]:
    """Each new token gets a row of each matrix: finite, not zero, and one matrix's only where the model has one."""
    import torch

    for tied in (False, True):
        task, (inputs, outputs) = _initialised(init, subject, tied)
        kind = "one matrix for both" if tied else "two matrices"
        if (outputs is None) != tied:
            yield f"of a model with {kind} it gives {'no' if outputs is None else 'other'} rows for the output"
        for name, rows in (("input", inputs), ("output", outputs)):
            if rows is None:
                continue
            wanted = (len(task.ids), task.model.config.hidden_size)
            if tuple(rows.shape) != wanted:
                yield f"the {name} rows have shape {tuple(rows.shape)}, wanted {wanted}, of a model with {kind}"
            elif not torch.isfinite(rows).all():
                yield f"an {name} row is not finite, of a model with {kind}"
            elif not rows.abs().sum(1).all():
                yield f"an {name} row is zero, of a model with {kind}"


@check(EmbeddingInit, right="clone what you take: the caller puts the rows into the matrices")
def embedding_initialisation_leaves_the_model(init: EmbeddingInit, subject: Subject) -> Iterator[str]:
    """The model is as it was, and the rows are none of its own memory."""
    import torch

    task = _task_of(init, subject, tied=False)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    rows = init.initialise(task)
    for name, tensor in task.model.state_dict().items():
        if name not in before or not torch.equal(tensor, before[name]):
            yield f"{name} has changed"
    matrix = task.model.get_input_embeddings().weight
    if rows[0].untyped_storage().data_ptr() == matrix.untyped_storage().data_ptr():
        yield "the rows are a view of the model's matrix"


@check(EmbeddingInit, right="torch.Generator().manual_seed(task.seed) for whatever is drawn")
def embedding_initialisation_repeats(init: EmbeddingInit, subject: Subject) -> Iterator[str]:
    """The same task gives the same rows."""
    import torch

    first, again = (init.initialise(_task_of(init, subject, tied=False)) for _ in range(2))
    for name, one, other in zip(("input", "output"), first, again, strict=True):
        if one is not None and other is not None and not torch.equal(one, other):
            yield f"a second call gives other {name} rows"


def _refuses_unknown(options: Any) -> Iterator[str]:
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        yield f"{options!r} is no pydantic model"
    elif options.model_config.get("extra") != "forbid":
        yield f"{options.__name__} takes keys that it does not know"


def _values(record: TokenizerStrategy | EmbeddingInit, subject: Subject) -> Any:
    try:
        return record.options.model_validate(dict(subject.options.get(record.name, {})))
    except AttributeError:
        raise NotChecked("its options are no pydantic model") from None
    except ValidationError as error:
        missing = ", ".join(str(detail["loc"][0]) for detail in error.errors())
        raise NotChecked(f"values for {missing} are needed; give them in `options`") from None


def _tokenizer(subject: Subject) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(base_folder(subject) / "tokenizer.json"))


def _task(strategy: TokenizerStrategy, subject: Subject) -> TokenizerTask:
    tokenizer = _tokenizer(subject)
    return TokenizerTask(
        tokenizer=tokenizer,
        rows=tokenizer.get_vocab_size(with_added_tokens=True),
        texts=lambda: iter(PROSE),
        source_texts=lambda: iter(PROSE[1:2]),
        options=_values(strategy, subject),
        say=lambda line: None,
    )


def _adapted(strategy: TokenizerStrategy, subject: Subject) -> Any:
    return subject.once(("adapted", strategy.name), lambda: strategy.adapt(_task(strategy, subject)))


def _initialised(init: EmbeddingInit, subject: Subject, tied: bool) -> tuple[EmbeddingTask, tuple[Any, Any]]:
    task = _task_of(init, subject, tied=tied)
    return task, init.initialise(task)


def _task_of(init: EmbeddingInit, subject: Subject, *, tied: bool) -> EmbeddingTask:
    old, new = _tokenizer(subject), subject.once("larger tokenizer", lambda: _larger(subject))
    known, tokens = old.get_vocab(), sorted(new.get_vocab().items(), key=lambda found: found[1])
    ids = [id for token, id in tokens if token not in known]
    return EmbeddingTask(
        model=load_base(subject, tied=tied).eval(),
        old=old,
        new=new,
        ids=ids,
        pieces=[_pieces(old, new.id_to_token(id)) for id in ids],
        kept=[known.get(token) for token, _ in tokens],
        texts=lambda: iter(PROSE),
        options=_values(init, subject),
        seed=SEED,
        say=lambda line: None,
    )


def _larger(subject: Subject) -> Any:
    """The tokenizer that a longer training on the same texts gives: the base's own tokens, and more."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(base_folder(subject, words=WORDS + MORE) / "tokenizer.json"))


def _pieces(old: Any, token: str) -> list[int]:
    """The old ids that a new token's bytes are cut into."""
    from tokenizers import Tokenizer

    return list(Tokenizer(old.model).encode(token).ids)
