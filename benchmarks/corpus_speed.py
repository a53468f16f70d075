"""Megabytes per second from raw text to deduplicated documents: langadapt beside datatrove, in turn, in one run.

The same JSON lines, made larger from real text of yours; the same steps: language identification, FineWeb-2's rules
(repetition, lines, words) with the language's thresholds, exact and near duplicates by MinHash; the same word segmenter;
the same number of processes; both write what they keep as JSON lines. Each side is a process of its own, from its start
to its end. With --workers 1 the time of the processor is compared too, which other work on the machine disturbs less.

    python -m venv dt && dt/bin/pip install "datatrove[io,processing]" xxhash eldc pluggy pydantic
    dt/bin/pip install --no-deps . plugins/italian
    python benchmarks/corpus_speed.py TEXTS --datatrove dt/bin/python [--megabytes 100] [--rounds 3] [--workers 0]

Without --datatrove langadapt's side alone is measured. The last lines compare what was kept: the rules must agree on
every document; near duplicates may differ in a few, for each side has its own hash functions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import enlarged

string = json.JSONEncoder(ensure_ascii=False).encode
FILTERS = ["language", "fineweb2"]
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "texts", type=Path, help="a .jsonl(.gz) file with a field text, .txt files, or a folder of such"
    )
    parser.add_argument("--datatrove", default="", help="the Python of an environment with datatrove")
    parser.add_argument("--language", default="it")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="processes of either side; 0 for one on each core")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(langadapt_side(json.loads(options.side))))
        return
    workers = options.workers or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        given = {"texts": f"{folder}/texts", "language": options.language, "files": 4 * workers, "workers": workers}
        originals = enlarged.texts(options.texts)
        number, size = enlarged.write(originals, Path(given["texts"]), int(options.megabytes * 1e6), given["files"])
        print(f"{number} documents, {size / 1e6:.1f} MB, from {len(originals)} real ones; {workers} processes")
        sides = ["langadapt", *(["datatrove"] if options.datatrove else [])]
        if not options.datatrove:
            print("datatrove: not measured; name the Python of an environment that has it, --datatrove PYTHON")
        found = [
            {side: measured(side, given, options, folder, size) for side in turn} for turn in turns(sides, options)
        ]
        report(found, sides, size, workers)
        print_steps("langadapt", step_times(given), size)
        if options.datatrove:
            print_steps("datatrove", own_times(found[-1]["datatrove"]["steps"]), size)
            print()
            compare(Path(folder))


def turns(sides: list[str], options: argparse.Namespace) -> Iterator[list[str]]:
    """Each side is first in every other round."""
    for number in range(options.rounds):
        yield sides if number % 2 == 0 else sides[::-1]


def measured(side: str, given: dict[str, Any], options: argparse.Namespace, folder: str, size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        given = {**given, "work": work}
        if side == "langadapt":
            command = [sys.executable, __file__, str(options.texts), "--side", json.dumps(given)]
        else:
            command = [options.datatrove, str(HERE / "datatrove_side.py"), json.dumps(given)]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment(work))
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
        print(f"{side:10} {seconds:7.1f} s {size / 1e6 / seconds:7.2f} MB/s", flush=True)
        keep_names(side, Path(work), Path(folder))
        return {**json.loads(done.stdout.splitlines()[-1]), "seconds": seconds}


def environment(work: str) -> dict[str, str]:
    """Both sides see langadapt and the plugin as this process does, keep caches apart, and compute with one thread."""
    import langadapt
    import langadapt_italian

    sources = [Path(module.__file__).parents[1] for module in (langadapt, langadapt_italian) if module.__file__]
    path = os.pathsep.join([*map(str, sources), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "LANGADAPT_CACHE": f"{work}/cache", "OMP_NUM_THREADS": "1"}


def langadapt_side(given: dict[str, Any]) -> dict[str, Any]:
    """The product's own reading of a corpus, as a stage does it; which documents pass the rules is written down too."""
    from langadapt.corpus.duplicates import NearSeen, Seen
    from langadapt.corpus.preparing import Prepared, admit, prepared

    work, drawn = Path(given["work"]), prepared(find_source(given), given["workers"])
    with (work / "filtered.txt").open("w") as filtered, (work / "kept.jsonl").open("w", encoding="utf-8") as kept:

        def passing() -> Iterator[Any]:
            for item in drawn:
                if isinstance(item, Prepared):
                    filtered.write(item.document.id + "\n")
                yield item

        for item in admit(passing(), Seen(), NearSeen()):
            if isinstance(item, Prepared):
                kept.write(f'{{"id": {string(item.document.id)}, "text": {string(item.document.text)}}}\n')
    return {"processor": sum(os.times()[:2])}


def find_source(given: dict[str, Any]) -> Any:
    from langadapt.inputs import find_input
    from langadapt.plugins import registry
    from langadapt.recipe import CorpusRef

    ref = CorpusRef.model_validate({"path": given["texts"], "deduplicate": "near", "filters": FILTERS})
    found = find_input(ref, registry(), language=given["language"], data={}, rehearsal=False, pinned={})
    assert not found.problem, found.problem
    return found.source()


