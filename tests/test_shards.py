"""What all cores prepare and the cache keeps: the same bytes however many processes made them, and nothing made twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_tokenising import packed

from langadapt import inputs
from langadapt.corpus import shards, workers
from langadapt.corpus.preparing import Accounting, Prepared, Source, clean, prepared
from langadapt.errors import RunError, UserError
from langadapt.inputs import find_input
from langadapt.plugins import registry
from langadapt.recipe import CorpusRef
from langadapt.records import Corpus, Document, Message, Rejected

PORTION = 8_000
PLUGIN = """
import os, signal, time
from dataclasses import replace
from langadapt import Filter, hookimpl

def make(options, language):
    def step(document):
        with open(options["log"] or os.devnull, "a") as log:
            log.write(f"{os.getpid()}\\n")
        print("a plugin that talks")
        if "MUORI" in document.text:
            os.kill(os.getpid(), signal.SIGKILL)
        if "SBAGLIA" in document.text:
            raise ZeroDivisionError("tutto sbagliato")
        if "ASPETTA" in document.text:
            time.sleep(600)
        return "with a number" if "7" in document.text else replace(document, text=document.text.upper())
    return step

@hookimpl
def langadapt_filters():
    yield Filter(name="shouting", description="", make=make, options={"log": "", "limit": 1})
"""


@pytest.fixture(autouse=True)
def own_cache_for_small_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "SMALL", 0)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The filter `shouting`, installed as pip would leave it."""
    about = tmp_path / "site" / "langadapt_shouting-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: langadapt-shouting\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[langadapt]\nshouting = plugin_that_shouts\n")
    (tmp_path / "site" / "plugin_that_shouts.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry.cache_clear()
    yield
    registry.cache_clear()
    sys.modules.pop("plugin_that_shouts", None)


@pytest.fixture
def corpus(write: Callable[..., Path]) -> Path:
    """Files of several kinds, about a dozen portions, with records of every sort."""
    for number in range(12):
        rows = [{"text": f"Testo {number}.{i} con parole, più o meno {i % 40}. " * 4} for i in range(40)]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        lines[5:5] = ["{", '{"other": 1}', "", '{"text": ""}', '{"text": "e\u0300 cosi\u0300"}']
        write(f"corpus/{number:02}/a.jsonl", "\n".join(lines) + "\n")
    write("corpus/13.txt", b"\xff\xfe")
    write("corpus/14.txt", "Un testo solo. " * 300)
    return write(
        "corpus/15.jsonl",
        '{"messages": [{"role": "user", "content": "Ciao"}, {"role": "assistant", "content": "Eh"}]}\n',
    ).parent


def source_of(folder: Path, language: str = "it", portion: int = PORTION, **entry) -> Source:
    """A folder as the stages read it, but for smaller portions."""
    ref = CorpusRef(path=str(folder), **entry)
    found = find_input(ref, registry(), language=language, data={}, rehearsal=False, pinned={})
    assert not found.problem
    source = found.source()
    assert source.shared
    return replace(source, shared=replace(source.shared, cut=lambda: found.portions(portion)))


def kept_bytes(source: Source) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(source.shared.entry.path.glob("*.arrow"))}


def forget(source: Source) -> None:
    for file in source.shared.entry.path.glob("*"):
        file.unlink()


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from langadapt import inputs
inputs.SMALL = 0
from test_shards import source_of
from langadapt.corpus.preparing import prepared
print("here", flush=True)
"""


def script(body: str, **options) -> subprocess.Popen[str]:
    """A script of a user's, without a main guard."""
    code = SCRIPT.format(tests=str(Path(__file__).parent)) + textwrap.dedent(body)
    path = Path(os.environ["LANGADAPT_CACHE"]).parent / "script.py"
    path.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True, env=environment, **options)


# --- the same, however it is made ---


def test_any_number_of_workers_gives_the_same_items_and_the_same_bytes(corpus):
    source = source_of(corpus, filters=["mojibake", {"name": "min-length", "characters": 20}], deduplicate="near")
    here = list(prepared(replace(source, shared=None)))
    assert sum(isinstance(item, Prepared) for item in here) > 400 and all(
        i.signature for i in here if isinstance(i, Prepared)
    )
    made = []
    for number in (1, 2, 3):
        assert list(prepared(source, number)) == here
        made.append(kept_bytes(source))
        forget(source)
    assert made[0] == made[1] == made[2] and len(made[0]) > 6


