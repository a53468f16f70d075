"""Runs whose base model and corpora come from the hub, or should: a stand-in of the hub answers on this machine."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import MEMBER, STRANGER, HubStandIn, Repo, environment, serving

from langadapt.testing import tiny_model

MODEL, CORPUS = "acme/tiny", "gsarti/clean_mc4_it"
SHARDS = [f"clean/c4-it.tfrecord-0000{i}-of-01024.json.gz" for i in range(3)]

RECIPE = """\
schema = 1
name = "from-the-hub"
language = "it"
base_model = "acme/tiny"

[evaluation]
suites = []
max_documents = 3

[[stage]]
id = "adapt"
kind = "cpt"
corpus = [{ name = "clean-mc4-it", config = "tiny", held_out = 0.3 }]
[stage.peft]
method = "lora"
r = 4
[stage.training]
max_steps = 2
per_device_train_batch_size = 1
max_length = 64
"""


def shard(number: int, rows: int = 700) -> bytes:
    """About 60 kB of text, more than is tokenised ahead of the first rows."""
    texts = [
        f"Pagina {number}-{i}: il vento gira, la barca {i} torna al porto e nessuno sa perché." for i in range(rows)
    ]
    lines = (json.dumps({"url": f"https://example.org/{i}", "text": t}) + "\n" for i, t in enumerate(texts))
    return gzip.compress("".join(lines).encode("utf-8"))


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a model repository, with two that hold code and must stay where they are."""
    folder = tiny_model(tmp_path_factory.mktemp("base") / "model")
    unwanted = {
        "pytorch_model.bin": b"pickled",
        "modeling.py": b"raise SystemExit",
        "README.md": b"# tiny",
        ".gitattributes": b"",
    }
    return {p.name: p.read_bytes() for p in folder.iterdir()} | unwanted


@pytest.fixture
def hub(model_files: dict[str, bytes]) -> Iterator[HubStandIn]:
    """A hub with the model and the corpus; tests change it as they need."""
    corpus = {name: shard(i) for i, name in enumerate(SHARDS)} | {"README.md": b"# corpus", "clean_mc4_it.py": b"code"}
    with serving(HubStandIn(models={MODEL: Repo(dict(model_files))}, datasets={CORPUS: Repo(corpus)})) as running:
        yield running


class Place:
    """A folder with the recipe, a hub cache and the folder of the run."""

    def __init__(self, folder: Path, url: str):
        self.folder, self.url = folder, url
        self.recipe, self.out, self.home = folder / "recipe.toml", folder / "out", folder / "hf"
        self.recipe.write_text(RECIPE, encoding="utf-8")

    def change(self, old: str, new: str) -> None:
        """Puts other words into the recipe."""
        text = self.recipe.read_text(encoding="utf-8")
        assert old in text, old
        self.recipe.write_text(text.replace(old, new), encoding="utf-8")

    def run(self, *arguments: str, url: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """`langadapt run` in a process that knows no hub but the one at `url`."""
        # The shards here are smaller than what the rows of a few steps are chosen from.
        start = "from langadapt import cli; from langadapt.corpus import tokenising; tokenising.POOL = 0; cli.main()"
        command = [sys.executable, "-c", start, "run", str(self.recipe), "--out", str(self.out), *arguments]
        # A tiny model is slower on more threads, much so on a busy machine.
        env = environment(url or self.url, self.home, OMP_NUM_THREADS="1", **variables)
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=300)

    def read(self, name: str) -> Any:
        """A JSON file of the run."""
        return json.loads((self.out / name).read_text(encoding="utf-8"))


@pytest.fixture
def place(tmp_path: Path, hub: HubStandIn) -> Place:
    return Place(tmp_path, hub.url)


@pytest.fixture(scope="session")
def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2 and exactly one message, which holds all of `words`."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    messages = [line for line in result.stderr.splitlines() if line.startswith("langadapt: ")]
    assert len(messages) == 1, result.stderr
    for word in words:
        assert word in messages[0], f"{word!r} is not in: {messages[0]}"


