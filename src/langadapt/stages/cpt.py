"""`cpt`: continual pretraining on running text, every token of it predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langadapt.recipe import Rehearsal, StageOptions
from langadapt.records import Document, StageKind
from langadapt.stages.trained import TrainedOptions, plan_training

if TYPE_CHECKING:
    from langadapt.corpus.encoding import Encoder
    from langadapt.corpus.packing import Sequence_
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult


class CptOptions(TrainedOptions):
    """Options of `cpt`."""

    def rehearsed(self, rehearsal: Rehearsal) -> StageOptions:
        return self.shrunk(rehearsal, steps=rehearsal.cpt_steps, length=rehearsal.batch_tokens)


def plan(stage: PlannedStage, planner: Planner) -> None:
    """See `plan_training`."""
    assert isinstance(stage.options, CptOptions)
    plan_training(stage, planner, stage.options)


def run(context: StageContext) -> StageResult:
    """Documents → tokens between BOS and EOS → wrapped rows → training → adapter or weights."""
    from langadapt.corpus.encoding import Encoder
    from langadapt.corpus.tokenising import pack
    from langadapt.evaluation.bits_per_byte import score_text
    from langadapt.training import train

    options = context.stage.options
    assert isinstance(options, CptOptions)
    tokenizer = context.tokenizer()
    encoder = Encoder(tokenizer)
    packed = pack(
        context,
        options,
        tokenizer,
        encoder,
        encode=lambda documents: text_sequences(documents, tokenizer, encoder),
        whole=False,
    )
    return train(context, packed, options, score=lambda model, document: score_text(model, tokenizer, document.content))


def text_sequences(documents: list[Document], tokenizer: Any, encoder: Encoder) -> list[Sequence_]:
    """Token ids of running text: BOS (not learnt, nothing predicts it), the text, EOS (learnt, so that texts end)."""
    import numpy as np

    from langadapt.corpus.packing import Sequence_

    start = np.array([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id], np.uint32)
    end = np.array([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id], np.uint32)

    def sequence(ids: Any) -> Sequence_:
        whole = np.concatenate([start, ids, end])
        learn = np.ones(len(whole), np.bool_)
        learn[: len(start)] = False
        return Sequence_(whole, learn)

    return [sequence(ids) for ids in encoder.ids([d.text or d.content for d in documents])]


STAGE = StageKind(
    name="cpt",
    description="Continual pretraining on running text.",
    version=2,
    options=CptOptions,
    makes="model",
    plan=plan,
    run=run,
)
