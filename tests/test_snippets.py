"""What the pages say is so: every command, recipe and piece of Python in them is executed, page by page.

The convention is in CONTRIBUTING.md, under "A page".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from page_session import NOT_RUN, REHEARSAL, PageError, Session, Shared, is_shown, session
from test_docs import PAGES, ROOT, Block, blocks, name_of

LANGUAGES = (
    "bash",
    "console",
    "python",
    "toml",
    "toml recipe",
    "toml experiment",
    "text",
    "json",
    "jsonl",
    "{eval-rst}",
)
MARKS = ("file", "from", NOT_RUN)

# Why a block may not be executed. Prefer a stand-in in page_session.py, or a command that is smaller.
REASONS = {
    "it takes days on a GPU",
    "it takes minutes",
    "it needs several machines",
    "it needs Slurm and the hub",
    "it needs a server",
    "it reads from the hub",
    "it uploads to the hub",
    "it installs programs",
}
MOST_EXCUSED = 1 / 6  # of the blocks that could be executed

# What the reader of a page has already, as `Session.give` makes it.
GIVEN: Mapping[str, tuple[str, ...]] = {
    "README.md": ("runs/a", "runs/b", "recipes/mine.toml", "texts/1.jsonl.gz", "OWNER/OTHER-MODEL"),
    "docs/chat.md": (REHEARSAL,),
    "docs/corpus.md": ("texts/1.jsonl",),
    "docs/evaluation.md": (
        "recipe.toml", "models/mine", "texts/1.jsonl.gz", "runs/plain", "runs/tuned", "runs/released", "runs/candidate",
    ),
    "docs/export.md": ("runs/llamantino-2-7b",),
    "docs/plugins.md": ("my-pages.txt",),
    "docs/recipe.md": ("recipes/mine.toml", "texts/1.jsonl.gz"),
    "docs/reference.md": (
        REHEARSAL, "runs/llamantino-2-7b", "runs/plain", "runs/tuned", "runs/released", "runs/candidate", "texts/1.jsonl",
        "swap-uniba/LLaMAntino-2-7b-hf-ITA",
    ),
    "docs/tutorial.md": ("texts/1.jsonl.gz",),
    "docs/vocabulary.md": ("meta-llama/Llama-3.1-8B", "news/1.jsonl", "laws.jsonl.gz"),
}  # fmt: skip

ALL = list(blocks())
WITH_BLOCKS = [page for page in PAGES if any(block.page == page for block in ALL)]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """One folder for all workers of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "pages"
    folder.mkdir(exist_ok=True)
    return Shared(folder)


@pytest.fixture
def reader(shared: Shared, tmp_path: Path) -> Iterator[Session]:
    """Somebody who goes through a page."""
    with session(tmp_path, shared) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_every_block_of_a_page_does_what_it_says(page: Path, reader: Session) -> None:
    for path in GIVEN.get(name_of(page), ()):
        reader.give(path)
    for block in ALL:
        if block.page == page:
            reader.go_through(block)


def test_pages_that_are_given_something_have_blocks() -> None:
    assert set(GIVEN) <= set(map(name_of, WITH_BLOCKS))


def test_every_block_says_what_it_holds() -> None:
    odd = [f"{name_of(b.page)}:{b.line}: {b.info}" for b in ALL if b.info not in LANGUAGES]
    odd += [f"{name_of(b.page)}:{b.line}: {b.mark}" for b in ALL if b.mark and b.mark.split(": ")[0] not in MARKS]
    assert odd == []


def test_what_is_not_run_is_little_and_has_a_reason() -> None:
    excused = [b for b in ALL if b.mark.startswith(NOT_RUN)]
    assert {b.mark.removeprefix(f"{NOT_RUN}: ") for b in excused} == REASONS
    assert len(excused) <= MOST_EXCUSED * sum(b.info != "text" for b in ALL)


# --- the session itself -----------------------------------------------------------------------------------------------


