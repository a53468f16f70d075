"""`preference`: preference optimisation, on pairs of a better and a worse answer or on answers judged one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from langadapt.errors import nearest, written
from langadapt.plugins import Registry
from langadapt.recipe import Corpora, Rehearsal, StageOptions
from langadapt.records import Document, StageKind
from langadapt.stages.sft import SftOptions
from langadapt.stages.trained import OWNED, TRAINING, plan_training, prompt_ingredient

if TYPE_CHECKING:
    from langadapt.corpus.packing import Pair
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to learn from preferences, after one of trl's classes of options.

    What it computes is in `langadapt.preference_losses.OBJECTIVES`, under the same name.

    Attributes:
        upstream: trl's class, whose fields `[stage.training]` may set.
        losses: what `loss_type` may say, and the paper that it comes from; "" where the class has no such field.
        defaults: what is set where the recipe is silent, beside what every training has.
        asks_reference: whether answers are compared with what the model that the stage starts from makes of them.
        paired: whether it learns from pairs; otherwise from answers that were judged one by one.
        estimates_kl: losses that also ask both models for answers to other prompts, each step.
    """

    upstream: str
    losses: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    asks_reference: bool = False
    paired: bool = True
    estimates_kl: tuple[str, ...] = ()

    def passes(self, loss_type: Any) -> int:
        """Forward passes over an example beside the one that it is learnt by."""
        return int(self.asks_reference) + 2 * (loss_type in self.estimates_kl)


_CPO = "trl.experimental.cpo.cpo_config:CPOConfig"

