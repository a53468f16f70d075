"""`merge`: one folder of plain weights out of a base model and its adapters, with a certificate.

An adapter that was trained beside 4-bit weights, merged into the 16-bit ones, is another model than the one that was
trained. The certificate says how far it is from it, and the stage fails when the merge itself went wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from pydantic import Field

from langadapt import estimates
from langadapt.errors import UserError
from langadapt.recipe import StageOptions
from langadapt.records import StageKind

if TYPE_CHECKING:
    from langadapt.artifacts import ModelRef
    from langadapt.plan import PlannedStage, Planner
    from langadapt.run import StageContext, StageResult

DOCUMENTS, TOKENS = 6, 256  # held-out text that the certificate compares the models on


class MergeOptions(StageOptions):
    """Options of `merge`."""

    max_kl: float = Field(
        0.01,
        gt=0,
        description="Largest mean KL divergence in nats between adapter and merged weights in 16 bits; above it "
        "the stage fails.",
    )


def plan(stage: PlannedStage, planner: Planner) -> None:
    """The certificate is taken on held-out text of the stage that is merged."""
    parent = next((s for s in planner.recipe.stages if s.id == stage.parent), None)
    refs = getattr(parent.options, "corpus", ()) if parent else ()
    stage.inputs = [planner.input(ref) for ref in refs]
    if shape := planner.shape_of(stage.parent):
        compared = len(stage.inputs) * DOCUMENTS * TOKENS
        stage.estimate.memory = estimates.merge(shape, planner.machine, tokens=compared)
        stage.estimate.disk = 2 * shape.parameters
    stage.work = dict(getattr(parent.options, "peft", {})) if parent else {}


def run(context: StageContext) -> StageResult:
    """Merges, saves, and compares with the model that was trained and with the adapter on 16-bit weights."""
    import torch

    from langadapt import loading
    from langadapt.errors import RunError
    from langadapt.rounding import round_model
    from langadapt.run import StageResult

    options = context.stage.options
    assert isinstance(options, MergeOptions)
    tokenizer = context.tokenizer()
    texts = _texts(context, tokenizer)
    # Shipped in 16 bits whatever this machine computes in, and that is what is compared.
    merged = round_model(loading.load_model(context.model), torch.bfloat16).eval()
    _save(merged, tokenizer, context)
    after = _distributions(merged.to(loading.compute_dtype()), texts)
    del merged
    if not _ends_trained(context.model):
        context.log.info("no certificate: nothing was trained since the stage's weights were whole")
        return StageResult(metrics={"adapters": 0})
    size = sum(_bytes(tokenizer, text) for text in texts)
    metrics: dict[str, Any] = {
        "adapters": len(context.model.adapters) - len(context.model.vocabularies),
        "bits_per_byte_merged": _bits(after, texts) / size,
    }
    for name, quantised in (("sixteen_bit", False), ("as_trained", True)):
        before = _distributions(_with_adapter(context, quantised=quantised), texts)
        metrics |= _compare(name, before, after) | {f"bits_per_byte_{name}": _bits(before, texts) / size}
    if not metrics["kl_sixteen_bit"] <= options.max_kl:
        raise RunError(
            f"stage {context.stage.id}: the merged model is not the adapted one: mean KL divergence "
            f"{metrics['kl_sixteen_bit']:.4f} nats is "
            f"above max_kl = {options.max_kl}; look at what the adapter was trained on, and at tied embeddings"
        )
    context.log.info(
        f"certificate: KL {metrics['kl_sixteen_bit']:.2e} nats from the adapter on 16-bit weights, "
        f"{metrics['kl_as_trained']:.2e} from the model as it was trained; bits per byte: "
        f"{metrics['bits_per_byte_merged']:.4f} of what is shipped, {metrics['bits_per_byte_sixteen_bit']:.4f} of the "
        f"adapter, {metrics['bits_per_byte_as_trained']:.4f} as it was trained"
    )
    return StageResult(metrics=metrics, rows=_rows(context, metrics, sum(len(t) - 1 for t in texts)))


def _ends_trained(model: ModelRef) -> bool:
    """Whether the last thing that was done to the weights is an adapter, beside which they can be put again."""
    return bool(model.adapters) and model.adapters[-1] not in model.vocabularies


def _texts(context: StageContext, tokenizer: Any) -> list[list[int]]:
    """Token ids of held-out documents, with BOS, cut to a length at which logits are small."""
    from langadapt.corpus.preparing import Accounting, clean

    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    texts = []
    for found in context.stage.inputs:
        source = found.source()
        side = (
            "held_out" if source.held_out else "train"
        )  # the comparison is of two models; it needs some text, not unseen text
        for document in islice((d for s, d in clean(source, Accounting()) if s == side), DOCUMENTS):
            texts.append((start + tokenizer(document.content, add_special_tokens=False)["input_ids"])[:TOKENS])
    texts = [t for t in texts if len(t) > 1]
    if not texts:
        raise UserError(
            f"stage {context.stage.id}: no text to compare the models on; no document of {context.stage.parent}'s corpora "
            "is held out, raise held_out"
        )
    return texts


def _save(model: Any, tokenizer: Any, context: StageContext) -> None:
    model.save_pretrained(context.folder / "model")
    tokenizer.save_pretrained(context.folder / "model")


def _with_adapter(context: StageContext, *, quantised: bool) -> Any:
    """The last adapter beside its base instead of inside it: as it was trained, or on 16-bit weights."""
    import torch
    from peft import PeftModel

    from langadapt import loading
    from langadapt.artifacts import ModelRef

    *earlier, last = context.model.adapters
    peft: Mapping[str, Any] = context.stage.work
    freeze = context.registry.peft_strategies[peft["method"]].freeze if quantised else None
    model = loading.load_model(
        ModelRef(weights=context.model.weights, revision=context.model.revision, adapters=tuple(earlier)),
        to=torch.device("cpu") if freeze else None,
    )
    if freeze:
        freeze(model, peft)
    return PeftModel.from_pretrained(model, str(last)).eval()


def _distributions(model: Any, texts: list[list[int]]) -> list[Any]:
    """Log-probabilities over the vocabulary at every position that predicts a token, in fp32."""
    import torch

    with torch.no_grad():
        return [
            model(input_ids=torch.tensor([t], device=model.device), use_cache=False)
            .logits[0, :-1]
            .float()
            .log_softmax(-1)
            for t in texts
        ]


def _compare(name: str, reference: list[Any], other: list[Any]) -> dict[str, float]:
    """Mean KL(reference ‖ other) in nats, largest difference of a log-probability's likely words, share of equal best
    words.
    """
    import torch

    kl = torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in zip(reference, other, strict=True)]).clamp(min=0)
    same = torch.cat([p.argmax(-1) == q.argmax(-1) for p, q in zip(reference, other, strict=True)])
    return {
        f"kl_{name}": float(kl.mean()),
        f"kl_max_{name}": float(kl.max()),
        f"same_top_{name}": float(same.float().mean()),
    }


def _bits(distributions: list[Any], texts: list[list[int]]) -> float:
    """What all the texts take, in bits."""
    import torch

    targets = [torch.tensor(text[1:], device=d.device)[:, None] for text, d in zip(texts, distributions, strict=True)]
    logs = [d.gather(1, target).sum().item() for d, target in zip(distributions, targets, strict=True)]
    return -math.fsum(logs) / math.log(2)


def _bytes(tokenizer: Any, text: list[int]) -> int:
    """UTF-8 bytes of the tokens that are predicted."""
    return len(tokenizer.decode(text[1:], clean_up_tokenization_spaces=False).encode("utf-8"))


def _rows(context: StageContext, metrics: Mapping[str, Any], tokens: int) -> list[dict[str, Any]]:
    directions = {
        "kl_sixteen_bit": False,
        "same_top_sixteen_bit": True,
        "kl_as_trained": False,
        "same_top_as_trained": True,
        "bits_per_byte_merged": False,
        "bits_per_byte_sixteen_bit": False,
        "bits_per_byte_as_trained": False,
    }
    units = {"kl": "nats", "bits": "bits/byte"}
    return [
        {
            "stage": context.stage.id,
            "suite": "merge",
            "task": "certificate",
            "split": "held_out",
            "metric": name,
            "value": metrics[name],
            "n": tokens,
            "ci_low": None,
            "ci_high": None,
            "higher_is_better": better,
            "unit": units.get(name.partition("_")[0], ""),
            "limited": False,
        }
        for name, better in directions.items()
    ]


STAGE = StageKind(
    name="merge",
    description="Plain weights out of a base model and its adapters, with a certificate.",
    version=1,
    options=MergeOptions,
    makes="model",
    plan=plan,
    run=run,
)