def test_rows_of_two_corpora_that_share_the_workers_are_the_same_with_any_number_of_them(corpus, tmp_path, monkeypatch):
    made = []
    for number in ("1", "2", "3"):
        monkeypatch.setenv("LANGADAPT_WORKERS", number)
        sources = (
            source_of(corpus, weight=2.0, held_out=0.2),
            source_of(corpus, filters=["mojibake"], max_documents=300),
        )
        inputs = [SimpleNamespace(source=lambda s=source: s, bytes=0, screen=None) for source in sources]
        found = packed(tmp_path / number, *inputs, length=64)
        found.accounting.check()
        files = sorted((tmp_path / number / "packed").iterdir())
        made.append((found.to_json(), {file.name: file.read_bytes() for file in files}))
        for source in sources:
            forget(source)
    assert made[0] == made[1] == made[2] and made[0][1]["tokens.bin"]


def test_a_corpus_that_reads_itself_is_shared_out_too(corpus, monkeypatch):
    def read(folder: Path) -> Iterator[Document | Rejected]:
        for number in range(900):
            place = f"riga {number}"
            yield Rejected(reason="odd", where=place) if number % 9 else Document(id=place, text=f"{place} " * 40)

    own = Corpus(name="own", language="it", licence="x", description="", read=read)
    monkeypatch.setitem(registry().corpora._records, "own", own)
    monkeypatch.setitem(registry().corpora._owners, "own", registry().corpora.owner("dolly-it"))
    source = source_of(corpus, name="own", filters=["mojibake"])
    found = list(prepared(source, 2))
    assert found == list(prepared(replace(source, shared=None))) and len(found) == 900
    assert len(kept_bytes(source)) > 4


@pytest.mark.parametrize("number", [1, 2])
def test_a_reader_that_stops_early_reads_only_a_little_ahead(corpus, number):
    source, cut = source_of(corpus), []

    def counted():
        for portion in source.shared.cut():
            cut.append(portion)
            yield portion

    counting = replace(source, max_documents=50, shared=replace(source.shared, cut=counted))
    assert len(list(prepared(counting, number))) == 50
    assert len(cut) <= 1 + 2 * (number > 1) + 2 * (number > 1)


def test_an_early_stop_and_a_later_longer_run_give_what_one_run_gives(corpus):
    source, whole = source_of(corpus), list(prepared(replace(source_of(corpus), shared=None)))
    assert list(prepared(replace(source, max_documents=77), 1)) == whole[:77]
    assert list(prepared(replace(source, max_documents=200), 2)) == whole[:200]
    assert list(prepared(source, 2)) == whole


def test_steps_of_a_plugin_run_in_workers_and_may_print(corpus, plugin, tmp_path):
    source = source_of(corpus, filters=[{"name": "shouting", "log": str(tmp_path / "log")}])
    found = list(prepared(source, 2))
    processes = set((tmp_path / "log").read_text().split())
    assert len(processes) == 3 and str(os.getpid()) in processes
    assert found == list(prepared(replace(source, shared=None)))


def test_a_step_that_only_this_process_knows_is_run_here(corpus, monkeypatch):
    known = registry()
    shout = replace(known.filters["min-length"], name="own", make=lambda options, language: lambda d: "own reason")
    monkeypatch.setitem(known.filters._records, "own", shout)
    monkeypatch.setitem(known.filters._owners, "own", known.filters.owner("min-length"))
    found = [item for item in prepared(source_of(corpus, filters=["own"]), 2) if item.reason == "own reason"]
    assert len(found) > 400


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_run_once(corpus):
    run = script(f"print(len(list(prepared(source_of(Path({str(corpus)!r})), 2))))")
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0 and said.split() == ["here", str(len(list(prepared(source_of(corpus), 1))))]


