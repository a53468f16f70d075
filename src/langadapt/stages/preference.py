"""`preference`: direct preference optimisation and its kin, on pairs of a better and a worse answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from langadapt.errors import nearest
from langadapt.plugins import Registry
from langadapt.recipe import Rehearsal, StageOptions
from langadapt.records import Document, StageKind
from langadapt.stages.sft import SftOptions
from langadapt.stages.trained import OWNED, TRAINING, plan_training, prompt_ingredient

if TYPE_CHECKING:
    from langadapt.corpus.packing import Pair
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult

# Values of `loss_type`, as trl names them, and the papers that they come from.
LOSSES: dict[str, str] = {
    "sigmoid": "DPO, arXiv 2305.18290",
    "sigmoid_norm": "DPO on means over tokens",
    "hinge": "SLiC-HF, arXiv 2305.10425",
    "ipo": "IPO, arXiv 2310.12036",
    "robust": "robust DPO, arXiv 2403.00409; label_smoothing is the share of flipped pairs",
    "exo_pair": "EXO, arXiv 2402.00856; label_smoothing must be above 0",
    "nca_pair": "NCA, arXiv 2402.05369",
    "bco_pair": "BCO, arXiv 2404.04656",
    "sppo_hard": "SPPO with hard labels, arXiv 2405.00675",
    "apo_zero": "APO for chosen answers better than the model's own, arXiv 2408.06266",
    "apo_down": "APO for chosen answers worse than the model's own, arXiv 2408.06266",
    "discopop": "DiscoPOP, arXiv 2406.08414",
    "sft": "cross-entropy of the chosen answer, for a sum with another loss",
}
# Those that compare the two answers' ratios alone, which is what an f-divergence other than the default needs.
DIFFERENCES = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft")
DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")

REHEARSED_RATE = 1e-4  # with more, the margins of the small model swing from pair to pair in place of growing

PREFERENCE = TRAINING | {"learning_rate": 5e-6, "loss_type": ["sigmoid"], "beta": 0.1}

_FIXED = "the reference stays the model that the stage starts from"
_TOKENS = "pairs are tokenised by langadapt, in the format that prompt names"
PREFERENCE_OWNED = OWNED | {
    "eval_strategy": "held-out pairs are measured by evaluate stages",
    "load_best_model_at_end": "held-out pairs are measured by evaluate stages",
    "early_stopping_patience": "held-out pairs are measured by evaluate stages",
    "early_stopping_threshold": "held-out pairs are measured by evaluate stages",
    "model_init_kwargs": "the model is the one that the stage starts from",
    "trust_remote_code": "code from model repositories is never run",
    "router_aux_loss_coef": "the balance of a mixture of experts is not trained here",
    "dataset_num_proc": _TOKENS,
    "pad_token": _TOKENS,
    "truncation_mode": "nothing is cut; a pair longer than max_length is dropped and counted",
    "padding_free": "a batch is padded to its longest answer",
    "pad_to_multiple_of": "a batch is padded to its longest answer",
    "precompute_ref_log_probs": "the reference is asked in the same step, on the same weights",
    "precompute_ref_batch_size": "the reference is asked in the same step, on the same weights",
    "activation_offloading": "activation_checkpointing keeps fewer of them",
    "sync_ref_model": _FIXED,
    "ref_model_mixup_alpha": _FIXED,
    "ref_model_sync_steps": _FIXED,
    "use_weighting": "WPO's weights are not computed",
    "use_liger_kernel": "log-probabilities are taken with the head in one go already",
}


class PreferenceOptions(SftOptions):
    """Options of `preference`."""

    defaults: ClassVar[Mapping[str, Any]] = PREFERENCE
    upstream: ClassVar[str] = "trl.trainer.dpo_config:DPOConfig"
    owned: ClassVar[Mapping[str, str]] = PREFERENCE_OWNED
    answers: ClassVar[int] = 2
    asks_reference: ClassVar[bool] = True
    measured: ClassVar[Literal["text", "answers", "preferences"]] = "preferences"

    @field_validator("training")
    @classmethod
    def _with_losses_as_a_list(cls, value: dict[str, Any]) -> dict[str, Any]:
        losses = value.get("loss_type")
        return {**value, "loss_type": [losses]} if isinstance(losses, str) else value

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        yield from super().check(known)
        for key, message, hint in _loss_problems(self.training):
            yield ("training", key), message, hint
        if self.peft.get("bias", "none") != "none":
            message = "biases of the base learn beside the adapter, so the base is no reference any more"
            yield ("peft", "bias"), message, 'use "none"'

    def rehearsed(self, rehearsal: Rehearsal) -> StageOptions:
        small = self.shrunk(rehearsal, steps=rehearsal.preference_steps, length=PREFERENCE["max_length"])
        # A batch is as long as its longest answer and not as max_length, so a few pairs fit where one row would.
        few = min(rehearsal.preference_pairs, self.training["per_device_train_batch_size"])
        rate = min(small.training["learning_rate"], REHEARSED_RATE)
        changed = small.training | {"per_device_train_batch_size": few, "learning_rate": rate}
        return small.model_copy(update={"training": changed})


def _loss_problems(training: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """What is wrong with the options of the loss, beyond their types."""
    given = training["loss_type"]
    losses = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    if given == []:
        yield "loss_type", "at least one loss is needed", nearest("", LOSSES)
    for name in losses:
        if name in ("aot", "aot_unpaired"):
            yield "loss_type", f'"{name}" sorts a batch, so it depends on how a step is cut into batches', ""
        elif name not in LOSSES:
            yield "loss_type", f'there is no loss "{name}"', nearest(name, LOSSES)
    weights = training.get("loss_weights")
    if isinstance(weights, list) and len(weights) != len(losses):
        yield "loss_weights", f"{len(weights)} weights for {len(losses)} losses", ""
    for key, low, high in (("beta", 0, float("inf")), ("ld_alpha", -1e-9, 1 + 1e-9), ("label_smoothing", -1e-9, 0.5)):
        value = training.get(key)
        if isinstance(value, (int, float)) and not low < value < high:
            wanted = {"beta": "above 0", "ld_alpha": "from 0 to 1", "label_smoothing": "from 0 to below 0.5"}[key]
            yield key, f"{value} is not {wanted}", ""
    if "exo_pair" in losses and not training.get("label_smoothing"):
        yield "label_smoothing", "the loss exo_pair needs it above 0", "its paper takes 1e-3"
    divergence = training.get("f_divergence_type", "reverse_kl")
    if divergence not in DIVERGENCES:
        yield "f_divergence_type", f"{divergence!r} is not one of its values", nearest(str(divergence), DIVERGENCES)
    elif divergence != "reverse_kl" and (others := [name for name in losses if name not in DIFFERENCES]):
        yield "f_divergence_type", f"the loss {others[0]} knows reverse_kl alone", ""


def plan(stage: PlannedStage, planner: Planner) -> None:
    """See `plan_training`; the prompt's rendering is part of the digest."""
    options = stage.options
    assert isinstance(options, PreferenceOptions)
    plan_training(stage, planner, options)
    stage.ingredients["prompt rendering"] = prompt_ingredient(options.prompt, planner.registry)


