"""lm-evaluation-harness at work on a model in memory; imported only when one of its tasks is asked.

Its function `evaluate` is called, and not `simple_evaluate`, which would ask the hub about the model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import datasets
import numpy as np
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

from langadapt import harness, hub
from langadapt.artifacts import digest
from langadapt.errors import LangadaptError, RunError
from langadapt.evaluation.methods import SMALL, Measure, Subject
from langadapt.harness import HarnessTask
from langadapt.inputs import Input
from langadapt.records import Document, Item, Message

harness.quieten()
datasets.disable_progress_bars()


def ask(subject: Subject, measure: Measure) -> tuple[Any, list[dict[str, Any]], bool]:
    """Asks a task's items, as many as the recipe lets be asked.

    They are chosen by hash: the harness's own `limit` takes the first ones, and files are often sorted.

    Returns:
        The harness's task, its samples, and whether they are too small a part to be a measurement.

    Raises:
        RunError: the data cannot be loaded, or the harness's code fails.
        Interrupted: the run is to end.
    """
    task = measure.harness
    assert task
    with _in_words(task):
        data = _data(measure.input, task)
        with hub.unconnected():
            return _asked(subject, measure, task, _made(task, data))


def items(task: HarnessTask, data: Input) -> Iterator[Item | Document]:
    """What a task without examples asks; of a task that scores running text, its documents.

    Raises:
        RunError: the data cannot be loaded, or the harness's code fails.
    """
    with _in_words(task):
        loaded = _data(data, task)
        with hub.unconnected():
            made = _made(task, loaded)
            for number, doc in enumerate(made.eval_docs):
                yield _item(made, doc, str(number))


def _item(made: Any, doc: Any, id: str) -> Item | Document:
    question, target = made.doc_to_text(doc), made.doc_to_target(doc)
    if made.OUTPUT_TYPE == "loglikelihood_rolling":
        return Document(id=id, text=str(target))
    choices = tuple(map(str, made.doc_to_choice(doc))) if made.config.doc_to_choice is not None else ()
    if isinstance(target, list):  # of several right answers the first
        target = target[0] if target else ""
    if target in choices:
        target = choices.index(target)
    # Where the question is a number, the choices are what is before one and the same end.
    asked = (Message(role="user", content=question),) if isinstance(question, str) and question else ()
    return Item(id=id, messages=asked, gold=target, choices=choices)


def _asked(subject: Subject, measure: Measure, task: HarnessTask, made: Any) -> tuple[Any, list[dict[str, Any]], bool]:
    count, limit = len(made.eval_docs), subject.settings.max_items
    chosen = list(range(count))
    if limit and count > limit:  # in ascending order, or the harness gives items the numbers of others
        chosen = sorted(sorted(chosen, key=lambda i: digest([task.name, i]))[:limit])
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)
    part = {task.name: chosen} if len(chosen) < count else None
    found = evaluate(
        lm=_model(subject, measure, made), task_dict={"tasks": {task.name: made}}, samples=part, bootstrap_iters=0
    )
    return made, found["samples"][task.name], part is not None and limit < SMALL


def _made(task: HarnessTask, data: Any) -> Any:
    """The harness's task on data that is there; without shots, the split that they would come from is not asked for."""
    config = load_yaml(task.path) | {"custom_dataset": lambda **_: data, "num_fewshot": task.num_fewshot}
    if not task.num_fewshot:
        config |= {"fewshot_split": task.evaluated, "fewshot_config": None}
    made = ConfigurableTask(config={k: v for k, v in config.items() if k not in ("tag", "group", "task_list")})
    made.set_fewshot_seed(DEFAULT_OTHER_SEED)
    return made


def _model(subject: Subject, measure: Measure, made: Any) -> Any:
    """The model as the harness takes it.

    Log-probabilities are computed in fp32, where its default is the type of the logits. It remembers the logits of a
    context for all answers to one question, but not for running text, where it takes windows for each other that say
    the same.
    """

    class Model(HFLM):  # type: ignore[misc]
        def _model_call(self, *arguments: Any, **named: Any) -> Any:
            subject.go_on(measure)
            return super()._model_call(*arguments, **named)

        def _model_generate(self, *arguments: Any, **named: Any) -> Any:
            subject.go_on(measure)
            return super()._model_generate(*arguments, **named)

    return Model(
        pretrained=subject.model,
        tokenizer=subject.tokenizer,
        backend="causal",
        batch_size=harness.batch_size(subject.model.config.vocab_size),
        softmax_dtype=torch.float32,
        logits_cache=made.OUTPUT_TYPE != "loglikelihood_rolling",
    )


def _data(found: Input, task: HarnessTask) -> Mapping[str, Any]:
    """The task's data set: the user's copy, or the commit on the hub that the run is pinned to."""
    if found.where == "hub":
        with hub.in_words(task.dataset, revision=found.fingerprint, dataset=True):
            return _loaded(task.dataset, task, revision=found.fingerprint, **task.options)
    assert found.path
    copy = harness.copy_of(task, str(found.path))
    if not copy.files:
        return _loaded(str(copy.path), task, **task.options)
    files = {split: str(file) for split, file in copy.files.items()}
    loaded: Mapping[str, Any] = datasets.load_dataset(copy.builder, data_files=files)
    return loaded


def _loaded(place: str, task: HarnessTask, **options: Any) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = datasets.load_dataset(place, task.config or None, **options)
    return loaded


@contextmanager
def _in_words(task: HarnessTask) -> Iterator[None]:
    """What a stranger's code raises, with the name of the task; memory that runs out is told by whoever runs stages."""
    try:
        yield
    except (LangadaptError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        said = f"{type(error).__name__}: {first}" if first else type(error).__name__
        raise RunError(
            f"{task.named[0]}: lm-evaluation-harness {harness.version()} failed: {said}; see whether it runs by itself"
        ) from error
