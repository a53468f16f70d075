"""Corpora prepared by tasks: on this machine, as a Slurm job array, on Ray; always the shards of one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import HEAD

from langadapt import preparation
from langadapt.cli import cli
from langadapt.corpus import engines, parts, shards
from langadapt.corpus.engines import Tasks, slurm_script
from langadapt.corpus.parts import Part
from langadapt.corpus.preparing import prepared
from langadapt.errors import Interrupted, RecipeError, RunError, UserError
from langadapt.recipe import Recipe

SBATCH = """\
#!{python}
# Runs a job array as processes, one after the other, as Slurm on a machine of one core would.
import os, re, subprocess, sys
from pathlib import Path
script = Path(sys.argv[-1])
flags = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", script.read_text(), re.M))
log = Path(os.environ["FAKE_SLURM"])
with log.open("a") as file:
    print(" ".join(sys.argv[1:-1]), flags, file=file)
if flags.get("partition") == "none":
    sys.exit("sbatch: error: invalid partition specified: none")
print("4711;cluster", flush=True)
numbers = [int(number) for number in flags["array"].split(",")]
for number in numbers:
    given = os.environ | {{"SLURM_ARRAY_TASK_ID": str(number), "SLURM_CPUS_ON_NODE": "1"}}
    with open(flags["output"].strip("'").replace("%a", str(number)), "ab") as output:
        subprocess.run(["bash", script], env=given, stdout=output, stderr=subprocess.STDOUT)
"""
SCANCEL = '#!/bin/sh\necho "scancel $1" >> "$FAKE_SLURM"\n'


def has_slurm() -> bool:
    """Whether a Slurm cluster answers."""
    if not shutil.which("sinfo"):
        return False
    said = subprocess.run(
        ["sinfo", "--noheader", "--format=%a"], capture_output=True, text=True, timeout=30, check=False
    )
    return "up" in said.stdout


@pytest.fixture(autouse=True)
def small_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own."""
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "PAUSE", 0.05)


@pytest.fixture
def corpus(write: Callable[..., Path]) -> Path:
    """Files that make six portions, of which nothing is too small to be kept."""
    for number in range(6):
        rows = [{"text": f"Testo {number}.{i}, con parole che nessun altro ha. " * 80} for i in range(1200)]
        write(f"corpus/{number}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return write("corpus/7.jsonl", '{"text": "L\'ultimo testo."}\n{\n').parent


