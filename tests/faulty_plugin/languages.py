"""Languages; the first is sound."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from langadapt import Language

SAMPLES = Path(__file__).parent / "samples"

SOUND = Language(tag="qaa", name="Sound", autonym="sound", script="Latn", words=re.compile(r"\w+").findall)


def faulty(tag: str, **fields) -> Language:
    return replace(SOUND, tag=tag, **fields)


LANGUAGES = (
    SOUND,
    faulty("Italian"),
    faulty("qab", source_language="qab"),
    faulty("qac", script="Latin"),
    faulty("qad", autonym=" "),
    faulty("qae", words=lambda text: text.lower().split()),
    faulty("qaf", words=lambda text: text.split()[::-1]),
    faulty("qag", words=lambda text: text.split(" ")),
    faulty("qah", words=re.compile(r"\b[a-m]\w*").findall),
    faulty("qai", words=lambda text: [text[0], *text[1:].split()]),
    faulty("qaj", words=lambda text: [text] if text.strip() else []),
    faulty("qak", prompts={"sft": "chatlm"}),
    faulty("qal", suites=("faulti",)),
    faulty("qam", thresholds={"fineweb3": {"top_2": 0.2}}),
    faulty("qan", thresholds={"fineweb2": {"top_2": 0.2}}),
    faulty("qao", thresholds={"fineweb2": {"top_2": "a fifth"}}),
    faulty("qdy", thresholds={"fineweb2": {"end_punctation": 0.1}}),
    faulty("qdz", thresholds={"c4-quality": {"end_marks": 3}}),
    faulty("qap", function_words=("And", "the")),
    faulty("qaq", boilerplate=("read more", "read more")),
    faulty("qar", address=lambda text: "tu"),
    faulty("qas", tell_apart=lambda text: "Neapolitan"),
    faulty("qat", replay="no-such-corpus"),
    faulty("qau", replay="sound-corpus", source_language="qaa"),
    faulty("qav", length_ratio={"en": (2.0, 1.0)}),
    faulty("qaw", length_ratio={"en": (0.9, 1.1)}, parallel_sample=SAMPLES / "parallel.jsonl"),
    faulty("qax", script="Grek"),
    faulty("qay", lower=str.split),
    faulty("qaz", lower=str.swapcase),
    faulty("qba", lower=lambda text: " ".join(text.lower().split())),
    faulty("qbb", lower=lambda text: text.replace("İ", "i").replace("I", "ı")),
    faulty("qbc", lower=lambda text: text.lower().replace("v", "w")),
    faulty("qbd", lower=lambda text: text.replace("W", "V").lower()),
    faulty("qbe", lower=lambda text: text[0].lower() + text[1:].lower()),
)
