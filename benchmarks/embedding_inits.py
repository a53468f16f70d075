"""First rows of new tokens compared: bits per byte of held-out text at the start and after a short training.

    python benchmarks/embedding_inits.py --text it.jsonl.gz --source en.jsonl.gz --log inits.jsonl

The base model's vocabulary is extended once. Then each initialisation makes the rows, and the model is scored in both
languages: as it is, after the new rows alone have learnt, and after LoRA with the new rows has. The unchanged vocabulary
is trained on the same text, so it needs more steps for it. An initialisation takes options behind a colon:

    --inits subtoken-mean "token-distillation:snippets=5,learning_rate=1e-3"

Every measurement is a line of the file that --log names. The same command leaves alone what is there already, so a
benchmark that was stopped goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training import BASE, read, size, split

UNCHANGED = "unchanged"
INITS = ["mean", "random", "subtoken-mean", "position-weighted", "align", "similarity", "token-distillation"]
TRAINED = {"start": None, "rows": "trainable_tokens", "lora": "lora"}  # by column, the strategy that trains before it


def main() -> None:
    options = parsed()
    known = [json.loads(row) for row in options.log.open()] if options.log and options.log.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        print(bench, flush=True)
        for init in [UNCHANGED, *options.inits]:
            for when in options.when:
                if when == "rows" and init == UNCHANGED:
                    continue
                about = bench.about | {"init": init, "when": when}
                if not any(about.items() <= row.items() for row in known):
                    row = about | bench.measured(init, when)
                    known.append(row)
                    if options.log:
                        with options.log.open("a") as log:
                            log.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)
        print(table([row for row in known if bench.about.items() <= row.items()], [UNCHANGED, *options.inits]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="target language, JSON lines with a text")
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="source language, likewise")
    parser.add_argument("--base", default=BASE, help="a folder, a GGUF file, or package:NAME/FILE.gguf")
    parser.add_argument("--tokens", type=int, default=1000, help="new ones")
    parser.add_argument("--inits", nargs="+", default=INITS, help="NAME or NAME:OPTION=VALUE,…")
    parser.add_argument("--when", nargs="+", choices=list(TRAINED), default=list(TRAINED))
    parser.add_argument("--steps", type=int, default=20, help="of a training of an extended model")
    parser.add_argument("--length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--batch", type=int, default=2, help="rows of a step")
    parser.add_argument("--rows-rate", type=float, default=1e-3, help="learning rate of new rows alone")
    parser.add_argument("--lora-rate", type=float, default=5e-4, help="learning rate of LoRA with new rows")
    parser.add_argument("--documents", type=int, help="of each language, at most; or all")
    parser.add_argument("--held-out", type=int, default=30_000, help="bytes of each language that are scored")
    parser.add_argument("--log", type=Path, help="file of JSON lines for every measurement; what is there is kept")
    return parser.parse_args()


class Bench:
    """What all measurements share: text, the base, and the extended tokenizer."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        import torch

        from langadapt.artifacts import ModelRef
        from langadapt.loading import load_model, load_tokenizer
        from langadapt.models import find_model
        from langadapt.tokenizer.saving import save

        self.options, self.folder = options, folder
        found = find_model(options.base).path
        if found is None:
            sys.exit(f"{options.base} is not on this machine; name a folder or a GGUF file, --base")
        self.model = load_model(ModelRef(weights=str(found)), torch.float32).eval()
        target, source = (
            split(read(files)[: options.documents], options.held_out) for files in (options.text, options.source)
        )
        self.train = target["train"]
        self.held_out = {"target": target["held_out"], "source": source["held_out"]}
        self.before = load_tokenizer(found)
        self.old = self.before.backend_tokenizer
        self.new = self._extended()
        save(self.before, self.new, folder / "tokenizer")
        self.after = load_tokenizer(folder / "tokenizer")
        names = ("base", "tokens", "steps", "length", "batch", "rows_rate", "lora_rate", "held_out")
        self.about = {name: getattr(options, name) for name in names}
        self.about |= {"text": sum(map(size, self.train)), "text_trained": sum(map(size, self._text_of_training()))}

    def __str__(self) -> str:
        from langadapt.machine import this_machine

        return f"{this_machine()}\n{json.dumps(self.about)}"

    def _extended(self) -> Any:
        from langadapt.tokenizer import extend
        from langadapt.tokenizer.words import count

        return extend.extended(
            self.old,
            extend.Options(tokens=self.options.tokens, multiple_of=1),
            rows=len(self.before),
            target=count(self.old, self.train),
            source=None,
            say=print,
        )

    def _text_of_training(self) -> list[str]:
        """As much text as the steps of an extended model read."""
        wanted, texts = self.options.steps * self.options.batch * (self.options.length + 1), []
        for text in self.train:
            if wanted <= 0:
                break
            texts.append(text)
            wanted -= len(self.after(text, add_special_tokens=False)["input_ids"]) + 1
        return texts

    def measured(self, init: str, when: str) -> dict[str, float]:
        """Bits per byte in both languages, and the seconds that making the rows and training took."""
        import torch

        from langadapt import vocabulary

        torch.manual_seed(0)
        started = time.monotonic()
        model, tokenizer = copy.deepcopy(self.model), self.before
        if init != UNCHANGED:
            model, tokenizer = vocabulary.put_in(model, self._vocabulary(init)), self.after
        made = time.monotonic()
        if TRAINED[when]:
            model = self._trained(model, tokenizer, TRAINED[when])
        trained = time.monotonic()
        figures = {part: bits_per_byte(model.eval(), tokenizer, texts) for part, texts in self.held_out.items()}
        return figures | {"seconds_init": made - started, "seconds_training": trained - made}

    def _vocabulary(self, init: str) -> Path:
        """The folder of a changed vocabulary; made once for each initialisation."""
        from langadapt import vocabulary
        from langadapt.plugins import registry
        from langadapt.records import EmbeddingTask
        from langadapt.tokenizer.tokens import matched, read

        folder = self.folder / init.replace("/", "_")
        if folder.is_dir():
            return folder
        name, _, given = init.partition(":")
        record = registry().embedding_inits[name]
        before, after = read(self.old), read(self.new)
        rows = vocabulary.plan_rows(
            matched(self.old, self.new), before=self.model.config.vocab_size, tokens_before=before.last + 1
        )
        data = {id: after.data(token) for token, id in after.vocab.items()}
        task = EmbeddingTask(
            model=self.model,
            old=self.old,
            new=self.new,
            ids=rows.new,
            pieces=[before.pieces(data[id]) for id in rows.new],
            kept=rows.kept,
            texts=lambda: iter(self.train),
            options=record.options.model_validate(parsed_options(given)),
            seed=0,
            say=lambda line: print(f"  {init}: {line}", flush=True),
        )
        made = record.initialise(task)
        folder.mkdir()
        vocabulary.save(folder, rows, made, {})
        return folder

    def _trained(self, model: Any, tokenizer: Any, method: str) -> Any:
        import torch

        from langadapt.loss import fused_loss
        from langadapt.plugins import registry

        new = list(range(len(self.before), len(tokenizer)))
        strategy = registry().peft_strategies[method]
        adapted = strategy.prepare(model, dict(strategy.defaults) | {"new_tokens": new})
        learning = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        rate = self.options.rows_rate if method == "trainable_tokens" else self.options.lora_rate
        steps = list(self._steps(tokenizer))
        optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=len(steps))
        adapted.train()
        with fused_loss(adapted.get_base_model()):
            for rows in steps:
                places = torch.arange(self.options.length).expand(len(rows), -1)
                given = {"input_ids": rows[:, :-1], "position_ids": places, "shift_labels": rows[:, 1:]}
                adapted(**given)["loss"].backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        return adapted.merge_and_unload()

    def _steps(self, tokenizer: Any) -> Iterator[Any]:
        """Batches of rows, (batch, length + 1), of the same text under every tokenizer."""
        import torch

        ids: list[int] = []
        for text in self._text_of_training():
            ids += [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        width = self.options.length + 1
        rows = torch.tensor(ids[: len(ids) // width * width]).view(-1, width)
        yield from rows.split(self.options.batch)


def parsed_options(given: str) -> Mapping[str, Any]:
    return tomllib.loads("\n".join(given.split(",")))


def bits_per_byte(model: Any, tokenizer: Any, texts: list[str]) -> float:
    from langadapt.evaluation.bits_per_byte import score_text

    scored = [score_text(model, tokenizer, text) for text in texts]
    return math.fsum(s.nll for s in scored) / math.log(2) / sum(s.bytes for s in scored)


def table(rows: list[dict[str, Any]], inits: list[str]) -> str:
    """A line for each initialisation; in each column target and source."""
    found = {(row["init"], row["when"]): f"{row['target']:.3f}; {row['source']:.3f}" for row in rows}
    columns = [when for when in TRAINED if any(key[1] == when for key in found)]
    lines = [["init", *columns], ["---"] * (1 + len(columns))]
    lines += [[f"`{init}`", *(found.get((init, when), "-") for when in columns)] for init in inits]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