# --- what goes well ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_and_a_corpus_of_the_hub_are_adapted_and_pinned(place: Place, hub: HubStandIn, nowhere: str) -> None:
    result = place.run()
    assert result.returncode == 0, result.stderr
    state, lock = place.read("run.json"), place.read("lock.json")
    assert [(s["id"], s["status"]) for s in state["stages"]] == [
        ("evaluate-base", "done"), ("adapt", "done"), ("evaluate-adapt", "done"),
    ]  # fmt: skip
    assert lock["model"] == {f"{MODEL}@main": hub.models[MODEL].commit}
    assert lock["datasets"] == {CORPUS: hub.datasets[CORPUS].commit}

    fetched = set(hub.fetched)
    assert "model.safetensors" in fetched and "tokenizer.json" in fetched and "config.json" in fetched
    assert not {name for name in fetched if name.endswith((".bin", ".py", ".md"))}, "nothing that may hold code"
    assert fetched & set(SHARDS) == {SHARDS[0]}, "two steps need no more than the first shard"

    asked = len(hub.asked)
    again = place.run()
    assert again.returncode == 0, again.stderr
    assert len(hub.asked) == asked, f"what is cached asks the hub nothing: {hub.asked[asked:]}"
    offline = place.run(url=nowhere)
    assert offline.returncode == 0, offline.stderr
    assert {s["status"] for s in place.read("run.json")["stages"]} == {"cached"}

    larger = ("max_steps=4", "per_device_train_batch_size=16", "max_length=512")
    longer = place.run(*(word for value in larger for word in ("--set", f"adapt.training.{value}")))
    assert longer.returncode == 0, longer.stderr
    statuses = {s["id"]: s["status"] for s in place.read("run.json")["stages"]}
    assert statuses == {"evaluate-base": "cached", "adapt": "done", "evaluate-adapt": "done"}
    assert set(hub.fetched) & set(SHARDS) >= set(SHARDS[:2]), "these need the second shard, too"
    assert place.read("lock.json")["datasets"] == lock["datasets"]


@pytest.mark.slow
def test_a_run_keeps_to_its_commits_when_the_hub_moves_on(place: Place, hub: HubStandIn) -> None:
    """What is pinned is read again although `main` has become something else."""
    place.change("suites = []", "automatic = false")
    assert place.run().returncode == 0
    lock = place.read("lock.json")
    old = hub.models[MODEL]
    hub.models[MODEL] = Repo({**old.files, "config.json": b"{}"}, names=("main", old.commit))
    again = place.run("--set", "adapt.training.learning_rate=1e-3")
    assert again.returncode == 0, again.stderr
    assert place.read("lock.json")["model"] == lock["model"]


@pytest.mark.slow
def test_a_gated_model_is_fetched_for_who_accepted_its_terms_by_a_tag(place: Place, hub: HubStandIn) -> None:
    hub.models[MODEL].gated, hub.models[MODEL].names = True, ("main", "v1")
    place.change('base_model = "acme/tiny"', 'base_model = "acme/tiny"\nrevision = "v1"')
    place.change("suites = []", "automatic = false")
    result = place.run(HF_TOKEN=MEMBER)
    assert result.returncode == 0, result.stderr
    assert place.read("lock.json")["model"] == {f"{MODEL}@v1": hub.models[MODEL].commit}


