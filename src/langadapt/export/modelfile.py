"""Ollama's Modelfile beside a GGUF file (https://docs.ollama.com/modelfile)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langadapt.prompts.templates import Frame

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
    elif '"""' in (text := _go(frame)):
        yield '# No TEMPLATE: the prompt format contains """, which ends one.'
    else:
        yield f'TEMPLATE """{text}"""'


def _go(frame: Frame) -> str:
    """The frame as a template of Ollama's (Go's `text/template`, https://docs.ollama.com/template)."""
    before, after = map(_quoted, frame.system or ("", ""))
    opening, answer, lead, end, again = map(_quoted, (frame.opening, frame.answer, frame.lead, frame.end, frame.again))
    second = f"{before}{{{{ $.System }}}}{after}" if frame.system else opening
    return (
        '{{ range $i, $message := .Messages }}{{ if eq $message.Role "user" }}'
        f"{{{{ if eq $i 0 }}}}{opening}"
        f"{{{{ else if and (eq $i 1) $.System }}}}{second}"
        f"{{{{ else }}}}{again}{{{{ end }}}}"
        f"{{{{ $message.Content }}}}{answer}"
        '{{ else if eq $message.Role "assistant" }}'
        f"{lead}{{{{ $message.Content }}}}{end}"
        "{{ end }}{{ end }}"
    )


def _quoted(text: str) -> str:
    """Text as it stands in the template; the two marks that Go would read are said as a string."""
    return text.replace("{{", '{{ "{{" }}')


def _parameters(stops: Iterable[str], generation: Mapping[str, Any]) -> Iterator[str]:
    for stop in dict.fromkeys(filter(None, stops)):
        escaped = stop.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'PARAMETER stop "{escaped}"'
    for theirs, ours in _SAMPLING.items():
        if generation.get(theirs) is not None:
            yield f"PARAMETER {ours} {generation[theirs]}"
