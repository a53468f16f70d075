"""FineWeb's three rules on lines (arXiv 2406.17557, section 3.5): lists, menus and repeated lines.

Read as datatrove reads them; blanks at the end of a line do not hide its end mark here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langadapt.cleaning.repetition import exceeds
from langadapt.cleaning.running_text import Rule, RunningText, step
from langadapt.records import Filter

# Marks that end a sentence: the property Sentence_Terminal of Unicode, of scripts in use.
END_MARKS = ".!?։؝؞؟۔܀܁܂߹।॥၊။።፧፨᙮᜵᜶។៕᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡"

OPTIONS: Mapping[str, Any] = {
    "end_punctuation": 0.12,
    "short_lines": 0.67,
    "short_line": 30,
    "duplicate_line_characters": 0.01,
    "newlines": 0.3,
    "end_marks": END_MARKS,
}


def rule(limits: Mapping[str, Any]) -> Rule:
    """The first limit of `OPTIONS` that a text breaks; a limit of 0 is off.

    `end_punctuation` is the least share of lines that end with one of `end_marks`; `short_lines` the greatest share of
    lines of at most `short_line` characters; `newlines` the most line breaks for each word or mark.
    """
    end_marks = frozenset(limits["end_marks"])

    def judge(running: RunningText) -> str:
        text = running.text
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        if not lines:
            return "empty"
        if sum(line.rstrip()[-1] in end_marks for line in lines) / len(lines) < limits["end_punctuation"]:
            return "too few lines end with a mark"
        if limits["short_lines"]:
            short = sum(len(line) <= limits["short_line"] for line in lines)
            if short / len(lines) > limits["short_lines"]:
                return "too many short lines"
        breaks = text.count("\n")
        if exceeds(lines, len(text) - breaks, 0, limits["duplicate_line_characters"]):
            return "repeated lines"
        if limits["newlines"] and breaks > limits["newlines"] * len(running.facts):
            return "too many line breaks"
        return ""

    return judge


FILTER = Filter(
    name="fineweb-quality",
    description="Drops running text by end marks of lines, short lines, repeated lines, and line breaks for each word.",
    make=lambda options, language: step(rule(options), language),
    source="arXiv 2406.17557, section 3.5",
    options=OPTIONS,
)