# --- a shard as bytes ---

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
messages = st.lists(
    st.builds(Message, role=st.sampled_from(["user", "assistant", "system"]), content=texts, context=texts)
)
documents = st.builds(
    Document,
    id=texts,
    text=texts,
    messages=messages.map(tuple),
    rejected=texts,
    origin=st.dictionaries(texts, texts, max_size=2),
)
items = st.one_of(
    st.builds(Prepared, document=documents, size=st.integers(0, 2**40), digest=st.binary(min_size=16, max_size=16),
              signature=st.binary(max_size=16), found=texts),
    st.builds(Rejected, reason=texts, where=texts, size=st.integers(0, 2**40), found=texts),
)  # fmt: skip


@given(st.lists(items, max_size=8))
def test_a_shard_gives_back_what_was_put_into_it(some):
    assert list(shards.from_bytes(shards.to_bytes(some))) == some


def test_a_file_whose_name_is_not_unicode_has_a_place():
    (item,) = shards.from_bytes(shards.to_bytes([Rejected(reason="not UTF-8", where="caff\udce8.txt:1")]))
    assert item.where == "caff\\udce8.txt:1"


odd = [
    b"",
    b"\xef\xbb\xbf{}",
    b"{}",
    b'{"text": null}',
    b'{"text": 5}',
    b'{"text": "\\ud800"}',
    b"[]",
    b'{"text": "uno"}',
]
lines = st.one_of(
    st.binary(max_size=12),
    st.fixed_dictionaries({"text": st.text(max_size=8)}).map(lambda row: json.dumps(row).encode()),
    st.sampled_from(odd),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(lines, max_size=20), ends=st.sampled_from([b"\n", b"\r\n"]), portion=st.integers(1, 200))
def test_counts_add_up_whatever_the_bytes_and_wherever_portions_end(some, ends, portion, monkeypatch):
    monkeypatch.setenv("LANGADAPT_WORKERS", "1")
    with TemporaryDirectory() as folder:
        for number, line in enumerate(some or [b""]):
            (Path(folder) / f"{number:02}.jsonl").write_bytes(ends.join([b'{"text": "due"}', line, line]))
        source, counts = source_of(Path(folder), portion=portion), []
        for shared in (None, source.shared):
            accounting = Accounting()
            kept = [document for _, document in clean(replace(source, shared=shared), accounting)]
            accounting.check()
            counts.append((kept, accounting.to_json()))
        assert counts[0] == counts[1] and counts[0][1]["documents"]["read"] >= len(some)


# --- what is kept ---


def test_a_second_run_reads_no_corpus_and_says_so(corpus):
    source, said = source_of(corpus), []
    first = list(prepared(source, 2, say=said.append))

    def cut():
        raise AssertionError("the corpus was read again")
        yield

    again = replace(source, shared=replace(source.shared, cut=cut))
    assert list(prepared(again, 2, say=said.append)) == first
    assert (
        "to be prepared: not done before" in said[0]
        and f"prepared before, {len(kept_bytes(source))} shards, all of it" in said[1]
    )


def changed(corpus: Path, how: str) -> Source:
    if how == "content":
        (corpus / "14.txt").write_text("Un altro testo. " * 300)
    if how == "a name":
        (corpus / "14.txt").rename(corpus / "14b.txt")
    entry = {
        "option": {"filters": [{"name": "min-length", "characters": 30}]},
        "steps": {"filters": []},
        "near": {"deduplicate": "near"},
        "stop": {"on_bad_record": "stop"},
        "layout": {"layout": "text"},
        "language": {"language": "en"},
    }
    return source_of(corpus, **({"filters": [{"name": "min-length", "characters": 20}]} | entry.get(how, {})))


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("content", "content: changed"),
        ("a name", "content: changed"),
        ("option", "min-length.characters: 20 → 30"),
        ("steps", "filters: min-length → none"),
        ("near", "near duplicates: not looked for → ngram=5 bands=14 rows=8"),
        ("stop", "bad records: drop → stop"),
        ("layout", "layout: by columns → text"),
        ("language", "language: it of langadapt-italian"),
    ],
)
def test_whatever_decides_what_is_prepared_misses_when_it_changes_and_is_named(corpus, how, why):
    before = source_of(corpus, filters=[{"name": "min-length", "characters": 20}])
    list(prepared(before, 1))
    after = changed(corpus, how)
    assert after.shared.entry.path != before.shared.entry.path
    assert why in (said := after.shared.entry.explain())
    assert how != "language" or said.endswith(" → en")