# The defaults are trl's, and the papers' where trl leaves the method to them: SimPO's of its Llama-3-Base, AlphaPO's of
# its Mistral-Instruct.
METHODS: dict[str, Method] = {
    "dpo": Method(
        upstream="trl.trainer.dpo_config:DPOConfig",
        losses={
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
        },
        defaults={"loss_type": ["sigmoid"], "beta": 0.1},
        asks_reference=True,
    ),
    "orpo": Method(
        upstream="trl.experimental.orpo.orpo_config:ORPOConfig",
        losses={"": "ORPO, arXiv 2403.07691; beta is the paper's λ"},
        defaults={"beta": 0.1},
    ),
    "cpo": Method(
        upstream=_CPO,
        losses={
            "sigmoid": "CPO, arXiv 2401.08417",
            "hinge": "CPO with the loss of SLiC-HF, arXiv 2305.10425",
            "ipo": "CPO with the loss of IPO, arXiv 2310.12036, on means over tokens",
            "simpo": "CPO-SimPO: SimPO and, times cpo_alpha, the cross-entropy of the chosen answer",
        },
        defaults={"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 1.0},
    ),
    "simpo": Method(
        upstream=_CPO,
        losses={"simpo": "SimPO, arXiv 2405.14734"},
        defaults={"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0},
    ),
    "alphapo": Method(
        upstream=_CPO,
        losses={"simpo": "AlphaPO, arXiv 2501.03884"},
        defaults={"loss_type": "simpo", "beta": 2.5, "simpo_gamma": 0.1, "cpo_alpha": 0.0, "alpha": 0.25},
    ),
    "kto": Method(
        upstream="trl.trainer.kto_config:KTOConfig",
        losses={
            "kto": "KTO, arXiv 2402.01306",
            "apo_zero_unpaired": "APO for liked answers better than the model's own, arXiv 2408.06266",
        },
        defaults={"loss_type": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
        asks_reference=True,
        paired=False,
        estimates_kl=("kto",),
    ),
}  # fmt: skip
# Of DPO's, those that compare the two answers' ratios alone, which is what an f-divergence other than the default needs.
DIFFERENCES = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft")
DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
# What numbers must be, beyond their types.
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "beta": ("above 0", lambda value: value > 0),
    "ld_alpha": ("from 0 to 1", lambda value: 0 <= value <= 1),
    "label_smoothing": ("from 0 to below 0.5", lambda value: 0 <= value < 0.5),
    **dict.fromkeys(
        ("cpo_alpha", "simpo_gamma", "desirable_weight", "undesirable_weight"), ("0 or more", lambda value: value >= 0)
    ),
}

REHEARSED_RATE = 1e-4  # with more, the margins of the small model swing from pair to pair in place of growing

PREFERENCE = TRAINING | {"learning_rate": 5e-6}

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
    "padding_value": _TOKENS,
    "max_completion_length": "max_length is of an answer with its prompt, and nothing is cut",
    "truncation_mode": "nothing is cut; a pair longer than max_length is dropped and counted",
    "padding_free": "a batch is padded to its longest answer",
    "pad_to_multiple_of": "a batch is padded to its longest answer",
    "precompute_ref_log_probs": "the reference is asked in the same step, on the same weights",
    "precompute_ref_batch_size": "the reference is asked in the same step, on the same weights",
    "train_sampling_strategy": "the order follows from the recipe's seed",
    "activation_offloading": "activation_checkpointing keeps fewer of them",
    "sync_ref_model": _FIXED,
    "ref_model_mixup_alpha": _FIXED,
    "ref_model_sync_steps": _FIXED,
    "generate_during_eval": "held-out pairs are measured by evaluate stages",
    "is_encoder_decoder": "the model is a causal language model",
    "use_weighting": "WPO's weights are not computed",
    "use_liger_kernel": "log-probabilities are taken with the head in one go already",
}


class PreferenceOptions(SftOptions):
    """Options of `preference`."""

    corpus: Corpora = Field(min_length=1, description="Pairs, or for `kto` also answers, to train on.")
    too_long: Literal["drop", "split"] = Field(
        "drop",
        description='A pair longer than `max_length` is dropped (`"drop"`), or loses its first exchanges (`"split"`).',
    )
    method: str = Field(
        "dpo",
        description=f"How is learnt from them: {', '.join(f'`{name}`' for name in METHODS)}.",
        json_schema_extra={"enum": list(METHODS)},
    )

    defaults: ClassVar[Mapping[str, Any]] = PREFERENCE
    owned: ClassVar[Mapping[str, str]] = PREFERENCE_OWNED
    measured: ClassVar[Literal["text", "answers", "preferences"]] = "preferences"

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_the_method(cls, table: dict[str, Any]) -> dict[str, Any]:
        defaults = _method(str(table.get("method", "dpo"))).defaults
        training = table.get("training", {})
        if not isinstance(training, dict):
            return table  # which pydantic refuses by itself
        training = {**defaults, **training}
        if isinstance(defaults.get("loss_type"), list) and isinstance(training["loss_type"], str):
            training["loss_type"] = [training["loss_type"]]
        return {**table, "training": training}

    @property
    def way(self) -> Method:
        """The record of its method."""
        return _method(self.method)

    @property
    def upstream(self) -> str:
        return self.way.upstream

    @property
    def answers(self) -> int:
        return 2 if self.way.paired else 1

    @property
    def asks_reference(self) -> bool:
        return self.way.asks_reference

    @property
    def passes(self) -> int:
        return self.way.passes(self.training.get("loss_type"))

    def check(self, known: Registry) -> Iterable[tuple[tuple[str | int, ...], str, str]]:
        if self.method not in METHODS:
            yield ("method",), f'there is no method "{self.method}"', nearest(self.method, METHODS)
            return
        yield from super().check(known)
        for key, message, hint in (*_loss_problems(self.way, self.training), *_range_problems(self.training)):
            yield ("training", key), message, hint
        if self.training.get("loss_type") in self.way.estimates_kl and self.rows_per_step < 2:
            message = "the loss compares each answer with one to another prompt of its step, and this is the only one"
            yield ("training", "per_device_train_batch_size"), message, "2 at least"
        if self.asks_reference and self.peft.get("bias", "none") != "none":
            message = "biases of the base learn beside the adapter, so the base is no reference any more"
            yield ("peft", "bias"), message, 'use "none"'

    def rehearsed(self, rehearsal: Rehearsal) -> StageOptions:
        small = self.shrunk(rehearsal, steps=rehearsal.preference_steps, length=PREFERENCE["max_length"])
        # A batch is as long as its longest answer and not as max_length, so a few pairs fit where one row would.
        few = min(rehearsal.preference_pairs, self.rows_per_step)
        rate = min(small.training["learning_rate"], REHEARSED_RATE)
        changed = small.training | {"per_device_train_batch_size": few, "learning_rate": rate}
        return small.model_copy(update={"training": changed})


def _method(name: str) -> Method:
    """The record of a method; DPO's for a name that is going to be refused."""
    return METHODS.get(name, METHODS["dpo"])


def _loss_problems(way: Method, training: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """What is wrong with the options that choose the loss, beyond their types."""
    given = training.get("loss_type", "")
    losses = [name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str)]
    if given == []:
        yield "loss_type", "at least one loss is needed", nearest("", way.losses)
    for name in losses:
        if name in ("aot", "aot_unpaired"):
            yield (
                "loss_type",
                f'"{name}" sorts a batch, so it depends on how a step is cut into batches',
                "choose another loss",
            )
        elif name not in way.losses:
            yield "loss_type", f'there is no loss "{name}"', _elsewhere(name) or nearest(name, way.losses)
    weights = training.get("loss_weights")
    if isinstance(weights, list) and len(weights) != len(losses):
        yield "loss_weights", f"{len(weights)} weights for {len(losses)} losses", "give one for each"
    if "exo_pair" in losses and not training.get("label_smoothing"):
        yield "label_smoothing", "the loss exo_pair needs it above 0", "its paper takes 1e-3"
    divergence = training.get("f_divergence_type", "reverse_kl")
    if divergence not in DIVERGENCES:
        yield (
            "f_divergence_type",
            f"{written(divergence)} is not one of its values",
            nearest(str(divergence), DIVERGENCES),
        )
    elif divergence != "reverse_kl" and (others := [name for name in losses if name not in DIFFERENCES]):
        yield "f_divergence_type", f"the loss {others[0]} knows reverse_kl alone", "leave it out"


def _elsewhere(loss: str) -> str:
    """Which method a loss belongs to, for who looks for it under another; "" for none."""
    found = loss if loss in METHODS else next((name for name, way in METHODS.items() if loss in way.losses), "")
    return f'it belongs to method = "{found}"' if found else ""


def _range_problems(training: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    for key, (wanted, holds) in RANGES.items():
        value = training.get(key)
        if isinstance(value, (int, float)) and not holds(value):
            yield key, f"{value} is not {wanted}", ""


def plan(stage: PlannedStage, planner: Planner) -> None:
    """See `plan_training`; the prompt's rendering is part of the digest."""
    options = stage.options
    assert isinstance(options, PreferenceOptions)
    plan_training(stage, planner, options)
    stage.ingredients["prompt rendering"] = prompt_ingredient(options.prompt, planner.registry)


def run(context: StageContext) -> StageResult:
    """Dialogues with two last answers → tokens of both, prompts alike → pairs → training → adapter or weights.

    A method that learns from answers one by one takes them out of the pairs, and has them without a pair too.
    """
    from langadapt.corpus.encoding import Encoder
    from langadapt.corpus.packing import Judged, Pair
    from langadapt.corpus.splitting import last
    from langadapt.corpus.tokenising import pack_pairs
    from langadapt.preference import train
    from langadapt.prompts.rendering import encode_pairs

    options = context.stage.options
    assert isinstance(options, PreferenceOptions)
    tokenizer, format = context.tokenizer(), context.registry.prompts[options.prompt]
    encoder, longest = Encoder(tokenizer), int(options.training["max_length"])
    kind = Pair if options.way.paired else Judged

    def pairs(documents: list[Document]) -> list[Pair]:
        return encode_pairs(format, documents, tokenizer, encoder, options.system_prompt, kind=kind)

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
        apart=not options.way.paired,
    )
    return train(context, packed, options)


STAGE = StageKind(
    name="preference",
    description="Preference optimisation: DPO, ORPO, CPO, SimPO, AlphaPO, KTO.",
    version=2,
    options=PreferenceOptions,
    makes="model",
    plan=plan,
    run=run,
)