@pytest.mark.slow
def test_a_model_that_was_fetched_beforehand_is_enough_offline(place: Place, hub: HubStandIn) -> None:
    """`hf download` where there is a network, its cache and some text where there is none."""
    fetch = f"from huggingface_hub import snapshot_download; snapshot_download('{MODEL}')"
    subprocess.run([sys.executable, "-c", fetch], env=environment(hub.url, place.home), check=True)
    (place.folder / "mine.jsonl").write_bytes(gzip.decompress(shard(0, rows=60)))
    place.change('{ name = "clean-mc4-it", config = "tiny", held_out = 0.3 }', '"mine.jsonl"')
    place.change("suites = []", "automatic = false")
    asked = len(hub.asked)
    result = place.run(HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert place.read("lock.json")["model"] == {f"{MODEL}@main": hub.models[MODEL].commit}
    assert len(hub.asked) == asked


def test_a_plan_asks_the_hub_nothing(place: Place, hub: HubStandIn) -> None:
    command = [sys.executable, "-m", "langadapt", "plan", str(place.recipe), "--out", str(place.out)]
    env = environment(hub.url, place.home)
    result = subprocess.run(command, cwd=place.folder, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert not hub.asked and not place.out.exists()


# --- what is refused before anything is written -----------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", STRANGER], ids=["nobody", "a stranger"])
@pytest.mark.parametrize(("kind", "name"), [("models", MODEL), ("datasets", CORPUS)])
def test_what_is_gated_names_its_page_and_how_to_log_in(
    kind: str, name: str, token: str, place: Place, hub: HubStandIn
) -> None:
    getattr(hub, kind)[name].gated = True
    result = place.run(**({"HF_TOKEN": token} if token else {}))
    assert_refused(
        result,
        f"{name} is gated",
        f"https://huggingface.co/{'datasets/' * (kind == 'datasets')}{name}",
        "hf auth login",
    )
    assert not place.out.exists() and not hub.fetched


@pytest.mark.parametrize("token", ["", MEMBER], ids=["nobody", "a member"])
@pytest.mark.parametrize(("kind", "name"), [("models", MODEL), ("datasets", CORPUS)])
def test_what_the_hub_does_not_know_is_named(kind: str, name: str, token: str, place: Place, hub: HubStandIn) -> None:
    getattr(hub, kind).clear()
    result = place.run(**({"HF_TOKEN": token} if token else {}))
    assert_refused(result, f"the hub knows no {name}", "check the name", "hf auth login")
    assert not place.out.exists()


def test_a_revision_that_does_not_exist_is_named(place: Place) -> None:
    place.change('base_model = "acme/tiny"', 'base_model = "acme/tiny"\nrevision = "v9"')
    assert_refused(place.run(), f"{MODEL} has no", '"v9"', f"https://huggingface.co/{MODEL}")
    assert not place.out.exists()


def test_a_hub_that_cannot_be_reached_says_what_to_do(place: Place, nowhere: str) -> None:
    assert_refused(place.run(url=nowhere), MODEL, "cannot be reached", "connect", "give its folder")
    assert not place.out.exists()


def test_offline_mode_is_named_as_the_reason(place: Place, hub: HubStandIn) -> None:
    assert_refused(place.run(HF_HUB_OFFLINE="1"), MODEL, "cannot be reached", "HF_HUB_OFFLINE")
    assert not place.out.exists() and not hub.asked


def test_a_token_that_is_not_valid_is_named_as_the_reason(place: Place) -> None:
    assert_refused(place.run(HF_TOKEN="hf_nonsense"), MODEL, "token", "hf auth login")
    assert not place.out.exists()


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_hub_that_is_out_of_order_says_why(status: int, place: Place, hub: HubStandIn) -> None:
    hub.broken["/auth-check"] = status
    assert_refused(place.run(), f"the hub refused {MODEL}: ", str(status))
    assert not place.out.exists()


@pytest.mark.parametrize("reference", ["some one/a model!", "some--one/model..x", "acme/tiny.git"])
def test_a_name_that_the_hub_never_gives_is_refused_without_asking(
    reference: str, place: Place, hub: HubStandIn
) -> None:
    place.change(MODEL, reference)
    assert_refused(place.run(), reference, "owner/name")
    assert not place.out.exists() and not hub.asked


# --- what fails later -------------------------------------------------------------------------------------------------


def test_a_download_that_fails_leaves_a_run_that_says_so_and_no_stage(place: Place, hub: HubStandIn) -> None:
    hub.broken["/resolve/"] = 403  # what the hub library does not try again
    assert_refused(place.run(), MODEL)
    assert place.read("run.json")["status"] == "failed"
    assert not list((place.out / "stages").iterdir())


@pytest.mark.slow
def test_a_corpus_repository_without_its_files_is_named(place: Place, hub: HubStandIn) -> None:
    hub.datasets[CORPUS] = Repo({"README.md": b"moved"})
    place.change("suites = []", "automatic = false")
    assert_refused(place.run(), CORPUS, "no file like *.json.gz")
    assert not list((place.out / "stages").iterdir())


@pytest.mark.slow
def test_a_shard_that_cannot_be_fetched_fails_the_stage_and_leaves_none(place: Place, hub: HubStandIn) -> None:
    hub.broken[SHARDS[0]] = 403
    place.change("suites = []", "automatic = false")
    assert_refused(place.run(), CORPUS)
    assert not list((place.out / "stages").iterdir())


@pytest.mark.slow
def test_a_shard_that_is_damaged_on_the_hub_is_named(place: Place, hub: HubStandIn) -> None:
    hub.datasets[CORPUS].files[SHARDS[0]] = shard(0)[:100]
    place.change("suites = []", "automatic = false")
    place.change('config = "tiny"', 'config = "tiny", on_bad_record = "stop"')
    assert_refused(place.run(), SHARDS[0], "file cut short")
    assert not list((place.out / "stages").iterdir())


@pytest.mark.slow
def test_a_model_without_safetensors_is_refused(place: Place, hub: HubStandIn) -> None:
    del hub.models[MODEL].files["model.safetensors"]
    place.change("suites = []", "automatic = false")
    assert_refused(place.run(), "no model can be loaded", "safetensors")
    assert not list((place.out / "stages").iterdir())


# --- reading ----------------------------------------------------------------------------------------------------------


def test_columns_of_a_hub_corpus_can_be_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`columns` says what the recipe's author calls the columns, wherever the rows come from."""
    from langadapt import inputs
    from langadapt.plugins import registry
    from langadapt.recipe import CorpusRef

    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b'{"body": "ciao"}\n{"text": "x"}\n'))
    monkeypatch.setattr(inputs, "hub_files", lambda record, commit: ["a.json.gz"])
    monkeypatch.setattr(inputs, "fetch_hub_file", lambda record, name, commit: tmp_path / name)
    ref = CorpusRef(name="clean-mc4-it", columns={"text": "body"})
    found = inputs.find_input(ref, registry(), language="it", data={}, rehearsal=False, pinned={})
    documents = list(found.documents())
    assert [getattr(d, "text", "") or d.reason for d in documents] == ["ciao", "x"]
