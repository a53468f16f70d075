"""The translate stage: what comes out, what is remembered, how it stops and goes on, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from langadapt import Recipe, RunError, UserError
from langadapt.corpus.reading import read_documents
from langadapt.errors import RecipeError
from langadapt.plugins import registry
from langadapt.recipe import Table
from langadapt.records import Document, Translator
from langadapt.stages import translate
from langadapt.translation.remembering import Memory, key

HEAD = """\
schema = 1
name = "trial"
language = "it"
base_model = "{model}"

[[stage]]
id = "italian"
kind = "translate"
corpus = [{{ path = "{corpus}" }}]
adequacy = false
{more}
[stage.translator]
name = "fake"
"""

# What the fake engine knows: a little English and its Italian.
KNOWN = {
    "Where is the station of the old town?": "Dove si trova la stazione della città vecchia?",
    "It is behind the church, five minutes from here.": "È dietro la chiesa, a cinque minuti da qui.",
    "Thank you very much, that is very kind of you.": "Grazie mille, è davvero molto gentile da parte sua.",
    "You are welcome, and have a pleasant journey.": "Non c'è di che, e buon viaggio.",
    "Write ⟦0⟧ in the first line of the file.": "Scrivi ⟦0⟧ nella prima riga del file.",
    "Then open ⟦0⟧ and read on.": "Poi apri ⟦0⟧ e prosegui la lettura.",
}


class Options(Table):
    """Options of the fake."""

    accent: str = Field("none", description="Only changes the fingerprint.")


class Fake:
    """An engine that keeps a diary of what it was asked."""

    def __init__(self, name: str = "fake", answers: Callable[[str], str] = lambda text: KNOWN.get(text, "")):
        self.name, self.answers = name, answers
        self.asked: list[str] = []
        self.opened = 0
        self.problem = ""

    def open(self, options: Options, source: str, target: str) -> Callable[[Sequence[str]], list[str]]:
        self.opened += 1

        def engine(texts: Sequence[str]) -> list[str]:
            self.asked += texts
            return [self.answers(text) for text in texts]

        return engine

    def record(self) -> Translator:
        return Translator(
            name=self.name, description="For tests.", options=Options, problem=lambda o, s, t: self.problem,
            fingerprint=lambda o, s, t: f"1 {o.accent}", open=self.open, batch=4,
        )  # fmt: skip


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Fake]:
    """Puts a fake engine among the translators, with an empty memory of its own."""
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))

    def add(*given: Any, **more: Any) -> Fake:
        fake = Fake(*given, **more)
        records = registry().translators._records  # type: ignore[attr-defined]
        monkeypatch.setitem(records, fake.name, fake.record())
        return fake

    return add


@pytest.fixture
def fake(offer: Callable[..., Fake]) -> Fake:
    return offer()


@pytest.fixture
def recipe(write: Callable[..., Path], model_folder: Path) -> Callable[..., Path]:
    """Writes dialogues and a recipe that translates them; gives the recipe's path."""

    def make(dialogues: Sequence[Sequence[str]], more: str = "", tail: str = "", name: str = "recipe.toml") -> Path:
        rows = [{"id": str(n), "data": turns} for n, turns in enumerate(dialogues)]
        corpus = write("dialogues.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return write(name, HEAD.format(model=model_folder, corpus=corpus, more=more) + tail)

    return make


STATION = ["Where is the station of the old town?", "It is behind the church, five minutes from here."]
THANKS = ["Thank you very much, that is very kind of you.", "You are welcome, and have a pleasant journey."]
CODE = [
    "Write `print('the end')` in the first line of the file.\n\n```\nkeep = 'this'\n```\n"
    "- Then open https://a.b/c and read on.",
    "Thank you very much, that is very kind of you.",
]
UNKNOWN = ["Nobody knows how to say this in Italian.", "It is behind the church, five minutes from here."]


def run(path: Path, folder: Path, *overrides: str) -> Path:
    Recipe.load(path, overrides).execute(folder)
    return folder / "stages" / "italian"


def documents(stage: Path) -> list[Document]:
    found = list(read_documents(str(stage / "corpus.jsonl"), layout="document"))
    assert all(isinstance(document, Document) for document in found)
    return found  # type: ignore[return-value]


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def quality(stage: Path) -> dict[str, Any]:
    return dict(json.loads((stage / "quality.json").read_text(encoding="utf-8")))


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_dialogues_come_out_translated_with_code_addresses_and_layout_as_they_were(recipe, fake, tmp_path):
    made = documents(run(recipe([STATION, CODE]), tmp_path / "run"))
    assert [m.content for m in made[0].messages] == [KNOWN[text] for text in STATION]
    assert made[1].messages[0].content == (
        "Scrivi `print('the end')` nella prima riga del file.\n\n```\nkeep = 'this'\n```\n"
        "- Poi apri https://a.b/c e prosegui la lettura."
    )
    assert [m.role for m in made[1].messages] == ["user", "assistant"]
    assert "keep = 'this'" not in fake.asked


def test_every_document_is_accounted_for_and_the_dropped_ones_are_kept_with_the_reason(recipe, fake, tmp_path):
    stage = run(recipe([STATION, UNKNOWN, THANKS, STATION]), tmp_path / "run")
    state = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["stages"][0]
    assert state["accounting"]["documents"] == {
        "read": 4, "kept": 2, "dropped": {"exact duplicate": 1, "not translated": 1},
    }  # fmt: skip
    counted = state["accounting"]["bytes"]
    assert counted["read"] == counted["kept"] + sum(counted["dropped"].values())
    assert [document.id for document in documents(stage)] == ["dialogues.jsonl:1", "dialogues.jsonl:3"]
    rejected = rows(stage / "rejected.jsonl")
    assert [(row["id"], row["reason"]) for row in rejected] == [("dialogues.jsonl:2", "not translated")]
    assert rejected[0]["texts"][0]["rejecting"] == ["empty"] and rejected[0]["texts"][1]["rejecting"] == []


def test_what_fails_may_stay_in_the_source_language_as_a_whole_document(recipe, fake, tmp_path):
    stage = run(recipe([STATION, UNKNOWN], 'on_failure = "keep"'), tmp_path / "run")
    kept = documents(stage)[1]
    assert [m.content for m in kept.messages] == UNKNOWN  # and not half of it in Italian
    about = rows(stage / "corpus.jsonl")[1]["translation"]
    assert about["reason"] == "not translated"
    state = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["stages"][0]
    assert state["accounting"]["documents"]["left in the source language"] == 1
    assert quality(stage)["documents"] == {"translated": 1, "source": 1, "dropped": 0}


def test_every_text_keeps_its_figures(recipe, fake, tmp_path):
    about = rows(run(recipe([STATION]), tmp_path / "run") / "corpus.jsonl")[0]["translation"]
    assert about["from"] == "en"
    assert [text["way"] for text in about["texts"]] == ["fake by paragraph"] * 2
    assert {"length", "language", "repetition", "numbers", "fluency"} <= about["texts"][0]["figures"].keys()


def test_running_text_contexts_and_rejected_answers_are_translated_too(write, model_folder, fake, tmp_path):
    first, second, third, fourth = list(KNOWN)[:4]
    row = {
        "id": "a", "rejected": fourth,
        "messages": [{"role": "user", "content": first, "context": second}, {"role": "assistant", "content": third}],
    }  # fmt: skip
    lines = [json.dumps(row), json.dumps({"id": "b", "text": f"{first}\n{second}"})]
    corpus = write("mixed.jsonl", "\n".join(lines))
    head = HEAD.format(model=model_folder, corpus=corpus, more="").replace('jsonl" }', 'jsonl", layout = "document" }')
    dialogue, text = documents(run(write("recipe.toml", head), tmp_path / "run"))
    assert (dialogue.messages[0].content, dialogue.messages[0].context) == (KNOWN[first], KNOWN[second])
    assert (dialogue.id, dialogue.messages[1].content, dialogue.rejected) == ("a", KNOWN[third], KNOWN[fourth])
    assert (text.id, text.text) == ("b", f"{KNOWN[first]}\n{KNOWN[second]}")


def test_a_later_stage_reads_what_was_translated(recipe, fake, tmp_path):
    path = recipe(
        [STATION], tail='\n[[stage]]\nid = "chat"\nkind = "sft"\ncorpus = [{ stage = "italian" }]\nprompt = "chatml"\n'
    )
    planned = Recipe.load(path).plan(tmp_path / "run")
    assert planned.stages[0].id == "italian" and planned.stage("chat").inputs[0].where == "stage"


# --- another way ------------------------------------------------------------------------------------------------------


def test_a_lost_mask_is_asked_for_again_by_sentence_and_then_around_it(recipe, offer, tmp_path):
    answers = {"Write": "Scrivi", "in the first line of the file.": "nella prima riga del file."}
    fake = offer(answers=lambda text: answers.get(text, KNOWN.get(text, "")).replace("⟦0⟧", "[0]"))
    dialogue = ["Write `x = 1` in the first line of the file.", THANKS[1]]
    stage = run(recipe([dialogue]), tmp_path / "run")
    assert documents(stage)[0].messages[0].content == "Scrivi `x = 1` nella prima riga del file."
    assert quality(stage)["texts"]["ways"] == {"fake around what is protected": 1, "fake by paragraph": 1}
    assert fake.asked[-2:] == ["Write", "in the first line of the file."]


def test_changed_numbers_are_asked_for_again_with_the_numbers_masked(recipe, offer, tmp_path):
    fake = offer(answers=lambda text: {
        "The train leaves at 9:30 from platform 4.": "Il treno parte alle 10:30 dal binario 4.",
        "The train leaves at ⟦0⟧ from platform ⟦1⟧.": "Il treno parte alle ⟦0⟧ dal binario ⟦1⟧.",
    }.get(text, KNOWN.get(text, "")))  # fmt: skip
    stage = run(recipe([["The train leaves at 9:30 from platform 4.", THANKS[1]]]), tmp_path / "run")
    assert documents(stage)[0].messages[0].content == "Il treno parte alle 9:30 dal binario 4."
    assert fake.opened == 1


def test_only_the_paragraph_that_failed_is_translated_again(recipe, offer, tmp_path):
    second = offer("second", lambda text: {UNKNOWN[0]: "Nessuno sa come si dice questo in italiano."}.get(text, ""))
    first = offer()
    path = recipe([[f"{THANKS[0]}\n{UNKNOWN[0]}", THANKS[1]]], tail='[stage.retry_with]\nname = "second"\n')
    stage = run(path, tmp_path / "run")
    assert documents(stage)[0].messages[0].content == f"{KNOWN[THANKS[0]]}\nNessuno sa come si dice questo in italiano."
    assert second.asked == [UNKNOWN[0]] and Counter(first.asked)[THANKS[0]] == 1
    assert quality(stage)["texts"]["ways"] == {"second by paragraph": 1, "fake by paragraph": 1}


def test_html_entities_of_an_engine_are_undone_and_those_of_the_text_are_kept(recipe, offer, tmp_path):
    offer(answers=lambda text: {"Salt ⟦0⟧ pepper are on the table.": "L&#39;olio ⟦0⟧ il pepe sono in tavola."}.get(
        text, KNOWN.get(text, "")))  # fmt: skip
    made = documents(run(recipe([["Salt &amp; pepper are on the table.", THANKS[1]]]), tmp_path / "run"))
    assert made[0].messages[0].content == "L'olio &amp; il pepe sono in tavola."


def test_names_to_protect_reach_no_engine(recipe, offer, tmp_path):
    fake = offer(answers=lambda text: {"⟦0⟧ lives in the old town.": "⟦0⟧ abita nella città vecchia."}.get(
        text, KNOWN.get(text, "")))  # fmt: skip
    made = documents(
        run(recipe([["Mr. Wood lives in the old town.", THANKS[1]]], 'protect = ["Mr. Wood"]'), tmp_path / "run")
    )
    assert made[0].messages[0].content == "Mr. Wood abita nella città vecchia."
    assert not any("Wood" in text for text in fake.asked)


# --- never twice ------------------------------------------------------------------------------------------------------


def test_nothing_is_translated_twice_in_a_run_by_another_recipe_or_after_a_change(recipe, fake, tmp_path):
    path = recipe([STATION, [*STATION, *THANKS]])
    run(path, tmp_path / "run")
    assert sorted(fake.asked) == sorted([*STATION, *THANKS])
    asked = len(fake.asked)
    stage = run(path, tmp_path / "other", "italian.on_failure=keep")
    assert len(fake.asked) == asked and fake.opened == 1  # the engine was not even opened again
    assert quality(stage)["units"]["fresh"] == 0 and quality(stage)["units"]["remembered"] == 6


def test_a_stage_whose_inputs_did_not_change_is_not_run_again_and_one_whose_engine_did_is(recipe, fake, tmp_path):
    path = recipe([STATION])
    run(path, tmp_path / "run")
    assert Recipe.load(path).plan(tmp_path / "run").stages[0].status == "cached"
    planned = Recipe.load(path, ["italian.translator.accent=Tuscan"]).plan(tmp_path / "run").stages[0]
    assert planned.status == "pending" and "fake 1 none → fake 1 Tuscan" in planned.reason
    run(path, tmp_path / "run", "italian.translator.accent=Tuscan")
    assert sorted(fake.asked) == sorted(STATION * 2)


def test_what_an_engine_could_not_do_is_asked_again_another_time(recipe, offer, tmp_path):
    fake = offer()
    path = recipe([UNKNOWN, STATION])
    run(path, tmp_path / "run")
    KNOWN_NOW = {**KNOWN, UNKNOWN[0]: "Nessuno sa come si dice questo in italiano."}
    fake.answers = lambda text: KNOWN_NOW.get(text, "")
    assert quality(run(path, tmp_path / "again"))["documents"]["translated"] == 2


SCRIPT = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_translate_stage import Fake
    from langadapt import Recipe
    from langadapt.plugins import registry
    from langadapt.stages import translate

    translate.CHUNK = 3
    folder = Path({folder!r})

    class Slow(Fake):
        def open(self, options, source, target):
            def engine(texts):
                if (folder / "hang").exists() and len((folder / "asked").read_text().splitlines()) >= 25:
                    (folder / "hanging").touch()
                    time.sleep(600)
                with (folder / "asked").open("a") as diary:
                    diary.writelines(text + "\\n" for text in texts)
                return ["Il treno numero " + text.split()[2] + " parte in orario dalla stazione." for text in texts]
            return engine

    registry().translators._records["fake"] = Slow().record()
    Recipe.load({recipe!r}).execute(folder / "run")
"""


def test_a_killed_run_goes_on_without_translating_anything_twice(recipe, tmp_path):
    """Killed (SIGKILL) inside a call of the engine, in the middle of a chunk."""
    dialogues = [[f"Train number {n} leaves the station on time.", f"Train number {n + 500} leaves the station on time."]
                 for n in range(100, 130)]  # fmt: skip
    path = recipe(dialogues)
    (tmp_path / "hang").touch()
    (tmp_path / "asked").touch()
    code = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), folder=str(tmp_path), recipe=str(path))
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "LANGADAPT_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "hanging").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be killed"
    process.kill()
    process.wait()
    chunks = list((tmp_path / "run/stages/.italian.partial/checkpoints").glob("checkpoint-*"))
    assert chunks and not (tmp_path / "run/stages/italian").exists()
    (tmp_path / "hang").unlink()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = Counter((tmp_path / "asked").read_text().splitlines())
    assert len(asked) == 60 and set(asked.values()) == {1}
    made = documents(tmp_path / "run/stages/italian")
    assert [m.content.split()[3] for m in made[29].messages] == ["129", "629"] and len(made) == 30
    assert not (tmp_path / "run/stages/italian/checkpoints").exists()
    whole = run_once(code, tmp_path, environment)
    assert (whole / "corpus.jsonl").read_text() == (tmp_path / "run/stages/italian/corpus.jsonl").read_text()


def run_once(code: str, tmp_path: Path, environment: dict[str, str]) -> Path:
    """The same recipe in one go, in another folder and with an empty memory."""
    environment = {**environment, "LANGADAPT_CACHE": str(tmp_path / "cache2")}
    elsewhere = code.replace('folder / "run"', 'folder / "whole"')
    subprocess.run([sys.executable, "-c", elsewhere], env=environment, check=True, capture_output=True)
    return tmp_path / "whole/stages/italian"


def test_a_stop_is_heard_between_batches_and_the_next_run_goes_on(recipe, offer, tmp_path, monkeypatch):
    monkeypatch.setattr(translate, "CHUNK", 1)
    from langadapt import run as running

    stop: list[Any] = []
    original = running._Execution.__init__

    def remember(self: Any, plan: Any, log: Any, event: Any, *more: Any) -> None:
        stop.append(event)
        original(self, plan, log, event, *more)

    monkeypatch.setattr(running._Execution, "__init__", remember)

    def answers(text: str) -> str:
        if text == THANKS[0]:
            stop[-1].set()
        return KNOWN.get(text, "")

    fake = offer(answers=answers)
    path = recipe([STATION, THANKS, [THANKS[1], STATION[0]]])
    with pytest.raises(UserError, match="stopped"):
        Recipe.load(path).execute(tmp_path / "run")
    assert len(documents(run(path, tmp_path / "run"))) == 3
    assert set(Counter(fake.asked).values()) == {1}


def test_an_engine_that_breaks_loses_nothing_that_was_done(recipe, offer, tmp_path, monkeypatch):
    monkeypatch.setattr(translate, "CHUNK", 1)
    broken = [True]

    def answers(text: str) -> str:
        if text == THANKS[0] and broken:
            raise ValueError("no connection")
        return KNOWN.get(text, "")

    fake = offer(answers=answers)
    path = recipe([STATION, THANKS])
    with pytest.raises(RunError, match="translator fake, en to it, failed: ValueError: no connection"):
        Recipe.load(path).execute(tmp_path / "run")
    assert (tmp_path / "run/stages/.italian.partial/checkpoints/checkpoint-0000000.jsonl").exists()
    broken.clear()
    run(path, tmp_path / "run")
    assert Counter(fake.asked)[STATION[0]] == 1


# --- what it says when it cannot ----------------------------------------------------------------------------------------


def test_an_engine_that_gives_other_than_it_got_is_named(recipe, offer, tmp_path):
    fake = offer()
    fake.open = lambda options, source, target: lambda texts: ["uno"]  # type: ignore[method-assign]
    offer_again = fake.record()
    registry().translators._records["fake"] = offer_again  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="fake gave 1 translations of 2 texts"):
        Recipe.load(recipe([STATION])).execute(tmp_path / "run")


def test_nothing_left_is_said_with_the_reasons(recipe, fake, tmp_path):
    with pytest.raises(UserError, match=r"no document is left \(1 not translated\)"):
        Recipe.load(recipe([UNKNOWN])).execute(tmp_path / "run")


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_wrong_words_are_refused_with_line_and_nearest_name(recipe, fake):
    path = recipe([STATION], 'on_failure = "skip"\nchecks = { reject = ["lenght"], leftovers = 1.0 }', 'acent = "x"\n')
    said = "\n".join(problems(path))
    assert 'recipe.toml:15: italian.translator.acent: unknown key; did you mean "accent"?' in said
    assert 'italian.checks.leftovers: unknown key; did you mean "leftover"?' in said
    assert 'italian.checks.reject: there is no signal "lenght"; did you mean "length"?' in said
    assert 'italian.on_failure: "skip" is no way to treat a failure; known: "drop", "keep"' in said


def test_an_engine_that_nobody_offers_is_refused(recipe, fake):
    path = recipe([STATION])
    assert (
        'no plugin offers the translator "fakee"; did you mean "fake"?'
        in problems(path, "italian.translator.name=fakee")[0]
    )


def test_a_share_to_hold_out_is_refused_here(recipe, fake):
    path = recipe([STATION])
    path.write_text(path.read_text().replace('.jsonl" }', '.jsonl", held_out = 0.2 }'))
    assert "a translate stage holds nothing out; say held_out where the translation is read" in problems(path)[0]


def test_the_plan_says_what_is_in_the_way_of_the_engine(recipe, fake, tmp_path):
    fake.problem = "apt install it"
    said = Recipe.load(recipe([STATION])).plan(tmp_path / "run").problems
    assert said == ["stage italian: translator fake, en to it: apt install it"]


def test_a_corpus_in_the_target_language_is_not_translated_into_it(recipe, fake, tmp_path):
    said = Recipe.load(recipe([STATION], 'source = "it"')).plan(tmp_path / "run").problems
    assert len(said) == 1 and "is in Italian already" in said[0] and 'source = "en"' in said[0]


def test_a_recipe_that_only_translates_measures_no_model_and_wants_none(recipe, fake, tmp_path, write):
    path = recipe([STATION])
    path.write_text(path.read_text().replace(str(tmp_path / "model"), "nobody/has-this-model"))
    assert [s.id for s in Recipe.load(path).stages] == ["italian"]
    run(path, tmp_path / "run")
    assert not (tmp_path / "run" / "base").exists()


def test_a_wish_for_adequacy_that_cannot_be_met_is_a_problem_and_a_default_is_a_note(
    recipe, fake, tmp_path, monkeypatch
):
    monkeypatch.setattr(translate, "MEANING_PACKAGE", "no_such_encoder")
    path = recipe([STATION])
    path.write_text(path.read_text().replace("adequacy = false\n", ""))
    planned = Recipe.load(path).plan(tmp_path / "run")
    assert not planned.problems and any(
        "pip install 'langadapt[translation-quality]'" in n for n in planned.stages[0].notes
    )
    wanted = Recipe.load(path, ["italian.adequacy=true"]).plan(tmp_path / "run")
    assert "pip install" in wanted.problems[0]


def test_a_rehearsal_of_samples_translates_from_the_sample_translations_and_few_documents(recipe, fake):
    path = recipe([STATION])
    small = Recipe.load(path).rehearse().stages[0].options
    assert small.translator["name"] == "fake" and small.corpus[0].max_documents == 40  # one's own text needs an engine
    path.write_text(path.read_text().replace(f'path = "{path.with_name("dialogues.jsonl")}"', 'name = "dolly-it"'))
    small = Recipe.load(path).rehearse().stages[0].options
    assert small.translator == {"name": "memory", "path": ""} and small.on_failure == "keep"


# --- the report ---------------------------------------------------------------------------------------------------------


def test_the_report_and_the_card_say_that_a_machine_translated_it_and_how_well(recipe, fake, tmp_path):
    folder = tmp_path / "run"
    run(recipe([STATION, THANKS, UNKNOWN]), folder)
    page, card = ((folder / name).read_text(encoding="utf-8") for name in ("report.html", "MODEL_CARD.md"))
    sentence = "was translated by machine from en into it with fake; 66.7"
    assert sentence in page and sentence in card and "1 were dropped (1 not translated)" in card
    assert "read by nobody" in card and 'id="translation"' in page and UNKNOWN[0] in page
    found = {
        r["metric"]: r["value"] for r in json.loads((folder / "report.json").read_text()) if r["suite"] == "translation"
    }
    assert found["documents_translated"] == pytest.approx(2 / 3) and found["texts_accepted"] == pytest.approx(5 / 6)


# --- the memory ---------------------------------------------------------------------------------------------------------


def test_a_memory_outlives_its_process_and_tells_engines_languages_and_texts_apart(tmp_path):
    names = [
        ("a", "en", "it", "x"),
        ("b", "en", "it", "x"),
        ("a", "it", "en", "x"),
        ("a", "en", "it", "y"),
        ("a", "en", "itx", ""),
    ]
    keys = [key(*name) for name in names]
    assert len(set(keys)) == len(keys)
    with Memory(tmp_path) as memory:
        memory.keep({keys[0]: "uno", keys[1]: "due"})
        memory.keep({})
    with Memory(tmp_path) as memory, Memory(tmp_path) as other:
        assert memory.find(keys) == {keys[0]: "uno", keys[1]: "due"}
        other.keep({keys[2]: "tre"})
        assert memory.find([keys[2]]) == {keys[2]: "tre"}
        many = [key("a", "en", "it", str(n)) for n in range(2000)]
        memory.keep(dict.fromkeys(many, "z"))
        assert len(other.find(many)) == 2000


def test_a_damaged_memory_is_named_with_what_to_do(tmp_path):
    (tmp_path / "translations.sqlite").write_bytes(
        b"this is no database at all, but a text that lies in its place" * 20
    )
    with pytest.raises(UserError, match=r"translations\.sqlite: the store of translations is damaged; move it away"):
        Memory(tmp_path)


def test_a_memory_that_cannot_be_written_says_how_to_choose_another_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="LANGADAPT_CACHE"):
        Memory(tmp_path / "file" / "below")


# --- real text, a real engine -------------------------------------------------------------------------------------------

FLORES = Path(__file__).parents[2] / "shared" / "data" / "flores"


def apertium_problem() -> str:
    found = registry().translators["apertium"]
    return found.problem(found.options(), "en", "it")


@pytest.fixture(scope="session")
def flores() -> Iterator[list[str]]:
    if not FLORES.is_dir():
        pytest.skip("FLORES is not at hand")
    yield (FLORES / "dev.en").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_flores_through_apertium_from_end_to_end(flores, write, model_folder, tmp_path, monkeypatch):
    if problem := apertium_problem():
        pytest.skip(problem)
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    corpus = write("flores.jsonl", "".join(json.dumps({"text": line}) + "\n" for line in flores))
    head = HEAD.format(model=model_folder, corpus=corpus, more="").replace('"fake"', '"apertium"')
    stage = run(write("recipe.toml", head), tmp_path / "run")
    found = quality(stage)
    assert found["texts"]["judged"] == len(flores)
    assert found["documents"]["translated"] > 0.98 * len(flores)
    assert found["signals"]["length"]["n"] > 0.99 * len(flores) and 0.9 < found["signals"]["length"]["p50"] < 1.3

    from sacrebleu.metrics.chrf import CHRF

    references = dict(enumerate((FLORES / "dev.it").read_text(encoding="utf-8").splitlines(), start=1))
    made = {int(d.id.rpartition(":")[2]): d.text for d in documents(stage)}
    score = CHRF().corpus_score(list(made.values()), [[references[n] for n in made]]).score
    assert score > 40  # 43 by this engine; people's Italian of other sentences has 20


HOSTILE = [
    "Run `rm -rf ./build` in **bold** and write to me@example.org, or see [the *guide*](https://a.b/c_(d)?x=1&y=[2]).",
    "The mask ⟦0⟧ and ⟦1⟧ are in the text already, ⟦ open and ⟧ closed, before https://example.org/⟦2⟧ ends.",
    'Dear {name}, {{user.city}} costs %(price).2f and %s in <b class="x">May</b> &amp; <br/> June, on 2024-01-31 at v1.2.3.',
    "The formula $e^{i\\pi} + 1 = 0$ and \\(x^2\\) are in C:\\temp\\new.txt and /usr/share/a.gz for @user #tag 🎉👩‍💻.",
    "Characters such as ^, $, @, \\, /, [, ], {, } and < or > mean something to engines; ^word<n>$ and [<sb>] do too.",
    "`a` `b` `c` `d` `e` `f` `g` `h` `i` `j` `k` `l` and nothing but code, said the man of the house.",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_real_engine_gives_every_protected_span_back_or_nothing(text, tmp_path):
    import threading

    from langadapt.translation.drafting import Translation
    from langadapt.translation.protecting import protect
    from langadapt.translation.translating import Engine, ways

    if problem := apertium_problem():
        pytest.skip(problem)
    found = registry().translators["apertium"]
    with Memory(tmp_path) as memory:
        engine = Engine(translator=found, options=found.options(), source="en", target="it", memory=memory,
                        stop=threading.Event())  # fmt: skip
        draft = Translation(ways([engine], (), 500), [], ())([text])[0]
    spans = Counter(span.text for span in protect(text).spans)
    assert draft.target and draft.target != text
    assert all(draft.target.count(span) >= text.count(span) for span in spans)
    assert Counter(span.text for span in protect(draft.target).spans) == spans