def block(text: str, info: str, mark: str = "") -> Block:
    return Block(page=ROOT / "docs" / "page.md", line=7, mark=mark, info=info, text=text)


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("one  \n\n", "one\n"),
        ("one\ntwo\nthree\n", "…\nthree\n"),
        ("one\ntwo\nthree\n", "one\n…\n"),
        ("one\n", "one\n…\n"),
        ("took 1.25 s on a * machine\n", "took … s on a * machine\n"),
        ("", ""),
    ],
)
def test_an_output_is_what_is_shown(output: str, shown: str) -> None:
    assert is_shown(output, shown)


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("one\ntwo\n", "one\n"),
        ("one\n", "one\ntwo\n"),
        ("one\ntwo\nthree\n", "…\ntwo\n"),
        ("took 1.25 s\nor more\n", "took … more\n"),
        ("one and more\n", "one\n"),
        ("one\n", ""),
        ("on a 2 machine", "on a . machine"),
    ],
)
def test_an_output_is_not_what_is_shown(output: str, shown: str) -> None:
    assert not is_shown(output, shown)


WRONG: Mapping[str, tuple[Block, str]] = {
    "a command that is refused": (block("langadapt check nowhere.toml\n", "bash"), "exit code 2"),
    "another output": (block("$ langadapt check italian/llamantino\nfine\n", "console"), "another output"),
    "an output without a command": (block("fine\n", "console"), "begins with a command"),
    "a program that fails": (block("ls nowhere\n", "bash"), "exit code"),
    "a file that is not there": (block("xdg-open runs/x/report.html\n", "bash"), "not there"),
    "an extra that there is not": (block("pip install 'langadapt[cooking]'\n", "bash"), "no extra cooking"),
    "a package of others": (block("pip install cooking\n", "bash"), "no package of ours"),
    "Python that raises": (block("one = 1\none / 0\n", "python"), '"docs/page.md", line 9'),
    "Python that is none, though it is not run": (block("one =\n", "python", "not run: so"), "invalid syntax"),
    "a recipe with a wrong word": (block("schema = 1\nnam = 2\n", "toml recipe"), "nam"),
    "a part with a wrong word": (block("[stage.training]\nlerning_rate = 1\n", "toml"), "learning_rate"),
    "a part of an experiment": (block("[variant.x]\nadapt.peft.s = 1\n", "toml"), "adapt.peft.s"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_in_a_page_is_told_with_its_place(what: str, reader: Session) -> None:
    wrong, said = WRONG[what]
    with pytest.raises(PageError) as told:
        reader.go_through(wrong)
    assert str(told.value).startswith("docs/page.md:7: ") and said in str(told.value)


def test_blocks_go_on_where_those_before_them_stopped(reader: Session) -> None:
    reader.go_through(block('schema = 1\nname = "x"\n', "text", "file: parts/mine.toml"))
    reader.go_through(block("from pathlib import Path\nsize = Path('parts/mine.toml').stat().st_size\n", "python"))
    reader.go_through(block("assert size == 22\n", "python"))
    reader.go_through(block("$ cat parts/mine.toml | wc -l\n2\n", "console"))
    reader.go_through(block("export NAME=one\n", "bash"))
    reader.go_through(block("import os\nassert os.environ['NAME'] == 'one'\n", "python"))
    reader.go_through(block("cd parts\n# as any shell has it\nNAME=two ls \\\n  mine.toml\n", "bash"))
    reader.go_through(block("$ langadapt check mine.toml\nlangadapt: mine.toml: …\n…\n", "console"))


def test_a_module_that_the_page_writes_again_is_read_again(reader: Session) -> None:
    reader.go_through(block("langadapt new-plugin basque --language eu\npip install -e langadapt-basque\n", "bash"))
    reader.go_through(block("from langadapt_basque.language import LANGUAGE\nassert LANGUAGE.tag == 'eu'\n", "python"))
    reader.go_through(block("$ python -c 'import langadapt_basque'\n", "console"))
    reader.go_through(block("sed -i s/autonym=/autonim=/ langadapt-basque/src/langadapt_basque/language.py\n", "bash"))
    reader.go_through(block("$ langadapt plugins\n…\n  could not be loaded: …\n…\n", "console"))


def test_what_is_not_run_is_left_alone(reader: Session) -> None:
    for info, text in (("bash", "false\n"), ("console", "$ false\n"), ("python", "raise SystemExit\n")):
        reader.go_through(block(text, info, "not run: it takes minutes"))
