"""The data that a stage will read: found, named with its licence, and fingerprinted, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langadapt import artifacts
from langadapt.corpus import portions
from langadapt.corpus.cache import cache_folder, entry
from langadapt.corpus.files import files_of, in_here, placed
from langadapt.corpus.portions import Portion
from langadapt.corpus.preparing import Preparation, Shared, Source, Step, code
from langadapt.corpus.reading import SIZE, blocks_of
from langadapt.errors import UserError
from langadapt.plugins import Plugin, Registry
from langadapt.recipe import CorpusRef
from langadapt.records import Corpus, Document, Evaluation, Rejected

if TYPE_CHECKING:
    from langadapt.decontamination import Screen

# On which words and small letters show how they are made: what is elided, joined, counted, and scripts of several kinds.
PROBE = "L'eau d’aujourd'hui, rock'n'roll; co-op 3,14 (1.000) İI ß ΣΑΣ нет не́т हिन्दी ไทย 日本語 ¿Qué? user@example.org"
SMALL = 1 << 20  # bytes; of less than this, preparing is quicker than looking up what was kept

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
        preparation: what is done to its documents, by name.
        steps: cleaning steps, made ready.
        reader: what reads and cleans it, by versions; an ingredient of digests.
        cleaners: what cleans it, in words: an ingredient of what is kept of it.
        screen: the evaluations that are looked for in it; None where nobody looks.
        first: the first document of a sample or copy; None where nobody has looked yet.
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
    preparation: Preparation = field(default=Preparation(), repr=False)
    steps: tuple[Step, ...] = field(default=(), repr=False)
    reader: str = ""
    cleaners: Mapping[str, str] = field(default_factory=dict, repr=False)
    screen: Screen | None = field(default=None, repr=False)
    first: Document | None = field(default=None, repr=False)

    @property
    def bytes(self) -> int | None:
        """Size of what there is to read, compressed or not; None when nobody said."""
        if self.where == "stage":
            return self.size
        if self.path is not None and not self.problem:
            return sum(f.stat().st_size for f in _all_files(self.path))
        return self.record.bytes if self.record else None

    @property
    def layout(self) -> str:
        """How rows become documents; "" where the columns of each file are to tell."""
        if self.where == "stage":
            return "document"
        # A user's copy of a registered corpus may be in any known layout; only a sample is sure to have the corpus's.
        certain = self.where == "hub" or (self.where == "sample" and not self.ref.columns)
        return self.ref.layout or (self.record.layout if self.record and certain else "")

    def source(self) -> Source:
        """The input as the corpus steps take it; the index of what is looked for in it is made now.

        Raises:
            UserError: an evaluation cannot be read, or the files are no longer those that the plan found.
        """
        if self.where in ("local", "sample") and self._places() and self.fingerprint != self._digest():
            raise UserError(f"corpus {self.label}: {self.path} changed since the plan was made; run again")
        if self.screen is not None:
            self.preparation = replace(self.preparation, index=self.screen.index())
        limit = self.ref.max_documents
        if self.where == "hub" and self.record and self.record.source:
            by_config = self.record.source.limits.get(self.ref.config, 0)
            limit = min(filter(None, (limit, by_config)), default=0)
        return Source(
            label=self.label,
            read=self.documents,
            work=self.preparation.around(self.steps),
            shared=self._shared(),
            weight=self.ref.weight,
            epochs=self.ref.epochs,
            held_out=self.ref.held_out,
            max_documents=limit,
            repeats=self.ref.deduplicate == "none",
        )

    def in_the_way(self, evaluation: Evaluation) -> str:
        """Why an `evaluation` cannot read it; items are read from files that are at hand, never from the hub."""
        if evaluation.items and self.where == "hub":
            return f'its items are read from a copy; say where it lies: [data] "{self.label}" = "FOLDER"'
        return self.problem

    def documents(self) -> Iterable[Document | Rejected]:
        """Everything that is read, in order.

        Raises:
            UserError: it cannot be read, or nothing is in it.
        """
        found = False
        for portion in self.portions(size=1):
            for item in self.preparation.read(portion):
                found = True
                yield item
        if not found:
            why = "the stage made none" if self.where == "stage" else "it holds no record"
            raise UserError(
                f"corpus {self.label}: there is no document in {self.path or self.label}: {why}; "
                "put some in, or leave it out"
            )

    def portions(self, size: int = SIZE) -> Iterator[Portion]:
        """The same in portions, to be read by any process.

        Args:
            size: bytes or characters of a portion, at least.

        Raises:
            UserError: it cannot be read.
        """
        if self.problem:
            raise UserError(self.problem)
        return self._cut(size)

    def _cut(self, size: int) -> Iterator[Portion]:
        if self.where != "hub" and self.record and self.record.read:
            assert self.path
            return portions.of_documents(self.label, self.record.read(self.path), size)
        if self.where == "hub":
            assert self.record
            files: Iterable[tuple[str, Path]] = hub_places(self.record, self.fingerprint)
            size = 1  # a portion of several files would have the next file fetched before this one is used up
        else:
            files = self._places()
        return portions.of_blocks(blocks_of(files, layout=self.layout, columns=self.preparation.columns), size)

    def _shared(self) -> Shared | None:
        """The input as any process can prepare it; None where it is too small to be worth it, or may change."""
        if self.where == "hub":
            if not self.fingerprint:
                return None
        elif sum(file.stat().st_size for _, file in self._places()) < SMALL:
            return None
        return Shared(
            cut=self.portions, preparation=self.preparation, entry=entry("prepared", self.label, self._ingredients())
        )

    def _places(self) -> list[tuple[str, Path]]:
        """The files that are on this machine, each with its place; none of what cannot be read."""
        if self.path is None or self.problem:
            return []
        if self.record and self.record.read and self.where != "stage":
            return [(file.name, file) for file in _all_files(self.path)]
        return placed(str(self.path))

    def _ingredients(self) -> dict[str, str]:
        """All that its prepared documents depend on, in words where there are any."""
        near = "not looked for"
        if self.preparation.near:
            near = f"{self.preparation.near}, version {self.preparation.near.version}"
        return {
            "content": self._content(),
            "layout": self.layout or "by columns",
            "columns": ", ".join(f"{ours} = {theirs}" for ours, theirs in sorted(self.preparation.columns.items())),
            "bad records": self.ref.on_bad_record,
            **self.cleaners,
            "near duplicates": near,
            **self.screened(),
            "portions": f"{SIZE} bytes",
            "code": code(),
        }

    def _content(self) -> str:
        """Digest of the texts and of the names that their places begin with."""
        if self.where == "hub":
            assert self.record and self.record.source
            return f"{self.record.source.repo_id}@{self.fingerprint} {self.record.source.pattern}"
        return artifacts.digest([self._digest(), [place for place, _ in self._places()]])

    def _digest(self) -> str:
        return _digest(file for _, file in self._places())

    def screened(self) -> dict[str, str]:
        """What is looked for in it, as ingredients of digests; a value is "" while it is not known."""
        if self.screen is None:
            return {}
        skipped = self.preparation.skip
        not_here = {f"decontamination of {self.label} not against": ", ".join(skipped)} if skipped else {}
        return self.screen.ingredients() | not_here

    def to_json(self) -> dict[str, Any]:
        """An entry of `inputs` in what `langadapt plan --json` prints."""
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

    The user's own path comes first, then `[data]`, then the bundled sample in a rehearsal or where it is all there is,
    then the hub.

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
    if record.sample is not None and (rehearsal or record.complete):
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
    record, ref = made.record, made.ref
    own: list[tuple[str, Mapping[str, Any]]] = [(name, {}) for name in (record.filters if record else ())]
    steps = (*own, *((step.name, step.options) for step in ref.filters))
    good = made.label if ref.on_bad_record == "stop" else ""
    made.preparation = Preparation(columns=dict(ref.columns), good=good, language=language, steps=steps, near=ref.near)
    made.steps = made.preparation.make_steps(known)
    readers = [_version(known.corpora.owner(record.name))] if record else []
    spoken = _spoken(language, known)
    made.cleaners = {
        **({"reader": readers[0]} if record and record.read else {}),
        "language": spoken,
        **_cleaners(steps, known, language),
    }
    named = [
        f"{known.filters[name].name} {known.filters[name].version} of {_version(known.filters.owner(name))}"
        for name, _ in steps
    ]
    files = [f"{option} {digest[:12]}" for option, digest in made.cleaners.items() if len(digest) == 64]
    near = [f"near duplicates {ref.near.version}"] if ref.near else []
    made.reader = ", ".join([*readers, *named, *([spoken] if steps else []), *files, *near])


def _spoken(language: str, known: Registry) -> str:
    """A language with its plugin, and a digest of what cleaning asks of it, words by what they are in a text: a change
    counts at once while somebody works on it, and not only with the plugin's next version.
    """
    if language not in known.languages:
        return language
    spoken = known.languages[language]
    probe = " ".join((PROBE, *spoken.function_words, *spoken.boilerplate))
    asked = [spoken.thresholds, spoken.function_words, spoken.boilerplate, spoken.words(probe), spoken.lower(probe)]
    return f"{language} of {_version(known.languages.owner(language))} (as of {artifacts.digest(asked)[:12]})"


def _cleaners(steps: Iterable[tuple[str, Mapping[str, Any]]], known: Registry, language: str) -> dict[str, str]:
    """What cleans a corpus, each step with its version and each option with its value, or its file's digest."""
    said: dict[str, str] = {"filters": ", ".join(name for name, _ in steps) or "none"}
    times: Counter[str] = Counter()
    for name, tuned in steps:
        step = known.filters[name]
        times[name] += 1
        shown = name if times[name] == 1 else f"{name} ({times[name]})"
        said[f"filter {shown}"] = f"version {step.version} of {_version(known.filters.owner(name))}"
        for option, value in step.values(known.languages.get(language), tuned).items():
            path = Path(str(value)).expanduser() if option in step.files and value else None
            said[f"{shown}.{option}"] = artifacts.digest_files([path]) if path and path.is_file() else str(value)
    return said


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
            raise UserError(
                f"corpus {made.label}: there is no such file or folder{in_here(path)}: {path}; name one that is there"
            )
        made.fingerprint = _digest(files)
        made.first = _look_into(made)  # an empty corpus or a missing column is found now and not after an hour
    except (UserError, OSError) as error:
        made.problem = (
            f"{error}; it is the plugin's sample: install the plugin anew" if where == "sample" else str(error)
        )
    return made


