"""`sft`: supervised fine-tuning on dialogues and instructions, with loss on the answers only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from langadapt.plugins import Registry
from langadapt.recipe import NAMES, Rehearsal, StageOptions
from langadapt.records import Document, StageKind
from langadapt.stages.trained import TRAINING, TrainedOptions, plan_training, prompt_ingredient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langadapt.corpus.packing import Sequence_
    from langadapt.corpus.splitting import Messages
    from langadapt.evaluation.bits_per_byte import Scored
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult


class SftOptions(TrainedOptions):
    """Options of `sft`."""

    prompt: str = Field(
        "chatml",
        description="Prompt format; `chatml` is the core's, for tokenizers that have its two marks.",
        json_schema_extra={NAMES: "prompts"},
    )
    system_prompt: str = Field(
        "", description="In place of the format's own; a system message in the data comes before both."
    )
    too_long: Literal["drop", "split"] = Field(
        "drop",
        description='A dialogue longer than `max_length` is dropped (`"drop"`), or split between exchanges '
        '(`"split"`).',
    )

    defaults: ClassVar[Mapping[str, Any]] = TRAINING | {"learning_rate": 2e-5, "num_train_epochs": 3.0}
    measured: ClassVar[Literal["text", "answers", "preferences"]] = "answers"

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        yield from super().check(known)
        if self.prompt not in known.prompts:
            yield ("prompt",), f'no plugin offers the prompt format "{self.prompt}"', known.prompts.missing(self.prompt)

    def rehearsed(self, rehearsal: Rehearsal) -> StageOptions:
        # Dialogues are never cut, so rows keep a length that those of samples fit into; a step is one row.
        return self.shrunk(rehearsal, steps=rehearsal.sft_steps, length=TRAINING["max_length"])


def plan(stage: PlannedStage, planner: Planner) -> None:
    """See `plan_training`; the prompt's rendering is part of the digest."""
    assert isinstance(stage.options, SftOptions)
    plan_training(stage, planner, stage.options)
    stage.ingredients["prompt rendering"] = prompt_ingredient(stage.options.prompt, planner.registry)


def run(context: StageContext) -> StageResult:
    """Dialogues → tokens with the answers marked → rows by best fit → training → adapter or weights."""
    from langadapt.corpus.encoding import Encoder
    from langadapt.corpus.splitting import split
    from langadapt.corpus.tokenising import pack
    from langadapt.evaluation.bits_per_byte import score_answers
    from langadapt.prompts.rendering import encode_all
    from langadapt.training import train

    options = context.stage.options
    assert isinstance(options, SftOptions)
    tokenizer, format = context.tokenizer(), context.registry.prompts[options.prompt]
    encoder, longest = Encoder(tokenizer), int(options.training["max_length"])

    def encoded(dialogues: list[Messages]) -> list[Sequence_]:
        return encode_all(format, dialogues, tokenizer, encoder, options.system_prompt)

    def score(model: Any, document: Document) -> Scored:
        answers = "".join(m.content for m in document.messages if m.role == "assistant")
        return score_answers(model, encoded([document.messages])[0], answers)

    def parts(document: Document) -> list[Sequence_]:
        return encoded(list(split(document.messages, lambda part: encoded([part])[0].size <= longest)))

    packed = pack(
        context,
        options,
        tokenizer,
        encoder,
        encode=lambda documents: encoded([d.messages for d in documents]),
        split=parts if options.too_long == "split" else None,
        whole=True,
    )
    return train(context, packed, options, score=score)


STAGE = StageKind(
    name="sft",
    description="Supervised fine-tuning on dialogues and instructions, loss on the answers only.",
    version=1,
    options=SftOptions,
    makes="model",
    plan=plan,
    run=run,
)
