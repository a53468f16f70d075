"""The data that a stage will read: found, named with its licence, and fingerprinted, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from langadapt import artifacts
from langadapt.corpus.layouts import LAYOUTS, BadRow
from langadapt.corpus.preparing import Source, Step
from langadapt.corpus.reading import files_of, read_documents, read_rows
from langadapt.errors import UserError
from langadapt.plugins import Plugin, Registry
from langadapt.recipe import CorpusRef
from langadapt.records import Corpus, Document, Filter, Rejected

Where = Literal["sample", "local", "hub", "stage", "missing"]


@dataclass(kw_only=True)
class Input:
    """One corpus of a plan.

    Attributes:
        label: how the recipe calls it.
        where: a bundled sample, a local copy, the hub, what a stage of the run makes, or nowhere.
        path: of the sample or copy, or of what the stage will have made.
        record: the registered corpus, if it has a name.
        ref: the recipe's entry.
        licence: of what is read.
        problem: why it cannot be read; "" when it can.
        fingerprint: digest of the content; for the hub, the pinned commit, and for a stage, its digest, or "" until
            that is known.
        size: bytes of text that a stage is expected to make, when that is known.
        steps: cleaning steps, made ready.
        reader: what reads and cleans it, by versions; an ingredient of digests.
    """

    label: str
    where: Where
    ref: CorpusRef
    record: Corpus | None = None
    path: Path | None = None
    licence: str = "not stated"
    problem: str = ""
    fingerprint: str = ""
    size: int | None = None
    steps: tuple[Step, ...] = field(default=(), repr=False)
    reader: str = ""

    @property
    def bytes(self) -> int | None:
        """Size of what there is to read, compressed or not; None when nobody said."""
        if self.where == "stage":
            return self.size
        if self.path is not None and not self.problem:
            return sum(f.stat().st_size for f in _all_files(self.path))
        return self.record.bytes if self.record else None

    def source(self) -> Source:
        """The input as the corpus steps take it."""
        limit = self.ref.max_documents
        if self.where == "hub" and self.record and self.record.source:
            by_config = self.record.source.limits.get(self.ref.config, 0)
            limit = min(filter(None, (limit, by_config)), default=0)
        return Source(
            label=self.label,
            read=self.documents,
            steps=self.steps,
            weight=self.ref.weight,
            held_out=self.ref.held_out,
            max_documents=limit,
        )

    def documents(self) -> Iterable[Document | Rejected]:
        """Everything that is read, in order.

        Raises:
            UserError: it cannot be read, or nothing is in it.
        """
        if self.problem:
            raise UserError(self.problem)
        found = False
        for document in self._read():
            found = True
            yield document
        if not found:
            raise UserError(f"corpus {self.label}: there is no document in {self.path or self.label}")

    def _read(self) -> Iterator[Document | Rejected]:
        if self.where == "hub":
            assert self.record and self.record.source
            yield from _read_hub(self.record, self.fingerprint, self.ref.layout or self.record.layout, self.ref.columns)
        elif self.where == "stage":
            yield from read_documents(str(self.path), layout="document")
        elif self.record and self.record.read:
            assert self.path
            yield from self.record.read(self.path)
        else:
            # A user's copy of a registered corpus may be in any known layout; only a sample is sure to have the
            # corpus's own.
            own = self.record.layout if self.record and self.where == "sample" and not self.ref.columns else ""
            yield from read_documents(str(self.path), layout=self.ref.layout or own, columns=self.ref.columns)

    def to_json(self) -> dict[str, Any]:
        return {
            "corpus": self.label,
            "where": self.where,
            "licence": self.licence,
            "bytes": self.bytes,
            "gated": bool(self.record and self.record.gated and self.where == "hub"),
            "problem": self.problem,
            "fingerprint": self.fingerprint,
        }


def find_input(
    ref: CorpusRef,
    known: Registry,
    *,
    language: str,
    data: Mapping[str, str],
    rehearsal: bool,
    pinned: Mapping[str, str],
) -> Input:
    """Where the documents of a corpus entry come from.

    The user's own path comes first, then `[data]`, then in a rehearsal the bundled sample, then the hub.

    Args:
        ref: the entry, of a name or a path.
        known: the registry.
        language: of files that have no registered name.
        data: local copies by corpus name, not by alias.
        rehearsal: whether samples stand in for what is not at hand.
        pinned: dataset commits of an earlier run of the same folder, by repository.
    """
    record = known.corpora[ref.name] if ref.name else None
    made = Input(
        label=ref.label,
        where="missing",
        ref=ref,
        record=record,
        licence=record.licence if record else "not stated",
    )
    prepare(made, known, record.language if record else language)
    copy = ref.path or local_copy(record.name if record else "", data)
    if copy:
        return _local(made, copy)
    assert record is not None
    if rehearsal and record.sample is not None:
        made.licence = record.sample_licence or record.licence
        return _local(made, str(record.sample), where="sample")
    if record.source is not None and not rehearsal:
        made.where = "hub"
        made.fingerprint = pinned.get(record.source.repo_id, "")
        return made
    what = "it has no sample to rehearse with" if rehearsal else (record.where_to_get or "bring a copy")
    made.problem = (
        f'corpus {ref.name}: no copy is at hand; {what}; then say where it lies: [data] "{ref.name}" = "FOLDER"'
    )
    return made


def prepare(made: Input, known: Registry, language: str) -> None:
    """Makes an input's cleaning steps ready: its corpus's own, then those that the recipe adds."""
    record = made.record
    spoken = known.languages.get(language)
    own: list[tuple[Filter, dict[str, Any]]] = [
        (known.filters[name], {}) for name in (record.filters if record else ())
    ]
    added = [(known.filters[step.name], step.options) for step in made.ref.filters]
    made.steps = tuple(step.make({**step.options, **tuned}, spoken) for step, tuned in (*own, *added))
    readers = [_version(known.corpora.owner(record.name))] if record else []
    cleaners = [
        f"{step.name} {step.version} of {_version(known.filters.owner(step.name))}" for step, _ in (*own, *added)
    ]
    made.reader = ", ".join([*readers, *cleaners])


def _version(owner: Plugin) -> str:
    return f"{owner.distribution} {owner.version}"


def local_copy(name: str, data: Mapping[str, str]) -> str:
    """The user's copy of a corpus; a part such as `evalita-2023/acti-b` is also looked for inside a copy of the whole."""
    if name in data:
        return data[name]
    whole, _, part = name.partition("/")
    if part and whole in data:
        inside = Path(data[whole]).expanduser() / part
        return str(inside if inside.exists() else inside.with_name(part.rsplit("-", 1)[0]))
    return ""