def run(context: StageContext) -> StageResult:
    """Dialogues with two last answers → tokens of both, prompts alike → pairs → training → adapter or weights."""
    from langadapt.corpus.encoding import Encoder
    from langadapt.corpus.splitting import last
    from langadapt.corpus.tokenising import pack_pairs
    from langadapt.preference import train
    from langadapt.prompts.rendering import encode_pairs

    options = context.stage.options
    assert isinstance(options, PreferenceOptions)
    tokenizer, format = context.tokenizer(), context.registry.prompts[options.prompt]

    encoder, longest = Encoder(tokenizer), int(options.training["max_length"])

    def pairs(documents: list[Document]) -> list[Pair]:
        return encode_pairs(format, documents, tokenizer, encoder, options.system_prompt)

    def fits(document: Document) -> bool:
        (pair,) = pairs([document])
        return max(pair.chosen.size, pair.rejected.size) <= longest

    def shortened(document: Document) -> list[Pair]:
        return pairs(
            [replace(document, messages=last(document.messages, lambda m: fits(replace(document, messages=m))))]
        )

    packed = pack_pairs(
        context,
        options,
        tokenizer,
        encoder,
        encode=pairs,
        split=shortened if options.too_long == "split" else None,
    )
    return train(context, packed, options)


STAGE = StageKind(
    name="preference",
    description="Direct preference optimisation and its kin, on pairs of a better and a worse answer.",
    version=1,
    options=PreferenceOptions,
    makes="model",
    plan=plan,
    run=run,
)
