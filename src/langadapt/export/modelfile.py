"""Ollama's Modelfile beside a GGUF file (https://docs.ollama.com/modelfile)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langadapt.export.template import Frame, go

# Names of Ollama by those of transformers' GenerationConfig.
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


def modelfile(gguf: str, frame: Frame | None, *, stops: Iterable[str], generation: Mapping[str, Any]) -> str:
    """The text of a Modelfile.

    Args:
        gguf: name of the file beside it.
        frame: of the prompt format; None where there is none, or none that can be told as a template.
        stops: texts that end an answer.
        generation: the model's generation settings, by transformers' names.
    """
    return "\n".join([f"FROM ./{gguf}", *_template(frame), *_parameters(stops, generation), ""])


def _template(frame: Frame | None) -> Iterator[str]:
    if frame is None:
        yield "# No TEMPLATE: the prompt format is none, or no fixed text around messages; Ollama then reads the file's own."
    elif '"""' in (text := go(frame)):
        yield '# No TEMPLATE: the prompt format contains """, which ends one.'
    else:
        yield f'TEMPLATE """{text}"""'


def _parameters(stops: Iterable[str], generation: Mapping[str, Any]) -> Iterator[str]:
    for stop in dict.fromkeys(filter(None, stops)):
        escaped = stop.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'PARAMETER stop "{escaped}"'
    for theirs, ours in _SAMPLING.items():
        if generation.get(theirs) is not None:
            yield f"PARAMETER {ours} {generation[theirs]}"
