"""How well texts are told by their language, offline: the detector alone, and the cleaning step `language` as a whole.

The texts are yours, in a folder for each language that is named by its tag, as .txt, .html or .jsonl(.gz) with a field
`text`; each line, or each paragraph of HTML, is one text. Left out are texts that stand under two tags, for they are not
translated, and those with signs of code or formulas.

    python benchmarks/identification.py FOLDER [--language it] [--number 1000]

Long texts have 300 characters and more, short ones 25 to 70, very short ones 8 to 22; at most --number of each kind and
language are drawn, always the same. Tags that the detector does not have are taken for relatives of --language: of them
it is counted how many pass for it.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from langadapt import Document, Language
from langadapt.cleaning import identity
from langadapt.identification import identify, knows
from langadapt.plugins import registry

JUDGED = "40 and more"  # what the step judges
KINDS = {"long": (300, 100_000), "short": (25, 70), "very short": (8, 22)}
_BLOCK = re.compile(r"</?(?:p|h\d|li|td|th|dt|dd|div|tr|br|title|body)\b[^>]*>", re.IGNORECASE)
_SILENT = re.compile(r"<(script|style|head|pre|code)\b.*?</\1>", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"[][(){}<>=$_;\\/|#*+@]|[A-Z]{4}|[a-z][A-Z]")
_TAG = re.compile(r"<[^>]+>")

Texts = dict[str, dict[str, list[str]]]  # by tag, by kind
Step = Callable[[Document], Document | str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", default="it", help="the language that the step keeps")
    parser.add_argument("--number", type=int, default=1000)
    options = parser.parse_args()
    texts = drawn(options.folder, options.number)
    known = {tag: kinds for tag, kinds in texts.items() if knows(tag)}
    relatives = {tag: kinds for tag, kinds in texts.items() if not knows(tag)}
    identify("warm up")
    detector(known, options.language)
    language = registry().languages.get(options.language)
    step(known, options.language, language)
    paragraphs(known, options.language, language)
    if relatives:
        passing(relatives, options.language, language)


def drawn(folder: Path, number: int) -> Texts:
    """The texts of every language and kind, seeded, without those that stand under two tags."""
    found = {place.name: dict.fromkeys(lines(place)) for place in sorted(folder.iterdir()) if place.is_dir()}
    times = Counter(text for texts in found.values() for text in texts)
    result: Texts = {}
    for tag, texts in found.items():
        own = [text for text in texts if times[text] == 1 and is_words(text)]
        random.Random(0).shuffle(own)
        result[tag] = {
            kind: [text for text in own if least <= len(text) <= most][:number]
            for kind, (least, most) in {**KINDS, JUDGED: (40, 100_000)}.items()
        }
    return result


def is_words(text: str) -> bool:
    """Whether it is more than one word, mostly letters, and neither code nor a formula."""
    return " " in text and not _CODE.search(text) and sum(map(str.isalpha, text)) > 0.7 * len(text)


def lines(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        if name.endswith((".jsonl", ".jsonl.gz")):
            with gzip.open(path, "rt", "utf-8") if name.endswith(".gz") else path.open(encoding="utf-8") as file:
                found = [line for row in file for line in json.loads(row)["text"].split("\n")]
        elif name.endswith((".html", ".htm")):
            text = _SILENT.sub("\n", path.read_text("utf-8", "replace")).replace("\n", " ")
            found = html.unescape(_TAG.sub("", _BLOCK.sub("\n", text))).split("\n")
        elif name.endswith(".txt"):
            found = path.read_text("utf-8").split("\n")
        else:
            continue
        yield from filter(None, (" ".join(line.split()) for line in found))


def detector(texts: Texts, own: str) -> None:
    """The detector's own word: accuracy, precision and recall of one language, speed."""
    print(
        "Detector: % right"
        + f", {own}: precision / recall of its label, and of its label where it is sure, documents/s"
    )
    print("| " + " | ".join(["", "texts", *texts, "all", f"{own} P / R", f"{own}, sure: P / R", "docs/s"]) + " |")
    print("|---" * (len(texts) + 6) + "|")
    for kind in KINDS:
        answers = {tag: [identify(text) for text in kinds[kind]] for tag, kinds in texts.items()}
        right = {tag: share(a.tag == tag for a in found) for tag, found in answers.items()}
        everything = [a.tag == tag for tag, found in answers.items() for a in found]
        flat = [text for kinds in texts.values() for text in kinds[kind]]
        label = precision_recall(answers, own, lambda a: a.tag == own)
        sure = precision_recall(answers, own, lambda a: a.tag == own and a.reliable)
        cells = [kind, str(len(everything)), *(f"{right[tag]:.1f}" for tag in texts), f"{share(everything):.2f}"]
        print("| " + " | ".join([*cells, label, sure, f"{speed(identify, flat):,.0f}"]) + " |")


