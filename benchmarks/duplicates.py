"""What is found of duplicates planted in real text, how fast, and in how much memory: langadapt beside other tools.

Passages are cut out of a corpus; to three in four of them a copy is added: the same text, the same with boilerplate
around it, or with 2, 5 or 10 % of its words replaced. All are shuffled and given to each tool, in a process of its own
and on one core; speed is by processor time. A copy is found when it and its original do not both stay; "wiped" are
those of which neither does, because a tool keeps one of a chain of similar texts, or the passage was like another.

Other tools are measured if the interpreter has them, and skipped in words if not: `rensa`, `datasketch`, `datatrove`
(with a regular expression for its words, which is kinder to it than its own). All look for 5-word runs with 14 bands
of 8 values.

    python benchmarks/duplicates.py CORPUS... [--words 300] [--passages 4000] [--rounds 3] [--python OTHER/bin/python]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

NGRAM, BANDS, ROWS = 5, 14, 8
KINDS = {"exact": 4, "boilerplate": 2, "2 %": 2, "5 %": 2, "10 %": 2}  # copies in 16 passages
HEADER = (
    "Questo sito utilizza cookie tecnici per funzionare meglio. Proseguendo nella lettura ne accetti l'uso. "
    "Home Chi siamo Contatti Archivio"
)
FOOTER = "Tutti i diritti riservati. Condividi questo articolo con i tuoi amici e iscriviti alla nostra newsletter."
_WORD = re.compile(r"[^\W_]+")
Texts = list[str]


# --- the tools: texts in, for each whether it stays, out --------------------------------------------------------------


def exact(texts: Texts) -> list[bool]:
    from hashlib import blake2b

    from langadapt.corpus.duplicates import Seen

    seen = Seen()
    return [seen.add(blake2b(text.encode(), digest_size=16).digest()) for text in texts]


def near(texts: Texts) -> list[bool]:
    from langadapt.corpus.duplicates import NearSeen, signer
    from langadapt.recipe import NearDuplicates

    seen, sign = NearSeen(), signer(NearDuplicates(ngram=NGRAM, bands=BANDS, rows=ROWS))
    return [seen.add(sign(text)) for text in texts]


def runs(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return [" ".join(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1))]


def in_bands(signatures: list[list[int]]) -> list[bool]:
    """The first of those with a band in common stays; as a plain script would do it."""
    seen: list[set[tuple[int, ...]]] = [set() for _ in range(BANDS)]
    stays = []
    for values in signatures:
        bands = [tuple(values[i * ROWS : (i + 1) * ROWS]) for i in range(BANDS)]
        stays.append(not any(band in known for band, known in zip(bands, seen, strict=True)))
        if stays[-1]:
            for band, known in zip(bands, seen, strict=True):
                known.add(band)
    return stays


def rensa_r(texts: Texts) -> list[bool]:
    from rensa import RMinHash

    return in_bands([_digest(RMinHash(num_perm=BANDS * ROWS, seed=42), text) for text in texts])


def rensa_c(texts: Texts) -> list[bool]:
    from rensa import CMinHash

    return in_bands([_digest(CMinHash(num_perm=BANDS * ROWS, seed=42), text) for text in texts])


def _digest(minhash: object, text: str) -> list[int]:
    minhash.update(runs(text))  # type: ignore[attr-defined]
    return minhash.digest()  # type: ignore[attr-defined,no-any-return]


def datasketch(texts: Texts) -> list[bool]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    stays = []
    for number, text in enumerate(texts):
        minhash = MinHash(num_perm=BANDS * ROWS)
        minhash.update_batch([run.encode() for run in runs(text)])
        stays.append(not index.query(minhash))
        if stays[-1]:
            index.insert(number, minhash)
    return stays


def datatrove(texts: Texts) -> list[bool]:
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.hashing import HashConfig

    class Words:
        def word_tokenize(self, text: str) -> list[str]:
            return _WORD.findall(text)

    minhash.load_word_tokenizer = lambda language: Words()
    config = minhash.MinhashConfig(
        n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS, hash_config=HashConfig(precision=64)
    )
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    kept: set[str] = set()

    def note(data, rank: int = 0, world_size: int = 1):  # type: ignore[no-untyped-def]
        for document in data:
            kept.add(document.id)
            yield document

    with tempfile.TemporaryDirectory() as folder:
        sigs, pairs, gone = (f"{folder}/{name}" for name in ("signatures", "pairs", "gone"))
        steps = [
            [documents, minhash.MinhashDedupSignature(sigs, config)],
            [minhash.MinhashDedupBuckets(sigs, pairs, config=config)],
            [minhash.MinhashDedupCluster(pairs, gone, config=config)],
            [documents, minhash.MinhashDedupFilter(gone), note],
        ]
        for number, pipeline in enumerate(steps):
            tasks = BANDS if number == 1 else 1
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{folder}/log{number}").run()
    return [str(number) in kept for number in range(len(texts))]


TOOLS: dict[str, tuple[str, Callable[[Texts], list[bool]]]] = {
    "langadapt exact": ("", exact), "langadapt near": ("", near), "rensa RMinHash": ("rensa", rensa_r),
    "rensa CMinHash": ("rensa", rensa_c), "datasketch": ("datasketch", datasketch), "datatrove": ("datatrove", datatrove),
}  # fmt: skip


# --- the passages and their copies ------------------------------------------------------------------------------------


def passages(paths: list[str], words: int, most: int) -> Texts:
    """Passages of so many words, of text that comes from any file that langadapt reads."""
    from langadapt.corpus.reading import read_documents
    from langadapt.records import Document

    found: dict[str, None] = {}
    for path in paths:
        for document in read_documents(path):
            parts = re.findall(r"\S+\s*", document.content) if isinstance(document, Document) else []
            for start in range(0, len(parts) - words + 1, words):
                found["".join(parts[start : start + words])] = None
    chosen = list(found)
    random.Random(1).shuffle(chosen)
    return chosen[:most]


def copied(text: str, kind: str, vocabulary: Texts, chance: random.Random) -> str:
    if kind == "exact":
        return text
    if kind == "boilerplate":
        return f"{HEADER}\n{text}\n{FOOTER}"
    words = text.split(" ")
    for place in chance.sample(range(len(words)), round(len(words) * float(kind.rstrip(" %")) / 100)):
        words[place] = chance.choice(vocabulary)
    return " ".join(words)


def planted(originals: Texts) -> tuple[Texts, list[tuple[str, int, int]]]:
    """All texts in a shuffled order, and of every copy its kind, its place and its original's."""
    chance = random.Random(2)
    vocabulary = [word for text in originals for word in text.split()]
    pattern = [kind for kind, number in KINDS.items() for _ in range(number)]
    made = [(pattern[n % 16], n) for n in range(len(originals)) if n % 16 < len(pattern)]
    texts = [*originals, *(copied(originals[n], kind, vocabulary, chance) for kind, n in made)]
    order = list(range(len(texts)))
    chance.shuffle(order)
    places = {number: place for place, number in enumerate(order)}
    pairs = [(kind, places[len(originals) + i], places[n]) for i, (kind, n) in enumerate(made)]
    return [texts[number] for number in order], pairs