def _local(made: Input, path: str, where: Where = "local") -> Input:
    made.where, made.path = where, Path(path).expanduser()
    try:
        files = _all_files(made.path) if made.record and made.record.read else files_of(path)
        if not files:
            raise UserError(f"corpus {made.label}: there is no such file or folder: {path}")
        made.fingerprint = artifacts.digest_files(files)
        _look_into(made)  # an empty corpus or a missing column is found now and not after an hour
    except (UserError, OSError) as error:
        made.problem = str(error)
    return made


def _look_into(made: Input) -> None:
    """Reads as far as the first document.

    Raises:
        UserError: there is none, or nothing that can be read.
    """
    refused: Counter[str] = Counter()
    for document in made.documents():
        if not isinstance(document, Rejected):
            return
        refused[document.reason] += 1
    reasons = ", ".join(f"{n} {reason}" for reason, n in refused.most_common())
    raise UserError(f"corpus {made.label}: no document in {made.path} can be read ({reasons})")


def _all_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    return [path] if path.is_file() else sorted(files_of(str(path)))


def _read_hub(record: Corpus, commit: str, layout: str, columns: Mapping[str, str]) -> Iterator[Document | Rejected]:
    """Files of a hub data set, fetched one at a time, only as far as the caller reads."""
    assert record.source is not None
    convert: Callable[[Mapping[str, Any], str], Document] = LAYOUTS[layout]
    for name in hub_files(record, commit):
        file = fetch_hub_file(record, name, commit)
        for number, row in read_rows(file):
            where = f"{name}:{number}"
            if isinstance(row, Rejected):
                yield row
                continue
            row = {**row, **{ours: row[theirs] for ours, theirs in columns.items() if theirs in row}}
            try:
                yield convert(row, where)
            except BadRow as problem:
                yield Rejected(reason=str(problem), where=where)


def hub_files(record: Corpus, commit: str) -> list[str]:
    """Names of the repository's files that belong to the corpus, in order."""
    from huggingface_hub import HfApi

    from langadapt.hub import in_words

    assert record.source is not None
    with in_words(record.source.repo_id, revision=commit or record.source.revision, dataset=True):
        names = HfApi().list_repo_files(
            record.source.repo_id, repo_type="dataset", revision=commit or record.source.revision
        )
    found = sorted(n for n in names if fnmatch(n, record.source.pattern))
    if not found:
        raise UserError(f"corpus {record.name}: {record.source.repo_id} has no file like {record.source.pattern}")
    return found


def fetch_hub_file(record: Corpus, name: str, commit: str) -> Path:
    """A file of the corpus's repository, from the cache or the network."""
    from huggingface_hub import hf_hub_download

    from langadapt.hub import in_words

    assert record.source is not None
    revision = commit or record.source.revision
    with in_words(record.source.repo_id, revision=revision, dataset=True):
        return Path(hf_hub_download(record.source.repo_id, name, repo_type="dataset", revision=revision))
