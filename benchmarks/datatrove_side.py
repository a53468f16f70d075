"""What a careful user of datatrove writes for the steps of `corpus_speed.py`; runs in datatrove's own environment.

The filters are datatrove's with FineWeb-2's thresholds, its MinHash has its default of 14 bands of 8 values over 5 words.
Words are found by the language's own segmentation, the one that langadapt uses; for MinHash by blanks, after datatrove's
simplification, which is the quickest there is. The language is told by langadapt's own step. Exact duplicates have no
step of their own: MinHash finds them too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LambdaFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.word_tokenizers import WordTokenizer

import langadapt
from langadapt.cleaning import fineweb2, identity
from langadapt.plugins import registry


class Words(WordTokenizer):
    """A function as datatrove's word tokenizer; known by a name, so that it can be sent to other processes."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)

    def word_tokenize(self, text: str) -> list[str]:
        return registry().languages[self.language].words(text) if self.language else text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words) and other.language == self.language

    def __hash__(self) -> int:  # datatrove remembers the words of the last texts by text and tokenizer
        return hash(self.language)


class InLanguage:
    """langadapt's step `language` as a filter."""

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def __call__(self, document: Document) -> bool:
        if not hasattr(self, "judge"):
            self.judge = identity.make(dict(identity.FILTER.options), registry().languages[self.tag])
        return not isinstance(self.judge(langadapt.Document(id="", text=document.text)), str)

    def __getstate__(self) -> dict[str, str]:
        return {"tag": self.tag}


def main() -> None:
    given = json.loads(sys.argv[1])
    folder, tag, tasks, workers = Path(given["work"]), given["language"], given["files"], given["workers"]
    language = registry().languages[tag]
    limits = {**fineweb2.OPTIONS, **language.thresholds["fineweb2"]}
    words, minhash = Words(tag), MinhashConfig()
    seconds: dict[str, float] = {}

    def run(name: str, steps: list[object], number: int, shares: int) -> None:
        executor = LocalPipelineExecutor(
            pipeline=steps, tasks=number, workers=min(shares, number), logging_dir=str(folder / "logs" / name)
        )
        for stat in executor.run().stats:
            seconds[f"{name}: {stat.name}"] = stat.time_stats.total

    filters = [
        JsonlReader(given["texts"]),
        LambdaFilter(InLanguage(tag)),
        GopherRepetitionFilter(
            language=words,
            dup_para_frac=0,
            dup_para_char_frac=0,
            dup_line_char_frac=0,
            dup_line_frac=limits["duplicate_lines"],
            top_n_grams=tuple((n, limits[f"top_{n}"]) for n in (2, 3, 4)),
            dup_n_grams=tuple((n, limits[f"repeated_{n}"]) for n in range(5, 11)),
        ),
        FineWebQualityFilter(
            language=words,
            short_line_thr=999,
            char_duplicates_ratio=limits["duplicate_line_characters"],
            line_punct_thr=limits["end_punctuation"],
            new_line_ratio=limits["newlines"],
        ),
        GopherQualityFilter(
            language=words,
            stop_words=list(language.function_words),
            min_avg_word_length=limits["min_word_length"],
            max_avg_word_length=limits["max_word_length"],
            max_non_alpha_words_ratio=limits["alphabetic_words"],
        ),
        JsonlWriter(str(folder / "filtered"), compression=None),
        MinhashDedupSignature(str(folder / "signatures"), config=minhash, language=Words("")),
    ]
    run("filters", filters, tasks, workers)
    buckets = MinhashDedupBuckets(
        str(folder / "signatures"), str(folder / "buckets"), config=minhash, lines_to_buffer=1000
    )
    run("pairs", [buckets], minhash.num_buckets, workers)
    clusters = MinhashDedupCluster(
        str(folder / "buckets"), str(folder / "remove"), config=minhash, lines_to_buffer=1000
    )
    run("clusters", [clusters], 1, 1)
    last = [
        JsonlReader(str(folder / "filtered")),
        MinhashDedupFilter(str(folder / "remove")),
        JsonlWriter(str(folder / "kept"), compression=None),
    ]
    run("second reading", last, tasks, workers)
    print(json.dumps({"steps": seconds, "processor": sum(os.times()[:2])}))


if __name__ == "__main__":
    main()
