"""The audit of a base model's special tokens: what ends in a model that never stops, or that starts every text wrongly.

Every check looks at what the files say and, where weights are at hand, at a few rows of the embedding; it yields findings,
each a sentence that says what is wrong, where, why that matters, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from langadapt.errors import UserError
from langadapt.tokenizer.files import TokenizerFiles, read_files
from langadapt.tokenizer.rows import Matrix, Rows, read_rows
from langadapt.tokenizer.saving import CLASS

Weight = Literal["error", "warning", "note"]

TINY = 0.1  # of the median length of a matrix's rows; a row that is shorter was hardly trained
EXAMPLES = 4  # tokens that a finding names
_ASKED, _ANSWERED = "Kalix", "Mirvet"  # words that no template has in it
_MARK = re.compile(r"<\|[^<>|\s]+\|>|</?s>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>")
_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")  # marks of transformers' own, which print nothing


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about a tokenizer that a person should know.

    Attributes:
        kind: of the finding, a key of `CHECKS`' documentation that stays the same.
        weight: `error` where it cannot work, `warning` where models suffer from it, `note` where one should know.
        where: file, key or matrix.
        what: what is so.
        why: why it matters.
        do: what to do.
    """

    kind: str
    weight: Weight
    where: str
    what: str
    why: str
    do: str

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.why}; {self.do}"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is audited.

    Attributes:
        files: what they say of the tokenizer.
        rows: of the embedding; None where no weights are at hand.
        ids: by what is encoded, `tokenizer.json` and as transformers loads it; empty where nothing was encoded.
    """

    files: TokenizerFiles
    rows: Rows | None = None
    ids: Mapping[str, list[int]] | None = None

    @cached_property
    def dialogue(self) -> str:
        """A question and its answer, as the chat template writes them; "" where there is none, or it cannot be rendered."""
        try:
            return render(self.files)
        except Exception:  # a template is a program of somebody else's
            return ""

    @cached_property
    def stop(self) -> str:
        """The first special token behind an answer; "" where the template writes none."""
        behind = self.dialogue.rpartition(_ANSWERED)[2]
        places = {behind.find(token): token for token in self.files.control if token in behind}
        return places[min(places)] if places else ""


def audit(subject: Subject) -> list[Finding]:
    """Everything that is found, what cannot work first."""
    found = [finding for check in CHECKS for finding in check(subject)]
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.weight))


def audit_place(place: Path, *, name: str = "") -> list[Finding]:
    """The audit of a folder or GGUF file, by its files alone; empty where no tokenizer is there.

    What a plan asks of its base model: weights are looked at by the rows that special tokens have, and those that cannot be
    read are told about by whoever loads them.
    """
    files = read_files(place, name=name)
    if files is None:
        return []
    try:
        rows = read_rows(place)
    except UserError:
        rows = None
    return audit(Subject(files=files, rows=rows))


# --- where a text begins and ends -------------------------------------------------------------------------------------


def doubled(subject: Subject) -> Iterator[Finding]:
    """BOS or EOS that both the template and the tokenizer write."""
    files, dialogue = subject.files, subject.dialogue.strip()
    bos, eos = files.special.get("bos", ""), files.special.get("eos", "")
    if bos and bos in files.before and dialogue.startswith(bos):
        yield Finding(
            kind="bos-doubled",
            weight="note",
            where="chat template and post-processor",
            what=f"both the chat template and the tokenizer begin a text with {bos}",
            why="a dialogue that is rendered and then tokenised as text begins with two, which the model never saw",
            do="tokenise rendered text with add_special_tokens=False, as langadapt does",
        )
    if eos and eos in files.after and dialogue.endswith(eos):
        yield Finding(
            kind="eos-doubled",
            weight="warning",
            where="chat template and post-processor",
            what=f"both the chat template and the tokenizer end a text with {eos}",
            why="a dialogue ends twice, and a prompt ends before the answer",
            do="take it out of the post-processor",
        )


def unwritten(subject: Subject) -> Iterator[Finding]:
    """BOS that the model has and nothing writes; EOS that closes prompts."""
    files = subject.files
    bos, eos = files.special.get("bos", ""), files.special.get("eos", "")
    if bos and bos != eos and bos not in files.before and bos not in subject.dialogue and bos not in files.template:
        yield Finding(
            kind="bos-missing",
            weight="note",
            where="bos_token and post-processor",
            what=f"{bos} is the BOS token, and neither the tokenizer nor the chat template writes it",
            why="whether the model was pretrained with it cannot be told from its files",
            do="look at the model's card before documents are packed without it",
        )
    if eos and eos in files.after:
        yield Finding(
            kind="eos-appended",
            weight="warning",
            where="post-processor",
            what=f"the tokenizer ends every text with {eos}",
            why="a prompt that is tokenised as text is over before the model answers",
            do="take it out of the post-processor; langadapt ends documents itself",
        )


def nameless(subject: Subject) -> Iterator[Finding]:
    """No EOS at all; tokens with a role that the vocabulary lacks."""
    files = subject.files
    if "eos" not in files.special:
        yield Finding(
            kind="eos-none",
            weight="error",
            where="eos_token",
            what="no token is named as EOS",
            why="documents cannot be ended, so the model never learns to stop",
            do='set "eos_token" to a special token of the vocabulary',
        )
    for role, token in files.special.items():
        if token not in files.vocabulary:
            yield Finding(
                kind="special-missing",
                weight="error",
                where=f"{role}_token",
                what=f"{token} is the {role.upper()} token, and the vocabulary has no such token",
                why="it has no id, or gets a new one beyond the model's rows when the tokenizer is loaded",
                do="name a token that is there",
            )


def padding(subject: Subject) -> Iterator[Finding]:
    """Padding by the token that ends texts."""
    files = subject.files
    pad, eos = files.id("pad"), files.id("eos")
    if pad is not None and pad == eos:
        yield Finding(
            kind="pad-is-eos",
            weight="note",
            where="pad_token",
            what=f"{files.special['eos']} is both the PAD and the EOS token",
            why="trainers that leave padding out of the loss by its id leave every end out too, and the model never stops",
            do="train where padding is told by its place, as langadapt does, or name another PAD token",
        )


# --- what the files say of each other ---------------------------------------------------------------------------------


def differing(subject: Subject) -> Iterator[Finding]:
    """Ids of special tokens on which tokenizer and model configuration do not agree."""
    files = subject.files
    for role in ("bos", "eos", "pad"):
        id, configured = files.id(role), files.configured.get(role, ())
        if id is not None and configured and id not in (*configured, *(files.stops if role == "eos" else ())):
            yield Finding(
                kind=f"{role}-differs",
                weight="warning",
                where=f"{role}_token, and {role}_token_id of the model's configuration",
                what=f"the {role.upper()} token {files.special[role]} has the id {id}, and the model's configuration says "
                f"{' or '.join(map(str, configured))}",
                why="what is trained with the one is generated with the other",
                do="make both say the same, by the model's card",
            )


def stopping(subject: Subject) -> Iterator[Finding]:
    """A template whose answers end with something that ends no generation."""
    files = subject.files
    if not subject.dialogue:
        return
    if not subject.stop:
        yield Finding(
            kind="answer-not-ended",
            weight="warning",
            where="chat template",
            what="the chat template puts no special token behind an answer",
            why="a model that is tuned with it learns no place to stop",
            do="write EOS behind answers",
        )
        return
    id = files.vocabulary[subject.stop]
    ends = {*files.stops, *files.configured.get("eos", ()), *filter(None, [files.id("eos")])}
    if files.special.get("eos") != subject.stop and id not in ends:
        yield Finding(
            kind="stop-differs",
            weight="warning",
            where="chat template, eos_token and generation_config.json",
            what=f"the chat template ends an answer with {subject.stop}, and only "
            f"{files.special.get('eos') or 'the ids ' + ', '.join(map(str, sorted(ends)))} ends a generation",
            why="the model says its stop token and is made to go on",
            do=f'add {id} to "eos_token_id" of generation_config.json',
        )


def unknown_marks(subject: Subject) -> Iterator[Finding]:
    """Marks of the template that look like special tokens and are none."""
    files = subject.files
    written = dict.fromkeys(_MARK.findall(subject.dialogue or files.template))
    lacking = [mark for mark in written if mark not in files.vocabulary]
    if lacking:
        yield Finding(
            kind="template-tokens",
            weight="warning",
            where="chat template",
            what=f"the chat template writes {_listed(lacking)}, which the vocabulary lacks",
            why="each is cut into pieces, costs several tokens, and can be typed by a user",
            do="use the template that belongs to this tokenizer, or leave it if the model was tuned so",
        )
    if files.template and not subject.dialogue:
        yield Finding(
            kind="template-fails",
            weight="note",
            where="chat template",
            what="the chat template cannot be rendered for a question and its answer",
            why="so it is not known what it writes around them",
            do="look at it, or name a prompt format",
        )


def rebuilt(subject: Subject) -> Iterator[Finding]:
    """Ids that depend on who loads the tokenizer."""
    if subject.ids and len({tuple(ids) for ids in subject.ids.values()}) > 1:
        yield Finding(
            kind="loads-differently",
            weight="error",
            where="tokenizer.json and tokenizer_class",
            what="transformers gives other ids than tokenizer.json, because it builds a tokenizer of this class anew",
            why="a model that is trained here and served elsewhere reads other tokens",
            do=f'write "tokenizer_class": "{CLASS}" into tokenizer_config.json and compare again',
        )


# --- rows -------------------------------------------------------------------------------------------------------------


def too_many_ids(subject: Subject) -> Iterator[Finding]:
    """Ids without rows, rows without ids, matrices that do not agree."""
    files, rows = subject.files, subject.rows
    have = rows.input.rows if rows else files.rows
    if have is None:
        return
    if files.ids > have:
        beyond = sorted(
            (token for token, id in files.vocabulary.items() if id >= have), key=files.vocabulary.__getitem__
        )
        yield Finding(
            kind="ids-beyond-rows",
            weight="error",
            where="vocabulary and embedding",
            what=f"{_listed(beyond)} {'have ids' if len(beyond) > 1 else 'has an id'} beyond the model's {have:,} rows",
            why="a text that holds one stops the training with an index error, on a GPU without a message",
            do="take a tokenizer that belongs to the model, or grow the matrices",
        )
    elif files.ids < have:
        yield Finding(
            kind="rows-padded",
            weight="note",
            where="embedding",
            what=f"the matrices have {have:,} rows and the tokenizer {files.ids:,} ids",
            why="the rows beyond are padding, and len(tokenizer) is not the size of the model",
            do="never resize the model to len(tokenizer)",
        )


def unequal(subject: Subject) -> Iterator[Finding]:
    """Matrices and configuration of different size."""
    files, rows = subject.files, subject.rows
    if rows is None:
        return
    sizes = {matrix.name: matrix.rows for matrix in rows.matrices}
    if files.rows is not None:
        sizes["vocab_size of config.json"] = files.rows
    if len(set(sizes.values())) > 1:
        yield Finding(
            kind="rows-differ",
            weight="error",
            where="embedding and head",
            what=", ".join(f"{name} has {size:,} rows" for name, size in sizes.items()),
            why="the model cannot be loaded, or loads with rows that are made up",
            do="fetch the weights and the configuration again, of one revision",
        )


def untrained(subject: Subject) -> Iterator[Finding]:
    """Special tokens whose rows are zero, or much shorter than others."""
    files, rows = subject.files, subject.rows
    tokens = {token: files.vocabulary[token] for token in _in_use(subject)}
    for matrix in rows.matrices if rows else ():
        inside = {token: id for token, id in tokens.items() if id < matrix.rows}
        lengths = {token: float(np.linalg.norm(matrix.row(id))) for token, id in inside.items()}
        if zero := [token for token, length in lengths.items() if length == 0]:
            yield _untrained("zero-rows", matrix, zero, "a row of zeros in")
        least = TINY * typical_length(matrix)
        if tiny := [token for token, length in lengths.items() if 0 < length < least]:
            yield _untrained("tiny-rows", matrix, tiny, "a row of less than a tenth of the usual length in")


def _untrained(kind: str, matrix: Matrix, tokens: list[str], what: str) -> Finding:
    return Finding(
        kind=kind,
        weight="warning",
        where=matrix.name,
        what=f"{_listed(tokens)} {'have' if len(tokens) > 1 else 'has'} {what} {matrix.name}",
        why="the token was not trained: an adapter cannot make the model say it, and sums with it are not numbers at times",
        do="train its row as well, or use tokens that the model was trained with",
    )


def _in_use(subject: Subject) -> list[str]:
    """Special tokens that are learnt: BOS, EOS, and those that the template writes; rows of padding may well be zero."""
    files = subject.files
    ends = (files.special.get(role, "") for role in ("bos", "eos"))
    written = (token for token in sorted(files.control) if token in subject.dialogue)
    return [token for token in dict.fromkeys([*ends, *written]) if token in files.vocabulary]


def typical_length(matrix: Matrix, sample: int = 256) -> float:
    """The median length of rows that are spread evenly over a matrix."""
    places = np.linspace(0, matrix.rows - 1, min(sample, matrix.rows)).astype(int)
    return float(np.median([np.linalg.norm(matrix.row(int(place))) for place in places]))


CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    doubled, unwritten, nameless, padding, differing, stopping, unknown_marks, rebuilt, too_many_ids, unequal, untrained,
)  # fmt: skip


# --- the template -----------------------------------------------------------------------------------------------------


def render(files: TokenizerFiles) -> str:
    """A question and its answer, as the chat template writes them.

    Raises:
        Exception: whatever the template does, or Jinja says of it.
    """
    if not files.template:
        return ""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _raise, "strftime_now": lambda form: "1 January 2026"}
    messages = [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED}]
    names = {f"{role}_token": token for role, token in files.special.items()}
    template = environment.from_string(_GENERATION.sub("", files.template))
    return template.render(messages=messages, add_generation_prompt=False, **names)


def _raise(message: str) -> None:
    raise ValueError(message)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:EXAMPLES])
    return shown if len(names) <= EXAMPLES else f"{shown} and {len(names) - EXAMPLES} more"