def step_times(given: dict[str, Any]) -> dict[str, float]:
    """Seconds of one process for each step of langadapt's side, over the same texts."""
    from langadapt.corpus.duplicates import NearSeen, Seen, signer
    from langadapt.corpus.preparing import content_hash
    from langadapt.corpus.reading import blocks, documents
    from langadapt.plugins import registry
    from langadapt.recipe import NearDuplicates
    from langadapt.records import Document

    language, sign = registry().languages[given["language"]], signer(NearDuplicates())
    steps = {name: registry().filters[name] for name in FILTERS}
    ready = {name: step.make(dict(step.options), language) for name, step in steps.items()}
    seen, near = Seen(), NearSeen()
    seconds: Counter[str] = Counter()
    clock = time.perf_counter

    def timed(name: str, do: Callable[[], Any]) -> Any:
        started = clock()
        result = do()
        seconds[name] += clock() - started
        return result

    for path in sorted(Path(given["texts"]).iterdir()):
        cut = blocks(str(path))
        while (block := timed("cut into blocks", lambda cut=cut: next(cut, None))) is not None:
            for document in timed("decode and parse", lambda block=block: list(documents(block, "text", {}))):
                for name, step in ready.items():
                    document = timed(name, lambda step=step, document=document: step(document))
                    if not isinstance(document, Document):
                        break
                else:
                    digest = timed("hash of the content", lambda document=document: content_hash(document))
                    bands = timed("MinHash bands", lambda document=document: sign(document.content))
                    timed("look up both", lambda digest=digest, bands=bands: seen.add(digest) and near.add(bands))
    return dict(seconds)


def report(found: list[dict[str, dict[str, Any]]], sides: list[str], size: int, workers: int) -> None:
    """Speeds, ratios and steps of all rounds."""
    for side in sides:
        speeds = [size / 1e6 / turn[side]["seconds"] for turn in found]
        print(
            f"{side:10} median {statistics.median(speeds):.2f} MB/s of {len(speeds)} rounds "
            f"({min(speeds):.2f} to {max(speeds):.2f})"
        )
    if len(sides) == 2:
        for what in ("seconds", *(["processor"] if workers == 1 else [])):
            ratios = [turn["datatrove"][what] / turn["langadapt"][what] for turn in found]
            name = "processor time" if what == "processor" else "time"
            print(f"{name}, datatrove / langadapt: median {statistics.median(ratios):.2f}, least {min(ratios):.2f}")


def own_times(steps: dict[str, float]) -> dict[str, float]:
    """datatrove's own figures, but for MinHash's first stage: its clock runs while it waits for the steps before it."""
    first = next(name for name in steps if "stage 1" in name)
    before = sum(seconds for name, seconds in steps.items() if name.startswith("filters: ") and name != first)
    return {**steps, first: steps[first] - before}


def print_steps(side: str, steps: dict[str, float], size: int) -> None:
    total = sum(steps.values())
    print(f"\nWhere {side}'s time goes, seconds of one process over {size / 1e6:.1f} MB:")
    for name, seconds in sorted(steps.items(), key=lambda step: -step[1]):
        print(f"  {seconds:8.2f} s {100 * seconds / total:5.1f} %  {size / 1e6 / max(seconds, 1e-9):9.1f} MB/s  {name}")


def keep_names(side: str, work: Path, folder: Path) -> None:
    """The ids that passed the rules, and those of them that were no duplicates; of the last round."""
    if side == "langadapt":
        passed = (work / "filtered.txt").read_text().split("\n")[:-1]
        kept = [json.loads(row)["id"] for row in (work / "kept.jsonl").open(encoding="utf-8")]
    else:
        passed, kept = ids(work / "filtered"), ids(work / "kept")
    (folder / f"{side}.json").write_text(json.dumps({"passed": passed, "kept": kept}))


def ids(folder: Path) -> list[str]:
    return [json.loads(row)["id"] for path in sorted(folder.glob("*.jsonl")) for row in path.open(encoding="utf-8")]


def compare(folder: Path) -> None:
    """Whether both sides keep the same documents."""
    rows = ((f"{p.name}:{n}", row) for p in (folder / "texts").iterdir() for n, row in enumerate(p.open("rb"), 1))
    own = {place: json.loads(row)["id"] for place, row in rows}
    ours, theirs = (json.loads((folder / f"{side}.json").read_text()) for side in ("langadapt", "datatrove"))
    for what, said in (("passed", "pass the rules"), ("kept", "stay after duplicates went")):
        here, there = {own[place.split("/")[-1]] for place in ours[what]}, set(theirs[what])
        print(f"{said}: {len(here)} here, {len(there)} there, {len(here & there)} of them the same")
        for side, only in (("langadapt", here - there), ("datatrove", there - here)):
            if only:
                print(f"  only {side}: {len(only)}, such as {', '.join(sorted(only)[:5])}")


if __name__ == "__main__":
    main()