def step(texts: Texts, own: str, language: Language | None) -> None:
    """The step as a recipe has it: sure, and no relative."""
    judge = made(own, language, paragraphs=False)
    print(f"\nStep `language` for {own}: % kept, by language and number of characters")
    print("| " + " | ".join(["", *texts, "docs/s"]) + " |")
    print("|---" * (len(texts) + 2) + "|")
    for kind in ("long", JUDGED):
        documents = {tag: [document(t) for t in kinds[kind]] for tag, kinds in texts.items()}
        kept = [f"{share(not isinstance(judge(d), str) for d in found):.2f}" for found in documents.values()]
        flat = [d for found in documents.values() for d in found]
        print("| " + " | ".join([kind, *kept, f"{speed(judge, flat):,.0f}"]) + " |")


def paragraphs(texts: Texts, own: str, language: Language | None) -> None:
    """Pages of the language with paragraphs of another between its own: what stays of either."""
    judge = made(own, language, paragraphs=True)
    print(f"\nStep `language`, paragraphs = true: {own} and another language, paragraph by paragraph in one document")
    print(f"| other | documents | % of {own} paragraphs kept | % of the other's kept |")
    print("|---" * 4 + "|")
    for tag in sorted(texts.keys() - {own}) if own in texts else ():
        pairs = [*zip(*(texts[t]["long"] for t in (own, tag)), strict=False)]
        pages = [pairs[i : i + 3] for i in range(0, len(pairs), 3)]
        counts: dict[str, list[bool]] = defaultdict(list)
        for page in pages:
            left = judge(document("\n".join(text for pair in page for text in pair)))
            stays = set() if isinstance(left, str) else set(left.text.split("\n"))
            for ours, theirs in page:
                counts["own"].append(ours in stays)
                counts["other"].append(theirs in stays)
        print(f"| {tag} | {len(pages)} | {share(counts['own']):.2f} | {share(counts['other']):.2f} |")


def passing(texts: Texts, own: str, language: Language | None) -> None:
    """Relatives that the detector does not know."""
    judge = made(own, language, paragraphs=False)
    print(f"\nRelatives, texts of 40 characters and more: % taken for {own}")
    print("| | " + " | ".join(texts) + " |")
    print("|---" * (len(texts) + 1) + "|")
    pools = {tag: kinds[JUDGED] for tag, kinds in texts.items()}
    answers = {tag: [identify(text) for text in pool] for tag, pool in pools.items()}
    print("| texts | " + " | ".join(str(len(pool)) for pool in pools.values()) + " |")
    print(
        "| detector | " + " | ".join(f"{share(a.tag == own for a in found):.0f}" for found in answers.values()) + " |"
    )
    sure = (f"{share(a.tag == own and a.reliable for a in found):.0f}" for found in answers.values())
    print("| detector, sure | " + " | ".join(sure) + " |")
    left = (f"{share(not isinstance(judge(document(t)), str) for t in pool):.0f}" for pool in pools.values())
    print("| step `language` | " + " | ".join(left) + " |")


def made(own: str, language: Language | None, *, paragraphs: bool) -> Step:
    return identity.make({**identity.FILTER.options, "tag": own, "paragraphs": paragraphs}, language)


def document(text: str) -> Document:
    return Document(id="", text=text)


def share(holds: object) -> float:
    values = list(holds)  # type: ignore[call-overload]
    return 100 * sum(values) / max(1, len(values))


def precision_recall(answers: dict[str, list[object]], own: str, holds: Callable[[object], bool]) -> str:
    said = {tag: sum(map(holds, found)) for tag, found in answers.items()}
    precision = 100 * said.get(own, 0) / max(1, sum(said.values()))
    return f"{precision:.2f} / {100 * said.get(own, 0) / max(1, len(answers.get(own, []))):.2f}"


def speed(ask: Callable[..., object], values: list[object] | list[str] | list[Document]) -> float:
    started = time.perf_counter()
    for value in values:
        ask(value)
    return len(values) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