def _look_into(made: Input) -> Document:
    """The first document.

    Raises:
        UserError: there is none, or nothing that can be read.
    """
    refused: Counter[str] = Counter()
    for document in made.documents():
        if not isinstance(document, Rejected):
            return document
        refused[document.reason] += 1
    reasons = ", ".join(f"{n} {reason}" for reason, n in refused.most_common())
    raise UserError(
        f"corpus {made.label}: no document in {made.path} can be read ({reasons}); mend it, or name its columns and layout"
    )


def _digest(files: Iterable[Path]) -> str:
    return artifacts.digest_files(files, memory=cache_folder() / "digests")


def _all_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file())
    return [path] if path.is_file() else sorted(files_of(str(path)))


def hub_places(record: Corpus, commit: str) -> Iterator[tuple[str, Path]]:
    """Files of a hub data set with their names in it, fetched one at a time, only as far as the caller reads."""
    return ((name, fetch_hub_file(record, name, commit)) for name in hub_files(record, commit))


def hub_files(record: Corpus, commit: str) -> list[str]:
    """Names of the repository's files that belong to the corpus, in order.

    What a commit holds does not change, so the hub is asked once, and a later run needs no network.
    """
    assert record.source is not None
    repo = record.source.repo_id
    place = cache_folder() / "hub" / f"{artifacts.digest([repo, commit])[:32]}.json"
    names = artifacts.read_json(place) if commit else None
    if names is None:
        names = _listed(repo, commit or record.source.revision)
        if commit:
            with suppress(OSError):  # a cache that cannot be written costs a question to the hub and nothing else
                place.parent.mkdir(parents=True, exist_ok=True)
                artifacts.write_json(place, names)
    found = sorted(n for n in names if fnmatch(n, record.source.pattern))
    if not found:
        raise UserError(
            f"corpus {record.name}: {repo} has no file like {record.source.pattern}; "
            "upgrade its plugin, or bring a copy: [data]"
        )
    return found


def _listed(repo: str, revision: str) -> list[str]:
    from huggingface_hub import HfApi

    from langadapt.hub import in_words

    with in_words(repo, revision=revision, dataset=True):
        return list(HfApi().list_repo_files(repo, repo_type="dataset", revision=revision))


def fetch_hub_file(record: Corpus, name: str, commit: str) -> Path:
    """A file of the corpus's repository, from the cache or the network."""
    from huggingface_hub import hf_hub_download

    from langadapt.hub import in_words

    assert record.source is not None
    revision = commit or record.source.revision
    with in_words(record.source.repo_id, revision=revision, dataset=True):
        return Path(hf_hub_download(record.source.repo_id, name, repo_type="dataset", revision=revision))