# --- measuring --------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="*", help="files, folders or globs")
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--passages", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the other tools")
    parser.add_argument("--tool", choices=TOOLS, help=argparse.SUPPRESS)
    parser.add_argument("--texts", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        print(json.dumps(measured(options.tool, json.loads(Path(options.texts).read_text()))))
        return
    originals = passages(options.corpus, options.words, options.passages)
    texts, pairs = planted(originals)
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(originals)} passages of {options.words} words, {len(pairs)} copies, {size / 1e6:.1f} MB")
    print(f"{'':16} {'docs/s':>8} {'MB/s':>6} {'memory':>8}  " + " ".join(f"{kind:>11}" for kind in KINDS) + "  wiped")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps(texts))
        for tool, (package, _) in TOOLS.items():
            print(
                row(tool, options.python if package else sys.executable, file, options.rounds, size, pairs), flush=True
            )


def row(tool: str, python: str, file: Path, rounds: int, size: int, pairs: list[tuple[str, int, int]]) -> str:
    """The best of so many rounds, as a line of the table; recall in %."""
    best: dict[str, object] = {}
    for _ in range(rounds):
        command = [python, __file__, "--tool", tool, "--texts", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"{tool:16} not measured: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
        found = json.loads(done.stdout.splitlines()[-1])
        if not best or found["seconds"] < best["seconds"]:
            best = found
    stays, seconds = best["stays"], best["seconds"]
    recall = []
    for kind in KINDS:
        of_kind = [not (stays[copy] and stays[original]) for k, copy, original in pairs if k == kind]  # type: ignore[index]
        recall.append(f"{100 * sum(of_kind) / len(of_kind):11.1f}")
    wiped = sum(not stays[copy] and not stays[original] for _, copy, original in pairs)  # type: ignore[index]
    return (
        f"{tool:16} {len(stays) / seconds:8,.0f} {size / 1e6 / seconds:6.1f} {best['memory'] / 1e6:5.0f} MB  "  # type: ignore[arg-type,operator]
        + " ".join(recall)
        + f" {wiped:6}"
    )


def measured(tool: str, texts: Texts) -> dict[str, object]:
    """Processor seconds of one run, and by how much memory grew; what a tool prepares once is done before."""
    run = TOOLS[tool][1]
    run([texts[0], "un altro testo che serve soltanto a scaldare il programma prima della misura vera e propria"])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = memory("VmRSS")
    started = time.process_time()
    stays = run(texts)
    seconds = time.process_time() - started
    return {"stays": stays, "seconds": seconds, "memory": memory("VmHWM") - before}


def memory(field: str) -> int:
    """Bytes, as Linux counts them."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
