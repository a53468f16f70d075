"""A changed vocabulary as a run keeps it: a tokenizer, and the rows that a model's matrices get for it.

    vocabulary/  tokenizer.json …   the tokenizer, as transformers and the library tokenizers load it
                 rows.safetensors   kept    (rows,)              the old id whose rows a row takes over, or -1
                                    input   (others, hidden)     the other rows of the input matrix, in order, in fp32
                                    output  (others, hidden)     the same of the output matrix, where it is another
                 vocabulary.json    which ids are new tokens, and how they came about

Old rows are named and not kept again, so a vocabulary takes megabytes where the model takes gigabytes, and old rows are
those of the model to the bit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langadapt import artifacts
from langadapt.errors import RunError, UserError

if TYPE_CHECKING:
    from torch import Tensor

ROWS, ABOUT = "rows.safetensors", "vocabulary.json"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where the rows of a model's matrices come from under another tokenizer.

    Attributes:
        before: rows that the matrices had.
        kept: by row, the old row that it is; None for a row that is made.
        new: the rows of new tokens among those that are made; the others are padding.
    """

    before: int
    kept: Sequence[int | None]
    new: Sequence[int]

    @property
    def made(self) -> list[int]:
        """Rows that are none of the old ones."""
        return [row for row, old in enumerate(self.kept) if old is None]

    @property
    def changes(self) -> bool:
        """Whether any row is another than before."""
        return list(self.kept) != list(range(self.before))


def plan_rows(kept: Sequence[int | None], *, before: int, tokens_before: int, holes: Collection[int] = ()) -> Rows:
    """The rows for a tokenizer, by what its ids were.

    A matrix never shrinks under a tokenizer that only grew: rows of padding, which the model has beyond its tokens, stay
    behind the new ones as far as those do not need them.

    Args:
        kept: by new id, the old id that stands for the same; None for a new token.
        before: rows that the matrices have.
        tokens_before: ids that the old tokenizer has.
        holes: new ids that stand for no token.
    """
    filled = [old if id not in holes else id if id < before else None for id, old in enumerate(kept)]
    grown = len(kept) >= tokens_before and all(old in (None, id) for id, old in enumerate(filled))
    padding = range(len(kept), before) if grown else ()
    new = [id for id, old in enumerate(filled) if old is None and id not in holes]
    return Rows(before=before, kept=[*filled, *padding], new=new)


def save(folder: Path, rows: Rows, made: tuple[Tensor, Tensor | None], about: dict[str, Any]) -> None:
    """Writes rows beside the tokenizer in `folder`.

    Args:
        folder: of the vocabulary.
        rows: where they come from.
        made: the rows that are made, of the input and of the output matrix.
        about: what `vocabulary.json` says of them beside the new ids.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {"kept": torch.tensor([-1 if old is None else old for old in rows.kept], dtype=torch.int64)}
    for name, matrix in zip(("input", "output"), made, strict=True):
        if matrix is not None:
            tensors[name] = matrix.float().contiguous()
    save_file(tensors, folder / ROWS)
    artifacts.write_json(folder / ABOUT, {"rows": len(rows.kept), "new": list(rows.new), **about})


def new_tokens(folders: Sequence[Path]) -> list[int]:
    """Ids of the tokens that the last of these vocabularies has and the base has not.

    Raises:
        RunError: the folder does not say which those are.
    """
    return list(_about(folders[-1])["new"]) if folders else []


def rows_of(folders: Sequence[Path], before: int) -> int:
    """Rows that a model's matrices have with these vocabularies, and `before` without any.

    Raises:
        RunError: the folder does not say how many those are.
    """
    return int(_about(folders[-1])["rows"]) if folders else before


def _about(folder: Path) -> dict[str, Any]:
    about = artifacts.read_json(folder / ABOUT)
    if not isinstance(about, dict):
        raise RunError(f"{folder}: {ABOUT} is missing or damaged; run the tokenizer stage again")
    return about


def put_in(model: Any, folder: Path) -> Any:
    """The model with its matrices as a vocabulary wants them, in place.

    Args:
        model: a causal language model of transformers.
        folder: of the vocabulary.

    Raises:
        RunError: the vocabulary is one for another model, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / ROWS)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{folder}: {ROWS} cannot be read ({error}); run the tokenizer stage again") from None
    tied = check_head(model)
    if ("output" in tensors) == tied:
        raise RunError(
            f"{folder} is for a model whose embedding and head are {'two' if tied else 'one'}; run the tokenizer stage again"
        )
    kept = tensors["kept"]
    _replace(model.get_input_embeddings(), kept, tensors["input"])
    if tied:
        model.tie_weights()
    else:
        _replace(model.get_output_embeddings(), kept, tensors["output"])
    _resized(model, len(kept))
    _renumber(model, kept)
    return model


def check_head(model: Any) -> bool:
    """Whether one matrix serves as embedding and as head.

    Raises:
        UserError: the head is none whose rows can be changed.
    """
    from torch import nn

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None or not isinstance(embedding, nn.Embedding):
        raise UserError(
            f"{type(model).__name__} has a head with a bias, or none that is a plain matrix, so its vocabulary cannot be "
            'changed; use tokenizer.strategy = "keep"'
        )
    return head.weight is embedding.weight


def _replace(module: Any, kept: Tensor, made: Tensor) -> None:
    """The matrix of an embedding or of a head, with other rows."""
    import torch

    old = module.weight.data
    if int(kept.max()) >= len(old) or (len(made), old.shape[1]) != (int((kept < 0).sum()), made.shape[1]):
        raise RunError(
            f"the vocabulary is for another model: this one has {len(old)} rows of "
            f"{old.shape[1]}; run the tokenizer stage again"
        )
    matrix = old.new_empty(len(kept), old.shape[1])
    matrix[kept >= 0] = old[kept[kept >= 0]]
    matrix[kept < 0] = made.to(old)
    module.weight = torch.nn.Parameter(matrix, requires_grad=module.weight.requires_grad)


def _resized(model: Any, rows: int) -> None:
    """What beside the matrices says how many rows there are."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    embedding.num_embeddings = head.out_features = model.config.get_text_config().vocab_size = rows
    for part in (model, model.get_decoder()):
        if hasattr(part, "vocab_size"):
            part.vocab_size = rows


def _renumber(model: Any, kept: Tensor) -> None:
    """The special tokens in the model's configurations, as the new tokenizer numbers them."""
    ids = {int(old): id for id, old in enumerate(kept.tolist()) if old >= 0}
    for config in (model.config, model.generation_config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            match getattr(config, name, None):
                case int(old):
                    setattr(config, name, ids.get(old))
                case list(several):
                    setattr(config, name, [ids[old] for old in several if old in ids])
    embedding = model.get_input_embeddings()
    if embedding.padding_idx is not None:
        embedding.padding_idx = ids.get(embedding.padding_idx)