@pytest.fixture
def recipe(write: Callable[..., Path], corpus: Path, model_folder: Path) -> Path:
    """A recipe whose one stage reads the corpus."""
    head = HEAD.replace("someone/model", str(model_folder))
    stage = f'[[stage]]\nid = "adapt"\nkind = "cpt"\ncorpus = ["{corpus}"]\n'
    return write("recipe.toml", head + "decontamination.enabled = false\n\n" + stage)


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sbatch` and `scancel` that need no cluster; the file that they note their calls in comes back."""
    for name, text in (("sbatch", SBATCH.format(python=sys.executable)), ("scancel", SCANCEL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm.txt"))
    return tmp_path / "slurm.txt"


def plan_of(recipe: Path, *overrides: str):
    return Recipe.load(recipe, overrides).plan(recipe.parent / "run")


def source_of(recipe: Path):
    (source,) = preparation.sources(plan_of(recipe).stage("adapt"))
    return source


def kept(recipe: Path) -> dict[str, bytes]:
    """The shards of the corpus, and what is said of them."""
    folder = source_of(recipe).shared.entry.path
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix == ".arrow"} | {
        shards.WHOLE: (folder / shards.WHOLE).read_bytes()
    }


@pytest.fixture
def expected(recipe: Path) -> dict[str, bytes]:
    """What one process makes of the corpus; the cache is empty again."""
    assert len(list(prepared(source_of(recipe), 1))) == 7202
    made = kept(recipe)
    assert len(made) > 5
    shutil.rmtree(source_of(recipe).shared.entry.path)
    return made


def command(*words: str | Path) -> str:
    done = CliRunner().invoke(cli, ["corpus", "prepare", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


# --- parts ---


def test_parts_in_any_order_are_the_shards_of_one_process(recipe, expected):
    number = len(expected) - 1
    for task in (2, 0, 1):
        made = parts.fill(source_of(recipe), Part(number=task, of=3), workers=1)
        assert made == parts.Filled(made=len(range(task, number, 3)), there=0)
    assert kept(recipe) == expected and parts.is_filled(source_of(recipe))


def test_a_part_makes_only_what_is_missing_or_damaged(recipe, expected):
    parts.fill(source_of(recipe), workers=1)
    folder = source_of(recipe).shared.entry.path
    (folder / shards.name(1)).unlink()
    (folder / shards.name(2)).write_bytes(b"damaged")
    assert not parts.is_filled(source_of(recipe))
    assert parts.fill(source_of(recipe), workers=2) == parts.Filled(made=2, there=len(expected) - 3)
    assert kept(recipe) == expected


def test_what_tasks_prepared_is_read_and_not_made_again(recipe, expected, monkeypatch):
    for task in range(2):
        parts.fill(source_of(recipe), Part(number=task, of=2), workers=1)
    monkeypatch.setattr("langadapt.corpus.workers.in_order", lambda *_: pytest.fail("made again"))
    said: list[str] = []
    assert len(list(prepared(source_of(recipe), 1, say=said.append))) == 7202
    assert said[0].endswith(f"prepared before, {len(expected) - 1} shards, all of it")


def test_no_more_is_prepared_than_is_read(recipe, expected):
    limited = replace(source_of(recipe), max_documents=1500)
    made = sum(parts.fill(limited, Part(number=task, of=2), workers=1).made for task in range(2))
    assert 0 < made < len(expected) - 1
    pulled = list(islice(prepared(limited, 1), None))
    assert len(pulled) == 1500 and shards.count(limited.shared.entry.path) == made
    assert not parts.is_filled(limited) and parts.is_begun(limited)


def test_a_disk_without_room_stops_a_part_in_words(recipe, monkeypatch):
    def full(path, shard):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "write", full)
    with pytest.raises(UserError, match=r"cannot be kept in .*No space left.*langadapt cache prune"):
        parts.fill(source_of(recipe), workers=1)


# --- the command ---


def test_the_command_prepares_all_or_a_part_and_says_what_it_made(recipe, expected):
    out, number = recipe.parent / "run", len(expected) - 1
    command(recipe, "--out", out, "--task", "0", "--tasks", "2")
    (said,) = json.loads(command(recipe, "--out", out, "--json"))
    assert (said["stage"], said["made"], said["there"]) == ("adapt", number // 2, (number + 1) // 2)
    assert kept(recipe) == expected
    assert f"0 shards made, {number} there before" in command(recipe, "--out", out, "--stage", "adapt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "2", "--tasks", "2"], "0 to N - 1"),
        (["--task", "0"], "give both"),
        (["--tasks", "3"], "give both"),
    ],
)
def test_wrong_parts_are_refused(recipe, words, said):
    done = CliRunner().invoke(cli, ["corpus", "prepare", str(recipe), *words])
    assert done.exit_code == 2 and said in done.output


def test_a_stage_that_reads_nothing_is_refused_with_the_nearest(recipe):
    with pytest.raises(UserError, match=r'no stage "adpt" reads corpora; did you mean "adapt"\?'):
        preparation.part(plan_of(recipe), ["adpt"], 0, 1)


# --- the recipe ---


def test_an_engine_changes_no_digest_and_is_shown(recipe, fake_slurm):
    changed = plan_of(recipe, "preparation.engine=slurm", "preparation.options.partition=main")
    here = plan_of(recipe)
    assert [s.ingredients for s in changed.stages] == [s.ingredients for s in here.stages]
    assert source_of(recipe).shared.entry.path == preparation.sources(changed.stage("adapt"))[0].shared.entry.path
    assert preparation.explain(changed.recipe) == "4 tasks of slurm, partition = main"
    assert not preparation.explain(here.recipe)
    assert changed.to_json()["preparation"]["engine"] == "slurm" and not changed.problems


def test_an_engine_that_is_not_here_is_said_in_the_plan(recipe, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    (problem,) = plan_of(recipe, "preparation.engine=slurm").problems
    assert "there is no sbatch here" in problem and "--set preparation.engine=local" in problem


def test_a_rehearsal_needs_no_engine(recipe):
    rehearsed = Recipe.load(recipe, ["preparation.engine=slurm"]).rehearse()
    assert rehearsed.table.preparation.engine == "local"
    assert "preparation.engine" in [change.key for change in rehearsed.changes]


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (["preparation.engine=slrm"], "preparation.engine", "slurm"),
        (["preparation.options.partition=x"], "preparation.options", "options are of an engine"),
        (
            ["preparation.engine=slurm", "preparation.options.array=0-3"],
            "preparation.options.array",
            "sets this itself",
        ),
        (["preparation.task=3"], "preparation.task", 'did you mean "tasks"?'),
        (["preparation.tasks=0"], "preparation.tasks", "greater than or equal to 1"),
    ],
)
def test_slips_are_found_in_the_recipe(recipe, overrides, key, said):
    with pytest.raises(RecipeError) as error:
        Recipe.load(recipe, overrides)
    assert any(p.key == key and said in str(p) for p in error.value.problems), error.value


# --- Slurm ---


def tasks(tmp_path: Path, **changed) -> Tasks:
    given = {"name": "trial", "command": ("--version",), "folder": tmp_path / "a job", "numbers": (0, 1), "options": {}}
    return Tasks(**{**given, **changed})


def test_the_script_holds_the_options_by_their_names(tmp_path):
    options = {
        "partition": "boost_usr_prod",
        "cpus_per_task": 32,
        "exclusive": True,
        "requeue": False,
        "comment": "a b",
    }
    script = slurm_script(tasks(tmp_path, options=options, numbers=(0, 3)))
    flags = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert flags == [
        "--job-name=trial",
        "--partition=boost_usr_prod",
        "--cpus-per-task=32",
        "--exclusive",
        "--comment='a b'",
        "--array=0,3",
        f"--output='{tmp_path}/a job/%a.log'",
    ]


def test_an_array_makes_the_shards_of_one_process_and_a_second_run_submits_nothing(recipe, expected, fake_slurm):
    words = [
        recipe,
        "--out",
        recipe.parent / "run",
        "--set",
        "preparation.engine=slurm",
        "--set",
        "preparation.tasks=2",
    ]
    said = command(*words, "--set", "preparation.options.partition=main")
    assert f"adapt: {recipe.parent / 'corpus'}: {len(expected) - 1} shards" in said
    assert kept(recipe) == expected
    (call,) = fake_slurm.read_text().splitlines()
    assert call.startswith("--parsable --wait") and "'partition': 'main'" in call and "'array': '0,1'" in call
    command(*words)
    assert len(fake_slurm.read_text().splitlines()) == 1


def test_what_sbatch_refuses_is_told(tmp_path, fake_slurm):
    with pytest.raises(UserError, match=r"sbatch did not take the job .*invalid partition specified: none"):
        engines.run("slurm", tasks(tmp_path, options={"partition": "none"}), 1, lambda: False)


def test_tasks_that_fail_are_started_again_alone_and_then_told_with_their_logs(tmp_path, fake_slurm):
    with pytest.raises(RunError) as error:
        engines.run("slurm", tasks(tmp_path, command=("nonsense",), numbers=(0, 2)), 1, lambda: False)
    assert "2 of 2 tasks" in str(error.value) and "No such command 'nonsense'" in str(error.value)
    assert str(tmp_path / "a job" / "2.log") in str(error.value)
    assert fake_slurm.read_text().count("'array': '0,2'") == 2


def test_a_task_that_fails_once_is_made_good(tmp_path, fake_slurm, monkeypatch):
    stumbles = textwrap.dedent("""\
        import os, sys
        from pathlib import Path
        again = Path(os.environ["FAKE_SLURM"] + "." + sys.argv[-1])
        if sys.argv[-1] == "1" and not again.exists():
            again.touch()
            sys.exit(1)
        """)
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{stumbles}")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    engines.run("slurm", tasks(tmp_path, numbers=(0, 1, 2)), 1, lambda: False)
    calls = fake_slurm.read_text()
    assert "'array': '0,1,2'" in calls and "'array': '1'" in calls


def test_a_run_that_is_stopped_cancels_its_job(tmp_path, fake_slurm):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho 4711\nsleep 600\n")
    started = time.monotonic()
    with pytest.raises(Interrupted, match="prepares what is missing"):
        engines.run("slurm", tasks(tmp_path), 1, stop.is_set)
    assert time.monotonic() - started < 30 and "scancel 4711" in fake_slurm.read_text()


def test_tasks_that_fill_another_cache_are_noticed(recipe, fake_slurm):
    (recipe.parent / "bin" / "sbatch").write_text(
        '#!/bin/sh\necho 1\nfor last; do :; done\nfor n in 0 1 2 3; do touch "$(dirname "$last")/$n.done"; done\n'
    )
    plan = plan_of(recipe, "preparation.engine=slurm")
    with pytest.raises(RunError, match="must be the same on all machines"):
        preparation.by_engine(plan, plan.stage("adapt"), lambda line: None, lambda: False)


@pytest.mark.slow
@pytest.mark.skipif(not has_slurm(), reason="no Slurm cluster answers on this machine")
def test_a_real_slurm_makes_the_shards_of_one_process(recipe, expected):
    words = [
        recipe,
        "--out",
        recipe.parent / "run",
        "--set",
        "preparation.engine=slurm",
        "--set",
        "preparation.tasks=3",
    ]
    command(*words)
    assert kept(recipe) == expected


@pytest.mark.slow
@pytest.mark.skipif(not has_slurm(), reason="no Slurm cluster answers on this machine")
def test_a_real_slurm_is_told_to_stop(tmp_path):
    stop = threading.Event()
    threading.Timer(3, stop.set).start()
    name = f"trial-{os.getpid()}"
    with pytest.raises(Interrupted):
        engines.run("slurm", tasks(tmp_path, name=name, options={"begin": "now+1hour"}), 0, stop.is_set)
    asked = ["squeue", "--noheader", f"--name={name}", "--states=RUNNING,PENDING"]
    left = subprocess.run(asked, capture_output=True, check=True)
    assert not left.stdout.strip()


# --- Ray ---


@pytest.mark.slow
def test_a_real_ray_makes_the_shards_of_one_process(recipe, expected):
    pytest.importorskip("ray", reason="Ray is not installed")
    words = [recipe, "--out", recipe.parent / "run", "--set", "preparation.engine=ray", "--set", "preparation.tasks=3"]
    command(*words)
    assert kept(recipe) == expected


@pytest.mark.slow
def test_a_task_that_fails_on_ray_is_told_with_its_log(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(RunError, match=r"2 of 2 tasks .*No such command 'nonsense'"):
        engines.run("ray", tasks(tmp_path, command=("nonsense",)), 0, lambda: False)