def test_a_list_of_bad_words_counts_by_what_is_in_it(corpus, write, monkeypatch):
    listed = write("words.txt", "brutto\n")
    before = source_of(corpus, filters=[{"name": "bad-words", "path": str(listed)}])
    moved = write("elsewhere.txt", "brutto\n")
    assert source_of(corpus, filters=[{"name": "bad-words", "path": str(moved)}]).shared.entry == before.shared.entry
    listed.write_text("cattivo\n")
    assert source_of(corpus, filters=[{"name": "bad-words", "path": str(listed)}]).shared.entry != before.shared.entry


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:], lambda b: b""])
def test_a_damaged_shard_is_made_again(corpus, spoil):
    source = source_of(corpus)
    first, kept = list(prepared(source, 1)), kept_bytes(source)
    file = source.shared.entry.path / shards.name(3)
    file.write_bytes(spoil(file.read_bytes()))
    assert list(prepared(source, 1)) == first and kept_bytes(source) == kept


@pytest.mark.parametrize("number", [1, 2])
def test_shards_that_lie_behind_gaps_are_not_made_again(corpus, number):
    source = source_of(corpus)
    first, kept = list(prepared(source, 1)), kept_bytes(source)
    for gap in (0, 1, 4, len(kept) - 1):
        (source.shared.entry.path / shards.name(gap)).unlink()
    before = {file: file.stat().st_mtime_ns for file in source.shared.entry.path.glob("*.arrow")}
    assert list(prepared(source, number)) == first and kept_bytes(source) == kept
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_after_its_last_shard(corpus):
    whole = source_of(corpus)
    first, kept = list(prepared(whole, 1)), kept_bytes(whole)
    forget(whole)
    run = script(f"""
        import os, signal
        source = source_of(Path({str(corpus)!r}))
        for number, item in enumerate(prepared(source, 2)):
            if number == 170:
                os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert run.wait(60) == -signal.SIGKILL
    before = {file.name: file.stat().st_mtime_ns for file in whole.shared.entry.path.glob("*.arrow")}
    assert 2 <= len(before) < len(kept)
    said = []
    assert list(prepared(whole, 2, say=said.append)) == first and kept_bytes(whole) == kept
    assert f"prepared in part, {len(before)} shards" in said[0]
    after = {file.name: file.stat().st_mtime_ns for file in whole.shared.entry.path.glob("*.arrow")}
    assert {name: after[name] for name in before} == before


def test_a_full_disk_costs_the_cache_and_not_the_run(corpus, monkeypatch):
    source, said = source_of(corpus), []
    write = shards.write

    def full(path, shard):
        if path.name >= shards.name(2):
            raise OSError(28, "No space left on device")
        write(path, shard)

    monkeypatch.setattr(shards, "write", full)
    found = list(prepared(source, 2, say=said.append))
    assert found == list(prepared(replace(source, shared=None)))
    assert len(kept_bytes(source)) == 2 and "is not kept" in said[1] and len(said) == 2


def test_a_cache_that_cannot_be_written_is_said(corpus, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="LANGADAPT_CACHE"):
        list(prepared(source_of(corpus), 1))


# --- what goes wrong ---


def test_a_worker_that_dies_is_a_failure_in_words_and_all_others_end(corpus, plugin, tmp_path, write):
    write("corpus/05/b.jsonl", '{"text": "MUORI"}\n')
    with pytest.raises(
        RunError, match=r"corpus: the process that prepared 0\d/\w\.jsonl:1 .*SIGKILL.*LANGADAPT_WORKERS=1"
    ):
        list(prepared(source_of(corpus, filters=[{"name": "shouting", "log": str(tmp_path / "log")}]), 2))
    assert_ended(tmp_path / "log")


def test_an_error_of_a_step_comes_as_it_is_with_its_place_in_the_worker(corpus, plugin, write):
    write("corpus/05/b.jsonl", '{"text": "SBAGLIA"}\n')
    with pytest.raises(ZeroDivisionError, match="tutto sbagliato") as error:
        list(prepared(source_of(corpus, filters=["shouting"]), 2))
    assert "plugin_that_shouts" in error.value.__notes__[0]


def test_a_bad_record_that_is_to_stop_the_run_does_so_from_a_worker(corpus):
    with pytest.raises(UserError, match=r"a\.jsonl:6"):
        list(prepared(source_of(corpus, on_bad_record="stop"), 2))


def assert_ended(log: Path) -> None:
    """All processes that wrote to the log, but for this one, are gone."""
    processes = {int(line) for line in log.read_text().split()} - {os.getpid()}
    deadline = time.monotonic() + 10
    while processes and time.monotonic() < deadline:
        processes = {process for process in processes if _lives(process)}
        time.sleep(0.05)
    assert not processes


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_run(corpus, plugin, tmp_path, number):
    log = tmp_path / "log"
    run = script(
        f"""
        import signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs are started without
        for item in prepared(source_of(Path({str(corpus)!r}), filters=[{{"name": "shouting", "log": {str(log)!r}}}]), 2):
            if len(set(Path({str(log)!r}).read_text().split())) == 3:
                print("working", flush=True)
                time.sleep(600)
        """,
        stderr=subprocess.DEVNULL,
    )
    assert "working\n" in run.stdout
    run.send_signal(number)
    assert run.wait(20) != 0
    assert_ended(log)


def test_workers_that_are_at_work_end_when_nobody_waits_for_them(corpus, plugin, tmp_path, write):
    write("corpus/06/b.jsonl", '{"text": "ASPETTA"}\n')
    log = tmp_path / "log"
    items = prepared(source_of(corpus, filters=[{"name": "shouting", "log": str(log)}]), 2)
    next(items)
    items.close()
    assert_ended(log)
    assert not workers._pools


@pytest.mark.parametrize("said", ["0", "many", "-1"])
def test_a_number_of_workers_that_is_none_is_refused(monkeypatch, said):
    monkeypatch.setenv("LANGADAPT_WORKERS", said)
    with pytest.raises(UserError, match="LANGADAPT_WORKERS"):
        workers.count_workers()


def test_a_container_has_as_many_workers_as_its_share_of_the_processor(write):
    from langadapt.machine import cores_of_quota

    said = {"200000 100000": 2, "250000 100000": 3, "50000 100000": 1, "max 100000": 0, "": 0}
    assert {text: cores_of_quota(write("cpu.max", text)) for text in said} == said
    assert cores_of_quota(write("x", "").with_name("none")) == 0


def test_counts_add_up_when_the_work_is_shared(corpus):
    accounting = Accounting()
    kept = list(clean(source_of(corpus), accounting))
    accounting.check()
    dropped = accounting.documents.dropped
    assert dropped["not valid JSON"] == 12 and dropped["empty"] == 12 and dropped["not UTF-8"] == 1
    assert dropped["exact duplicate"] == 11 and accounting.documents.kept == len(kept) == 12 * 40 + 3


# --- memory ---

PEAK = """
import resource, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from langadapt import inputs
from langadapt.corpus.preparing import prepared
from langadapt.inputs import find_input
from langadapt.plugins import registry
from langadapt.recipe import CorpusRef

ref = CorpusRef(path={path!r}, filters=["mojibake"])
found = find_input(ref, registry(), language="it", data={{}}, rehearsal=False, pinned={{}})
print(sum(item.size for item in prepared(found.source(), 2)))
print(sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    peaks = []
    for megabytes in (30, 120):
        path = tmp_path / f"{megabytes}.jsonl"
        with path.open("w") as stream:
            for number in range(megabytes * 400):
                stream.write(json.dumps({"text": f"Frase {number} di un testo che va avanti per un po'. " * 47}) + "\n")
        code = PEAK.format(tests=str(Path(__file__).parent), path=str(path))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        size, peak = map(int, done.stdout.split())
        assert size > megabytes * 900_000
        peaks.append(peak)
    assert peaks[1] <= 1.2 * peaks[0]
